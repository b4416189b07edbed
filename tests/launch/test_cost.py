"""What training costs: a speed is measured for every kind of run, and nothing is written."""

from launch import cost
from launch.settings import configure

import numpy as np
import pytest

from environments import rewards

SMALL = "--units=8 --num_envs=2 --batch_size=2 --max_episode_frames=100".split()
KINDS = pytest.mark.parametrize("arguments", [
    ["--env=CartPole-v1", "--network=DRQN", "--sample=sequential"], ["--env=CartPole-v1", "--network=PQN_LSTM"],
    ["--env=AssaultCrafted-v0", "--network=DQN2013", "--history=1"],
    ["--env=CartPole-v1", "--network=R2D2", "--unroll=4", "--burn_in=20", "--learning_starts=100"]],
    ids=lambda arguments: arguments[0][6:])


@KINDS
def test_a_speed_is_that_of_steps_and_of_updates(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert rewards.VARIANTS.keys() >= {"AssaultCrafted-v0"}  # whose replay draws from ended episodes alone
    settings = configure([*arguments, *SMALL])["settings"]
    calls = []

    def measure(function, seconds):
        before = len(calls)
        function()
        calls.append((before, seconds))
        return (0.5, 0.1)[before]  # seconds of a vector step, and of an update

    monkeypatch.setattr(cost, "_measure", measure)
    speed = cost.measure_speed(settings, tmp_path / "run", 8)
    # 2 agent steps take 0.5 s, and each has a share of an update.
    assert speed == pytest.approx(1 / (0.25 + 0.1 / settings["update_period"]))
    assert calls == [(0, 4), (1, 4)] and list(tmp_path.iterdir()) == []


def test_the_mean_of_calls_does_not_count_the_first(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(cost.time, "perf_counter", lambda: now[0])

    def call():
        now[0] += 100 if now[0] == 0 else 2
    assert cost._measure(call, 7) == 2 and now[0] == 108


@pytest.mark.parametrize("one, other, same", [
    ("--env=Pong --seed=1 --learning_rate=0.1", "--env=Boxing --seed=2 --gamma=0.5", True),
    ("--env=Pong", "--env=CartPole-v1", False), ("--env=CartPole-v1", "--env=Acrobot-v1", False),
    ("--env=Pong", "--env=Pong --units=8", False), ("--env=Pong", "--env=Pong --flicker=0.5", False),
    ("--env=Pong --flicker=0.2", "--env=Pong --flicker=0.5", True),
    ("--env=Pong", "--env=Pong --burn_in=10", False), ("--env=Pong", "--env=Pong --start_state=stored", True)])
def test_runs_of_one_kind_are_equally_fast(one, other, same):
    kinds = [cost.kind_of(configure(arguments.split())["settings"]) for arguments in (one, other)]
    assert (kinds[0] == kinds[1]) == same


def test_a_real_speed_is_a_positive_number(tmp_path):
    settings = configure(["--env=CartPole-v1", *SMALL])["settings"]
    assert 0 < cost.measure_speed(settings, tmp_path / "run", 0.05) < np.inf
