"""Runs for the tests of analysis: several seeds with curves, with scores, or with sweeps."""

from analysis import curves
from helpers.run_files import find_checked, write_run
from storage import layout

SWEEP_HEADER = ",".join(layout.SWEEP_COLUMNS)
DRQN, DQN, DQN_10 = dict(network="DRQN", history=1), dict(network="DQN", history=4), dict(network="DQN", history=10)


def write_seeds(folder, means, late=(0, 3, 7, 5, 1), **settings):
    """Write a run per seed.

    Args:
        means: of the evaluations of each seed, at agent steps 100, 200, ...
        late: by how many agent steps the evaluations of each seed come late.
    """
    for seed, of_seed in enumerate(means):
        evaluations = [(100 * k + late[seed], (mean - 1, mean + 1)) for k, mean in enumerate(of_seed, 1)]
        write_run(folder / f"s{seed}", evaluations, seed=seed, **settings)
    return folder


def write_scores(folder, means, **settings):
    """Write a run with a score per seed.

    Args:
        means: of the fresh episodes of each seed. The evaluation that chose the weights has a mean that is 10 higher.
    """
    for seed, mean in enumerate(means, 1):
        name = "-".join(map(str, settings.values()))
        evaluations = [(100, (0, 0)), (200, (mean + 9, mean + 11)), (300, (mean, mean))]
        write_run(folder / f"{name}-s{seed}", evaluations, fresh=(mean - 1, mean, mean + 1), seed=seed, **settings)
    return folder


def write_swept_run(directory, returns, random=(0, 2), **settings):
    """Write a run and its observability.csv.

    Args:
        returns: {probability: episode returns} of the agent.
        random: returns of random play.
    """
    write_run(directory, **settings)
    rows = [f"agent,best,{p},{i},{r},9,0.05,0" for p, of_p in returns.items() for i, r in enumerate(of_p)]
    rows += [f"random,random,1.0,{i},{r},9,1.0,0" for i, r in enumerate(random)]
    write_sweep_rows(directory, *rows)
    return directory


def write_sweep_rows(directory, *rows):
    """Write observability.csv from rows of text."""
    layout.sweep_path(directory).write_text("\n".join([SWEEP_HEADER, *rows]) + "\n")


def curves_of(*paths, x="agent_step", y="eval"):
    """Return the curves of runs and folders of runs."""
    return curves.read_curves(find_checked(paths)[0], x, y)[0]
