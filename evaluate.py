"""Evaluate a run: its agent's episode returns beside random play's (protocol of Mnih et al. 2015).

    python evaluate.py                                    the newest run under runs/, its best checkpoint
    python evaluate.py --run_dir=runs/Pong-DQN-s1 --episodes=100 --flicker=0.5
"""

import csv
import pathlib
import sys

import backends  # noqa: F401 - first: it imports the backend quietly
import numpy as np
from absl import flags

import rollout
import runs

COLUMNS = "policy weights episode episode_return length epsilon flicker eval_seed".split()


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
    flags.DEFINE_integer("eval_seed", 0, "of the episodes; none repeats an episode of training", 0, **own)
    flags.DEFINE_enum("policy", "agent", ["agent", "random"], "whose episodes to play; an agent's are printed beside random ones", **own)
    flags.DEFINE_string("csv", None, "file of a row per episode; default: <run_dir>/episodes-<weights or random>.csv", **own)
    return values


def newest_run(folder="runs"):
    """Return the run under `folder` that was written to last.

    Raises:
        ValueError: there is none.
    """
    found = [path.parent for path in pathlib.Path(folder).glob("**/config.json")]
    if not found:
        raise ValueError(f"no run was found under {folder}/; train one, or give its --run_dir")
    return max(found, key=lambda run: max(file.stat().st_mtime for file in run.iterdir()))


def load(values):
    """Rebuild the environments and the agent of a run from its config.json.

    Returns:
        settings, envs, agent, name of the weights.

    Raises:
        ValueError: run, weights or both are not what is expected, in one sentence.
    """
    directory = pathlib.Path(values.run_dir or newest_run())
    settings = runs.read_config(directory)["settings"]
    envs = rollout.make_envs(settings, values.episodes, **({} if values.flicker is None else {"flicker": values.flicker}))
    agent = rollout.make_agent(settings, envs)
    path = pathlib.Path(values.weights) if values.weights else runs.find_weights(directory, values.checkpoint)
    try:
        agent.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(f"{path} does not hold weights of {settings['network']} with {settings['units']} units "
                         f"for {settings['env']} ({' '.join(str(error).split())[:120]})") from error
    return directory, settings, envs, agent, path.name if values.weights else values.checkpoint


def play(settings, envs, agent, epsilon, eval_seed):
    """Return one episode per environment, as rollout.evaluate does."""
    return rollout.evaluate(agent, envs, settings["history"], epsilon, eval_seed, evaluation=0)


def describe(name, episodes):
    """Return one line: mean, standard deviation, median, min and max of the episode returns."""
    returns = np.array([episode["episode_return"] for episode in episodes])
    deviation = returns.std(ddof=1) if len(returns) > 1 else 0.0
    return (f"{name:<12} mean {returns.mean():9.2f}   std {deviation:8.2f}   median {np.median(returns):8.1f}   "
            f"min {returns.min():8.1f}   max {returns.max():8.1f}   ({len(returns)} episodes)")


def write_csv(path, episodes, **values):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(dict(values, episode=i, **episode) for i, episode in enumerate(episodes))


def main(arguments):
    """Return the exit code: 0, or 2 for bad input."""
    values = define_flags()
    if {"--help", "-h", "--helpfull", "--helpshort"} & set(arguments):
        print(__doc__, values.module_help("evaluate"), sep="\n")
        return 0
    try:
        rest = values(["evaluate.py", *arguments])[1:]
        if rest:
            raise ValueError(f"the argument {rest[0]!r} is no flag; flags begin with --")
        directory, settings, envs, agent, name = load(values)
        epsilon = settings["eval_epsilon"] if values.epsilon is None else values.epsilon
        print(f"{directory}: {settings['network']} on {settings['env']}, epsilon {epsilon}, flicker {envs.flicker}, "
              f"seed {values.eval_seed}")
        random = play(settings, envs, agent, 1.0, values.eval_seed)
        print(describe("random", random))
        episodes = random
        if values.policy == "agent":
            episodes = play(settings, envs, agent, epsilon, values.eval_seed)
            print(describe(name, episodes))
        name = name if values.policy == "agent" else "random"
        path = pathlib.Path(values.csv or directory / f"episodes-{name}.csv")
        write_csv(path, episodes, policy=values.policy, weights=name, epsilon=epsilon if values.policy == "agent" else 1.0,
                  flicker=envs.flicker, eval_seed=values.eval_seed)
        print(f"Every episode is in {path}.")
    except (ValueError, OSError, flags.Error) as error:
        print(f"evaluate.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
