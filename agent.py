"""Acting and learning: one temporal-difference loss for every network.

Reference: Hausknecht & Stone 2015, sections 2 and 4.
"""

import os
import random
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import backends  # first: it imports the backend quietly

import keras
import numpy as np
from keras import ops

import choices
import models

Tensor = Any  # of the backend
Window = Any  # replay.Window, of arrays or of tensors

RESCALE_EPSILON = 1e-3  # of scale_value
LARGEST_SHARE = 0.9  # eta, of the largest error in a priority; Kapturowski et al. 2019


def td_loss(online_network: models.QNetwork, target_network: models.QNetwork | None,
            window: Window, state: list[Tensor], error_loss: str, trace_decay: float = 0.0,
            double: bool = False, rescale: bool = False,
            burn_in: int = 0) -> tuple[Tensor, dict[str, Any]]:
    """Return the Q-learning loss of a window, and what the update knows besides.

    ```
    frames    f0 f1 f2 f3      T = 3, H = 1
    online    [q_tm1  ]        sees f0 f1 f2
    target       [q_t    ]     sees f1 f2 f3, after its state has gone over f0
    ```
    With a burn-in of N there are N frames more, before f0: the states of both networks go over
    these from `state`, and no gradient does (Kapturowski et al. 2019).

    Args:
        online_network: what learns.
        target_network: what judges the second to last observation. None: the online network does,
            without a gradient.
        window: replay.Window with N+T+H frames.
        state: of the online network before the window, list of float32[B, units].
        error_loss: name of choices.LOSSES, or `module:name` of a user's own.
        trace_decay: lambda of `q_lambda`; 0 for one-step targets.
        double: whether the online network chooses the action whose target value counts (van Hasselt
            et al. 2016).
        rescale: whether Q-values are h(returns), see `scale_value`.
        burn_in: N.

    Returns:
        loss: float32 scalar, the mean over unmasked transitions; B times that for `euclidean`.
        aux: scalars `mean_q`, and `td_error` float32[B, T], `next_state` of the online network
            after T steps; `priority` float32[B] of windows that have a weight.
    """
    # Paper: the target network starts at the second frame from a zero state. Here: it has seen the
    # first frame too, because the online and the target network must share their context.
    def see(network, start, stop, state, **how):
        """Return Q-values and next state of a network over frames [start, stop) of the window."""
        others = dict(firsts=window.firsts, previous=window.previous)
        others = {name: rows[:, start:stop] for name, rows in others.items()
                  if not isinstance(rows, tuple)}
        return network(window.frames[:, start:stop], state, **others, **how)

    warm = state
    if burn_in and state:
        _, warm = see(online_network, 0, burn_in + online_network.history - 1, state)
        warm = [ops.stop_gradient(s) for s in warm]
    q_tm1, next_state = see(online_network, burn_in, -1, warm)  # [B, T, A]
    if double or target_network is None:
        last = burn_in + q_tm1.shape[1]
        q_last, _ = see(online_network, last, None, next_state)  # [B, 1, A]
        q_t_online = ops.stop_gradient(ops.concatenate([q_tm1[:, 1:], q_last], axis=1))  # [B, T, A]
    if target_network is None:
        q_t = q_t_online
    else:
        q_t, _ = see(target_network, 0, None, state, burn_in=burn_in + 1)  # [B, T, A]
    v_t = (_value_of(q_t, ops.argmax(q_t_online, axis=-1)) if double
           else ops.max(q_t, axis=-1))  # [B, T]
    v_t = unscale_value(v_t) if rescale else v_t
    y = q_lambda(window.reward, window.discount, window.mask, v_t, trace_decay)  # [B, T]
    y = ops.stop_gradient(scale_value(y) if rescale else y)
    q_a_tm1 = _value_of(q_tm1, window.action)  # [B, T]
    parts = (y, q_a_tm1, window.action, window.reward, window.discount, window.mask)
    shapes = [tuple(part.shape) for part in parts]
    assert len(set(shapes)) == 1, (f"targets, predictions, actions, rewards, discounts and mask "
                                   f"have shapes {shapes}, and would broadcast")
    td_error = y - q_a_tm1
    errors = choices.find("loss", error_loss)(td_error, ops)  # [B, T]
    aux = dict(td_error=td_error, next_state=next_state)
    if not isinstance(window.weight, tuple):
        errors = errors * window.weight[:, None]
        aux["priority"] = window_priority(ops.abs(td_error), window.mask)
    transitions = ops.maximum(ops.sum(window.mask), 1)  # A short rollout may hold reset rows alone.
    loss = ops.sum(window.mask * errors) / transitions
    mean_q = ops.sum(window.mask * ops.max(q_tm1, axis=-1)) / transitions
    return loss, aux | dict(mean_q=mean_q)


def window_priority(size: Tensor, mask: Tensor) -> Tensor:
    """Return float32[B], eta * the largest error of a window + (1 - eta) * their mean.

    Args:
        size, mask: float32[B, T], the errors' absolute values and which of them count.
    """
    mean = ops.sum(mask * size, axis=1) / ops.maximum(ops.sum(mask, axis=1), 1)
    return LARGEST_SHARE * ops.max(mask * size, axis=1) + (1 - LARGEST_SHARE) * mean


def q_lambda(r_t: Tensor, discount_t: Tensor, mask: Tensor, v_t: Tensor,
             trace_decay: float) -> Tensor:
    """Return the targets float32[B, T] of Peng's Q(lambda).

    ```
    y_t = r_t + discount_t * ((1 - lambda) * v_t + lambda * y_t+1)
    y_t = r_t + discount_t * v_t        where the next transition is masked, or there is none
    ```
    A termination has a discount of 0, and after a truncation comes a masked row: a return never
    goes on over an end.

    Args:
        r_t, discount_t, mask, v_t: float32[B, T]; v_t is the value of the observation that the
            transition leads to.
        trace_decay: lambda in [0, 1]. 0: one-step targets.

    Reference: Peng & Williams 1996; Daley & Amato 2019.
    """
    if trace_decay == 0:
        return r_t + discount_t * v_t
    T = mask.shape[1]
    targets = [r_t[:, -1] + discount_t[:, -1] * v_t[:, -1]]
    for t in reversed(range(T - 1)):
        trust = trace_decay * mask[:, t + 1]  # [B]
        ahead = (1 - trust) * v_t[:, t] + trust * targets[0]
        targets.insert(0, r_t[:, t] + discount_t[:, t] * ahead)
    return ops.stack(targets, axis=1)


def scale_value(x: Tensor) -> Tensor:
    """Return h(x) = sign(x) (sqrt(|x| + 1) - 1) + 0.001 x, which brings large returns near 1.

    Reference: Pohlen et al. 2018; Kapturowski et al. 2019.
    """
    return x / (ops.sqrt(ops.abs(x) + 1) + 1) + RESCALE_EPSILON * x  # the same, exact near 0


def unscale_value(y: Tensor) -> Tensor:
    """Return the x whose `scale_value` is y."""
    size = ops.abs(y) + 1 + RESCALE_EPSILON
    # This is sqrt(|x| + 1). The authors' form of it loses 4 digits of float32.
    root = 2 * size / (ops.sqrt(1 + 4 * RESCALE_EPSILON * size) + 1)
    return ops.sign(y) * (root - 1) * (root + 1)


def _value_of(q_values, action):
    """Return float32[B, T], the Q-values [B, T, A] of actions int[B, T]."""
    return ops.sum(q_values * ops.one_hot(action, q_values.shape[-1]), axis=-1)


class Agent:
    """A Q-network that acts epsilon-greedily, its target network, and the optimizer.

    Args:
        network, frame_shape, num_actions, history, units, precision, features, flicker: of
            models.QNetwork.
        optimizer: name of choices.OPTIMIZERS, or `module:name` of a user's own.
        learning_rate: None for the one that comes with the optimizer.
        clip_norm: global L2 norm that gradients are clipped to, 0 for none.
        loss, trace_decay, double, rescale, burn_in: of td_loss.
        target_network: whether there is one.
        seed: of the initial weights.
    """

    def __init__(self, network: str, frame_shape: tuple[int, ...], num_actions: int, history: int,
                 units: int, precision: str = "float32", features: bool = False,
                 flicker: bool = False, optimizer: str = "rmsprop",
                 learning_rate: float | None = None, clip_norm: float = 10.0, loss: str = "huber",
                 trace_decay: float = 0.0, double: bool = False, rescale: bool = False,
                 target_network: bool = True, burn_in: int = 0, seed: int = 0) -> None:
        # Keras' initialisers draw their seeds from `random`. keras.utils.set_random_seed would
        # import TensorFlow even beside JAX.
        random.seed(seed)
        shape = (network, frame_shape, num_actions, history, units, precision, features, flicker)
        self.online_network = models.QNetwork(*shape)
        self.target_network = models.QNetwork(*shape) if target_network else None
        self.num_actions = num_actions
        self.error_loss, self.trace_decay = loss, trace_decay
        self.double, self.rescale, self.burn_in = double, rescale, burn_in
        make_optimizer, settings = choices.find("optimizer", optimizer)
        if isinstance(make_optimizer, str):
            make_optimizer = getattr(keras.optimizers, make_optimizer)
        if learning_rate is not None:
            settings = settings | dict(learning_rate=learning_rate)
        self.optimizer = make_optimizer(**settings)
        self.optimizer.build(self.online_network.trainable_variables)
        if self.target_network is not None:
            self.target_network.set_weights(self.online_network.get_weights())
        self._compiled = backends.compile_steps(
            self._q_step, self._loss, self.online_network, self.target_network, self.optimizer,
            clip_norm)
        self.traces, self.sync_target = self._compiled.traces, self._compiled.sync_target
        self._learning_rate: float | None = None  # the last that was assigned
        # of the online network after the last window
        self._window_state: list[Tensor] | None = None

    def _q_step(self, frames, state, first):
        """Return q_values float32[N, A] of the newest frames, and the state after them."""
        state, others = _zero_where(first, state), {}
        if self.online_network.sees_previous:
            *state, previous = state
            others["previous"] = ops.repeat(previous[:, None], frames.shape[1], axis=1)
        q_values, state = self.online_network(frames, state, **others)  # T = 1
        return q_values[:, -1], state

    def _loss(self, window, state):
        """Return td_loss of a window whose state starts from zero where the window is a first."""
        state = _zero_where(window.first, state)
        return td_loss(self.online_network, self.target_network, window, state, self.error_loss,
                       self.trace_decay, self.double, self.rescale, self.burn_in)

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """The sizes of the arrays of the core's state, empty without memory."""
        return self.online_network.core.state_sizes

    @property
    def sees_previous(self) -> bool:
        """Whether the network also sees the action and the reward before each observation."""
        return self.online_network.sees_previous

    def initial_state(self, num_envs: int) -> list[Tensor]:
        """Return the acting state before an episode: zeros."""
        return [ops.zeros((num_envs, size)) for size in self.online_network.acting_sizes]

    def q_values(self, frames: np.ndarray, state: list[Tensor] | None = None,
                 first: np.ndarray | None = None) -> tuple[np.ndarray, list[Tensor]]:
        """Return float32[N, A] and the core's next state.

        Args:
            frames: [N, H, ...], the last H of each environment.
            state: list of float32[N, units], and float32[N, 2] if the network sees the action and
                the reward before; None: every episode begins.
            first: bool[N], where an episode begins, so that the state is zeroed; None: nowhere.
        """
        state = self.initial_state(len(frames)) if state is None else state
        first = np.zeros(len(frames), bool) if first is None else first
        q_values, state = self._compiled.act(frames, state, first)
        return ops.convert_to_numpy(q_values), state

    def act(self, frames: np.ndarray, state: list[Tensor] | None = None,
            first: np.ndarray | None = None, epsilon: float | np.ndarray = 0.0,
            rng: np.random.Generator | None = None) -> tuple[np.ndarray, list[Tensor]]:
        """Choose epsilon-greedy actions int64[N]; return them and the next state.

        The state advances over every frame, whether its action is random or not.

        Args:
            frames, state, first: as `q_values` takes them.
            epsilon: probability of a random action, a float or float[N].
            rng: NumPy's generator; None: no action is random.
        """
        q_values, state = self.q_values(frames, state, first)
        actions = q_values.argmax(axis=-1)
        if rng is not None:
            explore = rng.random(len(actions)) < epsilon
            actions = np.where(explore, rng.integers(self.num_actions, size=len(actions)), actions)
        if self.sees_previous:
            previous = np.stack([actions + 1, np.zeros(len(actions))], axis=1)
            state = [*state, previous.astype(np.float32)]
        return actions, state

    def see_reward(self, state: list[Tensor], reward: np.ndarray) -> None:
        """Note in the state after `act` which rewards [N] the actions brought.

        The network sees the environment's own rewards, whatever training makes of them. tanh keeps
        scores of any size near 1 (as in DeepMind's Acme).
        """
        if self.sees_previous:
            state[-1][:, 1] = np.tanh(reward)

    def set_learning_rate(self, learning_rate: float) -> None:
        """Make the updates from here on with this learning rate."""
        if learning_rate != self._learning_rate:
            self._compiled.set_learning_rate(learning_rate)
            self._learning_rate = learning_rate

    def learn(self, window: Window) -> dict[str, Tensor]:
        """Make one update by `td_loss`; return loss, mean_q, gradient_norm, still on the device.

        With them comes `priority` float32[B] of windows that have a weight.

        A window brings its state where the replay stores it. Other windows take the state after the
        last window, unless they are first, which all but a sequential sample's are.
        """
        if self._window_state is None and not window.state:
            self._window_state = self.online_network.initial_state(len(window.first))
        aux = self._compiled.learn(window._replace(state=()), window.state or self._window_state)
        if not window.state:
            self._window_state = aux["next_state"]
        named = ("loss", "mean_q", "gradient_norm", "priority")
        return {name: aux[name] for name in named if name in aux}

    def _variables(self):
        owners = dict(online=self.online_network, target=self.target_network,
                      optimizer=self.optimizer)
        return {f"{owner}/{i}": variable for owner, part in owners.items() if part is not None
                for i, variable in enumerate(part.variables)}

    def iterate_state(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield everything that learning changes as (name, array).

        One copy is made at a time, because together they are four times the weights.
        """
        self._compiled.pull()
        values = {name: variable.value for name, variable in self._variables().items()}
        values |= {f"window_state/{i}": s for i, s in enumerate(self._window_state or [])}
        for name, value in values.items():
            yield name, ops.convert_to_numpy(value)

    def get_state(self) -> dict[str, np.ndarray]:
        """Return {name: array} of `iterate_state`."""
        return dict(self.iterate_state())

    def set_state(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Restore what `get_state` returned.

        Raises:
            ValueError: names or shapes differ from this agent's.
        """
        arrays = dict(arrays)
        window_state = [arrays.pop(name) for name in sorted(arrays)
                        if name.startswith("window_state/")]
        variables = self._variables()
        if arrays.keys() != variables.keys():
            differ = sorted(arrays.keys() ^ variables.keys())[:4]
            raise ValueError(f"the checkpoint's variables differ from this agent's: {differ}")
        for name, variable in variables.items():
            if arrays[name].shape != tuple(variable.shape):
                raise ValueError(f"the checkpoint's {name} has shape {arrays[name].shape}; "
                                 f"expected {tuple(variable.shape)}")
        for name, variable in variables.items():
            variable.assign(arrays[name])
        self._learning_rate = None  # The checkpoint's optimizer has the rate of its last update.
        self._window_state = [ops.convert_to_tensor(s) for s in window_state] or None
        self._compiled.push()

    def save_weights(self, path: str | os.PathLike[str] | BinaryIO) -> None:
        """Write the online network's weights as Keras does, readable by either backend."""
        self._compiled.pull()
        backends.give_back_memory()  # Keras copies the largest kernel twice.
        self.online_network.save_weights(path)

    def load_weights(self, path: str | os.PathLike[str]) -> None:
        """Read what `save_weights` wrote into the online network."""
        self._compiled.pull()  # Target network and optimizer stay what they are on the device.
        self.online_network.load_weights(path)
        self._compiled.push()

    def load_torso(self, path: str | os.PathLike[str]) -> None:
        """Read the torso of what `save_weights` wrote of any agent into both networks."""
        self._compiled.pull()
        for network in filter(None, (self.online_network, self.target_network)):
            network.load_torso(path)
        self._compiled.push()


def _zero_where(first, state):
    """Return the state, zero where `first` bool[N]."""
    return [ops.where(first[:, None], 0.0, s) for s in state]
