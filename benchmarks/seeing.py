"""Measure how soon a recurrent torso sees Pong's ball, without any Q-learning: what its weights start from decides.

    python -m benchmarks.seeing                   five rows, some 8 minutes of a core; writes results/seeing.csv and .md

Random play of Pong is recorded. PQN_dense_LSTM then learns, by Adam, to predict the discounted rewards to come from
windows of 32 flickering screens, 4 windows for each update, as training has them. R2 is of the last 20 of their steps,
in windows that were kept aside: 0 predicts the mean, 1 is perfect.
"""

import argparse
import contextlib
import pathlib
import unittest.mock

import backends  # noqa: F401 - first: it imports the backend quietly

import keras
import numpy as np
import tensorflow as tf

import kernels
import models
from benchmarks import timings
from environments import catalogue

NUM_ENVS, NUM_STEPS, DISCOUNT = 32, 1500, 0.95
T, B, SEEN_FROM, FLICKER = 32, 4, 12, 0.5
# weights of layers before a norm, of the first convolution, LayerNorm's epsilon
STARTS = {
    "Glorot's (Keras' default)": ("glorot_uniform", "glorot_uniform", 1e-6),
    "He's (the authors')": ("he_normal", "he_normal", 1e-6),
    "He's, first filters without a mean": ("he_normal", models.ContrastInit, 1e-3),  # the suite's
}
ROWS = [  # start, learning rate, whether there is one value per action, of which the played one learns
    ("Glorot's (Keras' default)", 1e-4, True), ("He's (the authors')", 1e-4, True), ("He's (the authors')", 5e-5, True),
    ("He's (the authors')", 5e-5, False), ("He's, first filters without a mean", 1e-4, True)]


def record():
    """Play Pong at random; return screens uint8[T, N, 84, 84], actions int32[T, N] and discounted sums float32[T, N].

    The last 60 steps, whose rewards to come are cut short, are left out.
    """
    envs = catalogue.make_envs("Pong", NUM_ENVS, frame_skip=4, max_episode_frames=108_000, noops=30)
    rng, rows = np.random.default_rng(0), []
    screens, _ = envs.reset(seed=np.arange(NUM_ENVS))
    for _ in range(NUM_STEPS):
        actions = rng.integers(len(envs.action_names), size=NUM_ENVS)
        following, reward, terminated, truncated, _ = envs.step(actions)
        rows.append((screens, actions.astype(np.int32), reward, terminated | truncated))
        screens = following
    screens, actions, rewards, ended = map(np.array, zip(*rows))
    sums = np.zeros((NUM_STEPS + 1, NUM_ENVS), np.float32)
    for t in reversed(range(NUM_STEPS)):
        sums[t] = rewards[t] + DISCOUNT * np.where(ended[t], 0, sums[t + 1])
    return screens[:-60], actions[:-60], sums[:-61]


@contextlib.contextmanager
def starting_from(weights, first, epsilon):
    """Let networks that are built meanwhile start from these weights."""
    with (unittest.mock.patch.object(models, "INIT_BEFORE_NORM", weights),
          unittest.mock.patch.object(models, "ContrastInit", lambda: first if isinstance(first, str) else first()),
          unittest.mock.patch.object(kernels.NormReLU, "EPSILON", epsilon)):
        yield


def measure(start, learning_rate, per_action, updates, recording):
    """Return R2 after each third of the updates."""
    screens, actions, sums = recording
    keras.utils.set_random_seed(1)
    with starting_from(*STARTS[start]):
        network = models.QNetwork("PQN_dense_LSTM", (84, 84), 6, 1, 256, "mixed_bfloat16", flicker=True)
        optimizer = keras.optimizers.Adam(learning_rate, epsilon=1e-8)
        optimizer.build(network.trainable_variables)
        rng, split = np.random.default_rng(0), int(0.8 * len(sums))

        def draw(begin, end):
            row, env = rng.integers(begin, end - T, (B, 1)) + np.arange(T), rng.integers(NUM_ENVS, size=(B, 1))
            shown = rng.random((B, T, 1, 1)) >= FLICKER
            return screens[row, env] * shown, actions[row, env], sums[row, env]

        def values_of(frames, action):
            values, _ = network(frames, network.initial_state(B))
            return tf.reduce_sum(values * tf.one_hot(action if per_action else 0 * action, 6), axis=-1)

        @tf.function(autograph=False)
        def learn(frames, action, target):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((values_of(frames, action) - target) ** 2) / 2
            gradients, _ = tf.clip_by_global_norm(tape.gradient(loss, network.trainable_variables), 1.0)
            optimizer.apply(gradients, network.trainable_variables)

        predict, reached = tf.function(values_of, autograph=False), []
        for update in range(1, updates + 1):
            learn(*draw(0, split))
            if update % (updates // 3) == 0:
                aside = [draw(split, len(sums)) for _ in range(40)]
                errors = [predict(frames, action)[:, SEEN_FROM:] - target[:, SEEN_FROM:]
                          for frames, action, target in aside]
                targets = np.array([target[:, SEEN_FROM:] for *_, target in aside])
                reached.append(round(float(1 - np.mean(np.square(errors)) / targets.var()), 3))
    return reached


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=1200, help="of each row, a multiple of 3")
    parser.add_argument("--out", type=pathlib.Path, default=timings.ROOT / "results/seeing", help="without an ending")
    options = parser.parse_args()
    recording, rows = record(), []
    for start, learning_rate, per_action in ROWS:
        reached = measure(start, learning_rate, per_action, options.updates, recording)
        after = {f"r2_after_{(i + 1) * options.updates // 3}": value for i, value in enumerate(reached)}
        rows.append(dict(weights=start, learning_rate=learning_rate, values="one per action" if per_action else "one")
                    | after | timings.circumstances())
        print(*(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    timings.write_rows(options.out.with_suffix(".csv"), rows)
    options.out.with_suffix(".md").write_text(timings.format_table(rows))


if __name__ == "__main__":
    main()
