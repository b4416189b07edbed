"""Statistics over seeds and games: means, bootstrap intervals (Agarwal et al. 2021), tests, curves on one x axis."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

RESAMPLES = 2000
Values = Sequence[float] | np.ndarray  # a value or a row per seed


def _stats():
    from scipy import stats  # here, since SciPy takes longer to import than all else that a figure needs
    return stats


def mean_interval(values: Values, confidence: float = 0.95) -> tuple[float, float, float]:
    """Return the mean of independent values and its Student's t interval.

    Args:
        values: float[n], for example one per seed. With n = 1 the interval is infinite.

    Returns:
        mean, low, high.
    """
    values = np.asarray(values, float)
    mean, error = values.mean(), _stats().sem(values) if len(values) > 1 else np.inf
    if error == 0:
        return mean, mean, mean
    low, high = _stats().t.interval(confidence, max(len(values) - 1, 1), loc=mean, scale=error)
    return mean, low, high


def interquartile_mean(values: Values, axis: int = 0) -> Any:  # float64, or float64[...] of more axes
    """Return the mean of the values without the lowest quarter and without the highest quarter.

    The size of a quarter is rounded down: of 2 or 3 values all count, of 5 values the middle 3 count.
    """
    return _stats().trim_mean(values, 0.25, axis=axis)


def bootstrap_interval(values: Values, statistic: Callable[..., Any] = interquartile_mean, confidence: float = 0.95,
                       seed: int = 0) -> tuple[float | np.ndarray, ...]:
    """Return the percentile bootstrap interval of a statistic over seeds.

    Args:
        values: float[n, ...], a row per seed, n > 1. Whole rows are drawn, with replacement.
        statistic: a function that is called with (array, axis=).
        seed: the seed of the draws. It is fixed, so that the same runs give the same figure.

    Returns:
        low, high: float64[...].
    """
    result = _stats().bootstrap(
        (np.asarray(values, float),), statistic, n_resamples=RESAMPLES, batch=250, vectorized=True,
        confidence_level=confidence, method="percentile", rng=np.random.default_rng(seed))
    return tuple(result.confidence_interval)


def interquartile_band(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the interquartile mean over seeds and its 95% bootstrap interval, at each point.

    Args:
        values: float[seeds, X], NaN where a seed has no data. Only seeds with data count at a point.

    Returns:
        middle, low, high: float64[X]. All are NaN where fewer than half of the seeds have data.
            low and high are NaN also where a single seed has data.
    """
    known = ~np.isnan(values)
    middle, low, high = np.full((3, values.shape[1]), np.nan)
    for seeds in np.unique(known, axis=1).T:
        if 2 * seeds.sum() >= len(seeds):
            points = (known == seeds[:, None]).all(0)
            middle[points] = interquartile_mean(values[seeds][:, points])
            if seeds.sum() > 1:
                low[points], high[points] = bootstrap_interval(values[seeds][:, points])
    return middle, low, high


def stratified_interval(games: Sequence[Values], confidence: float = 0.95, seed: int = 0) -> tuple[float, float, float]:
    """Return the interquartile mean over games and seeds, and its percentile bootstrap interval.

    Seeds are drawn within each game. Every game has the same weight, however many seeds it has: scores are repeated
    until all games have equally many.

    Args:
        games: [float[seeds of a game], ...], normalised scores. A game with one seed adds nothing to the interval.
        seed: the seed of the draws.

    Returns:
        middle, low, high.
    """
    arrays, rng = [np.asarray(scores, float) for scores in games], np.random.default_rng(seed)
    per_game = math.lcm(*map(len, arrays))

    def pool(draws):
        repeated = [np.repeat(draw, per_game // draw.shape[-1], axis=-1) for draw in draws]
        return np.concatenate(repeated, axis=-1)  # [..., games * per_game]

    draws = pool([scores[rng.integers(len(scores), size=(RESAMPLES, len(scores)))] for scores in arrays])
    low, high = np.quantile(interquartile_mean(draws, axis=1), [(1 - confidence) / 2, (1 + confidence) / 2])
    return interquartile_mean(pool(arrays)), low, high


def welch_test(first: Values, second: Values) -> float:
    """Return the p value of Welch's t-test of two means.

    Args:
        first, second: float[n], for example one value per seed.

    Returns:
        p; NaN where one side has a single value, or where neither side has any spread.
    """
    if min(len(first), len(second)) < 2 or np.ptp(first) == np.ptp(second) == 0:
        return np.nan
    summary = lambda values: (np.mean(values), np.std(values, ddof=1), len(values))
    return _stats().ttest_ind_from_stats(*summary(first), *summary(second), equal_var=False).pvalue


def adjust_p_values(p_values: Values) -> np.ndarray:
    """Return p values that are adjusted for how many tests there are (false discovery rate, Benjamini & Hochberg 1995).

    Args:
        p_values: float[n]. NaN means no test: it is not counted, and stays NaN.
    """
    p_values = np.asarray(p_values, float)
    known = ~np.isnan(p_values)
    adjusted = np.full_like(p_values, np.nan)
    adjusted[known] = _stats().false_discovery_control(p_values[known])
    return adjusted


def align_curves(curves: Sequence[tuple[np.ndarray, np.ndarray]],
                 tolerance: float = 0) -> tuple[np.ndarray, np.ndarray]:
    """Put curves on one x axis.

    Between its points a curve is linear. Before its first and after its last point it has no data.

    ```
    seed 1                4000           8005      12001
    seed 2                    4003   8000              12007
    x, tolerance 7         4001.5      8002.5       12004
    ```
    Args:
        curves: [(x, y), ...], float[points] each, x increasing.
        tolerance: neighbouring points that are no further apart are merged into their mean. Two points of one curve
            are never merged.

    Returns:
        x float64[X]; y float64[curves, X], NaN where a curve has no data.
    """
    points = np.unique(np.concatenate([x for x, _ in curves]))
    closest = min((np.diff(x).min() for x, _ in curves if len(x) > 1), default=np.inf)
    group = np.cumsum(np.diff(points, prepend=points[0]) > min(tolerance, closest / 2))  # of each point
    merged = np.bincount(group, points) / np.bincount(group)
    snapped = [merged[group[np.searchsorted(points, x)]] for x, _ in curves]
    return merged, np.stack([np.interp(merged, x, y, left=np.nan, right=np.nan) for x, (_, y) in zip(snapped, curves)])


def zero_score(returns: Values, random_returns: Values) -> float:
    """Return the score that counts as nothing: 0, or random play's mean where returns can be negative.

    Args:
        returns: all known returns in an environment, also the returns of random play. Returns can be negative in this
            environment when one of these is.
        random_returns: the returns of random play.
    """
    return float(np.mean(random_returns)) if np.min(returns) < 0 else 0.0
