"""Runs as learning curves, interquartile means over seeds with bootstrap bands (Agarwal et al. 2021), or as tables of scores.

    python plot.py runs/*                                               a panel per environment and flicker
    python plot.py runs/* --x=hours --y=train --out=results/pong
    python plot.py runs/* --grid_rows=flicker --grid_columns=history    the master plot: a panel per pair of values
    python plot.py runs/* --figure=observability                        scores by the probability that a screen is shown
    python plot.py runs/* --table=standard                              scores beside the paper's; flicker, placement, runs

An argument is a run or a folder of runs; default: runs. Runs form one line when their config.json differs in nothing but seed,
maxsteps, eval_period and checkpoint_period. A label names the network, its history, and the settings in which lines of this network
differ. A game whose training rewards are others, such as AssaultCrafted-v0, is in the panel of Assault, as its returns are the raw ones.
A line is the interquartile mean over seeds (of 2 or 3 seeds the mean) of each seed's mean over the episodes of an evaluation, or over
the complete training episodes that end in a 50th of the x axis. Its band is the 95% percentile bootstrap interval over seeds.
Where some seeds have no data, such as those of unfinished runs, it is faint, and where more than half have none it is not drawn, since
its jumps are those of another set of seeds. Thin lines are single seeds, straight between evaluations. The dashed grey line is the mean of
random play, where evaluate.py has played it beside these runs.

A table is printed, and written as <out>.csv, .md and .tex. It needs the episodes that evaluate.py plays anew with the best checkpoint of
each run. standard and flicker are the paper's tables of games, DRQN with 1 frame against DQN with 4, or 10 where screens flicker, tested
over seeds; placement is its comparison of the LSTM's places on Beam Rider; runs has a row for each line of any runs.
"""

import sys

from absl import flags

from analysis import curves, drawing, sweeps, tables
from storage import reading


def define_flags():
    """Return the flags of this script with their defaults."""
    values = flags.FlagValues()
    own = dict(flag_values=values, module_name="plot")
    flags.DEFINE_enum("figure", "curves", ["curves", "observability"], "learning curves, or the sweeps of evaluate.py "
                      "--observation_probabilities as fractions of the original score [Hausknecht & Stone 2015, Figure 5]", **own)
    flags.DEFINE_enum("x", "agent_step", list(curves.X_LABELS), "x axis [agent steps, emulator frames, wall hours of training, or "
                      "with --y=train complete training episodes]", **own)
    flags.DEFINE_enum("y", "eval", list(curves.Y_LABELS), "returns of evaluations, or of training's complete episodes [raw reward]", **own)
    flags.DEFINE_string("grid_rows", None, "a flag of train.py: a row of panels for each of its values among the runs", **own)
    flags.DEFINE_string("grid_columns", None, "a flag of train.py: a column of panels for each of its values among the runs", **own)
    flags.DEFINE_enum("table", None, list(tables.TABLES), "a table instead of a figure: of the paper's, or of any runs", **own)
    flags.DEFINE_string("out", None, "path to which .png and .svg, or .csv, .md and .tex are added, or a figure's that ends in .pdf; "
                        "default: the name of the figure or table", **own)
    return values


def make(values, found):
    """Write what was asked for of runs {directory: settings}; return what to print: before, sentences on what is not in it, after."""
    kind, out = ("table", values.table) if values.table else ("figure", values.figure)
    strange = [f"--{name}" for name in ("figure",) * (kind == "table") + ("x", "y", "grid_rows", "grid_columns") if values[name].present]
    if strange and out != "curves":
        raise ValueError(f"{' and '.join(strange)} cannot be given with --{kind}={out}")
    out = out if values.out is None else values.out
    if values.table:
        table, notes = tables.make(values.table, found)
        paths = tables.save(table, out)
        return [tables.to_text(table)], notes, f"The table is in {', '.join(map(str, paths))}."
    if (values.x, values.y) == ("episodes", "eval"):
        raise ValueError("--x=episodes counts episodes of training; expected --y=train beside it")
    drawn, notes = sweeps.read_sweeps(found) if values.figure == "observability" else curves.read_curves(found, values.x, values.y)
    if not drawn:
        raise ValueError(notes[0] if len(notes) == 1 else f"none of {len(notes)} runs can be drawn; the first: {notes[0]}")
    figure = (sweeps.draw(drawn) if values.figure == "observability" else
              curves.draw(drawn, values.x, values.y, values.grid_rows, values.grid_columns, reading.read_random_play(found)))
    return [], notes, f"{len(drawn)} run{'' if len(drawn) == 1 else 's'} drawn: {' and '.join(map(str, drawing.save(figure, out)))}."


def main(arguments):
    """Return the exit code: 0, or 2 for bad input."""
    values = define_flags()
    if {"--help", "-h", "--helpfull", "--helpshort"} & set(arguments):
        print(__doc__, values.module_help("plot"), sep="\n")
        return 0
    try:
        paths = values(["plot.py", *arguments])[1:]
        found, others = reading.find_runs(paths or ["runs"])
        before, notes, after = make(values, found)
        print(*before, *(f"Note: {sentence}." for sentence in [*(f"left out: {other}" for other in others), *notes]), after, sep="\n")
    except (ValueError, OSError, flags.Error) as error:
        print(f"plot.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
