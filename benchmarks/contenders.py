"""Run a training loop to be timed, this suite's or a peer's, in a process that works only when it is asked to.

    python -m benchmarks.contenders ours --network=DRQN --precision=mixed_bfloat16
    .venv-peers/bin/python -m benchmarks.contenders sb3          Stable-Baselines3's DQN
    .venv-peers/bin/python -m benchmarks.contenders pfrl         PFRL's DRQN

Run it from the repository root. Each class imports its packages when it begins, because the peers' Python has neither
Keras nor TensorFlow.

The process prints a line of JSON after its first agent steps, and another once updates run. Standard input then gives
it a number of agent steps a line. It makes that many and prints a line of JSON: agent_steps, seconds, phases (seconds
by phase, of this suite only), peak_bytes (resident memory).

All contenders play Frostbite with the same hyperparameters: the convolutions of Mnih et al. 2015, 512 units, batch 32,
Adam 1e-4, gamma .99, Huber loss, gradients clipped to a norm of 10, an update every 4 agent steps, a target every
10,000, epsilon .1. DQN sees 4 frames. DRQN sees 1, over windows of 10.
"""

import collections
import json
import resource
import sys
import tempfile
import time

LEARNING_STARTS = 1000  # agent steps before the first update
CAPACITY = 20_000  # timesteps of replay


class Ours:
    """The loop of train.py with any of its flags."""

    def __init__(self, arguments):
        import train
        settings = ["--env=Frostbite", "--optimizer=adam", f"--learning_starts={LEARNING_STARTS}",
                    f"--bufflen={CAPACITY}", "--maxsteps=1000000000", "--epsilon_begin=0.1",
                    f"--run_dir={tempfile.mkdtemp()}"]
        self.trainer, self.seconds = train.Trainer(train.configure([*settings, *arguments])), collections.Counter()
        self.trainer.clock.phases = self.seconds  # The trainer's counter starts from zero at every row of learn.csv.

    def advance(self, num_steps):
        begin = self.trainer.agent_step
        self.trainer.train(until=begin + num_steps)
        return self.trainer.agent_step - begin

    def updates(self):
        return self.trainer.updates

    def phases(self):
        """Return the seconds by phase since the last call."""
        phases = dict(self.seconds)
        self.seconds.clear()
        return phases


class StableBaselines3:
    """DQN from `make_atari_env` and `CnnPolicy`, with 8 environments: it is faster here than with one."""

    def __init__(self, _):
        import ale_py
        import gymnasium
        from stable_baselines3 import DQN
        from stable_baselines3.common.env_util import make_atari_env
        from stable_baselines3.common.vec_env import VecFrameStack
        gymnasium.register_envs(ale_py)
        envs = VecFrameStack(make_atari_env("FrostbiteNoFrameskip-v4", n_envs=8, seed=1), n_stack=4)
        self.model = DQN(
            "CnnPolicy", envs, learning_rate=1e-4, buffer_size=CAPACITY, learning_starts=LEARNING_STARTS, batch_size=32,
            gamma=0.99, train_freq=(1, "step"), gradient_steps=2, target_update_interval=10_000, max_grad_norm=10,
            exploration_initial_eps=0.1, exploration_final_eps=0.1, seed=1, device="cpu")

    def advance(self, num_steps):
        begin = self.model.num_timesteps
        self.model.learn(num_steps, reset_num_timesteps=False, log_interval=1_000_000)
        return self.model.num_timesteps - begin

    def updates(self):
        return self.model._n_updates

    def phases(self):
        return {}


class PFRL:
    """DRQN as in PFRL's examples/atari/train_drqn_ale.py.

    It has one environment, sees one frame, and learns from 32 windows of 10 that start with a zero state.
    """

    def __init__(self, _):
        import ale_py
        import gymnasium
        import numpy as np
        import pfrl
        import torch
        gymnasium.register_envs(ale_py)
        torch.manual_seed(1)
        env = gymnasium.make("ALE/Frostbite-v5", frameskip=1, repeat_action_probability=0)
        # PFRL trains once 32 episodes have ended, and keeps 2 MB of each acting step until then. So episodes are short
        # here.
        self.env = gymnasium.wrappers.TimeLimit(gymnasium.wrappers.AtariPreprocessing(env, noop_max=0), 64)
        actions, rng = int(self.env.action_space.n), np.random.default_rng(1)
        convolutions = [torch.nn.Conv2d(1, 32, 8, 4), torch.nn.ReLU(), torch.nn.Conv2d(32, 64, 4, 2), torch.nn.ReLU(),
                        torch.nn.Conv2d(64, 64, 3), torch.nn.ReLU(), torch.nn.Flatten()]
        network = pfrl.nn.RecurrentSequential(*convolutions, torch.nn.LSTM(3136, 512), torch.nn.Linear(512, actions),
                                              pfrl.q_functions.DiscreteActionValueHead())
        self.agent = pfrl.agents.DQN(
            network, torch.optim.Adam(network.parameters(), 1e-4),
            pfrl.replay_buffers.EpisodicReplayBuffer(CAPACITY), gamma=0.99,
            explorer=pfrl.explorers.ConstantEpsilonGreedy(0.1, lambda: int(rng.integers(actions))),
            replay_start_size=LEARNING_STARTS, minibatch_size=32, update_interval=4, target_update_interval=10_000,
            recurrent=True, episodic_update_len=10, max_grad_norm=10,
            phi=lambda frame: np.asarray(frame, np.float32)[None] / 255)
        self.frame, _ = self.env.reset(seed=1)

    def advance(self, num_steps):
        for _ in range(num_steps):
            self.frame, reward, terminated, truncated, _ = self.env.step(self.agent.act(self.frame))
            self.agent.observe(self.frame, max(-1, min(1, reward)), terminated, terminated or truncated)
            if terminated or truncated:
                self.frame, _ = self.env.reset()
        return num_steps

    def updates(self):
        return self.agent.optim_t

    def phases(self):
        return {}


def main():
    name, *arguments = sys.argv[1:]
    output, sys.stdout = sys.stdout, sys.stderr  # Peers print too; answers alone go to standard output.
    contender = dict(ours=Ours, sb3=StableBaselines3, pfrl=PFRL)[name](arguments)
    contender.advance(8)
    print(json.dumps("first step"), file=output, flush=True)
    while contender.updates() < 8:  # PFRL waits for 32 whole episodes.
        contender.advance(8)
    print(json.dumps("ready"), file=output, flush=True)
    for line in sys.stdin:
        contender.phases()
        begin = time.perf_counter()
        steps = contender.advance(int(line))
        seconds = time.perf_counter() - begin
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        answer = dict(agent_steps=steps, seconds=seconds, phases=contender.phases(), peak_bytes=peak)
        print(json.dumps(answer), file=output, flush=True)


if __name__ == "__main__":
    main()
