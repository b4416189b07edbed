"""README's "Make it yours": its blocks of Python are run as they stand, only smaller."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

import agent
import models
import train

ROOT = pathlib.Path(train.__file__).parent
SECTION = (ROOT / "README.md").read_text().partition("\n## Make it yours\n")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"^```python\n(.*?)^```$", SECTION, re.M | re.S)
TINY = """--maxsteps=90 --units=8 --bufflen=400 --num_envs=2 --batch_size=4 --learning_starts=40 --eval_period=40 --eval_episodes=2
    --checkpoint_period=40 --max_episode_frames=120""".split()


def test_its_blocks_are_short():
    assert len(BLOCKS) == 5
    assert max(len([line for line in block.splitlines() if line.strip()]) for block in BLOCKS) < 20


@pytest.mark.slow
@pytest.mark.parametrize("number, network, directory", [
    (1, "DRQN_small", "runs/Pong-DRQN_small-*"), (2, "GRU", "runs/CartPolePosition-v0-GRU-*"), (3, "DRQN", "runs/*optimizer=lion*"),
    (4, "DRQN", "runs/notebook")])
def test_a_block_trains_what_it_defines(number, network, directory, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for module, table in (models, "NETWORKS"), (agent, "OPTIMIZERS"):
        monkeypatch.setattr(module, table, dict(getattr(module, table)))
    trained, configure, run = [], train.configure, train.train
    monkeypatch.setattr(train, "configure", lambda arguments: configure([*arguments, *TINY]))
    monkeypatch.setattr(train, "train", lambda config: trained.append(run(config)) or trained[-1])
    exec(BLOCKS[number], {})
    assert (trained[0].settings["network"], trained[0].updates) == (network, 12)
    assert [str(path) for path in pathlib.Path().glob(directory)] == [str(trained[0].storage.directory)]
    assert trained[0].evaluations == 2 and np.isfinite(trained[0].best)


@pytest.fixture
def env(tmp_path, monkeypatch):
    """Write the module of README's environment where the text says; return the flag that names it."""
    (tmp_path / BLOCKS[0].partition("\n")[0].removeprefix("# ")).write_text(BLOCKS[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return re.search(r"--env=\w+:[\w-]+", SECTION)[0]


def test_an_environment_of_a_users_module_is_known_by_its_whole_name(env):
    assert train.configure([env])["settings"]["env"] == "my_envs:Recall-v0"
    for wrong in "no_such_module:Recall-v0", "my_envs:Recal-v0":
        with pytest.raises(ValueError, match=f"--env={wrong} is neither an ALE game nor a registered Gymnasium id .*(No module|Recal)"):
            train.configure([f"--env={wrong}"])


@pytest.mark.slow
def test_an_environment_of_a_users_module_is_trained_gone_on_with_and_evaluated(env, tmp_path, capsys):
    assert train.main([env, *TINY]) == train.main([env, *TINY, "--maxsteps=150"]) == 0
    assert "Going on at agent step 90 of" in capsys.readouterr().out
    (run,) = (tmp_path / "runs").iterdir()
    done = subprocess.run([sys.executable, ROOT / "evaluate.py", "--episodes=2"], capture_output=True, text=True)  # knows nothing yet
    assert done.returncode == 0 and "my_envs:Recall-v0" in done.stdout, done.stderr
    assert {line.split(",")[3] for line in (run / "episodes-best.csv").read_text().splitlines()[1:]} <= {"0.0", "1.0"}
