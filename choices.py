"""The networks, optimizers and losses that flags choose from, and defaults: tables, so that flags are checked without
Keras.
"""

import collections
import difflib
import sys
from typing import Any

from launch import modules

Network = collections.namedtuple("Network", "torso core history unroll sample norm head previous",
                                 defaults=(False, "dense", False))
Network.__doc__ = """A row of NETWORKS.

torso: (filters, size, stride) of each convolution; or a function (frame_shape, history, dtype) -> Keras layers from
    frames [B*T, H, ...] to features [B*T, F].
core: a name of models.CORES; or a function (units, dtype) -> a layer such as those there.
history, unroll, sample: defaults of the flags of these names.
norm: whether a LayerNorm stands between each layer of the torso and its ReLU.
head: a name of models.HEADS.
previous: whether the core, an LSTM, also sees the action and the reward before each observation.
"""
NATURE = ((32, 8, 4), (64, 4, 2), (64, 3, 1))  # 3136 features; Mnih et al. 2015
SMALL = ((16, 8, 4), (32, 4, 2))  # 2592 features; Mnih et al. 2013
NETWORKS = {
    "DQN": Network(NATURE, "dense", history=4, unroll=1, sample="timestep"),  # Mnih et al. 2015
    "DRQN": Network(NATURE, "lstm", history=1, unroll=10, sample="episode"),  # this paper
    # Other places of the LSTM in the paper's appendix; in DRQN it replaces the dense layer.
    "DRQN_ReLU": Network(NATURE, "lstm_relu", history=1, unroll=10, sample="episode"),
    "DRQN_after_dense": Network(NATURE, "dense_lstm", history=1, unroll=10, sample="episode"),
    "DRQN_after_dense_ReLU": Network(NATURE, "dense_lstm_relu", history=1, unroll=10, sample="episode"),
    # Gallici et al. 2025, with --sample=rollout; the memory stands in the dense layer's place.
    "PQN": Network(NATURE, "norm_dense", history=4, unroll=32, sample="rollout", norm=True),
    "PQN_LSTM": Network(NATURE, "lstm", history=1, unroll=32, sample="rollout", norm=True),
    "PQN_dense_LSTM": Network(NATURE, "norm_dense_lstm", history=1, unroll=32, sample="rollout", norm=True),
    # Kapturowski et al. 2019; the second one sees screens alone.
    "R2D2": Network(NATURE, "lstm", history=1, unroll=80, sample="priority", head="dueling", previous=True),
    "R2D2_screen": Network(NATURE, "lstm", history=1, unroll=80, sample="priority", head="dueling"),
    "DQN2013": Network(SMALL, "dense", history=4, unroll=1, sample="timestep"),  # --units=256
    "DRQN_RNN2": Network(NATURE, "rnn2", history=1, unroll=10, sample="episode"),  # Bhowmik
}

WITHOUT_MEMORY = ("dense", "norm_dense")  # names of models.CORES

OPTIMIZERS = {  # name -> class, or its name in keras.optimizers, and settings; the loss is a mean over batch and time
    # Mnih et al. 2015, as DeepMind's dqn_zoo runs it on a mean loss: the paper's minimum squared gradient .01 belongs
    # to a summed loss.
    "rmsprop": ("RMSprop", dict(learning_rate=2.5e-4, rho=0.95, centered=True, epsilon=0.01 / 32**2)),
    # Hausknecht & Stone 2015. rho is their momentum. epsilon is Caffe's, and fits the gradients of Caffe's loss:
    # --loss=euclidean.
    "adadelta": ("Adadelta", dict(learning_rate=0.1, rho=0.95, epsilon=1e-8)),
    # Kalbag et al., in PyTorch. Its accumulator starts at 0; Keras' 0.1 would hide gradients below 0.3. Its epsilon,
    # 1e-10, stands outside of the root: inside it is 1e-20.
    "adagrad": ("Adagrad", dict(learning_rate=0.005, initial_accumulator_value=0.0, epsilon=1e-20)),
    # CleanRL and Stable-Baselines3 (dqn_atari); epsilon is PyTorch's.
    "adam": ("Adam", dict(learning_rate=1e-4, epsilon=1e-8)),
    # Rainbow (Hessel et al. 2018) and Dopamine.
    "adam_rainbow": ("Adam", dict(learning_rate=6.25e-5, epsilon=1.5e-4)),
    "adam_r2d2": ("Adam", dict(learning_rate=1e-4, epsilon=1e-3)),  # Kapturowski et al. 2019
}

# Defaults where observations are vectors, which are little to see and quick to learn from: --sample -> flag -> value.
# They are found on CartPole-v1 in miniature: presets/cartpole.flags, and presets/pqn_mini.flags of rollouts.
VECTORS = dict(
    replay=dict(
        maxsteps=60_000, units=64, bufflen=50_000, sample="timestep", batch_size=64, optimizer="adam",
        learning_rate=1e-3, loss="mse", target_period=200, learning_starts=1000, epsilon_decay="linear:10000steps",
        epsilon_end=0.05, eval_period=4000, eval_epsilon=0.0, checkpoint_period=20_000),
    rollout=dict(
        maxsteps=100_000, num_envs=16, units=64, batch_size=4, optimizer="adam", learning_rate=1e-3,
        reward_scale="rescale", loss="mse", update_period=32, target_period=0, trace_decay=0.65, learning_starts=0,
        epsilon_decay="linear:20000steps", epsilon_end=0.05, eval_period=5000, eval_epsilon=0.0,
        checkpoint_period=50_000))

LOSSES = {  # name -> function (td_error float32[B, T], keras.ops) -> float32[B, T], of which the loss is the mean
    # Mnih et al. 2015: the gradient of an error is clipped to 1.
    "huber": lambda error, ops: ops.where(ops.abs(error) <= 1, 0.5 * error**2, ops.abs(error) - 0.5),
    "mse": lambda error, ops: 0.5 * error**2,
    # Caffe's, of Hausknecht & Stone's code: half the square, summed over the batch. Caffe divides the sum over a blob
    # [T, B, A] by 2 T alone.
    "euclidean": lambda error, ops: ops.cast(ops.shape(error)[0], "float32") * (0.5 * error**2),
}

TABLES: dict[str, dict[str, Any]] = dict(network=NETWORKS, optimizer=OPTIMIZERS, loss=LOSSES)  # flag -> its table
EXPECTED = dict(network="a choices.Network", optimizer="(class or its name, dict with a learning_rate)",
                loss="a function (td_error, ops) -> errors")  # of a row


def find(flag: str, name: str) -> Any:
    """Return the row that a flag of TABLES chooses: of its table, or of a user's module.

    Args:
        flag: of TABLES.
        name: in the table; or `module:name`, where the user's module has a row by this name.

    Raises:
        ValueError: there is no such row, or it is no row; what is expected is named.
    """
    module, colon, attribute = name.rpartition(":")
    if not colon:
        return TABLES[flag][name]
    try:
        row = getattr(modules.import_module(module), attribute)
    except ImportError as error:
        raise ValueError(f"--{flag}={name} cannot be used: {error}") from error
    except AttributeError as error:
        own = [known for known, value in vars(sys.modules[module]).items() if is_row(flag, value)]
        near = ", ".join(difflib.get_close_matches(attribute, own, n=3, cutoff=0)) or f"{EXPECTED[flag]} of this name"
        raise ValueError(f"--{flag}={name}: the module {module} has no {attribute}; expected {near}") from error
    if not is_row(flag, row):
        raise ValueError(f"--{flag}={name} is {type(row).__name__}; expected {EXPECTED[flag]}, as in choices.py")
    return row


def is_row(flag: str, value: object) -> bool:
    """Return whether a value could stand in the table of a flag."""
    if flag == "network":
        return isinstance(value, Network)
    if flag == "optimizer":
        return (isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], dict)
                and isinstance(value[1].get("learning_rate"), float))
    return callable(value) and not isinstance(value, type)
