"""A run on disk: its config.json, rows, TensorBoard events and best weights. Its checkpoints are in checkpoints.py."""

import contextlib
import datetime
import fcntl
import importlib.metadata
import io
import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import numpy as np
from tensorboardX.proto.event_pb2 import SessionLog

from storage import checkpoints, events, files, layout, reading


class Run:
    """The directory of one run, opened to go on where its newest whole checkpoint ends. layout.py lists its files.

    Args:
        directory: made if missing.
        settings: all resolved settings that determine the run.
        resume: `auto` goes on; `never` refuses a directory that is not empty.
        command: the command line, for config.json.

    Raises:
        ValueError: the directory cannot be written, is locked, or holds something else, or a run with other settings.
    """

    def __init__(self, directory, settings, resume="auto", command=()):
        self.directory = pathlib.Path(directory)
        config = layout.config_path(directory)
        leftovers = (layout.LOCK, f"{layout.CONFIG}.aside")  # of a process that was killed before there was a run
        occupied = self.directory.is_dir() and any(path.name not in leftovers for path in self.directory.iterdir())
        if occupied and resume == "never":
            raise ValueError(f"{directory} is not empty, and --resume=never was given; "
                             "choose another --run_dir or remove it yourself")
        if occupied and not config.exists():
            raise ValueError(f"{directory} is not empty and holds no config.json, so it is no run of this suite; "
                             "choose another --run_dir")
        if occupied:
            before = reading.read_config(directory)
            _refuse_old_run(directory, before)
            _refuse_other_settings(directory, before["settings"], settings)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self.directory)
            self.checkpoints = checkpoints.Checkpoints(self.directory)
            about = dict(settings=settings, command=list(command), git_commit=_git_commit(), versions=_versions())
            files.write_whole(config, json.dumps(about, indent=1).encode())
        except OSError as error:
            raise ValueError(f"--run_dir={directory} cannot be written ({error.strerror or error})") from error
        state = self.checkpoints.state or dict(csv_sizes={})
        self._csv = {name: files.RowFile(layout.csv_path(directory, name), state["csv_sizes"].get(name, 0))
                     for name in layout.COLUMNS}
        for name, file in self._csv.items():
            if not file.size:
                file.append((",".join(layout.COLUMNS[name]) + "\n").encode())
        self._events = files.RowFile(layout.events_path(directory, time.time(), socket.gethostname(), os.getpid()))
        self._events.append(events.record(file_version="brain.Event:2"))
        if self.checkpoints.state:  # TensorBoard then hides the later steps in the files of events before this one.
            start = SessionLog(status=SessionLog.START)
            self._events.append(events.record(step=state["agent_step"], session_log=start))
        self._waiting = {}  # path -> weights that are not on the disk yet

    def row(self, name, **values):
        """Append a row to the CSV `name`; each column must be given."""
        columns = layout.COLUMNS[name]
        assert values.keys() == set(columns), values.keys() ^ set(columns)
        self._csv[name].append((",".join(_format_cell(values[column]) for column in columns) + "\n").encode())

    def scalars(self, agent_step, **values):
        """Write TensorBoard scalars, `group__name` as group/name. NaN, a value that is not known yet, is left out."""
        known = {name: value for name, value in values.items() if value == value}
        self._write_summary(agent_step, **{name: dict(simple_value=value) for name, value in known.items()})

    def glimpse(self, agent_step, q_values, frames=()):
        """Write what an evaluation saw for TensorBoard.

        Args:
            q_values: [..., A]; a histogram shows the largest one of each timestep.
            frames: uint8[T, 84, 84] of a film, if there is one.
        """
        largest, contents = np.max(q_values, axis=-1), {}
        if np.isfinite(largest).all():  # If not, the next update's loss stops the run with a sentence.
            contents["evaluation__max_q"] = dict(histo=events.histogram(largest))
        if len(frames):
            contents["evaluation__seen"] = dict(image=events.film(frames))
        self._write_summary(agent_step, **contents)

    def _write_summary(self, agent_step, **contents):
        self._events.append(events.record(step=agent_step, summary=events.summary(**contents)))

    def save_weights(self, name, save_weights):
        """Replace the weights of this name, now, or with the next checkpoint if the disk is full now.

        Args:
            name: as layout.weights_path takes it.
            save_weights: writes weights; called with what Keras takes for a path.
        """
        self._waiting[layout.weights_path(self.directory, name)] = _weights_as_bytes(save_weights)
        with contextlib.suppress(OSError):
            self._write_weights()

    def _write_weights(self):
        for path in list(self._waiting):
            path.parent.mkdir(exist_ok=True)
            files.write_whole(path, self._waiting[path])
            del self._waiting[path]

    def save(self, state, arrays, replay, save_weights):
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
        sizes = {name: file.size for name, file in self._csv.items()}
        state = state | dict(csv_sizes=sizes)
        self.checkpoints.save(state, arrays, replay, lambda: _weights_as_bytes(save_weights))

    def close(self):
        """Close every file, and give up the lock.

        Raises:
            OSError: some rows could not be written.
        """
        self.checkpoints.close()
        for file in (*self._csv.values(), self._events):
            file.close()
        self._lock.close()


class _MemoryFile(io.BytesIO):
    """A file in memory that Keras takes for a path: after a full disk HDF5 would crash the process when it ends."""

    def __str__(self):
        return "memory.weights.h5"


def _weights_as_bytes(save_weights):
    """Return the bytes that `save_weights(path)` writes."""
    memory = _MemoryFile()
    save_weights(memory)
    return memory.getbuffer()


def _lock(directory):
    """Lock a run's directory for this process. The lock ends with the process, on a network's file system too.

    Returns:
        The open file. If this process closed any other handle of the file, the lock would be gone.

    Raises:
        ValueError: another process has locked it.
    """
    file = open(directory / layout.LOCK, "a+b", buffering=0)  # noqa: SIM115 - open as long as the run
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        file.seek(0)
        raise ValueError(f"{directory} is in use: {file.read().decode()} trains there; "
                         "stop it, or choose another --run_dir") from error
    except OSError as error:
        print(f"{directory} cannot be locked ({error.strerror}): see to it that no other process trains there.",
              file=sys.stderr)
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
    return file


def _refuse_old_run(directory, config):
    """Raise ValueError if a run was made when all environments were reset together: its checkpoints say too little."""
    header = ",".join(layout.OLD_COLUMNS["train"])
    if reading.read_header(directory, "train") == header:
        raise ValueError(f"{directory} holds a run of an earlier version, which seeded all environments at once, so it "
                         "cannot go on here; choose another --run_dir, or go on with the git commit that its "
                         f"config.json names, {config.get('git_commit', 'unknown')}")


def _refuse_other_settings(directory, before, now):
    """Raise ValueError naming each setting in which a run differs from the settings asked for now.

    A setting that did not exist when the run began counts as off: None, False or 0.
    """
    names = sorted(name for name in before.keys() | now.keys()
                   if before.get(name) != now.get(name) and name not in layout.FREE
                   and (name in before or now[name]))
    if names:
        flag = lambda name: "KERAS_BACKEND" if name == "backend" else f"--{name}"
        changes = ", ".join(f"{flag(name)} was {before.get(name)} and is now {now.get(name)}" for name in names)
        raise ValueError(f"{directory} holds a run with other settings: {changes}; "
                         "repeat them, or choose another --run_dir")


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
