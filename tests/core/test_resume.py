"""Runs that were stopped or killed, or whose limit was raised, go on equal to runs that never stopped."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time

from launch import build

import numpy as np
import pytest

import rollout
import train
from helpers import counting
from helpers.short_runs import (
    CARTPOLE,
    LEARNING_STARTS,
    MAXSTEPS,
    NUM_ENVS,
    ONE_NETWORK,
    ROOT,
    UPDATE_PERIOD,
    arrays_of,
    assert_same_runs,
    checkpoint_of,
    kill_at,
    rows_without_seconds,
    stop_at,
    train_run,
)
from storage import layout

pytestmark = pytest.mark.usefixtures("small_periods")

BREAKOUT = """--env=Breakout --network=DRQN --maxsteps=120 --units=8 --num_envs=2 --bufflen=80 --batch_size=2 --unroll=2
    --flicker=0.3 --sticky=0.25 --noops=5 --life_loss=terminal --max_episode_frames=200 --learning_starts=40
    --update_period=16 --target_period=60 --eval_period=80 --eval_episodes=2 --checkpoint_period=50""".split()


@pytest.fixture(scope="module", params=["DQN", "DRQN"])
def counted(request, small_periods, tmp_path_factory):
    """Train the same run twice, with all schedules and periods that count episodes or updates.

    `whole` never stops; `pieces` is stopped, killed and continued. Environments get new seeds after every 20 vector
    steps.

    Returns:
        dict(folder: of both runs; run: Trainer of `whole`; seen: {file in weights/: state of its agent then};
        stopped: arrays of the checkpoint where `pieces` was stopped).
    """
    folder, seen = tmp_path_factory.mktemp("counted"), {}
    arguments = [*CARTPOLE, f"--network={request.param}", "--sample=sequential", "--epsilon_decay=exp:3ep",
                 "--epsilon_end=0", "--lr_schedule=step:5u:0.5", "--weights_period=3", "--learning_starts=10"]
    do_what_is_due = train.Trainer._do_what_is_due

    def recording(self):
        do_what_is_due(self)
        for episodes in range(3, self.episodes + 1, 3):
            seen.setdefault(f"{episodes:06d}.weights.h5", self.agent.get_state())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollout, "RESEED_PERIOD", 20 * NUM_ENVS)
        with patch.context() as watching:
            watching.setattr(train.Trainer, "_do_what_is_due", recording)
            run = train_run(arguments, folder / "whole")
        stop_at(131, arguments, folder / "pieces")
        stopped = arrays_of(folder / "pieces")
        kill_at(250, arguments, folder / "pieces")
        max((folder / "pieces/weights").iterdir()).unlink()  # These are newer than the last checkpoint.
        train_run(arguments, folder / "pieces")
    return dict(folder=folder, run=run, seen=seen, stopped=stopped)


def test_stopped_three_times_and_continued_equals_uninterrupted(again, tmp_path):
    for at_step in (30, 33, 201):  # before learning starts, soon again, and while learning
        assert at_step <= stop_at(at_step, again["arguments"], tmp_path).agent_step < at_step + NUM_ENVS
    train_run(again["arguments"], tmp_path)
    assert_same_runs(again["directory"], tmp_path)


def test_killed_and_continued_equals_uninterrupted(again, tmp_path):
    kill_at(250, again["arguments"], tmp_path)  # long after the second checkpoint
    assert train_run(again["arguments"], tmp_path).agent_step >= MAXSTEPS
    assert_same_runs(again["directory"], tmp_path)


def test_lanes_and_schedules_stopped_killed_and_continued_equal_uninterrupted_ones(counted):
    assert_same_runs(counted["folder"] / "whole", counted["folder"] / "pieces")
    assert sorted(counted["run"].agent.traces) == ["act", "learn"]
    stopped = counted["stopped"]
    # When the run was stopped, some lanes were in the middle of an episode, and so were their states.
    assert stopped["replay/lanes"].shape == (2, 4) and stopped["replay/lanes"][0].max() > 0
    assert counted["run"].settings["network"] == "DQN" or (stopped["agent/window_state/0"] != 0).all()


def test_schedules_count_episodes_and_updates(counted):
    rows, episodes = (rows_without_seconds(counted["folder"] / "whole", name) for name in ("learn", "train"))
    assert counted["run"].episodes == len(episodes) and counted["run"].rollout.num_seeds.min() > 1
    for row in rows:
        ended = sum(int(episode["agent_step"]) <= int(row["agent_step"]) for episode in episodes)
        assert float(row["epsilon"]) == pytest.approx(np.exp(-ended / 3))
        assert float(row["learning_rate"]) == pytest.approx(0.01 * 0.5 ** (int(row["updates"]) // 5))
    assert len({row["learning_rate"] for row in rows}) > 3


def test_weights_are_kept_at_the_first_step_at_or_past_each_multiple_of_episodes(counted):
    run, seen = counted["run"], counted["seen"]
    assert len(seen) == run.episodes // 3 >= 5
    assert len({state["online/0"].tobytes() for state in seen.values()}) == len(seen)
    another = build.make_agent(run.settings, run.envs)
    for name in ("whole", "pieces"):
        kept = list((counted["folder"] / name / "weights").iterdir())
        assert {path.name for path in kept} == seen.keys()
        for path in kept:
            another.load_weights(path)
            loaded = another.get_state()
            assert all(np.array_equal(loaded[key], value) for key, value in seen[path.name].items()
                       if key.startswith("online/")), path


def test_a_game_whose_maxsteps_is_raised_equals_one_that_never_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(rollout, "RESEED_PERIOD", 40)
    assert train_run(BREAKOUT, tmp_path / "whole").rollout.num_seeds.tolist() == [2, 2]
    assert train_run([*BREAKOUT, "--maxsteps=72"], tmp_path / "pieces").agent_step == 72
    train_run(BREAKOUT, tmp_path / "pieces")
    assert_same_runs(tmp_path / "whole", tmp_path / "pieces")
    assert len(rows_without_seconds(tmp_path / "whole", "train")) > 0


def test_an_environment_that_cannot_be_restored_goes_on_with_new_episodes(tmp_path, capsys):
    arguments = [*CARTPOLE, f"--env={counting.register(length=500, lawless=True)}", "--eval_period=1000"]
    train_run([*arguments, "--maxsteps=100"], tmp_path)
    run = train_run([*arguments, "--maxsteps=140"], tmp_path)
    error = capsys.readouterr().err
    assert "no function of its seed and actions" in error and error.count("\n") == 1
    assert run.agent_step == 140
    assert rows_without_seconds(tmp_path, "train") == []  # The episodes that ran are dropped.
    assert run.rollout.length.tolist() == [10] * NUM_ENVS and run.rollout.num_seeds.tolist() == [2] * NUM_ENVS
    firsts = run.replay.columns["start"]  # the row of its episode's first
    assert (firsts[25] == 0).all() and (firsts[26:37] == 26).all()


def test_a_finished_run_says_so_and_stays_as_it_is(again, tmp_path, capsys):
    finished = shutil.copytree(again["directory"], tmp_path / "finished")
    read_files = lambda: [checkpoint_of(finished).name, *(rows_without_seconds(finished, n) for n in layout.COLUMNS)]
    before = read_files()
    run = train_run(again["arguments"], finished)
    assert re.search(r"is finished: 30\d of 300 agent steps. Raise --maxsteps", capsys.readouterr().out)
    assert run.agent_step == again["run"].agent_step
    assert read_files() == before


@ONE_NETWORK
def test_a_run_whose_older_replay_is_damaged_goes_on_with_what_is_left_of_it(again, tmp_path, capsys):
    run = shutil.copytree(again["directory"], tmp_path / "run")
    named = [{segment["name"] for segment in json.loads((place / layout.STATE).read_text())["segments"]}
             for place in (run / layout.CHECKPOINTS).iterdir()]
    (run / min(set.intersection(*named))).write_bytes(b"damaged")
    arguments = [*again["arguments"], "--maxsteps=400", f"--run_dir={run}"]
    assert train.main(arguments) == 2
    said = capsys.readouterr().err
    left = int(re.search(r"or go on with --resume=partial .* still has its newest (\d+) rows$", said)[1])
    assert said.count("\n") == 1 and 10 < left < 60
    assert train.main([*arguments, "--resume=partial"]) == 0
    said = capsys.readouterr()
    assert f"going on with the newest {left} rows of the replay" in said.err and "is finished: 40" in said.out
    rows = rows_without_seconds(run, "learn")
    assert [int(row["agent_step"]) // 70 for row in rows] == [1, 2, 3, 4, 5, 5]
    assert int(rows[-1]["updates"]) == (400 - LEARNING_STARTS) // UPDATE_PERIOD and np.isfinite(float(rows[-1]["loss"]))
    assert train_run([*again["arguments"], "--maxsteps=420"], run).agent_step >= 420  # from a whole checkpoint
    assert capsys.readouterr().err == ""


# Refused settings


@ONE_NETWORK
def test_weights_of_another_network_are_refused(whole, tmp_path, capsys):
    run = shutil.copytree(whole["directory"], tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config["settings"]["units"] = 9  # as if someone had edited the file
    (run / "config.json").write_text(json.dumps(config))
    assert train.main([*whole["arguments"], f"--run_dir={run}", "--units=9", "--maxsteps=400"]) == 2
    error = capsys.readouterr().err
    assert re.search(r"the checkpoint's online/\d+ has shape .*; expected ", error) and error.count("\n") == 1


def test_other_settings_are_refused_by_name_and_so_is_resume_never(whole, capsys):
    read_files = lambda: {path: path.read_bytes() for path in whole["directory"].rglob("*") if path.is_file()}
    before, arguments = read_files(), [*whole["arguments"], f"--run_dir={whole['directory']}"]
    assert train.main([*arguments, "--units=9", "--flicker=0.4", "--maxsteps=400"]) == 2
    error = capsys.readouterr().err
    assert "--flicker was 0.3 and is now 0.4, --units was 8 and is now 9" in error
    assert error.count("\n") == 1 and "maxsteps" not in error
    assert train.main([*arguments, "--resume=never"]) == 2
    assert "not empty" in capsys.readouterr().err
    assert read_files() == before


# Real processes


def train_command(arguments, directory):
    """Return the command of a run as a list for subprocess."""
    return [sys.executable, str(ROOT / "train.py"), *arguments, f"--run_dir={directory}"]


def check_ctrl_c(arguments, directory, num_rows):
    """Stop a real process by SIGINT, continue it, and compare it with a process that never stopped.

    Args:
        num_rows: of train.csv, which it has when it is stopped.
    """
    command = train_command(arguments, directory / "pieces")
    stopped = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        rows = directory / "pieces" / "train.csv"
        while stopped.poll() is None and not (rows.exists() and rows.read_text().count("\n") > num_rows):
            time.sleep(0.02)
        stopped.send_signal(signal.SIGINT)
        output, error = stopped.communicate(timeout=300)
    finally:
        stopped.kill()
    assert stopped.returncode == 128 + signal.SIGINT, error
    assert "Go on with the same command" in output and f"--run_dir={directory}" in output and "Traceback" not in error
    continued = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert continued.returncode == 0, continued.stderr
    assert "Going on at agent step" in continued.stdout
    subprocess.run(train_command(arguments, directory / "whole"), check=True, capture_output=True, timeout=300)
    assert_same_runs(directory / "whole", directory / "pieces")


@pytest.mark.slow
@pytest.mark.parametrize("network", ["DQN", "DRQN"])
def test_ctrl_c_in_a_terminal_and_the_same_command_again(tmp_path, network):
    check_ctrl_c([*CARTPOLE, f"--network={network}", "--maxsteps=2500", "--bufflen=2000"], tmp_path, num_rows=20)


@pytest.mark.slow
def test_ctrl_c_during_a_game_and_the_same_command_again(tmp_path):
    longer = ["--maxsteps=3000", "--bufflen=1600", "--checkpoint_period=700", "--eval_period=900"]
    check_ctrl_c([*BREAKOUT, *longer], tmp_path, num_rows=8)
