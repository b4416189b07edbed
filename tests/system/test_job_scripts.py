"""The batch scripts of slurm/ in a repository whose path has spaces, without Slurm and without training."""

import json
import pathlib
import shutil
import subprocess
import sys

import pytest

import status

ROOT = pathlib.Path(status.__file__).parent
NOTING = """#!{python}
import json, sys
with open({called!r}, "a") as file:
    print(json.dumps(sys.argv[1:]), file=file)
"""


@pytest.fixture
def repository(tmp_path):
    """Return a repository with scripts of slurm/, whose `python` only notes its arguments in `called`."""
    folder = tmp_path / "my own repository"
    shutil.copytree(ROOT / "slurm", folder / "slurm", symlinks=True)
    (folder / "bin").mkdir()
    (folder / "bin/python").write_text(NOTING.format(python=sys.executable, called=str(folder / "called")))
    (folder / "bin/python").chmod(0o755)
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/bin/activate").write_text('PATH=$PWD/bin:$PATH\n')
    (folder / "called").write_text("")
    return folder


def read_calls(repository):
    return [json.loads(line) for line in (repository / "called").read_text().splitlines()]


@pytest.mark.parametrize("script, network", [("drqn.sh", "DRQN"), ("dqn.sh", "DQN")])
@pytest.mark.parametrize("arguments", [[], ["--env=Pong", "--jid=two words"]])
def test_a_job_finds_its_script_in_a_path_with_spaces(repository, tmp_path, script, network, arguments):
    """Slurm runs a copy from elsewhere, and scontrol prints path and arguments with spaces between them."""
    copy = shutil.copy(ROOT / "slurm/drqn.sh", tmp_path / "slurm_script")
    command = " ".join([str(repository / "slurm" / script), *arguments])
    scontrol = repository / "bin/scontrol"
    scontrol.write_text(f"#!/bin/sh\ncat <<'END'\nJobId=7 JobName={script}\n   Command={command}\n   WorkDir=/\nEND\n")
    scontrol.chmod(0o755)
    environment = dict(PATH=f"{repository / 'bin'}:/usr/bin:/bin", SLURM_JOB_ID="7")
    done = subprocess.run(["bash", copy, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done
    assert read_calls(repository) == [
        ["train.py", f"--network={network}", "--env=Frostbite", "--maxsteps=10000000", *arguments]]


def submit_grid(repository, sbatch):
    """Call grid.sh for a grid of a row, with a program sbatch or without; return what came of it."""
    (repository / "my grid.csv").write_text("env\nCartPole-v1\n")
    if sbatch:
        (repository / "bin/sbatch").write_text('#!/bin/sh\necho "$@" >> submitted; echo 7\n')
        (repository / "bin/sbatch").chmod(0o755)
    environment = dict(PATH=f"{repository / 'bin'}:/usr/bin:/bin") if sbatch else dict(PATH=str(repository / "tools"))
    if not sbatch:  # A machine with Slurm has it in /usr/bin.
        (repository / "tools").mkdir()
        for tool in "bash", "realpath", "dirname", "basename":
            (repository / "tools" / tool).symlink_to(shutil.which(tool))
    return subprocess.run(["bash", "slurm/grid.sh", "my grid.csv", "-j", "3"], cwd=repository, env=environment,
                          capture_output=True, text=True)


def test_a_grid_without_slurm_is_told_the_command_that_does_the_same(repository):
    done = submit_grid(repository, sbatch=False)
    assert done.returncode == 2 and done.stderr == (
        "There is no sbatch, so no Slurm, on this machine; here slurm/grid_local.sh my grid.csv -j 3 does the same\n")
    assert read_calls(repository) == []


@pytest.mark.parametrize("code", [0, 2])
def test_a_grid_is_checked_before_it_is_submitted(repository, code):
    python = repository / "bin/python"
    python.write_text(python.read_text() + f"sys.exit({code} if '--cost' in sys.argv else 0)\n")
    done = submit_grid(repository, sbatch=True)
    assert done.returncode == code, done
    assert read_calls(repository)[0] == ["status.py", str(repository / "my grid.csv"), "--cost"]
    assert (repository / "submitted").exists() == (code == 0)


def test_results_are_made_of_runs_whatever_their_names(repository):
    grid = repository / "my grid.csv"
    grid.write_text("env\nCartPole-v1\n")
    names = ["one", "two words", "it's", 'a"quote', "$(touch broken)"]
    for name in names:
        run = repository / "runs/my grid" / name
        run.mkdir(parents=True)
        (run / "config.json").write_text("{}")
    done = subprocess.run(["bash", "slurm/results.sh", str(grid)], cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done
    calls = [call for call in read_calls(repository) if call[0] == "evaluate.py" and len(call) == 2]  # no sweeps
    assert sorted(calls) == sorted(["evaluate.py", f"--run_dir=runs/my grid/{name}"] for name in names)
    assert not (repository / "broken").exists()
