"""Acting and learning: the agent's state, its optimizers; the loss is in test_loss.py. Holds on every backend."""


import keras
import numpy as np
import pytest
from helpers.windows import A, make_agent, make_window, slice_window, weights_of
from helpers.windows import act_arguments, assert_same_arrays, numpy_of
from keras import ops

import agent as agents
from replay import Replay


@pytest.fixture
def sgd(monkeypatch):
    """An optimizer that moves the weights by just the gradient."""
    monkeypatch.setitem(agents.OPTIMIZERS, "sgd", (keras.optimizers.SGD, dict(learning_rate=1.0)))


@pytest.fixture
def frozen(monkeypatch):
    """An optimizer that leaves the weights where they are."""
    monkeypatch.setitem(agents.OPTIMIZERS, "frozen", (keras.optimizers.SGD, dict(learning_rate=0.0)))


def differ(one, other):
    return any((one[name] != other[name]).any() for name in one)


# Learning.

def test_learning_carries_the_state_over_rows_that_are_not_first(frozen):
    agent, window = make_agent(optimizer="frozen", loss="mse"), make_window(unroll=6)
    _, aux = agents.td_loss(agent.online_network, agent.target_network, window, agent.initial_state(4), "mse")
    errors = ops.convert_to_numpy(aux["td_error"])  # of one long unroll
    before = float(agent.learn(slice_window(window, 0, 3, 1, True))["loss"])
    after = float(agent.learn(slice_window(window, 3, 6, 1, False))["loss"])
    assert before == pytest.approx((errors[:, :3] ** 2).mean() / 2, rel=1e-5)
    assert after == pytest.approx((errors[:, 3:] ** 2).mean() / 2, rel=1e-5)


def test_learning_forgets_the_state_of_rows_that_are_first(frozen):
    one, two = make_window(seed=1), make_window(seed=2)
    agent = make_agent(optimizer="frozen", loss="mse")
    fresh, _, again = (float(agent.learn(window)["loss"]) for window in (two, one, two))
    assert again == fresh
    carried = float(agent.learn(two._replace(first=np.zeros(4, bool)))["loss"])
    assert carried != fresh


def make_lanes(history, changed=None):
    """Return a replay whose lanes walk, in windows of 3, four environments' episodes of 11, 4 and 6, 9 and 1, and 11 transitions.

    Frames are random numbers, those of the environment `changed` others.
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
def test_updates_along_lanes_equal_one_long_unroll_of_each_episode(frozen, history):
    agent, replay, walked = make_agent(history=history, optimizer="frozen", loss="mse"), make_lanes(history), [None] * 5
    agent.set_state({name: value + 0.1 * name.startswith("target") for name, value in agent.get_state().items()})
    windows = [replay.sample(5) for _ in range(7)]
    for window in windows:
        loss, squares = float(agent.learn(window)["loss"]), []
        for lane in range(5):
            frames, first = window.frames[lane], window.first[lane]
            walked[lane] = frames if first else np.concatenate([walked[lane], frames[history:]])
            zero = agent.initial_state(1)
            before = zero if first else agent.online_network(walked[lane][None, :-4], zero)[1]
            q_tm1, after = agent.online_network(walked[lane][None, :-1], zero)  # Of all that the lane has walked.
            q_t, _ = agent.target_network(frames[None], before)  # The target network takes up the online one's state.
            y = window.reward[lane] + window.discount[lane] * ops.convert_to_numpy(q_t)[0, 1:].max(axis=-1)
            q_a_tm1 = ops.convert_to_numpy(q_tm1)[0, -3:][range(3), window.action[lane]]
            squares.append(window.mask[lane] * (y - q_a_tm1) ** 2)
            state = agent.get_state()
            for i in range(2):
                np.testing.assert_allclose(state[f"window_state/{i}"][lane], numpy_of(after)[str(i)][0], rtol=1e-4, atol=1e-5)
        assert loss == pytest.approx(np.sum(squares) / 2 / window.mask.sum(), rel=1e-4)
    first, full = (np.array([getattr(window, name) for window in windows]) for name in ("first", "mask"))
    assert not first[1].all() and first[1:].any() and (full == 0).any()
    assert max(len(frames) for frames in walked) >= 9


def test_what_one_lane_sees_never_reaches_another(frozen, monkeypatch):
    agent, seen, envs = make_agent(history=3, optimizer="frozen"), [], []
    start, learn = agent.get_state(), agent._compiled.learn
    monkeypatch.setattr(agent, "_compiled", agent._compiled._replace(learn=lambda *inputs: seen.append(learn(*inputs)) or seen[-1]))
    for replay in (make_lanes(history=3), make_lanes(history=3, changed=0)):
        agent.set_state(start)
        for _ in range(6):
            agent.learn(replay.sample(12))
            envs.append(replay.lanes[1])
    for env, same, one, other in zip(envs, envs[6:], seen, seen[6:]):
        np.testing.assert_array_equal(env, same)
        for a, b in zip([one["td_error"], *one["next_state"]], [other["td_error"], *other["next_state"]]):
            np.testing.assert_array_equal((ops.convert_to_numpy(a) != ops.convert_to_numpy(b)).any(axis=1), env == 0)
    assert len({tuple(env) for env in envs}) > 2 and all(0 < (env == 0).sum() < 12 for env in envs)


@pytest.mark.parametrize("network, history", [("DRQN", 3), ("DQN", 4)])
def test_masked_content_never_reaches_a_gradient(sgd, network, history):
    mask = np.array([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 0]], np.float32)
    window, other = make_window(history=history, mask=mask), make_window(history=history, seed=1)
    after = np.concatenate([np.ones((4, history)), mask], axis=1)[..., None]  # A masked transition leads to a frame that is none.
    changed = window._replace(frames=np.where(after, window.frames, 1000 * other.frames), **{
        name: np.where(mask, getattr(window, name), getattr(other, name)) for name in ("action", "reward", "discount")})

    def learn(window):
        agent = make_agent(network, history=history, optimizer="sgd", clip_norm=0)
        return {name: np.array(float(value)) for name, value in agent.learn(window).items()} | weights_of(agent)

    assert_same_arrays(learn(changed), learn(window))
    assert differ(learn(changed._replace(mask=np.ones_like(mask))), learn(window))


def test_every_frame_of_a_window_reaches_the_recurrent_gradient(sgd):
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


def test_the_target_network_starts_equal_to_the_online_one_and_moves_by_sync_alone():
    agent = make_agent()
    start = list(weights_of(agent).values())
    assert all((a == b).all() for a, b in zip(start, weights_of(agent, "target").values(), strict=True))
    for seed in range(3):
        agent.learn(make_window(seed=seed))
    assert all((a == b).all() for a, b in zip(start, weights_of(agent, "target").values(), strict=True))
    agent.sync_target()
    learned = list(weights_of(agent).values())
    assert all((a == b).all() for a, b in zip(learned, weights_of(agent, "target").values(), strict=True))
    agent.learn(make_window())
    assert all((a == b).all() for a, b in zip(learned, weights_of(agent, "target").values(), strict=True))


def test_learning_bootstraps_from_the_target_network(frozen):
    agent, window = make_agent(optimizer="frozen", loss="mse"), make_window()
    before = float(agent.learn(window)["loss"])
    state = agent.get_state()
    agent.set_state({name: value + (name.startswith("target")) for name, value in state.items()})
    assert float(agent.learn(window)["loss"]) != pytest.approx(before, rel=0.01)
    terminated = window._replace(discount=np.zeros((4, 3), np.float32))
    judged = float(agent.learn(terminated)["loss"])
    agent.set_state(state)
    assert float(agent.learn(terminated)["loss"]) == judged


@pytest.mark.parametrize("optimizer", agents.OPTIMIZERS)
def test_every_optimizer_lowers_the_loss_of_a_fixed_window(optimizer):
    agent, window = make_agent("DQN", optimizer=optimizer), make_window(history=4)
    losses = [float(agent.learn(window)["loss"]) for _ in range(40)]
    assert losses[-1] < 0.99 * losses[0]
    assert np.isfinite(losses).all()


def test_settings_of_an_optimizer_are_those_of_its_table_unless_given():
    deepmind, ours = make_agent("DQN", optimizer="rmsprop").optimizer, make_agent("DQN", optimizer="rmsprop", learning_rate=0.01).optimizer
    assert float(deepmind.learning_rate) == pytest.approx(2.5e-4)
    assert float(ours.learning_rate) == pytest.approx(0.01)
    for optimizer in (deepmind, ours):
        assert (optimizer.rho, optimizer.momentum, optimizer.centered, optimizer.epsilon) == (0.95, 0, True, 0.01 / 1024)


def test_adagrad_steps_as_pytorchs_does():
    make, settings = agents.OPTIMIZERS["adagrad"]
    weight, optimizer = keras.Variable([1.0, 1.0, 1.0]), make(**settings)
    optimizer.apply([np.array([3.0, -1e-6, 0.0], np.float32)], [weight])  # lr g / (sqrt(g^2) + 1e-10): the sign, whatever the size
    np.testing.assert_allclose(keras.ops.convert_to_numpy(weight), [0.995, 1.005, 1.0], rtol=1e-6)
    optimizer.apply([np.array([4.0, 0.0, 0.0], np.float32)], [weight])  # 0.005 4 / sqrt(9 + 16) = 0.004
    np.testing.assert_allclose(keras.ops.convert_to_numpy(weight), [0.991, 1.005, 1.0], rtol=1e-6)


def test_gradients_are_clipped_to_a_global_norm_and_reported_before_that(sgd):
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


# Acting.


def test_without_exploration_the_agent_is_greedy():
    agent = make_agent()
    arguments = act_arguments(agent, num_envs=50)
    actions, _ = agent.act(**arguments, epsilon=0, rng=np.random.default_rng(0))
    q_values, _ = agent.online_network(arguments["frames"], arguments["state"])
    np.testing.assert_array_equal(actions, ops.convert_to_numpy(q_values)[:, 0].argmax(axis=-1))
    assert len(set(actions)) > 1


def test_the_state_advances_over_random_actions_as_over_greedy_ones():
    agent = make_agent()
    arguments = act_arguments(agent)
    _, greedy = agent.act(**arguments, epsilon=0, rng=np.random.default_rng(0))
    _, random = agent.act(**arguments, epsilon=1, rng=np.random.default_rng(0))
    assert_same_arrays(numpy_of(random), numpy_of(greedy))
    assert differ(numpy_of(random), numpy_of(arguments["state"]))


def test_epsilon_is_the_share_of_uniformly_random_actions():
    agent = make_agent("DQN")
    arguments = act_arguments(agent, num_envs=1, history=4)
    arguments = dict(frames=np.repeat(arguments["frames"], 8000, axis=0), state=[], first=np.zeros(8000, bool))
    greedy, *_ = agent.act(**arguments, epsilon=0, rng=np.random.default_rng(0))[0]
    for epsilon in (0.4, 1.0):
        actions, _ = agent.act(**arguments, epsilon=epsilon, rng=np.random.default_rng(0))
        shares = np.bincount(actions, minlength=A) / 8000
        np.testing.assert_allclose(shares, np.where(np.arange(A) == greedy, 1 - 0.75 * epsilon, epsilon / 4), atol=0.03)


def test_acting_forgets_the_state_where_an_episode_starts():
    agent = make_agent()
    arguments = act_arguments(agent)
    first = np.array([True, False, True, False, False])
    fresh_q, fresh = agent.q_values(arguments["frames"], agent.initial_state(5), np.zeros(5, bool))
    carried_q, carried = agent.q_values(**arguments)
    mixed_q, mixed = agent.q_values(**arguments | dict(first=first))
    for now, new, old in zip([mixed_q, *mixed], [fresh_q, *fresh], [carried_q, *carried]):
        np.testing.assert_array_equal(now, np.where(first[:, None], new, old))


def test_stepwise_acting_equals_the_unroll():
    agent = make_agent(history=3)
    frames, state = make_window(5, 6, history=3).frames, agent.initial_state(5)
    unrolled, _ = agent.online_network(frames, state)
    for t in range(7):
        q_values, state = agent.q_values(frames[:, t:t + 3], state, np.full(5, t == 0))
        np.testing.assert_allclose(q_values, ops.convert_to_numpy(unrolled)[:, t], rtol=1e-5, atol=1e-6)


def test_the_agent_acts_with_what_it_has_learned():
    agent = make_agent()
    arguments = act_arguments(agent)
    before, _ = agent.q_values(**arguments)
    agent.learn(make_window())
    after, _ = agent.q_values(**arguments)
    expected, _ = make_copy(agent).q_values(**arguments)
    assert (before != after).any()
    np.testing.assert_array_equal(after, expected)


# State and weights.

def make_copy(agent, network="DRQN"):
    copy = make_agent(network, seed=7)
    copy.set_state(agent.get_state())
    return copy


@pytest.mark.parametrize("network", ["DQN", "DRQN"])
def test_a_restored_agent_goes_on_as_the_original(network):
    agent = make_agent(network)
    history = agent.online_network.history
    for seed in range(3):
        agent.learn(make_window(history=history, seed=seed))
    agent.sync_target()
    agent.learn(make_window(history=history, seed=3))
    copy = make_copy(agent, network)
    assert_same_arrays(copy.get_state(), agent.get_state())
    for seed in range(4, 6):
        window = make_window(history=history, seed=seed, first=np.array([False, False, True, False]))
        assert {name: float(value) for name, value in copy.learn(window).items()} == {
            name: float(value) for name, value in agent.learn(window).items()}
    assert_same_arrays(copy.get_state(), agent.get_state())
    arguments = act_arguments(agent, history=history)
    for one, other in zip(agent.act(**arguments, epsilon=0.5, rng=np.random.default_rng(0)),
                          copy.act(**arguments, epsilon=0.5, rng=np.random.default_rng(0))):
        np.testing.assert_array_equal(one, other)


def test_a_learning_rate_that_was_set_is_that_of_the_updates_that_follow_and_is_restored(sgd):
    """Without a clip a weight moves by the gradient times the rate, so that twice the rate moves it twice as far."""
    agent, window = make_agent(optimizer="sgd", clip_norm=0.0), make_window()
    start, moved = agent.get_state(), {}
    for rate in (1.0, 0.0, 0.25, 0.5, 1.0):  # 1.0 is also the optimizer's own.
        agent.set_state(start)
        agent.set_learning_rate(rate)
        agent.learn(window)
        moved[rate] = {name: value - start[name] for name, value in weights_of(agent).items()}
    for name in moved[1.0]:
        assert not moved[0.0][name].any()
        for rate in (0.25, 0.5):
            np.testing.assert_allclose(moved[rate][name], rate * moved[1.0][name], rtol=1e-3, atol=1e-6, err_msg=name)
    assert np.abs(moved[0.5]["online/0"]).max() > 1e-4
    agent.set_learning_rate(0.0)
    stopped = agent.get_state()
    agent.set_state(start)
    agent.learn(window)
    assert differ(weights_of(agent), start)
    agent.set_state(stopped)
    agent.learn(window)
    assert_same_arrays(weights_of(agent), {name: value for name, value in stopped.items() if name.startswith("online")})


def test_a_state_is_a_snapshot_that_later_updates_leave_alone():
    agent = make_agent()
    agent.learn(make_window())
    state = agent.get_state()
    before = {name: value.copy() for name, value in state.items()}
    agent.learn(make_window())
    agent.sync_target()
    assert differ(agent.get_state(), before)
    assert_same_arrays(state, before)


@pytest.mark.parametrize("foreign", [
    lambda state: make_agent("DQN").get_state(),
    lambda state: {name: value for name, value in state.items() if name != "optimizer/3"},
    lambda state: state | {"online/99": np.zeros(3)},
    lambda state: state | {"online/0": np.zeros((1, 1))},
    lambda state: state | {"target/4": np.zeros(1)},
], ids=["another network", "one missing", "one too many", "another shape", "a shape that would broadcast"])
def test_a_foreign_state_is_refused_and_leaves_the_agent_alone(foreign):
    agent = make_agent()
    state = agent.get_state()
    agent.learn(make_window())
    before = agent.get_state()
    with pytest.raises(ValueError, match="the checkpoint's"):
        agent.set_state(foreign(state))
    assert_same_arrays(agent.get_state(), before)


@pytest.mark.parametrize("network", ["DQN", "DRQN"])
def test_saved_weights_are_loaded_into_the_online_network_alone(network, tmp_path):
    agent, other = make_agent(network), make_agent(network, seed=7)
    window = make_window(history=agent.online_network.history)
    agent.learn(window)
    agent.save_weights(tmp_path / "online.weights.h5")
    other.learn(window)
    other.sync_target()
    other.learn(window)
    before = {owner: weights_of(other, owner) for owner in ("target", "optimizer")}
    other.load_weights(tmp_path / "online.weights.h5")
    assert_same_arrays(weights_of(other), weights_of(agent))
    for owner, values in before.items():
        assert_same_arrays(weights_of(other, owner), values)
    arguments = act_arguments(agent, history=agent.online_network.history)
    np.testing.assert_array_equal(other.q_values(**arguments)[0], agent.q_values(**arguments)[0])


def test_loading_weights_keeps_what_was_learned_elsewhere(tmp_path):
    """On JAX the weights live on the device: loading must not bring back the target network of before."""
    agent = make_agent()
    agent.save_weights(tmp_path / "online.weights.h5")
    agent.learn(make_window())
    agent.sync_target()
    agent.load_weights(tmp_path / "online.weights.h5")
    online, target = weights_of(agent), weights_of(agent, "target")
    assert all((a != b).any() for a, b in zip(online.values(), target.values(), strict=True))


def test_the_same_seed_gives_the_same_agent():
    states = [agents.Agent("DRQN", (3,), A, history=1, units=8, seed=seed).get_state() for seed in (0, 0, 1)]
    assert_same_arrays(states[0], states[1])
    assert differ(states[0], states[2])
