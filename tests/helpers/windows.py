"""Agents of a few units, and windows of random numbers for them."""

import functools

import numpy as np
from keras import ops

import agent as agents
import models
from replay import Window

A = 4


@functools.cache
def build_agent(network, **settings):
    agent = agents.Agent(network, **dict(frame_shape=(3,), num_actions=A, history=models.NETWORKS[network].history, units=8) | settings)
    return agent, agent.get_state()


def make_agent(network="DRQN", seed=0, **settings):
    """Return an agent as new. Compiling takes seconds, so there is one for all tests of the same settings, put back to its start."""
    agent, start = build_agent(network, seed=seed, **settings)
    agent.set_state(start)
    return agent


def make_window(batch_size=4, unroll=3, history=1, seed=0, **fields):
    """A Window of random numbers, nothing masked, first everywhere, unless `fields` say otherwise."""
    rng, shape = np.random.default_rng(seed), (batch_size, unroll)
    return Window(**dict(
        frames=rng.normal(size=(batch_size, unroll + history, 3)).astype(np.float32), action=rng.integers(A, size=shape, dtype=np.int32),
        reward=rng.normal(size=shape).astype(np.float32), discount=np.full(shape, 0.9, np.float32),
        mask=np.ones(shape, np.float32), first=np.ones(batch_size, bool)) | fields)


def slice_window(window, start, stop, history, first):
    """Cut transitions [start, stop) out of a window."""
    cut = {name: getattr(window, name)[:, start:stop] for name in ("action", "reward", "discount", "mask")}
    return Window(frames=window.frames[:, start:stop + history], first=np.full(len(window.first), first), **cut)


def weights_of(agent, owner="online"):
    return {name: value for name, value in agent.get_state().items() if name.startswith(owner)}


def act_arguments(agent, num_envs=5, history=1, seed=0):
    rng = np.random.default_rng(seed)
    state = [rng.uniform(-1, 1, s.shape).astype(np.float32) for s in agent.initial_state(num_envs)]
    return dict(frames=rng.normal(size=(num_envs, history, 3)).astype(np.float32), state=state, first=np.zeros(num_envs, bool))


def assert_same_arrays(one, other, tolerance=0.0):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=tolerance, atol=tolerance, err_msg=name)


def numpy_of(tensors):
    return {str(i): ops.convert_to_numpy(tensor) for i, tensor in enumerate(tensors)}
