"""Panels of a film's frame, their pixels read back: screens, vectors, Q-values, heat maps, saliency, values, words."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from films import film, panels
from helpers.film_frames import FRAMES, NAMES, SCREEN, compose_example, crop_box, crop_panels

VECTOR = np.array([[0.5, -0.25, 0, 2]], np.float32)
FULL = np.array([1, 1, 1, 2], np.float32)
GRAY = np.full((1, 84, 84), 100, np.uint8)


def compose_gray(q_values=(0, 1), names=("LEFT", "RIGHT"), scales=None, **others):
    """Compose a frame of a gray image, whose scales reach from 0 to 1 where `scales` gives no others."""
    scales = scales or film.Scales(q=(0, 1), value=(0, 1), state=1.0, saliency=1.0)
    return compose_example(seen=GRAY, q_values=q_values, action=1, names=names, scales=scales, **others)


def bar_heights(image, names=NAMES):
    """Return the height in pixels of each bar, and whether it is in the colour of the chosen one."""
    columns = [crop_box(image, box)[:, 10] for box in panels.bar_boxes(names)]
    chosen = [(column == panels.CHOSEN).all(axis=-1).sum() for column in columns]
    others = [(column == panels.BAR).all(axis=-1).sum() for column in columns]
    return [sum(pair) for pair in zip(others, chosen)], [count > 0 for count in chosen]


def bar_reach(panel, row, rows=4):
    """Return by how many pixels the bar of a vector's component goes to the right and to the left of the middle."""
    y, middle = int((row + 0.5) * len(panel) / rows), panel.shape[1] // 2
    bar = (panel[y] == panels.BAR).all(axis=-1)
    return bar[middle:].sum(), bar[:middle].sum()


# Screens and frames


def test_every_pixel_of_the_true_screen_is_there():
    screen = np.random.default_rng(0).integers(256, size=(210, 320, 3), dtype=np.uint8)
    np.testing.assert_array_equal(crop_panels(compose_example(screen))[0], screen.repeat(2, axis=0).repeat(2, axis=1))


def test_every_pixel_that_the_agent_sees_is_there_and_the_earlier_frames_beside():
    seen = np.random.default_rng(0).integers(256, size=(4, 84, 84), dtype=np.uint8)
    _, newest, *earlier = crop_panels(compose_example(seen=seen))
    np.testing.assert_array_equal(newest, np.repeat(seen[3].repeat(5, axis=0).repeat(5, axis=1)[..., None], 3, axis=-1))
    assert len(earlier) == 3
    for panel, frame in zip(earlier, seen[2::-1]):
        np.testing.assert_array_equal(panel[..., 0], frame)


def test_a_frame_in_rgb_is_drawn_in_its_colours():
    seen = np.random.default_rng(0).integers(256, size=(2, 84, 84, 3), dtype=np.uint8)
    _, newest, earlier = crop_panels(compose_example(seen=seen), history=2)
    np.testing.assert_array_equal(newest, seen[1].repeat(5, axis=0).repeat(5, axis=1))
    np.testing.assert_array_equal(earlier, seen[0])


@pytest.mark.parametrize("layout", [panels.FULL, panels.HALF])
@pytest.mark.parametrize("state", [None, np.ones(512)])
@pytest.mark.parametrize("history", [1, 4, 10])
@pytest.mark.parametrize("shape", [(210, 320), (600, 400), (64, 64), (500, 2000)])
def test_panels_keep_their_proportions_and_never_overlap(shape, history, state, layout):
    at, seen, state_box = panels.panel_boxes((*shape, 3), history, state is not None, layout)
    assert len(seen) == (history if layout is panels.FULL else 1) and (state_box is None) == (state is None)
    screen, frames = np.full((*shape, 3), 200, np.uint8), np.full((history, 84, 84), 90, np.uint8)
    image = compose_example(screen, frames, state=state, layout=layout)
    assert image.shape == (panels.HEIGHT, layout.width, 3)
    drawn = np.zeros(image.shape[:2], int)
    for box in (at, *seen, *([state_box] if state_box else []), layout.chart, layout.value):
        left, top, right, bottom = box
        crop = crop_box(image, box, layout)
        assert box in (at, *seen) and crop.min() >= 90 or (crop != panels.BACKGROUND).any()
        drawn[top:bottom, left:right] += 1
    assert drawn.max() == 1
    left, top, right, bottom = at
    assert (right - left) / (bottom - top) == pytest.approx(shape[1] / shape[0], rel=0.01)


@pytest.mark.parametrize("seen", [FRAMES[:1], VECTOR])
def test_an_obscured_frame_is_black_throughout_and_one_that_is_seen_is_not(seen):
    dark, light = compose_example(seen=0 * seen, obscured=True), compose_example(seen=seen)
    assert not crop_panels(dark, history=1)[1].any() and crop_panels(light, history=1)[1].any()
    above = slice(panels.FULL.panel_top - 30, panels.FULL.panel_top)
    assert (dark[above] == panels.CHOSEN).all(axis=-1).any() and not (light[above] == panels.CHOSEN).all(axis=-1).any()


def test_a_vector_is_a_bar_per_component_to_the_side_of_its_sign():
    _, panel = crop_panels(compose_example(seen=VECTOR, scales=film.Scales((0, 1), (0, 1), FULL)), history=1)
    lengths = [bar_reach(panel, row) for row in range(4)]
    full = lengths[3][0]
    assert full > 100 and lengths[3][1] == 0
    assert lengths[0] == pytest.approx((full / 2, 0), abs=2)
    assert lengths[1] == pytest.approx((0, full / 4), abs=2)
    assert max(lengths[2]) <= 1  # Zero is no bar: at most the middle line.


def test_a_vector_too_long_for_labels_still_has_a_bar_per_component():
    rows = np.linspace(-1, 1, 30, dtype=np.float32)
    _, panel = crop_panels(compose_example(seen=rows[None], scales=film.Scales((0, 1), (0, 1), np.ones(30))), history=1)
    for row, value in enumerate(rows):
        right, left = bar_reach(panel, row, 30)
        assert (right > left) == (value > 0) and max(right, left) == pytest.approx(abs(value) * 206, abs=2)


def test_names_stand_at_the_left_of_bars_that_leave_no_room_above_where_all_of_them_are_short():
    rows = np.linspace(0.1, 1, 12, dtype=np.float32)[None]
    draw = lambda names: crop_panels(compose_example(seen=rows, seen_names=names), history=1)[1].astype(int)
    plain, named = draw([]), draw(["ball vx"] * 12)
    changed = np.flatnonzero((plain != named).any(axis=(0, 2)))
    assert changed.min() >= 10 and changed.max() < 90  # not the bars, nor their numbers
    assert np.array_equal(draw(["x"] * 11 + ["the velocity of the ball"]), plain)


def test_earlier_vectors_are_drawn_small_and_an_obscured_one_among_them_black():
    seen = np.concatenate([VECTOR, 0 * VECTOR, VECTOR])
    _, newest, before, long_before = crop_panels(compose_example(seen=seen), history=3)
    assert newest.any() and not before.any() and long_before.any()


# Q-values


@pytest.mark.parametrize("action", range(3))
def test_the_chosen_action_alone_is_marked(action):
    assert bar_heights(compose_example(action=action))[1] == [i == action for i in range(3)]


def test_bars_are_as_high_as_their_values_within_the_range():
    scales = film.Scales(q=(-1, 1), value=(0, 1), seen=FULL)
    heights, _ = bar_heights(compose_example(q_values=[0, 1, 0.5], scales=scales))
    left, top, right, bottom = panels.bar_boxes(NAMES)[0]
    assert heights == pytest.approx([(bottom - top) / 2, bottom - top, (bottom - top) * 0.75], abs=2)


@pytest.mark.parametrize("q_values", [[0, 0, 0], [-1e6, 3, 1e6], [1e-9, 2e-9, 3e-9]])
def test_any_values_have_bars(q_values):
    assert min(bar_heights(compose_example(q_values=q_values))[0]) >= 2


def test_an_action_that_is_not_the_best_is_said_to_be_random():
    strip = lambda image: (image[532:560, 400:810] == panels.CHOSEN).all(axis=-1).any()
    assert strip(compose_example(action=2)) and not strip(compose_example(action=1))
    assert not strip(compose_example(q_values=[1, 1, 0], action=1))  # as good as the best


@pytest.mark.parametrize("num_actions", [2, 3, 18])
def test_bars_and_their_names_fit_side_by_side(num_actions):
    names = (["DOWN RIGHT FIRE", "UP"] * 9)[:num_actions]
    boxes = panels.bar_boxes(names)
    assert all(box[2] < following[0] for box, following in zip(boxes, boxes[1:]))
    image = compose_example(q_values=np.linspace(-99, 99, num_actions), names=names, action=0)
    drawn = (image[panels.FULL.chart[1]:] != panels.BACKGROUND).any(axis=-1)
    gaps = [drawn[:, (box[2] + following[0]) // 2] for box, following in zip(boxes, boxes[1:])]
    assert not np.any(gaps), "two names or numbers run into each other"
    assert not drawn[-4:].any(), "a name runs out of the frame"


# The header


def test_return_and_step_change_their_own_pixels_and_long_ones_do_not_collide():
    base = compose_example(episode_return=0, step=0)
    for changed in compose_example(episode_return=7, step=0), compose_example(episode_return=0, step=7):
        rows, columns = np.where((base != changed).any(axis=-1))
        assert rows.max() < 60 and np.ptp(columns) < 40
    wide = compose_example(episode_return=-123456.78, step=27000, title="")
    muted = (wide[20:60] == panels.MUTED).all(axis=-1).any(axis=0)
    bright = (wide[20:60] == panels.TEXT).all(axis=-1).any(axis=0)
    assert np.flatnonzero(muted).min() < np.flatnonzero(bright).min(), "a number runs into the name before it"


def test_when_the_episode_is_over_nothing_is_seen_or_chosen():
    image = compose_example(SCREEN + 50, action=None)
    screen, newest, *_ = crop_panels(image)
    assert (screen == 50).all() and (newest == panels.BACKGROUND).all()
    assert bar_heights(image) == ([0, 0, 0], [False] * 3)


def test_composing_is_a_pure_function():
    arguments = [array.copy() for array in (SCREEN, FRAMES)]
    one, two = compose_example(*arguments), compose_example(*arguments)
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(arguments[0], SCREEN)
    np.testing.assert_array_equal(arguments[1], FRAMES)
    assert one.shape == (720, 1280, 3) and one.dtype == np.uint8


# Heat maps, saliency, the line of values, words


def test_a_state_is_a_grid_of_cells_in_the_colour_of_their_signs_brightest_at_the_most():
    cells = panels.heat_cells(np.array([2, -2, 1, 0, 0, 0, 0, 0]), 2, width=40, height=80)
    assert cells.shape == (80, 40, 3)  # 4 rows of 2
    corner = lambda row, column: tuple(cells[20 * row + 10, 20 * column + 10])
    assert corner(0, 0) == panels.POSITIVE and corner(0, 1) == panels.NEGATIVE and corner(1, 1) == panels.ZERO
    between = np.array(panels.ZERO) + (np.array(panels.POSITIVE) - panels.ZERO) / 2
    assert np.abs(corner(1, 0) - between).max() <= 1
    assert (panels.heat_cells(np.zeros(8), 0.0, 40, 80) == panels.ZERO).all()


@pytest.mark.parametrize("units", [1, 8, 64, 100, 512, 2048])
@pytest.mark.parametrize("width, height", [(84, 402), (96, 96), (420, 420)])
def test_a_grid_has_room_for_every_unit_and_fits(units, width, height):
    values = np.zeros(units)
    values[-1] = -1
    cells = panels.heat_cells(values, 1, width, height)
    assert cells.shape[0] <= height and cells.shape[1] <= width
    assert (cells == panels.NEGATIVE).all(axis=-1).any(), "the last unit has no cell"


def test_an_agent_without_state_has_no_map_of_it():
    with_state = compose_gray(state=np.ones(8))
    box = panels.panel_boxes(SCREEN.shape, 1, has_state=True)[2]
    assert (with_state[box[1] + 5, box[0] + 5] == panels.POSITIVE).all()
    assert not (compose_gray() == panels.POSITIVE).all(axis=-1).any()


def test_a_vector_too_long_for_bars_is_a_grid():
    seen = np.zeros((1, 2048), np.float32)
    seen[0, :1024] = 3
    moment = film.Moment(SCREEN, 0, 0, seen, np.zeros(2), 0)
    image = film.compose_frame(moment, film.Scales((0, 1), (0, 1), np.full(2048, 3.0)), [0], 9, ["LEFT", "RIGHT"])
    left, top, right, bottom = panels.panel_boxes(SCREEN.shape, 1)[1][0]
    assert tuple(image[top + 50, left + 50]) == panels.POSITIVE and tuple(image[top + 300, left + 50]) == panels.ZERO


def test_what_is_salient_is_orange_by_the_change_of_q_and_the_rest_as_it_was():
    """Scores are halves of squares: a quarter of the most is half of the change, and half as orange."""
    saliency = np.zeros((84, 84), np.float32)
    saliency[:42], saliency[42:, :42] = 8, 2
    image = compose_gray(saliency=saliency, scales=film.Scales((0, 1), (0, 1), saliency=8.0))
    left, top, right, bottom = panels.panel_boxes(SCREEN.shape, 1)[1][0]
    shown = lambda y, x: image[top + 5 * y, left + 5 * x].astype(float)
    full = 100 + panels.SALIENT * (np.array(panels.CHOSEN) - 100)
    assert np.abs(shown(20, 20) - full).max() <= 1 and np.abs(shown(60, 20) - (100 + full) / 2).max() <= 1
    assert (shown(60, 60) == 100).all()


@pytest.mark.parametrize("layout", [panels.FULL, panels.HALF])
def test_the_line_of_values_ends_now_and_moves_to_the_left(layout):
    left, top, right, bottom = layout.value

    def green(values):
        image = compose_gray(values=values, span=5, layout=layout)[top - 3:bottom + 4]
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


@pytest.mark.parametrize("settings", [
    "", "-batch_size=4-bufflen=2000-eval_episodes=3-learning_starts=200-num_envs=4-update_period=16"])
def test_words_of_half_a_frame_do_not_run_into_each_other(settings):
    title = "SpaceInvaders · DRQN_after_dense_ReLU · flicker 0.5"
    subtitle = f"-DRQN_after_dense_ReLU-drqn_paper{settings}-s1 · best"
    of_run = lambda game: compose_gray(title=title, subtitle=game + subtitle, layout=panels.HALF)
    image = of_run("SpaceInvaders")
    same = np.array_equal(image, of_run("Frostbite"))
    assert same == bool(settings)  # A subtitle that is too long loses its beginning.
    assert (image[:, -panels.HALF.margin + 2:] == panels.BACKGROUND).all()
    rows = (image[:panels.HALF.panel_top] != panels.BACKGROUND).any(axis=(1, 2))
    lines = np.flatnonzero(np.diff(rows.astype(int)) == 1)
    assert len(lines) == 4  # title, run, counts, captions


def test_numbers_that_would_be_too_small_to_read_are_left_out_but_for_the_chosen_action():
    numbers = lambda names, layout: sum(
        (compose_gray(np.linspace(-1, 1, len(names)), names=names, layout=layout, scales=film.Scales((-1, 1), (-1, 1)))
         [layout.chart[1]:layout.chart[1] + panels.BAR_HEADROOM - 4, box[0]:box[2]] != panels.BACKGROUND).any()
        for box in panels.bar_boxes(names, layout))
    assert numbers(["FIRE"] * 18, panels.FULL) == 18 and numbers(["FIRE"] * 9, panels.HALF) == 9
    assert numbers(["FIRE"] * 18, panels.HALF) in (1, 2, 3)  # It is wider than its bar.


def test_fonts_shrink_until_the_words_fit():
    draw = ImageDraw.Draw(Image.new("RGB", (9, 9)))
    size = panels._fit_font_size(draw, ["NOOP", "FIRE"], 30, 15)
    widest = lambda size: max(draw.textlength(word, panels.load_font(size, bold=True)) for word in ("NOOP", "FIRE"))
    assert widest(size) <= 30 < widest(size + 1)
    assert panels._fit_font_size(draw, ["NOOP", "FIRE"], 300, 15) == 15
