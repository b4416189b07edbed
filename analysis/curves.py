"""Learning curves of runs as figures: panels, lines with their bands over seeds, legends; and how every figure looks."""

import dataclasses
import difflib
import itertools
import json
import pathlib

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from analysis import drawing, statistics
from storage import layout, reading

AXES = {"agent_step": ("agent_step", 1), "frames": ("frames", 1), "hours": ("seconds", 3600), "episodes": ("episodes", 1)}  # column, units
BINS = 50  # of training episodes along the x axis
X_LABELS = {"agent_step": "agent steps", "frames": "emulator frames", "hours": "hours of training",
            "episodes": "complete training episodes"}
Y_LABELS = {"eval": "evaluation return\n(raw reward)", "train": "training return\n(raw reward)"}


@dataclasses.dataclass
class Curve:
    """The returns of one run along an axis."""

    directory: pathlib.Path
    settings: dict
    x: np.ndarray
    y: np.ndarray

    game = property(lambda self: layout.GAMES.get(self.settings["env"], self.settings["env"]))  # whose raw returns these are

    @property
    def line(self):
        """What the runs of one line have in common."""
        return json.dumps({name: value for name, value in self.settings.items() if name not in layout.SAME_LINE}, sort_keys=True)


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
            rows = reading.read_evaluations(directory, settings)
        else:
            rows = reading.read_csv(directory / "train.csv", layout.COLUMNS["train"])
            rows = {name: values[rows["cut"] == 0] for name, values in rows.items()}
            rows["episodes"] = 1 + np.arange(len(rows["cut"]))
        curve = Curve(directory, settings, rows[column] / units, rows["episode_return"])
        if not len(curve.x):
            notes.append(f"{directory} has no {'evaluation' if y == 'eval' else 'complete episode'} yet")
            continue
        if reading.is_unfinished(directory, settings, rows["agent_step"][-1]):
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


@dataclasses.dataclass
class Panel:
    """Curves in one pair of axes, and what is written beside it."""

    row: int
    column: int
    curves: list
    title: str = ""
    row_title: str = ""


def arrange(curves, names, grid_rows=None, grid_columns=None):
    """Return panels: one per game and flicker, or one per pair of values of two settings.

    Raises:
        ValueError: a setting is unknown, or panels would mix environments.
    """
    grid = [name for name in (grid_rows, grid_columns) if name]
    known = {name for curve in curves for name in curve.settings}
    for name in grid:
        if name not in known:
            near = difflib.get_close_matches(name, known, 3, 0.4)
            raise ValueError(f"{name} is no flag of these runs; expected one such as {', '.join(near or sorted(known)[:3])}")
    if grid_rows and grid_rows == grid_columns:
        raise ValueError(f"--grid_rows and --grid_columns are both {grid_rows}; expected two flags, or one of them alone")
    envs = sorted({curve.game for curve in curves})
    if grid and len(envs) > 1 and "env" not in grid:
        raise ValueError(f"these are runs of {', '.join(envs)}; expected runs of one environment, or --grid_rows=env")
    if not grid:
        screens = lambda curve: (curve.game, curve.settings["flicker"])
        each = [[curve for curve in curves if screens(curve) == own] for own in sorted(set(map(screens, curves)))]
        columns = drawing.columns_of(len(each))
        return [Panel(i // columns, i % columns, own, describe_env(own, names)) for i, own in enumerate(each)]
    values = [sorted({str(v): v for v in (c.settings.get(name) for c in curves)}.values(), key=drawing.order) for name in (grid_rows, grid_columns)]
    panels = []
    for (i, row), (j, column) in itertools.product(*map(enumerate, values)):
        own = [c for c in curves if (c.settings.get(grid_rows), c.settings.get(grid_columns)) == (row, column)]
        panels.append(Panel(i, j, own, drawing.show(grid_columns, column) if grid_columns and i == 0 else "",
                            drawing.show(grid_rows, row) if grid_rows and column == values[1][-1] else ""))
    return panels


def describe_env(curves, names, grid=()):
    """Return the environment of curves, and its flicker where labels do not tell."""
    settings, game = curves[0].settings, curves[0].game
    told = "flicker" in grid or any("flicker" in own for own in names.values()) or not settings["flicker"]
    return game if told else f"{game}, {drawing.show('flicker', settings['flicker'])}"


def draw(curves, x="agent_step", y="eval", grid_rows=None, grid_columns=None, random_play=None):
    """Return the figure of curves.

    Args:
        curves: of read_curves(..., x, y).
        grid_rows, grid_columns: settings, a row or column of panels for each of their values; by default a panel per environment and
            flicker.
        random_play: {directory: its returns}; each panel has a line at the mean of those of its runs.

    Raises:
        ValueError: as `arrange`.
    """
    grid = [name for name in (grid_rows, grid_columns) if name]
    names = drawing.label_settings(curves, grid or ["flicker"])
    panels = arrange(curves, names, grid_rows, grid_columns)
    styles = drawing.style_lines(curves, names)
    rows, columns = 1 + max(panel.row for panel in panels), 1 + max(panel.column for panel in panels)
    width = drawing.width_of(columns)
    share = "none" if not grid else "row" if grid_rows == "env" else "col" if grid_columns == "env" else "all"
    with matplotlib.rc_context(drawing.STYLE):
        figure = Figure(layout="constrained")
        grid_axes = figure.subplots(rows, columns, squeeze=False, sharex=share, sharey=share)
        seeds = {}  # that the mean of a label has, at each point of each panel
        for i, panel in enumerate(panels):
            axes = grid_axes[panel.row, panel.column]
            axes.set(title=panel.title, xlabel=X_LABELS[x] if i + columns >= len(panels) else "",
                     ylabel="" if panel.column else Y_LABELS[y])
            axes.annotate(panel.row_title, (1, 0.5), (5, 0), "axes fraction", "offset points", rotation=270, ha="left", va="center")
            for line, (label, style) in styles.items():
                own = [curve for curve in panel.curves if curve.line == line]
                if own:
                    seeds.setdefault(label, []).extend(draw_line(axes, own, label, style, tolerance_of(own, x)))
            level = mean_random_play(panel.curves, random_play or {})
            if level is not None:
                axes.axhline(level, **drawing.RANDOM, label=f"random play {level:,.2f}")
                axes.legend(handles=axes.lines[-1:], fontsize=6, labelcolor=drawing.RANDOM["color"], edgecolor="none", borderpad=0.1)
            if not panel.curves:
                axes.text(0.5, 0.5, "no runs", transform=axes.transAxes, ha="center", va="center", color="#888888", fontsize=7)
            axes.set_xlim(left=0)
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.yaxis.set_major_locator(MaxNLocator(5))
            if x != "hours":
                axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        for axes in grid_axes.flat[len(panels):]:
            axes.remove()
        if grid and "env" not in grid:
            figure.suptitle(describe_env(curves, names, grid), fontsize=9)
        text = f" Each point is the mean of the episodes in 1/{BINS} of the axis." if y == "train" else ""
        text_lines = drawing.add_legend(figure, width, dict(styles.values()), seeds, text)
        figure.set_size_inches(width, rows * max(1.6, 0.6 * width / columns) + 0.14 * text_lines + 0.3)
    return figure


def mean_random_play(curves, random_play):
    """Return the mean return of random play beside runs, None where it was not played."""
    known = [random_play[curve.directory] for curve in curves if curve.directory in random_play]
    return np.concatenate(known).mean() if known else None


def tolerance_of(curves, x):
    """Return by how much, at most, evaluations of one count differ among the seeds of a line."""
    late = curves[0].settings["num_envs"] - 1
    return {"agent_step": late, "frames": late * curves[0].settings["frame_skip"]}.get(x, 0)


def mean_of(curves, tolerance=0):
    """Return the mean of the runs of one line, their points at most `tolerance` apart being one.

    Returns:
        x, middle, low, high: float64[X], NaN where too few seeds have data.
        seeds: int[X], that have data.
        fewer, faint: bool[X], where not all seeds have data; where the mean is not from all, from the last point that all have.
    """
    grid, values = statistics.align([(curve.x, curve.y) for curve in curves], tolerance)
    middle, low, high = statistics.interquartile_band(values)
    seeds = (~np.isnan(values)).sum(0)
    fewer = seeds < len(curves)
    faint = ~np.isnan(middle) & (fewer | np.append(fewer[1:], False) | np.append(False, fewer[:-1]))
    return grid, middle, low, high, seeds, fewer, faint


def draw_line(axes, curves, label, style, tolerance=0):
    """Draw the runs of one line, their points at most `tolerance` apart being one; return how many seeds its mean has, point for point."""
    grid, middle, low, high, seeds, fewer, faint = mean_of(curves, tolerance)
    drawn = ~np.isnan(middle)
    dot = lambda xs: dict(marker="o" if len(xs) == 1 else None)  # A line of one point would be invisible.
    if len(curves) > 1:
        for curve in curves:
            axes.plot(curve.x, curve.y, color=style["color"], linewidth=0.5, alpha=0.35, markersize=1.5, **dot(curve.x),
                      gid=f"seed {curve.settings['seed']}")
        for where, alpha in ((~fewer, 0.16), (faint, 0.07)):
            axes.fill_between(grid, low, high, where=where, alpha=alpha, color=style["color"], linewidth=0)
        axes.plot(grid, np.where(faint, middle, np.nan), **style, linewidth=1.4, alpha=0.35, gid="fewer seeds")
    axes.plot(grid[~fewer], middle[~fewer], **style, linewidth=1.4, markersize=3, **dot(grid[~fewer]), label=label)
    return seeds[drawn] if drawn.any() else [len(curves)]


