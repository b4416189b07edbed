"""What TensorBoard shows of a run: the records of an events file, their scalars, histograms and films."""

import io
import struct
import time

import numpy as np
from PIL import Image
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c
from tensorboardX.summary import make_histogram

UNITS = {  # of the tags that have one; the x axis is agent steps for all. TensorBoard shows tags, and no descriptions.
    "train/episode_return": "raw reward", "evaluation/episode_return": "raw reward", "train/length": "agent steps",
    "learn/mean_q": "discounted reward", "evaluation/max_q": "discounted reward", "learn/epsilon": "probability",
    "learn/cut_share": "of episodes", **{f"seconds/{phase}": "per 1,000 agent steps" for phase in "environment act sample learn".split()}}
FILM_BYTES = 300_000  # at most, whatever the game


def record(**fields):
    """Return the bytes of one record of an events file: an Event of now with these fields."""
    data = Event(wall_time=time.time(), **fields).SerializeToString()
    length = struct.pack("<Q", len(data))
    crc = lambda of: struct.pack("<I", masked_crc32c(of))
    return length + crc(length) + data + crc(data)


def summary(**contents):
    """Return a Summary of name=dict(the field of its Summary.Value): `group__name` as group/name with its unit."""
    tags = {name: name.replace("__", "/") for name in contents}
    return Summary(value=[Summary.Value(tag=tags[name] + (f" [{UNITS[tags[name]]}]" if tags[name] in UNITS else ""), **content)
                          for name, content in contents.items()])


def histogram(values):
    """Return the histogram of an array of finite floats in 30 equal bins."""
    return make_histogram(np.asarray(values, np.float64), bins=30)


def film(frames, milliseconds=67):
    """Return a GIF of frames uint8[T, height, width], or of the first half, quarter, ... of them if it would be larger than FILM_BYTES.

    Args:
        milliseconds: of a frame; the default is Atari's speed at 4 screens per agent step.
    """
    images = [Image.fromarray(frame) for frame in frames]
    while True:
        file = io.BytesIO()
        images[0].save(file, "GIF", save_all=True, append_images=images[1:], duration=milliseconds, loop=0)
        if file.tell() <= FILM_BYTES or len(images) == 1:
            return Summary.Image(height=images[0].height, width=images[0].width, colorspace=1, encoded_image_string=file.getvalue())
        images = images[:len(images) // 2]
