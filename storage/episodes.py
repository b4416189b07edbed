"""What evaluate.py played: the episodes of scores, random play, sweeps; how they are read, and where they go."""

import collections
import contextlib
import csv
import os
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from storage import layout, reading, strangers, training


def read_episodes(path: pathlib.Path) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Read the episodes of one policy that evaluate.py wrote.

    Returns:
        A dict of policy, weights, epsilon, flicker and eval_seed for each episode, and float64[episodes] of returns.

    Raises:
        ValueError: the CSV is damaged, or has no episodes.
    """
    with training.name_damage(path):
        rows = _parse_episodes(path, ("policy", "weights", "epsilon", "flicker", "episode_return", "eval_seed"))
        return rows, _returns_of(rows)


def count_episodes(path: pathlib.Path) -> collections.Counter[tuple[str, float | None]]:
    """Return a Counter of the episodes in a CSV of evaluate.py: (policy, probability that a screen is shown).

    The probability is None where the CSV is no sweep. Of no file, or of a damaged one, the Counter is empty.
    """
    with (contextlib.suppress(OSError, ValueError, KeyError, TypeError, csv.Error),
          strangers.open_regular(path, newline="") as file):
        shown = lambda row: float(row["observation_probability"]) if "observation_probability" in row else None
        return collections.Counter((row["policy"], shown(row)) for row in csv.DictReader(file, strict=True))
    return collections.Counter()


def read_random_play(directory: str | pathlib.Path) -> np.ndarray | None:
    """Return float64[episodes], random play's returns beside a run; None where evaluate.py has not played at random.

    Episodes beside a score win over episodes of a sweep.

    Raises:
        ValueError: the CSV is damaged, or has no episodes of random play.
    """
    paths = layout.episodes_path(directory, layout.RANDOM), layout.sweep_path(directory)
    path = next((path for path in paths if path.exists()), None)
    if not path:
        return None
    with training.name_damage(path):
        rows = _parse_episodes(path, ("policy", "episode_return"))
        return _returns_of([row for row in rows if row["policy"] == "random"])


def find_random_play(directories: Iterable[pathlib.Path]) -> tuple[dict[pathlib.Path, np.ndarray], list[str]]:
    """Return {directory: returns} of the runs beside which there is random play, and a sentence on each damaged one."""
    played, notes = reading.read_each(directories, read_random_play)
    return {directory: returns for directory, returns in played.items() if returns is not None}, notes


def read_sweep(directory: str | pathlib.Path, trained: float
               ) -> tuple[dict[float, list[float]], list[float], set[tuple[str, float]]]:
    """Read a run's sweep over the probability that a screen is shown.

    Args:
        trained: the probability of training, of which the sweep must have episodes.

    Returns:
        {probability: the agent's episode returns} by increasing probability; random play's episode returns; and the
        set of (weights, epsilon) with which the agent played.

    Raises:
        ValueError: observability.csv is damaged, or lacks what a sweep needs.
    """
    path = layout.sweep_path(directory)
    of_agent: dict[float, list[float]] = {}
    of_random, played_with = [], set()
    with training.name_damage(path):
        columns = ("policy", "weights", "observation_probability", "epsilon", "episode_return")
        for row in _parse_episodes(path, columns):
            if row["policy"] == "random":
                of_random.append(row["episode_return"])
            else:
                of_agent.setdefault(row["observation_probability"], []).append(row["episode_return"])
                played_with.add((row["weights"], row["epsilon"]))
        if trained not in of_agent or not of_random:
            missing = "random play" if trained in of_agent else f"the probability of training, {trained:g}"
            raise ValueError(f"it has no rows of {missing}")
    return dict(sorted(of_agent.items())), of_random, played_with


def _parse_episodes(path, columns):
    """Return a dict of these columns for each row of a CSV of evaluate.py; numbers are finite."""
    with strangers.open_regular(path, newline="") as file:
        rows = [{column: row[column] if column in layout.TEXT_COLUMNS else float(row[column]) for column in columns}
                for row in csv.DictReader(file, strict=True)]
    cells = [cell for row in rows for cell in row.values()]
    if not np.isfinite([cell for cell in cells if isinstance(cell, float)]).all():
        raise ValueError("a value is not finite")
    if any(strangers.CONTROL.search(cell) for cell in cells if isinstance(cell, str)):
        raise ValueError("a name has control characters")
    return rows


def _returns_of(rows):
    """Return float64[episodes] of the returns of at least one episode."""
    if not rows:
        raise ValueError("it has no episodes")
    return np.array([row["episode_return"] for row in rows])


# Where evaluate.py writes


def name_otherwise(*played: tuple[str, Any, Any]) -> str:
    """Return, as part of a file's name, what was played otherwise than usual, such as `-epsilon=0-eval_seed=3`.

    Args:
        played: (flag, value, usual value).
    """
    return "".join(f"-{flag}={str(value).removesuffix('.0')}" for flag, value, usual in played if value != usual)


def is_older(path: pathlib.Path, weights: pathlib.Path) -> bool:
    """Return whether rows were played before these weights, if there are any."""
    return weights.exists() and weights.stat().st_mtime > path.stat().st_mtime


def time_of(weights: pathlib.Path | None) -> float | None:
    """Return when weights were written [seconds]; None where there are none."""
    return weights.stat().st_mtime if weights and weights.exists() else None


def date_back(path: pathlib.Path, weights: pathlib.Path | None, loaded: float | None) -> None:
    """Give rows the time of the weights that they are of, if training has replaced these since they were loaded.

    Else the rows would be newer than the new weights, and pass as their score.

    Args:
        path: of a CSV.
        weights, loaded: their path, and `time_of` them.
    """
    if loaded is not None and time_of(weights) != loaded:
        os.utime(path, (loaded, loaded))


def choose_path(path: pathlib.Path, planned: collections.Counter[tuple[str, float | None]], beside: str,
                weights: pathlib.Path | None = None) -> pathlib.Path:
    """Return where rows go: `path`; or beside it, so that fewer episodes never replace more.

    Of sweeps, more probabilities replace fewer.

    Args:
        path: of a CSV, which may exist.
        planned: Counter of the episodes to come, as `count_episodes` has them.
        beside: added to the name where the file has others.
        weights: path of the weights that play; where they are newer than the file, it is of no use.
    """
    is_old = weights and path.exists() and is_older(path, weights)
    known = count_episodes(path)
    replaces = is_old or known <= planned or set(known) < set(planned)
    return path if replaces else path.with_stem(path.stem + beside)
