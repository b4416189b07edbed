"""The faster forms of the mathematics equal the plain ones on every backend."""

import functools

import backends  # first: it imports the backend quietly

import keras
import numpy as np
import pytest
from keras import ops

import kernels
from helpers.gradients import assert_close, gradients_of
from helpers.windows import make_agent, make_window

UNITS = 8


@pytest.mark.parametrize("part", ["outputs", "h", "c", "all"])
def test_the_written_gradient_of_the_lstm_equals_the_gradient_of_a_plain_loop(part):
    """Compare the gradients to inputs, recurrent kernel and first state, for each output and for all outputs."""
    rng = np.random.default_rng(0)
    shapes = [(3, 5, 4 * UNITS), (UNITS, 4 * UNITS), (3, UNITS), (3, UNITS)]
    inputs = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    weights = [rng.normal(size=shape).astype(np.float32) for shape in [(3, 5, UNITS), (3, UNITS), (3, UNITS)]]
    weights = [weight if part in (name, "all") else 0 * weight for name, weight in zip(("outputs", "h", "c"), weights)]
    weighted = lambda parts: sum(ops.sum(weight * value) for weight, value in zip(weights, parts))

    def plain(projected, kernel, h, c):
        outputs = []
        for t in range(5):
            i, f, g, o = ops.split(projected[:, t] + ops.matmul(h, kernel), 4, axis=-1)
            c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
            h = ops.sigmoid(o) * ops.tanh(c)
            outputs.append(h)
        return weighted([ops.stack(outputs, axis=1), h, c])

    fast = lambda *inputs: weighted(kernels.lstm(ops.matmul)(*inputs))
    expected = gradients_of(plain, inputs)
    assert all(np.abs(ops.convert_to_numpy(gradient)).max() > 0.01 for gradient in expected)
    assert_close(gradients_of(fast, inputs), expected)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_products_and_their_gradients_equal_numpys(precision):
    rng = np.random.default_rng(0)
    a, b, weight = (rng.normal(size=shape).astype(np.float32) for shape in [(3, 4), (4, 5), (3, 5)])
    dtype = keras.mixed_precision.Policy(precision).compute_dtype
    product = functools.partial(kernels.product, dtype)
    assert keras.backend.standardize_dtype(product(a, b).dtype) == "float32"
    da, db = gradients_of(lambda a, b: ops.sum(weight * product(a, b)), [a, b])
    for computed, expected in zip((product(a, b), da, db), (a @ b, weight @ b.T, a.T @ weight)):
        tolerance = dict(float32=1e-6, bfloat16=0.1)[dtype]
        np.testing.assert_allclose(ops.convert_to_numpy(computed), expected, atol=tolerance)
        assert (dtype == "float32") == np.allclose(ops.convert_to_numpy(computed), expected, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_pixels_are_scaled_and_the_history_becomes_channels(dtype):
    frames = np.zeros((2, 3, 84, 84), np.uint8)
    frames[1, 2, 7, 9] = 255
    pixels = kernels.Pixels(dtype)(frames)
    assert keras.backend.standardize_dtype(pixels.dtype) == dtype.removeprefix("mixed_")
    pixels = ops.convert_to_numpy(ops.cast(pixels, "float32"))
    assert pixels.shape == (2, 84, 84, 3)
    assert (pixels[1, 7, 9, 2], pixels.sum()) == (1, 1)


def test_the_channels_of_rgb_are_three_of_each_image_the_oldest_first():
    frames = np.zeros((2, 3, 84, 60, 3), np.uint8)
    frames[1, 0, 7, 9], frames[1, 2, 7, 9] = (255, 0, 51), (0, 102, 0)
    pixels = ops.convert_to_numpy(kernels.Pixels("float32")(frames))
    assert pixels.shape == (2, 84, 60, 9)
    np.testing.assert_allclose(pixels[1, 7, 9], [1, 0, 0.2, 0, 0, 0, 0, 0.4, 0], rtol=1e-6)
    assert np.count_nonzero(pixels) == 3


@pytest.mark.parametrize("shape", [(6, 5), (2, 3, 4, 5)], ids=["vectors", "maps"])
def test_a_norm_and_its_gradients_are_those_of_kerass_layer(shape):
    rng = np.random.default_rng(0)
    x, weight = rng.normal(2, 3, size=shape).astype(np.float32), rng.normal(size=shape).astype(np.float32)
    scale, offset = rng.normal(1, 0.5, size=(2, 5)).astype(np.float32)
    ours = kernels.NormReLU("float32")
    theirs = keras.layers.LayerNormalization(axis=-1, epsilon=kernels.NormReLU.EPSILON)
    for layer in (ours, theirs):
        layer.build(shape)
        layer.set_weights([scale, offset])
    assert_close([ours(x)], [ops.relu(theirs(x))])

    def plain(x, scale, offset):
        centred = x - ops.mean(x, axis=-1, keepdims=True)
        normal = centred / ops.sqrt(ops.mean(centred**2, axis=-1, keepdims=True) + kernels.NormReLU.EPSILON)
        return ops.sum(weight * ops.relu(normal * scale + offset))

    expected = gradients_of(plain, [x, scale, offset])
    got = gradients_of(lambda *inputs: ops.sum(weight * ours.norm_relu(*inputs)), [x, scale, offset])
    assert all(np.abs(ops.convert_to_numpy(gradient)).max() > 0.01 for gradient in expected)
    assert_close(got, expected, 1e-4)


# Blank frames


def blank_frames(num_frames, num_blank, seed=0):
    rng = np.random.default_rng(seed)
    frames = rng.integers(1, 256, size=(num_frames, 1, 36, 36)).astype(np.uint8)
    frames[rng.permutation(num_frames)[:num_blank]] = 0
    return frames


@pytest.mark.parametrize("num_blank", [0, 1, 20, 40])
def test_a_torso_that_sees_one_blank_frame_gives_what_one_that_sees_all_gives(num_blank):
    frames = blank_frames(40, num_blank)
    seen = []

    def torso(frames):
        seen.append(int(frames.shape[0]))
        return ops.cast(ops.sum(ops.cast(frames, "int32"), axis=(1, 2)), "float32") + 7

    fewer, place = backends.leave_out_blank(frames, bucket=8)
    features = ops.convert_to_numpy(torso(fewer))
    np.testing.assert_array_equal(features if place is None else features[ops.convert_to_numpy(place)],
                                  frames.astype(int).sum((1, 2)) + 7.0)
    if keras.backend.backend() == "tensorflow":
        assert seen == [(40 - num_blank) // 8 * 8 + 8]  # one blank frame at least, and few different shapes


@pytest.mark.parametrize("num_frames, shapes", [(1, {1, 2}), (8, {2, 4, 6, 8, 10}), (352, set(range(32, 385, 32)))])
def test_few_shapes_are_computed_and_a_few_environments_are_not_padded_to_many(num_frames, shapes):
    seen = {len(backends.leave_out_blank(blank_frames(num_frames, num_blank))[0])
            for num_blank in range(0, num_frames + 1, max(1, num_frames // 40))}
    shapes = {num_frames} if keras.backend.backend() == "jax" else shapes  # JAX computes all frames.
    assert seen <= shapes and min(seen) == min(shapes)


@pytest.mark.parametrize("network", ["DQN", "DRQN", "DRQN_RNN2", "DRQN_after_dense", "PQN_dense_LSTM", "R2D2"])
def test_an_update_on_flickering_screens_is_the_update_that_computes_every_screen(network):
    frames = blank_frames(4 * 6, 13).reshape(4, 6, 36, 36)
    after = []
    for flicker in (False, True):
        agent = make_agent(network, frame_shape=(36, 36), history=1, optimizer="adam", flicker=flicker)
        window = make_window(4, 5)._replace(frames=frames)
        if network == "R2D2":
            window = window._replace(previous=np.tile(np.float32([2, 0.5]), (4, 6, 1)))
        scalars = [{name: float(value) for name, value in agent.learn(window).items()} for _ in range(3)]
        after.append((scalars, [ops.convert_to_numpy(weight) for weight in agent.online_network.weights]))
    (scalars, weights), (others, other_weights) = after
    for one, other in zip(scalars, others):
        assert one == pytest.approx(other, rel=1e-4)
    for one, other in zip(weights, other_weights):
        np.testing.assert_allclose(one, other, atol=2e-5)
