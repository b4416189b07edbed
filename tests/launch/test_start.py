"""How a script begins and how it ends early: quick answers, threads, the backend, Ctrl-C, packages that are missing."""

import json
import os
import re
import signal
import subprocess
import sys

from launch import start

import pytest

from helpers.run_files import write_run

ROOT = start.ROOT
SCRIPTS = "train evaluate plot report status doctor".split()
SLOW = {"keras", "tensorflow", "jax", "agent", "models", "scipy", "matplotlib.figure"}
ANSWERING = f"""
import contextlib, importlib, io, json, sys
sys.path.insert(0, {str(ROOT)!r})
script, answers = importlib.import_module(sys.argv[1]), []
for arguments in json.loads(sys.argv[2]):
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(said):
        code = script.main(arguments)
    answers.append([code, said.getvalue(), sorted({SLOW!r} & sys.modules.keys())])
print(json.dumps(answers))
"""
MISTAKES = {  # script -> [arguments, a pattern of the answer]
    "train": [
        (["--lr=3"], "--lr is no flag; perhaps --learning_rate or --lr_schedule is meant"),
        (["--network=DDQN"], "--network=DDQN"), (["--maxsteps=x"], "expected a whole number"),
        (["word"], "'word' is no flag"),
        (["--env=Frostbit"], "nearest names are Frostbite"), (["--env=Pendulum-v1"], "Discrete"),
        (["--env=CartPole-v1", "--noops=3"], "does not apply"),
        (["--flagfile=presets/pon.flags"], "perhaps .*presets/pong.flags is meant"),
        (["--epsilon_decay=10000"], "names no unit"), (["--lr_schedule=step:25ep:1.1"], "expected a factor"),
        (["--double", "--target_period=0"], "--double needs"), (["--bufflen=1e13"], "GB of memory are free"),
        (["--features=nowhere"], "neither the directory of a run"), (["--init_from=nowhere"], "nowhere does not exist"),
        (["--features=resnet50:nowhere"], "there is no file nowhere"), (["--run_dir=other"], "holds no config.json"),
        (["--run_dir=run"], "holds a run with other settings"), (["--run_dir=run", "--resume=never"], "is not empty")],
    "evaluate": [
        ([], "no run was found"), (["--checkpiont=best"], "perhaps --checkpoint"), (["--run_dir=nowhere"], "not exist"),
        (["--run_dir=run"], "no best weights yet"), (["--run_dir=run", "--weights=nowhere"], "nowhere is no file"),
        (["--run_dir=run", "--video=film.avi"], "ends in .avi"), (["--run_dir=run", "--saliency"], "without --video"),
        (["--run_dir=scored", "--csv=nowhere/x.csv"], "cannot be written"),
        (["--run_dir=scored", "--video=x.gif", "--compare=other_env"], "cannot be compared"),
        (["--run_dir=scored", "--video=x.gif", "--compare=run"], "run has no best weights"),
        (["--run_dir=scored", "--contact_sheet=x.png"], "kept no weights"),
        (["--run_dir=scored", "--observation_probabilities=2"], "expected probabilities")],
    "plot": [(["--figre=curves"], "perhaps --figure"), (["nowhere"], "does not exist"), (["--table=none"], "standard"),
             (["run", "--x=episodes"], "expected --y=train")],
    "report": [(["--outt=x"], "perhaps --out"), (["nowhere"], "does not exist")],
    "status": [(["--wacth"], "perhaps --watch"), (["nowhere"], "does not exist"), (["--watch", "run"], "no terminal")],
}


@pytest.fixture
def folder(tmp_path):
    """Return a folder with a run without weights, two with some, and a directory of something else."""
    write_run(tmp_path / "run")
    for name, env in (("scored", "CartPole-v1"), ("other_env", "Acrobot-v1")):
        write_run(tmp_path / name, env=env)
        (tmp_path / name / "best.weights.h5").write_bytes(b"weights")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.tex").write_text("years of work")
    return tmp_path


@pytest.mark.parametrize("script", MISTAKES)
def test_a_mistake_is_answered_before_anything_slow_is_imported(script, folder):
    before = sorted(path.name for path in folder.rglob("*"))
    given, patterns = zip(*MISTAKES[script])
    command = [sys.executable, "-c", ANSWERING, script, json.dumps(given)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    answers = json.loads(done.stdout)
    for arguments, pattern, (code, said, slow) in zip(given, patterns, answers):
        assert (code, slow) == (2, []) and re.search(pattern, said), (arguments, said, slow)
        assert said.startswith(f"{script}.py: ") and said.count("\n") == 1
    assert sorted(path.name for path in folder.rglob("*")) == before


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_help_of_every_script_imports_nothing_slow(script):
    done = subprocess.run([sys.executable, "-c", ANSWERING, script, '[["--help"]]'], capture_output=True, text=True)
    (code, said, slow), = json.loads(done.stdout)
    assert (code, slow) == (0, []) and f"python {script}.py" in said


# Ctrl-C, and packages that are missing


def run_script(script, *options, path, **variables):
    """Run a script of the suite where the packages of the folder `path` come before the installed ones."""
    environment = os.environ | dict(PYTHONPATH=str(path)) | variables
    command = [sys.executable, *options, ROOT / f"{script}.py", "--run_dir=run"]
    return subprocess.run(command, cwd=path, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("script, package, sentence", [
    *[(script, "absl", f"{script}.py: interrupted\n") for script in ("train", "evaluate", "plot", "report", "status")],
    ("train", "keras", "train.py: interrupted before the first step; nothing was lost\n")])
def test_ctrl_c_while_packages_are_imported_is_a_sentence(tmp_path, script, package, sentence):
    (tmp_path / f"{package}.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    done = run_script(script, path=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", sentence)


def test_training_hears_ctrl_c_below_a_parent_that_ignores_it(tmp_path):
    """Check it as grid_local.sh starts train.py: what is ignored is inherited."""
    (tmp_path / "absl.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        done = run_script("train", path=tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (done.returncode, done.stderr) == (130, "train.py: interrupted\n")


@pytest.mark.parametrize("script", ["train", "evaluate", "plot", "report", "status"])
def test_a_python_without_the_packages_is_told_which_one_has_them(tmp_path, script):
    done = run_script(script, "-S", path=tmp_path)  # -S: without installed packages
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    remedy = (f"expected {ROOT}/.venv/bin/python {script}.py" if (ROOT / ".venv/bin/python").exists() else
              f"install what is missing: {sys.executable} -m pip install -r {ROOT}/requirements.txt")
    assert re.fullmatch(rf"{script}.py: \S+ has no package \w+; {re.escape(remedy)}\n", done.stderr)


def test_another_error_keeps_its_traceback(tmp_path):
    (tmp_path / "absl.py").write_text("1 / 0\n")
    done = run_script("plot", path=tmp_path)
    assert done.returncode == 1 and "Traceback" in done.stderr and done.stderr.endswith("division by zero\n")


# The backend


@pytest.fixture
def keras_home(tmp_path, monkeypatch):
    """Return the folder in which a Keras that was not imported yet would look for its settings."""
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("variable, settings, name", [
    (None, None, "tensorflow"), (None, "{", "tensorflow"), (None, '{"backend": "jax"}', "jax"),
    ("", '{"backend": "jax"}', "jax"), ("tensorflow", '{"backend": "jax"}', "tensorflow"), ("jax", None, "jax")])
def test_the_backend_is_the_one_that_keras_will_take(keras_home, monkeypatch, variable, settings, name):
    monkeypatch.setattr(start.importlib.util, "find_spec", lambda package: package)  # as if all were installed
    if variable is not None:
        monkeypatch.setenv("KERAS_BACKEND", variable)
    if settings:
        (keras_home / "keras.json").write_text(settings)
    assert start.backend_name() == name


@pytest.mark.parametrize("variable, settings, sentence", [
    ("torch", None, "KERAS_BACKEND=torch was given; expected tensorflow or jax, such as: export KERAS_BACKEND=tensor"),
    (None, '{"backend": "torch"}', "the backend 'torch' in {home}/keras.json was given; expected tensorflow or jax"),
    ("jax", None, "KERAS_BACKEND=jax was given, and jax is not installed for {python}; install it: "
     "pip install -r requirements-jax.txt (on an NVIDIA GPU: pip install 'jax[cuda12]'); or choose another: "
     "export KERAS_BACKEND=tensorflow"),
    ("tensorflow", None, "KERAS_BACKEND=tensorflow was given, and tensorflow is not installed for {python}; install "
     "it: pip install -r requirements.txt; or choose another: export KERAS_BACKEND=jax"),
    (None, "[]", "{home}/keras.json holds no settings of Keras; correct it, or remove it")])
def test_a_backend_that_cannot_be_used_is_refused(keras_home, monkeypatch, variable, settings, sentence):
    monkeypatch.setattr(start.importlib.util, "find_spec", lambda package: None)  # as if none was installed
    if variable:
        monkeypatch.setenv("KERAS_BACKEND", variable)
    if settings:
        (keras_home / "keras.json").write_text(settings)
    with pytest.raises(ValueError) as error:
        start.backend_name()
    assert str(error.value).startswith(sentence.format(home=keras_home, python=sys.executable))


@pytest.mark.parametrize("script", ["train", "evaluate"])
def test_a_backend_that_cannot_be_used_ends_a_script_with_a_sentence(folder, script):
    write_run(folder / "runs/one", env="CartPole-v1")
    (folder / "runs/one/best.weights.h5").write_bytes(b"weights")
    (folder / "runs/one/train.csv").touch()
    environment = os.environ | dict(KERAS_BACKEND="torch")
    done = subprocess.run([sys.executable, ROOT / f"{script}.py"], cwd=folder, env=environment, capture_output=True,
                          text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"{script}.py: KERAS_BACKEND=torch was given; expected tensorflow or jax")


# Threads


SETTLED = """
import os, sys
os.sched_setaffinity(0, map(int, sys.argv[1:]))
from launch import start
names = 'OMP_NUM_THREADS', 'TF_NUM_INTRAOP_THREADS', 'XLA_PYTHON_CLIENT_PREALLOCATE'
print(*(os.environ[name] for name in names))
"""


@pytest.mark.parametrize("given, threads", [
    ({}, 2), ({"SLURM_CPUS_PER_TASK": "1"}, 1), ({"SLURM_CPUS_PER_TASK": "64"}, 2), ({"SLURM_CPUS_PER_TASK": ""}, 2),
    ({"SLURM_CPUS_PER_TASK": "0"}, 2), ({"SLURM_CPUS_PER_TASK": "many"}, 2), ({"OMP_NUM_THREADS": ""}, 2),
    ({"SLURM_CPUS_PER_TASK": "1", "OMP_NUM_THREADS": "2", "TF_NUM_INTRAOP_THREADS": "2"}, 2)])
def test_threads_are_those_of_the_affinity_or_fewer_by_slurm(given, threads):
    bound = sorted(os.sched_getaffinity(0))[:2]
    environment = {name: value for name, value in os.environ.items()
                   if "THREADS" not in name and not name.startswith("SLURM")} | given
    done = subprocess.run([sys.executable, "-c", SETTLED, *map(str, bound)], env=environment, cwd=ROOT,
                          capture_output=True, text=True)
    assert done.stdout.split() == [str(min(threads, len(bound)))] * 2 + ["false"], done.stderr


@pytest.mark.parametrize("script", ["train", "evaluate", "plot", "report", "status"])
def test_no_package_is_imported_before_threads_are_settled(script):
    code = f"import sys, {script}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    modules = done.stdout.split()
    assert modules.index("launch.start") < min(modules.index(package) for package in ("absl", "numpy")), done.stderr
