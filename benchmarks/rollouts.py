"""Time the loop of recurrent Q-learning without replay over numbers of environments, and where its time goes.

    python -m benchmarks.rollouts                                     PQN and PQN with an LSTM, alone on the machine
    python -m benchmarks.rollouts --networks=PQN_dense_LSTM --num_envs=32,128 --seconds=5 --out=/tmp/rollouts

Flickering Pong with the settings of presets/pqn.flags: rollouts of 32 rows, two passes, 4 environments for each update.
Each row of the table is a process: the median of its turns, each at least one rollout long.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks import timings

PHASES = "environment act sample learn".split()
FLAGS = """--flagfile=presets/pqn.flags --env=Pong --flicker=0.5 --units=512 --maxsteps=1000000000
    --eval_period=1000000000 --eval_episodes=1 --checkpoint_period=1000000000""".split()


def time_loop(network, num_envs, seconds, turns, more):
    """Train in this process; return {column: value} of a row."""
    import train
    with tempfile.TemporaryDirectory() as folder:
        arguments = [*FLAGS, f"--network={network}", f"--num_envs={num_envs}", f"--run_dir={folder}/run", *more]
        trainer = train.Trainer(train.configure(arguments))
        rollout = num_envs * trainer.settings["unroll"]
        trainer.train(until=2 * rollout + num_envs)  # compiles everything
        speeds, phases = [], {name: [] for name in PHASES}
        for _ in range(turns):
            trainer.clock.phases = spent = dict.fromkeys(PHASES, 0.0)
            started, before = time.perf_counter(), trainer.agent_step
            while time.perf_counter() < started + seconds:
                trainer.train(until=trainer.agent_step + rollout)
            took, steps = time.perf_counter() - started, trainer.agent_step - before
            speeds.append(steps / took)
            for name in PHASES:
                phases[name].append(1e3 * spent[name] / steps)
        trainer.storage.close()
    return dict(network=network, num_envs=num_envs, **timings.spread("steps_per_second", speeds),
                **{f"{name}_ms_per_step": round(statistics.median(values), 4) for name, values in phases.items()})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="PQN,PQN_dense_LSTM", help="names of models.NETWORKS, with commas")
    parser.add_argument("--num_envs", default="8,32,64,128", help="environments, with commas")
    parser.add_argument("--seconds", type=float, default=10, help="of a turn, at least")
    parser.add_argument("--turns", type=int, default=3, help="of each row")
    parser.add_argument("--out", type=pathlib.Path, default=timings.ROOT / "results/rollouts", help="without an ending")
    parser.add_argument("--row", nargs=2, metavar=("NETWORK", "NUM_ENVS"), help="one row, in this process, as JSON")
    options, more = parser.parse_known_args()  # The rest are flags of train.py.
    if options.row:
        print(json.dumps(time_loop(options.row[0], int(options.row[1]), options.seconds, options.turns, more)))
        return
    rows = []
    for network in options.networks.split(","):
        for num_envs in options.num_envs.split(","):
            command = [sys.executable, "-m", "benchmarks.rollouts", "--row", network, num_envs,
                       f"--seconds={options.seconds}", f"--turns={options.turns}", *more]
            done = subprocess.run(command, cwd=timings.ROOT, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
            rows.append(json.loads(done.stdout.splitlines()[-1]) | timings.circumstances())
            print(*(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    timings.write_rows(options.out.with_suffix(".csv"), rows)
    options.out.with_suffix(".md").write_text(timings.format_table(rows))


if __name__ == "__main__":
    main()
