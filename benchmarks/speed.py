"""Measure the speed of training beside the peers, and its time and memory by part.

    make bench                                    everything, alone on the machine: about half an hour on 2 cores
    python -m benchmarks.speed --only=peers       one part (see PARTS); the others keep their rows

Writes results/speed*.csv, speed.md and speed.png. On a GPU:

    KERAS_BACKEND=jax python -m benchmarks.speed --only=num_envs,update,operations --num_envs=8,32,64 --slices=50 \\
      --out=results/gpu

Timings on shared machines drift. So contenders are resident processes that take turns (A B C A B C ...), and a ratio is
the median of the ratios within each turn.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
from matplotlib.figure import Figure

from benchmarks import timings, updates
from benchmarks.timings import ROOT

PEERS_PYTHON = ROOT / ".venv-peers/bin/python"
SLICE = dict(DQN=800, DRQN=160)  # agent steps a turn, times --slices


class Contender:
    """A process of contenders.py, which works while `turn(steps)` waits for it."""

    def __init__(self, *arguments, python=sys.executable):
        self.launched = time.perf_counter()
        command = [python, "-m", "benchmarks.contenders", *arguments]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        self._read_answer()
        self.first_step_seconds = time.perf_counter() - self.launched

    def _read_answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(map(str, self.process.args))} failed:\n{self.process.stderr.read()[-2000:]}")
        return json.loads(line)

    def wait_until_ready(self):
        self._read_answer()
        return self

    def turn(self, steps):
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return self._read_answer()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


def take_turns(starters, steps, turns):
    """Start contenders and let them take turns.

    Args:
        starters: {name: function that starts a Contender}.
        steps: agent steps of a turn.
        turns: of each contender.

    Returns:
        {name: [answers of its turns]}.
    """
    contenders = {name: start_contender().wait_until_ready() for name, start_contender in starters.items()}
    answers = {name: [] for name in contenders}
    for _ in range(turns):
        for name, contender in contenders.items():
            answers[name].append(contender.turn(steps))
    for contender in contenders.values():
        contender.__exit__()
    return answers


def speeds(answers):
    return [answer["agent_steps"] / answer["seconds"] for answer in answers]


def starter(network, **flags):
    """Return a function that starts a Contender of this suite."""
    return lambda: Contender("ours", f"--network={network}", *(f"--{name}={value}" for name, value in flags.items()))


def peers(options):
    """This suite against Stable-Baselines3 (DQN) and PFRL (DRQN), DRQN flickering too, where ours sees blank screens
    once; with the seconds by phase of each of our turns."""
    rows, full, half = [], "0", "0.5"
    for network, peer, title, flicker in (
            ("DQN", "sb3", "Stable-Baselines3 DQN", full), ("DRQN", "pfrl", "PFRL DRQN", full),
            ("DRQN", "pfrl", "PFRL DRQN, flickering", half)):
        precisions, ending = ("float32", "mixed_bfloat16"), ", flickering" if flicker == half else ""
        starters = {title: lambda peer=peer, flicker=flicker: Contender(peer, flicker, python=PEERS_PYTHON)} | {
            f"{network}, {precision}{ending}": starter(network, precision=precision, flicker=flicker)
            for precision in precisions}
        answers_of = take_turns(starters, options.slices * SLICE[network], options.turns)
        for name, answers in answers_of.items():
            ratios = [ours / theirs for ours, theirs in zip(speeds(answers), speeds(answers_of[title]))]
            seconds = sum(answer["seconds"] for answer in answers)
            totals = {phase: sum(answer["phases"].get(phase, 0) for answer in answers)
                      for phase in ("act", "environment", "sample", "learn")}
            shares = {f"{phase}_share": round(total / seconds, 4) if answers[0]["phases"] else ""
                      for phase, total in totals.items()}
            rows.append(dict(loop=name, turns=options.turns, **timings.spread("steps_per_second", speeds(answers)),
                             **timings.spread("ratio", ratios), **shares))
    return rows


def num_envs(options):
    """Speed over the number of environments."""
    rows = []
    for network in SLICE:
        starters = {count: starter(network, num_envs=count) for count in options.num_envs}
        answers_of = take_turns(starters, options.slices * SLICE[network], max(3, options.turns // 2))
        for count, answers in answers_of.items():
            rows.append(dict(network=network, num_envs=count, **timings.spread("steps_per_second", speeds(answers))))
    return rows


def bufflen(options):
    """Time of a sample, and bytes of a timestep, over the replay's length: full rings of frames."""
    import replay
    rows = []
    for size in (10_000, 100_000, 1_000_000):
        for network, history, unroll, sample in (("DQN", 4, 1, "timestep"), ("DRQN", 1, 10, "episode")):
            ring = replay.Replay(size, 8, updates.NATURE, np.uint8, history, unroll, sample, 1)
            frame, zeros = np.full((8, *updates.NATURE), 7, np.uint8), np.zeros(8)
            for row in range(ring.num_rows):  # Episodes of 250, staggered.
                first = (row + 31 * np.arange(8)) % 250 == 0 if row else np.ones(8, bool)
                ring.append(frame, zeros, zeros, zeros, first)
            milliseconds = []
            for _ in range(200):
                begin = time.perf_counter()
                ring.sample(32)
                milliseconds.append(1e3 * (time.perf_counter() - begin))
            rows.append(dict(bufflen=size, network=network, sample=sample,
                             **timings.spread("milliseconds", milliseconds[20:]),
                             bytes_per_timestep=ring.nbytes(size, 8, updates.NATURE, np.uint8) / size))
            del ring
    return rows


def start(options):
    """Seconds from the command to the first agent step."""
    rows = []
    for network in SLICE:
        seconds = []
        for _ in range(options.turns):
            with Contender("ours", f"--network={network}") as contender:
                seconds.append(contender.first_step_seconds)
        rows.append(dict(network=network, **timings.spread("seconds", seconds)))
    return rows


def memory(options):
    """Peak resident memory beyond a full replay over 200,000 agent steps; few updates, so that it takes minutes."""
    rows = []
    for network in SLICE:
        flags = dict(bufflen=40_000, update_period=400, eval_period=50_000)
        with starter(network, **flags)().wait_until_ready() as contender:
            for done in range(50_000, 200_001, 50_000):
                answer = contender.turn(50_000)
                beyond = answer["peak_bytes"] - 40_000 * 7_084
                rows.append(dict(network=network, agent_steps=done, peak_megabytes_beyond_replay=round(beyond / 1e6)))
    return rows


def periods(options):
    """Share of a run of DQN that evaluation, checkpoints and logging take at their default periods: one of each in
    51,000 agent steps."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = "--network=DQN --env=Frostbite --maxsteps=51000 --learning_starts=1000".split()
        subprocess.run([sys.executable, ROOT / "train.py", *arguments, f"--run_dir={folder}/run"], check=True,
                       stdout=subprocess.DEVNULL)
        rows = timings.read_rows(f"{folder}/run/learn.csv")
    phases = {name: sum(float(row[f"{name}_seconds"]) for row in rows)
              for name in ("environment", "act", "sample", "learn")}
    seconds = float(rows[-1]["seconds"])
    return [dict(network="DQN", seconds=round(seconds), **{name: round(value) for name, value in phases.items()},
                 share_of_the_rest=round(1 - sum(phases.values()) / seconds, 4))]


PARTS = {part.__name__: part for part in (
    peers, num_envs, updates.update, updates.blank, updates.operations, bufflen, start, memory, periods)}


def plot_speeds(rows_of, path):
    """Plot the loops beside each other, and speed over the number of environments.

    Args:
        rows_of: {part: rows}.
        path: of the figure.
    """
    figure = Figure(figsize=(7, 2.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    colour = lambda name: "#999999" if "Base" in name or "PFRL" in name else "#D55E00" if "DRQN" in name else "#0072B2"
    loops, scaling = rows_of["peers"][::-1], rows_of["num_envs"]
    for i, row in enumerate(loops):
        value, low, high = (float(row[f"steps_per_second{end}"]) for end in ("", "_min", "_max"))
        left.barh(i, value, color=colour(row["loop"]), xerr=[[value - low], [high - value]], error_kw=dict(lw=0.8))
        left.text(high, i, f"  {value:.3g}", va="center", fontsize=7)
    left.set_yticks(range(len(loops)), [row["loop"] for row in loops], fontsize=7)
    left.set(xscale="log", xlim=(10, 2 * left.get_xlim()[1]), xlabel="agent steps/s (log scale): median, min to max")
    for network in SLICE:
        rows = [row for row in scaling if row["network"] == network]
        right.plot([int(row["num_envs"]) for row in rows], [float(row["steps_per_second"]) for row in rows], "o-", ms=3,
                   color=colour(network), label=network)
    right.set(xscale="log", yscale="log", xlabel="environments", ylabel="agent steps/s")
    ticks = sorted({int(row["num_envs"]) for row in scaling})
    right.set_xticks(ticks, ticks, minor=False)
    right.legend(fontsize=7)
    for axis in (left.xaxis, right.yaxis):
        low, high = axis.get_view_interval()
        shown = [speed for speed in (10, 20, 50, 100, 200, 500, 1000) if low <= speed <= high]
        axis.set_ticks(shown, shown)
    for axes in (left, right):
        axes.minorticks_off()
        axes.tick_params(labelsize=7)
        axes.xaxis.label.set_size(8)
        axes.yaxis.label.set_size(8)
    figure.savefig(path, dpi=200)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help=f"parts, by commas, of {', '.join(PARTS)}")
    parser.add_argument("--turns", type=int, default=7, help="of each contender")
    parser.add_argument("--slices", type=int, default=1, help="how much longer a turn is: some 50 times on a GPU")
    parser.add_argument("--num_envs", type=lambda text: [int(count) for count in text.split(",")],
                        default=[1, 2, 4, 8, 16])
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "results/speed",
                        help="results/speed makes results/speed_peers.csv, ...")
    options = parser.parse_args()
    csv_path = lambda name: options.out.with_name(f"{options.out.name}_{name}.csv")
    for name in options.only.split(",") if options.only else PARTS:
        rows = [row | timings.circumstances() for row in PARTS[name](options)]
        timings.write_rows(csv_path(name), rows)
        print(timings.format_table(rows), flush=True)
    rows_of = {name: timings.read_rows(csv_path(name)) for name in PARTS if csv_path(name).exists()}
    with open(f"{options.out}.md", "w") as file:
        for name, rows in rows_of.items():
            about = " ".join(PARTS[name].__doc__.split())
            file.write(f"## {name}\n\n{about} `python -m benchmarks.speed --only={name}` on "
                       f"{timings.format_circumstances(rows)}.\n\n{timings.format_table(rows)}\n")
    if {"peers", "num_envs"} <= rows_of.keys():
        plot_speeds(rows_of, f"{options.out}.png")


if __name__ == "__main__":
    main()
