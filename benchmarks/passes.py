"""The paper's Table 2 again: milliseconds of a forward and of a backward pass, ours beside theirs; writes results/passes.csv and passes.md.

    python benchmarks/passes.py

Batch 32, 18 actions, 512 units. Forward: the Q-values of 32 observations, as in acting. Backward: an update, which here is both networks
forward, the gradient, and Adam. The table's forward passes do not grow with the unroll, so they are of one time step as well.
"""

import argparse
import csv
import pathlib
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import numpy as np  # noqa: E402
import timings  # noqa: E402
import updates  # noqa: E402


def passes(name, network, unroll, frames, repeats):
    """Return a row of the table."""
    learner, window = updates.learner(network, history=frames, unroll=unroll)
    state, first = learner.initial_state(updates.BATCH), np.zeros(updates.BATCH, bool)
    works = dict(forward=lambda: learner.q_values(window.frames[:, :frames], state, first),
                 backward=lambda: float(learner.learn(window)["loss"]))
    times = {}
    for direction, work in works.items():
        work()  # traced
        times[direction] = []
        for _ in range(repeats):
            begin = time.perf_counter()
            work()
            times[direction].append(1e3 * (time.perf_counter() - begin))
    return dict(network=name, frames=frames, **{f"{direction}_ms": round(statistics.median(t), 2) for direction, t in times.items()})


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
            row = passes(theirs["network"], "DQN" if theirs["network"] == "Baseline" else "DRQN", unroll, frames, options.repeats)
            rows.append(row | {f"paper_{direction}_ms": theirs[f"{direction}_{frames}"] for direction in ("forward", "backward")}
                        | timings.circumstances())
            print(", ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    timings.write(options.out, rows)
    options.out.with_suffix(".md").write_text(
        f"Median of {options.repeats} passes, float32, on {', '.join(timings.circumstances().values())}; "
        f"the paper's: {source.removeprefix('# ')}\n\n{timings.table(rows)}")


if __name__ == "__main__":
    main()
