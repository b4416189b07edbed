"""Record episodes of a DRQN: at each step its state, what the agent saw, and what the environment hides."""

import backends  # noqa: F401 - first: it imports the backend quietly
from launch import build

import ale_py
import gymnasium
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

import evaluate
import evaluation
from environments import features


class CartPole:
    """Read the whole state of each CartPole, of any environment around it."""

    targets = ("position", "velocity", "angle", "angular velocity")

    def __init__(self, envs):
        self._envs = envs.unwrapped.envs

    def read(self):
        """Return float64[N, 4]: the state that the newest frames show."""
        return np.array([env.unwrapped.state for env in self._envs], float)

    @staticmethod
    def split(hidden, _):
        """Return the targets float64[S, 4] of steps, and bool[S], whether each step defines them: here all do."""
        return hidden, np.ones(len(hidden), bool)


class Pong(gymnasium.vector.VectorWrapper):
    """Read the memory of each game of Pong.

    An AtariVectorEnv does not show its consoles' memory. So an emulator beside it repeats the first episode of each
    environment, until both frame counters are equal, as in mirror.AtariTwin. Every reward is compared.

    Reference: the addresses come from Anand et al. 2019 (Atari ARI).
    """

    targets = ("ball x", "ball y", "ball velocity x", "ball velocity y", "paddle y", "opponent y")
    BALL_X, BALL_Y, PADDLE_Y, OPPONENT_Y = ADDRESSES = [49, 54, 51, 50]

    def __init__(self, envs, sticky):
        super().__init__(envs)
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self._consoles = [ale_py.ALEInterface() for _ in range(envs.num_envs)]
        for console in self._consoles:
            console.setFloat("repeat_action_probability", sticky)
        self._actions = envs.unwrapped.ale.get_action_set()

    def reset(self, *, seed, options=None):
        observations, info = self.env.reset(seed=seed, options=options)
        for console, its_seed in zip(self._consoles, seed):
            console.setInt("random_seed", int(its_seed))
            console.loadROM(ale_py.roms.get_rom_path("pong"))
            console.reset_game()
        self._playing = np.ones(self.num_envs, bool)
        self._repeat(np.zeros(self.num_envs, int), info)  # no-ops
        return observations, info

    def step(self, actions):
        observations, reward, terminated, truncated, info = self.env.step(actions)
        repeated = self._repeat(actions, info)
        equal = (repeated == reward)[self._playing]
        assert equal.all(), "the emulators that are read have left the episodes that are played"
        self._playing &= ~(terminated | truncated)
        return observations, reward, terminated, truncated, info

    def _repeat(self, actions, info):
        """Act until each console's frame counter is the one of its environment; return the rewards."""
        reward = np.zeros(self.num_envs)
        for i in np.flatnonzero(self._playing):
            while self._consoles[i].getEpisodeFrameNumber() < info["episode_frame_number"][i]:
                reward[i] += self._consoles[i].act(self._actions[actions[i]])
        return reward

    def read(self):
        """Return float64[N, 4] of the newest screens, in console coordinates: ball x and y, paddle y, opponent y."""
        return np.array([console.getRAM()[self.ADDRESSES] for console in self._consoles], float)

    @staticmethod
    def split(hidden, episode):
        """Return the targets float64[S, 6] of steps, and bool[S], whether each step defines them.

        A step does if there is a ball, and was one a step before.
        ```
        ball y       0    0  130  134  138    0          between rallies there is no ball, and its y is 0
        velocity y             -    4    4    -          per agent step
        ```
        """
        ball, there = hidden[:, :2], (hidden[:, :2] > 0).all(axis=1)
        velocity = np.diff(ball, axis=0, prepend=ball[:1])
        follows = np.append(False, there[:-1] & (episode[1:] == episode[:-1]))
        return np.hstack([ball, velocity, hidden[:, 2:]]), there & follows


class StateRecorder:
    """Act as an agent does, and record every step.

    Args:
        agent: acts.
        untrained: an agent of the same network before it learned; it advances its state over the same frames.
        envs: wrappers.Flicker.
        read: function that returns the hidden variables [N, ...] of the newest frames.
    """

    def __init__(self, agent, untrained, envs, read):
        self.agent, self.untrained, self.envs, self.read, self._rows = agent, untrained, envs, read, []

    def initial_state(self, num_envs):
        return [*self.agent.initial_state(num_envs), *self.untrained.initial_state(num_envs)]

    def act(self, frames, state, first, epsilon, rng):
        half = len(state) // 2
        actions, trained_state = self.agent.act(frames, state[:half], first, epsilon, rng)
        _, untrained_state = self.untrained.q_values(frames, state[half:], first)
        size = len(untrained_state)  # After the core's state come the action and the reward before, if they are seen.
        self._rows.append(dict(
            episode=np.arange(len(first)), frame=frames[:, -1], obscured=self.envs.obscured, hidden=self.read(),
            state=np.hstack([np.asarray(s) for s in trained_state[:size]]),
            untrained=np.hstack([np.asarray(s) for s in untrained_state])))
        return actions, [*trained_state, *untrained_state, *trained_state[size:]]

    def see_reward(self, state, reward):
        self.agent.see_reward(state, reward)

    def steps(self, lengths):
        """Return {name: array [S, ...]} over the agent steps of all episodes, one episode after the other.

        Args:
            lengths: of the episodes.
        """
        played = np.arange(len(self._rows)) < np.array(lengths)[:, None]  # [N, T]; ended environments play on unseen.
        return {name: np.stack([row[name] for row in self._rows], axis=1)[played] for name in self._rows[0]}


def record_episodes(directory, num_episodes):
    """Play episodes of a run.

    Returns:
        settings, names of the targets, and {name: array [S, ...]} over all agent steps: episode, frame, obscured,
        state, untrained, targets, and whether these are `defined`.

    Raises:
        ValueError: the run cannot be played, its network has no state, or its environment's hidden variables are
            unknown.
    """
    values = evaluate.define_flags()
    values(["evaluate.py", f"--run_dir={directory}", f"--episodes={num_episodes}"])
    run, *_ = evaluate.load_run(values)
    settings, envs = run.settings, run.envs
    if not run.agent.initial_state(1):
        raise ValueError(f"{run.directory} is a run of {settings['network']}, which has no state to probe; "
                         "expected one of DRQN")
    if envs.is_atari and "pong" in settings["env"].lower():
        flicker = envs.env if features.torso_of(envs) else envs
        flicker.env = hidden = Pong(flicker.env, settings["sticky"])
    elif not envs.is_atari and isinstance(envs.unwrapped.envs[0].unwrapped, CartPoleEnv):
        hidden = CartPole(envs)
    else:
        raise ValueError(f"{run.directory} is a run on {settings['env']}, whose hidden variables are unknown; "
                         "expected CartPole or Pong")
    recorder = StateRecorder(run.agent, build.make_agent(settings, envs), envs, hidden.read)
    played = evaluation.evaluate(recorder, envs, settings["history"], settings["eval_epsilon"], seed=0, evaluation=0)
    steps = recorder.steps([episode["length"] for episode in played])
    targets, defined = hidden.split(steps.pop("hidden"), steps["episode"])
    envs.close()
    mean = np.mean([episode["episode_return"] for episode in played])
    print(f"{run.directory}: mean return {mean:.1f} over {num_episodes} episodes, {len(defined)} agent steps, "
          f"{steps['obscured'].mean():.0%} obscured", flush=True)
    return settings, hidden.targets, steps | dict(targets=targets, defined=defined)
