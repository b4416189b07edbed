"""A Gymnasium environment that counts: every misalignment in a test becomes a wrong integer."""

import itertools

import gymnasium
import numpy as np
from gymnasium import spaces


class Counting(gymnasium.Env):
    """Fill frame t of an episode with the number t.

    The first frame is 1, so 0 always means a frame that is absent or obscured.
    ```
    frame     1   2   3   4         length = 3 steps
    reward        2x  3x  4x        10 t + the action that led to frame t
    lives     3   2   2   1         lives = 3, life_length = 2: one goes when an even frame is reached
    ```
    Args:
        length: steps per episode; or (low, high), from which the environment's generator draws at each reset.
        end: `terminated` or `truncated`, how an episode ends.
        shape: of a frame; three or two numbers make an image of uint8, one number makes a vector of float32.
        lives: at the start, reported in info["lives"]; None: not reported.
        life_length: frames that one life lasts.
        num_actions, start: of the Discrete action space.
        lawless: count on over resets and over all environments, so that frames do not follow from seed and actions.
    """

    metadata = {"render_modes": []}
    steps_ever = 0

    def __init__(self, length=5, end="terminated", shape=(3,), lives=None, life_length=2, num_actions=3, start=0,
                 lawless=False):
        self.length, self.end, self.lives, self.life_length, self.lawless = length, end, lives, life_length, lawless
        self.action_space = spaces.Discrete(num_actions, start=start)
        image = len(shape) > 1
        self.observation_space = spaces.Box(0, 255 if image else np.inf, shape, np.uint8 if image else np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 1
        drawn = not isinstance(self.length, int)
        self.steps_left = int(self.np_random.integers(*self.length, endpoint=True)) if drawn else self.length
        return self._frame(), self._info()

    def step(self, action):
        assert self.action_space.contains(action), f"the action {action!r} is not of {self.action_space}"
        assert self.steps_left > 0, "a step was taken after the episode's end"
        Counting.steps_ever += 1
        self.t += 1
        self.steps_left -= 1
        ended = self.steps_left == 0
        return (self._frame(), 10 * self.t + int(action - self.action_space.start),
                ended and self.end == "terminated", ended and self.end == "truncated", self._info())

    def _frame(self):
        number = Counting.steps_ever % 251 if self.lawless else self.t
        return np.full(self.observation_space.shape, number, self.observation_space.dtype)

    def _info(self):
        return {} if self.lives is None else {"lives": self.lives - self.t // self.life_length}


_numbers = itertools.count()


def register(max_episode_steps=None, **settings):
    """Register a counting environment under a new id; return the id."""
    name = f"Counting{next(_numbers)}-v0"
    gymnasium.register(name, entry_point=Counting, kwargs=settings, max_episode_steps=max_episode_steps)
    return name
