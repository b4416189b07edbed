"""The one reader of runs: runs and weights are found, rows read, damaged files named, and no link is followed."""

import json
import os
import socket
import subprocess
import sys

import pytest

from helpers.run_files import SETTINGS, find_checked, hold_lock, write_run, write_state
from storage import layout, locks, reading, training

# Settings and directories


def test_runs_are_found_once_in_folders_of_folders(tmp_path):
    a, b = write_run(tmp_path / "x" / "a"), write_run(tmp_path / "b", seed=2)
    (tmp_path / "a.log").touch()
    found, others = find_checked([tmp_path / "b", tmp_path, a, tmp_path / "a.log"])
    assert {path: settings["seed"] for path, settings in found.items()} == {b: 2, a: 1}
    assert others == [f"left out: {tmp_path / 'a.log'} is a file, so it is no run of this suite"]


def test_runs_that_are_links_are_found_once(tmp_path):
    run = write_run(tmp_path / "scratch/a", episodes=[(100, 1)])
    (tmp_path / "runs").mkdir()
    link = tmp_path / "runs/a"
    link.symlink_to(run)
    assert list(find_checked([tmp_path / "runs"])[0]) == [link] and reading.newest_run(tmp_path / "runs") == link
    assert len(find_checked([tmp_path])[0]) == 1


@pytest.mark.parametrize("config, message", [
    (None, "holds no config.json, so it is no run of this suite"),
    ("{", "config.json is not the configuration of a run of this suite"),
    ('{"settings": {}}', "config.json is not the configuration of a run of this suite (it has no 'network')"),
    ('{"settings": [1]}', "config.json is not the configuration of a run of this suite (it holds no settings)"),
    ("[" * 100_000, "config.json is not the configuration of a run of this suite (it is nested too deeply)"),
    ("\udcff", "config.json is not the configuration of a run of this suite ('utf-8' codec can't decode"),
    (json.dumps(dict(settings=SETTINGS | dict(seed="1"))), "config.json has '1' for seed; expected a non-negative"),
    (json.dumps(dict(settings=SETTINGS | dict(env=None))), "config.json has None for env; expected a value"),
])
def test_a_directory_that_is_no_run_is_named(tmp_path, config, message):
    (tmp_path / "a").mkdir()
    if config is not None:
        layout.config_path(tmp_path / "a").write_bytes(config.encode(errors="surrogateescape"))
    with pytest.raises(ValueError) as error:
        find_checked([tmp_path / "a"])
    assert str(error.value).startswith(str(tmp_path / "a")) and message in str(error.value)
    with pytest.raises(ValueError, match="none of the 2 paths given is a run; the first: "):
        (tmp_path / "b").mkdir()
        find_checked([tmp_path / "a", tmp_path / "b"])


@pytest.mark.parametrize("given, expected", [
    ("runs/Pogn-DRQN-s1", "{}/runs/Pong-DRQN-s1, {}/runs/Pong-DRQN-s2"), ("rusn/Pong-DRQN-s1", "{}/runs"),
    ("runs/*", "runs/*"), ("nowhere", "runs/*")])
def test_a_path_that_is_missing_is_answered_with_the_nearest(tmp_path, given, expected):
    for name in ("Pong-DRQN-s1", "Pong-DRQN-s2", "Breakout"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    (tmp_path / "runs/Pong-DRQN-s1.log").write_text("no run")
    told = f"does not exist; expected a run or a folder of runs, such as {expected.format(tmp_path, tmp_path)}"
    for read in (lambda path: find_checked([path]), reading.read_config):
        with pytest.raises(ValueError) as error:
            read(tmp_path / given)
        assert str(error.value) == f"{tmp_path / given} {told}"


def test_a_damaged_run_does_not_hide_the_others(tmp_path):
    runs = [write_run(tmp_path / name, [(100, (1, 3))], seed=seed) for seed, name in enumerate("abc")]
    layout.config_path(runs[1]).write_text("{")
    found, (note,) = find_checked([tmp_path])
    assert list(found) == [runs[0], runs[2]] and note.startswith(f"left out: {runs[1]}/config.json is not the config")
    layout.csv_path(runs[2], "eval").write_text("torn\n")
    rows, (note,) = reading.read_each(found, lambda directory: len(training.read_rows(directory, "eval")["episode"]))
    assert rows == {runs[0]: 2} and note.startswith(f"left out: {runs[2]}/eval.csv is damaged")


def test_a_name_that_would_move_the_cursor_is_no_run(tmp_path):
    run = write_run(tmp_path / "a\x1b[31m", episodes=[(100, 1)])
    (_, note), other = find_checked([tmp_path, write_run(tmp_path / "b")]), tmp_path / "b"
    assert note == [f"left out: {tmp_path}/a\\x1b[31m has control characters in its name; rename it"]
    os.utime(layout.csv_path(other, "train"), (0, 0))
    assert reading.newest_run(tmp_path) == other != run


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


def test_a_checkpoint_with_wrong_counts_counts_nothing(tmp_path):
    run = write_run(tmp_path / "a")
    write_state(run, 5, agent_step=40, episodes=3)
    for number, wrong in enumerate([dict(agent_step="x"), dict(agent_step=-1), dict(episodes=[]), dict(episodes=True)]):
        write_state(run, 12 + number, **dict(agent_step=96, episodes=7) | wrong)
    assert reading.read_saved_counts(run) == (40, 3)


# Links, pipes and devices in the place of a run's files


NO_FILES = {"a link": lambda path: path.symlink_to(path.with_name("private")), "a device or a pipe": os.mkfifo,
            "a folder": lambda path: path.mkdir()}


@pytest.mark.parametrize("kind", NO_FILES)
@pytest.mark.parametrize("read, name", [
    (reading.read_config, "config.json"), (lambda run: training.read_rows(run, "eval"), "eval.csv"),
    (lambda run: training.read_last_rows(run, "train"), "train.csv"), (reading.is_locked, "lock"),
    (lambda run: training.read_header(run, "train"), "train.csv"),
    (lambda run: reading.find_weights(run, "best"), "best.weights.h5"),
    (lambda run: reading.read_state(run / "checkpoints/000000012"), "checkpoints/000000012/state.json"),
    (reading.find_milestones, "weights/000050.weights.h5")])
def test_what_is_no_regular_file_is_never_opened(tmp_path, read, name, kind):
    path = write_run(tmp_path / "a") / name
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name("private").write_text("private")
    NO_FILES[kind](path)
    with pytest.raises(ValueError, match=f"{name} is {kind}, so it is not opened") as error:
        read(tmp_path / "a")
    assert str(path) in str(error.value)


@pytest.mark.parametrize("folder", ["checkpoints", "checkpoints/000000012"])
def test_a_link_in_the_place_of_a_folder_is_not_followed(tmp_path, folder):
    run, theirs = write_run(tmp_path / "a"), write_run(tmp_path / "theirs")
    write_state(theirs, 12, agent_step=96, episodes=7)
    (run / folder).parent.mkdir(exist_ok=True)
    (run / folder).symlink_to(theirs / folder)
    assert reading.read_saved_counts(run) == (0, 0)
    with pytest.raises(ValueError, match=f"a/{folder} is a link, so it is not opened"):
        reading.find_weights(run, "last")


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
    monkeypatch.setattr(locks.fcntl, "lockf", refuse)
    assert reading.is_locked(tmp_path) is None


def test_looking_at_a_run_of_this_process_does_not_give_its_lock_up(tmp_path):
    with open(tmp_path / "lock", "a+b") as file:
        locks.lock(file)
        assert reading.is_locked(tmp_path) is True
        again = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        another = subprocess.run([sys.executable, "-c", again, tmp_path / "lock"], capture_output=True, text=True)
        assert "BlockingIOError" in another.stderr
    assert reading.is_locked(tmp_path) is None  # It names no machine.
