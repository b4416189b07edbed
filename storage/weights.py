"""Weights on the disk: HDF5 as Keras writes it, and behind it a checksum, which goes wherever the file goes."""

import contextlib
import io
import os
import pathlib
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

SEAL = b"\ncrc32=%08x\n"  # the last bytes of the file; HDF5 reads none beyond its own end
SEAL_BYTES = len(SEAL % 0)


class _MemoryFile(io.BytesIO):
    """A file in memory that Keras takes for a path: after a full disk HDF5 would crash the process when it ends."""

    def __str__(self) -> str:
        return "memory.weights.h5"


def pack(save_weights: Callable[[Any], object]) -> memoryview:
    """Return the bytes that `save_weights(path)` writes, and their checksum behind them."""
    memory = _MemoryFile()
    save_weights(memory)
    checksum = zlib.crc32(memory.getbuffer())
    memory.seek(0, io.SEEK_END)
    memory.write(SEAL % checksum)
    return memory.getbuffer()


@contextlib.contextmanager
def checked(path: str | os.PathLike[str]) -> Iterator[None]:
    """Refuse a file of weights that is damaged or holds a number that is not finite. Every reader loads in this block.

    After the block a line says if the file has no checksum. What Keras cannot read, the block says.

    Raises:
        ValueError: the file is refused, in one sentence; the block does not run.
    """
    is_sealed = _check(pathlib.Path(path))
    yield
    if not is_sealed:
        print(f"{path} has no checksum, so damage would not show: another program or an earlier version wrote it.",
              file=sys.stderr)


def _check(path):
    """Return whether a file has a checksum; raise as `checked` does."""
    import h5py  # slow, and of no use before there are weights
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no regular file; expected weights")
    is_sealed = False
    with contextlib.suppress(OSError, RuntimeError, KeyError):
        data = path.read_bytes()
        content, seal = data[:-SEAL_BYTES], data[-SEAL_BYTES:]
        is_sealed = bool(re.fullmatch(rb"\ncrc32=[0-9a-f]{8}\n", seal))
        if is_sealed and seal != SEAL % zlib.crc32(content):
            raise ValueError(f"{path} is damaged: its checksum is another one than when it was written; expected the "
                             "file as it was, or other weights")
        with h5py.File(io.BytesIO(data)) as file:
            name = file.visititems(lambda name, item: None if _is_finite(item) else name)
        if name:
            raise ValueError(f"{path} holds a weight that is not finite, in {name}; expected other weights")
    return is_sealed


def _is_finite(item):
    """Return whether all numbers of a group or a dataset are finite."""
    return getattr(item, "dtype", np.dtype(int)).kind != "f" or bool(np.isfinite(item[()]).all())
