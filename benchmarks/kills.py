"""Kill training with SIGKILL again and again, go on each time, and compare with a run that nobody killed, bit for bit.

    python benchmarks/kills.py --kills=200        about half an hour on 2 cores; writes results/kills.csv and results/kills.md

Half of the kills come at random moments, half before a random file operation (open, rename, remove, mkdir, rmdir) on checkpoints
or replay, while writing and while reading. Each process is forked from this one, which has imported the suite; a run that ends is
compared and begun anew.
"""

import argparse
import csv
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

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

import train  # noqa: E402
from storage import checkpoints  # noqa: E402

checkpoints.SEGMENT_TIMESTEPS = 512  # so that a short run has many

COMMON = """--num_envs=4 --batch_size=4 --unroll=3 --flicker=0.3 --optimizer=adam --target_period=50 --epsilon_decay=linear:200steps
    --eval_episodes=2""".split()
RUNS = {
    "CartPole": """--env=CartPole-v1 --network=DRQN --maxsteps=3000 --units=8 --bufflen=2000 --learning_starts=60 --update_period=8
        --checkpoint_period=150 --eval_period=400""".split(),
    "Breakout": """--env=Breakout --network=DRQN --maxsteps=1500 --units=16 --bufflen=800 --learning_starts=60 --update_period=16
        --sticky=0.25 --noops=5 --life_loss=terminal --max_episode_frames=400 --checkpoint_period=100 --eval_period=400""".split(),
}
FILE_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
MOST_OPERATIONS = 120  # of a process until it is killed; a checkpoint has about 25


def start(arguments, directory, log, kill_at=None):
    """Fork a process that trains; return its id.

    Args:
        kill_at: number of the file operation under checkpoints/ or replay/ before which it kills itself.
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
        if event in FILE_EVENTS and isinstance(args[0], (str, os.PathLike)) and re.search(r"/(checkpoints|replay)\b", str(args[0])):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    if kill_at:
        sys.addaudithook(count)
    code = 3
    try:
        code = train.main([*COMMON, *arguments, f"--run_dir={directory}"])
    finally:
        os._exit(code)


def finish(process):
    """Return the exit code of a process, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def differences(one, two):
    """Return the names of what differs between two finished runs, wall times aside."""
    found = []
    for name in ("train", "learn", "eval"):
        read = lambda directory, name=name: [{key: value for key, value in row.items() if "seconds" not in key}
                                             for row in csv.DictReader(open(directory / f"{name}.csv"))]  # noqa: SIM115
        found += [f"{name}.csv"] * (read(one) != read(two))
    newest = [sorted(directory.glob("checkpoints/[0-9]*"))[-1] for directory in (one, two)]
    found += ["vector steps"] * (newest[0].name != newest[1].name)
    found += ["best.weights.h5"] * ((one / "best.weights.h5").read_bytes() != (two / "best.weights.h5").read_bytes())
    segments = [(path, two / "replay" / path.name) for path in (one / "replay").iterdir()]
    for paths in [[place / "arrays.npz" for place in newest], *segments]:
        a, b = (dict(np.load(path)) for path in paths)
        found += [name for name in a.keys() | b.keys() if name not in a or name not in b or not np.array_equal(a[name], b[name])]
    return found


def kill(name, scratch, kills, rng):
    """Kill one kind of run `kills` times; yield a row for each kill and for each run that ended."""
    whole, pieces, log = scratch / name / "whole", scratch / name / "pieces", scratch / name / "log"
    whole.mkdir(parents=True)
    began = time.time()
    if finish(start(RUNS[name], whole, log)):
        raise SystemExit(f"the run that nobody kills failed:\n{log.read_text()}")
    killed, seconds, aside = 0, time.time() - began, pieces / "checkpoints/aside"
    while killed < kills or pieces.exists():
        inside = rng.random() < 0.5
        at = rng.randint(1, MOST_OPERATIONS) if inside else round(rng.uniform(0, seconds), 3)
        if killed == kills:
            inside, at = False, 600.0  # The last one may end.
        began = time.time()
        process = start(RUNS[name], pieces, log, at if inside else None)
        timer = None if inside else threading.Timer(at, os.kill, (process, signal.SIGKILL))
        if timer:
            timer.start()
        code = finish(process)
        if timer:
            timer.cancel()
        said = log.read_text()
        went_on = re.search(r"Going on at agent step ([\d,]+)", said)
        row = dict(run=name, how="file operation" if inside else "seconds", at=at, exit=code,
                   amid=int(aside.exists() and aside.stat().st_ctime > began), went_on_at=went_on[1].replace(",", "") if went_on else "",
                   damaged=said.count("is damaged"), equal="")
        if code == 0:
            row["equal"] = " ".join(differences(whole, pieces)) or "yes"
            shutil.rmtree(pieces)
        elif code == -signal.SIGKILL:
            killed += 1
        else:
            row["equal"] = f"no: {said[-300:]}"
            shutil.rmtree(pieces)
        yield row


def table(rows):
    """Return the report, as Markdown."""
    lines = ["| run | kills at random moments | at file operations | of all, with a checkpoint half-written | resumes | runs that ended "
             "| equal to the bit | processes that failed |", "|---|---|---|---|---|---|---|---|"]
    for name in RUNS:
        own = [row for row in rows if row["run"] == name]
        killed = [row for row in own if row["exit"] == -signal.SIGKILL]
        ended = [row for row in own if row["exit"] == 0]
        how = [sum(row["how"] == kind for row in killed) for kind in ("seconds", "file operation")]
        resumed, equal = sum(row["went_on_at"] != "" for row in own), sum(row["equal"] == "yes" for row in ended)
        amid = sum(row["amid"] for row in killed)
        counts = [*how, amid, resumed, len(ended), equal, len(own) - len(killed) - len(ended)]
        lines.append(f"| {name} | {' | '.join(map(str, counts))} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="in all, shared between the runs")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "results", help="folder of the report")
    options = parser.parse_args()
    rng, rows, began = random.Random(options.seed), [], time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        for name in RUNS:
            for row in kill(name, pathlib.Path(scratch), options.kills // len(RUNS), rng):
                rows.append(row)
                print(*row.values(), f"{time.monotonic() - began:.0f} s", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    with open(options.out / "kills.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    (options.out / "kills.md").write_text(table(rows))
    print(table(rows), end="")
    sys.exit(any(row["exit"] not in (0, -signal.SIGKILL) or row["exit"] == 0 and row["equal"] != "yes" for row in rows))


if __name__ == "__main__":
    main()
