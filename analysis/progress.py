"""How far runs are: the state, the speed and the newest returns of each, from its files and its lock."""

import collections
import pathlib
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from storage import layout, reading, strangers, training

Status = collections.namedtuple("Status", "run state step maxsteps evaluation age speed returns reason")
Status.__doc__ = """The status of a run; None stands for what is not known.

state: running, failed, damaged, waiting or done, as status.py says; step of maxsteps [agent steps]; evaluation: mean
return of the newest one; age of its last row [seconds]; speed [agent steps/s]; returns of its last training episodes;
reason: a sentence on why it failed
"""
FRESH = 15 * 60  # seconds; longer than an evaluation takes
# exit codes that are no errors: 0, and of --max_hours, a closed terminal, Ctrl-C, SIGUSR1, SIGTERM
STOPS = (0, 75, 129, 130, 138, 143)
SPEED_ROWS = 10  # of learn.csv, over which the speed is a mean


def mean(values: Sequence[float]) -> float | None:
    """Return the mean of a sequence, None if it is empty."""
    return sum(values) / len(values) if values else None


def read_status(directory: str | pathlib.Path, check: Callable[[Any], dict[str, Any]]) -> Status:
    """Return the Status of a run, whatever its files hold; `check` as reading.read_settings takes it."""
    try:
        return read_whole_status(directory, check)
    except (ValueError, OSError) as error:
        return Status(run=str(directory), state="damaged", step=0, maxsteps=None, evaluation=None, age=None, speed=None,
                      returns=[], reason=str(error))


def read_whole_status(directory: str | pathlib.Path, check: Callable[[Any], dict[str, Any]]) -> Status:
    """Return the Status of a run.

    Raises:
        ValueError, OSError: a file of the run is damaged.
    """
    has_begun = layout.config_path(directory).exists()
    settings = reading.read_settings(directory, check) if has_begun else None
    saved_step, _ = reading.read_saved_counts(directory)
    learn, train, evaluations = (training.read_last_rows(directory, name) for name in ("learn", "train", "eval"))
    last_write = reading.read_last_write(directory)
    age = None if last_write is None or last_write > time.time() + FRESH else max(0.0, time.time() - last_write)
    exit_code, reason = read_log_end(directory)
    if settings and reading.is_done(directory, settings):
        state = "done"
    else:
        state = tell_state(reading.is_locked(directory), exit_code, age)
    steps, seconds = learn["agent_step"][-SPEED_ROWS:], learn["seconds"][-SPEED_ROWS:]
    is_moving = seconds and seconds[-1] > seconds[0]
    newest = [episode_return for episode_return, number in zip(evaluations["episode_return"], evaluations["evaluation"])
              if number == evaluations["evaluation"][-1]]
    return Status(
        run=str(directory), state=state, step=int(max(saved_step, *steps[-1:], 0)),
        maxsteps=settings and settings["maxsteps"], evaluation=mean(newest), age=age,
        speed=(steps[-1] - steps[0]) / (seconds[-1] - seconds[0]) if is_moving else None,
        returns=train["episode_return"],
        reason=(f"{directory}: {reason} (exit code {exit_code}); all of it is in {layout.log_path(directory)}"
                if state == "failed" else None))


def read_log_end(directory: str | pathlib.Path) -> tuple[int | None, str]:
    """Return the exit code that ends the log of a grid's run, None if there is none, and the line before it."""
    *_, reason, last = ["", "", *training.read_last_lines(layout.log_path(directory))]
    code = re.fullmatch(r"exit code (\d{1,9})", last)
    return (int(code[1]) if code else None), strangers.escape(reason)


def tell_state(locked: bool | None, exit_code: int | None, age: float | None) -> str:
    """Return the state of a run that has not met its limits.

    Args:
        locked: of reading.is_locked.
        exit_code: in the last line of its log, None if there is none.
        age: of its last row [seconds], None if it has no row.
    """
    if locked:
        return "running"
    if exit_code is not None and exit_code not in STOPS:
        return "failed"
    if locked is None and exit_code is None and age is not None and age < FRESH:
        return "running"
    return "waiting"
