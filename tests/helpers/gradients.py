"""Gradients on either backend, and comparisons of what it computes."""

import keras
import numpy as np
from keras import ops


def gradients(function, inputs):
    """Return those of function(*inputs), a scalar, on either backend."""
    if keras.backend.backend() == "jax":
        import jax
        return jax.grad(function, argnums=tuple(range(len(inputs))))(*inputs)
    import tensorflow as tf
    inputs = [tf.convert_to_tensor(value) for value in inputs]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        scalar = function(*inputs)
    return tape.gradient(scalar, inputs)


def assert_close(actual, expected, tolerance=1e-5):
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(a), ops.convert_to_numpy(e), rtol=tolerance, atol=tolerance)
