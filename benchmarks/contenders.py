"""Run a training loop to be timed, this suite's or a peer's, in a process that works only when it is asked to.

    python -m benchmarks.contenders ours --network=DRQN --precision=mixed_bfloat16
    .venv-peers/bin/python -m benchmarks.contenders sb3          Stable-Baselines3's DQN
    .venv-peers/bin/python -m benchmarks.contenders pfrl 0.5     PFRL's DRQN, half of the screens blank
    python -m benchmarks.contenders rollouts --flagfile=presets/pqn.flags     this suite's with these flags alone
    .venv-peers/bin/python -m benchmarks.contenders cleanrl SETTINGS          CleanRL's PQN with settings as JSON
    python -m benchmarks.contenders products float32             no loop: large matrix products, one per "agent step"

Run it from the repository root. Each class imports its packages when it begins, because the peers' Python has neither
Keras nor TensorFlow.

The process prints a line of JSON after its first agent steps, and another once updates run. Standard input then gives
it a number of agent steps a line. It makes that many, or the next whole rollout, and prints a line of JSON:

    agent_steps, seconds, updates
    phases         {phase: seconds}, empty where the loop does not tell
    operations     floating-point operations of learning, 0 where they are not counted
    peak_bytes     of resident memory

The first three play Frostbite with the same hyperparameters: the convolutions of Mnih et al. 2015, 512 units, batch 32,
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


class Contender:
    """A loop of which nothing is known but its agent steps and its updates."""

    def phases(self):
        """Return the seconds by phase since the last call."""
        return {}

    def operations(self):
        """Return the floating-point operations of all learning so far."""
        return 0


class Ours(Contender):
    """The loop of train.py with any of its flags."""

    FLAGS = ["--env=Frostbite", "--optimizer=adam", f"--learning_starts={LEARNING_STARTS}", f"--bufflen={CAPACITY}",
             "--maxsteps=1000000000", "--epsilon_begin=0.1"]

    def __init__(self, arguments):
        import train
        from benchmarks import updates
        config = train.configure([*self.FLAGS, f"--run_dir={tempfile.mkdtemp()}", *arguments])
        self.trainer, self.seconds = train.Trainer(config), collections.Counter()
        self.trainer.clock.phases = self.seconds  # The trainer's counter starts from zero at every row of learn.csv.
        self.operations_per_update = updates.count_operations(self.trainer.agent, config["settings"])

    def advance(self, num_steps):
        begin = self.trainer.agent_step
        self.trainer.train(until=begin + num_steps)
        return self.trainer.agent_step - begin

    def updates(self):
        return self.trainer.updates

    def phases(self):
        phases = dict(self.seconds)
        self.seconds.clear()
        return phases

    def operations(self):
        return self.updates() * self.operations_per_update


class Rollouts(Ours):
    """The loop of train.py with --sample=rollout, in whole rollouts."""

    FLAGS = []

    def advance(self, num_steps):
        begin = self.trainer.agent_step
        while self.trainer.agent_step < begin + num_steps:
            updates = self.trainer.updates
            while self.trainer.updates == updates:  # A rollout's updates follow each other within a vector step.
                self.trainer.train(until=self.trainer.agent_step + 1)
        self.trainer.check_finite()  # It waits for the updates, which JAX makes after they are asked for.
        return self.trainer.agent_step - begin


class CleanRL(Contender):
    """One of the loops of cleanrl.py."""

    def __init__(self, arguments):
        from benchmarks import cleanrl
        self.settings = json.loads(*arguments)
        self.loop = cleanrl.Loop(self.settings)

    def advance(self, num_steps):
        return self.loop.advance(num_steps)

    def updates(self):
        return self.loop.updates

    def phases(self):
        phases = dict(self.loop.phases)
        self.loop.phases.clear()
        return phases

    def operations(self):
        """As `updates.count_operations` counts, without the forward pass over each window's last observation."""
        first, all_layers = self.loop.multiply_adds
        transitions = self.settings["batch_size"] * self.settings["unroll"]
        return self.loop.updates * 2 * transitions * (3 * all_layers - first)


class Products(Contender):
    """Products of two large matrices: the arithmetic that this machine reaches."""

    def __init__(self, arguments):
        from benchmarks import updates
        self.product, self.count = updates.make_product(*arguments), 0
        self.operations_per_product = updates.PRODUCT_OPERATIONS

    def advance(self, num_products):
        for _ in range(num_products):
            float(self.product())
        self.count += num_products
        return num_products

    def updates(self):
        return self.count

    def operations(self):
        return self.count * self.operations_per_product


class StableBaselines3(Contender):
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


class PFRL(Contender):
    """DRQN as in PFRL's examples/atari/train_drqn_ale.py.

    It has one environment, sees one frame, blank with the probability of its argument, and learns from 32 windows of 10
    that start with a zero state.
    """

    def __init__(self, arguments):
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
        self.is_blank = lambda: rng.random() < float(*arguments)
        self._see(self.env.reset(seed=1)[0])

    def _see(self, frame):
        self.frame = frame * 0 if self.is_blank() else frame

    def advance(self, num_steps):
        for _ in range(num_steps):
            frame, reward, terminated, truncated, _ = self.env.step(self.agent.act(self.frame))
            self._see(frame)
            self.agent.observe(self.frame, max(-1, min(1, reward)), terminated, terminated or truncated)
            if terminated or truncated:
                self._see(self.env.reset()[0])
        return num_steps

    def updates(self):
        return self.agent.optim_t


CONTENDERS = dict(ours=Ours, rollouts=Rollouts, cleanrl=CleanRL, products=Products, sb3=StableBaselines3, pfrl=PFRL)


def main():
    name, *arguments = sys.argv[1:]
    output, sys.stdout = sys.stdout, sys.stderr  # Peers print too; answers alone go to standard output.
    contender = CONTENDERS[name](arguments)
    contender.advance(8)
    print(json.dumps("first step"), file=output, flush=True)
    while contender.updates() < 8:  # PFRL waits for 32 whole episodes.
        contender.advance(8)
    print(json.dumps("ready"), file=output, flush=True)
    for line in sys.stdin:
        contender.phases()
        begin, updates, operations = time.perf_counter(), contender.updates(), contender.operations()
        steps = contender.advance(int(line))
        seconds = time.perf_counter() - begin
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        answer = dict(agent_steps=steps, seconds=seconds, updates=contender.updates() - updates,
                      phases=contender.phases(), operations=contender.operations() - operations, peak_bytes=peak)
        print(json.dumps(answer), file=output, flush=True)


if __name__ == "__main__":
    main()
