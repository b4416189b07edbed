"""Measure one update of each network: two parts of speed.py, its time beside large products, and its profile.

    python -m benchmarks.updates DRQN float32     the profile as lines of JSON: [operation, seconds in each update]
"""

import collections
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import numpy as np

from benchmarks import timings

NATURE, BATCH, ACTIONS, UNITS = (84, 84), 32, 18, 512
NETWORKS, PRECISIONS = ("DQN", "DRQN"), ("float32", "mixed_bfloat16")
PROFILED = 20  # updates
PRODUCT_SIZE = 2048  # rows and columns of a large matrix
PRODUCT_OPERATIONS = 2 * PRODUCT_SIZE**3


def make_learner(network, precision="float32", blank=0.0, flicker=False, **window):
    """Return an agent, and a Window of random pixels to learn from.

    Args:
        blank: the share of frames that are blank.
        flicker: of agent.Agent, whether blank frames are left out.
        window: history and unroll, where they are not the network's defaults.
    """
    import agent
    import choices
    import replay
    history, unroll = (window.get(name, getattr(choices.NETWORKS[network], name)) for name in ("history", "unroll"))
    rng, shape = np.random.default_rng(1), (BATCH, unroll)
    frames = rng.integers(0, 256, (BATCH, unroll + history, *NATURE), np.uint8)
    frames[np.random.default_rng(2).random(frames.shape[:2]) < blank] = 0
    window = replay.Window(frames, rng.integers(0, ACTIONS, shape, np.int32),
                           *(np.ones(shape, np.float32) for _ in range(3)), np.ones(BATCH, bool))
    return agent.Agent(network, NATURE, ACTIONS, history, UNITS, precision, flicker=flicker, optimizer="adam"), window


def count_multiply_adds(network):
    """Return the multiply-adds of one timestep forward: of the first layer, and of all layers."""
    layers = [layer for layer in network.torso.layers if layer.weights] + [network.core, network.head]
    # A convolution uses its kernel once at each place of its output, of [1, height, width, channels].
    places = [int(np.prod(layer.output.shape[1:-1])) if layer in network.torso.layers else 1 for layer in layers]
    counts = [num_places * sum(int(np.prod(w.shape)) for w in layer.weights if len(w.shape) > 1)
              for num_places, layer in zip(places, layers)]
    return counts[0], sum(counts)


def count_operations(agent, settings):
    """Return the floating-point operations of an update: of its large products and convolutions, two a multiply-add.

    Args:
        agent: agent.Agent.
        settings: of train.configure.
    """
    first, all_layers = count_multiply_adds(agent.online_network)
    T = settings["unroll"]
    # Forward and backward to weights and to inputs, of which the pixels need none; and the values of next observations,
    # by the target network or, for the window's last one, by the online network.
    values = T if agent.target_network else 1
    return 2 * settings["batch_size"] * (T * (3 * all_layers - first) + values * all_layers)


def make_product(precision):
    """Return a function that multiplies two large matrices."""
    import backends  # noqa: F401 - first: it imports the backend quietly

    import keras
    matrix = keras.ops.ones((PRODUCT_SIZE, PRODUCT_SIZE), keras.mixed_precision.Policy(precision).compute_dtype)
    return lambda: keras.ops.matmul(matrix, matrix)[0, 0]


def update(options):
    """One update: milliseconds, operations, and the share of what large matrix products reach on the same machine, side
    by side."""
    rows = []
    for network in NETWORKS:
        for precision in PRECISIONS:
            agent, window = make_learner(network, precision)
            count = count_operations(agent, dict(batch_size=BATCH, unroll=window.action.shape[1]))
            works = dict(update=lambda agent=agent, window=window: agent.learn(window)["loss"],
                         product=make_product(precision))
            times = {name: [] for name in works}
            for _ in range(options.turns + 2):
                for name, work in works.items():
                    begin = time.perf_counter()
                    for _ in range(5):
                        float(work())
                    times[name].append((time.perf_counter() - begin) / 5)
            update_seconds, product_seconds = (np.array(times[name][2:]) for name in works)
            gflops = lambda operations, seconds: round(operations / np.median(seconds) / 1e9, 1)
            share = np.median(count * product_seconds / (PRODUCT_OPERATIONS * update_seconds))
            rows.append(dict(network=network, precision=precision,
                             **timings.spread("milliseconds", 1e3 * update_seconds), operations=count,
                             gflops_reached=gflops(count, update_seconds),
                             gflops_of_products=gflops(PRODUCT_OPERATIONS, product_seconds),
                             share=round(float(share), 3)))
    return rows


def blank(options):
    """One update of DRQN on screens of which half are blank, when all are computed and when blank ones are left out, in
    turns."""
    rows = []
    for precision in PRECISIONS:
        learners = [make_learner("DRQN", precision, blank=0.5, flicker=flicker) for flicker in (False, True)]
        times = [[], []]
        for _ in range(options.turns + 2):
            for (agent, window), taken in zip(learners, times):
                begin = time.perf_counter()
                for _ in range(5):
                    float(agent.learn(window)["loss"])
                taken.append((time.perf_counter() - begin) / 5)
        computed, left_out = (np.array(taken[2:]) for taken in times)
        rows.append(dict(precision=precision, **timings.spread("milliseconds_all", 1e3 * computed),
                         **timings.spread("milliseconds", 1e3 * left_out),
                         share=round(float(np.median(left_out / computed)), 3)))
    return rows


def operations(options):
    """Where an update's time goes, by the backend's profiler: operations alike in name, but for its numbers, that take
    1% or more."""
    rows = []
    # One operation at a time on a CPU, so that their times add up; JAX's do not.
    environment = os.environ | dict(TF_NUM_INTEROP_THREADS="1")
    for network in NETWORKS:
        for precision in PRECISIONS:
            output = subprocess.run([sys.executable, "-m", "benchmarks.updates", network, precision], cwd=timings.ROOT,
                                    env=environment, check=True, stdout=subprocess.PIPE)
            events = [json.loads(line) for line in output.stdout.splitlines()]
            rows += [dict(network=network, precision=precision, **row) for row in sum_by_kind(events)]
    return rows


def sum_by_kind(events):
    """Return a row for each kind of operation, most time first.

    Args:
        events: (operation, seconds); the first is the whole update.
    """
    (_, whole), *events = events
    seconds, times = collections.Counter(), collections.Counter()
    for name, took in events:
        kind = re.sub(r"[._]\d+$", "_#", re.sub(r"(_\d+)+(?=/)", "", name))
        seconds[kind] += took
        times[kind] += 1
    large = {kind: took for kind, took in seconds.most_common() if took >= 0.01 * whole}
    large["all others, and between them"] = whole - sum(large.values())
    return [dict(operation=kind, times=times[kind] or "", milliseconds=round(1e3 * took, 2),
                 share=round(took / whole, 3)) for kind, took in large.items()]


def profile_update(network, precision):
    """Yield ("update", seconds), and then (operation, seconds) for each operation of an update.

    Seconds are means over PROFILED updates.
    """
    import backends  # noqa: F401 - first: it imports the backend quietly

    import keras
    agent, window = make_learner(network, precision)
    learn = lambda: float(agent.learn(window)["loss"])
    for _ in range(5):
        learn()
    profilers = dict(tensorflow=_profile_tensorflow, jax=_profile_jax)
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        for _ in range(PROFILED):
            learn()
        yield "update", (time.perf_counter() - begin) / PROFILED
        totals = collections.Counter()
        for name, nanoseconds in profilers[keras.backend.backend()](folder, learn):
            totals[name] += nanoseconds
        yield from ((name, total / 1e9 / PROFILED) for name, total in totals.items())


def _trace_path(folder):
    return str(next(pathlib.Path(folder).rglob("*.xplane.pb")))


def _profile_tensorflow(folder, learn):
    """Yield (operation, nanoseconds) of each operation on TensorFlow's threads, and of each one that XLA fused.

    The names are TensorFlow's and XLA's.
    """
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2
    with tf.profiler.experimental.Profile(folder):
        for _ in range(PROFILED):
            learn()
    space = xplane_pb2.XSpace.FromString(pathlib.Path(_trace_path(folder)).read_bytes())
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events):
            name = plane.event_metadata[event.metadata_id].name
            if re.fullmatch(r"[\w/]+:\w+|\w+_fusion[.\d]*", name):  # node:kind, or XLA's
                yield name.partition(":")[0], event.duration_ps / 1e3


def _profile_jax(folder, learn):
    """Yield (operation, nanoseconds) of each kernel on a GPU's streams, or of each operation on XLA's CPU threads."""
    import jax
    with jax.profiler.trace(folder):
        for _ in range(PROFILED):
            learn()
    planes = list(jax.profiler.ProfileData.from_file(_trace_path(folder)).planes)
    lines = [line for plane in planes if plane.name.startswith("/device:GPU")
             for line in plane.lines if line.name.startswith("Stream")]
    lines = lines or [line for plane in planes for line in plane.lines if line.name.startswith("tf_XLA")]
    for event in (event for line in lines for event in line.events):
        if re.fullmatch(r"(?!end: )[^:]+", event.name) and event.name != "H2D Dispatch":
            yield event.name, event.duration_ns


if __name__ == "__main__":
    for event in profile_update(*sys.argv[1:]):
        print(json.dumps(event))
