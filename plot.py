"""Runs as learning curves, interquartile means over seeds with bootstrap bands (Agarwal et al. 2021), or as tables of scores.

    python plot.py runs/*                                               a panel per environment
    python plot.py runs/* --x=hours --y=train --out=results/pong
    python plot.py runs/* --grid_rows=flicker --grid_columns=history    the master plot: a panel per pair of values
    python plot.py runs/* --table=standard                              scores beside the paper's; flicker, placement, runs

An argument is a run or a folder of runs; default: runs. Runs form one line when their config.json differs in nothing but seed,
maxsteps, eval_period and checkpoint_period. A label names the network, its history, and the settings in which lines of this network
differ. A line is the interquartile mean over seeds (of 2 or 3 seeds the mean) of each seed's mean over the episodes of an evaluation,
or over the complete training episodes that end in a 50th of the x axis. Its band is the 95% percentile bootstrap interval over seeds.
Where some seeds have no data, such as those of unfinished runs, it is faint, and where more than half have none it is not drawn, since
its jumps are those of another set of seeds. Thin lines are single seeds, straight between evaluations.

A table is printed, and written as <out>.csv, .md and .tex. It needs the episodes that evaluate.py plays anew with the best checkpoint of
each run. standard and flicker are the paper's tables of games, DRQN with 1 frame against DQN with 4, or 10 where screens flicker, tested
over seeds; placement is its comparison of the LSTM's places on Beam Rider; runs has a row for each line of any runs.
"""

import sys

from absl import flags

import curves
import stats
import tables


def define_flags():
    """Return the flags of this script with their defaults."""
    values = flags.FlagValues()
    own = dict(flag_values=values, module_name="plot")
    flags.DEFINE_enum("x", "agent_step", list(curves.X_LABELS), "x axis [agent steps, emulator frames, wall hours of training]", **own)
    flags.DEFINE_enum("y", "eval", list(curves.Y_LABELS), "returns of evaluations, or of training's complete episodes [raw reward]", **own)
    flags.DEFINE_string("grid_rows", None, "a flag of train.py: a row of panels for each of its values among the runs", **own)
    flags.DEFINE_string("grid_columns", None, "a flag of train.py: a column of panels for each of its values among the runs", **own)
    flags.DEFINE_enum("table", None, list(tables.TABLES), "a table instead of curves: of the paper's, or of any runs", **own)
    flags.DEFINE_string("out", None, "path to which .png and .svg, or .csv, .md and .tex are added; default: curves, or the table's name",
                        **own)
    return values


def write_table(values, found, others):
    """Print a table of runs, and write it."""
    for name in ("x", "y", "grid_rows", "grid_columns"):
        if values[name].present:
            raise ValueError(f"--{name} was given with --table={values.table}; it is of curves")
    table, notes = tables.make(values.table, found)
    paths = tables.save(table, values.table if values.out is None else values.out)
    print(tables.to_text(table))
    for sentence in [*(f"left out: {other}" for other in others), *notes]:
        print(f"Note: {sentence}.")
    print(f"The table is in {', '.join(map(str, paths))}.")


def main(arguments):
    """Return the exit code: 0, or 2 for bad input."""
    values = define_flags()
    if {"--help", "-h", "--helpfull", "--helpshort"} & set(arguments):
        print(__doc__, values.module_help("plot"), sep="\n")
        return 0
    try:
        paths = values(["plot.py", *arguments])[1:]
        found, others = stats.find_runs(paths or ["runs"])
        if values.table:
            write_table(values, found, others)
            return 0
        runs_drawn, notes = stats.read_curves(found, values.x, values.y)
        if not runs_drawn:
            raise ValueError(notes[0] if len(notes) == 1 else f"none of {len(notes)} runs can be drawn; the first: {notes[0]}")
        figure = curves.draw(runs_drawn, values.x, values.y, values.grid_rows, values.grid_columns)
        pictures = curves.save(figure, "curves" if values.out is None else values.out)
        for sentence in [*(f"left out: {other}" for other in others), *notes]:
            print(f"Note: {sentence}.")
        print(f"{len(runs_drawn)} run{'' if len(runs_drawn) == 1 else 's'} drawn: {pictures[0]} and {pictures[1]}.")
    except (ValueError, OSError, flags.Error) as error:
        print(f"plot.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
