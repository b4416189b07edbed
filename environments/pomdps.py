"""Small partially observed environments, for the paper's questions on a laptop.

Importing this file registers them with Gymnasium.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control.cartpole import CartPoleEnv


class CartPolePosition(CartPoleEnv):
    """CartPole-v1 with its velocities hidden: one frame tells where cart and pole are, two tell where they are going.

    Observations are float32[2], position of the cart in [-4.8, 4.8] and angle of the pole in [-0.42, 0.42] rad; all
    else equals CartPole.
    """

    SEEN = [0, 2]  # indices into position, velocity, angle, angular velocity

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(render_mode=render_mode)
        box = self.observation_space
        self.observation_space: spaces.Box = spaces.Box(box.low[self.SEEN], box.high[self.SEEN], dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None
              ) -> tuple[np.ndarray, dict[str, Any]]:
        observation, info = super().reset(seed=seed, options=options)
        return observation[self.SEEN], info

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observation, *others = super().step(action)
        return observation[self.SEEN], *others


class DelayedCue(gymnasium.Env):
    """A corridor to a fork. A cue at the start shows which way to turn at the fork, and is never shown again.

    ```
    frame      0     1    2   ...   9    10        length = 10
    shows     cue    -    -   ...   -   fork
    action     .     .    .   ...   .  choice      walking is automatic: only the action at the fork does anything
    reward           0    0   ...   0    0    +1   or -1, and the episode terminates
                    [ history of 10 frames ]       at the choice it begins at frame 1
    ```
    With a length of 10 or more no history of 10 frames holds the cue at the choice. So an agent without memory returns
    0 on average, and an agent with memory can return 1. A window of length + 1 transitions holds a whole episode.

    Observations are float32[4], one-hot: cue left, cue right, corridor, fork. Actions are 0, left, and 1, right.

    Reference: the T-maze of Bakker 2002, Reinforcement learning with Long Short-Term Memory, in which the agent also
    has to walk.

    Args:
        length: steps from the cue to the fork.
        render_mode: `rgb_array` or None.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}

    def __init__(self, length: int = 10, render_mode: str | None = None) -> None:
        if length < 1:
            raise ValueError(f"length={length} was given; expected at least 1, so that the fork lies behind the cue")
        self.length, self.render_mode = length, render_mode
        self.observation_space = spaces.Box(0, 1, (4,), np.float32)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None
              ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        self.choice: int | None = None
        self.cue = int(self.np_random.integers(2))
        return self._observe(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if self.t == self.length:
            self.choice = int(action)
            return self._observe(), 1.0 if self.choice == self.cue else -1.0, True, False, {}
        self.t += 1
        return self._observe(), 0.0, False, False, {}

    def _observe(self):
        return np.eye(4, dtype=np.float32)[self.cue if self.t == 0 else 3 if self.t == self.length else 2]

    def render(self) -> np.ndarray:
        """Return uint8[160, 32 (length + 3), 3]: the corridor from above, where left is up.

        A yellow lamp shows the cue. The walker is blue, and green or red after the choice.
        """
        grid = np.full((5, self.length + 3, 3), (60, 64, 72), np.uint8)
        grid[2, 1:-1] = grid[1:4, -2] = (200, 203, 208)
        if self.t == 0:
            grid[1 + 2 * self.cue, 1] = (240, 228, 66)
        row = 2 if self.choice is None else 1 + 2 * self.choice
        blue, green, red = (0, 114, 178), (0, 158, 115), (213, 94, 0)
        grid[row, 1 + self.t] = blue if self.choice is None else green if self.choice == self.cue else red
        return grid.repeat(32, axis=0).repeat(32, axis=1)


class Pixels(gymnasium.Env):
    """The screen of an environment alone: one frame tells where things are, two tell where they are going.

    Observations are uint8[height, width, 3], the whole screen; all else equals the environment. Its limit of steps
    comes with the registration, as below.

    Args:
        env: a registered id that renders as rgb_array.
        render_mode: `rgb_array` or None.
    """

    metadata = {"render_modes": ["rgb_array"]}

    def __init__(self, env: str, render_mode: str | None = None) -> None:
        self._env, self.render_mode = gymnasium.make(env, render_mode="rgb_array").unwrapped, render_mode
        self.metadata = self.metadata | dict(render_fps=self._env.metadata["render_fps"])
        self._env.reset()
        self.observation_space = spaces.Box(0, 255, self.render().shape, np.uint8)
        self.action_space = self._env.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None
              ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        _, info = self._env.reset(seed=seed, options=options)
        return self.render(), info

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        _, *others = self._env.step(action)
        return self.render(), *others

    def render(self) -> np.ndarray:
        return self._env.render()

    def close(self) -> None:
        self._env.close()


gymnasium.register("CartPolePosition-v0", entry_point=CartPolePosition, max_episode_steps=500)
for suffix, length in (("", 10), (30, 30), (100, 100)):  # A cap that no episode reaches says that every episode ends.
    gymnasium.register(f"DelayedCue{suffix}-v0", entry_point=DelayedCue, kwargs=dict(length=length),
                       max_episode_steps=length + 2)
for name in ("CartPole-v1", "MountainCar-v0", "Acrobot-v1"):
    gymnasium.register(f"{name.partition('-')[0]}Pixels-v0", entry_point=Pixels, kwargs=dict(env=name),
                       max_episode_steps=gymnasium.spec(name).max_episode_steps)
