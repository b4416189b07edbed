"""A training process stops at signals and after its hours, survives full disks, and knows its memory."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from concurrent import futures

from launch import build, process

import numpy as np
import pytest

import train
from helpers import disks
from helpers.short_runs import CARTPOLE, NUM_ENVS, ONE_NETWORK, ROOT, assert_same_runs, at_steps, checkpoint_of

pytestmark = pytest.mark.usefixtures("small_periods")


# Signals


@pytest.mark.parametrize("number", [
    signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])  # Ctrl-C, what Slurm sends, a closed terminal.
def test_a_signal_saves_and_prints_how_to_go_on(tmp_path, monkeypatch, capsys, number):
    monkeypatch.setattr(process, "is_ignored", lambda number: False)  # whatever these tests were started by
    before = signal.getsignal(number)
    at_steps(monkeypatch, {40: lambda: signal.raise_signal(number)})
    assert train.main([*CARTPOLE, f"--run_dir={tmp_path}"]) == 128 + number
    said = capsys.readouterr()
    stopped = r"^Stopped at agent step (\d+), saved in (.*)\. Go on with the same command:$"
    step = int(re.search(stopped, said.out, re.MULTILINE)[1])
    assert 40 <= step < 40 + NUM_ENVS and said.err == ""
    assert said.out.endswith(f"\n  python train.py {' '.join(CARTPOLE)} --run_dir={tmp_path}\n")
    assert json.loads((checkpoint_of(tmp_path) / "state.json").read_text())["agent_step"] == step
    assert signal.getsignal(number) == before


def test_a_closed_terminal_does_not_stop_a_run_of_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with process.stopping(0) as caught:
            signal.raise_signal(signal.SIGHUP)
            assert caught == []
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_before_the_first_step_leaves_a_run_that_can_begin(tmp_path, monkeypatch):
    enter = process.Progress.__enter__
    monkeypatch.setattr(process.Progress, "__enter__", lambda self: signal.raise_signal(signal.SIGINT) or enter(self))
    arguments = [*CARTPOLE, f"--run_dir={tmp_path}"]
    assert train.main(arguments) == 128 + signal.SIGINT
    monkeypatch.undo()
    assert train.main([*arguments, "--maxsteps=80"]) == 0


def test_a_finished_run_is_finished_whatever_stops_it_then(tmp_path, monkeypatch):
    at_steps(monkeypatch, {100: lambda: signal.raise_signal(signal.SIGTERM)})
    assert train.main([*CARTPOLE, "--maxsteps=100", "--learning_starts=99", f"--run_dir={tmp_path}"]) == 0


# Full disks


FULL = "No space left on device|File too large"


@ONE_NETWORK
def test_a_disk_that_is_full_for_a_while_changes_nothing(again, tmp_path, monkeypatch, capsys):
    with disks.small_disk(tmp_path / "disk") as disk:
        at_steps(monkeypatch, {95: disk.fill, 275: disk.free})  # Two checkpoints fall into it, and two evaluations.
        assert train.main([*again["arguments"], f"--run_dir={disk.place / 'run'}"]) == 0
        said = capsys.readouterr().err.splitlines()
        said = [line for line in said if "agent steps, " not in line]
        assert len(said) == 2
        refusal = rf"could not be saved at agent step \d+ \(({FULL})\); .* is in 90 agent steps"
        assert all(re.search(refusal, line) for line in said)
        assert_same_runs(again["directory"], disk.place / "run")
        assert not list(disk.place.rglob("*aside*"))
        another, best = build.make_agent(again["run"].settings, again["run"].envs), []
        for directory in (again["directory"], disk.place / "run"):
            another.load_weights(directory / "best.weights.h5")
            best.append(another.get_state()["online/0"])
        np.testing.assert_array_equal(*best)


@ONE_NETWORK
def test_a_log_on_a_full_disk_does_not_stop_training(again, tmp_path, monkeypatch):
    monkeypatch.setattr(process.Progress, "PERIOD", 0)  # A line at every step.
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert train.main([*again["arguments"], f"--run_dir={tmp_path}"]) == 0
        monkeypatch.undo()
        with pytest.raises(OSError, match="No space left"):
            full.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())  # So that it can be closed.
    assert_same_runs(again["directory"], tmp_path)


@ONE_NETWORK
@pytest.mark.parametrize("how", ["maxsteps", "signal"])
def test_a_run_asked_to_stop_that_cannot_save_fails_and_goes_on_later(again, tmp_path, monkeypatch, capsys, how):
    with disks.small_disk(tmp_path / "disk") as disk, monkeypatch.context() as patch:
        stop = dict(maxsteps=lambda: None, signal=lambda: signal.raise_signal(signal.SIGUSR1))[how]
        at_steps(patch, {185: disk.fill, 190: stop})
        arguments = [*again["arguments"], f"--run_dir={disk.place / 'run'}"]
        assert train.main(arguments) == 1
        said = capsys.readouterr().err.splitlines()[-1]
        assert re.search(rf"^train.py: .*/run could not be saved at agent step \d+ \(({FULL})\)", said)
        patch.undo()
        disk.free()
        assert train.main(arguments) == 0
        step = int(re.search(r"Going on at agent step (\d+)", capsys.readouterr().out)[1])
        assert 180 <= step < 180 + NUM_ENVS
        assert_same_runs(again["directory"], disk.place / "run")


# Hours and memory


@ONE_NETWORK
def test_max_hours_stops_with_a_code_of_its_own_and_the_run_goes_on(again, tmp_path, monkeypatch, capsys):
    arguments = [*again["arguments"], f"--run_dir={tmp_path}"]
    monkeypatch.setattr(process, "process_seconds", lambda: 3600.0 * 7)  # As if reading the replay had taken that long.
    assert train.main([*arguments, "--max_hours=7"]) == train.OUT_OF_HOURS == 75
    assert "Go on with the same command" in capsys.readouterr().out
    assert train.main([*arguments, "--max_hours=9000"]) == 0
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert_same_runs(again["directory"], tmp_path)


@ONE_NETWORK
@pytest.mark.parametrize("hours, code", [(0, 0), (7, 75)])
def test_a_run_outside_of_the_main_thread_is_the_same_run(again, tmp_path, monkeypatch, hours, code):
    """As a notebook's server or a thread pool trains: Python hears signals in the main thread alone."""
    monkeypatch.setattr(process, "process_seconds", lambda: 3600.0 * 7)
    config = train.configure([*again["arguments"], f"--run_dir={tmp_path}", f"--max_hours={hours}"])
    with futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: train.Trainer(config).train()).result() == code
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer) and thread.is_alive()]
    if code:
        train.train(config | dict(max_hours=0))
    assert_same_runs(again["directory"], tmp_path)


def test_hours_count_from_the_start_of_the_process():
    command = ["ps", "-o", "etimes=", "-p", str(os.getpid())]
    age = lambda: int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    before, seconds, after = age(), process.process_seconds(), age()
    assert before <= seconds <= after + 2  # psutil knows the time of boot to a second.


def test_free_memory_is_no_more_than_the_machine_has():
    assert 0 < process.available_memory() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_the_largest_replay_leaves_a_tenth_of_the_free_memory():
    assert process.largest_bufflen(bufflen=1000, needed=10_000, free=5_000) == 450  # 10 bytes each: 4,500 of 5,000


# Clock and progress


@pytest.mark.parametrize("seconds, words", [
    (0, "0 minutes"), (3600, "60 minutes"), (7200, "2.0 hours"), (86_400, "24.0 hours"), (5e6, "58 days"),
    (1e9, "11,574 days")])
def test_durations_are_spelled(seconds, words):
    assert process.spell_seconds(seconds) == words


def test_a_clock_adds_the_seconds_between_calls_to_phases(monkeypatch):
    times, phases = iter([10, 11, 13, 20, 26]), dict(act=0.5, learn=0)
    monkeypatch.setattr(process.time, "perf_counter", lambda: next(times))
    clock = process.Clock(phases)
    for phase in ("act", "learn", None, "act"):
        clock(phase)
    assert phases == dict(act=0.5 + 1 + 6, learn=2)


def test_a_log_gets_a_plain_line_a_minute_and_one_at_the_end(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(process.time, "monotonic", lambda: now[0])
    with process.Progress(100, 1000) as progress:
        for seconds, agent_step in ((30, 200), (61, 405), (90, 500), (100, 1000)):
            now[0] = seconds
            progress.update(agent_step, lambda: dict(loss="0.5", epsilon="0.1"))
    assert capsys.readouterr().out.splitlines() == [
        "405/1,000 agent steps, 5 steps/s, 01:59 left, loss 0.5, epsilon 0.1",
        "1,000/1,000 agent steps, 9 steps/s, 00:00 left, loss 0.5, epsilon 0.1"]


def test_no_time_is_left_past_the_limit(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(process.time, "monotonic", lambda: now[0])
    with process.Progress(0, 300) as progress:
        now[0] = 10
        progress.update(303, dict)
    assert capsys.readouterr().out == "303/300 agent steps, 30 steps/s, 00:00 left, \n"


@pytest.mark.slow
def test_saving_and_loading_a_replay_of_atari_takes_at_most_300_mb(tmp_path):
    command = [sys.executable, "-m", "benchmarks.saving", "--bufflen=150000", "--period=10000", f"--out={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout.splitlines()[-1])
    assert measured["timesteps"] == 150_000 and measured["replay_raw_mb"] > 1050
    limited = ("first_save_extra_mb", "periodic_extra_mb", "load_extra_mb")
    assert all(measured[name] <= 300 for name in limited), measured


def test_want_of_memory_is_known_from_other_errors():
    assert process.is_out_of_memory(MemoryError())
    assert process.is_out_of_memory(RuntimeError("{{function_node}} OOM when allocating tensor with shape[9]"))
    assert process.is_out_of_memory(RuntimeError("RESOURCE_EXHAUSTED: Out of memory"))
    assert not process.is_out_of_memory(RuntimeError("a mistake"))
