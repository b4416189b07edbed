"""The one reader of runs: settings, checkpoints, locks; training.py reads their rows, episodes.py those of evaluate.py.

A run may come from a stranger. Nothing here runs code of a run: its files are text and numbers.
"""

import contextlib
import difflib
import json
import pathlib
import socket
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from storage import layout, locks, states, strangers

Result = TypeVar("Result")
LEFT_OUT = "left out: "  # begins a sentence on a run that a script goes on without


def read_json(path: pathlib.Path, directory: pathlib.Path | None = None) -> Any:
    """Return the content of a JSON file of a run; `directory` as of `strangers.check_regular`.

    Raises:
        FileNotFoundError: there is no file.
        ValueError: it is no regular file, or holds no JSON.
    """
    with strangers.open_regular(path, "rb", directory) as file:
        try:
            return json.loads(file.read())
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error


# Settings and directories


def read_config(directory: str | pathlib.Path) -> dict[str, Any]:
    """Return a run's config.json.

    Raises:
        ValueError: the directory has no config.json of this suite.
    """
    path = layout.config_path(directory)
    try:
        config = read_json(path)
        config["settings"]["network"]
        return config
    except FileNotFoundError as error:
        missing = "holds no config.json, so it is no run of this suite"
        raise ValueError(f"{directory} {missing if path.parent.is_dir() else _say_missing(directory)}") from error
    except (ValueError, KeyError, TypeError) as error:
        reason = ("it holds no settings" if isinstance(error, TypeError) else
                  f"it has no {error}" if isinstance(error, KeyError) else error)
        raise ValueError(f"{path} is not the configuration of a run of this suite ({reason})") from error


def read_settings(directory: str | pathlib.Path, check: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    """Return the settings of a run.

    Args:
        check: settings.check_settings, or a function like it: it returns the settings of a config.json whole, or
            raises a ValueError with the reason why no run has them.

    Raises:
        ValueError: the directory has no config.json of this suite.
    """
    settings = read_config(directory)["settings"]
    try:
        return check(settings)
    except ValueError as error:
        raise ValueError(f"{layout.config_path(directory)} {error}") from error


def find_runs(paths: Iterable[str | pathlib.Path], check: Callable[[Any], dict[str, Any]]
              ) -> tuple[dict[pathlib.Path, dict[str, Any]], list[str]]:
    """Find the runs among `paths` and in the folders among them.

    Args:
        check: as `read_settings` takes it.

    Returns:
        {directory: settings}, and a sentence for each path that is no run.

    Raises:
        ValueError: a path does not exist, or none is a run.
    """
    found, others, known = {}, [], set()
    for path in map(pathlib.Path, paths):
        if not path.exists():
            raise ValueError(f"{path} {_say_missing(path)}")
        for directory in _find_directories(path) or [path]:
            if directory.resolve() not in known:
                try:
                    found[directory] = read_settings(_check_directory(directory), check)
                    known.add(directory.resolve())
                except (ValueError, OSError) as error:
                    others.append(str(error))
    if not found:
        raise ValueError(others[0] if len(others) == 1 else
                         f"none of the {len(others)} paths given is a run; the first: {others[0]}")
    return found, [f"{LEFT_OUT}{other}" for other in others]


def read_each(directories: Iterable[pathlib.Path], read: Callable[[pathlib.Path], Result]
              ) -> tuple[dict[pathlib.Path, Result], list[str]]:
    """Read the same of each run, so that a damaged run does not hide the others.

    Args:
        read: function of a directory.

    Returns:
        {directory: what `read` returned}, and a sentence for each run of which `read` raised ValueError or OSError.
    """
    results, notes = {}, []
    for directory in directories:
        try:
            results[directory] = read(directory)
        except (ValueError, OSError) as error:
            notes.append(f"{LEFT_OUT}{error}")
    return results, notes


def _say_missing(path):
    """Return what to say of a path that does not exist: which directories are named like its first wrong part."""
    path = pathlib.Path(path)
    wrong = next(part for part in (*reversed(path.parents), path) if not part.exists())
    beside = [other.name for other in wrong.parent.glob("*") if other.is_dir()]
    near = [str(wrong.with_name(name)) for name in difflib.get_close_matches(wrong.name, beside)]
    return f"does not exist; expected a run or a folder of runs, such as {', '.join(near) or 'runs/*'}"


def _find_directories(folder):
    """Return the directories with a config.json in and below a folder, sorted; also those that it links to."""
    below = {config.parent for config in folder.glob(f"**/{layout.CONFIG}")}
    return sorted(below | {config.parent for config in folder.glob(f"*/{layout.CONFIG}")})  # ** follows no link.


def _check_directory(directory):
    """Return `directory` if it is one whose name can be shown.

    Raises:
        ValueError: it is none.
    """
    if strangers.CONTROL.search(str(directory)):
        raise ValueError(f"{strangers.escape(str(directory))} has control characters in its name; rename it")
    if not directory.is_dir():
        raise ValueError(f"{directory} is a file, so it is no run of this suite")
    return directory


def newest_run(folder: str | pathlib.Path = "runs") -> pathlib.Path:
    """Return the run under `folder` whose training wrote last.

    Raises:
        ValueError: there is no run.
    """
    directories = _find_directories(pathlib.Path(folder))
    runs = [directory for directory in directories
            if layout.csv_path(directory, "train").exists() and not strangers.CONTROL.search(str(directory))]
    if not runs:
        raise ValueError(f"no run was found under {folder}/; train one, or give its --run_dir")
    return max(runs, key=lambda run: read_last_write(run) or 0)


def read_last_write(directory: str | pathlib.Path) -> float | None:
    """Return when training wrote its newest row [seconds since the epoch], None before its first."""
    paths = [layout.csv_path(directory, name) for name in layout.COLUMNS]
    return max((path.stat().st_mtime for path in paths if path.exists()), default=None)


# Weights and checkpoints


def find_weights(directory: str | pathlib.Path, which: str) -> pathlib.Path:
    """Return the path of a run's `best` or `last` weights.

    Raises:
        ValueError: the run has none yet.
    """
    paths = ([layout.weights_path(directory, layout.BEST)] if which == layout.BEST else
             [checkpoint / layout.ONLINE for checkpoint in find_checkpoints(directory)])
    paths = [path for path in paths if path.exists()]
    if not paths:
        remedy = "evaluation (evaluate.py also plays --checkpoint=last)" if which == layout.BEST else "checkpoint"
        raise ValueError(f"{directory} has no {which} weights yet; wait for its first {remedy}")
    return strangers.check_regular(paths[-1], pathlib.Path(directory))


def find_milestones(directory: str | pathlib.Path) -> list[pathlib.Path]:
    """Return the paths of the weights that --weights_period kept, the oldest first.

    Raises:
        ValueError: one is no regular file.
    """
    paths = sorted(pathlib.Path(directory, layout.MILESTONES).glob("[0-9]*.weights.h5"))
    return [strangers.check_regular(path, pathlib.Path(directory)) for path in paths]


def find_checkpoints(directory: str | pathlib.Path) -> list[pathlib.Path]:
    """Return the folders of a run's checkpoints, whole or not, the oldest first."""
    return sorted(filter(layout.is_checkpoint, pathlib.Path(directory, layout.CHECKPOINTS).glob("[0-9]*")))


def has_checkpoint(directory: str | pathlib.Path) -> bool:
    """Return whether a run has a checkpoint, whole or not."""
    return bool(find_checkpoints(directory))


def read_state(checkpoint: pathlib.Path) -> Any:
    """Return the content of a checkpoint's state.json; states.check judges it."""
    return read_json(checkpoint / layout.STATE, checkpoint.parents[1])


def _read_saved(directory):
    """Return the state of the newest checkpoint that can be read, {} if there is none."""
    for checkpoint in reversed(find_checkpoints(directory)):
        with contextlib.suppress(OSError, ValueError):  # Training may remove this one right now.
            state = read_state(checkpoint)
            states.check(state, ("agent_step", "episodes"))
            return state
    return {}


def read_saved_counts(directory: str | pathlib.Path) -> tuple[int, int]:
    """Return agent steps and training episodes of the newest checkpoint, 0 and 0 if there is none."""
    state = _read_saved(directory)
    return state.get("agent_step", 0), state.get("episodes", 0) - state.get("cut_episodes", 0)  # of old runs


def is_done(directory: str | pathlib.Path, settings: dict[str, Any]) -> bool:
    """Return whether the newest checkpoint has met a limit, and owes no evaluation."""
    is_owed = _read_saved(directory).get("evaluation_owed", False)
    return bool(layout.met_limit(settings, *read_saved_counts(directory))) and not is_owed


# Locks


def is_locked(directory: str | pathlib.Path) -> bool | None:
    """Return whether a process holds the lock of a run; None if another machine took it, which may not show here."""
    path = pathlib.Path(directory, layout.LOCK)
    try:
        if locks.holds(path):
            return True
        with strangers.open_regular(path) as file:
            here = socket.gethostname() in file.read().split()
            locks.lock(file, shared=True)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError:  # The file system has no locks.
        return None
    return False if here else None
