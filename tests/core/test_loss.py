"""The temporal-difference loss by hand, on every backend."""

import numpy as np
import pytest
from keras import ops

import agent as agents
from helpers.windows import A, assert_same_arrays, make_agent, make_window, numpy_of, slice_window


class TableNetwork:
    """A network that looks up the Q-values of the number that fills a frame."""

    def __init__(self, table):
        self.table = ops.convert_to_tensor(np.array(table, np.float32))

    def __call__(self, frames, state, burn_in=0):
        return ops.take(self.table, ops.cast(frames[:, burn_in:, 0], "int32"), axis=0), state


# The first row of the window has the frames 0 to 3, the second row has 4 to 7.
# frame             0       1         2       3           4         5       6         7
ONLINE_TABLE = [[1, 2], [3, 4], [5, 6], [90, 91], [0, 1], [92, 93], [94, 95], [96, 97]]
TARGET_TABLE = [[80, 81], [2, 0.5], [3, 4], [100, 99], [82, 83], [1, 3], [84, 85], [86, 87]]


def numbered_window(**fields):
    """Return a window whose frames are filled with 0 to 7, for the tables above."""
    return make_window(
        2, 3, frames=np.arange(8, dtype=np.float32).reshape(2, 4, 1), action=np.array([[0, 1, 0], [1, 0, 0]], np.int32),
        reward=np.array([[1, -1, 0.5], [0, 0, 0]], np.float32),
        discount=np.array([[0.5, 0.5, 0], [0.5, 0.5, 0.5]], np.float32),
        **dict(mask=np.array([[1, 1, 1], [1, 0, 0]], np.float32)) | fields)


# y            = 1 + .5*2, -1 + .5*4, .5 (terminated, so the 100 has no effect); 0 + .5*3 = 2, 1, .5; 1.5
# q_tm1[a_tm1] = 1, 4, 5; 1
# td_error     = 1, -3, -4.5; .5
# huber errors .5, 2.5, 4, .125; half squares .5, 4.5, 10.125, .125; max q_tm1 2, 4, 6; 1
@pytest.mark.parametrize("error_loss, mask, loss, mean_q", [
    ("huber", [[1, 1, 1], [1, 0, 0]], 7.125 / 4, 13 / 4),
    ("mse", [[1, 1, 1], [1, 0, 0]], 15.25 / 4, 13 / 4),
    ("huber", [[1, 1, 0], [1, 0, 0]], 3.125 / 3, 7 / 3),  # the mean over all transitions, not the mean of row means
    ("mse", [[1, 1, 0], [1, 0, 0]], 5.125 / 3, 7 / 3),
    ("euclidean", [[1, 1, 1], [1, 0, 0]], 2 * 15.25 / 4, 13 / 4)])  # B = 2
def test_the_loss_equals_one_computed_by_hand(error_loss, mask, loss, mean_q):
    window = numbered_window(mask=np.array(mask, np.float32))
    actual, aux = agents.td_loss(TableNetwork(ONLINE_TABLE), TableNetwork(TARGET_TABLE), window, [], error_loss)
    assert float(actual) == pytest.approx(loss)
    assert float(aux["mean_q"]) == pytest.approx(mean_q)
    td_error = ops.convert_to_numpy(aux["td_error"])
    np.testing.assert_allclose(td_error[0], [1, -3, -4.5])
    assert td_error[1, 0] == 0.5


def test_the_target_network_sees_the_first_observation_before_it_judges_the_second():
    class Spy:
        def __call__(self, frames, state, burn_in=0):
            self.called = frames, state, burn_in
            return np.zeros((4, 3, A), np.float32), "next state"

    online, target, window = Spy(), Spy(), make_window(history=2)
    _, aux = agents.td_loss(online, target, window, "state", "huber")
    for (frames, state, burn_in), expected_frames, expected_burn_in in [
            (online.called, window.frames[:, :4], 0), (target.called, window.frames, 1)]:
        np.testing.assert_array_equal(frames, expected_frames)
        assert (state, burn_in) == ("state", expected_burn_in)
    assert aux["next_state"] == "next state"


@pytest.mark.parametrize("unroll, field, shape", [
    (1, "reward", (4,)), (1, "discount", (4,)), (1, "action", (4,)), (1, "mask", (4,)),
    (3, "reward", (4, 1)), (3, "discount", (4, 1)), (3, "action", (4, 1)), (3, "mask", (4, 1)),
    (3, "reward", (3,)), (3, "mask", (1, 3)), (3, "action", (1, 3))])
def test_shapes_that_would_broadcast_are_refused(unroll, field, shape):
    network = lambda frames, state, burn_in=0: (np.zeros((4, unroll, A), np.float32), state)
    window = make_window(4, unroll)
    agents.td_loss(network, network, window, [], "huber")
    misshapen = window._replace(**{field: np.ones(shape, getattr(window, field).dtype)})
    with pytest.raises(AssertionError, match="would broadcast"):
        agents.td_loss(network, network, misshapen, [], "huber")


def test_a_window_of_one_transition_is_textbook_dqn():
    online, target = (make_agent("DQN", seed=seed).online_network for seed in (0, 7))
    window = make_window(6, 1, history=4, discount=np.array([[0.9], [0], [0.9], [0.9], [0], [0.9]], np.float32))
    loss, _ = agents.td_loss(online, target, window, [], "mse")
    q_values = lambda network, frames: ops.convert_to_numpy(network(frames, [])[0])[:, 0]
    q, q_next = q_values(online, window.frames[:, 0:4]), q_values(target, window.frames[:, 1:5])
    expected = 0.0
    for b in range(6):
        bootstrap = 0.9 * max(q_next[b]) if b not in (1, 4) else 0.0
        expected += (window.reward[b, 0] + bootstrap - q[b, window.action[b, 0]]) ** 2 / 2 / 6
    assert float(loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("history", [1, 3])
def test_a_window_split_in_two_equals_one_long_unroll(history):
    online, target = make_agent(history=history).online_network, make_agent(history=history, seed=7).online_network
    window = make_window(4, 6, history, discount=np.zeros((4, 6), np.float32), reward=np.zeros((4, 6), np.float32))
    aux_of = lambda window, state: agents.td_loss(online, target, window, state, "huber")[1]
    long = aux_of(window, online.initial_state(4))
    before = aux_of(slice_window(window, 0, 2, history, True), online.initial_state(4))
    after = aux_of(slice_window(window, 2, 6, history, False), before["next_state"])
    td_errors = [ops.convert_to_numpy(part["td_error"]) for part in (before, after, long)]  # Targets are 0, so -q_tm1.
    np.testing.assert_allclose(np.concatenate(td_errors[:2], axis=1), td_errors[2], rtol=1e-5, atol=1e-6)
    assert_same_arrays(numpy_of(after["next_state"]), numpy_of(long["next_state"]), 1e-5)
