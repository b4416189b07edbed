"""Time rollouts, this suite's and CleanRL's, beside the loops of 2015, and say where the time goes.

    python -m benchmarks.rollouts                                      alone on the machine; needs .venv-peers
    python -m benchmarks.rollouts --presets=pqn_lstm --num_envs=32,128 --precisions=float32 --ours_only --seconds=1

A row of the table is a process. The rows of a preset take turns, each of at least `--seconds`, in whole rollouts. A
ratio is the median over the turns of its steps/s over those of ours, in the same precision and with most environments.
Other numbers of environments than the largest are timed in the first precision only. Other flags are train.py's, for
the rollouts of both suites.

First CleanRL's loop is tried: its targets are compared with agent.q_lambda's, its network's multiply-adds with ours.

A share is of all the time, by phase. Emulators step while ours learns, so `environment` is what is left to wait for.
`learn_share_of_peak` is the arithmetic of learning over that of large matrix products, which take turns with the rows.
JAX learns after it is asked to, so that its phases say only where the loop waits, and this share is left out.
"""

import argparse
import collections
import contextlib
import json
import operator
import pathlib
import statistics
import subprocess
import sys
import tempfile
from concurrent import futures

from launch import start
from launch.settings import configure

import numpy as np
from absl import flags

import agent
import models
from benchmarks import contenders, speed, timings, updates

PHASES = "environment act sample learn".split()
Loop = collections.namedtuple("Loop", "columns slice arguments python", defaults=(sys.executable,))
Loop.__doc__ = """A row to be timed.

columns: {name: value} of what it is.
slice: agent steps between two looks at the clock.
arguments, python: of its speed.Contender.
"""


def list_loops(preset, options, more):
    """Return a Loop for each row of a preset, ours with most environments first.

    Args:
        preset: name in presets/.
        options: num_envs, precisions, ours_only, cleanrl_only of the command line.
        more: flags of train.py.

    Raises:
        ValueError, OSError, flags.Error: of settings.configure.
        SystemExit: CleanRL's loop is not what it should be.
    """
    num_envs, loops = sorted(options.num_envs, reverse=True), []

    def add(system, settings, *loop):
        columns = {name: settings[name] for name in ("network", "precision", "num_envs")}
        loops.append(Loop(dict(system=system) | columns, *loop))

    def given(precision, count=num_envs[0]):
        """Return the flags of a loop of rollouts, and the settings that they make."""
        arguments = [f"--flagfile=presets/{preset}.flags", "--env=Frostbite", "--epsilon_begin=0.1", *more,
                     f"--num_envs={count}", f"--precision={precision}"]
        return arguments, configure(arguments)["settings"]

    for precision in options.precisions:
        for count in num_envs if precision == options.precisions[0] else num_envs[:1]:
            arguments, settings = given(precision, count)
            add("ours", settings, 1, ["rollouts", *arguments])
    if options.ours_only:
        return loops
    _, settings = given("float32")
    if settings["flicker"]:
        raise SystemExit(f"--flicker={settings['flicker']} applies to ours alone, since CleanRL's loop shows every "
                         "screen; expected --ours_only beside it")
    check_cleanrl(settings)
    for precision in options.precisions:
        _, settings = given(precision)
        add("CleanRL", settings, 1, ["cleanrl", json.dumps(settings)], speed.PEERS_PYTHON)
    if "LSTM" in settings["network"] and not options.cleanrl_only:
        for precision in options.precisions:
            arguments = ["--network=DRQN", f"--precision={precision}"]
            add("ours", configure([*contenders.Ours.FLAGS, *arguments])["settings"], 16, ["ours", *arguments])
        if "float32" in options.precisions:
            add("PFRL", dict(network="DRQN", precision="float32", num_envs=1), 16, ["pfrl", "0"], speed.PEERS_PYTHON)
    return loops


def check_cleanrl(settings):
    """Try CleanRL's loop with few environments; compare its targets and its network's multiply-adds with this suite's.

    Raises:
        SystemExit: they differ, or the trial failed.
    """
    rng, (T, N) = np.random.default_rng(1), (settings["unroll"], 4 * settings["batch_size"])
    rewards, values = rng.normal(size=(2, T, N)).astype(np.float32)
    next_value = rng.normal(size=N).astype(np.float32)
    ended = (rng.random((T + 1, N)) < 0.2).astype(np.float32)  # before each row, and before the row after them
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/numbers.npz"
        np.savez(path, rewards=rewards, dones=ended[:-1], values=values, next_value=next_value, next_done=ended[-1])
        command = [speed.PEERS_PYTHON, "-m", "benchmarks.cleanrl", json.dumps(settings | dict(num_envs=N)), path]
        try:
            done = subprocess.run(command, cwd=timings.ROOT, capture_output=True, text=True)
        except FileNotFoundError as error:
            raise SystemExit(f"{speed.PEERS_PYTHON} does not exist; `make .venv-peers/installed` makes it, and "
                             "--ours_only does without it") from error
        if done.returncode:
            raise SystemExit(f"the trial of CleanRL's loop failed:\n{done.stderr[-2000:]}")
        theirs = dict(np.load(path))
    v_t = np.concatenate([values[1:], next_value[None]])
    discounts = settings["gamma"] * (1 - ended[1:])
    targets = agent.q_lambda(rewards.T, discounts.T, np.ones((N, T), np.float32), v_t.T, settings["trace_decay"])
    if not np.allclose(theirs["targets"].T, targets, rtol=1e-5, atol=1e-5):
        raise SystemExit("CleanRL's loop has other targets than agent.q_lambda")
    network = models.QNetwork(settings["network"], updates.NATURE, int(theirs["num_actions"]), settings["history"],
                              settings["units"])
    ours = updates.count_multiply_adds(network)
    if tuple(theirs["multiply_adds"]) != ours:
        raise SystemExit(f"CleanRL's network makes {theirs['multiply_adds']} multiply-adds in its first layer and in "
                         f"all; expected those of {settings['network']}: {ours}")


def take_turn(contender, slice, seconds):
    """Let a contender work for some seconds; return a Counter of agent_steps, seconds, operations, and each phase."""
    total = collections.Counter()
    while total["seconds"] < seconds:
        answer = contender.turn(slice)
        total.update(answer["phases"], **{name: answer[name] for name in ("agent_steps", "seconds", "operations")})
    return total


def time_loops(loops, precisions, turns, seconds):
    """Let loops take turns, and large matrix products with them.

    Returns:
        The turns of each loop in order, and {precision: turns of its products}, each as `take_turn` returns it.
    """
    timed = [*loops, *(Loop({}, 4, ["products", precision]) for precision in precisions)]
    begin = lambda loop: speed.Contender(*loop.arguments, python=loop.python).wait_until_ready()
    with futures.ThreadPoolExecutor(start.num_threads()) as pool, contextlib.ExitStack() as running:
        started = [running.enter_context(contender) for contender in pool.map(begin, timed)]
        rounds = [[take_turn(contender, loop.slice, seconds) for contender, loop in zip(started, timed)]
                  for _ in range(turns)]
    turns_of = list(zip(*rounds))
    return turns_of[:len(loops)], dict(zip(precisions, turns_of[len(loops):]))


def summarise(loop, turns, ours, products):
    """Return a row of the table.

    Args:
        turns, ours, products: of this loop; of ours with most environments; of products.
    """
    seconds, speeds = sum(turn["seconds"] for turn in turns), [turn["agent_steps"] / turn["seconds"] for turn in turns]
    ratios = [value * turn["seconds"] / turn["agent_steps"] for value, turn in zip(speeds, ours)]
    shares = {name: sum(turn[name] for turn in turns) / seconds for name in PHASES}
    row = loop.columns | timings.spread("steps_per_second", speeds) | timings.spread("ratio_to_ours", ratios) | {
        f"{name}_share": round(share, 3) if any(shares.values()) else "" for name, share in shares.items()}
    gflops = lambda turn, phase: turn["operations"] / turn[phase] / 1e9
    counted = turns[0]["operations"] and timings.circumstances()["backend"] != "jax"
    learned = [gflops(turn, "learn") for turn in turns] if counted else []
    peaks = [gflops(turn, "seconds") for turn in products]
    return row | dict(
        learn_gflops=round(statistics.median(learned), 1) if counted else "",
        product_gflops=round(statistics.median(peaks), 1),
        learn_share_of_peak=round(statistics.median(map(operator.truediv, learned, peaks)), 3) if counted else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    listed = lambda text: text.split(",")
    parser.add_argument("--presets", type=listed, default=["pqn", "pqn_lstm"], help="names in presets/, with commas")
    parser.add_argument("--num_envs", type=lambda text: [int(count) for count in text.split(",")],
                        default=[8, 32, 64, 128], help="environments of ours, with commas; the peers have the largest")
    parser.add_argument("--precisions", type=listed, default=["float32", "mixed_bfloat16"], help="with commas")
    parser.add_argument("--ours_only", action="store_true", help="no peers, and so no .venv-peers")
    parser.add_argument("--cleanrl_only", action="store_true", help="of the peers; no loops of 2015 either")
    parser.add_argument("--seconds", type=float, default=3, help="of a turn, at least")
    parser.add_argument("--turns", type=int, default=3, help="of each row")
    parser.add_argument("--out", type=pathlib.Path, default=timings.ROOT / "results/rollouts", help="without an ending")
    options, more = parser.parse_known_args()
    rows = []
    for preset in options.presets:
        try:
            loops = list_loops(preset, options, more)
        except (ValueError, OSError, flags.Error) as error:
            parser.error(str(error))
        turns_of, products_of = time_loops(loops, options.precisions, options.turns, options.seconds)
        ours_of = {loop.columns["precision"]: turns for loop, turns in reversed(list(zip(loops, turns_of)))}
        for loop, turns in zip(loops, turns_of):
            precision = loop.columns["precision"]
            row = summarise(loop, turns, ours_of[precision], products_of[precision])
            rows.append(row | timings.circumstances())
            print(*(f"{name} {value}" for name, value in row.items()), flush=True)
    timings.write_rows(options.out.with_suffix(".csv"), rows)
    about = "\n\n".join(__doc__.split("\n\n")[2:])
    options.out.with_suffix(".md").write_text(
        f"# Rollouts\n\n`python -m benchmarks.rollouts` on {timings.format_circumstances(rows)}.\n\n{about}\n"
        f"{timings.format_table(rows)}")


if __name__ == "__main__":
    main()
