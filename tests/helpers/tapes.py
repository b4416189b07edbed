"""Replays beside plain lists of the episodes that they were fed with."""

import collections

import numpy as np

from replay import Replay, Window

HISTORY_UNROLL = [(4, 1), (1, 10), (10, 1), (3, 5)]
N, NUM_ROWS = 3, 40  # environments, rows of the ring
SAMPLES = ["timestep", "episode", "sequential"]

GARBAGE = 99  # The action, reward and discount of a first row, which must never be read.
Row = collections.namedtuple("Row", "row number episode action reward discount mask")
BLANK = Row(None, 0, 0, 0, 0, 0, 0)


def make_replay(history=1, unroll=1, sample="timestep", num_rows=NUM_ROWS, num_envs=N, frame_shape=(2,),
                frame_dtype=np.float32, seed=0, length_reward=0.0):
    """Build a small replay."""
    return Replay(num_rows * num_envs, num_envs, frame_shape, frame_dtype, history, unroll, sample, seed, length_reward)


def append_frames(replay, frames, firsts, discounts=None):
    """Write rows of one environment; a row's action is 10 times its frame, its reward half of its frame.

    Args:
        frames: a number per row, which fills the frame.
        firsts: 1 per row where an episode starts, else 0.
        discounts: one per row; None for 0.9 everywhere.
    """
    for frame, first, discount in zip(frames, firsts, discounts or [0.9] * len(frames)):
        values = (GARBAGE, GARBAGE, GARBAGE) if first else (10 * frame, frame / 2, discount)
        replay.append(np.full((1, 2), frame), *(np.array([value]) for value in values), np.array([bool(first)]))


class Tape:
    """Write the same random rows into replays and into plain lists, one list of rows per episode.

    A frame holds two numbers: the row's, which is never zero and never occurs twice, and the episode's. Episodes have 0
    to 12 transitions or are longer than the ring, and are terminated or truncated. Some rows reset all environments at
    once.
    """

    def __init__(self, *replays, seed=0):
        self.replays, self.rng = replays, np.random.default_rng(seed)
        self.episodes, self.left, self.end = [[] for _ in range(N)], [-1] * N, 0

    def write(self, num_rows):
        """Append rows to the replays and to the lists."""
        for _ in range(num_rows):
            cut = self.end % 50 == 30
            rows = [self._row(env, cut) for env in range(N)]
            values = {name: np.array([getattr(row, name) for row in rows]) for name in ("action", "reward", "discount")}
            frame, first = np.array([[row.number, row.episode] for row in rows]), values["action"] == GARBAGE
            for replay in self.replays:
                replay.append(frame, first=first, **values)
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
        """Return the transitions that can be drawn: their whole history is stored.

        Returns:
            A list per episode, of (environment, the episode's rows, position of the transition in the episode).
        """
        stored = lambda row: row.row >= self.end - NUM_ROWS
        found = [[(env, episode, k) for k in range(len(episode) - 1) if stored(episode[max(0, k + 1 - history)])]
                 for env, episodes in enumerate(self.episodes) for episode in episodes]
        return [transitions for transitions in found if transitions]

    def ended_transitions(self, history):
        """Return the `transitions` of episodes that have ended, because another one follows."""
        newest = [episodes[-1] for episodes in self.episodes]
        return [transitions for transitions in self.transitions(history)
                if not any(transitions[0][1] is episode for episode in newest)]


def naive_window(episode, k, history, unroll):
    """Cut the window of transition k out of an episode's list of rows."""
    at = lambda i: episode[i] if 0 <= i < len(episode) else BLANK
    frames = [(at(i).number, at(i).episode) for i in range(k + 1 - history, k + 1 + unroll)]
    after = [at(i) for i in range(k + 1, k + 1 + unroll)]
    columns = ([getattr(row, name) for row in after] for name in ("action", "reward", "discount", "mask"))
    return Window(frames, *columns, True)


def naive_windows(transitions, history, unroll):
    """Return the windows of some of `Tape.transitions` as one Window."""
    windows = [naive_window(episode, k, history, unroll)[:6] for _, episode, k in transitions]
    return Window(*map(np.array, zip(*windows)))


def assert_windows_equal(window, expected):
    """Assert that two Windows are equal in every field."""
    assert (window.firsts, window.state) == ((), ())  # They are of rollouts.
    for name in "frames action reward discount mask first".split():
        np.testing.assert_array_equal(getattr(window, name), getattr(expected, name), err_msg=name)


def draw_probabilities(tape, history, unroll, sample):
    """Return {number of the first frame: probability} of a first draw, as the docstring of Replay defines it."""
    episodes = tape.transitions(history)
    if sample == "timestep":
        total = sum(map(len, episodes))
        return {episode[k].number: 1 / total for transitions in episodes for _, episode, k in transitions}
    num_starts = lambda length: max(0, length - unroll) + 1 if sample == "episode" else 1
    starts = [transitions[:num_starts(len(transitions))] for transitions in episodes]
    return {episode[k].number: 1 / len(starts) / len(some) for some in starts for _, episode, k in some}
