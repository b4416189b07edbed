"""From the settings of a run to its parts: environments, agent, replay, weights."""

import contextlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from launch import process, start

import gymnasium
import numpy as np

import choices
import replay
import rollout
import wrappers
from environments import catalogue
from environments.features import Features, Torso
from storage import weights

if TYPE_CHECKING:  # It imports Keras.
    from agent import Agent


def make_envs(settings: dict[str, Any], num_envs: int, torso: Torso | None = None,
              **options: Any) -> gymnasium.vector.VectorWrapper:
    """Build environments from the settings of config.json.

    Args:
        settings: of config.json; those of older runs lack some.
        num_envs: environments.
        torso: what features.load returned for these settings; None where they have no `features`.
        options: arguments of catalogue.make_envs that replace the settings'.

    Returns:
        wrappers.Flicker, or features.Features around it.
    """
    assert (torso is None) == (settings.get("features") is None)
    names = "env frame_skip max_episode_frames flicker sticky full_actions noops".split()
    given = {name: settings[name] for name in names if settings[name] is not None} | options
    if torso or ("color" in settings and settings["color"]):
        given["screen"] = torso.screen if torso else wrappers.COLOR
    envs = catalogue.make_envs(num_envs=num_envs, num_threads=start.num_threads(), **given)
    if torso and envs.frame_shape != torso.screen:
        raise ValueError(f"--features={settings['features']} does not apply to --env={settings['env']}, whose frames "
                         f"are vectors of {envs.frame_shape[0]} numbers; expected an environment with a screen")
    return Features(envs, torso) if torso else envs


def make_agent(settings: dict[str, Any], envs: gymnasium.vector.VectorWrapper) -> "Agent":
    """Build the agent that the settings of config.json describe, for the frames and actions of `envs`."""
    start.backend_name()
    for flag in choices.TABLES:  # A module of the user's own is refused before Keras is imported.
        choices.find(flag, settings[flag])
    import agent as agents  # the one place that imports Keras; what was refused before took no seconds for that
    names = """network history units precision optimizer learning_rate clip_norm loss trace_decay double burn_in
               seed""".split()
    return agents.Agent(frame_shape=envs.frame_shape, num_actions=len(envs.action_names),
                        features=bool(settings.get("features")), flicker=settings["flicker"] > 0,
                        target_network=settings["target_period"] > 0,
                        rescale=settings.get("reward_scale") == "rescale",
                        **{name: settings[name] for name in names if name in settings})


def count_timesteps(settings: dict[str, Any], envs: gymnasium.vector.VectorWrapper) -> int:
    """Return the timesteps that a run's replay holds.

    Raises:
        ValueError: of replay.check.
    """
    s, capacity = settings, settings["bufflen"]
    if s["sample"] == "rollout":  # It keeps the newest rows alone, with the history before them.
        capacity = (s["unroll"] + s["history"] + 1) * s["num_envs"]
    replay.check(capacity, s["num_envs"], s["history"], s["unroll"], s["sample"], envs.training_rewards.length_reward,
                 s["burn_in"])
    return capacity


def size_replay(settings: dict[str, Any], envs: gymnasium.vector.VectorWrapper, state_sizes: Sequence[int] = (),
                ) -> tuple[int, int, tuple[int, ...], np.dtype, Sequence[int]]:
    """Return the arguments of a run's replay that give its size: capacity, num_envs, frame shape and dtype, states.

    Raises:
        ValueError: of replay.check; or it does not fit into memory, and the largest that does is named.
    """
    s, capacity = settings, count_timesteps(settings, envs)
    states = state_sizes if s["sample"] == "rollout" or s["start_state"] == "stored" else ()
    size = capacity, s["num_envs"], envs.frame_shape, envs.frame_dtype
    needed, free = replay.Replay.nbytes(*size, states, s["sample"]), process.available_memory()
    if needed > free:
        if s["sample"] == "rollout":
            raise ValueError(f"--unroll={s['unroll']} rows of --num_envs={s['num_envs']} need {needed / 1e9:.1f} GB, "
                             f"and {free / 1e9:.1f} GB of memory are free; expected fewer of either")
        raise ValueError(f"--bufflen={capacity} timesteps need {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB of "
                         f"memory are free; expected at most "
                         f"--bufflen={process.largest_bufflen(capacity, needed, free)}")
    return *size, states


def check_memory(settings: dict[str, Any], torso: Torso | None) -> None:
    """Refuse a replay that does not fit into memory; one environment tells the shape of its frames."""
    with contextlib.closing(make_envs(settings, 1, torso)) as envs:
        size_replay(settings, envs)


def make_replay(settings: dict[str, Any], envs: gymnasium.vector.VectorWrapper, state_sizes: Sequence[int] = (),
                sees_previous: bool = False) -> replay.Replay:
    """Build the replay of a run.

    Args:
        settings: of config.json.
        envs: of the run.
        state_sizes, sees_previous: of the agent.

    Raises:
        ValueError: it does not fit into memory.
    """
    size, s = size_replay(settings, envs, state_sizes), settings
    return replay.Replay(*size[:-1], s["history"], s["unroll"], s["sample"], (s["seed"], rollout.REPLAY),
                         envs.training_rewards.length_reward, size[-1], s["burn_in"], sees_previous)


def load_weights(agent: "Agent", path: str | os.PathLike[str], settings: dict[str, Any]) -> None:
    """Read the weights of a run with these settings from a .weights.h5 file.

    Raises:
        ValueError: the file is missing or damaged, or holds something else.
    """
    with weights.checked(path):
        try:
            agent.load_weights(path)
        except (ValueError, OSError, KeyError) as error:
            raise ValueError(f"{path} does not hold weights of {settings['network']} with {settings['units']} units "
                             f"for {settings['env']} ({' '.join(str(error).split())[:120]})") from error
