"""Stepping environments with an agent: one vector step for training, whole episodes for evaluation."""

import agent as agents
import backends
import numpy as np

import screens
import wrappers

# An emulator's state is its seed and the actions since. All environments start anew, with seeds of their own, every so many vector
# steps (250,000 agent steps at 8 environments), so that a resumed run has few actions to step again.
RESEED_PERIOD = 31_250
TRAINING, EVALUATION, EXPLORATION, REPLAY = 1, 2, 3, 4  # streams of random numbers within a run's seed


def make_envs(settings, num_envs, torso=None, **options):
    """Build `num_envs` environments from the settings of config.json; `options` of wrappers.make_envs win.

    Args:
        torso: what features.load returned for these settings; None where they have no `features`.
    """
    assert (torso is None) == (settings.get("features") is None)  # The settings of older runs do not have it.
    names = "env frame_skip max_episode_frames flicker sticky full_actions noops".split()
    given = {name: settings[name] for name in names if settings[name] is not None} | options
    if torso:
        given["screen"] = torso.screen
    envs = wrappers.make_envs(num_envs=num_envs, num_threads=backends.num_threads(), **given)
    if torso and envs.frame_shape != torso.screen:
        raise ValueError(f"--features={settings['features']} does not apply to --env={settings['env']}, whose frames are vectors of "
                         f"{envs.frame_shape[0]} numbers; expected an environment with a screen")
    return screens.Features(envs, torso) if torso else envs


def make_agent(settings, envs):
    """Build the agent that the settings of config.json describe, for the frames and actions of `envs`."""
    names = "network history units precision optimizer learning_rate clip_norm loss seed".split()
    return agents.Agent(frame_shape=envs.frame_shape, num_actions=len(envs.action_names), features=bool(settings.get("features")),
                        **{name: settings[name] for name in names})


def load_weights(agent, path, settings):
    """Read the weights of a run with these settings from a .weights.h5 file.

    Raises:
        ValueError: they are not there, or those of something else.
    """
    try:
        agent.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(f"{path} does not hold weights of {settings['network']} with {settings['units']} units "
                         f"for {settings['env']} ({' '.join(str(error).split())[:120]})") from error


def derive_seeds(*key, size):
    """Return int64[size] in [0, 2**31), a function of the integers of `key`."""
    return (np.random.SeedSequence(key).generate_state(size) >> 1).astype(np.int64)


def _blank(envs, history):
    return np.zeros((envs.num_envs, history, *envs.frame_shape), envs.frame_dtype)


class Rollout:
    """N training environments, and all that acting in them needs.

    Args:
        envs: screens.Flicker.
        agent: what acts.
        history: H.
        gamma: discount of a transition that does not terminate.
        life_loss: `none`; `terminal`: a lost life sets the discount to 0; `penalty`: it sets the reward to -1. The episode goes on.
        seed: of the run.
    """

    def __init__(self, envs, agent, history, gamma, life_loss, seed):
        self.envs, self.agent, self.gamma, self.life_loss, self.seed = envs, agent, gamma, life_loss, seed
        N = envs.num_envs
        self.count = 0  # reseeds so far
        self.actions = np.zeros((RESEED_PERIOD, N), np.int16)  # since the last reseed
        self.num_steps = 0  # vector steps since the last reseed
        self.frames, self.state = _blank(envs, history), agent.initial_state(N)
        self.first, self.last = np.zeros(N, bool), np.ones(N, bool)
        self.lives, self.potential = np.zeros(N, np.int64), np.zeros(N)
        self.length_reward = envs.metadata.get("length_reward", 0.0)  # as replay.Replay takes it
        self.episode_return, self.training_reward, self.length = np.zeros(N), np.zeros(N), np.zeros(N, np.int64)

    @property
    def reseed_due(self):
        return self.num_steps == RESEED_PERIOD or self.count == 0

    def reseed(self):
        """Reset every environment with new seeds; return the row of first frames, and the episodes that this cut."""
        cut = self._episodes(~self.last & (self.length > 0), cut=1)
        self.count += 1
        frame, info = self._reset()
        everywhere, zeros = np.ones(len(self.last), bool), np.zeros(len(self.last))
        self._begin(everywhere, frame, info)
        self.last = ~everywhere
        return dict(frame=frame, action=zeros, reward=zeros, discount=zeros, first=everywhere), cut

    def cut_short(self):
        """Make the next vector step reset every environment, as at the end of a reseed period."""
        self.num_steps = RESEED_PERIOD

    def _reset(self):
        self.num_steps = 0
        return self.envs.reset(seed=derive_seeds(self.seed, TRAINING, self.count, size=self.envs.num_envs))

    def _begin(self, first, frame, info):
        self.frames, self.first = screens.push_frame(self.frames, frame, first), first
        self.lives, self.potential = np.asarray(info.get("lives", self.lives)), info.get("potential", self.potential)
        for total in (self.episode_return, self.training_reward, self.length):
            total[first] = 0

    def act(self, epsilon, rng):
        """Choose the next actions int64[N]; the acting state advances."""
        actions, self.state = self.agent.act(self.frames, self.state, self.first, epsilon, rng)
        return actions

    def step(self, actions, meanwhile=lambda: None):
        """Step every environment; one that ended in the last step resets instead, whatever its action.

        Args:
            meanwhile: called while the emulators step.

        Returns:
            row: frame, action, reward, discount, first, as replay.append takes them.
            episodes: a dict for each that ended.
        """
        self.actions[self.num_steps] = actions
        self.num_steps += 1
        first, lives, potential = self.last, self.lives, self.potential
        self.envs.step_async(actions)
        meanwhile()
        frame, raw_reward, terminated, truncated, info = self.envs.step_wait()
        self._begin(first, frame, info)
        # Mnih et al. 2015: rewards are clipped on Atari, where scores differ by orders of magnitude between games; raw elsewhere.
        reward = np.sign(raw_reward) if self.envs.is_atari else raw_reward
        discount = np.where(terminated, 0.0, self.gamma)
        lost = (self.lives < lives) & ~first
        if self.life_loss == "terminal":
            discount = np.where(lost, 0.0, discount)
        elif self.life_loss == "penalty":
            reward = np.where(lost, -1.0, reward)
        if "crafted" in info:
            reward = reward + info["crafted"]
        if "potential" in info:
            # Ng, Harada & Russell 1999: no policy gains by it, since it telescopes, by each row's own discount: where an episode terminates
            # (or a lost life counts as that) the last potential counts as 0, and where it is cut the target that bootstraps has it.
            reward = np.where(first, 0.0, reward + discount * self.potential - potential)
        self.episode_return += np.where(first, 0, raw_reward)
        self.training_reward += np.where(first, 0, reward)
        self.length += ~first
        self.last = terminated | truncated
        return dict(frame=frame, action=actions, reward=reward, discount=discount, first=first), self._episodes(self.last, cut=0)

    def _episodes(self, ended, cut):
        total = self.training_reward + self.length_reward * self.length**2  # L times for each of L transitions
        return [dict(episode_return=float(self.episode_return[i]), length=int(self.length[i]),
                     training_reward=float(total[i]), environment=int(i), cut=cut) for i in np.flatnonzero(ended)]

    _KEPT = "frames first last lives episode_return training_reward length".split()

    def get_state(self):
        """Return what a checkpoint keeps, as {name: array}: no emulator's state, but the actions that lead to it."""
        return {name: getattr(self, name) for name in self._KEPT} | dict(
            count=np.array(self.count), actions=self.actions[:self.num_steps], unobscured=self.envs.unobscured,
            **{f"state/{i}": np.asarray(s) for i, s in enumerate(self.state)})

    def set_state(self, arrays):
        """Restore what `get_state` returned by stepping the environments again.

        Returns:
            Whether the environments came out where they were. If not, they are no function of seed and actions: reseed.
        """
        self.count = int(arrays["count"])
        _, info = self._reset()
        for actions in arrays["actions"]:
            info = self.envs.advance(actions.astype(np.int64))
        self.potential = info.get("potential", self.potential)
        self.num_steps = len(arrays["actions"])
        self.actions[:self.num_steps] = arrays["actions"]
        for name in self._KEPT:
            setattr(self, name, arrays[name].copy())
        self.state = [arrays[f"state/{i}"] for i in range(len(self.state))]
        return np.array_equal(self.envs.unobscured, arrays["unobscured"])


class _Repeated:
    """Random numbers for `repeats` equal groups of environments, the same in each: 1 2 3 1 2 3."""

    def __init__(self, rng, repeats):
        self._rng, self._repeats = rng, repeats

    def random(self, size):
        return np.tile(self._rng.random(size // self._repeats), self._repeats)

    def integers(self, high, size):
        return np.tile(self._rng.integers(high, size=size // self._repeats), self._repeats)


def play(agent, envs, history, epsilon, seed, evaluation, repeats=1):
    """Play exactly one episode in each environment, so that short episodes are not over-represented.

    Args:
        seed, evaluation: integers; the result is a function of them and of the weights, flicker and epsilon included.
        repeats: equal groups of environments that differ in their flicker alone: each has the seeds and the random actions of the first.

    Yields:
        Before each step of the first environment's episode the agent's frames [N, H, ...], state, first, actions int64[N], and that
        environment's episode_return and length so far.

    Returns:
        A dict(episode_return, length) per environment, in their order.
    """
    N, rng = envs.num_envs, _Repeated(np.random.default_rng((seed, EVALUATION, evaluation, EXPLORATION)), repeats)
    episode_return, length, playing = np.zeros(N), np.zeros(N, np.int64), np.ones(N, bool)
    frame, _ = envs.reset(seed=np.tile(derive_seeds(seed, EVALUATION, evaluation, size=N // repeats), repeats))
    frames, state, first = _blank(envs, history), agent.initial_state(N), np.ones(N, bool)
    while playing.any():
        frames = screens.push_frame(frames, frame, first)
        actions, next_state = agent.act(frames, state, first, epsilon, rng)
        if playing[0]:
            yield frames, state, first, actions, episode_return[0], length[0]
        state = next_state
        frame, reward, terminated, truncated, _ = envs.step(actions)
        episode_return += np.where(playing, reward, 0)
        length += playing
        first = ~playing  # Those that have ended play on unseen.
        playing &= ~(terminated | truncated)
    return [dict(episode_return=float(r), length=int(n)) for r, n in zip(episode_return, length)]


def evaluate(*arguments, watch=lambda *step: None, **keywords):
    """Return what `play` does with these arguments, in one go; `watch` is called with all that it yields."""
    steps = play(*arguments, **keywords)
    while True:
        try:
            watch(*next(steps))
        except StopIteration as end:
            return end.value


class Glimpse:
    """A `watch` of `evaluate`, for TensorBoard: the first of what the first environment's agent sees, and the Q-values of all.

    Attributes:
        frames: the newest frame of each of the first STEPS agent steps.
        q_values: float32[N, A] of every Q_PERIOD-th of them; once more than for acting, so not of each.
    """

    STEPS, Q_PERIOD = 200, 4

    def __init__(self, agent):
        self.agent, self.frames, self.q_values = agent, [], []

    def __call__(self, frames, state, first, actions, episode_return, length):
        if length < self.STEPS:
            self.frames.append(frames[0, -1])
            if length % self.Q_PERIOD == 0:
                self.q_values.append(self.agent.q_values(frames, state, first)[0])
