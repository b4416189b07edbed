"""A run on disk: its config.json, rows, TensorBoard events and best weights. Its checkpoints are in checkpoints.py."""

import contextlib
import datetime
import importlib.metadata
import json
import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from tensorboardX.proto.event_pb2 import SessionLog

from storage import checkpoints, events, files, layout, locks, opening, weights

LOCK_TRIES = 10  # in a second


class Run:
    """The directory of one run, opened to go on where its newest whole checkpoint ends. layout.py lists its files.

    Args:
        directory: made if missing.
        settings: all resolved settings that determine the run.
        resume: `auto` goes on; `never` refuses a directory that is not empty; `partial` goes on also where parts of the
            replay are damaged, with what is left of them.
        command: the command line, for config.json.

    Raises:
        ValueError: the directory cannot be written, is locked, or is one that `opening.check` refuses.
    """

    def __init__(self, directory: str | pathlib.Path, settings: dict[str, Any], resume: str = "auto",
                 command: Iterable[str] = ()) -> None:
        self.directory = pathlib.Path(directory)
        opening.check(directory, settings, resume)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self.directory)
            self.checkpoints = checkpoints.Checkpoints(self.directory, resume == "partial")
            about = dict(settings=settings, command=list(command), git_commit=_git_commit(), versions=_versions())
            files.write_whole(layout.config_path(directory), json.dumps(about, indent=1).encode())
        except OSError as error:
            raise opening.refusal(directory, error) from error
        state = self.checkpoints.state or dict(agent_step=0, csv_sizes={})
        self._csv = {name: self._open_csv(name, state) for name in layout.COLUMNS}
        seconds = max([time.time(), *(1 + begun for begun in layout.find_events(directory))])
        self._events = files.RowFile(layout.events_path(directory, seconds, socket.gethostname(), os.getpid()))
        self._events.append(events.record(file_version="brain.Event:2"))
        # TensorBoard then hides this step and later ones in the files of events before this file.
        start = SessionLog(status=SessionLog.START)
        self._events.append(events.record(step=state["agent_step"], session_log=start))
        self._waiting: dict[pathlib.Path, memoryview] = {}  # path -> weights that are not on the disk yet

    def _open_csv(self, name, state):
        """Open a CSV at the last row that the checkpoint counts; say how many rows are lost."""
        path, size = layout.csv_path(self.directory, name), state["csv_sizes"].get(name, 0)
        file = files.RowFile(path, size)
        counted = state.get("csv_rows", {}).get(name)  # Checkpoints of earlier versions do not have it.
        lost = file.size < size and ("some" if counted is None else counted - max(1, file.num_rows))
        if lost:
            print(f"{path} has lost {lost} of the rows that the checkpoint counts; training goes on without them.",
                  file=sys.stderr)
        if not file.size:
            file.append((",".join(layout.COLUMNS[name]) + "\n").encode())
        return file

    def row(self, name: str, **values: float) -> None:
        """Append a row to the CSV `name`; each column must be given."""
        columns = layout.COLUMNS[name]
        assert values.keys() == set(columns), values.keys() ^ set(columns)
        self._csv[name].append((",".join(_format_cell(values[column]) for column in columns) + "\n").encode())

    def scalars(self, agent_step: int, **values: float) -> None:
        """Write TensorBoard scalars, `group__name` as group/name. NaN, a value that is not known yet, is left out."""
        known = {name: value for name, value in values.items() if value == value}
        self._write_summary(agent_step, **{name: dict(simple_value=value) for name, value in known.items()})

    def glimpse(self, agent_step: int, q_values: np.ndarray, frames: np.ndarray | Sequence[np.ndarray] = ()) -> None:
        """Write what an evaluation saw for TensorBoard.

        Args:
            q_values: [..., A]; a histogram shows the largest one of each timestep.
            frames: uint8[T, 84, 84] of a film, or [T, 84, 84, 3], if there is one.
        """
        largest, contents = np.max(q_values, axis=-1), {}
        if np.isfinite(largest).all():  # If not, the next update's loss stops the run with a sentence.
            contents["evaluation__max_q"] = dict(histo=events.histogram(largest))
        if len(frames):
            contents["evaluation__seen"] = dict(image=events.film(frames))
        self._write_summary(agent_step, **contents)

    def _write_summary(self, agent_step, **contents):
        self._events.append(events.record(step=agent_step, summary=events.summary(**contents)))

    def save_weights(self, name: str, save_weights: Callable[[Any], object]) -> None:
        """Replace the weights of this name, now, or with the next checkpoint if the disk is full now.

        Args:
            name: as layout.weights_path takes it.
            save_weights: writes weights; called with what Keras takes for a path.
        """
        self._waiting[layout.weights_path(self.directory, name)] = weights.pack(save_weights)
        with contextlib.suppress(OSError):
            self._write_weights()

    def _write_weights(self):
        for path in list(self._waiting):
            path.parent.mkdir(exist_ok=True)
            files.write_whole(path, self._waiting[path])
            del self._waiting[path]

    def save(self, state: dict[str, Any], arrays: Iterable[tuple[str, Any]], replay: Any,
             save_weights: Callable[[Any], object]) -> None:
        """Write all that a full disk refused so far, then a checkpoint.

        Args:
            state, arrays, replay: as Checkpoints.save takes them.
            save_weights: writes weights; called with what Keras takes for a path.

        Raises:
            OSError: the checkpoint could not be written; the ones before it are as they were.
        """
        self._write_weights()
        for file in (*self._csv.values(), self._events):
            file.sync()
        state = state | dict(csv_sizes={name: file.size for name, file in self._csv.items()},
                             csv_rows={name: file.num_rows for name, file in self._csv.items()})
        self.checkpoints.save(state, arrays, replay, lambda: weights.pack(save_weights))

    def close(self) -> None:
        """Close every file, and give up the lock.

        Raises:
            OSError: some rows could not be written.
        """
        self.checkpoints.close()
        for file in (*self._csv.values(), self._events):
            file.close()
        self._lock.close()


def _lock(directory):
    """Lock a run's directory for this process. The lock ends with the process, on a network's file system too.

    Returns:
        The open file. If this process closed any other handle of the file, the lock would be gone.

    Raises:
        ValueError: another process has locked it.
    """
    file = open(directory / layout.LOCK, "a+b", buffering=0)  # noqa: SIM115 - open as long as the run
    try:
        _lock_patiently(file)
    except (BlockingIOError, PermissionError) as error:
        raise opening.in_use(directory) from error
    except OSError as error:
        print(f"{directory} cannot be locked ({error.strerror}): see to it that no other process trains there.",
              file=sys.stderr)
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
    return file


def _lock_patiently(file):
    """Lock a file, or try again for a second: status.py locks it for a moment to see whether anybody else does."""
    for _ in range(LOCK_TRIES):
        with contextlib.suppress(BlockingIOError, PermissionError):
            return locks.lock(file)
        time.sleep(1 / LOCK_TRIES)
    return locks.lock(file)


def _format_cell(value):
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _git_commit(root=None):
    """Return the commit of the suite's repository; `unknown` without git, or inside of another repository."""
    root = root or pathlib.Path(__file__).resolve().parents[1]
    git = lambda *words: subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True).stdout.strip()
    try:
        top = git("rev-parse", "--show-toplevel")
        is_ours = top and pathlib.Path(top).resolve() == root
        return (is_ours and git("describe", "--always", "--dirty", "--abbrev=40")) or "unknown"
    except OSError:  # There is no git.
        return "unknown"


def _versions():
    packages = "keras tensorflow jax gymnasium ale-py numpy".split()
    installed = {package.metadata["Name"].lower(): package.version
                 for package in importlib.metadata.distributions() if package.metadata["Name"]}
    versions = {name: installed.get(name, "not installed") for name in packages}
    return versions | {"date": datetime.date.today().isoformat()}
