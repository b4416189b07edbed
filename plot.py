"""Learning curves of runs, interquartile means over seeds with bootstrap bands (Agarwal et al. 2021), as <out>.png and <out>.svg.

    python plot.py runs/*                                               a panel per environment
    python plot.py runs/* --x=hours --y=train --out=results/pong
    python plot.py runs/* --grid_rows=flicker --grid_columns=history    the master plot: a panel per pair of values
    python plot.py runs/* --figure=observability                        scores by the probability that a screen is shown

An argument is a run or a folder of runs; default: runs. Runs form one line when their config.json differs in nothing but seed,
maxsteps, eval_period and checkpoint_period. A label names the network, its history, and the settings in which lines of this network
differ. A line is the interquartile mean over seeds (of 2 or 3 seeds the mean) of each seed's mean over the episodes of an evaluation,
or over the complete training episodes that end in a 50th of the x axis. Its band is the 95% percentile bootstrap interval over seeds.
Where some seeds have no data, such as those of unfinished runs, it is faint, and where more than half have none it is not drawn, since
its jumps are those of another set of seeds. Thin lines are single seeds, straight between evaluations.
"""

import sys

from absl import flags

import curves
import stats
import sweeps


def define_flags():
    """Return the flags of this script with their defaults."""
    values = flags.FlagValues()
    own = dict(flag_values=values, module_name="plot")
    flags.DEFINE_enum("figure", "curves", ["curves", "observability"], "learning curves, or the sweeps of evaluate.py "
                      "--observation_probabilities as fractions of the original score [Hausknecht & Stone 2015, Figure 5]", **own)
    flags.DEFINE_enum("x", "agent_step", list(curves.X_LABELS), "x axis [agent steps, emulator frames, wall hours of training]", **own)
    flags.DEFINE_enum("y", "eval", list(curves.Y_LABELS), "returns of evaluations, or of training's complete episodes [raw reward]", **own)
    flags.DEFINE_string("grid_rows", None, "a flag of train.py: a row of panels for each of its values among the runs", **own)
    flags.DEFINE_string("grid_columns", None, "a flag of train.py: a column of panels for each of its values among the runs", **own)
    flags.DEFINE_string("out", None, "path of the pictures, to which .png and .svg are added; default: the name of the figure", **own)
    return values


def draw(values, found):
    """Return the figure that was asked for, how many runs are in it, and sentences on the others."""
    of_curves = [f"--{name}" for name in ("x", "y", "grid_rows", "grid_columns") if values[name].present]
    if values.figure == "observability" and of_curves:
        raise ValueError(f"{' and '.join(of_curves)} cannot be given with --figure=observability, which has axes and panels of its own")
    drawn, notes = sweeps.read_sweeps(found) if values.figure == "observability" else stats.read_curves(found, values.x, values.y)
    if not drawn:
        raise ValueError(notes[0] if len(notes) == 1 else f"none of {len(notes)} runs can be drawn; the first: {notes[0]}")
    if values.figure == "observability":
        return sweeps.draw(drawn), len(drawn), notes
    return curves.draw(drawn, values.x, values.y, values.grid_rows, values.grid_columns), len(drawn), notes


def main(arguments):
    """Return the exit code: 0, or 2 for bad input."""
    values = define_flags()
    if {"--help", "-h", "--helpfull", "--helpshort"} & set(arguments):
        print(__doc__, values.module_help("plot"), sep="\n")
        return 0
    try:
        paths = values(["plot.py", *arguments])[1:]
        found, others = stats.find_runs(paths or ["runs"])
        figure, num_drawn, notes = draw(values, found)
        pictures = curves.save(figure, values.figure if values.out is None else values.out)
        for sentence in [*(f"left out: {other}" for other in others), *notes]:
            print(f"Note: {sentence}.")
        print(f"{num_drawn} run{'' if num_drawn == 1 else 's'} drawn: {pictures[0]} and {pictures[1]}.")
    except (ValueError, OSError, flags.Error) as error:
        print(f"plot.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
