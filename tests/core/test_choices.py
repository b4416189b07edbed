"""The tables that flags choose from: every name in them is one of Keras, or of models.py."""

import keras
import pytest

import agent
import choices
import models


@pytest.mark.parametrize("name", choices.NETWORKS)
def test_a_network_names_a_core_and_how_it_is_trained(name):
    network = choices.NETWORKS[name]
    assert network.core in models.CORES and network.head in models.HEADS
    assert network.sample in ("timestep", "episode", "sequential", "rollout", "priority")
    assert network.history >= 1 and network.unroll >= 1
    assert [len(convolution) for convolution in network.torso] == [3] * len(network.torso)


@pytest.mark.parametrize("name", choices.OPTIMIZERS)
def test_an_optimizer_is_one_of_keras_by_its_name(name):
    optimizer, options = choices.OPTIMIZERS[name]
    assert issubclass(getattr(keras.optimizers, optimizer), keras.optimizers.Optimizer) and options["learning_rate"] > 0


@pytest.mark.parametrize("optimizer", ["Lion", keras.optimizers.Lion])
def test_an_optimizer_is_given_by_its_name_or_as_a_class(optimizer, monkeypatch):
    monkeypatch.setitem(choices.OPTIMIZERS, "new", (optimizer, dict(learning_rate=0.25)))
    made = agent.Agent("DRQN", (3,), 2, history=1, units=4, optimizer="new").optimizer
    assert type(made) is keras.optimizers.Lion and float(made.learning_rate) == 0.25
