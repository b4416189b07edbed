"""Learning curves: the returns of runs along an axis, their means and bands over seeds."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis import statistics
from storage import layout, reading, training

Runs = dict[pathlib.Path, dict[str, Any]]  # directory -> settings
RandomPlay = Mapping[pathlib.Path, np.ndarray]  # directory -> returns of random play

AXES = {  # x axis -> column of a run's rows, how many of its units are one unit of the axis
    "agent_step": ("agent_step", 1), "frames": ("frames", 1), "hours": ("seconds", 3600), "episodes": ("episodes", 1)}
BINS = 50  # of training episodes along the x axis
X_LABELS = {"agent_step": "agent steps", "frames": "emulator frames", "hours": "hours of training",
            "episodes": "complete training episodes"}
Y_LABELS = {"eval": "evaluation return\n(raw reward)", "train": "training return\n(raw reward)"}


@dataclasses.dataclass
class Curve:
    """The returns y of one run along an axis x."""

    directory: pathlib.Path
    settings: dict[str, Any]
    x: np.ndarray
    y: np.ndarray

    @property
    def game(self) -> str:
        """The game whose raw returns these are; it is the same with crafted rewards and without them."""
        return layout.GAMES.get(self.settings["env"], self.settings["env"])

    @property
    def line(self) -> str:
        """A text that is the same for all runs of one line: their settings, except for seed and limits."""
        shared = {name: value for name, value in self.settings.items() if name not in layout.SAME_LINE}
        return json.dumps(shared, sort_keys=True)


def read_curves(runs: Runs, x: str = "agent_step", y: str = "eval") -> tuple[list[Curve], list[str]]:
    """Read the returns of runs.

    A point is the mean of a whole evaluation, or the mean of the complete training episodes in a bin of the x axis.

    Args:
        runs: {directory: settings}.
        x: a key of AXES. `episodes` counts training episodes.
        y: `eval` or `train`.

    Returns:
        [Curve, ...], one per seed of a line; and sentences on runs that are damaged, empty, unfinished or there twice.
    """
    column, units = AXES[x]
    longest: dict[tuple[str, int], Curve] = {}  # of each seed of a line
    unfinished: dict[pathlib.Path, tuple[float, int]] = {}
    rows_of_run, notes = reading.read_each(runs, lambda directory: _read_returns(directory, runs[directory], y))
    for directory, (rows, lost, goes_on) in rows_of_run.items():
        settings = runs[directory]
        if lost:
            notes.append(f"{layout.csv_path(directory, y)} has values that are not finite; "
                         f"{lost} row{'s' * (lost > 1)} of it, and evaluations without them, do not count")
        curve = Curve(directory, settings, rows[column] / units, rows["episode_return"])
        if not len(curve.x):
            notes.append(f"{directory} has no {'evaluation' if y == 'eval' else 'complete episode'} yet")
            continue
        if goes_on:
            unfinished[directory] = rows["agent_step"][-1], settings["maxsteps"]
        twin = longest.setdefault((curve.line, settings["seed"]), curve)
        if twin is not curve:
            notes.append(f"{directory} and {twin.directory} are the same seed of the same settings; "
                         "only the longer one counts")
            longest[curve.line, settings["seed"]] = max(twin, curve, key=lambda curve: len(curve.x))
    if unfinished:
        shortest = min(unfinished, key=unfinished.__getitem__)
        step, maxsteps = unfinished[shortest]
        notes.append(f"{len(unfinished)} of {len(runs)} runs are unfinished; the shortest is {shortest}, "
                     f"at {step:,.0f} of {maxsteps:,} agent steps")
    curves = list(longest.values())
    return curves if y == "eval" else _into_bins(curves), notes


def _read_returns(directory, settings, y):
    """Return the rows of a run that hold its returns, how many of its CSV are lost, and whether more will come."""
    rows = evaluations = training.read_evaluations(directory, settings)
    if y == "train":
        rows = training.read_rows(directory, "train")
        rows["episodes"] = 1 + np.arange(len(rows["agent_step"]))
    last = evaluations["agent_step"][-1] if len(evaluations["agent_step"]) else 0
    return rows, training.count_lost_rows(directory, y), training.is_unfinished(directory, settings, last)


def _into_bins(curves):
    """Return curves of means over bins of the x axis. All runs of a game have the same bins."""
    binned = []
    for curve in curves:
        edges = np.linspace(0, max(other.x[-1] for other in curves if other.game == curve.game), BINS + 1)
        bin_of_episode = np.clip(np.searchsorted(edges, curve.x) - 1, 0, BINS - 1)
        count = np.bincount(bin_of_episode, minlength=BINS)
        total = np.bincount(bin_of_episode, curve.y, BINS)
        centers = (edges[1:] + edges[:-1]) / 2
        is_full = (count > 0) & (centers <= curve.x[-1])  # The last bin of an unfinished run may hold few episodes.
        kept = is_full if is_full.any() else count > 0
        binned.append(dataclasses.replace(curve, x=centers[kept], y=total[kept] / count[kept]))
    return binned


def mean_random_play(curves: Sequence[Curve], random_play: RandomPlay) -> float | None:
    """Return the mean return of random play beside these runs; None where evaluate.py has not played it."""
    known = [random_play[curve.directory] for curve in curves if curve.directory in random_play]
    return np.concatenate(known).mean() if known else None


def tolerance_of(curves: Sequence[Curve], x: str) -> int:
    """Return how far apart, at most, the same evaluation of different seeds lies on the x axis."""
    late = curves[0].settings["num_envs"] - 1
    return {"agent_step": late, "frames": late * curves[0].settings["frame_skip"]}.get(x, 0)


def mean_curve(curves: Sequence[Curve], tolerance: float = 0) -> tuple[np.ndarray, ...]:
    """Return the mean of the runs of one line.

    Args:
        curves: the seeds of the line.
        tolerance: points that are no further apart are one point.

    Returns:
        x, middle, low, high: float64[X], NaN where too few seeds have data.
        seeds: int[X], how many have data.
        fewer: bool[X], where not all seeds have data.
        faint: bool[X], where the mean is not over all seeds; it begins at the last point that all seeds have.
    """
    x, values = statistics.align_curves([(curve.x, curve.y) for curve in curves], tolerance)
    middle, low, high = statistics.interquartile_band(values)
    seeds = (~np.isnan(values)).sum(0)
    fewer = seeds < len(curves)
    faint = ~np.isnan(middle) & (fewer | np.append(fewer[1:], False) | np.append(False, fewer[:-1]))
    return x, middle, low, high, seeds, fewer, faint
