"""Kill training with SIGKILL again and again, go on each time, and compare with a run that nobody killed, bit for bit.

    python -m benchmarks.kills --kills=300        about an hour on 2 cores; writes results/kills.csv and kills.md

Half of the kills come at random moments. The other half come before a random file operation (open, rename, remove,
mkdir, rmdir) on checkpoints or replay, in writing and in reading. Each process is forked from this one, which has
imported the suite already. A run that ends is compared, and the next one begins.
"""

import argparse
import os
import pathlib
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import time

import numpy as np

import rollout
import train
from benchmarks import timings
from benchmarks.timings import ROOT
from storage import checkpoints, layout

# So that a short run has many segments, and its environments many seeds.
checkpoints.SEGMENT_TIMESTEPS, rollout.RESEED_PERIOD = 512, 300

COMMON = """--num_envs=4 --batch_size=4 --unroll=3 --flicker=0.3 --optimizer=adam --target_period=50
    --epsilon_decay=linear:200steps --eval_episodes=2""".split()
RUNS = {
    "CartPole": """--env=CartPole-v1 --network=DRQN --maxsteps=3000 --units=8 --bufflen=2000 --learning_starts=60
        --update_period=8 --checkpoint_period=150 --eval_period=400""".split(),
    "Breakout": """--env=Breakout --network=DRQN --maxsteps=1500 --units=16 --bufflen=800 --learning_starts=60
        --update_period=16 --sticky=0.25 --noops=5 --life_loss=terminal --max_episode_frames=400 --checkpoint_period=100
        --eval_period=400""".split(),
    "Breakout-PQN": """--env=Breakout --network=PQN_LSTM --sample=rollout --num_envs=32 --maxsteps=2400 --units=16
        --unroll=8 --learning_starts=0 --update_period=32 --target_period=0 --sticky=0.25 --noops=5
        --max_episode_frames=240 --checkpoint_period=300 --eval_period=1000""".split(),
}
FILE_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
MAX_OPERATIONS = 120  # file operations of a process until it is killed; a checkpoint has about 25


def start_training(arguments, directory, log, kill_at=None):
    """Fork a process that trains; return its id.

    Args:
        kill_at: the process kills itself before its file operation of this number under checkpoints/ or replay/.
    """
    process = os.fork()
    if process:
        return process
    with open(log, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout.reconfigure(line_buffering=True)
    left = kill_at

    def count(event, args):
        nonlocal left
        if event in FILE_EVENTS and isinstance(args[0], (str, os.PathLike)):
            left -= bool(re.search(r"/(checkpoints|replay)\b", str(args[0])))
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    if kill_at:
        sys.addaudithook(count)
    code = 3
    try:
        code = train.main([*COMMON, *arguments, f"--run_dir={directory}"])
    finally:
        os._exit(code)


def wait_for(process):
    """Return the exit code of a process, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def find_differences(one, two):
    """Return the names of the files and arrays in which two finished runs differ, wall times aside."""
    found = []
    for name in layout.COLUMNS:
        without_times = [[{column: value for column, value in row.items() if "seconds" not in column}
                          for row in timings.read_rows(layout.csv_path(directory, name))] for directory in (one, two)]
        found += [f"{name}.csv"] * (without_times[0] != without_times[1])
    newest = [sorted(directory.glob(f"{layout.CHECKPOINTS}/[0-9]*"))[-1] for directory in (one, two)]
    found += ["vector steps"] * (newest[0].name != newest[1].name)
    best = [layout.weights_path(directory, layout.BEST) for directory in (one, two)]
    found += [best[0].name] * (best[0].read_bytes() != best[1].read_bytes())
    segments = [(path, two / layout.REPLAY / path.name) for path in (one / layout.REPLAY).iterdir()]
    for paths in [[checkpoint / layout.ARRAYS for checkpoint in newest], *segments]:
        a, b = (dict(np.load(path)) for path in paths)
        found += [name for name in a.keys() | b.keys()
                  if name not in a or name not in b or not np.array_equal(a[name], b[name])]
    return found


def kill_repeatedly(name, scratch, kills, rng):
    """Kill one kind of run `kills` times; yield a row for each kill and for each run that ended."""
    whole, pieces, log = scratch / name / "whole", scratch / name / "pieces", scratch / name / "log"
    whole.mkdir(parents=True)
    began = time.time()
    if wait_for(start_training(RUNS[name], whole, log)):
        raise SystemExit(f"the run that nobody kills failed:\n{log.read_text()}")
    killed, seconds, aside = 0, time.time() - began, pieces / layout.CHECKPOINTS / "aside"
    while killed < kills or pieces.exists():
        at_operation = rng.random() < 0.5
        at = rng.randint(1, MAX_OPERATIONS) if at_operation else round(rng.uniform(0, seconds), 3)
        if killed == kills:
            at_operation, at = False, 600.0  # The last one may end.
        began = time.time()
        process = start_training(RUNS[name], pieces, log, at if at_operation else None)
        timer = None if at_operation else threading.Timer(at, os.kill, (process, signal.SIGKILL))
        if timer:
            timer.start()
        code = wait_for(process)
        if timer:
            timer.cancel()
        printed = log.read_text()
        went_on = re.search(r"Going on at agent step ([\d,]+)", printed)
        row = dict(run=name, how="file operation" if at_operation else "seconds", at=at, exit=code,
                   amid=int(aside.exists() and aside.stat().st_ctime > began),
                   went_on_at=went_on[1].replace(",", "") if went_on else "", damaged=printed.count("is damaged"),
                   equal="")
        if code == 0:
            row["equal"] = " ".join(find_differences(whole, pieces)) or "yes"
            shutil.rmtree(pieces)
        elif code == -signal.SIGKILL:
            killed += 1
        else:
            row["equal"] = f"no: {printed[-300:]}"
            shutil.rmtree(pieces)
        yield row


def format_report(rows):
    """Return the report as Markdown: a line for each kind of run."""
    lines = ["| run | kills at random moments | at file operations | of all, with a checkpoint half-written | resumes "
             "| runs that ended | equal to the bit | processes that failed |", "|---|---|---|---|---|---|---|---|"]
    for name in RUNS:
        processes = [row for row in rows if row["run"] == name]
        killed = [row for row in processes if row["exit"] == -signal.SIGKILL]
        ended = [row for row in processes if row["exit"] == 0]
        how = [sum(row["how"] == kind for row in killed) for kind in ("seconds", "file operation")]
        resumed, equal = sum(row["went_on_at"] != "" for row in processes), sum(row["equal"] == "yes" for row in ended)
        amid = sum(row["amid"] for row in killed)
        counts = [*how, amid, resumed, len(ended), equal, len(processes) - len(killed) - len(ended)]
        lines.append(f"| {name} | {' | '.join(map(str, counts))} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300, help="in all, shared between the runs")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "results", help="folder of the report")
    options = parser.parse_args()
    rng, rows, began = random.Random(options.seed), [], time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        for name in RUNS:
            for row in kill_repeatedly(name, pathlib.Path(scratch), options.kills // len(RUNS), rng):
                rows.append(row)
                print(*row.values(), f"{time.monotonic() - began:.0f} s", flush=True)
    timings.write_rows(options.out / "kills.csv", rows)
    (options.out / "kills.md").write_text(format_report(rows))
    print(format_report(rows), end="")
    failed = lambda row: row["exit"] not in (0, -signal.SIGKILL) or row["exit"] == 0 and row["equal"] != "yes"
    sys.exit(any(failed(row) for row in rows))


if __name__ == "__main__":
    main()
