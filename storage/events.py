"""Records of an events file, which TensorBoard shows as scalars, histograms and films."""

import io
import struct
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import HistogramProto, Summary
from tensorboardX.record_writer import masked_crc32c
from tensorboardX.summary import make_histogram

from storage import layout

# Units of the tags that have one, on the y axis; the x axis is always agent steps. TensorBoard shows no descriptions.
UNITS = {
    "train/episode_return": "raw reward", "evaluation/episode_return": "raw reward", "train/length": "agent steps",
    "learn/mean_q": "discounted reward", "evaluation/max_q": "discounted reward", "learn/epsilon": "probability",
    **{f"seconds/{phase}": "per 1,000 agent steps" for phase in layout.PHASES}}
FILM_BYTES = 300_000  # of a film at most


def record(**fields: Any) -> bytes:
    """Return the bytes of one record of an events file: an Event of now with these fields."""
    data = Event(wall_time=time.time(), **fields).SerializeToString()
    length = struct.pack("<Q", len(data))
    checksum = lambda part: struct.pack("<I", masked_crc32c(part))
    return length + checksum(length) + data + checksum(data)


def summary(**contents: dict[str, Any]) -> Summary:
    """Return a Summary of several values.

    Args:
        contents: name -> dict of the one field of its Summary.Value. The tag of `group__name` is group/name [unit].
    """
    values = []
    for name, content in contents.items():
        tag = name.replace("__", "/")
        unit = f" [{UNITS[tag]}]" if tag in UNITS else ""
        values.append(Summary.Value(tag=tag + unit, **content))
    return Summary(value=values)


def histogram(values: np.ndarray) -> HistogramProto:
    """Return the histogram of an array of finite floats in 30 equal bins."""
    return make_histogram(np.asarray(values, np.float64), bins=30)


def film(frames: Iterable[np.ndarray], milliseconds: int = 67) -> Summary.Image:
    """Return a GIF of frames as a Summary.Image.

    A film that would be larger than FILM_BYTES is cut to its first half, quarter, and so on.

    Args:
        frames: uint8[T, height, width], or [T, height, width, 3].
        milliseconds: per frame; the default is Atari's speed at 4 screens per agent step.
    """
    images = [Image.fromarray(frame) for frame in frames]
    while True:
        file = io.BytesIO()
        images[0].save(file, "GIF", save_all=True, append_images=images[1:], duration=milliseconds, loop=0)
        if file.tell() <= FILM_BYTES or len(images) == 1:
            return Summary.Image(height=images[0].height, width=images[0].width, colorspace=len(images[0].getbands()),
                                 encoded_image_string=file.getvalue())
        images = images[:len(images) // 2]
