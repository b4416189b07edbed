"""Slime volleyball (Ha 2020, github.com/hardmaru/slimevolleygym) for Gymnasium; importing this file registers it.

The package is one of old Gym's; it is imported when an environment is made, so that nobody else needs it.
"""

import math

import gymnasium
import numpy as np
from gymnasium import spaces


class SlimeVolley(gymnasium.Env):
    """The right-hand player against the package's own, a small recurrent network: 1 for a point won, -1 for one lost.

    An episode terminates when a side has lost its five lives; after 3,000 frames Gymnasium's TimeLimit truncates it, so that another limit
    can be chosen. It is a function of its seed and of the actions since, in the episodes that follow too.

    Observations are float32[12], x, y and their velocities of agent, ball and opponent, all seen from the agent's half and in tenths; or
    the screen, uint8[84, 168, 3]. Actions are the six of the package's `action_table`. `lives` in info are the agent's.

    Args:
        pixels: whether to observe the screen.
        render_mode: `rgb_array` or None.
    """

    metadata = {
        "render_modes": ["rgb_array"], "render_fps": 50,
        # In the table's order. The package's own `get_action_meanings` walks through a set, whose order is another.
        "action_names": "NOOP LEFT UPLEFT UP UPRIGHT RIGHT".split()}

    def __init__(self, pixels=False, render_mode=None):
        self.render_mode = render_mode
        self._env = _package().SlimeVolleyAtariEnv()  # The one with discrete actions; it draws with OpenCV, and needs no display.
        self._env.from_pixels = pixels  # False: no screen is drawn unless it is asked for.
        self._env.t_limit = math.inf
        self.action_space = spaces.Discrete(6)
        most = np.finfo(np.float32).max
        self.observation_space = spaces.Box(0, 255, (84, 168, 3), np.uint8) if pixels else spaces.Box(-most, most, (12,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self._env.seed(seed)
            self._env.policy.reset()  # Its memory otherwise goes on from episode to episode, as in the package.
        return self._observed(self._env.reset()), self._info()

    def step(self, action):
        observation, reward, terminated, _ = self._env.step(int(action))
        return self._observed(observation), float(reward), terminated, False, self._info()

    def render(self):
        """Return uint8[336, 672, 3], what the package draws before it shrinks it."""
        return self._env.game.display(None)

    def _observed(self, observation):
        return observation.astype(self.observation_space.dtype, copy=False)

    def _info(self):
        return dict(lives=self._env.game.agent_right.lives())


def _package():
    """Import slimevolleygym, without the notice that gym prints and the print options that it sets for NumPy."""
    try:
        import gym_notices.notices
        gym_notices.notices.notices.clear()  # "Gym has been unmaintained since 2022": its last release is what the package was written for.
        with np.printoptions():
            import slimevolleygym
    except ImportError as error:
        raise gymnasium.error.DependencyNotInstalled("slimevolleygym; pip install -r requirements-slimevolley.txt") from error
    except Exception as error:  # Old packages meet newer ones with any.
        raise ValueError(f"slimevolleygym does not work here ({error!r}); expected pip install -r requirements-slimevolley.txt") from error
    return slimevolleygym


gymnasium.register("SlimeVolley-v0", entry_point=SlimeVolley, max_episode_steps=3000)
gymnasium.register("SlimeVolleyNoFrameskip-v0", entry_point=SlimeVolley, max_episode_steps=3000, kwargs=dict(pixels=True))
