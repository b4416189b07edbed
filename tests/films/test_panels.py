"""Panels of a film's frame beyond screens and bars: heat maps, saliency and the line of values, their pixels read back."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from films import film, panels

SCREEN, GRAY = np.zeros((210, 320, 3), np.uint8), np.full((1, 84, 84), 100, np.uint8)


def compose(q_values=(0, 1), values=(1,), span=9, scales=None, names=("LEFT", "RIGHT"), layout=panels.FULL, title="", subtitle="", **rest):
    moment = film.Moment(SCREEN, 0, 0, GRAY, np.array(q_values, np.float32), 1, **rest)
    scales = scales or film.Scales(q=(0, 1), value=(0, 1), state=1.0, saliency=1.0)
    return film.compose(moment, scales, values, span, names, title, subtitle, layout)


def test_a_state_is_a_grid_of_cells_in_the_colour_of_their_signs_brightest_at_the_most():
    cells = panels.heat_grid(np.array([2, -2, 1, 0, 0, 0, 0, 0]), 2, width=40, height=80)
    assert cells.shape == (80, 40, 3)  # 4 rows of 2
    corner = lambda row, column: tuple(cells[20 * row + 10, 20 * column + 10])
    assert corner(0, 0) == panels.POSITIVE and corner(0, 1) == panels.NEGATIVE and corner(1, 1) == panels.ZERO
    between = np.array(panels.ZERO) + (np.array(panels.POSITIVE) - panels.ZERO) / 2
    assert np.abs(corner(1, 0) - between).max() <= 1
    assert (panels.heat_grid(np.zeros(8), 0.0, 40, 80) == panels.ZERO).all()


@pytest.mark.parametrize("units", [1, 8, 64, 100, 512, 2048])
@pytest.mark.parametrize("width, height", [(84, 402), (96, 96), (420, 420)])
def test_a_grid_has_room_for_every_unit_and_fits(units, width, height):
    values = np.zeros(units)
    values[-1] = -1
    cells = panels.heat_grid(values, 1, width, height)
    assert cells.shape[0] <= height and cells.shape[1] <= width
    assert (cells == panels.NEGATIVE).all(axis=-1).any(), "the last unit has no cell"


def test_an_agent_without_state_has_no_map_of_it():
    with_state = compose(state=np.ones(8))
    box = panels.panel_boxes(SCREEN.shape, 1, state=True)[2]
    assert (with_state[box[1] + 5, box[0] + 5] == panels.POSITIVE).all()
    assert not (compose() == panels.POSITIVE).all(axis=-1).any()


def test_a_vector_too_long_for_bars_is_a_grid():
    seen = np.zeros((1, 2048), np.float32)
    seen[0, :1024] = 3
    moment = film.Moment(SCREEN, 0, 0, seen, np.zeros(2), 0)
    image = film.compose(moment, film.Scales((0, 1), (0, 1), np.full(2048, 3.0)), [0], 9, ["LEFT", "RIGHT"])
    left, top, right, bottom = panels.panel_boxes(SCREEN.shape, 1)[1][0]
    assert tuple(image[top + 50, left + 50]) == panels.POSITIVE and tuple(image[top + 300, left + 50]) == panels.ZERO


def test_what_is_salient_is_orange_by_the_change_of_q_and_the_rest_as_it_was():
    """Scores are halves of squares: a quarter of the most is half of the change, and half as orange."""
    saliency = np.zeros((84, 84), np.float32)
    saliency[:42], saliency[42:, :42] = 8, 2
    image = compose(saliency=saliency, scales=film.Scales((0, 1), (0, 1), saliency=8.0))
    left, top, right, bottom = panels.panel_boxes(SCREEN.shape, 1)[1][0]
    shown = lambda y, x: image[top + 5 * y, left + 5 * x].astype(float)
    full = 100 + panels.SALIENT * (np.array(panels.CHOSEN) - 100)
    assert np.abs(shown(20, 20) - full).max() <= 1 and np.abs(shown(60, 20) - (100 + full) / 2).max() <= 1
    assert (shown(60, 60) == 100).all()


@pytest.mark.parametrize("layout", [panels.FULL, panels.HALF])
def test_the_line_of_values_ends_now_and_moves_to_the_left(layout):
    left, top, right, bottom = layout.value

    def green(values):
        image = compose(values=values, span=5, layout=layout)[top - 3:bottom + 4]
        return (image == panels.VALUE).all(axis=-1)

    drawn = green([0, 0, 0, 0, 1])  # as many as fill it
    columns = np.flatnonzero(drawn.any(axis=0))
    start, step = columns[0], (right - columns[0]) / 4
    assert abs(columns[-1] - right) <= 5 and left < start < left + 100
    at = lambda drawn, age: np.flatnonzero(drawn[:, round(right - age * step)]).mean() + top - 3
    assert at(drawn, 2) == pytest.approx(bottom, abs=2) and at(drawn, 0) == pytest.approx(top, abs=5)
    later = green([0, 0, 0, 1, 0])
    assert at(later, 1) == pytest.approx(top, abs=3) and at(later, 0) == pytest.approx(bottom, abs=5)
    young = np.flatnonzero(green([0, 1]).any(axis=0))
    assert young[0] == pytest.approx(right - step, abs=2), "two moments do not fill a line of five"


@pytest.mark.parametrize("settings", ["", "-batch_size=4-bufflen=2000-eval_episodes=3-learning_starts=200-num_envs=4-update_period=16"])
def test_words_of_half_a_frame_do_not_run_into_each_other(settings):
    title = "SpaceInvaders · DRQN_after_dense_ReLU · flicker 0.5"
    draw = lambda run: compose(title=title, subtitle=f"{run}-DRQN_after_dense_ReLU-drqn_paper{settings}-s1 · best", layout=panels.HALF)
    image = draw("SpaceInvaders")
    assert np.array_equal(image, draw("Frostbite")) == bool(settings)  # What is too long loses its beginning.
    assert (image[:, -panels.HALF.margin + 2:] == panels.BACKGROUND).all()
    rows = (image[:panels.HALF.panel_top] != panels.BACKGROUND).any(axis=(1, 2))
    lines = np.flatnonzero(np.diff(rows.astype(int)) == 1)
    assert len(lines) == 4  # title, run, counts, captions


def test_numbers_that_would_be_too_small_to_read_are_left_out_but_for_the_chosen_action():
    numbers = lambda names, layout: sum(
        (compose(np.linspace(-1, 1, len(names)), names=names, layout=layout, scales=film.Scales((-1, 1), (-1, 1)))
         [layout.chart[1]:layout.chart[1] + panels.BAR_HEADROOM - 4, box[0]:box[2]] != panels.BACKGROUND).any()
        for box in panels.bar_boxes(names, layout))
    assert numbers(["FIRE"] * 18, panels.FULL) == 18 and numbers(["FIRE"] * 9, panels.HALF) == 9
    assert numbers(["FIRE"] * 18, panels.HALF) in (1, 2, 3)  # It is wider than its bar.


def test_fonts_shrink_until_the_words_fit():
    draw = ImageDraw.Draw(Image.new("RGB", (9, 9)))
    size = panels._fit(draw, ["NOOP", "FIRE"], 30, 15)
    widest = lambda size: max(draw.textlength(word, panels.font(size, bold=True)) for word in ("NOOP", "FIRE"))
    assert widest(size) <= 30 < widest(size + 1)
    assert panels._fit(draw, ["NOOP", "FIRE"], 300, 15) == 15
