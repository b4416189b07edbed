"""Films: which moments are drawn, with which ranges, and the files read back."""

import numpy as np
import pytest
from PIL import Image

from films import film, panels
from helpers.evaluated_runs import decode_film
from helpers.film_frames import FRAMES, NAMES, SCREEN, crop_box, crop_panels


def write_film(path, rate, num_steps):
    """Film `num_steps` steps whose screen brightens by 5 a step; frames that the agent sees are black at odd steps."""
    with film.Film(path, rate, film.Scene(rate, NAMES, "a film")) as reel:
        for t in range(num_steps):
            seen, q_values = FRAMES * np.uint8(t % 2 == 0), np.array([t, 0, 0], np.float32)
            reel.add(film.Moment(SCREEN + np.uint8(5 * t), t, t, seen, q_values, 0))
        reel.add(film.Moment(SCREEN + np.uint8(5 * num_steps), num_steps, num_steps))


def test_an_mp4_is_h264_for_browsers_with_every_frame_and_a_second_of_the_end(tmp_path):
    write_film(tmp_path / "film.mp4", 10, 12)
    about, frames = decode_film(tmp_path / "film.mp4")
    assert about["codec"] == "h264" and about["pix_fmt"].startswith("yuv420p")
    assert about["size"] == (1280, 720) and about["fps"] == 10
    assert len(frames) == 12 + 10
    for t, frame in enumerate(frames):
        screen, newest, *_ = crop_panels(frame)
        assert screen.mean() == pytest.approx(5 * min(t, 12), abs=3)
        assert (newest.mean() < 5) == (t % 2 == 1 and t < 12)
    data = (tmp_path / "film.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "the index follows the data, so a browser cannot begin to play"


def test_a_gif_is_smaller_and_has_at_most_15_frames_a_second(tmp_path):
    write_film(tmp_path / "film.gif", 50, 20)
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
    monkeypatch.setattr(film, "compose_frame", lambda moment, scales, values, span, **_: composed.append(
        (scales.q, scales.value, list(scales.seen), scales.state, list(values), span)))
    scene = film.Scene(0.6, NAMES, "")  # of 3 moments in 5 seconds
    for q_values, seen, state in (([1, 2, 3], [0.5, -1], [0.1]), ([2, 2, 2], [-2, 0], [-0.3]),
                                  ([-5, 0, 0], [0, 0], [0]), ([0, 7, 0], [0, 0], [0])):
        seen, q_values = np.array([seen], np.float32), np.array(q_values, np.float32)
        scene.add(film.Moment(SCREEN, 0, 0, seen, q_values, 0, state=np.array(state)))
        scene.draw_frame()
    assert composed == [((1, 3), (3, 3), [0.5, 1], 0.1, [3], 3), ((1, 3), (2, 3), [2, 1], 0.3, [3, 2], 3),
                        ((-5, 3), (0, 3), [2, 1], 0.3, [3, 2, 0], 3), ((-5, 7), (0, 7), [2, 1], 0.3, [2, 0, 7], 3)]


def test_a_scene_that_is_over_stays_beside_one_that_goes_on(tmp_path):
    """The first begins at a brightness of 0; the second begins at 100, and is over after 2 steps of 7."""
    scenes = [film.Scene(10, NAMES, "", layout=panels.HALF) for _ in range(2)]
    q_values = np.array([0, 0, 1], np.float32)
    moment = lambda brightness, t: film.Moment(SCREEN + np.uint8(brightness), t, t, FRAMES, q_values, 2)
    with film.Film(tmp_path / "film.mp4", 10, *scenes) as reel:
        for t in range(7):
            second = moment(100, t) if t < 2 else film.Moment(SCREEN + np.uint8(150), 2, 2) if t == 2 else None
            reel.add(moment(10 * t, t), second)
        reel.add(film.Moment(SCREEN + np.uint8(70), 7, 7), None)
    frames = decode_film(tmp_path / "film.mp4")[1]
    at = panels.panel_boxes(SCREEN.shape, 4, layout=panels.HALF)[0]
    screens = [[crop_box(frame[:, left:left + 640], at, panels.HALF).mean() for left in (0, 640)] for frame in frames]
    assert screens == [pytest.approx([min(10 * t, 70), 100 if t < 2 else 150], abs=3) for t in range(7 + 10)]


def test_a_film_that_cannot_be_written_says_so(tmp_path):
    with pytest.raises(OSError, match="the film could not be written: .*No such file"):
        write_film(tmp_path / "missing" / "film.mp4", 10, 30)
    with pytest.raises(ZeroDivisionError), film.Film(tmp_path / "film.mp4", 10, film.Scene(10, NAMES, "")) as reel:
        reel.add(film.Moment(SCREEN, 0, 1 / 0, FRAMES, np.zeros(3), 0))


@pytest.mark.parametrize("name", ["12:30.mp4", "http:film.mp4", "-film.gif", "a film, 100%d.mp4"])
def test_a_film_has_any_name_that_a_file_may_have(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_film(name, 10, 3)
    assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name).stat().st_size > 1000


@pytest.mark.parametrize("rate", [0.2, 0.02])
def test_a_film_may_be_slower_than_a_frame_a_second(tmp_path, rate):
    write_film(tmp_path / "film.mp4", rate, 3)
    about, frames = decode_film(tmp_path / "film.mp4")
    assert about["fps"] == rate and len(frames) == 3 + 1  # and one of the end


@pytest.mark.parametrize("name", ["film.avi", "film", "film.MP4", "mp4", "film.mp4.txt"])
def test_other_endings_are_refused(name):
    with pytest.raises(ValueError, match="expected .mp4 or .gif"):
        film.check_name(name)
