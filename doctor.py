"""Check what this machine has for the suite, and print a table of it with remedies.

    python doctor.py          exit code 0: no problem, notes are fine; 1: there are problems

Each check runs in a child process, so that a package that crashes, hangs or cannot be imported becomes a row like any
other.
"""

import collections
import contextlib
import importlib.metadata
import importlib.util
import multiprocessing
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

Row = collections.namedtuple("Row", "state found remedy", defaults=("",))
OK, NOTE, PROBLEM = "ok", "note", "problem"
ROOT = pathlib.Path(__file__).resolve().parent
INSTALL = "pip install -r requirements.txt"
ALONE = "to see more: python -c 'import doctor; print(doctor.{}())'"
PYTHON, NEWEST = (3, 11), (3, 13)  # the newest that TensorFlow has a package for
PATIENT_DAYS = 7  # of a run at train.py's defaults, above which the row says what is faster
PATIENCE = 120  # seconds for one check; the first import of a backend from a cluster's file system takes most of them
RUN_BYTES = 600_000_000  # on the disk, of a run of the default size
TOLERANCE = 1e-2  # of LSTM outputs in (-1, 1): a GPU's products keep 10 bits (TF32), and their sums differ by 3e-4


def default_flags() -> Any:  # absl's FlagValues
    """Return train.py's flags with their defaults. A check imports them, since they need the packages."""
    from launch import settings, train_flags
    flags: Any = train_flags.define_flags()
    flags.mark_as_parsed()
    if flags.bufflen is None:  # since a rollout takes what it needs
        flags.bufflen = settings.BUFFLEN
    return flags


def check_python() -> Row:
    found = f"{'.'.join(map(str, sys.version_info[:3]))} at {sys.executable}"
    if sys.version_info[:2] < PYTHON:
        remedy = f"make .venv with Python {'.'.join(map(str, PYTHON))} or newer; on a cluster: module avail python"
        return Row(PROBLEM, found, remedy)
    if sys.version_info[:2] > NEWEST:
        remedy = f"if TensorFlow cannot be installed: make .venv with Python {'.'.join(map(str, NEWEST))} or older"
        return Row(NOTE, found, remedy)
    return Row(OK, found)


def run_command(*command: str) -> tuple[int, str, str]:
    """Return (exit code, standard output, the last line of standard error) of a command."""
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return result.returncode, result.stdout, (result.stderr.strip().splitlines() or [""])[-1]


def compare_packages(path: pathlib.Path) -> tuple[list[Any], list[str]]:
    """Compare the installed packages with a requirements file.

    Returns:
        The packages that it names, and a sentence for each that is missing or out of its bounds.
    """
    from packaging.requirements import Requirement
    lines = (line.partition(" #")[0].strip() for line in path.read_text().splitlines())
    wanted, wrong = [Requirement(line) for line in lines if line and not line.startswith("#")], []
    for package in wanted:
        try:
            if not package.specifier.contains(version := importlib.metadata.version(package.name), prereleases=True):
                wrong.append(f"{package.name} is {version}, expected {package.specifier}")
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{package.name} is not installed")
    return wanted, wrong


def check_packages() -> Row:
    wanted, wrong = compare_packages(ROOT / "requirements.txt")
    if wrong:
        return Row(PROBLEM, "; ".join(wrong), INSTALL)
    return Row(OK, f"all {len(wanted)} as requirements.txt asks")


def check_optional_packages() -> Row:
    names = sorted(path.name for path in ROOT.glob("requirements-*.txt") if path.name != "requirements-test.txt")
    wrong = {name: compare_packages(ROOT / name)[1] for name in names}
    missing = [name for name in names if wrong[name]]
    if missing:
        remedy = f"if you want that: pip install -r {' -r '.join(missing)}"
        return Row(NOTE, "; ".join(sum(wrong.values(), [])), remedy)
    return Row(OK, f"all of {', '.join(names)}")


def accelerators() -> list[str]:
    """Return the backend's devices that are no CPUs, such as `gpu:0`."""
    import backends  # noqa: F401 - first: it imports the backend quietly

    import keras
    return [device for device in keras.distribution.list_devices() if not device.startswith("cpu")]


def check_backend() -> Row:
    from launch import start
    try:
        backend = start.backend_name()
    except ValueError as error:
        return Row(PROBLEM, str(error), "export KERAS_BACKEND=tensorflow")
    import backends  # noqa: F401 - first: it imports the backend quietly

    import keras
    code, gpus = 1, ""
    if shutil.which("nvidia-smi"):
        code, gpus, _ = run_command("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    devices = ", ".join(accelerators()) or "the CPU"
    found = f"{backend} {importlib.metadata.version(backend)}, Keras {keras.__version__} on {devices}"
    if accelerators() or code or not gpus:
        return Row(OK, found if accelerators() else f"{found}; no driver names a GPU")
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    package = {"tensorflow": '"tensorflow[and-cuda]"', "jax": '"jax[cuda12]"'}[backend]
    remedy = (f"unset CUDA_VISIBLE_DEVICES, which is {hidden!r}" if hidden in ("", "-1") else
              f"pip install {package}; if that is done, its driver is too old: see nvidia-smi")
    return Row(PROBLEM, f"{found}, though there is a GPU: {gpus.splitlines()[0]}", remedy)


def lstm_on(device: str) -> Any:
    """Return the outputs float32[B*T, U] of one LSTM on a device of the backend."""
    import keras
    import numpy as np

    import models
    (B, T, F, U), rng = (8, 10, 256, 64), np.random.default_rng(0)
    with keras.device(device):
        core = models.LSTMCore(U, "float32")
        core.build((None, F))
        core.set_weights([rng.normal(0, 0.1, weight.shape) for weight in core.get_weights()])
        state = [keras.ops.zeros((B, U)) for _ in core.state_sizes]
        outputs, _ = core(keras.ops.convert_to_tensor(rng.normal(size=(B * T, F)), "float32"), state, num_steps=T)
        return keras.ops.convert_to_numpy(outputs)


def check_lstm() -> Row:
    if not accelerators():
        return Row(OK, "no accelerator, nothing to compare with the CPU")
    device = accelerators()[0]
    difference = float(abs(lstm_on(device) - lstm_on("cpu:0")).max())
    found = f"{device} and the CPU differ by {difference:.1g} at most, tolerance {TOLERANCE:g}"
    if difference > TOLERANCE:
        return Row(PROBLEM, found, "update the driver; until then CUDA_VISIBLE_DEVICES=-1")
    return Row(OK, found)


def check_emulators() -> Row:
    from ale_py import roms
    games = list(pathlib.Path(os.environ.get("ALE_ROMS_DIR") or roms.__path__[0]).glob("*.bin"))
    if not games:
        return Row(PROBLEM, "ale-py finds no ROM", "unset ALE_ROMS_DIR; pip install --force-reinstall ale-py")
    from launch import start

    import numpy as np

    from environments import catalogue
    num_envs = default_flags().num_envs
    envs = catalogue.make_envs(
        "Frostbite", num_envs, frame_skip=4, max_episode_frames=0, num_threads=start.num_threads())
    envs.reset(seed=np.arange(num_envs))
    speed = measure_speed(lambda: envs.step(np.zeros(num_envs, np.int64))) * num_envs
    return Row(OK, f"{len(games)} ROMs; {num_envs} Frostbites make {speed:,.0f} agent steps/s")


def measure_speed(step: Callable[[], object], seconds: float = 0.5) -> float:
    """Return how often `step` runs per second. A first call, which compiles, is not counted."""
    step()
    start, count = time.perf_counter(), 0
    while time.perf_counter() < start + seconds:
        step()
        count += 1
    return count / (time.perf_counter() - start)


def check_updates() -> Row:
    import backends
    from launch import process

    import numpy as np

    import agent
    import choices
    import replay
    flags, found, is_long = default_flags(), [], False
    B = flags.batch_size
    for network in ("DQN", "DRQN"):
        H, T = choices.NETWORKS[network].history, choices.NETWORKS[network].unroll
        learner = agent.Agent(network, (84, 84), 18, H, flags.units)
        discount, mask = np.full((2, B, T), 0.99, np.float32)
        window = replay.Window(
            np.zeros((B, T + H, 84, 84), np.uint8), np.zeros((B, T), np.int32), np.zeros((B, T), np.float32),
            discount, mask, np.ones(B, bool))
        update = lambda: backends.to_host({"loss": [learner.learn(window)["loss"]]})  # noqa: B023 - runs now
        speed = measure_speed(update)
        seconds = flags.maxsteps / (flags.update_period * speed)
        is_long |= seconds > PATIENT_DAYS * 86400
        found.append(f"{network}: {1000 / speed:,.1f} ms per update, at most {flags.update_period * speed:,.0f} agent "
                     f"steps/s, so {process.spell_seconds(seconds)} on this machine for --maxsteps={flags.maxsteps}")
    remedy = "a GPU, --precision=mixed_bfloat16, fewer --maxsteps, or --flagfile=presets/cartpole.flags to begin with"
    return Row(NOTE, "; ".join(found), remedy) if is_long else Row(OK, "; ".join(found))


def check_memory() -> Row:
    from launch import process

    import replay
    flags = default_flags()
    needed = replay.Replay.nbytes(flags.bufflen, flags.num_envs, (84, 84), "uint8")
    free = process.available_memory()
    largest = process.largest_bufflen(flags.bufflen, needed, free)
    found = (f"{free / 1e9:.1f} GB free; the default replay takes {needed / 1e9:.1f}; "
             f"the largest that fits is --bufflen={largest}")
    if needed > free:
        return Row(PROBLEM, found, f"--bufflen={largest} or fewer, or more memory (sbatch --mem=32G)")
    return Row(OK, found)


def check_runs() -> Row:
    from storage import locks
    runs, elsewhere = pathlib.Path("runs").absolute(), "ln -s LARGE/FAST/DIRECTORY runs, or --run_dir="
    place = next(folder for folder in [runs, *runs.parents] if folder.is_dir())
    try:
        with tempfile.TemporaryFile(dir=place, buffering=0) as file:
            if file.write(b"." * 1_000_000) < 1_000_000:
                return Row(PROBLEM, f"{place} is full", elsewhere)
            locks.lock(file)
    except OSError as error:
        return Row(PROBLEM, f"{place} cannot be written or locked: {error.strerror or error}", elsewhere)
    free = shutil.disk_usage(place).free
    found = f"{place} has {free / 1e9:.1f} GB free; a run of the default size takes {RUN_BYTES / 1e9:.1f}"
    return Row(OK, found) if free >= RUN_BYTES else Row(PROBLEM, found, elsewhere)


def check_display() -> Row:
    display = os.environ.get("WAYLAND_DISPLAY") or os.environ.get("DISPLAY")
    remedy = "evaluate.py --video=film.mp4 needs none; for --render: ssh -X, or a desktop session"
    if not display:
        return Row(NOTE, "none", remedy)
    import pygame
    with contextlib.suppress(pygame.error):
        pygame.display.init()
        if pygame.display.get_driver() in ("x11", "wayland"):  # Other drivers show nothing.
            return Row(OK, display)
    return Row(NOTE, f"{display} does not answer", remedy)


def check_films() -> Row:
    import imageio_ffmpeg
    program = imageio_ffmpeg.get_ffmpeg_exe()
    code, encoders, _ = run_command(program, "-hide_banner", "-encoders")
    if code == 0 and "libx264" in encoders:
        return Row(OK, "an ffmpeg with H.264")
    remedy = "unset IMAGEIO_FFMPEG_EXE; pip install --force-reinstall imageio-ffmpeg"
    return Row(PROBLEM, f"{program} has no H.264", remedy)


def check_slurm() -> Row:
    if not shutil.which("sbatch"):
        return Row(NOTE, "none on this machine", "slurm/grid_local.sh runs a grid without it")
    code, partitions, error = run_command("sinfo", "--noheader", "--format=%R %G")
    if code:
        remedy = "to use Slurm, work on a login node, with the SLURM_CONF of your site"
        return Row(NOTE, f"sinfo ended with code {code}: {error}", remedy)
    with_gpus = dict.fromkeys(line.split()[0] for line in partitions.splitlines() if "gpu" in line)
    if with_gpus:
        return Row(OK, f"GPUs in {', '.join(with_gpus)}")
    return Row(NOTE, "no partition has GPUs", "sbatch --gres=none ...")


def check_cpu() -> Row:
    from launch import start
    bound, asked = start.num_cores(), start.read_count("SLURM_CPUS_PER_TASK") or 0
    found = f"{bound} of {os.cpu_count()} cores are this process's" + f", --cpus-per-task is {asked}" * bool(asked)
    if asked > bound:
        return Row(NOTE, found, "the job is bound to fewer cores than it asked for: srun --cpu-bind=none")
    threads = start.read_count("OMP_NUM_THREADS") or bound
    if threads < (asked or bound):
        remedy = "unset OMP_NUM_THREADS, unless several runs share the cores"
        return Row(NOTE, f"{found}, OMP_NUM_THREADS is {threads}", remedy)
    return Row(OK, found)


CHECKS = {
    "Python": check_python, "packages": check_packages, "optional": check_optional_packages, "CPU": check_cpu,
    "backend": check_backend, "LSTM": check_lstm, "emulators": check_emulators, "updates": check_updates,
    "memory": check_memory, "runs": check_runs, "display": check_display, "films": check_films, "Slurm": check_slurm}


def run_check(check: Callable[[], Row]) -> Row:
    """Return the row of a check. An error that it raises becomes a row, too."""
    try:
        return check()
    except ImportError as error:
        return Row(PROBLEM, " ".join(str(error).split()), INSTALL)
    except Exception as error:
        return Row(PROBLEM, " ".join(f"{type(error).__name__}: {error}".split()), ALONE.format(check.__name__))


def send_rows(checks: Iterable[Callable[[], Row]], connection: "multiprocessing.connection.Connection") -> None:
    """Send the row of each check, in a child process. Nothing that packages print reaches the table."""
    with open(os.devnull, "w") as devnull:
        for descriptor in (1, 2):
            os.dup2(devnull.fileno(), descriptor)
    for check in checks:
        connection.send(run_check(check))


def run_checks(checks: Iterable[Callable[[], Row]]) -> Iterator[Row]:
    """Yield the row of each check. After a check that crashes or hangs, the next ones get a new process."""
    checks = collections.deque(checks)
    context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    while checks:
        rows, connection = context.Pipe(duplex=False)
        child = context.Process(target=send_rows, args=(tuple(checks), connection), daemon=True)
        child.start()
        connection.close()
        try:
            while checks and rows.poll(PATIENCE):
                yield rows.recv()
                checks.popleft()
            failure = f"no answer within {PATIENCE} seconds"
        except EOFError:
            child.join()
            failure = f"it ended its process with code {child.exitcode}"  # a negative code is a signal
        child.kill()
        child.join()
        if checks:
            yield Row(PROBLEM, failure, ALONE.format(checks.popleft().__name__))


def print_rows(rows: Iterable[tuple[Row, str]]) -> list[str]:
    """Print each (row, name) as it comes, and return the states.

    A terminal gets rich's table. Without a terminal, or without rich, a row is a line.
    """
    states, screen = [], contextlib.nullcontext()
    add_row: Callable[[Row, str], None] = print_line
    if sys.stdout.isatty() and importlib.util.find_spec("rich"):
        screen, add_row = start_table()
    with screen:
        for row, name in rows:
            states.append(row.state)
            add_row(row, name)
    return states


def print_line(row: Row, name: str) -> None:
    remedy = f"  ->  {row.remedy}" if row.remedy else ""
    print(f"{row.state:<8} {name:<10} {row.found}{remedy}", flush=True)


def start_table() -> tuple[Any, Callable[[Row, str], None]]:
    """Return rich's live display of a table, and a function that adds a row and its name."""
    from rich import box, live, table, text
    grid = table.Table("", "", "found", "what to do", box=box.SIMPLE_HEAD)
    colours = {OK: "green", NOTE: "yellow", PROBLEM: "bold red"}

    def add_row(row, name):
        grid.add_row(text.Text(row.state, colours[row.state]), name, text.Text(row.found), text.Text(row.remedy))
    return live.Live(grid, vertical_overflow="visible"), add_row


def main(arguments: list[str]) -> int:
    """Return the exit code: 0, 1 where there is a problem, 2 for bad input, 130 for Ctrl-C."""
    if arguments:
        if arguments[0] in ("--help", "-h"):
            print(__doc__)
            return 0
        print(f"doctor.py: {arguments[0]!r} was given; expected no argument", file=sys.stderr)
        return 2
    try:
        states = print_rows(zip(run_checks(CHECKS.values()), CHECKS))
    except KeyboardInterrupt:
        print("doctor.py: interrupted", file=sys.stderr)
        return 130
    print(f"{len(states)} checks: " + ", ".join(f"{states.count(state)} {state}" for state in (OK, NOTE, PROBLEM)))
    return int(PROBLEM in states)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
