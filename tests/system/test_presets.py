"""Presets of published systems, made smaller, run for some hundred updates; UntitledGrub's is in test_train.py."""

import math

import numpy as np
import pytest

from helpers.short_runs import ROOT, rows_without_seconds, train_run

SMALLER = """--units=8 --bufflen=2000 --batch_size=4 --maxsteps=500 --learning_starts=100
    --eval_period=100000""".split()
# Numbers of weights of torso, core and head; the torso of a vector has 2.
WEIGHTS = {"DRQN": 6 + 3 + 2, "DQN": 6 + 2 + 2, "DRQN_RNN2": 6 + 6 + 2}


@pytest.fixture(scope="module", autouse=True)
def in_the_root():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # where presets name each other
        yield


def bhowmik_epsilon(steps):
    return 0.05 + 0.85 * math.exp(-steps / 200)


def every_fourth(steps):
    """Return how many updates have been made after so many agent steps."""
    return (steps - 100) // 4


@pytest.mark.slow
@pytest.mark.parametrize("arguments, updates, epsilon, learning_rate, num_weights", [
    ("cartpole_pixels", every_fourth, lambda steps: 1 - 0.95 * steps / 20_000, 3e-4, WEIGHTS["DRQN"]),
    ("bhowmik_cartpole --unroll=3 --maxsteps=300", lambda steps: steps - 100, bhowmik_epsilon, 2.5e-4,
     WEIGHTS["DRQN_RNN2"]),
    ("siegel_orgad --network=DQN", every_fourth, lambda steps: 1 - 1.8e-6 * steps, 2.5e-4, WEIGHTS["DQN"]),
    pytest.param("slimevolley --network=DRQN", every_fourth, lambda steps: 1 - 0.98 * steps / 100_000, 5e-4, 2 + 3 + 2,
                 marks=pytest.mark.slimevolley),
    ("kalbag_bowling --maxsteps=630", every_fourth, lambda steps: 1, 0.005, WEIGHTS["DRQN"]),
])
def test_a_preset_makes_the_updates_that_it_says_at_the_rates_that_it_says(
        arguments, updates, epsilon, learning_rate, num_weights, tmp_path):
    preset, *others = arguments.split()
    run = train_run([f"--flagfile=presets/{preset}.flags", *SMALLER, *others], tmp_path)
    *_, last = rows_without_seconds(tmp_path, "learn")
    assert (run.updates, int(last["updates"])) == (updates(run.agent_step), run.updates) and run.updates >= 99
    assert float(last["epsilon"]) == pytest.approx(epsilon(run.agent_step), rel=1e-6)
    assert float(last["learning_rate"]) == pytest.approx(learning_rate, rel=1e-6)
    assert float(last["loss"]) > 0 and float(last["gradient_norm"]) > 0
    online = run.agent.online_network
    assert len(online.trainable_variables) == num_weights
    pairs = zip(online.trainable_variables, run.agent.target_network.trainable_variables)
    moved = [np.abs(np.asarray(now) - np.asarray(at_last_copy)).max() for now, at_last_copy in pairs]
    assert max(moved) > 0  # since the last copy into the target network


@pytest.mark.slow
def test_kalbags_preset_counts_games_and_pays_for_fire(tmp_path):
    arguments = """--flagfile=presets/kalbag_assault.flags --maxepisodes=3 --max_episode_frames=400
        --learning_starts=100 --lr_schedule=step:2ep:0.5 --eval_period=100000""".split()
    run = train_run(arguments, tmp_path)
    rows = rows_without_seconds(tmp_path, "train")
    *_, last = rows_without_seconds(tmp_path, "learn")
    assert run.episodes == 3 == len(rows) and 40 < run.updates <= (run.agent_step - 100) // 4
    assert float(last["epsilon"]) == pytest.approx(1 - 0.9 * 3 / 20)
    assert float(last["learning_rate"]) == pytest.approx(0.0025)
    # A training reward is the sign of a raw one, of 21 points, and a crafted one. The replay adds L / 10,000 per step.
    for row in rows:
        hits, length = float(row["episode_return"]) / 21, int(row["length"])
        near = float(row["training_reward"]) - hits + length * (length - 1) / 2 / 10_000
        assert 0 < near <= 0.1 * length + 1e-6
