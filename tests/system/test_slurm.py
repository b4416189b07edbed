"""The batch scripts of slurm/ train to the end, go on after every stop, and run grids, on a cluster of one node."""

import csv
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

from launch.settings import check_settings

import pytest

from analysis import progress
from helpers.cluster import cluster, wait_until
from helpers.short_runs import assert_same_runs
from storage import grids, layout, reading, training

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

ROOT = pathlib.Path(__file__).parents[2]
ATARI = """--maxsteps=3000 --units=16 --num_envs=4 --bufflen=3000 --batch_size=4 --unroll=3 --flicker=0.5
    --learning_starts=200 --update_period=16 --target_period=500 --eval_period=1500 --eval_episodes=2
    --max_episode_frames=400 --checkpoint_period=600""".split()
CARTPOLE = """--units=8 --bufflen=3000 --batch_size=4 --learning_starts=200 --update_period=8 --eval_period=500
    --eval_episodes=2 --checkpoint_period=1000 --max_episode_frames=100""".split()
GRID = """env,network,flagfile,flicker,maxsteps,seed,learning_rate
CartPole-v1,DQN,tiny.flags,,2000,,
CartPole-v1,DQN,tiny.flags,,2000,,1e30
CartPole-v1,DQN,tiny.flags,0.5,12000,1,
CartPole-v1,DRQN,tiny.flags,0.5,8000,1,
"""  # The second one fails.


class Slurm:
    """The commands of Slurm in a directory with the files of this repository."""

    def __init__(self, environ, repository):
        self.environ, self.repository = environ, repository

    def __call__(self, *command):
        done = subprocess.run(list(map(str, command)), cwd=self.repository, env=self.environ, capture_output=True,
                              text=True)
        assert done.returncode == 0, done
        return done.stdout.strip()

    def sbatch(self, *command):
        return self("sbatch", "--parsable", *command)

    def job(self, job):
        """Return what the controller knows of a job."""
        return dict(re.findall(r"(\S+?)=(\S*)", self("scontrol", "--oneliner", "show", "job", job).splitlines()[0]))

    def log(self, job):
        path = self.repository / f"slurm-{job}.out"
        return path.read_text() if path.exists() else ""

    def state_at_the_end(self, job):
        """Wait until a job is over, and return its state."""
        over = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}
        return wait_until(lambda: {self.job(job)["JobState"]} & over, lambda: f"{self.job(job)} {self.log(job)}").pop()

    def wait_until_begun(self, run):
        """Wait until a run has learned for 1,000 agent steps."""
        path = layout.csv_path(run, "learn")
        steps = lambda: [int(line.split(",")[0]) for line in training.read_last_lines(path)[1:]]
        wait_until(lambda: max(steps(), default=0) >= 1000, lambda: run)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    repository = tmp_path_factory.mktemp("repository")
    rooms = [path.parent for path in ROOT.glob("*/__init__.py")]
    for path in [*ROOT.glob("*.py"), *rooms, ROOT / "presets", ROOT / "paper"]:
        (repository / path.name).symlink_to(path)
    shutil.copytree(ROOT / "slurm", repository / "slurm", symlinks=True)
    (repository / ".venv").symlink_to(sys.prefix)
    with cluster() as environ:
        yield Slurm(environ, repository)


@pytest.fixture(scope="module")
def whole_job(slurm):
    """An uninterrupted run: its job and its directory."""
    job = slurm.sbatch("--gres=none", "slurm/drqn.sh", "--env=Breakout", *ATARI, "--run_dir=whole")
    slurm.state_at_the_end(job)
    return job, slurm.repository / "whole"


def test_a_job_trains_to_the_end_and_is_not_queued_again(slurm, whole_job):
    job, run = whole_job
    about = slurm.job(job)
    assert (about["JobState"], about["ExitCode"], about["Restarts"]) == ("COMPLETED", "0:0", "0"), slurm.log(job)
    assert "TresPerNode" not in about  # --gres=none: sbatch's own command line wins.
    settings = reading.read_config(run)["settings"]
    assert (settings["env"], settings["network"]) == ("Breakout", "DRQN")  # So does the last of two flags.
    assert progress.read_status(run, check_settings).state == "done" and reading.read_saved_counts(run)[0] >= 3000


def test_the_doctor_finds_the_partition_and_its_gpus(slurm):
    assert "ok       Slurm      GPUs in main" in slurm("bash", "-c", ".venv/bin/python doctor.py || true")


def test_the_warning_before_the_time_limit_saves_and_queues_again(slurm, whole_job):
    job = slurm.sbatch("slurm/drqn.sh", "--env=Breakout", *ATARI, "--run_dir=warned")
    assert slurm.job(job)["TresPerNode"] == "gres:gpu:1"
    run = slurm.repository / "warned"
    slurm.wait_until_begun(run)
    assert progress.read_status(run, check_settings).state == "running"
    slurm("scancel", "--batch", "--signal=USR1", job)  # as --signal=B:USR1@300 does
    assert slurm.state_at_the_end(job) == "COMPLETED", slurm.log(job)
    assert slurm.job(job)["Restarts"] == "1"
    pattern = r"Stopped at agent step (\S+),.*Going on at agent step (\S+) of"
    stopped, again = re.search(pattern, slurm.log(job), re.S).groups()
    assert stopped == again and 1000 <= int(again.replace(",", "")) < 3000
    assert_same_runs(whole_job[1], run)


def test_a_requeued_and_then_a_killed_job_lose_nothing(slurm, whole_job):
    command = "slurm/drqn.sh", "--env=Breakout", *ATARI, "--run_dir=killed"
    job, run = slurm.sbatch(*command), slurm.repository / "killed"
    slurm.wait_until_begun(run)
    slurm("scontrol", "requeue", job)
    wait_until(lambda: "Going on at agent step" in slurm.log(job), lambda: slurm.log(job))
    for pid in map(int, re.findall(r"^\d+", slurm("scontrol", "listpids", job), re.M)):
        if b"train.py" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
            os.kill(pid, signal.SIGKILL)
    assert slurm.state_at_the_end(job) == "FAILED" and reading.read_saved_counts(run)[0] < 3000
    assert progress.read_status(run, check_settings).state == "waiting"
    job = slurm.sbatch(*command)
    assert slurm.state_at_the_end(job) == "COMPLETED" and "Going on at agent step" in slurm.log(job), slurm.log(job)
    assert_same_runs(whole_job[1], run)


def test_dqn_is_the_same_script_by_another_name(slurm):
    job = slurm.sbatch("slurm/dqn.sh", *ATARI, "--maxsteps=300", "--run_dir=dqn")
    assert slurm.state_at_the_end(job) == "COMPLETED", slurm.log(job)
    settings = reading.read_config(slurm.repository / "dqn")["settings"]
    assert (settings["env"], settings["network"], settings["maxsteps"]) == ("Frostbite", "DQN", 300)


def read_states(text):
    """Return the states of the rows in a table of status.py."""
    return [line.split()[1] for line in text.splitlines()
            if line.startswith("runs/grid/") and " / " in line or "  failed  " in line]


def test_a_grid_goes_through_slurm_and_on_without_it(slurm):
    (slurm.repository / "tiny.flags").write_text("\n".join(CARTPOLE))
    grid = slurm.repository / "grid.csv"
    grid.write_text(GRID)
    one, _, cancelled, last = [slurm.repository / directory for directory in grids.read_grid(grid)]
    said = slurm("slurm/grid.sh", "grid.csv", "-j", "3", "--gres=none")
    assert "train.py takes each of 4 rows.\n" in said and "All rows take " in said
    array, results = re.search(r"^Jobs (\d+) .* and (\d+) ", said, re.M).groups()
    assert slurm.job(array)["ArrayTaskThrottle"] == "3"
    slurm.wait_until_begun(cancelled)
    slurm("scancel", f"{array}_3")
    slurm.wait_until_begun(last)
    slurm("scancel", "--batch", "--signal=USR1", f"{array}_4")
    assert slurm.state_at_the_end(results) == "COMPLETED", slurm.log(results)
    tasks = [slurm.job(f"{array}_{task}") for task in (1, 2, 3, 4)]
    assert [(task["JobState"], task["Restarts"]) for task in tasks] == [
        ("COMPLETED", "0"), ("FAILED", "0"), ("CANCELLED", "0"), ("COMPLETED", "1")]
    log = slurm.log(results)
    # The job of the results waited for the row that was queued again.
    assert read_states(log) == ["done", "failed", "waiting", "done"], log
    assert "train.py: the loss or its gradient became non-finite" in log
    for run in one, cancelled, last:
        assert (run / "episodes-best.csv").read_text().count("\n") == 31
        assert (run / "observability.csv").read_text().count("\n") > 100  # 10 probabilities of 10 episodes
    curves = slurm.repository / "runs/grid/curves.png"
    assert curves.exists() and curves.with_name("observability.png").exists()
    table = csv.DictReader(curves.with_name("runs.csv").read_text().splitlines())
    assert [(row["agent"][:4], float(row["flicker"]), row["unfinished"]) for row in table] == [
        ("DQN,", 0, "0"), ("DRQN", 0.5, "0"), ("DQN,", 0.5, "1")]  # The cancelled one is in the table, and marked.

    curves.unlink()
    scored = (one / "episodes-best.csv").stat().st_mtime_ns
    rows = (one / "train.csv").read_text()
    said = slurm("slurm/grid_local.sh", "grid.csv", "-j", "2")
    assert read_states(said) == ["done", "failed", "done", "done"], said
    assert "Going on at agent step" in (cancelled.parent / f"{cancelled.name}.log").read_text()
    assert (one / "train.csv").read_text() == rows  # A row that is done is left alone, and so are its scores.
    assert curves.exists() and (one / "episodes-best.csv").stat().st_mtime_ns == scored


def test_an_interrupted_grid_saves_its_runs_and_begins_no_more(slurm):
    grid = slurm.repository / "interrupted.csv"
    grid.write_text("env,maxsteps,seed,units\n" + "".join(f"CartPole-v1,100000000,{seed},8\n" for seed in (1, 2, 3)))
    one, two, three = [slurm.repository / directory for directory in grids.read_grid(grid)]
    process = subprocess.Popen(["slurm/grid_local.sh", grid, "-j", "2"], cwd=slurm.repository, start_new_session=True)
    slurm.wait_until_begun(one)
    slurm.wait_until_begun(two)
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
    assert process.wait() != 0
    for run in one, two:
        assert layout.log_path(run).read_text().endswith("exit code 130\n")
        assert reading.read_saved_counts(run)[0] >= 1000
    assert not three.exists() and not (grid.parent / "runs/interrupted/curves.png").exists()
