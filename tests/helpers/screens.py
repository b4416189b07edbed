"""Environments with any spaces, and environments whose render returns anything."""

import itertools

import gymnasium
import numpy as np
from gymnasium import spaces

_numbers = itertools.count()


class Grid(gymnasium.Env):
    """Show the same observation, each number its own index modulo 251, for 3 steps."""

    def __init__(self, observation_space):
        self.observation_space, self.action_space = observation_space, spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._observe(), {}

    def step(self, action):
        self.t += 1
        return self._observe(), 1.0, self.t == 3, False, {}

    def _observe(self):
        box = self.observation_space
        numbers = np.arange(np.prod(box.shape)).reshape(box.shape) % 251
        return numbers.clip(box.low, box.high).astype(box.dtype)


class Rendered(Grid):
    """A Grid of one number whose `render` returns what `picture` returns, with any render_fps."""

    def __init__(self, picture, render_fps=30, render_mode=None):
        super().__init__(spaces.Box(0, 1, (1,), np.float32))
        self.picture, self.render_mode = picture, render_mode
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": render_fps}

    def render(self):
        return self.picture()


class Modeless(Rendered):
    """A Rendered that takes no render_mode."""

    def __init__(self, picture):
        super().__init__(picture)


def register_screen(entry_point, **kwargs):
    """Register an environment under a new id; return the id."""
    name = f"{entry_point.__name__}{next(_numbers)}-v0"
    gymnasium.register(name, entry_point=entry_point, kwargs=kwargs)
    return name
