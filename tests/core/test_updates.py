"""Updates of the agent: states, masks, weights and optimizers, on every backend; test_loss.py has the loss."""

import keras
import numpy as np
import pytest
from keras import ops

import agent as agents
import choices
from helpers.windows import (
    A,
    arrays_differ,
    assert_same_arrays,
    make_agent,
    make_window,
    numpy_of,
    slice_window,
    weights_of,
)
from replay import Replay


@pytest.fixture
def sgd_optimizer(monkeypatch):
    """Add the optimizer `sgd`, which subtracts the gradient from the weights."""
    monkeypatch.setitem(choices.OPTIMIZERS, "sgd", (keras.optimizers.SGD, dict(learning_rate=1.0)))


@pytest.fixture
def frozen_optimizer(monkeypatch):
    """Add the optimizer `frozen`, which never moves the weights."""
    monkeypatch.setitem(choices.OPTIMIZERS, "frozen", (keras.optimizers.SGD, dict(learning_rate=0.0)))


def test_learning_carries_the_state_over_rows_that_are_not_first(frozen_optimizer):
    agent, window = make_agent(optimizer="frozen", loss="mse"), make_window(unroll=6)
    _, aux = agents.td_loss(agent.online_network, agent.target_network, window, agent.initial_state(4), "mse")
    errors = ops.convert_to_numpy(aux["td_error"])  # of one unroll over both windows
    before = float(agent.learn(slice_window(window, 0, 3, 1, True))["loss"])
    after = float(agent.learn(slice_window(window, 3, 6, 1, False))["loss"])
    assert before == pytest.approx((errors[:, :3] ** 2).mean() / 2, rel=1e-5)
    assert after == pytest.approx((errors[:, 3:] ** 2).mean() / 2, rel=1e-5)


def test_learning_forgets_the_state_of_rows_that_are_first(frozen_optimizer):
    one, two = make_window(seed=1), make_window(seed=2)
    agent = make_agent(optimizer="frozen", loss="mse")
    fresh, _, again = (float(agent.learn(window)["loss"]) for window in (two, one, two))
    assert again == fresh
    carried = float(agent.learn(two._replace(first=np.zeros(4, bool)))["loss"])
    assert carried != fresh


def make_lanes(history, changed=None):
    """Return a sequential replay of four environments and windows of 3 transitions.

    Their episodes have 11; 4 and 6; 9 and 1; and 11 transitions. Frames are random numbers. `changed` names an
    environment that gets other frames.
    """
    replay, rng = Replay(48, 4, (3,), np.float32, history, 3, "sequential", 0), np.random.default_rng(1)
    for row in range(12):
        frame, other = rng.normal(size=(2, 4, 3))
        if changed is not None:
            frame[changed] = other[changed]
        first = np.array([row == 0, row in (0, 5), row in (0, 10), row == 0])
        replay.append(frame, rng.integers(A, size=4), rng.normal(size=4), np.full(4, 0.9), first)
    return replay


@pytest.mark.parametrize("history", [1, 3])
def test_updates_along_lanes_equal_one_long_unroll_of_each_episode(frozen_optimizer, history):
    agent, replay = make_agent(history=history, optimizer="frozen", loss="mse"), make_lanes(history)
    walked = [None] * 5  # the frames of each lane's episode so far
    agent.set_state({name: value + 0.1 * name.startswith("target") for name, value in agent.get_state().items()})
    windows = [replay.sample(5) for _ in range(7)]
    for window in windows:
        loss, squares = float(agent.learn(window)["loss"]), []
        for lane in range(5):
            frames, first = window.frames[lane], window.first[lane]
            walked[lane] = frames if first else np.concatenate([walked[lane], frames[history:]])
            zero = agent.initial_state(1)
            before = zero if first else agent.online_network(walked[lane][None, :-4], zero)[1]
            q_tm1, after = agent.online_network(walked[lane][None, :-1], zero)
            q_t, _ = agent.target_network(frames[None], before)  # The target network starts from the online state.
            y = window.reward[lane] + window.discount[lane] * ops.convert_to_numpy(q_t)[0, 1:].max(axis=-1)
            q_a_tm1 = ops.convert_to_numpy(q_tm1)[0, -3:][range(3), window.action[lane]]
            squares.append(window.mask[lane] * (y - q_a_tm1) ** 2)
            state = agent.get_state()
            for i in range(2):
                carried, expected = state[f"window_state/{i}"][lane], numpy_of(after)[str(i)][0]
                np.testing.assert_allclose(carried, expected, rtol=1e-4, atol=1e-5)
        assert loss == pytest.approx(np.sum(squares) / 2 / window.mask.sum(), rel=1e-4)
    first, full = (np.array([getattr(window, name) for window in windows]) for name in ("first", "mask"))
    assert not first[1].all() and first[1:].any() and (full == 0).any()
    assert max(len(frames) for frames in walked) >= 9


def test_the_frames_of_one_lane_never_reach_another_lane(frozen_optimizer, monkeypatch):
    agent, seen, envs = make_agent(history=3, optimizer="frozen"), [], []
    start, learn = agent.get_state(), agent._compiled.learn
    recording_learn = lambda *inputs: seen.append(learn(*inputs)) or seen[-1]
    monkeypatch.setattr(agent, "_compiled", agent._compiled._replace(learn=recording_learn))
    for replay in (make_lanes(history=3), make_lanes(history=3, changed=0)):
        agent.set_state(start)
        for _ in range(6):
            agent.learn(replay.sample(12))
            envs.append(replay.lanes[1])
    for env, same, one, other in zip(envs, envs[6:], seen, seen[6:]):
        np.testing.assert_array_equal(env, same)
        for a, b in zip([one["td_error"], *one["next_state"]], [other["td_error"], *other["next_state"]]):
            changed_lanes = (ops.convert_to_numpy(a) != ops.convert_to_numpy(b)).any(axis=1)
            np.testing.assert_array_equal(changed_lanes, env == 0)
    assert len({tuple(env) for env in envs}) > 2 and all(0 < (env == 0).sum() < 12 for env in envs)


@pytest.mark.parametrize("network, history", [("DRQN", 3), ("DQN", 4)])
def test_masked_content_never_reaches_a_gradient(sgd_optimizer, network, history):
    mask = np.array([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 0]], np.float32)
    window, other = make_window(history=history, mask=mask), make_window(history=history, seed=1)
    # A masked transition leads to a frame outside of the episode, so these frames are changed too.
    in_episode = np.concatenate([np.ones((4, history)), mask], axis=1)[..., None]
    changed = window._replace(frames=np.where(in_episode, window.frames, 1000 * other.frames), **{
        name: np.where(mask, getattr(window, name), getattr(other, name)) for name in ("action", "reward", "discount")})

    def learn_from(window):
        agent = make_agent(network, history=history, optimizer="sgd", clip_norm=0)
        return {name: np.array(float(value)) for name, value in agent.learn(window).items()} | weights_of(agent)

    assert_same_arrays(learn_from(changed), learn_from(window))
    assert arrays_differ(learn_from(changed._replace(mask=np.ones_like(mask))), learn_from(window))


def test_every_frame_of_a_window_reaches_the_recurrent_gradient(sgd_optimizer):
    outcomes = set()
    for t in range(6):
        window, agent = make_window(history=3), make_agent(history=3, optimizer="sgd", clip_norm=0)
        window.frames[:, t] += 1
        agent.learn(window)
        outcomes.add(weights_of(agent)["online/3"].tobytes())  # the recurrent kernel
    assert len(outcomes) == 6


@pytest.mark.parametrize("network", ["DQN", "DRQN"])
def test_learning_moves_every_weight_matrix_and_no_target(network):
    agent = make_agent(network)
    online, target = weights_of(agent), weights_of(agent, "target")
    scalars = agent.learn(make_window(history=agent.online_network.history))
    assert scalars.keys() == {"loss", "mean_q", "gradient_norm"}
    now = weights_of(agent)
    assert all((now[name] != online[name]).any() for name in online)
    assert_same_arrays(weights_of(agent, "target"), target)


def test_learning_bootstraps_from_the_target_network(frozen_optimizer):
    agent, window = make_agent(optimizer="frozen", loss="mse"), make_window()
    before = float(agent.learn(window)["loss"])
    state = agent.get_state()
    agent.set_state({name: value + (name.startswith("target")) for name, value in state.items()})
    assert float(agent.learn(window)["loss"]) != pytest.approx(before, rel=0.01)
    terminated = window._replace(discount=np.zeros((4, 3), np.float32))
    with_other_target = float(agent.learn(terminated)["loss"])
    agent.set_state(state)
    assert float(agent.learn(terminated)["loss"]) == with_other_target


def test_gradients_are_clipped_to_a_global_norm_and_the_norm_before_is_reported(sgd_optimizer):
    moves, norms = [], []
    for clip_norm in (0, 0.01, 10.0):
        agent = make_agent("DQN", history=4, optimizer="sgd", clip_norm=clip_norm)
        before = weights_of(agent)
        norms.append(float(agent.learn(make_window(history=4))["gradient_norm"]))
        after = weights_of(agent)
        moves.append(sum(((after[name] - before[name]) ** 2).sum() for name in before) ** 0.5)
    assert norms[0] > 0.1
    assert norms == pytest.approx(3 * norms[:1], rel=1e-5)
    assert moves == pytest.approx([norms[0], 0.01, norms[0]], rel=1e-3)


@pytest.mark.parametrize("optimizer", choices.OPTIMIZERS)
def test_every_optimizer_lowers_the_loss_of_a_fixed_window(optimizer):
    agent, window = make_agent("DQN", optimizer=optimizer), make_window(history=4)
    losses = [float(agent.learn(window)["loss"]) for _ in range(40)]
    assert losses[-1] < 0.99 * losses[0]
    assert np.isfinite(losses).all()


def test_an_optimizer_has_the_settings_of_its_table_unless_others_are_given():
    for given, learning_rate in [({}, 2.5e-4), (dict(learning_rate=0.01), 0.01)]:
        optimizer = make_agent("DQN", optimizer="rmsprop", **given).optimizer
        assert float(optimizer.learning_rate) == pytest.approx(learning_rate)
        settings = optimizer.rho, optimizer.momentum, optimizer.centered, optimizer.epsilon
        assert settings == (0.95, 0, True, 0.01 / 1024)


def test_adagrad_steps_as_pytorchs_does():
    name, settings = choices.OPTIMIZERS["adagrad"]
    weight, optimizer = keras.Variable([1.0, 1.0, 1.0]), getattr(keras.optimizers, name)(**settings)
    # The first step is lr g / (sqrt(g^2) + 1e-10): lr times the sign of g, however small g is.
    optimizer.apply([np.array([3.0, -1e-6, 0.0], np.float32)], [weight])
    np.testing.assert_allclose(ops.convert_to_numpy(weight), [0.995, 1.005, 1.0], rtol=1e-6)
    optimizer.apply([np.array([4.0, 0.0, 0.0], np.float32)], [weight])  # 0.005 4 / sqrt(9 + 16) = 0.004
    np.testing.assert_allclose(ops.convert_to_numpy(weight), [0.991, 1.005, 1.0], rtol=1e-6)
