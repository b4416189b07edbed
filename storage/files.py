"""Write files that are whole or not there, files with checksums, and files of rows that a full disk does not tear."""

import contextlib
import csv
import errno
import os
import pathlib
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np

from storage import strangers

CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF)  # the last of a folder that is open to read

# Whole files


def write_whole(path: pathlib.Path, data: bytes | memoryview) -> None:
    """Write bytes into a file aside and rename it to `path`.

    Raises:
        OSError: the bytes could not be written; `path` is as it was, and nothing else is left.
    """
    aside = path.with_name(f"{path.name}.aside")
    write_checked(aside, lambda file: file.write(data))
    os.replace(aside, path)


def check_writable(path: str | pathlib.Path) -> None:
    """Raise the ValueError with which `written_whole` would refuse a path; nothing is left there."""
    _touch_aside(pathlib.Path(path)).unlink()


def _touch_aside(path):
    aside = path.with_name(f"aside-{os.getpid()}-{path.name}")
    try:
        if path.is_dir():
            raise IsADirectoryError(0, "it is a directory")
        aside.touch()
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror})") from error
    return aside


@contextlib.contextmanager
def written_whole(path: str | pathlib.Path) -> Iterator[pathlib.Path]:
    """Yield a path aside. It becomes `path` if the block ends well, and vanishes if the block fails.

    Raises:
        ValueError: nothing can be written there; this is known before the block.
    """
    path = pathlib.Path(path)
    aside = _touch_aside(path)
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_csv(path: str | pathlib.Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write dicts as a CSV; `written_whole` around this call makes the file whole."""
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def sync_folder(folder: pathlib.Path) -> None:
    """Write the names in a folder down to the disk, if its file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _sync(descriptor):
    """Write a file or a folder down to the disk. Some file systems of networks and containers cannot."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in CANNOT_SYNC:
            raise


# Files with checksums


class ChecksumWriter:
    """A file that is written front to back, and the checksum of all that was written.

    Attributes:
        crc32: of the bytes that `write` was given, whatever the disk holds.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.crc32 = file, 0

    def write(self, data: bytes | memoryview) -> int:
        self.crc32 = zlib.crc32(data, self.crc32)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def write_checked(path: pathlib.Path, fill: Callable[[ChecksumWriter], object]) -> dict[str, int]:
    """Write a file by `fill(file)` down to the disk, and read it again to verify it.

    Returns:
        dict(size=bytes, crc32=checksum), as `verify` takes it.

    Raises:
        OSError: the file could not be written; nothing of it is left.
    """
    try:
        path.unlink(missing_ok=True)  # If a link lies there, the file behind it stays as it is.
        with open(path, "xb") as file:
            writer = ChecksumWriter(file)
            fill(writer)
            file.flush()
            _sync(file.fileno())
            check = dict(size=file.tell(), crc32=writer.crc32)
        verify(path, check)
        return check
    except OSError:
        path.unlink(missing_ok=True)
        raise


def write_npz(path: pathlib.Path, arrays: Iterable[tuple[str, Any]], compression: int) -> dict[str, int]:
    """Write (name, array) pairs as numpy's .npz; return and raise as `write_checked` does.

    Each array is written before the next is taken from the iterable.
    """
    def fill(file):
        with zipfile.ZipFile(file, "w", compression, compresslevel=1) as archive:
            for name, array in arrays:
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
    return write_checked(path, fill)


def verify(path: pathlib.Path, check: Mapping[str, Any]) -> None:
    """Refuse a file that has another size or another checksum than `check` says.

    Raises:
        OSError: it has, or there is none.
        ValueError: it is no regular file.
    """
    crc32 = 0
    with strangers.open_regular(path, "rb") as file:
        while block := file.read(1 << 20):
            crc32 = zlib.crc32(block, crc32)
        size = file.tell()
    if (size, crc32) != (check["size"], check["crc32"]):
        raise OSError(f"{path.name} is not what was written")


# Files of rows


class RowFile:
    """A file to which whole rows are appended. Rows that a full disk refuses wait in memory: no torn row is left.

    Args:
        path: made if missing.
        size: bytes of lines that stay. Later ones are cut off: they were written after the checkpoint, and will be
            again. Of a file that lost some bytes, or holds zeros in their place, the whole lines before them stay.

    Attributes:
        size: bytes in the file.
        num_rows: lines that stayed, and rows appended since.
    """

    def __init__(self, path: pathlib.Path, size: int = 0) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        kept = os.pread(self._descriptor, min(size, os.fstat(self._descriptor).st_size), 0).partition(b"\0")[0]
        self.size, self.num_rows = kept.rfind(b"\n") + 1, kept.count(b"\n")
        if os.fstat(self._descriptor).st_size != self.size:  # Or the time of a file that stays would be that of now.
            os.ftruncate(self._descriptor, self.size)
        self._waiting = bytearray()

    def append(self, row: bytes) -> None:
        """Write the bytes of a row, now or with a later row."""
        self.num_rows += 1
        self._waiting += row
        with contextlib.suppress(OSError):  # `sync` will raise it.
            self._flush()

    def sync(self) -> None:
        """Write all rows down to the disk.

        Raises:
            OSError: the disk still refuses some.
        """
        self._flush()
        _sync(self._descriptor)

    def close(self) -> None:
        """Write all rows and close the file.

        Raises:
            OSError: the disk still refuses some.
        """
        self._flush()
        os.close(self._descriptor)

    def _flush(self):
        if self._waiting:
            written = os.pwrite(self._descriptor, self._waiting, self.size)
            if written < len(self._waiting):
                os.ftruncate(self._descriptor, self.size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.size += written
            self._waiting.clear()
