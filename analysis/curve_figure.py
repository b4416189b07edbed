"""The figure of learning curves: panels for games or settings, a line over seeds for each agent."""

import dataclasses
import difflib
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import matplotlib
import numpy as np

from analysis import drawing
from analysis.curves import BINS, X_LABELS, Y_LABELS, Curve, RandomPlay, mean_curve, mean_random_play, tolerance_of

LINES = "lines"  # as a column of panels: a panel for each line, the other lines behind it
MOST_COLUMNS = 5  # of these panels, before they go on in the row below
MOST_CHARACTERS = 28  # in a line of such a panel's title


@dataclasses.dataclass
class Panel:
    """The curves of one pair of axes, those behind them, and the titles above and at the right of these axes."""

    row: int
    column: int
    curves: list[Curve]
    title: str = ""
    row_title: str = ""
    behind: Sequence[Curve] = ()


def arrange_curves(curves: Sequence[Curve], in_labels: Mapping[str, Sequence[str]], grid_rows: str | None = None,
                   grid_columns: str | None = None) -> list[Panel]:
    """Return a panel for each game and flicker, or for each pair of values of two settings.

    Args:
        in_labels: the settings that labels name, from `drawing.settings_in_labels`.
        grid_rows, grid_columns: names of settings; or LINES as grid_columns alone, for small multiples: a panel for
            each line, and the others of its game and flicker behind it.

    Raises:
        ValueError: a setting is unknown, or panels would mix environments.
    """
    grid = [name for name in (grid_rows, grid_columns) if name]
    screens = lambda curve: (curve.game, curve.settings["flicker"])
    groups = [[curve for curve in curves if screens(curve) == group] for group in sorted(set(map(screens, curves)))]
    if grid == [LINES] == [grid_columns]:
        return _arrange_lines(groups)
    if grid_columns == LINES:
        raise ValueError(f"--grid_columns={LINES} was given with --grid_rows={grid_rows}; expected one of them alone")
    known = {name for curve in curves for name in curve.settings}
    for name in grid:
        if name not in known:
            near = difflib.get_close_matches(name, known, 3, 0.4)
            raise ValueError(f"{name} is no flag of these runs; "
                             f"expected one such as {', '.join(near or sorted(known)[:3])}")
    if grid_rows and grid_rows == grid_columns:
        raise ValueError(f"--grid_rows and --grid_columns are both {grid_rows}; "
                         "expected two flags, or one of them alone")
    games = sorted({curve.game for curve in curves})
    if grid and len(games) > 1 and "env" not in grid:
        raise ValueError(f"these are runs of {', '.join(games)}; expected runs of one environment, or --grid_rows=env")
    if not grid:
        columns = drawing.choose_columns(len(groups))
        return [Panel(i // columns, i % columns, group, describe_env(group, in_labels))
                for i, group in enumerate(groups)]
    value_of = lambda curve, name: curve.settings.get(name)  # None where there is no name
    values_of = lambda name: {str(value): value for value in (value_of(curve, name) for curve in curves)}.values()
    row_values, column_values = (sorted(values_of(name), key=drawing.sort_key) for name in (grid_rows, grid_columns))
    panels = []
    for (i, row), (j, column) in itertools.product(enumerate(row_values), enumerate(column_values)):
        inside = [curve for curve in curves
                  if (value_of(curve, grid_rows), value_of(curve, grid_columns)) == (row, column)]
        title = drawing.setting_text(grid_columns, column) if grid_columns and i == 0 else ""
        row_title = drawing.setting_text(grid_rows, row) if grid_rows and column == column_values[-1] else ""
        panels.append(Panel(i, j, inside, title, row_title))
    return panels


def _arrange_lines(groups):
    """Return the panels of small multiples: each line of a group of curves by itself, the others behind it."""
    panels, row = [], 0
    for group in groups:
        in_labels = drawing.settings_in_labels(group, ["flicker"])
        labels = {line: label for line, (label, _) in drawing.style_lines(group, in_labels).items()}
        for number, (line, label) in enumerate(labels.items()):
            inside, behind = ([curve for curve in group if (curve.line == line) == own] for own in (True, False))
            seeds = f"{len(inside)} seed{'' if len(inside) == 1 else 's'}"
            title = drawing.fold_label(f"{label} ({seeds})", MOST_CHARACTERS)
            last = number % MOST_COLUMNS == MOST_COLUMNS - 1 or number == len(labels) - 1
            panels.append(Panel(row + number // MOST_COLUMNS, number % MOST_COLUMNS, inside, title,
                                describe_env(group, in_labels) if last else "", behind))
        row += -(-len(labels) // MOST_COLUMNS)
    return panels


def describe_env(curves: Sequence[Curve], in_labels: Mapping[str, Sequence[str]], grid: Sequence[str] = ()) -> str:
    """Return the game of curves as a title, with its flicker where neither labels nor the grid say it."""
    settings, game = curves[0].settings, curves[0].game
    is_said = "flicker" in grid or any("flicker" in names for names in in_labels.values()) or not settings["flicker"]
    return game if is_said else f"{game}, {drawing.setting_text('flicker', settings['flicker'])}"


def draw_curves(curves: Sequence[Curve], x: str = "agent_step", y: str = "eval", grid_rows: str | None = None,
                grid_columns: str | None = None, random_play: RandomPlay | None = None) -> "matplotlib.figure.Figure":
    """Return the figure of curves.

    Args:
        curves: from read_curves(..., x, y).
        grid_rows, grid_columns: as of arrange_curves. Each value of a setting gets a row or a column of panels. By
            default there is a panel for each game and flicker.
        random_play: {directory: returns of random play}. A panel has a line at their mean over its runs.

    Raises:
        ValueError: a setting is unknown, or panels would mix environments.
    """
    grid = [name for name in (grid_rows, grid_columns) if name]
    one_each = grid == [LINES]
    in_labels = drawing.settings_in_labels(curves, grid if grid and not one_each else ["flicker"])
    panels = arrange_curves(curves, in_labels, grid_rows, grid_columns)
    styles = drawing.style_lines(curves, in_labels)
    rows, columns = 1 + max(panel.row for panel in panels), 1 + max(panel.column for panel in panels)
    width = drawing.figure_width(columns)
    by_row, by_column = one_each or grid_rows == "env", grid_columns == "env"
    share: Literal["none", "row", "col", "all"] = (
        "none" if not grid else "row" if by_row else "col" if by_column else "all")
    from matplotlib.figure import Figure  # here, since a mistake is answered before that is imported
    from matplotlib.ticker import EngFormatter, MaxNLocator
    with matplotlib.rc_context(drawing.STYLE):
        figure = Figure(layout="constrained")
        grid_axes = figure.subplots(rows, columns, squeeze=False, sharex=share, sharey=share)
        places = {(panel.row, panel.column) for panel in panels}
        num_seeds: dict[str, list[int]] = {}  # label -> seeds in its mean, at each point of each panel
        for panel in panels:
            axes = grid_axes[panel.row, panel.column]
            has_one_below = (panel.row + 1, panel.column) in places
            axes.set(title=panel.title, xlabel="" if has_one_below else X_LABELS[x],
                     ylabel="" if panel.column else Y_LABELS[y])
            axes.annotate(panel.row_title, (1, 0.5), (5, 0), "axes fraction", "offset points", rotation=270, ha="left",
                          va="center")
            for line, (label, style) in styles.items():
                seeds, others = ([curve for curve in of_panel if curve.line == line]
                                 for of_panel in (panel.curves, panel.behind))
                if others:
                    axes.plot(*mean_curve(others, tolerance_of(others, x))[:2], **drawing.BEHIND)
                if seeds:
                    counts = draw_line(axes, seeds, label, style, tolerance_of(seeds, x))
                    num_seeds.setdefault(label, []).extend(counts)
            _draw_random_play(axes, mean_random_play(panel.curves, random_play or {}))
            if not panel.curves:
                axes.text(0.5, 0.5, "no runs", transform=axes.transAxes, ha="center", va="center", color="#888888",
                          fontsize=7)
            axes.set_xlim(left=0)
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.yaxis.set_major_locator(MaxNLocator(5))
            if x != "hours":
                axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        for place in itertools.product(range(rows), range(columns)):
            if place not in places:
                grid_axes[place].remove()
        if grid and not one_each and "env" not in grid:
            figure.suptitle(describe_env(curves, in_labels, grid), fontsize=9)
        sentence = f" Each point is the mean of the episodes in 1/{BINS} of the axis." if y == "train" else ""
        keys = ({}, {"the other lines": drawing.BEHIND}) if one_each else (dict(styles.values()), None)
        text_lines = drawing.add_legend(figure, width, keys[0], num_seeds, sentence, keys[1])
        text_lines += sum(max(panel.title.count("\n") for panel in panels if panel.row == row) for row in range(rows))
        figure.set_size_inches(width, rows * max(1.6, 0.6 * width / columns) + 0.14 * text_lines + 0.3)
    return figure


def _draw_random_play(axes, level):
    """Draw a dashed line at random play's mean return; None draws nothing."""
    if level is not None:
        axes.axhline(level, **drawing.RANDOM, label=f"random play {level:,.2f}")
        axes.legend(handles=axes.lines[-1:], fontsize=6, labelcolor=drawing.RANDOM["color"], edgecolor="none",
                    borderpad=0.1)


def draw_line(axes: "matplotlib.axes.Axes", curves: Sequence[Curve], label: str, style: drawing.Style,
              tolerance: float = 0) -> np.ndarray | list[int]:
    """Draw the runs of one line: thin lines for seeds, their band, their mean.

    Args:
        curves: the seeds of the line.
        tolerance: points that are no further apart are one point.

    Returns:
        how many seeds are in the mean, at each of its points.
    """
    x, middle, low, high, seeds, fewer, faint = mean_curve(curves, tolerance)
    has_mean = ~np.isnan(middle)
    # A line of one point would be invisible.
    dot = lambda points: dict[str, Any](marker="o" if len(points) == 1 else None)
    if len(curves) > 1:
        for curve in curves:
            axes.plot(curve.x, curve.y, color=style["color"], linewidth=0.5, alpha=0.35, markersize=1.5, **dot(curve.x),
                      gid=f"seed {curve.settings['seed']}")
        for where, alpha in ((~fewer, 0.16), (faint, 0.07)):
            axes.fill_between(x, low, high, where=where, alpha=alpha, color=style["color"], linewidth=0)
        axes.plot(x, np.where(faint, middle, np.nan), **style, linewidth=1.4, alpha=0.35, gid="fewer seeds")
    axes.plot(x[~fewer], middle[~fewer], **style, linewidth=1.4, markersize=3, **dot(x[~fewer]), label=label)
    return seeds[has_mean] if has_mean.any() else [len(curves)]
