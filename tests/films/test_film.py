"""Frames of a film: their pixels read back, from arrays and from the files."""

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from films import film, panels

NAMES = ["NOOP", "UP", "DOWN RIGHT FIRE"]
SCREEN = np.zeros((210, 320, 3), np.uint8)
FRAMES = np.full((4, 84, 84), [[[40]], [[80]], [[120]], [[160]]], np.uint8)
VECTOR = np.array([[0.5, -0.25, 0, 2]], np.float32)
FULL = np.array([1, 1, 1, 2], np.float32)


def compose(screen=SCREEN, seen=FRAMES, q_values=(0, 1, 0.5), action=1, names=NAMES, episode_return=0, step=0, values=(1,), span=9,
            scales=None, layout=panels.FULL, title="", subtitle="", **rest):
    moment = film.Moment(screen, episode_return, step, seen, np.array(q_values, np.float32), action, **rest)
    if scales is None:
        scales = film.Scales()
        scales.extend(moment)
    return film.compose(moment, scales, values, span, names, title, subtitle, layout)


def inside(image, box, layout=panels.FULL):
    left, top, right, bottom = box
    assert 0 <= left < right <= layout.width and 0 <= top < bottom <= panels.HEIGHT, "what is drawn does not fit in the frame"
    return image[top:bottom, left:right]


def panels_of(image, screen=SCREEN, history=4):
    """Return the true screen, the newest frame, and the earlier ones, newest first, as they were drawn."""
    at, seen, _ = panels.panel_boxes(screen.shape, history)
    return [inside(image, box) for box in (at, *seen)]


def bar_heights(image, names=NAMES):
    """Return the height in pixels of each bar, and whether it is in the colour of the chosen one."""
    columns = [inside(image, box)[:, 10] for box in panels.bar_boxes(names)]
    chosen = [(column == panels.CHOSEN).all(axis=-1).sum() for column in columns]
    return [(column == panels.BAR).all(axis=-1).sum() + c for column, c in zip(columns, chosen)], [c > 0 for c in chosen]


def reach_of(panel, row, rows=4):
    """Return by how many pixels the bar of a vector's component goes to the right and to the left of the middle."""
    y, middle = int((row + 0.5) * len(panel) / rows), panel.shape[1] // 2
    bar = (panel[y] == panels.BAR).all(axis=-1)
    return bar[middle:].sum(), bar[:middle].sum()


# Panels


def test_every_pixel_of_the_true_screen_is_there():
    screen = np.random.default_rng(0).integers(256, size=(210, 320, 3), dtype=np.uint8)
    np.testing.assert_array_equal(panels_of(compose(screen))[0], screen.repeat(2, axis=0).repeat(2, axis=1))


def test_every_pixel_that_the_agent_sees_is_there_and_the_earlier_frames_beside():
    seen = np.random.default_rng(0).integers(256, size=(4, 84, 84), dtype=np.uint8)
    _, newest, *earlier = panels_of(compose(seen=seen))
    np.testing.assert_array_equal(newest, np.repeat(seen[3].repeat(5, axis=0).repeat(5, axis=1)[..., None], 3, axis=-1))
    assert len(earlier) == 3
    for panel, frame in zip(earlier, seen[2::-1]):
        np.testing.assert_array_equal(panel[..., 0], frame)


@pytest.mark.parametrize("layout", [panels.FULL, panels.HALF])
@pytest.mark.parametrize("state", [None, np.ones(512)])
@pytest.mark.parametrize("history", [1, 4, 10])
@pytest.mark.parametrize("shape", [(210, 320), (600, 400), (64, 64), (500, 2000)])
def test_panels_keep_their_proportions_and_never_overlap(shape, history, state, layout):
    at, seen, state_box = panels.panel_boxes((*shape, 3), history, state is not None, layout)
    assert len(seen) == (history if layout is panels.FULL else 1) and (state_box is None) == (state is None)
    image = compose(np.full((*shape, 3), 200, np.uint8), np.full((history, 84, 84), 90, np.uint8), state=state, layout=layout)
    assert image.shape == (panels.HEIGHT, layout.width, 3)
    drawn = np.zeros(image.shape[:2], int)
    for box in (at, *seen, *([state_box] if state_box else []), layout.chart, layout.value):
        left, top, right, bottom = box
        assert box in (at, *seen) and inside(image, box, layout).min() >= 90 or (inside(image, box, layout) != panels.BACKGROUND).any()
        drawn[top:bottom, left:right] += 1
    assert drawn.max() == 1
    left, top, right, bottom = at
    assert (right - left) / (bottom - top) == pytest.approx(shape[1] / shape[0], rel=0.01)


@pytest.mark.parametrize("seen", [FRAMES[:1], VECTOR])
def test_an_obscured_frame_is_black_throughout_and_one_that_is_seen_is_not(seen):
    dark, light = compose(seen=0 * seen, obscured=True), compose(seen=seen)
    assert not panels_of(dark, history=1)[1].any() and panels_of(light, history=1)[1].any()
    above = slice(panels.FULL.panel_top - 30, panels.FULL.panel_top)
    assert (dark[above] == panels.CHOSEN).all(axis=-1).any() and not (light[above] == panels.CHOSEN).all(axis=-1).any()


def test_a_vector_is_a_bar_per_component_to_the_side_of_its_sign():
    _, panel = panels_of(compose(seen=VECTOR, scales=film.Scales((0, 1), (0, 1), FULL)), history=1)
    lengths = [reach_of(panel, row) for row in range(4)]
    full = lengths[3][0]
    assert full > 100 and lengths[3][1] == 0
    assert lengths[0] == pytest.approx((full / 2, 0), abs=2)
    assert lengths[1] == pytest.approx((0, full / 4), abs=2)
    assert max(lengths[2]) <= 1  # Zero is no bar: at most the middle line.


def test_a_vector_too_long_for_labels_still_has_a_bar_per_component():
    rows = np.linspace(-1, 1, 30, dtype=np.float32)
    _, panel = panels_of(compose(seen=rows[None], scales=film.Scales((0, 1), (0, 1), np.ones(30))), history=1)
    for row, value in enumerate(rows):
        right, left = reach_of(panel, row, 30)
        assert (right > left) == (value > 0) and max(right, left) == pytest.approx(abs(value) * 206, abs=2)


def test_earlier_vectors_are_drawn_small_and_an_obscured_one_among_them_black():
    seen = np.concatenate([VECTOR, 0 * VECTOR, VECTOR])
    _, newest, before, long_before = panels_of(compose(seen=seen), history=3)
    assert newest.any() and not before.any() and long_before.any()


# The chart


@pytest.mark.parametrize("action", range(3))
def test_the_chosen_action_alone_is_marked(action):
    assert bar_heights(compose(action=action))[1] == [i == action for i in range(3)]


def test_bars_are_as_high_as_their_values_within_the_range():
    heights, _ = bar_heights(compose(q_values=[0, 1, 0.5], scales=film.Scales(q=(-1, 1), value=(0, 1), seen=FULL)))
    left, top, right, bottom = panels.bar_boxes(NAMES)[0]
    assert heights == pytest.approx([(bottom - top) / 2, bottom - top, (bottom - top) * 0.75], abs=2)


@pytest.mark.parametrize("q_values", [[0, 0, 0], [-1e6, 3, 1e6], [1e-9, 2e-9, 3e-9]])
def test_any_values_have_bars(q_values):
    assert min(bar_heights(compose(q_values=q_values))[0]) >= 2


def test_an_action_that_is_not_the_best_is_said_to_be_random():
    strip = lambda image: (image[532:560, 400:810] == panels.CHOSEN).all(axis=-1).any()
    assert strip(compose(action=2)) and not strip(compose(action=1))
    assert not strip(compose(q_values=[1, 1, 0], action=1))  # as good as the best


@pytest.mark.parametrize("num_actions", [2, 3, 18])
def test_bars_and_their_names_fit_side_by_side(num_actions):
    names = (["DOWN RIGHT FIRE", "UP"] * 9)[:num_actions]
    boxes = panels.bar_boxes(names)
    assert all(box[2] < following[0] for box, following in zip(boxes, boxes[1:]))
    image = compose(q_values=np.linspace(-99, 99, num_actions), names=names, action=0)
    drawn = (image[panels.FULL.chart[1]:] != panels.BACKGROUND).any(axis=-1)
    gaps = [drawn[:, (box[2] + following[0]) // 2] for box, following in zip(boxes, boxes[1:])]
    assert not np.any(gaps), "two names or numbers run into each other"
    assert not drawn[-4:].any(), "a name runs out of the frame"


# The header


def test_return_and_step_change_their_own_pixels_and_long_ones_do_not_collide():
    base = compose(episode_return=0, step=0)
    for changed in compose(episode_return=7, step=0), compose(episode_return=0, step=7):
        rows, columns = np.where((base != changed).any(axis=-1))
        assert rows.max() < 60 and np.ptp(columns) < 40
    wide = compose(episode_return=-123456.78, step=27000, title="")
    muted = (wide[20:60] == panels.MUTED).all(axis=-1).any(axis=0)
    bright = (wide[20:60] == panels.TEXT).all(axis=-1).any(axis=0)
    order = [colour for colour, _ in sorted([("name", np.flatnonzero(muted).min()), ("number", np.flatnonzero(bright).min())],
                                            key=lambda pair: pair[1])]
    assert order == ["name", "number"]


def test_when_the_episode_is_over_nothing_is_seen_or_chosen():
    image = compose(SCREEN + 50, action=None)
    screen, newest, *_ = panels_of(image)
    assert (screen == 50).all() and (newest == panels.BACKGROUND).all()
    assert bar_heights(image) == ([0, 0, 0], [False] * 3)


def test_compose_is_a_pure_function():
    arguments = [array.copy() for array in (SCREEN, FRAMES)]
    one, two = compose(*arguments), compose(*arguments)
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(arguments[0], SCREEN)
    np.testing.assert_array_equal(arguments[1], FRAMES)
    assert one.shape == (720, 1280, 3) and one.dtype == np.uint8


# Files


def shoot(path, rate, num_steps, end=True):
    """Film `num_steps` steps whose screen brightens by 5 a step; what the agent sees is black at odd steps."""
    with film.Film(path, rate, film.Scene(rate, NAMES, "a film")) as reel:
        for t in range(num_steps):
            reel.add(film.Moment(SCREEN + np.uint8(5 * t), t, t, FRAMES * np.uint8(t % 2 == 0), np.array([t, 0, 0], np.float32), 0))
        if end:
            reel.add(film.Moment(SCREEN + np.uint8(5 * num_steps), num_steps, num_steps))


def frames_of(path):
    reader = imageio_ffmpeg.read_frames(str(path))
    about = next(reader)
    width, height = about["size"]
    return about, [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader]


def test_an_mp4_is_h264_for_browsers_with_every_frame_and_a_second_of_the_end(tmp_path):
    shoot(tmp_path / "film.mp4", 10, 12)
    about, frames = frames_of(tmp_path / "film.mp4")
    assert about["codec"] == "h264" and about["pix_fmt"].startswith("yuv420p") and about["size"] == (1280, 720) and about["fps"] == 10
    assert len(frames) == 12 + 10
    for t, frame in enumerate(frames):
        screen, newest, *_ = panels_of(frame)
        assert screen.mean() == pytest.approx(5 * min(t, 12), abs=3)
        assert (newest.mean() < 5) == (t % 2 == 1 and t < 12)
    data = (tmp_path / "film.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "the index follows the data, so a browser cannot begin to play"


def test_a_gif_is_smaller_and_has_at_most_15_frames_a_second(tmp_path):
    shoot(tmp_path / "film.gif", 50, 20)
    with Image.open(tmp_path / "film.gif") as gif:
        assert gif.size == (800, 450)
        shown = []
        for i in range(gif.n_frames):
            gif.seek(i)
            # Equal frames at the end are one that lasts.
            shown += [np.asarray(gif.convert("RGB"))[200:300, 100:300].mean()] * round(gif.info["duration"] / 80)
    assert shown[:5] == pytest.approx([0, 20, 40, 60, 80], abs=4)  # every fourth, at 12.5 a second
    assert len(shown) == 5 + 12 and shown[5:] == pytest.approx([100] * 12, abs=4)


def test_the_ranges_of_the_charts_are_those_of_the_film_so_far(monkeypatch):
    composed = []
    monkeypatch.setattr(film, "compose", lambda moment, scales, values, span, **_: composed.append(
        (scales.q, scales.value, list(scales.seen), scales.state, list(values), span)))
    scene = film.Scene(0.6, NAMES, "")  # of 3 moments in 5 seconds
    for q_values, seen, state in (([1, 2, 3], [0.5, -1], [0.1]), ([2, 2, 2], [-2, 0], [-0.3]), ([-5, 0, 0], [0, 0], [0]),
                                  ([0, 7, 0], [0, 0], [0])):
        scene.add(film.Moment(SCREEN, 0, 0, np.array([seen], np.float32), np.array(q_values, np.float32), 0, state=np.array(state)))
        scene.draw()
    assert composed == [((1, 3), (3, 3), [0.5, 1], 0.1, [3], 3), ((1, 3), (2, 3), [2, 1], 0.3, [3, 2], 3),
                        ((-5, 3), (0, 3), [2, 1], 0.3, [3, 2, 0], 3), ((-5, 7), (0, 7), [2, 1], 0.3, [2, 0, 7], 3)]


def test_a_scene_that_is_over_stays_beside_one_that_goes_on(tmp_path):
    """One begins at a brightness of 0, the other of 100 and is over after 2 steps; then 5 frames of the longer, and a second of both."""
    scenes = [film.Scene(10, NAMES, "", layout=panels.HALF) for _ in range(2)]
    moment = lambda brightness, t: film.Moment(SCREEN + np.uint8(brightness), t, t, FRAMES, np.array([0, 0, 1], np.float32), 2)
    with film.Film(tmp_path / "film.mp4", 10, *scenes) as reel:
        for t in range(7):
            second = moment(100, t) if t < 2 else film.Moment(SCREEN + np.uint8(150), 2, 2) if t == 2 else None
            reel.add(moment(10 * t, t), second)
        reel.add(film.Moment(SCREEN + np.uint8(70), 7, 7), None)
    frames = frames_of(tmp_path / "film.mp4")[1]
    at = panels.panel_boxes(SCREEN.shape, 4, layout=panels.HALF)[0]
    screens = [[inside(frame[:, left:left + 640], at, panels.HALF).mean() for left in (0, 640)] for frame in frames]
    assert screens == [pytest.approx([min(10 * t, 70), 100 if t < 2 else 150], abs=3) for t in range(7 + 10)]


def test_a_film_that_cannot_be_written_says_so(tmp_path):
    with pytest.raises(OSError, match="the film could not be written: .*No such file"):
        shoot(tmp_path / "missing" / "film.mp4", 10, 30)
    with pytest.raises(ZeroDivisionError), film.Film(tmp_path / "film.mp4", 10, film.Scene(10, NAMES, "")) as reel:
        reel.add(film.Moment(SCREEN, 0, 1 / 0, FRAMES, np.zeros(3), 0))


@pytest.mark.parametrize("name", ["film.avi", "film", "film.MP4", "mp4", "film.mp4.txt"])
def test_other_endings_are_refused(name):
    with pytest.raises(ValueError, match="expected .mp4 or .gif"):
        film.check_name(name)
