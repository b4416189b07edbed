"""docs/extending.md: parts of a user's module are flags, and a trained agent is loaded in three lines."""

import pathlib
import re
import shlex
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest

import choices
import train
from helpers.extending import EXTENDING, PYTHON, write_modules
from helpers.short_runs import ROOT
from storage import training

TINY = """--maxsteps=90 --units=8 --bufflen=400 --num_envs=2 --batch_size=4 --learning_starts=40 --eval_period=40
    --eval_episodes=2 --checkpoint_period=40 --max_episode_frames=120""".split()
SHORT = ["--env=CartPole-v1", *TINY[:-1]]


@pytest.fixture
def beside_modules(tmp_path, monkeypatch):
    """Write the modules of the page where the text says, and work there."""
    write_modules(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.fixture
def parts(beside_modules):
    """Return the flags of the page's command that names parts of a module."""
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


def test_its_blocks_are_short():
    assert len(PYTHON) == 7
    assert max(len([line for line in block.splitlines() if line.strip()]) for block in PYTHON) < 20


@pytest.mark.slow
@pytest.mark.parametrize("number, network, directory, extra", [
    (1, "DRQN_small", "runs/Pong-DRQN_small-*", TINY), (2, "GRU", "runs/DelayedCue-v0-GRU-delayed_cue-*", ()),
    (3, "DRQN", "runs/*optimizer=lion*", ()), (6, "DRQN", "runs/notebook", ())])
def test_a_block_trains_what_it_defines_to_the_return_that_the_page_promises(
        number, network, directory, extra, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "presets").symlink_to(ROOT / "presets")
    trained, configure, run = [], train.configure, train.train
    monkeypatch.setattr(train, "configure", lambda arguments: configure([*arguments, *extra]))
    monkeypatch.setattr(train, "train", lambda config: trained.append(run(config)) or trained[-1])
    with mock.patch.dict(choices.NETWORKS), mock.patch.dict(choices.OPTIMIZERS):
        exec(PYTHON[number], {})
    settings = trained[0].settings
    updates = (settings["maxsteps"] - settings["learning_starts"]) // settings["update_period"]
    assert settings["network"] == network and 0 <= trained[0].updates - updates <= 1
    assert [str(path) for path in pathlib.Path().glob(directory)] == [str(trained[0].storage.directory)]
    assert np.isfinite(trained[0].best) if extra else trained[0].best == 1.0


@pytest.fixture
def env(beside_modules):
    """Return the flag that names the page's environment."""
    return re.search(r"--env=\w+:[\w-]+", EXTENDING.read_text())[0]


def test_an_environment_of_a_users_module_is_known_by_its_whole_name(env):
    assert env == "--env=my_envs:Recall-v0" and train.configure([env])["settings"]["env"] == "my_envs:Recall-v0"
    for wrong, reason in [("no_such_module:Recall-v0", "cannot be used: there is no module no_such_module; PYTHON"),
                          ("my_envs:Recal-v0", "is neither an ALE game nor a registered Gymnasium id .*Recal")]:
        sentence = f"--env={wrong} {reason}"
        with pytest.raises(ValueError, match=sentence):
            train.configure([f"--env={wrong}"])


@pytest.mark.slow
def test_the_environment_of_the_page_is_learned_by_its_command(env, tmp_path):
    (command,) = re.findall(r"^python train.py (.*my_envs:.*)$", EXTENDING.read_text(), re.M)
    assert env in command and train.main(shlex.split(command)) == 0
    evaluations = training.read_rows(next((tmp_path / "runs").iterdir()), "eval")
    last = evaluations["evaluation"] == max(evaluations["evaluation"])
    assert set(evaluations["episode_return"][last]) == {1.0}


@pytest.mark.slow
def test_an_environment_of_a_users_module_is_trained_gone_on_with_and_evaluated(env, tmp_path, capsys):
    assert train.main([env, *TINY]) == train.main([env, *TINY, "--maxsteps=150"]) == 0
    assert "Going on at agent step 90 of" in capsys.readouterr().out
    (run,) = (tmp_path / "runs").iterdir()
    command = [sys.executable, ROOT / "evaluate.py", "--episodes=2"]  # a process that knows nothing yet
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "my_envs:Recall-v0" in done.stdout, done.stderr
    rows = run / "episodes-best-episodes=2.csv"
    assert {line.split(",")[3] for line in rows.read_text().splitlines()[1:]} <= {"0.0", "1.0"}
