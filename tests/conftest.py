"""Two short runs, trained once, and evaluate.py beside copies of them."""

import shutil

import pytest
from played import CARTPOLE, PACMAN, make_run

import evaluate


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Return a folder with the directories of two short runs."""
    folder = tmp_path_factory.mktemp("runs")
    make_run([*CARTPOLE, "--weights_period=1"], folder / "cartpole")
    make_run(PACMAN, folder / "pacman")
    return folder


@pytest.fixture
def go(trained, tmp_path, monkeypatch, capsys):
    """Return a function that calls evaluate.main in an empty folder beside copies of the two runs; it returns what was said."""
    for name in "cartpole", "pacman":
        shutil.copytree(trained / name, tmp_path / "runs" / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")  # as main sets it for films, but only as long as the test

    def call(*arguments, code=0):
        assert evaluate.main(list(arguments)) == code
        said = capsys.readouterr()
        return said.out if code == 0 else said.err

    return call
