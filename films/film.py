"""A film of an agent: the true screen beside what it saw, as in figure 2 of Hausknecht & Stone 2015, and what it made of that.

It composes arrays, and knows neither networks nor environments.
"""

import collections
import dataclasses
import math
import pathlib
import subprocess

import imageio_ffmpeg
import numpy as np
from films.panels import CHOSEN, FULL, HEIGHT, MUTED, TEXT
from PIL import Image, ImageDraw

from films import panels

VALUE_SECONDS = 5  # in the line of values
ENCODE = {  # ending -> what ffmpeg is told: plays in browsers, from its beginning while it loads; one palette, undithered, for a small file
    ".mp4": "-codec:v libx264 -pix_fmt yuv420p -crf 20 -preset veryfast -movflags +faststart".split(),
    ".gif": ["-filter_complex", "scale=800:-2:flags=area,split[a][b];[a]palettegen[p];[b][p]paletteuse=dither=none:diff_mode=rectangle"],
}
MAX_GIF_RATE = 15  # frames per second


@dataclasses.dataclass
class Moment:
    """What there is to see before one action, or when the episode is over.

    Args:
        screen: uint8[height, width, 3], of any size.
        episode_return, step: so far, before the action.
        seen: the agent's last H frames, the newest last: images uint8[H, 84, 84], or vectors float32[H, D].
        q_values: float32[A].
        action: the index of the chosen one; None: the episode is over, and nothing is seen or chosen any more.
        obscured: whether to say that the newest frame was.
        state: float32[U] after this frame; None: the agent has none.
        saliency: float32[84, 84] of the newest frame; None: not drawn.
    """

    screen: np.ndarray
    episode_return: float
    step: int
    seen: np.ndarray = None
    q_values: np.ndarray = None
    action: int = None
    obscured: bool = False
    state: np.ndarray = None
    saliency: np.ndarray = None


@dataclasses.dataclass
class Scales:
    """The ranges of all Q-values and of the highest ones, float[D] of full bars of a vector, and the most of state and saliency."""

    q: tuple = (math.inf, -math.inf)
    value: tuple = (math.inf, -math.inf)
    seen: np.ndarray = 0.0
    state: float = 0.0
    saliency: float = 0.0

    def extend(self, moment):
        """Make room for what a moment shows."""
        q, wider = moment.q_values, lambda of, low, high: (min(of[0], float(low)), max(of[1], float(high)))
        self.q, self.value = wider(self.q, min(q), max(q)), wider(self.value, max(q), max(q))
        self.seen = np.maximum(self.seen, np.abs(moment.seen).max(axis=0))
        if moment.state is not None:
            self.state = max(self.state, float(np.abs(moment.state).max()))
        if moment.saliency is not None:
            self.saliency = max(self.saliency, float(moment.saliency.max()))


def compose(moment, scales, values, span, names, title="", subtitle="", layout=FULL):
    """Draw one frame of a film.

    ```
    title                                    episode_return   step
    true screen                what the agent sees       earlier
    +-------------------------+  +--------------------+  +-----+
    |                         |  |                    |  | t-1 |    H - 1 of them
    |                         |  |   and in orange    |  +-----+
    |                         |  |   what of it is    |  | t-2 |
    |                         |  |   salient          |  +-----+
    +-------------------------+  +--------------------+  |state|    of a network that has one
    Q-values                         value               +-----+
         0.12     0.31    -0.05      0.31 |    __/
         ####    [####]    ##             | __/            the highest Q-value of the last seconds
         NOOP     LEFT    RIGHT      0.02 |/               the chosen action in orange
    ```
    Args:
        moment: a Moment; once the episode is over, `seen` and `state` say only what stays empty.
        scales: Scales that hold the moment.
        values: the highest Q-values of the last moments, this one's last.
        span: how many of them fill the line's width.
        names: of the A actions; spaces break lines.
        title, subtitle: of the film, or of its agent.
        layout: a panels.Layout.

    Returns:
        uint8[720, layout.width, 3].
    """
    image = Image.new("RGB", (layout.width, HEIGHT), panels.BACKGROUND)
    draw = ImageDraw.Draw(image)
    caption = lambda x, top, text, colour, **how: panels.draw_caption(draw, layout, x, top, text, colour, **how)
    note = lambda box, text, colour: draw.text((box[2], box[3] + 3), text, colour, panels.font(layout.label_size), "ra")
    panels.draw_header(draw, layout, title, subtitle, moment.episode_return, moment.step)
    top, over = layout.panel_top, moment.action is None
    at, seen_boxes, state_box = panels.panel_boxes(moment.screen.shape, len(moment.seen), moment.state is not None, layout)
    image.paste(Image.fromarray(panels.resize(moment.screen, at)), at[:2])
    caption(at[0], top, "true screen", TEXT)
    newest = seen_boxes[0]
    if over:
        caption(newest[0], top, "the episode is over", CHOSEN, bold=True)
        return np.asarray(image)
    caption(newest[0], top, "what the agent sees", TEXT)
    if moment.obscured:
        caption(newest[2], top, "obscured", CHOSEN, bold=True, anchor="rs")
    if len(seen_boxes) > 1:
        caption(seen_boxes[1][0], top, "earlier", MUTED)
    for box, frame in zip(seen_boxes, moment.seen[::-1]):
        panels.draw_frame(image, draw, layout, box, frame, scales.seen)
    if moment.saliency is not None:
        panels.draw_overlay(image, newest, moment.saliency, scales.saliency)
        note(newest, "orange: moves the chosen action's Q-value", CHOSEN)
    if moment.state is not None:
        caption(state_box[0], state_box[1], "state", TEXT)
        panels.draw_heat(image, state_box, moment.state, scales.state)
        note(state_box, f"±{scales.state:.2g}", MUTED)
    panels.draw_chart(draw, layout, moment.q_values, moment.action, names, scales.q)
    panels.draw_line(draw, layout, values, span, scales.value, f"highest Q-value, last {VALUE_SECONDS} s")
    return np.asarray(image)


def check_name(path):
    """Raise ValueError if `path` does not end as a film does that can be written."""
    if pathlib.Path(path).suffix not in ENCODE:
        raise ValueError(f"the film {path} ends in {pathlib.Path(path).suffix or 'nothing'}; expected {' or '.join(ENCODE)}")


class Scene:
    """One agent's part of a film; the scales of its charts are those of the film so far.

    Args:
        rate: moments per second.
        names, title, subtitle, layout: of `compose`.
    """

    def __init__(self, rate, names, title, subtitle="", layout=FULL):
        self._words = dict(names=names, title=title, subtitle=subtitle, layout=layout)
        self._scales, self._values, self.moment = Scales(), collections.deque(maxlen=round(VALUE_SECONDS * rate)), None

    def add(self, moment):
        if moment.action is None:  # What was seen last keeps its place, empty.
            moment = dataclasses.replace(moment, seen=self.moment.seen, state=self.moment.state)
        else:
            self._scales.extend(moment)
            self._values.append(float(max(moment.q_values)))
        self.moment = moment

    def draw(self):
        return compose(self.moment, self._scales, self._values, self._values.maxlen, **self._words)


class Film:
    """A film being written: `with Film(...) as reel`. An .mp4 has every frame; a .gif is smaller, and has at most 15 a second.

    Args:
        path: ends in .mp4 or .gif.
        rate: frames per second.
        scenes: Scene, side by side.

    Raises:
        OSError: it could not be written; said when it is closed.
    """

    def __init__(self, path, rate, *scenes):
        check_name(path)
        suffix = pathlib.Path(path).suffix
        self.scenes, self.length = scenes, 0
        self._period = math.ceil(rate / MAX_GIF_RATE) if suffix == ".gif" else 1
        self.rate = rate / self._period
        self._ffmpeg = subprocess.Popen(
            [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24",
             "-video_size", f"{FULL.width}x{HEIGHT}", "-framerate", str(self.rate), "-i", "-", *ENCODE[suffix], str(path)],
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

    def add(self, *moments):
        """Append a frame, or a second where every episode is over.

        Args:
            moments: of each scene; None: the episode is over already, and its last screen stays.
        """
        for scene, moment in zip(self.scenes, moments):
            if moment is not None:
                scene.add(moment)
        over = all(scene.moment.action is None for scene in self.scenes)
        if over or self.length % self._period == 0:
            frame = np.hstack([scene.draw() for scene in self.scenes]).tobytes()
            for _ in range(round(self.rate) if over else 1):
                self._ffmpeg.stdin.write(frame)
        self.length += 1
