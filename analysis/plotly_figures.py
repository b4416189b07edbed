"""The figures of the page, drawn by Plotly: learning curves and sweeps with the lines and colours of plot.py."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from markupsafe import Markup
from matplotlib.colors import to_hex, to_rgb

from analysis import curve_figure, curves, drawing, sweeps

WIDTHS = dict(band=0, seed=0.8, other=1.4, mean=2.2)  # kind of a line -> its width; kinds in the order of drawing


def plotly_style(style: drawing.Style) -> dict[str, str]:
    """Return a line's style for Plotly from keywords of Matplotlib.

    Returns:
        dict(light, dark, dash): the colour on a light page, the colour on a dark page, the dashes.
    """
    dashes = style["linestyle"]
    rgb = np.array(to_rgb(style["color"]))
    whiter = rgb + 0.6 * (1 - rgb.max()) * (1 - rgb)  # The darker a colour is, the more white it gets.
    dash = "solid" if dashes == "-" else ",".join(f"{2 * length:g}px" for length in dashes[1])
    return dict(light=to_hex(rgb), dark=to_hex(whiter), dash=dash)


def make_trace(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray, label: str, style: drawing.Style,
               kind: str, name: str | None = None, **settings: Any) -> "go.Scatter":
    """Return a line, or a dot where it has one point.

    Args:
        label: the checkbox of the page that hides the line.
        style: keywords of Matplotlib.
        kind: a key of WIDTHS. The page can hide all lines of kind `seed`.
        name: of the line where the pointer is above it; by default its label.
        settings: more keywords of Plotly.
    """
    colours = plotly_style(style)
    hover = dict(hoverinfo="skip") if kind == "band" else dict(hovertemplate="%{y:,.2f} at %{x}")
    dash = colours["dash"] if kind != "seed" else "solid"
    return go.Scatter(
        x=np.asarray(x).tolist(), y=np.asarray(y).tolist(), name=name or label,
        mode="lines" if len(x) > 1 else "markers", line=dict(color=colours["light"], width=WIDTHS[kind], dash=dash),
        marker=dict(size=6 if kind == "mean" else 3), meta=dict(label=label, kind=kind, **colours), **hover, **settings)


def make_line_traces(seeds: Sequence[curves.Curve], label: str, style: drawing.Style,
                     tolerance: float = 0) -> list["go.Scatter"]:
    """Return the traces of one line, as curve_figure.draw_line draws them: its band, its seeds, its mean.

    Args:
        seeds: [curves.Curve, ...], the runs of the line.
        tolerance: points that are no further apart are one point.
    """
    x, middle, low, high, _, fewer, faint = curves.mean_curve(seeds, tolerance)
    traces = []
    if len(seeds) > 1:
        for where, opacity in ((~fewer, 0.16), (faint, 0.07)):
            has_band = where & ~np.isnan(low)
            if has_band.any():
                outline_x = np.concatenate([x[has_band], x[has_band][::-1]])
                outline_y = np.concatenate([high[has_band], low[has_band][::-1]])
                traces.append(make_trace(outline_x, outline_y, label, style, "band", fill="toself",
                                         fillcolor=plotly_style(style)["light"], opacity=opacity))
        traces += [make_trace(seed.x, seed.y, label, style, "seed", f"seed {seed.settings['seed']}", opacity=0.4)
                   for seed in seeds]
        if faint.any():
            traces.append(make_trace(x, np.where(faint, middle, np.nan), label, style, "mean",
                                     f"{label}, not all seeds", opacity=0.4))
    return [*traces, make_trace(x[~fewer], middle[~fewer], label, style, "mean")]


def make_figure(title: str, traces: Sequence["go.Scatter"], x_title: str, y_title: str,
                **x_axis: Any) -> dict[str, str]:
    """Return a figure for the page.

    Args:
        x_axis: more keywords of Plotly for the x axis.

    Returns:
        dict(title, alt, json): the title, a description for readers who do not see the figure, the figure as JSON.
    """
    labels = list(dict.fromkeys(trace.meta["label"] for trace in traces))
    figure = go.Figure(sorted(traces, key=lambda trace: list(WIDTHS).index(trace.meta["kind"])), dict(
        template="none", height=320, margin=dict(l=56, r=12, t=30, b=44), showlegend=False, hovermode="closest",
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", font_size=12,
        xaxis=dict(title=dict(text=x_title, standoff=8), rangemode="tozero", zeroline=False, nticks=6, **x_axis),
        yaxis=dict(title=dict(text=y_title, standoff=8), zeroline=False, nticks=6)))
    return dict(title=title, alt=f"{y_title} over {x_title}, {title}: {'; '.join(labels)}",
                json=Markup(figure.to_json()))  # Plotly escapes every sign that could end a script.


def make_curve_figures(run_curves: Sequence[curves.Curve], in_labels: Mapping[str, Sequence[str]],
                       styles: Mapping[str, tuple[str, drawing.Style]], y: str,
                       random_play: curves.RandomPlay) -> list[dict[str, str]]:
    """Return a figure for each panel of curve_figure.arrange_curves: one per game and flicker.

    Args:
        run_curves: from curves.read_curves(..., y=y).
        in_labels, styles: from drawing.settings_in_labels and drawing.style_lines.
        random_play: {directory: returns of random play}.
    """
    figures = []
    for panel in curve_figure.arrange_curves(run_curves, in_labels) if run_curves else []:
        traces = []
        for line, (label, style) in styles.items():
            seeds = [curve for curve in panel.curves if curve.line == line]
            if seeds:
                traces += make_line_traces(seeds, label, style, curves.tolerance_of(seeds, "agent_step"))
        level = curves.mean_random_play(panel.curves, random_play)
        if level is not None:
            end = max(curve.x[-1] for curve in panel.curves)
            traces.append(make_trace((0, end), (level, level), "random play", drawing.RANDOM, "other",
                                     f"random play {level:,.2f}"))
        y_title = curves.Y_LABELS[y].replace("\n", " ")
        figures.append(make_figure(panel.title, traces, curves.X_LABELS["agent_step"], y_title, tickformat="~s"))
    return figures


def make_sweep_figures(run_sweeps: Sequence[sweeps.Sweep],
                       styles: Mapping[str, tuple[str, drawing.Style]]) -> list[dict[str, str]]:
    """Return a figure for each panel of sweeps.arrange_sweeps: one per environment and probability of training.

    Args:
        run_sweeps: from sweeps.read_sweeps.
        styles: from drawing.style_lines.
    """
    figures = []
    for title, inside in sweeps.arrange_sweeps(run_sweeps):
        envs, traces = {sweep.settings["env"] for sweep in inside}, []
        if inside[0].trained == 1:
            traces += [make_trace(x, y, sweeps.paper_label(network), sweeps.PAPER_STYLES[network], "other")
                       for network, (x, y) in sweeps.read_paper_sweeps().items()]
        for label, style in dict(styles.values()).items():
            of_label = [sweep for sweep in inside if styles[sweep.line][0] == label]
            if len(envs) == 1 and of_label:
                traces += make_line_traces(of_label, label, style)
            elif {sweep.settings["env"] for sweep in of_label} == envs:
                x, mean, _ = sweeps.mean_over_environments(of_label)
                traces.append(make_trace(x, mean, label, style, "mean"))
        title = title.replace("\n", ", ")
        if all("random" in sweep.formula for sweep in inside):
            title += ", random play being 0"
        figures.append(make_figure(title, traces, "probability that a screen is shown", "fraction of original score",
                                   tickformat=".1f"))
    return figures
