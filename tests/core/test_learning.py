"""Agents that the commands of README train learn CartPole, which proves all other parts together."""

import csv
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("network", ["DQN", "DRQN"])
def test_cartpole_is_solved_by_the_preset(network, tmp_path):
    directory = tmp_path / "run"
    run_script = lambda *command: subprocess.run(
        [sys.executable, *command, f"--run_dir={directory}"], cwd=ROOT, check=True)
    run_script("train.py", "--flagfile=presets/cartpole.flags", f"--network={network}")
    run_script("evaluate.py", "--episodes=100", "--epsilon=0")
    with open(directory / "episodes-best-episodes=100.csv", newline="") as file:
        returns = [float(row["episode_return"]) for row in csv.DictReader(file)]
    assert len(returns) == 100
    assert np.mean(returns) >= 450, f"mean return {np.mean(returns):.1f} of the best checkpoint"
