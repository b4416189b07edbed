"""Files that are whole or not there: written to the side, verified, renamed; and rows that a full disk does not tear."""

import contextlib
import csv
import errno
import os
import pathlib
import zipfile
import zlib

import numpy as np


def write_whole(path, data):
    """Write bytes to the side and rename them into place.

    Raises:
        OSError: they could not be written; `path` is as it was, and nothing else is left.
    """
    aside = path.with_name(f"{path.name}.aside")
    write_checked(aside, lambda file: file.write(data))
    os.replace(aside, path)


@contextlib.contextmanager
def written_whole(path):
    """Yield a path aside, which becomes `path` if the block ends well and vanishes if it does not.

    Raises:
        ValueError: nothing can be written there, which is known before the block.
    """
    path = pathlib.Path(path)
    aside = path.with_name(f"aside-{os.getpid()}-{path.name}")
    try:
        if path.is_dir():
            raise IsADirectoryError(0, "it is a directory")
        aside.touch()
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror})") from error
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_csv(path, columns, rows):
    """Write dicts as CSV; `written_whole` around it makes that whole."""
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


class Checked:
    """A file written front to back that knows the checksum of what it was given."""

    def __init__(self, file):
        self.file, self.crc32 = file, 0

    def write(self, data):
        self.crc32 = zlib.crc32(data, self.crc32)
        return self.file.write(data)

    def flush(self):
        self.file.flush()


def write_checked(path, fill):
    """Write a file by `fill(file)`, down to the disk; return its size and checksum, which what lies there has been compared with.

    Raises:
        OSError: it could not be written; nothing of it is left.
    """
    try:
        with open(path, "wb") as file:
            checked = Checked(file)
            fill(checked)
            file.flush()
            os.fsync(file.fileno())
            check = dict(size=file.tell(), crc32=checked.crc32)
        verify(path, check)
        return check
    except OSError:
        path.unlink(missing_ok=True)
        raise


def write_npz(path, arrays, compression):
    """Write (name, array) of an iterable as numpy's .npz; return its size and checksum."""
    def fill(file):
        with zipfile.ZipFile(file, "w", compression, compresslevel=1) as archive:
            for name, array in arrays:
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
    return write_checked(path, fill)


def verify(path, check):
    """Raise OSError where a file is not as long as it was or has another checksum."""
    size, crc32 = path.stat().st_size, 0
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            crc32 = zlib.crc32(block, crc32)
    if (size, crc32) != (check["size"], check["crc32"]):
        raise OSError(f"{path.name} is not what was written")


def sync(folder):
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Records:
    """A file to which whole records are appended; those that a full disk refuses wait in memory, and no torn one is left.

    Args:
        path: made if missing.
        size: what lies beyond is cut off: it was written after the checkpoint, and will be again.
    """

    def __init__(self, path, size=0):
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self.size = min(size, os.fstat(self.descriptor).st_size)
        os.ftruncate(self.descriptor, self.size)
        self._waiting = bytearray()

    def append(self, record):
        self._waiting += record
        with contextlib.suppress(OSError):  # The next save says so.
            self.flush()

    def flush(self):
        """Write what waits; raise OSError where the disk still refuses it."""
        if self._waiting:
            written = os.pwrite(self.descriptor, self._waiting, self.size)
            if written < len(self._waiting):
                os.ftruncate(self.descriptor, self.size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.size += written
            self._waiting.clear()
