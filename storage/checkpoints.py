"""Checkpoints of a run: written to the side, renamed when whole, and the one before kept."""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import shutil
import sys
import zipfile
import zlib

import numpy as np

from storage import files

SEGMENT_TIMESTEPS = 2048  # of replay per file, 15 MB of Atari frames in memory; a file that is full is never written again


class Checkpoints:
    """The checkpoints of one run.

    ```
    checkpoints/000006250/   (vector steps) state.json, arrays.npz, online.weights.h5; the newest two
    replay/                  segments of the replay that those checkpoints name
    ```
    Args:
        directory: of the run.

    Attributes:
        state: what `save` was given and wrote at the newest checkpoint that was whole when this was made; None if there was none.

    Raises:
        ValueError: there are checkpoints, and none is whole.
    """

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.folder = self.directory / "checkpoints"
        self.state = self._newest()
        self._segments = list(self.state["segments"]) if self.state else []
        self._thread, self._ahead = concurrent.futures.ThreadPoolExecutor(1), None

    def save(self, state, arrays, replay, weights):
        """Write a checkpoint.

        Args:
            state: agent_step, other numbers, generators' states, as JSON takes them.
            arrays: an iterable of (name, array); each is written before the next is taken.
            replay: the Replay; only rows since the last checkpoint are written.
            weights: a function that returns the bytes of online.weights.h5, which are dropped once they are written.

        Raises:
            OSError: it could not be written; nothing of it is left, and those before it are as they were.
        """
        aside, place = self.folder / "aside", self.folder / f"{replay.end:09d}"
        if place.exists():
            return  # Nothing has happened since.
        shutil.rmtree(aside, ignore_errors=True)
        try:
            aside.mkdir(parents=True)
            written = {"online.weights.h5": files.write_checked(aside / "online.weights.h5", lambda file: file.write(weights())),
                     "arrays.npz": files.write_npz(aside / "arrays.npz", arrays, zipfile.ZIP_STORED)}  # Weights do not shrink.
            self._collect()
            for start, stop in self._missing(replay):
                self._segments.append(self._write_segment(start, stop, _rows(replay, start, stop)))
            state = state | dict(files=written, segments=self._segments, replay_end=replay.end)
            files.write_checked(aside / "state.json", lambda file: file.write(_encode(state | dict(crc32=_crc32_of(state)))))
            for folder in (aside, self.directory / "replay", self.directory):
                files.sync(folder)
            os.rename(aside, place)
        except OSError:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        files.sync(self.folder)
        self._forget()

    def write_ahead(self, replay):
        """Where a segment of the replay has just become full, write it beside the training: that is most of a checkpoint's work."""
        if replay.end % _segment_rows(replay) == 0:
            self._collect()
            start, stop = next(self._missing(replay))
            self._ahead = self._thread.submit(self._write_segment, start, stop, _rows(replay, start, stop))

    def close(self):
        self._thread.shutdown()

    def load_arrays(self):
        """Return the arrays of the checkpoint."""
        with np.load(self.state["place"] / "arrays.npz") as arrays:
            return dict(arrays)

    def load_replay(self):
        """Yield (first row, columns) of each segment of the checkpoint's replay, as replay.restore takes them."""
        for segment in self.state["segments"]:
            with np.load(self.directory / segment["name"]) as columns:
                yield segment["start"], dict(columns)

    def _collect(self):
        """Wait for the thread. A segment that a full disk refused is still missing, so that the next turn writes it."""
        if self._ahead:
            with contextlib.suppress(OSError):
                self._segments.append(self._ahead.result())
            self._ahead = None

    def _missing(self, replay):
        """Forget segments that are overwritten, or that the last checkpoint began; yield (start, stop) of those still to be written."""
        size = _segment_rows(replay)
        self._segments = [segment for segment in self._segments if segment["stop"] > replay.oldest]
        if self._segments and self._segments[-1]["stop"] % size:
            self._segments.pop()
        start = max(self._segments[-1]["stop"] if self._segments else 0, replay.oldest)
        while start < replay.end:
            stop = min((start // size + 1) * size, replay.end)
            yield start, stop
            start = stop

    def _write_segment(self, start, stop, columns):
        name = f"replay/{start:09d}-{stop:09d}.npz"
        (self.directory / "replay").mkdir(exist_ok=True)
        # At level 1 Atari frames shrink about tenfold, faster than most disks write.
        return dict(name=name, start=start, stop=stop, **files.write_npz(self.directory / name, columns.items(), zipfile.ZIP_DEFLATED))

    def _forget(self):
        """Remove all but the newest two checkpoints and their segments; what cannot be removed is tried again after the next one."""
        places = sorted(self.folder.glob("[0-9]*"))
        for place in places[:-2]:
            shutil.rmtree(place, ignore_errors=True)
        with contextlib.suppress(OSError, ValueError):
            named = {segment["name"] for place in places[-2:] for segment in json.loads((place / "state.json").read_text())["segments"]}
            for path in (self.directory / "replay").iterdir():
                if f"replay/{path.name}" not in named:
                    path.unlink()

    def _newest(self):
        """Return the state of the newest checkpoint that is whole; remove those above it that are not, saying so."""
        damaged = []
        for place in sorted(self.folder.glob("[0-9]*"), reverse=True):
            try:
                state = json.loads((place / "state.json").read_text())
                if state.pop("crc32") != _crc32_of(state):
                    raise ValueError("state.json is not what was written")
                for name, check in state["files"].items():
                    files.verify(place / name, check)
                for segment in state["segments"]:
                    files.verify(self.directory / segment["name"], segment)
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                damaged.append(f"{place} is damaged ({' '.join(str(error).split())})")
                continue
            for below in sorted(self.folder.glob("[0-9]*")):
                if below.name > place.name:  # They would otherwise be taken for the newest two later on.
                    shutil.rmtree(below)
            if damaged:
                print(f"{'; '.join(damaged)}; going back to the whole checkpoint {place.name}.", file=sys.stderr)
            return state | dict(place=place)
        if damaged:
            raise ValueError(f"{self.directory} has no whole checkpoint: {'; '.join(damaged)}; choose another --run_dir")
        return None


def _segment_rows(replay):
    return max(1, SEGMENT_TIMESTEPS // replay.num_envs)


def _rows(replay, start, stop):
    """Return a copy of rows [start, stop), which training may overwrite meanwhile."""
    at = np.arange(start, stop) % replay.num_rows
    return {name: column[at] for name, column in replay.columns.items()}


def _encode(state):
    return json.dumps(state).encode()


def _crc32_of(state):
    return zlib.crc32(_encode(state))


