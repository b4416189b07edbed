"""Frames of a film: their pixels read back, from arrays and from the files."""

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

import film

NAMES = ["NOOP", "UP", "DOWN RIGHT FIRE"]
SCREEN = np.zeros((210, 320, 3), np.uint8)
FRAMES = np.full((4, 84, 84), [[[40]], [[80]], [[120]], [[160]]], np.uint8)
VECTOR = np.array([[0.5, -0.25, 0, 2]], np.float32)
FULL = np.array([1, 1, 1, 2], np.float32)


def compose(screen=SCREEN, seen=FRAMES, q_values=(0, 1, 0.5), action=1, names=NAMES, episode_return=0, step=0, **rest):
    return film.compose(screen, seen, np.array(q_values, np.float32), action, names, episode_return, step, **rest)


def inside(image, box):
    left, top, right, bottom = box
    assert 0 <= left < right <= film.WIDTH and 0 <= top < bottom <= film.HEIGHT, "what is drawn does not fit in the frame"
    return image[top:bottom, left:right]


def panels(image, screen=SCREEN, history=4):
    """Return the true screen, the newest frame, and the earlier ones, newest first, as they were drawn."""
    return [inside(image, box) for box in film.panel_boxes(screen.shape, history)]


def bar_heights(image, names=NAMES):
    """Return the height in pixels of each bar, and whether it is in the colour of the chosen one."""
    columns = [inside(image, box)[:, 10] for box in film.bar_boxes(names)]
    chosen = [(column == film.CHOSEN).all(axis=-1).sum() for column in columns]
    return [(column == film.BAR).all(axis=-1).sum() + c for column, c in zip(columns, chosen)], [c > 0 for c in chosen]


def reach_of(panel, row, rows=4):
    """Return by how many pixels the bar of a vector's component goes to the right and to the left of the middle."""
    y, middle = int((row + 0.5) * len(panel) / rows), panel.shape[1] // 2
    bar = (panel[y] == film.BAR).all(axis=-1)
    return bar[middle:].sum(), bar[:middle].sum()


# Panels


def test_every_pixel_of_the_true_screen_is_there():
    screen = np.random.default_rng(0).integers(256, size=(210, 320, 3), dtype=np.uint8)
    np.testing.assert_array_equal(panels(compose(screen))[0], screen.repeat(2, axis=0).repeat(2, axis=1))


def test_every_pixel_that_the_agent_sees_is_there_and_the_earlier_frames_beside():
    seen = np.random.default_rng(0).integers(256, size=(4, 84, 84), dtype=np.uint8)
    _, newest, *earlier = panels(compose(seen=seen))
    np.testing.assert_array_equal(newest, np.repeat(seen[3].repeat(5, axis=0).repeat(5, axis=1)[..., None], 3, axis=-1))
    assert len(earlier) == 3
    for panel, frame in zip(earlier, seen[2::-1]):
        np.testing.assert_array_equal(panel[..., 0], frame)


@pytest.mark.parametrize("history", [1, 2, 4, 10, 16])
@pytest.mark.parametrize("shape", [(210, 320), (400, 600), (600, 400), (64, 64), (500, 2000)])
def test_panels_keep_their_proportions_and_never_overlap(shape, history):
    boxes = film.panel_boxes((*shape, 3), history)
    image = compose(np.full((*shape, 3), 200, np.uint8), np.full((history, 84, 84), 90, np.uint8))
    drawn = np.zeros(image.shape[:2], int)
    for left, top, right, bottom in boxes:
        assert inside(image, (left, top, right, bottom)).min() >= 90
        drawn[top:bottom, left:right] += 1
    assert drawn.max() == 1
    left, top, right, bottom = boxes[0]
    assert (right - left) / (bottom - top) == pytest.approx(shape[1] / shape[0], rel=0.01)


@pytest.mark.parametrize("seen", [FRAMES[:1], VECTOR])
def test_an_obscured_frame_is_black_throughout_and_one_that_is_seen_is_not(seen):
    dark, light = compose(seen=0 * seen, obscured=True), compose(seen=seen)
    assert not panels(dark, history=1)[1].any() and panels(light, history=1)[1].any()
    above = slice(film.PANEL_TOP - 30, film.PANEL_TOP)
    assert (dark[above] == film.CHOSEN).all(axis=-1).any() and not (light[above] == film.CHOSEN).all(axis=-1).any()


def test_a_vector_is_a_bar_per_component_to_the_side_of_its_sign():
    _, panel = panels(compose(seen=VECTOR, seen_range=FULL), history=1)
    lengths = [reach_of(panel, row) for row in range(4)]
    full = lengths[3][0]
    assert full > 100 and lengths[3][1] == 0
    assert lengths[0] == pytest.approx((full / 2, 0), abs=2)
    assert lengths[1] == pytest.approx((0, full / 4), abs=2)
    assert max(lengths[2]) <= 1  # Zero is no bar: at most the middle line.


def test_a_vector_too_long_for_labels_still_has_a_bar_per_component():
    rows = np.linspace(-1, 1, 30, dtype=np.float32)
    _, panel = panels(compose(seen=rows[None], seen_range=np.ones(30)), history=1)
    for row, value in enumerate(rows):
        right, left = reach_of(panel, row, 30)
        assert (right > left) == (value > 0) and max(right, left) == pytest.approx(abs(value) * 206, abs=2)


def test_the_features_of_a_torso_are_a_square_of_pixels_row_by_row():
    features = np.zeros((1, 3136), np.float32)  # 56 x 56
    features[0, [1, 56, 3135]] = [0.5, -1, 2]
    image = compose(seen=features, seen_range=np.ones(3136))
    _, panel = panels(image, history=1)
    pixel = lambda row, column: panel[int((row + 0.5) * 7.5), int((column + 0.5) * 7.5)].tolist()
    assert (pixel(0, 1), pixel(1, 0), pixel(55, 55)) == ([127] * 3, [255] * 3, [255] * 3)
    assert (panel > 0).any(axis=-1).sum() < 4 * 8 * 8  # The rest is black.
    assert panels(compose(seen=features[:, :2048], seen_range=np.zeros(2048)), history=1)[1].shape == panel.shape  # no square number


def test_earlier_vectors_are_drawn_small_and_an_obscured_one_among_them_black():
    seen = np.concatenate([VECTOR, 0 * VECTOR, VECTOR])
    _, newest, before, long_before = panels(compose(seen=seen), history=3)
    assert newest.any() and not before.any() and long_before.any()


# The chart


@pytest.mark.parametrize("action", range(3))
def test_the_chosen_action_alone_is_marked(action):
    assert bar_heights(compose(action=action))[1] == [i == action for i in range(3)]


def test_bars_are_as_high_as_their_values_within_the_range():
    heights, _ = bar_heights(compose(q_values=[0, 1, 0.5], q_range=(-1, 1)))
    left, top, right, bottom = film.bar_boxes(NAMES)[0]
    assert heights == pytest.approx([(bottom - top) / 2, bottom - top, (bottom - top) * 0.75], abs=2)


@pytest.mark.parametrize("q_values", [[0, 0, 0], [-1e6, 3, 1e6], [1e-9, 2e-9, 3e-9]])
def test_any_values_have_bars(q_values):
    assert min(bar_heights(compose(q_values=q_values))[0]) >= 2


def test_an_action_that_is_not_the_best_is_said_to_be_random():
    strip = lambda image: (image[530:556, 640:] == film.CHOSEN).all(axis=-1).any()
    assert strip(compose(action=2)) and not strip(compose(action=1))
    assert not strip(compose(q_values=[1, 1, 0], action=1))  # as good as the best


@pytest.mark.parametrize("num_actions", [2, 3, 18])
def test_bars_and_their_names_fit_side_by_side(num_actions):
    names = (["DOWN RIGHT FIRE", "UP"] * 9)[:num_actions]
    boxes = film.bar_boxes(names)
    assert all(box[2] < following[0] for box, following in zip(boxes, boxes[1:]))
    image = compose(q_values=np.linspace(-99, 99, num_actions), names=names, action=0)
    drawn = (image[film.BARS_TOP - 30:] != film.BACKGROUND).any(axis=-1)
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
    muted = (wide[20:60] == film.MUTED).all(axis=-1).any(axis=0)
    bright = (wide[20:60] == film.TEXT).all(axis=-1).any(axis=0)
    order = [colour for colour, _ in sorted([("name", np.flatnonzero(muted).min()), ("number", np.flatnonzero(bright).min())],
                                            key=lambda pair: pair[1])]
    assert order == ["name", "number"]


def test_when_the_episode_is_over_nothing_is_seen_or_chosen():
    image = compose(SCREEN + 50, action=None)
    screen, newest, *_ = panels(image)
    assert (screen == 50).all() and (newest == film.BACKGROUND).all()
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
    with film.Film(path, rate, NAMES, "a film") as reel:
        for t in range(num_steps):
            reel.add(SCREEN + np.uint8(5 * t), FRAMES * np.uint8(t % 2 == 0), np.array([t, 0, 0], np.float32), 0, t, t)
        if end:
            reel.end(SCREEN + np.uint8(5 * num_steps), num_steps, num_steps)


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
        screen, newest, *_ = panels(frame)
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


def test_the_ranges_of_the_charts_are_those_of_the_film_so_far(tmp_path, monkeypatch):
    composed = []
    monkeypatch.setattr(film, "compose", lambda *a, **k: composed.append(k) or np.zeros((720, 1280, 3), np.uint8))
    with film.Film(tmp_path / "film.mp4", 10, NAMES, "") as reel:
        for q_values, seen in ([1, 2, 3], [0.5, -1]), ([2, 2, 2], [-2, 0]), ([-5, 0, 0], [0, 0]):
            reel.add(SCREEN, np.array([seen], np.float32), np.array(q_values, np.float32), 0, 0, 0)
    assert [k["q_range"] for k in composed] == [(1, 3), (1, 3), (-5, 3)]
    assert [list(k["seen_range"]) for k in composed] == [[0.5, 1], [2, 1], [2, 1]]


def test_a_film_that_cannot_be_written_says_so(tmp_path):
    with pytest.raises(OSError, match="the film could not be written: .*No such file"):
        shoot(tmp_path / "missing" / "film.mp4", 10, 30)
    with pytest.raises(ZeroDivisionError), film.Film(tmp_path / "film.mp4", 10, NAMES, "") as reel:
        reel.add(SCREEN, FRAMES, np.zeros(3), 0, 0, 1 / 0)


@pytest.mark.parametrize("name", ["film.avi", "film", "film.MP4", "mp4", "film.mp4.txt"])
def test_other_endings_are_refused(name):
    with pytest.raises(ValueError, match="expected .mp4 or .gif"):
        film.check_name(name)
