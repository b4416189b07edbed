"""A run on disk: config.json, CSV rows, TensorBoard events, best weights; its checkpoints are in checkpoints.py."""

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
    """The directory of one run, opened to go on where its newest whole checkpoint ends.

    ```
    config.json                     settings, versions, git commit, command line
    train.csv learn.csv eval.csv    a row per episode, per 1,000 agent steps, per evaluation episode
    best.weights.h5                 of the best evaluation
    torso.weights.h5 torso.json     a frozen torso, where there is one, and what it is of
    weights/000050.weights.h5       as they were after so many complete episodes, where they are kept
    checkpoints/ replay/            of checkpoints.Checkpoints
    lock                            held by the process that trains, and naming it
    ```
    Args:
        directory: made if missing.
        settings: everything resolved that determines the run.
        resume: `auto` goes on; `never` refuses a directory that holds anything.

    Raises:
        ValueError: the directory cannot be written, is locked, or holds something else, or a run with other settings.
    """

    def __init__(self, directory, settings, resume="auto", command=()):
        self.directory = pathlib.Path(directory)
        config = self.directory / "config.json"
        leftovers = ("lock", "config.json.aside")  # of a process that was killed before there was a run
        occupied = self.directory.is_dir() and any(path.name not in leftovers for path in self.directory.iterdir())
        if occupied and resume == "never":
            raise ValueError(f"{directory} is not empty, and --resume=never was given; choose another --run_dir or remove it yourself")
        if occupied and not config.exists():
            raise ValueError(f"{directory} is not empty and holds no config.json, so it is no run of this suite; choose another --run_dir")
        if occupied:
            refuse_other_settings(directory, reading.read_config(directory)["settings"], settings)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self.directory)
            self.checkpoints = checkpoints.Checkpoints(self.directory)
            about = dict(settings=settings, command=list(command), git_commit=_git_commit(), versions=_versions())
            files.write_whole(config, json.dumps(about, indent=1).encode())
        except OSError as error:
            raise ValueError(f"--run_dir={directory} cannot be written ({error.strerror or error})") from error
        state = self.checkpoints.state or dict(csv_sizes={})
        self._csv = {name: files.Records(self.directory / f"{name}.csv", state["csv_sizes"].get(name, 0)) for name in layout.COLUMNS}
        for name, file in self._csv.items():
            if not file.size:
                file.append((",".join(layout.COLUMNS[name]) + "\n").encode())
        self._events = files.Records(self.directory / f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}")
        self._events.append(events.record(file_version="brain.Event:2"))
        if self.checkpoints.state:  # TensorBoard hides what other files hold of steps after this one.
            self._events.append(events.record(step=state["agent_step"], session_log=SessionLog(status=SessionLog.START)))
        self._waiting = {}  # path -> weights that are not on the disk yet

    def row(self, name, **values):
        """Append a row to `name`.csv; each column must be given."""
        assert values.keys() == set(layout.COLUMNS[name]), values.keys() ^ set(layout.COLUMNS[name])
        self._csv[name].append((",".join(_cell(values[column]) for column in layout.COLUMNS[name]) + "\n").encode())

    def scalars(self, agent_step, **values):
        """Write TensorBoard scalars, `group__name` as group/name; what is not known yet (NaN) is left out."""
        self._summarize(agent_step, **{name: dict(simple_value=value) for name, value in values.items() if value == value})

    def glimpse(self, agent_step, q_values, frames=()):
        """Write a TensorBoard histogram of the largest Q-values of `q_values` [..., A], and a film of `frames` uint8[T, 84, 84] if any."""
        largest, contents = np.max(q_values, axis=-1), {}
        if np.isfinite(largest).all():  # If not, the next update's loss will say so.
            contents["evaluation__max_q"] = dict(histo=events.histogram(largest))
        if len(frames):
            contents["evaluation__seen"] = dict(image=events.film(frames))
        self._summarize(agent_step, **contents)

    def _summarize(self, agent_step, **contents):
        self._events.append(events.record(step=agent_step, summary=events.summary(**contents)))

    def save_weights(self, name, save_weights):
        """Put the weights that `save_weights(path)` writes in place of those of this name, such as `best` or `weights/000050`.

        That is now, or where a disk is full with the next save.
        """
        self._waiting[self.directory / f"{name}.weights.h5"] = _weights(save_weights)
        with contextlib.suppress(OSError):
            self._write_weights()

    def _write_weights(self):
        for path in list(self._waiting):
            path.parent.mkdir(exist_ok=True)
            files.write_whole(path, self._waiting[path])
            del self._waiting[path]

    def save(self, state, arrays, replay, save_weights):
        """Write a checkpoint, and before it all that a full disk refused so far.

        Args:
            state, arrays, replay: as Checkpoints.save takes them.
            save_weights: called with what Keras takes for a path.

        Raises:
            OSError: it could not be written; the checkpoints before it are as they were.
        """
        self._write_weights()
        for file in (*self._csv.values(), self._events):
            file.flush()
            os.fsync(file.descriptor)
        sizes = {name: file.size for name, file in self._csv.items()}
        self.checkpoints.save(state | dict(csv_sizes=sizes), arrays, replay, lambda: _weights(save_weights))

    def close(self):
        """Close every file, and give up the lock.

        Raises:
            OSError: there are rows that could not be written.
        """
        self.checkpoints.close()
        for file in (*self._csv.values(), self._events):
            file.flush()
            os.close(file.descriptor)
        self._lock.close()


class _Memory(io.BytesIO):
    """A file in memory that Keras takes for a path: HDF5 would crash the process, at its end, had it once met a full disk."""

    def __str__(self):
        return "memory.weights.h5"


def _weights(save_weights):
    """Return as bytes what `save_weights(path)` writes."""
    memory = _Memory()
    save_weights(memory)
    return memory.getbuffer()


def _lock(directory):
    """Lock a run's directory for this process; the lock goes when the process does, on a network's file system too.

    Returns:
        The open file. To close any other handle on it in this process would unlock.

    Raises:
        ValueError: another process has locked it.
    """
    file = open(directory / "lock", "a+b", buffering=0)  # noqa: SIM115 - open as long as the run
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        file.seek(0)
        raise ValueError(f"{directory} is in use: {file.read().decode()} trains there; stop it, or choose another --run_dir") from error
    except OSError as error:
        print(f"{directory} cannot be locked ({error.strerror}): see to it that no other process trains there.", file=sys.stderr)
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
    return file


def refuse_other_settings(directory, before, now):
    """Raise ValueError naming each setting in which a run differs from what is asked for now."""
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name) and name not in layout.FREE)
    if names:
        spell = lambda name: "KERAS_BACKEND" if name == "backend" else f"--{name}"
        changes = ", ".join(f"{spell(name)} was {before.get(name)} and is now {now.get(name)}" for name in names)
        raise ValueError(f"{directory} holds a run with other settings: {changes}; repeat them, or choose another --run_dir")


def _cell(value):
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _git_commit():
    git = subprocess.run(["git", "-C", str(pathlib.Path(__file__).resolve().parents[1]), "describe", "--always", "--dirty", "--abbrev=40"],
                         capture_output=True, text=True)
    return git.stdout.strip() or "unknown"


def _versions():
    packages = "keras tensorflow jax gymnasium ale-py numpy".split()
    installed = {d.metadata["Name"].lower(): d.version for d in importlib.metadata.distributions() if d.metadata["Name"]}
    return {name: installed.get(name, "not installed") for name in packages} | {"date": datetime.date.today().isoformat()}
