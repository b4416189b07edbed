"""A trained agent from the directory of its run, to play, to serve or to export."""

import contextlib
import pathlib

import build
from environments import features
from settings import check_settings
from storage import layout, reading


def load(run_dir, checkpoint=layout.BEST, **changed):
    """Return the agent.Agent of a run. `agent.act(frames, state)` plays by it.

    Args:
        run_dir: directory of the run.
        checkpoint: `best` or `last`, as of evaluate.py.
        changed: settings of the network that replace the run's, where its weights fit: `precision`, `flicker`.

    Raises:
        ValueError: it is no run, or its weights are missing or damaged, in one sentence.
    """
    directory = pathlib.Path(run_dir)
    settings = reading.read_settings(directory, check_settings)
    path = reading.find_weights(directory, checkpoint)
    torso = features.load(settings["features"], directory)
    with contextlib.closing(build.make_envs(settings, 1, torso)) as envs:  # They tell the shapes of frames and actions.
        agent = build.make_agent(settings | changed, envs)
    build.load_weights(agent, path, settings)
    return agent
