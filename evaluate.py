"""Evaluate a run: returns of its agent beside random play's (protocol of Mnih et al. 2015), a window, a film, a sheet.

    python evaluate.py                              the newest run under runs/, its best checkpoint
    python evaluate.py runs/Pong-DQN-s1 --episodes=100 --flicker=0.5
    python evaluate.py --video=film.mp4             a film of its first episode; no other is played
    python evaluate.py --video=film.mp4 --compare runs/Pong-DQN-s1 runs/Pong-DRQN-s1
                                                    two runs on the same seed, side by side
    python evaluate.py --contact_sheet=sheet.png    an episode of each milestone that --weights_period kept, as rows of
                                                    screens
    python evaluate.py --observation_probabilities=0.1,...,1.0
                                                    the generalization of Hausknecht & Stone 2015, section 6
"""

import collections
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from launch import build, process
from launch.parsing import define_enum, define_integer, run_script
from launch.settings import check_settings

import gymnasium
import numpy as np
from absl import flags

import evaluation
import loading
from analysis import statistics, sweeps
from environments import features, mirror
from films import camera, film
from storage import files, layout, reading, training
from storage.episodes import choose_path, date_back, name_otherwise, time_of

CONTRADICT = {  # flag -> flags that cannot be given beside it
    "render": ["video"],
    "observation_probabilities": "flicker render video compare contact_sheet policy".split(),
    "compare": ["policy"],
    "epsilon": ["policy"],
    "weights": ["policy"],
    "checkpoint": ["policy"],
    "contact_sheet": "checkpoint weights episodes render video compare csv policy".split(),
}
NEED_VIDEO = "film_episode video_steps saliency compare".split()  # flags that do nothing without --video
EPISODES = 30  # of a score; Mnih et al. 2015
SAME_ENVIRONMENT = "env frame_skip max_episode_frames sticky full_actions noops".split()  # settings of runs to compare


# --film_episode -> index, from the indices of the episodes by rising return
FILM_EPISODES: dict[str, Callable[[np.ndarray], int]] = {
    "first": min, "best": lambda rising: rising[-1], "median": lambda rising: rising[(len(rising) - 1) // 2],
    "worst": lambda rising: rising[0]}


def define_flags() -> flags.FlagValues:
    """Return the flags of this script with their defaults."""
    values = flags.FlagValues()
    here: dict[str, Any] = dict(flag_values=values, module_name="evaluate")
    flags.DEFINE_string("run_dir", None, "directory of the run, also as a plain argument; default: the newest under "
                        "runs/", **here)
    define_enum("checkpoint", "best", ["best", "last"],
                "weights of the best evaluation, or of the newest checkpoint", **here)
    flags.DEFINE_string("weights", None, "a .weights.h5 file instead of --checkpoint", **here)
    define_integer("episodes", None, "each in an environment of its own [episodes; default 30, Mnih et al. 2015; 1 "
                   "where the first is shown by --video or --render]", 1, **here)
    flags.DEFINE_float("epsilon", None, "probability of a random action; default: the run's --eval_epsilon", 0, 1,
                       **here)
    flags.DEFINE_float("flicker", None, "probability that a frame is obscured; default: the run's", 0, 1, **here)
    flags.DEFINE_string("observation_probabilities", None, "a sweep over probabilities that a screen is shown, such as "
                        "0.5,1 or 0.1,...,1.0 (steps of 0.1) or 0.2,0.4,...,1.0; training's joins them", **here)
    define_integer("eval_seed", 0, "of the episodes; none repeats an episode of training", 0, **here)
    define_enum("policy", "agent", ["agent", "random"],
                "whose episodes to play; an agent's are printed beside random ones", **here)
    flags.DEFINE_bool("render", False, "show the first episode in a window: ALE's own, or Gymnasium's", **here)
    flags.DEFINE_string("video", None,
                        "film an episode: a path ending in .mp4 (1280x720, H.264) or .gif (smaller)", **here)
    define_enum("film_episode", "first", list(FILM_EPISODES), "which of the episodes is filmed, by its return; any but "
                "the first is played a second time", **here)
    define_integer("video_steps", None, "of the episode in the film at most [agent steps; default: all]", 1,
                   **here)
    flags.DEFINE_bool("saliency", False, "in the film, which patches of the newest frame move the chosen action's "
                      "Q-value (Greydanus et al. 2018); images only", **here)
    flags.DEFINE_string("compare", None, "directory of a run whose agent plays the same seed beside it in the film, or "
                        "of both; best or last weights, as --checkpoint says", **here)
    flags.DEFINE_string("contact_sheet", None, "a path ending in .png: an episode of each of about 8 of the weights "
                        "that --weights_period kept in training, as rows of screens; nothing else is played", **here)
    flags.DEFINE_string("csv", None, "a row per episode; default: <run_dir>/episodes-<weights or random>[-what is not "
                        "as in a plain evaluation].csv; of a sweep <run_dir>/observability[-...].csv", **here)
    return values


def check_flags(values: flags.FlagValues) -> None:
    """Refuse flags that contradict each other or this machine before anything is built, and prepare for the rest."""
    given = {name for name in values if values[name].value != values[name].default}
    for flag in CONTRADICT.keys() & given:
        for other in CONTRADICT[flag]:
            if other in given:
                other = f"policy={values.policy}" if other == "policy" else other
                raise ValueError(f"--{flag} and --{other} were given; expected one of them")
    if {"weights", "checkpoint"} <= given and not values.compare:
        raise ValueError(f"--weights={values.weights} and --checkpoint={values.checkpoint} were given; expected one of "
                         "them")
    for flag in NEED_VIDEO:
        if flag in given and not values.video:
            raise ValueError(f"--{flag} was given without --video, and is of films")
    if values.observation_probabilities is not None:
        sweeps.parse_probabilities(values.observation_probabilities)
    if values.contact_sheet and not values.contact_sheet.endswith(".png"):
        raise ValueError(f"--contact_sheet={values.contact_sheet} was given; expected a path ending in .png")
    if values.video:
        film.check_name(values.video)
    for path in filter(None, (values.csv, values.video, values.contact_sheet)):
        files.check_writable(path)
    if mode := render_mode(values):
        mirror.prepare_sdl(mode)


def render_mode(values: flags.FlagValues) -> str | None:
    return "human" if values.render else "rgb_array" if values.video or values.contact_sheet else None


def sweep_probabilities(settings: dict[str, Any], values: flags.FlagValues) -> list[float]:
    """Return the probabilities of a sweep: the given ones and the one of training, whose score is the original one."""
    return sorted({*sweeps.parse_probabilities(values.observation_probabilities), sweeps.trained_probability(settings)})


def make_episode_envs(settings: dict[str, Any], values: flags.FlagValues, num_envs: int, torso: features.Torso | None,
                      render_mode: str | None = None) -> gymnasium.vector.VectorWrapper:
    """Build an environment per episode; for a sweep one per episode and probability, in the order of probabilities."""
    if values.observation_probabilities:
        flicker = np.repeat(1 - np.array(sweep_probabilities(settings, values)), num_envs)
        return build.make_envs(settings, len(flicker), torso, flicker=flicker)
    given = {} if values.flicker is None else dict(flicker=values.flicker)
    return build.make_envs(settings, num_envs, torso, render_mode=render_mode, **given)


def rebuild_run(values: flags.FlagValues, directory: pathlib.Path, num_envs: int, weights: str) -> loading.LoadedRun:
    """Return the loading.LoadedRun of a run, with the environments that the flags ask for, and random weights."""
    return loading.rebuild(directory, weights, lambda settings, torso: make_episode_envs(
        settings, values, num_envs, torso, render_mode(values)))


def load_run(values: flags.FlagValues) -> tuple[loading.LoadedRun, pathlib.Path | None, float | None]:
    """Load the run and the weights that the flags name.

    Returns:
        the run, the path of the weights, and when they were written [seconds]; None and None of random play.

    Raises:
        ValueError: run, weights or both are not what is expected, in one sentence.
    """
    directory = pathlib.Path(values.run_dir or reading.newest_run())
    name = pathlib.Path(values.weights).name if values.weights else values.checkpoint
    # What may be refused comes first; with the agent comes Keras, which takes seconds.
    reading.read_settings(directory, check_settings)
    path = None if values.policy == "random" else find_weights(values, directory)
    if values.compare:
        check_rival(values, directory)
    run, loaded = rebuild_run(values, directory, values.episodes, name), time_of(path)
    if path:
        build.load_weights(run.agent, path, run.settings)
    return run, path, loaded


def find_weights(values: flags.FlagValues, directory: pathlib.Path) -> pathlib.Path:
    """Return the path of the weights that the flags name."""
    if not values.weights:
        return reading.find_weights(directory, values.checkpoint)
    if not pathlib.Path(values.weights).is_file():
        raise ValueError(f"--weights={values.weights} is no file; expected the path of a .weights.h5")
    return pathlib.Path(values.weights)


def check_rival(values: flags.FlagValues, run_dir: pathlib.Path) -> None:
    """Refuse a run of --compare that plays another environment than the run in `run_dir`, or has no weights."""
    directory = pathlib.Path(values.compare)
    ours, theirs = (reading.read_settings(path, check_settings) for path in (run_dir, directory))
    names = SAME_ENVIRONMENT + ["flicker"] * (values.flicker is None)
    differ = [f"{name} is {ours.get(name)} and {theirs.get(name)}"
              for name in names if ours.get(name) != theirs.get(name)]
    if differ:
        raise ValueError(f"{run_dir} and {directory} cannot be compared, as they play different environments: "
                         + ", ".join(differ) + "; --flicker sets both" * differ[-1].startswith("flicker"))
    reading.find_weights(directory, values.checkpoint)


def load_rival(values: flags.FlagValues) -> loading.LoadedRun:
    """Load the run to compare with."""
    rival = rebuild_run(values, pathlib.Path(values.compare), values.episodes, values.checkpoint)
    build.load_weights(rival.agent, reading.find_weights(rival.directory, values.checkpoint), rival.settings)
    return rival


def make_player(values: flags.FlagValues, run: loading.LoadedRun) -> camera.Player:
    """Return the camera.Player of a run: how its agent acts, and its words in a film."""
    at_random, settings = values.policy == "random", run.settings
    epsilon = 1.0 if at_random else settings["eval_epsilon"] if values.epsilon is None else values.epsilon
    title = [settings["env"], "random play" if at_random else settings["network"]]
    title += [f"flicker {run.envs.flicker:g}"] * bool(run.envs.flicker)
    subtitle = [run.directory.name] + [run.weights] * (not at_random)
    return camera.Player(settings, run.envs, run.agent, epsilon, " · ".join(title), " · ".join(subtitle))


def play_episodes(settings: dict[str, Any], envs: gymnasium.vector.VectorWrapper, agent: Any, epsilon: float,
                  eval_seed: int, repeats: int = 1) -> list[dict[str, Any]]:
    """Play as evaluation.evaluate does, and return its episodes; say how far they are."""
    with evaluation.Progress("playing") as progress:
        return evaluation.evaluate(agent, envs, settings["history"], epsilon, eval_seed, evaluation=0, repeats=repeats,
                                   stop=progress)


def print_player(values: flags.FlagValues, directory: str | pathlib.Path, player: camera.Player) -> None:
    print(f"{directory}: {player.settings['network']} on {player.settings['env']}, epsilon {player.epsilon}, "
          f"flicker {player.envs.flicker}, seed {values.eval_seed}")


def standard_deviation(returns: np.ndarray) -> float:
    return returns.std(ddof=min(1, len(returns) - 1))


def format_returns(name: str, episodes: Sequence[Mapping[str, Any]]) -> str:
    """Return one line: mean, standard deviation, median, min and max of the episode returns."""
    returns = np.array([episode["episode_return"] for episode in episodes])
    return (f"{name:<12} mean {returns.mean():9.2f}   std {standard_deviation(returns):8.2f}   "
            f"median {np.median(returns):8.1f}   min {returns.min():8.1f}   max {returns.max():8.1f}   "
            f"({len(returns)} episodes)")


def evaluate_run(values: flags.FlagValues) -> None:
    """Play episodes, print their returns, and write their rows.

    Random play's are played beside an agent's. Of a run to compare with, the returns are printed only.
    """
    run, weights, loaded = load_run(values)
    settings, envs = run.settings, run.envs
    players = [make_player(values, run)]
    if values.compare:
        players.append(make_player(values, load_rival(values)))
    epsilon = players[0].epsilon
    count = [("episodes", values.episodes, EPISODES), ("eval_seed", values.eval_seed, values["eval_seed"].default)]
    place = lambda name, played=(), weights=None: choose_path(
        layout.episodes_path(run.directory, name, name_otherwise(*played, *count)),
        collections.Counter({("random" if name == layout.RANDOM else "agent", None): values.episodes}),
        f"-episodes={values.episodes}", weights)
    random_path = place(layout.RANDOM)
    if values.policy == "random":
        name, path = layout.RANDOM, random_path
    else:
        played = (("epsilon", epsilon, settings["eval_epsilon"]), ("flicker", envs.flicker, settings["flicker"]))
        name, path = run.weights, place(run.weights, played, weights)
    chosen = (training.best_evaluation(run.directory, settings)
              if path == layout.episodes_path(run.directory, layout.BEST) else None)
    print_player(values, run.directory, players[0])
    path = pathlib.Path(values.csv or path)
    with files.written_whole(path) as aside:
        filmed = 0
        if values.film_episode != "first":
            first = play_episodes(settings, envs, run.agent, epsilon, values.eval_seed)
            rising = np.argsort([episode["episode_return"] for episode in first], kind="stable")
            filmed = int(FILM_EPISODES[values.film_episode](rising))
        if values.video:
            with files.written_whole(values.video) as film_aside:
                episodes, *rivals = camera.film_players(film_aside, players, values.eval_seed, filmed,
                                                        values.video_steps, values.saliency)
        else:
            episodes, rivals = play_episodes(settings, envs, run.agent, epsilon, values.eval_seed), []
        envs.close()  # and its window
        print(format_returns(name, episodes))
        if chosen:
            print("chosen at agent step {:,.0f} by evaluations' mean {:.2f} ".format(*chosen)
                  + f"({settings['eval_episodes']} episodes); the fresh score above is the one to report")
        everywhere = dict(flicker=envs.flicker, eval_seed=values.eval_seed)
        rows = lambda episodes, **how: [dict(everywhere, **how, episode=i, **episode)
                                        for i, episode in enumerate(episodes)]
        if values.policy == "agent":
            random_envs = make_episode_envs(settings, values, values.episodes, features.torso_of(envs))
            at_random = evaluation.RandomPlay(len(envs.action_names))
            random_play = play_episodes(settings, random_envs, at_random, 1.0, values.eval_seed)
            print(format_returns(layout.RANDOM, random_play))
            if not values.csv:
                with files.written_whole(random_path) as random_aside:
                    files.write_csv(random_aside, layout.EPISODE_COLUMNS,
                                    rows(random_play, policy="random", weights=layout.RANDOM, epsilon=1.0))
        for rival in rivals:
            print_player(values, values.compare, players[1])
            print(format_returns(values.checkpoint, rival))
        files.write_csv(aside, layout.EPISODE_COLUMNS,
                        rows(episodes, policy=values.policy, weights=name, epsilon=epsilon))
        date_back(aside, weights, loaded)
    print(f"Every episode is in {path}.")
    if values.video:
        returned = " and ".join(f"{played[filmed]['episode_return']:g}" for played in (episodes, *rivals))
        print(f"The film of episode {filmed}, which returned {returned}, is {values.video}.")


def show_milestones(values: flags.FlagValues) -> None:
    """Draw one episode of each milestone of a run's training as a contact sheet, and print their returns."""
    directory = pathlib.Path(values.run_dir or reading.newest_run())
    reading.read_settings(directory, check_settings)
    if not (milestones := reading.find_milestones(directory)):
        raise ValueError(f"{directory} kept no weights of its milestones; train with --weights_period=50 to keep them "
                         "every 50 episodes")
    player = make_player(values, rebuild_run(values, directory, 1, "milestones"))
    print_player(values, directory, player)
    with files.written_whole(values.contact_sheet) as aside:
        for strip in camera.draw_milestones(aside, player, milestones, values.eval_seed):
            print(f"after {strip.name:>9} training episodes: return {strip.episode_return:9.2f}")
    print(f"These episodes, from their first screens to their last, are in {values.contact_sheet}.")


def sweep_run(values: flags.FlagValues) -> None:
    """Play the same episodes with each probability that a screen is shown, print their returns, and write their rows.

    Reference: Hausknecht & Stone 2015, section 6.
    """
    run, weights, loaded = load_run(values)
    settings, envs = run.settings, run.envs
    probabilities, trained = sweep_probabilities(settings, values), sweeps.trained_probability(settings)
    epsilon = settings["eval_epsilon"] if values.epsilon is None else values.epsilon
    print(f"{run.directory}: {settings['network']} on {settings['env']}, epsilon {epsilon}, seed {values.eval_seed}, "
          f"trained with screens shown with probability {trained:g}")
    given = (("checkpoint", run.weights, layout.BEST), ("epsilon", epsilon, settings["eval_epsilon"]),
             ("eval_seed", values.eval_seed, values["eval_seed"].default))
    planned = dict.fromkeys([*(("agent", p) for p in probabilities), ("random", 1.0)], values.episodes)
    path = pathlib.Path(values.csv or choose_path(
        layout.sweep_path(run.directory, name_otherwise(*given)), collections.Counter(planned),
        f"-observation_probabilities={','.join(map('{:g}'.format, probabilities))}-episodes={values.episodes}",
        weights))
    with files.written_whole(path) as aside:
        played = play_episodes(settings, envs, run.agent, epsilon, values.eval_seed, repeats=len(probabilities))
        envs.close()
        random_envs = build.make_envs(settings, values.episodes, features.torso_of(envs), flicker=0.0)
        at_random = evaluation.RandomPlay(len(envs.action_names))
        played += play_episodes(settings, random_envs, at_random, 1.0, values.eval_seed)
        groups = [dict(policy="agent", weights=run.weights, observation_probability=probability, epsilon=epsilon)
                  for probability in probabilities]
        groups.append(dict(policy="random", weights=layout.RANDOM, observation_probability=1.0, epsilon=1.0))
        all_returns = [episode["episode_return"] for episode in played]
        returns = np.reshape(all_returns, (len(groups), values.episodes))
        zero = statistics.zero_score(returns, returns[-1])
        original = returns[probabilities.index(trained)].mean() - zero
        random_is_zero = ", random play being 0" if zero else ""
        print(f"screens shown       mean        std   fraction of the original{random_is_zero}")
        for name, of_group in zip([*map("{:g}".format, probabilities), "random play"], returns):
            mean, deviation = of_group.mean(), standard_deviation(of_group)
            # An original of zero has no fractions.
            fraction = f"{(mean - zero) / original:.3f}" if original > 0 else "-"
            print(f"{name:<13} {mean:10.2f} {deviation:10.2f}   {fraction:>8}")
        files.write_csv(aside, layout.SWEEP_COLUMNS, [
            dict(groups[i // values.episodes], eval_seed=values.eval_seed, episode=i % values.episodes, **episode)
            for i, episode in enumerate(played)])
        date_back(aside, weights, loaded)
    print(f"Every episode is in {path}.")


def show(values: Any, rest: list[str]) -> None:
    """Play, film or draw what the flags ask for; `rest` are the arguments that are no flags: runs."""
    if values.compare and rest and not values.run_dir:
        values.run_dir, values.compare = values.compare, rest.pop(0)  # --compare RUN_A RUN_B
    elif rest and not values.run_dir:
        values.run_dir = rest.pop(0)
    if rest:
        raise ValueError(f"the argument {rest[0]!r} was given beside the run {values.run_dir}; expected one run")
    check_flags(values)
    if values.episodes is None:
        shown = values.render or values.video and values.film_episode == "first"
        values.episodes = 1 if shown else EPISODES
    if values.contact_sheet:
        show_milestones(values)
    elif values.observation_probabilities is not None:
        sweep_run(values)
    else:
        evaluate_run(values)


def main(arguments: list[str]) -> int:
    """Return the exit code: 0, 2 for bad input, 130 for Ctrl-C."""
    values: Any = define_flags()  # absl's own types refuse every assignment to a flag
    try:
        return run_script("evaluate", __doc__, values, arguments, lambda rest: show(values, rest))
    except Exception as error:
        if not process.is_out_of_memory(error):
            raise
        print("evaluate.py: this machine has too little memory for it", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("evaluate.py: interrupted; nothing was written", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
