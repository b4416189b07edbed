"""A contact sheet: episodes as rows of screens, so that one look shows what changed from one to the next."""

import numpy as np
from PIL import Image, ImageDraw

from films import panels

ROWS, COLUMNS = 8, 8
WIDTH, LABEL_WIDTH, TOP, GAP, FOOT = 160, 190, 80, 8, 22  # pixels: of a screen, beside a row, above all, between, and below a row
KEPT = 64  # screens of an episode in memory, at least, once it has as many; twice that at most


def evenly(items, count):
    """Return at most `count` of the items, evenly spaced, the first and the last among them."""
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int))]


class Strip:
    """An episode of any length as evenly spaced screens, of which it keeps few.

    Args:
        name: what is written beside it.
    """

    def __init__(self, name):
        self.name, self.episode_return, self._kept, self._period, self._last = name, None, [], 1, None

    def add(self, screen, step, episode_return):
        """Take the screen before a step, or of the end, when so much has been returned."""
        self.episode_return, self._last = episode_return, (step, screen)
        if step % self._period == 0:
            self._kept.append(self._last)
        if len(self._kept) == 2 * KEPT:
            self._kept, self._period = self._kept[::2], 2 * self._period

    def screens(self):
        """Return [(step, screen)] of the row, the first and the last of the episode among them."""
        kept = self._kept if self._kept[-1][0] == self._last[0] else [*self._kept, self._last]
        return evenly(kept, COLUMNS)


def draw(strips, title, subtitle):
    """Return the sheet of these rows as a PIL image."""
    rows = [strip.screens() for strip in strips]
    height, width = rows[0][0][1].shape[:2]
    height = round(WIDTH * height / width)
    size = LABEL_WIDTH + COLUMNS * (WIDTH + GAP) + 24, TOP + len(rows) * (height + FOOT + GAP) + GAP
    image = Image.new("RGB", size, panels.BACKGROUND)
    pen, small, large = ImageDraw.Draw(image), panels.font(13), panels.font(20, bold=True)
    pen.text((24, 40), title, panels.TEXT, panels.font(26, bold=True), "ls")
    panels.draw_subtitle(pen, (24, 66), subtitle, size[0] - 48, 15)
    for row, (strip, screens) in enumerate(zip(strips, rows)):
        top = TOP + row * (height + FOOT + GAP)
        for y, text, colour, font in ((20, strip.name, panels.TEXT, large), (38, "training episodes", panels.MUTED, small),
                                      (66, f"{strip.episode_return:g}", panels.VALUE, large), (84, "return", panels.MUTED, small)):
            pen.text((24, top + y), text, colour, font, "ls")
        for column, (step, screen) in enumerate(screens):
            left = LABEL_WIDTH + column * (WIDTH + GAP)
            image.paste(Image.fromarray(panels.resize(screen, (left, top, left + WIDTH, top + height))), (left, top))
            pen.text((left, top + height + 4), f"step {step:,}", panels.MUTED, small, "la")
    return image
