"""The training loop over the parts of a run (Hausknecht & Stone 2015, section 4.2)."""

import collections
import contextlib
import pathlib
import re
import signal
import sys
import time

import numpy as np
from tqdm import tqdm

import backends
import replay
import rollout
import runs

LEARN_PERIOD = 1000  # agent steps per row of learn.csv


class Trainer:
    """The parts of a run, and the loop over them."""

    def __init__(self, config):
        self.settings = s = config["settings"]
        self.envs = rollout.make_envs(s, s["num_envs"])
        shape = self.envs.frame_shape, self.envs.frame_dtype
        needed, free = replay.Replay.nbytes(s["bufflen"], s["num_envs"], *shape), available_memory()
        if needed > free:
            raise ValueError(f"--bufflen={s['bufflen']} timesteps need {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB of memory are free; "
                             f"expected at most --bufflen={int(s['bufflen'] * free / needed * 0.9)}")
        self.replay = replay.Replay(s["bufflen"], s["num_envs"], *shape, s["history"], s["unroll"], s["sample"],
                                    (s["seed"], rollout.REPLAY))
        self.agent = rollout.make_agent(s, self.envs)
        self.rollout = rollout.Rollout(self.envs, self.agent, s["history"], s["gamma"], s["life_loss"], s["seed"])
        self.eval_envs = rollout.make_envs(s, s["eval_episodes"])
        self.epsilon = epsilon_schedule(s["epsilon_begin"], s["epsilon_end"], s["epsilon_decay"], s["epsilonStep"])
        self.rng = np.random.default_rng((s["seed"], rollout.EXPLORATION))  # of exploration
        self.agent_step = self.updates = self.evaluations = self.episodes = self.cut_episodes = 0
        self.best, self.seconds_before, self.checked, self.last_loss = None, 0.0, 0, float("nan")
        self.returns = collections.deque(maxlen=100)  # of complete episodes
        self.pending, self.phases = collections.defaultdict(list), collections.Counter()  # since the last row of learn.csv
        self.clock, self.started = _Clock(self.phases), time.monotonic()
        self.run = runs.Run(config["run_dir"], s, config["resume"], config["command"])
        if self.run.checkpoint:
            self._restore()

    def train(self):
        """Run the loop to maxsteps or a signal; leave a checkpoint. Returns the signal, or None."""
        s, run = self.settings, self.run
        if self.agent_step >= s["maxsteps"]:
            print(f"{run.directory} is finished: {self.agent_step:,} of {s['maxsteps']:,} agent steps. Raise --maxsteps to go on.")
        with _signals() as caught, _Progress(self.agent_step, s["maxsteps"]) as progress:
            while self.agent_step < s["maxsteps"] and not caught:
                self.advance()
                progress.update(self.agent_step, self._vital_signs)
            if self.replay.end:
                self._save()
        if any(self.pending.values()):
            self._log()  # A last, short row; a run that goes on cuts it off and writes the whole one.
        run.close()
        return caught[0] if caught else None

    def advance(self):
        """Make one vector step, and whatever is due after it."""
        s, before = self.settings, self.agent_step
        self._vector_step()
        due = lambda period: self.agent_step // period > before // period
        if due(s["target_period"]):
            self.agent.sync_target()
        if due(LEARN_PERIOD):
            self._log()
        if due(s["eval_period"]):
            self._evaluate()
        if due(s["checkpoint_period"]):
            self._save()

    def _vector_step(self):
        """Reset all environments where that is due; otherwise act, step and learn side by side; store what came out."""
        self.clock()
        if self.rollout.reseed_due:
            row, episodes = self.rollout.reseed()
        else:
            actions = self.rollout.act(self.epsilon(self.agent_step), self.rng)
            self.clock("act")
            self.agent_step += int((~self.rollout.last).sum())  # Those that ended in the last step reset in this one.
            row, episodes = self.rollout.step(actions, meanwhile=self._learn)
        self.replay.append(**row)
        self.clock("environment")
        for episode in episodes:
            self.episodes += 1
            self.cut_episodes += episode["cut"]
            if not episode["cut"]:
                self.returns.append(episode["episode_return"])
                self.run.scalars(self.agent_step, train__episode_return=episode["episode_return"], train__length=episode["length"])
            self.run.row("train", agent_step=self.agent_step, frames=self.frames, seconds=self.seconds, **episode)

    def _learn(self):
        """Make the updates that are owed; the row of the step in progress is not among those that they draw from."""
        self.clock("environment")
        owed = (self.agent_step - self.settings["learning_starts"]) // self.settings["update_period"]
        while self.updates < owed and self.replay.end > 1:
            self._update()

    def _update(self):
        window = self.replay.sample(self.settings["batch_size"])
        self.clock("sample")
        for name, value in self.agent.learn(window).items():
            self.pending[name].append(value)  # Still on the device: nobody waits for it here.
        self.updates += 1
        self.clock("learn")

    def _finite(self):
        """Bring the pending scalars to the host, and stop where learning went wrong.

        Raises:
            FloatingPointError: a loss was not finite.
        """
        self.pending = collections.defaultdict(list, backends.to_host(self.pending))
        if not np.isfinite(self.pending["loss"] + self.pending["gradient_norm"]).all():
            raise FloatingPointError(f"the loss or its gradient became non-finite between agent steps {self.checked} and "
                                     f"{self.agent_step}; no checkpoint was written after that. Try a lower --learning_rate")
        self.checked = self.agent_step

    def _log(self):
        """Write a row of learn.csv."""
        self._finite()
        mean = {name: float(np.mean(self.pending[name])) if self.pending[name] else float("nan")
                for name in ("loss", "mean_q", "gradient_norm")}
        values = mean | dict(epsilon=self.epsilon(self.agent_step), learning_rate=self.settings["learning_rate"],
                             cut_share=self.cut_episodes / max(self.episodes, 1))
        phases = {f"{name}_seconds": round(self.phases[name], 4) for name in ("environment", "act", "sample", "learn")}
        self.run.row("learn", agent_step=self.agent_step, frames=self.frames, updates=self.updates, seconds=self.seconds,
                     **values, **phases)
        self.run.scalars(self.agent_step, **{f"learn__{name}": value for name, value in values.items()},
                         **{f"seconds__{name.removesuffix('_seconds')}": value for name, value in phases.items()})
        self.pending.clear()
        self.phases.clear()

    def _evaluate(self):
        """Play one episode in each evaluation environment; keep the weights if they are the best so far."""
        s = self.settings
        self._finite()
        self.evaluations += 1
        episodes = rollout.evaluate(self.agent, self.eval_envs, s["history"], s["eval_epsilon"], s["seed"], self.evaluations)
        for i, episode in enumerate(episodes):
            self.run.row("eval", agent_step=self.agent_step, frames=self.frames, evaluation=self.evaluations, episode=i,
                         seconds=self.seconds, **episode)
        mean = float(np.mean([episode["episode_return"] for episode in episodes]))
        self.run.scalars(self.agent_step, evaluation__episode_return=mean)
        if self.best is None or mean >= self.best:  # Of equals the later one, which has seen more.
            self.best = mean
            self.run.save_best(self.agent.save_weights)

    @property
    def frames(self):
        return self.agent_step * self.settings["frame_skip"]

    @property
    def seconds(self):
        """Wall seconds of training so far, over all the times that the run was resumed."""
        return round(self.seconds_before + time.monotonic() - self.started, 3)

    def _vital_signs(self):
        """Return what the progress bar shows; reading the loss waits for the device."""
        if self.pending["loss"]:
            self.last_loss = float(self.pending["loss"][-1])
        return dict(epsilon=f"{self.epsilon(self.agent_step):.3f}", loss=f"{self.last_loss:.3g}",
                    mean_return=f"{np.mean(self.returns):.4g}" if self.returns else "-")

    _COUNTERS = "agent_step updates evaluations episodes cut_episodes best checked".split()

    def _save(self):
        self._finite()
        state = {name: getattr(self, name) for name in self._COUNTERS} | dict(
            seconds=self.seconds, returns=list(self.returns), pending=self.pending, phases=self.phases,
            generators=dict(exploration=self.rng.bit_generator.state, replay=self.replay.rng.bit_generator.state))
        arrays = {f"agent/{name}": value for name, value in self.agent.get_state().items()} | {
            f"rollout/{name}": value for name, value in self.rollout.get_state().items()}
        self.run.save(state, arrays, self.replay, self.agent.save_weights)

    def _restore(self):
        """Go on where the checkpoint ends, equal to a run that never stopped."""
        state, arrays = self.run.checkpoint, self.run.load_arrays()
        for name in self._COUNTERS:
            setattr(self, name, state[name])
        self.seconds_before = state["seconds"]
        self.returns.extend(state["returns"])
        self.pending.update(state["pending"])
        self.phases.update(state["phases"])
        self.rng.bit_generator.state = state["generators"]["exploration"]
        self.replay.rng.bit_generator.state = state["generators"]["replay"]
        self.replay.restore(self.run.load_replay(), state["replay_end"])
        part = lambda prefix: {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
        self.agent.set_state(part("agent/"))
        if not self.rollout.set_state(part("rollout/")):
            print(f"{self.settings['env']} is no function of its seed and actions: stepped again, it came out elsewhere. "
                  "Its running episodes are cut, and training goes on with new ones.", file=sys.stderr)
            self.rollout.cut_short()
        print(f"Going on at agent step {self.agent_step:,} of {self.run.directory}.")


class _Clock:
    """Adds the seconds since its last call to a phase, or to none."""

    def __init__(self, phases):
        self.phases, self.last = phases, time.perf_counter()

    def __call__(self, phase=None):
        now = time.perf_counter()
        if phase:
            self.phases[phase] += now - self.last
        self.last = now


class _Progress:
    """One progress bar on a terminal; elsewhere, such as in a job's log, one plain line a minute."""

    PERIOD = 60  # seconds between plain lines

    def __init__(self, agent_step, maxsteps):
        self.bar = tqdm(total=maxsteps, initial=agent_step, unit="step", unit_scale=True, dynamic_ncols=True,
                        disable=not sys.stderr.isatty())
        self.maxsteps, self.from_step = maxsteps, agent_step
        self.started = self.told = self.drawn = time.monotonic()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bar.close()

    def update(self, agent_step, values):
        """Show `agent_step` and what `values()` returns, where it is time to."""
        now = time.monotonic()
        if not self.bar.disable and now - self.drawn > 0.5:
            self.drawn = now
            self.bar.set_postfix(values(), refresh=False)
            self.bar.update(agent_step - self.bar.n)
        elif self.bar.disable and (now - self.told > self.PERIOD or agent_step >= self.maxsteps):
            self.told = now
            speed = (agent_step - self.from_step) / (now - self.started)
            left = (self.maxsteps - agent_step) / max(speed, 1e-9)
            print(f"{agent_step:,}/{self.maxsteps:,} agent steps, {speed:.0f} steps/s, {tqdm.format_interval(left)} left, "
                  + ", ".join(f"{name} {value}" for name, value in values().items()), flush=True)


@contextlib.contextmanager
def _signals():
    """Collect SIGINT, SIGTERM and SIGUSR1 in a list, so that the step in progress is finished; a second Ctrl-C leaves at once."""
    caught = []

    def catch(number, _):
        caught.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, catch) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def epsilon_schedule(epsilon_begin, epsilon_end, epsilon_decay, epsilonStep):
    """Return epsilon as a function of the agent step."""
    if epsilon_begin < epsilon_end:
        raise ValueError(f"--epsilon_begin={epsilon_begin} is below --epsilon_end={epsilon_end}; expected a decay")
    if epsilonStep is not None:
        decrement = epsilonStep
    else:
        match = re.fullmatch(r"linear:([1-9]\d*)steps", epsilon_decay)
        if not match:
            raise ValueError(f"--epsilon_decay={epsilon_decay} is no schedule; expected linear:<N>steps, such as linear:1000000steps")
        decrement = (epsilon_begin - epsilon_end) / int(match[1])
    return lambda agent_step: max(epsilon_end, epsilon_begin - decrement * agent_step)


def available_memory():
    """Return the bytes that this process may still take: free on the machine, or left to its control groups if that is less."""
    read = lambda *path: pathlib.Path(*path).read_text()
    free = [int(re.search(r"MemAvailable:\s+(\d+) kB", read("/proc/meminfo"))[1]) * 1024]
    for line in read("/proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        v1 = "memory" in controllers.split(",")
        root = pathlib.Path("/sys/fs/cgroup/memory" if v1 else "/sys/fs/cgroup")
        limit, used, cache = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file") if v1 else (
            "memory.max", "memory.current", "inactive_file")
        for folder in [root / group.lstrip("/"), *(root / group.lstrip("/")).parents]:  # Slurm limits a job's group, above its steps'
            if root in (folder, *folder.parents):
                with contextlib.suppress(OSError, ValueError, TypeError):  # "max" is no number: no limit
                    reclaimable = int(re.search(rf"^{cache} (\d+)", read(folder, "memory.stat"), re.M)[1])
                    free.append(int(read(folder, limit)) - int(read(folder, used)) + reclaimable)
    return min(free)
