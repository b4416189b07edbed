"""Whether training may begin or go on in a directory: each refusal is one sentence, before anything is written."""

import errno
import os
import pathlib
import reprlib
from typing import Any

from storage import layout, locks, reading, strangers, training


def check(directory: str | pathlib.Path, settings: dict[str, Any], resume: str = "auto") -> None:
    """Refuse a directory in which a run with these settings can neither begin nor go on.

    Args:
        directory: of the run; it may be missing.
        settings: of the run.
        resume: `never` refuses a directory that is not empty.

    Raises:
        ValueError: the directory holds something else, or a run with other settings, or a link where a file of the run
            belongs, or it cannot be looked at or written, or another process trains there.
    """
    if os.name == "nt":
        raise ValueError("training writes its files in a way that Windows does not have; expected Linux, macOS, or the "
                         "Windows Subsystem for Linux (WSL)")
    directory = pathlib.Path(directory)
    try:
        leftovers = (layout.LOCK, f"{layout.CONFIG}.aside")  # of a process that was killed before there was a run
        occupied = directory.is_dir() and any(path.name not in leftovers for path in directory.iterdir())
        if occupied and resume == "never":
            raise ValueError(f"{directory} is not empty, and --resume=never was given; "
                             "choose another --run_dir or remove it yourself")
        _refuse_links(directory)
        if occupied and not layout.config_path(directory).exists():
            raise ValueError(f"{directory} is not empty and holds no config.json, so it is no run of this suite; "
                             "choose another --run_dir")
        above = next(folder for folder in (directory, *directory.absolute().parents) if folder.exists())
        if not above.is_dir():
            raise NotADirectoryError(0, f"{above} is no directory")
        if not os.access(above, os.W_OK):
            raise PermissionError(0, os.strerror(errno.EACCES))
    except OSError as error:
        raise refusal(directory, error) from error
    # This process itself may begin anew, as in a notebook after an error.
    if reading.is_locked(directory) and not locks.holds(directory / layout.LOCK):
        raise in_use(directory)
    if occupied:
        before = reading.read_config(directory)
        _refuse_old_run(directory, before)
        _refuse_other_settings(directory, before["settings"], settings)


def in_use(directory: pathlib.Path) -> ValueError:
    """Return the ValueError that says who trains in a directory."""
    holder = (directory / layout.LOCK).read_text()
    return ValueError(f"{directory} is in use: {holder} trains there; stop it, or choose another --run_dir")


def refusal(directory: str | pathlib.Path, error: OSError) -> ValueError:
    """Return the ValueError that says why a directory cannot hold a run."""
    limit = "; expected names of at most 255 bytes" if error.errno == errno.ENAMETOOLONG else ""
    return ValueError(f"--run_dir={directory} cannot be written ({error.strerror or error}{limit})")


def _refuse_links(directory):
    """Raise ValueError if something else lies where the run has a file or a folder.

    Through a link the run would write over files, or remove files, that are not its own.
    """
    folders = [*(directory / name for name in layout.FOLDERS), *reading.find_checkpoints(directory)]
    for path in [*(directory / name for name in layout.FILES), *folders]:
        kind, is_right = ("folder", path.is_dir) if path in folders else ("file", path.is_file)
        if path.is_symlink() or path.exists() and not is_right():
            found = "a link" if path.is_symlink() else f"no {kind}"
            raise ValueError(f"{path} is {found}, and the run would write there; expected a {kind} that this run "
                             "wrote, or another --run_dir")


def _refuse_old_run(directory, config):
    """Raise ValueError if a run was made when all environments were reset together: its checkpoints say too little."""
    header = ",".join(layout.OLD_COLUMNS["train"])
    if training.read_header(directory, "train") == header:
        raise ValueError(f"{directory} holds a run of an earlier version, which seeded all environments at once, so it "
                         "cannot go on here; choose another --run_dir, or go on with the git commit that its "
                         f"config.json names, {_show(config.get('git_commit', 'unknown'))}")


def _refuse_other_settings(directory, before, now):
    """Raise ValueError naming each setting in which a run differs from the settings asked for now.

    A setting that did not exist when the run began counts as off: None, False or 0.
    """
    names = sorted(name for name in before.keys() | now.keys()
                   if before.get(name) != now.get(name) and name not in layout.FREE
                   and (name in before or now[name]))
    if names:
        flag = lambda name: "KERAS_BACKEND" if name == "backend" else f"--{_show(name)}"
        changes = ", ".join(f"{flag(name)} was {_show(before.get(name))} and is now {now.get(name)}" for name in names)
        raise ValueError(f"{directory} holds a run with other settings: {changes}; "
                         "repeat them, or choose another --run_dir")


def _show(value):
    """Return a value of a config.json, which may hold anything, as a short text."""
    return strangers.escape(reprlib.repr(value) if isinstance(value, list | dict) else str(value)[:200])
