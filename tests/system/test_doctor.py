"""doctor.py finds every problem that it knows when a test provokes it."""

import os
import re
import signal
import subprocess
import sys
import time

from launch import process, train_flags

import pytest

import agent
import doctor
import replay
from helpers.disks import small_disk

NOTE, OK, PROBLEM = doctor.NOTE, doctor.OK, doctor.PROBLEM
FINE = lambda: doctor.Row(OK, "fine")


def put_program(folder, name, script):
    """Write a program, and leave no other on the PATH."""
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Return a function (name, script) that puts a program on a PATH which has no other."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return lambda name, script: put_program(tmp_path, name, script)


def test_its_defaults_are_those_of_training(monkeypatch):
    flags, seen = train_flags.define_flags(), []
    for name, value in dict(num_envs=3, bufflen=300_000, batch_size=2, update_period=1000, units=8).items():
        flags[name].value = value
    monkeypatch.setattr(train_flags, "define_flags", lambda: flags)
    assert "ROMs; 3 Frostbites make " in doctor.check_emulators().found
    monkeypatch.setattr(process, "available_memory", lambda: 10**10)
    needed = replay.Replay.nbytes(300_000, 3, (84, 84), "uint8")
    largest = process.largest_bufflen(300_000, needed, 10**10)
    assert doctor.check_memory().found == (
        f"10.0 GB free; the default replay takes {needed / 1e9:.1f}; the largest that fits is --bufflen={largest}")

    class Learner:
        def __init__(self, network, frame_shape, num_actions, history, units):
            self.units = units

        def learn(self, window):
            seen.append((self.units, len(window.frames), len(window.first)))
            return dict(loss=0.0)

    monkeypatch.setattr(agent, "Agent", Learner)
    monkeypatch.setattr(doctor, "measure_speed", lambda step: step() and 10)
    assert doctor.check_updates().found == "; ".join(
        f"{network}: 100.0 ms per update, at most 10,000 agent steps/s, so 17 minutes on this machine for "
        "--maxsteps=10000000" for network in ("DQN", "DRQN"))
    assert doctor.check_updates().state == OK
    monkeypatch.setattr(doctor, "measure_speed", lambda step: step() and 0.002)
    slow = doctor.check_updates()
    assert slow.state == NOTE and "so 58 days on this machine" in slow.found and "a GPU" in slow.remedy
    assert seen == [(8, 2, 2)] * 6


def test_an_old_python(monkeypatch):
    assert doctor.check_python().state == OK
    monkeypatch.setattr(doctor, "NEWEST", (3, 0))
    assert doctor.check_python().state == NOTE and "Python 3.0 or older" in doctor.check_python().remedy
    monkeypatch.setattr(doctor, "PYTHON", (99, 1))
    assert doctor.check_python().state == PROBLEM and "99.1" in doctor.check_python().remedy


def test_packages_out_of_bounds(tmp_path, monkeypatch):
    wanted, _ = doctor.compare_packages(doctor.ROOT / "requirements.txt")
    assert {"keras", "tensorflow", "ale-py"} <= {package.name for package in wanted}
    (tmp_path / "requirements.txt").write_text(
        "# packages\nnumpy>=99,<100   # too new\n\nkeras>=3,<4\nno-such-package>=1\n")
    for name in "jax", "slimevolley":
        (tmp_path / f"requirements-{name}.txt").write_text("pillow<1\n" if name == "jax" else "")
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    state, found, remedy = doctor.check_packages()
    assert (state, remedy) == (PROBLEM, "pip install -r requirements.txt")
    numpy, missing = found.split("; ")
    assert numpy.startswith("numpy is 2.") and numpy.endswith("expected <100,>=99")
    assert missing == "no-such-package is not installed"
    state, found, remedy = doctor.check_optional_packages()
    assert (state, remedy) == (NOTE, "if you want that: pip install -r requirements-jax.txt")
    assert "pillow is" in found


def test_a_gpu_that_the_backend_does_not_use(programs, monkeypatch):
    monkeypatch.setattr(doctor, "accelerators", lambda: [])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert doctor.check_backend().state == OK
    programs("nvidia-smi", "echo Tesla T4")
    state, found, remedy = doctor.check_backend()
    assert state == PROBLEM and found.endswith("there is a GPU: Tesla T4")
    assert 'pip install "tensorflow[and-cuda]"' in remedy
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert doctor.check_backend().remedy == "unset CUDA_VISIBLE_DEVICES, which is '-1'"
    programs("nvidia-smi", "echo no devices were found; exit 6")
    assert doctor.check_backend().state == OK


@pytest.mark.parametrize("error, state", [(0.001, OK), (0.1, PROBLEM)])
def test_an_accelerator_is_compared_with_the_cpu(error, state, monkeypatch):
    outputs = doctor.lstm_on("cpu:0")
    assert outputs.shape == (80, 64) and 0.1 < outputs.std() < 1
    monkeypatch.setattr(doctor, "accelerators", lambda: ["gpu:0"])
    monkeypatch.setattr(doctor, "lstm_on", lambda device: outputs + error * (device == "gpu:0"))
    assert doctor.check_lstm() == doctor.Row(
        state, f"gpu:0 and the CPU differ by {error:.1g} at most, tolerance 0.01", doctor.check_lstm().remedy)


def test_emulators_without_roms(tmp_path, monkeypatch):
    assert "108 ROMs; 8 Frostbites make " in doctor.check_emulators().found
    monkeypatch.setenv("ALE_ROMS_DIR", str(tmp_path))
    assert doctor.check_emulators().state == PROBLEM and "ALE_ROMS_DIR" in doctor.check_emulators().remedy


def test_little_memory(monkeypatch):
    monkeypatch.setattr(process, "available_memory", lambda: 10**9)
    state, found, remedy = doctor.check_memory()
    largest = int(found.rpartition("=")[2])
    assert state == PROBLEM and f"--bufflen={largest} " in remedy
    assert 0.89e9 < replay.Replay.nbytes(largest, 8, (84, 84), "uint8") < 0.91e9
    monkeypatch.setattr(process, "available_memory", lambda: 10**10)
    assert doctor.check_memory().state == OK


def test_a_place_where_nothing_can_be_written(monkeypatch):
    monkeypatch.chdir("/proc")
    assert doctor.check_runs().state == PROBLEM and doctor.check_runs().found.startswith("/proc cannot be written")


def test_a_disk_that_is_full_or_small(tmp_path, monkeypatch):
    with small_disk(tmp_path / "small") as disk:
        (disk.place / "runs").mkdir()
        monkeypatch.chdir(disk.place)
        state, found, _ = doctor.check_runs()
        assert found.startswith(f"{disk.place}/runs has ") and state == (PROBLEM if disk.mounted else OK)
        disk.fill(but=20_000)
        assert doctor.check_runs().state == PROBLEM
        monkeypatch.chdir(tmp_path)


def test_displays(monkeypatch):
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", ":987")
    assert doctor.check_display()[:2] == (NOTE, ":987 does not answer")
    monkeypatch.delenv("DISPLAY")
    assert doctor.check_display()[:2] == (NOTE, "none")


def test_an_ffmpeg_without_h264(monkeypatch):
    assert doctor.check_films().state == OK
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/bin/true")
    assert doctor.check_films()[:2] == (PROBLEM, "/bin/true has no H.264")


def test_slurm(programs):
    assert doctor.check_slurm()[:2] == (NOTE, "none on this machine")
    programs("sbatch", "")
    programs("sinfo", "echo Unable to contact slurm controller >&2; exit 1")
    assert doctor.check_slurm()[:2] == (NOTE, "sinfo ended with code 1: Unable to contact slurm controller")
    partitions = ["cpu (null)", "short gpu:a100:4(S:0-1)", "long gpu:a100:4", "long gpu:h100:8"]
    programs("sinfo", "; ".join(f"echo '{line}'" for line in partitions))
    assert doctor.check_slurm()[:2] == (OK, "GPUs in short, long")
    programs("sinfo", "echo 'cpu (null)'")
    assert doctor.check_slurm()[:2] == (NOTE, "no partition has GPUs")


def test_fewer_cores_than_a_job_asked_for(monkeypatch):
    bound = len(os.sched_getaffinity(0))
    for name in "SLURM_CPUS_PER_TASK", "OMP_NUM_THREADS":
        monkeypatch.delenv(name, raising=False)
    assert doctor.check_cpu().state == OK
    for name in "SLURM_CPUS_PER_TASK", "OMP_NUM_THREADS":
        monkeypatch.setenv(name, "")
    assert doctor.check_cpu().state == OK
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", str(bound + 1))
    assert doctor.check_cpu().state == NOTE and "--cpu-bind=none" in doctor.check_cpu().remedy
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", str(bound))
    monkeypatch.setenv("OMP_NUM_THREADS", str(bound - 1))
    assert doctor.check_cpu().state == NOTE and "unset OMP_NUM_THREADS" in doctor.check_cpu().remedy


def raises():
    raise RuntimeError("something\nlong")


def dies():
    os.kill(os.getpid(), signal.SIGKILL)


def hangs():
    time.sleep(60)


def test_a_check_that_raises_crashes_or_hangs_is_a_row(monkeypatch):
    monkeypatch.setattr(doctor, "PATIENCE", 0.5)
    rows = list(doctor.run_checks([FINE, raises, dies, FINE, hangs, FINE]))
    assert [row.state for row in rows] == [OK, PROBLEM, PROBLEM, OK, PROBLEM, OK]
    assert [row.found for row in rows if row.state == PROBLEM] == [
        "RuntimeError: something long", "it ended its process with code -9", "no answer within 0.5 seconds"]
    assert "doctor.dies()" in rows[2].remedy


@pytest.mark.parametrize("module, reason", [
    ("raise RuntimeError('wrong\\nbuild')", "RuntimeError: wrong build"),
    ("import no_such_module", "No module named 'no_such_module'"),
    ("import os; os.abort()", "it ended its process with code -6")])
def test_a_broken_package_is_a_row(module, reason, tmp_path):
    (tmp_path / "keras.py").write_text(module)
    doctors = subprocess.run([sys.executable, doctor.ROOT / "doctor.py"], cwd=tmp_path, capture_output=True, text=True,
                             env=os.environ | dict(PYTHONPATH=str(tmp_path), PATH="/nowhere"))
    rows = {line.split()[1]: line for line in doctors.stdout.splitlines()}
    assert doctors.returncode == 1 and doctors.stderr == ""
    assert rows["memory"].startswith("ok")  # It reads train.py's defaults, which needs no Keras.
    for name in ("backend", "LSTM", "updates"):
        assert rows[name].startswith("problem") and reason in rows[name]
    assert rows["Python"].startswith("ok") and rows["Slurm"].startswith("note")


def test_its_exit_code_tells_problems_from_notes(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "CHECKS", {"one": FINE, "two": lambda: doctor.Row(NOTE, "[odd]", "look")})
    assert doctor.main([]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "ok       one        fine", "note     two        [odd]  ->  look", "2 checks: 1 ok, 1 note, 0 problem"]
    monkeypatch.setattr(doctor, "CHECKS", {"one": FINE, "two": raises})
    assert doctor.main([]) == 1
    assert doctor.main(["--fix"]) == 2


@pytest.mark.parametrize("columns", ["64", "160"])
def test_a_terminal_gets_a_table_of_its_width(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    row = doctor.Row(PROBLEM, "numpy [odd] is " + "x" * 9, "pip install -r requirements.txt")
    rows = [(row, "packages")]
    assert doctor.print_rows(rows) == [PROBLEM]
    out = re.sub("\x1b\\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().out)  # without colours and moves of the cursor
    assert {"problem", "packages", "[odd]", "xxxxxxxxx", "pip", "requirements.txt"} <= set(out.split())
    assert max(map(len, out.splitlines())) <= int(columns)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # as where rich is missing
    doctor.print_rows(rows)
    assert capsys.readouterr().out.startswith("problem  packages   numpy [odd] is xxxxxxxxx  ->  pip install")
