"""The whole run: what a short one leaves behind, the same again, stopped and continued, and everything that is refused."""

import csv
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import agent
import checkpoints
import disks
import job
import models
import replay
import rollout
import runs
import train
import trainer
import wrappers

ROOT = pathlib.Path(__file__).parent.parent
MAXSTEPS, LEARNING_STARTS, UPDATE_PERIOD, NUM_ENVS = 300, 60, 8, 4
CARTPOLE = f"""--env=CartPole-v1 --maxsteps={MAXSTEPS} --units=8 --num_envs={NUM_ENVS} --bufflen=240 --batch_size=4 --unroll=3 --flicker=0.3
    --learning_starts={LEARNING_STARTS} --update_period={UPDATE_PERIOD} --target_period=50 --optimizer=adam --learning_rate=1e-2
    --epsilon_decay=linear:200steps --eval_period=100 --eval_episodes=2 --checkpoint_period=90""".split()
BREAKOUT = """--env=Breakout --network=DRQN --maxsteps=160 --units=16 --num_envs=4 --bufflen=120 --batch_size=4 --unroll=3
    --flicker=0.3 --sticky=0.25 --noops=5 --life_loss=terminal --max_episode_frames=200 --learning_starts=60 --update_period=16
    --target_period=100 --eval_period=120 --eval_episodes=2 --checkpoint_period=90""".split()


@pytest.fixture(scope="module", autouse=True)
def small_periods():
    """Make every period of a run happen within a few hundred agent steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "LEARN_PERIOD", 70)
        patch.setattr(checkpoints, "SEGMENT_TIMESTEPS", 16 * NUM_ENVS)
        yield


ONE_NETWORK = pytest.mark.parametrize("whole", ["DRQN"], indirect=True)  # where a second would show nothing new


def go(arguments, directory):
    return train.train(train.configure([*arguments, f"--run_dir={directory}"]))


def rows_of(directory, name):
    """Return the rows of a csv, columns of seconds aside."""
    with open(pathlib.Path(directory) / f"{name}.csv") as file:
        return [{column: value for column, value in row.items() if "seconds" not in column} for row in csv.DictReader(file)]


def checkpoint_of(directory):
    return sorted((pathlib.Path(directory) / "checkpoints").glob("[0-9]*"))[-1]


def arrays_of(directory):
    with np.load(checkpoint_of(directory) / "arrays.npz") as arrays:
        return dict(arrays)


def assert_same_runs(one, two, names=("train", "learn", "eval")):
    for name in names:
        assert rows_of(one, name) == rows_of(two, name), name
    a, b = arrays_of(one), arrays_of(two)
    assert a.keys() == b.keys() and any(name.startswith("agent/optimizer") for name in a)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


class Reads(dict):
    """A dict that remembers which of its keys were asked for."""

    def __init__(self, *args):
        super().__init__(*args)
        self.read = set()

    def __getitem__(self, key):
        self.read.add(key)
        return super().__getitem__(key)


# One short run of each network, looked at from all sides. DRQN's starts its environments anew every 20 vector steps.


@pytest.fixture(scope="module", params=["DQN", "DRQN"])
def whole(request, tmp_path_factory):
    """An uninterrupted run: its arguments, directory, Trainer, updates' agent steps, and counts of rows."""
    reseed_period = dict(DQN=rollout.RESEED_PERIOD, DRQN=20)[request.param]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollout, "RESEED_PERIOD", reseed_period)
        updates, rows, syncs = [], [], []
        update, append, init = trainer.Trainer._update, replay.Replay.append, agent.Agent.__init__
        patch.setattr(trainer.Trainer, "_update", lambda self: updates.append(self.agent_step) or update(self))
        patch.setattr(replay.Replay, "append", lambda self, **row: rows.append(row["first"].copy()) or append(self, **row))

        def counting_syncs(self, *args, **kwargs):
            init(self, *args, **kwargs)
            copy, self.sync_target = self.sync_target, lambda: syncs.append(len(rows)) or copy()
        patch.setattr(agent.Agent, "__init__", counting_syncs)
        arguments, directory = [*CARTPOLE, f"--network={request.param}"], tmp_path_factory.mktemp(request.param)
        config = train.configure([*arguments, f"--run_dir={directory}"])
        config["settings"] = settings = Reads(config["settings"])
        run = train.train(config)
    return dict(arguments=arguments, directory=directory, run=run, updates=updates, first=np.array(rows), syncs=syncs,
                read=set(settings.read), reseed_period=reseed_period)


@pytest.fixture
def again(whole, monkeypatch):
    """Whatever runs in this test starts its environments anew as often as `whole` did."""
    monkeypatch.setattr(rollout, "RESEED_PERIOD", whole["reseed_period"])
    return whole


def test_training_changes_the_weights(whole):
    run = whole["run"]
    fresh = rollout.make_agent(run.settings, run.envs)  # With the weights that the run began with.
    before, after = fresh.get_state(), run.agent.get_state()
    changed = [name for name in before if name.startswith("online/") and not np.array_equal(before[name], after[name])]
    assert len(changed) == sum(name.startswith("online/") for name in before)
    assert all(np.isfinite(value).all() for value in after.values())


def test_acting_and_learning_are_each_traced_once_in_a_run_with_its_evaluations(whole):
    assert whole["run"].evaluations == 3 and whole["run"].settings["eval_episodes"] != NUM_ENVS
    assert sorted(whole["run"].agent.traces) == ["act", "learn"]


def test_updates_are_owed_by_agent_steps_without_a_burst(whole):
    run, updates = whole["run"], whole["updates"]
    assert run.updates == len(updates) == (run.agent_step - LEARNING_STARTS) // UPDATE_PERIOD
    assert LEARNING_STARTS + UPDATE_PERIOD <= updates[0] < LEARNING_STARTS + UPDATE_PERIOD + NUM_ENVS
    assert len(set(updates)) == len(updates)  # At 4 agent steps a vector step never two at once.
    for row in rows_of(whole["directory"], "learn"):
        assert int(row["updates"]) == max(0, (int(row["agent_step"]) - LEARNING_STARTS) // UPDATE_PERIOD)


def test_several_updates_a_vector_step_where_they_are_owed(tmp_path, monkeypatch):
    updates = []
    learn = dict(loss=0.1, mean_q=0.0, gradient_norm=0.0)
    monkeypatch.setattr(agent.Agent, "learn", lambda self, window: updates.append(0) or learn)
    run = go([*CARTPOLE, "--update_period=1", "--learning_starts=0", "--maxsteps=40", "--eval_period=1000"], tmp_path)
    assert run.updates == len(updates) == run.agent_step >= 40


def test_an_agent_step_is_a_row_that_is_no_reset(whole):
    run, first = whole["run"], whole["first"]
    assert run.agent_step == (~first).sum() and first.sum() > 20
    assert run.replay.end == len(first)
    counted = sum(int(row["length"]) for row in rows_of(whole["directory"], "train"))
    assert run.agent_step == counted + run.rollout.length[~run.rollout.last].sum()


def test_periods_fire_once_at_the_first_vector_step_at_or_past_them(whole):
    steps = (~whole["first"]).sum(axis=1).cumsum()  # Agent steps after each vector step.
    past = lambda period: [int(steps[steps >= k][0]) for k in range(period, steps[-1] + 1, period)]
    assert [int(steps[rows - 1]) for rows in whole["syncs"]] == past(50)
    evaluations = rows_of(whole["directory"], "eval")
    assert [int(row["agent_step"]) for row in evaluations] == [step for step in past(100) for _ in range(2)]
    assert [(int(row["evaluation"]), int(row["episode"])) for row in evaluations] == [(k, i) for k in (1, 2, 3) for i in (0, 1)]
    logged = [int(row["agent_step"]) for row in rows_of(whole["directory"], "learn")]
    assert logged == [*past(70), int(steps[-1])]  # The last row is short.


def test_the_header_of_each_csv(whole):
    header = lambda name: (whole["directory"] / f"{name}.csv").read_text().split("\n")[0].split(",")
    assert header("train") == "agent_step frames episode_return length training_reward environment cut seconds".split()
    assert header("learn")[:2] == header("eval")[:2] == ["agent_step", "frames"]
    assert {"loss", "mean_q", "gradient_norm", "epsilon", "learning_rate", "updates", "environment_seconds", "act_seconds",
            "sample_seconds", "learn_seconds"} <= set(header("learn"))
    assert {"evaluation", "episode", "episode_return", "length"} <= set(header("eval"))


def test_rows_of_train_csv_tell_each_episode(whole):
    rows = rows_of(whole["directory"], "train")
    assert rows[-1]["cut"] in "01" and {int(row["environment"]) for row in rows} == set(range(NUM_ENVS))
    cut = sum(row["cut"] == "1" for row in rows)
    assert (cut > 0) == (whole["run"].settings["network"] == "DRQN") and cut < len(rows)
    assert rows_of(whole["directory"], "learn")[-1]["cut_share"] == f"{cut / len(rows):.10g}"
    for row in rows:
        assert float(row["episode_return"]) == float(row["training_reward"]) == int(row["length"])  # CartPole pays 1 a step.
        assert row["frames"] == row["agent_step"]
    complete = [float(row["episode_return"]) for row in rows if row["cut"] == "0"]
    assert list(whole["run"].returns) == complete[-100:]  # Cut ones are left out of means.


def test_learn_csv_tells_epsilon_and_learning_rate(whole):
    for row in rows_of(whole["directory"], "learn"):
        assert float(row["epsilon"]) == pytest.approx(max(0.1, 1 - 0.9 * int(row["agent_step"]) / 200))
        assert float(row["learning_rate"]) == 0.01


def test_config_json_holds_what_was_resolved(whole):
    config = json.loads((whole["directory"] / "config.json").read_text())
    assert config["settings"] == dict(whole["run"].settings)
    assert config["command"] == ["train.py", *whole["arguments"], f"--run_dir={whole['directory']}"]
    network = config["settings"]["network"]
    assert config["settings"]["history"] == dict(DQN=4, DRQN=1)[network]
    assert config["settings"]["sample"] == dict(DQN="timestep", DRQN="episode")[network]


def test_best_weights_are_kept(whole):
    run, scores = whole["run"], {}
    for row in rows_of(whole["directory"], "eval"):
        scores.setdefault(row["evaluation"], []).append(float(row["episode_return"]))
    assert run.best == max(np.mean(returns) for returns in scores.values())
    another = rollout.make_agent(run.settings, run.envs)
    another.load_weights(whole["directory"] / "best.weights.h5")
    assert np.isfinite(another.get_state()["online/0"]).all()


def test_every_setting_is_used(whole):
    assert set(whole["run"].settings) - whole["read"] == {"backend"}  # Keras has it from the environment.


def test_the_same_seed_gives_the_same_run(again, tmp_path):
    go(again["arguments"], tmp_path)
    assert_same_runs(again["directory"], tmp_path)


def test_evaluations_do_not_disturb_training(again, tmp_path):
    go([*again["arguments"], "--eval_period=100000"], tmp_path)
    assert rows_of(tmp_path, "eval") == []
    assert_same_runs(again["directory"], tmp_path, ("train", "learn"))


def test_another_seed_gives_another_run(tmp_path):
    arguments = [*CARTPOLE, "--learning_starts=90", "--maxsteps=92", "--eval_period=1000"]
    go(arguments, tmp_path / "one")
    go([*arguments, "--seed=2"], tmp_path / "two")
    one, two = arrays_of(tmp_path / "one"), arrays_of(tmp_path / "two")
    assert not np.array_equal(one["agent/online/0"], two["agent/online/0"])
    assert not np.array_equal(one["rollout/unobscured"], two["rollout/unobscured"])


# Stopped, and continued


def interrupt(monkeypatch, at_step, how):
    """Call `how` after the vector step that reaches `at_step` agent steps."""
    step = trainer.Trainer.advance

    def interrupted(self):
        step(self)
        if self.agent_step >= at_step:
            monkeypatch.setattr(trainer.Trainer, "advance", step)
            how()
    monkeypatch.setattr(trainer.Trainer, "advance", interrupted)


def test_stopped_three_times_and_continued_equals_uninterrupted(again, tmp_path, monkeypatch):
    for at_step in (30, 33, 201):  # Before learning starts, at once again, and in the middle of everything.
        interrupt(monkeypatch, at_step, lambda: signal.raise_signal(signal.SIGINT))
        run = go(again["arguments"], tmp_path)
        assert at_step <= run.agent_step < at_step + NUM_ENVS
    go(again["arguments"], tmp_path)
    assert_same_runs(again["directory"], tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])  # Ctrl-C, and what Slurm sends.
def test_a_signal_saves_and_prints_how_to_go_on(tmp_path, monkeypatch, capsys, number):
    before = signal.getsignal(number)
    interrupt(monkeypatch, 40, lambda: signal.raise_signal(number))
    assert train.main([*CARTPOLE, f"--run_dir={tmp_path}"]) == 128 + number
    said = capsys.readouterr()
    step = int(re.search(r"^Stopped at agent step (\d+), saved in (.*)\. Go on with the same command:$", said.out, re.MULTILINE)[1])
    assert 40 <= step < 40 + NUM_ENVS and said.err == ""
    assert said.out.endswith(f"\n  python train.py {' '.join(CARTPOLE)} --run_dir={tmp_path}\n")
    assert json.loads((checkpoint_of(tmp_path) / "state.json").read_text())["agent_step"] == step
    assert signal.getsignal(number) == before


def test_a_signal_before_the_first_step_leaves_a_run_that_can_begin(tmp_path, monkeypatch):
    enter = job.Progress.__enter__
    monkeypatch.setattr(job.Progress, "__enter__", lambda self: signal.raise_signal(signal.SIGINT) or enter(self))
    arguments = [*CARTPOLE, f"--run_dir={tmp_path}"]
    assert train.main(arguments) == 128 + signal.SIGINT
    monkeypatch.undo()
    assert train.main([*arguments, "--maxsteps=80"]) == 0


def die():
    raise MemoryError("killed")


def test_killed_and_continued_equals_uninterrupted(again, tmp_path, monkeypatch):
    interrupt(monkeypatch, 250, die)  # Well after the second checkpoint.
    with pytest.raises(MemoryError):
        go(again["arguments"], tmp_path)
    assert go(again["arguments"], tmp_path).agent_step >= MAXSTEPS
    assert_same_runs(again["directory"], tmp_path)


@pytest.mark.parametrize("network", ["DQN", "DRQN"])
def test_lanes_stopped_killed_and_continued_equal_uninterrupted_ones(tmp_path, monkeypatch, network):
    monkeypatch.setattr(rollout, "RESEED_PERIOD", 20)
    arguments = [*CARTPOLE, f"--network={network}", "--sample=sequential"]
    whole = go(arguments, tmp_path / "whole")
    assert sorted(whole.agent.traces) == ["act", "learn"]
    interrupt(monkeypatch, 131, lambda: signal.raise_signal(signal.SIGINT))
    go(arguments, tmp_path / "pieces")
    kept = arrays_of(tmp_path / "pieces")
    assert kept["replay/lanes"].shape == (2, 4) and kept["replay/lanes"][0].max() > 0  # Some are in the middle of an episode,
    assert network == "DQN" or (kept["agent/window_state/0"] != 0).all()  # and so are their states.
    interrupt(monkeypatch, 250, die)
    with pytest.raises(MemoryError):
        go(arguments, tmp_path / "pieces")
    go(arguments, tmp_path / "pieces")
    assert_same_runs(tmp_path / "whole", tmp_path / "pieces")


def test_schedules_that_count_episodes_and_updates_stopped_and_continued_equal_uninterrupted_ones(tmp_path, monkeypatch):
    """Reseeds cut four episodes after every 20 vector steps: those do not count."""
    monkeypatch.setattr(rollout, "RESEED_PERIOD", 20)
    arguments = [*CARTPOLE, "--network=DRQN", "--epsilon_decay=exp:3ep", "--epsilon_end=0", "--lr_schedule=step:5u:0.5"]
    whole = go(arguments, tmp_path / "whole")
    assert whole.agent.traces.count("learn") == 1
    ended = [(int(row["agent_step"]), int(row["cut"])) for row in rows_of(tmp_path / "whole", "train")]
    assert whole.complete_episodes < len(ended)
    for row in rows_of(tmp_path / "whole", "learn"):
        complete = sum(step <= int(row["agent_step"]) and not cut for step, cut in ended)
        assert float(row["epsilon"]) == pytest.approx(np.exp(-complete / 3))
        assert float(row["learning_rate"]) == pytest.approx(0.01 * 0.5 ** (int(row["updates"]) // 5))
    assert len({row["learning_rate"] for row in rows_of(tmp_path / "whole", "learn")}) > 3
    for at_step, how in ((131, lambda: signal.raise_signal(signal.SIGINT)), (250, die)):
        interrupt(monkeypatch, at_step, how)
        try:
            go(arguments, tmp_path / "pieces")
        except MemoryError:
            assert at_step == 250
    go(arguments, tmp_path / "pieces")
    assert_same_runs(tmp_path / "whole", tmp_path / "pieces")


def test_a_checkpoint_of_before_there_were_lanes_goes_on(tmp_path, monkeypatch):
    arguments = [*CARTPOLE, "--network=DQN", "--learning_starts=90", "--eval_period=1000"]
    go([*arguments, "--maxsteps=100"], tmp_path)
    load = checkpoints.Checkpoints.load_arrays
    monkeypatch.setattr(checkpoints.Checkpoints, "load_arrays",
                        lambda self: {name: array for name, array in load(self).items() if name != "replay/lanes"})
    assert go([*arguments, "--maxsteps=120"], tmp_path).updates == 3


def at_steps(monkeypatch, calls):
    """Make each `call` of {agent_step: call} after the vector step that reaches its agent step."""
    step, left = trainer.Trainer.advance, dict(calls)

    def advance(self):
        step(self)
        for at_step in [at_step for at_step in left if self.agent_step >= at_step]:
            left.pop(at_step)()
    monkeypatch.setattr(trainer.Trainer, "advance", advance)


FULL = "No space left on device|File too large"


@ONE_NETWORK
def test_a_disk_that_is_full_for_a_while_changes_nothing(again, tmp_path, monkeypatch, capsys):
    with disks.small_disk(tmp_path / "disk") as disk:
        at_steps(monkeypatch, {95: disk.fill, 275: disk.free})  # Two checkpoints fall into it, and two evaluations.
        assert train.main([*again["arguments"], f"--run_dir={disk.place / 'run'}"]) == 0
        said = capsys.readouterr().err.splitlines()
        said = [line for line in said if "agent steps, " not in line]
        assert len(said) == 2
        assert all(re.search(rf"could not be saved at agent step \d+ \(({FULL})\); .* is in 90 agent steps", line) for line in said)
        assert_same_runs(again["directory"], disk.place / "run")
        assert not list(disk.place.rglob("*aside*"))
        another, best = rollout.make_agent(again["run"].settings, again["run"].envs), []
        for directory in (again["directory"], disk.place / "run"):
            another.load_weights(directory / "best.weights.h5")
            best.append(another.get_state()["online/0"])
        np.testing.assert_array_equal(*best)


@ONE_NETWORK
def test_a_log_on_a_full_disk_does_not_stop_training(again, tmp_path, monkeypatch):
    monkeypatch.setattr(job.Progress, "PERIOD", 0)  # A line at every step.
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert train.main([*again["arguments"], f"--run_dir={tmp_path}"]) == 0
        monkeypatch.undo()
        with pytest.raises(OSError, match="No space left"):
            full.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())  # So that it can be closed.
    assert_same_runs(again["directory"], tmp_path)


@ONE_NETWORK
@pytest.mark.parametrize("how", ["maxsteps", "signal"])
def test_a_run_asked_to_stop_that_cannot_save_fails_and_goes_on_later(again, tmp_path, monkeypatch, capsys, how):
    with disks.small_disk(tmp_path / "disk") as disk, monkeypatch.context() as patch:
        stop = dict(maxsteps=lambda: None, signal=lambda: signal.raise_signal(signal.SIGUSR1))[how]
        at_steps(patch, {185: disk.fill, 190: stop})
        arguments = [*again["arguments"], f"--run_dir={disk.place / 'run'}"]
        assert train.main(arguments) == 1
        said = capsys.readouterr().err.splitlines()[-1]
        assert re.search(rf"^train.py: .*/run could not be saved at agent step \d+ \(({FULL})\)", said)
        patch.undo()
        disk.free()
        assert train.main(arguments) == 0
        step = int(re.search(r"Going on at agent step (\d+)", capsys.readouterr().out)[1])
        assert 180 <= step < 180 + NUM_ENVS
        assert_same_runs(again["directory"], disk.place / "run")


@ONE_NETWORK
def test_max_hours_stops_with_a_code_of_its_own_and_the_run_goes_on(again, tmp_path, monkeypatch, capsys):
    arguments = [*again["arguments"], f"--run_dir={tmp_path}"]
    monkeypatch.setattr(job, "process_seconds", lambda: 3600.0 * 7)  # As if reading the replay had taken that long.
    assert train.main([*arguments, "--max_hours=7"]) == trainer.OUT_OF_HOURS == 75
    assert "Go on with the same command" in capsys.readouterr().out
    assert train.main([*arguments, "--max_hours=9000"]) == 0
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert_same_runs(again["directory"], tmp_path)


def test_a_finished_run_is_finished_whatever_stops_it_then(tmp_path, monkeypatch):
    at_steps(monkeypatch, {100: lambda: signal.raise_signal(signal.SIGTERM)})
    assert train.main([*CARTPOLE, "--maxsteps=100", "--learning_starts=99", f"--run_dir={tmp_path}"]) == 0


def test_hours_count_from_the_start_of_the_process():
    age = lambda: int(subprocess.run(["ps", "-o", "etimes=", "-p", str(os.getpid())], capture_output=True, text=True, check=True).stdout)
    before, seconds, after = age(), job.process_seconds(), age()
    assert before <= seconds <= after + 1


@ONE_NETWORK
def test_weights_of_another_network_are_refused(whole, tmp_path, capsys):
    run = shutil.copytree(whole["directory"], tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config["settings"]["units"] = 9  # As if someone had edited it to try.
    (run / "config.json").write_text(json.dumps(config))
    assert train.main([*whole["arguments"], f"--run_dir={run}", "--units=9"]) == 2
    said = capsys.readouterr().err
    assert re.search(r"the checkpoint's online/\d+ has shape .*; expected ", said) and said.count("\n") == 1


def test_a_finished_run_says_so_and_stays_as_it_is(again, tmp_path, capsys):
    finished = shutil.copytree(again["directory"], tmp_path / "finished")
    read = lambda: {name: rows_of(finished, name) for name in runs.COLUMNS} | {"checkpoint": checkpoint_of(finished).name}
    before = read()
    run = go(again["arguments"], finished)
    assert re.search(r"is finished: 30\d of 300 agent steps. Raise --maxsteps", capsys.readouterr().out)
    assert run.agent_step == again["run"].agent_step
    assert read() == before


def compare_in_pieces(arguments, maxsteps, directory):
    """Compare a run whose maxsteps is raised twice with one that was never stopped."""
    go(arguments, directory / "whole")
    for limit in maxsteps:
        assert go([*arguments, f"--maxsteps={limit}"], directory / "pieces").agent_step >= limit
    go(arguments, directory / "pieces")
    assert_same_runs(directory / "whole", directory / "pieces")


def test_a_run_ends_at_its_complete_episodes_and_raising_them_goes_on(tmp_path, monkeypatch, capsys):
    """Reseeds cut four episodes after every 20 vector steps: those do not count."""
    monkeypatch.setattr(rollout, "RESEED_PERIOD", 20)
    whole = go(CARTPOLE, tmp_path / "whole")
    for limit in (3, 7):
        run = go([*CARTPOLE, f"--maxepisodes={limit}"], tmp_path / "pieces")
        rows = rows_of(tmp_path / "pieces", "train")
        before = [row for row in rows if row["cut"] == "0" and int(row["agent_step"]) < run.agent_step]
        complete = [row for row in rows if row["cut"] == "0"]
        assert len(before) < limit <= len(complete) == run.complete_episodes < whole.complete_episodes  # The first step at or past it.
        assert run.agent_step < MAXSTEPS
        assert f"pieces is finished: {len(complete)} of {limit} episodes. Raise --maxepisodes to go on." in capsys.readouterr().out
    assert run.episodes > run.complete_episodes  # Some were cut before it was met.
    assert go([*CARTPOLE, "--maxepisodes=7"], tmp_path / "pieces").agent_step == run.agent_step
    assert f"is finished: {len(complete)} of 7 episodes." in capsys.readouterr().out
    go([*CARTPOLE, "--maxepisodes=1000"], tmp_path / "pieces")
    assert "of 300 agent steps. Raise --maxsteps" in capsys.readouterr().out
    assert_same_runs(tmp_path / "whole", tmp_path / "pieces")


def test_weights_are_kept_at_the_first_step_at_or_past_each_multiple_of_episodes(tmp_path, monkeypatch):
    monkeypatch.setattr(rollout, "RESEED_PERIOD", 20)  # This cuts episodes, which do not count.
    seen = {}
    step = trainer.Trainer.advance

    def advance(self):
        step(self)
        for episodes in range(3, self.complete_episodes + 1, 3):
            seen.setdefault(f"{episodes:06d}.weights.h5", self.agent.get_state())
    arguments = [*CARTPOLE, "--weights_period=3", "--learning_starts=10"]
    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "advance", advance)
        whole = go(arguments, tmp_path / "whole")
    kept = lambda name: {path.name: path for path in (tmp_path / name / "weights").iterdir()}
    assert kept("whole").keys() == seen.keys() and len(seen) == whole.complete_episodes // 3 >= 5
    assert len({state["online/0"].tobytes() for state in seen.values()}) == len(seen)
    for at_step, how in ((131, lambda: signal.raise_signal(signal.SIGINT)), (250, die)):
        interrupt(monkeypatch, at_step, how)
        try:
            go(arguments, tmp_path / "pieces")
        except MemoryError:
            max(kept("pieces").values()).unlink()  # of after the last checkpoint
    go(arguments, tmp_path / "pieces")
    assert_same_runs(tmp_path / "whole", tmp_path / "pieces")
    assert kept("pieces").keys() == seen.keys()
    another = rollout.make_agent(whole.settings, whole.envs)
    for path in (path for name in ("whole", "pieces") for path in kept(name).values()):
        another.load_weights(path)
        now = another.get_state()
        assert all(np.array_equal(now[key], value) for key, value in seen[path.name].items() if key.startswith("online/")), path


def test_a_game_whose_maxsteps_is_raised_twice_equals_one_that_never_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(rollout, "RESEED_PERIOD", 30)
    compare_in_pieces(BREAKOUT, (104, 105), tmp_path)
    assert len(rows_of(tmp_path / "whole", "train")) > 0


def test_an_environment_that_does_not_come_out_where_it_was_goes_on_with_new_episodes(tmp_path, capsys):
    import counting

    arguments = [*CARTPOLE, f"--env={counting.register(length=500, lawless=True)}", "--eval_period=1000"]
    go([*arguments, "--maxsteps=100"], tmp_path)
    run = go([*arguments, "--maxsteps=140"], tmp_path)
    said = capsys.readouterr().err
    assert "no function of its seed and actions" in said and said.count("\n") == 1
    assert run.agent_step == 140
    assert [(row["cut"], row["length"]) for row in rows_of(tmp_path, "train")] == [("1", "25")] * NUM_ENVS


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


@pytest.mark.slow
def test_saving_and_loading_400_000_timesteps_of_atari_takes_at_most_300_mb(tmp_path):
    done = subprocess.run([sys.executable, str(ROOT / "benchmarks/saving.py"), f"--out={tmp_path}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout.splitlines()[-1])
    assert measured["timesteps"] == 400_000 and measured["replay_raw_mb"] > 2800
    assert all(measured[name] <= 300 for name in ("first_save_extra_mb", "periodic_extra_mb", "load_extra_mb")), measured


# Settings


@pytest.mark.parametrize("arguments, resolved", [
    ([], dict(network="DRQN", env="Frostbite", history=1, unroll=10, sample="episode", frame_skip=4, sticky=0.0, full_actions=False,
              noops=30, max_episode_frames=108_000, life_loss="none", learning_rate=2.5e-4, epsilon_decay="linear:1000000steps")),
    (["--network=DQN"], dict(history=4, unroll=1, sample="timestep")),
    (["--network=DQN", "--history=10", "--unroll=5", "--sample=episode"], dict(history=10, unroll=5, sample="episode")),
    (["--sample=sequential"], dict(network="DRQN", unroll=10, sample="sequential")),
    (["--network=DQN", "--sample=sequential"], dict(history=4, unroll=1, sample="sequential")),
    (["--env=CartPole-v1"], dict(frame_skip=1, max_episode_frames=500, sticky=None, noops=None, life_loss=None)),
    (["--env=ms_pacman"], dict(env="MsPacman", frame_skip=4)),
    (["--env=ALE/Pong-v5"], dict(env="ALE/Pong-v5", frame_skip=4, sticky=0.25)),
    (["--env=ALE/Pong-v5", "--sticky=0", "--frame_skip=5"], dict(frame_skip=5, sticky=0.0)),
    (["--env=PongNoFrameskip-v4"], dict(frame_skip=1, sticky=0.0)),
    (["--env=Pong-v4", "--frame_skip=3"], dict(frame_skip=3)),
    (["--optimizer=adadelta"], dict(learning_rate=0.1)),
    (["--optimizer=adam", "--learning_rate=3e-4"], dict(learning_rate=3e-4)),
    (["--epsilonStep=1e-5"], dict(epsilonStep=1e-5, epsilon_decay=None)),
    (["--lr_schedule=constant"], dict(lr_schedule=None)),
    (["--lr_schedule=step:9u:0.5"], dict(lr_schedule="step:9u:0.5", learning_rate=2.5e-4)),
])
def test_defaults_of_the_family_are_resolved_once(arguments, resolved):
    settings = train.configure(arguments)["settings"]
    assert {name: settings[name] for name in resolved} == resolved


@pytest.mark.parametrize("preset", sorted(ROOT.glob("presets/*.flags")), ids=lambda path: path.stem)
@pytest.mark.parametrize("network", list(models.NETWORKS))
def test_every_preset_parses(preset, network, monkeypatch):
    monkeypatch.chdir(ROOT)  # A preset names the one that it builds on as the commands of README do, from the repository.
    settings = train.configure([f"--flagfile={preset}", f"--network={network}"])["settings"]
    given = dict(re.findall(r"^--(\w+)=(.*)$", preset.read_text(), re.MULTILINE))
    assert given and all(str(settings[name]) == value or float(settings[name]) == float(value)
                         for name, value in given.items() if name not in ("network", "flagfile"))


HAUSKNECHT = dict(  # the table of the paper's settings, in their own units where those are ours
    optimizer="adadelta", learning_rate=0.1, loss="euclidean", clip_norm=10, maxsteps=10_000_000, update_period=1, bufflen=400_000,
    learning_starts=50_000, num_envs=8,
    batch_size=32, units=512, gamma=0.99, target_period=10_000, epsilon_begin=1, epsilon_end=0.1, epsilon_decay="linear:1000000steps",
    frame_skip=4, noops=0, max_episode_frames=0, life_loss="penalty", full_actions=False, sticky=0, flicker=0,
    eval_episodes=10, eval_period=50_000, eval_epsilon=0.05)
MNIH = dict(
    network="DQN", optimizer="rmsprop", learning_rate=0.00025, loss="huber", clip_norm=0, maxsteps=50_000_000, update_period=4,
    bufflen=1_000_000, learning_starts=50_000, batch_size=32, units=512, history=4, unroll=1, gamma=0.99, target_period=10_000,
    epsilon_begin=1, epsilon_end=0.1, epsilon_decay="linear:1000000steps", frame_skip=4, noops=30, max_episode_frames=5 * 60 * 60,
    life_loss="terminal", full_actions=False, sticky=0, eval_episodes=30, eval_epsilon=0.05)


@pytest.mark.parametrize("presets, table", [
    (["drqn_paper"], HAUSKNECHT | dict(network="DRQN", history=1, unroll=10, sample="episode")),
    (["dqn_paper"], HAUSKNECHT | dict(network="DQN", history=4, unroll=1)),
    (["dqn10_paper"], HAUSKNECHT | dict(network="DQN", history=10, unroll=1)),
    (["dqn_nature"], MNIH),
    (["drqn_paper", "machado"], HAUSKNECHT | dict(sticky=0.25, full_actions=True, life_loss="none", noops=0, max_episode_frames=108_000)),
    (["dqn_nature", "machado"], MNIH | dict(sticky=0.25, full_actions=True, life_loss="none", noops=0, max_episode_frames=108_000)),
], ids="-".join)
def test_the_presets_hold_the_papers_tables(presets, table, monkeypatch):
    monkeypatch.chdir(ROOT)
    settings = train.configure([f"--flagfile=presets/{preset}.flags" for preset in presets])["settings"]
    assert {name: settings[name] for name in table} == table


@pytest.mark.slow
def test_three_short_games_by_untitledgrubs_preset(tmp_path):
    run = go([f"--flagfile={ROOT}/presets/untitledgrub_breakout.flags", "--maxepisodes=3", "--weights_period=2",
              "--max_episode_frames=400", "--eval_period=1000000"], tmp_path)
    assert (run.complete_episodes, run.updates) == (3, run.agent_step - 32) and 200 < run.updates < 300
    assert run.agent_step == sum(int(row["length"]) for row in rows_of(tmp_path, "train"))
    *_, last = rows_of(tmp_path, "learn")
    assert float(last["epsilon"]) == pytest.approx(0.995 ** (3 / 50), rel=1e-5)
    assert (float(last["learning_rate"]), float(last["gradient_norm"]) > 0) == (3e-4, True)
    assert [path.name for path in (tmp_path / "weights").iterdir()] == ["000002.weights.h5"]


@pytest.mark.slow
def test_the_schedules_of_bhowmik_and_kalbag_in_a_real_run_of_two_simple_layers(tmp_path):
    arguments = [*CARTPOLE, "--network=DRQN_RNN2", "--epsilon_begin=0.9", "--epsilon_end=0.05", "--epsilon_decay=exp:200steps",
                 "--update_period=1", "--lr_schedule=cosine_restarts:20u:0.002"]
    run = go(arguments, tmp_path)
    assert run.updates == run.agent_step - LEARNING_STARTS >= 240
    rows = rows_of(tmp_path, "learn")
    for row in rows:
        assert float(row["epsilon"]) == pytest.approx(0.05 + 0.85 * np.exp(-int(row["agent_step"]) / 200))
        since_restart = int(row["updates"]) % 20
        assert float(row["learning_rate"]) == pytest.approx(0.002 + 0.004 * (1 + np.cos(np.pi * since_restart / 20)), rel=1e-5)
    assert len({row["learning_rate"] for row in rows}) > 3
    kept = arrays_of(tmp_path)  # The update before the last checkpoint was made at the rate of its own count.
    rates = [value for name, value in kept.items() if name.startswith("agent/optimizer/") and value.shape == () and 0 < value < 0.011]
    assert rates == [pytest.approx(0.002 + 0.004 * (1 + np.cos(np.pi * ((run.updates - 1) % 20) / 20)), rel=1e-5)]


PRESET = f"--flagfile={ROOT}/presets/cartpole.flags"


@pytest.mark.parametrize("arguments, name", [
    ([], "Frostbite-DRQN-s1"),
    (["--env=ms_pacman", "--network=DQN", "--seed=7"], "MsPacman-DQN-s7"),
    (["--env=ALE/Pong-v5"], "ALE_Pong-v5-DRQN-s1"),
    ([PRESET], "CartPole-v1-DRQN-cartpole-s1"),
    ([PRESET, "--flicker=0.5", "--seed=3", "--jid=job7"], "CartPole-v1-DRQN-cartpole-flicker=0.5-job7-s3"),
    ([PRESET, "--maxsteps=70000", "--eval_period=7", "--checkpoint_period=8"], "CartPole-v1-DRQN-cartpole-s1"),
    ([PRESET, "--resume=never"], "CartPole-v1-DRQN-cartpole-s1"),
    (["--noops=0", "--flicker=0.5", "--full_actions"], "Frostbite-DRQN-flicker=0.5-full_actions-noops=0-s1"),
    (["--flicker=0.5", "--full_actions", "--noops=0"], "Frostbite-DRQN-flicker=0.5-full_actions-noops=0-s1"),
    (["--flicker", "0.5", "--maxsteps", "70000", "--seed", "3"], "Frostbite-DRQN-flicker=0.5-s3"),
    (["--flagfile", PRESET.partition("=")[2]], "CartPole-v1-DRQN-cartpole-s1"),
    (["--jid=../../etc"], "Frostbite-DRQN-.._.._etc-s1"),
])
def test_the_default_run_dir_names_preset_and_flags_beside_it_but_no_limits(arguments, name):
    assert train.configure(arguments)["run_dir"] == f"runs/{name}"


def test_a_run_dir_that_is_given_is_taken():
    assert train.configure(["--run_dir=/tmp/x/y"])["run_dir"] == "/tmp/x/y"


def test_free_memory_is_no_more_than_the_machine_has():
    assert 0 < job.available_memory() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


# Flags


def test_at_most_45_flags_each_in_the_help_of_its_group(capsys):
    assert train.main(["--help"]) == 0
    sections = re.split(r"^(\w+):$", capsys.readouterr().out, flags=re.MULTILINE)
    sections = dict(zip(sections[1::2], sections[2::2]))
    groups = train.define_flags().flags_by_module_dict()
    assert list(sections) == list(train.GROUPS) and groups.keys() == set(train.GROUPS)
    assert sum(len(own) for own in groups.values()) <= 45
    for group, own in groups.items():
        named = set(re.findall(r"^  --(?:\[no\])?(\w+):", sections[group], re.MULTILINE))
        assert named == {flag.name for flag in own}
        assert f"| {group} | {' '.join(f'`--{flag.name}`' for flag in own)} |" in (ROOT / "README.md").read_text()


def test_every_count_names_its_unit_in_brackets():
    units = r"\[[^\]]*\b(agent steps|frames|timesteps|episodes|environments|windows|updates|units)\b"
    without = [flag.name for own in train.define_flags().flags_by_module_dict().values() for flag in own
               if flag.flag_type() == "int" and flag.name != "seed" and not re.search(units, flag.help)]
    assert without == []


# Bad input: one sentence, exit code 1 or 2, no traceback, nothing half-written.


@pytest.mark.parametrize("arguments, sentence", [
    (["--env=Frostbit"], "--env=Frostbit is neither .* the nearest names are Frostbite, "),
    (["--env=CartPole-v9"], "--env=CartPole-v9 is neither .*CartPole-v1"),
    (["--env=ALE/Nothing-v5"], "nearest names"),
    (["--env=Pendulum-v1"], "Pendulum-v1 has the action space Box.*Discrete"),
    (["--env=FrozenLake-v1"], "observation space Discrete.*expected a Box"),
    (["--env=Blackjack-v1"], "observation space Tuple.*expected a Box"),
    (["--env=phys2d/CartPole-v1"], "--env=phys2d/CartPole-v1 needs"),
    (["--env=Reacher-v2"], "--env=Reacher-v2"),
    (["--env=Pong-v4"], "random.*--frame_skip"),
    (["--bufflen=1000000000000"], r"--bufflen=1000000000000 timesteps need [\d.]+ GB, and [\d.]+ GB"),
    (["--bufflen=7", "--learning_starts=0"], "--bufflen=7"),
    (["--learning_starts=400", "--maxsteps=400", "--bufflen=1000"], "--learning_starts=400 .*--maxsteps=400"),
    (["--learning_starts=401", "--maxsteps=400", "--bufflen=1000"], "--learning_starts=401 .*--maxsteps=400"),
    (["--learning_starts=250"], "--learning_starts=250 .*--bufflen=240"),
    *[([f"--{name}={value}"], f"--{name}={value}") for name, value in [
        ("flicker", 1.5), ("flicker", -0.1), ("flicker", "nan"), ("gamma", 1.01), ("gamma", "nan"), ("epsilon_begin", 2),
        ("epsilon_end", -1), ("eval_epsilon", 7), ("eval_epsilon", "nan"), ("learning_rate", 0), ("learning_rate", "nan"),
        ("learning_rate", "inf"),
        ("clip_norm", "nan"), ("maxsteps", 0), ("maxsteps", "many"), ("maxepisodes", 0),
        ("batch_size", 0), ("num_envs", 0), ("units", -1), ("seed", -1),
        ("network", "DDQN"), ("resume", "yes"), ("optimizer", "sgd"), ("precision", "int8"), ("sample", "best"), ("eval_episodes", 0)]],
    (["--env=Frostbite", "--sticky=1.1"], "--sticky=1.1"),
    *[([f"--{name}={value}"], f"--{name}={value} does not apply to --env=CartPole-v1") for name, value in [
        ("sticky", 0.25), ("full_actions", True), ("noops", 0), ("life_loss", "none"), ("life_loss", "terminal")]],
    (["--epsilon_decay=linear:100steps", "--epsilonStep=1e-3"], "--epsilon_decay and --epsilonStep"),
    (["--epsilon_decay=exponential"], "--epsilon_decay=exponential.*linear:"),
    (["--epsilon_decay=linear:0steps"], "--epsilon_decay=linear:0steps"),
    (["--epsilon_decay=exp:200"], r"exp:200 was given; expected a positive count with its unit, steps \(agent steps\) or ep "),
    (["--epsilon_decay=exp:200u"], "--epsilon_decay=exp:200u was given.*its unit, steps .* or ep .*as in exp:9975ep"),
    (["--epsilon_decay=exp:200ep:0.1"], "--epsilon_decay=exp:200ep:0.1 was given.*as in exp:9975ep"),
    (["--epsilon_decay=step:25ep:0.8"], "--epsilon_decay=step:25ep:0.8 is no schedule; expected one such as linear:1000000steps, exp:"),
    (["--lr_schedule=exp:25ep"], "--lr_schedule=exp:25ep is no schedule; expected one such as constant, step:25ep:0.8, cosine_restarts:"),
    (["--lr_schedule=step:25:0.8"], r"step:25:0.8 was given; expected .* its unit, u \(updates\) or ep \(complete episodes\)"),
    (["--lr_schedule=step:25ep"], "--lr_schedule=step:25ep was given; expected .* and a number, as in step:25ep:0.8"),
    (["--lr_schedule=step:25ep:1.2.3"], "--lr_schedule=step:25ep:1.2.3 was given.* and a number, as in step:25ep:0.8"),
    (["--lr_schedule=step:0.5ep:0.8"], "--lr_schedule=step:0.5ep:0.8 was given; expected a positive count"),
    (["--lr_schedule=step:25ep:1.1"], "--lr_schedule=step:25ep:1.1 was given; expected a factor above 0 and at most 1"),
    (["--lr_schedule=cosine_restarts:9u:0.02"], "9u:0.02 was given; expected a floor between 0 and --learning_rate=0.01"),
    (["--epsilon_begin=0.05"], "--epsilon_begin=0.05 is below --epsilon_end=0.1"),
    (["--init_from="], "--init_from was given without a value; expected one, or no --init_from"),
    (["--epsilon=0.5"], "epsilon"), (["--nosuchflag=1"], "nosuchflag"), (["--core=LSTM"], "core"),
    (["stray"], "'stray' is no flag"), (["--flagfile=nowhere.flags"], "nowhere.flags"), (["--maxsteps"], "maxsteps"),
    (["--run_dir=/proc/run"], "/proc/run"),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_bad_input_is_refused_in_one_sentence_and_nothing_is_written(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    base = [argument for argument in CARTPOLE if argument.partition("=")[0] not in ("--flicker", "--epsilon_decay")]
    assert train.main([*base, *arguments]) in (1, 2)
    said = capsys.readouterr()
    assert said.err.startswith("train.py: ") and said.err.count("\n") == 1 and said.out == ""
    assert re.search(sentence, said.err)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_of_something_else_is_refused(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert train.main([*CARTPOLE, f"--run_dir={tmp_path}"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "is no run of this suite" in said
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_other_settings_and_never_are_refused_by_name(whole, capsys):
    read = lambda: {path: path.read_bytes() for path in whole["directory"].rglob("*") if path.is_file()}
    before, arguments = read(), [*whole["arguments"], f"--run_dir={whole['directory']}"]
    assert train.main([*arguments, "--units=9", "--flicker=0.4", "--maxsteps=400"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "--flicker was 0.3 and is now 0.4, --units was 8 and is now 9" in said and "maxsteps" not in said
    assert train.main([*arguments, "--resume=never"]) == 2
    assert "not empty" in capsys.readouterr().err
    assert read() == before


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--env=Frostbit"], ["--env=Pong-v4"], ["--env=Pendulum-v1"], ["--env=CartPole-v0", "--sticky=0.1"]])
def test_a_real_process_says_nothing_but_the_sentence(arguments, tmp_path):
    done = subprocess.run([sys.executable, str(ROOT / "train.py"), *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("train.py: ") and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["loss", "gradient_norm"])
def test_a_loss_that_is_not_finite_stops_the_run_between_named_agent_steps(tmp_path, capsys, monkeypatch, what):
    updates = []

    def learn(self, window):
        updates.append(None)
        return dict(loss=0.5, mean_q=0.0, gradient_norm=1.0) | ({what: np.float32("nan")} if len(updates) >= 20 else {})
    monkeypatch.setattr(agent.Agent, "learn", learn)
    assert train.main([*CARTPOLE, f"--run_dir={tmp_path}"]) == 1
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and "no checkpoint was written after that" in said.err
    low, high = map(int, re.search(r"between agent steps (\d+) and (\d+)", said.err).groups())
    # Update 20 was made at agent step 220 or up to 3 later; losses are looked at every 70, 90 and 100 agent steps.
    assert 210 <= low < 210 + NUM_ENVS and 270 <= high < 270 + NUM_ENVS
    saved = json.loads((checkpoint_of(tmp_path) / "state.json").read_text())
    assert 180 <= saved["agent_step"] < 180 + NUM_ENVS
    assert not any("nan" in row["loss"] for row in rows_of(tmp_path, "learn") if int(row["updates"]))
    assert {int(row["evaluation"]) for row in rows_of(tmp_path, "eval")} == {1, 2}
    assert wrappers.describe("CartPole-v1")  # And the process is as before.


def test_weights_that_went_wrong_never_become_the_best(tmp_path, monkeypatch):
    monkeypatch.setattr(agent.Agent, "learn", lambda self, window: dict(loss=float("inf"), mean_q=0.0, gradient_norm=1.0))
    monkeypatch.setattr(trainer, "LEARN_PERIOD", 10**6)
    with pytest.raises(FloatingPointError):
        go([*CARTPOLE, "--checkpoint_period=100000"], tmp_path)
    assert not list(tmp_path.glob("*.weights.h5")) and not list(tmp_path.glob("checkpoints/*"))
