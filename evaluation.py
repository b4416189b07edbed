"""Whole episodes, one in each environment, played by an agent or at random."""

import sys
import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from tqdm import tqdm

import wrappers
from rollout import EVALUATION, EXPLORATION, FLICKER, derive_seeds

if TYPE_CHECKING:  # It imports Keras.
    from agent import Agent


class _Streams:
    """Random numbers of N environments, each from a generator of its own.

    So an episode is a function of its own seed, however many are played beside it.

    Args:
        seeds: int64[N].
        stream: integer, what the numbers are for.
    """

    def __init__(self, seeds: np.ndarray, stream: int) -> None:
        self._rngs = [np.random.default_rng((int(seed), stream)) for seed in seeds]

    def random(self, size: int) -> np.ndarray:
        return np.array([rng.random() for rng in self._rngs])

    def integers(self, high: int, size: int) -> np.ndarray:
        return np.array([rng.integers(high) for rng in self._rngs])


def play(agent: "Agent | RandomPlay", envs: wrappers.Flicker, history: int, epsilon: float, seed: int, evaluation: int,
         repeats: int = 1, watched: int = 0, stop: Callable[[int, np.ndarray], bool] = lambda num_steps, playing: False,
         ) -> Generator[tuple[np.ndarray, list[Any], np.ndarray, np.ndarray, float, int], None,
                        list[dict[str, Any]] | None]:
    """Play exactly one episode in each environment, so that short episodes are not over-represented.

    Args:
        agent: agent.Agent.
        envs: wrappers.Flicker of N environments.
        history: H, frames per observation.
        epsilon: probability of a random action.
        seed, evaluation: integers; weights, flicker, epsilon and these determine the result. Episode i is the same
            whatever N is.
        repeats: equal groups of environments that differ in their flicker alone. Each group has the seeds and the
            random numbers of the first.
        watched: the episode that the first environment plays; the others follow, the ones before it last.
        stop: called before each vector step with how many there were, and with bool[N], whose episodes go on. Where it
            returns True, the episodes are broken off.

    Yields:
        Before each step of the first environment's episode: the agent's frames [N, H, ...], state, first, actions
        int64[N], and that environment's episode_return and length so far.

    Returns:
        A dict(episode_return, length) per episode, in their order; None where `stop` broke them off.
    """
    N = envs.num_envs
    seeds = np.roll(np.tile(derive_seeds(seed, EVALUATION, evaluation, size=N // repeats), repeats), -watched)
    rng: Any = _Streams(seeds, EXPLORATION)  # in the place of a np.random.Generator
    flicker_rng: Any = _Streams(seeds, FLICKER)
    episode_return, length, playing = np.zeros(N), np.zeros(N, np.int64), np.ones(N, bool)
    frame, _ = envs.reset(seed=seeds, rng=flicker_rng)
    frames, state, first = wrappers.blank_frames(envs, history), agent.initial_state(N), np.ones(N, bool)
    while playing.any():
        if stop(length.max(), playing):
            return None
        frames = wrappers.push_frame(frames, frame, first)
        actions, next_state = agent.act(frames, state, first, epsilon, rng)
        if playing[0]:
            yield frames, state, first, actions, episode_return[0], length[0]
        state = next_state
        frame, reward, terminated, truncated, _ = envs.step(actions)
        agent.see_reward(state, reward)
        episode_return += np.where(playing, reward, 0)
        length += playing
        first = ~playing  # Environments whose episode has ended play on unseen.
        playing &= ~(terminated | truncated)
    return [dict(episode_return=float(r), length=int(n))
            for r, n in zip(np.roll(episode_return, watched), np.roll(length, watched))]


def evaluate(*arguments: Any, watch: Callable[..., object] = lambda *step: None,
             **keywords: Any) -> list[dict[str, Any]] | Any:  # Any is None, where `stop` broke off.
    """Return what `play` returns with these arguments; `watch` is called with all that `play` yields."""
    steps = play(*arguments, **keywords)
    while True:
        try:
            watch(*next(steps))
        except StopIteration as end:
            return end.value


class RandomPlay:
    """Plays as an agent.Agent does at an epsilon of 1, the same actions by the same generator, without a network.

    Args:
        num_actions: to choose from.
    """

    def __init__(self, num_actions: int) -> None:
        self.num_actions = num_actions

    def initial_state(self, num_envs: int) -> list[Any]:
        return []

    def act(self, frames: np.ndarray, state: list[Any], first: np.ndarray, epsilon: float,
            rng: np.random.Generator) -> tuple[np.ndarray, list[Any]]:
        rng.random(len(first))  # An agent draws here who acts at random.
        return rng.integers(self.num_actions, size=len(first)), state

    def see_reward(self, state: list[Any], reward: np.ndarray) -> None:
        pass


class Progress:
    """Say how far episodes are: a bar on a terminal, a plain line per minute elsewhere. A `stop` that never stops.

    Args:
        verb: what is done, such as `playing`.
    """

    PERIOD = 60  # seconds between plain lines

    def __init__(self, verb: str) -> None:
        self._bar = tqdm(desc=verb, unit=" agent steps", leave=False, disable=None)  # None: only on a terminal
        self._verb, self._told = verb, time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def __call__(self, num_steps: int, playing: np.ndarray) -> bool:
        ended = f"{(~playing).sum()} of {len(playing)} episodes ended"
        self._bar.set_postfix_str(ended, refresh=False)
        self._bar.update(num_steps - self._bar.n)
        if self._bar.disable and time.monotonic() - self._told >= self.PERIOD:
            self._told = time.monotonic()
            print(f"{self._verb}: {num_steps:,} agent steps, {ended}", file=sys.stderr, flush=True)
        return False


class Glimpse:
    """A `watch` of `evaluate` for TensorBoard: the first environment's frames, and Q-values of all.

    Attributes:
        frames: the newest frame of each of the first STEPS agent steps.
        q_values: float32[N, A] of every Q_PERIOD-th of these steps, computed a second time.
    """

    STEPS, Q_PERIOD = 200, 4

    def __init__(self, agent: "Agent") -> None:
        self.agent = agent
        self.frames: list[np.ndarray] = []
        self.q_values: list[np.ndarray] = []

    def __call__(self, frames: np.ndarray, state: list[Any], first: np.ndarray, actions: np.ndarray,
                 episode_return: float, length: int) -> None:
        if length < self.STEPS:
            self.frames.append(frames[0, -1])
            if length % self.Q_PERIOD == 0:
                self.q_values.append(self.agent.q_values(frames, state, first)[0])
