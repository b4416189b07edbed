"""A run that learns from the crafted reward: updates wait for ended episodes, and it goes on after stops and kills.

Episodes have 30 agent steps, the ring holds two of each environment, and every second one is followed by a new seed.
"""

import numpy as np
import pytest

import replay
import rollout
import train
from helpers import short_runs
from helpers.crafted import crafted_rewards, ended_episodes

pytestmark = pytest.mark.slow
ARGUMENTS = """--env=AssaultCrafted-v0 --network=DRQN --maxsteps=400 --units=8 --num_envs=4 --bufflen=240 --batch_size=4
    --unroll=3 --sample=sequential --flicker=0.3 --sticky=0.25 --noops=5 --max_episode_frames=120 --learning_starts=40
    --update_period=2 --target_period=20 --optimizer=adagrad --lr_schedule=step:4ep:0.5 --eval_period=300
    --eval_episodes=2 --checkpoint_period=150""".split()


@pytest.fixture(scope="module")
def crafted_run(small_periods, tmp_path_factory):
    """Train without a stop.

    Returns:
        dict(directory, run: Trainer, rows: of the replay, counts: (agent steps, updates) after each vector step,
        weights: of the online network at the start).
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollout, "RESEED_PERIOD", 160)
        rows, counts, weights = [], [], []
        append, store = replay.Replay.append, train.Trainer._store

        def recording_append(self, **row):
            rows.append({name: np.array(value) for name, value in row.items()})
            append(self, **row)

        def recording_store(self, *row):
            if not weights:
                weights.extend(w.copy() for w in self.agent.online_network.get_weights())
            store(self, *row)
            counts.append((self.agent_step, self.updates))
        patch.setattr(replay.Replay, "append", recording_append)
        patch.setattr(train.Trainer, "_store", recording_store)
        directory = tmp_path_factory.mktemp("crafted")
        run = short_runs.train_run(ARGUMENTS, directory)
    return dict(directory=directory, run=run, rows=rows, counts=counts, weights=weights)


def test_updates_wait_for_an_ended_episode_and_are_made_up_for(crafted_run):
    run, (agent_steps, updates) = crafted_run["run"], np.transpose(crafted_run["counts"])
    # 20 updates were owed when the first episode ended. From then on a vector step made 4, of which 2 were newly owed.
    assert updates[agent_steps <= 120].max() == 0 and run.updates == (run.agent_step - 40) // 2 == 180
    assert set(np.diff(updates[agent_steps > 120])) <= {0, 1, 2, 3, 4} and np.diff(updates).max() == 4
    after = run.agent.online_network.get_weights()
    assert any((w != w_after).any() for w, w_after in zip(crafted_run["weights"], after, strict=True))


def test_windows_and_train_csv_have_the_crafted_rewards_of_each_episode(crafted_run):
    run, num_compared = crafted_run["run"], 0
    episodes = short_runs.rows_without_seconds(crafted_run["directory"], "train")
    for env in range(4):
        of_env, start = [row for row in episodes if row["environment"] == str(env)], 0
        for steps, row in zip(ended_episodes(crafted_run["rows"], env), of_env):
            assert len(steps) == int(row["length"])
            first, start = start, start + len(steps) + 1
            if first < run.replay.oldest:
                continue
            window = run.replay.windows(np.arange(first, start - 1), np.full(len(steps), env))
            clipped = window.reward[:, 0] - crafted_rewards([step["action"] for step in steps])
            assert np.abs(clipped - clipped.round()).max() < 1e-6 and set(clipped.round()) <= {0.0, 1.0}
            assert window.reward[:, 0].sum() == pytest.approx(float(row["training_reward"]), abs=1e-4)
            num_compared += len(steps)
    assert num_compared > 100 and run.rollout.num_seeds.tolist() == [2] * 4


def test_a_crafted_run_stopped_killed_and_continued_equals_uninterrupted(crafted_run, tmp_path, monkeypatch):
    monkeypatch.setattr(rollout, "RESEED_PERIOD", 160)
    short_runs.stop_at(50, ARGUMENTS, tmp_path)  # while updates wait
    short_runs.kill_at(310, ARGUMENTS, tmp_path)  # after the environments got new seeds
    short_runs.train_run(ARGUMENTS, tmp_path)
    short_runs.assert_same_runs(crafted_run["directory"], tmp_path)
