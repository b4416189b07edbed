"""Environments: one factory for Atari and every other Gymnasium id."""

import copy
import difflib
import importlib

import ale_py
import cv2
import gymnasium
import numpy as np
from ale_py.vector_env import AtariVectorEnv
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

import crafted
import pomdps
import screens
import slimevolley
import twins

gymnasium.register_envs(ale_py)
gymnasium.register_envs(crafted)
gymnasium.register_envs(pomdps)
gymnasium.register_envs(slimevolley)
NO_CAP = 2**31 - 1  # frames; ALE counts in int32


def atari_games():
    """Return {rom name without underscores: PascalCase name} of every single-player ALE game."""
    ids = (spec_id for spec_id in gymnasium.registry if spec_id.startswith("ALE/"))
    return {name.lower(): name for name in (i.removeprefix("ALE/").removesuffix("-v5") for i in ids)}


def describe(env):
    """Return the full name of an environment, and its own settings: the defaults of the environment flags that apply to it.

    Args:
        env: an ALE game in any spelling (`Frostbite`, `ms_pacman`), a registered Gymnasium id, or `module:id` of one that a module
            of the user's registers.

    Raises:
        ValueError: the name is unknown; the three nearest are named.

    Reference: the defaults of a bare game are those of Mnih et al. 2015, without a loss of lives as an end.
    """
    games = atari_games()
    game = games.get(env.lower().replace("_", ""))
    if game:
        return game, dict(frame_skip=4, sticky=0.0, full_actions=False, noops=30, max_episode_frames=108_000, life_loss="none")
    try:
        spec = find_spec(env)
    except (gymnasium.error.Error, ImportError) as error:
        known = {name.lower(): name for name in [*games.values(), *gymnasium.registry]}
        # The whole name first; then the part before the version, so that a wrong version finds its neighbours too.
        near = difflib.get_close_matches(env.lower().replace("_", ""), known, n=3, cutoff=0) + [""]
        raise ValueError(f"--env={env} is neither an ALE game nor a registered Gymnasium id ({_sentence(error)}); "
                         f"the nearest names are {', '.join(known[name] for name in near if name)}") from error
    if spec.id in crafted.VARIANTS:
        return spec.id, describe(crafted.VARIANTS[spec.id][0])[1]
    if not _is_atari(spec):
        return env, dict(frame_skip=1, max_episode_frames=spec.max_episode_steps or 0)
    settings = spec.kwargs
    frame_skip = settings["frameskip"] if isinstance(settings["frameskip"], int) else None  # None: random, (2, 5)
    return env, dict(frame_skip=frame_skip, sticky=settings["repeat_action_probability"],
                         full_actions=settings["full_action_space"], noops=30,
                         max_episode_frames=settings["max_num_frames_per_episode"], life_loss="none")


def find_spec(env):
    """Return the Gymnasium spec of an id or `module:id`; in the latter form importing the module registers it, in every process."""
    module, _, name = env.rpartition(":")
    if module:
        importlib.import_module(module)
    return gymnasium.spec(name)


def make_envs(env, num_envs, *, frame_skip, max_episode_frames, flicker=0.0, sticky=0.0, full_actions=False, noops=0, render_mode=None,
              num_threads=1, screen=(84, 84)):
    """Build `num_envs` environments that step together, as one `Flicker` over a Gymnasium vector environment.

    Args:
        env: a name that `describe` returned.
        num_envs: environments.
        frame_skip: frames per agent step; an ALE screen is the maximum over the last two of them.
        max_episode_frames: frames until truncation; 0 for no cap.
        flicker: probability that a whole frame is zeroed; one for all environments, or float[N].
        sticky: probability that ALE repeats the previous action (Machado et al. 2018).
        full_actions: all 18 actions of ALE instead of the game's own.
        noops: most no-ops at an ALE episode's start.
        render_mode: `rgb_array` or `human`: the first environment is a `twins.Mirror`'s.
        num_threads: most threads for ALE.
        screen: shape of what images become: gray (height, width), or RGB (height, width, 3).

    Raises:
        ValueError: the environment cannot be built, or its spaces do not fit a Q-network over frames.
    """
    base, variant = crafted.VARIANTS.get(env, (env, None))
    game = atari_games().get(base.lower())
    spec = copy.deepcopy(find_spec(f"ALE/{game}-v5" if game else env))
    if _is_atari(spec):
        rom = spec.kwargs["game"]
        envs = AtariVectorEnv(  # Screens pixel-identical to gymnasium.wrappers.AtariPreprocessing; its clipping, lives and FIRE stay off.
            rom, num_envs, num_threads=min(num_envs, num_threads), stack_num=1, reward_clipping=False,
            img_height=screen[0], img_width=screen[1], grayscale=len(screen) == 2,
            use_fire_reset=False, episodic_life=False, life_loss_info=False, autoreset_mode=AutoresetMode.NEXT_STEP,
            max_num_frames_per_episode=max_episode_frames or NO_CAP, repeat_action_probability=sticky,
            full_action_space=full_actions, frameskip=frame_skip, noop_max=noops)
        names = [action.name for action in envs.ale.get_action_set()]
        twin = twins.AtariTwin(rom, sticky, envs.ale.get_action_set(), frame_skip, render_mode) if render_mode else None
        envs = variant(envs, names) if variant else envs
    else:
        spec.max_episode_steps = max_episode_frames or None  # Gymnasium's TimeLimit counts the environment's own steps, below any skip.
        wrap = lambda e: _as_frames(_skip(e, frame_skip), env, screen)
        try:
            envs = gymnasium.make_vec(spec, num_envs, vectorization_mode="sync",
                                      vector_kwargs=dict(autoreset_mode=AutoresetMode.NEXT_STEP), wrappers=[wrap])
            if render_mode and not {render_mode, "rgb_array"} & set(envs.metadata.get("render_modes", ())):
                raise ValueError(f"--env={env} has no screen: it renders neither as {render_mode} nor as rgb_array")
            twin = twins.Twin(wrap(gymnasium.make(spec, render_mode=render_mode)), frame_skip) if render_mode else None
        except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
            raise ValueError(f"--env={env} needs a package that is not installed: {_sentence(error)}") from error
        names = envs.metadata.get("action_names") or [str(i) for i in range(envs.single_action_space.n)]
    return screens.Flicker(twins.Mirror(envs, twin) if twin else envs, flicker, names, is_atari=_is_atari(spec))


class FrameSkip(gymnasium.Wrapper):
    """Repeat each action `frame_skip` times and sum the rewards; the frame is the last one, as no sprites flicker off Atari."""

    def __init__(self, env, frame_skip):
        super().__init__(env)
        self.frame_skip = frame_skip

    def step(self, action):
        total = 0.0
        for _ in range(self.frame_skip):
            observation, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return observation, total, terminated, truncated, info


def _skip(env, frame_skip):
    return FrameSkip(env, frame_skip) if frame_skip > 1 else env


def _as_frames(env, name, screen):
    """Turn images of any size and colour into uint8[*screen], other boxes into float32[D]; refuse what a Q-network cannot take."""
    actions, box = env.action_space, env.observation_space
    if not isinstance(actions, spaces.Discrete):
        raise ValueError(f"--env={name} has the action space {_sentence(actions)}; Q-learning here expects Discrete actions")
    if not isinstance(box, spaces.Box):
        raise ValueError(f"--env={name} has the observation space {_sentence(box)}; expected a Box: an image or a vector")
    if actions.start:
        env = gymnasium.wrappers.TransformAction(env, lambda a: a + actions.start, spaces.Discrete(int(actions.n)))
    if box.dtype == np.uint8 and len(box.shape) in (2, 3):
        if len(box.shape) == 3 and box.shape[-1] not in (1, 3, 4) and box.shape[0] not in (1, 3):
            raise ValueError(f"--env={name} has images of shape {box.shape}; expected 1, 3 or 4 channels, last, or 1 or 3 first")
        return gymnasium.wrappers.TransformObservation(
            env, lambda o: _as_screen(o, screen), spaces.Box(0, 255, screen, np.uint8))
    size = int(np.prod(box.shape))
    return gymnasium.wrappers.TransformObservation(
        env, lambda o: np.asarray(o, np.float32).reshape(size), spaces.Box(-np.inf, np.inf, (size,), np.float32))


def _as_screen(image, screen):
    """uint8 image [height, width], [height, width, 1, 3 or 4] or [1 or 3, height, width] -> uint8 of the shape `screen`, gray or RGB."""
    if image.ndim == 3 and image.shape[-1] not in (1, 3, 4) and image.shape[0] in (1, 3):
        image = np.moveaxis(image, 0, -1)
    if image.ndim == 3:
        image = np.ascontiguousarray(image[..., :3]) if image.shape[-1] >= 3 else image[..., 0]
    if image.ndim != len(screen):
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY if image.ndim == 3 else cv2.COLOR_GRAY2RGB)
    return cv2.resize(np.ascontiguousarray(image), screen[1::-1], interpolation=cv2.INTER_AREA)


def _is_atari(spec):
    return str(spec.entry_point).startswith("ale_py")


def _sentence(thing):
    return " ".join(str(thing).split()).rstrip(".")
