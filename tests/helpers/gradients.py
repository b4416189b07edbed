"""Gradients and comparisons of tensors, on either backend."""

import keras
import numpy as np
from keras import ops


def gradients_of(function, inputs):
    """Return the gradient of function(*inputs), a scalar, with respect to each input."""
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
    """Assert that two lists of tensors are equal within a tolerance."""
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(a), ops.convert_to_numpy(e), rtol=tolerance, atol=tolerance)
