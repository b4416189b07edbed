"""A run on disk cuts rows where the checkpoint ends, admits one process at a time, and refuses other directories."""

import os
import pathlib
import re
import socket
import subprocess
import sys

import numpy as np
import pytest

from helpers.run_parts import (
    SETTINGS,
    check_restores,
    make_small_replay,
    open_run,
    read_steps,
    read_tree,
    save_run,
    write_episode,
)
from storage import layout, locks, opening, reading, training
from storage import run as run_module
from storage.run import Run

ROOT = pathlib.Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("small_segments")


# Rows


def test_a_row_has_the_header_s_columns_and_a_missing_one_is_noticed(tmp_path):
    run = open_run(tmp_path)
    write_episode(run, 7)
    with pytest.raises(AssertionError, match="length"):
        run.row("train", **{name: 0 for name in layout.COLUMNS["train"] if name != "length"})
    run.close()
    header, row = (tmp_path / "train.csv").read_text().splitlines()
    assert header.startswith("agent_step,frames,episode_return,length,")
    assert row.startswith("7,0,0.5,0,")


def test_rows_after_the_checkpoint_are_cut_when_a_run_goes_on(tmp_path):
    run, ring = open_run(tmp_path), make_small_replay()
    save_run(run, ring, 10)
    write_episode(run, 11)
    write_episode(run, 12)
    run.close()
    assert read_steps(tmp_path) == [10, 11, 12]
    run = open_run(tmp_path)
    assert read_steps(tmp_path) == [10]
    write_episode(run, 11)
    run.close()
    assert read_steps(tmp_path) == [10, 11]
    assert (tmp_path / "train.csv").read_text().count("agent_step") == 1


def test_a_run_that_died_before_its_first_checkpoint_begins_again(tmp_path):
    run = open_run(tmp_path)
    write_episode(run, 1)
    run.close()
    assert open_run(tmp_path).checkpoints.state is None
    assert read_steps(tmp_path) == []


def lose_rows(path, num_bytes, zeros=b""):
    """Cut the last bytes of a file off, or put zeros in their place."""
    path.write_bytes(path.read_bytes()[:-num_bytes] + zeros)


@pytest.mark.parametrize("damage, left, lost", [
    (lambda path: lose_rows(path, 7), [10, 20], 1),
    (lambda path: lose_rows(path, 7, bytes(7)), [10, 20], 1),
    (lambda path: lose_rows(path, len("30,0,0.5,0,0,0,0\n")), [10, 20], 1),
    (lambda path: lose_rows(path, 19), [10], 2),
    (lambda path: path.write_bytes(b""), [], 3),
    (pathlib.Path.unlink, [], 3),
])
def test_a_csv_that_lost_rows_is_cut_at_its_last_whole_one_and_says_so(tmp_path, capsys, damage, left, lost):
    run, ring = open_run(tmp_path), make_small_replay()
    for end in (10, 20, 30):
        save_run(run, ring, end)
    run.close()
    damage(tmp_path / "train.csv")
    run = open_run(tmp_path)
    assert capsys.readouterr().err == (f"{tmp_path / 'train.csv'} has lost {lost} of the rows that the checkpoint "
                                       "counts; training goes on without them.\n")
    assert read_steps(tmp_path) == left
    save_run(run, ring, 40)
    run.close()
    assert training.read_rows(tmp_path, "train")["agent_step"].tolist() == [*left, 40]
    open_run(tmp_path).close()
    assert capsys.readouterr().err == ""  # The next checkpoint counts what is there.


def test_rows_are_on_the_disk_before_the_checkpoint_that_counts_them(tmp_path, monkeypatch):
    run, ring, synced = open_run(tmp_path), make_small_replay(), []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    save_run(run, ring, 10)
    names = [pathlib.Path(path).name for path in synced]
    assert {"train.csv", "learn.csv", "eval.csv"} == set(names[:3]) and names.index("state.json") > 3
    assert run.checkpoints.folder.name == names[-1]


def test_tensorboard_reads_the_scalars_and_unknown_values_are_left_out(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = open_run(tmp_path)
    run.scalars(5, train__episode_return=1.5, learn__loss=float("nan"))
    run.scalars(9, train__episode_return=2.5, learn__loss=0.25)
    run.close()
    board = EventAccumulator(str(tmp_path))
    board.Reload()
    assert {tag: [(e.step, e.value) for e in board.Scalars(tag)] for tag in board.Tags()["scalars"]} == {
        "train/episode_return [raw reward]": [(5, 1.5), (9, 2.5)], "learn/loss": [(9, 0.25)]}


# One process at a time


HOLDER = """
import sys
from storage.run import Run
run = Run(sys.argv[1], eval(sys.argv[2]))
print("open", flush=True)
sys.stdin.read()
"""


def test_the_second_process_is_refused_and_told_which_is_the_first(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path), repr(SETTINGS)], cwd=ROOT,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "open\n"
        before = read_tree(tmp_path)
        sentence = f"in use: process {holder.pid} on {re.escape(socket.gethostname())} trains there"
        for refuse in lambda: opening.check(tmp_path, SETTINGS), lambda: open_run(tmp_path):
            with pytest.raises(ValueError, match=sentence) as error:
                refuse()
            assert "\n" not in str(error.value) and read_tree(tmp_path) == before
        assert reading.read_config(tmp_path)["settings"] == SETTINGS  # To read needs no lock.
    finally:
        holder.kill()
        holder.communicate()
    open_run(tmp_path).close()  # The lock went with its process.


def test_a_lock_that_is_held_for_a_moment_is_waited_for(tmp_path, monkeypatch):
    taken, lock = [], locks.lock

    def held_twice(file, shared=False):
        taken.append(file)
        if len(taken) < 3:
            raise BlockingIOError
        lock(file, shared)
    monkeypatch.setattr(locks, "lock", held_twice)
    open_run(tmp_path).close()
    assert len(taken) == 3


@pytest.mark.parametrize("leftover", ["lock", "config.json.aside"])
@pytest.mark.parametrize("resume", ["auto", "never"])
def test_a_run_killed_before_its_config_can_begin(tmp_path, leftover, resume):
    (tmp_path / leftover).write_text("half")
    assert open_run(tmp_path, resume).checkpoints.state is None


# Directories refused


def test_config_keeps_settings_versions_commit_and_command(tmp_path):
    Run(tmp_path, SETTINGS, command=["train.py", "--seed=1"])
    config = reading.read_config(tmp_path)
    assert config["settings"] == SETTINGS and config["command"] == ["train.py", "--seed=1"]
    assert {"keras", "tensorflow", "gymnasium", "ale-py", "numpy"} <= config["versions"].keys()
    assert config["versions"]["numpy"] == np.__version__
    assert len(config["git_commit"]) >= 7


def test_the_commit_is_the_suites_and_no_other_repositorys(tmp_path, monkeypatch):
    git = lambda *words: subprocess.run(["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x", *words],
                                        check=True, capture_output=True, text=True).stdout.strip()
    git("init")
    git("commit", "--allow-empty", "-m", "thesis")
    inside = tmp_path / "vendored"
    inside.mkdir()
    assert run_module._git_commit(tmp_path.resolve()) == git("rev-parse", "HEAD")
    assert run_module._git_commit(inside.resolve()) == "unknown"
    monkeypatch.setenv("PATH", str(inside))
    assert run_module._git_commit(tmp_path.resolve()) == "unknown"  # without git


@pytest.mark.parametrize("changed, named", [
    (dict(units=16), ["--units was 8 and is now 16"]),
    (dict(seed=2, gamma=0.9, maxsteps=7), ["--gamma was 0.99 and is now 0.9", "--seed was 1 and is now 2"])])
def test_a_run_with_other_settings_is_refused_naming_each_flag(tmp_path, changed, named):
    run, ring = open_run(tmp_path), make_small_replay()
    save_run(run, ring, 10)
    run.close()
    before = read_tree(tmp_path)
    with pytest.raises(ValueError, match="other settings") as error:
        open_run(tmp_path, **changed)
    assert all(sentence in str(error.value) for sentence in named)
    assert str(error.value).count(" was ") == len(named) and "\n" not in str(error.value)
    assert read_tree(tmp_path) == before


def test_a_setting_that_came_or_went_is_a_difference_too(tmp_path):
    open_run(tmp_path, flicker=0.5).close()
    with pytest.raises(ValueError, match="--flicker was 0.5 and is now None"):
        open_run(tmp_path)


@pytest.mark.parametrize("free", ["maxsteps", "maxepisodes", "eval_period", "checkpoint_period", "weights_period"])
def test_limits_and_periods_may_change(tmp_path, free):
    run, ring = open_run(tmp_path), make_small_replay()
    save_run(run, ring, 10)
    run.close()
    check_restores(open_run(tmp_path, **{free: 12345}), 10)
    assert reading.read_config(tmp_path)["settings"][free] == 12345


@pytest.mark.parametrize("name, content", [
    ("thesis.tex", "years of work"), ("config.json", "{}"), ("config.json", "[1, 2]"),
    ("config.json", '{"settings": {"lr": 1}}'), ("config.json", "no JSON")])
@pytest.mark.parametrize("resume", ["auto", "never"])
def test_a_directory_of_something_else_is_refused_and_left_alone(tmp_path, name, content, resume):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match="no run of this suite|not the configuration of a run|not empty"):
        open_run(tmp_path, resume)
    assert read_tree(tmp_path) == {name: content.encode()}


def test_never_refuses_a_run_and_deletes_nothing(tmp_path):
    run, ring = open_run(tmp_path), make_small_replay()
    save_run(run, ring, 10)
    write_episode(run, 12)
    run.close()
    before = read_tree(tmp_path)
    with pytest.raises(ValueError, match="not empty.*--resume=never"):
        open_run(tmp_path, "never")
    assert read_tree(tmp_path) == before


@pytest.mark.parametrize("place", [".", "a/b"])
@pytest.mark.parametrize("resume", ["auto", "never"])
def test_an_empty_or_missing_directory_is_begun(tmp_path, place, resume):
    assert open_run(tmp_path / place, resume).checkpoints.state is None
    assert reading.read_config(tmp_path / place)["settings"] == SETTINGS


@pytest.mark.parametrize("place", ["file/run", "file"])
def test_a_directory_that_cannot_be_made_is_told(tmp_path, place):
    (tmp_path / "file").write_text("a file")
    with pytest.raises(ValueError, match="^--run_dir=.*file.* cannot be written"):
        open_run(tmp_path / place)
    assert read_tree(tmp_path) == {"file": b"a file"}
