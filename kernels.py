"""The same mathematics as in models.py, faster: a matrix product, pixels, the recurrence of an LSTM with its gradient.

Each function equals a plain one to rounding, and a test says so.
"""

from collections.abc import Callable
from typing import Any

import backends  # first: it imports the backend quietly

import keras
from keras import layers, ops

Tensor = Any  # of the backend


def product(dtype: str, a: Tensor, b: Tensor) -> Tensor:
    """Return the matrix product, computed in `dtype`, as float32.

    The product is a batch of one, because TensorFlow on a CPU takes up to four times as long for a plain product with a
    transpose, and gradients are made of those.
    """
    a, b = (ops.expand_dims(ops.cast(matrix, dtype), 0) for matrix in (a, b))
    return ops.cast(ops.squeeze(ops.matmul(a, b), 0), "float32")


class Pixels(layers.Layer):
    """Images uint8[N, H, 84, 84] as convolutions read them: [N, 84, 84, H], from 0 to 1.

    Of RGB, uint8[N, H, 84, 84, 3], the channels are the red, green and blue of the oldest image, then of the next ones:
    [N, 84, 84, 3H].

    Pixels are scaled here and nowhere else.
    """

    def __init__(self, dtype: str) -> None:
        super().__init__(dtype=dtype, autocast=False)
        # Cast, scaled and transposed one after the other, pixels were a tenth of an update of DQN.
        scaled = lambda frames: ops.cast(frames, self.compute_dtype) / 255
        self.scale = backends.fuse(lambda frames: _channels_last(scaled(frames)))

    def call(self, frames: Tensor) -> Tensor:
        return self.scale(frames)


def _channels_last(images):
    """Return images [N, H, height, width] or [N, H, height, width, C] as [N, height, width, H or H * C]."""
    if len(images.shape) == 4:
        return ops.transpose(images, (0, 2, 3, 1))
    _, history, height, width, channels = images.shape
    return ops.reshape(ops.transpose(images, (0, 2, 3, 1, 4)), (-1, height, width, history * channels))


class NormReLU(layers.Layer):
    """keras.layers.LayerNormalization over the last axis, then a ReLU, with the gradient written out.

    Keras' layer makes some ten passes over its input and as many over the gradient. Here XLA makes two of each, which
    is five times as fast on a CPU, where these layers otherwise take more time than the convolutions. All is computed
    in float32.
    """

    EPSILON = 1e-3  # Keras'. Flax's 1e-6 would blow a uniform background's rounding errors up to the size of a feature.

    def __init__(self, dtype: str) -> None:
        super().__init__(dtype=dtype, autocast=False)
        forward = backends.fuse(lambda *inputs: ops.cast(_norm_relu(*inputs), self.compute_dtype))
        backward = backends.fuse(_norm_relu_gradient)

        @ops.custom_gradient
        def norm_relu(x, scale, offset):
            def gradient(*upstream):
                return backward(x, scale, offset, keras.tree.flatten(upstream)[0])
            return forward(x, scale, offset), gradient

        self.norm_relu = norm_relu

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.scale = self.add_weight(shape[-1:], "ones", autocast=False, name="scale")
        self.offset = self.add_weight(shape[-1:], "zeros", autocast=False, name="offset")

    def call(self, x: Tensor) -> Tensor:
        return self.norm_relu(x, self.scale + 0, self.offset + 0)  # Tensors: TensorFlow wants no variables there.


def _normalise(x):
    """Return x with a mean of 0 and a variance of 1 over its last axis, and what it was multiplied with."""
    centred = x - ops.mean(x, axis=-1, keepdims=True)
    rate = ops.rsqrt(ops.mean(centred**2, axis=-1, keepdims=True) + NormReLU.EPSILON)
    return centred * rate, rate


def _norm_relu(x, scale, offset):
    normal, _ = _normalise(ops.cast(x, "float32"))
    return ops.relu(normal * scale + offset)


def _norm_relu_gradient(x, scale, offset, upstream):
    normal, rate = _normalise(ops.cast(x, "float32"))
    d_out = ops.where(normal * scale + offset > 0, ops.cast(upstream, "float32"), 0.0)
    others = tuple(range(len(x.shape) - 1))
    d_scale, d_offset = ops.sum(d_out * normal, axis=others), ops.sum(d_out, axis=others)
    d_normal = d_out * scale
    mean = lambda values: ops.mean(values, axis=-1, keepdims=True)
    d_x = rate * (d_normal - mean(d_normal) - normal * mean(d_normal * normal))
    return ops.cast(d_x, x.dtype), d_scale, d_offset


def lstm(product: Callable[[Tensor, Tensor], Tensor],
         keep: Tensor | None = None) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    """Return the recurrence of an LSTM with its gradient written out: (projected, kernel, h, c) -> outputs, h, c.

    Backpropagation through time then ends with one product over all steps for the kernel's gradient, where a backend
    makes one product per step and adds them up. On a CPU the recurrence takes half the time.

    Args:
        product: of two matrices.
        keep: float32[B, T, 1], 0 at steps before which the state is zeroed, else 1; None: the state always goes on.

    Returns:
        A function of projected float32[B, T, 4U], the inputs times their kernel and the bias; kernel float32[U, 4U];
        and the state before the first step, float32[B, U] each. It returns outputs float32[B, T, U] and the state after
        the last step.

    Reference: Appleyard et al. 2016, Optimizing Performance of Recurrent Neural Networks on GPUs.
    """
    @ops.custom_gradient
    def recurrence(projected, kernel, h, c):
        outputs, steps = [], []
        for t in range(projected.shape[1]):
            h, c = (h, c) if keep is None else (h * keep[:, t], c * keep[:, t])
            i, f, g, o = ops.split(projected[:, t] + product(h, kernel), 4, axis=-1)  # [B, U] each
            i, f, g, o = ops.sigmoid(i), ops.sigmoid(f), ops.tanh(g), ops.sigmoid(o)
            h_tm1, c_tm1 = h, c
            c = f * c_tm1 + i * g
            tanh_c = ops.tanh(c)
            h = o * tanh_c
            outputs.append(h)
            steps.append((i, f, g, o, tanh_c, h_tm1, c_tm1))

        def gradient(*upstream):
            d_outputs, d_h, d_c = keras.tree.flatten(upstream)
            d_gates, transposed = [], ops.transpose(kernel)
            for t, (i, f, g, o, tanh_c, _, c_tm1) in reversed(list(enumerate(steps))):
                d_h = d_h + d_outputs[:, t]
                d_c = d_c + d_h * o * (1 - tanh_c**2)
                d_i, d_f, d_g, d_o = d_c * g, d_c * c_tm1, d_c * i, d_h * tanh_c
                of_step = [d_i * i * (1 - i), d_f * f * (1 - f), d_g * (1 - g**2), d_o * o * (1 - o)]
                d_gates = [ops.concatenate(of_step, axis=-1)] + d_gates  # of steps t to T: [B, 4U] each
                d_h, d_c = product(d_gates[0], transposed), d_c * f
                d_h, d_c = (d_h, d_c) if keep is None else (d_h * keep[:, t], d_c * keep[:, t])
            all_h_tm1 = ops.concatenate([h_tm1 for *_, h_tm1, _ in steps])  # [T*B, U]
            d_kernel = product(ops.transpose(all_h_tm1), ops.concatenate(d_gates))
            return ops.stack(d_gates, axis=1), d_kernel, d_h, d_c
        return (ops.stack(outputs, axis=1), h, c), gradient
    return recurrence
