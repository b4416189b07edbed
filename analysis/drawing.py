"""How every figure looks: colours, labels, legends, and the files that they become."""

import itertools
import pathlib
import re
import textwrap

import matplotlib
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D

from storage import layout

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
        differ = [name for name in own if name not in layout.SAME_LINE and len({str(peer.get(name)) for peer in peers}) > 1]
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


def columns_of(num_panels):
    return {1: 1, 2: 2, 4: 2}.get(num_panels, 3)


def width_of(columns):
    """Return the inches of a figure of so many columns of panels."""
    return WIDTH if columns == 1 else 2 * WIDTH * max(1, columns / 4)


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
