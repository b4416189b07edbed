"""Targets of the loss: Peng's Q(lambda), no target network, double Q-learning; by hand, and against plain loops."""

import keras
import numpy as np
import pytest
from keras import ops

import agent as agents
import choices
from helpers.windows import A, make_agent, make_window

numpy = ops.convert_to_numpy


def targets_of(reward, discount, mask, v, trace_decay):
    """Return the targets of one window as a list."""
    given = [np.array([values], np.float32) for values in (reward, discount, mask, v)]
    return numpy(agents.q_lambda(*given, trace_decay))[0].tolist()


# By hand: rewards 1 2 4, values 10 20 30, gamma .5, lambda .5.


def test_a_window_without_an_end():
    # y3 = 4 + .5 30 = 19; y2 = 2 + .5 (.5 20 + .5 19) = 11.75; y1 = 1 + .5 (.5 10 + .5 11.75) = 6.4375.
    assert targets_of([1, 2, 4], [0.5] * 3, [1, 1, 1], [10, 20, 30], 0.5) == [6.4375, 11.75, 19]


def test_lambda_zero_is_the_one_step_target():
    assert targets_of([1, 2, 4], [0.5] * 3, [1, 1, 1], [10, 20, 30], 0) == [6, 12, 19]


def test_a_return_does_not_leak_over_a_termination():
    # Transition 2 terminates; row 3 resets; then another episode with a reward of 100.
    y = targets_of([1, 2, 0, 100], [0.5, 0, 0.5, 0.5], [1, 1, 0, 1], [10, 20, 30, 40], 0.5)
    assert y[1] == 2  # and not 2 + .5 * .5 * something of the next episode
    assert y[0] == 1 + 0.5 * (0.5 * 10 + 0.5 * 2) and y[3] == 120


def test_a_return_bootstraps_at_a_truncation_and_does_not_go_on():
    # Transition 2 is truncated, so its discount stays; row 3 resets, and is masked.
    y = targets_of([1, 2, 7, 100], [0.5] * 4, [1, 1, 0, 1], [10, 20, 30, 40], 0.5)
    assert y[1] == 2 + 0.5 * 20  # from the final observation alone; published code takes .5 * y[2] of the reset row.
    assert y[0] == 1 + 0.5 * (0.5 * 10 + 0.5 * 12)


def test_padding_ends_a_return_as_the_window_does():
    padded = targets_of([1, 2, 0, 0], [0.5, 0.5, 0, 0], [1, 1, 0, 0], [10, 20, 0, 0], 0.5)
    assert padded[:2] == targets_of([1, 2], [0.5] * 2, [1, 1], [10, 20], 0.5)


def test_lambda_one_is_the_discounted_return_of_a_finished_episode():
    rng, gamma, T = np.random.default_rng(0), 0.9, 7
    reward, v = rng.normal(size=T), rng.normal(size=T)
    y = targets_of(reward, [gamma] * (T - 1) + [0], [1] * T, v, 1)
    np.testing.assert_allclose(y, [sum(gamma**(k - t) * reward[k] for k in range(t, T)) for t in range(T)], rtol=1e-5)


def plain_loop(reward, discount, mask, v, trace_decay):
    """Peng's Q(lambda) of one window, forward: a mixture of n-step returns, which end where the next is masked."""
    T, y = len(reward), []
    for t in range(T):
        last = t
        while last + 1 < T and mask[last + 1]:
            last += 1
        total, product, value = 0.0, 1.0, 0.0
        for k in range(t, last + 1):
            total += product * reward[k]
            product *= discount[k]
            weight = (1 - trace_decay) * trace_decay**(k - t) if k < last else trace_decay**(k - t)
            value += weight * (total + product * v[k])
        y.append(value)
    return y


@pytest.mark.parametrize("trace_decay", [0, 0.3, 0.65, 1])
def test_the_backward_recursion_is_the_mixture_of_n_step_returns(trace_decay):
    rng = np.random.default_rng(1)
    for _ in range(20):
        mask = (rng.random(9) < 0.7).astype(float)
        discount = np.where(rng.random(9) < 0.2, 0, 0.95)
        reward, v = rng.normal(size=(2, 9))
        np.testing.assert_allclose(targets_of(reward, discount, mask, v, trace_decay),
                                   plain_loop(reward, discount, mask, v, trace_decay), rtol=1e-4, atol=1e-5)


# In the loss


class Table:
    """A network that looks up Q-values [A] by a frame's number; its state counts the frames that it has gone over."""

    def __init__(self, table):
        self.table = np.array(table, np.float32)

    def __call__(self, frames, state, firsts=None, burn_in=0):
        q = ops.take(ops.convert_to_tensor(self.table), ops.cast(frames[..., 0], "int32"), axis=0)
        return q[:, burn_in:], state


def window_of(numbers, **fields):
    T = len(numbers) - 1
    frames = np.array(numbers, np.float32)[None, :, None]
    ones = np.ones((1, T), np.float32)
    return make_window(1, T)._replace(frames=frames, action=np.zeros((1, T), np.int32), reward=ones, discount=ones / 2,
                                      mask=ones, **fields)


ONLINE, TARGET = Table([[1, 5], [3, 2], [8, 9]]), Table([[0, 0], [10, 20], [40, 30]])


@pytest.mark.parametrize("target, double, v", [
    (TARGET, False, [20, 40]),  # the largest of the target network
    (TARGET, True, [10, 30]),  # the target's value of what the online network chooses: actions 0 and 1
    (None, False, [3, 9]),  # the online network's own
])
def test_whose_value_counts(target, double, v):
    _, aux = agents.td_loss(ONLINE, target, window_of([0, 1, 2]), [], "mse", double=double)
    assert numpy(aux["td_error"]).tolist() == [[1 + 0.5 * v[0] - 1, 1 + 0.5 * v[1] - 3]]


def test_lambda_reaches_the_loss():
    _, aux = agents.td_loss(ONLINE, TARGET, window_of([0, 1, 2]), [], "mse", trace_decay=0.5)
    y2 = 1 + 0.5 * 40
    assert numpy(aux["td_error"]).tolist() == [[1 + 0.5 * (0.5 * 20 + 0.5 * y2) - 1, y2 - 3]]


def test_values_are_rescaled_by_hand():
    # h(3) = sqrt(4) - 1 + .003, h(-8) = -(sqrt(9) - 1) - .008
    assert numpy(agents.scale_value(np.float32([0, 3, -8, 99]))).tolist() == pytest.approx([0, 1.003, -2.008, 9.099])
    values = np.float32([-500, -8, -0.5, 0, 0.5, 3, 99, 500])
    np.testing.assert_allclose(numpy(agents.unscale_value(agents.scale_value(values))), values, rtol=1e-4, atol=1e-6)


def test_small_values_are_rescaled_exactly():
    """In float32 a square root minus 1 loses what is near 0."""
    values = np.float32([-1e-2, -1e-5, 1e-7, 1e-5, 1e-3])
    exact = np.sign(values) * (np.sqrt(np.abs(values).astype(np.float64) + 1) - 1) + 1e-3 * values.astype(np.float64)
    np.testing.assert_allclose(numpy(agents.scale_value(values)), exact, rtol=1e-6)
    np.testing.assert_allclose(numpy(agents.unscale_value(exact.astype(np.float32))), values, atol=1e-6)


def test_a_rescaled_target_is_h_of_the_return_of_unscaled_values():
    target = Table([[0, 0], [0, agents.scale_value(20.0)], [agents.scale_value(40.0), 0]])
    _, aux = agents.td_loss(ONLINE, target, window_of([0, 1, 2]), [], "mse", trace_decay=0.5, rescale=True)
    y2 = 1 + 0.5 * 40
    y1 = 1 + 0.5 * (0.5 * 20 + 0.5 * y2)
    expected = [[float(agents.scale_value(np.float32(y))) - q for y, q in ((y1, 1), (y2, 3))]]
    np.testing.assert_allclose(numpy(aux["td_error"]), expected, rtol=1e-3)


@pytest.mark.parametrize("network", ["DQN", "DRQN", "PQN", "PQN_LSTM"])
def test_no_gradient_flows_through_the_value_of_a_network_that_is_its_own_target(network, monkeypatch):
    """The update equals that of a target network with the same weights."""
    monkeypatch.setitem(choices.OPTIMIZERS, "sgd", (keras.optimizers.SGD, dict(learning_rate=1.0)))
    window = make_window(history=make_agent(network).online_network.history)
    learned = []
    for target_network in (True, False):
        agent = make_agent(network, optimizer="sgd", clip_norm=0.0, target_network=target_network)
        agent.learn(window)
        learned.append([numpy(weight) for weight in agent.online_network.weights])
    for one, other in zip(*learned):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_without_a_target_network_a_checkpoint_holds_one_network():
    one, two = (make_agent("DRQN", target_network=target_network).get_state() for target_network in (False, True))
    assert not any(name.startswith("target") for name in one)
    assert {name for name in two if not name.startswith("target")} == set(one)


@pytest.mark.parametrize("network", ["DQN", "DRQN"])
def test_double_equals_a_loop_over_observations(network):
    agent = make_agent(network, double=True)
    agent.set_state({name: value + 0.1 * name.startswith("target") for name, value in agent.get_state().items()})
    window = make_window(history=agent.online_network.history)
    state = agent.initial_state(4)
    online, _ = agent.online_network(window.frames, state)
    target, _ = agent.target_network(window.frames, state)
    chosen = numpy(online)[:, 1:].argmax(-1)
    v = np.take_along_axis(numpy(target)[:, 1:], chosen[..., None], -1)[..., 0]
    q_a_tm1 = np.take_along_axis(numpy(online)[:, :-1], window.action[..., None], -1)[..., 0]
    expected = window.reward + window.discount * v - q_a_tm1
    networks = agent.online_network, agent.target_network
    _, aux = agents.td_loss(*networks, window, state, "huber", double=True)
    np.testing.assert_allclose(numpy(aux["td_error"]), expected, atol=1e-5)
    assert A == 4
