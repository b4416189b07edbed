"""The presets of published systems, run for some hundred updates as they stand, only smaller; UntitledGrub's is in test_train.py."""

import math

import numpy as np
import pytest
from helpers.short_runs import ROOT, rows_of, train_run

SMALLER = ["--units=8", "--bufflen=2000", "--batch_size=4", "--maxsteps=500", "--learning_starts=100", "--eval_period=100000"]
WEIGHTS = {"DRQN": 6 + 3 + 2, "DQN": 6 + 2 + 2, "DRQN_RNN2": 6 + 6 + 2}  # of torso, core and head; a vector's torso has 2


@pytest.fixture(scope="module", autouse=True)
def in_the_root():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # where presets name each other
        yield


def bhowmik(steps):
    return 0.05 + 0.85 * math.exp(-steps / 200)


@pytest.mark.slow
@pytest.mark.parametrize("arguments, updates, epsilon, learning_rate, weights", [
    ("cartpole_pixels", lambda steps: (steps - 100) // 4, lambda steps: 1 - 0.95 * steps / 20_000, 3e-4, WEIGHTS["DRQN"]),
    ("bhowmik_cartpole --unroll=3 --maxsteps=300", lambda steps: steps - 100, bhowmik, 2.5e-4, WEIGHTS["DRQN_RNN2"]),
    ("siegel_orgad --network=DQN", lambda steps: (steps - 100) // 4, lambda steps: 1 - 1.8e-6 * steps, 2.5e-4, WEIGHTS["DQN"]),
    ("slimevolley --network=DRQN", lambda steps: (steps - 100) // 4, lambda steps: 1 - 0.98 * steps / 100_000, 5e-4, 2 + 3 + 2),
    ("kalbag_bowling --maxsteps=630", lambda steps: (steps - 100) // 4, lambda steps: 1, 0.005, WEIGHTS["DRQN"]),
])
def test_a_preset_makes_the_updates_that_it_says_at_the_rates_that_it_says(arguments, updates, epsilon, learning_rate, weights, tmp_path):
    preset, *others = arguments.split()
    run = train_run([f"--flagfile=presets/{preset}.flags", *SMALLER, *others], tmp_path)
    *_, last = rows_of(tmp_path, "learn")
    assert (run.updates, int(last["updates"])) == (updates(run.agent_step), run.updates) and run.updates >= 99
    assert float(last["epsilon"]) == pytest.approx(epsilon(run.agent_step), rel=1e-6)
    assert float(last["learning_rate"]) == pytest.approx(learning_rate, rel=1e-6)
    assert float(last["loss"]) > 0 and float(last["gradient_norm"]) > 0
    online = run.agent.online_network
    assert len(online.trainable_variables) == weights
    pairs = zip(online.trainable_variables, run.agent.target_network.trainable_variables)
    moved = [np.abs(np.asarray(now) - np.asarray(at_last_copy)).max() for now, at_last_copy in pairs]
    assert max(moved) > 0  # since the last copy into the target network


@pytest.mark.slow
def test_kalbags_preset_counts_games_and_pays_for_fire(tmp_path):
    run = train_run(["--flagfile=presets/kalbag_assault.flags", "--maxepisodes=3", "--max_episode_frames=400", "--learning_starts=100",
              "--lr_schedule=step:2ep:0.5", "--eval_period=100000"], tmp_path)
    rows = rows_of(tmp_path, "train")
    *_, last = rows_of(tmp_path, "learn")
    assert run.complete_episodes == 3 == len(rows) and 40 < run.updates <= (run.agent_step - 100) // 4
    assert float(last["epsilon"]) == pytest.approx(1 - 0.9 * 3 / 20) and float(last["learning_rate"]) == pytest.approx(0.0025)
    for row in rows:  # Sign of the rewards, of 21 points each, and what is crafted: less L / 10,000 per step, which the replay adds.
        hits, length = float(row["episode_return"]) / 21, int(row["length"])
        near = float(row["training_reward"]) - hits + length * (length - 1) / 2 / 10_000
        assert 0 < near <= 0.1 * length + 1e-6
