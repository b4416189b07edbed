"""Grids: a CSV whose columns are flags of train.py and whose rows are runs, turned into commands."""

import csv
import pathlib
import re

from storage import layout


def read_grid(path):
    """Turn the rows of a grid into commands, here and nowhere else. An empty cell gives no flag; a line that begins with # is no row.

    Returns:
        {run directory: command}, in the order of the rows.

    Raises:
        ValueError: it is no grid, in one sentence.
    """
    path, commands = pathlib.Path(path), {}
    with open(path, newline="", encoding="utf-8-sig") as file:  # as spreadsheets write it, too
        table = csv.DictReader(line for line in file if not line.startswith("#"))
        columns = [column.strip() for column in table.fieldnames or ()]
        strange = [column for column in columns if not re.fullmatch(r"\w+", column) or columns.count(column) > 1]
        if strange:
            raise ValueError(f"{path} has the column {strange[0]!r}; expected names of flags, each once, with commas between them")
        for number, row in enumerate(table, 1):
            if None in row or None in row.values():
                raise ValueError(f"row {number} of {path} has more or fewer cells than the {len(table.fieldnames)} columns")
            given = {column.strip(): cell.strip() for column, cell in row.items() if cell.strip()}
            if "run_dir" in given:
                raise ValueError(f"{path} has a column run_dir; expected none, since a row's other cells name its directory")
            directory = pathlib.Path("runs", path.stem, name_row(given))
            if directory in commands:
                raise ValueError(f"row {number} of {path} is {directory}, as row {list(commands).index(directory) + 1} is")
            given = {"flagfile": None, **given} if "flagfile" in given else given  # first: of two values of a flag the later one wins
            commands[directory] = ["python", "train.py", *(f"--{flag}={value}" for flag, value in given.items()), f"--run_dir={directory}"]
    if not commands:
        raise ValueError(f"{path} has no rows; expected a line of flags' names, and a line of their values per run")
    return commands


def name_row(given):
    """Return the name of a row's run, in the order of train.py's names; it holds all cells, so that it stays when the grid grows."""
    first = "env", "network", "flagfile"
    beside = [f"{flag}={value}" for flag, value in sorted(given.items()) if flag not in (*first, "seed", *layout.FREE)]
    parts = [*(pathlib.Path(given[flag]).stem for flag in first if flag in given), *beside, f"s{given.get('seed', 1)}"]
    return re.sub(r"[^\w.=:+-]+", "_", "-".join(parts))
