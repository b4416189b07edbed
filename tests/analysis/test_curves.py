"""Learning curves: from the directories of runs to the points of lines, and random play beside them."""

import numpy as np
import pytest

from analysis import curves
from helpers.analysed_runs import curves_of, write_sweep_rows
from helpers.run_files import find_checked, write_run, write_table
from storage import episodes, layout


def test_runs_that_differ_in_seed_and_limits_form_one_line(tmp_path):
    write_run(tmp_path / "a", [(100, (1, 3))])
    write_run(tmp_path / "b", [(100, (5, 7))], seed=2, maxsteps=500, eval_period=50, checkpoint_period=7)
    write_run(tmp_path / "c", [(100, (5, 7))], seed=2, units=65)
    a, b, c = curves_of(tmp_path)
    assert a.line == b.line != c.line


def test_training_returns_are_means_over_bins_of_complete_episodes(tmp_path):
    run = write_run(tmp_path / "a", episodes=[(1, 10), (2, 30), (3, 5), (99, 1), (100, 3)])
    (curve,) = curves_of(run, y="train")
    np.testing.assert_allclose([curve.x, curve.y], [(1, 3, 99), (20, 5, 2)])  # bins (0, 2], (2, 4], (98, 100]


def test_episodes_that_an_old_run_cut_are_left_out(tmp_path):
    run = write_run(tmp_path / "a")
    rows = [(step, step, episode_return, 9, 1, 0, cut, step / 2)
            for step, episode_return, cut in [(1, 10, 0), (2, 999, 1), (50, 30, 0), (100, 5, 0)]]
    write_table(layout.csv_path(run, "train"), layout.OLD_COLUMNS["train"], rows)
    (curve,) = curves_of(run, y="train")
    assert curve.y.tolist() == [10, 30, 5]
    (curve,) = curves_of(run, x="episodes", y="train")
    np.testing.assert_allclose([curve.x, curve.y], [(0.99, 2.01, 2.97), (10, 30, 5)])  # bins of 3 / 50


def test_the_last_bin_of_a_shorter_run_is_left_out_unless_half_full(tmp_path):
    write_run(tmp_path / "a", episodes=[(t, t) for t in range(1, 1001)])  # bins of 20
    write_run(tmp_path / "b", episodes=[(t, t) for t in range(1, 106)], seed=2)
    shorter = curves_of(tmp_path, y="train")[1]
    np.testing.assert_allclose(shorter.x, [10, 30, 50, 70, 90])
    np.testing.assert_allclose(shorter.y, [10.5, 30.5, 50.5, 70.5, 90.5])


def test_the_same_seed_counts_once(tmp_path):
    write_run(tmp_path / "a", [(100, (1, 3))])
    write_run(tmp_path / "b", [(100, (1, 3)), (200, (5, 7))])
    longer, notes = curves.read_curves(find_checked([tmp_path, tmp_path / "a"])[0])
    assert [curve.directory.name for curve in longer] == ["b"]
    assert any("the same seed of the same settings" in note for note in notes)


def test_an_evaluation_that_is_being_written_is_left_out(tmp_path):
    run = write_run(tmp_path / "a", [(100, (1, 3)), (200, (5, 9))])
    complete = (run / "eval.csv").read_text()
    half_a_row, a_row = "300,300,3,0,7", "300,300,3,0,7,9,150"
    for more in (half_a_row, a_row, a_row + "\n", a_row + "\n3"):  # An evaluation has two episodes here.
        (run / "eval.csv").write_text(complete + more)
        (curve,) = curves_of(run)
        np.testing.assert_array_equal([curve.x, curve.y], [(100, 200), (2, 7)])


@pytest.mark.parametrize("damage, message", [
    (lambda text: "step,reward\n1,2\n", "it begins with 'step,reward', expected agent_step,frames"),
    (lambda text: text.replace("100", "a hundred", 1), "could not convert string 'a hundred'"),
    (lambda text: text.replace("100,100,1,0,1,9,50.0", "100,100"), "the number of columns changed from 2 to 7"),
    (lambda text: text.splitlines()[0] + "\n1,2\n", "its rows have 2 values, expected 7"),
    (lambda text: text + text.split("\n", 1)[1], "agent_step decreases"),
    (lambda text: text + "\x00" * 50 + "\n", "the number of columns changed from 7 to 1"),
    (lambda text: "\x00" * 50 + "\n", "it begins with"),
    (lambda text: "\udcff", "can't decode"),
])
def test_a_run_with_a_damaged_csv_is_left_out_by_name_and_the_others_stay(tmp_path, damage, message):
    run = write_run(tmp_path / "a", [(100, (1, 3)), (200, (5, 9))])
    write_run(tmp_path / "b", [(300, (1, 3))], seed=2)
    (run / "eval.csv").write_bytes(damage((run / "eval.csv").read_text()).encode(errors="surrogateescape"))
    (curve,), (note,) = curves.read_curves(find_checked([tmp_path])[0])
    assert (curve.directory.name, *curve.x, *curve.y) == ("b", 300, 2)
    assert note.startswith(f"left out: {run / 'eval.csv'} is damaged") and message in note and "\n" not in note


def test_episodes_that_limit_a_run_are_read_with_its_curve(tmp_path):
    for name, maxepisodes in (("a", 1), ("b", 2), ("c", 2)):
        write_run(tmp_path / name, [(100, (1, 3))], [(50, 2)], maxepisodes=maxepisodes, env=f"Game-{name}")
    (tmp_path / "c/train.csv").write_text("torn\n")
    run_curves, notes = curves.read_curves(find_checked([tmp_path])[0])
    assert [curve.directory.name for curve in run_curves] == ["a", "b"]
    assert notes[0].startswith(f"left out: {tmp_path / 'c/train.csv'} is damaged")
    assert notes[1].startswith(f"1 of 3 runs are unfinished; the shortest is {tmp_path / 'b'}")


def test_an_evaluation_that_is_not_finite_is_no_point_and_is_noted(tmp_path):
    run = write_run(tmp_path / "a", [(100, (1, float("nan"))), (200, (5, 9)), (300, (6, 8))])
    (curve,), notes = curves.read_curves(find_checked([tmp_path])[0])
    np.testing.assert_array_equal([curve.x, curve.y], [(200, 300), (7, 7)])
    assert notes == [f"{run / 'eval.csv'} has values that are not finite; 1 row of it, and evaluations without them, "
                     "do not count"]


def test_random_play_of_a_sweep_counts_where_there_is_no_other(tmp_path):
    swept, both = write_run(tmp_path / "a"), write_run(tmp_path / "b", random=(30, 40))
    for run in (swept, both):
        write_sweep_rows(run, "agent,best,1.0,0,100,9,0.05,0", "random,random,1.0,0,20,9,1.0,0",
                         "random,random,1.0,1,26,9,1.0,0")
    returns, notes = episodes.find_random_play([swept, both, write_run(tmp_path / "none")])
    assert list(returns) == [swept, both] and notes == []
    np.testing.assert_array_equal(returns[swept], [20, 26])
    np.testing.assert_array_equal(returns[both], [30, 40])  # The file beside a score comes first.
    (both / "episodes-random.csv").write_text("policy,episode_return\n")
    returns, (note,) = episodes.find_random_play([swept, both])
    assert list(returns) == [swept] and note == (
        f"left out: {both / 'episodes-random.csv'} is damaged, or not of this suite: it has no episodes")
