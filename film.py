"""Frames of a film: the true screen beside what the agent saw, as in figure 2 of Hausknecht & Stone 2015, and its Q-values below.

It composes arrays, and knows neither networks nor environments.
"""

import functools
import math
import pathlib
import subprocess

import cv2
import imageio_ffmpeg
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT, MARGIN = 1280, 720, 40
# Okabe & Ito 2008: told apart by the colour-blind too; what they mark is also bold, or said.
BACKGROUND, TEXT, MUTED, BAR, CHOSEN = (20, 23, 28), (235, 237, 240), (150, 160, 172), (86, 180, 233), (230, 159, 0)
PANEL_TOP, PANEL_SIZE = 100, 420  # 210 lines twice, and 84 pixels five times
SCREEN_WIDTH, GAP, THUMBNAIL_GAP = 640, 24, 8
BARS_TOP, MAX_SLOT, NAME_HEIGHT = 588, 150, 17
MAX_LABELLED = 14  # rows of a vector with room for text
MAX_BARS = PANEL_SIZE // 3  # of a vector; a longer one is a square of pixels

ENCODE = {  # ending -> what ffmpeg is told: plays in browsers, from its beginning while it loads; one palette, undithered, for a small file
    ".mp4": "-codec:v libx264 -pix_fmt yuv420p -crf 20 -preset veryfast -movflags +faststart".split(),
    ".gif": ["-filter_complex", "scale=800:-2:flags=area,split[a][b];[a]palettegen[p];[b][p]paletteuse=dither=none:diff_mode=rectangle"],
}
MAX_GIF_RATE = 15  # frames per second


def compose(screen, seen, q_values, action, names, episode_return, step, *,
            title="", obscured=False, q_range=None, seen_range=None):
    """Draw one frame of a film.

    ```
    title                                    episode_return   step
    true screen                what the agent sees       earlier
    +-------------------------+  +--------------------+  +-----+
    |                         |  |                    |  | t-1 |    H - 1 of them
    |                         |  |                    |  +-----+
    |                         |  |                    |  | t-2 |
    |                         |  |                    |  +-----+
    +-------------------------+  +--------------------+  | t-3 |
    Q-values                                             +-----+
                      0.12     0.31    -0.05
                      ####    [####]    ##        the chosen action in orange
                      NOOP     LEFT    RIGHT
    ```
    Args:
        screen: uint8[height, width, 3], of any size.
        seen: the agent's last H frames, the newest last: images uint8[H, 84, 84], or vectors float32[H, D], drawn as a bar per component
            or, where these are too many, as a pixel.
        q_values: float32[A].
        action: the index of the chosen one; None: the episode is over, nothing is seen or chosen any more.
        names: of the A actions; spaces break lines.
        episode_return, step: so far, before the action.
        title: of the film.
        obscured: whether to say that the newest frame was.
        q_range: lowest and highest Q-value of the chart; default: of these.
        seen_range: float[D], the value of a full bar per component; default: of these.

    Returns:
        uint8[720, 1280, 3].
    """
    image = Image.new("RGB", (WIDTH, HEIGHT), BACKGROUND)
    draw = ImageDraw.Draw(image)
    _header(draw, title, episode_return, step)
    at, *boxes = panel_boxes(screen.shape, len(seen))
    image.paste(Image.fromarray(_resize(screen, at)), at[:2])
    _caption(draw, at[0], "true screen", TEXT)
    if action is None:
        _caption(draw, boxes[0][0], "the episode is over", CHOSEN, bold=True)
        return np.asarray(image)
    _caption(draw, boxes[0][0], "what the agent sees", TEXT)
    if obscured:
        _caption(draw, boxes[0][2], "obscured", CHOSEN, bold=True, anchor="rs")
    if len(boxes) > 1:
        _caption(draw, boxes[1][0], "earlier", MUTED)
    full = np.abs(seen).max(axis=0) if seen_range is None else seen_range
    for box, frame in zip(boxes, seen[::-1]):
        _see(image, draw, box, frame, full)
    _chart(draw, q_values, action, names, q_range or (float(min(q_values)), float(max(q_values))))
    return np.asarray(image)


def panel_boxes(screen_shape, history):
    """Return (left, top, right, bottom) of the true screen, of the newest frame, and of each earlier one, newest first."""
    height, width = screen_shape[:2]
    scale = min(SCREEN_WIDTH / width, PANEL_SIZE / height)
    width, height = round(width * scale), round(height * scale)
    older = history - 1
    small = min(84, (PANEL_SIZE - THUMBNAIL_GAP * (older - 1)) // older) if older else 0
    left = (WIDTH - width - GAP - PANEL_SIZE - (GAP + small if older else 0)) // 2
    middle, top = left + width + GAP, PANEL_TOP + (PANEL_SIZE - height) // 2
    right = middle + PANEL_SIZE + GAP
    tops = [PANEL_TOP + i * (small + THUMBNAIL_GAP) for i in range(older)]
    return [(left, top, left + width, top + height), (middle, PANEL_TOP, middle + PANEL_SIZE, PANEL_TOP + PANEL_SIZE),
            *((right, y, right + small, y + small) for y in tops)]


def bar_boxes(names):
    """Return (left, top, right, bottom) of the highest bar of each action."""
    slot = min((WIDTH - 2 * MARGIN) / len(names), MAX_SLOT)
    left = (WIDTH - len(names) * slot) / 2
    bottom = HEIGHT - NAME_HEIGHT - NAME_HEIGHT * max(len(name.split()) for name in names)
    return [(round(left + (i + 0.15) * slot), BARS_TOP, round(left + (i + 0.85) * slot), bottom) for i in range(len(names))]


def _header(draw, title, episode_return, step):
    draw.text((MARGIN, 44), title, TEXT, _font(26, bold=True), "ls")
    right = WIDTH - MARGIN
    for name, value, room in ("step", step, 110), ("episode_return", episode_return, 130):
        number = f"{value:.0f}" if value == int(value) else f"{value:.2f}"
        draw.text((right, 44), number, TEXT, _font(26, bold=True), "rs")
        right -= max(room, draw.textlength(number, _font(26, bold=True)) + 16)
        draw.text((right, 44), name, MUTED, _font(20), "rs")
        right -= draw.textlength(name, _font(20)) + 40


def _caption(draw, x, text, colour, bold=False, anchor="ls"):
    draw.text((x, PANEL_TOP - 9), text, colour, _font(20, bold), anchor)


def _resize(image, box):
    """Return the image as large as `box`, its pixels left square-edged where there is room to double them."""
    size = box[2] - box[0], box[3] - box[1]
    how = cv2.INTER_NEAREST if size[0] >= 2 * image.shape[1] else cv2.INTER_LINEAR if size[0] > image.shape[1] else cv2.INTER_AREA
    return cv2.resize(np.ascontiguousarray(image), size, interpolation=how)


def _see(image, draw, box, frame, full):
    """Draw an image, or a vector as bars from the middle to the side, a full one at `full`; what is zero throughout is black."""
    left, top, right, bottom = box
    if frame.ndim == 1 and len(frame) > MAX_BARS:
        frame = _as_square(frame, full)
    if frame.ndim == 2:
        image.paste(Image.fromarray(_resize(frame, box)), (left, top))
        return
    draw.rectangle((left, top, right - 1, bottom - 1), (0, 0, 0))
    if not frame.any():
        return
    labelled = right - left == PANEL_SIZE and len(frame) <= MAX_LABELLED
    row, middle = (bottom - top) / len(frame), (left + right) / 2
    reach = (right - left) / 2 - (100 if labelled else 4)
    draw.line((middle, top, middle, bottom - 1), MUTED)
    for i, value in enumerate(frame):
        y, thick = top + (i + 0.5) * row, min(row * 0.3, 16)
        end = middle + reach * np.clip(value / full[i], -1, 1) if full[i] else middle
        draw.rectangle((min(middle, end), y - thick, max(middle, end), y + thick), BAR)
        if labelled:
            draw.text((left + 14, y), f"[{i}]", MUTED, _font(20), "lm")
            draw.text((right - 12, y), f"{value:.2f}", TEXT, _font(20), "rm")


def _as_square(vector, full):
    """Return a vector float[D] as uint8[S, S], row by row: white where the size of a component is that of `full`, black at zero."""
    side = math.ceil(math.sqrt(len(vector)))
    shades = 255 * np.abs(vector) / np.where(full, full, 1)
    return np.pad(shades.clip(0, 255), (0, side**2 - len(vector))).reshape(side, side).astype(np.uint8)


def _chart(draw, q_values, action, names, q_range):
    """Draw the Q-values: numbers on top, bars, names below."""
    low, high = q_range
    draw.text((MARGIN, 550), "Q-values", TEXT, _font(20), "ls")
    draw.text((MARGIN + 110, 550), f"bars from {_number(low, q_range)} to {_number(high, q_range)}", MUTED, _font(16), "ls")
    if q_values[action] < max(q_values):
        draw.text((WIDTH - MARGIN, 550), "exploring: a random action", CHOSEN, _font(20, bold=True), "rs")
    for i, (left, top, right, bottom) in enumerate(bar_boxes(names)):
        chosen, middle = i == action, (left + right) / 2
        height = 2 + (bottom - top - 2) * ((q_values[i] - low) / (high - low) if high > low else 0.5)
        draw.rectangle((left, bottom - height, right - 1, bottom - 1), CHOSEN if chosen else BAR)
        font, colour = _font(15, bold=chosen), CHOSEN if chosen else TEXT
        draw.text((middle, top - 8), _number(q_values[i], q_range), colour, font, "ms")
        for line, word in enumerate(names[i].split()):
            draw.text((middle, bottom + (line + 1) * NAME_HEIGHT), word, colour, font, "ms")


def _number(value, q_range):
    """Return the value with as many decimals as its chart has room for."""
    size = max(map(abs, q_range))
    return f"{value:.{3 if size < 10 else 2 if size < 100 else 1 if size < 1000 else 0}f}"


@functools.cache
def _font(size, bold=False):
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(pathlib.Path(matplotlib.get_data_path(), "fonts", "ttf", name)), size)


def check_name(path):
    """Raise ValueError if `path` does not end as a film does that can be written."""
    if pathlib.Path(path).suffix not in ENCODE:
        raise ValueError(f"the film {path} ends in {pathlib.Path(path).suffix or 'nothing'}; expected {' or '.join(ENCODE)}")


class Film:
    """A film being written: `with Film(...) as reel`. An .mp4 has every frame; a .gif is smaller, and has at most 15 a second.

    Args:
        path: ends in .mp4 or .gif.
        rate: frames per second.
        names: of the actions.
        title: of the film.

    Raises:
        OSError: it could not be written; said when it is closed.
    """

    def __init__(self, path, rate, names, title):
        check_name(path)
        suffix = pathlib.Path(path).suffix
        self.names, self.title, self.length = names, title, 0
        self._last, self._q_range, self._seen_range = None, (np.inf, -np.inf), 0.0
        self._period = math.ceil(rate / MAX_GIF_RATE) if suffix == ".gif" else 1
        self.rate = rate / self._period
        self._ffmpeg = subprocess.Popen(
            [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24",
             "-video_size", f"{WIDTH}x{HEIGHT}", "-framerate", str(self.rate), "-i", "-", *ENCODE[suffix], str(path)],
            stdin=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)  # out of reach of Ctrl-C, which ends it through us

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        if kind not in (None, BrokenPipeError):
            self._ffmpeg.kill()
        _, words = self._ffmpeg.communicate()
        if self._ffmpeg.returncode and kind in (None, BrokenPipeError):
            words = " ".join(words.decode(errors="replace").split()) or f"ffmpeg ended with code {self._ffmpeg.returncode}"
            raise OSError(f"the film could not be written: {words}") from error

    def add(self, screen, seen, q_values, action, episode_return, step, obscured=False):
        """Append what `compose` draws; the charts' ranges are those of the film so far."""
        self._q_range = min(self._q_range[0], float(min(q_values))), max(self._q_range[1], float(max(q_values)))
        self._seen_range = np.maximum(self._seen_range, np.abs(seen).max(axis=0))
        self._last = seen, q_values
        if self.length % self._period == 0:
            self._write(screen, seen, q_values, action, episode_return, step, obscured)
        self.length += 1

    def end(self, screen, episode_return, step):
        """Append the screen in which the episode ended, for a second."""
        for _ in range(round(self.rate)):
            self._write(screen, *self._last, None, episode_return, step, False)

    def _write(self, screen, seen, q_values, action, episode_return, step, obscured):
        self._ffmpeg.stdin.write(compose(screen, seen, q_values, action, self.names, episode_return, step, title=self.title,
                                         obscured=obscured, q_range=self._q_range, seen_range=self._seen_range).tobytes())
