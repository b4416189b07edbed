"""What runs, or the rows of a grid, have come to: a table.

    python status.py                                      every run under runs/
    python status.py runs/Pong* runs/games                runs, and folders of runs
    python status.py slurm/grids/games.csv                a grid: a CSV whose columns are flags of train.py and whose rows are runs
    python status.py slurm/grids/games.csv --commands     instead of a table, the command of each row, a line each

done: a checkpoint holds the end of training. running: a process holds the run's lock, or, where that was taken on another machine and
the file system may not show it, a row was written in the last 15 minutes. failed: the last line of a row's log is the exit code of an
error. waiting: all others: not begun, queued, or stopped; the same command goes on.
"""

import collections
import contextlib
import csv
import fcntl
import json
import pathlib
import re
import shlex
import socket
import sys
import time

from absl import flags
from tqdm import tqdm

import runs
import stats

FRESH = 15 * 60  # seconds; more than an evaluation takes
STOPS = (0, 75, 130, 138, 143)  # exit codes of a run that goes on when asked to: --max_hours, Ctrl-C, SIGUSR1, SIGTERM


def define_flags():
    """Return the flags of this script with their defaults."""
    values = flags.FlagValues()
    flags.DEFINE_bool("commands", False, "print the command of each row of a grid instead", flag_values=values, module_name="status")
    return values


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
    beside = [f"{flag}={value}" for flag, value in sorted(given.items()) if flag not in (*first, "seed", *runs.FREE)]
    parts = [*(pathlib.Path(given[flag]).stem for flag in first if flag in given), *beside, f"s{given.get('seed', 1)}"]
    return re.sub(r"[^\w.=:+-]+", "_", "-".join(parts))


def is_locked(directory):
    """Return whether a process holds the lock of a run; None: it was taken on another machine, from where it may not be seen."""
    try:
        with open(directory / "lock") as file:
            here = socket.gethostname() in file.read().split()
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError:  # A file system without locks.
        return None
    return False if here else None


def last_lines(path):
    """Return the last whole lines of a file, read from its end; none if there is no file."""
    if not path.exists():
        return []
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        return file.read().decode(errors="replace").split("\n")[:-1]


def saved_counts(directory):
    """Return agent steps and complete episodes of the newest checkpoint, 0 if there is none."""
    for state in sorted(directory.glob("checkpoints/[0-9]*/state.json"), reverse=True):
        with contextlib.suppress(OSError, ValueError, KeyError):  # Training removes old ones while we look.
            saved = json.loads(state.read_text())
            return saved["agent_step"], saved["episodes"] - saved["cut_episodes"]
    return 0, 0


def last_return(directory):
    """Return the mean episode return of the newest evaluation, None if there is none."""
    rows = stats.read_csv(directory / "eval.csv", runs.COLUMNS["eval"])
    return rows["episode_return"][rows["evaluation"] == rows["evaluation"][-1]].mean() if len(rows["evaluation"]) else None


def look(directory):
    """Return a line of the table: run, state, agent steps, last return, time since the last row; and why it failed, or None.

    Raises:
        ValueError: a file of the run is damaged.
    """
    run, log = runs.read_config(directory) if (directory / "config.json").exists() else None, directory.with_name(directory.name + ".log")
    *_, reason, end = ["", "", *last_lines(log)]
    code = re.fullmatch(r"exit code (\d+)", end)
    failed = code and int(code[1]) not in STOPS
    (saved, episodes), last = saved_counts(directory), last_lines(directory / "learn.csv")[1:]
    written = [path.stat().st_mtime for path in directory.glob("*.csv") if path.stem in runs.COLUMNS]
    age = time.time() - max(written) if written else None
    locked = is_locked(directory)
    maxsteps = run and run["settings"]["maxsteps"]
    state = ("done" if run and runs.met_limit(run["settings"], saved, episodes) else "running" if locked else "failed" if failed else
             "running" if locked is None and not code and written and age < FRESH else "waiting")
    step = max(saved, int(last[-1].split(",")[0]) if last else 0)
    mean = last_return(directory)
    line = (str(directory), state, f"{step:,}" + (f" / {maxsteps:,}" if run else ""), "-" if mean is None else f"{mean:.2f}",
            tqdm.format_interval(age) if written else "-")
    return line, f"{directory}: {reason} ({end}); all of it is in {log}" if state == "failed" else None


def show(directories):
    """Print the table of runs, why some failed, and how many are in each state."""
    lines, reasons = zip(*map(look, directories))
    table = [("run", "state", "agent steps", "last return", "last row, ago"), *lines]
    widths = [max(map(len, column)) for column in zip(*table)]
    for run, state, *numbers in table:
        print(f"{run:<{widths[0]}}  {state:<{widths[1]}}", *(f"{cell:>{width}}" for cell, width in zip(numbers, widths[2:])), sep="  ")
    print(*(f"failed: {reason}" for reason in reasons if reason), sep="\n", end="\n" * any(reasons))
    count = collections.Counter(state for _, state, *_ in lines)
    print(f"{len(lines)} run{'' if len(lines) == 1 else 's'}: "
          + ", ".join(f"{count[state]} {state}" for state in ("done", "running", "waiting", "failed") if count[state]))


def main(arguments):
    """Return the exit code: 0, or 2 for bad input."""
    values = define_flags()
    if {"--help", "-h", "--helpfull", "--helpshort"} & set(arguments):
        print(__doc__, values.module_help("status"), sep="\n")
        return 0
    try:
        paths = values(["status.py", *arguments])[1:] or ["runs"]
        commands = {}
        for path in paths:
            commands |= read_grid(path) if path.endswith(".csv") else dict.fromkeys(stats.find_runs([path])[0])
        if not values.commands:
            show(commands)
        elif None in commands.values():
            raise ValueError("--commands was given with a run; expected grids, such as slurm/grids/games.csv")
        else:
            print(*map(shlex.join, commands.values()), sep="\n")
    except (ValueError, OSError, flags.Error) as error:
        print(f"status.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
