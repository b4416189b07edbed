"""What runs, or the rows of a grid, have come to: a table.

    python status.py                                      every run under runs/
    python status.py runs/Pong* runs/games                runs, and folders of runs
    python status.py slurm/grids/games.csv                a grid: a CSV whose columns are flags of train.py and whose rows are runs
    python status.py slurm/grids/games.csv --commands     instead of a table, the command of each row, a line each
    python status.py --watch                              a live table of any of these, until Ctrl-C

done: a checkpoint holds the end of training. running: a process holds the run's lock, or, where that was taken on another machine and
the file system may not show it, a row was written in the last 15 minutes. failed: the last line of a row's log is the exit code of an
error. waiting: all others: not begun, queued, or stopped; the same command goes on.
"""

import collections
import contextlib
import re
import shlex
import sys
import time

from absl import flags
from rich import console, live, text
from tqdm import tqdm

from storage import grids, layout, reading

Look = collections.namedtuple("Look", "run state step maxsteps evaluation age speed returns reason")
Look.__doc__ = """What a run has come to; None where that is not known.

step of maxsteps [agent steps]; evaluation: mean return of the newest; age of its last row [seconds]; speed [agent steps/s]; returns of its
last complete training episodes; reason why it failed
"""
STATES = {"running": "green", "failed": "red", "waiting": "yellow", "done": "dim"}  # in the order of --watch, with their colours
WATCH_PERIOD, SEARCH_PERIOD = 3, 60  # seconds between two tables of --watch, and between searches for new runs
BLOCKS = "▁▂▃▄▅▆▇█"
FRESH = 15 * 60  # seconds; more than an evaluation takes
STOPS = (0, 75, 130, 138, 143)  # exit codes of a run that goes on when asked to: --max_hours, Ctrl-C, SIGUSR1, SIGTERM


def define_flags():
    """Return the flags of this script with their defaults."""
    values = flags.FlagValues()
    flags.DEFINE_bool("watch", False, "a live table, until Ctrl-C", flag_values=values, module_name="status")
    flags.DEFINE_bool("commands", False, "print the command of each row of a grid instead", flag_values=values, module_name="status")
    return values


def mean(values):
    """Return the mean of a sequence, None if it is empty."""
    return sum(values) / len(values) if values else None


def look(directory):
    """Return the Look of a run.

    Raises:
        ValueError: a file of the run is damaged.
    """
    run, log = reading.read_config(directory) if (directory / "config.json").exists() else None, directory.with_name(directory.name + ".log")
    *_, reason, end = ["", "", *reading.last_lines(log)]
    code = re.fullmatch(r"exit code (\d+)", end)
    failed = code and int(code[1]) not in STOPS
    saved, episodes = reading.saved_counts(directory)
    learn, train, evaluation = (reading.last_rows(directory, name) for name in ("learn", "train", "eval"))
    written = [path.stat().st_mtime for path in directory.glob("*.csv") if path.stem in layout.COLUMNS]
    age = time.time() - max(written) if written else None
    locked = reading.is_locked(directory)
    state = ("done" if run and layout.met_limit(run["settings"], saved, episodes) else "running" if locked else "failed" if failed else
             "running" if locked is None and not code and written and age < FRESH else "waiting")
    steps, seconds = learn["agent_step"][-10:], learn["seconds"][-10:]
    newest = [value for value, of in zip(evaluation["episode_return"], evaluation["evaluation"]) if of == evaluation["evaluation"][-1]]
    return Look(str(directory), state, int(max(saved, *steps[-1:], 0)), run and run["settings"]["maxsteps"],
                mean(newest), age, (steps[-1] - steps[0]) / (seconds[-1] - seconds[0]) if seconds and seconds[-1] > seconds[0] else None,
                [value for value, cut in zip(train["episode_return"], train["cut"]) if not cut],
                f"{directory}: {reason} ({end}); all of it is in {log}" if state == "failed" else None)


def count(looks):
    """Return how many runs are in each state, in words."""
    states = collections.Counter(of.state for of in looks)
    return f"{len(looks)} run{'' if len(looks) == 1 else 's'}: " + ", ".join(
        f"{states[state]} {state}" for state in ("done", "running", "waiting", "failed") if states[state])


def show(looks):
    """Print the table of runs, why some failed, and how many are in each state."""
    table = [("run", "state", "agent steps", "last return", "last row, ago")]
    table += [(of.run, of.state, f"{of.step:,}" + (f" / {of.maxsteps:,}" if of.maxsteps else ""),
               "-" if of.evaluation is None else f"{of.evaluation:.2f}", "-" if of.age is None else tqdm.format_interval(of.age))
              for of in looks]
    widths = [max(map(len, column)) for column in zip(*table)]
    for run, state, *numbers in table:
        print(f"{run:<{widths[0]}}  {state:<{widths[1]}}", *(f"{cell:>{width}}" for cell, width in zip(numbers, widths[2:])), sep="  ")
    reasons = [of.reason for of in looks if of.reason]
    print(*(f"failed: {reason}" for reason in reasons), sep="\n", end="\n" * bool(reasons))
    print(count(looks))


def sparkline(values, size=12):
    """Return a block for each of `size` groups of values, as high as their mean, from the lowest of them to the highest."""
    means = [mean(values[i * len(values) // size:(i + 1) * len(values) // size]) for i in range(size)] if len(values) > size else values
    low, span = min(means, default=0), max(means, default=0) - min(means, default=0) or 1
    return "".join(BLOCKS[round((value - low) / span * (len(BLOCKS) - 1))] for value in means)


HEADER = "run", "state", "steps", "training", "recent", "steps/s", "evaluation", "left"  # of --watch


def cells(of):
    """Return the cells of a Look below HEADER."""
    short = lambda steps: tqdm.format_sizeof(steps) if steps >= 1000 else str(steps)
    number = lambda value: "-" if value is None else f"{value:.4g}"
    speed = of.speed if of.state == "running" else None
    return (of.run, of.state, short(of.step) + (f"/{short(of.maxsteps)}" if of.maxsteps else ""), number(mean(of.returns[-20:])),
            sparkline(of.returns), number(speed), number(of.evaluation),
            tqdm.format_interval((of.maxsteps - of.step) / speed) if speed and of.maxsteps else "-")


def draw(looks, width, height):
    """Return rich's Text of a table that fits a terminal: those that run first, and columns left out from the right."""
    shown = sorted(looks, key=lambda of: list(STATES).index(of.state))[:max(height - 3, 1)]
    table = [HEADER, *map(cells, shown)]
    room = lambda: width - sum(max(map(len, column)) + 2 for column in list(zip(*table))[1:])  # for the names
    while room() < min(24, max(map(len, (of.run for of in shown)))) and len(table[0]) > 3:
        table = [row[:-1] for row in table]
    name, *widths = max(room(), 8), *(max(map(len, column)) for column in list(zip(*table))[1:])
    name = min(name, max(len(row[0]) for row in table))
    result = text.Text(no_wrap=True, overflow="crop")
    for run, state, *rest in table:
        head = (name - 1) // 2  # Both ends tell a run from others: its network, and its settings and seed.
        run = run if len(run) <= name else f"{run[:head]}…{run[head + 1 - name:]}"
        result.append(f"{run:<{name}}  ").append(f"{state:<{widths[0]}}", STATES.get(state, "bold"))
        result.append("".join(f"  {cell:>{size}}" for cell, size in zip(rest, widths[1:])) + "\n")
    hidden = len(looks) - len(shown)
    return result.append(count(looks) + f"; {hidden} more than fit" * bool(hidden))


def watch(find):
    """Draw the table of the runs that `find()` returns, again and again, until Ctrl-C, which leaves the last one on the screen."""
    screen, searched, directories = console.Console(), time.monotonic(), list(find())
    with contextlib.suppress(KeyboardInterrupt), live.Live(console=screen, auto_refresh=False, vertical_overflow="crop") as table:
        while True:
            if time.monotonic() > searched + SEARCH_PERIOD:
                searched, directories = time.monotonic(), list(find())
            table.update(draw(list(map(look, directories)), *screen.size), refresh=True)
            time.sleep(WATCH_PERIOD)


def find(paths):
    """Return {run directory: its command} of grids, {run directory: None} of runs and folders of runs."""
    commands = {}
    for path in paths:
        commands |= grids.read_grid(path) if path.endswith(".csv") else dict.fromkeys(reading.find_runs([path])[0])
    return commands


def main(arguments):
    """Return the exit code: 0, or 2 for bad input."""
    values = define_flags()
    if {"--help", "-h", "--helpfull", "--helpshort"} & set(arguments):
        print(__doc__, values.module_help("status"), sep="\n")
        return 0
    try:
        paths = values(["status.py", *arguments])[1:] or ["runs"]
        commands = find(paths)
        if values.watch and not sys.stdout.isatty():
            raise ValueError("--watch was given where its output is no terminal; expected one, or no --watch")
        if values.watch:
            watch(lambda: find(paths))
        elif not values.commands:
            show(list(map(look, commands)))
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
