"""Atari games with other training rewards: variants of a game under ids of their own; importing this file registers them with Gymnasium.

Screens, actions and returns are the game's. What training adds to its rewards comes in `info`, float[N], before any flicker.
"""

import gymnasium
import numpy as np


class _Variant(gymnasium.vector.VectorWrapper):
    """N emulators of AtariVectorEnv, to whose `info` a variant adds.

    Its `_tell(first, actions, screens)` returns what, for a row's first bool[N], the actions int64[N] that led to it, and its screens
    uint8[N, 84, 84].

    Args:
        envs: AtariVectorEnv.
        action_names: one per action.
    """

    def __init__(self, envs, action_names):
        super().__init__(envs)
        self.action_names, self._ended = action_names, np.zeros(envs.num_envs, bool)

    def reset(self, *, seed=None, options=None):
        observations, info = self.env.reset(seed=seed, options=options)
        self._ended[:] = False
        return observations, info | self._tell(~self._ended, np.zeros(self.num_envs, np.int64), observations[:, 0])

    def step(self, actions):
        self.send(actions)
        return self.recv()

    def send(self, actions):
        self._actions = np.asarray(actions)
        self.env.send(self._actions)

    def recv(self):
        observations, reward, terminated, truncated, info = self.env.recv()
        info = info | self._tell(self._ended, self._actions, observations[:, 0])
        self._ended = terminated | truncated
        return observations, reward, terminated, truncated, info


class CraftedReward(_Variant):
    """The crafted reward of Kalbag, Kapoor & Bhamare: for step i = 0, 1, ..., L - 1 of an episode of L steps

        (L - i) / 10000 + 0.2 / (exp((i - last_fire) / 5) + 1)

    where last_fire is the latest step up to i whose action was FIRE, 0 before any. LEFTFIRE and RIGHTFIRE are other actions.

    L is known only in the end, but all else when the step is made, and L adds the same to every step. So `info["crafted"]` is the reward
    without L / 10000, and `metadata["length_reward"]`, 1 / 10000, is what the replay adds L times to what it draws, from episodes that
    have ended: no row that was stored ever changes. An episode that a reseed cuts ends there, with the L that it has come to.
    """

    PER_STEP = 1 / 10_000

    def __init__(self, envs, action_names):
        super().__init__(envs, action_names)
        self.metadata = envs.metadata | dict(length_reward=self.PER_STEP)
        self._i, self._last_fire = np.zeros((2, envs.num_envs), np.int64)

    def _tell(self, first, actions, screens):
        self._i = np.where(first, -1, self._i + 1)
        self._last_fire = np.where(first, 0, np.where(actions == self.action_names.index("FIRE"), self._i, self._last_fire))
        near = 0.1 * (1 - np.tanh((self._i - self._last_fire) / 10))  # = 0.2 / (exp(... / 5) + 1), which overflows in long episodes
        return dict(crafted=np.where(first, 0, near - self._i * self.PER_STEP))


class PinsDown(_Variant):
    """Bowling with a potential, the share of pins that are down: the game itself pays a frame's pins only when its balls have been rolled.

    `info["potential"]` in [0, 1] is a function of the screen, of which training adds gamma potential_t - potential_tm1 to the reward.
    While the ball rolls over a fallen pin's place that pin counts as standing.

    Reference: Ng, Harada & Russell 1999, Policy invariance under reward transformations.
    """

    ROWS, COLUMNS = np.array([(55, 64), (53, 66), (57, 66), (50, 68), (55, 68), (60, 68), (48, 70), (53, 70), (57, 70), (62, 70)]).T
    LANE = 131  # its gray; a pin's darkest pixel, of which ROWS and COLUMNS are the places, has at most 95

    def __init__(self, envs, action_names):
        super().__init__(envs, action_names)
        if envs.single_observation_space.shape[1:] != (84, 84):
            raise ValueError("--env=BowlingShaped-v0 counts its pins on gray screens of 84x84; expected --features of a run, or "
                             "--env=Bowling")

    def _tell(self, first, actions, screens):
        return dict(potential=(screens[:, self.ROWS, self.COLUMNS] > (95 + self.LANE) / 2).mean(axis=1))


def _refuse(name, **settings):
    raise gymnasium.error.Error(f"{name} is made of ALE's vector environment, and not by gymnasium.make: expected wrappers.make_envs")


VARIANTS = {"AssaultCrafted-v0": ("Assault", CraftedReward), "BowlingShaped-v0": ("Bowling", PinsDown)}  # id -> game, its wrapper
for name in VARIANTS:
    gymnasium.register(name, entry_point=_refuse, kwargs=dict(name=name))
