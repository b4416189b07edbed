"""What an agent sees of N environments: flickering screens (Hausknecht & Stone 2015, section 5), and a frozen torso's features of them."""

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode


class Flicker(gymnasium.vector.VectorWrapper):
    """Frames of N environments, each zeroed whole with probability `flicker`, a float or float[N]: reset rows too.

    ```
    screens   s0 s1 s2 s3 s4        a fresh draw per environment and row
    frames    s0  0 s2  0  0        what the agent sees is what replay stores
    ```
    Everything that follows a seeded `reset` is a function of its seeds and of the actions since: emulators and flicker alike.

    Attributes:
        frame_shape: (84, 84) for images, (D,) for vectors.
        action_names: one per action.
        unobscured: the last frames before flicker, uint8[N, 84, 84] or float32[N, D].
        obscured: bool[N], which of the last frames the flicker zeroed.
        is_atari: whether ALE is underneath: rewards are clipped in training, lives are known.
        torso: None; that of a `Features`.
    """

    torso = None

    def __init__(self, envs, flicker, action_names, is_atari):
        super().__init__(envs)
        assert envs.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP, "replay relies on one reset row after each end"
        self.flicker, self.action_names, self.is_atari = flicker, action_names, is_atari
        # ALE stacks along the first axis of an observation, and we ask for a stack of one.
        self.frame_shape = envs.single_observation_space.shape[1:] if is_atari else envs.single_observation_space.shape
        self.frame_dtype = envs.single_observation_space.dtype

    def reset(self, *, seed, options=None):
        """Reset every environment with its own seed, and the flicker with all of them.

        Args:
            seed: int64[N] in [0, 2**31).

        Returns:
            frames uint8[N, 84, 84] or float32[N, D], info.
        """
        self._rng = np.random.default_rng(seed)
        observations, info = self.env.reset(seed=np.asarray(seed) if self.is_atari else [int(s) for s in seed], options=options)
        return self._obscure(observations), info

    def step(self, actions):
        return self._seen(*self.env.step(np.asarray(actions)))

    def advance(self, actions):
        """Step without looking; return info."""
        return self.step(actions)[-1]

    def step_async(self, actions):
        """Begin a step: ALE's threads emulate until `step_wait`, so that learning can go on beside them. Others step in `step_wait`."""
        self._actions = np.asarray(actions)
        if self.is_atari:
            self.env.send(self._actions)

    def step_wait(self):
        """Return what `step` returns."""
        return self._seen(*(self.env.recv() if self.is_atari else self.env.step(self._actions)))

    def _seen(self, observations, *others):
        return self._obscure(observations), *others

    def _obscure(self, observations):
        self.unobscured = observations[:, 0] if self.is_atari else observations
        if not np.any(self.flicker):
            self.obscured = np.zeros(len(observations), bool)
            return self.unobscured
        frames, self.obscured = self.unobscured.copy(), self._rng.random(len(observations)) < self.flicker
        frames[self.obscured] = 0  # For vectors such as CartPole's, zero is also a legal observation.
        return frames


class Features(gymnasium.vector.VectorWrapper):
    """Feature vectors float32[N, D] for the frames of a `Flicker`: a frozen torso sees each stack of the last H of them, once.

    ```
    screens    s0 s1 __ s3 | s0 s1           H = 2; __: obscured, so black to the torso as well; |: an episode's first row
    features   of 0 s0, s0 s1, s1 __, __ s3, 0 s0, s0 s1
    ```
    Args:
        envs: Flicker, whose other attributes are these environments' too.
        torso: a function uint8[N, H, ...] -> float32[N, D] with the attributes `history`, H, and `size`, D.
    """

    def __init__(self, envs, torso):
        super().__init__(envs)
        self.torso, self.frame_shape, self.frame_dtype = torso, (torso.size,), np.dtype(np.float32)
        self._screens = np.zeros((envs.num_envs, torso.history, *envs.frame_shape), envs.frame_dtype)

    def __getattr__(self, name):
        return getattr(self.env, name)  # of Flicker

    def reset(self, *, seed, options=None):
        screens, info = self.env.reset(seed=seed, options=options)
        self._first = np.ones(self.num_envs, bool)
        self._push(screens, ~self._first)
        return self.torso(self._screens), info

    def step(self, actions):
        return self._seen(*self.env.step(actions))

    def step_wait(self):
        return self._seen(*self.env.step_wait())

    def advance(self, actions):
        """Step without calling the torso; return info."""
        screens, _, terminated, truncated, info = self.env.step(actions)
        self._push(screens, terminated | truncated)
        return info

    def _seen(self, screens, reward, terminated, truncated, info):
        self._push(screens, terminated | truncated)
        return self.torso(self._screens), reward, terminated, truncated, info

    def _push(self, screens, ended):
        self._screens = push_frame(self._screens, screens, self._first)
        self._first = ended  # The row after an end is a first one.


def push_frame(frames, frame, first):
    """Return the last H frames [N, H, ...] with `frame` [N, ...] as the newest; what came before a first frame is zero.

    ```
    frames   f1 f2 f3 f4      push f5: f2 f3 f4 f5      push f6, first: 0 0 0 f6
    ```
    """
    frames = np.concatenate([frames[:, 1:], frame[:, None]], axis=1)
    frames[first, :-1] = 0
    return frames
