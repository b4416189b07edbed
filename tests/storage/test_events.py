"""TensorBoard reads back tags with their units, histograms and films, once each however often a run goes on."""

import io
import itertools
import time

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from helpers.run_parts import make_small_replay, open_run, save_run
from storage import events

MAX_Q, SEEN = "evaluation/max_q [discounted reward]", "evaluation/seen"


def read_board(directory):
    """Return what TensorBoard reads in a run's directory."""
    board = EventAccumulator(str(directory), size_guidance=dict(images=0, histograms=0))
    board.Reload()
    return board


def read_film(image):
    """Return uint8[T, height, width] of a film's frames."""
    film = Image.open(io.BytesIO(image.encoded_image_string))
    return np.stack([film.seek(t) or np.asarray(film.convert("L")) for t in range(film.n_frames)])


def test_tags_have_the_unit_of_what_they_count(tmp_path):
    run = open_run(tmp_path)
    run.scalars(5, train__length=3, learn__loss=0.5, seconds__act=0.25)
    run.close()
    assert read_board(tmp_path).Tags()["scalars"] == [
        "train/length [agent steps]", "learn/loss", "seconds/act [per 1,000 agent steps]"]


def test_a_histogram_of_the_largest_q_values(tmp_path):
    run = open_run(tmp_path)
    run.glimpse(40, np.array([[[0, 3], [1, 0]], [[-1, -2], [3, 0]]], np.float32))  # the largest: 3, 1, -1, 3
    run.glimpse(50, np.full((1, 2), np.nan))
    run.close()
    board = read_board(tmp_path)
    (event,) = board.Histograms(MAX_Q)
    histogram = event.histogram_value
    assert (event.step, histogram.num, histogram.min, histogram.max, histogram.sum) == (40, 4, -1, 3, 6)
    assert (sum(histogram.bucket), histogram.bucket[-1]) == (4, 2)
    assert SEEN not in board.Tags()["images"]


def test_a_film_shows_every_frame_as_the_agent_saw_it():
    frames = np.random.default_rng(0).integers(256, size=(5, 84, 84)).astype(np.uint8)
    frames[2] = 0  # obscured
    film = events.film(frames, milliseconds=70)
    np.testing.assert_array_equal(read_film(film), frames)
    assert (film.width, film.height) == (84, 84)
    assert Image.open(io.BytesIO(film.encoded_image_string)).info["duration"] == 70


def test_a_film_in_rgb_keeps_its_colours():
    frames = np.zeros((2, 84, 84, 3), np.uint8)
    frames[0, :40], frames[0, 40:], frames[1] = (200, 30, 7), (0, 130, 0), (10, 20, 250)
    film = events.film(frames)
    read = Image.open(io.BytesIO(film.encoded_image_string))
    np.testing.assert_array_equal([read.seek(t) or np.asarray(read.convert("RGB")) for t in range(2)], frames)
    assert (film.width, film.height, film.colorspace) == (84, 84, 3)  # 3: RGB, 1: gray, as TensorBoard has it
    assert events.film(frames[..., 0]).colorspace == 1


def test_a_film_too_large_ends_early():
    frames = np.random.default_rng(0).integers(256, size=(200, 84, 84)).astype(np.uint8)  # nothing compresses that
    film = events.film(frames)
    assert 100_000 < len(film.encoded_image_string) <= events.FILM_BYTES
    np.testing.assert_array_equal(read_film(film), frames[:25])


def test_what_a_resumed_run_does_again_is_there_once(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "time", itertools.count(1e9).__next__)  # A file's name holds the second it was made in.
    frames, ring, run = np.zeros((2, 84, 84), np.uint8), make_small_replay(), open_run(tmp_path)
    run.glimpse(10, np.ones((1, 2)), frames)
    save_run(run, ring, 10)  # of agent step 20
    run.glimpse(24, np.ones((1, 2)), frames)
    run.close()
    run = open_run(tmp_path)
    run.glimpse(24, np.zeros((1, 2)), frames + 9)
    run.close()
    assert len(list(tmp_path.glob("events*"))) == 2
    board = read_board(tmp_path)
    assert [(event.step, event.histogram_value.max) for event in board.Histograms(MAX_Q)] == [(10, 1), (24, 0)]
    assert [(event.step, read_film(event).max()) for event in board.Images(SEEN)] == [(10, 0), (24, 9)]


@pytest.mark.parametrize("clock", [itertools.count(2e9), itertools.count(2e9, -1), itertools.repeat(2e9)])
def test_what_a_run_killed_before_its_first_checkpoint_did_is_there_once(tmp_path, monkeypatch, clock):
    monkeypatch.setattr(time, "time", lambda: next(clock))  # A clock may be put back.
    for attempt in range(3):
        run = open_run(tmp_path)
        for step in (5, 10 - attempt):
            run.scalars(step, train__episode_return=attempt)
        run.close()
    curve = read_board(tmp_path).Scalars("train/episode_return [raw reward]")
    assert [(event.step, event.value) for event in curve] == [(5, 2), (8, 2)]


def test_a_film_that_a_full_disk_refuses_waits(disk):
    run = open_run(disk.place / "run")
    disk.fill()
    for step in range(10, 30):
        run.glimpse(step, np.ones((1, 2)), np.zeros((2, 84, 84), np.uint8))
    with pytest.raises(OSError, match="No space left|File too large"):
        save_run(run, make_small_replay(), 10)
    disk.free()
    run.close()
    assert [event.step for event in read_board(run.directory).Images(SEEN)] == list(range(10, 30))
