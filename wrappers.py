"""The agent's view of an environment: frames of one shape, flickering screens, a history.

Reference: Hausknecht & Stone 2015, section 5 (flicker); Mnih et al. 2015 (frames and history).
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from environments import rewards

SMALLEST_PICTURE = 32  # pixels of the shorter side
# frames [N, ...], reward float[N], terminated and truncated bool[N], info
Step = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]
GRAY, COLOR = (84, 84), (84, 84, 3)  # shapes of a screen as an agent sees it: RGB with --color


class Flicker(gymnasium.vector.VectorWrapper):
    """Frames of N environments, each zeroed whole with probability `flicker`, reset rows too.

    ```
    screens   s0 s1 s2 s3 s4        a fresh draw per environment and row
    frames    s0  0 s2  0  0        what the agent sees is what the replay stores
    ```
    After a seeded `reset` everything is a function of its seeds and of the actions since, emulators
    and flicker alike. `reseed` lets some emulators begin again from seeds of their own.

    Args:
        envs: a Gymnasium vector environment that resets in the step after an end (NEXT_STEP).
        flicker: float, or float[N].
        action_names: one per action.
        is_atari: whether ALE is underneath: training clips its rewards.
        training_rewards: a `rewards.Rewards`.

    Attributes:
        frame_shape: (84, 84) for gray images, (84, 84, 3) for RGB, (D,) for vectors.
        unobscured: the newest frames before flicker, uint8 or float32[N, *frame_shape].
        obscured: bool[N], which of the newest frames are zeroed.
        rng: the generator of flicker, since the first reset.
    """

    def __init__(self, envs: gymnasium.vector.VectorEnv, flicker: float | np.ndarray,
                 action_names: Sequence[str], is_atari: bool,
                 training_rewards: rewards.Rewards | None = None) -> None:
        super().__init__(envs)
        assert envs.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP, (
            "replay relies on one reset row after each end")
        self.flicker, self.action_names, self.is_atari = flicker, action_names, is_atari
        self.training_rewards = training_rewards or rewards.Rewards()
        # ALE stacks frames along the first axis of an observation, and we ask for a stack of one.
        shape = envs.single_observation_space.shape
        self.frame_shape = shape[1:] if is_atari else shape
        self.frame_dtype = envs.single_observation_space.dtype

    def reset(self, *, seed: np.ndarray, options: dict[str, Any] | None = None,
              rng: np.random.Generator | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Reset every environment with its own seed, and the flicker with all of them.

        Args:
            seed: int64[N] in [0, 2**31).
            rng: the generator of flicker; None: one that is made from the seeds.

        Returns:
            frames uint8 or float32[N, *frame_shape], info.
        """
        self.rng = np.random.default_rng(seed) if rng is None else rng
        seeds = np.asarray(seed) if self.is_atari else [int(s) for s in seed]
        observations, info = self.env.reset(seed=seeds, options=options)
        return self._obscure(observations), info

    def step(self, actions: np.ndarray) -> Step:
        observations, *others = self.env.step(np.asarray(actions))
        return self._obscure(observations), *others

    def reseed(self, mask: np.ndarray, seeds: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        """Reset some environments in the newest row, whose flicker stays as it was drawn.

        Args:
            mask: bool[N], at least one True.
            seeds: int64[N], of which those of the mask are used.

        Returns:
            the frames of the row, and info, which is of the masked environments alone.
        """
        observations, info = self._reset_masked(mask, seeds)
        return self._hide(observations), info

    def repeat(self, actions: np.ndarray, mask: np.ndarray, seeds: np.ndarray) -> None:
        """Make a vector step again, and reset the environments of a mask, if any, after it.

        Nobody looks at the frames, so there is no flicker.
        """
        observations, *_ = self.env.step(np.asarray(actions))
        if mask.any():
            observations, _ = self._reset_masked(mask, seeds)
        self.unobscured = self._newest(observations)

    def get_state(self) -> dict[str, np.ndarray]:
        """Return what a checkpoint keeps beside seeds and actions, as {name: array}."""
        return dict(unobscured=self.unobscured)

    def set_state(self, arrays: Mapping[str, np.ndarray]) -> bool:
        """Restore what `get_state` returned, once all steps were made again.

        Returns:
            Whether the environments came out where they were.
        """
        return np.array_equal(self.unobscured, arrays["unobscured"])

    def send(self, actions: np.ndarray) -> None:
        """Begin a step. ALE's threads emulate until `receive`; other environments step there."""
        self._actions = np.asarray(actions)
        if self.is_atari:
            self.env.send(self._actions)

    def receive(self) -> Step:
        """End the step that `send` began; return what `step` returns."""
        observations, *others = self.env.recv() if self.is_atari else self.env.step(self._actions)
        return self._obscure(observations), *others

    def _reset_masked(self, mask, seeds):
        # ALE takes the seeds of the mask alone.
        masked = seeds[mask] if self.is_atari else [
            int(seed) if reset else None for seed, reset in zip(seeds, mask)]
        return self.env.reset(seed=masked, options=dict(reset_mask=mask))

    def _newest(self, observations):
        return observations[:, 0] if self.is_atari else observations

    def _obscure(self, observations):
        self.obscured = np.zeros(len(observations), bool)
        if np.any(self.flicker):
            self.obscured = self.rng.random(len(observations)) < self.flicker
        return self._hide(observations)

    def _hide(self, observations):
        self.unobscured = self._newest(observations)
        if not self.obscured.any():
            return self.unobscured
        frames = self.unobscured.copy()
        frames[self.obscured] = 0  # For vectors, zero is also a legal observation.
        return frames


def push_frame(frames: np.ndarray, frame: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return the last H frames [N, H, ...] with `frame` [N, ...] as the newest.

    Frames before an episode's first are zero.
    ```
    frames   f1 f2 f3 f4      push f5: f2 f3 f4 f5      push f6, first: 0 0 0 f6
    ```
    """
    frames = np.concatenate([frames[:, 1:], frame[:, None]], axis=1)
    frames[first, :-1] = 0
    return frames


def blank_frames(envs: Flicker, history: int) -> np.ndarray:
    """Return H zero frames of each environment, [N, H, ...]: the history before an episode."""
    return np.zeros((envs.num_envs, history, *envs.frame_shape), envs.frame_dtype)


def is_picture(box: spaces.Box) -> bool:
    """Return whether a Box holds pictures: uint8 from 0 to 255, with sides of 32 pixels or more.

    Coded grids are none, such as MinAtar's of 0 and 1, or MiniGrid's 7 x 7 of codes: to resize and
    to mix their planes would destroy them. Of three axes the shortest is the channels'.
    """
    if box.dtype != np.uint8 or len(box.shape) not in (2, 3):
        return False
    is_large = sorted(box.shape)[-2] >= SMALLEST_PICTURE
    return is_large and bool((box.low == 0).all() and (box.high == 255).all())


def as_frames(env: gymnasium.Env, name: str, screen: tuple[int, ...]) -> gymnasium.Env:
    """Turn pictures of any size and colour into uint8[*screen], other observations into float32[D].

    Of what is no Box, whole numbers become one-hot, and parts are put side by side in their order.
    A part of a Dict that has no numbers, such as a text, is left out.

    Args:
        env: a Gymnasium environment.
        name: of the environment, for errors.
        screen: (height, width) for gray, (height, width, 3) for RGB.

    Raises:
        ValueError: a Q-network over frames cannot play it, in one sentence.
    """
    actions = env.action_space
    if not isinstance(actions, spaces.Discrete):
        raise ValueError(f"--env={name} has the action space {one_line(actions)}; "
                         "Q-learning here expects Discrete actions")
    if isinstance(env.observation_space, spaces.Dict):
        numbers = _find_numbers(env.observation_space)
        if 0 < len(numbers) < len(env.observation_space):
            env = gymnasium.wrappers.FilterObservation(env, numbers)
    if not _has_numbers(env.observation_space):
        raise ValueError(f"--env={name} has the observation space "
                         f"{one_line(env.observation_space)}; expected an image, a vector, or "
                         "Discrete, MultiDiscrete, MultiBinary, Tuple and Dict of these")
    if not isinstance(env.observation_space, spaces.Box):
        env = gymnasium.wrappers.FlattenObservation(env)
    box = env.observation_space
    if actions.start:
        zero_based = spaces.Discrete(int(actions.n))
        env = gymnasium.wrappers.TransformAction(env, lambda a: a + actions.start, zero_based)
    if is_picture(box):
        if len(box.shape) == 3 and box.shape[-1] not in (1, 3, 4) and box.shape[0] not in (1, 3):
            raise ValueError(f"--env={name} has images of shape {box.shape}; "
                             "expected 1, 3 or 4 channels, last, or 1 or 3 first")
        images = spaces.Box(0, 255, screen, np.uint8)
        return gymnasium.wrappers.TransformObservation(env, lambda o: as_screen(o, screen), images)
    size = int(np.prod(box.shape))
    vectors = spaces.Box(-np.inf, np.inf, (size,), np.float32)
    return gymnasium.wrappers.TransformObservation(
        env, lambda o: np.asarray(o, np.float32).reshape(size), vectors)


def _has_numbers(space):
    """Return whether Gymnasium flattens a space into numbers; of a text they would mean nothing."""
    if isinstance(space, spaces.Tuple | spaces.Dict):
        parts = space.spaces if isinstance(space, spaces.Tuple) else space.spaces.values()
        return all(map(_has_numbers, parts))
    return isinstance(
        space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary)


def _find_numbers(space):
    """Return the keys of a Dict whose parts have numbers."""
    return [key for key, part in space.spaces.items() if _has_numbers(part)]


def describe_frames(name: str, space: spaces.Space) -> str | None:
    """Return a sentence on what `as_frames` makes of observations, None where it is plain."""
    if not isinstance(space, spaces.Box):
        seen, unseen = space, ""
        if isinstance(space, spaces.Dict) and not _has_numbers(space):
            numbers = _find_numbers(space)
            seen = spaces.Dict({key: space[key] for key in numbers})
            unseen = ", ".join(sorted(space.spaces.keys() - set(numbers)))
        shown = textwrap.shorten(one_line(seen), 120, placeholder=" ...")
        return (f"--env={name} has observations {shown}: the agent sees vectors of "
                f"{spaces.flatdim(seen)} numbers, whole numbers as one-hot"
                + f", and nothing of {unseen}, which has no numbers" * bool(unseen) + ".")
    box = space
    kind = f"--env={name} has observations {box.dtype}{list(box.shape)}"
    if not is_picture(box) and len(box.shape) > 1:
        low, high = float(box.low.min()), float(box.high.max())
        return (f"{kind} from {low:g} to {high:g}: no pictures, which are uint8 from 0 to 255 with "
                f"sides of {SMALLEST_PICTURE} pixels or more, so the agent sees vectors of "
                f"{np.prod(box.shape)} numbers.")
    if is_picture(box) and box.shape[-1] == 4 and len(box.shape) == 3:
        return f"{kind}: pictures whose fourth channel is taken for alpha, and dropped."
    return None


def as_screen(image: np.ndarray, screen: tuple[int, ...]) -> np.ndarray:
    """Return an image as uint8 of the shape `screen`, gray or RGB.

    Args:
        image: uint8 [height, width], [height, width, 1, 3 or 4] or [1 or 3, height, width].
        screen: (height, width) or (height, width, 3).
    """
    if image.ndim == 3 and image.shape[-1] not in (1, 3, 4) and image.shape[0] in (1, 3):
        image = np.moveaxis(image, 0, -1)
    if image.ndim == 3:
        image = np.ascontiguousarray(image[..., :3]) if image.shape[-1] >= 3 else image[..., 0]
    if image.ndim != len(screen):
        to_gray = image.ndim == 3
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY if to_gray else cv2.COLOR_GRAY2RGB)
    size = screen[1], screen[0]  # OpenCV wants the width first.
    return cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_AREA)


def one_line(thing: object) -> str:
    """Return a text without line breaks and final dots, to be part of a sentence."""
    return " ".join(str(thing).split()).rstrip(".")
