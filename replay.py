"""Episodic replay: a ring of timesteps, and the windows drawn from it.

Reference: Hausknecht & Stone 2015, section 4.2.
"""

import bisect
import collections
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from priorities import Priorities

Window = collections.namedtuple("Window", "frames action reward discount mask first firsts state "
                                "previous weight", defaults=((), (), (), ()))
Window.__doc__ = """T transitions from each of B episodes, as T+1 observations with their history.

```
row             s-2 s-1 s  s+1 s+2 s+3          H = 3, T = 3; s: the window's first row
frames           |   |  |   |   |   |           T+H frames; zero outside of the episode
q_tm1 sees       [------]
                     [------]
                        [-------]               T observations; q_t sees those one row later
action, reward, discount of s+1 s+2 s+3         a row holds the action that LED to it
mask                        1   1   0           0: the episode had ended, padding
```
frames: uint8 or float32[B, T+H, *frame_shape].
action: int32[B, T].
reward, discount, mask: float32[B, T].
first: bool[B], whether the state starts from zero: always in windows that are drawn at random; in
    a lane's windows where the lane takes a new episode.
firsts: bool[B, T+H], which frames are an episode's first, in windows that may cross episodes. Such
    a window has no padding: its mask is 0 where a transition leads to a first frame.
state: list of float32[B, units], the acting state before the frames, where the replay stores it.
previous: float32[B, T+H, 2], the action that led to each frame, counted from 1, and tanh of its
    reward, as acting saw them; zeros where an episode begins, and outside of it.
weight: float32[B], at most 1: of each window in the loss, where they are drawn by priority.

A burn-in of N puts N more frames before these. Such a window has `firsts`, which tell where the
burn-in is shorter because the episode begins there.
"""


def state_dtype(sample: str) -> type[np.floating]:
    """Return the type in which rows hold states: half as large where there are many of them."""
    return np.float32 if sample == "rollout" else np.float16


def check(capacity: int, num_envs: int, history: int, unroll: int, sample: str,
          length_reward: float = 0.0, burn_in: int = 0) -> None:
    """Refuse a replay, by Replay's arguments, that cannot hold a window or know its rewards."""
    # By priority, so many rows that one of them always begins a whole window.
    needed = history + 1 + burn_in + (5 * unroll // 2 if sample == "priority" else 0)
    if (rows := capacity // num_envs) < needed:
        also = f" and a burn-in of {burn_in}" * (burn_in > 0)
        also += f" and windows of {unroll} by priority" * (sample == "priority")
        raise ValueError(f"--bufflen={capacity} holds {rows} rows of {num_envs} environments; a "
                         f"history of {history}{also} needs at least {needed}")
    if sample in ("priority", "rollout") and length_reward:
        raise ValueError(f"--sample={sample} draws from running episodes, and this environment's "
                         "rewards are known when an episode has ended; expected another --sample")


class Replay:
    """A ring of rows, one per vector step, with a column per environment.

    A row holds a frame, the action that led there, its reward and discount (0 where the episode
    terminated), and the row at which its episode started. The action, reward and discount of an
    episode's first row are never read. Transition k is the frame of row k with the action, reward
    and discount of row k+1, so an episode of L transitions takes L+1 rows, the final observation
    among them. An episode ends before a first row, or at the newest row. Rows never change.

    Args:
        capacity: timesteps in all; `capacity // num_envs` rows.
        num_envs: N.
        frame_shape, frame_dtype: of one frame.
        history: H, frames that the network stacks into an observation.
        unroll: T, transitions per window.
        sample: `timestep` draws uniformly over transitions. `episode` draws an episode uniformly,
            finished or not, then a start in [0, max(0, L-T)]. `sequential` has a lane for each row
            of the batch, which walks through episodes drawn uniformly, from the first transition.
            `rollout` deals the newest T rows of every environment, in shuffled order, again and
            again: windows that may cross episodes and start from the acting state. `priority` draws
            windows in proportion to a power of their priorities, see priorities.Priorities.
        seed: of the sampling generator.
        length_reward: added L times to the rewards of an episode of L transitions, in windows. L is
            known once another episode follows, so only ended episodes are drawn then.
        state_sizes: of the acting state that rows hold, for windows that start from it.
        burn_in: N, rows before a window's T that carry the state to it.
        sees_previous: whether an acting state ends in the action and reward before the frame, which
            windows then have as `previous`.

    Attributes:
        lanes: int64[2, B], the row at which each lane's next window starts, -1 where the lane takes
            a new episode, and its environment. B = 0 before the first draw, and where windows are
            drawn at random. Of a rollout: the windows that are still to be dealt.
    """

    def __init__(self, capacity: int, num_envs: int, frame_shape: tuple[int, ...],
                 frame_dtype: DTypeLike, history: int, unroll: int, sample: str,
                 seed: int | Sequence[int], length_reward: float = 0.0,
                 state_sizes: Sequence[int] = (), burn_in: int = 0,
                 sees_previous: bool = False) -> None:
        self.num_rows, self.num_envs = capacity // num_envs, num_envs
        check(capacity, num_envs, history, unroll, sample, length_reward, burn_in)
        self.history, self.unroll = history, unroll
        self.burn_in, self.length_reward = burn_in, length_reward
        self.ended_only = length_reward != 0  # whether only episodes that have ended are drawn
        self.draw = dict(timestep=self._draw_timesteps, episode=self._draw_episodes,
                         sequential=self._draw_lanes, rollout=self._draw_rollout,
                         priority=self._draw_priority)[sample]
        self.is_rollout = sample == "rollout"
        rows, self.lanes = (self.num_rows, num_envs), np.zeros((2, 0), np.int64)
        self.columns = dict(
            frame=np.zeros((*rows, *frame_shape), frame_dtype), action=np.zeros(rows, np.int32),
            reward=np.zeros(rows, np.float32), discount=np.zeros(rows, np.float32),
            start=np.zeros(rows, np.int64))
        self.states = [f"state{i}" for i in range(len(state_sizes))]  # names of columns
        for name, size in zip(self.states, state_sizes):
            self.columns[name] = np.zeros((*rows, size), state_dtype(sample))
        if sees_previous:
            self.columns["previous"] = np.zeros((*rows, 2), np.float32)
        self.end = 0  # rows ever written; row r lies at r % num_rows
        self.begin = 0  # rows before this one are not here, even if the ring has room for them
        # Per environment, a queue of the rows where its episodes start: [head, tail) of a ring.
        self._starts = np.zeros(rows, np.int64)
        self._head, self._tail = np.zeros(num_envs, np.int64), np.zeros(num_envs, np.int64)
        self.rng = np.random.default_rng(seed)
        self.priorities = Priorities(*rows, unroll) if sample == "priority" else None

    @staticmethod
    def nbytes(capacity: int, num_envs: int, frame_shape: tuple[int, ...], frame_dtype: DTypeLike,
               state_sizes: Sequence[int] = (), sample: str = "timestep") -> int:
        """Return the bytes that a replay of `capacity` timesteps takes."""
        frame = int(np.prod(frame_shape)) * np.dtype(frame_dtype).itemsize
        state = sum(state_sizes) * np.dtype(state_dtype(sample)).itemsize
        return capacity // num_envs * num_envs * (frame + state + 4 + 4 + 4 + 8 + 8)

    def __len__(self) -> int:
        return (self.end - self.oldest) * self.num_envs

    @property
    def oldest(self) -> int:
        return max(self.begin, self.end - self.num_rows)

    def append(self, frame: np.ndarray, action: np.ndarray, reward: np.ndarray,
               discount: np.ndarray, first: np.ndarray, state: Sequence[ArrayLike] = ()) -> None:
        """Write one vector step, each argument [N, ...]; the state is the acting one before it."""
        at, newest = self.end % self.num_rows, self.end
        before = self.columns["start"][at - 1].copy()
        start = np.where(first, newest, before)
        row = dict(frame=frame, action=action, reward=reward, discount=discount, start=start,
                   **dict(zip(self.states, state)))
        if "previous" in self.columns:
            row["previous"] = state[-1]
        for name, value in row.items():
            self.columns[name][at] = value
        self.end += 1
        self._enqueue(first, start)
        if self.priorities:
            self.priorities.append(newest, first, before)
        # An episode is gone once the next starts at or before the oldest row; one per row at most.
        follower = self._starts[(self._head + 1) % self.num_rows, range(self.num_envs)]
        self._head += (self._tail - self._head > 1) & (follower <= self.oldest)

    def _enqueue(self, first, row):
        """Note that an episode starts at `row` int64[N] of the environments where `first`."""
        self._starts[self._tail[first] % self.num_rows, np.flatnonzero(first)] = row[first]
        self._tail += first

    def set_priorities(self, priorities: ArrayLike | None) -> None:
        """Give the windows that were drawn last these priorities [B]; None where they have none."""
        if self.priorities:
            self.priorities.update(np.asarray(priorities, np.float64))

    def get_state(self) -> dict[str, np.ndarray]:
        """Return what a checkpoint keeps beside the rows and `rng`, as {name: array}."""
        return dict(lanes=self.lanes) | (self.priorities.get_state() if self.priorities else {})

    def set_state(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Restore what `get_state` returned, after `restore`."""
        self.lanes = arrays["lanes"]
        if self.priorities:
            self.priorities.set_state(arrays)
            places = self.priorities.places()
            row, *_ = self._locate(places)
            self.priorities.remove(places[row < self.oldest])  # Rows may be lost.

    def restore(self, rows: Iterable[tuple[int, Mapping[str, np.ndarray]]], end: int) -> None:
        """Fill the ring again.

        Args:
            rows: an iterable of (row number, columns), the columns [rows, N, ...], which covers the
                newest `num_rows` rows in order, or as many of them as are left.
            end: rows ever written.
        """
        self.begin = end
        for row, columns in rows:
            self.begin = min(self.begin, row)
            for name, values in columns.items():
                at = np.arange(row, row + len(values)) % self.num_rows
                self.columns[name][at] = values
        self.end = end
        self._head[:] = self._tail[:] = 0
        starts = self.columns["start"][np.arange(self.oldest, end) % self.num_rows]
        self._enqueue(np.ones(self.num_envs, bool), starts[0])
        for before, now in zip(starts, starts[1:]):
            self._enqueue(now != before, now)

    @property
    def ready(self) -> bool:
        """Whether there is a transition to draw; of rollouts, whether T new rows are complete."""
        stored = self.end - self.oldest
        if self.priorities:
            if self.begin > max(0, self.end - self.num_rows):  # Rows were lost.
                return bool(self._locate(self.priorities.places())[2].any())
            return self.priorities.total > 0
        if self.is_rollout:
            return stored > self.unroll and (self.end - 1) % self.unroll == 0
        if not self.ended_only:
            # Before the oldest row there may be no history, and at it an episode may end.
            before, at = self.history + self.burn_in, np.full(self.num_envs, self.end - 2)
            if self.oldest and self.num_rows == before + 1:  # One row alone surely has its history.
                return stored > before and bool(self._reaches(at, at + 1, range(len(at))).any())
            return stored > (before + 1 if self.oldest else 1)
        return any(self._start(place + 1, env) - 1 > self._usable(self._start(place, env))
                   for env in range(self.num_envs)
                   for place in range(self._tail[env] - 2, self._head[env] - 1, -1))

    def sample(self, batch_size: int) -> Window:
        """Draw a Window of `batch_size` rows.

        Raises:
            RuntimeError: nothing is stored yet that starts a transition.
        """
        if not self.ready:
            raise RuntimeError(f"replay.sample was called with {self.end} rows stored; a transition"
                               f" takes two{', of an episode that has ended' * self.ended_only}")
        window = self.windows(*self.draw(batch_size))
        if self.priorities:
            window = window._replace(weight=self.priorities.weights())
        return window

    def windows(self, start: np.ndarray, env: np.ndarray,
                first: np.ndarray | bool = True) -> Window:
        """Cut the windows whose first transitions are rows `start` of environments `env`.

        Args:
            start, env: int64[B]; first: as in Window.
        """
        T, before = self.unroll, self.history - 1 + self.burn_in
        rows = start[:, None] + np.arange(-before, T + 1)  # [B, N+T+H]
        at, env = rows % self.num_rows, env[:, None]
        begin, others = self._begin(start[:, None], env), {}
        if self.is_rollout:
            valid = rows >= self.oldest  # What precedes the first rollout is zero.
            firsts = self._begin(rows, env) == rows
            mask, first = ~firsts[:, -T:], firsts[:, before]
        else:
            valid = (rows >= begin) & self._reaches(start[:, None], rows, env)
            firsts, mask = rows == begin, valid[:, -T:]
        if self.is_rollout or self.burn_in:
            others["firsts"] = firsts
        if self.states:
            begins = self.history - 1  # the place of the first frame that the state goes over
            others["state"] = [self.columns[name][at[:, begins], env[:, 0]].astype(np.float32)
                               for name in self.states]
            if not self.is_rollout:
                first = (rows <= begin)[:, begins]
        if "previous" in self.columns:
            known = (valid & ~firsts)[..., None]
            others["previous"] = np.where(known, self.columns["previous"][at, env], 0)
        frames = self.columns["frame"][at, env]
        if not valid.all():
            frames[~valid] = 0
        at = at[:, -T:]
        action, reward, discount = (np.where(mask, self.columns[name][at, env], 0)
                                    for name in ("action", "reward", "discount"))
        if self.ended_only:
            lengths = np.array([*map(self._length, start, env[:, 0])], np.float32)
            reward = reward + mask * np.float32(self.length_reward) * lengths[:, None]
        return Window(frames, action.astype(np.int32), reward, discount, mask.astype(np.float32),
                      np.full(len(start), first), **others)

    def _usable(self, begin):
        """Return the first rows with whole history and burn-in, of episodes begun at int64[...]."""
        before = self.history - 1 + self.burn_in
        return np.where(begin >= self.oldest, begin, self.oldest + before)

    def _start(self, place, env):
        """Return the rows at which the episodes in places of the queues start."""
        return self._starts[place % self.num_rows, env]

    def _length(self, row, env):
        """Return L of the episode of row `row`; another episode follows it."""
        places = range(self._head[env], self._tail[env])
        at = bisect.bisect_right(places, row, key=lambda place: self._start(place, env))
        return self._start(places[at], env) - 1 - self._begin(row, env)

    def _begin(self, row, env):
        """Return the rows at which the episodes of rows `row` begin."""
        return self.columns["start"][row % self.num_rows, env]

    def _reaches(self, row, later, env):
        """Return whether the episodes of rows `row` go on to rows `later`."""
        return (later < self.end) & (self._begin(later, env) == self._begin(row, env))

    def _draw_timesteps(self, batch_size):
        """Draw uniformly over stored transitions, rejecting the few rows that start none."""
        newest = self._start(self._tail - 1, range(self.num_envs))  # starts of running episodes
        end = newest if self.ended_only else np.full(self.num_envs, self.end)  # of what is drawn

        def propose(size):
            row = self.rng.integers(self.oldest, end.max() - 1, size)
            env = self.rng.integers(0, self.num_envs, size)
            usable = row >= self._usable(self._begin(row, env))
            return row, env, self._reaches(row, row + 1, env) & usable & (row < end[env])
        return self._accept(propose, batch_size)

    def _draw_episodes(self, batch_size):
        """Draw an episode uniformly, then a start uniformly in [0, max(0, L-T)]."""
        def propose(size):
            usable, env, length = self._propose_episodes(size)
            start = self.rng.integers(0, np.maximum(length - self.unroll, 0) + 1)
            return usable + start, env, length
        return self._accept(propose, batch_size)

    def _draw_lanes(self, batch_size):
        """Take the window after each lane's last, or the first of an episode that is drawn.

        ```
        transition    0 1 2 3 4 5 6 7 8 9       of a lane's episode with L = 10, T = 4
        update 1     [0 1 2 3]                  first: from a zero state
        update 2             [4 5 6 7]          from the state after update 1; L = 8 would end here
        update 3                     [8 9 . .]  padded: its state goes nowhere
        update 4     [0 1 2 3]                  first, of another episode
        ```
        A lane does not wait for an episode that is still running. Where a window reaches the newest
        row, the lane takes another episode.
        """
        if self.lanes.shape[1] != batch_size:
            self.lanes = np.full((2, batch_size), -1)
        start, env = self.lanes.copy()
        # A row that was overwritten lies before what is usable, whatever is in its place now.
        first = start < self._usable(self._begin(start, env))
        start[first], env[first] = self._accept(self._propose_episodes, first.sum())
        follows = self._reaches(start, start + self.unroll + 1, env)
        self.lanes = np.stack([np.where(follows, start + self.unroll, -1), env])
        return start, env, first

    def _draw_rollout(self, batch_size):
        """Deal the newest T rows of `batch_size` environments; once all are dealt, shuffle anew."""
        start = self.end - 1 - self.unroll
        if not self.lanes.shape[1] or self.lanes[0, 0] != start:
            env = self.rng.permutation(self.num_envs)
            self.lanes = np.stack([np.full(self.num_envs, start), env])
        dealt, self.lanes = self.lanes[:, :batch_size], self.lanes[:, batch_size:]
        return tuple(dealt)

    def _draw_priority(self, batch_size):
        """Draw windows by priority, rejecting those whose burn-in or history was overwritten."""
        propose = lambda size: self._locate(self.priorities.draw(size, self.rng))
        start, env = self._accept(propose, batch_size)
        self.priorities.drawn = start % self.num_rows, env
        return start, env

    def _locate(self, places):
        """Return rows and environments of places, and whether windows can be drawn there."""
        at, env = places.T
        row = self.end - 1 - (self.end - 1 - at) % self.num_rows
        return row, env, row >= self._usable(self._begin(row, env))

    def _propose_episodes(self, size):
        """Draw uniformly over stored episodes.

        Returns:
            First usable rows, environments, and L from there on, which may be 0 or less.
        """
        tail = self._tail - self.ended_only
        stored = np.cumsum(tail - self._head)
        drawn = self.rng.integers(0, stored[-1], size)
        env = np.searchsorted(stored, drawn, side="right")
        place = tail[env] - (stored[env] - drawn)
        usable = self._usable(self._start(place, env))
        end = np.where(place + 1 == self._tail[env], self.end, self._start(place + 1, env))
        return usable, env, end - 1 - usable

    def _accept(self, propose, batch_size):
        """Return rows and environments that `propose` draws, rejecting those without a transition.

        `propose(size)` returns rows, environments, and how many transitions start there.
        """
        accepted = np.zeros((2, 0), np.int64)
        for _ in range(1000):
            *drawn, transitions = propose(batch_size - accepted.shape[1])
            accepted = np.append(accepted, np.stack(drawn)[:, transitions > 0], axis=1)
            if accepted.shape[1] == batch_size:
                return accepted
        raise RuntimeError(f"replay.sample found no transition in {len(self)} timesteps")
