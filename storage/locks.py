"""Locks on files that end with their process, on a network's file system too; systems without them say so."""

import errno
import os
import weakref
from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_held: weakref.WeakSet[IO[Any]] = weakref.WeakSet()  # files that this process has locked for itself


def lock(file: IO[Any], shared: bool = False) -> None:
    """Lock an open file for this process; closing any handle of the file gives the lock up.

    The package filelock takes flock, which does not see this lock, and which some clusters' file systems keep to one
    machine; and it has no shared lock for who only looks.

    Args:
        shared: whether other shared locks may stand beside this one, as of processes that only look.

    Raises:
        BlockingIOError, PermissionError: another process holds a lock.
        OSError: the file system, or this operating system, has no such locks.
    """
    if fcntl is None:
        raise OSError(errno.ENOTSUP, "this system has no fcntl")
    fcntl.lockf(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    if not shared:
        _held.add(file)


def holds(path: str | os.PathLike[str]) -> bool:
    """Return whether this process itself has locked a file. To open and close it would give the lock up.

    Raises:
        OSError: there is no such file.
    """
    found = os.stat(path)
    return any(os.path.samestat(found, os.fstat(file.fileno())) for file in _held if not file.closed)
