"""Runs that are opened, filled and saved without training."""

import csv
import pathlib

import numpy as np

import replay
from storage import layout
from storage.run import Run

SETTINGS = dict(network="DRQN", env="CartPole-v1", maxsteps=100, seed=1, eval_period=10, checkpoint_period=10, units=8,
                gamma=0.99)
NUM_ENVS = 2
GENERATORS = {name: np.random.default_rng(seed).bit_generator.state
              for seed, name in enumerate(("exploration", "replay", "flicker"))}
STATE = dict(updates=0, evaluations=0, episodes=0, checked=0, best=None, seconds=0.5, returns=[], pending={}, phases={},
             generators=GENERATORS)  # what training saves beside the agent step


def open_run(directory, resume="auto", **changed):
    """Open a run whose settings are SETTINGS with changes."""
    return Run(directory, SETTINGS | changed, resume)


def make_small_replay(num_rows=20):
    return replay.Replay(num_rows * NUM_ENVS, NUM_ENVS, (3,), np.float32, 1, 1, "timestep", 0)


def fill_replay(ring, end):
    """Append rows up to `end`; row r holds the number r everywhere, and an episode has 5 rows."""
    for row in range(ring.end, end):
        number = np.full(NUM_ENVS, row)
        ring.append(np.full((NUM_ENVS, 3), row), number, number, number, first=np.full(NUM_ENVS, row % 5 == 0))


def save_run(run, ring, end):
    """Fill the replay to row `end`, write a row of train.csv, and write a checkpoint."""
    fill_replay(ring, end)
    write_episode(run, end)
    state, arrays = STATE | dict(agent_step=end * NUM_ENVS), [("value", np.arange(500) + end)]
    run.save(state, arrays, ring, lambda path: path.write(b"weights"))


def write_episode(run, agent_step):
    """Write a row of train.csv."""
    zeros = dict.fromkeys(layout.COLUMNS["train"], 0)
    run.row("train", **zeros | dict(agent_step=agent_step, episode_return=0.5))


def read_steps(directory):
    """Return the agent steps of train.csv."""
    with open(pathlib.Path(directory) / "train.csv") as file:
        return [int(row["agent_step"]) for row in csv.DictReader(file)]


def read_tree(directory):
    """Return {relative path: bytes} of every file in a folder."""
    directory = pathlib.Path(directory)
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def check_restores(run, end):
    """Assert that the run goes on at row `end`, with the state, the arrays and the replay that were saved there."""
    state = run.checkpoints.state
    assert state["replay_end"] == end and state["agent_step"] == end * NUM_ENVS
    np.testing.assert_array_equal(run.checkpoints.load_arrays()["value"], np.arange(500) + end)
    restored, expected = make_small_replay(), make_small_replay()
    fill_replay(expected, end)
    restored.restore(run.checkpoints.load_replay(), end)
    for name, column in expected.columns.items():
        np.testing.assert_array_equal(restored.columns[name], column, err_msg=name)
