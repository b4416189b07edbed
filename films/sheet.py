"""Draw a contact sheet: episodes as rows of screens, so that one look compares them."""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageDraw

from films import panels

Item = TypeVar("Item")

ROWS, COLUMNS = 8, 8
WIDTH, LABEL_WIDTH = 160, 190  # pixels of a screen, and beside each row
TOP, GAP, FOOT = 80, 8, 22  # pixels above all rows, between screens, and below each row
KEPT = 64  # screens of an episode in memory: at least as many once it has so many, and at most twice as many


def choose_evenly(items: Sequence[Item], count: int) -> list[Item]:
    """Return at most `count` of the items, evenly spaced, the first and the last among them."""
    chosen = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[i] for i in np.unique(chosen)]


class Strip:
    """Evenly spaced screens of an episode of any length; few are kept in memory.

    Args:
        name: written beside the row.
    """

    def __init__(self, name: str) -> None:
        self.name, self._period = name, 1
        self.episode_return: float | None = None
        self._kept: list[tuple[int, np.ndarray]] = []
        self._last: tuple[int, np.ndarray] | Any = None

    def add(self, screen: np.ndarray, step: int, episode_return: float) -> None:
        """Take a screen: before the step of this number, or the last one.

        Args:
            screen: uint8[height, width, 3].
            step: agent steps so far.
            episode_return: so far.
        """
        self.episode_return, self._last = episode_return, (step, screen)
        if step % self._period == 0:
            self._kept.append(self._last)
        if len(self._kept) == 2 * KEPT:
            self._kept, self._period = self._kept[::2], 2 * self._period

    def screens(self) -> list[tuple[int, np.ndarray]]:
        """Return [(step, screen)] of the row, the first and the last screen of the episode among them."""
        kept = self._kept if self._kept[-1][0] == self._last[0] else [*self._kept, self._last]
        return choose_evenly(kept, COLUMNS)


def draw_sheet(strips: Sequence[Strip], title: str, subtitle: str) -> Image.Image:
    """Return a PIL image with a row for each Strip."""
    rows = [strip.screens() for strip in strips]
    height, width = rows[0][0][1].shape[:2]
    height = round(WIDTH * height / width)
    size = LABEL_WIDTH + COLUMNS * (WIDTH + GAP) + 24, TOP + len(rows) * (height + FOOT + GAP) + GAP
    image = Image.new("RGB", size, panels.BACKGROUND)
    pen, small, large = ImageDraw.Draw(image), panels.load_font(13), panels.load_font(20, bold=True)
    pen.text((24, 40), title, panels.TEXT, panels.load_font(26, bold=True), "ls")
    panels.draw_subtitle(pen, (24, 66), subtitle, size[0] - 48, 15)
    for row, (strip, screens) in enumerate(zip(strips, rows)):
        top = TOP + row * (height + FOOT + GAP)
        words = ((20, strip.name, panels.TEXT, large), (38, "training episodes", panels.MUTED, small),
                 (66, f"{strip.episode_return:g}", panels.VALUE, large), (84, "return", panels.MUTED, small))
        for y, text, colour, font in words:
            pen.text((24, top + y), text, colour, font, "ls")
        for column, (step, screen) in enumerate(screens):
            left = LABEL_WIDTH + column * (WIDTH + GAP)
            small_screen = panels.resize_image(screen, (left, top, left + WIDTH, top + height))
            image.paste(Image.fromarray(small_screen), (left, top))
            pen.text((left, top + height + 4), f"step {step:,}", panels.MUTED, small, "la")
    return image
