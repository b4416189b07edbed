"""Write files that are whole or not there, files with checksums, and files of rows that a full disk does not tear."""

import contextlib
import csv
import errno
import os
import pathlib
import zipfile
import zlib

import numpy as np

# Whole files


def write_whole(path, data):
    """Write bytes into a file aside and rename it to `path`.

    Raises:
        OSError: the bytes could not be written; `path` is as it was, and nothing else is left.
    """
    aside = path.with_name(f"{path.name}.aside")
    write_checked(aside, lambda file: file.write(data))
    os.replace(aside, path)


@contextlib.contextmanager
def written_whole(path):
    """Yield a path aside. It becomes `path` if the block ends well, and vanishes if the block fails.

    Raises:
        ValueError: nothing can be written there; this is known before the block.
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
    """Write dicts as a CSV; `written_whole` around this call makes the file whole."""
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def sync_folder(folder):
    """Write the names in a folder down to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# Files with checksums


class ChecksumWriter:
    """A file that is written front to back, and the checksum of all that was written.

    Attributes:
        crc32: of the bytes that `write` was given, whatever the disk holds.
    """

    def __init__(self, file):
        self.file, self.crc32 = file, 0

    def write(self, data):
        self.crc32 = zlib.crc32(data, self.crc32)
        return self.file.write(data)

    def flush(self):
        self.file.flush()


def write_checked(path, fill):
    """Write a file by `fill(file)` down to the disk, and read it again to verify it.

    Returns:
        dict(size=bytes, crc32=checksum), as `verify` takes it.

    Raises:
        OSError: the file could not be written; nothing of it is left.
    """
    try:
        with open(path, "wb") as file:
            writer = ChecksumWriter(file)
            fill(writer)
            file.flush()
            os.fsync(file.fileno())
            check = dict(size=file.tell(), crc32=writer.crc32)
        verify(path, check)
        return check
    except OSError:
        path.unlink(missing_ok=True)
        raise


def write_npz(path, arrays, compression):
    """Write (name, array) pairs as numpy's .npz; return and raise as `write_checked` does.

    Each array is written before the next is taken from the iterable.
    """
    def fill(file):
        with zipfile.ZipFile(file, "w", compression, compresslevel=1) as archive:
            for name, array in arrays:
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
    return write_checked(path, fill)


def verify(path, check):
    """Raise OSError where a file has another size or another checksum than `check` says."""
    size, crc32 = path.stat().st_size, 0
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            crc32 = zlib.crc32(block, crc32)
    if (size, crc32) != (check["size"], check["crc32"]):
        raise OSError(f"{path.name} is not what was written")


# Files of rows


class RowFile:
    """A file to which whole rows are appended. Rows that a full disk refuses wait in memory: no torn row is left.

    Args:
        path: made if missing.
        size: bytes that stay. Later ones are cut off: they were written after the checkpoint, and will be again.
    """

    def __init__(self, path, size=0):
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self.size = min(size, os.fstat(self._descriptor).st_size)
        os.ftruncate(self._descriptor, self.size)
        self._waiting = bytearray()

    def append(self, row):
        """Write the bytes of a row, now or with a later row."""
        self._waiting += row
        with contextlib.suppress(OSError):  # `sync` will raise it.
            self._flush()

    def sync(self):
        """Write all rows down to the disk.

        Raises:
            OSError: the disk still refuses some.
        """
        self._flush()
        os.fsync(self._descriptor)

    def close(self):
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
