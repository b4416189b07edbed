"""A training process on its machine: the signals that stop it, its free memory, its clock and its progress bar."""

import contextlib
import pathlib
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, Self, TextIO

import psutil
from tqdm import tqdm

ALARM = getattr(signal, "SIGALRM", 14)  # of --max_hours; Windows has no such signals
STOP_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGALRM", "SIGHUP")
                if hasattr(signal, name)]


# Signals


@contextlib.contextmanager
def stopping(max_hours: float) -> Iterator[list[int]]:
    """Collect the signals that ask this process to stop in a list, so that the step in progress is finished.

    ALARM is in the list once this process is `max_hours` old. A second Ctrl-C leaves at once. Outside of the main
    thread Python hears no signals, so that only the hours count.

    Args:
        max_hours: 0 for no limit.
    """
    caught = []

    def catch(number, _):
        caught.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    hears = threading.current_thread() is threading.main_thread()
    handlers_before = {number: signal.signal(number, catch) for number in STOP_SIGNALS
                       if hears and not is_ignored(number)}
    alarm = threading.Timer(max_hours * 3600 - process_seconds(), caught.append, [ALARM])
    alarm.daemon = True
    if max_hours:
        alarm.start()
    try:
        yield caught
    finally:
        alarm.cancel()
        for number, handler in handlers_before.items():
            signal.signal(number, handler)


def is_ignored(number: int) -> bool:
    """Return whether a signal is that of a closed terminal, and `nohup` has this process go on."""
    return number == getattr(signal, "SIGHUP", None) and signal.getsignal(number) is signal.SIG_IGN


def process_seconds() -> float:
    """Return the age of this process; its imports and the restoring of its replay count for --max_hours."""
    return time.time() - psutil.Process().create_time()


# Memory


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether Python, NumPy, TensorFlow or JAX raised an error for want of memory."""
    return isinstance(error, MemoryError) or bool(re.search("OOM when allocating|RESOURCE_EXHAUSTED", str(error)))


def available_memory() -> int:
    """Return how many bytes this process may still take.

    This is the free memory of the machine, or less where a control group, such as a Slurm job, leaves less.
    """
    read = lambda *path: pathlib.Path(*path).read_text()
    free, groups = [psutil.virtual_memory().available], ""
    with contextlib.suppress(FileNotFoundError):  # Only Linux has control groups.
        groups = read("/proc/self/cgroup")
    for line in groups.splitlines():
        _, controllers, group = line.split(":", 2)
        if "memory" in controllers.split(","):  # version 1 of control groups
            root = pathlib.Path("/sys/fs/cgroup/memory")
            limit, used, cache = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
        else:
            root = pathlib.Path("/sys/fs/cgroup")
            limit, used, cache = "memory.max", "memory.current", "inactive_file"
        innermost = root / group.lstrip("/")
        for folder in (innermost, *innermost.parents):  # Slurm limits a job's group, above its steps' groups.
            if root in (folder, *folder.parents):
                with contextlib.suppress(OSError, ValueError, IndexError):  # "max" is no number and means no limit.
                    reclaimable = int(re.findall(rf"^{cache} (\d+)", read(folder, "memory.stat"), re.M)[0])
                    free.append(int(read(folder, limit)) - int(read(folder, used)) + reclaimable)
    return min(free)


def largest_bufflen(bufflen: int, needed: int, free: int) -> int:
    """Return the largest --bufflen that fits into `free` bytes with a tenth to spare.

    Args:
        bufflen: timesteps of a replay.
        needed: bytes of this replay.
    """
    return int(bufflen * free / needed * 0.9)


# Clock and progress


def spell_seconds(seconds: float) -> str:
    """Return a duration in words: `58 days`, `3.2 hours`, `12 minutes`."""
    units = (("days", 86400, 0), ("hours", 3600, 1), ("minutes", 60, 0))
    name, size, digits = next((unit for unit in units if seconds >= 2 * unit[1]), units[-1])
    return f"{seconds / size:,.{digits}f} {name}"


def tell(line: str, file: TextIO | None = None) -> None:
    """Print a line. A log on a full disk, or a reader who has gone, is no reason to stop."""
    with contextlib.suppress(OSError):
        print(line, file=file or sys.stdout, flush=True)


class Clock:
    """Measure the phases of a loop: a call adds the seconds since the last call to a phase, or to none.

    Args:
        phases: {phase: seconds}, which is added to.
    """

    def __init__(self, phases: MutableMapping[str, Any]) -> None:
        self.phases, self.last = phases, time.perf_counter()

    def __call__(self, phase: str | None = None) -> None:
        now = time.perf_counter()
        if phase:
            self.phases[phase] += now - self.last
        self.last = now


class Progress:
    """Show progress: a bar on a terminal, a plain line per minute elsewhere, such as in the log of a Slurm job."""

    PERIOD = 60  # seconds between plain lines
    BAR_PERIOD = 0.5  # seconds between two states of the bar

    def __init__(self, agent_step: int, maxsteps: int) -> None:
        self.bar = tqdm(total=maxsteps, initial=agent_step, unit="step", unit_scale=True, dynamic_ncols=True,
                        disable=not sys.stderr.isatty())
        self.maxsteps, self.from_step = maxsteps, agent_step
        self.started = self.told = self.drawn = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def update(self, agent_step: int, values: Callable[[], Mapping[str, str]]) -> None:
        """Show `agent_step`, and the dict that `values()` returns, if it is time to."""
        now = time.monotonic()
        if not self.bar.disable and now - self.drawn > self.BAR_PERIOD:
            self.drawn = now
            self.bar.set_postfix(values(), refresh=False)
            self.bar.update(agent_step - self.bar.n)
        elif self.bar.disable and (now - self.told > self.PERIOD or agent_step >= self.maxsteps):
            self.told = now
            speed = (agent_step - self.from_step) / (now - self.started)
            left = max(0, self.maxsteps - agent_step) / max(speed, 1e-9)  # The last vector step may pass the limit.
            tell(f"{agent_step:,}/{self.maxsteps:,} agent steps, {speed:.0f} steps/s, "
                 f"{tqdm.format_interval(left)} left, "
                 + ", ".join(f"{name} {value}" for name, value in values().items()))
