"""Checkpoints of a run are restored, stay few, are skipped when damaged, and survive full disks."""

import concurrent.futures
import json
import pathlib
import shutil

import numpy as np
import pytest

from helpers.run_parts import (
    NUM_ENVS,
    STATE,
    check_restores,
    fill_replay,
    make_small_replay,
    open_run,
    read_steps,
    read_tree,
    save_run,
    write_episode,
)
from storage import checkpoints, layout

pytestmark = pytest.mark.usefixtures("small_segments")
FULL = "No space left|File too large"  # the second where a disk is only simulated


@pytest.mark.parametrize("ends", [(6, 11), (8, 16), (10, 30), (25, 70, 71), tuple(range(5, 95, 7))])
def test_a_checkpoint_restores_arrays_and_replay(tmp_path, ends):
    run, ring = open_run(tmp_path), make_small_replay()
    for end in ends:
        save_run(run, ring, end)
    run.close()
    check_restores(open_run(tmp_path), ends[-1])


def test_only_the_newest_two_checkpoints_and_their_segments_stay(tmp_path):
    run, ring = open_run(tmp_path), make_small_replay()
    for end in (10, 30, 50, 53):
        save_run(run, ring, end)
    assert sorted(path.name for path in tmp_path.glob("checkpoints/*")) == ["000000050", "000000053"]
    # 20 rows are kept; the checkpoint of row 50 begins at row 30, which lies in the segment that was begun at row 30.
    assert sorted(path.name for path in tmp_path.glob("replay/*")) == [
        "000000030-000000032.npz", "000000032-000000040.npz", "000000040-000000048.npz",
        "000000048-000000050.npz", "000000048-000000053.npz"]


def test_full_segments_are_never_written_again(tmp_path):
    run, ring = open_run(tmp_path), make_small_replay()
    save_run(run, ring, 18)
    before = {path.name: path.stat() for path in tmp_path.glob("replay/*")}
    save_run(run, ring, 25)
    run.close()
    run = open_run(tmp_path)  # Nor after the run has stopped and goes on.
    ring.restore(run.checkpoints.load_replay(), 25)
    save_run(run, ring, 27)
    for name in ("000000000-000000008.npz", "000000008-000000016.npz"):
        now = (tmp_path / "replay" / name).stat()
        assert (now.st_ino, now.st_mtime_ns) == (before[name].st_ino, before[name].st_mtime_ns)


@pytest.mark.parametrize("end", [25, 32])
def test_a_replay_with_segments_of_another_size_goes_on(tmp_path, monkeypatch, end):
    run, ring = open_run(tmp_path), make_small_replay()
    save_run(run, ring, end)
    run.close()
    monkeypatch.setattr(checkpoints, "SEGMENT_TIMESTEPS", 6 * NUM_ENVS)
    run, ring = open_run(tmp_path), make_small_replay()
    ring.restore(run.checkpoints.load_replay(), end)
    for row in range(end + 1, 46):
        fill_replay(ring, row)
        run.checkpoints.write_ahead(ring)
    save_run(run, ring, 45)
    run.close()
    check_restores(open_run(tmp_path), 45)


def flip(path):
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path):
    """Cut the last bytes of a file off."""
    path.write_bytes(path.read_bytes()[:-9])


def content_of(path):
    """Return the bytes of weights without their checksum."""
    content, seal, _ = path.read_bytes().rpartition(b"\ncrc32=")
    assert seal
    return content


NEWEST = dict(arrays="checkpoints/000000027/arrays.npz", weights="checkpoints/000000027/online.weights.h5",
              replay="replay/000000024-000000027.npz", state="checkpoints/000000027/state.json")
DAMAGE = [(flip, "arrays"), (truncate, "replay"), (truncate, "state")]
MORE_DAMAGE = [(damage, part) for damage in (flip, truncate, pathlib.Path.unlink) for part in NEWEST
               if (damage, part) not in DAMAGE]


def damaged_run(directory, damage, part):
    """Write checkpoints at rows 10, 20 and 27, and damage the last; return the run that goes on."""
    run, ring = open_run(directory), make_small_replay()
    for end in (10, 20, 27):
        save_run(run, ring, end)
    run.close()
    damage(directory / NEWEST[part])
    return open_run(directory)


@pytest.mark.parametrize("damage, part", DAMAGE + MORE_DAMAGE)
def test_a_damaged_checkpoint_falls_back_to_the_one_before_it(tmp_path, capsys, damage, part):
    run = damaged_run(tmp_path, damage, part)
    check_restores(run, 20)
    assert read_steps(tmp_path) == [10, 20]
    said = capsys.readouterr().err
    assert "000000027 is damaged" in said and said.count("\n") == 1


@pytest.mark.parametrize("damage, part", DAMAGE)
def test_after_a_fall_the_damaged_checkpoint_is_written_anew(tmp_path, damage, part):
    run, ring = damaged_run(tmp_path, damage, part), make_small_replay()
    ring.restore(run.checkpoints.load_replay(), 20)
    save_run(run, ring, 27)
    run.close()
    check_restores(open_run(tmp_path), 27)


@pytest.mark.parametrize("damage, part", DAMAGE)
def test_after_a_fall_the_newest_two_whole_checkpoints_stay(tmp_path, damage, part):
    run, ring = damaged_run(tmp_path, damage, part), make_small_replay()
    ring.restore(run.checkpoints.load_replay(), 20)
    save_run(run, ring, 31)
    run.close()
    truncate(tmp_path / "checkpoints/000000031/arrays.npz")
    check_restores(open_run(tmp_path), 20)


# A damaged replay


def run_with_damaged_replay(directory, damage=flip, rows=(16, 24), ends=(25, 27)):
    """Write two checkpoints, and damage the segment of these rows, which both name."""
    run, ring = open_run(directory), make_small_replay()
    for end in ends:
        save_run(run, ring, end)
    run.close()
    damage(directory / layout.segment_name(*rows))
    return ring


@pytest.mark.parametrize("damage", [flip, truncate, pathlib.Path.unlink])
def test_where_older_replay_alone_is_damaged_the_way_to_go_on_is_named(tmp_path, damage):
    run_with_damaged_replay(tmp_path, damage)
    before = read_tree(tmp_path)
    with pytest.raises(ValueError, match="has no whole checkpoint: .*027 is damaged.*025 is damaged") as error:
        open_run(tmp_path)
    assert "\n" not in str(error.value) and str(error.value).endswith(
        "choose another --run_dir, or go on with --resume=partial from checkpoint 000000027, whose damaged replay "
        "still has its newest 3 rows")
    assert {**before, "lock": b""} == {**read_tree(tmp_path), "lock": b""}


def test_a_partial_replay_holds_its_newest_rows_and_is_saved_as_such(tmp_path, capsys):
    run_with_damaged_replay(tmp_path)
    run, ring = open_run(tmp_path, "partial"), make_small_replay()
    said = capsys.readouterr().err
    assert said.endswith("; going on with the newest 3 rows of the replay from checkpoint 000000027.\n")
    assert said.count("\n") == 1 and run.checkpoints.state["agent_step"] == 27 * NUM_ENVS
    ring.restore(run.checkpoints.load_replay(), 27)
    assert (ring.oldest, ring.end, len(ring)) == (24, 27, 3 * NUM_ENVS)
    for end in (30, 60):
        save_run(run, ring, end)
        copy = shutil.copytree(tmp_path, tmp_path.with_name(f"{tmp_path.name}-{end}"))
        going_on, again = open_run(copy), make_small_replay()  # `auto` takes the new checkpoint for a whole one.
        again.restore(going_on.checkpoints.load_replay(), end)
        assert again.oldest == ring.oldest == max(24, end - 20)
        rows = np.arange(ring.oldest, end) % ring.num_rows
        for name, column in ring.columns.items():
            np.testing.assert_array_equal(again.columns[name][rows], column[rows], err_msg=name)
    check_restores(going_on, 60)


def test_partial_goes_on_from_whole_checkpoints_as_auto_does(tmp_path, capsys):
    assert open_run(tmp_path / "new", "partial").checkpoints.state is None
    run_with_damaged_replay(tmp_path / "run", rows=(24, 27))
    check_restores(open_run(tmp_path / "run", "partial"), 25)
    assert "going back to the whole checkpoint 000000025" in capsys.readouterr().err


def test_without_the_newest_rows_or_the_weights_nothing_is_offered(tmp_path):
    run_with_damaged_replay(tmp_path / "newest", rows=(24, 27), ends=(27,))
    run_with_damaged_replay(tmp_path / "weights")
    for checkpoint in (25, 27):
        flip(tmp_path / f"weights/checkpoints/{checkpoint:09d}/online.weights.h5")
    for name in ("newest", "weights"):
        for resume in ("auto", "partial"):
            with pytest.raises(ValueError, match="has no whole checkpoint: .*; choose another --run_dir$"):
                open_run(tmp_path / name, resume)


# Files of others


def test_files_of_others_stay_and_do_not_end_the_cleaning(tmp_path):
    run, ring = open_run(tmp_path), make_small_replay()
    save_run(run, ring, 10)
    others = {"replay/0/a.npz", "replay/notes.txt", "replay/10-20.npz", "replay/000000000-000000001.npz/a",
              "checkpoints/2026-05-01/notes.txt", "checkpoints/000000010/notes.txt", "weights/notes.txt"}
    for name in others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("years of work")
    for end in (30, 50, 53):
        save_run(run, ring, end)
    run.close()
    check_restores(open_run(tmp_path), 53)
    kept = {name for name in read_tree(tmp_path) if "/" in name}
    assert kept - others == {
        *(f"checkpoints/{end:09d}/{name}" for end in (50, 53) for name in layout.CHECKPOINT),
        *(layout.segment_name(*rows) for rows in ((30, 32), (32, 40), (40, 48), (48, 50), (48, 53)))}
    assert others <= kept


def test_a_file_of_others_in_a_damaged_checkpoint_stays(tmp_path, capsys):
    run, ring = open_run(tmp_path), make_small_replay()
    for end in (10, 20, 27):
        save_run(run, ring, end)
    run.close()
    place = tmp_path / "checkpoints/000000027"
    flip(place / "arrays.npz")
    (place / "notes.txt").write_text("years of work")
    check_restores(open_run(tmp_path), 20)
    assert [path.name for path in place.iterdir()] == ["notes.txt"]
    capsys.readouterr()
    check_restores(open_run(tmp_path), 20)
    assert capsys.readouterr().err == ""  # It is no checkpoint any more.


def test_best_weights_are_replaced(tmp_path):
    run = open_run(tmp_path)
    for weights in (b"first", b"second"):
        run.save_weights("best", lambda path, weights=weights: path.write(weights))
        assert content_of(tmp_path / "best.weights.h5") == weights


def test_segments_written_ahead_are_those_of_a_checkpoint(tmp_path):
    both = [(open_run(tmp_path / name), make_small_replay()) for name in ("ahead", "at_once")]
    for end in (7, 8, 9, 15, 16, 24, 27, 32, 40, 41):
        for run, ring in both:
            fill_replay(ring, end)
            if run.directory.name == "ahead":
                run.checkpoints.write_ahead(ring)
            if end in (9, 27, 41):
                save_run(run, ring, end)
    ahead, at_once = ({name for name in read_tree(run.directory) if name.startswith(("replay", "checkpoints"))}
                      for run, _ in both)
    assert ahead == at_once
    check_restores(open_run(tmp_path / "ahead"), 41)


# A full disk, and a directory that cannot be written


def test_what_a_full_disk_refuses_waits_and_nothing_half_written_is_left(disk):
    directory, ring = disk.place / "run", make_small_replay()
    run = open_run(directory)
    run.save_weights("best", lambda path: path.write(b"first" * 999))
    save_run(run, ring, 10)
    before = read_tree(directory)
    disk.fill()
    for end in (16, 21, 24, 27):
        for _ in range(200):  # More than the rest of a page takes.
            write_episode(run, end)
            run.scalars(end, train__episode_return=1.0)
        fill_replay(ring, end)
        run.checkpoints.write_ahead(ring)
        run.save_weights("best", lambda path: path.write(b"later" * 999))
        run.save_weights(f"weights/{end:06d}", lambda path, end=end: path.write(bytes([end]) * 999))
        with pytest.raises(OSError, match=FULL):
            save_run(run, ring, end)
        if run.checkpoints._written_ahead:  # The thread may still be writing, with its file open.
            concurrent.futures.wait([run.checkpoints._written_ahead])
        now = read_tree(directory)
        assert now.keys() == before.keys()
        for name in now:
            assert now[name].startswith(before[name])
            assert name != "train.csv" or now[name].endswith(b"\n")
    disk.free()
    copy = shutil.copytree(directory, disk.place / "copy")
    check_restores(open_run(copy), 10)  # SIGKILL would have left this copy.
    assert read_steps(copy) == [10]
    save_run(run, ring, 30)
    assert read_steps(directory) == [10, *(end for end in (16, 21, 24, 27) for _ in range(201)), 30]
    assert content_of(directory / "best.weights.h5") == b"later" * 999
    for end in (16, 21, 24, 27):
        assert content_of(directory / f"weights/{end:06d}.weights.h5") == bytes([end]) * 999
    run.close()
    check_restores(open_run(directory), 30)
    assert not list(directory.rglob("*aside*"))


def test_wherever_in_a_checkpoint_the_disk_becomes_full(disk):
    run, ring = open_run(disk.place / "run"), make_small_replay()
    save_run(run, ring, 10)
    before, noise = read_tree(run.directory), np.random.default_rng(0).random(9000)  # 72 kB that do not shrink
    fill_replay(ring, 30)
    for pages in range(60):
        disk.fill(but=4096 * pages)
        try:
            run.save(STATE | dict(agent_step=60), [("noise", noise)], ring, lambda path: path.write(noise.tobytes()))
            break
        except OSError:
            now = read_tree(run.directory)
            assert now == before | {name: data for name, data in now.items() if name.startswith("replay/")}
        disk.free()
    assert pages > 30 or not disk.mounted
    run.close()
    assert open_run(run.directory).checkpoints.state["agent_step"] == 60


@pytest.mark.parametrize("part", ["checkpoints", "replay"])
def test_a_folder_that_cannot_be_written_leaves_the_last_checkpoint_whole(tmp_path, part):
    run, ring = open_run(tmp_path), make_small_replay()
    save_run(run, ring, 10)
    (tmp_path / part).rename(tmp_path / "moved")
    (tmp_path / part).touch()  # Root may write into any folder, but not into a file as if it were one.
    fill_replay(ring, 16)
    run.checkpoints.write_ahead(ring)
    with pytest.raises(OSError, match="Not a directory|File exists"):
        save_run(run, ring, 16)
    (tmp_path / part).unlink()
    (tmp_path / "moved").rename(tmp_path / part)
    save_run(run, ring, 18)
    run.close()
    check_restores(open_run(tmp_path), 18)
    assert read_steps(tmp_path) == [10, 16, 18]


def test_rows_that_could_not_be_written_in_the_end_are_an_error(disk):
    run = open_run(disk.place / "run")
    disk.fill()
    for _ in range(400):
        write_episode(run, 7)
    with pytest.raises(OSError, match=FULL):
        run.close()


def test_a_state_with_a_right_checksum_and_a_wrong_value_is_passed_over(tmp_path, capsys):
    run, ring = open_run(tmp_path), make_small_replay()
    for end in (10, 20):
        save_run(run, ring, end)
    run.close()
    path = layout.checkpoint_path(tmp_path, 20) / layout.STATE
    state = json.loads(path.read_text()) | dict(pending=3)
    del state["crc32"]
    path.write_text(json.dumps(state | dict(crc32=checkpoints._checksum(state))))
    check_restores(open_run(tmp_path), 10)
    assert "000000020 is damaged (state.json has '3' for pending); going back to the whole" in capsys.readouterr().err
