"""Training rewards: variants of a game, the crafted reward by hand and by the formula, and potential-based shaping."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import rollout
from environments import catalogue, rewards
from helpers import steppers
from helpers.crafted import crafted_rewards, ended_episodes
from storage import layout

ASSAULT = "NOOP FIRE UP RIGHT LEFT RIGHTFIRE LEFTFIRE".split()


def added_rewards(training_rewards, num_envs=1):
    """Return what is added to rewards of 0 in the newest row."""
    return training_rewards.add(np.zeros(num_envs), None, None)


# Variants


@pytest.mark.parametrize("name, game", [("AssaultCrafted-v0", "Assault"), ("BowlingShaped-v0", "Bowling")])
def test_a_variant_has_the_settings_actions_and_screens_of_its_game(name, game):
    assert catalogue.describe(name) == (name, catalogue.describe(game)[1])
    settings = dict(frame_skip=4, max_episode_frames=0, noops=30)
    variant, plain = (catalogue.make_envs(env, 3, **settings) for env in (name, game))
    assert variant.action_names == plain.action_names and variant.is_atari
    actions = np.random.default_rng(0).integers(len(variant.action_names), size=(40, 3))
    play = lambda envs: [envs.reset(seed=np.arange(3))[:1], *(envs.step(a)[:4] for a in actions)]
    for actual, expected in zip(play(variant), play(plain)):
        for actual_part, expected_part in zip(actual, expected):
            np.testing.assert_array_equal(actual_part, expected_part)


def test_fire_is_found_among_all_18_actions_too():
    envs = catalogue.make_envs("AssaultCrafted-v0", 1, frame_skip=4, max_episode_frames=0, full_actions=True)
    assert len(envs.action_names) == 18
    envs.reset(seed=np.array([1]))
    for action in (0, 0, envs.action_names.index("FIRE")):
        envs.step(np.array([action]))
    assert added_rewards(envs.training_rewards) == pytest.approx([0.1 - 2e-4])


def test_names_of_variants_are_suggested_and_gymnasium_make_refuses_them_in_a_sentence():
    with pytest.raises(ValueError, match="nearest names are AssaultCrafted-v0"):
        catalogue.describe("AssaultCraftet-v0")
    with pytest.raises(gymnasium.error.Error, match="^BowlingShaped-v0 is .* expected catalogue.make_envs$"):
        gymnasium.make("BowlingShaped-v0")


def test_figures_know_the_game_of_every_variant():
    assert rewards.VARIANTS.keys() == layout.GAMES.keys()


@pytest.mark.parametrize("name", rewards.VARIANTS)
def test_a_variant_can_be_filmed(name):
    envs = catalogue.make_envs(name, 2, frame_skip=4, max_episode_frames=0, noops=30, render_mode="rgb_array")
    envs.reset(seed=np.array([3, 4]))
    for _ in range(30):
        envs.step(np.array([1, 2]))
    assert envs.render()[0].shape == (210, 320, 3) and envs.render()[0].std() > 5


# The crafted reward


class TwoEmulators(gymnasium.vector.VectorEnv):
    """Two emulators that send and receive; their episodes end after `lengths` steps, and the next step resets."""

    metadata = dict(autoreset_mode=gymnasium.vector.AutoresetMode.NEXT_STEP)

    def __init__(self, *lengths):
        self.num_envs, self.lengths = 2, lengths
        self.single_observation_space = spaces.Box(0, 255, (1, 84, 84), np.uint8)

    def reset(self, *, seed=None, options=None):
        self.t = np.where((options or {}).get("reset_mask", True), 0, getattr(self, "t", 0))
        return np.zeros((2, 1, 84, 84), np.uint8), dict(lives=np.ones(2))

    def send(self, actions):
        self.t = np.where(self.t == self.lengths, 0, self.t + 1)

    def recv(self):
        terminated, truncated = self.t == self.lengths, np.zeros(2, bool)
        return np.zeros((2, 1, 84, 84), np.uint8), np.zeros(2), terminated, truncated, dict(lives=np.ones(2))


def test_the_crafted_reward_without_the_length_by_hand():
    envs = rewards.CraftedReward(TwoEmulators(4, 9), ASSAULT)
    assert envs.length_reward == 1e-4

    def reset_rewards():
        envs.reset()
        return added_rewards(envs, 2).tolist()

    def step_rewards(*actions):
        envs.step(np.array(actions))
        return added_rewards(envs, 2).tolist()
    assert reset_rewards() == [0, 0]
    steps = np.array([step_rewards(*actions) for actions in [(0, 0), (1, 5), (0, 0), (5, 1), (1, 0), (0, 0)]])
    # 0.2 / (e^(k / 5) + 1) is .1, .0900332, .0802625, .0708687, ... k steps after FIRE. RIGHTFIRE, 5, does not count.
    # The first environment resets in the fifth step.
    assert steps[:, 0] == pytest.approx([0.1, 0.1 - 1e-4, 0.0900332 - 2e-4, 0.0802625 - 3e-4, 0, 0.1])
    assert steps[:, 1] == pytest.approx(
        [0.1, 0.0900332 - 1e-4, 0.0802625 - 2e-4, 0.1 - 3e-4, 0.0900332 - 4e-4, 0.0802625 - 5e-4])
    assert reset_rewards() == [0, 0]  # in the middle of an episode
    assert step_rewards(0, 0) == pytest.approx([0.1, 0.1])


@pytest.mark.parametrize("num_steps", [4, 5, 7])  # The first environment's episode has ended; it resets; it runs on.
def test_a_reset_of_one_environment_starts_its_crafted_reward_anew_and_leaves_the_other(num_steps):
    envs, undisturbed = (rewards.CraftedReward(TwoEmulators(4, 99), ASSAULT) for _ in range(2))
    for each in (envs, undisturbed):
        each.reset()
        for _ in range(num_steps):
            each.step(np.array([1, 0]))
    envs.reset(options=dict(reset_mask=np.array([True, False])))
    assert added_rewards(envs, 2).tolist() == [0, added_rewards(undisturbed, 2)[1]]
    fresh = rewards.CraftedReward(TwoEmulators(4, 99), ASSAULT)
    fresh.reset()
    for actions in [(0, 0), (0, 1), (1, 0), (0, 0), (0, 0), (0, 0)]:
        for each in (envs, undisturbed, fresh):
            each.step(np.array(actions))
        assert added_rewards(envs, 2).tolist() == [added_rewards(fresh, 2)[0], added_rewards(undisturbed, 2)[1]]


def test_a_long_episode_overflows_nothing():
    envs = rewards.CraftedReward(TwoEmulators(9000, 9000), ASSAULT)
    envs.reset()
    for _ in range(9000):
        envs.step(np.zeros(2))
    assert added_rewards(envs, 2) == pytest.approx([-8999e-4] * 2)


def test_the_crafted_reward_is_added_to_the_clipped_reward_and_to_the_penalty_of_a_lost_life(monkeypatch):
    monkeypatch.setattr(rollout, "RESEED_PERIOD", 300)  # The second episode has a seed of its own.
    (rows, episodes), (plain_rows, plain_episodes) = (
        steppers.step_rows(steppers.make_atari_rollout(env, life_loss="penalty", max_episode_frames=800), 403)
        for env in ("AssaultCrafted-v0", "Assault"))
    assert {-1, 0, 1} == {float(r) for row in plain_rows for r in row["reward"]}
    for env in range(2):
        reported, plain_reported = ([episode for episode in some if episode["environment"] == env]
                                    for some in (episodes, plain_episodes))
        ended, plain_ended = ended_episodes(rows, env), ended_episodes(plain_rows, env)
        assert [len(steps) for steps in ended] == [episode["length"] for episode in reported] == [200, 200]
        for steps, plain_steps, episode, plain_episode in zip(ended, plain_ended, reported, plain_reported):
            expected = crafted_rewards([step["action"] for step in steps])
            added = [step["reward"] - plain_step["reward"] + len(steps) / 10_000
                     for step, plain_step in zip(steps, plain_steps)]
            assert added == pytest.approx(expected)
            assert episode["training_reward"] == pytest.approx(plain_episode["training_reward"] + sum(expected))
            assert episode["episode_return"] == plain_episode["episode_return"]


# Shaping


class TwiceTheFrame(gymnasium.vector.VectorWrapper, rewards.Shaping):
    """A potential of twice the frame's number."""

    def reset(self, **settings):
        observations, info = self.env.reset(**settings)
        self.replace(2.0 * observations[:, 0])
        return observations, info

    def step(self, actions):
        observations, *others = self.env.step(actions)
        self.follow(2.0 * observations[:, 0])
        return observations, *others


def shape_rewards(stepper):
    """Shape the training rewards of a rollout with TwiceTheFrame; return the rollout."""
    stepper.envs.env = stepper.envs.training_rewards = TwiceTheFrame(stepper.envs.env)
    return stepper


@pytest.mark.parametrize("end, shaping", [
    # Frames 1 2 3 4 have the potentials 2 4 6 8, and gamma is .9: .9 4 - 2, then .9 6 - 4, and at the end
    ("terminated", [1.6, 1.4, -6.0]),  # 0 - 6. Discounted, the three add up to 0 - 2.
    ("truncated", [1.6, 1.4, 1.2]),  # .9 8 - 6. Discounted, they add up to .9^3 8 - 2 = 3.832.
])
@pytest.mark.parametrize("period", [3, 10**6])  # Each episode has a seed of its own, or not.
def test_shaping_by_hand_telescopes_and_a_first_row_has_none(monkeypatch, end, shaping, period):
    monkeypatch.setattr(rollout, "RESEED_PERIOD", period)
    make_stepper = lambda: steppers.make_rollout(length=3, end=end)
    rows, episodes = steppers.step_rows(shape_rewards(make_stepper()), 9)
    plain, _ = steppers.step_rows(make_stepper(), 9)
    added = np.array(steppers.column(rows, "reward")) - steppers.column(plain, "reward")
    assert added == pytest.approx([0, *shaping, 0, *shaping, 0])
    assert sum(0.9**t * added[1 + t] for t in range(3)) == pytest.approx(dict(terminated=-2, truncated=3.832)[end])
    assert episodes[0]["training_reward"] == pytest.approx(episodes[0]["episode_return"] + sum(shaping))


def test_shaping_follows_a_lost_life_that_ends_the_return():
    settings = dict(length=9, lives=3, life_loss="terminal")
    rows, _ = steppers.step_rows(shape_rewards(steppers.make_rollout(**settings)), 3)
    plain, _ = steppers.step_rows(steppers.make_rollout(**settings), 3)
    assert steppers.column(rows, "discount")[1:] == [0.0, 0.9]  # A life is lost at frame 2.
    added = np.array(steppers.column(rows, "reward")) - steppers.column(plain, "reward")
    assert added == pytest.approx([0, -2, 0.9 * 6 - 4])


def test_shaping_of_other_environments_stays_where_one_gets_a_seed(monkeypatch):
    monkeypatch.setattr(rollout, "RESEED_PERIOD", 15)
    make_stepper = lambda: steppers.make_rollout(length=(1, 9), end="truncated")
    stepper = shape_rewards(make_stepper())
    rows, _ = steppers.step_rows(stepper, 60)
    plain, _ = steppers.step_rows(make_stepper(), 60)
    for row, other in zip(rows, plain):
        t = row["frame"][:, 0].astype(float)
        shaping = np.where(row["first"], 0, 0.9 * 2 * t - 2 * (t - 1))
        np.testing.assert_allclose(row["reward"] - other["reward"], shaping, atol=1e-9)
    assert stepper.num_seeds.min() > 3


def test_restored_shaping_goes_on_as_the_original(monkeypatch):
    monkeypatch.setattr(rollout, "RESEED_PERIOD", 15)
    one, two = (shape_rewards(steppers.make_rollout(length=(2, 5))) for _ in range(2))
    steppers.step_rows(one, 12)
    assert two.set_state(one.get_state())
    rows, same_rows = (steppers.step_rows(stepper, 12, np.random.default_rng(1))[0] for stepper in (one, two))
    for row, same in zip(rows, same_rows):
        np.testing.assert_array_equal(row["reward"], same["reward"])


class Chain(gymnasium.Env):
    """Five places in a row and a goal after the last one.

    Action 0 goes back to the first place for a small reward, action 1 goes one place back for a reward that grows with
    the place, action 2 goes on.
    """

    action_space, observation_space = spaces.Discrete(3), spaces.Box(0, 9, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 1
        return np.array([1], np.float32), {}

    def step(self, action):
        reward = [0.15, 0.05 * self.at, 0.0][action]
        self.at = [1, max(1, self.at - 1), self.at + 1][action]
        return np.array([self.at], np.float32), reward + 2.0 * (self.at == 6), self.at == 6, False, {}


def test_shaping_keeps_the_optimal_policy_of_a_small_world():
    """Compute Q by value iteration over the rows of training, with the potential and without it.

    Q with the potential is Q without it, less the potential, so the best actions are the same.
    """
    gymnasium.register("Chain-v0", entry_point=Chain)
    tables = []
    for wrap in (lambda stepper: stepper, shape_rewards):
        envs = catalogue.make_envs("Chain-v0", 8, frame_skip=1, max_episode_frames=0)
        stepper = wrap(rollout.Rollout(envs, steppers.Recorder(), 1, 0.9, "none", 1))
        rows, _ = steppers.step_rows(stepper, 1200)
        transitions = {}
        for before, row in zip(rows, rows[1:]):
            for env in np.flatnonzero(~row["first"]):
                at, after = int(before["frame"][env, 0]), int(row["frame"][env, 0])
                transitions[at, int(row["action"][env])] = row["reward"][env], row["discount"][env], after
        assert len(transitions) == 15
        q_values = np.zeros((7, 3))
        for _ in range(300):
            for (at, action), (reward, discount, after) in transitions.items():
                q_values[at, action] = reward + discount * q_values[after].max()
        tables.append(q_values[1:6])
    plain, shaped = tables
    np.testing.assert_allclose(shaped, plain - 2 * np.arange(1, 6)[:, None], atol=1e-9)
    assert shaped.argmax(1).tolist() == plain.argmax(1).tolist() and set(plain.argmax(1)) == {0, 2}


def test_the_potential_of_bowling_is_the_share_of_pins_that_the_game_pays_for():
    """Compare the pins that are down with the reward that the game pays when they are set up again."""
    envs = catalogue.make_envs("BowlingShaped-v0", 4, frame_skip=4, max_episode_frames=0, noops=30)
    rng, paid = np.random.default_rng(0), []
    envs.reset(seed=np.arange(4))
    potential = lambda: envs.training_rewards._potential
    assert potential().tolist() == [0] * 4
    for _ in range(450):
        before = potential()
        _, reward, *_ = envs.step(rng.integers(6, size=4))
        paid += [(10 * before[env], reward[env]) for env in np.flatnonzero(reward)]
    assert all(down == pytest.approx(reward) for down, reward in paid)
    assert len(paid) > 4 and len({reward for _, reward in paid}) > 1


@pytest.mark.parametrize("key", ["potential", "crafted", "length_reward"])
def test_what_an_environment_of_a_user_reports_in_its_info_changes_no_reward(key):
    class Reporting(gymnasium.vector.VectorWrapper):
        steps = 0

        def step(self, actions):
            self.steps += 1
            *row, info = self.env.step(actions)
            return *row, info | {key: np.full(3, 100.0 * self.steps)}

    stepper, plain = (steppers.make_rollout(length=9) for _ in range(2))
    stepper.envs.env = Reporting(stepper.envs.env)
    (rows, episodes), (expected, expected_episodes) = (steppers.step_rows(each, 12) for each in (stepper, plain))
    assert episodes == expected_episodes and len(episodes) > 0
    for row, other in zip(rows, expected):
        np.testing.assert_array_equal(row["reward"], other["reward"])


@pytest.mark.parametrize("reward_scale, expected", [
    ("clip", [-0.75, 1.25, -0.75, 1.25]), ("raw", [-0.75, 30.25, -0.75, 50.25]),
    ("rescale", [-0.75, 30.25, -0.75, 50.25])])
def test_a_reward_is_scaled_then_a_lost_life_takes_its_place_then_the_variants_own_is_added(reward_scale, expected):
    """Raw rewards are 20, 30, 40 and 50; lives are lost with the first and the third."""
    class Quarter(rewards.Rewards):
        def add(self, reward, discount, first):
            return reward + 0.25

    envs = steppers.make_rollout(length=9, lives=5).envs
    envs.training_rewards = Quarter()
    stepper = rollout.Rollout(envs, steppers.Recorder(num_actions=1), 1, 0.9, "penalty", 1, reward_scale)
    rows, _ = steppers.step_rows(stepper, 5)
    assert steppers.column(rows, "reward")[1:] == expected
