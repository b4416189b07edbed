"""The crafted reward of Assault by its formula, and the ended episodes of a rollout."""

import numpy as np


def crafted_rewards(actions, fire=1):
    """Return the crafted rewards of an episode's actions by the formula of the paper, step by step."""
    last_fire, crafted = 0, []
    for i, action in enumerate(actions):
        last_fire = i if action == fire else last_fire
        crafted.append((len(actions) - i) / 10_000 + 0.2 / (np.exp((i - last_fire) / 5) + 1))
    return crafted


def ended_episodes(rows, env):
    """Return the ended episodes of one environment among rows of vector steps.

    Returns:
        A list per episode of its rows after the first, each a dict(action, reward, discount).
    """
    episodes = []
    for row in rows:
        if row["first"][env]:
            episodes.append([])
        else:
            episodes[-1].append({name: row[name][env] for name in ("action", "reward", "discount")})
    return episodes[:-1]
