"""Rows of training: columns of numbers, old runs, torn and damaged files; means of evaluations."""

import numpy as np
import pytest

from helpers.run_files import SETTINGS, write_run, write_table
from storage import layout, training


def test_rows_are_columns_of_numbers(tmp_path):
    run = write_run(tmp_path / "a", episodes=[(5, 1.5), (9, 2)])
    rows = training.read_rows(run, "train")
    assert list(rows) == layout.COLUMNS["train"]
    np.testing.assert_array_equal([rows["agent_step"], rows["episode_return"]], [(5, 9), (1.5, 2)])
    assert {name: list(values) for name, values in rows.items()} == training.read_last_rows(run, "train")
    for read in (training.read_rows, training.read_last_rows):
        assert {name: list(values) for name, values in read(run, "learn").items()} == {
            name: [] for name in layout.COLUMNS["learn"]}  # There is no such file yet.
    layout.csv_path(run, "learn").touch()
    assert len(training.read_rows(run, "learn")["agent_step"]) == 0


def test_rows_of_an_old_run_have_the_columns_of_today_and_no_episode_that_was_cut(tmp_path):
    run = write_run(tmp_path / "a")
    write_table(layout.csv_path(run, "train"), layout.OLD_COLUMNS["train"],
                [(5, 5, 1.5, 9, 1, 0, 0, 2), (9, 9, 999, 9, 1, 2, 1, 3), (12, 12, 2, 8, 7, 3, 0, 4)])
    write_table(layout.csv_path(run, "learn"), layout.OLD_COLUMNS["learn"], [range(1, 15), range(2, 16)])
    for read in (training.read_rows, training.read_last_rows):
        assert {name: list(values) for name, values in read(run, "train").items()} == dict(
            agent_step=[5, 12], frames=[5, 12], episode_return=[1.5, 2], length=[9, 8], training_reward=[1, 7],
            environment=[0, 3], seconds=[2, 4])
        learn = {name: list(values) for name, values in read(run, "learn").items()}
        assert list(learn) == layout.COLUMNS["learn"]
        assert (learn["learning_rate"], learn["environment_seconds"], learn["seconds"]) == ([8, 9], [10, 11], [14, 15])
    path = layout.csv_path(run, "train")
    path.write_text(",".join(layout.OLD_COLUMNS["train"]) + "\n")
    assert list(training.read_rows(run, "train")) == layout.COLUMNS["train"]
    path.write_text(",".join(layout.COLUMNS["train"]) + "\n5,5,1.5,9,1,0,0,2\n")
    with pytest.raises(ValueError, match="train.csv is damaged, .*: its rows have 8 values, expected 7"):
        training.read_rows(run, "train")


def test_a_last_row_without_a_line_end_is_still_being_written(tmp_path):
    run = write_run(tmp_path / "a", episodes=[(5, 1)])
    path = layout.csv_path(run, "train")
    for text in ("9", "9,9,2,9,1,0,4.5"):
        path.write_text(path.read_text().split("\n9")[0].rstrip("\n") + "\n" + text)
        assert list(training.read_rows(run, "train")["agent_step"]) == [5]
        assert training.read_last_rows(run, "train")["agent_step"] == [5]


def test_losses_may_be_unknown_and_other_rows_that_are_not_finite_are_left_out(tmp_path):
    run = write_run(tmp_path / "a")
    row = dict.fromkeys(layout.COLUMNS["learn"], 1) | dict.fromkeys(layout.UNKNOWN, "nan")
    path = layout.csv_path(run, "learn")
    write_table(path, layout.COLUMNS["learn"], [row.values()])
    assert np.isnan(training.read_rows(run, "learn")["loss"]).all()
    assert training.count_lost_rows(run, "learn") == 0
    lost = [row | dict(epsilon="nan"), row | dict(frames="-inf"), row | dict(agent_step="nan")]
    write_table(path, layout.COLUMNS["learn"], [one.values() for one in (row, *lost, row | dict(agent_step=2))])
    # A bad row does not hide the others.
    assert list(training.read_rows(run, "learn")["agent_step"]) == [1, 2]
    assert training.count_lost_rows(run, "learn") == 3
    assert training.read_last_rows(run, "learn")["agent_step"] == [1, 2]


@pytest.mark.parametrize("damage, message", [
    (lambda text: "step,reward\n1,2\n", "it begins with 'step,reward', expected agent_step,frames"),
    (lambda text: text.replace("100", "a hundred", 1), "could not convert string 'a hundred'"),
    (lambda text: text.splitlines()[0] + "\n1,2\n", "its rows have 2 values, expected 7"),
    (lambda text: text + text.split("\n", 1)[1], "agent_step decreases"),
    (lambda text: text + "\x00" * 50 + "\n", "the number of columns changed from 7 to 1"),
    (lambda text: "\udcff", "can't decode"),
])
def test_a_damaged_csv_is_named_in_one_sentence(tmp_path, damage, message):
    path = layout.csv_path(write_run(tmp_path / "a", [(100, (1, 3)), (200, (5, 9))]), "eval")
    path.write_bytes(damage(path.read_text()).encode(errors="surrogateescape"))
    with pytest.raises(ValueError) as error:
        training.read_rows(tmp_path / "a", "eval")
    assert str(error.value).startswith(f"{path} is damaged, or not of this suite: ")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_only_the_end_of_a_long_file_is_read(tmp_path):
    run = write_run(tmp_path / "a")
    path = layout.csv_path(run, "eval")
    path.write_bytes(b"no row\n" * 100_000 + b"7,7,1,0,2,9,3\n" * 2000)
    rows = training.read_last_rows(run, "eval")
    assert 1000 < len(rows["agent_step"]) < 2000 and set(rows["episode_return"]) == {2}
    assert training.read_last_lines(path)[-1] == "7,7,1,0,2,9,3"
    path.write_text("a\nb\nc\n")
    with pytest.raises(ValueError, match="eval.csv is damaged, or not of this suite: could not convert"):
        training.read_last_rows(run, "eval")
    assert training.read_last_lines(run / "none") == []


def test_evaluations_are_means_over_their_episodes_and_half_written_ones_are_left_out(tmp_path):
    run = write_run(tmp_path / "a", [(100, (1, 3)), (200, (5, 9)), (300, (6, 8)), (400, (90,))])
    rows = training.read_evaluations(run, SETTINGS)
    np.testing.assert_array_equal([rows["agent_step"], rows["episode_return"]], [(100, 200, 300), (2, 7, 7)])
    assert training.best_evaluation(run, SETTINGS) == (300, 7)  # Of equals the later one, as in training.
    assert training.best_evaluation(write_run(tmp_path / "b"), SETTINGS) is None


@pytest.mark.parametrize("episode_return", ["nan", "inf", "-inf"])
def test_an_evaluation_that_is_not_finite_is_left_out_and_never_the_best(tmp_path, episode_return):
    run = write_run(tmp_path / "a", [(100, (1, 3)), (200, (9, float(episode_return))), (300, (4, 2))])
    assert list(training.read_evaluations(run, SETTINGS)["episode_return"]) == [2, 3]
    assert training.best_evaluation(run, SETTINGS) == (300, 3)


@pytest.mark.parametrize("agent_step, limits, unfinished", [
    (200, dict(), True), (207, dict(), True), (300, dict(), False), (303, dict(), False),  # evaluations every 100
    (100, dict(maxepisodes=2), False), (100, dict(maxepisodes=3), True)])
def test_a_run_is_unfinished_until_no_evaluation_follows(tmp_path, agent_step, limits, unfinished):
    run = write_run(tmp_path / "a", episodes=[(5, 1), (12, 2)])
    assert training.is_unfinished(run, SETTINGS | limits, agent_step) == unfinished
