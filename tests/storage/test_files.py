"""Files that are whole or not there, checksums, and rows that wait for a full disk."""

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
