"""Episodic replay: a ring of timesteps, and the windows drawn from it (Hausknecht & Stone 2015, section 4.2)."""

import bisect
import collections

import numpy as np

Window = collections.namedtuple("Window", "frames action reward discount mask first")
Window.__doc__ = """T transitions from each of B episodes, as T+1 observations with their history.

```
row             s-2 s-1 s  s+1 s+2 s+3          H = 3, T = 3; s: the window's first row
frames           |   |  |   |   |   |           T+H frames; zero before the episode's first row and after its last
q_tm1 sees       [------]
                     [------]
                        [-------]               T observations; q_t sees those one row later
action, reward, discount of s+1 s+2 s+3         a row holds the action that LED to it
mask                        1   1   0           0: the episode had ended, padding
```
frames uint8[B, T+H, 84, 84] or float32[B, T+H, D]; action int32[B, T]; reward, discount, mask float32[B, T]; first bool[B]: whether
the state starts from zero: always in windows drawn at random, in those of a lane where it takes a new episode.
"""


class Replay:
    """A ring of rows, one per vector step, with a column per environment.

    A row holds a frame, the action that led to it, its reward and discount (0 where the episode terminated), and whether it is the
    first of an episode; a first row's action, reward and discount are never read. Transition k is the frame of row k with the action,
    reward and discount of row k+1, so an episode of L transitions takes L+1 rows, the final observation among them. An episode ends
    where the next row is first, or at the newest row. Rows never change once written; each knows the row its episode started at.

    Args:
        capacity: timesteps in all; `capacity // num_envs` rows.
        num_envs: N.
        frame_shape, frame_dtype: of one frame.
        history: H, frames that the network stacks into an observation.
        unroll: T, transitions per window.
        sample: `timestep` draws uniformly over transitions; `episode` over episodes, finished or not, then a start in [0, max(0, L-T)];
            `sequential` walks lanes, one per row of the batch, through episodes drawn uniformly, from the first transition on.
        seed: of the sampling generator.
        length_reward: of windows, L times this is added to the rewards of an episode of L transitions. Only episodes that another one
            follows are drawn then, by every `sample`, since L is not known before; and no row that is stored need change for it.

    Attributes:
        lanes: int64[2, B], the row at which each lane's next window starts, -1 where it takes a new episode, and its environment; B = 0
            before the first draw and where windows are drawn at random.
    """

    def __init__(self, capacity, num_envs, frame_shape, frame_dtype, history, unroll, sample, seed, length_reward=0.0):
        self.num_rows, self.num_envs = capacity // num_envs, num_envs
        if self.num_rows < history + 1:
            raise ValueError(f"--bufflen={capacity} holds {self.num_rows} rows of {num_envs} environments; "
                             f"a history of {history} needs at least {history + 1}")
        self.history, self.unroll, self.length_reward = history, unroll, length_reward
        self.whole = length_reward != 0  # whether only episodes that have ended are drawn
        self.draw = dict(timestep=self._draw_timesteps, episode=self._draw_episodes, sequential=self._draw_lanes)[sample]
        self.lanes = np.zeros((2, 0), np.int64)
        rows = (self.num_rows, num_envs)
        self.columns = dict(frame=np.zeros((*rows, *frame_shape), frame_dtype), action=np.zeros(rows, np.int32),
                            reward=np.zeros(rows, np.float32), discount=np.zeros(rows, np.float32), start=np.zeros(rows, np.int64))
        self.end = 0  # rows ever written; row r lies at r % num_rows
        # Per environment, a queue of the rows at which its stored episodes start: places [head, tail) of a ring.
        self._starts, self._head, self._tail = np.zeros(rows, np.int64), np.zeros(num_envs, np.int64), np.zeros(num_envs, np.int64)
        self.rng = np.random.default_rng(seed)

    @staticmethod
    def nbytes(capacity, num_envs, frame_shape, frame_dtype):
        """Return the bytes that a replay of `capacity` timesteps takes."""
        return capacity // num_envs * num_envs * (int(np.prod(frame_shape)) * np.dtype(frame_dtype).itemsize + 4 + 4 + 4 + 8 + 8)

    def __len__(self):
        return min(self.end, self.num_rows) * self.num_envs

    @property
    def oldest(self):
        return max(0, self.end - self.num_rows)

    def append(self, frame, action, reward, discount, first):
        """Write one vector step, each argument [N, ...]."""
        at, newest = self.end % self.num_rows, self.end
        start = np.where(first, newest, self.columns["start"][at - 1])
        for name, value in dict(frame=frame, action=action, reward=reward, discount=discount, start=start).items():
            self.columns[name][at] = value
        self.end += 1
        self._enqueue(first, start)
        # An episode is gone once the one after it starts at or before the oldest row; at most one goes per row.
        follower = self._starts[(self._head + 1) % self.num_rows, range(self.num_envs)]
        self._head += (self._tail - self._head > 1) & (follower <= self.oldest)

    def _enqueue(self, first, row):
        """Note that an episode starts at `row` int64[N] of the environments where `first`."""
        self._starts[self._tail[first] % self.num_rows, np.flatnonzero(first)] = row[first]
        self._tail += first

    def restore(self, rows, end):
        """Fill the ring again.

        Args:
            rows: an iterable of (row number, columns), the columns [rows, N, ...], covering the newest `num_rows` rows in order.
            end: rows ever written.
        """
        for row, columns in rows:
            for name, values in columns.items():
                self.columns[name][np.arange(row, row + len(values)) % self.num_rows] = values
        self.end = end
        self._head[:] = self._tail[:] = 0
        starts = self.columns["start"][np.arange(self.oldest, end) % self.num_rows]
        self._enqueue(np.ones(self.num_envs, bool), starts[0])
        for before, now in zip(starts, starts[1:]):
            self._enqueue(now != before, now)

    @property
    def ready(self):
        """Whether there is a transition to draw."""
        if not self.whole:
            return self.end > 1
        return any(self._start(place + 1, env) - 1 > self._usable(self._start(place, env))
                   for env in range(self.num_envs) for place in range(self._tail[env] - 2, self._head[env] - 1, -1))

    def sample(self, batch_size):
        """Draw a Window of `batch_size` rows.

        Raises:
            RuntimeError: nothing is stored yet that starts a transition.
        """
        if not self.ready:
            raise RuntimeError(f"replay.sample was called with {self.end} rows stored; a transition takes two"
                               f"{', of an episode that has ended' * self.whole}")
        return self.windows(*self.draw(batch_size))

    def windows(self, start, env, first=True):
        """Cut the windows whose first transitions are rows `start` int64[B] of environments `env` int64[B]; `first` as in Window."""
        H, T = self.history, self.unroll
        rows = start[:, None] + np.arange(1 - H, T + 1)  # [B, T+H]
        at, env = rows % self.num_rows, env[:, None]
        valid = (rows >= self._begin(start[:, None], env)) & self._reaches(start[:, None], rows, env)
        frames = self.columns["frame"][at, env]
        frames[~valid] = 0
        at, mask = at[:, H:], valid[:, H:]
        action, reward, discount = (np.where(mask, self.columns[name][at, env], 0) for name in ("action", "reward", "discount"))
        if self.whole:
            lengths = [self._length(*place) for place in zip(start, env[:, 0])]
            reward = reward + mask * np.float32(self.length_reward) * np.array(lengths, np.float32)[:, None]
        return Window(frames, action.astype(np.int32), reward, discount, mask.astype(np.float32), np.full(len(start), first))

    def _usable(self, begin):
        """First rows from which an episode that began at `begin` can be read with a real history."""
        return np.where(begin >= self.oldest, begin, self.oldest + self.history - 1)

    def _start(self, place, env):
        """Return the rows at which the episodes in places of the queues start."""
        return self._starts[place % self.num_rows, env]

    def _length(self, row, env):
        """Return L of the episode that row `row` of environment `env` belongs to, which another one follows."""
        places = range(self._head[env], self._tail[env])
        follower = places[bisect.bisect_right(places, row, key=lambda place: self._start(place, env))]
        return self._start(follower, env) - 1 - self._begin(row, env)

    def _begin(self, row, env):
        """Return the rows at which the episodes of rows `row` begin."""
        return self.columns["start"][row % self.num_rows, env]

    def _reaches(self, row, later, env):
        """Whether the episodes of rows `row` go on to rows `later`."""
        return (later < self.end) & (self._begin(later, env) == self._begin(row, env))

    def _draw_timesteps(self, batch_size):
        """Uniform over stored transitions, by rejection of the few rows that start none."""
        end = self._start(self._tail - 1, range(self.num_envs)) if self.whole else np.full(self.num_envs, self.end)  # of what can be drawn

        def propose(size):
            row, env = self.rng.integers(self.oldest, end.max() - 1, size), self.rng.integers(0, self.num_envs, size)
            return row, env, self._reaches(row, row + 1, env) & (row >= self._usable(self._begin(row, env))) & (row < end[env])
        return self._accept(propose, batch_size)

    def _draw_episodes(self, batch_size):
        """Uniform over episodes of at least one usable transition, then a start uniform in [0, max(0, L-T)]."""
        def propose(size):
            usable, env, length = self._propose_episodes(size)
            return usable + self.rng.integers(0, np.maximum(length - self.unroll, 0) + 1), env, length
        return self._accept(propose, batch_size)

    def _draw_lanes(self, batch_size):
        """The window after each lane's last; where there is none, the first of an episode, drawn as by `_draw_episodes`.

        ```
        transition    0 1 2 3 4 5 6 7 8 9       of a lane's episode with L = 10, T = 4
        update 1     [0 1 2 3]                  first: from a zero state
        update 2             [4 5 6 7]          from the state that update 1 ended with; with L = 8 it would be the last
        update 3                     [8 9 . .]  padded: its state goes nowhere
        update 4     [0 1 2 3]                  first, of another episode
        ```
        A lane does not wait for an episode that is still running: it takes another one where a window reaches the newest row.
        """
        if self.lanes.shape[1] != batch_size:
            self.lanes = np.full((2, batch_size), -1)
        start, env = self.lanes.copy()
        first = start < self._usable(self._begin(start, env))  # So is a row that was overwritten, whatever lies in its place.
        start[first], env[first] = self._accept(self._propose_episodes, first.sum())
        follows = self._reaches(start, start + self.unroll + 1, env)
        self.lanes = np.stack([np.where(follows, start + self.unroll, -1), env])
        return start, env, first

    def _propose_episodes(self, size):
        """Draw uniformly over stored episodes; return first usable rows, environments, and L, which may be 0 or less."""
        tail = self._tail - self.whole
        stored = np.cumsum(tail - self._head)
        drawn = self.rng.integers(0, stored[-1], size)
        env = np.searchsorted(stored, drawn, side="right")
        place = tail[env] - (stored[env] - drawn)
        usable = self._usable(self._start(place, env))
        newest = place + 1 == self._tail[env]
        end = np.where(newest, self.end, self._start(place + 1, env))
        return usable, env, end - 1 - usable

    def _accept(self, propose, batch_size):
        """Return rows and environments of `propose(size) -> rows, environments, transitions there`, by rejection of those without any."""
        start, env = np.zeros(0, np.int64), np.zeros(0, np.int64)
        for _ in range(1000):
            rows, envs, transitions = propose(batch_size - len(start))
            start, env = np.append(start, rows[transitions > 0]), np.append(env, envs[transitions > 0])
            if len(start) == batch_size:
                return start, env
        raise RuntimeError(f"replay.sample found no transition in {len(self)} timesteps")
