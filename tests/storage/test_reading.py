"""The one reader of runs: runs and weights are found, rows and episodes read, and damaged files named."""

import fcntl
import json
import os
import socket

import numpy as np
import pytest

from helpers.run_files import SETTINGS, hold_lock, write_run, write_state, write_table
from storage import layout, reading


def write_sweep(run, *rows):
    """Write a sweep of (policy, weights, probability, episode return, epsilon)."""
    write_table(layout.sweep_path(run), layout.SWEEP_COLUMNS,
                [(policy, weights, p, i, episode_return, 9, epsilon, 0)
                 for i, (policy, weights, p, episode_return, epsilon) in enumerate(rows)])


# Settings and directories


def test_runs_are_found_once_in_folders_of_folders(tmp_path):
    a, b = write_run(tmp_path / "x" / "a"), write_run(tmp_path / "b", seed=2)
    (tmp_path / "a.log").touch()
    found, others = reading.find_runs([tmp_path / "b", tmp_path, a, tmp_path / "a.log"])
    assert {path: settings["seed"] for path, settings in found.items()} == {b: 2, a: 1}
    assert others == [f"{tmp_path / 'a.log'} is a file, so it is no run of this suite"]


def test_runs_that_are_links_are_found_once(tmp_path):
    run = write_run(tmp_path / "scratch/a", episodes=[(100, 1)])
    (tmp_path / "runs").mkdir()
    link = tmp_path / "runs/a"
    link.symlink_to(run)
    assert list(reading.find_runs([tmp_path / "runs"])[0]) == [link] and reading.newest_run(tmp_path / "runs") == link
    assert len(reading.find_runs([tmp_path])[0]) == 1


@pytest.mark.parametrize("config, message", [
    (None, "holds no config.json, so it is no run of this suite"),
    ("{", "config.json is not the configuration of a run of this suite"),
    ('{"settings": {}}', "config.json is not the configuration of a run of this suite"),
    (json.dumps(dict(settings=SETTINGS | dict(seed="1"))), "config.json has '1' for seed, so it is of no run of this"),
    (json.dumps(dict(settings=SETTINGS | dict(env=None))), "config.json has None for env, so it is of no run of this"),
])
def test_a_directory_that_is_no_run_is_named(tmp_path, config, message):
    (tmp_path / "a").mkdir()
    if config is not None:
        layout.config_path(tmp_path / "a").write_text(config)
    with pytest.raises(ValueError) as error:
        reading.find_runs([tmp_path / "a"])
    assert str(error.value).startswith(str(tmp_path / "a")) and message in str(error.value)
    with pytest.raises(ValueError, match="none of the 2 paths given is a run; the first: "):
        (tmp_path / "b").mkdir()
        reading.find_runs([tmp_path / "a", tmp_path / "b"])
    with pytest.raises(ValueError, match="nowhere does not exist"):
        reading.find_runs([tmp_path / "nowhere"])


def test_the_newest_run_is_the_one_that_trained_last(tmp_path):
    a, b = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    for seconds, path in enumerate([*b.glob("*.csv"), *a.glob("*.csv")]):
        os.utime(path, (seconds, seconds))
    layout.episodes_path(b, "best").write_text("evaluated later")  # This is no row of training.
    assert reading.newest_run(tmp_path) == a and reading.read_last_write(a) == 3
    (tmp_path / "c").mkdir()
    assert reading.read_last_write(tmp_path / "c") is None
    with pytest.raises(ValueError, match="no run was found under .*c/; train one"):
        reading.newest_run(tmp_path / "c")


# Weights and checkpoints


def test_weights_are_best_or_last(tmp_path):
    run = write_run(tmp_path / "a")
    for which, first in (("best", "evaluation"), ("last", "checkpoint")):
        with pytest.raises(ValueError, match=f"a has no {which} weights yet; wait for its first {first}"):
            reading.find_weights(run, which)
    assert not reading.has_checkpoint(run) and reading.read_saved_counts(run) == (0, 0)
    layout.weights_path(run, "best").touch()
    write_state(run, 5, agent_step=40, episodes=3, cut_episodes=1)  # of an old run
    write_state(run, 12, agent_step=96, episodes=7)
    assert reading.find_weights(run, "best") == run / "best.weights.h5"
    assert reading.find_weights(run, "last") == run / "checkpoints/000000012/online.weights.h5"
    assert reading.has_checkpoint(run) and reading.read_saved_counts(run) == (96, 7)
    (run / "checkpoints/000000012/state.json").unlink()  # Training is removing it.
    assert reading.read_saved_counts(run) == (40, 2)


def test_milestones_are_in_the_order_of_training(tmp_path):
    assert reading.find_milestones(tmp_path) == []
    (tmp_path / "weights").mkdir()
    paths = [layout.weights_path(tmp_path, layout.milestone(episodes)) for episodes in (50, 100, 1000)]
    for path in reversed(paths):
        path.touch()
    assert reading.find_milestones(tmp_path) == paths


# Rows of training


def test_rows_are_columns_of_numbers(tmp_path):
    run = write_run(tmp_path / "a", episodes=[(5, 1.5), (9, 2)])
    rows = reading.read_rows(run, "train")
    assert list(rows) == layout.COLUMNS["train"]
    np.testing.assert_array_equal([rows["agent_step"], rows["episode_return"]], [(5, 9), (1.5, 2)])
    assert {name: list(values) for name, values in rows.items()} == reading.read_last_rows(run, "train")
    for read in (reading.read_rows, reading.read_last_rows):
        assert {name: list(values) for name, values in read(run, "learn").items()} == {
            name: [] for name in layout.COLUMNS["learn"]}  # There is no such file yet.
    layout.csv_path(run, "learn").touch()
    assert len(reading.read_rows(run, "learn")["agent_step"]) == 0


def test_rows_of_an_old_run_have_the_columns_of_today_and_no_episode_that_was_cut(tmp_path):
    run = write_run(tmp_path / "a")
    write_table(layout.csv_path(run, "train"), layout.OLD_COLUMNS["train"],
                [(5, 5, 1.5, 9, 1, 0, 0, 2), (9, 9, 999, 9, 1, 2, 1, 3), (12, 12, 2, 8, 7, 3, 0, 4)])
    write_table(layout.csv_path(run, "learn"), layout.OLD_COLUMNS["learn"], [range(1, 15), range(2, 16)])
    for read in (reading.read_rows, reading.read_last_rows):
        assert {name: list(values) for name, values in read(run, "train").items()} == dict(
            agent_step=[5, 12], frames=[5, 12], episode_return=[1.5, 2], length=[9, 8], training_reward=[1, 7],
            environment=[0, 3], seconds=[2, 4])
        learn = {name: list(values) for name, values in read(run, "learn").items()}
        assert list(learn) == layout.COLUMNS["learn"]
        assert (learn["learning_rate"], learn["environment_seconds"], learn["seconds"]) == ([8, 9], [10, 11], [14, 15])
    path = layout.csv_path(run, "train")
    path.write_text(",".join(layout.OLD_COLUMNS["train"]) + "\n")
    assert list(reading.read_rows(run, "train")) == layout.COLUMNS["train"]
    path.write_text(",".join(layout.COLUMNS["train"]) + "\n5,5,1.5,9,1,0,0,2\n")
    with pytest.raises(ValueError, match="train.csv is damaged, .*: its rows have 8 values, expected 7"):
        reading.read_rows(run, "train")


def test_a_last_row_without_a_line_end_is_still_being_written(tmp_path):
    run = write_run(tmp_path / "a", episodes=[(5, 1)])
    path = layout.csv_path(run, "train")
    for text in ("9", "9,9,2,9,1,0,4.5"):
        path.write_text(path.read_text().split("\n9")[0].rstrip("\n") + "\n" + text)
        assert list(reading.read_rows(run, "train")["agent_step"]) == [5]
        assert reading.read_last_rows(run, "train")["agent_step"] == [5]


def test_losses_may_be_unknown_and_other_rows_that_are_not_finite_are_left_out(tmp_path):
    run = write_run(tmp_path / "a")
    row = dict.fromkeys(layout.COLUMNS["learn"], 1) | dict.fromkeys(layout.UNKNOWN, "nan")
    path = layout.csv_path(run, "learn")
    write_table(path, layout.COLUMNS["learn"], [row.values()])
    assert np.isnan(reading.read_rows(run, "learn")["loss"]).all()
    assert reading.count_lost_rows(run, "learn") == 0
    lost = [row | dict(epsilon="nan"), row | dict(frames="-inf"), row | dict(agent_step="nan")]
    write_table(path, layout.COLUMNS["learn"], [one.values() for one in (row, *lost, row | dict(agent_step=2))])
    # A bad row does not hide the others.
    assert list(reading.read_rows(run, "learn")["agent_step"]) == [1, 2] and reading.count_lost_rows(run, "learn") == 3


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
        reading.read_rows(tmp_path / "a", "eval")
    assert str(error.value).startswith(f"{path} is damaged, or not of this suite: ")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_only_the_end_of_a_long_file_is_read(tmp_path):
    run = write_run(tmp_path / "a")
    path = layout.csv_path(run, "eval")
    path.write_bytes(b"no row\n" * 100_000 + b"7,7,1,0,2,9,3\n" * 2000)
    rows = reading.read_last_rows(run, "eval")
    assert 1000 < len(rows["agent_step"]) < 2000 and set(rows["episode_return"]) == {2}
    assert reading.read_last_lines(path)[-1] == "7,7,1,0,2,9,3"
    path.write_text("a\nb\nc\n")
    with pytest.raises(ValueError, match="eval.csv is damaged, or not of this suite: could not convert"):
        reading.read_last_rows(run, "eval")
    assert reading.read_last_lines(run / "none") == []


# Evaluations during training


def test_evaluations_are_means_over_their_episodes_and_half_written_ones_are_left_out(tmp_path):
    run = write_run(tmp_path / "a", [(100, (1, 3)), (200, (5, 9)), (300, (6, 8)), (400, (90,))])
    rows = reading.read_evaluations(run, SETTINGS)
    np.testing.assert_array_equal([rows["agent_step"], rows["episode_return"]], [(100, 200, 300), (2, 7, 7)])
    assert reading.best_evaluation(run, SETTINGS) == (300, 7)  # Of equals the later one, as in training.
    assert reading.best_evaluation(write_run(tmp_path / "b"), SETTINGS) is None


@pytest.mark.parametrize("episode_return", ["nan", "inf", "-inf"])
def test_an_evaluation_that_is_not_finite_is_left_out_and_never_the_best(tmp_path, episode_return):
    run = write_run(tmp_path / "a", [(100, (1, 3)), (200, (9, float(episode_return))), (300, (4, 2))])
    assert list(reading.read_evaluations(run, SETTINGS)["episode_return"]) == [2, 3]
    assert reading.best_evaluation(run, SETTINGS) == (300, 3)


@pytest.mark.parametrize("agent_step, limits, unfinished", [
    (200, dict(), True), (201, dict(), False),  # of 300, with an evaluation every 100
    (100, dict(maxepisodes=2), False), (100, dict(maxepisodes=3), True)])
def test_a_run_is_unfinished_until_no_evaluation_follows(tmp_path, agent_step, limits, unfinished):
    run = write_run(tmp_path / "a", episodes=[(5, 1), (12, 2)])
    assert reading.is_unfinished(run, SETTINGS | limits, agent_step) == unfinished


# Episodes that evaluate.py played


def test_episodes_of_a_score(tmp_path):
    run = write_run(tmp_path / "a", fresh=(3, 4.5), flicker=0.5)
    rows, returns = reading.read_episodes(layout.episodes_path(run, "best"))
    np.testing.assert_array_equal(returns, [3, 4.5])
    names = ("policy", "weights", "epsilon", "flicker", "eval_seed")
    assert [{name: row[name] for name in names} for row in rows] == [
        dict(policy="agent", weights="best", epsilon=0.05, flicker=0.5, eval_seed=0)] * 2


def test_episodes_are_counted_by_policy_and_probability(tmp_path):
    run = write_run(tmp_path / "a", fresh=(3, 4, 5))
    assert reading.count_episodes(layout.episodes_path(run, "best")) == {("agent", None): 3}
    write_sweep(run, *[("agent", "best", p, 1, 0.05) for p in (0.5, 1.0, 0.5)], ("random", "random", 1.0, 7, 1.0))
    assert reading.count_episodes(layout.sweep_path(run)) == {
        ("agent", 0.5): 2, ("agent", 1.0): 1, ("random", 1.0): 1}
    layout.sweep_path(run).write_text("policy,observation_probability\nagent,often\n")
    assert not reading.count_episodes(layout.sweep_path(run)) and not reading.count_episodes(run / "none.csv")


def test_random_play_is_that_beside_a_score_or_else_of_a_sweep(tmp_path):
    score, swept, neither = (write_run(tmp_path / name, random=(1, 2) * (name == "a")) for name in "abc")
    for run in (score, swept):
        write_sweep(run, ("agent", "best", 1.0, 50, 0.05), ("random", "random", 1.0, 7, 1.0))
    returns = reading.read_random_play([score, swept, neither])
    assert {run: list(values) for run, values in returns.items()} == {score: [1, 2], swept: [7]}


def test_a_sweep_is_sorted_by_probability(tmp_path):
    run = write_run(tmp_path / "a")
    played = [("agent", "best", p, episode_return, 0.05) for p, episode_return in ((1.0, 50), (0.1, 5), (1.0, 60))]
    write_sweep(run, *played, ("random", "random", 1.0, 7, 1.0))
    of_agent, of_random, played_with = reading.read_sweep(run, 1.0)
    assert list(of_agent.items()) == [(0.1, [5]), (1.0, [50, 60])]
    assert of_random == [7] and played_with == {("best", 0.05)}
    with pytest.raises(ValueError, match="observability.csv is damaged.* no rows of the probability of training, 0.5"):
        reading.read_sweep(run, 0.5)
    write_sweep(run, ("agent", "best", 1.0, 50, 0.05))
    with pytest.raises(ValueError, match="it has no rows of random play"):
        reading.read_sweep(run, 1.0)


@pytest.mark.parametrize("text, message", [
    ("", "it has no episodes"),
    ("policy,weights\nagent,best\n", "it has no column 'epsilon'"),
    ("policy,weights,epsilon,flicker,eval_seed,episode_return\nagent,best,0,0,0,nan\n", "a value is not finite"),
    ("policy,weights,epsilon,flicker,eval_seed,episode_return\nagent,best,0,0,0\n", "not 'NoneType'"),
    ("policy,weights,epsilon,flicker,eval_seed,episode_return\nagent,best,0,0,0,ten\n",
     "could not convert string to float: 'ten'"),
])
def test_damaged_episodes_are_named(tmp_path, text, message):
    path = tmp_path / "episodes-best.csv"
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        reading.read_episodes(path)
    assert str(error.value).startswith(f"{path} is damaged, or not of this suite: ") and message in str(error.value)


# Locks


def test_a_lock_is_held_by_a_live_process_only(tmp_path):
    assert reading.is_locked(tmp_path) is False
    lock = tmp_path / "lock"
    lock.write_text("process 1 on another.machine")
    assert reading.is_locked(tmp_path) is None
    lock.write_text(f"process 1 on {socket.gethostname()}")
    assert reading.is_locked(tmp_path) is False
    with hold_lock(tmp_path, socket.gethostname()):
        assert reading.is_locked(tmp_path) is True
    assert reading.is_locked(tmp_path) is False


def test_a_file_system_without_locks_tells_nothing(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError
    (tmp_path / "lock").touch()
    monkeypatch.setattr(fcntl, "lockf", refuse)
    assert reading.is_locked(tmp_path) is None
