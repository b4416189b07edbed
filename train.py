"""Train a DQN or a DRQN (Hausknecht & Stone 2015, section 4.2).

    python train.py --network=DRQN --env=Frostbite --maxsteps=10000000
    python train.py --flagfile=presets/cartpole.flags --flicker=0.5

`Trainer.train` is the loop; launch/train_flags.py has the flags.
"""

import pathlib
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from launch import build, process
from launch.parsing import HELP
from launch.settings import configure, doubt
from launch.train_flags import GROUPS, define_flags, explain_defaults

import numpy as np
from absl import flags

import evaluation
import rollout
from counters import Counters
from environments import features, mirror
from storage import layout, opening, reading
from storage.run import Run

LEARN_PERIOD = 1000  # agent steps per row of learn.csv
OUT_OF_HOURS = 75  # exit code of a run that --max_hours stopped: EX_TEMPFAIL


class Trainer(Counters):
    """The parts of a run, and the loop over them.

    Args:
        config: of settings.configure.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config["settings"])
        s = self.settings
        # What may be refused comes first; with the agent comes Keras, which takes seconds.
        opening.check(config["run_dir"], s, config["resume"])
        init = features.find_init(s, config["run_dir"])
        torso = features.load(s["features"], config["run_dir"])
        build.check_memory(s, torso)
        self.envs = build.make_envs(s, s["num_envs"], torso)
        self.eval_envs = build.make_envs(s, s["eval_episodes"], torso)
        self.agent = build.make_agent(s, self.envs)
        self.replay = build.make_replay(s, self.envs, self.agent.state_sizes,
                                        self.agent.sees_previous)
        if init:
            features.transfer(init, self.agent)
        self.rollout = rollout.Rollout(
            self.envs, self.agent, s["history"], s["gamma"], s["life_loss"], s["seed"],
            s["reward_scale"])
        self.rng = np.random.default_rng((s["seed"], rollout.EXPLORATION))
        self.storage = Run(config["run_dir"], s, config["resume"], config["command"])
        if torso:
            torso.keep(self.storage)
        self.max_hours, self.evaluation_owed = config["max_hours"], False
        if self.storage.checkpoints.state:
            self._restore()
        self.before = self.agent_step, self.episodes
        self.caught: Sequence[int] = ()  # signals, while `train` runs

    def train(self, until: float = float("inf")) -> int:
        """Run the loop to maxsteps, maxepisodes, a signal or max_hours; leave a checkpoint.

        Args:
            until: an agent step at which to return, saving nothing; `train` then goes on.

        Returns:
            The exit code: 0 finished, OUT_OF_HOURS, or 128 + the signal.

        Raises:
            OSError: the last checkpoint could not be written.
        """
        maxsteps = self.settings["maxsteps"]
        with (process.stopping(self.max_hours) as caught,
              process.Progress(self.agent_step, maxsteps) as progress):
            self.caught = caught
            if self.evaluation_owed:
                self._evaluate()
            while not (self.limit or caught):
                if self.agent_step >= until:
                    return 0
                self.clock()
                if self.rollout.reset_due:
                    self._store(self.rollout.reset(), [])
                else:
                    actions = self.rollout.act(self.epsilon(self.counts), self.rng)
                    self.clock("act")
                    self.agent_step += self.rollout.send(actions)
                    for window in self._windows():
                        learned = self.agent.learn(window)
                        self.replay.set_priorities(learned.pop("priority", None))
                        self.note(learned)
                    self._store(*self.rollout.receive())
                self._do_what_is_due()
                progress.update(self.agent_step, self.vital_signs)
            return self._finish(caught)

    def _windows(self):
        """Yield a window for each update that is owed, while the emulators step.

        The row of the step in progress is not among those that windows are drawn from. Where no
        update could be made because the replay had nothing to draw yet, they are made up for at
        twice the pace, not in a burst.
        """
        self.clock("environment")
        num_envs, period = self.settings["num_envs"], self.settings["update_period"]
        owed = (self.agent_step - self.settings["learning_starts"]) // period
        rows = self.settings["unroll"] if self.replay.is_rollout else 1  # that updates wait for
        owed = min(owed, self.updates + 2 * rows * -(-num_envs // period))
        while self.updates < owed and self.replay.ready:
            window = self.replay.sample(self.settings["batch_size"])
            self.clock("sample")
            self.agent.set_learning_rate(self.learning_rate(self.counts))
            yield window
            self.updates += 1
            self.clock("learn")

    def _store(self, row, episodes):
        """Put a vector step into the replay, and its episodes that ended into train.csv."""
        self.replay.append(**row)
        self.storage.checkpoints.write_ahead(self.replay)
        self.clock("environment")
        for episode in episodes:
            self.episodes += 1
            self.returns.append(episode["episode_return"])
            self.storage.scalars(self.agent_step, train__length=episode["length"],
                                 train__episode_return=episode["episode_return"])
            self.storage.row("train", agent_step=self.agent_step, frames=self.frames,
                             seconds=self.seconds, **episode)

    def _do_what_is_due(self):
        """Synchronise, log, evaluate, keep weights and save, each once its period is over."""
        s, (before, episodes_before) = self.settings, self.before
        self.before = self.agent_step, self.episodes
        due = lambda period: period and self.agent_step // period > before // period
        if due(s["target_period"]):
            self.agent.sync_target()
        if due(LEARN_PERIOD):
            self._log()
        if due(s["eval_period"]):
            self._evaluate()
        if period := s["weights_period"]:
            first = period * (episodes_before // period + 1)
            for episodes in range(first, self.episodes + 1, period):
                self.check_finite()
                self.storage.save_weights(layout.milestone(episodes), self.agent.save_weights)
        if due(s["checkpoint_period"]):
            try:
                self._save()
            except OSError as error:
                process.tell(f"{self._refusal(error)}; its last good checkpoint stays, "
                             f"and the next try is in {s['checkpoint_period']:,} agent steps.",
                             sys.stderr)

    def _evaluate(self):
        """Play one episode in each evaluation environment; keep the weights if they are best."""
        s = self.settings
        self.check_finite()
        seen = evaluation.Glimpse(self.agent)
        episodes = evaluation.evaluate(self.agent, self.eval_envs, s["history"], s["eval_epsilon"],
                                       s["seed"], self.evaluations + 1, watch=seen,
                                       stop=lambda *_: bool(self.caught))
        self.evaluation_owed = episodes is None  # A signal broke it off; who goes on plays it.
        if self.evaluation_owed:
            return
        self.evaluations += 1
        for i, episode in enumerate(episodes):
            self.storage.row("eval", agent_step=self.agent_step, frames=self.frames, episode=i,
                             evaluation=self.evaluations, seconds=self.seconds, **episode)
        mean = float(np.mean([episode["episode_return"] for episode in episodes]))
        self.storage.scalars(self.agent_step, evaluation__episode_return=mean)
        images = seen.frames[0].ndim > 1
        filmed = images and self.evaluations & (self.evaluations - 1) == 0  # 1, 2, 4, 8, ...
        self.storage.glimpse(self.agent_step, seen.q_values, seen.frames if filmed else ())
        # Of equals the later one, which has seen more; what is not finite is never the best.
        if np.isfinite(mean) and not (self.best is not None and mean < self.best):
            self.best = mean
            self.storage.save_weights("best", self.agent.save_weights)

    def _log(self):
        """Write a row of learn.csv."""
        late = self.agent_step - self.settings["learning_starts"] >= LEARN_PERIOD
        if late and self.replay.ended_only and not self.replay.ready:
            process.tell(f"Nothing is learned at agent step {self.agent_step:,}: the replay holds "
                         f"no episode that has ended, and {self.settings['env']} draws from no "
                         "others. Expected a larger --bufflen, or fewer --num_envs.", sys.stderr)
        values, phases = self.summarise()
        self.storage.row("learn", agent_step=self.agent_step, frames=self.frames,
                         updates=self.updates, seconds=self.seconds, **values,
                         **{f"{name}_seconds": value for name, value in phases.items()})
        self.storage.scalars(self.agent_step,
                             **{f"learn__{name}": value for name, value in values.items()},
                             **{f"seconds__{name}": value for name, value in phases.items()})

    def _finish(self, caught):
        """Leave a checkpoint, say where the run stands, and return the exit code."""
        try:
            if self.replay.end:
                self._save()
            if any(self.pending.values()):
                self._log()  # A last, short row; a run that goes on replaces it by the whole one.
            self.storage.close()
        except OSError as error:
            raise OSError(f"{self._refusal(error)}; it goes on from the last good "
                          "checkpoint") from error
        if self.limit and not self.evaluation_owed:
            process.tell(describe_end(self.storage.directory, self.settings, self.agent_step,
                                      self.episodes))
            return 0
        return OUT_OF_HOURS if caught[0] == process.ALARM else 128 + caught[0]

    def _refusal(self, error):
        return (f"{self.storage.directory} could not be saved at agent step {self.agent_step:,} "
                f"({error.strerror or error})")

    def _save(self):
        self.check_finite()
        generators = {name: rng.bit_generator.state for name, rng in self._generators().items()}
        state = self.get_counts() | dict(generators=generators,
                                         evaluation_owed=self.evaluation_owed)
        parts = dict(agent=self.agent.iterate_state(), rollout=self.rollout.get_state().items(),
                     replay=self.replay.get_state().items())
        arrays = ((f"{part}/{name}", array)
                  for part, named in parts.items() for name, array in named)
        self.storage.save(state, arrays, self.replay, self.agent.save_weights)

    def _generators(self):
        return dict(exploration=self.rng, replay=self.replay.rng, flicker=self.envs.rng)

    def _restore(self):
        """Go on where the checkpoint ends, equal to a run that never stopped."""
        checkpoints = self.storage.checkpoints
        state, arrays = checkpoints.state, checkpoints.load_arrays()
        self.set_counts(state)
        self.evaluation_owed = state.get("evaluation_owed", False)
        self.replay.restore(checkpoints.load_replay(), state["replay_end"])
        part = lambda prefix: {name.removeprefix(prefix): value for name, value in arrays.items()
                               if name.startswith(prefix)}
        self.replay.set_state(part("replay/"))
        self.agent.set_state(part("agent/"))
        if not self.rollout.set_state(part("rollout/")):
            process.tell(f"{self.settings['env']} is no function of its seed and actions: stepped "
                         "again, it came out elsewhere. Its running episodes are dropped, and "
                         "training goes on with new ones.", sys.stderr)
        for name, rng in self._generators().items():  # Flicker has one since the reset above.
            rng.bit_generator.state = state["generators"][name]
        process.tell(f"Going on at agent step {self.agent_step:,} of {self.storage.directory}.")


def train(config: dict[str, Any]) -> Trainer:
    """Train as `config` of `configure` says; return the Trainer, everything saved."""
    trainer = Trainer(config)
    trainer.train()
    return trainer


def describe_end(directory: str | pathlib.Path, settings: dict[str, Any], agent_step: int,
                 episodes: int) -> str:
    """Return the sentence on a finished run: the limit that it met, and how to score it."""
    limit = str(layout.met_limit(settings, agent_step, episodes))
    count = dict(maxsteps=agent_step, maxepisodes=episodes)[limit]
    has_best = layout.weights_path(directory, layout.BEST).exists()
    return (f"{directory} is finished: {count:,} of {settings[limit]:,} "
            f"{layout.LIMITS[limit]}. Raise --{limit} to go on; its score: "
            f"python evaluate.py --run_dir={shlex.quote(str(directory))}"
            + " --checkpoint=last" * (not has_best))


def main(arguments: Sequence[str]) -> int:
    """Train as the command line says.

    Returns:
        The exit code: 0 finished, 1 training failed, 2 bad input, 75 stopped by --max_hours,
        128 + the signal that stopped it.
    """
    if HELP & set(arguments):
        values = define_flags()
        groups = (values.module_help(group) for group in GROUPS)
        print(__doc__, *groups, explain_defaults(), sep="\n")
        return 0
    try:
        config = configure(arguments)
        directory, s = pathlib.Path(config["run_dir"]), config["settings"]
        opening.check(directory, s, config["resume"])
        if reading.is_done(directory, s):  # It stays as it is.
            process.tell(describe_end(directory, s, *reading.read_saved_counts(directory)))
            return 0
        trainer = Trainer(config)
    except (ValueError, OSError, flags.Error) as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("train.py: interrupted before the first step; nothing was lost", file=sys.stderr)
        return 130
    process.tell(f"{directory}: " + " ".join(
        f"{name}={value}" for name, value in config["settings"].items() if value is not None))
    for remark in [*doubt(config["settings"]), *trainer.envs.remarks]:
        process.tell(remark)
    try:
        code = trainer.train()
    except (FloatingPointError, OSError) as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # the second one
        print(f"train.py: left at once; {directory} goes on from its newest checkpoint",
              file=sys.stderr)
        return 130
    if code:
        process.tell(f"Stopped at agent step {trainer.agent_step:,}, saved in {directory}. "
                     f"Go on with the same command:\n  python {shlex.join(config['command'])}")
    return code


if __name__ == "__main__":
    mirror.prepare_sdl(None)  # Or SDL says on a machine without a display that it found none.
    sys.exit(main(sys.argv[1:]))
