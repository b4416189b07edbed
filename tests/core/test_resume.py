"""Runs that were stopped, killed or raised, and go on equal to those that never were."""

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers import counting
from helpers.short_runs import (
    CARTPOLE,
    MAXSTEPS,
    NUM_ENVS,
    ONE_NETWORK,
    ROOT,
    arrays_of,
    assert_same_runs,
    checkpoint_of,
    kill_at,
    rows_of,
    stop_at,
    train_run,
)

import build
import rollout
import train
from storage import checkpoints, layout

pytestmark = pytest.mark.usefixtures("small_periods")

BREAKOUT = """--env=Breakout --network=DRQN --maxsteps=120 --units=8 --num_envs=2 --bufflen=80 --batch_size=2 --unroll=2
    --flicker=0.3 --sticky=0.25 --noops=5 --life_loss=terminal --max_episode_frames=200 --learning_starts=40 --update_period=16
    --target_period=60 --eval_period=80 --eval_episodes=2 --checkpoint_period=50""".split()


@pytest.fixture(scope="module", params=["DQN", "DRQN"])
def counted(request, small_periods, tmp_path_factory):
    """A run with everything that counts episodes and updates, never stopped (`whole`), and stopped and killed (`pieces`).

    Reseeds cut four episodes after every 20 vector steps: those do not count.

    Returns:
        dict of the folder, the whole run's Trainer, its agent's states seen at multiples of 3 episodes, the pieces' arrays when stopped.
    """
    folder, seen = tmp_path_factory.mktemp("counted"), {}
    arguments = [*CARTPOLE, f"--network={request.param}", "--sample=sequential", "--epsilon_decay=exp:3ep", "--epsilon_end=0",
                 "--lr_schedule=step:5u:0.5", "--weights_period=3", "--learning_starts=10"]
    step = train.Trainer._do_what_is_due

    def advance(self):
        step(self)
        for episodes in range(3, self.complete_episodes + 1, 3):
            seen.setdefault(f"{episodes:06d}.weights.h5", self.agent.get_state())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollout, "RESEED_PERIOD", 20)
        with patch.context() as watching:
            watching.setattr(train.Trainer, "_do_what_is_due", advance)
            run = train_run(arguments, folder / "whole")
        stop_at(131, arguments, folder / "pieces")
        stopped = arrays_of(folder / "pieces")
        kill_at(250, arguments, folder / "pieces")
        max((folder / "pieces/weights").iterdir()).unlink()  # of after the last checkpoint
        train_run(arguments, folder / "pieces")
    return dict(folder=folder, run=run, seen=seen, stopped=stopped)


def test_stopped_three_times_and_continued_equals_uninterrupted(again, tmp_path):
    for at_step in (30, 33, 201):  # Before learning starts, at once again, and in the middle of everything.
        assert at_step <= stop_at(at_step, again["arguments"], tmp_path).agent_step < at_step + NUM_ENVS
    train_run(again["arguments"], tmp_path)
    assert_same_runs(again["directory"], tmp_path)


def test_killed_and_continued_equals_uninterrupted(again, tmp_path):
    kill_at(250, again["arguments"], tmp_path)  # Well after the second checkpoint.
    assert train_run(again["arguments"], tmp_path).agent_step >= MAXSTEPS
    assert_same_runs(again["directory"], tmp_path)


def test_lanes_and_schedules_stopped_killed_and_continued_equal_uninterrupted_ones(counted):
    assert_same_runs(counted["folder"] / "whole", counted["folder"] / "pieces")
    assert sorted(counted["run"].agent.traces) == ["act", "learn"]
    stopped = counted["stopped"]
    assert stopped["replay/lanes"].shape == (2, 4) and stopped["replay/lanes"][0].max() > 0  # Some are in the middle of an episode,
    assert counted["run"].settings["network"] == "DQN" or (stopped["agent/window_state/0"] != 0).all()  # and so are their states.


def test_schedules_count_complete_episodes_and_updates(counted):
    rows = rows_of(counted["folder"] / "whole", "learn")
    ended = [(int(row["agent_step"]), int(row["cut"])) for row in rows_of(counted["folder"] / "whole", "train")]
    assert counted["run"].complete_episodes < len(ended)
    for row in rows:
        complete = sum(step <= int(row["agent_step"]) and not cut for step, cut in ended)
        assert float(row["epsilon"]) == pytest.approx(np.exp(-complete / 3))
        assert float(row["learning_rate"]) == pytest.approx(0.01 * 0.5 ** (int(row["updates"]) // 5))
    assert len({row["learning_rate"] for row in rows}) > 3


def test_weights_are_kept_at_the_first_step_at_or_past_each_multiple_of_episodes(counted):
    run, seen = counted["run"], counted["seen"]
    assert len(seen) == run.complete_episodes // 3 >= 5
    assert len({state["online/0"].tobytes() for state in seen.values()}) == len(seen)
    another = build.make_agent(run.settings, run.envs)
    for name in ("whole", "pieces"):
        kept = list((counted["folder"] / name / "weights").iterdir())
        assert {path.name for path in kept} == seen.keys()
        for path in kept:
            another.load_weights(path)
            now = another.get_state()
            assert all(np.array_equal(now[key], value) for key, value in seen[path.name].items() if key.startswith("online/")), path


def test_a_game_whose_maxsteps_is_raised_equals_one_that_never_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(rollout, "RESEED_PERIOD", 30)
    train_run(BREAKOUT, tmp_path / "whole")
    assert train_run([*BREAKOUT, "--maxsteps=72"], tmp_path / "pieces").agent_step == 72
    train_run(BREAKOUT, tmp_path / "pieces")
    assert_same_runs(tmp_path / "whole", tmp_path / "pieces")
    assert len(rows_of(tmp_path / "whole", "train")) > 0


def test_an_environment_that_does_not_come_out_where_it_was_goes_on_with_new_episodes(tmp_path, capsys):
    arguments = [*CARTPOLE, f"--env={counting.register(length=500, lawless=True)}", "--eval_period=1000"]
    train_run([*arguments, "--maxsteps=100"], tmp_path)
    run = train_run([*arguments, "--maxsteps=140"], tmp_path)
    said = capsys.readouterr().err
    assert "no function of its seed and actions" in said and said.count("\n") == 1
    assert run.agent_step == 140
    assert [(row["cut"], row["length"]) for row in rows_of(tmp_path, "train")] == [("1", "25")] * NUM_ENVS


def test_a_checkpoint_of_before_there_were_lanes_goes_on(tmp_path, monkeypatch):
    arguments = [*CARTPOLE, "--network=DQN", "--learning_starts=90", "--eval_period=1000"]
    train_run([*arguments, "--maxsteps=100"], tmp_path)
    load = checkpoints.Checkpoints.load_arrays
    monkeypatch.setattr(checkpoints.Checkpoints, "load_arrays",
                        lambda self: {name: array for name, array in load(self).items() if name != "replay/lanes"})
    assert train_run([*arguments, "--maxsteps=120"], tmp_path).updates == 3


def test_a_finished_run_says_so_and_stays_as_it_is(again, tmp_path, capsys):
    finished = shutil.copytree(again["directory"], tmp_path / "finished")
    read = lambda: {name: rows_of(finished, name) for name in layout.COLUMNS} | {"checkpoint": checkpoint_of(finished).name}
    before = read()
    run = train_run(again["arguments"], finished)
    assert re.search(r"is finished: 30\d of 300 agent steps. Raise --maxsteps", capsys.readouterr().out)
    assert run.agent_step == again["run"].agent_step
    assert read() == before


# What does not go on


@ONE_NETWORK
def test_weights_of_another_network_are_refused(whole, tmp_path, capsys):
    run = shutil.copytree(whole["directory"], tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config["settings"]["units"] = 9  # As if someone had edited it to try.
    (run / "config.json").write_text(json.dumps(config))
    assert train.main([*whole["arguments"], f"--run_dir={run}", "--units=9"]) == 2
    said = capsys.readouterr().err
    assert re.search(r"the checkpoint's online/\d+ has shape .*; expected ", said) and said.count("\n") == 1


def test_other_settings_and_never_are_refused_by_name(whole, capsys):
    read = lambda: {path: path.read_bytes() for path in whole["directory"].rglob("*") if path.is_file()}
    before, arguments = read(), [*whole["arguments"], f"--run_dir={whole['directory']}"]
    assert train.main([*arguments, "--units=9", "--flicker=0.4", "--maxsteps=400"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "--flicker was 0.3 and is now 0.4, --units was 8 and is now 9" in said and "maxsteps" not in said
    assert train.main([*arguments, "--resume=never"]) == 2
    assert "not empty" in capsys.readouterr().err
    assert read() == before


# Real processes


def command(arguments, directory):
    return [sys.executable, str(ROOT / "train.py"), *arguments, f"--run_dir={directory}"]


def check_ctrl_c(arguments, directory, num_rows):
    """Stop a real process by SIGINT once train.csv has `num_rows` rows, continue it, and compare with one that never stopped."""
    stopped = subprocess.Popen(command(arguments, directory / "pieces"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        rows = directory / "pieces" / "train.csv"
        while stopped.poll() is None and not (rows.exists() and rows.read_text().count("\n") > num_rows):
            time.sleep(0.02)
        stopped.send_signal(signal.SIGINT)
        said, complaints = stopped.communicate(timeout=300)
    finally:
        stopped.kill()
    assert stopped.returncode == 128 + signal.SIGINT, complaints
    assert "Go on with the same command" in said and f"--run_dir={directory}" in said and "Traceback" not in complaints
    continued = subprocess.run(command(arguments, directory / "pieces"), capture_output=True, text=True, timeout=300)
    assert continued.returncode == 0, continued.stderr
    assert "Going on at agent step" in continued.stdout
    subprocess.run(command(arguments, directory / "whole"), check=True, capture_output=True, timeout=300)
    assert_same_runs(directory / "whole", directory / "pieces")


@pytest.mark.slow
@pytest.mark.parametrize("network", ["DQN", "DRQN"])
def test_ctrl_c_in_a_terminal_and_the_same_command_again(tmp_path, network):
    check_ctrl_c([*CARTPOLE, f"--network={network}", "--maxsteps=2500", "--bufflen=2000"], tmp_path, num_rows=20)


@pytest.mark.slow
def test_ctrl_c_during_a_game_and_the_same_command_again(tmp_path):
    check_ctrl_c([*BREAKOUT, "--maxsteps=3000", "--bufflen=1600", "--checkpoint_period=700", "--eval_period=900"], tmp_path, num_rows=8)


@pytest.mark.slow
def test_killed_at_random_moments_and_inside_checkpoints(tmp_path):
    done = subprocess.run([sys.executable, str(ROOT / "benchmarks/kills.py"), "--kills=12", f"--out={tmp_path}"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    with open(tmp_path / "kills.csv") as file:
        rows = list(csv.DictReader(file))
    assert sum(row["exit"] == str(-signal.SIGKILL) for row in rows) == 12
    assert {row["run"] for row in rows if row["equal"] == "yes"} == {"CartPole", "Breakout"}
