"""The agent: acting, its state and its weights, on every backend; test_updates.py has its learning."""

import keras
import numpy as np
import pytest
from keras import ops

import agent as agents
import choices
from helpers.windows import (
    A,
    act_arguments,
    arrays_differ,
    assert_same_arrays,
    make_agent,
    make_window,
    numpy_of,
    weights_of,
)

# Acting


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
    assert arrays_differ(numpy_of(random), numpy_of(arguments["state"]))


def test_each_environment_may_have_an_epsilon_of_its_own():
    agent = make_agent()
    arguments = act_arguments(agent, num_envs=400)
    greedy = agent.act(**arguments, epsilon=0, rng=np.random.default_rng(0))[0]
    epsilon = np.repeat([0.0, 0.4, 1.0, 0.0], 100)
    actions = agent.act(**arguments, epsilon=epsilon, rng=np.random.default_rng(0))[0]
    same = (actions == greedy).reshape(4, 100).mean(axis=1)
    assert same[0] == same[3] == 1 and abs(same[1] - 0.7) < 0.15 and abs(same[2] - 0.25) < 0.15


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
    expected, _ = copy_agent(agent).q_values(**arguments)
    assert (before != after).any()
    np.testing.assert_array_equal(after, expected)


# State and weights


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


def test_sync_alone_moves_a_target_network_with_variables_that_are_not_trained(monkeypatch):
    """Dropout and Keras' GRU cell have a generator's seed as a variable."""
    dense = lambda: [keras.layers.Flatten(), keras.layers.Dense(4), keras.layers.Dropout(0.5)]
    with_dropout = choices.NETWORKS["DRQN"]._replace(torso=lambda *_: keras.Sequential(dense(), name="torso"))
    monkeypatch.setitem(choices.NETWORKS, "DRQN_dropout", with_dropout)
    agent = make_agent("DRQN_dropout")
    for seed in range(2):
        agent.learn(make_window(seed=seed))
        agent.sync_target()
    trained = lambda owner: [array.copy() for array in weights_of(agent, owner).values() if array.dtype.kind == "f"]
    learned = trained("online")
    agent.learn(make_window())
    assert len(learned) == 7 and all((a == b).all() for a, b in zip(learned, trained("target"), strict=True))


def test_a_torso_of_many_layers_is_loaded(monkeypatch, tmp_path):
    """The file has layers by name, so the eleventh before the third."""
    layers = lambda: [keras.layers.Flatten(), *(keras.layers.Dense(units) for units in range(3, 15))]
    deep = lambda *_: keras.Sequential(layers(), name="torso")
    monkeypatch.setitem(choices.NETWORKS, "DQN_deep", choices.NETWORKS["DQN"]._replace(torso=deep))
    agent, other = (make_agent("DQN_deep", seed=seed) for seed in (1, 2))
    agent.save_weights(tmp_path / "deep.weights.h5")
    other.load_torso(tmp_path / "deep.weights.h5")
    for a, b in zip(agent.online_network.torso.get_weights(), other.online_network.torso.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_learning_rate_holds_for_the_updates_that_follow_and_is_restored(monkeypatch):
    """Without clipping a weight moves by the gradient times the rate, so twice the rate moves it twice as far."""
    monkeypatch.setitem(choices.OPTIMIZERS, "sgd", (keras.optimizers.SGD, dict(learning_rate=1.0)))
    agent, window = make_agent(optimizer="sgd", clip_norm=0.0), make_window()
    start, moved = agent.get_state(), {}
    for rate in (1.0, 0.0, 0.25, 0.5, 1.0):  # 1.0 is also the rate in the table.
        agent.set_state(start)
        agent.set_learning_rate(rate)
        agent.learn(window)
        moved[rate] = {name: value - start[name] for name, value in weights_of(agent).items()}
    for name in moved[1.0]:
        assert not moved[0.0][name].any()
        for rate in (0.25, 0.5):
            expected = rate * moved[1.0][name]
            np.testing.assert_allclose(moved[rate][name], expected, rtol=1e-3, atol=1e-6, err_msg=name)
    assert np.abs(moved[0.5]["online/0"]).max() > 1e-4
    agent.set_learning_rate(0.0)
    stopped, weights = agent.get_state(), weights_of(agent)
    agent.set_state(start)
    agent.learn(window)
    assert arrays_differ(weights_of(agent), start)
    agent.set_state(stopped)
    agent.learn(window)
    assert_same_arrays(weights_of(agent), weights)


def copy_agent(agent, network="DRQN"):
    """Return an agent of another seed, with the state of `agent`."""
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
    copy = copy_agent(agent, network)
    assert_same_arrays(copy.get_state(), agent.get_state())
    for seed in range(4, 6):
        window = make_window(history=history, seed=seed, first=np.array([False, False, True, False]))
        scalars = [{name: float(value) for name, value in each.learn(window).items()} for each in (agent, copy)]
        assert scalars[0] == scalars[1]
    assert_same_arrays(copy.get_state(), agent.get_state())
    arguments = act_arguments(agent, history=history)
    for one, other in zip(agent.act(**arguments, epsilon=0.5, rng=np.random.default_rng(0)),
                          copy.act(**arguments, epsilon=0.5, rng=np.random.default_rng(0))):
        np.testing.assert_array_equal(one, other)


def test_a_state_is_a_snapshot_that_later_updates_leave_alone():
    agent = make_agent()
    agent.learn(make_window())
    state = agent.get_state()
    before = {name: value.copy() for name, value in state.items()}
    agent.learn(make_window())
    agent.sync_target()
    assert arrays_differ(agent.get_state(), before)
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


def test_loading_weights_leaves_the_target_network_alone(tmp_path):
    """JAX keeps the weights on the device, so loading must not bring back an older target network."""
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
    assert arrays_differ(states[0], states[2])
