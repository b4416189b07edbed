"""A run on disk: config.json, CSV rows, TensorBoard events, checkpoints."""

import datetime
import importlib.metadata
import json
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile
import zlib

import numpy as np
from tensorboardX import SummaryWriter

# Settings that may change when a run goes on: its limit, and how often it is looked at and saved.
FREE = ("maxsteps", "eval_period", "checkpoint_period")
COLUMNS = {
    "train": "agent_step frames episode_return length training_reward environment cut seconds".split(),
    "learn": "agent_step frames updates loss mean_q gradient_norm epsilon learning_rate cut_share "
             "environment_seconds act_seconds sample_seconds learn_seconds seconds".split(),
    "eval": "agent_step frames evaluation episode episode_return length seconds".split(),
}
SEGMENT_ROWS = 512  # of replay per file; a file that is full is never written again


class Run:
    """The directory of one run, opened to go on where its newest whole checkpoint ends.

    ```
    config.json                     settings, versions, git commit, command line
    train.csv learn.csv eval.csv    a row per episode, per 1,000 agent steps, per evaluation episode
    best.weights.h5                 of the best evaluation
    checkpoints/000006250/          (vector steps) state.json, arrays.npz, online.weights.h5; the newest two
    replay/                         segments of the replay that those checkpoints name
    ```
    Args:
        directory: made if missing.
        settings: everything resolved that determines the run.
        resume: `auto` goes on; `never` refuses a directory that holds anything.

    Raises:
        ValueError: the directory cannot be written, or holds something else, or a run with other settings.
    """

    def __init__(self, directory, settings, resume="auto", command=()):
        self.directory = pathlib.Path(directory)
        config = self.directory / "config.json"
        occupied = self.directory.is_dir() and any(self.directory.iterdir())
        if occupied and resume == "never":
            raise ValueError(f"{directory} is not empty, and --resume=never was given; choose another --run_dir or remove it yourself")
        if occupied and not config.exists():
            raise ValueError(f"{directory} is not empty and holds no config.json, so it is no run of this suite; choose another --run_dir")
        if occupied:
            refuse_other_settings(directory, read_config(directory)["settings"], settings)
        self.checkpoint = self._newest_checkpoint()
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            write_json(config, dict(settings=settings, command=list(command), git_commit=_git_commit(), versions=_versions()))
        except OSError as error:
            raise ValueError(f"--run_dir={directory} cannot be written ({error.strerror})") from error
        self._segments, sizes = [], {}
        if self.checkpoint:
            self._segments, sizes = self.checkpoint["segments"], self.checkpoint["csv_sizes"]
        self._files = {name: self._open_csv(name, sizes.get(name, 0)) for name in COLUMNS}
        self._board = SummaryWriter(str(self.directory), purge_step=self.checkpoint["agent_step"] if self.checkpoint else None)

    def _open_csv(self, name, size):
        file = open(self.directory / f"{name}.csv", "a", buffering=1)  # noqa: SIM115 - open as long as the run
        file.truncate(size)  # Rows after the checkpoint will be written again.
        if not size:
            file.write(",".join(COLUMNS[name]) + "\n")
        return file

    def row(self, name, **values):
        """Append a row to `name`.csv; each column must be given."""
        assert values.keys() == set(COLUMNS[name]), values.keys() ^ set(COLUMNS[name])
        self._files[name].write(",".join(_cell(values[column]) for column in COLUMNS[name]) + "\n")

    def scalars(self, agent_step, **values):
        """Write TensorBoard scalars, `group__name` as group/name; what is not known yet (NaN) is left out."""
        for name, value in values.items():
            if value == value:
                self._board.add_scalar(name.replace("__", "/"), value, agent_step)

    def close(self):
        for file in self._files.values():
            file.close()
        self._board.close()

    def save_best(self, save_weights):
        """Put the weights that `save_weights(path)` writes in place of the best so far."""
        aside = self.directory / "aside.weights.h5"
        save_weights(aside)
        os.replace(aside, self.directory / "best.weights.h5")

    # Checkpoints: written to the side, renamed when whole, and the previous one kept.

    def save(self, state, arrays, replay, save_weights):
        """Write a checkpoint.

        Args:
            state: agent_step, other numbers, generators' states, as JSON takes them.
            arrays: {name: array}.
            replay: the Replay; only rows since the last checkpoint are written.
            save_weights: called with a path ending in .weights.h5.
        """
        folder = self.directory / "checkpoints"
        aside, place = folder / "aside", folder / f"{replay.end:09d}"
        if place.exists():
            return  # Nothing has happened since.
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        self._board.flush()
        save_weights(aside / "online.weights.h5")
        files = {"arrays.npz": _write_npz(aside / "arrays.npz", arrays)}
        self._segments = self._save_replay(replay)
        state = state | dict(files=files, segments=self._segments, replay_end=replay.end,
                             csv_sizes={name: os.fstat(file.fileno()).st_size for name, file in self._files.items()})
        write_json(aside / "state.json", state | dict(crc32=_crc32_of(state)))
        os.rename(aside, place)
        _sync(folder)
        self._forget(folder)

    def _save_replay(self, replay):
        segments = [s for s in self._segments if s["stop"] > replay.oldest and s["stop"] % SEGMENT_ROWS == 0]
        start = max(segments[-1]["stop"] if segments else 0, replay.oldest)
        (self.directory / "replay").mkdir(exist_ok=True)
        while start < replay.end:
            stop = min((start // SEGMENT_ROWS + 1) * SEGMENT_ROWS, replay.end)
            name = f"replay/{start:09d}-{stop:09d}.npz"
            at = np.arange(start, stop) % replay.num_rows
            check = _write_npz(self.directory / name, {key: column[at] for key, column in replay.columns.items()})
            segments.append(dict(name=name, start=start, stop=stop, **check))
            start = stop
        return segments

    def _forget(self, folder):
        places = sorted(folder.glob("[0-9]*"))
        for place in places[:-2]:
            shutil.rmtree(place)
        named = {s["name"] for place in places[-2:] for s in json.loads((place / "state.json").read_text())["segments"]}
        for path in (self.directory / "replay").iterdir():
            if f"replay/{path.name}" not in named:
                path.unlink()

    def _newest_checkpoint(self):
        """Return the state of the newest checkpoint that is whole; remove those above it that are not, saying so.

        Raises:
            ValueError: there are checkpoints, and none is whole.
        """
        damaged = []
        for place in sorted(self.directory.glob("checkpoints/[0-9]*"), reverse=True):
            try:
                state = json.loads((place / "state.json").read_text())
                if state.pop("crc32") != _crc32_of(state):
                    raise ValueError("state.json is not what was written")
                for name, check in state["files"].items():
                    _verify(place / name, check)
                for segment in state["segments"]:
                    _verify(self.directory / segment["name"], segment)
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                damaged.append(f"{place} is damaged ({' '.join(str(error).split())})")
                continue
            for below in sorted(self.directory.glob("checkpoints/[0-9]*")):
                if below.name > place.name:  # They would otherwise be taken for the newest two later on.
                    shutil.rmtree(below)
            if damaged:
                print(f"{'; '.join(damaged)}; going back to the whole checkpoint {place.name}.", file=sys.stderr)
            return state | dict(place=place)
        if damaged:
            raise ValueError(f"{self.directory} has no whole checkpoint: {'; '.join(damaged)}; choose another --run_dir")
        return None

    def load_arrays(self):
        """Return the arrays of the checkpoint."""
        with np.load(self.checkpoint["place"] / "arrays.npz") as arrays:
            return dict(arrays)

    def load_replay(self):
        """Yield (first row, columns) of each segment of the checkpoint's replay, as replay.restore takes them."""
        for segment in self.checkpoint["segments"]:
            with np.load(self.directory / segment["name"]) as columns:
                yield segment["start"], dict(columns)


def read_config(directory):
    """Return a run's config.json.

    Raises:
        ValueError: there is none, or it is not one of this suite's.
    """
    path = pathlib.Path(directory) / "config.json"
    try:
        config = json.loads(path.read_text())
        config["settings"]["network"]
        return config
    except FileNotFoundError as error:
        raise ValueError(f"{directory} holds no config.json, so it is no run of this suite") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not the configuration of a run of this suite ({error!r})") from error


def find_weights(directory, which):
    """Return the path of a run's `best` or `last` weights.

    Raises:
        ValueError: it has none yet.
    """
    directory = pathlib.Path(directory)
    paths = [directory / "best.weights.h5"] if which == "best" else sorted(directory.glob("checkpoints/[0-9]*/online.weights.h5"))
    if not paths or not paths[-1].exists():
        remedy = "wait for its first evaluation, or ask for the last ones" if which == "best" else "wait for its first checkpoint"
        raise ValueError(f"{directory} has no {which} weights yet; {remedy}")
    return paths[-1]


def refuse_other_settings(directory, before, now):
    """Raise ValueError naming each setting in which a run differs from what is asked for now."""
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name) and name not in FREE)
    if names:
        spell = lambda name: "KERAS_BACKEND" if name == "backend" else f"--{name}"
        changes = ", ".join(f"{spell(name)} was {before.get(name)} and is now {now.get(name)}" for name in names)
        raise ValueError(f"{directory} holds a run with other settings: {changes}; repeat them, or choose another --run_dir")


def write_json(path, value):
    """Write JSON to the side and rename it into place."""
    aside = path.with_suffix(".aside")
    with open(aside, "w") as file:
        json.dump(value, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


def _write_npz(path, arrays):
    """Write {name: array} as numpy's .npz; return its size and checksum. Level 1 shrinks Atari frames about tenfold, faster than a disk."""
    with open(path, "wb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    return dict(size=path.stat().st_size, crc32=_crc32(path))


def _crc32(path):
    crc = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            crc = zlib.crc32(block, crc)
    return crc


def _crc32_of(state):
    return zlib.crc32(json.dumps(state).encode())


def _verify(path, check):
    if path.stat().st_size != check["size"] or _crc32(path) != check["crc32"]:
        raise ValueError(f"{path.name} is not what was written")


def _sync(folder):
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _cell(value):
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _git_commit():
    git = subprocess.run(["git", "-C", os.path.dirname(os.path.abspath(__file__)), "describe", "--always", "--dirty", "--abbrev=40"],
                         capture_output=True, text=True)
    return git.stdout.strip() or "unknown"


def _versions():
    packages = "keras tensorflow jax gymnasium ale-py numpy".split()
    installed = {d.metadata["Name"].lower(): d.version for d in importlib.metadata.distributions() if d.metadata["Name"]}
    return {name: installed.get(name, "not installed") for name in packages} | {"date": datetime.date.today().isoformat()}
