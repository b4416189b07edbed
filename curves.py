"""Learning curves of runs as figures: panels, lines with their bands over seeds, legends; and how every figure looks."""

import dataclasses
import difflib
import itertools
import pathlib
import re
import textwrap

import matplotlib
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

import stats

X_LABELS = {"agent_step": "agent steps", "frames": "emulator frames", "hours": "hours of training",
            "episodes": "complete training episodes"}
Y_LABELS = {"eval": "evaluation return\n(raw reward)", "train": "training return\n(raw reward)"}
COLOURS = {"DRQN": "#D55E00", "DQN": "#0072B2", "DRQN_ReLU": "#CC79A7", "DRQN_after_dense": "#E69F00", "DRQN_after_dense_ReLU": "#009E73",
           "DQN2013": "#56B4E9", "DRQN_RNN2": "#000000"}  # Okabe & Ito 2008: told apart by colour-blind readers; everywhere the same
MORE_COLOURS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # for networks that models.py has no more
RANDOM = dict(color="#808080", linestyle=(0, (4, 3)), linewidth=0.8)
DASHES = ("-", (0, (4, 1.3)), (0, (1.2, 1.2)), (0, (5, 1.3, 1.2, 1.3)))  # for the variants of a network
STYLE = {"font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7, "legend.fontsize": 7,
         "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6, "axes.grid": True, "axes.axisbelow": True,
         "grid.color": "#e6e6e6", "grid.linewidth": 0.5, "xtick.major.width": 0.6, "ytick.major.width": 0.6, "savefig.dpi": 300,
         "svg.fonttype": "path", "svg.hashsalt": "curves", "pdf.fonttype": 42}  # glyphs as paths or embedded TrueType: the same everywhere
WIDTH, CHARACTERS = 3.5, 17  # inches of a journal's column; characters of the legend per inch


@dataclasses.dataclass
class Panel:
    """Curves in one pair of axes, and what is written beside it."""

    row: int
    column: int
    curves: list
    title: str = ""
    row_title: str = ""


def show(name, value):
    """Return a setting as it is written in labels and titles."""
    if name in ("network", "env"):
        return value
    if name == "history":
        return f"{value} frame{'' if value == 1 else 's'}"
    return f"{name} {'none' if value is None else f'{value:g}' if isinstance(value, float) else value}"


def order(value):
    """Return a key that sorts None first, then numbers by size, then the rest."""
    number = isinstance(value, int | float)
    return (0 if value is None else 1 if number else 2), value if number else 0, str(value)


def label_settings(curves, apart=()):
    """Return {network: the settings that its labels name}: history, and those in which its lines on one game differ.

    Args:
        apart: settings that panels tell apart.
    """
    of_network, flickers = {}, {}
    for curve in curves:
        own = curve.settings
        peers = [c.settings for c in curves if (c.game, c.settings["network"]) == (curve.game, own["network"])]
        differ = [name for name in own if name not in stats.SAME_LINE and len({str(peer.get(name)) for peer in peers}) > 1]
        of_network.setdefault(own["network"], {"history": None}).update(dict.fromkeys(differ))
        flickers.setdefault(own["env"], set()).add(own["flicker"])
    if any(len(values) > 1 or ("env" in apart and any(values)) for values in flickers.values()):
        of_network = {network: {"history": None, "flicker": None, **names} for network, names in of_network.items()}
    return {network: [name for name in names if name not in apart] for network, names in of_network.items()}


def style_lines(curves, names):
    """Return {line: (label, colour and dashes)}: a colour per network, of which its variants are shades, dark to light.

    Args:
        names: of `label_settings`.
    """
    others = sorted({curve.settings["network"] for curve in curves} - COLOURS.keys())
    styles = {}
    for network, colour in (COLOURS | dict(zip(others, itertools.cycle(MORE_COLOURS)))).items():
        lines = {curve.line: [curve.settings.get(name) for name in names[network]]
                 for curve in curves if curve.settings["network"] == network}
        variants = sorted({str(values): values for values in lines.values()}.values(), key=lambda values: list(map(order, values)))
        for i, variant in enumerate(variants):
            shade = 0.8 * i / (len(variants) - 1) - 0.4 if len(variants) > 1 else 0.0  # of black below zero, of white above
            style = dict(color=tuple(c + shade * (1 - c if shade > 0 else c) for c in to_rgb(colour)), linestyle=DASHES[i % len(DASHES)])
            label = ", ".join([network, *map(show, names[network], variant)])
            styles |= {line: (label, style) for line, values in lines.items() if values == variant}
    return styles


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
        columns = columns_of(len(each))
        return [Panel(i // columns, i % columns, own, describe_env(own, names)) for i, own in enumerate(each)]
    values = [sorted({str(v): v for v in (c.settings.get(name) for c in curves)}.values(), key=order) for name in (grid_rows, grid_columns)]
    panels = []
    for (i, row), (j, column) in itertools.product(*map(enumerate, values)):
        own = [c for c in curves if (c.settings.get(grid_rows), c.settings.get(grid_columns)) == (row, column)]
        panels.append(Panel(i, j, own, show(grid_columns, column) if grid_columns and i == 0 else "",
                            show(grid_rows, row) if grid_rows and column == values[1][-1] else ""))
    return panels


def columns_of(num_panels):
    return {1: 1, 2: 2, 4: 2}.get(num_panels, 3)


def width_of(columns):
    """Return the inches of a figure of so many columns of panels."""
    return WIDTH if columns == 1 else 2 * WIDTH * max(1, columns / 4)


def describe_env(curves, names, grid=()):
    """Return the environment of curves, and its flicker where labels do not tell."""
    settings, game = curves[0].settings, curves[0].game
    told = "flicker" in grid or any("flicker" in own for own in names.values()) or not settings["flicker"]
    return game if told else f"{game}, {show('flicker', settings['flicker'])}"


def draw(curves, x="agent_step", y="eval", grid_rows=None, grid_columns=None, random_play=None):
    """Return the figure of curves.

    Args:
        curves: of stats.read_curves(..., x, y).
        grid_rows, grid_columns: settings, a row or column of panels for each of their values; by default a panel per environment and
            flicker.
        random_play: {directory: its returns}; each panel has a line at the mean of those of its runs.

    Raises:
        ValueError: as `arrange`.
    """
    grid = [name for name in (grid_rows, grid_columns) if name]
    names = label_settings(curves, grid or ["flicker"])
    panels = arrange(curves, names, grid_rows, grid_columns)
    styles = style_lines(curves, names)
    rows, columns = 1 + max(panel.row for panel in panels), 1 + max(panel.column for panel in panels)
    width = width_of(columns)
    share = "none" if not grid else "row" if grid_rows == "env" else "col" if grid_columns == "env" else "all"
    with matplotlib.rc_context(STYLE):
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
                axes.axhline(level, **RANDOM, label=f"random play {level:,.2f}")
                axes.legend(handles=axes.lines[-1:], fontsize=6, labelcolor=RANDOM["color"], edgecolor="none", borderpad=0.1)
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
        text = f" Each point is the mean of the episodes in 1/{stats.BINS} of the axis." if y == "train" else ""
        text_lines = add_legend(figure, width, dict(styles.values()), seeds, text)
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
    grid, values = stats.align([(curve.x, curve.y) for curve in curves], tolerance)
    middle, low, high = stats.interquartile_band(values)
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


def add_legend(figure, width, styles, seeds, more="", others=None):
    """Put the lines of all panels and what they show below them, in a figure of `width` inches; return the lines of text.

    Args:
        styles: {label: colour and dashes}.
        seeds: {label: how many its mean has, point for point}.
        more: what to say besides.
        others: {label: style} of lines without seeds.
    """
    text = "Lines are single seeds."
    if max(map(max, seeds.values())) > 1:
        fewer = any(min(own) < max(own) for own in seeds.values())
        text = f"Interquartile mean over seeds with 95% bootstrap band; thin: single seeds{'; faint: not from all seeds' * fewer}."
    text, handles = text + more, []
    for label, style in styles.items():
        low, high = min(seeds[label]), max(seeds[label])
        count = f"{low}" if low == high else f"{low}\N{EN DASH}{high}"
        handles.append(Line2D([], [], **style, linewidth=1.4, label=f"{label} ({count} seed{'' if high == 1 else 's'})"))
    handles += [Line2D([], [], **style, label=label) for label, style in (others or {}).items()]
    characters = int(width * CHARACTERS)
    across = max(1, min(len(handles), characters // (max(len(handle.get_label()) for handle in handles) + 8)))
    for handle in handles:
        whole = re.sub("(?<!,) ", "\N{NO-BREAK SPACE}", handle.get_label())  # A setting keeps its value.
        handle.set_label(textwrap.fill(whole, characters - 8).replace("\N{NO-BREAK SPACE}", " "))
    title = textwrap.fill(text, characters)
    legend = figure.legend(handles=handles, loc="outside lower center", ncols=across, frameon=False, title=title, title_fontsize=7,
                           handlelength=2.6)
    legend.get_title().set_multialignment("center")
    return title.count("\n") + 1 + sum(handle.get_label().count("\n") + 1 for handle in handles[::across])


def save(figure, out):
    """Write <out>.png and <out>.svg, or `out` where it ends in .pdf; return their paths.

    Raises:
        ValueError: out is no path for them.
    """
    out = out.removesuffix(".png").removesuffix(".svg")
    suffix = pathlib.Path(out).suffix[1:]
    if suffix in figure.canvas.get_supported_filetypes() and suffix != "pdf":
        raise ValueError(f"--out={out} asks for .{suffix}; expected .pdf, or a path to which .png and .svg are added")
    if not out or out.endswith("/") or pathlib.Path(out).is_dir():
        raise ValueError(f"--out={out} is a directory; expected a path to which .png and .svg are added, such as {out.rstrip('/')}/curves")
    paths = [pathlib.Path(out)] if suffix == "pdf" else [pathlib.Path(f"{out}.{kind}") for kind in ("png", "svg")]
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}  # The same bytes for the same runs.
    try:
        paths[0].parent.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context(STYLE):
            for path in paths:
                figure.savefig(path, metadata=undated.get(path.suffix))
    except OSError as error:
        raise ValueError(f"--out={out} cannot be written ({error.strerror}: {error.filename})") from error
    return paths
