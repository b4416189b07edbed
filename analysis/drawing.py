"""How every figure looks: colours, labels, legends, and the files into which figures are saved."""

import contextlib
import itertools
import pathlib
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D

from storage import files, layout

if TYPE_CHECKING:  # It imports this file.
    from analysis.curves import Curve

Style = dict[str, Any]  # keywords of Matplotlib for colour and dashes

# Okabe & Ito 2008, and of Paul Tol's muted scheme the last five: colour-blind readers can tell them apart. A network
# has the same colour in every figure.
COLOURS = {"DRQN": "#D55E00", "DQN": "#0072B2", "DRQN_ReLU": "#CC79A7", "DRQN_after_dense": "#E69F00",
           "DRQN_after_dense_ReLU": "#009E73", "DQN2013": "#56B4E9", "DRQN_RNN2": "#000000",
           "PQN": "#999933", "PQN_LSTM": "#AA4499", "PQN_dense_LSTM": "#882255",
           "R2D2": "#332288", "R2D2_screen": "#44AA99"}
MORE_COLOURS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # for networks that are not in COLOURS
DASHES = ("-", (0, (4, 1.3)), (0, (1.2, 1.2)), (0, (5, 1.3, 1.2, 1.3)))  # for the variants of a network
RANDOM = dict(color="#808080", linestyle=(0, (4, 3)), linewidth=0.8)  # the line of random play
BEHIND = dict(color="#c4c4c4", linewidth=0.8, zorder=1.5)  # a line behind the one that a panel is about
STYLE = {
    "font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7,
    "legend.fontsize": 7, "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": "#e6e6e6", "grid.linewidth": 0.5, "xtick.major.width": 0.6,
    "ytick.major.width": 0.6, "savefig.dpi": 300, "svg.hashsalt": "curves",
    "text.parse_math": False,  # A dollar sign in a name is one.
    # Glyphs are paths or embedded TrueType, so that they look the same on every machine.
    "svg.fonttype": "path", "pdf.fonttype": 42,
}
WIDTH = 3.5  # inches of a journal's column
CHARACTERS = 17  # characters of a legend per inch


def setting_text(name: str, value: Any) -> str:
    """Return a setting as labels and titles write it."""
    if name in ("network", "env"):
        return value
    if name == "history":
        return f"{value} frame{'' if value == 1 else 's'}"
    return f"{name} {'none' if value is None else f'{value:g}' if isinstance(value, float) else value}"


def sort_key(value: Any) -> tuple[int, float, str]:
    """Return a key that sorts the values of a setting: None first, then numbers by size, then the rest as text."""
    is_number = isinstance(value, int | float)
    return (0 if value is None else 1 if is_number else 2), value if is_number else 0, str(value)


def settings_in_labels(curves: Sequence["Curve"], apart: Sequence[str] = ()) -> dict[str, list[str]]:
    """Return which settings the labels of each network name: its history, and those in which its lines differ.

    Only lines on one game are compared.

    Args:
        curves: [curves.Curve, ...].
        apart: settings that panels tell apart already.

    Returns:
        {network: [setting, ...]}.
    """
    in_labels: dict[str, dict[str, None]] = {}  # of dicts, as ordered sets
    flickers_of_env: dict[str, set[float]] = {}
    for curve in curves:
        network, env = curve.settings["network"], curve.settings["env"]
        peers = [peer.settings for peer in curves if (peer.game, peer.settings["network"]) == (curve.game, network)]
        differing = [name for name in curve.settings
                     if name not in layout.SAME_LINE and len({str(settings.get(name)) for settings in peers}) > 1]
        in_labels.setdefault(network, {"history": None}).update(dict.fromkeys(differing))
        flickers_of_env.setdefault(env, set()).add(curve.settings["flicker"])
    if any(len(flickers) > 1 or ("env" in apart and any(flickers)) for flickers in flickers_of_env.values()):
        in_labels = {network: {"history": None, "flicker": None, **names} for network, names in in_labels.items()}
    return {network: [name for name in names if name not in apart] for network, names in in_labels.items()}


def style_lines(curves: Sequence["Curve"], in_labels: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, Style]]:
    """Return the label and the style of each line.

    A network has one colour. Its variants are shades of this colour, from dark to light.

    Args:
        curves: [curves.Curve, ...].
        in_labels: the settings that labels name, from `settings_in_labels`.

    Returns:
        {line: (label, keywords of Matplotlib for colour and dashes)}.
    """
    unknown = sorted({curve.settings["network"] for curve in curves} - COLOURS.keys())
    styles: dict[str, tuple[str, Style]] = {}
    for network, colour in (COLOURS | dict(zip(unknown, itertools.cycle(MORE_COLOURS)))).items():
        values_of_line = {curve.line: [curve.settings.get(name) for name in in_labels[network]]
                          for curve in curves if curve.settings["network"] == network}
        variants = sorted({str(values): values for values in values_of_line.values()}.values(),
                          key=lambda values: list(map(sort_key, values)))
        for i, variant in enumerate(variants):
            # Below zero a shade mixes the colour with black, above zero with white.
            shade = 0.8 * i / (len(variants) - 1) - 0.4 if len(variants) > 1 else 0.0
            mixed = tuple(c + shade * (1 - c if shade > 0 else c) for c in to_rgb(colour))
            style = dict(color=mixed, linestyle=DASHES[i % len(DASHES)])
            label = ", ".join([network, *map(setting_text, in_labels[network], variant)])
            styles |= {line: (label, style) for line, values in values_of_line.items() if values == variant}
    return styles


def choose_columns(num_panels: int) -> int:
    """Return over how many columns so many panels are laid out."""
    return {1: 1, 2: 2, 4: 2}.get(num_panels, 3)


def figure_width(num_columns: int) -> float:
    """Return the width, in inches, of a figure with so many columns of panels."""
    return WIDTH if num_columns == 1 else 2 * WIDTH * max(1, num_columns / 4)


def fold_label(label: str, characters: int) -> str:
    """Return a label in lines of at most so many characters; no break separates a setting from its value."""
    unbroken = re.sub("(?<!,) ", "\N{NO-BREAK SPACE}", label)
    return textwrap.fill(unbroken, characters).replace("\N{NO-BREAK SPACE}", " ")


def add_legend(figure: "matplotlib.figure.Figure", width: float, styles: Mapping[str, Style],
               num_seeds: Mapping[str, Sequence[int]], sentence: str = "",
               other_styles: Mapping[str, Style] | None = None) -> int:
    """Put a legend of all lines, and a sentence on how to read them, below the panels.

    Args:
        width: of the figure, in inches.
        styles: {label: keywords for colour and dashes}.
        num_seeds: {label: [seeds in the mean, at each point of each panel]}.
        sentence: is appended to the legend's sentence.
        other_styles: {label: keywords} of lines that have no seeds.

    Returns:
        the height of the legend in lines of text.
    """
    title = "Lines are single seeds."
    if max(map(max, num_seeds.values())) > 1:
        has_faint = any(min(counts) < max(counts) for counts in num_seeds.values())
        title = ("Interquartile mean over seeds with 95% bootstrap band; thin: single seeds"
                 f"{'; faint: not from all seeds' * has_faint}.")
    handles: list[Any] = []  # of Line2D; Matplotlib says that its label is any object
    for label, style in styles.items():
        low, high = min(num_seeds[label]), max(num_seeds[label])
        count = f"{low}" if low == high else f"{low}\N{EN DASH}{high}"
        label = f"{label} ({count} seed{'' if high == 1 else 's'})"
        handles.append(Line2D([], [], **style, linewidth=1.4, label=label))
    handles += [Line2D([], [], **style, label=label) for label, style in (other_styles or {}).items()]
    characters = int(width * CHARACTERS)
    longest = max(len(handle.get_label()) for handle in handles)
    columns = max(1, min(len(handles), characters // (longest + 8)))
    for handle in handles:
        handle.set_label(fold_label(handle.get_label(), characters - 8))
    title = textwrap.fill(title + sentence, characters)
    legend = figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, title=title,
                           title_fontsize=7, handlelength=2.6)
    legend.get_title().set_multialignment("center")
    return title.count("\n") + 1 + sum(handle.get_label().count("\n") + 1 for handle in handles[::columns])


def save_figure(figure: "matplotlib.figure.Figure", out: str) -> list[pathlib.Path]:
    """Write <out>.png and <out>.svg, or <out> alone where it ends in .pdf.

    Returns:
        the paths of the files.

    Raises:
        ValueError: out cannot be the path of these files.
    """
    out = out.removesuffix(".png").removesuffix(".svg")
    suffix = pathlib.Path(out).suffix[1:]
    is_kind = suffix in figure.canvas.get_supported_filetypes() or re.fullmatch("[A-Za-z]{2,5}", suffix)
    if is_kind and suffix != "pdf":
        raise ValueError(f"--out={out} asks for .{suffix}; expected .pdf, or a path to which .png and .svg are added")
    if not out or out.endswith("/") or pathlib.Path(out).is_dir():
        raise ValueError(f"--out={out} is a directory; expected a path to which .png and .svg are added, "
                         f"such as {out.rstrip('/')}/curves")
    paths = [pathlib.Path(out)] if suffix == "pdf" else [pathlib.Path(f"{out}.{kind}") for kind in ("png", "svg")]
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}  # The same runs give the same bytes.
    try:
        paths[0].parent.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context(STYLE), contextlib.ExitStack() as whole:  # A full disk leaves all as it was.
            for path in paths:
                aside = whole.enter_context(files.written_whole(path))
                figure.savefig(aside, metadata=undated.get(path.suffix))
    except OSError as error:
        reason = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
        raise ValueError(f"--out={out} cannot be written ({reason})") from error
    return paths
