"""Measure saving and loading 400,000 timesteps of Atari: the stall of a periodic checkpoint, and its memory.

    python -m benchmarks.saving                   DRQN on Frostbite with all 18 actions; it takes 3 GB of memory

Plays 50,000 agent steps at random, repeats them until the replay has wrapped around, and saves. Then it plays 50,000
more, measures the next checkpoint, and loads it into another Trainer. Prints one line of JSON. Memory is in MB: beyond
the memory before a save, and beyond the memory after a load.
"""

import argparse
import json
import pathlib
import re
import tempfile
import time

import numpy as np

import train
from storage import layout


def read_memory(field):
    """Return VmRSS (now) or VmHWM (the most since `forget_peak`) of this process in MB."""
    return int(re.search(rf"{field}:\s+(\d+) kB", pathlib.Path("/proc/self/status").read_text())[1]) / 1000


def forget_peak():
    pathlib.Path("/proc/self/clear_refs").write_text("5")


def play_at_random(trainer, agent_steps):
    """Play so many agent steps at random, as fast as the emulators step."""
    rng, actions, num_envs = np.random.default_rng(0), len(trainer.envs.action_names), trainer.envs.num_envs
    trainer.rollout.act = lambda epsilon, _: rng.integers(0, actions, num_envs)
    trainer.rollout.reset_due = True  # So that loading steps the environments through these actions alone.
    trainer._do_what_is_due = lambda: None  # No evaluations, and no checkpoints that nobody measures.
    trainer.train(until=trainer.agent_step + agent_steps)


def fill_replay(trainer):
    """Append the rows played so far again and again, until the replay has wrapped around."""
    ring, played = trainer.replay, trainer.replay.end
    while ring.end < ring.num_rows * 1.1:
        row = ring.end % played
        values = {name: column[row].copy() for name, column in ring.columns.items()}
        ring.append(first=values.pop("start") == row, **values)
        trainer.storage.checkpoints.write_ahead(ring)


def measure_save(trainer):
    """Save; return the seconds, and the peak of memory in MB beyond the memory before."""
    forget_peak()
    before, started = read_memory("VmRSS"), time.monotonic()
    trainer._save()
    return round(time.monotonic() - started, 2), round(read_memory("VmHWM") - before)


def folder_megabytes(folder):
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bufflen", type=int, default=400_000, help="timesteps")
    parser.add_argument("--period", type=int, default=50_000, help="agent steps between checkpoints")
    parser.add_argument("--out", type=pathlib.Path,
                        help="folder for the run, kept; default: a temporary one on the disk of TMPDIR")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        arguments = ["--full_actions", "--learning_starts=0", f"--bufflen={options.bufflen}",
                     f"--run_dir={options.out or scratch}/run"]
        trainer = train.Trainer(train.configure(arguments))
        window = trainer.replay.windows(np.zeros(32, int), np.zeros(32, int))
        trainer.agent.learn(window)  # An update fills the optimizer's slots.
        trainer.settings = trainer.settings | dict(learning_starts=10**9)  # No updates from now on.
        play_at_random(trainer, options.period)
        fill_replay(trainer)
        first_seconds, first_extra = measure_save(trainer)
        play_at_random(trainer, options.period)
        stall_seconds, stall_extra = measure_save(trainer)
        replay_mb, checkpoints_mb = (folder_megabytes(trainer.storage.directory / name)
                                     for name in (layout.REPLAY, layout.CHECKPOINTS))
        counts = trainer.agent_step, len(trainer.replay)
        trainer.storage.close()
        del trainer, window
        forget_peak()
        started = time.monotonic()
        again = train.Trainer(train.configure(arguments))
        seconds, peak, now = time.monotonic() - started, read_memory("VmHWM"), read_memory("VmRSS")
        assert (again.agent_step, len(again.replay)) == counts
        raw = round(sum(column.nbytes for column in again.replay.columns.values()) / 1e6)
        print(json.dumps(dict(
            timesteps=len(again.replay), replay_raw_mb=raw, replay_on_disk_mb=replay_mb,
            checkpoints_on_disk_mb=checkpoints_mb, first_save_s=first_seconds, first_save_extra_mb=first_extra,
            periodic_stall_s=stall_seconds, periodic_extra_mb=stall_extra, load_s=round(seconds, 1),
            load_extra_mb=round(peak - now), actions_stepped_again=len(again.rollout.actions))))


if __name__ == "__main__":
    main()
