"""CleanRL's loops of PQN on Atari, on PyTorch, to be timed beside this suite's.

    .venv-peers/bin/python -m benchmarks.cleanrl SETTINGS NUMBERS      a trial; benchmarks.rollouts makes it

They are written anew after pqn_atari_envpool.py and pqn_atari_envpool_lstm.py of github.com/vwxyzjn/cleanrl. What costs
time is as there: a LayerNorm over the whole map before each ReLU, rollouts stored as float32, values of acting in the
targets, minibatches of single transitions (with an LSTM: of whole environments), RAdam, a clip of the gradients' norm.

CleanRL: envpool, which ends an episode with each life. Here: ale_py's AtariVectorEnv, and a lost life is as done as
there, but the game goes on, because ALE's own option restarts the game.
CleanRL: 8 environments, rollouts of 128 rows, 4 passes, an LSTM of 128 units behind 512. Here: this suite's settings.
CleanRL: float32. Here: bfloat16 by autocast, too.
CleanRL: orthogonal weights, annealed rates, TensorBoard. Here: none of them, because they take no time.
"""

import collections
import json
import os
import sys
import time

import ale_py
import gymnasium
import numpy as np
import torch
from ale_py.vector_env import AtariVectorEnv
from torch import nn

gymnasium.register_envs(ale_py)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
torch.set_default_device(DEVICE)


class QNetwork(nn.Module):
    """Q-values of frames float32[T*N, H, 84, 84]; the memory is None or an LSTM behind the dense layer."""

    def __init__(self, num_actions, history, units, recurrent):
        super().__init__()
        normed = lambda layer, *shape: (layer, nn.LayerNorm(shape), nn.ReLU())
        self.torso = nn.Sequential(
            *normed(nn.Conv2d(history, 32, 8, 4), 32, 20, 20), *normed(nn.Conv2d(32, 64, 4, 2), 64, 9, 9),
            *normed(nn.Conv2d(64, 64, 3), 64, 7, 7), nn.Flatten(), *normed(nn.Linear(3136, units), units))
        self.lstm = nn.LSTM(units, units) if recurrent else None
        self.head = nn.Linear(units, num_actions)

    def initial_state(self, num_envs):
        return [torch.zeros(1, num_envs, self.lstm.hidden_size) for _ in "hc"] if self.lstm else []

    def forward(self, frames, state, done):
        """Return q_values float32[T*N, A] and the state after the last step.

        Args:
            frames: float32[T*N, H, 84, 84], all environments of a step side by side.
            state: h and c, float32[1, N, units]; empty without memory.
            done: float32[T*N], 1 where the state starts from zero.
        """
        hidden = self.torso(frames / 255.0)
        if self.lstm:
            num_envs, outputs = state[0].shape[1], []
            steps = zip(hidden.reshape(-1, 1, num_envs, self.lstm.input_size), done.reshape(-1, 1, num_envs, 1))
            for inputs, ended in steps:
                output, state = self.lstm(inputs, tuple((1.0 - ended) * part for part in state))
                outputs.append(output)
            hidden = torch.flatten(torch.cat(outputs), 0, 1)
        return self.head(hidden).float(), state

    def count_multiply_adds(self, history):
        """Return the multiply-adds of one timestep forward: of the first layer, and of all layers."""
        counts = []

        def count(layer, _, output):
            places = output[0, 0].numel() if isinstance(layer, nn.Conv2d) else 1
            counts.append(places * sum(weight.numel() for weight in layer.parameters() if weight.dim() > 1))

        hooks = [layer.register_forward_hook(count) for layer in self.modules()
                 if isinstance(layer, (nn.Conv2d, nn.Linear, nn.LSTM))]
        self(torch.zeros(1, history, 84, 84), self.initial_state(1), torch.zeros(1))
        for hook in hooks:
            hook.remove()
        return counts[0], sum(counts)


def q_lambda(rewards, dones, values, next_value, next_done, gamma, trace_decay):
    """Return the targets float32[T, N] of a rollout.

    Args:
        rewards: float32[T, N].
        dones: float32[T, N], 1 where the row before ended an episode; next_done: float32[N], of the row after.
        values: float32[T, N], of acting; next_value: float32[N], of the row after.
    """
    T, returns = len(rewards), torch.zeros_like(rewards)
    for t in reversed(range(T)):
        if t == T - 1:
            returns[t] = rewards[t] + gamma * next_value * (1.0 - next_done)
        else:
            ahead = trace_decay * returns[t + 1] + (1 - trace_decay) * values[t + 1]
            returns[t] = rewards[t] + gamma * ahead * (1.0 - dones[t + 1])
    return returns


class Loop:
    """Rollouts and their updates in turn.

    Args:
        settings: of train.configure.

    Attributes:
        multiply_adds: of the network's first layer, and of all its layers.
        phases: seconds by phase, to be cleared by who reads them.
    """

    def __init__(self, settings):
        torch.manual_seed(1)
        self.settings = s = settings
        self.T, self.N, history = s["unroll"], s["num_envs"], s["history"]
        self.passes = self.T * s["batch_size"] // s["update_period"]
        self.envs = AtariVectorEnv(
            gymnasium.spec(f"ALE/{s['env']}-v5").kwargs["game"], self.N, stack_num=history,
            num_threads=min(self.N, len(os.sched_getaffinity(0))), frameskip=s["frame_skip"], noop_max=s["noops"],
            max_num_frames_per_episode=s["max_episode_frames"], repeat_action_probability=s["sticky"],
            full_action_space=s["full_actions"], use_fire_reset=False, reward_clipping=False)
        self.num_actions = int(self.envs.single_action_space.n)
        self.network = QNetwork(self.num_actions, history, s["units"], "LSTM" in s["network"])
        self.multiply_adds = self.network.count_multiply_adds(history)
        self.optimizer = torch.optim.RAdam(self.network.parameters(), lr=s["learning_rate"])
        self.cast = lambda: torch.autocast(DEVICE, torch.bfloat16, enabled=s["precision"] == "mixed_bfloat16")
        self.frames = torch.zeros(self.T, self.N, history, 84, 84)
        self.actions, self.rewards, self.dones, self.values = (torch.zeros(self.T, self.N) for _ in range(4))
        frames, info = self.envs.reset(seed=1)
        self.next_frames, self.next_done = torch.Tensor(frames).to(DEVICE), torch.zeros(self.N)
        self.state, self.lives = self.network.initial_state(self.N), info["lives"]
        self.episode_returns, self.returns = np.zeros(self.N, np.float32), collections.deque(maxlen=20)
        self.ended = np.zeros(self.N, bool)
        self.agent_step, self.updates = 0, 0
        self.phases, self.last = collections.Counter(), time.perf_counter()

    def clock(self, phase):
        """Add the seconds since the last call to a phase."""
        now = time.perf_counter()
        self.phases[phase] += now - self.last
        self.last = now

    def advance(self, num_steps):
        """Make as many agent steps, or the next whole rollout, with their updates; return how many."""
        begin, self.last = self.agent_step, time.perf_counter()
        while self.agent_step < begin + num_steps:
            self.learn(self.collect())
        return self.agent_step - begin

    def collect(self):
        """Play a rollout; return the state before it."""
        before = [part.clone() for part in self.state]
        for t in range(self.T):
            self.frames[t], self.dones[t] = self.next_frames, self.next_done
            random_actions = torch.randint(0, self.num_actions, (self.N,))
            with torch.no_grad(), self.cast():
                q_values, self.state = self.network(self.next_frames, self.state, self.next_done)
            greedy_actions = torch.argmax(q_values, dim=1)
            self.values[t] = q_values[torch.arange(self.N), greedy_actions].flatten()
            explore = torch.rand((self.N,)) < self.settings["epsilon_begin"]
            self.actions[t] = actions = torch.where(explore, random_actions, greedy_actions)
            self.clock("act")
            self._step(t, actions.cpu().numpy())
            self.clock("environment")
        return before

    def _step(self, t, actions):
        """Step the environments, and note which episodes ended."""
        frames, rewards, terminated, truncated, info = self.envs.step(actions)
        self.episode_returns += rewards
        self.rewards[t] = torch.tensor(np.sign(rewards))
        self.agent_step += int((~self.ended).sum())  # An environment that had ended resets instead.
        self.ended = terminated | truncated
        done = self.ended | (info["lives"] < self.lives)
        self.lives = info["lives"]
        self.next_frames, self.next_done = torch.Tensor(frames).to(DEVICE), torch.Tensor(done).to(DEVICE)
        for i, done in enumerate(self.next_done):
            if done and self.lives[i] == 0:
                self.returns.append(self.episode_returns[i])
                self.episode_returns[i] = 0

    def learn(self, before):
        """Make the updates of the rollout that began in the state `before`."""
        s = self.settings
        with torch.no_grad(), self.cast():
            next_value, _ = torch.max(self.network(self.next_frames, self.state, self.next_done)[0], dim=-1)
        targets = q_lambda(self.rewards, self.dones, self.values, next_value, self.next_done, s["gamma"],
                           s["trace_decay"])
        frames, actions, dones, targets = (
            of_rows.flatten(0, 1) for of_rows in (self.frames, self.actions, self.dones, targets))
        for _ in range(self.passes):
            for at, state in self._deal(before):
                with self.cast():
                    q_values, _ = self.network(frames[at], state, dones[at])
                q_a = q_values.gather(1, actions[at].unsqueeze(-1).long()).squeeze()
                loss = nn.functional.mse_loss(targets[at], q_a)
                self.optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.network.parameters(), s["clip_norm"])
                self.optimizer.step()
                self.updates += 1
        self.clock("learn")

    def _deal(self, before):
        """Yield places in the flat rollout, and the state before them, of each minibatch of a pass."""
        envs_of_batch = self.settings["batch_size"]
        if before:
            flat, envs = np.arange(self.T * self.N).reshape(self.T, self.N), np.random.permutation(self.N)
            for begin in range(0, self.N, envs_of_batch):
                dealt = envs[begin:begin + envs_of_batch]
                yield flat[:, dealt].ravel(), [part[:, dealt] for part in before]
        else:
            shuffled, size = np.random.permutation(self.T * self.N), self.T * envs_of_batch
            for begin in range(0, len(shuffled), size):
                yield shuffled[begin:begin + size], before


def try_out(settings, path):
    """Check a rollout and its updates, and put into the file what this suite's own code is to confirm.

    Args:
        settings: as of Loop, in float32.
        path: of an .npz file with the first five arguments of q_lambda. It gets `targets`, `multiply_adds` and
            `num_actions` instead.
    """
    assert torch.get_num_threads() == int(os.environ["OMP_NUM_THREADS"]), torch.get_num_threads()
    torch.backends.cudnn.allow_tf32 = False  # Else a GPU rounds too coarsely to compare.
    loop = Loop(settings)
    before = loop.collect()
    with torch.no_grad():  # All rows at once, as in learning, give the values of acting, row by row.
        q_values, state = loop.network(loop.frames.flatten(0, 1), before, loop.dones.flatten())
    assert q_values.shape == (loop.T * loop.N, loop.num_actions), q_values.shape
    torch.testing.assert_close(q_values.max(dim=-1).values.reshape(loop.T, loop.N), loop.values, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(list(state), list(loop.state), rtol=1e-4, atol=1e-4)
    dealt = np.concatenate([at for at, _ in loop._deal(before)])
    assert sorted(dealt) == list(range(loop.T * loop.N)), dealt
    weights = {name: weight.detach().clone() for name, weight in loop.network.named_parameters()}
    loop.learn(before)
    assert loop.updates * settings["update_period"] == loop.T * loop.N, loop.updates
    for name, weight in loop.network.named_parameters():
        assert torch.isfinite(weight).all() and not torch.equal(weight, weights[name]), name
    numbers = {name: torch.tensor(values) for name, values in np.load(path).items()}
    targets = q_lambda(**numbers, gamma=settings["gamma"], trace_decay=settings["trace_decay"])
    np.savez(path, targets=targets.cpu().numpy(), multiply_adds=loop.multiply_adds, num_actions=loop.num_actions)


if __name__ == "__main__":
    try_out(json.loads(sys.argv[1]), sys.argv[2])
