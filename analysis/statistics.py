"""Numbers over runs: their curves, interquartile means over seeds and games with bootstrap intervals (Agarwal et al. 2021), and tests."""

import math

import numpy as np
from scipy import stats

RESAMPLES = 2000


def mean_interval(values, confidence=0.95):
    """Return the mean of independent values, such as one per seed, and the ends of Student's t interval around it.

    Args:
        values: float[n]; with n = 1 the interval is infinite.
    """
    values = np.asarray(values, float)
    mean, error = values.mean(), stats.sem(values) if len(values) > 1 else np.inf
    if error == 0:
        return mean, mean, mean
    low, high = stats.t.interval(confidence, max(len(values) - 1, 1), loc=mean, scale=error)
    return mean, low, high


def interquartile_mean(values, axis=0):
    """Return the mean without the lowest and the highest quarter, rounded down: of 2 or 3 values the mean, of 5 that of the middle 3."""
    return stats.trim_mean(values, 0.25, axis=axis)


def bootstrap_interval(values, statistic=interquartile_mean, confidence=0.95, seed=0):
    """Return the ends of the percentile bootstrap interval of a statistic over seeds.

    Args:
        values: float[n, ...], n > 1 seeds; a seed that is drawn, with replacement, is drawn with all its entries.
        statistic: called with (array, axis=).
        seed: of the draws, so that a figure comes out the same again.

    Returns:
        low, high: float64[...]
    """
    result = stats.bootstrap((np.asarray(values, float),), statistic, n_resamples=RESAMPLES, batch=250, vectorized=True,
                             confidence_level=confidence, method="percentile", rng=np.random.default_rng(seed))
    return tuple(result.confidence_interval)


def interquartile_band(values):
    """Return the interquartile mean over seeds and the ends of its 95% bootstrap interval, from the seeds that have data at a point.

    Args:
        values: float[seeds, X], NaN where a seed has no data.

    Returns:
        middle, low, high: float64[X], NaN where fewer than half of the seeds have data; low and high also where a single one has.
    """
    known = ~np.isnan(values)
    middle, low, high = np.full((3, values.shape[1]), np.nan)
    for seeds in np.unique(known, axis=1).T:
        if 2 * seeds.sum() >= len(seeds):
            at = (known == seeds[:, None]).all(0)
            middle[at] = interquartile_mean(values[seeds][:, at])
            if seeds.sum() > 1:
                low[at], high[at] = bootstrap_interval(values[seeds][:, at])
    return middle, low, high


def stratified_interval(games, confidence=0.95, seed=0):
    """Return the interquartile mean over games and seeds, and the ends of its percentile bootstrap interval.

    Seeds are resampled within each game. Each game has the same weight, however many seeds it has: a seed's score counts as often as it
    takes for all games to have equally many.

    Args:
        games: [float[seeds of a game], ...], normalised; a game with one seed adds nothing to the interval.
        seed: of the draws.
    """
    games, rng = [np.asarray(scores, float) for scores in games], np.random.default_rng(seed)
    each = math.lcm(*map(len, games))
    pool = lambda draws: np.concatenate([np.repeat(draw, each // draw.shape[-1], axis=-1) for draw in draws], axis=-1)
    draws = pool([scores[rng.integers(len(scores), size=(RESAMPLES, len(scores)))] for scores in games])  # [RESAMPLES, games * each]
    low, high = np.quantile(interquartile_mean(draws, axis=1), [(1 - confidence) / 2, (1 + confidence) / 2])
    return interquartile_mean(pool(games)), low, high


def welch(a, b):
    """Return the p value of Welch's t-test of two means, from values such as one per seed; NaN where their spread is unknown or zero."""
    if min(len(a), len(b)) < 2 or np.ptp(a) == np.ptp(b) == 0:
        return np.nan
    summary = lambda values: (np.mean(values), np.std(values, ddof=1), len(values))
    return stats.ttest_ind_from_stats(*summary(a), *summary(b), equal_var=False).pvalue


def adjust(p_values):
    """Return p values adjusted for how many they are, by the false discovery rate (Benjamini & Hochberg 1995).

    Args:
        p_values: float[n]; NaN, no test, counts for none and stays.
    """
    p_values = np.asarray(p_values, float)
    known = ~np.isnan(p_values)
    adjusted = np.full_like(p_values, np.nan)
    adjusted[known] = stats.false_discovery_control(p_values[known])
    return adjusted


def align(curves, tolerance=0):
    """Put curves over one x axis; between its points a curve is linear, before the first and after the last it has no data.

    ```
    seed 1                4000           8005      12001
    seed 2                    4003   8000              12007
    grid, tolerance 7      4001.5      8002.5       12004
    ```
    Args:
        curves: [(x, y), ...], float[points] each, x increasing.
        tolerance: points that follow each other at no more than this are one point, at their mean; never two points of one curve.

    Returns:
        x float64[X], y float64[curves, X], NaN where a curve has no data.
    """
    points = np.unique(np.concatenate([x for x, _ in curves]))
    closest = min((np.diff(x).min() for x, _ in curves if len(x) > 1), default=np.inf)
    place = np.cumsum(np.diff(points, prepend=points[0]) > min(tolerance, closest / 2))
    grid = np.bincount(place, points) / np.bincount(place)
    snapped = [grid[place[np.searchsorted(points, x)]] for x, _ in curves]
    return grid, np.stack([np.interp(grid, x, y, left=np.nan, right=np.nan) for x, (_, y) in zip(snapped, curves)])


def zero_score(returns, random_returns):
    """Return the score that counts as none of the original: 0, or where scores can be negative that of random play.

    Args:
        returns: all that are known of an environment, random play's included; scores can be negative where one of them is.
        random_returns: of random play.
    """
    return np.mean(random_returns) if np.min(returns) < 0 else 0.0


