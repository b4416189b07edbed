"""Small environments of the catalogue, and actions played in them."""

import numpy as np

from environments import catalogue


def make_small_envs(env, num_envs=2, **settings):
    """Build environments with the defaults of their id, no noops and no stickiness; `settings` replace all of these."""
    name, defaults = catalogue.describe(env)
    names = "frame_skip max_episode_frames sticky full_actions".split()
    return catalogue.make_envs(name, num_envs, **{key: defaults[key] for key in names if key in defaults} | settings)


def play_actions(envs, seeds, actions):
    """Reset and step; return (frames [1+T, N, ...], rewards [T, N], terminated, truncated), copied."""
    frame, _ = envs.reset(seed=np.asarray(seeds))
    frames, rows = [frame.copy()], []
    for a in actions:
        frame, *row, _ = envs.step(a)
        frames.append(frame.copy())
        rows.append([np.array(column) for column in row])
    return np.stack(frames), *(np.stack(column) for column in zip(*rows))


def random_actions(envs, num_steps, seed=0):
    """Return int64[num_steps, N]."""
    return np.random.default_rng(seed).integers(len(envs.action_names), size=(num_steps, envs.num_envs))
