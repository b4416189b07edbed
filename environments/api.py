"""Gymnasium's API: whether an environment follows it, which a reset and a step tell before training begins."""

import inspect
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces, wrappers

MADE = wrappers.PassiveEnvChecker, wrappers.OrderEnforcing, wrappers.TimeLimit  # what gymnasium.make puts around


class OnlyLives(gymnasium.Wrapper):
    """An environment whose infos have nothing but `lives`, which is read. Gymnasium cannot merge all kinds of infos."""

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Reset the environment."""
        observation, info = self.env.reset(**options)
        return observation, self._lives(info)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the environment."""
        *seen, info = self.env.step(action)
        return *seen, self._lives(info)

    def _lives(self, info):
        return {"lives": info["lives"]} if "lives" in info else {}


def check(env: gymnasium.Env, name: str) -> None:
    """Reset an environment and step it once, below the wrappers of gymnasium.make, which would raise errors.

    Args:
        env: what gymnasium.make returned; it will be reset with a seed before it is used.
        name: of the environment, for errors.

    Raises:
        ValueError: it follows the API of old Gym, or none, in one sentence.
    """
    given = f"--env={name}"
    while isinstance(env, MADE):
        env = env.env
    parameters = inspect.signature(env.reset).parameters
    missing = [word for word in ("seed", "options") if word not in parameters]
    if missing and inspect.Parameter.VAR_KEYWORD not in [of.kind for of in parameters.values()]:
        raise ValueError(f"{given} has a reset without {' and '.join(missing)}, as in old Gym; expected Gymnasium's "
                         "reset(*, seed=None, options=None)")
    answer = env.reset(seed=0, options=None)
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise ValueError(f"{given} returns {_describe(answer)} from reset, as in old Gym; expected Gymnasium's "
                         "observation, info")
    box = env.observation_space
    if isinstance(box, spaces.Box) and np.shape(answer[0]) != box.shape:
        raise ValueError(f"{given} returns an observation of shape {np.shape(answer[0])} from reset; expected "
                         f"{box.shape}, as its observation_space has")
    env.action_space.seed(0)
    answer = env.step(env.action_space.sample())
    if not isinstance(answer, tuple) or len(answer) != 5:
        raise ValueError(f"{given} returns {_describe(answer)} from step, as in old Gym; expected Gymnasium's "
                         "observation, reward, terminated, truncated, info")
    try:
        to_number(answer[1])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{given} pays a reward of shape {np.shape(answer[1])}, {type(answer[1]).__name__}; expected "
                         "one number") from error


def to_number(reward: Any) -> float:
    """Return a reward as a float; some environments pay it as an array of one number."""
    return float(np.asarray(reward).item())


def _describe(answer):
    return f"{len(answer)} values" if isinstance(answer, tuple) else f"one {type(answer).__name__}"
