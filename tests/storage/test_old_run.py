"""A run that an earlier version of this code made is still read, evaluated and drawn; it cannot go on.

old_run/ stopped at agent step 301 of 300. It has one checkpoint, and neither a lock nor events.
"""

import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

import evaluate
import plot
import train
from helpers.run_files import find_checked
from helpers.run_parts import read_tree
from storage import checkpoints, episodes, layout, reading, training

OLD_RUN = pathlib.Path(__file__).with_name("old_run")
FLAGS = """--network=DRQN --env=CartPole-v1 --units=8 --num_envs=4 --bufflen=240 --batch_size=4 --unroll=3 --flicker=0.3
    --learning_starts=60 --update_period=8 --target_period=50 --optimizer=adam --learning_rate=1e-2
    --epsilon_decay=linear:200steps --eval_period=100 --eval_episodes=2 --checkpoint_period=90""".split()


@pytest.fixture
def old_run(tmp_path, monkeypatch):
    """Return the path of a copy in an empty folder, the working directory."""
    monkeypatch.chdir(tmp_path)
    return pathlib.Path(shutil.copytree(OLD_RUN, "old_run"))


def test_its_files_have_the_names_of_today():
    names = {str(path.relative_to(OLD_RUN)) for path in OLD_RUN.rglob("*") if path.is_file()}
    assert names == {
        layout.CONFIG, "train.csv", "learn.csv", "eval.csv", "best.weights.h5", layout.segment_name(22, 82),
        *(f"checkpoints/000000082/{name}" for name in (layout.STATE, layout.ARRAYS, layout.ONLINE))}


def test_the_readers_read_it(old_run):
    (found, others) = find_checked([old_run])
    assert list(found) == [old_run] and not others and reading.newest_run(".") == old_run
    settings = found[old_run]
    assert (settings["network"], settings["env"], settings["maxsteps"]) == ("DRQN", "CartPole-v1", 300)
    assert {name: len(training.read_rows(old_run, name)["agent_step"]) for name in layout.COLUMNS} == {
        "train": 23, "learn": 1, "eval": 6}
    assert list(training.read_evaluations(old_run, settings)["episode_return"]) == [10, 10, 9]
    assert training.best_evaluation(old_run, settings) == (200, 10)
    assert not training.is_unfinished(old_run, settings, 301) and reading.is_locked(old_run) is False
    assert training.read_last_rows(old_run, "learn")["updates"] == [30]
    assert reading.read_saved_counts(old_run) == (301, 23)
    assert reading.find_weights(old_run, "best") == old_run / "best.weights.h5"
    assert reading.find_weights(old_run, "last") == old_run / "checkpoints/000000082/online.weights.h5"


def test_its_checkpoint_is_whole(old_run, capsys):
    whole = checkpoints.Checkpoints(old_run)
    whole.close()
    assert capsys.readouterr().err == ""
    assert (whole.state["agent_step"], whole.state["updates"], whole.state["replay_end"]) == (301, 30, 82)
    arrays = whole.load_arrays()
    assert {name.split("/")[0] for name in arrays} == {"agent", "rollout", "replay"}
    ((start, columns),) = whole.load_replay()
    assert start == 22 and columns["frame"].shape == (60, 4, 4) and np.isfinite(columns["frame"]).all()


@pytest.mark.parametrize("flags", [[], ["--maxsteps=400"], ["--units=16"]])
def test_going_on_is_refused_in_a_sentence_and_changes_no_file(old_run, capsys, flags):
    before = read_tree(old_run)
    assert train.main([*FLAGS, "--maxsteps=300", *flags, f"--run_dir={old_run}"]) == 2
    said = capsys.readouterr()
    assert said.err == (
        "train.py: old_run holds a run of an earlier version, which seeded all environments at once, so it cannot go "
        "on here; choose another --run_dir, or go on with the git commit that its config.json names, "
        f"{reading.read_config(old_run)['git_commit']}\n")
    assert read_tree(old_run) == before and said.out == ""


def test_its_best_weights_play(old_run, capsys):
    assert evaluate.main([f"--run_dir={old_run}"]) == 0
    assert "chosen at agent step 200 by evaluations' mean 10.00 (2 episodes)" in capsys.readouterr().out
    _, returns = episodes.read_episodes(layout.episodes_path(old_run, layout.BEST))
    assert len(returns) == 30 and (returns >= 8).all()  # CartPole's shortest episode takes 8 steps.
    assert len(episodes.read_random_play(old_run)) == 30


def test_it_is_drawn(old_run, capsys):
    assert plot.main([str(old_run), "--out=curves"]) == 0
    assert capsys.readouterr().out == "1 run drawn: curves.png and curves.svg.\n"
    with Image.open("curves.png") as image:
        colours = np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)
    assert len(colours) > 20  # of axes, a line and its label, with smooth edges
