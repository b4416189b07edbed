"""Priorities: draws in proportion, the windows that they belong to, and going on with them."""

import numpy as np
import pytest
from scipy import stats

import priorities
from helpers.tapes import NUM_ROWS, N, Tape
from priorities import EXPONENT, IMPORTANCE, Priorities, SumTree
from replay import Replay


def make_prioritized(unroll=4, seed=0, num_rows=NUM_ROWS, **options):
    return Replay(num_rows * N, N, (2,), np.float32, 1, unroll, "priority", seed, **options)


# The tree


@pytest.mark.parametrize("num_leaves", [1, 31, 32, 33, 1024, 1025, 40_000])
def test_every_sum_is_that_of_the_numbers_below(num_leaves):
    tree, rng, values = SumTree(num_leaves), np.random.default_rng(0), np.zeros(num_leaves)
    for _ in range(5):
        leaves = rng.integers(num_leaves, size=50)
        values[leaves] = numbers = rng.random(50)
        tree.write(leaves, numbers)
        values[leaves[-1]] = numbers[-1]
    np.testing.assert_array_equal(tree.leaves, values)
    assert tree.total == pytest.approx(values.sum())
    again = SumTree(num_leaves)
    again.write(np.arange(num_leaves), tree.leaves)
    assert again.total == tree.total  # to the bit, whatever was written before


@pytest.mark.parametrize("num_leaves", [7, 100, 5000])
def test_leaves_are_drawn_in_proportion_and_empty_ones_never(num_leaves):
    tree, rng = SumTree(num_leaves), np.random.default_rng(1)
    values = rng.random(num_leaves) * (rng.random(num_leaves) < min(0.7, 60 / num_leaves))
    tree.write(np.arange(num_leaves), values)
    counts = np.bincount(tree.draw(100_000, rng), minlength=num_leaves)
    assert not counts[values == 0].any()
    expected = values[values > 0] / values.sum() * 100_000
    large = expected > 5
    assert stats.chisquare(counts[values > 0][large], expected[large] / expected[large].sum()
                           * counts[values > 0][large].sum()).pvalue > 1e-3


def test_rounding_never_leads_to_an_empty_leaf():
    class Highest:
        def random(self, size):
            return np.full(size, np.nextafter(1, 0))

    tree, rng = SumTree(2000), np.random.default_rng(0)
    for _ in range(200):
        tree.write(np.arange(2000), rng.random(2000) * (rng.random(2000) < 0.01))
        assert (tree.leaves[tree.draw(3, Highest())] > 0).all()


# Windows


def expected_windows(tape, unroll):
    """Return the numbers of the frames at which windows begin that may be drawn, found by plain lists."""
    found = set()
    for episodes in tape.episodes:
        for episode in episodes:
            length, ended = len(episode) - 1, episode is not episodes[-1]
            for k in range(0, length, max(1, unroll // 2)):
                before = k - max(1, unroll // 2) + unroll  # where the window before ends
                if k + unroll <= length or (ended and (k == 0 or before < length)):
                    found.add((episode[k].row, episode[k].number, episode[0].row))
    return found


@pytest.mark.parametrize("unroll", [1, 2, 4, 5, 8])
@pytest.mark.parametrize("burn_in", [0, 3])
def test_windows_overlap_by_half_and_reach_every_episodes_end(unroll, burn_in):
    replay = make_prioritized(unroll, burn_in=burn_in)
    tape = Tape(replay)
    for num_rows in (30, 9, 61, 70):
        tape.write(num_rows)
        drawn = {number for _ in range(40) for number in replay.sample(64).frames[:, burn_in, 0]}
        oldest = max(0, tape.end - NUM_ROWS)
        assert drawn == {number for row, number, begin in expected_windows(tape, unroll)
                         if row >= (oldest if begin >= oldest else oldest + burn_in)}


def test_windows_are_drawn_by_priority_and_weigh_less_the_likelier_they_are():
    replay = make_prioritized()
    Tape(replay).write(90)
    numbers, priority_of = set(), {}
    for _ in range(300):  # Each window's priority is a function of its first frame.
        first = replay.sample(16).frames[:, 0, 0]
        priority = 0.1 + first % 7
        priority_of |= dict(zip(first.tolist(), priority.tolist()))
        replay.set_priorities(priority)
        numbers |= set(first.tolist())
    drawn = np.array([replay.sample(50).frames[:, 0, 0] for _ in range(600)]).ravel()
    shares = np.array([priority_of[number] for number in sorted(numbers)]) ** EXPONENT
    counts = np.array([(drawn == number).sum() for number in sorted(numbers)])
    assert len(numbers) > 20 and stats.chisquare(counts, shares / shares.sum() * len(drawn)).pvalue > 1e-3
    window = replay.sample(16)
    expected = np.array([priority_of[number] for number in window.frames[:, 0, 0].tolist()]) ** (-EXPONENT * IMPORTANCE)
    np.testing.assert_allclose(window.weight, expected / expected.max(), rtol=1e-5)
    assert window.weight.dtype == np.float32 and window.weight.max() == 1


def test_new_windows_have_the_largest_priority_so_far():
    replay = make_prioritized()
    tape = Tape(replay)
    tape.write(30)
    replay.sample(8)
    replay.set_priorities(np.array([1, 9, 0.5, 1, 1, 1, 1, 2.0]))
    before = set(np.flatnonzero(replay.priorities.tree.leaves))
    tape.write(5)
    new = sorted(set(np.flatnonzero(replay.priorities.tree.leaves)) - before)
    assert new and replay.priorities.tree.leaves[new] == pytest.approx(9 ** EXPONENT)
    assert replay.priorities.largest == 9


def test_a_priority_of_zero_stays_small_and_one_that_is_not_finite_counts_as_the_largest():
    some = Priorities(10, 1, 2)
    some.drawn = np.array([1, 2, 3]), np.zeros(3, np.int64)
    some.update(np.array([0, np.nan, 5.0]))
    np.testing.assert_allclose(some.tree.leaves[:4], [0, priorities.SMALLEST ** EXPONENT, 1, 5 ** EXPONENT])


def test_a_restored_replay_goes_on_to_the_bit():
    one = make_prioritized(seed=3, burn_in=2)
    tape, rng = Tape(one), np.random.default_rng(0)
    tape.write(95)
    for _ in range(20):
        one.set_priorities(rng.random(len(one.sample(8).weight)))
    other = make_prioritized(seed=4, burn_in=2)
    rows = np.arange(one.oldest, one.end)
    other.restore([(one.oldest, {name: column[rows % NUM_ROWS] for name, column in one.columns.items()})], one.end)
    other.set_state({name: value.copy() for name, value in one.get_state().items()})
    other.rng.bit_generator.state = one.rng.bit_generator.state
    tape.replays = one, other
    for _ in range(30):
        a, b = one.sample(8), other.sample(8)
        np.testing.assert_array_equal(a.frames, b.frames)
        np.testing.assert_array_equal(a.weight, b.weight)
        given = rng.random(8)
        one.set_priorities(given)
        other.set_priorities(given)
        tape.write(3)


def test_windows_of_rows_that_were_lost_are_not_drawn():
    one, other = make_prioritized(), make_prioritized()
    tape = Tape(one)
    tape.write(95)
    rows = np.arange(one.end - 8, one.end)
    other.restore([(rows[0], {name: column[rows % NUM_ROWS] for name, column in one.columns.items()})], one.end)
    other.set_state(one.get_state())
    tape.replays, readies = (one, other), []
    for _ in range(40):
        readies.append(other.ready)
        if other.ready:
            assert other.sample(32).frames[:, 0, 0].min() > rows[0] * N
        tape.write(1)
    assert all(readies[20:])


@pytest.mark.parametrize("burn_in, needed", [(0, 12), (3, 15)])
def test_too_few_rows_for_whole_windows_are_refused(burn_in, needed):
    make_prioritized(num_rows=needed, burn_in=burn_in)
    with pytest.raises(ValueError, match=f"and windows of 4 by priority needs at least {needed}$"):
        make_prioritized(num_rows=needed - 1, burn_in=burn_in)


def test_rewards_that_are_known_at_an_episodes_end_are_refused():
    with pytest.raises(ValueError, match="--sample=priority draws from running episodes"):
        make_prioritized(length_reward=0.1)
