"""Names of environments, and the one factory for Atari and every other Gymnasium id."""

import copy
import difflib
import importlib

import ale_py
import gymnasium
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode

import wrappers
from environments import mirror, pomdps, rewards, slimevolley
from storage import layout

gymnasium.register_envs(ale_py)
gymnasium.register_envs(rewards)
gymnasium.register_envs(pomdps)
gymnasium.register_envs(slimevolley)
NO_CAP = 2**31 - 1  # frames; ALE counts in int32


def atari_games():
    """Return {rom name without underscores: PascalCase name} of every single-player ALE game."""
    ids = (spec_id for spec_id in gymnasium.registry if spec_id.startswith("ALE/"))
    return {name.lower(): name for name in (i.removeprefix("ALE/").removesuffix("-v5") for i in ids)}


def describe(env):
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
    except (gymnasium.error.Error, ImportError) as error:
        known = {name.lower(): name for name in [*games.values(), *gymnasium.registry]}
        # The whole name first; then the part before the version, so that a wrong version finds its neighbours too.
        near = difflib.get_close_matches(env.lower().replace("_", ""), known, n=3, cutoff=0) + [""]
        raise ValueError(f"--env={env} is neither an ALE game nor a registered Gymnasium id "
                         f"({wrappers.one_line(error)}); the nearest names are "
                         f"{', '.join(known[name] for name in near if name)}") from error
    if spec.id in rewards.VARIANTS:
        return spec.id, describe(layout.GAMES[spec.id])[1]
    if not _is_atari(spec):
        return env, dict(frame_skip=1, max_episode_frames=spec.max_episode_steps or 0)
    settings = spec.kwargs
    frame_skip = settings["frameskip"] if isinstance(settings["frameskip"], int) else None  # None: random, (2, 5)
    return env, dict(frame_skip=frame_skip, sticky=settings["repeat_action_probability"],
                     full_actions=settings["full_action_space"], noops=30,
                     max_episode_frames=settings["max_num_frames_per_episode"], life_loss="none")


def find_spec(env):
    """Return the Gymnasium spec of an id or `module:id`; importing the module registers the id, in every process."""
    module, _, name = env.rpartition(":")
    if module:
        importlib.import_module(module)
    return gymnasium.spec(name)


def make_envs(env, num_envs, *, frame_skip, max_episode_frames, flicker=0.0, sticky=0.0, full_actions=False, noops=0,
              render_mode=None, num_threads=1, screen=(84, 84)):
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

    Raises:
        ValueError: the environment cannot be built, or its spaces do not fit a Q-network over frames.
    """
    variant = rewards.VARIANTS.get(env)
    game = atari_games().get(layout.GAMES.get(env, env).lower())
    spec = copy.deepcopy(find_spec(f"ALE/{game}-v5" if game else env))
    if not _is_atari(spec):
        spec.max_episode_steps = max_episode_frames or None  # Gymnasium's TimeLimit counts the environment's own steps.
        envs, names = _make_gymnasium(spec, env, num_envs, frame_skip, render_mode, screen)
        return wrappers.Flicker(envs, flicker, names, is_atari=False)
    rom = spec.kwargs["game"]
    # Screens are pixel-identical to gymnasium.wrappers.AtariPreprocessing; ALE's own clipping, lives and FIRE stay off.
    envs = AtariVectorEnv(
        rom, num_envs, num_threads=min(num_envs, num_threads), stack_num=1, reward_clipping=False,
        img_height=screen[0], img_width=screen[1], grayscale=len(screen) == 2,
        use_fire_reset=False, episodic_life=False, life_loss_info=False, autoreset_mode=AutoresetMode.NEXT_STEP,
        max_num_frames_per_episode=max_episode_frames or NO_CAP, repeat_action_probability=sticky,
        full_action_space=full_actions, frameskip=frame_skip, noop_max=noops)
    actions = envs.ale.get_action_set()
    names, training_rewards = [action.name for action in actions], None
    if variant:
        envs = training_rewards = variant(envs, names)
    if render_mode:
        envs = mirror.Mirror(envs, mirror.AtariTwin(rom, sticky, actions, frame_skip, render_mode))
    return wrappers.Flicker(envs, flicker, names, is_atari=True, training_rewards=training_rewards)


def _make_gymnasium(spec, env, num_envs, frame_skip, render_mode, screen):
    """Return a vector environment of a Gymnasium spec and the names of its actions."""
    def wrap(single):
        single = wrappers.FrameSkip(single, frame_skip) if frame_skip > 1 else single
        return wrappers.as_frames(single, env, screen)

    try:
        envs = gymnasium.make_vec(spec, num_envs, vectorization_mode="sync", wrappers=[wrap],
                                  vector_kwargs=dict(autoreset_mode=AutoresetMode.NEXT_STEP))
        names = _name_actions(envs.metadata.get("action_names"), int(envs.single_action_space.n))
        if render_mode and not {render_mode, "rgb_array"} & set(envs.metadata.get("render_modes", ())):
            raise ValueError(f"--env={env} has no screen: it renders neither as {render_mode} nor as rgb_array")
        if render_mode:
            envs = mirror.Mirror(envs, mirror.Twin(wrap(gymnasium.make(spec, render_mode=render_mode)), frame_skip))
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise ValueError(f"--env={env} needs a package that is not installed: {wrappers.one_line(error)}") from error
    return envs, names


def _name_actions(names, num_actions):
    """Return names of the actions: those of an environment's metadata where they fit its action space, else numbers."""
    if isinstance(names, list | tuple) and len(names) == num_actions and all(isinstance(name, str) for name in names):
        return list(names)
    return [str(i) for i in range(num_actions)]


def _is_atari(spec):
    return str(spec.entry_point).startswith("ale_py")
