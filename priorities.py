"""Prioritized replay: windows are drawn in proportion to their priorities, from a tree of sums.

Reference: Schaul et al. 2016; Kapturowski et al. 2019, section 2.3.
"""

from collections.abc import Mapping

import numpy as np

EXPONENT = 0.9  # A window is drawn in proportion to priority ** EXPONENT; Kapturowski et al. 2019.
IMPORTANCE = 0.6  # exponent of the weights that make up for these draws; Kapturowski et al. 2019
SMALLEST = 1e-6  # priority, so that a window without an error may be drawn again
BRANCH = 32  # numbers under each sum: NumPy goes down a tree of two in five times as many steps


class SumTree:
    """Numbers, none negative, that are drawn in proportion to themselves.

    ```
    sums[1]   [     3      7      0     ]    each the sum of BRANCH numbers below, here 3
    sums[0]   [ 1 0 2 | 3 4 0 | 0 0 0   ]    the leaves
    ```
    A sum is always computed anew from what is below it, never by differences, so that a tree is a function of its
    leaves, to the bit.

    Args:
        num_leaves: how many numbers; they begin as 0.
    """

    def __init__(self, num_leaves: int) -> None:
        self._sums: list[np.ndarray] = []
        size = num_leaves
        while not self._sums or len(self._sums[-1]) > BRANCH:
            size = -(-size // BRANCH)
            self._sums.append(np.zeros(size * BRANCH))
        self.leaves = self._sums[0][:num_leaves]

    @property
    def total(self) -> float:
        return np.cumsum(self._sums[-1])[-1]

    def write(self, leaves: np.ndarray, values: np.ndarray | float) -> None:
        """Set the leaves int64[B] to `values`, and all sums above them."""
        self.leaves[leaves] = values
        for below, above in zip(self._sums, self._sums[1:]):
            leaves = leaves // BRANCH
            above[leaves] = np.cumsum(below.reshape(-1, BRANCH)[leaves], axis=1)[:, -1]

    def draw(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """Return leaves int64[size]."""
        left, at = rng.random(size) * self.total, np.zeros(size, np.int64)
        for sums in reversed(self._sums):
            numbers = sums.reshape(-1, BRANCH)[at]  # [size, BRANCH]
            until = np.cumsum(numbers, axis=1)
            # Rounding may lead past the last number that is not 0.
            last = BRANCH - 1 - np.argmax(numbers[:, ::-1] > 0, axis=1)
            place = np.minimum((until <= left[:, None]).sum(axis=1), last)
            left -= np.where(place > 0, until[range(size), place - 1], 0)
            at = at * BRANCH + place
        return at


class Priorities:
    """Priorities of the windows of a replay.

    A window begins at every T/2-th transition of an episode. The last one is padded, unless the one before reaches the
    end.
    ```
    transition    0 1 2 3 4 5 6 7 8       of an episode with L = 9, T = 4
    windows      [0 1 2 3]
                     [2 3 4 5]
                         [4 5 6 7]        it may be drawn from row 8 on, its last observation's
                             [6 7 8 .]    from the row on at which the next episode begins
    ```
    Args:
        num_rows, num_envs: of the replay, a ring in which row r lies at r % num_rows.
        unroll: T.

    Attributes:
        drawn: the places and environments, int64[B] each, of the windows that were drawn last.
        largest: the largest priority so far, which new windows get.
    """

    def __init__(self, num_rows: int, num_envs: int, unroll: int) -> None:
        self.num_rows, self.num_envs, self.unroll = num_rows, num_envs, unroll
        self.tree, self.largest = SumTree(num_rows * num_envs), 1.0
        self.drawn: tuple[np.ndarray, ...] = ()

    @property
    def total(self) -> float:
        return self.tree.total

    def append(self, row: int, first: np.ndarray, begin: np.ndarray) -> None:
        """Let the windows that a row completes be drawn, and no longer what it overwrites.

        Args:
            row: the newest.
            first: bool[N], where it begins an episode.
            begin: int64[N], where the episodes of the row before began.
        """
        T, stride, env = self.unroll, max(1, self.unroll // 2), np.arange(self.num_envs)
        overwritten = self._leaves(row, env)
        if self.tree.leaves[overwritten].any():
            self.tree.write(overwritten, 0)
        whole, end = row - T, row - 1  # the window that may be whole now; the last row of an episode that ended
        padded = begin + np.maximum((end - T - begin) // stride + 1, 0) * stride  # the first that is not whole
        adds = (padded < end) & ((padded == begin) | (padded - stride + T < end))
        completes = (whole >= begin) & ((whole - begin) % stride == 0)
        is_new = np.where(first, adds, completes)
        if is_new.any():
            leaves = self._leaves(np.where(first, padded, whole)[is_new], env[is_new])
            self.tree.write(leaves, self.largest ** EXPONENT)

    def draw(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """Return places int64[size, 2] of windows: r % num_rows, environment."""
        return np.stack(np.divmod(self.tree.draw(size, rng), self.num_envs), axis=1)

    def weights(self) -> np.ndarray:
        """Return float32[B], the weights of the windows that were drawn last: probability ** -IMPORTANCE, at most 1."""
        weights = self.tree.leaves[self._leaves(*self.drawn)] ** -IMPORTANCE
        return (weights / weights.max()).astype(np.float32)

    def update(self, priorities: np.ndarray) -> None:
        """Give the windows that were drawn last these priorities [B]; what is not finite counts as the largest."""
        priorities = np.where(np.isfinite(priorities), priorities, self.largest)
        self.largest = max(self.largest, float(priorities.max()))
        self.tree.write(self._leaves(*self.drawn), np.maximum(priorities, SMALLEST) ** EXPONENT)

    def places(self) -> np.ndarray:
        """Return the places int64[B, 2] of all windows."""
        return np.stack(np.divmod(np.flatnonzero(self.tree.leaves), self.num_envs), axis=1)

    def remove(self, places: np.ndarray) -> None:
        """Let no window begin at these places any more."""
        self.tree.write(self._leaves(*places.T), 0)

    def get_state(self) -> dict[str, np.ndarray]:
        """Return what a checkpoint keeps, as {name: array}."""
        return dict(priorities=self.tree.leaves, largest=np.array(self.largest))

    def set_state(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Restore what `get_state` returned."""
        self.largest = float(arrays["largest"])
        self.tree.write(np.arange(len(self.tree.leaves)), arrays["priorities"])

    def _leaves(self, row, env):
        return row % self.num_rows * self.num_envs + env
