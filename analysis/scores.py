"""Scores of runs: the returns of the best checkpoint over fresh episodes, over seeds (protocol of Mnih et al. 2015).

The evaluation that chose the checkpoint during training flatters it. The mean of this evaluation stands beside the
score, and never replaces the score.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from analysis import curves, statistics
from storage import episodes, layout, reading, training

CELL = ("env", "network", "history", "flicker")  # the settings of a cell of a published table
SIGNIFICANT = 0.05


@dataclasses.dataclass
class Score(curves.Curve):
    """The curve of a run's evaluations, and the score of its best checkpoint.

    Attributes:
        returns: of the fresh episodes.
        eval_seeds: sorted seeds of these episodes.
        best: agent step and mean return of the evaluation that chose the checkpoint.
    """

    returns: np.ndarray
    eval_seeds: list[int]
    best: tuple[float, float]

    @property
    def unfinished(self) -> bool:
        """Whether training of this run goes on."""
        return training.is_unfinished(self.directory, self.settings, self.x[-1])


def read_scores(runs: curves.Runs) -> tuple[list[Score], list[str]]:
    """Read the scores of runs, like `find_scores`, but refuse runs without any score.

    Raises:
        ValueError: no run has a score.
    """
    scores, notes = find_scores(runs)
    if not scores:
        raise ValueError(f"none of {len(runs)} runs has a score: {notes[-1]}")
    return scores, notes


def find_scores(runs: curves.Runs) -> tuple[list[Score], list[str]]:
    """Read the score of each run that has one.

    Args:
        runs: {directory: settings}.

    Returns:
        [Score, ...], one per seed of a line; and sentences on runs that are left out.
    """
    run_curves, notes = curves.read_curves(runs)
    curve_of = {curve.directory: curve for curve in run_curves}
    without = [directory for directory in curve_of if not layout.episodes_path(directory, layout.BEST).exists()]
    played_of, damaged = reading.read_each(
        (directory for directory in curve_of if directory not in without),
        lambda directory: episodes.read_episodes(layout.episodes_path(directory, layout.BEST)))
    notes, scores = notes + damaged, []
    for directory, (played, returns) in played_of.items():
        curve, path = curve_of[directory], layout.episodes_path(directory, layout.BEST)
        weights = layout.weights_path(directory, layout.BEST)
        expected = dict(policy="agent", weights=layout.BEST, epsilon=curve.settings.get("eval_epsilon"),
                        flicker=curve.settings["flicker"])
        differences = [f"{name} {', '.join(sorted({str(row[name]) for row in played}))} for {value}"
                       for name, value in expected.items() if {row[name] for row in played} != {value}]
        if differences:
            notes.append(f"{path} was evaluated otherwise than in training ({'; '.join(differences)}) and is left out")
            continue
        if episodes.is_older(path, weights):
            notes.append(f"{path} is older than the best weights beside it; "
                         f"evaluate.py --run_dir={curve.directory} plays those of now")
        best: Any = training.best_evaluation(curve.directory, curve.settings)  # A curve has one evaluation at least.
        eval_seeds = sorted({int(row["eval_seed"]) for row in played})
        scores.append(Score(**vars(curve), returns=returns, eval_seeds=eval_seeds, best=best))
    if without:
        notes.append(f"{len(without)} of {len(run_curves)} runs have no fresh score and are left out, "
                     f"such as {without[0]}; evaluate.py --run_dir={without[0]} plays it")
    for line in dict.fromkeys(score.line for score in scores):
        seeds = [score for score in scores if score.line == line]
        for name in ("maxsteps", "eval_period"):
            values = sorted({score.settings[name] for score in seeds})
            if len(values) > 1:
                notes.append(f"{len(seeds)} runs that are pooled, such as {seeds[0].directory}, differ in {name}: "
                             f"{', '.join(map(str, values))}")
    return scores, notes


def sort_into_cells(scores: Sequence[Score], cell_keys: Iterable[tuple[Any, ...]]
                    ) -> tuple[dict[tuple[Any, ...], list[Score]], list[str]]:
    """Sort scores into the cells of a published table.

    Args:
        scores: [Score, ...].
        cell_keys: [values of the settings CELL, ...].

    Returns:
        {cell key: [Score, ...]}; and sentences on runs without a cell, and on cells that would mix settings. Such cells
        are left empty.

    Raises:
        ValueError: no run has a cell.
    """
    cells: dict[tuple[Any, ...], list[Score]] = {key: [] for key in cell_keys}
    notes: list[str] = []
    others: list[Score] = []
    for score in scores:
        cells.get(tuple(score.settings[name] for name in CELL), others).append(score)
    if others:
        notes.append(f"{len(others)} of {len(scores)} runs have no cell in this table, such as {others[0].directory}: "
                     + ", ".join(f"{name} {others[0].settings[name]}" for name in CELL))
    if len(others) == len(scores):
        raise ValueError(f"{notes[0]}; --table=runs takes any run")
    for (env, network, *_), inside in cells.items():
        if len({score.line for score in inside}) > 1:
            notes.append(f"{len(inside)} runs of {network} on {env} are not pooled and left out, since they differ in "
                         f"{', '.join(differing_settings(inside))}; "
                         "give runs of one setting, or --table=runs, which keeps them apart")
            inside.clear()
    return cells, notes


def differing_settings(runs: Sequence[curves.Curve], except_for: Iterable[str] = ()) -> list[str]:
    """Return the names of the settings in which runs differ.

    Seed and limits, in which the runs of one line may differ, are not among them.

    Args:
        runs: [curves.Curve, ...].
        except_for: more names that are left out.
    """
    names = sorted({name for run in runs for name in run.settings} - {*layout.SAME_LINE, *except_for})
    return [name for name in names if len({str(run.settings.get(name)) for run in runs}) > 1]


def summarise_scores(scores: Sequence[Score]) -> dict[str, Any]:
    """Return the numbers of the seeds of one line.

    Args:
        scores: [Score, ...]; it may be empty.

    Returns:
        {name: number}, None where a number is unknown. `scores` has a mean per seed; `eval_seeds` is text, such as `0`
        or `0 3`.
    """
    if not scores:
        unknown = ("mean", "std", "low", "high", "steps_min", "chosen_by")
        return dict.fromkeys(unknown) | dict(scores=[], seeds=0)
    means = [float(score.returns.mean()) for score in scores]
    mean, low, high = statistics.mean_interval(means)
    has_spread = len(means) > 1
    ends = lambda name, values: {f"{name}_min": int(min(values)), f"{name}_max": int(max(values))}
    return dict(
        scores=means, seeds=len(means), mean=float(mean), std=float(np.std(means, ddof=1)) if has_spread else None,
        low=float(low) if has_spread else None, high=float(high) if has_spread else None,
        eval_seeds=" ".join(map(str, sorted({seed for score in scores for seed in score.eval_seeds}))),
        unfinished=sum(score.unfinished for score in scores),
        chosen_by=float(np.mean([score.best[1] for score in scores])),
        **ends("chosen_step", [score.best[0] for score in scores]),
        **ends("steps", [score.x[-1] for score in scores]),
        **ends("episodes", [len(score.returns) for score in scores]))


def compare_pairs(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> int:
    """Test the first summary of each pair against the second one, and add the result to the first.

    The result is `p`, `p_adjusted` for the number of pairs, and whether the first is `better`.

    Args:
        pairs: [(summary, summary), ...] from `summarise_scores`.

    Returns:
        how many tests there were. A pair is not tested where one side has a single seed, or neither has any spread.
    """
    p_values = [statistics.welch_test(first["scores"], second["scores"]) for first, second in pairs]
    for (first, second), p, adjusted in zip(pairs, p_values, statistics.adjust_p_values(p_values)):
        is_tested = not np.isnan(p)
        first |= dict(p=float(p) if is_tested else None, p_adjusted=float(adjusted) if is_tested else None,
                      better=bool(adjusted < SIGNIFICANT and first["mean"] > second["mean"]))
    return int(np.isfinite(p_values).sum())
