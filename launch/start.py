"""What comes before everything that is slow to import: threads, the backend's name, and the last word of an early end.

launch/__init__.py imports this file first. It sets how many threads NumPy, TensorFlow and JAX start, which read that
when they are imported; and a script that Ctrl-C ends, or that lacks a package, says so in one sentence. It imports no
package itself.
"""

import contextlib
import ctypes
import importlib.util
import json
import os
import pathlib
import signal
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
PYTHON = (3, 11)
SCRIPT = pathlib.Path(getattr(sys.modules["__main__"], "__file__", None) or "notebook")
INSTALL = {  # backend -> what installs it
    "tensorflow": "pip install -r requirements.txt",
    "jax": "pip install -r requirements-jax.txt (on an NVIDIA GPU: pip install 'jax[cuda12]')",
}


def num_threads() -> int:
    """Return how many threads this process may use.

    They are the cores that it is bound to, or fewer where Slurm gave it fewer without binding it.
    """
    return min(num_cores(), read_count("SLURM_CPUS_PER_TASK") or 1 << 20)


def num_cores() -> int:
    """Return how many cores this process is bound to; macOS and Windows bind none, so all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_count(name: str) -> int | None:
    """Return the positive whole number in a variable of the environment; None where it holds something else."""
    text = os.environ.get(name, "").strip()
    return int(text) if text.isdecimal() and int(text) else None


def keras_json() -> pathlib.Path:
    """Return the path of the file in which Keras looks for its settings."""
    home = os.path.expanduser("~")
    folder = os.environ.get("KERAS_HOME", os.path.join(home if os.access(home, os.W_OK) else "/tmp", ".keras"))
    return pathlib.Path(os.path.expanduser(os.path.join(folder, "keras.json")))


def backend_name() -> str:
    """Return the name of Keras' backend, `tensorflow` or `jax`, without an import of Keras.

    KERAS_BACKEND names it, or else keras.json.

    Raises:
        ValueError: another backend is named, or one that is not installed.
    """
    if keras := sys.modules.get("keras"):  # In a notebook Keras may have been imported earlier.
        return keras.backend.backend()
    path, given, settings = keras_json(), os.environ.get("KERAS_BACKEND"), {}
    with contextlib.suppress(OSError, ValueError):  # Keras does without the file, too.
        settings = json.loads(path.read_text())
    if not isinstance(settings, dict):
        raise ValueError(f"{path} holds no settings of Keras; correct it, or remove it")
    name = given or settings.get("backend", "tensorflow")
    source = f"KERAS_BACKEND={name}" if given else f"the backend {name!r} in {path}"
    if name not in INSTALL:
        raise ValueError(f"{source} was given; expected tensorflow or jax, such as: export KERAS_BACKEND=tensorflow")
    if importlib.util.find_spec(name) is None:
        raise ValueError(f"{source} was given, and {name} is not installed for {sys.executable}; install it: "
                         f"{INSTALL[name]}; or choose another: export KERAS_BACKEND="
                         f"{next(other for other in INSTALL if other != name)}")
    return name


def _settle():
    # XLA, and so JAX, reads NPROC.
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "NPROC"):
        if not os.environ.get(name):  # TensorFlow takes an empty variable for an error.
            os.environ[name] = str(num_threads())
    # JAX takes GPU memory as it needs it, so that two runs can share a GPU.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    with contextlib.suppress(AttributeError, TypeError):  # Not every C library has mallopt; Windows has no None.
        libc = ctypes.CDLL(None)
        # By default glibc makes up to eight heaps per core for TensorFlow's threads and keeps freed memory in each:
        # 40 MB more. -8 is M_ARENA_MAX. With one heap per thread DQN is 2% slower than with two.
        libc.mallopt(-8, 2 * num_threads())


def end_with_reader() -> None:
    """Let this process end in silence when who reads its output has gone, as after `| head`."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def name_python() -> str:
    """Return, for an error, how the suite is called or installed."""
    python = ROOT / ".venv/bin/python"
    if python.exists() and pathlib.Path(sys.prefix) != ROOT / ".venv":
        return f"expected {python} {SCRIPT.name}"
    return f"install what is missing: {sys.executable} -m pip install -r {ROOT / 'requirements.txt'}"


def _tell_end(kind, error, trace):
    """Be sys.excepthook: tell in one sentence that Ctrl-C came, or that a package is missing."""
    if issubclass(kind, KeyboardInterrupt):
        sentence, code = "interrupted", 130
    elif getattr(error, "name", None) and issubclass(kind, ModuleNotFoundError) and not list(
            ROOT.glob(f"{error.name.partition('.')[0]}*")):
        sentence, code = f"{sys.executable} has no package {error.name}; {name_python()}", 2
    else:
        sys.__excepthook__(kind, error, trace)
        return
    print(f"{SCRIPT.name}: {sentence}", file=sys.stderr)
    sys.exit(code)


_settle()
if SCRIPT.name == "train.py" and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Of grid_local.sh, whose xargs has to outlive Ctrl-C. train.py hears it from its first moment on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
if SCRIPT.resolve().parent == ROOT:
    sys.excepthook = _tell_end
    if sys.version_info < PYTHON:
        print(f"{SCRIPT.name}: this is Python {sys.version.split()[0]}, expected {'.'.join(map(str, PYTHON))} or "
              f"newer; {name_python()}", file=sys.stderr)
        sys.exit(2)
