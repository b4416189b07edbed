"""A trained agent from the directory of its run, to play, to serve or to export."""

import os
import pathlib
import typing
from collections.abc import Callable

from launch import build
from launch.settings import check_settings

import gymnasium

from environments import features
from storage import layout, reading


class LoadedRun(typing.NamedTuple):
    """A run whose agent can play."""

    directory: pathlib.Path
    settings: dict[str, typing.Any]  # of config.json
    envs: gymnasium.vector.VectorWrapper  # wrappers.Flicker, or features.Features around it
    agent: typing.Any  # agent.Agent
    weights: str  # their name


def rebuild(directory: pathlib.Path, weights: str,
            make_envs: Callable[[dict[str, typing.Any], features.Torso | None], gymnasium.vector.VectorWrapper],
            **changed: typing.Any) -> LoadedRun:
    """Build the environments and the agent of a run from its config.json; the agent's weights are still random.

    Args:
        directory: of the run.
        weights: name of the weights that will be loaded.
        make_envs: function of the run's settings and of its frozen torso, or None, that returns the environments.
        changed: settings of the network that replace the run's.

    Raises:
        ValueError: it is no run, or not one that can be rebuilt here, in one sentence.
    """
    settings = reading.read_settings(directory, check_settings)
    torso = features.load(settings["features"], directory)
    try:
        envs = make_envs(settings, torso)
        return LoadedRun(directory, settings, envs, build.make_agent(settings | changed, envs), weights)
    except (KeyError, TypeError, ImportError, OverflowError, gymnasium.error.Error) as error:
        raise ValueError(f"{directory / 'config.json'} does not describe a run that can be rebuilt here "
                         f"({type(error).__name__}: {error})") from error


def load(run_dir: str | os.PathLike[str], checkpoint: str = layout.BEST, **changed: typing.Any) -> typing.Any:
    """Return the agent.Agent of a run. `agent.act(frames, state)` plays by it.

    Args:
        run_dir: directory of the run.
        checkpoint: `best` or `last`, as of evaluate.py.
        changed: settings of the network that replace the run's, where its weights fit: `precision`, `flicker`.

    Raises:
        ValueError: it is no run, or its weights are missing or damaged, in one sentence.
    """
    directory = pathlib.Path(run_dir)
    reading.read_settings(directory, check_settings)  # What is no run is refused before its weights are sought.
    path = reading.find_weights(directory, checkpoint)
    # An environment tells the shapes of frames and actions.
    run = rebuild(directory, checkpoint, lambda settings, torso: build.make_envs(settings, 1, torso), **changed)
    run.envs.close()
    build.load_weights(run.agent, path, run.settings)
    return run.agent
