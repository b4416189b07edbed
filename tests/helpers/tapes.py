"""Replays beside naive lists of the episodes that they were fed with."""

import collections

import numpy as np

from replay import Replay, Window

HISTORY_UNROLL = [(4, 1), (1, 10), (10, 1), (3, 5)]
N, NUM_ROWS = 3, 40  # environments, rows of the ring
SAMPLES = ["timestep", "episode", "sequential"]

GARBAGE = 99  # in what a first row holds besides its frame, which must never be read
Row = collections.namedtuple("Row", "row number episode action reward discount mask")
BLANK = Row(None, 0, 0, 0, 0, 0, 0)


def make_replay(history=1, unroll=1, sample="timestep", num_rows=NUM_ROWS, num_envs=N, frame_shape=(2,), frame_dtype=np.float32, seed=0):
    return Replay(num_rows * num_envs, num_envs, frame_shape, frame_dtype, history, unroll, sample, seed)


def append_frames(replay, frames, firsts, discounts=None):
    """Write rows of one environment: frames, and where an episode starts; action 10 times the frame, reward half of it."""
    for frame, first, discount in zip(frames, firsts, discounts or [0.9] * len(frames)):
        values = (GARBAGE, GARBAGE, GARBAGE) if first else (10 * frame, frame / 2, discount)
        replay.append(np.full((1, 2), frame), *(np.array([value]) for value in values), np.array([bool(first)]))


class Tape:
    """Replays fed with the same rows, and beside them every environment's episodes as plain lists of rows.

    A frame holds its own number, of which none is zero and none occurs twice, and that of its episode. Episodes are of 0 to 12
    transitions or longer than the ring, terminated or truncated; some rows reset all environments at once.
    """

    def __init__(self, *replays, seed=0):
        self.replays, self.rng = replays, np.random.default_rng(seed)
        self.episodes, self.left, self.end = [[] for _ in range(N)], [-1] * N, 0

    def write(self, num_rows):
        for _ in range(num_rows):
            cut = self.end % 50 == 30
            rows = [self._row(env, cut) for env in range(N)]
            values = {name: np.array([getattr(row, name) for row in rows]) for name in ("action", "reward", "discount")}
            for replay in self.replays:
                replay.append(np.array([[row.number, row.episode] for row in rows]), first=values["action"] == GARBAGE, **values)
            self.end += 1

    def _row(self, env, cut):
        first = cut or self.left[env] < 0
        if first:
            self.episodes[env].append([])
            self.left[env] = self.rng.choice([*range(13), 60])
        number, action, reward = self.end * N + env + 1, self.rng.integers(90), self.rng.normal()
        discount = 0.0 if self.left[env] == 0 and self.rng.random() < 0.5 else 0.99
        self.left[env] -= 1
        values = (GARBAGE, GARBAGE, GARBAGE) if first else (action, np.float32(reward), np.float32(discount))
        row = Row(self.end, number, len(self.episodes[env]) * N + env, *values, mask=1)
        self.episodes[env][-1].append(row)
        return row

    def transitions(self, history):
        """Return, per episode that can be drawn, its list of (environment, episode, position): those with all their history stored."""
        stored = lambda row: row.row >= self.end - NUM_ROWS
        found = [[(env, episode, k) for k in range(len(episode) - 1) if stored(episode[max(0, k + 1 - history)])]
                 for env, episodes in enumerate(self.episodes) for episode in episodes]
        return [transitions for transitions in found if transitions]


def naive_window(episode, k, history, unroll):
    at = lambda i: episode[i] if 0 <= i < len(episode) else BLANK
    frames = [(at(i).number, at(i).episode) for i in range(k + 1 - history, k + 1 + unroll)]
    after = [at(i) for i in range(k + 1, k + 1 + unroll)]
    return Window(frames, *([getattr(row, name) for row in after] for name in ("action", "reward", "discount", "mask")), True)


def naive_windows(transitions, history, unroll):
    return Window(*map(np.array, zip(*(naive_window(episode, k, history, unroll) for _, episode, k in transitions))))


def assert_windows_equal(window, expected):
    for name in Window._fields:
        np.testing.assert_array_equal(getattr(window, name), getattr(expected, name), err_msg=name)


def probabilities(tape, history, unroll, sample):
    """Return {number of the first frame: probability} of a first draw, as the replay's docstring has it."""
    episodes = tape.transitions(history)
    if sample == "timestep":
        return {episode[k].number: 1 / sum(map(len, episodes)) for transitions in episodes for _, episode, k in transitions}
    choice = lambda length: max(0, length - unroll) + 1 if sample == "episode" else 1
    starts = [transitions[:choice(len(transitions))] for transitions in episodes]
    return {episode[k].number: 1 / len(starts) / len(some) for some in starts for _, episode, k in some}
