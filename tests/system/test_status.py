"""status.py tells the state of runs from their files, prints tables of them, and prints the commands of a grid."""

import contextlib
import io
import os
import pathlib
import pty
import shlex
import signal
import socket
import sys
import time

from launch import cost, settings

import pytest
from rich import console

import status
from analysis import progress
from helpers.run_files import hold_lock, write_learn, write_run, write_state

ROOT = pathlib.Path(status.__file__).parent


@pytest.fixture(autouse=True)
def an_empty_folder(tmp_path, monkeypatch):
    """Run every test in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def table(capsys):
    """Return a function that returns the cells of the table's rows by run, and the lines printed after them."""
    def call(*arguments):
        assert status.main([str(argument) for argument in arguments]) == 0
        head, *lines = capsys.readouterr().out.splitlines()
        assert head.split() == "run state agent steps last return last row, ago".split()
        rows = {line.split()[0]: line.split()[1:] for line in lines if line.startswith("runs/")}
        return rows, lines[len(rows):]
    return call


def refuse_status(capsys, *arguments):
    """Return the sentence with which status.py refuses its arguments."""
    assert status.main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("status.py: ") and error.count("\n") == 1, error
    return error


def write_grid(name, *lines):
    """Write lines into <name>.csv, and return its path."""
    path = pathlib.Path(f"{name}.csv")
    path.write_text("\n".join(lines) + "\n")
    return path


def write_checkpoint(run, agent_step, vector_steps=10, episodes=0):
    """Write the state of a checkpoint."""
    write_state(run, vector_steps, agent_step=agent_step, episodes=episodes)


@pytest.mark.parametrize("episodes, state", [(49, "waiting"), (50, "done")])
def test_a_run_is_done_that_has_met_its_episodes(table, episodes, state):
    run = write_run(pathlib.Path("runs", "short"), [(100, (1, 2))], maxepisodes=50)
    write_checkpoint(run, 103, episodes=episodes)
    assert table()[0]["runs/short"][0] == state


# Grids


def test_a_row_is_a_command(capsys):
    write_grid("small", "# why", "env,network,flicker,seed,maxsteps,jid", "Pong,DQN,,2,1000,",
               "ALE/Pong-v5,DRQN,0.5,,,it's odd")
    assert status.main(["small.csv", "--commands"]) == 0
    one, two = map(shlex.split, capsys.readouterr().out.splitlines())
    assert one == ("python train.py --env=Pong --network=DQN --seed=2 --maxsteps=1000 "
                   "--run_dir=runs/small/Pong-DQN-s2").split()
    assert two == ["python", "train.py", "--env=ALE/Pong-v5", "--network=DRQN", "--flicker=0.5", "--jid=it's odd",
                   "--run_dir=runs/small/Pong-v5-DRQN-flicker=0.5-jid=it_s_odd-s1"]


def test_other_bad_input(capsys):
    assert "nowhere" in refuse_status(capsys, "nowhere")
    assert "nowhere.csv" in refuse_status(capsys, "nowhere.csv")
    assert "bad.csv has no rows" in refuse_status(capsys, write_grid("bad", "env,seed"))
    write_run(pathlib.Path("runs/one"))
    assert "expected grids" in refuse_status(capsys, "runs/one", "--commands")


# States


def test_what_a_run_has_come_to(table):
    done, stopped = (write_run(pathlib.Path("runs", name), [(100, (1, 2)), (200, (5, 8))])
                     for name in ("done", "stopped"))
    write_checkpoint(done, 150, vector_steps=5)
    write_checkpoint(done, 303)
    write_checkpoint(stopped, 150)
    write_learn(stopped, 100, 1234)
    ago = time.time() - 3725
    for path in done.glob("*.csv"):
        os.utime(path, (ago, ago))
    rows, rest = table()
    assert rows["runs/done"] == ["done", "303", "/", "300", "6.50", "1:02:05"]
    assert rows["runs/stopped"][:5] == ["waiting", "1,234", "/", "300", "6.50"]
    assert rest == ["2 runs: 1 done, 1 waiting"]
    assert list(table("runs/done")[0]) == ["runs/done"]


def test_only_a_live_process_is_running(table):
    run = write_run(pathlib.Path("runs/one"))
    with hold_lock(run, socket.gethostname()):
        assert table()[0]["runs/one"][0] == "running"
    assert table()[0]["runs/one"][0] == "waiting"  # though the lock is there, and its rows are fresh


def test_a_run_on_another_machine_is_running_while_it_writes_rows(table):
    run = write_run(pathlib.Path("runs/one"))
    (run / "lock").write_text("process 1 on another.machine\n")
    assert table()[0]["runs/one"][0] == "running"
    ago = time.time() - progress.FRESH - 60
    for path in run.glob("*.csv"):
        os.utime(path, (ago, ago))
    assert table()[0]["runs/one"][0] == "waiting"


@pytest.mark.parametrize("ahead, state, age", [(60, "running", "00:00"), (progress.FRESH + 60, "waiting", "-")])
def test_a_clock_that_is_ahead_tells_no_age(table, ahead, state, age):
    """The machine that writes rows, or the file server, may be ahead of this one by seconds, or wrong by hours."""
    run = write_run(pathlib.Path("runs/one"))
    (run / "lock").write_text("process 1 on another.machine\n")
    for path in run.glob("*.csv"):
        os.utime(path, (time.time() + ahead,) * 2)
    row = table()[0]["runs/one"]
    assert (row[0], row[-1]) == (state, age)


@pytest.mark.parametrize("code", [0, 1, 2, 75, 130, 137, 138, 143])
def test_an_exit_code_tells_a_failed_row_from_a_stopped_one(code, table):
    run = write_run(pathlib.Path("runs/one"))
    (run / "lock").write_text("process 1 on another.machine\n")
    pathlib.Path("runs/one.log").write_text(f"going\ntrain.py: a reason\nexit code {code}\n")
    rows, rest = table()
    failed = code in (1, 2, 137)
    assert rows["runs/one"][0] == ("failed" if failed else "waiting")
    assert any("runs/one: train.py: a reason (exit code" in line for line in rest) == failed


def test_a_row_that_goes_on_after_it_failed_is_no_longer_failed(table):
    write_grid("grid", "env,seed", "Pong,1", "Pong,2", "Pong,3")
    write_run(pathlib.Path("runs/grid/Pong-s3"))
    log = pathlib.Path("runs/grid/Pong-s1.log")
    log.write_text("train.py: --units=0 was given\nexit code 2\n")
    rows, rest = table("grid.csv")
    assert rows["runs/grid/Pong-s1"] == ["failed", "0", "-", "-"]
    assert rows["runs/grid/Pong-s2"] == ["waiting", "0", "-", "-"]
    assert rest == [f"failed: runs/grid/Pong-s1: train.py: --units=0 was given (exit code 2); all of it is in {log}",
                    "3 runs: 2 waiting, 1 failed"]
    log.write_text(log.read_text() + "runs/grid/Pong-s1: network=DRQN\n")
    assert table("grid.csv")[0]["runs/grid/Pong-s1"][0] == "waiting"


# Damaged runs, and runs from strangers


def test_damaged_runs_are_named_and_the_others_shown(table):
    for name in "abcd":
        write_run(pathlib.Path("runs", name), [(100, (1, 2))])
    pathlib.Path("runs/b/eval.csv").write_text("a\nb\nc\n")
    pathlib.Path("runs/c/config.json").write_text("{")
    pathlib.Path("runs/d/learn.csv").unlink(missing_ok=True)
    os.mkfifo("runs/d/learn.csv")
    rows, rest = table()
    assert {run: cells[0] for run, cells in rows.items()} == {
        "runs/a": "waiting", "runs/b": "damaged", "runs/d": "damaged"}
    assert rest[0].startswith("damaged: runs/b/eval.csv is damaged, or not of this suite: ")
    assert rest[1].startswith("damaged: runs/d/learn.csv is a device or a pipe, so it is not opened")
    assert rest[2] == "3 runs: 1 waiting, 2 damaged"
    assert rest[3].startswith("Note: left out: runs/c/config.json is not the configuration of a run")


def test_rows_of_a_grid_that_cannot_be_read_do_not_hide_the_others(table):
    write_grid("grid", "env,seed", "Pong,1", "Pong,2", f"Pong{'g' * 300},1")
    write_run(pathlib.Path("runs/grid/Pong-s2"), env="Pong")
    pathlib.Path("runs/grid/Pong-s2/config.json").write_text('{"settings": {"network": 3}}')
    rows, rest = table("grid.csv")
    assert rows["runs/grid/Pong-s1"][0] == "waiting" and rows["runs/grid/Pong-s2"][0] == "damaged"
    assert rest == ["damaged: runs/grid/Pong-s2/config.json has no env, which every run has",
                    "3 runs: 2 waiting, 1 damaged"]


def test_the_end_of_a_log_moves_no_cursor(table):
    run = write_run(pathlib.Path("runs/one"))
    log = run.with_name("one.log")
    log.write_text("train.py: \x1b[2J\x1b[31ma reason\r\nexit code 1\n", newline="")
    assert r"runs/one: train.py: \x1b[2J\x1b[31ma reason\r (exit code 1)" in table()[1][0]
    log.unlink()
    log.symlink_to("/etc/hostname")
    assert table()[1][0].startswith("damaged: runs/one.log is a link, so it is not opened")


def test_no_grid_is_read_from_a_pipe_or_writes_to_the_terminal(capsys):
    os.mkfifo("pipe.csv")
    assert "pipe.csv is no file; expected a grid" in refuse_status(capsys, "pipe.csv")
    said = refuse_status(capsys, write_grid("bad", "env,jid", "Pong,\x1b[31mred"), "--commands")
    assert r"row 1 of bad.csv has '\x1b[31mred'; expected text without control characters" in said


# --watch


def make_status(number, state, **others):
    """Return the status of a run of a grid."""
    values = dict(run=f"runs/grid/Pong-DRQN-flicker=0.5-s{number}", state=state, step=1234, maxsteps=10_000_000,
                  evaluation=-20.5, age=3, speed=100, returns=[1, 2, 3], reason=None)
    return progress.Status(**values | others)


def test_recent_returns_as_blocks():
    assert status.sparkline([-21, -20, -19, -18, -17, -16, -15, -14]) == "▁▂▃▄▅▆▇█"
    assert [status.sparkline(values) for values in ([], [5], [7, 7])] == ["", "▁", "▁▁"]
    assert status.sparkline([0] * 500 + [70] * 500, num_blocks=2) == "▁█"
    assert status.sparkline([2, 0, 4, 8, 0, 1], num_blocks=3) == "▂█▁"  # means 1, 6, 0.5


def test_a_live_table_names_what_is_known():
    running = make_status(1, "running", speed=250.04, step=4_000_000)
    assert status.format_cells(running) == (
        running.run, "running", "4.00M/10.0M", "2", "▁▅█", "250", "-20.5", "6:39:56")
    new = make_status(2, "waiting", step=0, maxsteps=None, evaluation=None, returns=[])
    assert status.format_cells(new)[2:] == ("0", "-", "", "-", "-", "-")


def render(statuses, width, height):
    """Return the lines that a terminal shows."""
    screen = console.Console(width=width, file=io.StringIO())
    screen.print(status.fit_table(statuses, width, height))
    return screen.file.getvalue().splitlines()


@pytest.mark.parametrize("width, columns", [(160, 8), (90, 7), (60, 4), (30, 3)])
def test_a_live_table_fits_its_terminal(width, columns):
    states = ["done"] * 140 + ["failed"] * 2 + ["waiting"] * 2 + ["running"] * 6
    statuses = [make_status(i, state) for i, state in enumerate(states)]
    head, *lines, last = render(statuses, width, 11)
    assert head.split() == list(status.HEADER[:columns])
    assert [line.split()[1] for line in lines] == ["running"] * 6 + ["failed"] * 2
    assert max(map(len, [head, *lines])) <= max(width, 31)
    assert lines[0].split()[0].endswith("-s144" if width > 30 else "s144")
    assert last == "150 runs: 140 done, 6 running, 2 waiting, 2 failed; 142 more than fit"[:width].rstrip()
    assert len(render(statuses, width, 200)) == 152


def test_tables_beside_runs_are_no_grids(capsys):
    write_run(pathlib.Path("runs/games/one"), [(100, (1, 3))])
    pathlib.Path("runs/games/runs.csv").write_text("environment,agent\nPong,DQN\n")
    assert status.main(["runs/games/one", "runs/games/runs.csv"]) == 0
    assert "runs/games/one" in capsys.readouterr().out


@pytest.mark.parametrize("options", [["--commands", "--cost"], ["--watch", "--check"]])
def test_one_thing_at_a_time(capsys, options):
    grid = write_grid("one", "env", "Pong")
    assert "do different things; expected one of them" in refuse_status(capsys, grid, *options)


def test_a_live_table_needs_a_terminal(capsys):
    write_run(pathlib.Path("runs/one"))
    assert "no terminal" in refuse_status(capsys, "--watch")


@pytest.mark.slow
def test_watching_in_a_terminal_ends_with_the_last_table_on_it():
    write_run(pathlib.Path("runs/one"))
    process, terminal = pty.fork()
    if process == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # In the background of a shell it would be ignored.
        os.execv(sys.executable, [sys.executable, str(ROOT / "status.py"), "--watch"])
    said = b""
    while b"1 run:" not in said:
        said += os.read(terminal, 4096)
    os.write(terminal, b"\x03")
    with contextlib.suppress(OSError):  # the end
        while more := os.read(terminal, 4096):
            said += more
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    *_, head, row, last, _ = said.decode().splitlines()
    assert "steps/s" in head and "runs/one" in row and last == "1 run: 1 waiting" and "Traceback" not in said.decode()


# Before a grid is submitted


def test_every_row_is_judged_as_train_judges_it(capsys):
    write_run(pathlib.Path("runs/mixed/CartPole-v1-units=9-s1"), [(100, (1, 3))], units=9, gamma=0.5)
    grid = write_grid("mixed", "env,units,flicker,learning_starts", "CartPole-v1,8,,", "CartPole-v1,8,2,",
                      "CartPol-v1,8,,", "CartPole-v1,9,,", "Pong,8,,1e9")
    for name, columns, row, sentence in (
            ("small", "env,bufflen,learning_starts", "CartPole-v1,8,4", "--bufflen=8 holds 1 rows of 8 environments"),
            ("crafted", "env,network,num_envs", "AssaultCrafted-v0,PQN,32", "--sample=rollout draws from running")):
        assert status.main([str(write_grid(name, columns, row)), "--check"]) == 2
        assert sentence in capsys.readouterr().err
    assert status.main([str(grid), "--check"]) == 2
    first, *refused = capsys.readouterr().err.splitlines()
    assert first == "status.py: 4 of 5 rows would be refused:"
    starts = ["row 2, runs/mixed/CartPole-v1-flicker=2-units=8-s1: flag --flicker=2: ",
              "row 3, runs/mixed/CartPol-v1-units=8-s1: --env=CartPol-v1 is neither an ALE game nor",
              "row 4, runs/mixed/CartPole-v1-units=9-s1: runs/mixed/CartPole-v1-units=9-s1 holds a run with",
              "row 5, runs/mixed/Pong-learning_starts=1e9-units=8-s1: --learning_starts=1000000000 agent"]
    assert [line.startswith(start) for line, start in zip(refused, starts, strict=True)] == [True] * 4, refused
    assert status.main([str(write_grid("good", "env,units", "CartPole-v1,8", "Pong,8")), "--check"]) == 0
    assert capsys.readouterr().out == "train.py takes each of 2 rows.\n"
    assert not pathlib.Path("runs/good").exists()


@pytest.mark.parametrize("option", ["--check", "--cost", "--commands"])
def test_a_wrong_column_is_refused_at_once(capsys, option):
    said = refuse_status(capsys, write_grid("bad", "env,unit", "Pong,8"), option)
    assert said == ("status.py: bad.csv has the column unit, which is no flag of train.py; perhaps units or burn_in "
                    "is meant\n")


def test_what_a_grid_costs_is_said_by_row_and_in_all(capsys, monkeypatch):
    measured = []
    monkeypatch.setattr(cost, "measure_speed", lambda settings, run_dir, seconds: measured.append(
        (settings["env"], settings["units"], seconds)) or (10 if settings["units"] == 8 else 100))
    grid = write_grid("games", "env,units,maxsteps,seed", "Pong,8,100_000,", "Boxing,8,360_000,", "Pong,9,360_000,",
                      "Pong,9,7_200_000,2")
    write_checkpoint(pathlib.Path("runs/games/Boxing-units=8-s1"), 360_000)
    write_checkpoint(pathlib.Path("runs/games/Pong-units=9-s1"), 180_000)
    monkeypatch.setattr(status, "check_rows", lambda commands: {
        directory: settings.configure(command[2:]) for directory, command in commands.items()})
    assert status.main([str(grid), "--cost"]) == 0
    assert measured == [("Pong", 8, 30), ("Pong", 9, 30)]  # Games are equally fast.
    said, head, *rows, total = capsys.readouterr().out.splitlines()
    assert said == "train.py takes each of 4 rows."
    assert head.split() == "run agent steps left agent steps/s takes".split()
    assert [row.split() for row in rows] == [
        ["runs/games/Pong-units=8-s1", "100,000", "10", "2.8", "hours"],
        ["runs/games/Boxing-units=8-s1", "0", "10", "0", "minutes"],
        ["runs/games/Pong-units=9-s1", "180,000", "100", "30", "minutes"],
        ["runs/games/Pong-units=9-s2", "7,200,000", "100", "20.0", "hours"]]
    assert total.startswith("All rows take 23.3 hours on this machine, one after the other")
