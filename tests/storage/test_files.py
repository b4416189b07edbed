"""Files that are whole or not there, checksums, and rows that wait for a full disk."""

import errno
import os
import pathlib
import zipfile
import zlib

import numpy as np
import pytest

from storage import files

FULL = "No space left|File too large"


def names_in(folder):
    return sorted(path.name for path in pathlib.Path(folder).iterdir())


def test_bytes_replace_a_file_at_once_or_not_at_all(disk):
    path = disk.place / "a.json"
    files.write_whole(path, b"first")
    disk.fill()
    with pytest.raises(OSError, match=FULL):
        files.write_whole(path, b"second" * 100_000)
    assert path.read_bytes() == b"first" and set(names_in(disk.place)) <= {"a.json", "ballast"}
    disk.free()
    files.write_whole(path, b"third")
    assert path.read_bytes() == b"third" and names_in(disk.place) == ["a.json"]


def test_a_block_that_fails_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "a.csv"
    with files.written_whole(path) as aside:
        files.write_csv(aside, ["one", "two"], [dict(one=1, two="a,b")])
        assert not path.exists()
    assert path.read_bytes() == b'one,two\r\n1,"a,b"\r\n'
    with pytest.raises(KeyError), files.written_whole(path) as aside:
        aside.write_text("half")
        raise KeyError
    assert path.read_bytes() == b'one,two\r\n1,"a,b"\r\n' and names_in(tmp_path) == ["a.csv"]


@pytest.mark.parametrize("name, reason", [("missing/a.csv", "No such file"), ("folder", "it is a directory")])
def test_a_path_that_cannot_be_written_is_told_before_the_block(tmp_path, name, reason):
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=f"{name} cannot be written .{reason}"), files.written_whole(tmp_path / name):
        pytest.fail("the block ran")
    assert names_in(tmp_path) == ["folder"]


def test_a_checksum_is_of_what_was_written(tmp_path):
    path = tmp_path / "a"
    check = files.write_checked(path, lambda file: [file.write(part) for part in (b"one", b"two")])
    assert check == dict(size=6, crc32=zlib.crc32(b"onetwo"))
    files.verify(path, check)
    for damaged in (b"onetw", b"onetwO", b"onetwo!"):
        path.write_bytes(damaged)
        with pytest.raises(OSError, match="a is not what was written"):
            files.verify(path, check)


def test_a_disk_that_stores_something_else_is_noticed_and_nothing_is_left(tmp_path):
    behind_the_checksum = lambda file: file.file.write(b"bytes that `file` was not given")
    with pytest.raises(OSError, match="a is not what was written"):
        files.write_checked(tmp_path / "a", behind_the_checksum)
    assert names_in(tmp_path) == []


def test_a_link_is_replaced_and_the_file_behind_it_stays(tmp_path):
    (tmp_path / "private").write_bytes(b"private")
    (tmp_path / "a").symlink_to("private")
    check = files.write_checked(tmp_path / "a", lambda file: file.write(b"new"))
    assert (tmp_path / "private").read_bytes() == b"private" and not (tmp_path / "a").is_symlink()
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(ValueError, match="b is a link"):
        files.verify(tmp_path / "b", check)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF])
def test_a_file_system_that_cannot_sync_is_written_all_the_same(tmp_path, monkeypatch, number):
    def refuse(descriptor):
        raise OSError(number, os.strerror(number))
    monkeypatch.setattr(os, "fsync", refuse)
    files.write_whole(tmp_path / "a", b"data")
    files.sync_folder(tmp_path)
    rows = files.RowFile(tmp_path / "rows")
    rows.append(b"row\n")
    rows.sync()
    assert (tmp_path / "a").read_bytes() == b"data" and (tmp_path / "rows").read_bytes() == b"row\n"
    number = errno.EIO  # The disk is broken.
    for write in (lambda: files.write_whole(tmp_path / "b", b"data"), lambda: files.sync_folder(tmp_path), rows.sync):
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            write()


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_arrays_come_back_and_only_one_is_in_memory(tmp_path, compression):
    arrays = {"agent/online/0": np.arange(6, dtype=np.float32).reshape(2, 3), "lanes": np.array([True, False]),
              "step": np.int64(7)}
    check = files.write_npz(tmp_path / "a.npz", ((name, array) for name, array in arrays.items()), compression)
    files.verify(tmp_path / "a.npz", check)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as loaded:
        assert list(loaded) == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(loaded[name], array)
            assert loaded[name].dtype == array.dtype


def test_rows_beyond_the_size_are_cut_and_later_ones_appended(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(b"header\nkept\nlost\n")
    rows = files.RowFile(path, size=len(b"header\nkept\n"))
    rows.append(b"new\n")
    rows.close()
    assert path.read_bytes() == b"header\nkept\nnew\n"
    assert files.RowFile(path, size=10**6).size == len(b"header\nkept\nnew\n")  # The file is shorter than it was.


@pytest.mark.parametrize("found, kept", [
    (b"header\none\ntwo\n", b"header\none\ntwo\n"), (b"header\none\ntwo\nthree\n", b"header\none\ntwo\n"),
    (b"header\none\ntw", b"header\none\n"), (b"header\none\n", b"header\none\n"), (b"hea", b""), (b"", b""),
    (b"header\none\n\0\0\0\0", b"header\none\n"), (b"header\no\0\0\ntwo\n", b"header\n"),
])
def test_whole_lines_stay_of_a_file_that_lost_bytes(tmp_path, found, kept):
    path = tmp_path / "rows.csv"
    path.write_bytes(found)
    rows = files.RowFile(path, size=len(b"header\none\ntwo\n"))
    assert (rows.size, rows.num_rows) == (len(kept), kept.count(b"\n"))
    rows.append(b"new\n")
    rows.close()
    assert path.read_bytes() == kept + b"new\n" and rows.num_rows == kept.count(b"\n") + 1


def test_rows_that_a_full_disk_refuses_wait(disk):
    path = disk.place / "rows.csv"
    rows = files.RowFile(path)
    rows.append(b"header\n")
    disk.fill()
    lines = [b"%05d\n" % i for i in range(3000)]
    for line in lines:
        rows.append(line)
    with pytest.raises(OSError, match=FULL):
        rows.sync()
    assert (b"header\n" + b"".join(lines)).startswith(path.read_bytes()) and path.read_bytes().endswith(b"\n")
    disk.free()
    rows.sync()
    assert path.read_bytes() == b"header\n" + b"".join(lines) and rows.size == len(path.read_bytes())
