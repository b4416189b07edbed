"""The training loop: the files of a short run, runs that repeat, limits, and learning that goes wrong."""

import json
import re
import signal

from launch import build

import numpy as np
import pytest

import agent
import evaluation
import train
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
    rows_without_seconds,
    train_run,
)
from storage import reading, training

pytestmark = pytest.mark.usefixtures("small_periods")


# One short run of each network


def test_training_changes_the_weights(whole):
    run = whole["run"]
    fresh = build.make_agent(run.settings, run.envs)  # The run began with the same weights.
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
    assert len(set(updates)) == len(updates)  # A vector step has 4 agent steps, so it never makes two updates.
    for row in rows_without_seconds(whole["directory"], "learn"):
        assert int(row["updates"]) == max(0, (int(row["agent_step"]) - LEARNING_STARTS) // UPDATE_PERIOD)


def test_a_vector_step_makes_several_updates_where_several_are_owed(tmp_path, monkeypatch):
    updates = []
    scalars = dict(loss=0.1, mean_q=0.0, gradient_norm=0.0)
    monkeypatch.setattr(agent.Agent, "learn", lambda self, window: updates.append(0) or scalars)
    short = ["--update_period=1", "--learning_starts=0", "--maxsteps=40", "--eval_period=1000"]
    run = train_run([*CARTPOLE, *short], tmp_path)
    assert run.updates == len(updates) == run.agent_step >= 40


def test_an_agent_step_is_a_row_that_is_no_reset(whole):
    run, first = whole["run"], whole["first"]
    assert run.agent_step == (~first).sum() and first.sum() > 20
    assert run.replay.end == len(first)
    counted = sum(int(row["length"]) for row in rows_without_seconds(whole["directory"], "train"))
    assert run.agent_step == counted + run.rollout.length[~run.rollout.last].sum()


def test_periods_fire_once_at_the_first_vector_step_at_or_past_them(whole):
    steps = (~whole["first"]).sum(axis=1).cumsum()  # agent steps after each vector step
    due = lambda period: [int(steps[steps >= k][0]) for k in range(period, steps[-1] + 1, period)]
    assert [int(steps[rows - 1]) for rows in whole["syncs"]] == due(50)
    evaluations = rows_without_seconds(whole["directory"], "eval")
    assert [int(row["agent_step"]) for row in evaluations] == [step for step in due(100) for _ in range(2)]
    numbers = [(int(row["evaluation"]), int(row["episode"])) for row in evaluations]
    assert numbers == [(k, i) for k in (1, 2, 3) for i in (0, 1)]
    logged = [int(row["agent_step"]) for row in rows_without_seconds(whole["directory"], "learn")]
    assert logged == [*due(70), int(steps[-1])]  # The last row covers less than a period.


def test_the_header_of_each_csv(whole):
    header = lambda name: (whole["directory"] / f"{name}.csv").read_text().split("\n")[0].split(",")
    assert header("train") == "agent_step frames episode_return length training_reward environment seconds".split()
    assert header("learn")[:2] == header("eval")[:2] == ["agent_step", "frames"]
    assert {"loss", "mean_q", "gradient_norm", "epsilon", "learning_rate", "updates", "environment_seconds",
            "act_seconds", "sample_seconds", "learn_seconds"} <= set(header("learn"))
    assert {"evaluation", "episode", "episode_return", "length"} <= set(header("eval"))


def test_train_csv_has_a_row_per_episode(whole):
    rows = rows_without_seconds(whole["directory"], "train")
    assert len(rows) == whole["run"].episodes and {int(row["environment"]) for row in rows} == set(range(NUM_ENVS))
    assert (whole["run"].rollout.num_seeds.max() > 1) == (whole["run"].settings["network"] == "DRQN")
    for row in rows:
        # CartPole pays 1 per step.
        assert float(row["episode_return"]) == float(row["training_reward"]) == int(row["length"])
        assert row["frames"] == row["agent_step"]
    assert list(whole["run"].returns) == [float(row["episode_return"]) for row in rows][-100:]


def test_learn_csv_has_epsilon_and_learning_rate(whole):
    for row in rows_without_seconds(whole["directory"], "learn"):
        assert float(row["epsilon"]) == pytest.approx(max(0.1, 1 - 0.9 * int(row["agent_step"]) / 200))
        assert float(row["learning_rate"]) == 0.01


def test_config_json_holds_the_resolved_settings(whole):
    config = json.loads((whole["directory"] / "config.json").read_text())
    assert config["settings"] == dict(whole["run"].settings)
    assert config["command"] == ["train.py", *whole["arguments"], f"--run_dir={whole['directory']}"]
    assert config["settings"]["history"] == dict(DQN=4, DRQN=1)[config["settings"]["network"]]
    assert config["settings"]["sample"] == "timestep"  # of vectors, for both


def test_best_weights_are_kept(whole):
    run, scores = whole["run"], {}
    for row in rows_without_seconds(whole["directory"], "eval"):
        scores.setdefault(row["evaluation"], []).append(float(row["episode_return"]))
    assert run.best == max(np.mean(returns) for returns in scores.values())
    another = build.make_agent(run.settings, run.envs)
    another.load_weights(whole["directory"] / "best.weights.h5")
    assert np.isfinite(another.get_state()["online/0"]).all()


def test_every_setting_is_used(whole):
    assert set(whole["run"].settings) - whole["read"] == {"backend"}  # Keras reads it from KERAS_BACKEND.


# Runs that repeat, and limits


def test_the_same_seed_gives_the_same_run(again, tmp_path):
    train_run(again["arguments"], tmp_path)
    assert_same_runs(again["directory"], tmp_path)


def test_evaluations_do_not_disturb_training(again, tmp_path):
    train_run([*again["arguments"], "--eval_period=100000"], tmp_path)
    assert rows_without_seconds(tmp_path, "eval") == []
    assert_same_runs(again["directory"], tmp_path, ("train", "learn"))


def test_another_seed_gives_another_run(tmp_path):
    arguments = [*CARTPOLE, "--learning_starts=90", "--maxsteps=92", "--eval_period=1000"]
    train_run(arguments, tmp_path / "one")
    train_run([*arguments, "--seed=2"], tmp_path / "two")
    one, two = arrays_of(tmp_path / "one"), arrays_of(tmp_path / "two")
    assert not np.array_equal(one["agent/online/0"], two["agent/online/0"])
    assert not np.array_equal(one["rollout/unobscured"], two["rollout/unobscured"])


def test_the_score_of_a_run_that_was_never_evaluated_is_of_its_last_weights(tmp_path, capsys):
    train_run([*CARTPOLE, "--learning_starts=90", "--maxsteps=92", "--eval_period=1000"], tmp_path)
    assert capsys.readouterr().out.endswith(f"its score: python evaluate.py --run_dir={tmp_path} --checkpoint=last\n")


@ONE_NETWORK
def test_a_run_ends_at_its_episodes_and_raising_them_goes_on(again, tmp_path, capsys):
    arguments = [*again["arguments"], "--maxepisodes=7"]
    run = train_run(arguments, tmp_path)
    rows = rows_without_seconds(tmp_path, "train")
    before = [row for row in rows if int(row["agent_step"]) < run.agent_step]
    # The run ended at the first vector step with 7 episodes or more.
    assert len(before) < 7 <= len(rows) == run.episodes < again["run"].episodes and run.agent_step < MAXSTEPS
    finished = (f"{tmp_path} is finished: {len(rows)} of 7 episodes. Raise --maxepisodes to go on; "
                "its score: python evaluate.py")
    assert finished in capsys.readouterr().out
    assert train_run(arguments, tmp_path).agent_step == run.agent_step
    assert finished in capsys.readouterr().out
    train_run([*arguments, "--maxepisodes=1000"], tmp_path)
    assert "of 300 agent steps. Raise --maxsteps" in capsys.readouterr().out
    assert_same_runs(again["directory"], tmp_path)


# Learning that goes wrong


@pytest.mark.parametrize("scalar", ["loss", "gradient_norm"])
def test_a_loss_that_is_not_finite_stops_the_run_and_the_agent_steps_are_named(tmp_path, capsys, monkeypatch, scalar):
    updates = []

    def learn(self, window):
        updates.append(None)
        broken = {scalar: np.float32("nan")} if len(updates) >= 20 else {}
        return dict(loss=0.5, mean_q=0.0, gradient_norm=1.0) | broken
    monkeypatch.setattr(agent.Agent, "learn", learn)
    assert train.main([*CARTPOLE, f"--run_dir={tmp_path}"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "no checkpoint was written after that" in error
    low, high = map(int, re.search(r"between agent steps (\d+) and (\d+)", error).groups())
    # Update 20 was made at agent step 220 or up to 3 later. Losses are checked every 70, 90 and 100 agent steps.
    assert 210 <= low < 210 + NUM_ENVS and 270 <= high < 270 + NUM_ENVS
    saved = json.loads((checkpoint_of(tmp_path) / "state.json").read_text())
    assert 180 <= saved["agent_step"] < 180 + NUM_ENVS
    assert not any("nan" in row["loss"] for row in rows_without_seconds(tmp_path, "learn") if int(row["updates"]))
    assert {int(row["evaluation"]) for row in rows_without_seconds(tmp_path, "eval")} == {1, 2}


def test_weights_with_a_non_finite_loss_never_become_the_best(tmp_path, monkeypatch):
    scalars = dict(loss=float("inf"), mean_q=0.0, gradient_norm=1.0)
    monkeypatch.setattr(agent.Agent, "learn", lambda self, window: scalars)
    monkeypatch.setattr(train, "LEARN_PERIOD", 10**6)
    with pytest.raises(FloatingPointError):
        train_run([*CARTPOLE, "--checkpoint_period=100000"], tmp_path)
    assert not list(tmp_path.glob("*.weights.h5")) and not list(tmp_path.glob("checkpoints/*"))


# Schedules of other publications


@pytest.mark.slow
def test_three_short_games_by_untitledgrubs_preset(tmp_path):
    run = train_run([f"--flagfile={ROOT}/presets/untitledgrub_breakout.flags", "--maxepisodes=3", "--weights_period=2",
                     "--max_episode_frames=400", "--eval_period=1000000"], tmp_path)
    assert (run.episodes, run.updates) == (3, run.agent_step - 32) and 200 < run.updates < 300
    assert run.agent_step == sum(int(row["length"]) for row in rows_without_seconds(tmp_path, "train"))
    *_, last = rows_without_seconds(tmp_path, "learn")
    assert float(last["epsilon"]) == pytest.approx(0.995 ** (3 / 50), rel=1e-5)
    assert (float(last["learning_rate"]), float(last["gradient_norm"]) > 0) == (3e-4, True)
    assert [path.name for path in (tmp_path / "weights").iterdir()] == ["000002.weights.h5"]


@pytest.mark.slow
def test_the_schedules_of_bhowmik_and_kalbag_in_a_real_run_of_two_simple_layers(tmp_path):
    run = train_run([*CARTPOLE, "--network=DRQN_RNN2", "--epsilon_begin=0.9", "--epsilon_end=0.05",
                     "--epsilon_decay=exp:200steps", "--update_period=1",
                     "--lr_schedule=cosine_restarts:27u:0.002"], tmp_path)
    assert run.updates == run.agent_step - LEARNING_STARTS >= 240
    learning_rate = lambda updates: 0.002 + 0.004 * (1 + np.cos(np.pi * (updates % 27) / 27))
    rows = rows_without_seconds(tmp_path, "learn")
    for row in rows:
        assert float(row["epsilon"]) == pytest.approx(0.05 + 0.85 * np.exp(-int(row["agent_step"]) / 200))
        assert float(row["learning_rate"]) == pytest.approx(learning_rate(int(row["updates"])), rel=1e-5)
    assert len({row["learning_rate"] for row in rows}) > 3
    # The optimizer in the checkpoint has the rate of the last update, which is one less than the count of updates.
    rates = [value for name, value in arrays_of(tmp_path).items()
             if name.startswith("agent/optimizer/") and value.shape == () and 0 < value < 0.011]
    assert rates == [pytest.approx(learning_rate(run.updates - 1), rel=1e-5)]


# Evaluations


@pytest.mark.parametrize("returns, best", [
    ([float("nan"), 5.0, float("inf")], 5), ([5.0, float("nan"), 4.0], 5), ([float("-inf"), float("nan"), 3.0], 3),
    ([float("nan")] * 3, None)])
def test_an_evaluation_that_is_not_finite_is_never_the_best(tmp_path, monkeypatch, returns, best):
    left, evaluate = iter(returns), evaluation.evaluate

    def evaluate_as_given(*arguments, **keywords):
        (first, *others), given = evaluate(*arguments, **keywords), next(left)
        return [first | dict(episode_return=given), *(other | dict(episode_return=given) for other in others)]

    monkeypatch.setattr(evaluation, "evaluate", evaluate_as_given)
    run = train_run([*CARTPOLE, "--network=DQN"], tmp_path)
    assert run.evaluations == 3 and run.best == best
    assert (tmp_path / "best.weights.h5").exists() == (best is not None)
    found = training.best_evaluation(tmp_path, run.settings)
    assert (found and found[1]) == best


@pytest.mark.parametrize("number", [2, 3])
def test_a_signal_breaks_an_evaluation_off_and_the_same_command_plays_it(tmp_path, monkeypatch, capsys, number):
    """Check the second evaluation, and the third, which is at the end of training."""
    arguments = [*CARTPOLE, "--network=DQN"]
    train_run(arguments, tmp_path / "whole")
    at_step = {int(row["evaluation"]): row["agent_step"] for row in rows_without_seconds(tmp_path / "whole", "eval")}
    capsys.readouterr()
    evaluate = evaluation.evaluate

    def interrupted(*positional, stop, **keywords):
        def stop_late(num_steps, playing):
            if positional[5] == number and num_steps == 4:
                signal.raise_signal(signal.SIGINT)
            return stop(num_steps, playing)
        return evaluate(*positional, stop=stop_late, **keywords)

    command = [*arguments, f"--run_dir={tmp_path / 'broken'}"]
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "evaluate", interrupted)
        assert train.main(command) == 128 + signal.SIGINT
    assert len(rows_without_seconds(tmp_path / "broken", "eval")) == 2 * (number - 1)
    said = capsys.readouterr().out
    assert f"Stopped at agent step {at_step[number]}," in said and "is finished" not in said
    settings = json.loads((tmp_path / "whole/config.json").read_text())["settings"]
    is_done = lambda name: reading.is_done(tmp_path / name, settings)
    assert (is_done("whole"), is_done("broken")) == (True, False)  # It owes an evaluation.
    assert train.main(command) == 0
    assert f"is finished: {at_step[3]} of 300 agent steps" in capsys.readouterr().out
    assert_same_runs(tmp_path / "whole", tmp_path / "broken")
    assert is_done("broken")
    read_files = lambda: {path: (path.stat().st_mtime_ns, path.read_bytes())
                          for path in (tmp_path / "broken").rglob("*") if path.is_file()}
    before = read_files()
    monkeypatch.setattr(train, "Trainer", None)  # Nothing is built, trained or written any more.
    assert train.main(command) == 0
    assert f"is finished: {at_step[3]} of 300 agent steps" in capsys.readouterr().out and read_files() == before


# Remarks


def test_remarks_on_the_environment_are_said_before_training(tmp_path, capsys):
    arguments = [*CARTPOLE, "--maxsteps=70", f"--run_dir={tmp_path}"]
    assert train.main(arguments) == 0
    assert "--max_episode_frames sets one" not in capsys.readouterr().out
    assert train.main([*arguments[:-1], f"--run_dir={tmp_path / 'endless'}", "--max_episode_frames=0"]) == 0
    assert ("--env=CartPole-v1 has no limit of frames: an episode that does not end by itself, in training or in an "
            "evaluation, goes on for ever; --max_episode_frames sets one.") in capsys.readouterr().out.splitlines()
