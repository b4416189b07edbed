"""Measure a forward and a backward pass beside Table 2 of Hausknecht & Stone 2015.

    python -m benchmarks.passes                   writes results/passes.csv and passes.md

Batch 32, 18 actions, 512 units. Forward: the Q-values of 32 observations, as in acting. Backward: an update, which here
is a forward pass of both networks, the gradient, and Adam. The forward passes in Table 2 do not grow with the unroll,
so they too cover one timestep.
"""

import argparse
import csv
import pathlib
import statistics
import time

import numpy as np

from benchmarks import timings, updates
from benchmarks.timings import ROOT


def passes_row(name, network, unroll, frames, repeats):
    """Return a row of the table: median milliseconds of both passes."""
    learner, window = updates.make_learner(network, history=frames, unroll=unroll)
    state, first = learner.initial_state(updates.BATCH), np.zeros(updates.BATCH, bool)
    works = dict(forward=lambda: learner.q_values(window.frames[:, :frames], state, first),
                 backward=lambda: float(learner.learn(window)["loss"]))
    milliseconds = {}
    for direction, work in works.items():
        work()  # The first call traces.
        milliseconds[direction] = []
        for _ in range(repeats):
            begin = time.perf_counter()
            work()
            milliseconds[direction].append(1e3 * (time.perf_counter() - begin))
    medians = {f"{direction}_ms": round(statistics.median(times), 2) for direction, times in milliseconds.items()}
    return dict(network=name, frames=frames, **medians)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10, help="of each pass; the median is reported")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "results/passes")
    options = parser.parse_args()
    source, *lines = (ROOT / "paper/table2_cost.csv").read_text().splitlines()
    rows = []
    for theirs in csv.DictReader(lines):
        unroll = int(theirs["network"].removeprefix("Unroll ").replace("Baseline", "1"))
        for frames in (1, 4, 10):
            network = "DQN" if theirs["network"] == "Baseline" else "DRQN"
            row = passes_row(theirs["network"], network, unroll, frames, options.repeats)
            papers = {f"paper_{direction}_ms": theirs[f"{direction}_{frames}"] for direction in ("forward", "backward")}
            rows.append(row | papers | timings.circumstances())
            print(", ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    timings.write_rows(options.out.with_suffix(".csv"), rows)
    options.out.with_suffix(".md").write_text(
        f"Median of {options.repeats} passes, float32, on {', '.join(timings.circumstances().values())}; "
        f"the paper's: {source.removeprefix('# ')}\n\n{timings.format_table(rows)}")


if __name__ == "__main__":
    main()
