"""Statistics against hand computations, enumeration, and rliable (requirements-test.txt)."""

import itertools

import numpy as np
import pytest
import scipy.stats
from helpers.run_files import write_run

from analysis import curves, statistics
from storage import reading

NAN = np.nan


def test_mean_interval_by_hand():
    # The standard error of 1, 2, 3 is 1 / sqrt(3); Student's t at 97.5% with 2 degrees of freedom is 4.302653.
    np.testing.assert_allclose(statistics.mean_interval([1, 2, 3]), (2, 2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), rtol=1e-6)
    assert statistics.mean_interval([7, 7]) == (7, 7, 7)
    assert statistics.mean_interval([7]) == (7, -np.inf, np.inf)


@pytest.mark.parametrize("values, mean", [
    ([5], 5),
    ([1, 6], 3.5),
    ([0, 3, 90], 31),  # a quarter of 3, rounded down, is none
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
def test_bootstrap_interval_is_that_of_all_draws(confidence):
    values = [1, 2, 4, 8, 16]
    draws = sorted(sum(sorted(draw)[1:4]) / 3 for draw in itertools.product(values, repeat=5))  # all 3,125, each as likely
    tail = (1 - confidence) / 2
    exact = draws[int(tail * 3125)], draws[int((1 - tail) * 3125)]
    np.testing.assert_allclose(statistics.bootstrap_interval(values, confidence=confidence), exact, atol=0.67)  # a step of these means


def test_bootstrap_interval_draws_seeds_whole_and_again_the_same():
    values = np.random.default_rng(0).normal(size=(5, 3))
    low, high = statistics.bootstrap_interval(values)
    np.testing.assert_array_equal(statistics.bootstrap_interval(values), (low, high))
    for i in range(3):
        np.testing.assert_array_equal(statistics.bootstrap_interval(values[:, i]), (low[i], high[i]))
    # What all seeds share has no spread, if a draw takes the same seeds at both points.
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


def test_interquartile_band_of_one_seed_has_no_width_to_show():
    middle, low, high = statistics.interquartile_band(np.array([[1.0, 2.0]]))
    np.testing.assert_array_equal(middle, [1, 2])
    assert np.isnan([low, high]).all()
    middle, low, high = statistics.interquartile_band(np.array([[1.0, 2.0], [3.0, NAN]]))  # half of the seeds, and one
    np.testing.assert_array_equal(middle, [2, 2])
    np.testing.assert_array_equal(np.isnan(low), [False, True])


def test_align_joins_points_within_the_tolerance():
    x, y = statistics.align([(np.array([4000, 8005, 12001]), np.array([1, 2, 3])), (np.array([4003, 8000, 12007]), np.array([5, 6, 7]))], 7)
    np.testing.assert_array_equal(x, [4001.5, 8002.5, 12004])
    np.testing.assert_array_equal(y, [[1, 2, 3], [5, 6, 7]])  # A seed's own values, none interpolated.


def test_align_never_joins_points_of_one_curve():
    x, y = statistics.align([(np.array([2, 6]), np.array([1, 2])), (np.array([3, 7]), np.array([5, 6]))], 7)
    np.testing.assert_array_equal(x, [2.5, 6.5])
    np.testing.assert_array_equal(y, [[1, 2], [5, 6]])


def test_align_interpolates_and_never_extrapolates():
    x, y = statistics.align([(np.array([0, 4]), np.array([0, 8])), (np.array([1, 2, 6]), np.array([10, 20, 60]))])
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
    # Seeds of one game that are equal leave nothing to draw: of 6 each, four on each side fall away, 2 + 300 + 600 are left of 10.
    np.testing.assert_allclose(statistics.stratified_interval([[1, 1], [50, 50, 50], [300]]), [90.2] * 3)
    # Each draw takes two of the first game and two of the second: the least is 0 0 10 10, whose middle two are 0 and 10.
    assert statistics.stratified_interval([[0, 2], [10, 12]]) == (6, 5, 7)


def test_welch_by_hand():
    # Means 2 and 6, variances 1 and 4, 3 seeds each: t = 4 / sqrt(5/3) with (5/3)^2 / ((1/3)^2 / 2 + (4/3)^2 / 2) = 50 / 17 degrees.
    expected = 2 * scipy.stats.t.sf(4 / (5 / 3) ** 0.5, 50 / 17)
    assert statistics.welch([1, 2, 3], [4, 6, 8]) == pytest.approx(expected) == pytest.approx(0.0553, abs=1e-3)
    assert statistics.welch([1, 2, 3], [4, 6, 8]) == pytest.approx(scipy.stats.ttest_ind([4, 6, 8], [1, 2, 3], equal_var=False).pvalue)
    assert statistics.welch([7, 7, 7], [1, 2, 3]) == pytest.approx(1 - (75 / 77) ** 0.5)  # t = 5 sqrt(3), 2 degrees
    assert np.isnan([statistics.welch([7, 7], [7, 7]), statistics.welch([7, 7], [8, 8]), statistics.welch([1], [2, 3]), statistics.welch([], [2, 3])]).all()


def test_benjamini_hochberg_by_hand():
    # In order of size .01 .02 .03 .04 of 4: 4/1 .01, 4/2 .02, 4/3 .03, 4/4 .04 are all .04.
    np.testing.assert_allclose(statistics.adjust([0.04, 0.01, 0.03, 0.02]), [0.04] * 4)
    # 3/1 .001, 3/2 .5 and 3/3 .6, where none may be above a later one; what was not tested counts for none.
    np.testing.assert_allclose(statistics.adjust([0.5, NAN, 0.001, 0.6]), [0.6, NAN, 0.003, 0.6])
    assert np.isnan(statistics.adjust([NAN, NAN])).all() and not len(statistics.adjust([]))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:random_state is deprecated")  # by arch, under rliable
def test_stratified_interval_is_rliables():
    from rliable import library, metrics
    values = np.random.default_rng(0).normal(100, 10, size=(5, 7))  # seeds, games
    middle, theirs = library.get_interval_estimates({"ours": values}, lambda runs: np.array([metrics.aggregate_iqm(runs)]), reps=4000,
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
    _, theirs = library.get_interval_estimates({"ours": values}, lambda runs: np.array([metrics.aggregate_iqm(runs)]), reps=4000,
                                               random_state=np.random.RandomState(0))
    low, high = theirs["ours"][:, 0]
    ours = statistics.bootstrap_interval(values[:, 0])
    np.testing.assert_allclose(ours, (low, high), atol=0.1 * (high - low))  # of 2,000 and 4,000 random draws


# From directories to curves

def curves_of(*paths, y="eval"):
    return curves.read_curves(reading.find_runs(paths)[0], y=y)[0]


def test_runs_that_differ_in_seed_and_limits_form_one_line(tmp_path):
    write_run(tmp_path / "a", [(100, (1, 3))])
    write_run(tmp_path / "b", [(100, (5, 7))], seed=2, maxsteps=500, eval_period=50, checkpoint_period=7)
    write_run(tmp_path / "c", [(100, (5, 7))], seed=2, units=65)
    a, b, c = curves_of(tmp_path)
    assert a.line == b.line != c.line


def test_training_returns_are_means_over_bins_of_complete_episodes(tmp_path):
    episodes = [(1, 10, 0), (2, 30, 0), (3, 5, 0), (3, 999, 1), (99, 1, 0), (100, 3, 0)]  # 999 was cut
    (curve,) = curves_of(write_run(tmp_path / "a", episodes=episodes), y="train")
    np.testing.assert_allclose([curve.x, curve.y], [(1, 3, 99), (20, 5, 2)])  # bins (0, 2], (2, 4], (98, 100]


def test_the_last_bin_of_a_shorter_run_is_left_out_unless_half_full(tmp_path):
    write_run(tmp_path / "a", episodes=[(t, t, 0) for t in range(1, 1001)])  # bins of 20
    write_run(tmp_path / "b", episodes=[(t, t, 0) for t in range(1, 106)], seed=2)
    shorter = curves_of(tmp_path, y="train")[1]
    np.testing.assert_allclose(shorter.x, [10, 30, 50, 70, 90])
    np.testing.assert_allclose(shorter.y, [10.5, 30.5, 50.5, 70.5, 90.5])


def test_the_same_seed_counts_once(tmp_path):
    write_run(tmp_path / "a", [(100, (1, 3))])
    write_run(tmp_path / "b", [(100, (1, 3)), (200, (5, 7))])
    drawn, notes = curves.read_curves(reading.find_runs([tmp_path, tmp_path / "a"])[0])
    assert [curve.directory.name for curve in drawn] == ["b"]
    assert any("the same seed of the same settings" in note for note in notes)


def test_a_row_that_is_being_written_is_left_out(tmp_path):
    run = write_run(tmp_path / "a", [(100, (1, 3)), (200, (5, 9))])
    whole = (run / "eval.csv").read_text()
    for text in (whole + "300,300,3,0,7", whole + "300,300,3,0,7,9,150", whole + "300,300,3,0,7,9,150\n", whole + "300,300,3,0,7,9,150\n3"):
        (run / "eval.csv").write_text(text)  # An evaluation of which one episode is missing is no whole one either.
        (curve,) = curves_of(run)
        np.testing.assert_array_equal([curve.x, curve.y], [(100, 200), (2, 7)])


def test_the_best_evaluation_is_the_one_whose_weights_training_keeps(tmp_path):
    run = write_run(tmp_path / "a", [(100, (1, 3)), (200, (5, 9)), (300, (6, 8)), (400, (0, 2)), (500, (90,))])  # the last is half-written
    (settings,) = reading.find_runs([run])[0].values()
    assert reading.best_evaluation(run, settings) == (300, 7)  # of equals the latest
    empty = write_run(tmp_path / "b")
    assert reading.best_evaluation(empty, settings) is None


@pytest.mark.parametrize("damage, message", [
    (lambda text: "step,reward\n1,2\n", "it begins with 'step,reward', expected agent_step,frames"),
    (lambda text: text.replace("100", "a hundred", 1), "could not convert string 'a hundred'"),
    (lambda text: text.replace("100,100,1,0,1,9,50.0", "100,100"), "the number of columns changed from 2 to 7"),
    (lambda text: text.splitlines()[0] + "\n1,2\n", "its rows have 2 values, expected 7"),
    (lambda text: text.replace("100,100,1,0,1,", "100,100,1,0,nan,"), "a value is not finite"),
    (lambda text: text + text.split("\n", 1)[1], "agent_step decreases"),
    (lambda text: text + "\x00" * 50 + "\n", "the number of columns changed from 7 to 1"),
    (lambda text: "\x00" * 50 + "\n", "it begins with"),
    (lambda text: "\udcff", "can't decode"),
])
def test_damaged_csvs_are_refused_by_name(tmp_path, damage, message):
    run = write_run(tmp_path / "a", [(100, (1, 3)), (200, (5, 9))])
    write_run(tmp_path / "b", [(100, (1, 3))], seed=2)
    (run / "eval.csv").write_bytes(damage((run / "eval.csv").read_text()).encode(errors="surrogateescape"))
    with pytest.raises(ValueError) as error:
        curves_of(tmp_path)
    assert str(error.value).startswith(f"{run / 'eval.csv'} is damaged") and message in str(error.value)
