"""Read grids: CSV files whose columns are flags of train.py and whose rows are runs."""

import csv
import difflib
import pathlib
import re
from collections.abc import Collection, Mapping

from storage import layout, strangers

NAMED_FIRST = ("env", "network", "flagfile")  # flags whose values begin the name of a run, in train.py's order


def read_grid(path: str | pathlib.Path, known: Collection[str] = ()) -> dict[pathlib.Path, list[str]]:
    """Turn the rows of a grid into commands; nothing else does this.

    An empty cell gives no flag, and at a line's end there may be more of them than columns. A row without a filled
    cell is no row, nor is a comment, which begins with #, quoted or not.

    Args:
        known: names of flags; where there are some, a column must be one of them.

    Returns:
        {run directory: command}, in the order of the rows.

    Raises:
        ValueError: the file is no grid, in one sentence.
    """
    path = pathlib.Path(path)
    commands: dict[pathlib.Path, list[str]] = {}
    if path.exists() and not path.is_file():  # A pipe may never end.
        raise ValueError(f"{path} is no file; expected a grid")
    with open(path, newline="", encoding="utf-8-sig") as file:  # also as spreadsheets write it
        try:
            lines = [[cell.strip() for cell in row]
                     for row in csv.reader(line for line in file if not line.lstrip(' "').startswith("#"))]
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path} cannot be read as a table ({error}); expected text in UTF-8, with "
                             "commas") from error
        columns, *rows = [line for line in lines if any(line)] or [[]]
        columns = _without_end(columns, 0)
        strange = [column for column in columns if not re.fullmatch(r"\w+", column) or columns.count(column) > 1]
        if strange:
            raise ValueError(f"{path} has the column {strange[0]!r}; expected names of flags, each once, "
                             "with commas between them")
        if unknown := [column for column in columns if known and column not in known]:
            names = [name for name in known if name != "run_dir"]
            near = " or ".join(difflib.get_close_matches(unknown[0], names, n=2, cutoff=0))
            raise ValueError(f"{path} has the column {unknown[0]}, which is no flag of train.py; perhaps {near} is "
                             "meant")
        for number, row in enumerate(rows, 1):
            row = _without_end(row, len(columns))
            if len(row) != len(columns):
                raise ValueError(f"row {number} of {path} has more or fewer cells than the {len(columns)} columns")
            flags = {column: cell for column, cell in zip(columns, row) if cell}
            strange = [cell for cell in flags.values() if strangers.CONTROL.search(cell)]
            if strange:
                raise ValueError(f"row {number} of {path} has {strange[0]!r}; expected text without control characters")
            if "run_dir" in flags:
                raise ValueError(f"{path} has a column run_dir; expected none, "
                                 "since a row's other cells name its directory")
            directory = pathlib.Path("runs", path.stem, name_row(flags))
            if directory in commands:
                earlier = list(commands).index(directory) + 1
                raise ValueError(f"row {number} of {path} is {directory}, as row {earlier} is")
            commands[directory] = write_command(flags, directory)
    if not commands:
        raise ValueError(f"{path} has no rows; expected a line of flags' names, and a line of their values per run")
    return commands


def _without_end(cells, number):
    """Return cells without the empty ones past a number, which spreadsheets write at the end of every line."""
    while len(cells) > number and not cells[-1]:
        cells = cells[:-1]
    return cells


def name_row(flags: Mapping[str, str]) -> str:
    """Return the name of a row's run. It holds all cells, so that it stays when the grid gets more columns."""
    paths = {flag: pathlib.Path(flags[flag]) for flag in NAMED_FIRST if flag in flags}
    first = [path.stem if flag == "flagfile" else path.name for flag, path in paths.items()]  # module:name has dots
    others = {flag: value for flag, value in flags.items() if flag not in (*NAMED_FIRST, "seed", *layout.FREE)}
    return layout.name_run(first, others, flags.get("seed", 1))


def write_command(flags: Mapping[str, str], directory: pathlib.Path) -> list[str]:
    """Return the command of a row. A flagfile comes first, since of two values of a flag the later one counts."""
    flags = {"flagfile": "", **flags} if "flagfile" in flags else flags
    return ["python", "train.py", *(f"--{flag}={value}" for flag, value in flags.items()), f"--run_dir={directory}"]
