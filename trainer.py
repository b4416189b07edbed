"""The training loop over the parts of a run (Hausknecht & Stone 2015, section 4.2)."""

import collections
import shlex
import signal
import sys
import time

import numpy as np

import backends
import features
import job
import replay
import rollout
import runs
import schedules

LEARN_PERIOD = 1000  # agent steps per row of learn.csv
OUT_OF_HOURS = 75  # exit code of a run that --max_hours stopped: EX_TEMPFAIL, the same command goes on


class Trainer:
    """The parts of a run, and the loop over them."""

    def __init__(self, config):
        self.settings = s = config["settings"]
        torso = features.load(s["features"], config["run_dir"])
        self.envs = rollout.make_envs(s, s["num_envs"], torso)
        shape = self.envs.frame_shape, self.envs.frame_dtype
        needed, free = replay.Replay.nbytes(s["bufflen"], s["num_envs"], *shape), job.available_memory()
        if needed > free:
            raise ValueError(f"--bufflen={s['bufflen']} timesteps need {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB of memory are free; "
                             f"expected at most --bufflen={int(s['bufflen'] * free / needed * 0.9)}")
        self.replay = replay.Replay(s["bufflen"], s["num_envs"], *shape, s["history"], s["unroll"], s["sample"],
                                    (s["seed"], rollout.REPLAY), self.envs.metadata.get("length_reward", 0.0))
        self.agent = rollout.make_agent(s, self.envs)
        if s["init_from"] and not runs.has_checkpoint(config["run_dir"]):  # A checkpoint holds what has become of it.
            features.transfer(s["init_from"], self.agent)
        self.rollout = rollout.Rollout(self.envs, self.agent, s["history"], s["gamma"], s["life_loss"], s["seed"])
        self.eval_envs = rollout.make_envs(s, s["eval_episodes"], torso)
        self.epsilon = schedules.epsilon(s["epsilon_begin"], s["epsilon_end"], s["epsilon_decay"], s["epsilonStep"])
        self.learning_rate = schedules.learning_rate(s["learning_rate"], s["lr_schedule"])
        self.rng = np.random.default_rng((s["seed"], rollout.EXPLORATION))  # of exploration
        self.agent_step = self.updates = self.evaluations = self.episodes = self.cut_episodes = 0
        self.best, self.seconds_before, self.checked, self.last_loss = None, 0.0, 0, None
        self.returns = collections.deque(maxlen=100)  # of complete episodes
        self.pending, self.phases = collections.defaultdict(list), collections.Counter()  # since the last row of learn.csv
        self.clock = job.Clock(self.phases)
        self.run = runs.Run(config["run_dir"], s, config["resume"], config["command"])
        if torso:
            torso.keep(self.run)
        self.max_hours = config["max_hours"]
        if self.run.checkpoints.state:
            self._restore()
        self.started = time.monotonic()

    def train(self):
        """Run the loop to maxsteps, maxepisodes, a signal or max_hours; leave a checkpoint.

        Returns:
            The exit code: 0 finished, OUT_OF_HOURS, or 128 + the signal.

        Raises:
            OSError: what there was to save in the end could not be.
        """
        s, run = self.settings, self.run
        with job.stopping(self.max_hours) as caught, job.Progress(self.agent_step, s["maxsteps"]) as progress:
            while not (limit := runs.met_limit(s, self.agent_step, self.complete_episodes)) and not caught:
                self.advance()
                progress.update(self.agent_step, self._vital_signs)
            try:
                if self.replay.end:
                    self._save()
                if any(self.pending.values()):
                    self._log()  # A last, short row; a run that goes on cuts it off and writes the whole one.
                run.close()
            except OSError as error:
                raise OSError(f"{run.directory} could not be saved at agent step {self.agent_step:,} ({error.strerror or error}); "
                              "it goes on from the last good checkpoint") from error
        if limit:
            count = dict(maxsteps=self.agent_step, maxepisodes=self.complete_episodes)[limit]
            job.tell(f"{run.directory} is finished: {count:,} of {s[limit]:,} {runs.LIMITS[limit]}. Raise --{limit} to go on; "
                     f"its score: python evaluate.py --run_dir={shlex.quote(str(run.directory))}")
            return 0
        return OUT_OF_HOURS if caught[0] == signal.SIGALRM else 128 + caught[0]

    def advance(self):
        """Make one vector step, and whatever is due after it."""
        s, before, episodes_before = self.settings, self.agent_step, self.complete_episodes
        self._vector_step()
        due = lambda period: self.agent_step // period > before // period
        if due(s["target_period"]):
            self.agent.sync_target()
        if due(LEARN_PERIOD):
            self._log()
        if due(s["eval_period"]):
            self._evaluate()
        if period := s["weights_period"]:
            for episodes in range(period * (episodes_before // period + 1), self.complete_episodes + 1, period):
                self._finite()
                self.run.save_weights(f"weights/{episodes:06d}", self.agent.save_weights)
        if due(s["checkpoint_period"]):
            try:
                self._save()
            except OSError as error:
                job.tell(f"{self.run.directory} could not be saved at agent step {self.agent_step:,} ({error.strerror or error}); its last "
                         f"good checkpoint stays, and the next try is in {s['checkpoint_period']:,} agent steps.", sys.stderr)

    def _vector_step(self):
        """Reset all environments where that is due; otherwise act, step and learn side by side; store what came out."""
        self.clock()
        if self.rollout.reseed_due:
            row, episodes = self.rollout.reseed()
        else:
            actions = self.rollout.act(self.epsilon(self.counts), self.rng)
            self.clock("act")
            self.agent_step += int((~self.rollout.last).sum())  # Those that ended in the last step reset in this one.
            row, episodes = self.rollout.step(actions, meanwhile=self._learn)
        self.replay.append(**row)
        self.run.checkpoints.write_ahead(self.replay)
        self.clock("environment")
        for episode in episodes:
            self.episodes += 1
            self.cut_episodes += episode["cut"]
            if not episode["cut"]:
                self.returns.append(episode["episode_return"])
                self.run.scalars(self.agent_step, train__episode_return=episode["episode_return"], train__length=episode["length"])
            self.run.row("train", agent_step=self.agent_step, frames=self.frames, seconds=self.seconds, **episode)

    def _learn(self):
        """Make the updates that are owed; the row of the step in progress is not among those that they draw from.

        Where none could be made because the replay had nothing to draw yet, they are made up for at twice the pace, not in a burst.
        """
        self.clock("environment")
        num_envs, period = self.settings["num_envs"], self.settings["update_period"]
        owed = (self.agent_step - self.settings["learning_starts"]) // period
        owed = min(owed, self.updates + 2 * -(-num_envs // period))
        while self.updates < owed and self.replay.ready:
            self._update()

    def _update(self):
        window = self.replay.sample(self.settings["batch_size"])
        self.clock("sample")
        self.agent.set_learning_rate(self.learning_rate(self.counts))
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
        values = mean | dict(epsilon=self.epsilon(self.counts), learning_rate=self.learning_rate(self.counts),
                             cut_share=self.cut_episodes / max(self.episodes, 1))
        if self.agent_step - self.settings["learning_starts"] >= LEARN_PERIOD and not self.replay.ready:
            job.tell(f"Nothing is learned at agent step {self.agent_step:,}: the replay holds no episode that has ended, and of others "
                     f"{self.settings['env']} draws nothing. Expected a larger --bufflen, or fewer --num_envs.", sys.stderr)
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
        seen = rollout.Glimpse(self.agent)
        episodes = rollout.evaluate(self.agent, self.eval_envs, s["history"], s["eval_epsilon"], s["seed"], self.evaluations,
                                    watch=seen)
        for i, episode in enumerate(episodes):
            self.run.row("eval", agent_step=self.agent_step, frames=self.frames, evaluation=self.evaluations, episode=i,
                         seconds=self.seconds, **episode)
        mean = float(np.mean([episode["episode_return"] for episode in episodes]))
        self.run.scalars(self.agent_step, evaluation__episode_return=mean)
        filmed = seen.frames[0].ndim == 2 and self.evaluations & (self.evaluations - 1) == 0  # 1, 2, 4, 8, ...: few, however long.
        self.run.glimpse(self.agent_step, seen.q_values, seen.frames if filmed else ())
        if self.best is None or mean >= self.best:  # Of equals the later one, which has seen more.
            self.best = mean
            self.run.save_weights("best", self.agent.save_weights)

    @property
    def complete_episodes(self):
        """Episodes as schedules and limits count them: those that a reseed cut are none."""
        return self.episodes - self.cut_episodes

    @property
    def counts(self):
        """What schedules are functions of, by unit."""
        return dict(steps=self.agent_step, ep=self.complete_episodes, u=self.updates)

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
        episodes = dict(episodes=f"{self.complete_episodes:,}/{limit:,}") if (limit := self.settings["maxepisodes"]) else {}
        return episodes | dict(epsilon=f"{self.epsilon(self.counts):.3f}",
                               loss="-" if self.last_loss is None else f"{self.last_loss:.3g}",  # before the first update
                               mean_return=f"{np.mean(self.returns):.4g}" if self.returns else "-")

    _COUNTERS = "agent_step updates evaluations episodes cut_episodes best checked".split()

    def _save(self):
        self._finite()
        state = {name: getattr(self, name) for name in self._COUNTERS} | dict(
            seconds=self.seconds, returns=list(self.returns), pending=self.pending, phases=self.phases,
            generators=dict(exploration=self.rng.bit_generator.state, replay=self.replay.rng.bit_generator.state))
        parts = dict(agent=self.agent.iterate_state(), rollout=self.rollout.get_state().items(), replay=[("lanes", self.replay.lanes)])
        arrays = ((f"{part}/{name}", array) for part, named in parts.items() for name, array in named)
        self.run.save(state, arrays, self.replay, self.agent.save_weights)

    def _restore(self):
        """Go on where the checkpoint ends, equal to a run that never stopped."""
        state, arrays = self.run.checkpoints.state, self.run.checkpoints.load_arrays()
        for name in self._COUNTERS:
            setattr(self, name, state[name])
        self.seconds_before = state["seconds"]
        self.returns.extend(state["returns"])
        self.pending.update(state["pending"])
        self.phases.update(state["phases"])
        self.rng.bit_generator.state = state["generators"]["exploration"]
        self.replay.rng.bit_generator.state = state["generators"]["replay"]
        self.replay.restore(self.run.checkpoints.load_replay(), state["replay_end"])
        self.replay.lanes = arrays.get("replay/lanes", self.replay.lanes)  # Checkpoints of before there were lanes have none.
        part = lambda prefix: {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
        self.agent.set_state(part("agent/"))
        if not self.rollout.set_state(part("rollout/")):
            print(f"{self.settings['env']} is no function of its seed and actions: stepped again, it came out elsewhere. "
                  "Its running episodes are cut, and training goes on with new ones.", file=sys.stderr)
            self.rollout.cut_short()
        print(f"Going on at agent step {self.agent_step:,} of {self.run.directory}.")
