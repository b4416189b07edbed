"""Locks on files that end with their process, on a network's file system too; systems without them say so."""

import errno
from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


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
