"""Q-networks: sizes, time, history, state and precision, on every backend."""

import functools

import backends  # noqa: F401 - first: it imports the backend quietly

import keras
import numpy as np
import pytest
from keras import ops

import choices
import models
from helpers.gradients import assert_close

CORES = pytest.mark.parametrize("name", list(choices.NETWORKS))
# The torso takes no images smaller than 36 x 36.
FRAMES = pytest.mark.parametrize("frame_shape", [(3,), (36, 36)], ids=["vectors", "images"])
A, UNITS = 4, 8


@functools.cache
def build_network(name, frame_shape, history, precision):
    """Return a small network and its first weights; the same ones for the same arguments."""
    keras.utils.set_random_seed(0)
    network = models.QNetwork(name, frame_shape, A, history, UNITS, precision)
    return network, network.get_weights()


def make_network(name="DRQN", frame_shape=(3,), history=1, precision="float32"):
    """Return a network with its first weights. Tests with the same arguments share one network."""
    network, start = build_network(name, frame_shape, history, precision)
    network.set_weights(start)
    return network


def make_frames(frame_shape, batch_size, num_frames, seed=0):
    """Return random images or vectors."""
    rng, shape = np.random.default_rng(seed), (batch_size, num_frames, *frame_shape)
    if len(frame_shape) == 2:
        return rng.integers(256, size=shape, dtype=np.uint8)
    return rng.normal(size=shape).astype(np.float32)


def make_state(network, batch_size, seed=0):
    """Return a random recurrent state."""
    rng = np.random.default_rng(seed)
    return [ops.convert_to_tensor(rng.uniform(-1, 1, s.shape).astype(np.float32))
            for s in network.initial_state(batch_size)]


def first_layer(network):
    """Return the torso's first layer with weights."""
    return next(layer for layer in network.torso.layers if layer.weights)


def spy_on_input(network, monkeypatch):
    """Return a list to which each input of the torso's first layer with weights is appended."""
    layer, seen = first_layer(network), []
    call = layer.call
    monkeypatch.setattr(layer, "call", lambda inputs: seen.append(inputs) or call(inputs))
    return seen


@pytest.mark.parametrize("name, num_actions, history, units, num_parameters", [
    ("DRQN", 18, 1, 512, 7_554_226), ("DQN", 18, 4, 512, 1_693_362), ("DQN", 18, 10, 512, 1_705_650),
    ("DRQN_ReLU", 18, 1, 512, 7_554_226), ("DRQN_after_dense", 18, 1, 512, 3_786_418),
    ("DRQN_after_dense_ReLU", 18, 1, 512, 3_786_418),
    # Filters or units times inputs and a bias: 16 (8 8 4 + 1), 32 (4 4 16 + 1), 256 (2592 + 1), 4 (256 + 1).
    ("DQN2013", 4, 4, 256, 4_112 + 8_224 + 663_808 + 1_028),
    # The convolutions for one frame; 512 (3136 + 512 + 1) and 512 (512 + 512 + 1); 2 (512 + 1).
    ("DRQN_RNN2", 2, 1, 512, 71_840 + 1_868_288 + 524_800 + 1_026)])
def test_number_of_trainable_parameters(name, num_actions, history, units, num_parameters):
    network = models.QNetwork(name, (84, 84), num_actions, history, units)
    assert sum(int(np.prod(w.shape)) for w in network.trainable_variables) == num_parameters
    assert len(network.trainable_variables) == len(network.variables)


@pytest.mark.parametrize("names, history, unroll, sample", [
    (("DQN", "DQN2013"), 4, 1, "timestep"), (("DRQN",), 1, 10, "episode")])
def test_the_table_holds_the_published_histories_and_unrolls(names, history, unroll, sample):
    for network in (choices.NETWORKS[name] for name in names):
        assert (network.history, network.unroll, network.sample) == (history, unroll, sample)


def test_the_lstm_core_equals_kerass_lstm():
    rng = np.random.default_rng(0)
    features, h, c = (rng.normal(size=shape).astype(np.float32) for shape in [(2, 5, 6), (2, UNITS), (2, UNITS)])
    theirs, ours = keras.layers.LSTM(UNITS, return_sequences=True, return_state=True), models.LSTMCore(UNITS, "float32")
    theirs.build((2, 5, 6))
    ours.build((10, 6))
    weights = [rng.normal(size=w.shape) for w in theirs.get_weights()]
    theirs.set_weights(weights)
    ours.set_weights(weights)
    expected = theirs(features, initial_state=[h, c])
    outputs, state = ours(features.reshape(10, 6), [h, c], num_steps=5)
    assert_close([ops.reshape(outputs, (2, 5, UNITS)), *state], expected)


def test_the_rnn_core_equals_two_simple_rnns_of_keras():
    rng = np.random.default_rng(0)
    features, h0, h1 = (rng.normal(size=shape).astype(np.float32) for shape in [(2, 5, 6), (2, UNITS), (2, UNITS)])
    theirs = [keras.layers.SimpleRNN(UNITS, return_sequences=True, return_state=True) for _ in range(2)]
    ours = models.RNNCore(UNITS, "float32")
    for layer, size in zip(theirs, (6, UNITS)):
        layer.build((2, 5, size))
    ours.build((10, 6))
    drawn = [w for layer in theirs for w in layer.get_weights()]
    for weights in (drawn, [rng.normal(size=w.shape) for w in drawn]):
        assert [w.shape for w in weights] == [w.shape for w in ours.get_weights()]
        theirs[0].set_weights(weights[:3])
        theirs[1].set_weights(weights[3:])
        ours.set_weights(weights)
        between, end0 = theirs[0](features, initial_state=h0)
        expected, end1 = theirs[1](between, initial_state=h1)
        outputs, state = ours(features.reshape(10, 6), [h0, h1], num_steps=5)
        assert_close([ops.reshape(outputs, (2, 5, UNITS)), *state], [expected, end0, end1])


def test_the_rnn_core_is_initialised_as_kerass_simple_rnn():
    core = models.RNNCore(UNITS, "float32")
    core.build((None, 200))
    for (kernel, recurrent_kernel, bias), inputs in zip((core.get_weights()[:3], core.get_weights()[3:]), (200, UNITS)):
        limit = (6 / (inputs + UNITS)) ** 0.5  # Glorot, uniform
        assert 0.9 * limit < np.abs(kernel).max() <= limit
        np.testing.assert_allclose(recurrent_kernel @ recurrent_kernel.T, np.eye(UNITS), atol=1e-5)
        assert not bias.any()


def test_the_placements_of_the_lstm_in_the_appendix():
    """Compare cores with the same weights.

    A ReLU after the LSTM sets negative outputs to 0 and leaves the state. A dense layer with ReLU precedes the same
    LSTM.
    """
    rng = np.random.default_rng(0)
    features, *state = (rng.normal(size=shape).astype(np.float32) for shape in [(6, 5), (2, UNITS), (2, UNITS)])
    cores = {name: models.CORES[network.core](UNITS, "float32") for name, network in choices.NETWORKS.items()
             if network.history == 1}
    for core in cores.values():
        core.build((6, 5))
    dense, lstm = cores["DRQN_after_dense"].get_weights()[3:], cores["DRQN_after_dense"].get_weights()[:3]
    assert [w.shape for w in dense] == [(5, UNITS), (UNITS,)]
    assert [w.shape for w in lstm] == [(UNITS, 32), (UNITS, 32), (32,)]
    cores["DRQN_ReLU"].set_weights(cores["DRQN"].get_weights())
    cores["DRQN_after_dense_ReLU"].set_weights([*lstm, *dense])
    alone = models.LSTMCore(UNITS, "float32")
    alone.build((6, UNITS))
    alone.set_weights(lstm)
    instead_of_dense = cores["DRQN"](features, state, num_steps=3)
    after_dense = alone(np.maximum(features @ dense[0] + dense[1], 0), state, num_steps=3)
    for name, (outputs, end), relu in [
            ("DRQN", instead_of_dense, False), ("DRQN_ReLU", instead_of_dense, True),
            ("DRQN_after_dense", after_dense, False), ("DRQN_after_dense_ReLU", after_dense, True)]:
        outputs = ops.convert_to_numpy(outputs)
        assert (outputs < 0).any()
        core_outputs, core_end = cores[name](features, state, num_steps=3)
        assert_close([core_outputs, *core_end], [np.maximum(outputs, 0) if relu else outputs, *end])


def test_the_lstm_core_is_initialised_as_kerass_lstm():
    theirs, ours = keras.layers.LSTM(UNITS), models.LSTMCore(UNITS, "float32")
    theirs.build((None, 1, 200))
    ours.build((None, 200))
    kernel, recurrent_kernel, bias = ours.get_weights()
    np.testing.assert_array_equal(bias, [0] * 8 + [1] * 8 + [0] * 16)  # gates i f c o
    np.testing.assert_array_equal(bias, theirs.get_weights()[2])
    np.testing.assert_allclose(recurrent_kernel @ recurrent_kernel.T, np.eye(8), atol=1e-5)
    limit = (6 / 232) ** 0.5  # Glorot: 200 inputs, 32 outputs, uniform
    for uniform in (kernel, theirs.get_weights()[0]):
        assert 0.99 * limit < np.abs(uniform).max() <= limit
        assert uniform.std() == pytest.approx(limit / 3**0.5, rel=0.03)


@CORES
@FRAMES
@pytest.mark.parametrize("history", [1, 3])
def test_stepwise_calls_equal_the_unroll(name, frame_shape, history):
    network = make_network(name, frame_shape, history)
    frames, state = make_frames(frame_shape, 2, 5 + history - 1), make_state(network, 2)
    unrolled, last_state = network(frames, state)
    steps = []
    for t in range(5):
        q_values, state = network(frames[:, t:t + history], state)
        steps.append(q_values)
    assert unrolled.shape == (2, 5, A)
    assert_close([ops.concatenate(steps, axis=1), *state], [unrolled, *last_state])


@pytest.mark.parametrize("history", [1, 3])
def test_two_carried_windows_equal_one_long_unroll(history):
    network = make_network(history=history)
    frames, state = make_frames((3,), 2, 6 + history - 1), make_state(network, 2)
    unrolled, last_state = network(frames, state)
    before, state = network(frames[:, :4 + history - 1], state)
    after, state = network(frames[:, 4:], state)
    assert_close([ops.concatenate([before, after], axis=1), *state], [unrolled, *last_state])


@CORES
@pytest.mark.parametrize("history", [1, 3])
def test_burnt_in_steps_come_first_and_give_no_q_values(name, history):
    network = make_network(name, history=history)
    frames, state = make_frames((3,), 2, 5 + history - 1), make_state(network, 2)
    whole, last_state = network(frames, state)
    for burn_in in (0, 1, 4):
        q_values, end = network(frames, state, burn_in=burn_in)
        assert q_values.shape == (2, 5 - burn_in, A)
        assert_close([q_values, *end], [whole[:, burn_in:], *last_state])


def test_a_dense_core_does_not_see_the_frames_to_burn_in():
    network, frames = make_network("DQN", history=3), make_frames((3,), 2, 6)
    frames[:, :2] = np.nan
    assert np.isfinite(ops.convert_to_numpy(network(frames, [], burn_in=2)[0])).all()


def test_a_dense_core_has_no_state():
    network = make_network("DQN")
    assert network.initial_state(2) == []
    assert network(make_frames((3,), 2, 1), [])[1] == []


def test_the_state_before_an_episode_is_zero():
    h, c = make_network().initial_state(3)
    np.testing.assert_array_equal(np.stack([ops.convert_to_numpy(h), ops.convert_to_numpy(c)]), np.zeros((2, 3, UNITS)))


def test_the_recurrent_state_matters():
    network = make_network()
    frames = make_frames((3,), 2, 1)
    q_values, other = (ops.convert_to_numpy(network(frames, make_state(network, 2, seed))[0]) for seed in (0, 1))
    assert (q_values != other).all()


@CORES
@FRAMES
def test_a_history_is_stacked_per_timestep(name, frame_shape):
    """With a history of 3, T + 2 frames give the same Q-values as T separate stacks of 3 frames."""
    network = make_network(name, frame_shape, history=3)
    frames, state = make_frames(frame_shape, 2, 6), make_state(network, 2)
    q_values, _ = network(frames, state)
    f = [frames[:, t] for t in range(6)]
    for t, stack in enumerate([(f[0], f[1], f[2]), (f[1], f[2], f[3]), (f[2], f[3], f[4]), (f[3], f[4], f[5])]):
        alone, state = network(np.stack(stack, axis=1), state)
        assert_close([alone[:, 0]], [q_values[:, t]])


@FRAMES
@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_newest_frame_of_a_history_is_last(frame_shape, place):
    """Zero all input weights but one place's of the history; then Q-values depend on the frame at this place alone."""
    network = make_network("DQN", frame_shape, history=3)
    # The kernel is [H*D, 128] for vectors, [8, 8, H, 32] for images; `by_frame` is a view of it.
    kernel, bias = (w.copy() for w in first_layer(network).get_weights())
    by_frame = kernel.reshape(3, 3, 128) if len(frame_shape) == 1 else kernel.transpose(2, 0, 1, 3)
    by_frame[[i for i in range(3) if i != place]] = 0
    first_layer(network).set_weights([kernel, bias])
    frames = make_frames(frame_shape, 1, 3)
    q_values = ops.convert_to_numpy(network(frames, [])[0])
    for changed in range(3):
        other = frames.copy()
        other[:, changed] = make_frames(frame_shape, 1, 1, seed=1)[:, 0]
        assert (ops.convert_to_numpy(network(other, [])[0]) == q_values).all() == (changed != place)


def test_pixels_are_scaled_to_one_once(monkeypatch):
    network = make_network("DQN", (36, 36), history=3)
    seen = spy_on_input(network, monkeypatch)
    frames = np.stack([np.full((1, 36, 36), value, np.uint8) for value in (0, 51, 255)], axis=1)
    frames[0, 0, 3, 5] = 255
    network(frames, [])
    pixels = ops.convert_to_numpy(seen[0])  # [1, 36, 36, H]
    assert (pixels[0, 3, 5, 0], pixels[..., 0].sum()) == (1, 1)
    np.testing.assert_allclose(pixels[..., 1], 0.2, rtol=1e-6)
    np.testing.assert_array_equal(pixels[..., 2], 1)


def test_vectors_reach_the_torso_unscaled(monkeypatch):
    network = make_network("DQN", history=3)
    seen = spy_on_input(network, monkeypatch)
    network(np.array([[[1, 2, 3], [-40, 50, 255], [0, 0, 7]]], np.float32), [])
    np.testing.assert_array_equal(ops.convert_to_numpy(seen[0]), [[1, 2, 3, -40, 50, 255, 0, 0, 7]])


@CORES
@FRAMES
def test_mixed_precision_keeps_q_values_state_and_variables_float32(name, frame_shape):
    exact, mixed = (make_network(name, frame_shape, history=3, precision=precision)
                    for precision in ("float32", "mixed_bfloat16"))
    mixed.set_weights(exact.get_weights())
    frames, state = make_frames(frame_shape, 2, 6), make_state(exact, 2)
    expected, (q_values, new_state) = exact(frames, state), mixed(frames, state)
    kinds = {keras.backend.standardize_dtype(tensor.dtype) for tensor in [q_values, *new_state, *mixed.variables]}
    assert kinds == {"float32"}
    # They differ from float32's, so they were computed in bfloat16.
    assert (ops.convert_to_numpy(q_values) != ops.convert_to_numpy(expected[0])).any()
    assert_close([q_values, *new_state], [expected[0], *expected[1]], tolerance=0.02)


@CORES
@FRAMES
def test_no_layer_is_time_distributed(name, frame_shape):
    kinds = {type(layer).__name__ for layer in make_network(name, frame_shape)._flatten_layers()}
    assert "Dense" in kinds
    assert "TimeDistributed" not in kinds


@CORES
def test_features_of_a_frozen_torso_go_straight_into_the_core(name):
    """Check that features reach the core unchanged, oldest first, through no layer with weights."""
    network = models.QNetwork(name, (3,), A, history=2, units=UNITS, features=True)
    assert network.torso.weights == [] and 2 * 3 in [weight.shape[0] for weight in network.core.weights]
    frames = make_frames((3,), 1, 2)
    features = ops.convert_to_numpy(network.torso(frames))
    np.testing.assert_array_equal(features, [[*frames[0, 0], *frames[0, 1]]])


@pytest.mark.parametrize("history", [1, 4])
def test_before_a_norm_the_first_filters_have_no_mean_so_that_a_uniform_screen_is_nothing_and_a_ball_is_much(history):
    network = models.QNetwork("PQN", (84, 84), A, history, UNITS)
    kernels = [layer.kernel.numpy() if hasattr(layer.kernel, "numpy") else np.asarray(layer.kernel)
               for layer in network.torso.layers if hasattr(layer, "kernel")]
    np.testing.assert_allclose(kernels[0].mean(axis=(0, 1, 2)), 0, atol=1e-7)
    for kernel in kernels:  # he_normal; a mean that is subtracted takes little from it
        assert kernel.std() == pytest.approx(np.sqrt(2 / kernel[..., 0].size), rel=0.1)
    screens = np.full((2, history, 84, 84), 87, np.uint8)
    screens[1, :, 40:42, 40:41] = 236  # a ball of two pixels
    uniform, ball = ops.convert_to_numpy(network.torso(screens))
    assert abs(uniform).max() < 0.02  # rounding errors, which three LayerNorms multiply
    assert (ball > 0.1).mean() > 0.01 and ball.max() > 0.5
