"""A lock keeps other processes away, and where there are none, that is an error of the operating system."""

import subprocess
import sys

import pytest

from helpers.short_runs import ROOT
from storage import locks

TRY = """
import sys
from storage import locks
try:
    with open(sys.argv[1], "r+b") as file:
        locks.lock(file, shared=sys.argv[2] == "shared")
    print("locked")
except (BlockingIOError, PermissionError):
    print("refused")
"""


@pytest.mark.parametrize("held, wanted, answer", [
    ("shared", "shared", "locked"), ("shared", "exclusive", "refused"), ("exclusive", "shared", "refused"),
    ("exclusive", "exclusive", "refused"), (None, "exclusive", "locked")])
def test_a_lock_keeps_other_processes_away(held, wanted, answer, tmp_path):
    (tmp_path / "lock").write_text("process 1")
    with open(tmp_path / "lock", "r+b") as file:
        if held:
            locks.lock(file, shared=held == "shared")
        done = subprocess.run([sys.executable, "-c", TRY, tmp_path / "lock", wanted], cwd=ROOT, capture_output=True,
                              text=True)
    assert (done.stdout, done.stderr) == (f"{answer}\n", "")
    assert (tmp_path / "lock").read_text() == "process 1"  # Who looks changes nothing.


def test_a_system_without_fcntl_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)
    with open(tmp_path / "lock", "wb") as file, pytest.raises(OSError, match="this system has no fcntl"):
        locks.lock(file)
