"""One vector step of training: actions go to N environments, rows for the replay come back."""

import collections
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

import wrappers

if TYPE_CHECKING:  # It imports Keras.
    from agent import Agent

# An emulator's state is its seed and the actions since. So that a resumed run has few actions to
# step again, each environment gets a new seed at the end of its first episode after so many agent
# steps of all environments together; an environment has its share of them, in vector steps.
RESEED_PERIOD = 250_000
# Streams of random numbers within a run.
TRAINING, EVALUATION, EXPLORATION, REPLAY, FLICKER = 1, 2, 3, 4, 5


def derive_seeds(*key: int, size: int) -> np.ndarray:
    """Return int64[size] in [0, 2**31), a function of the integers of `key`."""
    return (np.random.SeedSequence(key).generate_state(size) >> 1).astype(np.int64)


class Rollout:
    """N training environments, and all that acting in them needs.

    ```
    act        actions of the newest frames; the acting state advances
    send       the emulators begin to step
    receive    they have stepped: a row for the replay, and the episodes that ended
    ```
    Before the first vector step, `reset`. A new seed falls into a row in which its environment
    resets anyway, so that no episode is cut:
    ```
    environment 0    r . . . . . r . . . S . . .      r resets, S resets with a new seed
    environment 1    r . . r . . . r . . . . . S      the actions since the oldest seed are kept
    ```
    Args:
        envs: wrappers.Flicker.
        agent: agent.Agent.
        history: H, frames per observation.
        gamma: discount of a transition that does not terminate.
        life_loss: `none`; `terminal`: a lost life sets the discount to 0; `penalty`: it sets the
            reward to -1. The episode goes on.
        seed: of the run.
        reward_scale: `clip` replaces a reward by its sign; `raw` and `rescale` leave it. None:
            `clip` on Atari, where scores differ by orders of magnitude between games (Mnih et al.
            2015), `raw` elsewhere.

    Attributes:
        reset_due: whether `reset` comes before the next vector step.
        last: bool[N], which environments ended in the last step, and reset in the next one.
        num_seeds: int64[N], how many seeds each environment had.
        seeded_at: int64[N], the vector step of its newest one.
    """

    def __init__(self, envs: wrappers.Flicker, agent: "Agent", history: int, gamma: float,
                 life_loss: str | None, seed: int, reward_scale: str | None = None) -> None:
        self.envs, self.agent, self.seed = envs, agent, seed
        self.gamma, self.life_loss = gamma, life_loss
        self.clips = reward_scale == "clip" or (reward_scale is None and envs.is_atari)
        N = envs.num_envs
        self.reset_due = True
        self.num_seeds, self.seeded_at = np.zeros(N, np.int64), np.zeros(N, np.int64)
        # int32[N] of each vector step since the oldest seed
        self.actions: collections.deque[np.ndarray] = collections.deque()
        self.frames, self.state = wrappers.blank_frames(envs, history), agent.initial_state(N)
        self.first, self.last = np.zeros(N, bool), np.ones(N, bool)
        self.lives, self.length = np.zeros(N, np.int64), np.zeros(N, np.int64)
        self.episode_return, self.training_reward = np.zeros(N), np.zeros(N)

    @property
    def num_steps(self) -> int:
        """Vector steps since `reset`."""
        return self.seeded_at.min() + len(self.actions)

    def reset(self) -> dict[str, Any]:
        """Reset every environment with its next seed; return the row, in which all episodes begin.

        Episodes that ran are dropped.
        """
        self.reset_due = False
        self.num_seeds += 1
        self.seeded_at[:] = 0
        self.actions.clear()
        everywhere, zeros = np.ones(len(self.last), bool), np.zeros(len(self.last))
        frame, info = self.envs.reset(seed=self._seeds())
        self._refuse_infinite(frame, zeros)
        self._read_lives(info, True)
        self._begin(everywhere, frame)
        self.last = ~everywhere
        return dict(frame=frame, action=zeros, reward=zeros, discount=zeros, first=everywhere,
                    state=self.state)

    def act(self, epsilon: float | np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Choose the next actions int64[N]; the acting state advances."""
        actions, self.state = self.agent.act(self.frames, self.state, self.first, epsilon, rng)
        return actions

    def send(self, actions: np.ndarray) -> int:
        """Begin a vector step; return how many environments execute their action.

        An environment that ended in the last step resets instead, whatever its action.
        """
        self._sent = actions
        self.actions.append(actions.astype(np.int32))
        self.envs.send(actions)
        return int((~self.last).sum())

    def receive(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """End the vector step.

        Returns:
            row: frame, action, reward, discount, first, state, as replay.append takes them.
            episodes: a dict for each episode that ended.

        Raises:
            FloatingPointError: a reward or an observation is not finite.
        """
        first, lives = self.last, self.lives
        frame, raw_reward, terminated, truncated, info = self.envs.receive()
        self._refuse_infinite(frame, raw_reward)  # before a sign hides it
        self.agent.see_reward(self.state, raw_reward)
        self._read_lives(info, True)
        due = first & (self.num_steps - self.seeded_at > RESEED_PERIOD // len(first))
        if due.any():
            frame = self._reseed(due)
        self._begin(first, frame)
        reward = np.sign(raw_reward) if self.clips else raw_reward
        discount = np.where(terminated, 0.0, self.gamma)
        lost = (self.lives < lives) & ~first
        if self.life_loss == "terminal":
            discount = np.where(lost, 0.0, discount)
        elif self.life_loss == "penalty":
            reward = np.where(lost, -1.0, reward)
        reward = self.envs.training_rewards.add(reward, discount, first)
        self.episode_return += np.where(first, 0, raw_reward)
        self.training_reward += np.where(first, 0, reward)
        self.length += ~first
        self.last = terminated | truncated
        row = dict(frame=frame, action=self._sent, reward=reward, discount=discount, first=first,
                   state=self.state)
        return row, self._episodes(self.last)

    def _refuse_infinite(self, frame, reward):
        """Raise a FloatingPointError that names the first reward or frame that is not finite."""
        values = dict(reward=np.asarray(reward, float)[:, None])
        if frame.dtype.kind == "f":
            values["observation"] = frame
        for name, rows in values.items():
            for i in np.flatnonzero(~np.isfinite(rows).all(axis=1)):
                value = rows[i][~np.isfinite(rows[i])][0]
                step = 0 if self.last[i] else self.length[i] + 1
                raise FloatingPointError(
                    f"environment {i} of {len(rows)} gave {name} {value} in step {step} of its "
                    "episode; expected finite numbers. Nothing was learned from it, and the last "
                    "checkpoint stays")

    def _reseed(self, mask):
        """Reset the environments of a mask with their next seeds; return the frames of the row."""
        now, oldest = self.num_steps, self.seeded_at.min()
        self.num_seeds[mask] += 1
        self.seeded_at[mask] = now
        for _ in range(self.seeded_at.min() - oldest):
            self.actions.popleft()
        frame, info = self.envs.reseed(mask, self._seeds())
        self._read_lives(info, mask)
        return frame

    def _seeds(self):
        """Return int64[N], the newest seed of each environment."""
        N = len(self.num_seeds)
        return np.array([derive_seeds(self.seed, TRAINING, count, size=N)[i]
                         for i, count in enumerate(self.num_seeds.tolist())])

    def _read_lives(self, info, mask):
        if self.life_loss in ("terminal", "penalty"):
            self.lives = np.where(mask, info.get("lives", self.lives), self.lives)

    def _begin(self, first, frame):
        self.frames, self.first = wrappers.push_frame(self.frames, frame, first), first
        for total in (self.episode_return, self.training_reward, self.length):
            total[first] = 0

    def _episodes(self, ended):
        # `length_reward` is added L times to each of an episode's L rewards.
        total = self.training_reward + self.envs.training_rewards.length_reward * self.length**2
        return [dict(episode_return=float(self.episode_return[i]), length=int(self.length[i]),
                     training_reward=float(total[i]), environment=int(i))
                for i in np.flatnonzero(ended)]

    _KEPT = """num_seeds seeded_at frames first last lives episode_return training_reward
               length""".split()

    def get_state(self) -> dict[str, np.ndarray]:
        """Return what a checkpoint keeps, as {name: array}.

        No emulator's state is among it, but the actions that lead there.
        """
        return {name: getattr(self, name) for name in self._KEPT} | self.envs.get_state() | dict(
            actions=np.array(self.actions, np.int32).reshape(-1, len(self.last)),
            **{f"state/{i}": np.asarray(s) for i, s in enumerate(self.state)})

    def set_state(self, arrays: Mapping[str, np.ndarray]) -> bool:
        """Restore what `get_state` returned by stepping the environments again.

        All begin at the oldest seed. Each is reset where its own newest one fell, so that what it
        did before makes no difference. The generator of flicker is restored by the caller.

        Returns:
            Whether the environments came out where they were. If not, they are no function of seed
            and actions, and `reset` is due.
        """
        for name in self._KEPT:
            setattr(self, name, arrays[name].copy())
        self.state = [arrays[f"state/{i}"] for i in range(len(self.state))]
        self.actions = collections.deque(arrays["actions"])
        seeds = self._seeds()
        self.envs.reset(seed=seeds)
        for step, actions in enumerate(self.actions, self.seeded_at.min() + 1):
            self.envs.repeat(actions.astype(np.int64), self.seeded_at == step, seeds)
        self.reset_due = not self.envs.set_state(arrays)
        return not self.reset_due
