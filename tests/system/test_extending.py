"""docs/extending.md: parts of a user's module are flags, and a trained agent is loaded in three lines."""

import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest

import train
from helpers.extending import EXTENDING, PYTHON, write_modules
from helpers.short_runs import ROOT

SHORT = """--env=CartPole-v1 --maxsteps=90 --units=8 --bufflen=400 --num_envs=2 --batch_size=4 --learning_starts=40
    --eval_period=40 --eval_episodes=2 --checkpoint_period=40""".split()


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """Write the modules of the page where the text says; return the flags of its command that names their parts."""
    write_modules(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (command,) = re.findall(r"^python train.py (.*my_parts:.*)$", EXTENDING.read_text(), re.M)
    yield shlex.split(command)
    sys.modules.pop("my_parts", None)


def test_parts_of_a_users_module_are_flags(parts):
    resolved = train.configure(parts)["settings"]
    assert (resolved["network"], resolved["optimizer"], resolved["loss"], resolved["learning_rate"]) == (
        "my_parts:Small", "my_parts:lion", "my_parts:log_cosh", 1e-5)
    assert (resolved["history"], resolved["unroll"]) == (1, 10)  # as of DRQN, on which Small builds


@pytest.mark.slow
def test_parts_of_a_users_module_are_trained_gone_on_with_and_evaluated(parts, capsys):
    assert train.main([*parts, *SHORT]) == train.main([*parts, *SHORT, "--maxsteps=150"]) == 0
    assert "Going on at agent step 90 of" in capsys.readouterr().out
    (run,) = pathlib.Path("runs").iterdir()
    command = [sys.executable, ROOT / "evaluate.py", "--episodes=2"]  # a process that knows nothing yet
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "my_parts:Small on CartPole-v1" in done.stdout, done.stderr
    (run / "my_parts.py").write_text(pathlib.Path("my_parts.py").read_text())  # A stranger's run brings its module.
    pathlib.Path("my_parts.py").unlink()
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("evaluate.py: --network=my_parts:Small cannot be used: there is no module my_parts; ")


def test_a_trained_agent_is_three_lines(tmp_path, monkeypatch, trained):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/notebook").symlink_to(trained / "cartpole")
    names = dict(frames=np.zeros((3, 1, 4), np.float32))
    exec(next(block for block in PYTHON if "import load" in block), names)
    assert names["actions"].shape == (3,) and [s.shape for s in names["state"]] == [(3, 8), (3, 8)]
