"""What runs came to: the return of their best checkpoint over fresh episodes, over seeds (protocol of Mnih et al. 2015).

The evaluation that chose the checkpoint during training flatters it: its mean stands beside the score, never in its place.
"""

import dataclasses

import numpy as np

from analysis import curves, statistics
from storage import layout, reading

CELL = ("env", "network", "history", "flicker")  # settings that tell the cells of a published table apart
SIGNIFICANT = 0.05


@dataclasses.dataclass
class Score(curves.Curve):
    """What a run came to, beside the curve of its evaluations."""

    returns: np.ndarray  # of its fresh episodes
    best: tuple  # agent step and mean return of the evaluation that chose the weights

    @property
    def unfinished(self):
        return reading.is_unfinished(self.directory, self.settings, self.x[-1])


def read_scores(found):
    """Read the scores of runs, as `find_scores` does.

    Raises:
        ValueError: a CSV is damaged, or there is no score.
    """
    scores, notes = find_scores(found)
    if not scores:
        raise ValueError(f"none of {len(found)} runs has a score: {notes[-1]}")
    return scores, notes


def find_scores(found):
    """Read the score of each run that has one.

    Args:
        found: {directory: settings}.

    Returns:
        [Score, ...], one per seed of a line, and sentences on all that is left out.

    Raises:
        ValueError: a CSV is damaged.
    """
    drawn, notes = curves.read_curves(found)
    scores, without = [], []
    for curve in drawn:
        path, weights = (curve.directory / name for name in ("episodes-best.csv", "best.weights.h5"))
        if not path.exists():
            without.append(curve.directory)
            continue
        played, returns = reading.read_episodes(path)
        asked = dict(policy="agent", weights="best", epsilon=curve.settings.get("eval_epsilon"), flicker=curve.settings["flicker"])
        other = [f"{name} {', '.join(sorted({str(row[name]) for row in played}))} for {value}"
                 for name, value in asked.items() if {row[name] for row in played} != {value}]
        if other:
            notes.append(f"{path} was evaluated otherwise than in training ({'; '.join(other)}) and is left out")
            continue
        if weights.exists() and weights.stat().st_mtime > path.stat().st_mtime:
            notes.append(f"{path} is older than the best weights beside it; evaluate.py --run_dir={curve.directory} plays those of now")
        scores.append(Score(**vars(curve), returns=returns, best=reading.best_evaluation(curve.directory, curve.settings)))
    if without:
        notes.append(f"{len(without)} of {len(drawn)} runs have no fresh score and are left out, such as {without[0]}; "
                     f"evaluate.py --run_dir={without[0]} plays it")
    for line in dict.fromkeys(score.line for score in scores):
        inside = [score for score in scores if score.line == line]
        for name in ("maxsteps", "eval_period"):
            values = sorted({score.settings[name] for score in inside})
            if len(values) > 1:
                notes.append(f"{len(inside)} runs that are pooled, such as {inside[0].directory}, differ in {name}: "
                             f"{', '.join(map(str, values))}")
    return scores, notes


def into_cells(own, wanted):
    """Sort scores into the cells of a published table.

    Args:
        wanted: [values of CELL, ...].

    Returns:
        {wanted: [Score, ...]}, and sentences on runs that are in none, and on cells that would mix settings: they are left empty.

    Raises:
        ValueError: all runs are in none.
    """
    cells, notes, others = {key: [] for key in wanted}, [], []
    for score in own:
        cells.get(tuple(score.settings[name] for name in CELL), others).append(score)
    if others:
        notes.append(f"{len(others)} of {len(own)} runs have no cell in this table, such as {others[0].directory}: "
                     + ", ".join(f"{name} {others[0].settings[name]}" for name in CELL))
    if len(others) == len(own):
        raise ValueError(f"{notes[0]}; --table=runs takes any run")
    for (env, network, *_), inside in cells.items():
        if len({score.line for score in inside}) > 1:
            notes.append(f"{len(inside)} runs of {network} on {env} are not pooled and left out, since they differ in "
                         f"{', '.join(differing(inside))}; give runs of one setting, or --table=runs, which keeps them apart")
            inside.clear()
    return cells, notes


def differing(scores, but=()):
    """Return the names of settings in which runs differ, other than those of seeds of one line."""
    names = sorted({name for score in scores for name in score.settings} - {*layout.SAME_LINE, *but})
    return [name for name in names if len({str(score.settings.get(name)) for score in scores}) > 1]


def summarise(scores):
    """Return the numbers of one line's seeds, by name; None is an unknown one. `scores` among them has one per seed."""
    if not scores:
        return dict.fromkeys(("mean", "std", "low", "high", "steps_min", "chosen_by")) | dict(scores=[], seeds=0)
    means = [float(score.returns.mean()) for score in scores]
    mean, low, high = statistics.mean_interval(means)
    several = len(means) > 1
    ends = lambda name, values: {f"{name}_min": int(min(values)), f"{name}_max": int(max(values))}
    return dict(scores=means, seeds=len(means), mean=float(mean), std=float(np.std(means, ddof=1)) if several else None,
                low=float(low) if several else None, high=float(high) if several else None,
                unfinished=sum(score.unfinished for score in scores), chosen_by=float(np.mean([score.best[1] for score in scores])),
                **ends("chosen_step", [score.best[0] for score in scores]), **ends("steps", [score.x[-1] for score in scores]),
                **ends("episodes", [len(score.returns) for score in scores]))


def compare(pairs):
    """Add to the first of each pair of summaries its test against the second: p, p_adjusted over all pairs, better.

    Returns:
        how many tests there were; none where one has a single seed, or neither any spread.
    """
    p_values = [statistics.welch(own["scores"], other["scores"]) for own, other in pairs]
    for (own, other), p, adjusted in zip(pairs, p_values, statistics.adjust(p_values)):
        known = not np.isnan(p)
        own |= dict(p=float(p) if known else None, p_adjusted=float(adjusted) if known else None,
                    better=bool(adjusted < SIGNIFICANT and own["mean"] > other["mean"]))
    return int(np.isfinite(p_values).sum())
