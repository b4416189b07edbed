"""Directories as training and evaluate.py leave them, without training."""

import contextlib
import json
import subprocess
import sys

from launch.settings import check_settings

from storage import layout, reading

SETTINGS = dict(
    network="DRQN", env="CartPole-v1", maxsteps=300, maxepisodes=None, seed=1, checkpoint_period=100, weights_period=0,
    num_envs=8, history=1, frame_skip=1, sticky=None, full_actions=None, noops=None, max_episode_frames=500,
    flicker=0.0, color=False, features=None, life_loss=None, units=64, init_from=None, bufflen=400_000, unroll=10,
    sample="episode", batch_size=32, optimizer="rmsprop", learning_rate=0.001, lr_schedule=None, gamma=0.99,
    reward_scale=None, loss="huber", clip_norm=10.0, update_period=4, target_period=10_000, double=False,
    trace_decay=0.0, start_state=None, burn_in=0, learning_starts=100, precision="float32", epsilon_begin=1.0,
    epsilon_end=0.1, epsilon_decay="linear:1000000steps", epsilonStep=None, eval_period=100, eval_episodes=2,
    eval_epsilon=0.05, backend="tensorflow")


def find_checked(paths):
    """Return what reading.find_runs finds for the scripts."""
    return reading.find_runs(paths, check_settings)


def write_run(directory, evaluations=(), episodes=(), fresh=(), random=(), **settings):
    """Write a run that made 2 agent steps a second.

    Args:
        evaluations: [(agent_step, episode returns), ...].
        episodes: [(agent_step, episode_return), ...] of training.
        fresh: returns of the episodes that evaluate.py played with the best weights; no file if empty.
        random: returns of random play beside them; no file if empty.
        settings: other than SETTINGS.
    """
    directory.mkdir(parents=True)
    settings = SETTINGS | settings
    layout.config_path(directory).write_text(json.dumps(dict(settings=settings)))
    skip = settings["frame_skip"]
    rows = {
        "eval": [(step, step * skip, number, i, episode_return, 9, step / 2)
                 for number, (step, returns) in enumerate(evaluations, 1) for i, episode_return in enumerate(returns)],
        "train": [(step, step * skip, episode_return, 9, 1, 0, step / 2) for step, episode_return in episodes]}
    for name in rows:
        write_table(layout.csv_path(directory, name), layout.COLUMNS[name], rows[name])
    for policy, weights, epsilon, returns in (("agent", layout.BEST, settings["eval_epsilon"], fresh),
                                              ("random", layout.RANDOM, 1.0, random)):
        if returns:
            write_table(layout.episodes_path(directory, weights), layout.EPISODE_COLUMNS,
                        [(policy, weights, i, episode_return, 9, epsilon, settings["flicker"], 0)
                         for i, episode_return in enumerate(returns)], line_end="\r\n")
    return directory


def write_table(path, columns, rows, line_end="\n"):
    """Write a CSV; Python's csv module, which evaluate.py uses, ends lines with CR and LF."""
    path.write_text("".join(",".join(map(str, row)) + line_end for row in [columns, *rows]), newline="")


def write_state(directory, vector_steps, **state):
    """Write the state and the weights of a checkpoint; both are no more than readers look at."""
    place = layout.checkpoint_path(directory, vector_steps)
    place.mkdir(parents=True)
    (place / layout.STATE).write_text(json.dumps(state))
    (place / layout.ONLINE).touch()


LOCK = """
import fcntl, sys
file = open(sys.argv[1], "a")
fcntl.lockf(file, fcntl.LOCK_EX)
print("locked", flush=True)
input()
"""


@contextlib.contextmanager
def hold_lock(directory, host):
    """Let another process hold the lock of a run during the block, as if it trained there, on `host`."""
    path = directory / layout.LOCK
    path.write_text(f"process 1 on {host}\n")
    holder = subprocess.Popen([sys.executable, "-c", LOCK, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              text=True)
    try:
        assert holder.stdout.readline() == "locked\n"
        yield
    finally:
        holder.kill()
        holder.communicate()


def write_learn(run, *agent_steps):
    """Write rows of 250 agent steps/s, and the beginning of one that is still being written."""
    columns, path = layout.COLUMNS["learn"], layout.csv_path(run, "learn")
    write_table(path, columns, [[step, *[0] * (len(columns) - 2), step / 250] for step in agent_steps])
    path.write_text(path.read_text() + "13")
