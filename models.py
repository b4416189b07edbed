"""Q-networks: torso, core, head (Hausknecht & Stone 2015, section 4 and figure 2).

```
frames    torso                          core                     head
84x84 --> conv 8x8/4 -> 4x4/2 -> 3x3 --> LSTM, T steps, 512   --> Q-value of each action
          the same for each of T frames  (DQN: a dense layer)
```
"""

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import backends  # first: it imports the backend quietly

import h5py
import keras
from keras import layers, ops

import choices
import kernels

Tensor = Any  # of the backend

# The authors' code (Gallici et al. 2025). What a LayerNorm follows is as sensitive to a learning
# rate as its weights are small: from Keras' glorot_uniform, whose weights of the first convolution
# are a sixth of these, nothing is learned of Pong's ball at 2.5e-4.
INIT_BEFORE_NORM = "he_normal"


class ContrastInit(keras.initializers.HeNormal):
    """he_normal, then each filter's mean is subtracted, for a convolution over pixels.

    A uniform background then begins as zero, and stays near zero behind a LayerNorm, so that a ball
    of three pixels is much of what the network sees.
    """

    def __call__(self, shape: Sequence[int], dtype: str | None = None) -> Tensor:
        kernel = super().__call__(shape, dtype)
        return kernel - ops.mean(kernel, axis=(0, 1, 2), keepdims=True)


class QNetwork(keras.Model):
    """Q-values of every action after each of T observations.

    An observation is a stack of the last `history` frames.

    Args:
        name: of choices.NETWORKS, or `module:name` of a user's own.
        frame_shape: (84, 84) for uint8 images, (84, 84, 3) for RGB, (D,) for float32 vectors.
        num_actions: A.
        history: H, frames per observation.
        units: of the core.
        precision: `float32` or `mixed_bfloat16`; Q-values are float32 with either.
        features: whether frames are features of a frozen torso, which go straight into the core.
        flicker: whether many frames are zero throughout: the torso then sees one of these for all.
    """

    def __init__(self, name: str, frame_shape: Sequence[int], num_actions: int, history: int,
                 units: int, precision: str = "float32", features: bool = False,
                 flicker: bool = False) -> None:
        super().__init__(name=name.rpartition(":")[2].lower())
        self.skips_blank = flicker and history == 1 and len(frame_shape) > 1
        network = choices.find("network", name)
        self.frame_shape, self.history = tuple(frame_shape), history
        if features:
            self.torso = layers.Flatten(dtype=precision, name="torso")  # H frames side by side
        elif callable(network.torso):
            self.torso = network.torso(frame_shape, history, precision)
        else:
            self.torso = torso(frame_shape, history, precision, network.torso, network.norm)
        core = network.core if callable(network.core) else CORES[network.core]
        self.sees_previous, self.num_actions = network.previous, num_actions
        beside = dict(num_previous=num_actions + 1) if network.previous else {}
        self.core = core(units, precision, **beside)
        self.head = HEADS[network.head](num_actions, units)
        self.frame_dtype = "uint8" if len(frame_shape) > 1 else "float32"
        self(ops.zeros((1, history, *frame_shape), self.frame_dtype), self.initial_state(1))

    @property
    def acting_sizes(self) -> tuple[int, ...]:
        """The sizes of what acting carries: the core's state, then the action and reward before."""
        return (*self.core.state_sizes, *[2] * self.sees_previous)

    def initial_state(self, batch_size: int) -> list[Tensor]:
        """Return the state before an episode: a list of float32[B, units], empty without memory."""
        return [ops.zeros((batch_size, size)) for size in self.core.state_sizes]

    def call(self, frames: Tensor, state: list[Tensor], firsts: Tensor | None = None,
             burn_in: int = 0, previous: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """Return q_values float32[B, T, A] and the state after the last step.

        Args:
            frames: uint8 or float32[B, burn_in+T+H-1, *frame_shape], oldest first.
            state: as from `initial_state` or an earlier call.
            firsts: bool[B, burn_in+T+H-1], which frames are an episode's first: there the state
                starts from zero, and stacks hold no earlier frames. None: there is one episode.
            burn_in: steps before the T, which carry the state and give no Q-values; a core without
                memory does not see them.
            previous: float32[B, burn_in+T+H-1, 2], the action before each frame, counted from 1,
                and tanh of its reward; zeros at an episode's first frame, and as None.
        """
        if not state:
            frames, firsts = frames[:, burn_in:], None if firsts is None else firsts[:, burn_in:]
            burn_in = 0
        num_steps = frames.shape[1] - self.history + 1
        stacks = [frames[:, h:h + num_steps] for h in range(self.history)]
        memory = {}
        if firsts is not None:
            stacks = _within_episodes(stacks, firsts)
            memory["first"] = firsts[:, self.history - 1:]
        if previous is not None:
            action, reward = ops.split(previous[:, self.history - 1:], 2, axis=-1)
            action = ops.cast(action[..., 0], "int32")
            # 0 is none; minus 1 it would be the last one in ONNX.
            chosen = ops.one_hot(action, self.num_actions + 1)[..., 1:]
            memory["previous"] = ops.concatenate([chosen, reward], axis=-1)  # [B, burn_in+T, A+1]
        stacks = ops.stack(stacks, axis=2)  # [B, burn_in+T, H, ...]
        # Time is folded into the batch by hand: keras.layers.TimeDistributed drops steps when T is
        # unknown to a traced graph.
        stacks = ops.reshape(stacks, (-1, *stacks.shape[2:]))
        place = None
        if self.skips_blank:
            stacks, place = backends.leave_out_blank(stacks)
        features = self.torso(stacks)  # [B*(burn_in+T), F], or fewer, where blank ones are left out
        if place is not None and isinstance(self.core, LSTMCore):
            memory["place"] = place
        elif place is not None:
            features = ops.take(features, place, axis=0)
        outputs, state = self.core(features, state, num_steps=num_steps, **memory)
        q_values = self.head(outputs)  # [B*(burn_in+T), A]
        return ops.reshape(q_values, (-1, num_steps, q_values.shape[-1]))[:, burn_in:], state

    def load_torso(self, path: str | os.PathLike[str]) -> None:
        """Read the torso, and nothing else, from what `save_weights` wrote of a network.

        Raises:
            ValueError: that torso does not fit; the kernels of both are named.
        """
        expected = [tuple(w.shape) for w in self.torso.weights if len(w.shape) > 1]
        shapes: dict[str, tuple[int, ...]] = {}
        with h5py.File(path) as file:  # Keras would say that a layer received nothing.
            file.visititems(lambda name, item: shapes.update({name: getattr(item, "shape", ())}))
        saved = [shape for name, shape in shapes.items()
                 if name.split("/")[0] not in ("core", "head") and len(shape) > 1]
        if sorted(saved) != sorted(expected):  # dense_10 comes before dense_2 in the file.
            raise ValueError(f"{path} holds {_name_torso(saved)}; expected {_name_torso(expected)}")
        self.load_weights(path, objects_to_skip=[self.core, self.head])


def _within_episodes(stacks, firsts):
    """Return the frames of each place in a stack, zero where a later place begins an episode.

    ```
    firsts    0  0  1  0  0        H = 3; the stacks of the last three frames
    stacks    .  .  f2             f0 and f1 are of the episode before
                 .  f2 f3
                    f2 f3 f4
    ```
    Args:
        stacks: H arrays [B, T, ...], oldest place first.
        firsts: bool[B, T+H-1].
    """
    num_steps, within = stacks[0].shape[1], [stacks[-1]]
    ended = ops.zeros_like(firsts[:, :num_steps])
    for place in reversed(range(len(stacks) - 1)):
        ended = ops.logical_or(ended, firsts[:, place + 1:place + 1 + num_steps])
        mask = ops.reshape(ended, (*ended.shape, *[1] * (len(stacks[0].shape) - 2)))
        within.insert(0, ops.where(mask, ops.zeros_like(stacks[place]), stacks[place]))
    return within


def torso(frame_shape: Sequence[int], history: int, dtype: str,
          convolutions: Sequence[tuple[int, int, int]], norm: bool = False) -> keras.Sequential:
    """Return convolutions with ReLU for images, a small dense layer for vectors.

    Args:
        frame_shape: images come as uint8[B*T, H, *frame_shape], vectors as float32[B*T, H, D].
        convolutions: (filters, size, stride) of each.
        norm: whether a LayerNorm stands before each ReLU.

    Returns:
        Keras layers from frames to features [B*T, F].
    """
    def activated(layer, *settings, init=INIT_BEFORE_NORM, first_dtype=dtype):
        if not norm:
            return [layer(*settings, activation="relu", dtype=dtype)]
        # Over channels, as the authors' Flax code; CleanRL's normalises over the whole map.
        return [layer(*settings, kernel_initializer=init, dtype=first_dtype),
                kernels.NormReLU(dtype)]

    if len(frame_shape) == 1:
        dense = activated(layers.Dense, 128)
        return keras.Sequential([layers.Flatten(dtype=dtype), *dense], name="torso")
    pixels, *others = convolutions
    convolved = [activated(layers.Conv2D, *pixels, init=ContrastInit(), first_dtype="float32"),
                 *(activated(layers.Conv2D, *convolution) for convolution in others)]
    return keras.Sequential([
        keras.Input((history, *frame_shape), dtype="uint8"),  # Or Keras would cast them.
        kernels.Pixels(dtype="float32" if norm else dtype),  # [B*T, 84, 84, H], of RGB 3H
        *sum(convolved, []),  # NATURE: [B*T, 20, 20, 32], [.., 9, 9, 64], [.., 7, 7, 64]
        layers.Flatten(dtype=dtype)], name="torso")


class DenseCore(layers.Dense):
    """A dense layer with ReLU, which has no state."""

    state_sizes = ()

    def __init__(self, units: int, dtype: str, **settings: Any) -> None:
        super().__init__(units, dtype=dtype, name="core", **settings)

    def call(self, features: Tensor, state: list[Tensor], num_steps: int,
             first: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        outputs = kernels.product(self.compute_dtype, features, self.kernel)
        return ops.relu(outputs + ops.cast(self.bias, "float32")), []


class NormDenseCore(DenseCore):
    """A dense layer, a LayerNorm and a ReLU."""

    def __init__(self, units: int, dtype: str) -> None:
        super().__init__(units, dtype, kernel_initializer=INIT_BEFORE_NORM)
        self.norm_relu = kernels.NormReLU("float32")

    def build(self, features_shape: tuple[int | None, ...]) -> None:
        super().build(features_shape)
        self.norm_relu.build((None, self.units))

    def call(self, features: Tensor, state: list[Tensor], num_steps: int,
             first: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        outputs = kernels.product(self.compute_dtype, features, self.kernel)
        return self.norm_relu(outputs + ops.cast(self.bias, "float32")), []


class LSTMCore(layers.Layer):
    """keras.layers.LSTM with the input projection hoisted out of the recurrence.

    Keras' own layer reads the 3136 x 2048 input kernel at every step. Here one product serves all
    steps, and each step reads only the recurrent kernel, units x 4 units. Weights, initialisation
    and gates (i, f, c, o) are Keras'. No activation follows, unless `relu`. The state (h, c), the
    gates and the bias stay float32 under mixed precision.

    Args:
        after_dense: whether a dense layer with ReLU, of as many units, comes before.
        norm: whether that dense layer has a LayerNorm before its ReLU.
        relu: whether a ReLU follows, outside of the recurrence.
        num_previous: numbers that are inputs of each step beside the features.
    """

    def __init__(self, units: int, dtype: str, after_dense: bool = False, norm: bool = False,
                 relu: bool = False, num_previous: int = 0) -> None:
        super().__init__(dtype=dtype, autocast=False, name="core")
        self.units, self.state_sizes, self.num_previous = units, (units, units), num_previous
        self.before = layers.Identity(dtype=dtype)
        if after_dense and norm:
            dense = layers.Dense(units, kernel_initializer=INIT_BEFORE_NORM, dtype=dtype,
                                 name="dense")
            self.before = keras.Sequential([dense, kernels.NormReLU(dtype)])
        elif after_dense:
            self.before = layers.Dense(units, "relu", dtype=dtype, name="dense")
        self.after = ops.relu if relu else lambda outputs: outputs

    def build(self, features_shape: tuple[int | None, ...]) -> None:
        U = self.units
        self.before.build(features_shape)
        num_features = self.before.compute_output_shape(features_shape)[-1]
        self.kernel = self.add_weight((num_features, 4 * U), "glorot_uniform", name="kernel")
        self.recurrent_kernel = self.add_weight((U, 4 * U), "orthogonal", name="recurrent_kernel")
        self.bias = self.add_weight((4 * U,), "zeros", autocast=False, name="bias")
        if self.num_previous:
            self.previous_kernel = self.add_weight((self.num_previous, 4 * U), "glorot_uniform",
                                                   name="previous_kernel")
        forget = ops.arange(4 * U) // U == 1
        # 1, so that an untrained cell remembers (Gers et al. 2000).
        self.bias.assign(ops.cast(forget, self.bias.dtype))

    def call(self, features: Tensor, state: list[Tensor], num_steps: int,
             first: Tensor | None = None, previous: Tensor | None = None,
             place: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        product = functools.partial(kernels.product, self.compute_dtype)
        projected = product(self.before(features), self.kernel) + self.bias  # [B*T, 4U]
        if place is not None:  # of each step's features, of which blank frames have the same
            projected = ops.take(projected, place, axis=0)
        if previous is not None:
            inputs = ops.reshape(previous, (-1, self.num_previous))  # [B*T, A+1]
            projected = projected + product(inputs, self.previous_kernel)
        projected = ops.reshape(projected, (-1, num_steps, 4 * self.units))
        recurrence = kernels.lstm(product, _keep(first))
        outputs, *state = recurrence(projected, ops.cast(self.recurrent_kernel, "float32"), *state)
        return self.after(ops.reshape(outputs, (-1, self.units))), state  # [B*T, U]


class RNNCore(layers.Layer):
    """Two of keras.layers.SimpleRNN, one on the other, their input projections hoisted as above.

    The state is h of each layer; h and the biases stay float32 under mixed precision.
    """

    def __init__(self, units: int, dtype: str) -> None:
        super().__init__(dtype=dtype, autocast=False, name="core")
        self.units, self.state_sizes = units, (units, units)

    def build(self, features_shape: tuple[int | None, ...]) -> None:
        U = self.units
        self.weights_of = [
            (self.add_weight((size, U), "glorot_uniform", name=f"kernel_{i}"),
             self.add_weight((U, U), "orthogonal", name=f"recurrent_kernel_{i}"),
             self.add_weight((U,), "zeros", autocast=False, name=f"bias_{i}"))
            for i, size in enumerate((features_shape[-1], U))]

    def call(self, features: Tensor, state: list[Tensor], num_steps: int,
             first: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        product = functools.partial(kernels.product, self.compute_dtype)
        inputs, last, keep = features, [], _keep(first)  # [B*T, ...]
        for (kernel, recurrent_kernel, bias), h in zip(self.weights_of, state):  # h [B, U]
            projected = product(inputs, kernel) + bias
            projected = ops.reshape(projected, (-1, num_steps, self.units))
            outputs = []
            for t in range(num_steps):
                h = h if keep is None else h * keep[:, t]
                h = ops.tanh(projected[:, t] + product(h, recurrent_kernel))
                outputs.append(h)
            inputs = ops.reshape(ops.stack(outputs, axis=1), (-1, self.units))  # [B*T, U]
            last.append(h)
        return inputs, last


def _keep(first):
    """Return float32[B, T, 1], 0 where the state starts from zero, of first bool[B, T] or None."""
    return None if first is None else 1.0 - ops.cast(first, "float32")[..., None]


class DuelingHead(layers.Layer):
    """A value, and an advantage of each action minus their mean, each behind a layer with ReLU.

    Reference: Wang et al. 2016.
    """

    def __init__(self, num_actions: int, units: int) -> None:
        super().__init__(dtype="float32", name="head")
        self.streams = [keras.Sequential([layers.Dense(units, "relu", dtype="float32"),
                                          layers.Dense(size, dtype="float32")], name=name)
                        for name, size in (("value", 1), ("advantages", num_actions))]

    def build(self, shape: tuple[int | None, ...]) -> None:
        for stream in self.streams:
            stream.build(shape)

    def call(self, outputs: Tensor) -> Tensor:
        value, advantages = (stream(outputs) for stream in self.streams)  # [B*T, 1], [B*T, A]
        return value + advantages - ops.mean(advantages, axis=-1, keepdims=True)


HEADS: dict[str, Callable[..., layers.Layer]] = {
    "dense": lambda num_actions, units: layers.Dense(num_actions, dtype="float32", name="head"),
    "dueling": DuelingHead,
}
CORES: dict[str, Callable[..., layers.Layer]] = {
    "dense": DenseCore,
    "norm_dense": NormDenseCore,
    "norm_dense_lstm": functools.partial(LSTMCore, after_dense=True, norm=True),
    "lstm": LSTMCore,
    "lstm_relu": functools.partial(LSTMCore, relu=True),
    "dense_lstm": functools.partial(LSTMCore, after_dense=True),
    "dense_lstm_relu": functools.partial(LSTMCore, after_dense=True, relu=True),
    "rnn2": RNNCore,
}


def _name_torso(kernel_shapes):
    shapes = ", ".join("x".join(map(str, shape)) for shape in kernel_shapes)
    return f"a torso of {shapes}" if shapes else "no torso"
