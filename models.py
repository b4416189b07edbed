"""Q-networks: torso -> core -> head, one table of names (Hausknecht & Stone 2015, section 4 and figure 2)."""

import collections
import functools

import h5py
import keras
from keras import layers, ops


def torso(frame_shape, dtype, convolutions):
    """Return convolutions with ReLU for images [B*T, H, 84, 84], a small MLP for vectors [B*T, H, D]; -> [B*T, features].

    Args:
        convolutions: (filters, size, stride) of each.
    """
    if len(frame_shape) == 1:
        return keras.Sequential([layers.Flatten(dtype=dtype), layers.Dense(128, "relu", dtype=dtype)], name="torso")
    return keras.Sequential([
        layers.Rescaling(1 / 255, dtype=dtype),  # The one place where pixels are scaled.
        layers.Permute((2, 3, 1), dtype=dtype),  # [B*T, 84, 84, H]
        *(layers.Conv2D(*convolution, activation="relu", dtype=dtype) for convolution in convolutions),
        layers.Flatten(dtype=dtype)], name="torso")


nature_torso = functools.partial(torso, convolutions=[  # Mnih et al. 2015
    (32, 8, 4),  # [B*T, 20, 20, 32]
    (64, 4, 2),  # [B*T, 9, 9, 64]
    (64, 3, 1)])  # [B*T, 7, 7, 64], 3136 features
torso_2013 = functools.partial(torso, convolutions=[  # Mnih et al. 2013
    (16, 8, 4),  # [B*T, 20, 20, 16]
    (32, 4, 2)])  # [B*T, 9, 9, 32], 2592 features


def no_torso(dtype):
    """Return what lays the features of H frames [B*T, H, D] side by side, [B*T, H*D]: a frozen torso has seen the frames."""
    return layers.Flatten(dtype=dtype, name="torso")


class DenseCore(layers.Dense):
    """A dense layer with ReLU, which has no state."""

    state_sizes = ()

    def __init__(self, units, dtype):
        super().__init__(units, "relu", dtype=dtype, name="core")

    def call(self, features, state, num_steps):
        return super().call(features), []


def _product(dtype, a, b):
    """Return the matrix product, computed in `dtype`, as float32."""
    return ops.cast(ops.matmul(ops.cast(a, dtype), ops.cast(b, dtype)), "float32")


class LSTMCore(layers.Layer):
    """keras.layers.LSTM with the input projection hoisted out of the recurrence; no activation follows it.

    Keras' own layer re-reads the 3136 x 2048 input kernel at every step of the recurrence. Here one product serves all steps, and only
    the units x 4 units recurrent kernel is walked through; weights, initialisation and gates (i, f, c, o) are those of Keras.
    The state (h, c), the gates and the bias stay float32 under mixed precision.

    Args:
        after_dense: a dense layer with ReLU, of as many units, comes before it.
        relu: a ReLU follows it, outside of the recurrence.
    """

    def __init__(self, units, dtype, after_dense=False, relu=False):
        super().__init__(dtype=dtype, autocast=False, name="core")
        self.units, self.state_sizes = units, (units, units)
        self.before = layers.Dense(units, "relu", dtype=dtype, name="dense") if after_dense else layers.Identity(dtype=dtype)
        self.after = ops.relu if relu else lambda outputs: outputs

    def build(self, features_shape):
        self.before.build(features_shape)
        features_shape = self.before.compute_output_shape(features_shape)
        self.kernel = self.add_weight((features_shape[-1], 4 * self.units), "glorot_uniform", name="kernel")
        self.recurrent_kernel = self.add_weight((self.units, 4 * self.units), "orthogonal", name="recurrent_kernel")
        self.bias = self.add_weight((4 * self.units,), "zeros", autocast=False, name="bias")
        forget = ops.arange(4 * self.units) // self.units == 1
        self.bias.assign(ops.cast(forget, self.bias.dtype))  # 1, so that an untrained cell remembers (Gers et al. 2000)

    def call(self, features, state, num_steps):
        product = functools.partial(_product, self.compute_dtype)
        h, c = state  # [B, U] each
        projected = product(self.before(features), self.kernel) + self.bias  # [B*T, 4U]
        projected = ops.reshape(projected, (-1, num_steps, 4 * self.units))
        outputs = []
        for t in range(num_steps):
            i, f, g, o = ops.split(projected[:, t] + product(h, self.recurrent_kernel), 4, axis=-1)  # [B, U] each
            c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
            h = ops.sigmoid(o) * ops.tanh(c)
            outputs.append(h)
        return self.after(ops.reshape(ops.stack(outputs, axis=1), (-1, self.units))), [h, c]  # [B*T, U]


class RNNCore(layers.Layer):
    """Two of keras.layers.SimpleRNN, one on the other, their input projections hoisted out of the recurrence as in LSTMCore.

    The state is h of each layer; it and the biases stay float32 under mixed precision.
    """

    def __init__(self, units, dtype):
        super().__init__(dtype=dtype, autocast=False, name="core")
        self.units, self.state_sizes = units, (units, units)

    def build(self, features_shape):
        self.weights_of = [(self.add_weight((size, self.units), "glorot_uniform", name=f"kernel_{i}"),
                            self.add_weight((self.units, self.units), "orthogonal", name=f"recurrent_kernel_{i}"),
                            self.add_weight((self.units,), "zeros", autocast=False, name=f"bias_{i}"))
                           for i, size in enumerate((features_shape[-1], self.units))]

    def call(self, features, state, num_steps):
        product = functools.partial(_product, self.compute_dtype)
        inputs, last = features, []  # [B*T, ...]
        for (kernel, recurrent_kernel, bias), h in zip(self.weights_of, state):  # h [B, U]
            projected = ops.reshape(product(inputs, kernel) + bias, (-1, num_steps, self.units))
            outputs = []
            for t in range(num_steps):
                h = ops.tanh(projected[:, t] + product(h, recurrent_kernel))
                outputs.append(h)
            inputs = ops.reshape(ops.stack(outputs, axis=1), (-1, self.units))  # [B*T, U]
            last.append(h)
        return inputs, last


Network = collections.namedtuple("Network", "torso core history unroll sample")
NETWORKS = {  # name -> torso, core, and the defaults of --history, --unroll and --sample
    "DQN": Network(nature_torso, DenseCore, history=4, unroll=1, sample="timestep"),  # Mnih et al. 2015
    "DRQN": Network(nature_torso, LSTMCore, history=1, unroll=10, sample="episode"),  # Hausknecht & Stone 2015
    "DQN2013": Network(torso_2013, DenseCore, history=4, unroll=1, sample="timestep"),  # Mnih et al. 2013, with --units=256
    "DRQN_RNN2": Network(nature_torso, RNNCore, history=1, unroll=10, sample="episode"),  # Bhowmik: two simple layers for the LSTM
}
NETWORKS |= {  # the other placements of the LSTM in Hausknecht & Stone 2015, appendix; in DRQN it replaces the dense layer
    "DRQN_ReLU": NETWORKS["DRQN"]._replace(core=functools.partial(LSTMCore, relu=True)),
    "DRQN_after_dense": NETWORKS["DRQN"]._replace(core=functools.partial(LSTMCore, after_dense=True)),
    "DRQN_after_dense_ReLU": NETWORKS["DRQN"]._replace(core=functools.partial(LSTMCore, after_dense=True, relu=True)),
}


class QNetwork(keras.Model):
    """Q-values of every action after each of T observations, each a stack of the last `history` frames.

    Args:
        name: of NETWORKS.
        frame_shape: (84, 84) for uint8 images, (D,) for float32 vectors.
        num_actions: A.
        history: H, frames per observation.
        units: of the core.
        precision: `float32` or `mixed_bfloat16`; Q-values are float32 with either.
        features: whether frames are features of a frozen torso, which go straight into the core.
    """

    def __init__(self, name, frame_shape, num_actions, history, units, precision="float32", features=False):
        super().__init__(name=name.lower())
        network = NETWORKS[name]
        self.frame_shape, self.history = tuple(frame_shape), history
        self.torso = no_torso(precision) if features else network.torso(frame_shape, precision)
        self.core = network.core(units, precision)
        self.head = layers.Dense(num_actions, dtype="float32", name="head")
        self.frame_dtype = "uint8" if len(frame_shape) == 2 else "float32"
        self(ops.zeros((1, history, *frame_shape), self.frame_dtype), self.initial_state(1))

    def initial_state(self, batch_size):
        """Return the state before an episode: a list of float32[B, units], empty for a core without memory."""
        return [ops.zeros((batch_size, size)) for size in self.core.state_sizes]

    def call(self, frames, state):
        """Return q_values float32[B, T, A] and the state after the last step.

        Args:
            frames: uint8[B, T+H-1, 84, 84] or float32[B, T+H-1, D], oldest first.
            state: as from `initial_state` or an earlier call.
        """
        num_steps = frames.shape[1] - self.history + 1  # T
        outputs, state = self._core(frames, state, num_steps)
        q_values = self.head(outputs)  # [B*T, A]
        return ops.reshape(q_values, (-1, num_steps, q_values.shape[-1])), state

    def advance(self, frames, state):
        """Return the state that `call` would, without Q-values; free for a core without memory."""
        return self._core(frames, state, frames.shape[1] - self.history + 1)[1] if state else []

    def load_torso(self, path):
        """Read the torso, and nothing else, from what `save_weights` wrote of a network.

        Raises:
            ValueError: that one does not fit; the kernels of both are named.
        """
        own, saved = [tuple(weight.shape) for weight in self.torso.weights if len(weight.shape) > 1], {}
        with h5py.File(path) as file:  # Of what does not fit, Keras says that it received nothing.
            file.visititems(lambda name, item: saved.update({name: getattr(item, "shape", ())}))
        saved = [shape for name, shape in saved.items() if name.split("/")[0] not in ("core", "head") and len(shape) > 1]
        if saved != own:
            raise ValueError(f"{path} holds {_describe(saved)}; expected {_describe(own)}")
        self.load_weights(path, objects_to_skip=[self.core, self.head])

    def _core(self, frames, state, num_steps):
        stacks = ops.stack([frames[:, h:h + num_steps] for h in range(self.history)], axis=2)  # [B, T, H, ...]
        # Time is folded into the batch by hand: keras.layers.TimeDistributed drops steps when T is unknown to a traced graph.
        features = self.torso(ops.reshape(stacks, (-1, *stacks.shape[2:])))
        return self.core(features, state, num_steps=num_steps)


def _describe(kernels):
    return f"a torso of {', '.join('x'.join(map(str, kernel)) for kernel in kernels)}" if kernels else "no torso"
