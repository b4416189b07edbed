"""Potential-based shaping: by hand, over cuts and checkpoints, that it keeps optimal policies, and Bowling's own potential."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from helpers import steppers

import rollout
from environments import catalogue, rewards


class Potential(gymnasium.vector.VectorWrapper, rewards.Shaping):
    """A potential of twice the frame's number."""

    def reset(self, **settings):
        observations, info = self.env.reset(**settings)
        self.follow(2.0 * observations[:, 0])
        return observations, info

    def step(self, actions):
        observations, *others = self.env.step(actions)
        self.follow(2.0 * observations[:, 0])
        return observations, *others


def shaped(stepper):
    stepper.envs.env = stepper.envs.training_rewards = Potential(stepper.envs.env)
    return stepper


@pytest.mark.parametrize("end, shaping", [
    # Frames 1 2 3 4 have potentials 2 4 6 8, gamma is .9: .9 4 - 2, .9 6 - 4, and then
    ("terminated", [1.6, 1.4, -6.0]),  # 0 - 6: discounted they add up to 0 - 2
    ("truncated", [1.6, 1.4, 1.2]),  # .9 8 - 6: .9^3 8 - 2 = 3.832
])
def test_shaping_by_hand_telescopes_and_a_reset_has_none(end, shaping):
    make = lambda: steppers.make_rollout(length=3, end=end)
    (rows, episodes), (plain, _) = steppers.step_rows(shaped(make()), 9), steppers.step_rows(make(), 9)
    added = np.array(steppers.column(rows, "reward")) - steppers.column(plain, "reward")
    assert added == pytest.approx([0, *shaping, 0, *shaping, 0])
    assert sum(0.9**t * added[1 + t] for t in range(3)) == pytest.approx(dict(terminated=-2, truncated=3.832)[end])
    assert episodes[0]["training_reward"] == pytest.approx(episodes[0]["episode_return"] + sum(shaping))


def test_shaping_follows_a_cut_by_a_reseed_and_a_lost_life_that_ends_the_return(monkeypatch):
    monkeypatch.setattr(rollout, "RESEED_PERIOD", 2)
    rows, _ = steppers.step_rows(shaped(steppers.make_rollout(length=9, lives=3, life_loss="terminal")), 6)
    plain, _ = steppers.step_rows(steppers.make_rollout(length=9, lives=3, life_loss="terminal"), 6)
    assert steppers.column(rows, "discount")[1:3] == [0.0, 0.9]  # A life goes when frame 2 is reached.
    added = np.array(steppers.column(rows, "reward")) - steppers.column(plain, "reward")
    assert added == pytest.approx([0, -2, 0.9 * 6 - 4, 0, -2, 0.9 * 6 - 4])


def test_shaping_goes_on_where_a_checkpoint_left_it():
    make = lambda: shaped(steppers.make_rollout(length=(2, 5)))
    one, two = make(), make()
    steppers.step_rows(one, 12)
    assert two.set_state(one.get_state())
    for row, again in zip(*(steppers.step_rows(stepper, 12, np.random.default_rng(1))[0] for stepper in (one, two))):
        np.testing.assert_array_equal(row["reward"], again["reward"])


class Chain(gymnasium.Env):
    """Five places and a goal, reached from the last one; action 0 goes back to the first and pays a little, others differ by place."""

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
    """Value iteration over what training's rows tell of it: Q with the potential is Q without, less the potential, so argmax stays."""
    gymnasium.register("Chain-v0", entry_point=Chain)
    tables = []
    for wrap in (lambda stepper: stepper, shaped):
        envs = catalogue.make_envs("Chain-v0", 8, frame_skip=1, max_episode_frames=0)
        rows, _ = steppers.step_rows(wrap(rollout.Rollout(envs, steppers.Recorder(), 1, 0.9, "none", 1)), 1200)
        known = {}
        for before, row in zip(rows, rows[1:]):
            for env in np.flatnonzero(~row["first"]):
                at, after = int(before["frame"][env, 0]), int(row["frame"][env, 0])
                known[at, int(row["action"][env])] = row["reward"][env], row["discount"][env], after
        assert len(known) == 15
        q = np.zeros((7, 3))
        for _ in range(300):
            for (at, action), (reward, discount, after) in known.items():
                q[at, action] = reward + discount * q[after].max()
        tables.append(q[1:6])
    plain, with_potential = tables
    np.testing.assert_allclose(with_potential, plain - 2 * np.arange(1, 6)[:, None], atol=1e-9)
    assert with_potential.argmax(1).tolist() == plain.argmax(1).tolist() and set(plain.argmax(1)) == {0, 2}


def test_the_pins_that_are_down_are_those_that_bowling_pays_for():
    """A frame that is neither spare nor strike pays for its pins as they are set up again."""
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
