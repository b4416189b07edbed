"""Variants of a game with other training rewards, the crafted reward of Assault, and learning from it; shaping is in test_shaping.py."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from helpers import short_runs, steppers, tapes

import replay
import rollout
import train
from environments import catalogue, rewards
from storage import layout

ASSAULT = "NOOP FIRE UP RIGHT LEFT RIGHTFIRE LEFTFIRE".split()


def formula(actions, fire=1):
    """The crafted rewards of an episode's actions, as the paper has them: one loop, i from 0."""
    last_fire, rewards = 0, []
    for i, action in enumerate(actions):
        last_fire = i if action == fire else last_fire
        rewards.append((len(actions) - i) / 10_000 + 0.2 / (np.exp((i - last_fire) / 5) + 1))
    return rewards


def episodes_of(rows, env):
    """Return the episodes of one environment among vector steps' rows, each as the list of its rows after the first; all have ended."""
    episodes = []
    for row in rows:
        if row["first"][env]:
            episodes.append([])
        else:
            episodes[-1].append({name: row[name][env] for name in ("action", "reward", "discount")})
    return episodes[:-1]


def told_by(training_rewards, num_envs=1):
    """Return what is added to rewards of 0 in the newest row."""
    return training_rewards.add(np.zeros(num_envs), None, None)


# Names


@pytest.mark.parametrize("name, game", [("AssaultCrafted-v0", "Assault"), ("BowlingShaped-v0", "Bowling")])
def test_a_variant_has_its_games_settings_actions_and_screens(name, game):
    assert catalogue.describe(name) == (name, catalogue.describe(game)[1])
    settings = dict(frame_skip=4, max_episode_frames=0, noops=30)
    ours, plain = (catalogue.make_envs(env, 3, **settings) for env in (name, game))
    assert ours.action_names == plain.action_names and ours.is_atari
    actions = np.random.default_rng(0).integers(len(ours.action_names), size=(40, 3))
    for seen, expected in zip(*([envs.reset(seed=np.arange(3))[:1], *(envs.step(a)[:4] for a in actions)] for envs in (ours, plain))):
        for part, expected_part in zip(seen, expected):
            np.testing.assert_array_equal(part, expected_part)


def test_all_18_actions_have_their_fire_too():
    envs = catalogue.make_envs("AssaultCrafted-v0", 1, frame_skip=4, max_episode_frames=0, full_actions=True)
    assert len(envs.action_names) == 18
    envs.reset(seed=np.array([1]))
    for action in (0, 0, envs.action_names.index("FIRE")):
        envs.step(np.array([action]))
    assert told_by(envs.training_rewards) == pytest.approx([0.1 - 2e-4])


def test_names_are_offered_and_gymnasium_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="nearest names are AssaultCrafted-v0"):
        catalogue.describe("AssaultCraftet-v0")
    with pytest.raises(gymnasium.error.Error, match="^BowlingShaped-v0 is .* expected catalogue.make_envs$"):
        gymnasium.make("BowlingShaped-v0")


def test_figures_know_the_game_of_every_variant():
    assert {name: game for name, (game, _) in rewards.VARIANTS.items()} == layout.GAMES


@pytest.mark.parametrize("name", rewards.VARIANTS)
def test_a_variant_can_be_filmed(name):
    envs = catalogue.make_envs(name, 2, frame_skip=4, max_episode_frames=0, noops=30, render_mode="rgb_array")
    envs.reset(seed=np.array([3, 4]))
    for _ in range(30):
        envs.step(np.array([1, 2]))
    assert envs.render()[0].shape == (210, 320, 3) and envs.render()[0].std() > 5


# The crafted reward


class Emulators(gymnasium.vector.VectorEnv):
    """Two emulators that send and receive; their episodes end after `lengths` steps, and reset in the step after that."""

    metadata = dict(autoreset_mode=gymnasium.vector.AutoresetMode.NEXT_STEP)

    def __init__(self, *lengths):
        self.num_envs, self.lengths = 2, lengths
        self.single_observation_space = spaces.Box(0, 255, (1, 84, 84), np.uint8)

    def reset(self, *, seed=None, options=None):
        self.t = np.zeros(2, np.int64)
        return np.zeros((2, 1, 84, 84), np.uint8), dict(lives=np.ones(2))

    def send(self, actions):
        self.t = np.where(self.t == self.lengths, 0, self.t + 1)

    def recv(self):
        return np.zeros((2, 1, 84, 84), np.uint8), np.zeros(2), self.t == self.lengths, np.zeros(2, bool), dict(lives=np.ones(2))


def test_the_formula_without_its_length_by_hand():
    envs = rewards.CraftedReward(Emulators(4, 9), ASSAULT)
    assert envs.length_reward == 1e-4

    def told(call):
        call()
        return told_by(envs, 2).tolist()
    assert told(envs.reset) == [0, 0]
    steps = [told(lambda: envs.step(np.array(actions))) for actions in [(0, 0), (1, 5), (0, 0), (5, 1), (1, 0), (0, 0)]]  # noqa: B023
    # 0.2 / (e^(k / 5) + 1) for k steps after FIRE is .1, .0900332, .0802625, .0708687, ...; RIGHTFIRE, 5, is another action.
    assert np.array(steps)[:, 0] == pytest.approx([0.1, 0.1 - 1e-4, 0.0900332 - 2e-4, 0.0802625 - 3e-4, 0, 0.1])  # The 5th resets.
    assert np.array(steps)[:, 1] == pytest.approx([0.1, 0.0900332 - 1e-4, 0.0802625 - 2e-4, 0.1 - 3e-4, 0.0900332 - 4e-4, 0.0802625 - 5e-4])
    assert told(envs.reset) == [0, 0]  # as a reseed does, in the midst of an episode
    assert told(lambda: envs.step(np.array([0, 0]))) == pytest.approx([0.1, 0.1])


def test_a_long_episode_overflows_nothing():
    envs = rewards.CraftedReward(Emulators(9000, 9000), ASSAULT)
    envs.reset()
    for _ in range(9000):
        envs.step(np.zeros(2))
    assert told_by(envs, 2) == pytest.approx([-8999e-4] * 2)


def test_training_adds_it_to_the_clipped_reward_and_to_a_lost_life(monkeypatch):
    monkeypatch.setattr(rollout, "RESEED_PERIOD", 260)  # cuts the second episode
    (rows, episodes), (plain_rows, plain_episodes) = (
        steppers.step_rows(steppers.make_atari_rollout(env, life_loss="penalty", max_episode_frames=800), 300)
        for env in ("AssaultCrafted-v0", "Assault"))
    assert {-1, 0, 1} == {float(r) for row in plain_rows for r in row["reward"]}
    for env in range(2):
        ended, plain = episodes_of(rows, env), episodes_of(plain_rows, env)
        told = [episode for episode in episodes if episode["environment"] == env]
        assert [len(steps) for steps in ended] == [e["length"] for e in told] == [200, 59] and [e["cut"] for e in told] == [0, 1]
        for steps, plain_steps, episode, plain_episode in zip(ended, plain, told, (e for e in plain_episodes if e["environment"] == env)):
            expected = formula([step["action"] for step in steps])
            added = [step["reward"] - plain_step["reward"] + len(steps) / 10_000 for step, plain_step in zip(steps, plain_steps)]
            assert added == pytest.approx(expected)
            assert episode["training_reward"] == pytest.approx(plain_episode["training_reward"] + sum(expected))
            assert episode["episode_return"] == plain_episode["episode_return"]


# Drawing from episodes that have ended


def whole_replay(history, unroll, sample, **settings):
    return tapes.Replay(tapes.NUM_ROWS * tapes.N, tapes.N, (2,), np.float32, history, unroll, sample, 0, **settings)


@pytest.mark.parametrize("sample", tapes.SAMPLES)
@pytest.mark.parametrize("history, unroll", tapes.HISTORY_UNROLL)
def test_only_ended_episodes_are_drawn_and_their_rewards_know_their_length(history, unroll, sample):
    replay = whole_replay(history, unroll, sample, length_reward=0.5)
    tape, drawn, waited = tapes.Tape(replay, seed=history), 0, 0
    for _ in range(300):
        tape.write(1)
        ended = [own for own in tape.transitions(history) if own[0][1] is not tape.episodes[own[0][0]][-1]]
        assert replay.ready == bool(ended)
        if not ended:
            waited += 1
            with pytest.raises(RuntimeError, match="an episode that has ended"):
                replay.sample(2)
            continue
        drawn += 1
        of_frame = {episode[k].number: (episode, k) for own in ended for _, episode, k in own}
        window = replay.sample(6)
        for b, frame in enumerate(window.frames[:, history - 1, 0]):
            episode, k = of_frame[frame]
            own = tapes.naive_window(episode, k, history, unroll)
            np.testing.assert_array_equal(window.frames[b], own.frames)
            np.testing.assert_allclose(window.reward[b], [m * (r + 0.5 * (len(episode) - 1)) for r, m in zip(own.reward, own.mask)], 1e-6)
    assert drawn > 150 and waited > 2


def test_timesteps_of_ended_episodes_are_drawn_uniformly():
    replay = whole_replay(1, 1, "timestep", length_reward=1.0)
    tape = tapes.Tape(replay, seed=4)
    tape.write(90)
    ended = [own for own in tape.transitions(1) if own[0][1] is not tape.episodes[own[0][0]][-1]]
    numbers = [episode[k].number for own in ended for _, episode, k in own]
    drawn, counts = np.unique(replay.sample(20_000).frames[:, 0, 0], return_counts=True)
    assert drawn.tolist() == sorted(numbers)
    assert np.abs(counts * len(numbers) / 20_000 - 1).max() < 5 * np.sqrt(len(numbers) / 20_000)


# A run of DRQN: episodes of 30 agent steps, a ring that holds two of each environment, and reseeds that cut.

ARGUMENTS = """--env=AssaultCrafted-v0 --network=DRQN --maxsteps=400 --units=8 --num_envs=4 --bufflen=240 --batch_size=4 --unroll=3
    --sample=sequential --flicker=0.3 --sticky=0.25 --noops=5 --max_episode_frames=120 --learning_starts=40 --update_period=2
    --target_period=20 --optimizer=adagrad --lr_schedule=step:4ep:0.5 --eval_period=300 --eval_episodes=2 --checkpoint_period=150""".split()


@pytest.fixture(scope="module")
def whole(small_periods, tmp_path_factory):
    """An uninterrupted run: its directory, Trainer, rows of the replay, updates made by each agent step, and weights at its start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollout, "RESEED_PERIOD", 70)
        rows, made, weights = [], [], []
        append, store = replay.Replay.append, train.Trainer._store

        def noted(self, **row):
            rows.append({name: np.array(value) for name, value in row.items()})
            append(self, **row)

        def counted(self, *row):
            weights.append([w.copy() for w in self.agent.online_network.get_weights()] if not weights else None)
            store(self, *row)
            made.append((self.agent_step, self.updates))
        patch.setattr(replay.Replay, "append", noted)
        patch.setattr(train.Trainer, "_store", counted)
        directory = tmp_path_factory.mktemp("crafted")
        run = short_runs.train_run(ARGUMENTS, directory)
    return dict(directory=directory, run=run, rows=rows, made=made, weights=weights[0])


@pytest.mark.slow
def test_a_run_learns_from_the_crafted_rewards_of_ended_episodes(whole):
    run, (agent_steps, updates) = whole["run"], np.transpose(whole["made"])
    # 20 owed updates waited until an episode had ended; then 4 were made per vector step, for 2 that became due, until none was owed.
    assert updates[agent_steps <= 120].max() == 0 and run.updates == (run.agent_step - 40) // 2 == 180
    assert set(np.diff(updates[agent_steps > 120])) <= {0, 1, 2, 3, 4} and np.diff(updates).max() == 4
    assert any((before != after).any() for before, after in zip(whole["weights"], run.agent.online_network.get_weights()))
    told, compared = short_runs.rows_of(whole["directory"], "train"), 0
    for env in range(4):
        ends, start = [row for row in told if row["environment"] == str(env)], 0
        for steps, row in zip(episodes_of(whole["rows"], env), ends):
            assert len(steps) == int(row["length"])
            expected = formula([step["action"] for step in steps])
            first, start = start, start + len(steps) + 1
            if first < run.replay.oldest:
                continue
            window = run.replay.windows(np.arange(first, start - 1), np.full(len(steps), env))
            clipped = window.reward[:, 0] - expected
            assert np.abs(clipped - clipped.round()).max() < 1e-6 and set(clipped.round()) <= {0.0, 1.0}
            assert window.reward[:, 0].sum() == pytest.approx(float(row["training_reward"]), abs=1e-4)
            compared += len(steps)
    assert compared > 100 and {row["cut"] for row in told} == {"0", "1"}


@pytest.mark.slow
def test_stopped_killed_and_continued_equals_uninterrupted(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(rollout, "RESEED_PERIOD", 70)
    short_runs.stop_at(50, ARGUMENTS, tmp_path)  # while updates wait
    short_runs.kill_at(310, ARGUMENTS, tmp_path)  # after a reseed
    short_runs.train_run(ARGUMENTS, tmp_path)
    short_runs.assert_same_runs(whole["directory"], tmp_path)
