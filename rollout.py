"""One vector step of training: actions go to N environments, rows for the replay come back."""

import numpy as np

import wrappers

# An emulator's state is its seed and the actions since. All environments start anew, with seeds of
# their own, every so many vector steps (250,000 agent steps at 8 environments), so that a resumed
# run has few actions to step again.
RESEED_PERIOD = 31_250
TRAINING, EVALUATION, EXPLORATION, REPLAY = 1, 2, 3, 4  # streams of random numbers within a run


def derive_seeds(*key, size):
    """Return int64[size] in [0, 2**31), a function of the integers of `key`."""
    return (np.random.SeedSequence(key).generate_state(size) >> 1).astype(np.int64)


class Rollout:
    """N training environments, and all that acting in them needs.

    ```
    act        actions of the newest frames; the acting state advances
    send       the emulators begin to step
    receive    they have stepped: a row for the replay, and the episodes that ended
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
        last: bool[N], which environments ended in the last step, and reset in the next one.
    """

    def __init__(self, envs, agent, history, gamma, life_loss, seed, reward_scale=None):
        self.envs, self.agent, self.seed = envs, agent, seed
        self.gamma, self.life_loss = gamma, life_loss
        self.clips = reward_scale == "clip" or (reward_scale is None and envs.is_atari)
        N = envs.num_envs
        self.count = 0  # reseeds so far
        self.actions = np.zeros((RESEED_PERIOD, N), np.int32)  # since the last reseed
        self.num_steps = 0  # vector steps since the last reseed
        self.frames, self.state = wrappers.blank_frames(envs, history), agent.initial_state(N)
        self.first, self.last = np.zeros(N, bool), np.ones(N, bool)
        self.lives, self.length = np.zeros(N, np.int64), np.zeros(N, np.int64)
        self.episode_return, self.training_reward = np.zeros(N), np.zeros(N)

    @property
    def reseed_due(self):
        return self.num_steps == RESEED_PERIOD or self.count == 0

    def reseed(self):
        """Reset every environment with new seeds; return what `receive` does, cut episodes."""
        cut = self._episodes(~self.last & (self.length > 0), cut=1)
        self.count += 1
        frame, info = self._reset()
        everywhere, zeros = np.ones(len(self.last), bool), np.zeros(len(self.last))
        self._begin(everywhere, frame, info)
        self.last = ~everywhere
        row = dict(frame=frame, action=zeros, reward=zeros, discount=zeros, first=everywhere,
                   state=self.state)
        return row, cut

    def cut_short(self):
        """Make the next vector step reset every environment, as at the end of a reseed period."""
        self.num_steps = RESEED_PERIOD

    def act(self, epsilon, rng):
        """Choose the next actions int64[N]; the acting state advances."""
        actions, self.state = self.agent.act(self.frames, self.state, self.first, epsilon, rng)
        return actions

    def send(self, actions):
        """Begin a vector step; return how many environments execute their action.

        An environment that ended in the last step resets instead, whatever its action.
        """
        self.actions[self.num_steps] = self._sent = actions
        self.num_steps += 1
        self.envs.send(actions)
        return int((~self.last).sum())

    def receive(self):
        """End the vector step.

        Returns:
            row: frame, action, reward, discount, first, state, as replay.append takes them.
            episodes: a dict for each episode that ended.
        """
        first, lives = self.last, self.lives
        frame, raw_reward, terminated, truncated, info = self.envs.receive()
        self._begin(first, frame, info)
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
        return row, self._episodes(self.last, cut=0)

    def _reset(self):
        self.num_steps = 0
        seeds = derive_seeds(self.seed, TRAINING, self.count, size=self.envs.num_envs)
        return self.envs.reset(seed=seeds)

    def _begin(self, first, frame, info):
        self.frames, self.first = wrappers.push_frame(self.frames, frame, first), first
        if self.life_loss in ("terminal", "penalty"):
            self.lives = np.asarray(info.get("lives", self.lives))
        for total in (self.episode_return, self.training_reward, self.length):
            total[first] = 0

    def _episodes(self, ended, cut):
        # `length_reward` is added L times to each of an episode's L rewards.
        total = self.training_reward + self.envs.training_rewards.length_reward * self.length**2
        return [dict(episode_return=float(self.episode_return[i]), length=int(self.length[i]),
                     training_reward=float(total[i]), environment=int(i), cut=cut)
                for i in np.flatnonzero(ended)]

    _KEPT = "frames first last lives episode_return training_reward length".split()

    def get_state(self):
        """Return what a checkpoint keeps, as {name: array}.

        No emulator's state is among it, but the actions that lead there.
        """
        return {name: getattr(self, name) for name in self._KEPT} | dict(
            count=np.array(self.count), actions=self.actions[:self.num_steps],
            unobscured=self.envs.unobscured,
            **{f"state/{i}": np.asarray(s) for i, s in enumerate(self.state)})

    def set_state(self, arrays):
        """Restore what `get_state` returned by stepping the environments again.

        Returns:
            Whether the environments came out where they were. If not, they are no function of seed
            and actions, and `cut_short` is to be called.
        """
        self.count = int(arrays["count"])
        self._reset()
        for actions in arrays["actions"]:
            self.envs.repeat(actions.astype(np.int64))
        self.num_steps = len(arrays["actions"])
        self.actions[:self.num_steps] = arrays["actions"]
        for name in self._KEPT:
            setattr(self, name, arrays[name].copy())
        self.state = [arrays[f"state/{i}"] for i in range(len(self.state))]
        return np.array_equal(self.envs.unobscured, arrays["unobscured"])
