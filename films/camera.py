"""Film the episode of one agent or of two side by side, and draw episodes of a run's milestones as a contact sheet."""

import functools
import itertools
import pathlib
import re
import typing
from collections.abc import Generator, Sequence

from launch import build

import gymnasium
import numpy as np

import evaluation
from films import film, panels, saliency, sheet

ARROWS = {"UPRIGHT": "↗", "UPLEFT": "↖", "DOWNRIGHT": "↘", "DOWNLEFT": "↙", "UP": "↑", "RIGHT": "→",
          "LEFT": "←", "DOWN": "↓"}


class Player(typing.NamedTuple):
    """An agent to be filmed, with its environments."""

    settings: dict[str, typing.Any]  # of config.json
    envs: gymnasium.vector.VectorWrapper  # wrappers.Flicker, or features.Features around it; with a screen
    agent: typing.Any  # agent.Agent
    epsilon: float
    title: str
    subtitle: str


class _Returning:
    """An iterator over a generator; after the last item, `value` is what the generator returned."""

    def __init__(self, generator: Generator[typing.Any, None, typing.Any]) -> None:
        self._generator = generator

    def __iter__(self) -> Generator[typing.Any, None, typing.Any]:
        self.value = yield from self._generator


def play_moments(player: Player, eval_seed: int, progress: evaluation.Progress, filmed: int = 0,
                 max_steps: int | None = None, with_saliency: bool = False
                 ) -> Generator[film.Moment, None, list[dict[str, typing.Any]]]:
    """Play one episode per environment; yield a film.Moment before each step of one of them, and one at its end.

    Args:
        player: Player.
        eval_seed: of the episodes.
        progress: evaluation.Progress.
        filmed: the episode, which the first environment plays.
        max_steps: agent steps to yield at most; None: all.
        with_saliency: whether to find the patches that move the chosen action's Q-value.

    Returns:
        The episodes, as evaluation.evaluate returns them.
    """
    settings, envs, agent = player.settings, player.envs, player.agent
    steps = _Returning(evaluation.play(agent, envs, settings["history"], player.epsilon, eval_seed, evaluation=0,
                                       watched=filmed, stop=progress))
    for frames, state, first, actions, episode_return, length in steps:
        if max_steps and length >= max_steps:
            continue
        q_values, next_state = agent.q_values(frames, state, first)
        q_values_of = functools.partial(_q_values_of, agent, state, first)
        yield film.Moment(
            envs.render()[0], episode_return, length, frames[0], q_values[0], actions[0],
            obscured=envs.obscured[0],
            state=np.asarray(next_state[0][0]) if next_state else None,  # The first vector of an LSTM's state is h.
            saliency=saliency.compute_saliency(q_values_of, frames[0], actions[0]) if with_saliency else None)
    episodes = steps.value
    if not max_steps or episodes[filmed]["length"] <= max_steps:
        yield film.Moment(envs.render()[0], episodes[filmed]["episode_return"], episodes[filmed]["length"])
    return episodes


def _q_values_of(agent, state, first, stacks):
    """Return float32[K, A] for stacks [K, H, ...] of the first environment in its state."""
    repeated = [np.repeat(s[:1], len(stacks), axis=0) for s in state]
    return agent.q_values(stacks, repeated, np.repeat(first[:1], len(stacks)))[0]


def film_players(path: pathlib.Path, players: Sequence[Player], eval_seed: int, filmed: int = 0,
                 max_steps: int | None = None, with_saliency: bool = False) -> list[list[dict[str, typing.Any]]]:
    """Film an episode of one player, or of two side by side.

    Args:
        path: of the film.
        players: one Player or two.
        eval_seed, filmed, max_steps, with_saliency: of `play_moments`.

    Returns:
        All episodes of each player.

    Raises:
        ValueError: saliency is asked of an agent that sees no images.
    """
    for player in players:
        if with_saliency and len(player.envs.frame_shape) == 1:
            raise ValueError("--saliency is of images, in which it blurs patches; of "
                             f"{player.settings['env']} the agent sees vectors of "
                             f"{player.envs.frame_shape[0]} numbers")
    rate, layout = players[0].envs.metadata["render_fps"], panels.FULL if len(players) == 1 else panels.HALF
    arrow = lambda match: ARROWS[match[0]] + " "
    names = [re.sub("|".join(ARROWS), arrow, name) for name in players[0].envs.action_names]  # UPRIGHTFIRE: ↗ FIRE
    scenes = [film.Scene(rate, names, player.title, player.subtitle, layout, player.envs.observation_names)
              for player in players]
    with film.Film(path, rate, *scenes) as reel, evaluation.Progress("filming") as progress:
        takes = [_Returning(play_moments(player, eval_seed, progress, filmed, max_steps, with_saliency))
                 for player in players]
        for moments in itertools.zip_longest(*takes):
            reel.add(*moments)
    return [take.value for take in takes]


def draw_milestones(path: pathlib.Path, player: Player, milestones: Sequence[pathlib.Path],
                    eval_seed: int) -> list[sheet.Strip]:
    """Draw episodes that a run's weights play as a contact sheet, at most sheet.ROWS of them, evenly chosen.

    Args:
        path: of the sheet.
        player: Player with one environment.
        milestones: paths of weights, named by the number of training episodes before them.
        eval_seed: of the episodes.

    Returns:
        The rows: sheet.Strip.
    """
    settings, envs, agent = player.settings, player.envs, player.agent
    strips = []
    for milestone in sheet.choose_evenly(milestones, sheet.ROWS):
        build.load_weights(agent, milestone, settings)
        strips.append(sheet.Strip(f"{int(milestone.name.partition('.')[0]):,}"))
        with evaluation.Progress("drawing") as progress:
            steps = _Returning(evaluation.play(agent, envs, settings["history"], player.epsilon, eval_seed,
                                               evaluation=0, stop=progress))
            for *_, episode_return, length in steps:
                strips[-1].add(envs.render()[0], length, episode_return)
        strips[-1].add(envs.render()[0], steps.value[0]["length"], steps.value[0]["episode_return"])
    subtitle = f"{player.subtitle} · the episode of seed {eval_seed} after so many of training"
    sheet.draw_sheet(strips, player.title, subtitle).save(path)
    return strips
