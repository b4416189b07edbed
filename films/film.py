"""Write a film of an agent: the true screen, the frames that it saw, its Q-values and its state.

It composes arrays, and knows neither networks nor environments.

Reference: Hausknecht & Stone 2015, figure 2, which shows true screens beside the frames that the agent saw.
"""

import collections
import dataclasses
import math
import pathlib
import subprocess
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from PIL import Image, ImageDraw

from films import panels
from films.panels import CHOSEN, FULL, HEIGHT, MUTED, TEXT

VALUE_SECONDS = 5  # in the line of values
ENCODE = {  # ending -> arguments of ffmpeg
    # Browsers play it, and begin to while it loads.
    ".mp4": "-codec:v libx264 -pix_fmt yuv420p -crf 20 -preset veryfast -movflags +faststart".split(),
    # One palette without dithering makes a small file.
    ".gif": ["-filter_complex", "scale=800:-2:flags=area,split[a][b];"
             "[a]palettegen[p];[b][p]paletteuse=dither=none:diff_mode=rectangle"],
}
MAX_GIF_RATE = 15  # frames per second


@dataclasses.dataclass
class Moment:
    """One moment of an episode: before an action, or after the last one.

    Args:
        screen: uint8[height, width, 3], of any size.
        episode_return, step: so far, before the action.
        seen: the agent's last H frames, the newest last: images uint8[H, 84, 84] or RGB, or vectors float32[H, D].
        q_values: float32[A].
        action: index of the chosen action; None: the episode is over, and nothing is seen or chosen any more.
        obscured: whether the newest frame is; the caption says so.
        state: float32[U] after this frame; None: the agent has no state.
        saliency: float32[84, 84] of the newest frame; None: it is not drawn.
    """

    screen: np.ndarray
    episode_return: float
    step: int
    seen: np.ndarray | Any = None
    q_values: np.ndarray | Any = None
    action: int | None = None
    obscured: bool = False
    state: np.ndarray | None = None
    saliency: np.ndarray | None = None


@dataclasses.dataclass
class Scales:
    """Ranges of a film's charts.

    Args:
        q, value: (lowest, highest) of all Q-values, and of the highest Q-value of each moment.
        seen: float[D], the numbers of a vector at which its bars are full.
        state, saliency: the largest absolute values.
    """

    q: tuple[float, float] = (math.inf, -math.inf)
    value: tuple[float, float] = (math.inf, -math.inf)
    seen: np.ndarray | Any = 0.0
    state: float = 0.0
    saliency: float = 0.0

    def extend(self, moment: Moment) -> None:
        """Widen the ranges until they hold a moment."""
        lowest, highest = float(min(moment.q_values)), float(max(moment.q_values))
        self.q = min(self.q[0], lowest), max(self.q[1], highest)
        self.value = min(self.value[0], highest), max(self.value[1], highest)
        self.seen = np.maximum(self.seen, np.abs(moment.seen).max(axis=0))
        if moment.state is not None:
            self.state = max(self.state, float(np.abs(moment.state).max()))
        if moment.saliency is not None:
            self.saliency = max(self.saliency, float(moment.saliency.max()))


def compose_frame(moment: Moment, scales: Scales, values: Sequence[float], span: int, names: Sequence[str],
                  title: str = "", subtitle: str = "", layout: panels.Layout = FULL,
                  seen_names: Sequence[str] = ()) -> np.ndarray:
    """Draw one frame of a film, or of its half.

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
        moment: a Moment; once the episode is over, `seen` and `state` only tell which boxes stay empty.
        scales: Scales that hold the moment.
        values: the highest Q-value of each of the last moments, the newest last.
        span: number of values that fill the line's width.
        names: of the A actions; spaces break lines.
        title, subtitle: of the film, or of its agent.
        layout: a panels.Layout.
        seen_names: of the D numbers of a vector that the agent sees, or none.

    Returns:
        uint8[720, layout.width, 3].
    """
    image = Image.new("RGB", (layout.width, HEIGHT), panels.BACKGROUND)
    pen = ImageDraw.Draw(image)
    caption = lambda x, top, text, colour, **how: panels.draw_caption(pen, layout, x, top, text, colour, **how)
    label = panels.load_font(layout.label_size)
    note = lambda box, text, colour: pen.text((box[2], box[3] + 3), text, colour, label, "ra")
    panels.draw_header(pen, layout, title, subtitle, moment.episode_return, moment.step)
    top = layout.panel_top
    screen_box, seen_boxes, state_box = panels.panel_boxes(
        moment.screen.shape, len(moment.seen), moment.state is not None, layout)
    image.paste(Image.fromarray(panels.resize_image(moment.screen, screen_box)), screen_box[:2])
    caption(screen_box[0], top, "true screen", TEXT)
    newest = seen_boxes[0]
    if moment.action is None:
        caption(newest[0], top, "the episode is over", CHOSEN, bold=True)
        return np.asarray(image)
    caption(newest[0], top, "what the agent sees", TEXT)
    if moment.obscured:
        caption(newest[2], top, "obscured", CHOSEN, bold=True, anchor="rs")
    if len(seen_boxes) > 1:
        caption(seen_boxes[1][0], top, "earlier", MUTED)
    for box, frame in zip(seen_boxes, moment.seen[::-1]):
        panels.draw_seen(image, pen, layout, box, frame, scales.seen, seen_names)
    if moment.saliency is not None:
        panels.draw_saliency(image, newest, moment.saliency, scales.saliency)
        note(newest, "orange: moves the chosen action's Q-value", CHOSEN)
    if moment.state is not None and state_box:
        caption(state_box[0], state_box[1], "state", TEXT)
        panels.draw_heat_map(image, state_box, moment.state, scales.state)
        note(state_box, f"±{scales.state:.2g}", MUTED)
    panels.draw_q_values(pen, layout, moment.q_values, moment.action, names, scales.q)
    panels.draw_value_line(pen, layout, values, span, scales.value, f"highest Q-value, last {VALUE_SECONDS} s")
    return np.asarray(image)


def check_name(path: str | pathlib.Path) -> None:
    """Raise ValueError if `path` does not end in .mp4 or .gif."""
    if pathlib.Path(path).suffix not in ENCODE:
        raise ValueError(f"the film {path} ends in {pathlib.Path(path).suffix or 'nothing'}; "
                         f"expected {' or '.join(ENCODE)}")


class Scene:
    """One agent's part of a film; its charts have the ranges of the film so far.

    Args:
        rate: moments per second.
        names, title, subtitle, layout, seen_names: of `compose_frame`.
    """

    def __init__(self, rate: float, names: Sequence[str], title: str, subtitle: str = "",
                 layout: panels.Layout = FULL, seen_names: Sequence[str] = ()) -> None:
        span = max(2, round(VALUE_SECONDS * rate))  # A line has two ends.
        self._words: dict[str, Any] = dict(span=span, names=names, title=title, subtitle=subtitle, layout=layout,
                                           seen_names=seen_names)
        self._values: collections.deque[float] = collections.deque(maxlen=span)
        self._scales = Scales()
        self.moment: Moment | Any = None

    def add(self, moment: Moment) -> None:
        """Take the newest moment."""
        if moment.action is None:  # The boxes of the last frames keep their places, empty.
            moment = dataclasses.replace(moment, seen=self.moment.seen, state=self.moment.state)
        else:
            self._scales.extend(moment)
            self._values.append(float(max(moment.q_values)))
        self.moment = moment

    def draw_frame(self) -> np.ndarray:
        return compose_frame(self.moment, self._scales, self._values, **self._words)


class Film:
    """A film being written: `with Film(...) as reel`.

    An .mp4 has every frame. A .gif is smaller, and has at most 15 frames a second.

    Args:
        path: ends in .mp4 or .gif.
        rate: frames per second.
        scenes: Scene, side by side.

    Raises:
        OSError: the film could not be written; it is raised where the film is closed.
    """

    def __init__(self, path: str | pathlib.Path, rate: float, *scenes: Scene) -> None:
        check_name(path)
        suffix = pathlib.Path(path).suffix
        self.scenes, self.length = scenes, 0
        self._period = math.ceil(rate / MAX_GIF_RATE) if suffix == ".gif" else 1
        self.rate = rate / self._period
        raw_frames = f"-f rawvideo -pix_fmt rgb24 -video_size {FULL.width}x{HEIGHT} -framerate {self.rate} -i -".split()
        import imageio_ffmpeg  # here, so that scores need no ffmpeg
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", *raw_frames, *ENCODE[suffix],
                   f"file:{path}"]  # A path with a colon would be a protocol.
        # Ctrl-C does not reach ffmpeg in a session of its own; `__exit__` ends it.
        self._ffmpeg = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: Any) -> None:
        if kind not in (None, BrokenPipeError):
            self._ffmpeg.kill()
        _, error_output = self._ffmpeg.communicate()
        if self._ffmpeg.returncode and kind in (None, BrokenPipeError):
            words = " ".join(error_output.decode(errors="replace").split())
            reason = words or f"ffmpeg ended with code {self._ffmpeg.returncode}"
            raise OSError(f"the film could not be written: {reason}") from error

    def add(self, *moments: Moment | None) -> None:
        """Append a frame, or a second, of one frame at least, where every episode is over.

        Args:
            moments: a Moment of each scene; None: its episode is over already, and its last screen stays.
        """
        for scene, moment in zip(self.scenes, moments):
            if moment is not None:
                scene.add(moment)
        is_over = all(scene.moment.action is None for scene in self.scenes)
        if is_over or self.length % self._period == 0:
            pipe: Any = self._ffmpeg.stdin  # is there, since Popen was given a PIPE
            frame = np.hstack([scene.draw_frame() for scene in self.scenes]).tobytes()
            for _ in range(max(1, round(self.rate)) if is_over else 1):
                pipe.write(frame)
        self.length += 1
