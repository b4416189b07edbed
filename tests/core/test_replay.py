"""Windows drawn from the replay, against a naive list of episodes."""

import collections
import itertools

import numpy as np
import pytest
from helpers.tapes import (
    HISTORY_UNROLL,
    NUM_ROWS,
    SAMPLES,
    N,
    Tape,
    append_frames,
    assert_windows_equal,
    make_replay,
    naive_window,
    naive_windows,
    probabilities,
)

from replay import Replay, Window

NUM_DRAWS = 20_000


@pytest.mark.parametrize("num_rows", [25, 40, 41, 157])
@pytest.mark.parametrize("history, unroll", HISTORY_UNROLL)
def test_every_window_equals_one_cut_from_a_list_of_episodes(history, unroll, num_rows):
    replay = make_replay(history, unroll)
    tape = Tape(replay)
    tape.write(num_rows)
    transitions = sum(tape.transitions(history), [])
    starts, envs = np.array([(episode[k].row, env) for env, episode, k in transitions]).T
    assert_windows_equal(replay.windows(starts, envs), naive_windows(transitions, history, unroll))


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("num_rows", [25, 157])
@pytest.mark.parametrize("history, unroll", HISTORY_UNROLL)
def test_draws_are_windows_of_the_list_and_uniform(history, unroll, num_rows, sample):
    replay = make_replay(history, unroll, sample)
    tape = Tape(replay, seed=num_rows)
    tape.write(num_rows)
    window = replay.sample(NUM_DRAWS)
    transitions = sum(tape.transitions(history), [])
    index = {episode[k].number: i for i, (_, episode, k) in enumerate(transitions)}
    numbers = window.frames[:, history - 1, 0].astype(int)
    rows = np.array([index[number] for number in numbers])  # a KeyError: drew what is no transition, or lacks its history
    assert_windows_equal(window, Window(*(values[rows] for values in naive_windows(transitions, history, unroll))))

    expected = probabilities(tape, history, unroll, sample)
    counts = np.bincount(numbers, minlength=max(index) + 1)
    assert set(numbers) == set(expected)
    chi_square = sum((counts[number] - NUM_DRAWS * p) ** 2 / (NUM_DRAWS * p) for number, p in expected.items())
    freedom = len(expected) - 1
    assert abs(chi_square - freedom) < 5 * np.sqrt(2 * freedom)


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("history, unroll", HISTORY_UNROLL)
def test_no_window_crosses_an_episode(history, unroll, sample):
    replay = make_replay(history, unroll, sample)
    Tape(replay).write(157)
    episodes = replay.sample(500).frames[:, :, 1]
    assert all(len(set(row) - {0}) == 1 for row in episodes)


def test_a_short_episode_is_padded_at_its_end_and_has_zeros_before_its_first_row():
    replay = make_replay(history=3, unroll=3, num_envs=1)
    append_frames(replay, frames=[1, 2, 3, 4, 5], firsts=[1, 0, 0, 1, 0], discounts=[None, 0.9, 0.0, None, 0.9])
    window = replay.windows(np.array([1]), np.array([0]))
    np.testing.assert_array_equal(window.frames[0, :, 0], [0, 1, 2, 3, 0, 0])
    np.testing.assert_array_equal(window.action, [[30, 0, 0]])
    np.testing.assert_array_equal(window.reward, [[1.5, 0, 0]])
    np.testing.assert_array_equal(window.discount, [[0, 0, 0]])
    np.testing.assert_array_equal(window.mask, [[1, 0, 0]])
    np.testing.assert_array_equal(window.first, [True])


@pytest.mark.parametrize("num_rows, start, frames, mask", [
    (4, 2, [1, 2, 3, 4, 0, 0, 0, 0], [1, 0, 0, 0, 0]),  # what follows was never written
    (10, 0, [0, 0, 1, 2, 3, 4, 5, 6], [1, 1, 1, 1, 1]),  # the rows before lie where the newest are
    (10, 8, [7, 8, 9, 10, 0, 0, 0, 0], [1, 0, 0, 0, 0]),  # the rows after lie where the oldest are
    (13, 11, [10, 11, 12, 13, 0, 0, 0, 0], [1, 0, 0, 0, 0])])
def test_an_episode_that_fills_the_ring_does_not_meet_itself(num_rows, start, frames, mask):
    replay = make_replay(history=3, unroll=5, num_rows=10, num_envs=1)
    append_frames(replay, frames=range(1, num_rows + 1), firsts=[1] + [0] * (num_rows - 1))
    window = replay.windows(np.array([start]), np.array([0]))
    np.testing.assert_array_equal(window.frames[0, :, 0], frames)
    np.testing.assert_array_equal(window.mask[0], mask)


def test_a_truncated_episode_keeps_its_final_observation_and_discount():
    replay = make_replay(num_envs=1)
    append_frames(replay, frames=[1, 2, 3, 4], firsts=[1, 0, 0, 1], discounts=[None, 0.9, 0.9, None])
    window = replay.windows(np.array([1]), np.array([0]))
    np.testing.assert_array_equal(window.frames[0, :, 0], [2, 3])
    assert (window.discount, window.mask) == (np.float32(0.9), 1)


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_reset_row_is_no_transition(sample):
    replay = make_replay(sample=sample, num_envs=1)
    append_frames(replay, frames=[1, 2, 3, 4, 5, 6], firsts=[1, 0, 1, 1, 0, 1])
    window = replay.sample(200)
    assert {tuple(pair) for pair in window.frames[:, :, 0]} == {(1, 2), (4, 5)}
    assert set(window.action[:, 0]) == {20, 50}


@pytest.mark.parametrize("sample", ["timestep", "episode"])
def test_an_episode_whose_head_was_overwritten_starts_at_its_history_th_stored_row(sample):
    replay = make_replay(history=3, sample=sample, num_rows=5, num_envs=1)
    append_frames(replay, frames=[1, 2, 3, 4, 5, 6, 7, 8], firsts=[1, 0, 0, 0, 0, 0, 0, 0])  # 4 to 8 are still there
    assert {tuple(frames) for frames in replay.sample(200).frames[:, :, 0]} == {(4, 5, 6, 7), (5, 6, 7, 8)}


def test_unfinished_episodes_are_drawn_as_often_as_finished_ones():
    replay = make_replay(sample="episode", num_envs=1)
    append_frames(replay, frames=range(1, 13), firsts=[1] + [0] * 9 + [1, 0])  # 9 transitions, and one so far
    assert 0.45 < (replay.sample(2000).frames[:, 0, 0] == 11).mean() < 0.55


# Lanes


@pytest.mark.parametrize("history, unroll", HISTORY_UNROLL)
def test_lanes_walk_episodes_as_they_would_a_list(history, unroll):
    replay = make_replay(history, unroll, "sequential")
    tape, rng = Tape(replay), np.random.default_rng(1)
    after, ends = [None] * 8, collections.Counter()  # (episode, position) at which each lane's next window starts; why lanes ended
    tape.write(3)
    for _ in range(400):
        window, expected = replay.sample(8), []
        transitions = tape.transitions(history)
        usable = {episode[k].number for some in transitions for _, episode, k in some}
        starts = {episode[k].number: (episode, k) for (_, episode, k), *_ in transitions}
        for lane, number in enumerate(window.frames[:, history - 1, 0].astype(int)):
            goes_on = after[lane] is not None and after[lane][0][after[lane][1]].number in usable
            ends["overwritten"] += after[lane] is not None and not goes_on
            episode, k = after[lane] if goes_on else starts[number]  # A KeyError: began in the middle of an episode.
            expected.append(naive_window(episode, k, history, unroll)._replace(first=not goes_on))
            left, running = len(episode) - 1 - (k + unroll), episode in [episodes[-1] for episodes in tape.episodes]
            after[lane] = (episode, k + unroll) if left > 0 else None
            ends["full" if left == 0 else "padded" if left < 0 else "none", running] += 1
        assert_windows_equal(window, Window(*map(np.array, zip(*expected))))
        tape.write(rng.choice([0, 0, 1, 2, 30]))
    reasons = {"overwritten", *itertools.product(["full", "none"] + ["padded"] * (unroll > 1), [False, True])}
    assert ends.keys() == reasons and min(ends.values()) >= 10


def draw_of_one_lane(replay):
    window = replay.sample(1)
    return window.frames[0, :, 0].tolist(), window.mask[0].tolist(), bool(window.first[0])


def test_a_lane_ends_after_a_window_that_no_transition_follows():
    replay = make_replay(unroll=3, sample="sequential", num_envs=1)
    append_frames(replay, frames=range(1, 9), firsts=[1, 0, 0, 0, 0, 0, 0, 1])  # 6 transitions, and none yet
    for _ in range(2):
        assert draw_of_one_lane(replay) == ([1, 2, 3, 4], [1, 1, 1], True)
        assert draw_of_one_lane(replay) == ([4, 5, 6, 7], [1, 1, 1], False)


def test_a_lane_ends_after_a_padded_window():
    replay = make_replay(unroll=3, sample="sequential", num_envs=1)
    append_frames(replay, frames=range(1, 7), firsts=[1, 0, 0, 0, 0, 1])
    for _ in range(2):
        assert draw_of_one_lane(replay) == ([1, 2, 3, 4], [1, 1, 1], True)
        assert draw_of_one_lane(replay) == ([4, 5, 0, 0], [1, 0, 0], False)


@pytest.mark.parametrize("num_rows, frames, goes_on", [(3, [1, 2, 3, 0], False), (4, [1, 2, 3, 4], False), (5, [1, 2, 3, 4], True)])
def test_a_lane_does_not_wait_for_an_episode_that_is_running(num_rows, frames, goes_on):
    replay = make_replay(unroll=3, sample="sequential", num_envs=1)
    append_frames(replay, frames=range(1, num_rows + 1), firsts=[1] + [0] * (num_rows - 1))
    assert draw_of_one_lane(replay) == (frames, [1, 1, frames[-1] > 0], True)
    append_frames(replay, frames=range(num_rows + 1, 12), firsts=[0] * (11 - num_rows))
    assert draw_of_one_lane(replay) == ([4, 5, 6, 7] if goes_on else [1, 2, 3, 4], [1, 1, 1], not goes_on)


@pytest.mark.parametrize("num_rows, firsts, frames, goes_on", [
    (0, [], [1, 2, 3, 4, 5], True),  # The lane is at frame 3, which is seen with 1 and 2.
    (1, [0], [2, 3, 4, 5, 6], False),  # Frame 1 is gone.
    (12, [0] * 12, [13, 14, 15, 16, 17], False),  # Frame 13 lies in the place of 3, of the same episode,
    (12, [1] + [0] * 11, [13, 14, 15, 16, 17], False),  # of another,
    (12, [1, 1] + [0] * 10, [13, 14, 15, 16, 17], False),
    (12, [0, 0, 1] + [0] * 9, [0, 0, 13, 14, 15], False)])  # or as the first of another.
def test_a_lane_ends_where_its_next_row_or_that_row_s_history_was_overwritten(num_rows, firsts, frames, goes_on):
    replay = make_replay(history=3, unroll=2, sample="sequential", num_rows=10, num_envs=1)
    append_frames(replay, frames=range(1, 11), firsts=[1] + [0] * 9)
    assert draw_of_one_lane(replay) == ([0, 0, 1, 2, 3], [1, 1], True)
    append_frames(replay, frames=range(11, 11 + num_rows), firsts=firsts)
    assert draw_of_one_lane(replay) == (frames, [1, 1], not goes_on)


@pytest.mark.parametrize("batch_size", [3, 5])
def test_another_number_of_lanes_begins_anew(batch_size):
    replay = make_replay(sample="sequential")
    Tape(replay).write(40)
    assert [replay.sample(size).first.all() for size in (4, 4, batch_size)] == [True, False, True]


class Reading:
    """An array that counts the elements read from it."""

    num_read = 0

    def __init__(self, array):
        self.array = array

    def __getitem__(self, key):
        found = self.array[key]
        Reading.num_read += found.size
        return found


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_draw_reads_no_more_of_a_long_ring_than_of_a_short_one(sample, monkeypatch):
    num_read = []
    for num_rows in (60, 6000):
        replay = make_replay(history=3, unroll=5, sample=sample, num_rows=num_rows)
        for row in range(2 * num_rows):
            replay.append(np.zeros((N, 2)), *np.zeros((3, N)), np.full(N, row % 20 == 0))
        replay.columns = {name: Reading(column) for name, column in replay.columns.items()}
        replay._starts = Reading(replay._starts)
        monkeypatch.setattr(Reading, "num_read", 0)
        for _ in range(50):
            replay.sample(32)
        num_read.append(Reading.num_read)
    assert num_read[0] > 50 * 32 * (5 + 3) and num_read[1] < 1.2 * num_read[0]


def test_windows_have_the_types_and_shapes_of_their_docstring():
    replay = make_replay(history=4, unroll=2, num_envs=1, frame_shape=(84, 84), frame_dtype=np.uint8)
    for number in range(9):
        replay.append(np.full((1, 84, 84), number + 1), np.ones(1), np.ones(1), np.ones(1), np.array([number == 0]))
    window = replay.windows(np.array([0, 6]), np.array([0, 0]))
    assert [(values.dtype.name, values.shape) for values in window] == [
        ("uint8", (2, 6, 84, 84)), ("int32", (2, 2)), ("float32", (2, 2)), ("float32", (2, 2)), ("float32", (2, 2)), ("bool", (2,))]
    np.testing.assert_array_equal(window.frames.min(axis=(2, 3)), [[0, 0, 0, 1, 2, 3], [4, 5, 6, 7, 8, 9]])
    np.testing.assert_array_equal(window.frames.max(axis=(2, 3)), [[0, 0, 0, 1, 2, 3], [4, 5, 6, 7, 8, 9]])


@pytest.mark.parametrize("num_rows", [1, 25, 40, 157])
@pytest.mark.parametrize("history, unroll, sample", [(4, 1, "timestep"), (3, 5, "timestep"), (1, 10, "episode"), (3, 5, "episode"),
                                                     (4, 1, "sequential"), (3, 5, "sequential")])
def test_a_replay_restored_from_segments_goes_on_as_the_original(history, unroll, sample, num_rows):
    original, restored = make_replay(history, unroll, sample), make_replay(history, unroll, sample, seed=1)
    tape, segments = Tape(original), []
    for start in range(0, num_rows, 7):
        tape.write(min(7, num_rows - start))
        at = np.arange(start, original.end) % NUM_ROWS
        segments.append((start, {name: column[at] for name, column in original.columns.items()}))
    if original.end > 1:
        original.sample(8)
    restored.restore((segment for segment in segments if segment[0] + 7 > original.oldest), original.end)
    restored.rng.bit_generator.state, restored.lanes = original.rng.bit_generator.state, original.lanes.copy()

    tape.replays = original, restored
    assert len(restored) == len(original)
    for _ in range(60):
        if original.end > 1:
            assert_windows_equal(restored.sample(8), original.sample(8))
        tape.write(1)


def test_draws_depend_on_the_seed_alone():
    replays = [make_replay(seed=seed) for seed in (0, 0, 1)]
    Tape(*replays).write(60)
    same, again, other = (replay.sample(32) for replay in replays)
    assert_windows_equal(again, same)
    assert (other.frames != same.frames).any()


def test_its_length_counts_stored_timesteps():
    replay = make_replay()
    tape = Tape(replay)
    lengths = []
    for _ in range(3):
        tape.write(25)
        lengths.append(len(replay))
    assert lengths == [25 * N, 40 * N, 40 * N]


def test_a_timestep_of_atari_takes_at_most_7100_bytes():
    capacity = 8000
    replay = Replay(capacity, 8, (84, 84), np.uint8, 1, 10, "episode", 0)
    arrays = [*replay.columns.values(), *(value for value in vars(replay).values() if isinstance(value, np.ndarray))]
    taken = sum(array.nbytes for array in arrays)
    assert taken <= 7100 * capacity
    announced = Replay.nbytes(capacity, 8, (84, 84), np.uint8)
    assert announced <= taken < 1.0001 * announced


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("history", [1, 4])
def test_the_smallest_replay_holds_one_transition_and_a_smaller_one_is_refused(history, sample):
    replay = make_replay(history, unroll=10, sample=sample, num_rows=history + 1, num_envs=1)
    append_frames(replay, frames=range(1, 21), firsts=[1] + [0] * 19)
    assert set(replay.sample(20).frames[:, history - 1, 0]) == {19}
    with pytest.raises(ValueError, match=f"--bufflen={N * (history + 1) - 1} .* {history + 1}"):
        Replay(N * (history + 1) - 1, N, (2,), np.float32, history, 10, sample, 0)


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("num_rows", [0, 1, 2])
def test_sampling_from_a_replay_without_transitions_is_an_error(num_rows, sample):
    replay = make_replay(sample=sample, num_envs=1)
    append_frames(replay, frames=[1, 2][:num_rows], firsts=[1, 1])
    with pytest.raises(RuntimeError, match="transition"):
        replay.sample(4)
