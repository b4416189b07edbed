"""Slime volleyball (Ha 2020, github.com/hardmaru/slimevolleygym) for Gymnasium; importing this file registers it.

The package was written for old Gym. It is imported only when an environment is built, so that nobody else needs it.
"""

import math
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class SlimeVolley(gymnasium.Env):
    """The right-hand player against the package's player, a small recurrent network.

    A point won is a reward of 1, a point lost of -1. An episode terminates when a side has lost its five lives. After
    3,000 frames Gymnasium's TimeLimit truncates it, so that another limit can be chosen. Every episode is a function of
    the last seed and of the actions since.

    Observations are float32[12]: x, y and their velocities of agent, ball and opponent, from the agent's half and in
    tenths; or the screen, uint8[84, 168, 3]. Actions are the six of the package's `action_table`. `lives` in info are
    the agent's.

    Args:
        pixels: whether to observe the screen.
        render_mode: `rgb_array` or None.
    """

    metadata = {
        "render_modes": ["rgb_array"], "render_fps": 50,
        # In the table's order. `get_action_meanings` of the package walks through a set, which has another order.
        "action_names": "NOOP LEFT UPLEFT UP UPRIGHT RIGHT".split(),
        # Seen from a player's own side; v is a velocity.
        "observation_names": [f"{whose} {what}" for whose in ("own", "ball", "foe") for what in "x y vx vy".split()]}

    def __init__(self, pixels: bool = False, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        # This class has discrete actions, draws with OpenCV, and needs no display.
        self._env = _import_package().SlimeVolleyAtariEnv()
        self._env.from_pixels = pixels  # False: only `render` draws a screen.
        self._env.t_limit = math.inf
        self.action_space = spaces.Discrete(6)
        largest = np.finfo(np.float32).max
        self.observation_space = spaces.Box(-largest, largest, (12,), np.float32)
        if pixels:
            self.observation_space = spaces.Box(0, 255, (84, 168, 3), np.uint8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None
              ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self._env.seed(seed)
            # The opponent's memory goes on from episode to episode, as in the package, but not over a seed.
            self._env.policy.reset()
        return self._to_dtype(self._env.reset()), self._info()

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, _ = self._env.step(int(action))
        return self._to_dtype(observation), float(reward), terminated, False, self._info()

    def render(self) -> np.ndarray:
        """Return uint8[336, 672, 3], the screen before the package shrinks it."""
        return self._env.game.display(None)

    def _to_dtype(self, observation):
        return observation.astype(self.observation_space.dtype, copy=False)

    def _info(self):
        return dict(lives=self._env.game.agent_right.lives())


def _import_package():
    """Import slimevolleygym; suppress the notice that gym prints and the print options that it sets for NumPy."""
    try:
        import gym_notices.notices
        # "Gym has been unmaintained since 2022", it says; but the package was written for Gym's last release.
        gym_notices.notices.notices.clear()
        with np.printoptions():
            import slimevolleygym
    except ImportError as error:
        raise gymnasium.error.DependencyNotInstalled(
            "slimevolleygym; pip install -r requirements-slimevolley.txt") from error
    except Exception as error:  # Old packages raise any error beside newer ones.
        raise ValueError(f"slimevolleygym does not work here ({error!r}); "
                         "expected pip install -r requirements-slimevolley.txt") from error
    return slimevolleygym


gymnasium.register("SlimeVolley-v0", entry_point=SlimeVolley, max_episode_steps=3000)
gymnasium.register("SlimeVolleyNoFrameskip-v0", entry_point=SlimeVolley, max_episode_steps=3000,
                   kwargs=dict(pixels=True))
