"""Runs as one HTML page that opens from a file, without a network: what they came to, curves, tables, films, and their commands.

    python report.py runs/* -o report.html

An argument is a run or a folder of runs; default: runs. Runs that differ in nothing but seed, maxsteps, eval_period and checkpoint_period
are one experiment. Curves, tables and sweeps are those of plot.py, with the same statistics. Films and pictures (.mp4, .gif, .png) that lie
in a run's directory are put into the page, each up to 3 MB.
"""

import base64
import collections
import contextlib
import pathlib
import shlex
import sys

import jinja2
import numpy as np
import plotly.graph_objects as go
from absl import flags
from markupsafe import Markup
from matplotlib.colors import to_hex
from plotly.offline import get_plotlyjs
from tqdm import tqdm

from analysis import curves, drawing, scores, sweeps, tables
from storage import files, layout, reading

ROOT = pathlib.Path(__file__).parent
KINDS = {".mp4": "video/mp4", ".gif": "image/gif", ".png": "image/png"}
LARGEST, TOGETHER = 3 * 2**20, 60 * 2**20  # bytes of a film, of all of them
PHASES = ("learn", "act", "environment", "sample")
PUBLISHED = {"standard": "table 1", "flicker": "table 3", "placement": "appendix"}  # of Hausknecht & Stone 2015


def define_flags():
    """Return the flags of this script with their defaults."""
    values = flags.FlagValues()
    flags.DEFINE_string("out", "report.html", "path of the page", short_name="o", flag_values=values, module_name="report")
    return values


# Experiments


def describe_experiments(everything, own, random_play):
    """Return what the page says of each experiment, the runs of one line.

    Args:
        everything: [curves.Curve, ...] of all runs, those without evaluations too.
        own: [scores.Score, ...] of those that have one.
        random_play: {directory: its returns}.
    """
    usual = {name: collections.Counter(str(run.settings.get(name)) for run in everything).most_common(1)[0][0]
             for name in scores.differing(everything)}
    steps = {run.directory: last_step(run.directory) for run in everything}
    experiments = []
    for number, ((env, flicker, label), inside) in enumerate(tables.group(everything), 1):
        settings = inside[0].settings
        best = [reading.best_evaluation(run.directory, run.settings) for run in inside]
        fresh = scores.summarise([score for score in own if score.line == inside[0].line])
        level = curves.mean_random_play(inside, random_play)
        experiments.append(dict(
            id=f"experiment-{number}", env=env, flicker=f"{flicker:g}", label=label, line=inside[0].line,
            settings=[show_setting(settings, name, usual) for name in settings if name not in layout.SAME_LINE],
            differing=[one for name in usual if name not in scores.CELL and (one := show_setting(settings, name, usual))["mark"]],
            seeds=len({run.settings["seed"] for run in inside}), speed=measure_speed(inside), commands=list_commands(inside, own),
            steps=tables.steps(*(int(end(steps[run.directory] for run in inside)) for end in (min, max))),
            unfinished=any(reading.is_unfinished(run.directory, run.settings, run.x[-1] if len(run.x) else 0) for run in inside),
            best=over_seeds([mean for _, mean in filter(None, best)]), last=over_seeds([run.y[-1] for run in inside if len(run.y)]),
            fresh=tables.NONE if fresh["mean"] is None else tables.spread(fresh["mean"], fresh["std"]),
            random=tables.NONE if level is None else tables.number(level),
            runs=[dict(directory=str(run.directory), seed=run.settings["seed"], steps=f"{steps[run.directory]:,.0f}",
                       best=f"{tables.number(chosen[1])} at {chosen[0]:,.0f}" if chosen else tables.NONE,
                       last=tables.number(run.y[-1]) if len(run.y) else tables.NONE,
                       fresh=next((f"{tables.number(score.returns.mean())} ({len(score.returns)} episodes)" for score in own
                                   if score.directory == run.directory), tables.NONE)) for run, chosen in zip(inside, best)]))
    return experiments


def show_setting(settings, name, usual):
    """Return a setting as text, and whether it is to be marked: it is not what most runs have, `usual` {name: text}."""
    value = str(settings.get(name))
    return dict(text=f"{name} {value}", mark=value != usual.get(name, value))


def over_seeds(values):
    """Return mean ± standard deviation as text."""
    return tables.spread(np.mean(values), np.std(values, ddof=1) if len(values) > 1 else None) if len(values) else tables.NONE


def last_step(directory):
    """Return the agent step of a run's newest row."""
    return max([rows["agent_step"][-1] for name in layout.COLUMNS
                if len((rows := reading.read_rows(directory, name))["agent_step"])], default=0)


def measure_speed(inside):
    """Return {column of the table of speed: text} over the seeds of an experiment; empty before the first row of learn.csv."""
    logs = [reading.read_rows(run.directory, "learn") for run in inside]
    logs = [log for log in logs if len(log["seconds"])]
    seconds = sum(log["seconds"][-1] for log in logs)
    if not seconds:
        return {}
    share = {phase: 100 * sum(log[f"{phase}_seconds"].sum() for log in logs) / seconds for phase in PHASES}
    share["other"] = max(0, 100 - sum(share.values()))
    return {"agent steps/s": tables.number(sum(log["agent_step"][-1] for log in logs) / seconds), "hours": f"{seconds / 3600:.2f}",
            **{f"{phase} %": f"{percent:.0f}" for phase, percent in share.items()}}


def list_commands(inside, own):
    """Return the commands that make these runs, their scores, sweeps and figure again, after a comment on the code that they were of."""
    codes, train, evaluate, join = {}, [], [], lambda *parts: shlex.join(["python", *map(str, parts)])
    for run in inside:
        config = reading.read_config(run.directory)
        versions = ", ".join(f"{name} {version}" for name, version in config.get("versions", {}).items())
        codes[f"# commit {config.get('git_commit', 'unknown')}; {versions or 'versions unknown'}"] = None
        backend = "" if run.settings.get("backend", "tensorflow") == "tensorflow" else f"KERAS_BACKEND={run.settings['backend']} "
        unknown = f"# {run.directory}/config.json names no command"
        train.append(backend + join(*config["command"]) if config.get("command") else unknown)
        evaluate += [join("evaluate.py", f"--run_dir={run.directory}", f"--episodes={len(score.returns)}")
                     for score in own if score.directory == run.directory]
        if layout.sweep_path(run.directory).exists():
            of_agent, of_random, _ = reading.read_sweep(run.directory, sweeps.trained_probability(run.settings))
            evaluate.append(join("evaluate.py", f"--run_dir={run.directory}", f"--episodes={len(of_random)}",
                                 f"--observation_probabilities={','.join(f'{p:g}' for p in of_agent)}"))
    return "\n".join([*codes, *train, *evaluate, join("plot.py", *(run.directory for run in inside))])


# Figures


def style_of(style):
    """Return a line of Plotly, its colour on a light and on a dark page, from one of Matplotlib."""
    dashes = style["linestyle"]
    rgb = np.array(drawing.to_rgb(style["color"]))
    return dict(light=to_hex(rgb), dark=to_hex(rgb + 0.6 * (1 - rgb.max()) * (1 - rgb)),  # the darker, the more white
                dash="solid" if dashes == "-" else ",".join(f"{2 * length:g}px" for length in dashes[1]))


def trace(x, y, label, style, kind, text=None, **more):
    """Return a line; `kind` tells the page what can be hidden: mean, band, seed."""
    colours = style_of(style)
    width = dict(mean=2.2, seed=0.8, band=0, other=1.4)[kind]
    return go.Scatter(
        x=np.asarray(x).tolist(), y=np.asarray(y).tolist(), name=text or label, mode="lines" if len(x) > 1 else "markers",
        line=dict(color=colours["light"], width=width, dash=colours["dash"] if kind != "seed" else "solid"),
        marker=dict(size=6 if kind == "mean" else 3), meta=dict(label=label, kind=kind, **colours),
        **(dict(hoverinfo="skip") if kind == "band" else dict(hovertemplate="%{y:,.2f} at %{x}")), **more)


def traces_of(own, label, style, tolerance=0):
    """Return the traces of one line: its band, its seeds, its mean; as curves.draw_line draws them."""
    x, middle, low, high, seeds, fewer, faint = curves.mean_of(own, tolerance)
    traces = []
    if len(own) > 1:
        for where, opacity in ((~fewer, 0.16), (faint, 0.07)):
            at = where & ~np.isnan(low)
            if at.any():
                around = np.concatenate([x[at], x[at][::-1]]), np.concatenate([high[at], low[at][::-1]])
                traces.append(trace(*around, label, style, "band", fill="toself", fillcolor=style_of(style)["light"], opacity=opacity))
        traces += [trace(one.x, one.y, label, style, "seed", f"seed {one.settings['seed']}", opacity=0.4) for one in own]
        if faint.any():
            traces.append(trace(x, np.where(faint, middle, np.nan), label, style, "mean", f"{label}, not all seeds", opacity=0.4))
    return [*traces, trace(x[~fewer], middle[~fewer], label, style, "mean")]


def plot(title, traces, x_title, y_title, **axis):
    """Return a figure for the page: its title, its words for those who do not see it, its JSON."""
    labels = list(dict.fromkeys(one.meta["label"] for one in traces))
    figure = go.Figure(sorted(traces, key=lambda one: ("band", "seed", "other", "mean").index(one.meta["kind"])), dict(
        template="none", height=320, margin=dict(l=56, r=12, t=30, b=44), showlegend=False, hovermode="closest",
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", font_size=12,
        xaxis=dict(title=dict(text=x_title, standoff=8), rangemode="tozero", zeroline=False, nticks=6, **axis),
        yaxis=dict(title=dict(text=y_title, standoff=8), zeroline=False, nticks=6)))
    return dict(title=title, alt=f"{y_title} over {x_title}, {title}: {'; '.join(labels)}",
                json=Markup(figure.to_json()))  # Plotly escapes all that would end a script.


def plot_curves(drawn, names, styles, y, random_play):
    """Return a plot per environment and flicker, as curves.draw has panels."""
    plots = []
    for panel in curves.arrange(drawn, names) if drawn else []:
        traces = []
        for line, (label, style) in styles.items():
            own = [curve for curve in panel.curves if curve.line == line]
            traces += traces_of(own, label, style, curves.tolerance_of(own, "agent_step")) if own else []
        level = curves.mean_random_play(panel.curves, random_play)
        if level is not None:
            end = max(curve.x[-1] for curve in panel.curves)
            traces.append(trace((0, end), (level, level), "random play", drawing.RANDOM, "other", f"random play {level:,.2f}"))
        plots.append(plot(panel.title, traces, curves.X_LABELS["agent_step"], curves.Y_LABELS[y].replace("\n", " "), tickformat="~s"))
    return plots


def plot_sweeps(drawn, styles):
    """Return a plot per environment and probability of training, as sweeps.draw has panels."""
    plots = []
    for title, own in sweeps.arrange(drawn):
        envs, traces = {sweep.settings["env"] for sweep in own}, []
        if own[0].trained == 1:
            traces += [trace(x, y, f"{network} of the paper, mean over 9 Atari games", sweeps.PAPER_STYLES[network], "other")
                       for network, (x, y) in sweeps.read_paper().items()]
        for label, style in dict(styles.values()).items():
            of_label = [sweep for sweep in own if styles[sweep.line][0] == label]
            if len(envs) == 1 and of_label:
                traces += traces_of(of_label, label, style)
            elif {sweep.settings["env"] for sweep in of_label} == envs:
                traces.append(trace(*sweeps.mean_over_environments(of_label)[:2], label, style, "mean"))
        title = title.replace("\n", ", ") + ", random play being 0" * all("random" in sweep.formula for sweep in own)
        plots.append(plot(title, traces, "probability that a screen is shown", "fraction of original score", tickformat=".1f"))
    return plots


# The page


def embed(everything):
    """Return the films and pictures in the directories of runs: those that are small enough as data, of the others only their size."""
    media, used = [], 0
    for run in everything:
        for path in sorted(path for path in run.directory.iterdir() if path.suffix in KINDS):
            size = path.stat().st_size
            fits = size <= LARGEST and used + size <= TOGETHER
            used += size * fits
            data = f"data:{KINDS[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}" if fits else None
            about = f"{run.settings['network']} on {run.settings['env']}, flicker {run.settings['flicker']:g}, seed {run.settings['seed']}"
            media.append(dict(path=str(path), about=about, size=f"{size / 2**20:.1f} MB", data=data, is_video=path.suffix == ".mp4"))
    return media


def make_page(found, others, command):
    """Return the page of runs {directory: settings} as text, and how many experiments they are."""
    returns = {y: curves.read_curves(found, y=y) for y in curves.Y_LABELS}
    drawn = returns["eval"][0]
    none = [directory for directory, settings in found.items() if not len(reading.read_evaluations(directory, settings)["agent_step"])]
    everything = [*drawn, *(curves.Curve(directory, found[directory], np.empty(0), np.empty(0)) for directory in none)]
    (own, notes), (swept, of_sweeps), random_play = scores.find_scores(found), sweeps.read_sweeps(found), reading.read_random_play(found)
    experiments = describe_experiments(everything, own, random_play)
    names = drawing.label_settings(everything, ["flicker"])
    styles = drawing.style_lines(everything, names)
    figures = dict(evaluation=lambda: plot_curves(drawn, names, styles, "eval", random_play),
                   training=lambda: plot_curves(returns["train"][0], names, styles, "train", random_play),
                   generalization=lambda: plot_sweeps(swept, styles))
    progress = tqdm(figures.items(), "report.py draws", leave=False, disable=None)  # None: a terminal only
    figures = {name: make() for name, make in progress}
    shown = []
    for name, make in tables.TABLES.items() if own else ():
        with contextlib.suppress(ValueError):  # None of the runs has a cell in this table of the paper.
            table, more = make(own)
            shown.append((PUBLISHED.get(name), table))
            notes += more
    notes = [*(f"left out: {other}" for other in others), *notes, *returns["train"][1], *(of_sweeps if swept else ())]
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(ROOT), autoescape=True, undefined=jinja2.StrictUndefined,
                                     trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("report.html.j2").render(
        experiments=experiments, num_runs=len(found), figures=figures, tables=shown, media=embed(everything), command=command,
        styles={line: style_of(style) for line, (_, style) in styles.items()},
        legend={label: style_of(style) for label, style in styles.values()},
        speed=next((list(one["speed"]) for one in experiments if one["speed"]), []), notes=list(dict.fromkeys(notes)),
        plotly=Markup(get_plotlyjs()), NONE=tables.NONE, UNFINISHED=tables.UNFINISHED), len(experiments)


def main(arguments):
    """Return the exit code: 0, or 2 for bad input."""
    values = define_flags()
    if {"--help", "-h", "--helpfull", "--helpshort"} & set(arguments):
        print(__doc__, values.module_help("report"), sep="\n")
        return 0
    try:
        paths = values(["report.py", *arguments])[1:] or ["runs"]
        folders = [path for path in paths if not pathlib.Path(path).is_file()]  # Logs and tables lie beside runs.
        out = pathlib.Path(values.out)
        if out.is_dir():
            raise ValueError(f"--out={out} is a directory; expected the path of a page, such as {out / 'report.html'}")
        found, others = reading.find_runs(folders or paths)
        page, count = make_page(found, others, shlex.join(["python", "report.py", *(folders or paths), "-o", str(out)]))
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            files.write_whole(out, page.encode())
        except OSError as error:
            raise ValueError(f"--out={out} cannot be written ({error.strerror})") from error
        said = f"{len(found)} run{'s' * (len(found) > 1)} in {count} experiment{'s' * (count > 1)}: {out}, {len(page) / 1e6:.1f} MB."
        print(*(f"Note: left out: {other}." for other in others), said, sep="\n")
    except (ValueError, OSError, flags.Error) as error:
        print(f"report.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
