"""The tables that flags choose from: every name in them is one of Keras, or of models.py."""

import sys

import keras
import numpy as np
import pytest
from keras import ops

import agent
import choices
import models
from helpers.run_files import write_run


@pytest.mark.parametrize("name", choices.NETWORKS)
def test_a_network_names_a_core_and_how_it_is_trained(name):
    network = choices.NETWORKS[name]
    assert network.core in models.CORES and network.head in models.HEADS
    assert network.sample in ("timestep", "episode", "sequential", "rollout", "priority")
    assert network.history >= 1 and network.unroll >= 1
    assert [len(convolution) for convolution in network.torso] == [3] * len(network.torso)


@pytest.mark.parametrize("name", models.CORES)
def test_cores_without_memory_are_named(name):
    assert (not models.CORES[name](4, "float32").state_sizes) == (name in choices.WITHOUT_MEMORY)


@pytest.mark.parametrize("name", choices.OPTIMIZERS)
def test_an_optimizer_is_one_of_keras_by_its_name(name):
    optimizer, options = choices.OPTIMIZERS[name]
    assert issubclass(getattr(keras.optimizers, optimizer), keras.optimizers.Optimizer) and options["learning_rate"] > 0


@pytest.mark.parametrize("optimizer", ["Lion", keras.optimizers.Lion])
def test_an_optimizer_is_given_by_its_name_or_as_a_class(optimizer, monkeypatch):
    monkeypatch.setitem(choices.OPTIMIZERS, "new", (optimizer, dict(learning_rate=0.25)))
    made = agent.Agent("DRQN", (3,), 2, history=1, units=4, optimizer="new").optimizer
    assert type(made) is keras.optimizers.Lion and float(made.learning_rate) == 0.25


# A user's own


@pytest.fixture
def module_of_parts(tmp_path, monkeypatch):
    """Write a module with a network, an optimizer and a loss, and what is none of these; it is gone afterwards."""
    (tmp_path / "made_parts.py").write_text("""
import choices
Wide = choices.NETWORKS["DQN"]._replace(torso=((8, 8, 4),), history=3)
lion = ("Lion", dict(learning_rate=0.5))
lyon = ("Lion", dict())
cubic = lambda td_error, ops: ops.abs(td_error)**3
""")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("made_parts", None)


def test_parts_of_a_users_module_are_found_by_name(module_of_parts):
    made = agent.Agent("made_parts:Wide", (84, 84), 2, history=3, units=4, optimizer="made_parts:lion",
                       loss="made_parts:cubic")
    kernels = [tuple(w.shape) for w in made.online_network.torso.weights if len(w.shape) > 1]
    assert kernels == [(8, 8, 3, 8)] and type(made.optimizer) is keras.optimizers.Lion
    assert float(made.optimizer.learning_rate) == 0.5
    error = ops.convert_to_tensor(np.float32([[-2, 1]]))
    np.testing.assert_allclose(choices.find("loss", made.error_loss)(error, ops), [[8, 1]])


@pytest.mark.parametrize("flag, name, sentence", [
    ("network", "made_parts:Wid", "--network=made_parts:Wid: the module made_parts has no Wid; expected Wide"),
    ("loss", "made_parts:quad", "--loss=made_parts:quad: the module made_parts has no quad; expected cubic"),
    ("network", "made_parts:lion", "--network=made_parts:lion is tuple; expected a choices.Network, as in choices.py"),
    ("optimizer", "made_parts:lyon", "--optimizer=made_parts:lyon is tuple; expected (class or its name, dict with a "
                                     "learning_rate), as in choices.py"),
    ("loss", "made_parts:Wide", "--loss=made_parts:Wide is Network; expected a function (td_error, ops) -> errors, as "
                                "in choices.py"),
    ("loss", "no_parts:a", "--loss=no_parts:a cannot be used: there is no module no_parts; PYTHONPATH=FOLDER names the "
                           "folder that has it, or, of a package: pip install no_parts")])
def test_what_is_no_part_is_refused_with_what_is_expected(module_of_parts, flag, name, sentence):
    with pytest.raises(ValueError) as error:
        choices.find(flag, name)
    assert str(error.value) == sentence


def test_code_of_a_run_is_no_part(tmp_path, monkeypatch):
    run = write_run(tmp_path / "received")
    (run / "payload.py").write_text("import pathlib\npathlib.Path(__file__).with_suffix('.ran').touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="the module received.payload is not imported, since .* lies in the run"):
        choices.find("network", "received.payload:Network")
    assert not (run / "payload.ran").exists()
