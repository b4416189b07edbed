"""Statistics against hand computations, enumeration, and rliable (requirements-test.txt)."""

import itertools

import numpy as np
import pytest
import scipy.stats

from analysis import statistics

NAN = np.nan


def test_mean_interval_by_hand():
    # The standard error of 1, 2, 3 is 1 / sqrt(3); Student's t at 97.5% with 2 degrees of freedom is 4.302653.
    half = 4.302653 / 3**0.5
    np.testing.assert_allclose(statistics.mean_interval([1, 2, 3]), (2, 2 - half, 2 + half), rtol=1e-6)
    assert statistics.mean_interval([7, 7]) == (7, 7, 7)
    assert statistics.mean_interval([7]) == (7, -np.inf, np.inf)


@pytest.mark.parametrize("values, mean", [
    ([5], 5),
    ([1, 6], 3.5),
    ([0, 3, 90], 31),  # A quarter of 3 values, rounded down, is no value.
    ([90, 0, 3, 5], 4),
    ([1000, 0, 10, 30, 20], 20),
    ([8, 7, 6, 5, 4, 3, 2, 1], 4.5),
])
def test_interquartile_mean_by_hand(values, mean):
    assert statistics.interquartile_mean(values) == mean


def test_interquartile_mean_is_over_seeds():
    values = np.array([[0, 1], [2, 3], [4, 5], [100, -100]])
    np.testing.assert_array_equal(statistics.interquartile_mean(values), [3, 2])
    np.testing.assert_array_equal(statistics.interquartile_mean(values.T, axis=1), [3, 2])


def test_bootstrap_interval_of_two_seeds_by_hand():
    # A quarter of the draws is 0, 0, a half 0, 1 and a quarter 1, 1: both ends are beyond 2.5%.
    assert statistics.bootstrap_interval([0, 1]) == (0, 1)
    low, high = statistics.bootstrap_interval([0, 1], confidence=0.4)  # from 30% to 70%: in the half
    assert (low, high) == (0.5, 0.5)


@pytest.mark.parametrize("confidence", [0.95, 0.5])
def test_bootstrap_interval_equals_the_interval_of_all_draws(confidence):
    values = [1, 2, 4, 8, 16]
    # All 3,125 draws are equally likely.
    draws = sorted(sum(sorted(draw)[1:4]) / 3 for draw in itertools.product(values, repeat=5))
    tail = (1 - confidence) / 2
    exact = draws[int(tail * 3125)], draws[int((1 - tail) * 3125)]
    interval = statistics.bootstrap_interval(values, confidence=confidence)
    np.testing.assert_allclose(interval, exact, atol=0.67)  # the distance of neighbouring means


def test_bootstrap_interval_draws_whole_rows_and_the_same_rows_every_time():
    values = np.random.default_rng(0).normal(size=(5, 3))
    low, high = statistics.bootstrap_interval(values)
    np.testing.assert_array_equal(statistics.bootstrap_interval(values), (low, high))
    for i in range(3):
        np.testing.assert_array_equal(statistics.bootstrap_interval(values[:, i]), (low[i], high[i]))
    # Both columns differ by 1 for every seed, so their intervals differ by 1 if a draw takes the same seeds in both.
    low, high = statistics.bootstrap_interval(np.stack([values[:, 0], values[:, 0] + 1], 1))
    np.testing.assert_allclose([low[1] - low[0], high[1] - high[0]], 1)


def test_interquartile_band_takes_the_seeds_that_have_data():
    values = np.array([[0, 1.0, 2.0, 3.0],
                       [2, 3.0, NAN, NAN],
                       [NAN, 8.0, 4.0, NAN]])
    middle, low, high = statistics.interquartile_band(values)
    np.testing.assert_array_equal(middle, [1, 4, 3, NAN])  # At the end a third of the seeds is left.
    np.testing.assert_array_equal(low, [0, 1, 2, NAN])
    np.testing.assert_array_equal(high, [2, 8, 4, NAN])


def test_interquartile_band_of_one_seed_has_no_width():
    middle, low, high = statistics.interquartile_band(np.array([[1.0, 2.0]]))
    np.testing.assert_array_equal(middle, [1, 2])
    assert np.isnan([low, high]).all()
    middle, low, high = statistics.interquartile_band(np.array([[1.0, 2.0], [3.0, NAN]]))  # half of the seeds, and one
    np.testing.assert_array_equal(middle, [2, 2])
    np.testing.assert_array_equal(np.isnan(low), [False, True])


def test_align_joins_points_within_the_tolerance():
    first = np.array([4000, 8005, 12001]), np.array([1, 2, 3])
    second = np.array([4003, 8000, 12007]), np.array([5, 6, 7])
    x, y = statistics.align_curves([first, second], 7)
    np.testing.assert_array_equal(x, [4001.5, 8002.5, 12004])
    np.testing.assert_array_equal(y, [[1, 2, 3], [5, 6, 7]])  # No value is interpolated.


def test_align_never_joins_points_of_one_curve():
    x, y = statistics.align_curves([(np.array([2, 6]), np.array([1, 2])), (np.array([3, 7]), np.array([5, 6]))], 7)
    np.testing.assert_array_equal(x, [2.5, 6.5])
    np.testing.assert_array_equal(y, [[1, 2], [5, 6]])


def test_align_interpolates_and_never_extrapolates():
    first, second = (np.array([0, 4]), np.array([0, 8])), (np.array([1, 2, 6]), np.array([10, 20, 60]))
    x, y = statistics.align_curves([first, second])
    np.testing.assert_array_equal(x, [0, 1, 2, 4, 6])
    np.testing.assert_array_equal(y, [[0, 2, 4, 8, NAN], [NAN, 10, 20, 40, 60]])


def test_stratified_interquartile_mean_by_hand():
    # 0, 8 | 2, 4 | 6, 100 pooled: 0 and 100 are the outer quarters, rounded down, of 6.
    assert statistics.stratified_interval([[0, 8], [2, 4], [6, 100]])[0] == 5
    # Games weigh the same: 0 thrice and 6, 9, 12 pooled are 0 0 0 6 9 12, of which the middle four are 0 0 6 9.
    assert statistics.stratified_interval([[0], [6, 9, 12]])[0] == 15 / 4
    # 1 and 3 thrice, 5, 6 and 7 twice: of these 12 the middle six are 3 3 3 5 5 6.
    assert statistics.stratified_interval([[1, 3], [5, 6, 7]])[0] == pytest.approx(25 / 6)


def test_stratified_interval_draws_within_games():
    # The seeds of each game are equal, so all draws are equal. Each game has 6 of the 18 scores. Four scores at each
    # end are left out; 2 times 1, 6 times 50 and 2 times 300 are left.
    np.testing.assert_allclose(statistics.stratified_interval([[1, 1], [50, 50, 50], [300]]), [90.2] * 3)
    # A draw takes two scores of each game. The lowest draw is 0 0 10 10; its middle two are 0 and 10.
    assert statistics.stratified_interval([[0, 2], [10, 12]]) == (6, 5, 7)


def test_welch_by_hand():
    # Means 2 and 6, variances 1 and 4, 3 seeds each: t = 4 / sqrt(5/3),
    # with (5/3)^2 / ((1/3)^2 / 2 + (4/3)^2 / 2) = 50 / 17 degrees of freedom.
    expected = 2 * scipy.stats.t.sf(4 / (5 / 3) ** 0.5, 50 / 17)
    assert statistics.welch_test([1, 2, 3], [4, 6, 8]) == pytest.approx(expected) == pytest.approx(0.0553, abs=1e-3)
    of_scipy = scipy.stats.ttest_ind([4, 6, 8], [1, 2, 3], equal_var=False).pvalue
    assert statistics.welch_test([1, 2, 3], [4, 6, 8]) == pytest.approx(of_scipy)
    # t = 5 sqrt(3) with 2 degrees of freedom.
    assert statistics.welch_test([7, 7, 7], [1, 2, 3]) == pytest.approx(1 - (75 / 77) ** 0.5)
    for first, second in (([7, 7], [7, 7]), ([7, 7], [8, 8]), ([1], [2, 3]), ([], [2, 3])):
        assert np.isnan(statistics.welch_test(first, second))


def test_benjamini_hochberg_by_hand():
    # In order of size .01 .02 .03 .04 of 4: 4/1 .01, 4/2 .02, 4/3 .03, 4/4 .04 are all .04.
    np.testing.assert_allclose(statistics.adjust_p_values([0.04, 0.01, 0.03, 0.02]), [0.04] * 4)
    # 3/1 .001, 3/2 .5 and 3/3 .6, where none may be above a later one; what was not tested counts for none.
    np.testing.assert_allclose(statistics.adjust_p_values([0.5, NAN, 0.001, 0.6]), [0.6, NAN, 0.003, 0.6])
    assert np.isnan(statistics.adjust_p_values([NAN, NAN])).all() and not len(statistics.adjust_p_values([]))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:random_state is deprecated")  # by arch, under rliable
def test_stratified_interval_is_rliables():
    from rliable import library, metrics
    values = np.random.default_rng(0).normal(100, 10, size=(5, 7))  # seeds, games
    aggregate = lambda runs: np.array([metrics.aggregate_iqm(runs)])
    middle, theirs = library.get_interval_estimates({"ours": values}, aggregate, reps=4000,
                                                    random_state=np.random.RandomState(0))
    ours = statistics.stratified_interval(values.T)
    low, high = theirs["ours"][:, 0]
    assert ours[0] == pytest.approx(middle["ours"][0], rel=1e-12)
    np.testing.assert_allclose(ours[1:], (low, high), atol=0.1 * (high - low))


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 2, 3, 4, 5, 7, 10])
def test_interquartile_mean_is_rliables(seeds):
    from rliable import metrics
    values = np.random.default_rng(seeds).normal(size=(seeds, 1))
    np.testing.assert_allclose(statistics.interquartile_mean(values[:, 0]), metrics.aggregate_iqm(values), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:random_state is deprecated")  # by arch, under rliable
def test_bootstrap_interval_is_rliables():
    from rliable import library, metrics
    values = np.random.default_rng(0).normal(100, 10, size=(10, 1))  # seeds of one task
    aggregate = lambda runs: np.array([metrics.aggregate_iqm(runs)])
    _, theirs = library.get_interval_estimates({"ours": values}, aggregate, reps=4000,
                                               random_state=np.random.RandomState(0))
    low, high = theirs["ours"][:, 0]
    ours = statistics.bootstrap_interval(values[:, 0])
    np.testing.assert_allclose(ours, (low, high), atol=0.1 * (high - low))  # of 2,000 and 4,000 random draws
