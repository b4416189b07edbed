"""Train a DQN or a DRQN (Hausknecht & Stone 2015): flags -> parts -> the training loop.

    python train.py --network=DRQN --env=Frostbite --maxsteps=10000000
    python train.py --flagfile=presets/cartpole.flags --flicker=0.5
"""

import collections
import contextlib
import os
import pathlib
import re
import signal
import sys
import time

import backends  # first: it imports the backend quietly
import keras
import numpy as np
from absl import flags
from tqdm import tqdm

import agent
import models
import replay
import rollout
import runs
import wrappers

LEARN_PERIOD = 1000  # agent steps per row of learn.csv
GROUPS = ("run", "environment", "learning", "exploration", "evaluation")
UNNAMED = ("network", "env", "seed", "run_dir", "jid", "resume", *runs.FREE)  # never part of a run's name as a flag of their own
NO_SETTING = ("run_dir", "jid", "resume")  # not part of what a run computes


def define_flags():
    """Return the flags of this script with their defaults; None: resolved by `configure` from the environment or the network."""
    values = flags.FlagValues()
    own = {group: dict(flag_values=values, module_name=group) for group in GROUPS}
    string, integer, real, choice, boolean = (
        flags.DEFINE_string, flags.DEFINE_integer, flags.DEFINE_float, flags.DEFINE_enum, flags.DEFINE_bool)
    run, env, learn, explore, evaluation = own.values()

    choice("network", "DRQN", list(models.NETWORKS), "Q-network, of the table in models.py", **run)
    string("env", "Frostbite", "ALE game in any spelling, or a Gymnasium id, whose own settings are then the defaults", **run)
    integer("maxsteps", 10_000_000, "length of training [agent steps; Hausknecht & Stone 2015]", 1, **run)
    integer("seed", 1, "of everything random in the run", 0, **run)
    string("run_dir", None, "directory of the run; default runs/<env>-<network>[-<preset>][-flags set beside it][-<jid>]-s<seed>", **run)
    string("jid", None, "a name of your own for the run, put into run_dir", **run)
    choice("resume", "auto", ["auto", "never"], "auto: go on where run_dir stopped; never: refuse a run_dir that is not empty", **run)
    integer("checkpoint_period", 50_000, "between checkpoints [agent steps]", 1, **run)

    integer("num_envs", 8, "environments stepped together [environments]", 1, **env)
    integer("history", None, "frames stacked into one observation [frames; default 4 for DQN, Mnih et al. 2015; 1 for DRQN]", 1, **env)
    integer("frame_skip", None, "frames per agent step [frames; default 4 on Atari, Mnih et al. 2015; 1 elsewhere]", 1, **env)
    real("sticky", None, "probability that ALE repeats the last action [default 0; Machado et al. 2018 use 0.25]", 0, 1, **env)
    boolean("full_actions", None, "all 18 actions of ALE instead of the game's own [default false]", **env)
    integer("noops", None, "most no-ops at an ALE episode's start [agent steps without skip; default 30, Mnih et al. 2015]", 0, **env)
    integer("max_episode_frames", None, "frames until truncation, 0 for no cap [default 108000 on Atari, the id's own elsewhere]", 0, **env)
    real("flicker", 0.0, "probability that a frame is obscured [Hausknecht & Stone 2015 use 0.5]", 0, 1, **env)
    choice("life_loss", None, ["none", "terminal", "penalty"],
           "what a lost life does: nothing, discount 0 (Mnih et al. 2015) or reward -1 (Hausknecht & Stone's code) [default none]", **env)

    integer("units", 512, "of the dense or LSTM core [units; Mnih et al. 2015]", 1, **learn)
    integer("bufflen", 400_000, "replay [timesteps; Hausknecht & Stone 2015]", 1, **learn)
    integer("unroll", None, "transitions per window [agent steps; default 1 for DQN; 10 for DRQN, Hausknecht & Stone 2015]", 1, **learn)
    choice("sample", None, ["timestep", "episode"],
           "windows drawn uniformly over timesteps (default for DQN), or over episodes, then a start (default for DRQN)", **learn)
    integer("batch_size", 32, "windows per update [windows; Mnih et al. 2015]", 1, **learn)
    choice("optimizer", "rmsprop", list(agent.OPTIMIZERS), "of the table in agent.py, where each cites its source [Mnih et al. 2015]", **learn)
    real("learning_rate", None, "default: the one that comes with --optimizer", 0, **learn)
    real("gamma", 0.99, "discount per agent step [Mnih et al. 2015]", 0, 1, **learn)
    choice("loss", "huber", ["huber", "mse"], "of a temporal-difference error; mse is half the square [Mnih et al. 2015]", **learn)
    real("clip_norm", 10.0, "global L2 norm of gradients, 0 for none [Hausknecht & Stone 2015]", 0, **learn)
    integer("update_period", 4, "agent steps per update [agent steps; Mnih et al. 2015]", 1, **learn)
    integer("target_period", 10_000, "between copies into the target network [agent steps; dqn_zoo]", 1, **learn)
    integer("learning_starts", 50_000, "before the first update [agent steps; Mnih et al. 2015]", 0, **learn)
    choice("precision", "float32", ["float32", "mixed_bfloat16"], "of the network's products; Q-values and loss stay float32", **learn)

    real("epsilon_begin", 1.0, "probability of a random action at agent step 0 [Mnih et al. 2015]", 0, 1, **explore)
    real("epsilon_end", 0.1, "and at the end of its decay [Mnih et al. 2015]", 0, 1, **explore)
    string("epsilon_decay", None, "linear:<N>steps, from begin to end in N agent steps [default linear:1000000steps, Mnih et al. 2015]", **explore)
    real("epsilonStep", None, "instead of --epsilon_decay: decrement per agent step", 0, **explore)

    integer("eval_period", 50_000, "between evaluations [agent steps; Hausknecht & Stone 2015]", 1, **evaluation)
    integer("eval_episodes", 10, "per evaluation [episodes; Hausknecht & Stone 2015]", 1, **evaluation)
    real("eval_epsilon", 0.05, "probability of a random action in evaluations [Mnih et al. 2015]", 0, 1, **evaluation)
    return values


def configure(arguments):
    """Turn command line arguments into a config: `train(configure(["--env=Pong", "--flicker=0.5"]))`.

    Returns:
        dict(settings=every flag resolved, run_dir, resume, command).

    Raises:
        ValueError, flags.Error: one sentence on what was given and what is expected.
    """
    values = define_flags()
    rest = values(["train.py", *arguments])[1:]
    if rest:
        raise ValueError(f"the argument {rest[0]!r} is no flag; flags begin with --")
    given, settings = values.flag_values_dict(), {}
    given["env"], of_env = wrappers.describe(given["env"])
    network = models.NETWORKS[given["network"]]
    of_network = dict(history=network.history, unroll=network.unroll, sample=network.sample)
    for name in ("frame_skip", "sticky", "full_actions", "noops", "max_episode_frames", "life_loss"):
        if given[name] is not None and name not in of_env:
            raise ValueError(f"--{name}={given[name]} does not apply to --env={given['env']}, which is no ALE game")
    for name, value in given.items():
        if name not in NO_SETTING:
            settings[name] = value if value is not None else {**of_env, **of_network}.get(name)
    if settings["frame_skip"] is None:
        raise ValueError(f"--env={given['env']} skips a random 2 to 5 frames; expected a fixed --frame_skip, or the game's bare name")
    if given["epsilon_decay"] is not None and given["epsilonStep"] is not None:
        raise ValueError("--epsilon_decay and --epsilonStep both set the decay of epsilon; expected one of them")
    if given["epsilonStep"] is None:
        settings["epsilon_decay"] = given["epsilon_decay"] or "linear:1000000steps"
    if settings["learning_rate"] is None:
        settings["learning_rate"] = agent.OPTIMIZERS[settings["optimizer"]][1]["learning_rate"]
    epsilon_schedule(**{name: settings[name] for name in ("epsilon_begin", "epsilon_end", "epsilon_decay", "epsilonStep")})
    _check(settings)
    settings["backend"] = keras.backend.backend()
    return dict(settings=settings, run_dir=given["run_dir"] or _name_run(arguments, given), resume=given["resume"],
                command=["train.py", *arguments])


def _check(settings):
    """Refuse settings with which a run could not learn or would not fit."""
    for limit in ("maxsteps", "bufflen"):
        if settings["learning_starts"] > settings[limit] - (limit == "maxsteps"):
            raise ValueError(f"--learning_starts={settings['learning_starts']} agent steps leaves no update: expected fewer than "
                             f"--maxsteps={settings['maxsteps']}, and at most --bufflen={settings['bufflen']}")
    if settings["learning_rate"] <= 0:
        raise ValueError(f"--learning_rate={settings['learning_rate']} was given; expected a positive number")


def _name_run(arguments, given):
    """Return the default run_dir, the same for the same settings whatever the job or the machine."""
    preset, beside = [], []
    for argument in arguments:
        name, _, value = argument.lstrip("-").partition("=")
        if name == "flagfile":
            preset.append(pathlib.Path(value).stem)
        elif name not in UNNAMED and name.removeprefix("no") not in UNNAMED:
            beside.append(argument.lstrip("-"))
    parts = [given["env"], given["network"], *preset, *sorted(beside), *([given["jid"]] if given["jid"] else []), f"s{given['seed']}"]
    return str(pathlib.Path("runs") / re.sub(r"[^\w.=:+-]+", "_", "-".join(parts)))


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
    """Return the bytes that this process may still take: free on the machine, or left to its control group if that is less."""
    read = lambda path: pathlib.Path(path).read_text()
    free = [int(re.search(r"MemAvailable:\s+(\d+) kB", read("/proc/meminfo"))[1]) * 1024]
    for limit, used in (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")):
        with contextlib.suppress(OSError, ValueError):  # "max" is no number: no limit
            free.append(int(read(f"/sys/fs/cgroup/{limit}")) - int(read(f"/sys/fs/cgroup/{used}")))
    return min(free)


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
        self.best, self.seconds_before, self.checked = None, 0.0, 0
        self.returns = collections.deque(maxlen=100)  # of complete episodes
        self.pending, self.phases = collections.defaultdict(list), collections.Counter()  # since the last row of learn.csv
        self.run = runs.Run(config["run_dir"], s, config["resume"], config["command"])
        if self.run.checkpoint:
            self._restore()

    def train(self):
        """Run the loop to maxsteps or a signal; leave a checkpoint. Returns the signal, or None."""
        s, run = self.settings, self.run
        if self.agent_step >= s["maxsteps"]:
            print(f"{run.directory} is finished: {self.agent_step:,} of {s['maxsteps']:,} agent steps. Raise --maxsteps to go on.")
            return None
        self.started = time.monotonic()
        with _signals() as caught, _Progress(self.agent_step, s["maxsteps"]) as progress:
            while self.agent_step < s["maxsteps"] and not caught:
                before = self.agent_step
                self._vector_step()
                while self.updates < (self.agent_step - s["learning_starts"]) // s["update_period"]:
                    self._update()
                due = lambda period: self.agent_step // period > before // period
                if due(s["target_period"]):
                    self.agent.sync_target()
                if due(LEARN_PERIOD):
                    self._log()
                if due(s["eval_period"]):
                    self._evaluate()
                if due(s["checkpoint_period"]):
                    self._save()
                progress.update(self.agent_step, epsilon=f"{self.epsilon(self.agent_step):.3f}",
                                mean_return=f"{np.mean(self.returns):.4g}" if self.returns else "-", loss=f"{self.last_loss:.3g}")
            self._save()
        if any(self.pending.values()):
            self._log()  # A last, short row; a run that goes on cuts it off and writes the whole one.
        run.close()
        return caught[0] if caught else None

    def _vector_step(self):
        """Reset all environments where that is due; otherwise act, step and store."""
        clock = _Clock(self.phases)
        if self.rollout.reseed_due:
            row, episodes = self.rollout.reseed()
        else:
            actions = self.rollout.act(self.epsilon(self.agent_step), self.rng)
            clock("act")
            row, episodes = self.rollout.step(actions)
            self.agent_step += int((~row["first"]).sum())
        self.replay.append(**row)
        clock("environment")
        for episode in episodes:
            self.episodes += 1
            self.cut_episodes += episode["cut"]
            if not episode["cut"]:
                self.returns.append(episode["episode_return"])
                self.run.scalars(self.agent_step, train__episode_return=episode["episode_return"], train__length=episode["length"])
            self.run.row("train", agent_step=self.agent_step, frames=self.frames, seconds=self.seconds, **episode)

    def _update(self):
        clock = _Clock(self.phases)
        window = self.replay.sample(self.settings["batch_size"])
        clock("sample")
        for name, value in self.agent.learn(window).items():
            self.pending[name].append(value)  # Still on the device: nobody waits for it here.
        self.updates += 1
        clock("learn")

    def _finite(self):
        """Bring the pending scalars to the host, and stop where learning went wrong.

        Raises:
            FloatingPointError: a loss was not finite.
        """
        self.pending = collections.defaultdict(list, {name: [float(v) for v in values] for name, values in self.pending.items()})
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
        self.run.row("learn", agent_step=self.agent_step, frames=self.frames, updates=self.updates, seconds=self.seconds, **values, **phases)
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

    @property
    def last_loss(self):
        return float(self.pending["loss"][-1]) if self.pending["loss"] else float("nan")

    _COUNTERS = "agent_step updates evaluations episodes cut_episodes best checked".split()

    def _save(self):
        self._finite()
        state = {name: getattr(self, name) for name in self._COUNTERS} | dict(
            seconds=self.seconds, returns=list(self.returns), pending=self.pending,
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
    """Adds the seconds since its last call to a phase."""

    def __init__(self, phases):
        self.phases, self.last = phases, time.perf_counter()

    def __call__(self, phase):
        now = time.perf_counter()
        self.phases[phase] += now - self.last
        self.last = now


class _Progress:
    """One progress bar on a terminal; elsewhere, such as in a job's log, one plain line a minute."""

    PERIOD = 60  # seconds between plain lines

    def __init__(self, agent_step, maxsteps):
        self.bar = tqdm(total=maxsteps, initial=agent_step, unit="step", unit_scale=True, disable=not sys.stderr.isatty(), dynamic_ncols=True)
        self.maxsteps, self.from_step = maxsteps, agent_step
        self.started = self.told = self.drawn = time.monotonic()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bar.close()

    def update(self, agent_step, **values):
        now = time.monotonic()
        if not self.bar.disable and now - self.drawn > 0.5:
            self.drawn = now
            self.bar.set_postfix(values, refresh=False)
            self.bar.update(agent_step - self.bar.n)
        elif self.bar.disable and (now - self.told > self.PERIOD or agent_step >= self.maxsteps):
            self.told = now
            speed = (agent_step - self.from_step) / (now - self.started)
            left = (self.maxsteps - agent_step) / max(speed, 1e-9)
            print(f"{agent_step:,}/{self.maxsteps:,} agent steps, {speed:.0f} steps/s, {tqdm.format_interval(left)} left, "
                  + ", ".join(f"{name} {value}" for name, value in values.items()), flush=True)


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


def train(config):
    """Train as `config` of `configure` says; return the Trainer, its run saved."""
    trainer = Trainer(config)
    trainer.signal = trainer.train()
    return trainer


def main(arguments):
    """Return the exit code: 0 finished, 1 or 2 for bad input, 128 + the signal that stopped the run."""
    if {"--help", "-h", "--helpfull", "--helpshort"} & set(arguments):
        values = define_flags()
        print(__doc__, *(values.module_help(group) for group in GROUPS), sep="\n")
        return 0
    try:
        config = configure(arguments)
        trainer = Trainer(config)
    except (ValueError, OSError, flags.Error) as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 2
    print(f"{trainer.run.directory}: " + " ".join(f"{name}={value}" for name, value in config["settings"].items()))
    try:
        stopped = trainer.train()
    except FloatingPointError as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 1
    if stopped:
        print(f"Stopped at agent step {trainer.agent_step:,}, saved in {trainer.run.directory}. Go on with the same command:\n"
              f"  python {' '.join(config['command'])}")
        return 128 + stopped
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
