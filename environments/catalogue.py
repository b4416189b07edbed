"""Names of environments, and the one factory for Atari and every other Gymnasium id."""

import contextlib
import copy
import difflib
import importlib.util
import inspect
import sys
from typing import Any

from launch import modules

import ale_py
import gymnasium
import numpy as np
from ale_py.env import AtariEnv
from ale_py.vector_env import AtariVectorEnv
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode

import wrappers
from environments import api, mirror, pomdps, rewards, slimevolley
from storage import layout

gymnasium.register_envs(ale_py)
gymnasium.register_envs(rewards)
gymnasium.register_envs(pomdps)
gymnasium.register_envs(slimevolley)
NO_CAP = 2**31 - 1  # frames; ALE counts in int32
# Keyword arguments of an ALE id: those that flags replace, and those that its vector environment takes as they are.
FLAGGED = "frameskip repeat_action_probability full_action_space max_num_frames_per_episode noop_max".split()
TAKEN = ("maxpool",)
# Other values of these change nothing here: --color says what screens become, and a film has its own emulator.
HARMLESS = dict(obs_type=("rgb", "grayscale"), render_mode=(None, "rgb_array"))
# How ids begin -> the package that registers them, which is no part of the suite.
PACKAGES = {"minigrid": "minigrid", "babyai": "minigrid", "miniworld": "miniworld", "minatar/": "minatar",
            "popgym": "popgym", "vizdoom": "vizdoom", "flappybird": "flappy-bird-gymnasium", "procgen": "procgen"}
POLE = "position", "velocity", "angle", "angular velocity"
# What Gymnasium's environments say in their documentation alone: names of the numbers that are seen, and of actions.
# An environment of a user's has both in its metadata, as observation_names and action_names.
NAMES = {
    "CartPole": (POLE, ("LEFT", "RIGHT")), "CartPolePosition": (POLE[::2], ("LEFT", "RIGHT")),
    "CartPolePixels": ((), ("LEFT", "RIGHT")), "MountainCar": (POLE[:2], ("LEFT", "NOOP", "RIGHT")),
    "Acrobot": (("cos 1", "sin 1", "cos 2", "sin 2", "velocity 1", "velocity 2"), ("LEFT", "NOOP", "RIGHT")),
    "DelayedCue": (("cue left", "cue right", "corridor", "fork"), ("LEFT", "RIGHT"))}


def atari_games() -> dict[str, str]:
    """Return {rom name without underscores: PascalCase name} of every single-player ALE game."""
    ids = (spec_id for spec_id in gymnasium.registry if spec_id.startswith("ALE/"))
    return {name.lower(): name for name in (i.removeprefix("ALE/").removesuffix("-v5") for i in ids)}


def describe(env: str) -> tuple[str, dict[str, Any]]:
    """Return the full name of an environment, and the defaults of the environment flags that apply there.

    Args:
        env: an ALE game in any spelling (`Frostbite`, `ms_pacman`); a registered Gymnasium id; or `module:id`, where
            the user's module registers the id.

    Raises:
        ValueError: the name is unknown; the three nearest are named.

    Reference: the defaults of a bare game are those of Mnih et al. 2015, without a loss of lives as an end.
    """
    games = atari_games()
    game = games.get(env.lower().replace("_", ""))
    if game:
        return game, dict(frame_skip=4, sticky=0.0, full_actions=False, noops=30, max_episode_frames=108_000,
                          life_loss="none")
    try:
        spec = find_spec(env)
    except ImportError as error:
        raise ValueError(f"--env={env} cannot be used: {wrappers.one_line(error)}") from error
    except gymnasium.error.Error as error:
        raise ValueError(f"--env={env} is neither an ALE game nor a registered Gymnasium id "
                         f"({wrappers.one_line(error)}); {_name_nearest(env, games)}") from error
    if spec.id in rewards.VARIANTS:
        return spec.id, describe(layout.GAMES[spec.id])[1]
    if not _is_atari(spec):
        return env, dict(frame_skip=1, max_episode_frames=spec.max_episode_steps or 0)
    settings, _ = read_atari_arguments(env, spec)
    frame_skip = settings["frameskip"] if isinstance(settings["frameskip"], int) else None  # None: random, (2, 5)
    caps = [settings["max_num_frames_per_episode"], (spec.max_episode_steps or 0) * (frame_skip or 1)]
    return env, dict(frame_skip=frame_skip, sticky=settings["repeat_action_probability"],
                     full_actions=settings["full_action_space"], noops=settings["noop_max"],
                     max_episode_frames=min(filter(None, caps), default=0), life_loss="none")


def shows_vectors(env: str, of_env: dict[str, Any]) -> bool:
    """Return whether the observations of an environment are vectors of numbers, not pictures.

    Args:
        env, of_env: what `describe` returned.

    Raises:
        ValueError: as `make_envs` does, which builds it once for this.
    """
    if "noops" in of_env:  # an ALE game
        return False
    with contextlib.closing(make_envs(env, 1, **of_env)) as envs:
        return len(envs.frame_shape) == 1


def _name_nearest(env, games):
    """Return where an unknown name may be found: in a package that is not installed, or under a name like it."""
    package = next((package for start, package in PACKAGES.items() if env.lower().startswith(start)), None)
    if package:
        module = package.replace("-", "_")
        if importlib.util.find_spec(module) is None:
            return f"such ids are of a package that is not installed: pip install {package}"
        if module not in sys.modules:
            return f"such ids are of a package that has to be named: --env={module}:{env}"
    known = {name.lower(): name for name in [*games.values(), *gymnasium.registry]}
    name = env.rpartition(":")[2].lower()
    near = difflib.get_close_matches(name.replace("_", ""), known, n=3, cutoff=0)
    return f"the nearest names are {', '.join(known[name] for name in near)}"


def read_atari_arguments(env: str, spec: EnvSpec) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the keyword arguments of a registered ALE id: dict of FLAGGED with ALE's defaults, and dict of TAKEN.

    Raises:
        ValueError: the id has others that would change the game, such as its mode; ALE's vector environment has no such
            arguments. They are named.
    """
    usual = {name: of.default for name, of in inspect.signature(AtariEnv).parameters.items()} | dict(noop_max=30)
    passed, empty = ("game", *FLAGGED, *TAKEN), inspect.Parameter.empty
    refused = [f"{name}={value!r}" for name, value in spec.kwargs.items()
               if name not in passed and value not in HARMLESS.get(name, [usual.get(name, empty)])]
    refused += [f"the wrapper {wrapper.name}" for wrapper in spec.additional_wrappers]
    if refused:
        raise ValueError(f"--env={env} is registered with {', '.join(refused)}, which ALE's vector environment does "
                         f"not take; expected an id with {', '.join((*FLAGGED, *TAKEN))} alone")
    return ({name: spec.kwargs.get(name, usual[name]) for name in FLAGGED},
            {name: spec.kwargs[name] for name in TAKEN if name in spec.kwargs})


def find_spec(env: str) -> EnvSpec:
    """Return the Gymnasium spec of an id or `module:id`; importing the module registers the id, in every process."""
    module, _, name = env.rpartition(":")
    if module:
        modules.import_module(module)
    return gymnasium.spec(name)


def make_envs(env: str, num_envs: int, *, frame_skip: int, max_episode_frames: int, flicker: float | np.ndarray = 0.0,
              sticky: float = 0.0, full_actions: bool = False, noops: int = 0, render_mode: str | None = None,
              num_threads: int = 1, screen: tuple[int, ...] = wrappers.GRAY) -> wrappers.Flicker:
    """Build environments that step together, as one `wrappers.Flicker` over a Gymnasium vector environment.

    Args:
        env: a name that `describe` returned.
        num_envs: environments.
        frame_skip: frames per agent step; an ALE screen is the maximum over the last two of them.
        max_episode_frames: frames until truncation; 0 for no cap.
        flicker: probability that a whole frame is zeroed; one for all environments, or float[N].
        sticky: probability that ALE repeats the previous action (Machado et al. 2018).
        full_actions: all 18 actions of ALE instead of the game's own.
        noops: most no-ops at an ALE episode's start.
        render_mode: `rgb_array` or `human`: a `mirror.Mirror` repeats the first environment.
        num_threads: most threads for ALE.
        screen: shape of what images become: gray (height, width), or RGB (height, width, 3).

    Returns:
        wrappers.Flicker. Its `remarks` are sentences that a user should read before training, its `observation_names`
        those of a vector's numbers, or none.

    Raises:
        ValueError: the environment cannot be built, or its spaces do not fit a Q-network over frames.
    """
    variant = rewards.VARIANTS.get(env)
    game = atari_games().get(layout.GAMES.get(env, env).lower())
    spec = copy.deepcopy(find_spec(f"ALE/{game}-v5" if game else env))
    remarks = [] if max_episode_frames else [
        f"--env={env} has no limit of frames: an episode that does not end by itself, in training or in an evaluation, "
        "goes on for ever; --max_episode_frames sets one."]
    if not _is_atari(spec):
        spec.max_episode_steps = max_episode_frames or None  # Gymnasium's TimeLimit counts the environment's own steps.
        envs, seen, names, space = _make_gymnasium(spec, env, num_envs, frame_skip, render_mode, screen)
        remarks += filter(None, [wrappers.describe_frames(env, space)])
        envs = wrappers.Flicker(envs, flicker, names, is_atari=False)
        envs.remarks, envs.observation_names = remarks, seen
        return envs
    rom, (_, taken) = spec.kwargs["game"], read_atari_arguments(env, spec)
    # Screens are pixel-identical to gymnasium.wrappers.AtariPreprocessing; ALE's own clipping, lives and FIRE stay off.
    envs = AtariVectorEnv(
        rom, num_envs, num_threads=min(num_envs, num_threads), stack_num=1, reward_clipping=False,
        img_height=screen[0], img_width=screen[1], grayscale=len(screen) == 2,
        use_fire_reset=False, episodic_life=False, life_loss_info=False, autoreset_mode=AutoresetMode.NEXT_STEP,
        max_num_frames_per_episode=max_episode_frames or NO_CAP, repeat_action_probability=sticky,
        full_action_space=full_actions, frameskip=frame_skip, noop_max=noops, **taken)
    actions = envs.ale.get_action_set()
    names, training_rewards = [action.name for action in actions], None
    if variant:
        envs = training_rewards = variant(envs, names)
    if render_mode:
        envs = mirror.Mirror(envs, mirror.AtariTwin(rom, sticky, actions, frame_skip, render_mode))
    envs = wrappers.Flicker(envs, flicker, names, is_atari=True, training_rewards=training_rewards)
    envs.remarks, envs.observation_names = remarks, []
    return envs


def _make_gymnasium(spec, env, num_envs, frame_skip, render_mode, screen):
    """Return a vector environment of a Gymnasium spec, the names of what is seen and of actions, and its space."""
    made, seen = [], []

    def wrap(single):
        made.append(single)
        single = gymnasium.wrappers.TransformReward(api.OnlyLives(single), api.to_number)
        # ALE skips by itself and takes the maximum of two frames; elsewhere no sprites flicker.
        single = gymnasium.wrappers.RepeatAction(single, frame_skip) if frame_skip > 1 else single
        seen.append(single.observation_space)
        return wrappers.as_frames(single, env, screen)

    try:
        envs = _make_vector(spec, env, num_envs, wrap)
        api.check(made[0], env)
        observations, actions = NAMES.get(spec.name.rstrip("0123456789"), ((), ()))  # DelayedCue30, too
        shape = envs.single_observation_space.shape
        observations = envs.metadata.get("observation_names", observations)
        seen_names = _names_of(observations, shape[0]) if len(shape) == 1 else []
        num_actions = int(envs.single_action_space.n)
        names = _names_of(envs.metadata.get("action_names", actions), num_actions) or [*map(str, range(num_actions))]
        if render_mode:
            envs = mirror.Mirror(envs, mirror.Twin(wrap(_make_rendered(spec, env, envs, render_mode)), env, frame_skip))
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise ValueError(f"--env={env} needs a package that is not installed: {wrappers.one_line(error)}") from error
    return envs, seen_names, names, seen[0]


def _make_vector(spec, env, num_envs, wrap):
    """Return a vector environment of a spec, each of its environments wrapped."""
    try:
        return gymnasium.make_vec(spec, num_envs, vectorization_mode="sync", wrappers=[wrap],
                                  vector_kwargs=dict(autoreset_mode=AutoresetMode.NEXT_STEP))
    except (TypeError, AttributeError, AssertionError) as error:  # as of the old Gym, without a space, with arguments
        raise ValueError(f"--env={env} cannot be made: {wrappers.one_line(error)}") from error


def _make_rendered(spec, env, envs, render_mode):
    """Return one more environment of a spec, which renders.

    Raises:
        ValueError: it cannot.
    """
    if not {render_mode, "rgb_array"} & set(envs.metadata.get("render_modes") or ()):
        raise ValueError(f"--env={env} has no screen: it renders neither as {render_mode} nor as rgb_array")
    try:
        return gymnasium.make(spec, render_mode=render_mode)
    except TypeError as error:  # It was built without this argument.
        raise ValueError(f"--env={env} has no screen: it takes no render_mode ({wrappers.one_line(error)}); expected "
                         f"an environment that takes render_mode={render_mode!r}") from error


def _names_of(names, count):
    """Return names of `count` things as a list, or none where they do not fit."""
    fit = isinstance(names, list | tuple) and len(names) == count and all(isinstance(name, str) for name in names)
    return list(names) if fit else []


def _is_atari(spec):
    entry = spec.entry_point  # its name, or itself
    return (entry if isinstance(entry, str) else getattr(entry, "__module__", "")).startswith("ale_py")
