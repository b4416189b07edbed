"""Short runs, trained once, and evaluate.py beside copies of two of them."""

import functools
import shutil

import pytest
from helpers.played import CARTPOLE, PACMAN, train_small
from helpers.short_runs import NUM_ENVS, go_and_watch

import evaluate
import rollout
import train
from storage import checkpoints


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Return a folder with the directories of two short runs."""
    folder = tmp_path_factory.mktemp("runs")
    train_small([*CARTPOLE, "--weights_period=1"], folder / "cartpole")
    train_small(PACMAN, folder / "pacman")
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


@pytest.fixture(scope="module")
def small_periods():
    """Make every period of a run happen within a few hundred agent steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "LEARN_PERIOD", 70)
        patch.setattr(checkpoints, "SEGMENT_TIMESTEPS", 16 * NUM_ENVS)
        yield


@pytest.fixture(scope="session")
def watched(tmp_path_factory):
    """Return a function of the network: an uninterrupted run of it, of which there is one."""
    return functools.cache(lambda network: go_and_watch(network, tmp_path_factory.mktemp(network)))


@pytest.fixture(scope="module", params=["DQN", "DRQN"])
def whole(request, small_periods, watched):
    """An uninterrupted run of each network: what go_and_watch returns, to be read and left as it is."""
    return watched(request.param)


@pytest.fixture
def again(whole, monkeypatch):
    """Whatever runs in this test starts its environments anew as often as `whole` did."""
    monkeypatch.setattr(rollout, "RESEED_PERIOD", whole["reseed_period"])
    return whole
