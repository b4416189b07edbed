"""Agents of a few units, and windows of random numbers for them."""

import functools

import numpy as np
from keras import ops

import agent as agents
import choices
from replay import Window

A = 4


@functools.cache
def build_agent(network, **settings):
    """Return a small agent and its first state; the same ones for the same arguments."""
    sizes = dict(frame_shape=(3,), num_actions=A, history=choices.NETWORKS[network].history, units=8)
    agent = agents.Agent(network, **sizes | settings)
    return agent, agent.get_state()


def make_agent(network="DRQN", seed=0, **settings):
    """Return an agent in its first state.

    Tests with the same settings share one agent, because compiling takes seconds.
    """
    agent, start = build_agent(network, seed=seed, **settings)
    agent.set_state(start)
    return agent


def make_window(batch_size=4, unroll=3, history=1, seed=0, **fields):
    """Return a Window of random numbers, nothing masked, first everywhere; `fields` replace these."""
    rng, shape = np.random.default_rng(seed), (batch_size, unroll)
    return Window(**dict(
        frames=rng.normal(size=(batch_size, unroll + history, 3)).astype(np.float32),
        action=rng.integers(A, size=shape, dtype=np.int32),
        reward=rng.normal(size=shape).astype(np.float32), discount=np.full(shape, 0.9, np.float32),
        mask=np.ones(shape, np.float32), first=np.ones(batch_size, bool)) | fields)


def slice_window(window, start, stop, history, first):
    """Cut transitions [start, stop) out of a window."""
    cut = {name: getattr(window, name)[:, start:stop] for name in ("action", "reward", "discount", "mask")}
    return Window(frames=window.frames[:, start:stop + history], first=np.full(len(window.first), first), **cut)


def weights_of(agent, owner="online"):
    """Return {name: array} of the variables of `online`, `target` or `optimizer`."""
    return {name: value for name, value in agent.get_state().items() if name.startswith(owner)}


def act_arguments(agent, num_envs=5, history=1, seed=0):
    """Return random frames and states for `agent.act` and `agent.q_values`, first nowhere."""
    rng = np.random.default_rng(seed)
    state = [rng.uniform(-1, 1, s.shape).astype(np.float32) for s in agent.initial_state(num_envs)]
    frames = rng.normal(size=(num_envs, history, 3)).astype(np.float32)
    return dict(frames=frames, state=state, first=np.zeros(num_envs, bool))


def assert_same_arrays(one, other, tolerance=0.0):
    """Assert that two {name: array} are equal, or close within a tolerance."""
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=tolerance, atol=tolerance, err_msg=name)


def arrays_differ(one, other):
    """Return whether any array of {name: array} differs from the array of that name in `other`."""
    return any((one[name] != other[name]).any() for name in one)


def numpy_of(tensors):
    """Return {position: array} of a list of tensors."""
    return {str(i): ops.convert_to_numpy(tensor) for i, tensor in enumerate(tensors)}
