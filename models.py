"""Q-networks: torso -> core -> head, one table of names (Hausknecht & Stone 2015, section 4 and figure 2)."""

import collections
import functools

import backends  # first: it imports the backend quietly
import h5py
import keras
from keras import layers, ops



class Pixels(layers.Layer):
    """Images uint8[N, H, 84, 84] as convolutions read them: [N, 84, 84, H], from 0 to 1."""

    def __init__(self, dtype):
        super().__init__(dtype=dtype, autocast=False)
        # The one place where pixels are scaled. Cast, scaled and transposed one after the other, they were a tenth of an update of DQN.
        self.scale = backends.fuse(lambda frames: ops.transpose(ops.cast(frames, self.compute_dtype) / 255, (0, 2, 3, 1)))

    def call(self, frames):
        return self.scale(frames)


def torso(frame_shape, history, dtype, convolutions):
    """Return convolutions with ReLU for images [B*T, H, 84, 84], a small MLP for vectors [B*T, H, D]; -> [B*T, features].

    Args:
        convolutions: (filters, size, stride) of each.
    """
    if len(frame_shape) == 1:
        return keras.Sequential([layers.Flatten(dtype=dtype), layers.Dense(128, "relu", dtype=dtype)], name="torso")
    return keras.Sequential([
        keras.Input((history, *frame_shape), dtype="uint8"),  # Or Keras would cast them.
        Pixels(dtype=dtype),  # [B*T, 84, 84, H]
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


def _product(dtype, a, b):
    """Return the matrix product, computed in `dtype`, as float32.

    It is a batch of one: TensorFlow on a CPU takes up to four times as long for a plain product with a transpose, and gradients are made
    of those.
    """
    a, b = (ops.expand_dims(ops.cast(matrix, dtype), 0) for matrix in (a, b))
    return ops.cast(ops.squeeze(ops.matmul(a, b), 0), "float32")


class DenseCore(layers.Dense):
    """A dense layer with ReLU, which has no state."""

    state_sizes = ()

    def __init__(self, units, dtype):
        super().__init__(units, dtype=dtype, name="core")

    def call(self, features, state, num_steps):
        return ops.relu(_product(self.compute_dtype, features, self.kernel) + ops.cast(self.bias, "float32")), []


def lstm(product):
    """Return the recurrence of an LSTM with its gradient written out: (projected, kernel, h, c) -> outputs, h, c.

    Backpropagation through time then ends with one product over all steps for the kernel's gradient (Appleyard et al. 2016), where a
    backend makes one per step and adds them up: on a CPU the recurrence takes half the time.

    Args:
        product: of two matrices.

    Returns:
        A function of projected float32[B, T, 4U], the inputs times their kernel and the bias; kernel float32[U, 4U]; and the state before
        the first step, float32[B, U] each; to outputs float32[B, T, U] and the state after the last.
    """
    @ops.custom_gradient
    def recurrence(projected, kernel, h, c):
        outputs, steps = [], []
        for t in range(projected.shape[1]):
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
                d_gates = [ops.concatenate([d_c * g * i * (1 - i), d_c * c_tm1 * f * (1 - f), d_c * i * (1 - g**2),
                                            d_h * tanh_c * o * (1 - o)], axis=-1)] + d_gates  # of steps t to T: [B, 4U] each
                d_h, d_c = product(d_gates[0], transposed), d_c * f
            all_h_tm1 = ops.concatenate([h_tm1 for *_, h_tm1, _ in steps])  # [T*B, U]
            d_kernel = product(ops.transpose(all_h_tm1), ops.concatenate(d_gates))
            return ops.stack(d_gates, axis=1), d_kernel, d_h, d_c
        return (ops.stack(outputs, axis=1), h, c), gradient
    return recurrence


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
        projected = product(self.before(features), self.kernel) + self.bias  # [B*T, 4U]
        projected = ops.reshape(projected, (-1, num_steps, 4 * self.units))
        outputs, *state = lstm(product)(projected, ops.cast(self.recurrent_kernel, "float32"), *state)
        return self.after(ops.reshape(outputs, (-1, self.units))), state  # [B*T, U]


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
        self.torso = no_torso(precision) if features else network.torso(frame_shape, history, precision)
        self.core = network.core(units, precision)
        self.head = layers.Dense(num_actions, dtype="float32", name="head")
        self.frame_dtype = "uint8" if len(frame_shape) == 2 else "float32"
        self(ops.zeros((1, history, *frame_shape), self.frame_dtype), self.initial_state(1))

    def initial_state(self, batch_size):
        """Return the state before an episode: a list of float32[B, units], empty for a core without memory."""
        return [ops.zeros((batch_size, size)) for size in self.core.state_sizes]

    def call(self, frames, state, burn_in=0):
        """Return q_values float32[B, T, A] and the state after the last step.

        Args:
            frames: uint8[B, burn_in+T+H-1, 84, 84] or float32[B, burn_in+T+H-1, D], oldest first.
            state: as from `initial_state` or an earlier call.
            burn_in: steps before the T, which the state goes through without Q-values; a core without memory does not see them.
        """
        frames, burn_in = (frames, burn_in) if state else (frames[:, burn_in:], 0)
        num_steps = frames.shape[1] - self.history + 1
        stacks = ops.stack([frames[:, h:h + num_steps] for h in range(self.history)], axis=2)  # [B, burn_in+T, H, ...]
        # Time is folded into the batch by hand: keras.layers.TimeDistributed drops steps when T is unknown to a traced graph.
        features = self.torso(ops.reshape(stacks, (-1, *stacks.shape[2:])))
        outputs, state = self.core(features, state, num_steps=num_steps)
        q_values = self.head(outputs)  # [B*(burn_in+T), A]
        return ops.reshape(q_values, (-1, num_steps, q_values.shape[-1]))[:, burn_in:], state

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


def _describe(kernels):
    return f"a torso of {', '.join('x'.join(map(str, kernel)) for kernel in kernels)}" if kernels else "no torso"
