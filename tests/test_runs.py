"""A run on disk: rows cut where the checkpoint ends, damage survived, and directories refused."""

import csv
import pathlib
import re
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest

import checkpoints
import disks
import replay
import runs

SETTINGS = dict(network="DRQN", env="CartPole-v1", maxsteps=100, seed=1, eval_period=10, checkpoint_period=10, units=8, gamma=0.99)
NUM_ENVS = 2


@pytest.fixture(autouse=True)
def small_segments(monkeypatch):
    monkeypatch.setattr(checkpoints, "SEGMENT_TIMESTEPS", 8 * NUM_ENVS)


def open_run(directory, resume="auto", **changed):
    return runs.Run(directory, SETTINGS | changed, resume)


def make_replay(num_rows=20):
    return replay.Replay(num_rows * NUM_ENVS, NUM_ENVS, (3,), np.float32, 1, 1, "timestep", 0)


def fill(ring, end):
    """Append rows up to `end`, row r filled with the number r, an episode of 5 rows after the other."""
    for row in range(ring.end, end):
        everywhere = np.full(NUM_ENVS, row)
        ring.append(np.full((NUM_ENVS, 3), row), everywhere, everywhere, everywhere, np.full(NUM_ENVS, row % 5 == 0))


def save(run, ring, end):
    """Go on to row `end`, write a row of train.csv, and a checkpoint."""
    fill(ring, end)
    episode(run, end)
    run.save(dict(agent_step=end * NUM_ENVS), dict(value=np.arange(500) + end), ring, lambda path: path.write(b"weights"))


def episode(run, agent_step):
    zeros = dict.fromkeys(runs.COLUMNS["train"], 0)
    run.row("train", **zeros | dict(agent_step=agent_step, episode_return=0.5))


def steps_in_csv(directory):
    with open(pathlib.Path(directory) / "train.csv") as file:
        return [int(row["agent_step"]) for row in csv.DictReader(file)]


def tree(directory):
    """Return {relative path: bytes} of every file."""
    directory = pathlib.Path(directory)
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def check_restores(run, end):
    """Assert that the run goes on at row `end`, with the replay of then."""
    assert run.checkpoints.state["replay_end"] == end and run.checkpoints.state["agent_step"] == end * NUM_ENVS
    np.testing.assert_array_equal(run.checkpoints.load_arrays()["value"], np.arange(500) + end)
    restored, expected = make_replay(), make_replay()
    fill(expected, end)
    restored.restore(run.checkpoints.load_replay(), end)
    for name, column in expected.columns.items():
        np.testing.assert_array_equal(restored.columns[name], column, err_msg=name)


# Rows


def test_a_row_has_the_header_s_columns_and_a_missing_one_is_noticed(tmp_path):
    run = open_run(tmp_path)
    episode(run, 7)
    with pytest.raises(AssertionError, match="length"):
        run.row("train", **{name: 0 for name in runs.COLUMNS["train"] if name != "length"})
    run.close()
    header, row = (tmp_path / "train.csv").read_text().splitlines()
    assert header.startswith("agent_step,frames,episode_return,length,")
    assert row.startswith("7,0,0.5,0,")


def test_rows_after_the_checkpoint_are_cut_when_a_run_goes_on(tmp_path):
    run, ring = open_run(tmp_path), make_replay()
    save(run, ring, 10)
    episode(run, 11)
    episode(run, 12)
    run.close()
    assert steps_in_csv(tmp_path) == [10, 11, 12]
    run = open_run(tmp_path)
    assert steps_in_csv(tmp_path) == [10]
    episode(run, 11)
    run.close()
    assert steps_in_csv(tmp_path) == [10, 11]
    assert (tmp_path / "train.csv").read_text().count("agent_step") == 1


def test_a_run_that_died_before_its_first_checkpoint_begins_again(tmp_path):
    run = open_run(tmp_path)
    episode(run, 1)
    run.close()
    assert open_run(tmp_path).checkpoints.state is None
    assert steps_in_csv(tmp_path) == []


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


# Checkpoints


@pytest.mark.parametrize("ends", [(6, 11), (8, 16), (10, 30), (25, 70, 71), tuple(range(5, 95, 7))])
def test_a_checkpoint_restores_arrays_and_replay(tmp_path, ends):
    run, ring = open_run(tmp_path), make_replay()
    for end in ends:
        save(run, ring, end)
    run.close()
    check_restores(open_run(tmp_path), ends[-1])


def test_only_the_newest_two_checkpoints_and_their_segments_stay(tmp_path):
    run, ring = open_run(tmp_path), make_replay()
    for end in (10, 30, 50, 53):
        save(run, ring, end)
    assert sorted(path.name for path in tmp_path.glob("checkpoints/*")) == ["000000050", "000000053"]
    # 20 rows are kept; the checkpoint of row 50 begins at row 30, which lies in the segment that was begun at row 30.
    assert sorted(path.name for path in tmp_path.glob("replay/*")) == [
        "000000030-000000032.npz", "000000032-000000040.npz", "000000040-000000048.npz",
        "000000048-000000050.npz", "000000048-000000053.npz"]


def test_full_segments_are_never_written_again(tmp_path):
    run, ring = open_run(tmp_path), make_replay()
    save(run, ring, 18)
    before = {path.name: path.stat() for path in tmp_path.glob("replay/*")}
    save(run, ring, 25)
    run.close()
    run = open_run(tmp_path)  # Nor after the run has stopped and goes on.
    ring.restore(run.checkpoints.load_replay(), 25)
    save(run, ring, 27)
    for name in ("000000000-000000008.npz", "000000008-000000016.npz"):
        now = (tmp_path / "replay" / name).stat()
        assert (now.st_ino, now.st_mtime_ns) == (before[name].st_ino, before[name].st_mtime_ns)


@pytest.mark.parametrize("end", [25, 32])
def test_a_replay_with_segments_of_another_size_goes_on(tmp_path, monkeypatch, end):
    run, ring = open_run(tmp_path), make_replay()
    save(run, ring, end)
    run.close()
    monkeypatch.setattr(checkpoints, "SEGMENT_TIMESTEPS", 6 * NUM_ENVS)
    run, ring = open_run(tmp_path), make_replay()
    ring.restore(run.checkpoints.load_replay(), end)
    for row in range(end + 1, 46):
        fill(ring, row)
        run.checkpoints.write_ahead(ring)
    save(run, ring, 45)
    run.close()
    check_restores(open_run(tmp_path), 45)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-9])


NEWEST = dict(arrays="checkpoints/000000027/arrays.npz", weights="checkpoints/000000027/online.weights.h5",
              replay="replay/000000024-000000027.npz",
              state="checkpoints/000000027/state.json")
DAMAGE = [(flip, "arrays"), (truncate, "replay"), (truncate, "state")]
MORE_DAMAGE = [(damage, part) for damage in (flip, truncate, pathlib.Path.unlink) for part in NEWEST if (damage, part) not in DAMAGE]


def damaged_run(directory, damage, part):
    """Write checkpoints at rows 10, 20 and 27, and damage the last; return the run that goes on."""
    run, ring = open_run(directory), make_replay()
    for end in (10, 20, 27):
        save(run, ring, end)
    run.close()
    damage(directory / NEWEST[part])
    return open_run(directory)


@pytest.mark.parametrize("damage, part", DAMAGE + MORE_DAMAGE)
def test_a_damaged_checkpoint_falls_back_to_the_one_before_it(tmp_path, capsys, damage, part):
    run = damaged_run(tmp_path, damage, part)
    check_restores(run, 20)
    assert steps_in_csv(tmp_path) == [10, 20]
    said = capsys.readouterr().err
    assert "000000027 is damaged" in said and said.count("\n") == 1


@pytest.mark.parametrize("damage, part", DAMAGE)
def test_after_a_fall_the_damaged_checkpoint_is_written_anew(tmp_path, damage, part):
    run, ring = damaged_run(tmp_path, damage, part), make_replay()
    ring.restore(run.checkpoints.load_replay(), 20)
    save(run, ring, 27)
    run.close()
    check_restores(open_run(tmp_path), 27)


@pytest.mark.parametrize("damage, part", DAMAGE)
def test_after_a_fall_the_newest_two_whole_checkpoints_stay(tmp_path, damage, part):
    run, ring = damaged_run(tmp_path, damage, part), make_replay()
    ring.restore(run.checkpoints.load_replay(), 20)
    save(run, ring, 31)
    run.close()
    truncate(tmp_path / "checkpoints/000000031/arrays.npz")
    check_restores(open_run(tmp_path), 20)


def test_best_weights_are_replaced(tmp_path):
    run = open_run(tmp_path)
    for weights in (b"first", b"second"):
        run.save_weights("best", lambda path, weights=weights: path.write(weights))
        assert (tmp_path / "best.weights.h5").read_bytes() == weights


def test_segments_written_ahead_are_those_of_a_checkpoint(tmp_path):
    runs_of = [open_run(tmp_path / name) for name in ("ahead", "at_once")]
    rings = [make_replay(), make_replay()]
    for end in (7, 8, 9, 15, 16, 24, 27, 32, 40, 41):
        for run, ring in zip(runs_of, rings):
            fill(ring, end)
            if run is runs_of[0]:
                run.checkpoints.write_ahead(ring)
            if end in (9, 27, 41):
                save(run, ring, end)
    names = [{name for name in tree(run.directory) if name.startswith(("replay", "checkpoints"))} for run in runs_of]
    assert names[0] == names[1]
    check_restores(open_run(tmp_path / "ahead"), 41)


# A full disk, and a directory that cannot be written


@pytest.fixture
def disk(tmp_path):
    with disks.small_disk(tmp_path / "disk") as disk:
        yield disk


def test_what_a_full_disk_refuses_waits_and_nothing_half_written_is_left(disk):
    directory, ring = disk.place / "run", make_replay()
    run = open_run(directory)
    run.save_weights("best", lambda path: path.write(b"first" * 999))
    save(run, ring, 10)
    before = tree(directory)
    disk.fill()
    for end in (16, 21, 24, 27):
        for _ in range(200):  # More than the rest of a page takes.
            episode(run, end)
            run.scalars(end, train__episode_return=1.0)
        fill(ring, end)
        run.checkpoints.write_ahead(ring)
        run.save_weights("best", lambda path: path.write(b"later" * 999))
        run.save_weights(f"weights/{end:06d}", lambda path, end=end: path.write(bytes([end]) * 999))
        with pytest.raises(OSError, match="No space left|File too large"):
            save(run, ring, end)
        now = tree(directory)
        assert now.keys() == before.keys()
        for name in now:
            assert now[name].startswith(before[name])
            assert name != "train.csv" or now[name].endswith(b"\n")
    disk.free()
    copy = shutil.copytree(directory, disk.place / "copy")
    check_restores(open_run(copy), 10)  # What SIGKILL would have left.
    assert steps_in_csv(copy) == [10]
    save(run, ring, 30)
    assert steps_in_csv(directory) == [10, *(end for end in (16, 21, 24, 27) for _ in range(201)), 30]
    assert (directory / "best.weights.h5").read_bytes() == b"later" * 999
    for end in (16, 21, 24, 27):
        assert (directory / f"weights/{end:06d}.weights.h5").read_bytes() == bytes([end]) * 999
    run.close()
    check_restores(open_run(directory), 30)
    assert not list(directory.rglob("*aside*"))


def test_wherever_in_a_checkpoint_the_disk_becomes_full(disk):
    run, ring = open_run(disk.place / "run"), make_replay()
    save(run, ring, 10)
    before, noise = tree(run.directory), np.random.default_rng(0).random(9000)  # 72 kB that do not shrink
    fill(ring, 30)
    for pages in range(60):
        disk.fill(but=4096 * pages)
        try:
            run.save(dict(agent_step=60), dict(noise=noise), ring, lambda path: path.write(noise.tobytes()))
            break
        except OSError:
            assert tree(run.directory) == before | {name: data for name, data in tree(run.directory).items() if name.startswith("replay/")}
        disk.free()
    assert pages > 30 or not disk.mounted
    run.close()
    assert open_run(run.directory).checkpoints.state["agent_step"] == 60


@pytest.mark.parametrize("part", ["checkpoints", "replay"])
def test_a_folder_that_cannot_be_written_leaves_the_last_checkpoint_whole(tmp_path, part):
    run, ring = open_run(tmp_path), make_replay()
    save(run, ring, 10)
    (tmp_path / part).rename(tmp_path / "moved")
    (tmp_path / part).touch()  # Root may write into any folder, but not into a file as if it were one.
    fill(ring, 16)
    run.checkpoints.write_ahead(ring)
    with pytest.raises(OSError, match="Not a directory|File exists"):
        save(run, ring, 16)
    (tmp_path / part).unlink()
    (tmp_path / "moved").rename(tmp_path / part)
    save(run, ring, 18)
    run.close()
    check_restores(open_run(tmp_path), 18)
    assert steps_in_csv(tmp_path) == [10, 16, 18]


def test_rows_that_could_not_be_written_in_the_end_are_an_error(disk):
    run = open_run(disk.place / "run")
    disk.fill()
    for _ in range(400):
        episode(run, 7)
    with pytest.raises(OSError, match="No space left|File too large"):
        run.close()


# One process at a time


HOLDER = """
import sys, runs
run = runs.Run(sys.argv[1], eval(sys.argv[2]))
print("open", flush=True)
sys.stdin.read()
"""


def test_the_second_process_is_refused_and_told_which_is_the_first(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path), repr(SETTINGS)], cwd=pathlib.Path(runs.__file__).parent,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "open\n"
        before = tree(tmp_path)
        with pytest.raises(ValueError, match=f"in use: process {holder.pid} on {re.escape(socket.gethostname())} trains there") as error:
            open_run(tmp_path)
        assert "\n" not in str(error.value) and tree(tmp_path) == before
        assert runs.read_config(tmp_path)["settings"] == SETTINGS  # To read needs no lock.
    finally:
        holder.kill()
        holder.communicate()
    open_run(tmp_path).close()  # The lock went with its process.


@pytest.mark.parametrize("leftover", ["lock", "config.json.aside"])
@pytest.mark.parametrize("resume", ["auto", "never"])
def test_a_run_killed_before_its_config_can_begin(tmp_path, leftover, resume):
    (tmp_path / leftover).write_text("half")
    assert open_run(tmp_path, resume).checkpoints.state is None


# Directories refused


def test_config_keeps_settings_versions_commit_and_command(tmp_path):
    runs.Run(tmp_path, SETTINGS, command=["train.py", "--seed=1"])
    config = runs.read_config(tmp_path)
    assert config["settings"] == SETTINGS and config["command"] == ["train.py", "--seed=1"]
    assert {"keras", "tensorflow", "gymnasium", "ale-py", "numpy"} <= config["versions"].keys()
    assert config["versions"]["numpy"] == np.__version__
    assert len(config["git_commit"]) >= 7


@pytest.mark.parametrize("changed, named", [
    (dict(units=16), ["--units was 8 and is now 16"]),
    (dict(seed=2, gamma=0.9, maxsteps=7), ["--gamma was 0.99 and is now 0.9", "--seed was 1 and is now 2"])])
def test_a_run_with_other_settings_is_refused_naming_each_flag(tmp_path, changed, named):
    run, ring = open_run(tmp_path), make_replay()
    save(run, ring, 10)
    run.close()
    before = tree(tmp_path)
    with pytest.raises(ValueError, match="other settings") as error:
        open_run(tmp_path, **changed)
    assert all(sentence in str(error.value) for sentence in named)
    assert str(error.value).count(" was ") == len(named) and "\n" not in str(error.value)
    assert tree(tmp_path) == before


def test_a_setting_that_came_or_went_is_a_difference_too(tmp_path):
    open_run(tmp_path, flicker=0.5).close()
    with pytest.raises(ValueError, match="--flicker was 0.5 and is now None"):
        open_run(tmp_path)


@pytest.mark.parametrize("free", ["maxsteps", "maxepisodes", "eval_period", "checkpoint_period", "weights_period"])
def test_limits_and_periods_may_change(tmp_path, free):
    run, ring = open_run(tmp_path), make_replay()
    save(run, ring, 10)
    run.close()
    check_restores(open_run(tmp_path, **{free: 12345}), 10)
    assert runs.read_config(tmp_path)["settings"][free] == 12345


@pytest.mark.parametrize("name, content", [("thesis.tex", "years of work"), ("config.json", "{}"), ("config.json", "[1, 2]"),
                                           ("config.json", '{"settings": {"lr": 1}}'), ("config.json", "no JSON")])
@pytest.mark.parametrize("resume", ["auto", "never"])
def test_a_directory_of_something_else_is_refused_and_left_alone(tmp_path, name, content, resume):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match="no run of this suite|not the configuration of a run|not empty"):
        open_run(tmp_path, resume)
    assert tree(tmp_path) == {name: content.encode()}


def test_never_refuses_a_run_and_deletes_nothing(tmp_path):
    run, ring = open_run(tmp_path), make_replay()
    save(run, ring, 10)
    episode(run, 12)
    run.close()
    before = tree(tmp_path)
    with pytest.raises(ValueError, match="not empty.*--resume=never"):
        open_run(tmp_path, "never")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("place", [".", "a/b"])
@pytest.mark.parametrize("resume", ["auto", "never"])
def test_an_empty_or_missing_directory_is_begun(tmp_path, place, resume):
    assert open_run(tmp_path / place, resume).checkpoints.state is None
    assert runs.read_config(tmp_path / place)["settings"] == SETTINGS


@pytest.mark.parametrize("place", ["file/run", "file"])
def test_a_directory_that_cannot_be_made_is_told(tmp_path, place):
    (tmp_path / "file").write_text("a file")
    with pytest.raises(ValueError, match="^--run_dir=.*file.* cannot be written"):
        open_run(tmp_path / place)
    assert tree(tmp_path) == {"file": b"a file"}
