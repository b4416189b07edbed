"""Evaluate a run: its agent's episode returns beside random play's (protocol of Mnih et al. 2015), a window, a film, a contact sheet.

    python evaluate.py                                    the newest run under runs/, its best checkpoint
    python evaluate.py --run_dir=runs/Pong-DQN-s1 --episodes=100 --flicker=0.5
    python evaluate.py --video=film.mp4                   and its first episode as a film
    python evaluate.py --video=film.mp4 --compare runs/Pong-DQN-s1 runs/Pong-DRQN-s1    two runs on the same seed, side by side
    python evaluate.py --contact_sheet=sheet.png          an episode of each milestone that --weights_period kept, as rows of screens
    python evaluate.py --observation_probabilities=0.1,...,1.0    the generalization of Hausknecht & Stone 2015, section 6
"""

import pathlib
import sys

import backends  # noqa: F401 - first: it imports the backend quietly
import gymnasium
import numpy as np
from absl import flags
from tqdm import tqdm

import build
import evaluation
from analysis import statistics, sweeps
from environments import features, mirror
from films import camera, film
from storage import files, layout, reading

CONTRADICT = {  # flag -> those that cannot be given beside it
    "render": ["video"],
    "observation_probabilities": "flicker render video compare contact_sheet policy".split(),
    "compare": ["policy"],
    "contact_sheet": "checkpoint weights episodes render video compare csv policy".split(),
}
OF_FILMS = "video_steps saliency compare".split()  # without --video they do nothing


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
    flags.DEFINE_bool("saliency", False, "in the film, which patches of the newest frame move the chosen action's Q-value "
                      "(Greydanus et al. 2018); images only", **own)
    flags.DEFINE_string("compare", None, "directory of a run whose agent plays the same seed beside it in the film, or of both; "
                        "best or last weights, as --checkpoint says", **own)
    flags.DEFINE_string("contact_sheet", None, "a path ending in .png: an episode of each of about 8 of the weights that "
                        "--weights_period kept in training, as rows of screens; nothing else is played", **own)
    flags.DEFINE_string("csv", None, "a row per episode; default: <run_dir>/episodes-<weights or random>[-what is not the run's].csv; "
                        "of a sweep <run_dir>/observability.csv", **own)
    return values


def check(values):
    """Refuse flags that contradict each other or this machine before anything is built, and prepare for the rest."""
    given = {name for name in values if values[name].value != values[name].default}
    for flag in CONTRADICT.keys() & given:
        for other in CONTRADICT[flag]:
            if other in given:
                other = f"policy={values.policy}" if other == "policy" else other
                raise ValueError(f"--{flag} and --{other} were given; expected one of them")
    for flag in OF_FILMS:
        if flag in given and not values.video:
            raise ValueError(f"--{flag} was given without --video, and is of films")
    if values.observation_probabilities is not None:
        sweeps.parse_probabilities(values.observation_probabilities)
    if values.contact_sheet and not values.contact_sheet.endswith(".png"):
        raise ValueError(f"--contact_sheet={values.contact_sheet} was given; expected a path ending in .png")
    if values.video:
        film.check_name(values.video)
    if mode := render_mode(values):
        mirror.prepare(mode)


def render_mode(values):
    return "human" if values.render else "rgb_array" if values.video or values.contact_sheet else None


def probabilities_of(settings, values):
    """Return the probabilities of a sweep: those asked for, and the one of training, whose score is the original one."""
    return sorted({*sweeps.parse_probabilities(values.observation_probabilities), sweeps.trained_probability(settings)})


def make_envs(settings, values, num_envs, torso, render_mode=None):
    """Build an environment per episode; of a sweep one per episode and probability, in the order of probabilities."""
    if values.observation_probabilities:
        flicker = np.repeat(1 - np.array(probabilities_of(settings, values)), num_envs)
        return build.make_envs(settings, len(flicker), torso, flicker=flicker)
    return build.make_envs(settings, num_envs, torso, render_mode=render_mode,
                             **({} if values.flicker is None else {"flicker": values.flicker}))


def rebuild(values, directory, num_envs):
    """Return settings, environments and agent of a run, from its config.json.

    Raises:
        ValueError: it is no run, or not one that can be rebuilt here, in one sentence.
    """
    settings = reading.read_config(directory)["settings"]
    torso = features.load(settings.get("features"), directory)
    try:
        envs = make_envs(settings, values, num_envs, torso, render_mode(values))
        return settings, envs, build.make_agent(settings, envs)
    except (KeyError, TypeError, gymnasium.error.Error) as error:
        raise ValueError(f"{directory / 'config.json'} does not describe a run that can be rebuilt here "
                         f"({type(error).__name__}: {error})") from error


def load(values):
    """Return directory, settings, environments and agent of the run that the flags name, and the name of its weights.

    Raises:
        ValueError: run, weights or both are not what is expected, in one sentence.
    """
    directory = pathlib.Path(values.run_dir or reading.newest_run())
    settings, envs, agent = rebuild(values, directory, values.episodes)
    path = pathlib.Path(values.weights) if values.weights else reading.find_weights(directory, values.checkpoint)
    build.load_weights(agent, path, settings)
    return directory, settings, envs, agent, path.name if values.weights else values.checkpoint


def load_rival(values, directory, settings):
    """Return what `load` does, of the run to compare with.

    Raises:
        ValueError: it plays another environment, or is not what `load` expects.
    """
    rival = pathlib.Path(values.compare)
    own = reading.read_config(rival)["settings"]
    names = "env frame_skip max_episode_frames sticky full_actions noops".split() + ["flicker"] * (values.flicker is None)
    differ = [f"{name} is {settings.get(name)} and {own.get(name)}" for name in names if settings.get(name) != own.get(name)]
    if differ:
        raise ValueError(f"{directory} and {rival} cannot be compared, as they play different environments: {', '.join(differ)}"
                         + "; --flicker sets both" * differ[-1].startswith("flicker"))
    own, envs, agent = rebuild(values, rival, values.episodes)
    build.load_weights(agent, reading.find_weights(rival, values.checkpoint), own)
    return rival, own, envs, agent, values.checkpoint


def player_of(values, directory, settings, envs, agent, weights):
    """Return who plays, and how a film calls that."""
    at_random = values.policy == "random"
    epsilon = 1.0 if at_random else settings["eval_epsilon"] if values.epsilon is None else values.epsilon
    words = [settings["env"], "random play" if at_random else settings["network"]] + [f"flicker {envs.flicker:g}"] * bool(envs.flicker)
    return camera.Player(settings, envs, agent, epsilon, " · ".join(words), " · ".join([directory.name] + [weights] * (not at_random)))


def play(settings, envs, agent, epsilon, eval_seed, repeats=1):
    """Return one episode per environment, as evaluation.evaluate does; on a terminal show how far the first of them is."""
    with tqdm(desc="playing", unit=" agent steps", leave=False, disable=None) as progress:
        return evaluation.evaluate(agent, envs, settings["history"], epsilon, eval_seed, evaluation=0, repeats=repeats,
                                watch=lambda *_: progress.update())


def announce(values, directory, player):
    print(f"{directory}: {player.settings['network']} on {player.settings['env']}, epsilon {player.epsilon}, "
          f"flicker {player.envs.flicker}, seed {values.eval_seed}")


def deviation(returns):
    return returns.std(ddof=min(1, len(returns) - 1))


def describe(name, episodes):
    """Return one line: mean, standard deviation, median, min and max of the episode returns."""
    returns = np.array([episode["episode_return"] for episode in episodes])
    return (f"{name:<12} mean {returns.mean():9.2f}   std {deviation(returns):8.2f}   median {np.median(returns):8.1f}   "
            f"min {returns.min():8.1f}   max {returns.max():8.1f}   ({len(returns)} episodes)")


def evaluate(values):
    """Play the episodes, print what they returned, and write them down; those of a run to compare with are printed only."""
    directory, settings, envs, agent, name = load(values)
    players = [player_of(values, directory, settings, envs, agent, name)]
    if values.compare:
        players.append(player_of(values, *load_rival(values, directory, settings)))
    epsilon = players[0].epsilon
    if values.policy == "random":
        name = "random"
    otherwise = "" if values.policy == "random" else "".join(f"-{flag}={value:g}" for flag, value, own in (
        ("epsilon", epsilon, settings["eval_epsilon"]), ("flicker", envs.flicker, settings["flicker"])) if value != own)
    chosen = reading.best_evaluation(directory, settings) if name == "best" and not otherwise else None
    announce(values, directory, players[0])
    path = pathlib.Path(values.csv or layout.episodes_path(directory, name, otherwise))  # The run's own score stays.
    with files.written_whole(path) as aside:
        if values.video:
            with files.written_whole(values.video) as film_aside:
                episodes, *rivals = camera.shoot(film_aside, players, values.eval_seed, values.video_steps, values.saliency)
        else:
            episodes, rivals = play(settings, envs, agent, epsilon, values.eval_seed), []
        envs.close()  # and its window
        print(describe(name, episodes))
        if chosen:
            print("chosen at agent step {:,.0f} by evaluations' mean {:.2f} ".format(*chosen)
                  + f"({settings['eval_episodes']} episodes); the fresh score above is the one to report")
        common = dict(flicker=envs.flicker, eval_seed=values.eval_seed)
        rows = lambda episodes, **own: [dict(common, **own, episode=i, **episode) for i, episode in enumerate(episodes)]
        if values.policy == "agent":
            random_envs = make_envs(settings, values, values.episodes, features.torso_of(envs))
            print(describe("random", beside := play(settings, random_envs, agent, 1.0, values.eval_seed)))
            if not values.csv:
                with files.written_whole(layout.episodes_path(directory, layout.RANDOM)) as beside_it:
                    files.write_csv(beside_it, layout.EPISODE_COLUMNS, rows(beside, policy="random", weights="random", epsilon=1.0))
        for rival in rivals:
            announce(values, values.compare, players[1])
            print(describe(values.checkpoint, rival))
        files.write_csv(aside, layout.EPISODE_COLUMNS, rows(episodes, policy=values.policy, weights=name, epsilon=epsilon))
    print(f"Every episode is in {path}.")
    if values.video:
        returned = " and ".join(f"{played[0]['episode_return']:g}" for played in (episodes, *rivals))
        print(f"The film of episode 0, which returned {returned}, is {values.video}.")


def contact_sheet(values):
    """Draw one episode of each milestone of a run's training, and print what they returned."""
    directory = pathlib.Path(values.run_dir or reading.newest_run())
    player = player_of(values, directory, *rebuild(values, directory, 1), "milestones")
    milestones = reading.find_milestones(directory)
    if not milestones:
        raise ValueError(f"{directory} kept no weights of its milestones; train with --weights_period=50 to keep them every 50 episodes")
    announce(values, directory, player)
    with files.written_whole(values.contact_sheet) as aside:
        for strip in camera.print_sheet(aside, player, milestones, values.eval_seed):
            print(f"after {strip.name:>9} training episodes: return {strip.episode_return:9.2f}")
    print(f"These episodes, from their first screens to their last, are in {values.contact_sheet}.")


def sweep(values):
    """Play the same episodes with each probability that a screen is shown, print their returns, and write them down.

    Reference: Hausknecht & Stone 2015, section 6.
    """
    directory, settings, envs, agent, name = load(values)
    probabilities, trained = probabilities_of(settings, values), sweeps.trained_probability(settings)
    epsilon = settings["eval_epsilon"] if values.epsilon is None else values.epsilon
    print(f"{directory}: {settings['network']} on {settings['env']}, epsilon {epsilon}, seed {values.eval_seed}, "
          f"trained with screens shown with probability {trained:g}")
    path = pathlib.Path(values.csv or layout.sweep_path(directory))
    with files.written_whole(path) as aside:
        played = play(settings, envs, agent, epsilon, values.eval_seed, repeats=len(probabilities))
        envs.close()
        played += play(settings, build.make_envs(settings, values.episodes, features.torso_of(envs), flicker=0.0), agent, 1.0, values.eval_seed)
        groups = [dict(policy="agent", weights=name, observation_probability=p, epsilon=epsilon) for p in probabilities]
        groups.append(dict(policy="random", weights="random", observation_probability=1.0, epsilon=1.0))
        returns = np.reshape([episode["episode_return"] for episode in played], (len(groups), values.episodes))
        zero = statistics.zero_score(returns, returns[-1])
        original = returns[probabilities.index(trained)].mean() - zero
        print(f"screens shown       mean        std   fraction of the original{', random play being 0' if zero else ''}")
        for shown, own in zip([*map("{:g}".format, probabilities), "random play"], returns):
            fraction = f"{(own.mean() - zero) / original:.3f}" if original > 0 else "-"  # An original of zero has no fractions.
            print(f"{shown:<13} {own.mean():10.2f} {deviation(own):10.2f}   {fraction:>8}")
        files.write_csv(aside, layout.SWEEP_COLUMNS, [
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
        rest = values(["evaluate.py", *arguments])[1:]
        if values.compare and rest and not values.run_dir:
            values.run_dir, values.compare = values.compare, rest.pop(0)  # --compare RUN_A RUN_B
        if rest:
            raise ValueError(f"the argument {rest[0]!r} is no flag; flags begin with --")
        check(values)
        job = contact_sheet if values.contact_sheet else evaluate if values.observation_probabilities is None else sweep
        job(values)
    except (ValueError, OSError, flags.Error) as error:
        print(f"evaluate.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("evaluate.py: interrupted; nothing was written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
