"""The counts of a run: agent steps, updates, episodes, seconds; and measurements since the last row of learn.csv."""

import collections
import time
from collections.abc import Mapping
from typing import Any

from launch import process

import numpy as np

import schedules
from storage import layout


class Counters:
    """The counts of a run, and the schedules that are functions of them.

    Args:
        settings: of the run.

    Attributes:
        agent_step: actions that environments executed.
        updates: gradient steps.
        evaluations, episodes: how many there were.
        best: mean return of the best evaluation, None before the first.
        returns: of the last 100 training episodes.
        pending: {name: scalars of each update}, since the last row of learn.csv.
        phases: {phase of layout.PHASES: seconds}, since the last row of learn.csv.
        clock: process.Clock over the phases.
        epsilon, learning_rate: functions of `counts`.
    """

    _SAVED = "agent_step updates evaluations episodes best checked".split()

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = s = settings
        self.agent_step = self.updates = self.evaluations = self.episodes = self.checked = 0
        self.best: float | None = None
        self._last_loss: float | None = None
        self.returns: collections.deque[float] = collections.deque(maxlen=100)
        self.pending: collections.defaultdict[str, list[Any]] = collections.defaultdict(list)
        self.phases: Any = collections.Counter()  # of floats, where Counter's own type has integers
        self.clock = process.Clock(self.phases)
        self.epsilon = schedules.epsilon(
            s["epsilon_begin"], s["epsilon_end"], s["epsilon_decay"], s["epsilonStep"], s["num_envs"])
        self.learning_rate = schedules.learning_rate(s["learning_rate"], s["lr_schedule"])
        self._seconds_before, self._started = 0.0, time.monotonic()

    @property
    def counts(self) -> dict[str, int]:
        """The arguments of schedules, by unit."""
        return dict(steps=self.agent_step, ep=self.episodes, u=self.updates)

    @property
    def frames(self) -> int:
        return self.agent_step * self.settings["frame_skip"]

    @property
    def seconds(self) -> float:
        """Wall seconds of training so far, over all the times that the run was resumed."""
        return round(self._seconds_before + time.monotonic() - self._started, 3)

    @property
    def limit(self) -> str | None:
        """The name of the limit that training has met, None before."""
        return layout.met_limit(self.settings, self.agent_step, self.episodes)

    def note(self, scalars: Mapping[str, Any]) -> None:
        """Keep the scalars of an update, which are still on the device: nobody waits for them here."""
        for name, value in scalars.items():
            self.pending[name].append(value)

    def check_finite(self) -> None:
        """Bring the pending scalars to the host, and stop where learning went wrong.

        Raises:
            FloatingPointError: a loss was not finite.
        """
        import backends  # here, so that a run is refused before Keras is imported
        self.pending = collections.defaultdict(list, backends.to_host(self.pending))
        if not np.isfinite(self.pending["loss"] + self.pending["gradient_norm"]).all():
            raise FloatingPointError(f"the loss or its gradient became non-finite between agent steps {self.checked} "
                                     f"and {self.agent_step}; no checkpoint was written after that. "
                                     "Try a lower --learning_rate")
        self.checked = self.agent_step

    def summarise(self) -> tuple[dict[str, float], dict[str, float]]:
        """Return {name: value} since the last row of learn.csv, and seconds by phase; the next row starts anew."""
        self.check_finite()
        values = {name: float(np.mean(self.pending[name])) if self.pending[name] else float("nan")
                  for name in ("loss", "mean_q", "gradient_norm")}
        epsilon = float(np.mean(self.epsilon(self.counts)))  # of all environments
        values |= dict(epsilon=epsilon, learning_rate=self.learning_rate(self.counts))
        phases = {name: round(self.phases[name], 4) for name in layout.PHASES}
        self.pending.clear()
        self.phases.clear()
        return values, phases

    def vital_signs(self) -> dict[str, str]:
        """Return what the progress bar shows; reading the loss waits for the device."""
        if self.pending["loss"]:
            self._last_loss = float(self.pending["loss"][-1])
        limit = self.settings["maxepisodes"]
        shown = dict(episodes=f"{self.episodes:,}/{limit:,}") if limit else {}
        return shown | dict(epsilon=f"{np.mean(self.epsilon(self.counts)):.3f}",
                            loss="-" if self._last_loss is None else f"{self._last_loss:.3g}",
                            mean_return=f"{np.mean(self.returns):.4g}" if self.returns else "-")

    def get_counts(self) -> dict[str, Any]:
        """Return what a checkpoint's state.json keeps of this."""
        return {name: getattr(self, name) for name in self._SAVED} | dict(
            seconds=self.seconds, returns=list(self.returns), pending=self.pending, phases=self.phases)

    def set_counts(self, state: Mapping[str, Any]) -> None:
        """Restore what `get_counts` returned."""
        for name in self._SAVED:
            setattr(self, name, state[name])
        self._seconds_before, self._started = state["seconds"], time.monotonic()
        self.returns.extend(state["returns"])
        self.pending.update(state["pending"])
        self.phases.update(state["phases"])
