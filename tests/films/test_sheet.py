"""Contact sheets: which screens of an episode are kept, and their pixels read back."""

import numpy as np
import pytest

from films import sheet


def make_strip(length, name="50", shape=(40, 60)):
    """Return the strip of an episode of `length` steps whose screen at step t has the colour t mod 256."""
    strip = sheet.Strip(name)
    for t in range(length + 1):
        strip.add(np.full((*shape, 3), t % 256, np.uint8), t, t / 2)
    return strip


@pytest.mark.parametrize("count, expected", [
    (1, [0]), (2, [0, 1]), (8, list(range(8))), (15, [0, 2, 4, 6, 8, 10, 12, 14])])
def test_few_are_all_taken_and_many_evenly(count, expected):
    assert sheet.choose_evenly(list(range(count)), 8) == expected


@pytest.mark.parametrize("length", [1, 7, 63, 64, 127, 128, 1000, 27000])
def test_screens_of_a_strip_are_evenly_spaced_over_an_episode_of_any_length(length):
    strip = make_strip(length, shape=(1, 1))
    steps = [step for step, _ in strip.screens()]
    assert steps[0] == 0 and steps[-1] == length and len(steps) == min(8, length + 1)
    np.testing.assert_allclose(steps, np.linspace(0, length, len(steps)), atol=max(1, length / 60))
    assert all((screen == step % 256).all() for step, screen in strip.screens())
    assert strip.episode_return == length / 2 and len(strip._kept) <= 2 * sheet.KEPT


def test_rows_of_a_sheet_are_the_strips_in_their_order():
    strips, subtitle = [make_strip(7), make_strip(3, name="1,000")], "of the 50th and the 1,000th episode " * 9
    image = np.asarray(sheet.draw_sheet(strips, "a run", subtitle))
    height = round(sheet.WIDTH * 40 / 60)
    at = lambda row, column: image[sheet.TOP + row * (height + sheet.FOOT + sheet.GAP):,
                                   sheet.LABEL_WIDTH + column * (sheet.WIDTH + sheet.GAP):]
    for row, columns in enumerate([8, 4]):
        for column in range(columns):
            assert (at(row, column)[:height, :sheet.WIDTH] == column).all()
    background = image[-1, -1]
    assert (at(1, 4)[:height] == background).all()  # A short episode has fewer screens.
    left_of_screens = image[sheet.TOP:, sheet.LABEL_WIDTH - 4:sheet.LABEL_WIDTH]
    assert (left_of_screens == background).all(), "words run into the screens"
    assert (image[:sheet.TOP, -20:] == background).all(), "words run out of the sheet"
