"""What training costs on this machine: how fast a run would go, measured over some seconds of which nothing is kept."""

import pathlib
import time
from typing import Any

from launch import build

import numpy as np

import rollout
from environments import features

# Settings on which the speed of a run depends.
SPEED = """network num_envs history frame_skip color features units unroll sample burn_in batch_size
           optimizer update_period target_period double precision""".split()


def kind_of(settings: dict[str, Any]) -> tuple[Any, ...]:
    """Return what determines the speed of a run. ALE's games step alike, far faster than their screens are learned."""
    env = "ALE" if settings["noops"] is not None else settings["env"]
    return env, settings["flicker"] > 0, settings["trace_decay"] > 0, *(settings[name] for name in SPEED)


def measure_speed(settings: dict[str, Any], run_dir: str | pathlib.Path, seconds: float) -> float:
    """Return how many agent steps training makes per second, evaluations and checkpoints aside.

    Args:
        settings: of settings.configure.
        run_dir: directory of the run; it may be missing, and nothing is written there.
        seconds: of measuring; half go to vector steps, half to updates.

    Raises:
        ValueError: the run cannot be built, in one sentence.
    """
    s = dict(settings)
    if s["sample"] != "rollout":  # An update costs the same whatever the replay holds.
        s["bufflen"] = 4 * (s["unroll"] + s["history"] + s["burn_in"]) * s["num_envs"]
    envs = build.make_envs(s, s["num_envs"], features.load(s["features"], run_dir))
    agent = build.make_agent(s, envs)
    replay = build.make_replay(s, envs, agent.state_sizes, agent.sees_previous)
    played = rollout.Rollout(envs, agent, s["history"], s["gamma"], s["life_loss"], s["seed"], s["reward_scale"])
    rng = np.random.default_rng(s["seed"])

    def step():
        played.send(played.act(1.0, rng))
        replay.append(**played.receive()[0])

    import backends
    replay.ended_only = False  # No episode needs to end.
    replay.append(**played.reset())
    while not replay.ready:
        step()
    window = replay.sample(s["batch_size"])
    update = lambda: backends.to_host(dict(loss=[agent.learn(window)["loss"]]))
    per_step = _measure(step, seconds / 2) / s["num_envs"]
    per_update = _measure(update, seconds / 2)
    envs.close()
    return 1 / (per_step + per_update / s["update_period"])


def _measure(function, seconds):
    """Return the mean seconds of a call. A first call, which compiles, is not counted."""
    function()
    start, count = time.perf_counter(), 0
    while time.perf_counter() < start + seconds or not count:
        function()
        count += 1
    return (time.perf_counter() - start) / count
