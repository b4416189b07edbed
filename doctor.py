"""What this machine has for the suite, and what to do about the rest: a table.

    python doctor.py          exit code 0: no problem, notes are fine; 1: there are problems

Each check runs in a child process, so that a package that crashes, hangs or cannot be imported becomes a row like any other.
"""

import collections
import contextlib
import fcntl
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

Row = collections.namedtuple("Row", "state found remedy", defaults=("",))
OK, NOTE, PROBLEM = "ok", "note", "problem"
ROOT = pathlib.Path(__file__).resolve().parent
INSTALL = "pip install -r requirements.txt"
ALONE = "to see more: python -c 'import doctor; print(doctor.{}())'"
PYTHON = (3, 11)
PATIENCE = 120  # seconds for one check; the first import of a backend from a cluster's file system takes most of that
NUM_ENVS, BUFFLEN, BATCH_SIZE, UPDATE_PERIOD, UNITS = 8, 400_000, 32, 4, 512  # train.py's defaults
RUN_BYTES = 600_000_000  # that a run of the default size leaves on the disk
TOLERANCE = 1e-2  # of LSTM outputs in (-1, 1): products of a GPU keep 10 bits (TF32), 3e-4 over a few hundred of them


def check_python():
    found = f"{'.'.join(map(str, sys.version_info[:3]))} at {sys.executable}"
    return Row(OK, found) if sys.version_info[:2] >= PYTHON else Row(
        PROBLEM, found, f"make .venv with Python {'.'.join(map(str, PYTHON))} or newer; on a cluster: module avail python")


def call(*command):
    """Return (exit code, standard output, the last line of standard error) of a command."""
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return result.returncode, result.stdout, (result.stderr.strip().splitlines() or [""])[-1]


def compare(path):
    """Return (packages that a requirements file names, [what is wrong with each that is missing or out of its bounds])."""
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


def check_packages():
    wanted, wrong = compare(ROOT / "requirements.txt")
    return Row(PROBLEM, "; ".join(wrong), INSTALL) if wrong else Row(OK, f"all {len(wanted)} as requirements.txt asks")


def check_optional_packages():
    wrong = {name: compare(ROOT / name)[1] for name in ("requirements-jax.txt", "requirements-slimevolley.txt")}
    missing = [name for name in wrong if wrong[name]]
    return Row(NOTE, "; ".join(sum(wrong.values(), [])), f"if you want that: pip install -r {' -r '.join(missing)}") if missing else Row(
        OK, "JAX and SlimeVolley")


def accelerators():
    """Return the devices of the backend that are no CPUs, such as `gpu:0`."""
    import keras

    import backends  # noqa: F401 - first: it imports the backend quietly
    return [device for device in keras.distribution.list_devices() if not device.startswith("cpu")]


def check_backend():
    import keras

    import backends  # noqa: F401
    backend = keras.backend.backend()
    if backend not in ("tensorflow", "jax"):
        return Row(PROBLEM, f"Keras runs on {backend}", "export KERAS_BACKEND=tensorflow")
    code, out, _ = call("nvidia-smi", "--query-gpu=name", "--format=csv,noheader") if shutil.which("nvidia-smi") else (1, "", "")
    found = f"{backend} {importlib.metadata.version(backend)}, Keras {keras.__version__} on {', '.join(accelerators()) or 'the CPU'}"
    if accelerators() or code or not out:
        return Row(OK, found if accelerators() else f"{found}; no driver names a GPU")
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    install = "pip install " + {"tensorflow": '"tensorflow[and-cuda]"', "jax": '"jax[cuda12]"'}[backend]
    return Row(PROBLEM, f"{found}, though there is a GPU: {out.splitlines()[0]}", f"unset CUDA_VISIBLE_DEVICES, which is {hidden!r}"
               if hidden in ("", "-1") else f"{install}; if that is done, its driver is too old: see nvidia-smi")


def lstm_on(device):
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


def check_lstm():
    if not accelerators():
        return Row(OK, "no accelerator, nothing to compare with the CPU")
    device = accelerators()[0]
    difference = float(abs(lstm_on(device) - lstm_on("cpu:0")).max())
    found = f"{device} and the CPU differ by {difference:.1g} at most, tolerance {TOLERANCE:g}"
    return Row(OK, found) if difference <= TOLERANCE else Row(PROBLEM, found, "update the driver; until then CUDA_VISIBLE_DEVICES=-1")


def check_emulators():
    from ale_py import roms
    games = [*pathlib.Path(os.environ.get("ALE_ROMS_DIR") or roms.__path__[0]).glob("*.bin")]
    if not games:
        return Row(PROBLEM, "ale-py finds no ROM", "unset ALE_ROMS_DIR; pip install --force-reinstall ale-py")
    import numpy as np

    import backends
    from environments import catalogue
    envs = catalogue.make_envs("Frostbite", NUM_ENVS, frame_skip=4, max_episode_frames=0, num_threads=backends.num_threads())
    envs.reset(seed=np.arange(NUM_ENVS))
    speed = per_second(lambda: envs.step(np.zeros(NUM_ENVS, np.int64))) * NUM_ENVS
    return Row(OK, f"{len(games)} ROMs; {NUM_ENVS} Frostbites make {speed:,.0f} agent steps/s")


def per_second(step, seconds=0.5):
    """Return how often `step` ran per second, after a first time for its compilation."""
    step()
    start, count = time.perf_counter(), 0
    while time.perf_counter() < start + seconds:
        step()
        count += 1
    return count / (time.perf_counter() - start)


def check_updates():
    import numpy as np

    import agent
    import backends
    import models
    import replay
    speeds = {}
    for network in ("DQN", "DRQN"):
        _, _, H, T, _ = models.NETWORKS[network]
        learner, cells = agent.Agent(network, (84, 84), 18, H, UNITS), (BATCH_SIZE, T)
        window = replay.Window(np.zeros((BATCH_SIZE, T + H, 84, 84), np.uint8), np.zeros(cells, np.int32), np.zeros(cells, np.float32),
                               *np.full((2, *cells), 0.99, np.float32), np.ones(BATCH_SIZE, bool))
        speeds[network] = per_second(lambda: backends.to_host({"loss": [learner.learn(window)["loss"]]}))  # noqa: B023 - runs now
    return Row(OK, "; ".join(f"{network}: {1000 / speed:,.1f} ms per update, at most {UPDATE_PERIOD * speed:,.0f} agent steps/s"
                             for network, speed in speeds.items()))


def check_memory():
    import process
    import replay
    needed, free = replay.Replay.nbytes(BUFFLEN, NUM_ENVS, (84, 84), "uint8"), process.available_memory()
    most = int(BUFFLEN * free / needed * 0.9)
    found = f"{free / 1e9:.1f} GB free; the default replay takes {needed / 1e9:.1f}; the largest that fits is --bufflen={most}"
    return Row(OK, found) if needed <= free else Row(PROBLEM, found, f"--bufflen={most} or fewer, or more memory (sbatch --mem=32G)")


def check_runs():
    place, elsewhere = pathlib.Path("runs").absolute(), "ln -s LARGE/FAST/DIRECTORY runs, or --run_dir="
    place = next(folder for folder in [place, *place.parents] if folder.is_dir())
    try:
        with tempfile.TemporaryFile(dir=place, buffering=0) as file:
            if file.write(b"." * 1_000_000) < 1_000_000:
                return Row(PROBLEM, f"{place} is full", elsewhere)
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return Row(PROBLEM, f"{place} cannot be written or locked: {error.strerror or error}", elsewhere)
    free = shutil.disk_usage(place).free
    found = f"{place} has {free / 1e9:.1f} GB free; a run of the default size takes {RUN_BYTES / 1e9:.1f}"
    return Row(OK, found) if free >= RUN_BYTES else Row(PROBLEM, found, elsewhere)


def check_display():
    display = os.environ.get("WAYLAND_DISPLAY") or os.environ.get("DISPLAY")
    remedy = "evaluate.py --video=film.mp4 needs none; for --render: ssh -X, or a desktop session"
    if not display:
        return Row(NOTE, "none", remedy)
    import pygame
    with contextlib.suppress(pygame.error):
        pygame.display.init()
        if pygame.display.get_driver() in ("x11", "wayland"):  # and not one of those that show nothing
            return Row(OK, display)
    return Row(NOTE, f"{display} does not answer", remedy)


def check_films():
    import imageio_ffmpeg
    program = imageio_ffmpeg.get_ffmpeg_exe()
    code, out, _ = call(program, "-hide_banner", "-encoders")
    return Row(OK, "an ffmpeg with H.264") if code == 0 and "libx264" in out else Row(
        PROBLEM, f"{program} has no H.264", "unset IMAGEIO_FFMPEG_EXE; pip install --force-reinstall imageio-ffmpeg")


def check_slurm():
    if not shutil.which("sbatch"):
        return Row(NOTE, "none on this machine", "slurm/grid_local.sh runs a grid without it")
    code, out, error = call("sinfo", "--noheader", "--format=%R %G")
    if code:
        return Row(NOTE, f"sinfo ended with code {code}: {error}", "to use Slurm, work on a login node, with the SLURM_CONF of your site")
    partitions = dict.fromkeys(line.split()[0] for line in out.splitlines() if "gpu" in line)
    return Row(OK, f"GPUs in {', '.join(partitions)}") if partitions else Row(NOTE, "no partition has GPUs", "sbatch --gres=none ...")


def check_cpu():
    bound, asked = len(os.sched_getaffinity(0)), int(os.environ.get("SLURM_CPUS_PER_TASK", 0))
    found = f"{bound} of {os.cpu_count()} cores are this process's" + f", --cpus-per-task is {asked}" * bool(asked)
    if asked > bound:
        return Row(NOTE, found, "the job is bound to fewer cores than it asked for: srun --cpu-bind=none")
    threads = int(os.environ.get("OMP_NUM_THREADS", bound))
    return Row(OK, found) if threads >= (asked or bound) else Row(
        NOTE, f"{found}, OMP_NUM_THREADS is {threads}", "unset OMP_NUM_THREADS, unless several runs share the cores")


CHECKS = {"Python": check_python, "packages": check_packages, "optional": check_optional_packages, "CPU": check_cpu,
          "backend": check_backend, "LSTM": check_lstm, "emulators": check_emulators, "updates": check_updates, "memory": check_memory,
          "runs": check_runs, "display": check_display, "films": check_films, "Slurm": check_slurm}


def row_of(check):
    """Return the row of a check; where it raises, that is what the user should know."""
    try:
        return check()
    except ImportError as error:
        return Row(PROBLEM, " ".join(str(error).split()), INSTALL)
    except Exception as error:
        return Row(PROBLEM, " ".join(f"{type(error).__name__}: {error}".split()), ALONE.format(check.__name__))


def work(checks, connection):
    """Send the row of each check; what packages print on the way stays off the table."""
    with open(os.devnull, "w") as devnull:
        for descriptor in (1, 2):
            os.dup2(devnull.fileno(), descriptor)
    for check in checks:
        connection.send(row_of(check))


def examine(checks):
    """Yield the row of each check; one that crashes or hangs costs its process, and the next ones get a new one."""
    checks, context = collections.deque(checks), multiprocessing.get_context("fork")
    while checks:
        rows, connection = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(tuple(checks), connection), daemon=True)
        process.start()
        connection.close()
        try:
            while checks and rows.poll(PATIENCE):
                yield rows.recv()
                checks.popleft()
            failure = f"no answer within {PATIENCE} seconds"
        except EOFError:
            process.join()
            failure = f"it ended its process with code {process.exitcode}"  # negative: by a signal
        process.kill()
        process.join()
        if checks:
            yield Row(PROBLEM, failure, ALONE.format(checks.popleft().__name__))


def show(rows):
    """Print (row, name) as they come, on a terminal as rich's table, elsewhere or without rich as lines; return their states."""
    states, screen = [], contextlib.nullcontext()
    add = lambda row, name: print(f"{row.state:<8} {name:<10} {row.found}" + f"  ->  {row.remedy}" * bool(row.remedy), flush=True)
    if sys.stdout.isatty() and importlib.util.find_spec("rich"):
        from rich import box, live, table, text
        grid, colours = table.Table("", "", "found", "what to do", box=box.SIMPLE_HEAD), {OK: "green", NOTE: "yellow", PROBLEM: "bold red"}
        screen = live.Live(grid, vertical_overflow="visible")
        add = lambda row, name: grid.add_row(text.Text(row.state, colours[row.state]), name, text.Text(row.found), text.Text(row.remedy))
    with screen:
        for row, name in rows:
            states.append(row.state)
            add(row, name)
    return states


def main(arguments):
    """Return the exit code: 0, 1 where there is a problem, 2 for bad input."""
    if arguments:
        helped = arguments[0] in ("--help", "-h")
        print(__doc__ if helped else f"doctor.py: {arguments[0]!r} was given; expected no argument", file=(sys.stderr, sys.stdout)[helped])
        return 0 if helped else 2
    states = show(zip(examine(CHECKS.values()), CHECKS))
    print(f"{len(states)} checks: " + ", ".join(f"{states.count(state)} {state}" for state in (OK, NOTE, PROBLEM)))
    return int(PROBLEM in states)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
