"""Lanes: sequential windows that walk through an episode, against a plain list of episodes."""

import collections
import itertools

import numpy as np
import pytest

from helpers.tapes import HISTORY_UNROLL, Tape, append_frames, assert_windows_equal, make_replay, naive_window
from replay import Window


@pytest.mark.parametrize("history, unroll", HISTORY_UNROLL)
def test_lanes_walk_through_episodes_as_through_a_list(history, unroll):
    replay = make_replay(history, unroll, "sequential")
    tape, rng = Tape(replay), np.random.default_rng(1)
    after = [None] * 8  # of each lane, the (episode, position) at which its next window starts
    ends = collections.Counter()  # why lanes ended, or "none" where they went on
    tape.write(3)
    for _ in range(400):
        window, expected = replay.sample(8), []
        transitions = tape.transitions(history)
        usable = {episode[k].number for some in transitions for _, episode, k in some}
        starts = {episode[k].number: (episode, k) for (_, episode, k), *_ in transitions}
        for lane, number in enumerate(window.frames[:, history - 1, 0].astype(int)):
            goes_on = after[lane] is not None and after[lane][0][after[lane][1]].number in usable
            ends["overwritten"] += after[lane] is not None and not goes_on
            episode, k = after[lane] if goes_on else starts[number]  # KeyError if it began in the middle of an episode.
            expected.append(naive_window(episode, k, history, unroll)._replace(first=not goes_on))
            left, running = len(episode) - 1 - (k + unroll), episode in [episodes[-1] for episodes in tape.episodes]
            after[lane] = (episode, k + unroll) if left > 0 else None
            ends["full" if left == 0 else "padded" if left < 0 else "none", running] += 1
        assert_windows_equal(window, Window(*map(np.array, zip(*expected))))
        tape.write(rng.choice([0, 0, 1, 2, 30]))
    reasons = {"overwritten", *itertools.product(["full", "none"] + ["padded"] * (unroll > 1), [False, True])}
    assert ends.keys() == reasons and min(ends.values()) >= 10


def sample_one_lane(replay):
    """Draw the next window of a replay with one lane; return its frames, mask and first."""
    window = replay.sample(1)
    return window.frames[0, :, 0].tolist(), window.mask[0].tolist(), bool(window.first[0])


def test_a_lane_ends_after_a_window_that_no_transition_follows():
    replay = make_replay(unroll=3, sample="sequential", num_envs=1)
    append_frames(replay, frames=range(1, 9), firsts=[1, 0, 0, 0, 0, 0, 0, 1])  # 6 transitions; the second has none yet
    for _ in range(2):
        assert sample_one_lane(replay) == ([1, 2, 3, 4], [1, 1, 1], True)
        assert sample_one_lane(replay) == ([4, 5, 6, 7], [1, 1, 1], False)


def test_a_lane_ends_after_a_padded_window():
    replay = make_replay(unroll=3, sample="sequential", num_envs=1)
    append_frames(replay, frames=range(1, 7), firsts=[1, 0, 0, 0, 0, 1])
    for _ in range(2):
        assert sample_one_lane(replay) == ([1, 2, 3, 4], [1, 1, 1], True)
        assert sample_one_lane(replay) == ([4, 5, 0, 0], [1, 0, 0], False)


@pytest.mark.parametrize("num_rows, frames, goes_on", [
    (3, [1, 2, 3, 0], False), (4, [1, 2, 3, 4], False), (5, [1, 2, 3, 4], True)])
def test_a_lane_does_not_wait_for_an_episode_that_is_running(num_rows, frames, goes_on):
    replay = make_replay(unroll=3, sample="sequential", num_envs=1)
    append_frames(replay, frames=range(1, num_rows + 1), firsts=[1] + [0] * (num_rows - 1))
    assert sample_one_lane(replay) == (frames, [1, 1, frames[-1] > 0], True)
    append_frames(replay, frames=range(num_rows + 1, 12), firsts=[0] * (11 - num_rows))
    assert sample_one_lane(replay) == ([4, 5, 6, 7] if goes_on else [1, 2, 3, 4], [1, 1, 1], not goes_on)


@pytest.mark.parametrize("num_rows, firsts, frames, goes_on", [
    (0, [], [1, 2, 3, 4, 5], True),  # The lane is at frame 3. Its history holds frames 1 and 2.
    (1, [0], [2, 3, 4, 5, 6], False),  # Frame 1 was overwritten.
    (12, [0] * 12, [13, 14, 15, 16, 17], False),  # Frame 13 of the same episode lies in the place of frame 3.
    (12, [1] + [0] * 11, [13, 14, 15, 16, 17], False),  # Frame 13 of another episode lies there.
    (12, [1, 1] + [0] * 10, [13, 14, 15, 16, 17], False),
    (12, [0, 0, 1] + [0] * 9, [0, 0, 13, 14, 15], False)])  # Frame 13 is the first of another episode.
def test_a_lane_ends_where_its_next_row_or_that_row_s_history_was_overwritten(num_rows, firsts, frames, goes_on):
    replay = make_replay(history=3, unroll=2, sample="sequential", num_rows=10, num_envs=1)
    append_frames(replay, frames=range(1, 11), firsts=[1] + [0] * 9)
    assert sample_one_lane(replay) == ([0, 0, 1, 2, 3], [1, 1], True)
    append_frames(replay, frames=range(11, 11 + num_rows), firsts=firsts)
    assert sample_one_lane(replay) == (frames, [1, 1], not goes_on)


@pytest.mark.parametrize("batch_size", [3, 5])
def test_another_number_of_lanes_begins_anew(batch_size):
    replay = make_replay(sample="sequential")
    Tape(replay).write(40)
    assert [replay.sample(size).first.all() for size in (4, 4, batch_size)] == [True, False, True]
