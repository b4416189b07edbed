"""The status of a run is told from the ends of its files, whatever they hold; test_status.py has the states."""

import pathlib

from launch.settings import check_settings

import pytest

from analysis import progress
from helpers.run_files import write_learn, write_run


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_path_too_long_for_the_file_system_is_one_damaged_row():
    pathlib.Path("runs").mkdir()
    too_long = progress.read_status(pathlib.Path("runs", "g" * 300), check_settings)
    assert too_long.state == "damaged" and "File name too long" in too_long.reason


def test_only_the_ends_of_long_files_are_read():
    run = write_run(pathlib.Path("runs/long"), [(100, (1, 2))], [(t, t / 100) for t in range(100, 110, 2)])
    rows = (run / "train.csv").read_text().splitlines()[1:]
    newest = "\n".join([*rows * 200, "9,9"]).encode()  # The last row is not whole yet.
    (run / "train.csv").write_bytes(b"no row\n" * 100_000 + newest)
    write_learn(run, *range(1000, 41_000, 1000))
    long = progress.read_status(run, check_settings)
    assert long.returns[-10:] == [1, 1.02, 1.04, 1.06, 1.08] * 2
    assert 400 < len(long.returns) < 800
    assert (long.speed, long.step, long.maxsteps, long.evaluation) == (250, 40_000, 300, 1.5)
    (run / "train.csv").write_text("a\nb\nc\n")
    damaged = progress.read_status(run, check_settings)
    assert damaged.state == "damaged" and damaged.reason.startswith("runs/long/train.csv is damaged")
