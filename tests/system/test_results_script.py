"""slurm/results.sh: which runs of a grid it plays again, without Slurm and without training."""

import os
import pathlib
import shutil
import subprocess

import pytest

import status
from helpers.analysed_runs import write_swept_run
from helpers.run_files import write_run
from storage import layout

ROOT = pathlib.Path(status.__file__).parent
TENTHS = [i / 10 for i in range(1, 11)]


@pytest.fixture
def call_results(tmp_path):
    """Return a function that calls results.sh and returns the arguments of evaluate.py; `python` only notes them."""
    (tmp_path / "slurm").mkdir()
    for name in "results.sh", "grid.sh":
        shutil.copy(ROOT / "slurm" / name, tmp_path / "slurm" / name)
    noting = tmp_path / "bin" / "python"
    noting.parent.mkdir()
    noting.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/called\n')
    noting.chmod(0o755)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").write_text(f"PATH={noting.parent}:$PATH\n")
    (tmp_path / "grid.csv").write_text("env\nCartPole-v1\n")

    def call():
        (tmp_path / "called").write_text("")
        done = subprocess.run(["bash", "slurm/results.sh", "grid.csv"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done
        lines = (tmp_path / "called").read_text().splitlines()
        return [line.removeprefix("evaluate.py --run_dir=runs/grid/") for line in lines if line.startswith("evaluate")]

    return call


def write_played_run(directory, episodes, probabilities=TENTHS, episodes_of_each=10):
    """Write a run with weights that are older than its episodes and its sweep."""
    fresh = write_run(directory.with_name("aside"), fresh=range(episodes))
    write_swept_run(directory, {p: range(episodes_of_each) for p in probabilities}, random=range(episodes_of_each))
    layout.episodes_path(fresh, "best").rename(layout.episodes_path(directory, "best"))
    shutil.rmtree(fresh)
    layout.weights_path(directory, "best").touch()
    os.utime(layout.weights_path(directory, "best"), (0, 0))
    return directory


SCORE, SWEEP = "run", "run --episodes=10 --observation_probabilities=0.1,...,1.0"


@pytest.mark.parametrize("played, again", [
    (dict(episodes=30), []), (dict(episodes=100), []), (dict(episodes=29), [SCORE]), (dict(episodes=2), [SCORE]),
    (dict(episodes=30, episodes_of_each=9), [SWEEP]),
    (dict(episodes=30, probabilities=[0, 0.5, 1], episodes_of_each=30), [SWEEP]),
    (dict(episodes=30, probabilities=[0.25, *TENTHS], episodes_of_each=30), [])])
def test_a_look_is_no_result_and_more_than_a_result_is_one(tmp_path, call_results, played, again):
    write_played_run(tmp_path / "runs/grid/run", **played)
    assert call_results() == again


def test_results_of_older_weights_are_made_again(tmp_path, call_results):
    run = write_played_run(tmp_path / "runs/grid/run", episodes=30)
    os.utime(layout.weights_path(run, "best"))
    for name in "episodes-best.csv", "observability.csv":
        os.utime(run / name, (1, 1))
    assert call_results() == [SCORE, SWEEP]
