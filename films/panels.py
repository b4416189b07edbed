"""Place and draw the panels of a film's frame."""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

Box = tuple[int, int, int, int]  # left, top, right, bottom
Colour = tuple[int, int, int]
Pen = ImageDraw.ImageDraw

HEIGHT = 720
# Okabe & Ito 2008: colour-blind readers tell these colours apart too; bold type or words repeat what they mark.
BACKGROUND, TEXT, MUTED, BAR, CHOSEN = (20, 23, 28), (235, 237, 240), (150, 160, 172), (86, 180, 233), (230, 159, 0)
VALUE, ZERO, NEGATIVE, POSITIVE = (0, 158, 115), (32, 36, 43), (86, 180, 233), (213, 94, 0)
THUMBNAIL_GAP = 8  # between earlier frames
STATE_HEIGHT = 170  # of a state below earlier frames
MAX_SLOT, NAME_HEIGHT, BAR_HEADROOM = 150, 17, 28
MIN_SUBTITLE_SIZE = 11
MIN_NUMBER_SIZE = 10  # Where only smaller numbers fit, only the chosen action has its number.
MAX_LABELLED, MAX_BARS = 14, 100  # numbers of a vector that has room for text, and for bars; longer ones are heat maps
SALIENT = 0.85  # opacity of the most salient patch


@dataclasses.dataclass(frozen=True)
class Layout:
    """Places and sizes in pixels; boxes are (left, top, right, bottom), and their captions lie above them."""

    width: int
    margin: int
    counts_base: int  # the line of return and step
    panel_top: int
    panel_size: int  # of the newest frame, a multiple of 84
    screen_width: int
    gap: int
    column: int  # width of the column of earlier frames and state; 0: there is none
    chart: Box
    value: Box
    state: Box | None  # the box of the state where there is no column
    title_size: int  # of fonts
    caption_size: int
    label_size: int


FULL = Layout(width=1280, margin=40, counts_base=44, panel_top=100, panel_size=420, screen_width=640, gap=24, column=84,
              chart=(40, 566, 800, 720), value=(850, 574, 1240, 702), state=None,
              title_size=26, caption_size=20, label_size=15)
HALF = Layout(width=640, margin=20, counts_base=84, panel_top=124, panel_size=252, screen_width=324, gap=16, column=0,
              chart=(20, 558, 620, 716), value=(20, 418, 490, 514), state=(524, 418, 620, 514),
              title_size=22, caption_size=16, label_size=14)


def panel_boxes(screen_shape: Sequence[int], history: int, has_state: bool = False, layout: Layout = FULL
                ) -> tuple[Box, list[Box], Box | None]:
    """Place the panels.

    Returns:
        The box of the true screen; the boxes of the newest frame and of each earlier one, newest first; the box of the
        state, or None.
    """
    height, width = screen_shape[:2]
    size, top = layout.panel_size, layout.panel_top
    scale = min(layout.screen_width / width, size / height)
    width, height = round(width * scale), round(height * scale)
    older = history - 1 if layout.column else 0
    column = layout.column if older or has_state else 0
    left = (layout.width - width - layout.gap - size - (layout.gap + column if column else 0)) // 2
    middle = left + width + layout.gap
    right, bottom = middle + size + layout.gap, top + size
    state_box = None
    if has_state:
        state_box = layout.state
    if has_state and column:
        state_box = (right, bottom - (STATE_HEIGHT if older else size), right + column, bottom - 18)
    room = size - (STATE_HEIGHT + 30 if has_state else 0)
    small = min(column, (room - THUMBNAIL_GAP * (older - 1)) // older) if older else 0
    tops = [top + i * (small + THUMBNAIL_GAP) for i in range(older)]
    y = top + (size - height) // 2
    return ((left, y, left + width, y + height),
            [(middle, top, middle + size, bottom), *((right, y, right + small, y + small) for y in tops)], state_box)


def bar_boxes(names: Sequence[str], layout: Layout = FULL) -> list[Box]:
    """Return (left, top, right, bottom) of the highest bar of each action."""
    left, top, right, bottom = layout.chart
    slot = min((right - left) / len(names), MAX_SLOT)
    start = (left + right - len(names) * slot) / 2
    bottom -= NAME_HEIGHT + NAME_HEIGHT * max(len(name.split()) for name in names)
    return [(round(start + (i + 0.15) * slot), top + BAR_HEADROOM, round(start + (i + 0.85) * slot), bottom)
            for i in range(len(names))]


def draw_header(pen: Pen, layout: Layout, title: str, subtitle: str, episode_return: float, step: int) -> None:
    """Draw title and subtitle, and on the right step and episode_return."""
    size, base = layout.title_size, layout.counts_base
    bold, small = load_font(size, bold=True), load_font(layout.caption_size)
    right: float = layout.width - layout.margin
    for name, value, digits in ("step", step, 6), ("episode_return", episode_return, 7):
        number = f"{value:.0f}" if value == int(value) else f"{value:.2f}"
        pen.text((right, base), number, TEXT, bold, "rs")
        right -= max(0.7 * digits * size, pen.textlength(number, bold) + 16)
        pen.text((right, base), name, MUTED, small, "rs")
        right -= pen.textlength(name, small) + 1.5 * size
    # The title has the room to their left, or its own line above them.
    room = (right if layout is FULL else layout.width - layout.margin) - layout.margin
    pen.text((layout.margin, 34), title, TEXT, load_font(_fit_font_size(pen, [title], room, size), bold=True), "ls")
    draw_subtitle(pen, (layout.margin, 57), subtitle, room, layout.label_size)


def draw_subtitle(pen: Pen, at: tuple[float, float], words: str, room: float, size: int) -> None:
    """Draw words no wider than `room`: smaller, then without their beginning, because their end tells runs apart."""
    while pen.textlength(words, load_font(MIN_SUBTITLE_SIZE, bold=True)) > room:
        words = f"…{words[2:]}"
    pen.text(at, words, MUTED, load_font(_fit_font_size(pen, [words], room, size)), "ls")


def draw_caption(pen: Pen, layout: Layout, x: float, top: float, text: str, colour: Colour, bold: bool = False,
                 anchor: str = "ls") -> None:
    pen.text((x, top - 9), text, colour, load_font(layout.caption_size, bold), anchor)


def resize_image(image: np.ndarray, box: Box) -> np.ndarray:
    """Return the image as large as `box`; its pixels keep square edges where they become twice as large or more."""
    size, width = (box[2] - box[0], box[3] - box[1]), image.shape[1]
    how = cv2.INTER_AREA
    if size[0] >= 2 * width:
        how = cv2.INTER_NEAREST
    elif size[0] > width:
        how = cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(image), size, interpolation=how)


def draw_seen(image: Image.Image, pen: Pen, layout: Layout, box: Box, frame: np.ndarray, full: np.ndarray,
              names: Sequence[str] = ()) -> None:
    """Draw a frame that the agent saw: an image, or a vector as bars from the middle to the sides.

    A vector of zeros is black throughout; a long vector is a heat map.

    Args:
        frame: uint8[84, 84] or [84, 84, 3], or float32[D].
        full: float[D], the numbers at which bars are full.
        names: of the D numbers, which stand above the bars where there is room, or at their left if all of them are
            short; else a bar has its number there.
    """
    left, top, right, bottom = box
    if frame.ndim > 1:
        image.paste(Image.fromarray(resize_image(frame, box)), (left, top))
        return
    pen.rectangle((left, top, right - 1, bottom - 1), (0, 0, 0))
    if not frame.any():
        return
    if len(frame) > MAX_BARS:
        draw_heat_map(image, box, frame, float(np.max(full)))
        return
    labelled = right - left == layout.panel_size and len(frame) <= MAX_LABELLED
    size = layout.caption_size
    row, middle = (bottom - top) / len(frame), (left + right) / 2
    named, font = labelled and len(names) == len(frame), load_font(size)
    above = size + 8 if named and row >= 2 * size + 12 else 0  # pixels for a name
    if not named or not above and max(map(font.getlength, names)) > 5 * size - 18:
        names = [f"[{i}]" for i in range(len(frame))]
    reach = (right - left) / 2 - (5 * size if labelled and not above else 14 if above else 4)
    pen.line((middle, top, middle, bottom - 1), MUTED)
    for i, value in enumerate(frame):
        y, thick = top + above / 2 + (i + 0.5) * row, min((row - above) * 0.3, 16)
        end = middle + reach * np.clip(value / full[i], -1, 1) if full[i] else middle
        pen.rectangle((min(middle, end), y - thick, max(middle, end), y + thick), BAR)
        if labelled:
            y -= above and (thick + size / 2 + 2)
            pen.text((left + 14, y), names[i], MUTED, font, "lm")
            pen.text((right - 12, y), f"{value:.2f}", TEXT, font, "rm")


def draw_saliency(image: Image.Image, box: Box, saliency: np.ndarray, most: float) -> None:
    """Colour the frame in `box` by the root of its saliency, because the root tells how far Q moved.

    Args:
        saliency: float32[84, 84].
        most: the saliency that has the full colour.
    """
    opacity = SALIENT * resize_image(np.sqrt(saliency / most) if most else saliency, box)[..., None]
    under = np.asarray(image.crop(box))
    image.paste(Image.fromarray(np.uint8(np.rint(under + (np.array(CHOSEN) - under) * opacity))), box[:2])


def draw_heat_map(image: Image.Image, box: Box, values: np.ndarray, most: float) -> None:
    """Draw a vector as a grid of cells, row by row: blue below zero, vermilion above, brightest at `most`."""
    cells = heat_cells(values, most, box[2] - box[0], box[3] - box[1])
    image.paste(Image.fromarray(cells), box[:2])


def heat_cells(values: np.ndarray, most: float, width: int, height: int) -> np.ndarray:
    """Return uint8[<= height, <= width, 3]: equal cells, nearly square, a power of two of them in each row."""
    columns = min(width, 2 ** max(0, round(math.log2(math.sqrt(len(values) * width / height)))))
    rows = math.ceil(len(values) / columns)
    cells = np.zeros(rows * columns)
    cells[:len(values)] = np.clip(values / most, -1, 1) if most else 0
    cells = cells.reshape(rows, columns, 1)
    colours = np.array(ZERO) + np.abs(cells) * (np.where(cells < 0, NEGATIVE, POSITIVE) - np.array(ZERO))
    cells = np.uint8(colours).repeat(max(1, height // rows), axis=0).repeat(max(1, width // columns), axis=1)
    return cells[:height, :width]


def draw_q_values(pen: Pen, layout: Layout, q_values: np.ndarray, action: int, names: Sequence[str],
                  q_range: tuple[float, float]) -> None:
    """Draw the Q-values: numbers above, bars, and names of actions below."""
    left, y, right, _ = layout.chart
    low, high = q_range
    size, label = layout.caption_size, layout.label_size
    draw_caption(pen, layout, left, y, "Q-values", TEXT)
    bars = f"bars from {_format_number(low, q_range)} to {_format_number(high, q_range)}"
    pen.text((left + 5.5 * size, y - 9), bars, MUTED, load_font(label), "ls")
    if q_values[action] < max(q_values):
        draw_caption(pen, layout, right, y, "exploring: a random action", CHOSEN, bold=True, anchor="rs")
    boxes, numbers = bar_boxes(names, layout), [_format_number(q, q_range) for q in q_values]
    room = (boxes[0][2] - boxes[0][0]) / 0.7 - 3
    number_size, name_size = (_fit_font_size(pen, words, room, label) for words in (numbers, " ".join(names).split()))
    legible = number_size >= MIN_NUMBER_SIZE
    for i, (left, top, right, bottom) in enumerate(boxes):
        chosen, middle = i == action, (left + right) / 2
        height = 2 + (bottom - top - 2) * ((q_values[i] - low) / (high - low) if high > low else 0.5)
        pen.rectangle((left, bottom - height, right - 1, bottom - 1), CHOSEN if chosen else BAR)
        colour = CHOSEN if chosen else TEXT
        if legible or chosen:
            pen.text((middle, top - 8), numbers[i], colour, load_font(number_size if legible else label, chosen), "ms")
        for line, word in enumerate(names[i].split()):
            pen.text((middle, bottom + (line + 1) * NAME_HEIGHT), word, colour, load_font(name_size, chosen), "ms")


def draw_value_line(pen: Pen, layout: Layout, values: Sequence[float], span: int, scale: tuple[float, float],
                    words: str) -> None:
    """Draw values as a line that moves to the left: the newest at the right end, `span` values in its width."""
    left, top, right, bottom = layout.value
    label, (low, high) = load_font(layout.label_size), scale
    draw_caption(pen, layout, left, top, "value", TEXT)
    pen.text((left + 3.6 * layout.caption_size, top - 9), words, MUTED, label, "ls")
    draw_caption(pen, layout, right, top, _format_number(values[-1], scale), VALUE, bold=True, anchor="rs")
    start = left + max(pen.textlength(_format_number(value, scale), label) for value in scale) + 10
    for y, value, anchor in (top, high, "rt"), (bottom, low, "rs"):
        pen.text((start - 8, y), _format_number(value, scale), MUTED, label, anchor)
        pen.line((start, y, right, y), ZERO, 2)
    height = lambda value: (bottom - top) * ((value - low) / (high - low) if high > low else 0.5)
    points = [(right - (right - start) * age / (span - 1), bottom - height(value))
              for age, value in enumerate(reversed(values))]
    pen.line(points, VALUE, 2)
    x, newest = points[0]
    pen.ellipse((x - 4, newest - 4, x + 4, newest + 4), VALUE)


def _format_number(value, q_range):
    """Return the value with as many decimals as its chart has room for."""
    size = max(map(abs, q_range))
    return f"{value:.{3 if size < 10 else 2 if size < 100 else 1 if size < 1000 else 0}f}"


def _fit_font_size(pen, words, room, size):
    """Return the largest font size up to `size` in which every word is no wider than `room`."""
    while size > 8 and max(pen.textlength(word, load_font(size, bold=True)) for word in words) > room:
        size -= 1
    return size


@functools.cache
def load_font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    import matplotlib  # here: nothing else of a film needs it
    font = ImageFont.truetype(str(pathlib.Path(matplotlib.get_data_path(), "fonts", "ttf", name)), size)
    # Frames say much the same; words that were drawn once are kept.
    for method in ("getmask2", "getlength"):
        setattr(font, method, functools.lru_cache(maxsize=1000)(getattr(font, method)))
    return font
