"""Print the state of runs, or of the rows of a grid, as a table.

    python status.py                                      every run under runs/
    python status.py runs/Pong* runs/games                runs, and folders of runs
    python status.py slurm/grids/games.csv                a grid: a CSV of flags of train.py, with a run in each row
    python status.py slurm/grids/games.csv --commands     instead of a table, the command of each row, one per line
    python status.py slurm/grids/games.csv --check        whether train.py takes each row
    python status.py slurm/grids/games.csv --cost         the same, and what the rows cost on this machine
    python status.py --watch                              a live table of any of these, until Ctrl-C

A run is
    done      if a checkpoint holds the end of training;
    running   if a process holds the run's lock. Another machine's lock may not show here; such a run is running if it
              wrote a row in the last 15 minutes;
    failed    if the last line of its log is the exit code of an error;
    damaged   if one of its files cannot be read;
    waiting   otherwise: it has not begun, is queued, or was stopped. The same command goes on.
"""

import collections
import contextlib
import pathlib
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from launch import start, train_flags
from launch.parsing import run_script
from launch.settings import check_settings, configure

from absl import flags
from rich import console, live, table, text
from tqdm import tqdm

from analysis import progress
from storage import grids, layout, reading

STATES = {  # colours, in the order of --watch
    "running": "green", "failed": "red", "damaged": "red", "waiting": "yellow", "done": "dim"}
COUNTED = ("done", "running", "waiting", "failed", "damaged")  # the order in the sentence below a table
COST_SECONDS = 60  # of measuring, which the kinds of rows in a grid share
WATCH_PERIOD = 3  # seconds between two tables of --watch
SEARCH_PERIOD = 60  # seconds between two searches for new runs
BLOCKS = "▁▂▃▄▅▆▇█"


def define_flags() -> flags.FlagValues:
    """Return the flags of this script with their defaults."""
    values = flags.FlagValues()
    common = dict(flag_values=values, module_name="status")
    flags.DEFINE_bool("watch", False, "a live table, until Ctrl-C", **common)
    flags.DEFINE_bool("commands", False, "print the command of each row of a grid instead", **common)
    flags.DEFINE_bool("check", False,
                      "check each row of a grid as train.py would; exit code 2 if one is refused", **common)
    flags.DEFINE_bool("cost", False,
                      "check rows, and measure for a minute how long they take on this machine", **common)
    return values


def read_statuses(directories: Iterable[str | pathlib.Path]) -> list[progress.Status]:
    return [progress.read_status(directory, check_settings) for directory in directories]


def find_commands(paths: Sequence[str]) -> tuple[dict[pathlib.Path, list[str]], list[str]]:
    """Return {run directory: its command} of grids, {run directory: []} of runs and folders of runs.

    Beside it are sentences on what is no run. A run whose config.json is damaged is among them.
    """
    commands: dict[pathlib.Path, list[str]] = {}
    notes: list[str] = []
    # A pattern such as runs/games/* takes the tables beside runs, too.
    beside_runs = {path.parent for path in map(pathlib.Path, paths) if (path / layout.CONFIG).exists()}
    grid_paths = [path for path in paths if path.endswith(".csv") and pathlib.Path(path).parent not in beside_runs]
    for path in grid_paths:
        commands |= grids.read_grid(path, ["flagfile", *train_flags.define_flags()])
    others = [path for path in paths if path not in grid_paths]
    # Logs and figures lie beside runs, where a pattern such as runs/* takes them, too.
    if folders := [path for path in others if not pathlib.Path(path).is_file()] or others:
        runs, notes = reading.find_runs(folders, check_settings)
        commands |= {directory: [] for directory in runs}
    return commands, notes


# What a grid will do


def check_rows(commands: Mapping[pathlib.Path, list[str]]) -> dict[pathlib.Path, dict[str, Any]]:
    """Return {run directory: config} of the rows of a grid, each judged as train.py does before it begins.

    Raises:
        ValueError: train.py would refuse some rows; a line on each.
    """
    from launch import build

    import gymnasium

    from environments import features
    from storage import opening
    configs: dict[pathlib.Path, dict[str, Any]] = {}
    refused, built = [], {}
    for number, (directory, command) in enumerate(commands.items(), 1):
        try:
            config = configure(command[2:])
            s = config["settings"]
            opening.check(config["run_dir"], s, config["resume"])
            features.find_init(s, config["run_dir"])
            if (env := (s["env"], s["full_actions"], s["color"], s["features"])) not in built:
                built[env] = build.make_envs(s, 1, features.load(s["features"], config["run_dir"]))
            build.count_timesteps(s, built[env])
            configs[directory] = config
        except (ValueError, OSError, flags.Error, gymnasium.error.Error) as error:
            refused.append(f"row {number}, {directory}: {error}")
    for envs in built.values():
        envs.close()
    if refused:
        raise ValueError(f"{len(refused)} of {len(commands)} rows would be refused:\n" + "\n".join(refused))
    return configs


def print_costs(configs: Mapping[pathlib.Path, Mapping[str, Any]]) -> None:
    """Print how long each row of a grid still trains on this machine, and all rows together."""
    from launch import cost, process
    kinds = {directory: cost.kind_of(config["settings"]) for directory, config in configs.items()}
    seconds, speeds, rows, total = COST_SECONDS / len(set(kinds.values())), {}, [], 0.0
    for directory, config in configs.items():
        s, kind = config["settings"], kinds[directory]
        if kind not in speeds:
            speeds[kind] = cost.measure_speed(s, directory, seconds)
        step, episodes = reading.read_saved_counts(directory)
        left = 0 if layout.met_limit(s, step, episodes) else s["maxsteps"] - step
        total += left / speeds[kind]
        rows.append((str(directory), f"{left:,}", f"{speeds[kind]:,.0f}", process.spell_seconds(left / speeds[kind])))
    print_whole([("run", "agent steps left", "agent steps/s", "takes"), *rows])
    print(f"All rows take {process.spell_seconds(total)} on this machine, one after the other, and their evaluations "
          "come on top. A GPU may take a fraction of it.")


# Tables


def make_table(rows: Sequence[Sequence[str]], left: int = 1) -> table.Table:
    """Return rows of cells as rich's table; the first row is its head, columns after the first `left` are numbers."""
    head, *rows = rows
    result = table.Table(box=None, pad_edge=False)
    for number, name in enumerate(head):
        result.add_column(name, justify="left" if number < left else "right", no_wrap=True)
    for row in rows:
        result.add_row(*(text.Text(cell, STATES.get(cell, "") if name == "state" else "")
                         for name, cell in zip(head, row)))
    return result


def print_whole(rows: Sequence[Sequence[str]], left: int = 1) -> None:
    """Print the table of rows, however wide: a pipe has no width, and a terminal may wrap it."""
    console.Console(width=100_000).print(make_table(rows, left))


def count_states(statuses: Sequence[progress.Status]) -> str:
    """Return how many runs are in each state, in words."""
    counts = collections.Counter(status.state for status in statuses)
    plural = "" if len(statuses) == 1 else "s"
    parts = [f"{counts[state]} {state}" for state in COUNTED if counts[state]]
    return f"{len(statuses)} run{plural}: {', '.join(parts)}"


def print_table(statuses: Sequence[progress.Status], notes: Sequence[str] = ()) -> None:
    """Print the table of runs, why some failed, how many are in each state, and notes."""
    rows = [("run", "state", "agent steps", "last return", "last row, ago")]
    for status in statuses:
        rows.append((status.run, status.state,
                     f"{status.step:,}" + (f" / {status.maxsteps:,}" if status.maxsteps else ""),
                     "-" if status.evaluation is None else f"{status.evaluation:.2f}",
                     "-" if status.age is None else tqdm.format_interval(status.age)))
    print_whole(rows, left=2)
    for status in statuses:
        if status.reason:
            print(f"{status.state}: {status.reason}")
    print(count_states(statuses), *(f"Note: {note}." for note in notes), sep="\n")


def sparkline(values: Sequence[float], num_blocks: int = 12) -> str:
    """Return blocks whose heights are means of consecutive groups of values, scaled from the lowest to the highest."""
    means = values
    if len(values) > num_blocks:
        ends = [i * len(values) // num_blocks for i in range(num_blocks + 1)]
        means = [statistics.fmean(values[start:stop]) for start, stop in zip(ends, ends[1:])]
    low = min(means, default=0)
    span = max(means, default=0) - low or 1
    return "".join(BLOCKS[round((value - low) / span * (len(BLOCKS) - 1))] for value in means)


HEADER = ("run", "state", "steps", "training", "recent", "steps/s", "evaluation", "left")  # of --watch


def format_cells(status: progress.Status) -> tuple[str, ...]:
    """Return the cells of a run below HEADER."""
    short = lambda steps: tqdm.format_sizeof(steps) if steps >= 1000 else str(steps)
    number = lambda value: "-" if value is None else f"{value:.4g}"
    speed = status.speed if status.state == "running" else None
    left = tqdm.format_interval((status.maxsteps - status.step) / speed) if speed and status.maxsteps else "-"
    steps = short(status.step) + (f"/{short(status.maxsteps)}" if status.maxsteps else "")
    training = number(progress.mean(status.returns[-20:]))
    return (status.run, status.state, steps, training, sparkline(status.returns), number(speed),
            number(status.evaluation), left)


def fit_table(statuses: Sequence[progress.Status], width: int, height: int) -> console.Group:
    """Return a table that fits a terminal, and a sentence below it, for rich to print.

    Running runs come first. Where the width is too small, columns are left out from the right, and then names are
    shortened: rich's own tables would fold or cut all of them.
    """
    shown = sorted(statuses, key=lambda status: list(STATES).index(status.state))[:max(height - 3, 1)]
    rows = [HEADER, *map(format_cells, shown)]
    wanted = min(24, max((len(status.run) for status in shown), default=0))
    widths = [max(map(len, column)) for column in zip(*rows)]
    while (room := width - sum(widths[1:]) - 2 * len(widths[1:])) < wanted and len(widths) > 3:
        del widths[-1]
    rows = [(shorten_name(run, max(room, 8)), *others[:len(widths) - 1]) for run, *others in rows]
    hidden = len(statuses) - len(shown)
    sentence = count_states(statuses) + (f"; {hidden} more than fit" if hidden else "")
    return console.Group(make_table(rows, left=2), text.Text(sentence, no_wrap=True, overflow="crop"))


def shorten_name(run: str, width: int) -> str:
    """Return both ends of a long name: the first tells the network, the last tells the settings and the seed."""
    head = (width - 1) // 2
    return run if len(run) <= width else f"{run[:head]}…{run[head + 1 - width:]}"


def watch_runs(find: Callable[[], Iterable[str | pathlib.Path]]) -> None:
    """Print the table of the runs that `find()` returns again and again. Ctrl-C ends it; the last table stays."""
    screen, searched, directories = console.Console(), time.monotonic(), list(find())
    with (contextlib.suppress(KeyboardInterrupt),
          live.Live(console=screen, auto_refresh=False, vertical_overflow="crop") as table):
        while True:
            if time.monotonic() > searched + SEARCH_PERIOD:
                searched, directories = time.monotonic(), list(find())
            table.update(fit_table(read_statuses(directories), *screen.size), refresh=True)
            time.sleep(WATCH_PERIOD)


def tell(values: flags.FlagValues, paths: list[str]) -> None:
    """Print what the flags ask for of runs, or of the rows of grids."""
    find = lambda: find_commands(paths or ["runs"])
    commands, notes = find()
    if sum(map(bool, (values.watch, values.commands, values.check or values.cost))) > 1:
        raise ValueError("--watch, --commands and --check or --cost do different things; expected one of them")
    if values.watch and not sys.stdout.isatty():
        raise ValueError("--watch was given where its output is no terminal; expected one, or no --watch")
    if values.watch:
        watch_runs(lambda: find()[0])
    elif not (values.commands or values.check or values.cost):
        print_table(read_statuses(commands), notes)
    elif not all(commands.values()):
        flag = "commands" if values.commands else "check" if values.check else "cost"
        raise ValueError(f"--{flag} was given with a run; expected grids, such as slurm/grids/games.csv")
    elif values.check or values.cost:
        configs = check_rows(commands)
        print(f"train.py takes {'each of ' * (len(configs) > 1)}{len(configs)} row{'s' * (len(configs) > 1)}.")
        if values.cost:
            print_costs(configs)
    else:
        print(*map(shlex.join, commands.values()), sep="\n")


def main(arguments: list[str]) -> int:
    """Return the exit code: 0, or 2 for bad input."""
    values = define_flags()
    return run_script("status", __doc__, values, arguments, lambda paths: tell(values, paths))


if __name__ == "__main__":
    start.end_with_reader()
    sys.exit(main(sys.argv[1:]))
