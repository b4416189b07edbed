"""Short runs, trained once, and evaluate.py beside copies of two of them."""

import functools
import shutil

import pytest

import evaluate
import rollout
import train
from helpers.evaluated_runs import CARTPOLE, PACMAN, train_small
from helpers.short_runs import NUM_ENVS, train_watched
from storage import checkpoints

# Files whose slow tests take minutes. CI's workers begin with them, so that none is left alone with a long file at the
# end. --no-loadscope-reorder keeps this order; pytest-xdist's own begins with the files that have most tests.
LONGEST = "test_kills test_slurm test_backends test_learning test_resume".split()


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Return a folder with two short runs, `cartpole` and `pacman`; tests only read them."""
    folder = tmp_path_factory.mktemp("runs")
    train_small([*CARTPOLE, "--weights_period=1"], folder / "cartpole")
    train_small(PACMAN, folder / "pacman")
    return folder


@pytest.fixture
def run_evaluate(trained, tmp_path, monkeypatch, capsys):
    """Copy the two runs to runs/ of an empty working directory; return a function that calls evaluate.main there.

    The function returns what was printed: standard output, or standard error where another exit code is expected.
    """
    for name in "cartpole", "pacman":
        shutil.copytree(trained / name, tmp_path / "runs" / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")  # As main sets it for films; the test undoes it.

    def call_main(*arguments, code=0):
        assert evaluate.main(list(arguments)) == code
        printed = capsys.readouterr()
        return printed.out if code == 0 else printed.err

    return call_main


@pytest.fixture(scope="module")
def small_periods():
    """Shorten the periods of learn.csv and of the replay's segments, so that short runs have several of each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "LEARN_PERIOD", 70)
        patch.setattr(checkpoints, "SEGMENT_TIMESTEPS", 16 * NUM_ENVS)
        yield


@pytest.fixture(scope="session")
def watched(tmp_path_factory):
    """Return a function from a network's name to its uninterrupted run, which is trained once per session."""
    return functools.cache(lambda network: train_watched(network, tmp_path_factory.mktemp(network)))


@pytest.fixture(scope="module", params=["DQN", "DRQN"])
def whole(request, small_periods, watched):
    """Return the uninterrupted run of each network, as `train_watched` returns it; tests only read it."""
    return watched(request.param)


@pytest.fixture
def again(whole, monkeypatch):
    """Return `whole`, and let the runs of this test seed their environments as often as `whole` did."""
    monkeypatch.setattr(rollout, "RESEED_PERIOD", whole["reseed_period"])
    return whole
