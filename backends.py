"""Compile the update and the acting step, once per backend. Only this file imports TensorFlow or JAX."""

import collections
import contextlib
import ctypes
import functools
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from launch import start

import numpy as np

Compiled = collections.namedtuple("Compiled", "act learn sync_target set_learning_rate pull push traces")
Compiled.__doc__ = """The compiled steps of one agent.

act(frames, state, first) -> q_values float32[N, A], state
learn(window, state) -> aux: a dict of scalars and `next_state`
sync_target(): copy the online network's weights into the target network
set_learning_rate(value): change the learning rate of later updates; it is a variable, so that nothing is traced again
pull(): bring the weights from the device into the Keras variables, before these are read
push(): bring the Keras variables to the device, after they were assigned
traces: the names of the functions traced so far
"""


@contextlib.contextmanager
def _silence():
    """Keep the greetings of TensorFlow's C++ code off standard error; no setting does."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    stderr = os.dup(2)
    with open(os.devnull, "w") as devnull:
        os.dup2(devnull.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


with _silence():
    try:
        import keras
    except ValueError as error:
        raise ValueError(f"Keras refuses its settings in {start.keras_json()}: {error}") from error

    if keras.backend.backend() == "jax":
        import jax
    elif keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        for _gpu in tf.config.list_physical_devices("GPU"):  # Looks for GPUs now, in silence.
            tf.config.experimental.set_memory_growth(_gpu, True)

Tensor = Any  # of the backend, or an array that it takes
_exporting = False  # whether a graph is traced for other programs, which have no XLA
# Keras' defaults, whatever a user's keras.json says.
keras.config.set_floatx("float32")
keras.config.set_epsilon(1e-7)
keras.config.set_image_data_format("channels_last")


def give_back_memory() -> None:
    """Return freed memory, which the C library keeps, to the system. Call this before a large copy would add to it."""
    with contextlib.suppress(AttributeError, TypeError):  # as on macOS and Windows
        ctypes.CDLL(None).malloc_trim(0)


def to_host(values: Mapping[str, Sequence[Tensor]]) -> dict[str, list[float]]:
    """Return {name: [scalars]} as floats, after one wait for the device."""
    if keras.backend.backend() == "jax":
        values = jax.device_get(values)
    return {name: [float(scalar) for scalar in scalars] for name, scalars in values.items()}


def leave_out_blank(frames: Tensor, bucket: int = 32) -> tuple[Tensor, Tensor | None]:
    """Return frames [K, ...] with one blank frame, zero throughout, for all of them; and the place of each frame there.

    To compute a function of each frame, call it with these, and take its rows at int32[M]: the gradient of the shared
    row is the sum over its frames. K is a multiple of `bucket`, or of a quarter of M if that is less, so that few
    shapes are compiled. JAX, whose shapes are fixed, gets all frames, and no places.

    Args:
        frames: [M, ...].
    """
    if keras.backend.backend() != "tensorflow":
        return frames, None
    shown = tf.reduce_any(tf.not_equal(frames, 0), axis=list(range(1, len(frames.shape))))  # [M]
    at = tf.cast(tf.where(shown)[:, 0], tf.int32)
    num_shown, num_frames = tf.size(at), tf.shape(frames)[0]
    bucket = tf.clip_by_value(num_frames // 4, 1, bucket)
    num_blank = bucket - num_shown % bucket  # 1 at least
    rows = tf.concat([at, tf.fill([num_blank], num_frames)], axis=0)
    place = tf.where(shown, tf.cumsum(tf.cast(shown, tf.int32)) - 1, num_shown)
    return tf.gather(tf.concat([frames, tf.zeros_like(frames[:1])], axis=0), rows), place


def fuse(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a function of arrays that makes one pass over them.

    TensorFlow would make one pass per operation; JAX fuses them anyway.
    """
    if keras.backend.backend() == "tensorflow":
        fused = tf.function(function, autograph=False, jit_compile=True)
        return lambda *inputs: (function if _exporting else fused)(*inputs)
    return function


def export_acting(network: keras.Model, path: pathlib.Path) -> None:
    """Write the acting step of a Q-network for programs without Keras: ONNX at a path in .onnx, else a SavedModel.

    ```
    frames [N, H, ...], state_0, ...  ->  q_values float32[N, A], next_state_0, ...
    ```
    Where a network sees the action and the reward before, its last state is `previous` float32[N, 2], which no step
    returns: the action counted from 1 and tanh of its reward, zeros before an episode.

    Raises:
        ImportError: the package that writes ONNX is missing.
    """
    global _exporting
    signature = [tf.TensorSpec((None, network.history, *network.frame_shape), network.frame_dtype, "frames"),
                 *(tf.TensorSpec((None, size), name=f"state_{i}") for i, size in enumerate(network.core.state_sizes)),
                 *[tf.TensorSpec((None, 2), name="previous")] * network.sees_previous]

    def act(frames, *state):
        others = {}
        if network.sees_previous:
            *state, previous = state
            others["previous"] = tf.repeat(previous[:, None], network.history, axis=1)
        q_values, state = network(frames, list(state), **others)  # T = 1
        return dict(q_values=q_values[:, -1], **{f"next_state_{i}": s for i, s in enumerate(state)})

    _exporting = True
    try:
        if path.suffix == ".onnx":
            import tf2onnx
            with _silence():
                tf2onnx.convert.from_function(tf.function(act, autograph=False), signature, output_path=str(path))
        else:
            archive = keras.export.ExportArchive()
            archive.track(network)
            archive.add_endpoint("serving_default", act, signature)
            archive.write_out(str(path), verbose=False)
    finally:
        _exporting = False


def compile_torso(torso: Callable[[Tensor], Tensor], variables: Sequence[keras.Variable], frame_shape: tuple[int, ...],
                  ) -> tuple[Callable[[Tensor], Tensor], list[str]]:
    """Compile a torso, a function that only reads its variables.

    Args:
        torso: uint8[N, *frame_shape] -> float32[N, D], in keras.ops.
        variables: that the torso reads.

    Returns:
        The compiled torso, and the list of the traces made so far: TensorFlow makes one for any N, JAX one for each N.
    """
    traces = []

    def traced(frames):
        traces.append("torso")
        return torso(frames)

    if keras.backend.backend() == "tensorflow":
        signature = [tf.TensorSpec((None, *frame_shape), "uint8")]
        return tf.function(traced, autograph=False, input_signature=signature), traces

    @jax.jit
    def compiled(values, frames):
        with keras.StatelessScope(list(zip(variables, values))):
            return traced(frames)

    # The values are arguments, since XLA would fold values that are closed over, for minutes.
    values = [variable.value for variable in variables]
    return lambda frames: compiled(values, frames), traces


def compile_steps(q_step: Callable[..., tuple[Tensor, list[Tensor]]],
                  td_loss: Callable[..., tuple[Tensor, dict[str, Any]]], online_network: keras.Model,
                  target_network: keras.Model | None, optimizer: keras.optimizers.Optimizer,
                  clip_norm: float) -> Compiled:
    """Compile acting and learning for the Keras backend in use.

    Args:
        q_step: (frames, state, first) -> q_values, state; reads `online_network`.
        td_loss: (window, state) -> loss, aux; reads both networks.
        optimizer: a built Keras optimizer.
        clip_norm: global L2 norm to which gradients are clipped, 0 for no clipping.

    Raises:
        ValueError: Keras runs on a backend other than TensorFlow and JAX.
    """
    compilers = dict(tensorflow=_compile_tensorflow, jax=_compile_jax)
    backend = keras.backend.backend()
    if backend not in compilers:
        raise ValueError(f"KERAS_BACKEND={backend} was given; expected tensorflow or jax")
    return compilers[backend](q_step, td_loss, online_network, target_network, optimizer, clip_norm)


def _clip(gradients, norm, clip_norm):
    """Return gradients of L2 norm `norm`, clipped.

    Keras would compute the norm a second time; it is needed here for the log.
    """
    if not clip_norm:
        return gradients
    return [gradient * (clip_norm / keras.ops.maximum(norm, clip_norm)) for gradient in gradients]


def _graphs(function, signature=None):
    """Return `function` as a TensorFlow graph that is called directly.

    There is one graph if there is a signature, else one for each combination of the inputs' shapes. A tf.function looks
    at more than shapes at each call, which takes a third of an acting step of a small network.
    """
    graphs = {}

    def call(*inputs):
        inputs = tf.nest.map_structure(tf.convert_to_tensor, inputs)
        shapes = None if signature else tuple(tuple(tensor.shape) for tensor in tf.nest.flatten(inputs))
        if shapes not in graphs:  # No function here branches on a tensor, so AutoGraph is not needed.
            graphs[shapes] = tf.function(function, autograph=False).get_concrete_function(*(signature or inputs))
        return graphs[shapes](*inputs)
    return call


def _compile_tensorflow(q_step, td_loss, online_network, target_network, optimizer, clip_norm):
    traces, trainable = [], online_network.trainable_variables
    # The number of environments is left open, so that training and evaluation share one trace.
    frames = tf.TensorSpec((None, online_network.history, *online_network.frame_shape), online_network.frame_dtype)
    state = [tf.TensorSpec((None, size)) for size in online_network.acting_sizes]

    @functools.partial(_graphs, signature=(frames, state, tf.TensorSpec((None,), tf.bool)))
    def act(frames, state, first):
        traces.append("act")  # This line runs only while tracing.
        return q_step(frames, state, first)

    @fuse
    def apply(gradients, norm):
        optimizer.apply(_clip(gradients, norm, clip_norm), trainable)

    @_graphs
    def learn(window, state):
        traces.append("learn")
        with tf.GradientTape() as tape:
            loss, aux = td_loss(window, state)
        gradients = tape.gradient(loss, trainable)
        norm = tf.linalg.global_norm(gradients)  # Not in `apply`, where XLA takes three times as long for a sum.
        apply(gradients, norm)
        return aux | dict(loss=loss, gradient_norm=norm)

    def sync_target():
        for target, online in zip(target_network.variables if target_network else (), online_network.variables):
            target.assign(online)

    return Compiled(act, learn, sync_target, optimizer.learning_rate.assign, lambda: None, lambda: None, traces)


def _compile_jax(q_step, td_loss, online_network, target_network, optimizer, clip_norm):
    traces, targets = [], target_network.trainable_variables if target_network else []
    variables = online_network.trainable_variables, targets, optimizer.variables
    values = [None, None, None]  # of these variables on the device; each update takes (donates) and replaces them

    @jax.jit
    def q_values(online, frames, state, first):
        traces.append("act")
        with keras.StatelessScope(list(zip(variables[0], online))):
            return q_step(frames, state, first)

    def stateless_loss(online, target, window, state):
        with keras.StatelessScope([*zip(variables[0], online), *zip(variables[1], target)]):
            return td_loss(window, state)

    @functools.partial(jax.jit, donate_argnums=(0, 2))
    def update(online, target, optimizer_values, window, state):
        traces.append("learn")
        (loss, aux), gradients = jax.value_and_grad(stateless_loss, has_aux=True)(online, target, window, state)
        norm = keras.ops.sqrt(sum(keras.ops.sum(g * g) for g in gradients))
        gradients = _clip(gradients, norm, clip_norm)
        online, optimizer_values = optimizer.stateless_apply(optimizer_values, gradients, online)
        return online, optimizer_values, aux | dict(loss=loss, gradient_norm=norm)

    def learn(window, state):
        values[0], values[2], aux = update(*values, window, state)
        return aux

    def sync_target():
        values[1] = [value.copy() for value in values[0]] if target_network else []  # The online values are donated.

    at_rate = next(i for i, variable in enumerate(optimizer.variables) if variable is optimizer.learning_rate)

    def set_learning_rate(value):
        values[2][at_rate] = np.asarray(value, "float32")  # It goes along with the next update.

    def pull():
        for variable, value in zip(sum(variables, []), sum(values, [])):
            variable.assign(value.copy())

    def push():
        values[:] = [[variable.value.copy() for variable in group] for group in variables]

    push()
    act = lambda *inputs: q_values(values[0], *inputs)
    return Compiled(act, learn, sync_target, set_learning_rate, pull, push, traces)
