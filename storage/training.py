"""The rows that training wrote: of episodes, of learning and of evaluations."""

import contextlib
import csv
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from storage import layout, strangers

TAIL = 16_384  # bytes that are read from the end of a file: a table of many runs reads no long files


def read_rows(directory: str | pathlib.Path, name: str) -> dict[str, np.ndarray]:
    """Return the rows of a run's `train`, `learn` or `eval` CSV as {column: float64[rows]}; none if there is no file.

    A last row without a line end is still being written, and left out. So is a row with a value that is not finite;
    only losses may be unknown.

    Raises:
        ValueError: the CSV is damaged.
    """
    table, is_finite = _read_table(directory, name)
    return dict(zip(layout.COLUMNS[name], table[is_finite].T))


def count_lost_rows(directory: str | pathlib.Path, name: str) -> int:
    """Return how many rows `read_rows` leaves out, since a value is not finite."""
    return int((~_read_table(directory, name)[1]).sum())


def _read_table(directory, name):
    """Return the rows of a CSV float64[rows, columns], and bool[rows], whether all known values are finite."""
    path, columns = layout.csv_path(directory, name), layout.COLUMNS[name]
    with name_damage(path):
        lines = _read_text(path).split("\n")[:-1] or [",".join(columns)]
        layouts = [each for each in _layouts(name) if lines[0] == ",".join(each)]
        if not layouts:
            raise ValueError(f"it begins with {lines[0][:40]!r}, expected {','.join(columns)}")
        table = _parse_rows(lines[1:], layouts)
        is_finite = _find_finite(table, name)
        if (np.diff(table[is_finite, 0]) < 0).any():
            raise ValueError(f"{columns[0]} decreases")
    return table, is_finite


def _read_text(path):
    """Return the text of a file, an empty one if there is no file."""
    with contextlib.suppress(FileNotFoundError), strangers.open_regular(path) as file:
        return file.read()
    return ""


def read_last_rows(directory: str | pathlib.Path, name: str) -> dict[str, list[float]]:
    """Return {column: list of numbers} of the last rows of a run's CSV; none if there is no file.

    Rows with a value that is not finite are left out, as by `read_rows`.

    Raises:
        ValueError: they are not rows of this CSV.
    """
    path = layout.csv_path(directory, name)
    with name_damage(path):
        # The first line is the header, or the end of a row.
        table = _parse_rows(read_last_lines(path)[1:], _layouts(name))
    return dict(zip(layout.COLUMNS[name], table[_find_finite(table, name)].T.tolist()))


def _find_finite(table, name):
    """Return bool[rows], whether all values of a row are finite but those that may be unknown."""
    return np.isfinite(table[:, [column not in layout.UNKNOWN for column in layout.COLUMNS[name]]]).all(axis=1)


def read_header(directory: str | pathlib.Path, name: str) -> str:
    """Return the first line of a run's CSV; an empty one if there is no file."""
    path = layout.csv_path(directory, name)
    with contextlib.suppress(FileNotFoundError), strangers.open_regular(path, errors="replace") as file:
        return file.readline().rstrip("\n")
    return ""


def read_last_lines(path: pathlib.Path) -> list[str]:
    """Return the last whole lines of a file, read from its end; none if there is no file."""
    if not path.exists():
        return []
    with strangers.open_regular(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        return file.read().decode(errors="replace").split("\n")[:-1]


def _layouts(name):
    """Return the lists of columns that a CSV may have, the one of today first."""
    return layout.COLUMNS[name], layout.OLD_COLUMNS[name]


def _parse_rows(lines, layouts):
    """Return float64[rows, columns] of lines of numbers, with the columns of today.

    Args:
        layouts: lists of columns; the lines have those of the first that fits.
    """
    table = np.loadtxt(lines, delimiter=",", ndmin=2, comments=None) if any(lines) else np.empty((0, len(layouts[0])))
    columns = next((columns for columns in layouts if len(columns) == table.shape[1]), None)
    if not columns:
        raise ValueError(f"its rows have {table.shape[1]} values, expected {len(layouts[0])}")
    if "cut" in columns:
        table = table[table[:, columns.index("cut")] == 0]
    return table[:, [column not in ("cut", "cut_share") for column in columns]]


@contextlib.contextmanager
def name_damage(path: pathlib.Path) -> Iterator[None]:
    """Turn an error in the content of a CSV into a ValueError that names the file."""
    try:
        yield
    except strangers.NoFileOfARun:
        raise
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        reason = f"it has no column {error}" if isinstance(error, KeyError) else str(error).split(";")[0].rstrip(".")
        raise ValueError(f"{path} is damaged, or not of this suite: {strangers.escape(reason)}") from error


def read_evaluations(directory: str | pathlib.Path, settings: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return {column: float64[evaluations]}: means over the episodes of each whole evaluation of a run.

    Raises:
        ValueError: eval.csv is damaged.
    """
    rows = read_rows(directory, "eval")
    _, evaluation, count = np.unique(rows["evaluation"], return_inverse=True, return_counts=True)
    whole = count >= settings["eval_episodes"]  # The newest evaluation may be half-written.
    return {name: (np.bincount(evaluation, values, len(count)) / count)[whole] for name, values in rows.items()}


def best_evaluation(directory: str | pathlib.Path, settings: dict[str, Any]) -> tuple[float, float] | None:
    """Return agent step and mean return of the evaluation that chose a run's best weights; None before the first.

    Of evaluations with equal means the latest counts, as in training.
    """
    rows = read_evaluations(directory, settings)
    steps, means = rows["agent_step"], rows["episode_return"]
    return max(zip(steps, means), key=lambda row: (row[1], row[0]), default=None)


def is_unfinished(directory: str | pathlib.Path, settings: dict[str, Any], agent_step: float) -> bool:
    """Return whether training goes on to another evaluation after the one at `agent_step`.

    Evaluations are due at multiples of their period, and come once a vector step has reached one: up to num_envs - 1
    agent steps late.
    """
    episodes = len(read_rows(directory, "train")["agent_step"]) if settings.get("maxepisodes") else 0
    period = settings["eval_period"]
    return not layout.met_limit(settings, (agent_step // period + 1) * period - 1, episodes)
