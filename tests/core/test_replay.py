"""Windows drawn from the replay, against a plain list of episodes; test_lanes.py has sequential windows."""

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
    draw_probabilities,
    make_replay,
    naive_window,
    naive_windows,
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
    # A KeyError here means that a window starts at no transition, or at one whose history is not stored.
    rows = np.array([index[number] for number in numbers])
    assert_windows_equal(window, Window(*(values[rows] for values in naive_windows(transitions, history, unroll)[:6])))

    expected = draw_probabilities(tape, history, unroll, sample)
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
    (4, 2, [1, 2, 3, 4, 0, 0, 0, 0], [1, 0, 0, 0, 0]),  # The rows after the window were never written.
    (10, 0, [0, 0, 1, 2, 3, 4, 5, 6], [1, 1, 1, 1, 1]),  # The newest rows lie where the history would be.
    (10, 8, [7, 8, 9, 10, 0, 0, 0, 0], [1, 0, 0, 0, 0]),  # The oldest rows lie where the next rows would be.
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
    append_frames(replay, frames=[1, 2, 3, 4, 5, 6, 7, 8], firsts=[1, 0, 0, 0, 0, 0, 0, 0])  # The ring holds 4 to 8.
    assert {tuple(frames) for frames in replay.sample(200).frames[:, :, 0]} == {(4, 5, 6, 7), (5, 6, 7, 8)}


def test_unfinished_episodes_are_drawn_as_often_as_finished_ones():
    replay = make_replay(sample="episode", num_envs=1)
    append_frames(replay, frames=range(1, 13), firsts=[1] + [0] * 9 + [1, 0])  # 9 transitions, and 1 so far
    assert 0.45 < (replay.sample(2000).frames[:, 0, 0] == 11).mean() < 0.55


# Rewards that depend on the length of the episode


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("history, unroll", HISTORY_UNROLL)
def test_with_a_length_reward_only_ended_episodes_are_drawn_and_rewards_include_their_length(history, unroll, sample):
    replay = make_replay(history, unroll, sample, length_reward=0.5)
    tape, num_drawn, num_waited = Tape(replay, seed=history), 0, 0
    for _ in range(300):
        tape.write(1)
        ended = tape.ended_transitions(history)
        assert replay.ready == bool(ended)
        if not ended:
            num_waited += 1
            with pytest.raises(RuntimeError, match="an episode that has ended"):
                replay.sample(2)
            continue
        num_drawn += 1
        of_number = {episode[k].number: (episode, k) for transitions in ended for _, episode, k in transitions}
        window = replay.sample(6)
        for b, number in enumerate(window.frames[:, history - 1, 0]):
            episode, k = of_number[number]
            naive, length = naive_window(episode, k, history, unroll), len(episode) - 1
            np.testing.assert_array_equal(window.frames[b], naive.frames)
            expected = [mask * (reward + 0.5 * length) for reward, mask in zip(naive.reward, naive.mask)]
            np.testing.assert_allclose(window.reward[b], expected, 1e-6)
    assert num_drawn > 150 and num_waited > 2


def test_timesteps_of_ended_episodes_are_drawn_uniformly():
    replay = make_replay(length_reward=1.0)
    tape = Tape(replay, seed=4)
    tape.write(90)
    numbers = [episode[k].number for transitions in tape.ended_transitions(1) for _, episode, k in transitions]
    drawn, counts = np.unique(replay.sample(NUM_DRAWS).frames[:, 0, 0], return_counts=True)
    assert drawn.tolist() == sorted(numbers)
    assert np.abs(counts * len(numbers) / NUM_DRAWS - 1).max() < 5 * np.sqrt(len(numbers) / NUM_DRAWS)


# Reading, restoring, sizes


class ReadCounter:
    """An array that counts the elements read from it."""

    num_read = 0

    def __init__(self, array):
        self.array = array

    def __getitem__(self, key):
        found = self.array[key]
        ReadCounter.num_read += found.size
        return found


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_draw_reads_no_more_of_a_long_ring_than_of_a_short_one(sample, monkeypatch):
    num_read = []
    for num_rows in (60, 6000):
        replay = make_replay(history=3, unroll=5, sample=sample, num_rows=num_rows)
        for row in range(2 * num_rows):
            replay.append(np.zeros((N, 2)), *np.zeros((3, N)), np.full(N, row % 20 == 0))
        replay.columns = {name: ReadCounter(column) for name, column in replay.columns.items()}
        replay._starts = ReadCounter(replay._starts)
        monkeypatch.setattr(ReadCounter, "num_read", 0)
        for _ in range(50):
            replay.sample(32)
        num_read.append(ReadCounter.num_read)
    assert num_read[0] > 50 * 32 * (5 + 3) and num_read[1] < 1.2 * num_read[0]


def test_windows_have_the_types_and_shapes_of_their_docstring():
    replay = make_replay(history=4, unroll=2, num_envs=1, frame_shape=(84, 84), frame_dtype=np.uint8)
    for number in range(9):
        replay.append(np.full((1, 84, 84), number + 1), np.ones(1), np.ones(1), np.ones(1), np.array([number == 0]))
    window = replay.windows(np.array([0, 6]), np.array([0, 0]))
    assert [(values.dtype.name, values.shape) for values in window[:6]] == [
        ("uint8", (2, 6, 84, 84)), ("int32", (2, 2)), *[("float32", (2, 2))] * 3, ("bool", (2,))]
    np.testing.assert_array_equal(window.frames.min(axis=(2, 3)), [[0, 0, 0, 1, 2, 3], [4, 5, 6, 7, 8, 9]])
    np.testing.assert_array_equal(window.frames.max(axis=(2, 3)), [[0, 0, 0, 1, 2, 3], [4, 5, 6, 7, 8, 9]])


@pytest.mark.parametrize("num_rows", [1, 25, 40, 157])
@pytest.mark.parametrize("history, unroll, sample", [
    (4, 1, "timestep"), (3, 5, "timestep"), (1, 10, "episode"), (3, 5, "episode"),
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


@pytest.mark.parametrize("left, more", [(1, 0), (3, 0), (20, 0), (1, 15), (20, 15), (20, 60)])
@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("history, unroll", HISTORY_UNROLL)
def test_a_replay_of_which_only_the_newest_rows_are_left_draws_from_them_alone(history, unroll, sample, left, more):
    original, restored = make_replay(history, unroll, sample), make_replay(history, unroll, sample, seed=1)
    tape = Tape(original)
    tape.write(97)
    begin = 97 - left
    at = np.arange(begin, 97) % NUM_ROWS
    restored.restore([(begin, {name: column[at] for name, column in original.columns.items()})], 97)
    if sample == "sequential":
        original.sample(4)
        restored.lanes = original.lanes.copy()  # Some of these rows are lost.
    tape.replays = original, restored
    tape.write(more)
    oldest = max(begin, 97 + more - NUM_ROWS)
    assert (restored.oldest, len(restored)) == (oldest, (97 + more - oldest) * N)
    transitions = {episode[k].number: (env, episode, k) for env, episode, k in sum(tape.transitions(history), [])
                   if episode[max(0, k + 1 - history)].row >= oldest}
    assert restored.ready == (left + more > history + 1 or left + more >= NUM_ROWS)
    if restored.ready:
        for _ in range(30):
            window = restored.sample(4)
            numbers = window.frames[:, history - 1, 0].astype(int)
            expected = naive_windows([transitions[number] for number in numbers], history, unroll)
            assert_windows_equal(window._replace(first=expected.first), expected)


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
    num_bytes, predicted = sum(array.nbytes for array in arrays), Replay.nbytes(capacity, 8, (84, 84), np.uint8)
    assert num_bytes <= 7100 * capacity
    assert predicted <= num_bytes < 1.0001 * predicted


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


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_smallest_replay_is_ready_only_where_its_one_transition_is(sample):
    replay = make_replay(history=3, unroll=10, sample=sample, num_rows=4, num_envs=1)
    ready = []
    for row in range(40):
        append_frames(replay, frames=[row + 1], firsts=[row % 5 == 0])
        ready.append(replay.ready)
        if replay.ready:
            assert replay.sample(2).mask[:, 0].all()
    assert ready[:2] == [False, True] and 0 < sum(ready) < 39
