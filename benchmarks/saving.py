"""What saving and loading 400,000 timesteps of Atari cost: the stall of a periodic checkpoint, and memory beyond the running process.

    python benchmarks/saving.py                        DRQN on Frostbite with all 18 actions, the defaults of train.py; 3 GB of memory

Plays 50,000 agent steps at random, repeats them until the replay has wrapped around, saves, and measures the next checkpoint after
50,000 more, and how another Trainer loads it. Prints one line of JSON; in MB, beyond the memory before a save and after a load.
"""

import argparse
import json
import pathlib
import re
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

import train  # noqa: E402

PERIOD = 50_000  # agent steps between checkpoints, the default


def memory(field):
    """Return VmRSS (now) or VmHWM (the most since `forget_peak`) of this process in MB."""
    return int(re.search(rf"{field}:\s+(\d+) kB", pathlib.Path("/proc/self/status").read_text())[1]) / 1000


def forget_peak():
    pathlib.Path("/proc/self/clear_refs").write_text("5")


def play(run, agent_steps):
    """Play at random, as fast as the emulators step."""
    rng, actions, end = np.random.default_rng(0), len(run.envs.action_names), run.agent_step + agent_steps
    run.rollout.act = lambda epsilon, _: rng.integers(0, actions, run.envs.num_envs)
    run.rollout.cut_short()  # So that loading has no more than these to step again.
    run._do_what_is_due = lambda: None  # No evaluations, and no checkpoints that nobody measures.
    run.train(until=end)


def repeat(run):
    """Append what was played again and again, until the replay has wrapped around."""
    played = run.replay.end
    while run.replay.end < run.replay.num_rows * 1.1:
        row = run.replay.end % played
        values = {name: column[row].copy() for name, column in run.replay.columns.items()}
        run.replay.append(first=values.pop("start") == row, **values)
        run.storage.checkpoints.write_ahead(run.replay)


def timed(call):
    """Return seconds and the peak of memory over that before, in MB."""
    forget_peak()
    before, started = memory("VmRSS"), time.monotonic()
    call()
    return round(time.monotonic() - started, 2), round(memory("VmHWM") - before)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bufflen", type=int, default=400_000, help="timesteps")
    parser.add_argument("--out", type=pathlib.Path, help="folder for the run, kept; default: a temporary one on the disk of TMPDIR")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        arguments = ["--full_actions", "--learning_starts=0", f"--bufflen={options.bufflen}", f"--run_dir={options.out or scratch}/run"]
        run = train.Trainer(train.configure(arguments))
        run.started = time.monotonic()
        window = run.replay.windows(np.zeros(32, int), np.zeros(32, int))
        run.agent.learn(window)  # The optimizer's slots are filled as in a real run.
        run.settings = run.settings | dict(learning_starts=10**9)  # Played only.
        play(run, PERIOD)
        repeat(run)
        first = timed(run._save)
        play(run, PERIOD)
        stall = timed(run._save)
        saved = {name: round(sum(path.stat().st_size for path in (run.storage.directory / name).rglob("*") if path.is_file()) / 1e6)
                 for name in ("replay", "checkpoints")}
        step, rows = run.agent_step, len(run.replay)
        run.storage.close()
        del run, window
        forget_peak()
        started = time.monotonic()
        again = train.Trainer(train.configure(arguments))
        seconds, peak, now = time.monotonic() - started, memory("VmHWM"), memory("VmRSS")
        assert (again.agent_step, len(again.replay)) == (step, rows)
        print(json.dumps(dict(timesteps=rows, replay_raw_mb=round(sum(c.nbytes for c in again.replay.columns.values()) / 1e6),
                              replay_on_disk_mb=saved["replay"], checkpoints_on_disk_mb=saved["checkpoints"],
                              first_save_s=first[0], first_save_extra_mb=first[1], periodic_stall_s=stall[0],
                              periodic_extra_mb=stall[1], load_s=round(seconds, 1), load_extra_mb=round(peak - now),
                              actions_stepped_again=int(again.rollout.num_steps))))


if __name__ == "__main__":
    main()
