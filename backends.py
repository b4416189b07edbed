"""The update and the acting step, compiled once per backend: the only file that imports TensorFlow or JAX."""

import collections
import contextlib
import ctypes
import functools
import os

Compiled = collections.namedtuple("Compiled", "act learn sync_target set_learning_rate pull push traces")
Compiled.__doc__ = """The compiled steps of one agent, and the names of the functions traced so far.

act(frames, state, first) -> q_values float32[N, A], state
learn(window, state) -> aux: a dict of scalars and `next_state`
sync_target(): copy the online network's weights into the target network
set_learning_rate(value): of the updates that follow; a variable of theirs, so that nothing is traced again
pull(), push(): bring the weights from the device into the Keras variables (before they are read), and back (after they were assigned)
"""


@contextlib.contextmanager
def _silence():
    """Keep TensorFlow's C++ greetings, which no setting reaches, off standard error."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    stderr = os.dup(2)
    with open(os.devnull, "w") as devnull:
        os.dup2(devnull.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def num_threads():
    """Return how many threads this process may use: the cores it is bound to, or fewer where Slurm says so without binding it."""
    return min(len(os.sched_getaffinity(0)), int(os.environ.get("SLURM_CPUS_PER_TASK", 1 << 20)))


for _name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "NPROC"):  # NPROC: XLA's, so JAX's
    os.environ.setdefault(_name, str(num_threads()))
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX takes GPU memory as it needs it, so that two runs share a GPU.

_libc = ctypes.CDLL(None)
with contextlib.suppress(AttributeError):  # Not every C library has it.
    # glibc would give each of TensorFlow's threads a heap of its own, up to eight per core, and keep in each what is freed: 40 MB more.
    _libc.mallopt(-8, 2 * num_threads())  # M_ARENA_MAX; with one per thread DQN is 2% slower.

with _silence():
    import keras

    if keras.backend.backend() == "jax":
        import jax
    elif keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        for _gpu in tf.config.list_physical_devices("GPU"):  # Looks for one now, in silence.
            tf.config.experimental.set_memory_growth(_gpu, True)


def give_back_memory():
    """Return to the system what the C library keeps of freed memory: before something large is copied, which would come on top of it."""
    with contextlib.suppress(AttributeError):
        _libc.malloc_trim(0)


def to_host(values):
    """Return {name: [scalars]} as floats, after one wait for the device."""
    if keras.backend.backend() == "jax":
        values = jax.device_get(values)
    return {name: [float(value) for value in of_name] for name, of_name in values.items()}


def fuse(function):
    """Return a function of arrays that makes one pass over them, where TensorFlow would make one per operation; JAX does not."""
    return tf.function(function, autograph=False, jit_compile=True) if keras.backend.backend() == "tensorflow" else function


def compile_torso(torso, variables, frame_shape):
    """Compile a function that only reads its variables.

    Args:
        torso: uint8[N, *frame_shape] -> float32[N, D], in keras.ops.

    Returns:
        The same, compiled, and the names of the functions traced so far: one, whatever N; on JAX one per N.
    """
    traces = []

    def traced(frames):
        traces.append("torso")
        return torso(frames)

    if keras.backend.backend() == "tensorflow":
        return tf.function(traced, autograph=False, input_signature=[tf.TensorSpec((None, *frame_shape), "uint8")]), traces

    @jax.jit
    def compiled(values, frames):
        with keras.StatelessScope(list(zip(variables, values))):
            return traced(frames)

    values = [variable.value for variable in variables]  # As arguments: XLA would fold what is closed over, for minutes.
    return lambda frames: compiled(values, frames), traces


def compile_steps(q_step, td_loss, online_network, target_network, optimizer, clip_norm):
    """Compile acting and learning for the Keras backend in use.

    Args:
        q_step: (frames, state, first) -> q_values, state; reads `online_network`.
        td_loss: (window, state) -> loss, aux; reads both networks.
        optimizer: a built Keras optimizer.
        clip_norm: global L2 norm that gradients are clipped to, 0 for none.

    Raises:
        ValueError: Keras runs on a backend other than TensorFlow and JAX.
    """
    compilers = dict(tensorflow=_tensorflow, jax=_jax)
    if keras.backend.backend() not in compilers:
        raise ValueError(f"KERAS_BACKEND={keras.backend.backend()} was given; expected tensorflow or jax")
    return compilers[keras.backend.backend()](q_step, td_loss, online_network, target_network, optimizer, clip_norm)


def _clip(gradients, norm, clip_norm):
    """Return gradients of L2 norm `norm`, clipped; Keras' own clipping would compute the norm, which is logged, once more."""
    return [gradient * (clip_norm / keras.ops.maximum(norm, clip_norm)) for gradient in gradients] if clip_norm else gradients


def _graphs(function, signature=None):
    """Return `function` as a graph, called directly: that of its signature, or else one for every combination of its inputs' shapes.

    A tf.function would look at more than that at each call, which takes a third of an acting step of a small network.
    """
    graphs = {}

    def call(*inputs):
        inputs = tf.nest.map_structure(tf.convert_to_tensor, inputs)
        shapes = None if signature else tuple(tuple(tensor.shape) for tensor in tf.nest.flatten(inputs))
        if shapes not in graphs:  # Nothing in it branches on a tensor, so AutoGraph need not look.
            graphs[shapes] = tf.function(function, autograph=False).get_concrete_function(*(signature or inputs))
        return graphs[shapes](*inputs)
    return call


def _tensorflow(q_step, td_loss, online_network, target_network, optimizer, clip_norm):
    traces, trainable = [], online_network.trainable_variables
    # Of any number of environments, so that training and evaluation share one trace.
    frames = tf.TensorSpec((None, online_network.history, *online_network.frame_shape), online_network.frame_dtype)
    state = [tf.TensorSpec((None, size)) for size in online_network.core.state_sizes]

    @functools.partial(_graphs, signature=(frames, state, tf.TensorSpec((None,), tf.bool)))
    def act(frames, state, first):
        traces.append("act")  # Runs while tracing only.
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
        norm = tf.linalg.global_norm(gradients)  # Not in `apply`: XLA takes three times as long for a sum.
        apply(gradients, norm)
        return aux | dict(loss=loss, gradient_norm=norm)

    def sync_target():
        for target, online in zip(target_network.variables, online_network.variables):
            target.assign(online)

    return Compiled(act, learn, sync_target, optimizer.learning_rate.assign, lambda: None, lambda: None, traces)


def _jax(q_step, td_loss, online_network, target_network, optimizer, clip_norm):
    traces, variables = [], (online_network.trainable_variables, target_network.variables, optimizer.variables)
    values = [None, None, None]  # The same on the device: functional, and donated to each update.

    @jax.jit
    def q_values(online, frames, state, first):
        traces.append("act")
        with keras.StatelessScope(list(zip(variables[0], online))):
            return q_step(frames, state, first)

    def loss_of(online, target, window, state):
        with keras.StatelessScope([*zip(variables[0], online), *zip(variables[1], target)]):
            return td_loss(window, state)

    @functools.partial(jax.jit, donate_argnums=(0, 2))
    def update(online, target, optimizer_values, window, state):
        traces.append("learn")
        (loss, aux), gradients = jax.value_and_grad(loss_of, has_aux=True)(online, target, window, state)
        norm = keras.ops.sqrt(sum(keras.ops.sum(g * g) for g in gradients))
        online, optimizer_values = optimizer.stateless_apply(optimizer_values, _clip(gradients, norm, clip_norm), online)
        return online, optimizer_values, aux | dict(loss=loss, gradient_norm=norm)

    def learn(window, state):
        values[0], values[2], aux = update(*values, window, state)
        return aux

    def sync_target():
        values[1] = [value.copy() for value in values[0]]  # A copy: the online values are donated.

    def set_learning_rate(value):
        optimizer.learning_rate.assign(value)
        at = next(i for i, variable in enumerate(optimizer.variables) if variable is optimizer.learning_rate)
        values[2][at] = optimizer.learning_rate.value.copy()  # A copy: it is donated.

    def pull():
        for variable, value in zip(sum(variables, []), sum(values, [])):
            variable.assign(value.copy())

    def push():
        values[:] = [[variable.value.copy() for variable in group] for group in variables]

    push()
    return Compiled(lambda *inputs: q_values(values[0], *inputs), learn, sync_target, set_learning_rate, pull, push, traces)
