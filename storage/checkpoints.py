"""Checkpoints of a run: written aside, renamed when they are whole; the one before the newest is kept."""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import shutil
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from storage import files, layout, reading, states

SEGMENT_TIMESTEPS = 2048  # of replay per file, 15 MB of Atari frames in memory; a full file is never written again
DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError)  # what reading a damaged checkpoint raises


class Checkpoints:
    """The checkpoints of one run.

    ```
    checkpoints/000006250/   after 6,250 vector steps: state.json, arrays.npz, online.weights.h5; the newest two stay
    replay/                  segments of the replay that these checkpoints name
    ```
    Only files with these names are ever removed.

    Args:
        directory: of the run.
        is_partial: where no checkpoint is whole, go on from one whose older replay alone is damaged.

    Attributes:
        state: of the newest whole checkpoint when this object was made; None if there was none.

    Raises:
        ValueError: there are checkpoints, and none is whole.
    """

    def __init__(self, directory: str | pathlib.Path, is_partial: bool = False) -> None:
        self.directory = pathlib.Path(directory)
        self.folder = self.directory / layout.CHECKPOINTS
        self.state = self._restore_newest(is_partial)
        self._segments = list(self.state["segments"]) if self.state else []
        self._thread = concurrent.futures.ThreadPoolExecutor(1)
        self._written_ahead: concurrent.futures.Future[dict[str, Any]] | None = None  # of a segment

    def save(self, state: dict[str, Any], arrays: Iterable[tuple[str, Any]], replay: Any,
             weights: Callable[[], bytes | memoryview]) -> None:
        """Write a checkpoint.

        Args:
            state: agent_step, other numbers, generators' states, as JSON takes them.
            arrays: an iterable of (name, array); each is written before the next is taken.
            replay: the Replay; only the rows since the last checkpoint are written.
            weights: a function that returns the bytes of online.weights.h5; they are dropped once they are written.

        Raises:
            OSError: the checkpoint could not be written; nothing of it is left, and older ones are as they were.
        """
        aside, place = self.folder / layout.ASIDE, layout.checkpoint_path(self.directory, replay.end)
        if (place / layout.STATE).exists():  # No step was made since, but perhaps the evaluation that was owed.
            before = reading.read_state(place)
            if before.get("evaluation_owed") != state.get("evaluation_owed"):
                kept = {name: before[name] for name in ("files", "segments", "replay_end")}
                files.write_whole(place / layout.STATE, _encode_state(state | kept))
            return
        shutil.rmtree(aside, ignore_errors=True)
        try:
            aside.mkdir(parents=True)
            checks = {
                layout.ONLINE: files.write_checked(aside / layout.ONLINE, lambda file: file.write(weights())),
                layout.ARRAYS:
                    files.write_npz(aside / layout.ARRAYS, arrays, zipfile.ZIP_STORED)}  # Weights do not shrink.
            self._collect_segment()
            for start, stop in self._missing_segments(replay):
                self._segments.append(self._write_segment(start, stop, _copy_rows(replay, start, stop)))
            state = state | dict(files=checks, segments=self._segments, replay_end=replay.end)
            encoded = _encode_state(state)
            files.write_checked(aside / layout.STATE, lambda file: file.write(encoded))
            for folder in (aside, self.directory / layout.REPLAY, self.directory):
                files.sync_folder(folder)
            os.rename(aside, place)
        except OSError:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        files.sync_folder(self.folder)
        self._remove_old()

    def write_ahead(self, replay: Any) -> None:
        """Write a segment beside the training as soon as it is full, since segments are most of a checkpoint's work."""
        if replay.end % _segment_rows(replay) == 0 and not replay.is_rollout:
            self._collect_segment()
            start, stop = next(self._missing_segments(replay))
            rows = _copy_rows(replay, start, stop)
            self._written_ahead = self._thread.submit(self._write_segment, start, stop, rows)

    def close(self) -> None:
        self._thread.shutdown()

    def load_arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays of the checkpoint."""
        with np.load(self.state["place"] / layout.ARRAYS) as arrays:
            return dict(arrays)

    def load_replay(self) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """Yield (first row, columns) of each segment of the checkpoint's replay, as replay.restore takes them."""
        for segment in self.state["segments"]:
            with np.load(self.directory / segment["name"]) as columns:
                yield segment["start"], dict(columns)

    def _collect_segment(self):
        """Wait for the thread. A segment that a full disk refused is still missing, and the next caller writes it."""
        if self._written_ahead:
            with contextlib.suppress(OSError):
                self._segments.append(self._written_ahead.result())
            self._written_ahead = None

    def _missing_segments(self, replay):
        """Yield (start, stop) of the segments that are still to be written.

        Segments that the ring has overwritten are forgotten. A segment that the last checkpoint began is written anew.
        """
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
        name = layout.segment_name(start, stop)
        path = self.directory / name
        path.parent.mkdir(exist_ok=True)
        # At level 1 Atari frames shrink about tenfold, faster than most disks write.
        check = files.write_npz(path, columns.items(), zipfile.ZIP_DEFLATED)
        return dict(name=name, start=start, stop=stop, **check)

    def _remove_old(self):
        """Remove all but the newest two checkpoints and their segments.

        Files that cannot be removed are retried after the next checkpoint.
        """
        places = reading.find_checkpoints(self.directory)
        for place in places[:-2]:
            with contextlib.suppress(OSError):
                _remove_checkpoint(place)
        with contextlib.suppress(OSError, ValueError):
            newest = [reading.read_state(place) for place in places[-2:]]
            named = {segment["name"] for state in newest for segment in state["segments"]}
            for path in (self.directory / layout.REPLAY).iterdir():
                if layout.is_segment(path) and f"{layout.REPLAY}/{path.name}" not in named:
                    with contextlib.suppress(OSError):
                        path.unlink()

    def _restore_newest(self, is_partial):
        """Return the state of the newest whole checkpoint; remove damaged ones above it, and say so.

        Without a removal the damaged ones would later be taken for the newest two.
        """
        places = reading.find_checkpoints(self.directory)
        place, state, damaged = _read_newest(self._read_whole, places)
        faults = "; ".join(damaged)
        message = f"{faults}; going back to the whole checkpoint {place and place.name}."
        if places and not state:
            place, state, _ = _read_newest(self._read_rest, places)
            message = f"{self.directory} has no whole checkpoint: {faults}; choose another --run_dir"
            if not state:
                raise ValueError(message)
            left = state["replay_end"] - state["segments"][0]["start"]
            if not is_partial:
                raise ValueError(f"{message}, or go on with --resume=partial from checkpoint {place.name}, whose "
                                 f"damaged replay still has its newest {left:,} rows")
            message = f"{faults}; going on with the newest {left:,} rows of the replay from checkpoint {place.name}."
        if state:
            for above in places[places.index(place) + 1:]:
                _remove_checkpoint(above)
            if damaged:
                print(message, file=sys.stderr)
            return state | dict(place=place)
        return None

    def _read_whole(self, place):
        """Return the state of a checkpoint whose files are as they were written.

        Raises:
            DAMAGE: it is damaged.
        """
        state = _read_state(place)
        for segment in state["segments"]:
            files.verify(self.directory / segment["name"], segment)
        return state

    def _read_rest(self, place):
        """Return the state of a checkpoint of which older segments alone are damaged, with the segments after these.

        Raises:
            DAMAGE: more is damaged.
        """
        state, rest = _read_state(place), []
        for segment in reversed(state["segments"]):
            try:
                files.verify(self.directory / segment["name"], segment)
            except (OSError, ValueError):
                break
            rest.insert(0, segment)
        if not rest:
            raise ValueError("nothing is left of its replay")
        return state | dict(segments=rest)


def _read_newest(read, places):
    """Return the first of the places, from the newest, that `read` can read, its state, and why newer ones are damaged.

    Place and state are None where there is none.
    """
    damaged = []
    for place in reversed(places):
        try:
            return place, read(place), damaged
        except DAMAGE as error:
            damaged.append(f"{place} is damaged ({' '.join(str(error).split())})")
    return None, None, damaged


def _read_state(place):
    """Return the state of a checkpoint whose own folder is as it was written.

    Raises:
        DAMAGE: it is damaged.
    """
    state = reading.read_state(place)
    if state.pop("crc32") != _checksum(state):
        raise ValueError("state.json is not what was written")
    states.check(state)
    for name, check in state["files"].items():
        files.verify(place / name, check)
    return state


def _remove_checkpoint(place):
    """Remove a checkpoint's files, and its folder if no other file lies in it.

    Raises:
        OSError: a file could not be removed.
    """
    for name in layout.CHECKPOINT:
        (place / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        place.rmdir()


def _segment_rows(replay):
    return max(1, SEGMENT_TIMESTEPS // replay.num_envs)


def _copy_rows(replay, start, stop):
    """Return a copy of rows [start, stop), since training may overwrite them meanwhile."""
    at = np.arange(start, stop) % replay.num_rows
    return {name: column[at] for name, column in replay.columns.items()}


def _encode(state):
    return json.dumps(state).encode()


def _encode_state(state):
    """Return the bytes of a state.json, which has a checksum of its own."""
    return _encode(state | dict(crc32=_checksum(state)))


def _checksum(state):
    return zlib.crc32(_encode(state))
