"""Training that is killed again and again ends as one that nobody killed.

A file of its own, since it takes minutes and pytest deals out whole files.
"""

import csv
import signal
import subprocess
import sys

import pytest

from helpers.short_runs import ROOT


@pytest.mark.slow
def test_killed_at_random_moments_and_inside_checkpoints(tmp_path):
    command = [sys.executable, "-m", "benchmarks.kills", "--kills=24", f"--out={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    with open(tmp_path / "kills.csv") as file:
        rows = list(csv.DictReader(file))
    assert sum(row["exit"] == str(-signal.SIGKILL) for row in rows) == 24
    assert {row["run"] for row in rows if row["equal"] == "yes"} == {"CartPole", "Breakout", "Breakout-PQN"}
