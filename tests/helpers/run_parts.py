"""Runs that are opened, filled and saved without training."""

import csv
import pathlib

import numpy as np

import replay
from storage import layout
from storage.run import Run

SETTINGS = dict(network="DRQN", env="CartPole-v1", maxsteps=100, seed=1, eval_period=10, checkpoint_period=10, units=8, gamma=0.99)
NUM_ENVS = 2


def open_run(directory, resume="auto", **changed):
    return Run(directory, SETTINGS | changed, resume)


def make_small_replay(num_rows=20):
    return replay.Replay(num_rows * NUM_ENVS, NUM_ENVS, (3,), np.float32, 1, 1, "timestep", 0)


def fill(ring, end):
    """Append rows up to `end`, row r filled with the number r, an episode of 5 rows after the other."""
    for row in range(ring.end, end):
        everywhere = np.full(NUM_ENVS, row)
        ring.append(np.full((NUM_ENVS, 3), row), everywhere, everywhere, everywhere, np.full(NUM_ENVS, row % 5 == 0))


def save(run, ring, end):
    """Go on to row `end`, write a row of train.csv, and a checkpoint."""
    fill(ring, end)
    episode(run, end)
    run.save(dict(agent_step=end * NUM_ENVS), [("value", np.arange(500) + end)], ring, lambda path: path.write(b"weights"))


def episode(run, agent_step):
    zeros = dict.fromkeys(layout.COLUMNS["train"], 0)
    run.row("train", **zeros | dict(agent_step=agent_step, episode_return=0.5))


def steps_in_csv(directory):
    with open(pathlib.Path(directory) / "train.csv") as file:
        return [int(row["agent_step"]) for row in csv.DictReader(file)]


def tree(directory):
    """Return {relative path: bytes} of every file."""
    directory = pathlib.Path(directory)
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def check_restores(run, end):
    """Assert that the run goes on at row `end`, with the replay of then."""
    assert run.checkpoints.state["replay_end"] == end and run.checkpoints.state["agent_step"] == end * NUM_ENVS
    np.testing.assert_array_equal(run.checkpoints.load_arrays()["value"], np.arange(500) + end)
    restored, expected = make_small_replay(), make_small_replay()
    fill(expected, end)
    restored.restore(run.checkpoints.load_replay(), end)
    for name, column in expected.columns.items():
        np.testing.assert_array_equal(restored.columns[name], column, err_msg=name)
