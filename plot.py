"""Draw runs as learning curves, or write tables of their scores.

    python plot.py runs/*                                               a panel for each environment and flicker
    python plot.py runs/* --x=hours --y=train --out=results/pong        training returns over hours
    python plot.py runs/* --grid_rows=flicker --grid_columns=history    a panel for each pair of values
    python plot.py runs/* --grid_columns=lines                          a panel for each line, the others behind it
    python plot.py runs/* --figure=observability                        scores by how often a screen is shown
    python plot.py runs/* --table=standard                              a table of scores beside the paper's

An argument is a run or a folder of runs; default: runs.

Lines. Runs form one line when their settings differ in nothing but seed, maxsteps, maxepisodes, eval_period,
checkpoint_period and weights_period. The label of a line names its network, its history, and the settings in which
lines of this network differ. A game with crafted rewards, such as AssaultCrafted-v0, is drawn in the panel of the plain
game, because both have the same raw returns.

Points. A point of a run is the mean return over the episodes of one evaluation. With --y=train, it is the mean over the
complete training episodes that end in a 50th of the x axis. A line is the interquartile mean over seeds (Agarwal et al.
2021); of 2 or 3 seeds this is the mean. The band is the 95% percentile bootstrap interval over seeds. Thin lines are
single seeds.

Missing seeds. Unfinished runs have no data at the end. Where some seeds have no data, the line is faint. Where more
than half of the seeds have none, there is no line: its jumps would come from the change of seeds.

Random play. The dashed grey line is the mean return of random play, where evaluate.py has played it beside these runs.

Tables. A table is printed, and written as <out>.csv, .md and .tex. Its scores are the fresh episodes that evaluate.py
plays with the best checkpoint of each run. All tests are over seeds.
    standard    the paper's games: DRQN with 1 frame against DQN with 4
    flicker     the paper's games with flickering screens: DRQN with 1 frame against DQN with 10
    placement   the places of the LSTM on Beam Rider
    runs        a row for each line of any runs
"""

import pathlib
import sys
from typing import Any

from launch import start
from launch.parsing import define_enum, run_script
from launch.settings import check_settings

from absl import flags

from analysis import curve_figure, curves, drawing, sweeps, tables, writers
from storage import episodes, reading


def define_flags() -> flags.FlagValues:
    """Return the flags of this script with their defaults."""
    values = flags.FlagValues()
    common: dict[str, Any] = dict(flag_values=values, module_name="plot")
    define_enum("figure", "curves", ["curves", "observability"],
                "learning curves; or scores by the probability that a screen is shown, which evaluate.py "
                "--observation_probabilities writes, as fractions of the original score "
                "[Hausknecht & Stone 2015, Figure 5]", **common)
    define_enum("x", "agent_step", list(curves.X_LABELS),
                "x axis [agent steps, emulator frames, hours of training; with --y=train also complete training "
                "episodes]", **common)
    define_enum("y", "eval", list(curves.Y_LABELS),
                "returns of evaluations, or of complete training episodes [raw reward]", **common)
    flags.DEFINE_string("grid_rows", None, "a flag of train.py; each of its values gets a row of panels", **common)
    flags.DEFINE_string("grid_columns", None, "a flag of train.py; each of its values gets a column of panels. Or "
                        "lines: each line of an environment and flicker gets a panel, the others behind it", **common)
    define_enum("table", None, list(tables.TABLES), "write this table instead of a figure", **common)
    flags.DEFINE_string("out", None,
                        "path to which .png and .svg are added (tables: .csv, .md and .tex), or path of a figure that "
                        "ends in .pdf; default: the name of the figure or table", **common)
    return values


def write_results(values: flags.FlagValues, runs: curves.Runs) -> tuple[list[str], list[str], str]:
    """Write the figure or the table that the flags ask for.

    Args:
        values: the flags.
        runs: {directory: settings}.

    Returns:
        what to print: first a list of texts, then a list of sentences on runs left out, last one sentence.

    Raises:
        ValueError: flags do not fit together, or there is nothing to draw.
    """
    kind, name = ("table", values.table) if values.table else ("figure", values.figure)
    curve_flags = ("figure",) * (kind == "table") + ("x", "y", "grid_rows", "grid_columns")
    given = [f"--{flag}" for flag in curve_flags if values[flag].present]
    if given and name != "curves":
        raise ValueError(f"{' and '.join(given)} cannot be given with --{kind}={name}")
    out = name if values.out is None else values.out
    if values.table:
        table, notes = tables.make_table(values.table, runs)
        paths = writers.save_table(table, out)
        return [writers.to_text(table)], notes, f"The table is in {', '.join(map(str, paths))}."
    if (values.x, values.y) == ("episodes", "eval"):
        raise ValueError("--x=episodes counts episodes of training; expected --y=train beside it")
    is_sweep = values.figure == "observability"
    drawn: Any  # sweeps or curves
    drawn, notes = sweeps.read_sweeps(runs) if is_sweep else curves.read_curves(runs, values.x, values.y)
    if not drawn:
        first = notes[0].removeprefix(reading.LEFT_OUT)
        raise ValueError(first if len(notes) == 1 else f"none of {len(notes)} runs can be drawn; the first: {first}")
    if is_sweep:
        figure = sweeps.draw_sweeps(drawn)
    else:
        random_play, damaged = episodes.find_random_play(runs)
        notes += damaged
        figure = curve_figure.draw_curves(drawn, values.x, values.y, values.grid_rows, values.grid_columns, random_play)
    paths = drawing.save_figure(figure, out)
    return [], notes, f"{len(drawn)} run{'' if len(drawn) == 1 else 's'} drawn: {' and '.join(map(str, paths))}."


def draw(values: flags.FlagValues, paths: list[str]) -> None:
    """Write what the flags ask for of the runs among `paths` and in them, and print what was left out."""
    folders = [path for path in paths if not pathlib.Path(path).is_file()]  # Logs and figures lie beside runs.
    runs, others = reading.find_runs(folders or paths or ["runs"], check_settings)
    before, notes, after = write_results(values, runs)
    sentences = dict.fromkeys([*others, *notes])
    print(*before, *(f"Note: {sentence}." for sentence in sentences), after, sep="\n")


def main(arguments: list[str]) -> int:
    """Return the exit code: 0, or 2 for bad input."""
    values = define_flags()
    return run_script("plot", __doc__, values, arguments, lambda paths: draw(values, paths))


if __name__ == "__main__":
    start.end_with_reader()
    sys.exit(main(sys.argv[1:]))
