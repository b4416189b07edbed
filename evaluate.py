"""Evaluate a run: its agent's episode returns beside random play's (protocol of Mnih et al. 2015), a window, or a film.

    python evaluate.py                                    the newest run under runs/, its best checkpoint
    python evaluate.py --run_dir=runs/Pong-DQN-s1 --episodes=100 --flicker=0.5
    python evaluate.py --video=film.mp4                   and its first episode as a film
    python evaluate.py --observation_probabilities=0.1,...,1.0    the generalization of Hausknecht & Stone 2015, section 6
"""

import contextlib
import csv
import os
import pathlib
import re
import sys

import backends  # noqa: F401 - first: it imports the backend quietly
import gymnasium
import numpy as np
from absl import flags

import features
import film
import rollout
import runs
import stats

COLUMNS = "policy weights episode episode_return length epsilon flicker eval_seed".split()
SWEEP_COLUMNS = "policy weights observation_probability episode episode_return length epsilon eval_seed".split()


def define_flags():
    """Return the flags of this script with their defaults."""
    values = flags.FlagValues()
    own = dict(flag_values=values, module_name="evaluate")
    flags.DEFINE_string("run_dir", None, "directory of the run; default: the newest under runs/", **own)
    flags.DEFINE_enum("checkpoint", "best", ["best", "last"], "weights of the best evaluation, or of the newest checkpoint", **own)
    flags.DEFINE_string("weights", None, "a .weights.h5 file instead of --checkpoint", **own)
    flags.DEFINE_integer("episodes", 30, "each in an environment of its own [episodes; Mnih et al. 2015]", 1, **own)
    flags.DEFINE_float("epsilon", None, "probability of a random action; default: the run's --eval_epsilon", 0, 1, **own)
    flags.DEFINE_float("flicker", None, "probability that a frame is obscured; default: the run's", 0, 1, **own)
    flags.DEFINE_string("observation_probabilities", None, "a sweep over probabilities that a screen is shown, such as 0.5,1 or "
                        "0.1,...,1.0 (steps of 0.1) or 0.2,0.4,...,1.0; that of training joins them", **own)
    flags.DEFINE_integer("eval_seed", 0, "of the episodes; none repeats an episode of training", 0, **own)
    flags.DEFINE_enum("policy", "agent", ["agent", "random"], "whose episodes to play; an agent's are printed beside random ones", **own)
    flags.DEFINE_bool("render", False, "show the first episode in a window: ALE's own, or Gymnasium's", **own)
    flags.DEFINE_string("video", None, "film the first episode: a path ending in .mp4 (1280x720, H.264) or .gif (smaller)", **own)
    flags.DEFINE_integer("video_steps", None, "of the first episode in the film at most [agent steps; default: all]", 1, **own)
    flags.DEFINE_string("csv", None, "a row per episode; default: <run_dir>/episodes-<weights or random>[-what is not the run's].csv; "
                        "of a sweep <run_dir>/observability.csv", **own)
    return values


def newest_run(folder="runs"):
    """Return the run under `folder` whose training wrote last.

    Raises:
        ValueError: there is none.
    """
    found = [path.parent for path in pathlib.Path(folder).glob("**/config.json") if path.with_name("train.csv").exists()]
    if not found:
        raise ValueError(f"no run was found under {folder}/; train one, or give its --run_dir")
    return max(found, key=lambda run: max(path.stat().st_mtime for path in run.glob("*.csv") if path.stem in runs.COLUMNS))


def parse_probabilities(text):
    """Return the probabilities that a text lists, sorted: `0.5,1`, `0.2,0.4,...,1.0`, or `0.1,...,1.0` in steps of 0.1.

    Raises:
        ValueError: it lists something else.
    """
    try:
        *values, last = [part if part == "..." else float(part) for part in text.split(",")]
        if values[-1:] == ["..."]:
            first, second = values[:-1] if len(values) > 2 else (values[0], values[0] + 0.1)
            count = round((last - first) / (second - first)) + 1
            values = [first + i * (second - first) for i in range(min(count, 1000))]
        else:
            values.append(last)
        if not all(0 <= value <= 1 for value in values) or abs(values[-1] - last) > 1e-6:
            raise ValueError("not all of them are probabilities, or the last is not reached")
    except (ValueError, TypeError, IndexError, ArithmeticError) as error:
        raise ValueError(f"--observation_probabilities={text} was given; expected probabilities from 0 to 1, such as 0.5,1 or "
                         "0.1,...,1.0 or 0.2,0.4,...,1.0") from error
    return sorted({round(value, 6) for value in values})


def check(values):
    """Refuse flags that contradict each other or this machine before anything is built, and prepare SDL for the rest."""
    if values.render and values.video:
        raise ValueError("--render and --video were given; expected one of them")
    if values.video_steps and not values.video:
        raise ValueError(f"--video_steps={values.video_steps} was given without --video")
    if values.observation_probabilities is not None:
        parse_probabilities(values.observation_probabilities)
        for flag, given in (("flicker", values.flicker is not None), ("render", values.render), ("video", values.video),
                            ("policy=random", values.policy == "random")):
            if given:
                raise ValueError(f"--observation_probabilities and --{flag} were given; expected one of them")
    if values.video:
        film.check_name(values.video)
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # Films need no display, and pygame looks for one aloud.
    if values.render and sys.platform.startswith("linux"):
        if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise ValueError("--render opens a window, and there is no display here: neither DISPLAY nor WAYLAND_DISPLAY is set; "
                             "--video=film.mp4 films the episode instead")
        os.environ.setdefault("SDL_VIDEODRIVER", "x11,wayland")  # or none at all, when a display does not answer
        # Windows without OpenGL: Mesa's would call the LLVM inside of TensorFlow instead of its own, and crash.
        os.environ.update(SDL_RENDER_DRIVER="software", SDL_FRAMEBUFFER_ACCELERATION="0")


def probabilities_of(settings, values):
    """Return the probabilities of a sweep: those asked for, and the one of training, whose score is the original one."""
    return sorted({*parse_probabilities(values.observation_probabilities), round(1 - settings["flicker"], 6)})


def make_envs(settings, values, torso, render_mode=None):
    """Build an environment per episode; of a sweep one per episode and probability, in the order of probabilities."""
    if values.observation_probabilities:
        flicker = np.repeat(1 - np.array(probabilities_of(settings, values)), values.episodes)
        return rollout.make_envs(settings, len(flicker), torso, flicker=flicker)
    return rollout.make_envs(settings, values.episodes, torso, render_mode=render_mode,
                             **({} if values.flicker is None else {"flicker": values.flicker}))


def load(values):
    """Rebuild the environments and the agent of a run from its config.json.

    Returns:
        directory, settings, envs, agent, name of the weights.

    Raises:
        ValueError: run, weights or both are not what is expected, in one sentence.
    """
    directory = pathlib.Path(values.run_dir or newest_run())
    settings = runs.read_config(directory)["settings"]
    torso = features.load(settings.get("features"), directory)
    try:
        envs = make_envs(settings, values, torso, "human" if values.render else "rgb_array" if values.video else None)
        agent = rollout.make_agent(settings, envs)
    except (KeyError, TypeError, gymnasium.error.Error) as error:
        raise ValueError(f"{directory / 'config.json'} does not describe a run that can be rebuilt here "
                         f"({type(error).__name__}: {error})") from error
    path = pathlib.Path(values.weights) if values.weights else runs.find_weights(directory, values.checkpoint)
    try:
        agent.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(f"{path} does not hold weights of {settings['network']} with {settings['units']} units "
                         f"for {settings['env']} ({' '.join(str(error).split())[:120]})") from error
    return directory, settings, envs, agent, path.name if values.weights else values.checkpoint


def play(settings, envs, agent, epsilon, eval_seed, watch=None):
    """Return one episode per environment, as rollout.evaluate does."""
    return rollout.evaluate(agent, envs, settings["history"], epsilon, eval_seed, evaluation=0, watch=watch)


def play_on_film(settings, envs, agent, epsilon, eval_seed, path, max_steps, title):
    """Do as `play`, and film the first episode: no more than its first `max_steps` agent steps, unless that is None."""
    names = [re.sub("UP|DOWN|LEFT|RIGHT", r"\g<0> ", name) for name in envs.action_names]  # DOWNRIGHTFIRE: DOWN RIGHT FIRE
    with film.Film(path, envs.metadata["render_fps"], names, title) as reel:
        def watch(frames, state, first, actions, episode_return, length):
            if max_steps and length >= max_steps:
                return
            q_values, _ = agent.q_values(frames, state, first)
            reel.add(envs.render()[0], frames[0], q_values[0], actions[0], episode_return, length, envs.obscured[0])

        episodes = play(settings, envs, agent, epsilon, eval_seed, watch)
        if not max_steps or episodes[0]["length"] <= max_steps:
            reel.end(envs.render()[0], episodes[0]["episode_return"], episodes[0]["length"])
    return episodes


def deviation(returns):
    return returns.std(ddof=min(1, len(returns) - 1))


def describe(name, episodes):
    """Return one line: mean, standard deviation, median, min and max of the episode returns."""
    returns = np.array([episode["episode_return"] for episode in episodes])
    return (f"{name:<12} mean {returns.mean():9.2f}   std {deviation(returns):8.2f}   median {np.median(returns):8.1f}   "
            f"min {returns.min():8.1f}   max {returns.max():8.1f}   ({len(returns)} episodes)")


def write_csv(path, columns, rows):
    with written_whole(path) as aside, open(aside, "w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


@contextlib.contextmanager
def written_whole(path):
    """Yield a path aside, which becomes `path` if the block ends well and vanishes if it does not.

    Raises:
        ValueError: nothing can be written there, which is known before the block.
    """
    path = pathlib.Path(path)
    aside = path.with_name(f"aside-{os.getpid()}-{path.name}")
    try:
        if path.is_dir():
            raise IsADirectoryError(0, "it is a directory")
        aside.touch()
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror})") from error
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def evaluate(values):
    """Play the episodes, print what they returned, and write them down."""
    directory, settings, envs, agent, name = load(values)
    epsilon = settings["eval_epsilon"] if values.epsilon is None else values.epsilon
    if values.policy == "random":
        name, epsilon = "random", 1.0
    otherwise = "" if values.policy == "random" else "".join(f"-{flag}={value:g}" for flag, value, own in (
        ("epsilon", epsilon, settings["eval_epsilon"]), ("flicker", envs.flicker, settings["flicker"])) if value != own)
    chosen = stats.best_evaluation(directory, settings) if name == "best" and not otherwise else None
    print(f"{directory}: {settings['network']} on {settings['env']}, epsilon {epsilon}, flicker {envs.flicker}, seed {values.eval_seed}")
    path = pathlib.Path(values.csv or directory / f"episodes-{name}{otherwise}.csv")  # The run's own score stays.
    with written_whole(path) as aside:
        if values.video:
            title = " · ".join([settings["env"], "random play" if values.policy == "random" else settings["network"],
                                *([f"flicker {envs.flicker:g}"] if envs.flicker else [])])
            with written_whole(values.video) as film_aside:
                episodes = play_on_film(settings, envs, agent, epsilon, values.eval_seed, film_aside, values.video_steps, title)
        else:
            episodes = play(settings, envs, agent, epsilon, values.eval_seed)
        envs.close()  # and its window
        print(describe(name, episodes))
        if chosen:
            print("chosen at agent step {:,.0f} by evaluations' mean {:.2f} ".format(*chosen)
                  + f"({settings['eval_episodes']} episodes); the fresh score above is the one to report")
        common = dict(flicker=envs.flicker, eval_seed=values.eval_seed)
        rows = lambda episodes, **own: [dict(common, **own, episode=i, **episode) for i, episode in enumerate(episodes)]
        if values.policy == "agent":
            print(describe("random", beside := play(settings, make_envs(settings, values, envs.torso), agent, 1.0, values.eval_seed)))
            if not values.csv:
                write_csv(directory / "episodes-random.csv", COLUMNS, rows(beside, policy="random", weights="random", epsilon=1.0))
        write_csv(aside, COLUMNS, rows(episodes, policy=values.policy, weights=name, epsilon=epsilon))
    print(f"Every episode is in {path}.")
    if values.video:
        print(f"The film of episode 0, which returned {episodes[0]['episode_return']:g}, is {values.video}.")


def sweep(values):
    """Play the same episodes with each probability that a screen is shown, print their returns, and write them down.

    Reference: Hausknecht & Stone 2015, section 6.
    """
    directory, settings, envs, agent, name = load(values)
    probabilities, trained = probabilities_of(settings, values), round(1 - settings["flicker"], 6)
    epsilon = settings["eval_epsilon"] if values.epsilon is None else values.epsilon
    print(f"{directory}: {settings['network']} on {settings['env']}, epsilon {epsilon}, seed {values.eval_seed}, "
          f"trained with screens shown with probability {trained:g}")
    path = pathlib.Path(values.csv or directory / "observability.csv")
    with written_whole(path) as aside:
        played = rollout.evaluate(agent, envs, settings["history"], epsilon, values.eval_seed, 0, repeats=len(probabilities))
        envs.close()
        played += play(settings, rollout.make_envs(settings, values.episodes, envs.torso, flicker=0.0), agent, 1.0, values.eval_seed)
        groups = [dict(policy="agent", weights=name, observation_probability=p, epsilon=epsilon) for p in probabilities]
        groups.append(dict(policy="random", weights="random", observation_probability=1.0, epsilon=1.0))
        returns = np.reshape([episode["episode_return"] for episode in played], (len(groups), values.episodes))
        zero = stats.zero_score(returns, returns[-1])
        original = returns[probabilities.index(trained)].mean() - zero
        print(f"screens shown       mean        std   fraction of the original{', random play being 0' if zero else ''}")
        for shown, own in zip([*map("{:g}".format, probabilities), "random play"], returns):
            fraction = f"{(own.mean() - zero) / original:.3f}" if original > 0 else "-"  # An original of zero has no fractions.
            print(f"{shown:<13} {own.mean():10.2f} {deviation(own):10.2f}   {fraction:>8}")
        write_csv(aside, SWEEP_COLUMNS, [
            dict(groups[i // values.episodes], eval_seed=values.eval_seed, episode=i % values.episodes, **episode)
            for i, episode in enumerate(played)])
    print(f"Every episode is in {path}.")


def main(arguments):
    """Return the exit code: 0, 2 for bad input, 130 for Ctrl-C."""
    values = define_flags()
    if {"--help", "-h", "--helpfull", "--helpshort"} & set(arguments):
        print(__doc__, values.module_help("evaluate"), sep="\n")
        return 0
    try:
        if rest := values(["evaluate.py", *arguments])[1:]:
            raise ValueError(f"the argument {rest[0]!r} is no flag; flags begin with --")
        check(values)
        (evaluate if values.observation_probabilities is None else sweep)(values)
    except (ValueError, OSError, flags.Error) as error:
        print(f"evaluate.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("evaluate.py: interrupted; nothing was written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
