"""Rollouts of counting environments and of games, and the rows that they make."""

import numpy as np

import rollout
from environments import catalogue
from helpers import counting

GAMMA = 0.9


class Recorder:
    """An agent that acts at random and records its inputs; its state counts the frames since the episode began."""

    def __init__(self, num_actions=3):
        self.num_actions, self.seen, self.rewards = num_actions, [], []

    def initial_state(self, num_envs):
        return [np.zeros((num_envs, 1), np.float32)]

    def act(self, frames, state, first, epsilon, rng):
        state = np.where(first[:, None], 0, state[0]) + 1
        self.seen.append(dict(frames=frames.copy(), state=state.copy(), first=first.copy()))
        return rng.integers(self.num_actions, size=len(frames)), [state]

    def see_reward(self, state, reward):
        self.rewards.append((state[0][:, 0].tolist(), reward.tolist()))


def make_rollout(num_envs=3, history=2, life_loss="none", seed=1, flicker=0.0, **counting_settings):
    """Build a Rollout of counting environments with a Recorder."""
    env = counting.register(**counting_settings)
    envs = catalogue.make_envs(env, num_envs, frame_skip=1, max_episode_frames=0, flicker=flicker)
    return rollout.Rollout(envs, Recorder(), history, GAMMA, life_loss, seed)


def make_atari_rollout(env, num_envs=2, life_loss="none", **settings):
    """Build a Rollout of an ALE game with a Recorder."""
    settings = dict(frame_skip=4, max_episode_frames=0, noops=0) | settings
    envs = catalogue.make_envs(env, num_envs, **settings)
    return rollout.Rollout(envs, Recorder(len(envs.action_names)), 1, GAMMA, life_loss, 1)


def step_row(stepper, rng):
    """Make one vector step as the training loop does; return its row and the episodes that ended."""
    if stepper.reset_due:
        return stepper.reset(), []
    stepper.send(stepper.act(1.0, rng))
    return stepper.receive()


def step_rows(stepper, num_steps, rng=None):
    """Make vector steps as the training loop does; return their rows, copied, and the episodes that ended."""
    rng = rng or np.random.default_rng(0)
    rows, episodes = [], []
    for _ in range(num_steps):
        row, ended = step_row(stepper, rng)
        rows.append({name: np.array(value) for name, value in row.items()})
        episodes += ended
    return rows, episodes


def record_seeds(stepper, monkeypatch):
    """Return a list that will have [(row, environment, seed)] of the seeds that environments get after the first."""
    seeded, reseed = [], stepper.envs.reseed

    def recording(mask, seeds):
        seeded.extend((int(stepper.num_steps), int(env), int(seeds[env])) for env in np.flatnonzero(mask))
        return reseed(mask, seeds)
    monkeypatch.setattr(stepper.envs, "reseed", recording)
    return seeded


def restore_rollout(one, two):
    """Restore the state of a rollout in another one, through copies; return what `set_state` returns."""
    kept = {name: np.array(value) for name, value in one.get_state().items()}
    came_back = two.set_state(kept)
    two.envs.rng.bit_generator.state = one.envs.rng.bit_generator.state
    return came_back


def column(rows, name, env=0):
    """Return a column of rows as a list. A frame is given by its first number, which is t."""
    return [row[name][env].flat[0].item() for row in rows]
