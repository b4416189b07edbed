"""One update of each network on its own: two parts of speed.py, how long it takes and where its time goes.

    python benchmarks/updates.py DRQN float32        the second one's profile, as lines of JSON: [operation, seconds] in each update
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

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import numpy as np  # noqa: E402
import timings  # noqa: E402

NATURE, BATCH, ACTIONS, UNITS = (84, 84), 32, 18, 512
NETWORKS, PRECISIONS = ("DQN", "DRQN"), ("float32", "mixed_bfloat16")
PROFILED = 20  # updates


def learner(network, precision="float32", **window):
    """Return an agent, and a window of random pixels to learn from; `window` is its history and unroll, where not the network's own."""
    import agent
    import models
    import replay
    history, unroll = (window.get(name, getattr(models.NETWORKS[network], name)) for name in ("history", "unroll"))
    rng, shape = np.random.default_rng(1), (BATCH, unroll)
    window = replay.Window(rng.integers(0, 256, (BATCH, unroll + history, *NATURE), np.uint8), rng.integers(0, ACTIONS, shape, np.int32),
                           *(np.ones(shape, np.float32) for _ in range(3)), np.ones(BATCH, bool))
    return agent.Agent(network, NATURE, ACTIONS, history, UNITS, precision, optimizer="adam"), window


def multiply_adds(network):
    """Return those of one timestep forward: of the first layer, and of all."""
    layers = [layer for layer in network.torso.layers if layer.weights] + [network.core, network.head]
    # A convolution uses its kernel once at each place of its output, of [1, height, width, channels].
    places = [int(np.prod(layer.output.shape[1:-1])) if layer in network.torso.layers else 1 for layer in layers]
    counts = [n * sum(int(np.prod(w.shape)) for w in layer.weights if len(w.shape) > 1) for n, layer in zip(places, layers)]
    return counts[0], sum(counts)


def update(options):
    """One update: milliseconds, operations, and the share of what large matrix products reach on the same machine, side by side."""
    import keras

    import backends  # noqa: F401 - first: it imports the backend quietly
    rows = []
    for network in NETWORKS:
        for precision in PRECISIONS:
            agent, window = learner(network, precision)
            first, all_layers = multiply_adds(agent.online_network)
            # Forward in both networks, and backward to weights and to inputs; the pixels need no gradient.
            count = 2 * window.action.size * (4 * all_layers - first)
            matrix = keras.ops.ones((2048, 2048), keras.mixed_precision.Policy(precision).compute_dtype)
            works = dict(update=lambda agent=agent, window=window: agent.learn(window)["loss"],
                         product=lambda matrix=matrix: keras.ops.matmul(matrix, matrix)[0, 0])
            times = {name: [] for name in works}
            for _ in range(options.turns + 2):
                for name, work in works.items():
                    begin = time.perf_counter()
                    for _ in range(5):
                        float(work())
                    times[name].append((time.perf_counter() - begin) / 5)
            own, product = (np.array(times[name][2:]) for name in works)
            gflops = lambda operations, seconds: round(operations / np.median(seconds) / 1e9, 1)
            rows.append(dict(network=network, precision=precision, **timings.spread("milliseconds", 1e3 * own), operations=count,
                             gflops_reached=gflops(count, own), gflops_of_products=gflops(2 * 2048**3, product),
                             share=round(float(np.median(count * product / (2 * 2048**3 * own))), 3)))
    return rows


def operations(options):
    """Where an update's time goes, by the backend's profiler: operations alike in name, but for its numbers, that take 1% or more."""
    rows, environment = [], os.environ | dict(TF_NUM_INTEROP_THREADS="1")  # One at a time on a CPU, so that they add up; JAX's do not.
    for network in NETWORKS:
        for precision in PRECISIONS:
            output = subprocess.run([sys.executable, __file__, network, precision], env=environment, check=True, stdout=subprocess.PIPE)
            events = [json.loads(line) for line in output.stdout.splitlines()]
            rows += [dict(network=network, precision=precision, **row) for row in shares(events)]
    return rows


def shares(events):
    """Return a row for each kind of operation, most time first; `events` are (operation, seconds), of which the first is the whole."""
    (_, whole), *events = events
    seconds, times = collections.Counter(), collections.Counter()
    for name, took in events:
        kind = re.sub(r"[._]\d+$", "_#", re.sub(r"(_\d+)+(?=/)", "", name))
        seconds[kind] += took
        times[kind] += 1
    large = {kind: took for kind, took in seconds.most_common() if took >= 0.01 * whole}
    large["all others, and between them"] = whole - sum(large.values())
    return [dict(operation=kind, times=times[kind] or "", milliseconds=round(1e3 * took, 2), share=round(took / whole, 3))
            for kind, took in large.items()]


def profile(network, precision):
    """Yield ("update", seconds of one) and then (operation, seconds) for each within an update, on average over PROFILED of them."""
    import keras

    import backends  # noqa: F401 - first
    (agent, window), learn = learner(network, precision), lambda: float(agent.learn(window)["loss"])
    for _ in range(5):
        learn()
    profilers = dict(tensorflow=_tensorflow, jax=_jax)
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        for _ in range(PROFILED):
            learn()
        yield "update", (time.perf_counter() - begin) / PROFILED
        totals = collections.Counter()
        for name, nanoseconds in profilers[keras.backend.backend()](folder, learn):
            totals[name] += nanoseconds
        yield from ((name, total / 1e9 / PROFILED) for name, total in totals.items())


def _trace(folder):
    return str(next(pathlib.Path(folder).rglob("*.xplane.pb")))


def _tensorflow(folder, learn):
    """Yield (operation, nanoseconds) of every operation on TensorFlow's threads, and of what XLA fused, under the names they give it."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2
    with tf.profiler.experimental.Profile(folder):
        for _ in range(PROFILED):
            learn()
    space = xplane_pb2.XSpace.FromString(pathlib.Path(_trace(folder)).read_bytes())
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events):
            name = plane.event_metadata[event.metadata_id].name
            if re.fullmatch(r"[\w/]+:\w+|\w+_fusion[.\d]*", name):  # node:kind, or XLA's
                yield name.partition(":")[0], event.duration_ps / 1e3


def _jax(folder, learn):
    """Yield (operation, nanoseconds) of every kernel on the streams of a GPU, or of every operation on the threads of XLA's CPU."""
    import jax
    with jax.profiler.trace(folder):
        for _ in range(PROFILED):
            learn()
    planes = list(jax.profiler.ProfileData.from_file(_trace(folder)).planes)
    lines = [line for plane in planes if plane.name.startswith("/device:GPU") for line in plane.lines if line.name.startswith("Stream")]
    lines = lines or [line for plane in planes for line in plane.lines if line.name.startswith("tf_XLA")]
    for event in (event for line in lines for event in line.events):
        if re.fullmatch(r"(?!end: )[^:]+", event.name) and event.name != "H2D Dispatch":
            yield event.name, event.duration_ns


if __name__ == "__main__":
    for event in profile(*sys.argv[1:]):
        print(json.dumps(event))
