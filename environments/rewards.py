"""Atari games with other training rewards, under ids of their own; importing this file registers them.

A variant changes what an agent learns from. Screens, actions and `episode_return` are the game's own.
"""

from collections.abc import Sequence

import gymnasium
import numpy as np


class Rewards:
    """The rewards that training uses: an environment's own, as they are.

    Attributes:
        length_reward: added L times to each of an episode's L rewards when a window is drawn (see `CraftedReward`).
    """

    length_reward = 0.0

    def add(self, reward: np.ndarray, discount: np.ndarray, first: np.ndarray) -> np.ndarray:
        """Return the training reward of the newest row.

        Args:
            reward: float[N], after clipping and after the penalty of a lost life.
            discount: float[N] of the same row, 0 where an episode terminated.
            first: bool[N], where an episode begins: its row has no reward.
        """
        return reward


class Shaping(Rewards):
    """Rewards with discount_t potential_t - potential_tm1 added.

    `follow` is told the potential float[N] of each row, and `replace` where environments reset in a row that it was
    told of.

    The terms telescope, so no policy gains by them. Where an episode terminates (or a lost life counts as an end) the
    last potential counts as 0; where an episode is truncated the target that bootstraps has the potential.

    Reference: Ng, Harada & Russell 1999, Policy invariance under reward transformations.
    """

    _potential: float | np.ndarray = 0.0

    def follow(self, potential: np.ndarray) -> None:
        self._potential_tm1, self._potential = self._potential, potential

    def replace(self, potential: np.ndarray) -> None:
        self._potential = potential

    def add(self, reward: np.ndarray, discount: np.ndarray, first: np.ndarray) -> np.ndarray:
        return np.where(first, 0.0, reward + discount * self._potential - self._potential_tm1)


class _Variant(gymnasium.vector.VectorWrapper, Rewards):
    """N emulators of AtariVectorEnv with rewards of their own.

    A subclass follows the game in `_follow(first, actions, screens)`, which gets each row before any flicker: bool[N],
    int64[N] and uint8[N, 84, 84]. A reset of some environments, or of all, calls `_begin(mask, screens)`.

    Args:
        envs: AtariVectorEnv.
        action_names: one per action.
    """

    def __init__(self, envs: gymnasium.vector.VectorEnv, action_names: Sequence[str]) -> None:
        super().__init__(envs)
        self.action_names, self._ended = action_names, np.zeros(envs.num_envs, bool)

    def reset(self, *, seed=None, options=None):
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, bool))
        observations, info = self.env.reset(seed=seed, options=options)
        self._ended = self._ended & ~mask
        self._begin(mask, observations[:, 0])
        return observations, info

    def step(self, actions):
        self.send(actions)
        return self.recv()

    def send(self, actions):
        self._actions = np.asarray(actions)
        self.env.send(self._actions)

    def recv(self):
        observations, reward, terminated, truncated, info = self.env.recv()
        self._follow(self._ended, self._actions, observations[:, 0])
        self._ended = terminated | truncated
        return observations, reward, terminated, truncated, info


class CraftedReward(_Variant):
    """The crafted reward of Kalbag, Kapoor & Bhamare: step i of an episode of L steps gets

        (L - i) / 10000 + 0.2 / (exp((i - last_fire) / 5) + 1)

    where last_fire is the latest step up to i whose action was FIRE, 0 before any. LEFTFIRE and RIGHTFIRE are other
    actions.

    L is known only when the episode ends, and adds the same to every step. So `add` gives the reward without L / 10000.
    The replay adds `length_reward`, 1 / 10000, L times to the windows that it draws from episodes that have ended. A
    stored row never changes.
    """

    length_reward = 1 / 10_000

    def __init__(self, envs: gymnasium.vector.VectorEnv, action_names: Sequence[str]) -> None:
        super().__init__(envs, action_names)
        self._i, self._last_fire = np.zeros((2, envs.num_envs), np.int64)
        self._crafted = np.zeros(envs.num_envs)

    def _begin(self, mask, screens):
        self._i[mask], self._last_fire[mask], self._crafted[mask] = -1, 0, 0

    def _follow(self, first, actions, screens):
        fired = actions == self.action_names.index("FIRE")
        self._i += 1
        self._last_fire = np.where(fired, self._i, self._last_fire)
        # 0.2 / (exp(... / 5) + 1), which overflows in long episodes.
        near = 0.1 * (1 - np.tanh((self._i - self._last_fire) / 10))
        self._crafted = near - self._i * self.length_reward
        self._begin(first, screens)

    def add(self, reward: np.ndarray, discount: np.ndarray, first: np.ndarray) -> np.ndarray:
        return reward + self._crafted


class PinsDown(Shaping, _Variant):
    """Bowling with a potential, the share of pins that are down.

    The game pays a frame's pins only after its balls have been rolled. The potential, in [0, 1], is a function of the
    screen; while the ball rolls over a fallen pin's place that pin counts as standing.
    """

    ROWS = np.array([55, 53, 57, 50, 55, 60, 48, 53, 57, 62])  # of the darkest pixel of each pin
    COLUMNS = np.array([64, 66, 66, 68, 68, 68, 70, 70, 70, 70])
    LANE, PIN = 131, 95  # grays: of the lane, and at most of these pixels

    def __init__(self, envs: gymnasium.vector.VectorEnv, action_names: Sequence[str]) -> None:
        super().__init__(envs, action_names)
        if envs.single_observation_space.shape[1:] != (84, 84):
            raise ValueError("--env=BowlingShaped-v0 counts its pins on gray screens of 84x84; expected no --color, no "
                             "--features but of a run of gray screens, or --env=Bowling")

    def _begin(self, mask, screens):
        self.replace(self._measure(screens))

    def _follow(self, first, actions, screens):
        self.follow(self._measure(screens))

    def _measure(self, screens):
        """Return the share of pins that are down, float64[N]."""
        return (screens[:, self.ROWS, self.COLUMNS] > (self.PIN + self.LANE) / 2).mean(axis=1)


def _refuse(name, **settings):
    raise gymnasium.error.Error(f"{name} is made of ALE's vector environment, and not by gymnasium.make: "
                                "expected catalogue.make_envs")


VARIANTS = {"AssaultCrafted-v0": CraftedReward, "BowlingShaped-v0": PinsDown}  # of layout.GAMES
for name in VARIANTS:
    gymnasium.register(name, entry_point=_refuse, kwargs=dict(name=name))
