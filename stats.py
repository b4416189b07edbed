"""Numbers over runs: their curves, interquartile means over seeds and games with bootstrap intervals (Agarwal et al. 2021), and tests."""

import dataclasses
import json
import math
import pathlib

import numpy as np
from scipy import stats

import runs

SAME_LINE = ("seed", *runs.FREE)  # settings in which the runs of one line may differ
TEXTS, NUMBERS = ("network", "env"), ("seed", "history", "flicker", "num_envs", "frame_skip", "maxsteps", "eval_period", "eval_episodes")
AXES = {"agent_step": ("agent_step", 1), "frames": ("frames", 1), "hours": ("seconds", 3600), "episodes": ("episodes", 1)}  # column, units
GAMES = {"AssaultCrafted-v0": "Assault", "BowlingShaped-v0": "Bowling"}  # of crafted.VARIANTS, without Gymnasium, which is slow to import
BINS = 50  # of training episodes along the x axis
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


@dataclasses.dataclass
class Curve:
    """The returns of one run along an axis."""

    directory: pathlib.Path
    settings: dict
    x: np.ndarray
    y: np.ndarray

    game = property(lambda self: GAMES.get(self.settings["env"], self.settings["env"]))  # whose raw returns these are

    @property
    def line(self):
        """What the runs of one line have in common."""
        return json.dumps({name: value for name, value in self.settings.items() if name not in SAME_LINE}, sort_keys=True)


def find_runs(paths):
    """Find the runs among `paths` and in the folders among them.

    Returns:
        {directory: settings}, and a sentence for each path that is none.

    Raises:
        ValueError: a path does not exist, or none is a run.
    """
    found, others, known = {}, [], set()
    for path in map(pathlib.Path, paths):
        if not path.exists():
            raise ValueError(f"{path} does not exist; expected directories of runs, such as runs/*")
        for directory in sorted(file.parent for file in path.glob("**/config.json")) or [path]:
            if directory.resolve() not in known:
                try:
                    found[directory] = _read_settings(directory)
                    known.add(directory.resolve())
                except (ValueError, OSError) as error:
                    others.append(str(error))
    if not found:
        raise ValueError(others[0] if len(others) == 1 else f"none of the {len(others)} paths given is a run; the first: {others[0]}")
    return found, others


def _read_settings(directory):
    if not directory.is_dir():
        raise ValueError(f"{directory} is a file, so it is no run of this suite")
    settings = runs.read_config(directory)["settings"]
    for names, kind in ((TEXTS, str), (NUMBERS, int | float)):
        for name in names:
            if not isinstance(settings.get(name), kind):
                raise ValueError(f"{directory}/config.json has {settings.get(name)!r} for {name}, so it is of no run of this suite")
    return settings


def read_csv(path, columns):
    """Return {column: float64[rows]}. A missing file has no rows; a last row without a line end is still being written, and left out.

    Raises:
        ValueError: it is not what runs.Run writes.
    """
    try:
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        if lines and lines[0] != ",".join(columns):
            raise ValueError(f"it begins with {lines[0][:40]!r}, expected {','.join(columns)}")
        table = np.loadtxt(lines[1:], delimiter=",", ndmin=2, comments=None) if any(lines[1:]) else np.empty((0, len(columns)))
        if table.shape[1] != len(columns):
            raise ValueError(f"its rows have {table.shape[1]} values, expected {len(columns)}")
        if not np.isfinite(table[:, [name not in runs.UNKNOWN for name in columns]]).all() or (np.diff(table[:, 0]) < 0).any():
            raise ValueError(f"a value is not finite, or {columns[0]} decreases")
    except ValueError as error:
        raise ValueError(f"{path} is damaged, or not of this suite: {str(error).split(';')[0].rstrip('.')}") from error
    return dict(zip(columns, table.T))


def read_evaluations(directory, settings):
    """Return {column: float64[evaluations]}: means over the episodes of each whole evaluation of a run.

    Raises:
        ValueError: its CSV is damaged.
    """
    rows = read_csv(directory / "eval.csv", runs.COLUMNS["eval"])
    _, evaluation, count = np.unique(rows["evaluation"], return_inverse=True, return_counts=True)
    whole = count >= settings["eval_episodes"]  # The newest may be half-written.
    return {name: (np.bincount(evaluation, values, len(count)) / count)[whole] for name, values in rows.items()}


def best_evaluation(directory, settings):
    """Return agent step and mean return of the evaluation that chose a run's best weights, of equals the latest; None before the first."""
    rows = read_evaluations(directory, settings)
    steps, means = rows["agent_step"], rows["episode_return"]
    return max(zip(steps, means), key=lambda row: (row[1], row[0]), default=None)


def is_unfinished(directory, settings, agent_step):
    """Return whether a run goes on to an evaluation after that of `agent_step`."""
    episodes = (read_csv(directory / "train.csv", runs.COLUMNS["train"])["cut"] == 0).sum() if settings.get("maxepisodes") else 0
    return not runs.met_limit(settings, agent_step + settings["eval_period"] - 1, episodes)


def read_curves(found, x="agent_step", y="eval"):
    """Read the returns of runs: the mean of each whole evaluation, or of complete training episodes in bins of the x axis.

    Args:
        found: {directory: settings}.
        x: a key of AXES; `episodes` are those of training.
        y: `eval` or `train`.

    Returns:
        [Curve, ...], one per seed of a line, and sentences on runs that are empty, unfinished or there twice.

    Raises:
        ValueError: a CSV is damaged.
    """
    column, units = AXES[x]
    curves, notes, unfinished = {}, [], {}
    for directory, settings in found.items():
        if y == "eval":
            rows = read_evaluations(directory, settings)
        else:
            rows = read_csv(directory / "train.csv", runs.COLUMNS["train"])
            rows = {name: values[rows["cut"] == 0] for name, values in rows.items()}
            rows["episodes"] = 1 + np.arange(len(rows["cut"]))
        curve = Curve(directory, settings, rows[column] / units, rows["episode_return"])
        if not len(curve.x):
            notes.append(f"{directory} has no {'evaluation' if y == 'eval' else 'complete episode'} yet")
            continue
        if is_unfinished(directory, settings, rows["agent_step"][-1]):
            unfinished[directory] = rows["agent_step"][-1], settings["maxsteps"]
        twin = curves.setdefault((curve.line, settings["seed"]), curve)
        if twin is not curve:
            notes.append(f"{directory} and {twin.directory} are the same seed of the same settings; only the longer one counts")
            curves[curve.line, settings["seed"]] = max(twin, curve, key=lambda one: len(one.x))
    if unfinished:
        shortest = min(unfinished, key=unfinished.get)
        step, maxsteps = unfinished[shortest]
        notes.append(f"{len(unfinished)} of {len(found)} runs are unfinished; the shortest is {shortest}, "
                     f"at {step:,.0f} of {maxsteps:,} agent steps")
    curves = list(curves.values())
    return curves if y == "eval" else _in_bins(curves), notes


def _in_bins(curves):
    """Return curves of means over bins of the x axis, the same bins for all runs of an environment."""
    binned = []
    for curve in curves:
        edges = np.linspace(0, max(other.x[-1] for other in curves if other.game == curve.game), BINS + 1)
        place = np.clip(np.searchsorted(edges, curve.x) - 1, 0, BINS - 1)
        count, total = np.bincount(place, minlength=BINS), np.bincount(place, curve.y, BINS)
        centers = (edges[1:] + edges[:-1]) / 2
        whole = (count > 0) & (centers <= curve.x[-1])  # An unfinished run's last bin may hold few episodes.
        some = whole if whole.any() else count > 0
        binned.append(dataclasses.replace(curve, x=centers[some], y=total[some] / count[some]))
    return binned
