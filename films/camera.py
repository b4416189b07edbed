"""Filming: the episode of one agent, or those of two side by side; and a sheet of what the weights of a run's milestones play."""

import collections
import functools
import itertools
import re

import numpy as np
from tqdm import tqdm

import build
import evaluation
from films import film, panels, saliency, sheet

ARROWS = {"UPRIGHT": "↗", "UPLEFT": "↖", "DOWNRIGHT": "↘", "DOWNLEFT": "↙", "UP": "↑", "RIGHT": "→", "LEFT": "←", "DOWN": "↓"}

Player = collections.namedtuple("Player", "settings envs agent epsilon title subtitle")
Player.__doc__ = """Who is filmed: `settings` of config.json, `envs` with a screen, `agent`, `epsilon`, and its words."""


class _Returning:
    """A generator to be looped over, and then what it returned as `value`."""

    def __init__(self, generator):
        self._generator = generator

    def __iter__(self):
        self.value = yield from self._generator


def moments(player, eval_seed, max_steps=None, salient=False):
    """Play one episode per environment, and yield a film.Moment before each step of the first and one when it is over.

    Args:
        max_steps: agent steps to yield at most; None: all.
        salient: whether to look for what moves the chosen action's Q-value.

    Returns:
        What evaluation.evaluate does.
    """
    settings, envs, agent = player[:3]
    playing = _Returning(evaluation.play(agent, envs, settings["history"], player.epsilon, eval_seed, evaluation=0))
    for frames, state, first, actions, episode_return, length in playing:
        if max_steps and length >= max_steps:
            continue
        q_values, next_state = agent.q_values(frames, state, first)
        q_of = functools.partial(_q_values_of, agent, state, first)
        yield film.Moment(
            envs.render()[0], episode_return, length, frames[0], q_values[0], actions[0],
            obscured=envs.obscured[0],
            state=np.asarray(next_state[0][0]) if next_state else None,  # The first of its vectors: h of an LSTM.
            saliency=saliency.saliency(q_of, frames[0], actions[0]) if salient else None)
    episodes = playing.value
    if not max_steps or episodes[0]["length"] <= max_steps:
        yield film.Moment(envs.render()[0], episodes[0]["episode_return"], episodes[0]["length"])
    return episodes


def _q_values_of(agent, state, first, stacks):
    """Return float32[K, A] for stacks [K, H, ...] of the first environment in its state."""
    return agent.q_values(stacks, [np.repeat(s[:1], len(stacks), axis=0) for s in state], np.repeat(first[:1], len(stacks)))[0]


def shoot(path, players, eval_seed, max_steps=None, salient=False):
    """Film the first episode of one player, or of two side by side; return all episodes of each.

    Raises:
        ValueError: what is salient is asked of an agent that sees no images.
    """
    for settings, envs, *_ in players:
        if salient and len(envs.frame_shape) == 1:
            raise ValueError("--saliency is of images, in which it blurs patches; "
                             f"of {settings['env']} the agent sees vectors of {envs.frame_shape[0]} numbers")
    rate, layout = players[0].envs.metadata["render_fps"], panels.FULL if len(players) == 1 else panels.HALF
    arrow = lambda match: ARROWS[match[0]] + " "
    names = [re.sub("|".join(ARROWS), arrow, name) for name in players[0].envs.action_names]  # UPRIGHTFIRE: ↗ FIRE
    scenes = [film.Scene(rate, names, player.title, player.subtitle, layout) for player in players]
    takes = [_Returning(moments(player, eval_seed, max_steps, salient)) for player in players]
    with film.Film(path, rate, *scenes) as reel, tqdm(desc="filming", unit=" agent steps", leave=False, disable=None) as progress:
        for at_once in itertools.zip_longest(*takes):
            reel.add(*at_once)
            progress.update()
    return [take.value for take in takes]


def print_sheet(path, player, milestones, eval_seed):
    """Draw a contact sheet of the episodes that a run's weights play, at most sheet.ROWS of them, evenly chosen.

    Args:
        player: of one environment.
        milestones: paths of weights, named by the number of training episodes before them.

    Returns:
        The rows: sheet.Strip.
    """
    settings, envs, agent = player[:3]
    strips = []
    for milestone in sheet.evenly(milestones, sheet.ROWS):
        build.load_weights(agent, milestone, settings)
        strips.append(sheet.Strip(f"{int(milestone.name.partition('.')[0]):,}"))
        playing = _Returning(evaluation.play(agent, envs, settings["history"], player.epsilon, eval_seed, evaluation=0))
        for *_, episode_return, length in playing:
            strips[-1].add(envs.render()[0], length, episode_return)
        strips[-1].add(envs.render()[0], playing.value[0]["length"], playing.value[0]["episode_return"])
    sheet.draw(strips, player.title, f"{player.subtitle} · the episode of seed {eval_seed} after so many of training").save(path)
    return strips
