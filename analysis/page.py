"""The page of runs: experiments, figures, tables, films and commands in one HTML file that needs no network."""

import base64
import collections
import contextlib
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from plotly.offline import get_plotlyjs
from tqdm import tqdm

from analysis import curves, drawing, plotly_figures, scores, sweeps, tables
from analysis.writers import NONE, UNFINISHED, Table
from storage import episodes, layout, reading, strangers, training

FOLDER = pathlib.Path(__file__).parent
MEDIA_TYPES = {".mp4": "video/mp4", ".gif": "image/gif", ".png": "image/png"}
LARGEST_FILM, ALL_FILMS = 3 * 2**20, 60 * 2**20  # bytes of one film, of all films of a page together
SPEED_PHASES = ("learn", "act", "environment", "sample")  # in the order of the table of speed
PUBLISHED = {"standard": "table 1", "flicker": "table 3", "placement": "appendix"}  # of Hausknecht & Stone 2015


def keep_whole(runs: curves.Runs) -> tuple[curves.Runs, list[str]]:
    """Return {directory: settings} of the runs whose rows of training can be read, and a sentence on each other run.

    Raises:
        ValueError: there is none.
    """
    whole, notes = reading.read_each(runs, lambda directory: [training.read_rows(directory, name)
                                                              for name in layout.COLUMNS])
    if not whole:
        raise ValueError(notes[0].removeprefix(reading.LEFT_OUT))
    return {directory: runs[directory] for directory in whole}, notes


def make_page(runs: curves.Runs, left_out: Sequence[str], command: str) -> tuple[str, int]:
    """Return the page of runs as text, and how many experiments are on it.

    Args:
        runs: {directory: settings}, from `keep_whole`.
        left_out: sentences on directories that are left out.
        command: the command that makes this page again.
    """
    by_evaluation, _ = curves.read_curves(runs, y="eval")  # notes_on_scores has these notes too.
    by_episode, notes_on_training = curves.read_curves(runs, y="train")
    without = [directory for directory, settings in runs.items()
               if not len(training.read_evaluations(directory, settings)["agent_step"])]
    all_runs = [*by_evaluation,
                *(curves.Curve(directory, runs[directory], np.empty(0), np.empty(0)) for directory in without)]
    run_scores, notes_on_scores = scores.find_scores(runs)
    run_sweeps, notes_on_sweeps = sweeps.read_sweeps(runs)
    random_play, damaged = episodes.find_random_play(runs)
    experiments = describe_experiments(all_runs, run_scores, random_play)
    in_labels = drawing.settings_in_labels(all_runs, ["flicker"])
    styles = drawing.style_lines(all_runs, in_labels)
    draw_curves = lambda run_curves, y: plotly_figures.make_curve_figures(run_curves, in_labels, styles, y, random_play)
    figures = dict(evaluation=lambda: draw_curves(by_evaluation, "eval"),
                   training=lambda: draw_curves(by_episode, "train"),
                   generalization=lambda: plotly_figures.make_sweep_figures(run_sweeps, styles))
    progress = tqdm(figures.items(), "report.py draws", leave=False, disable=None)  # None: only in a terminal
    figures = {name: make_figures() for name, make_figures in progress}
    run_tables, notes_on_tables = make_tables(run_scores)
    notes = [*left_out, *damaged, *notes_on_scores, *notes_on_tables, *notes_on_training,
             *(note for note in notes_on_sweeps if run_sweeps or note.startswith(reading.LEFT_OUT))]
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, trim_blocks=True,
                                     lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    page = environment.get_template("page.html.j2").render(
        experiments=experiments, num_runs=len(runs), figures=figures, tables=run_tables, media=embed_films(all_runs),
        command=command, styles={line: plotly_figures.plotly_style(style) for line, (_, style) in styles.items()},
        legend={label: plotly_figures.plotly_style(style) for label, style in styles.values()},
        speed=next((list(one["speed"]) for one in experiments if one["speed"]), []), notes=list(dict.fromkeys(notes)),
        plotly=Markup(get_plotlyjs()), NONE=NONE, UNFINISHED=UNFINISHED)
    return page, len(experiments)


def make_tables(run_scores: Sequence[scores.Score]) -> tuple[list[tuple[str | None, Table]], list[str]]:
    """Return the tables of scores.

    Returns:
        [(its place in the paper or None, writers.Table), ...] and sentences on runs left out.
    """
    run_tables, notes = [], []
    for name, make_table in tables.TABLES.items() if run_scores else ():
        with contextlib.suppress(ValueError):  # No run has a cell in this table of the paper.
            table, more_notes = make_table(run_scores)
            table.rows = _keep_played(table.rows)
            run_tables.append((PUBLISHED.get(name), table))
            notes += more_notes
    return run_tables, notes


def _keep_played(rows):
    """Return the rows of games or agents that some run has played; of the paper's others the page would show dashes."""
    name = lambda row: row.get("env", row["agent"])
    played = {name(row) for row in rows if row.get("seeds", 1)}  # Means over games have no seeds of their own.
    return [row for row in rows if name(row) in played]


# Experiments


def describe_experiments(all_runs: Sequence[curves.Curve], run_scores: Sequence[scores.Score],
                         random_play: curves.RandomPlay) -> list[dict[str, Any]]:
    """Return a dict of texts for each experiment: the runs of one line.

    Args:
        all_runs: [curves.Curve, ...], also of runs without evaluations.
        run_scores: [scores.Score, ...] of the runs that have one.
        random_play: {directory: returns of random play}.
    """
    usual = {name: collections.Counter(str(run.settings.get(name)) for run in all_runs).most_common(1)[0][0]
             for name in scores.differing_settings(all_runs)}
    experiments = []
    for number, ((env, flicker, label), seeds) in enumerate(tables.group_lines(all_runs), 1):
        settings = seeds[0].settings
        best = [training.best_evaluation(run.directory, run.settings) for run in seeds]
        steps = [last_step(run.directory) for run in seeds]
        fresh = scores.summarise_scores([score for score in run_scores if score.line == seeds[0].line])
        level = curves.mean_random_play(seeds, random_play)
        marked = [mark_setting(settings, name, usual) for name in usual if name not in scores.CELL]
        experiments.append(dict(
            id=f"experiment-{number}", env=env, flicker=f"{flicker:g}", label=label, line=seeds[0].line,
            settings=[mark_setting(settings, name, usual) for name in settings if name not in layout.SAME_LINE],
            differing=[setting for setting in marked if setting["mark"]],
            seeds=len({run.settings["seed"] for run in seeds}), speed=measure_speed(seeds),
            commands=list_commands(seeds, run_scores), steps=tables.format_steps(int(min(steps)), int(max(steps))),
            unfinished=any(training.is_unfinished(run.directory, run.settings, run.x[-1] if len(run.x) else 0)
                           for run in seeds),
            best=format_seeds([mean for _, mean in filter(None, best)]),
            last=format_seeds([run.y[-1] for run in seeds if len(run.y)]),
            fresh=NONE if fresh["mean"] is None else tables.format_spread(fresh["mean"], fresh["std"]),
            random=NONE if level is None else tables.format_return(level),
            runs=[describe_run(*of_run, run_scores) for of_run in zip(seeds, steps, best)]))
    return experiments


def describe_run(run: curves.Curve, step: float, best: tuple[float, float] | None,
                 run_scores: Sequence[scores.Score]) -> dict[str, Any]:
    """Return a dict of texts for one run.

    Args:
        run: curves.Curve.
        step: the agent step of its newest row.
        best: agent step and mean return of its best evaluation, or None.
        run_scores: [scores.Score, ...], the run's score among them if it has one.
    """
    fresh = next((f"{tables.format_return(score.returns.mean())} ({len(score.returns)} episodes, "
                  f"eval_seed {', '.join(map(str, score.eval_seeds))})"
                  for score in run_scores if score.directory == run.directory), NONE)
    return dict(directory=str(run.directory), seed=run.settings["seed"], steps=f"{step:,.0f}", fresh=fresh,
                best=f"{tables.format_return(best[1])} at {best[0]:,.0f}" if best else NONE,
                last=tables.format_return(run.y[-1]) if len(run.y) else NONE)


def mark_setting(settings: dict[str, Any], name: str, usual: Mapping[str, str]) -> dict[str, str | bool]:
    """Return a setting as text, and whether the page marks it: most runs have another value.

    Args:
        usual: {name: the value that most runs have, as text}.
    """
    value = str(settings.get(name))
    return dict(text=f"{name} {value}", mark=value != usual.get(name, value))


def format_seeds(values: Sequence[float]) -> str:
    """Return mean ± standard deviation over seeds as text."""
    if not len(values):
        return NONE
    return tables.format_spread(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)


def last_step(directory: pathlib.Path) -> float:
    """Return the agent step of a run's newest row, 0 before its first row."""
    logs = [training.read_rows(directory, name) for name in layout.COLUMNS]
    return max((log["agent_step"][-1] for log in logs if len(log["agent_step"])), default=0)


def measure_speed(seeds: Sequence[curves.Curve]) -> dict[str, str]:
    """Return the row of an experiment in the table of speed.

    Returns:
        {column: text} over all seeds together; empty before the first row of learn.csv.
    """
    logs = [training.read_rows(run.directory, "learn") for run in seeds]
    logs = [log for log in logs if len(log["seconds"])]
    seconds = sum(log["seconds"][-1] for log in logs)
    if not seconds:
        return {}
    shares = {phase: 100 * sum(log[f"{phase}_seconds"].sum() for log in logs) / seconds for phase in SPEED_PHASES}
    shares["other"] = max(0, 100 - sum(shares.values()))
    return {"agent steps/s": tables.format_return(sum(log["agent_step"][-1] for log in logs) / seconds),
            "hours": f"{seconds / 3600:.2f}", **{f"{phase} %": f"{share:.0f}" for phase, share in shares.items()}}


def list_commands(seeds: Sequence[curves.Curve], run_scores: Sequence[scores.Score]) -> str:
    """Return the commands that make these runs, their scores, sweeps and figure again.

    Comments above them name the commits and the versions of the code. Who copies them runs scripts of this suite, and
    nothing else that a config.json may hold.
    """
    comments: dict[str, None] = {}
    train, evaluate = [], []
    for run in seeds:
        config = reading.read_config(run.directory)
        comments[f"# {describe_code(config)}"] = None
        train.append(repeat_training(run, config.get("command")))
        evaluate += [join_command("evaluate.py", f"--run_dir={run.directory}", f"--episodes={len(score.returns)}")
                     for score in run_scores if score.directory == run.directory]
        with contextlib.suppress(ValueError, OSError):  # There is no sweep, or it is damaged.
            of_agent, of_random, _ = episodes.read_sweep(run.directory, sweeps.trained_probability(run.settings))
            evaluate.append(join_command("evaluate.py", f"--run_dir={run.directory}", f"--episodes={len(of_random)}",
                                         f"--observation_probabilities={','.join(f'{p:g}' for p in of_agent)}"))
    return "\n".join([*comments, *train, *evaluate, join_command("plot.py", *(run.directory for run in seeds))])


def join_command(script: str, *arguments: str | pathlib.Path, **variables: str) -> str:
    """Return the command of a script, quoted for a shell, behind variables of its environment."""
    set_variables = [f"{name}={shlex.quote(value)}" for name, value in variables.items()]
    return " ".join([*set_variables, shlex.join(["python", script, *map(str, arguments)])])


def repeat_training(run: curves.Curve, command: Any) -> str:
    """Return the command that makes a run again; a comment where its config.json names none of train.py."""
    is_ours = isinstance(command, list) and command[:1] == ["train.py"]
    if not is_ours or not all(isinstance(word, str) and not strangers.CONTROL.search(word) for word in command):
        return f"# {layout.config_path(run.directory)} names no command of train.py"
    backend = run.settings.get("backend", "tensorflow")
    return join_command(*command, **(dict(KERAS_BACKEND=backend) if backend != "tensorflow" else {}))


def describe_code(config: dict[str, Any]) -> str:
    """Return in one line the commit and the versions of the packages with which a run was made."""
    versions = config.get("versions")
    names = ", ".join(f"{name} {version}" for name, version in versions.items() if isinstance(version, str)
                      ) if isinstance(versions, dict) else ""
    commit = config.get("git_commit", "unknown")
    return strangers.escape(f"commit {commit if isinstance(commit, str) else 'unknown'}; {names or 'versions unknown'}")


# Films


def embed_films(all_runs: Sequence[curves.Curve]) -> list[dict[str, Any]]:
    """Return a dict for each film and picture in the directories of runs.

    Its `data` is None where the file is too large for the page.
    """
    media, used = [], 0
    encode = lambda path: f"data:{MEDIA_TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"
    for run in all_runs:
        settings = run.settings
        about = f"{settings['network']} on {settings['env']}, flicker {settings['flicker']:g}, seed {settings['seed']}"
        for path in sorted(path for path in run.directory.iterdir() if path.suffix in MEDIA_TYPES):
            if path.is_symlink() or not path.is_file():  # A link may lead out of the run.
                continue
            size = path.stat().st_size
            fits = size <= LARGEST_FILM and used + size <= ALL_FILMS
            used += size * fits
            media.append(dict(path=str(path), about=about, size=f"{size / 2**20:.1f} MB",
                              data=encode(path) if fits else None, is_video=path.suffix == ".mp4"))
    return media
