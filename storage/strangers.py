"""Files that a stranger may have made: only regular ones are opened, and their texts change no terminal."""

import itertools
import os
import pathlib
import re
import stat
from typing import IO, Any

# Control characters, line separators, signs that turn the direction of text, and halves of characters.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class NoFileOfARun(ValueError):
    """Something else than a regular file lies where a run has a file."""


def escape(text: str) -> str:
    """Return a text with its control characters as escapes, such as `\\x1b`."""
    return CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


def check_regular(path: pathlib.Path, directory: pathlib.Path | None = None) -> pathlib.Path:
    """Return `path` if it is a regular file.

    Args:
        directory: of the run. If it is given, the folders between it and the file may be no links either.

    Raises:
        FileNotFoundError: there is nothing.
        NoFileOfARun: it is a link, which may lead anywhere; or a folder, a device or a pipe, which may never end.
    """
    inside = itertools.takewhile(lambda folder: directory and folder != directory, path.parents)
    for place in [*reversed([*inside]), path]:
        mode = os.lstat(place).st_mode
        if stat.S_ISLNK(mode) or place is path and not stat.S_ISREG(mode):
            kind = "a link" if stat.S_ISLNK(mode) else "a folder" if stat.S_ISDIR(mode) else "a device or a pipe"
            raise NoFileOfARun(f"{place} is {kind}, so it is not opened; expected what a run writes there")
    return path


def open_regular(path: pathlib.Path, mode: str = "r", directory: pathlib.Path | None = None, **how: Any) -> IO[Any]:
    """Open a regular file as the built-in `open` does; `directory` and errors are those of `check_regular`."""
    return open(check_regular(path, directory), mode, **how)
