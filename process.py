"""A training process on its machine: what stops it, the memory it may take, its progress bar and its clock."""

import contextlib
import os
import pathlib
import re
import signal
import sys
import time

from tqdm import tqdm


@contextlib.contextmanager
def stopping(max_hours):
    """Collect SIGINT, SIGTERM, SIGUSR1, and SIGALRM once this process is `max_hours` old, in a list, so that the step in progress is
    finished; a second Ctrl-C leaves at once."""
    caught = []

    def catch(number, _):
        caught.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, catch) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM)}
    if max_hours:
        signal.setitimer(signal.ITIMER_REAL, max(1e-3, max_hours * 3600 - process_seconds()))
    try:
        yield caught
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def process_seconds():
    """Return how long this process has run: its imports and the restoring of its replay are part of a job's hours."""
    ticks = pathlib.Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]  # from boot to its start
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(ticks) / os.sysconf("SC_CLK_TCK")


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


def largest_bufflen(bufflen, needed, free):
    """Return the largest --bufflen that fits into `free` bytes with room to spare, where `bufflen` timesteps take `needed`."""
    return int(bufflen * free / needed * 0.9)


def tell(line, file=None):
    """Print a line; a job's log on a full disk, or a reader who has gone, is no reason to stop."""
    with contextlib.suppress(OSError):
        print(line, file=file or sys.stdout, flush=True)


class Clock:
    """Adds the seconds since its last call to a phase, or to none."""

    def __init__(self, phases):
        self.phases, self.last = phases, time.perf_counter()

    def __call__(self, phase=None):
        now = time.perf_counter()
        if phase:
            self.phases[phase] += now - self.last
        self.last = now


class Progress:
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
            tell(f"{agent_step:,}/{self.maxsteps:,} agent steps, {speed:.0f} steps/s, {tqdm.format_interval(left)} left, "
                 + ", ".join(f"{name} {value}" for name, value in values().items()))
