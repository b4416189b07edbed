"""Train and evaluate by the commands that a user would type; write the learning results and curves of results/.

    python -m benchmarks.evidence                 everything, an hour or two on 2 cores
    python -m benchmarks.evidence --only=cartpole --seeds=1

Finished runs are not trained again.
"""

import argparse
import concurrent.futures
import os
import pathlib
import subprocess
import sys

from analysis import statistics
from benchmarks import timings
from benchmarks.timings import ROOT
from storage import layout

RUNS = "runs/evidence"
EPISODES = 100  # fresh, at epsilon 0
EXPERIMENTS = {  # name -> number of seeds, {agent: flags}
    "cartpole": (3, {"DQN, 4 frames": ["--network=DQN"], "DRQN, 1 frame": ["--network=DRQN"]}),
    "flickering_cartpole": (5, {
        "DRQN, 1 frame": ["--network=DRQN", "--flicker=0.5"],
        "DQN, 1 frame": ["--network=DQN", "--history=1", "--flicker=0.5"],
        "DQN, 4 frames": ["--network=DQN", "--flicker=0.5"],
        "DQN, 10 frames": ["--network=DQN", "--history=10", "--flicker=0.5"],
    }),
    "precision": (3, {
        "DRQN, float32": ["--network=DRQN", "--flicker=0.5"],
        "DRQN, mixed_bfloat16": ["--network=DRQN", "--flicker=0.5", "--precision=mixed_bfloat16"],
    }),
}


def call_script(script, *arguments):
    """Run a script of the suite on one core, so that two of them share a small machine fairly."""
    one_core = dict(OMP_NUM_THREADS="1", TF_NUM_INTRAOP_THREADS="1", TF_NUM_INTEROP_THREADS="1")
    done = subprocess.run([sys.executable, str(ROOT / script), *arguments], cwd=ROOT, env=os.environ | one_core,
                          capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{script} {' '.join(arguments)} failed:\n{done.stderr[-2000:]}")


def train_and_evaluate(experiment, agent, flags, seed):
    """Train one seed and evaluate its best and last weights; return a row of the table."""
    directory = pathlib.Path(RUNS) / experiment / agent.replace(", ", "-").replace(" ", "") / f"s{seed}"
    call_script("train.py", "--flagfile=presets/cartpole.flags", *flags, f"--seed={seed}", f"--run_dir={directory}")
    means = {}
    for checkpoint in ("best", "last"):
        call_script("evaluate.py", f"--run_dir={directory}", f"--checkpoint={checkpoint}", f"--episodes={EPISODES}",
                    "--epsilon=0")
        rows = timings.read_rows(layout.episodes_path(ROOT / directory, checkpoint, f"-episodes={EPISODES}"))
        returns = [float(row["episode_return"]) for row in rows]
        means[checkpoint] = sum(returns) / len(returns)
    seconds = float(timings.read_rows(layout.csv_path(ROOT / directory, "learn"))[-1]["seconds"])
    print(f"{experiment}: {agent}, seed {seed}: best {means['best']:.1f}, last {means['last']:.1f}, {seconds:.0f} s",
          flush=True)
    return dict(agent=agent, seed=seed, best=means["best"], last=means["last"], train_seconds=round(seconds))


def format_results(experiment, rows):
    """Return Markdown: per agent the mean over seeds of the mean over episodes, with its 95% interval."""
    names = ("agent", "seeds", "best checkpoint, mean [95% interval]", "of each seed", "last weights, mean",
             "training, s")
    lines = [f"| {' | '.join(names)} |", "|---|---|---|---|---|---|"]
    for agent in EXPERIMENTS[experiment][1]:
        seeds = [row for row in rows if row["agent"] == agent]
        if seeds:
            mean, low, high = statistics.mean_interval([row["best"] for row in seeds])
            each = ", ".join(f"{row['best']:.0f}" for row in seeds)
            last = sum(row["last"] for row in seeds) / len(seeds)
            longest = max(row["train_seconds"] for row in seeds)
            lines.append(f"| {agent} | {len(seeds)} | {mean:.0f} [{low:.0f}, {high:.0f}] | {each} | {last:.0f} "
                         f"| at most {longest} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=EXPERIMENTS, help="one experiment")
    parser.add_argument("--seeds", type=int, help="seeds 1 to this, instead of the experiment's number")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="runs side by side, a core each")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "results", help="folder of the tables")
    options = parser.parse_args()
    for experiment, (seeds, agents) in EXPERIMENTS.items():
        if options.only in (None, experiment):
            jobs = [(experiment, agent, flags, seed) for seed in range(1, (options.seeds or seeds) + 1)
                    for agent, flags in agents.items()]
            with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
                rows = list(pool.map(lambda job: train_and_evaluate(*job), jobs))
            timings.write_rows(options.out / f"{experiment}.csv", rows)
            (options.out / f"{experiment}.md").write_text(format_results(experiment, rows))
            call_script("plot.py", f"{RUNS}/{experiment}", f"--out={options.out / experiment}")
            print(format_results(experiment, rows))


if __name__ == "__main__":
    main()
