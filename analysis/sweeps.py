"""Sweeps: scores by the probability that a screen is shown, as fractions of the original score.

Reference: Hausknecht & Stone 2015, section 6, Figure 5.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np

from analysis import curve_figure, curves, drawing, statistics
from storage import episodes, layout, reading, training

PAPER = pathlib.Path(__file__).parents[1] / "paper" / "figure5_generalization.csv"
PAPER_STYLES = {network: dict(color=grey, linestyle=dashes, linewidth=1.0) for network, grey, dashes in
                (("DRQN", "#808080", (0, (4, 2))), ("DQN", "#a8a8a8", (0, (1.5, 1.5))))}


@dataclasses.dataclass
class Sweep(curves.Curve):
    """The fractions y of one run's original score, by the probability x that a screen is shown.

    Attributes:
        formula: how the fractions are computed, as Matplotlib's mathematical text.
    """

    formula: str

    @property
    def trained(self) -> float:
        """The probability with which screens were shown in training. Its score is the original one."""
        return trained_probability(self.settings)


def parse_probabilities(text: str) -> list[float]:
    """Return the sorted probabilities that a text lists: `0.5,1`, `0.2,0.4,...,1.0`, or `0.1,...,1.0` in steps of 0.1.

    Raises:
        ValueError: the text lists something else.
    """
    try:
        parts: list[Any] = [part if part == "..." else float(part) for part in text.split(",")]
        *values, last = parts
        if values[-1:] == ["..."]:
            first, second = values[:-1] if len(values) > 2 else (values[0], values[0] + 0.1)
            count = round((last - first) / (second - first)) + 1
            values = [first + i * (second - first) for i in range(min(count, 1000))]
        else:
            values.append(last)
        if not all(0 <= value <= 1 for value in values) or abs(values[-1] - last) > 1e-6:
            raise ValueError("not all of them are probabilities, or the last is not reached")
    except (ValueError, TypeError, IndexError, ArithmeticError) as error:
        raise ValueError(f"--observation_probabilities={text} was given; expected probabilities from 0 to 1, "
                         "such as 0.5,1 or 0.1,...,1.0 or 0.2,0.4,...,1.0") from error
    return sorted({round(value, 6) for value in values})


def trained_probability(settings: dict[str, Any]) -> float:
    """Return the probability with which screens were shown in the training of a run."""
    return round(1 - settings["flicker"], 6)


def read_sweeps(runs: curves.Runs) -> tuple[list[Sweep], list[str]]:
    """Read the files that evaluate.py --observation_probabilities wrote in the directories of runs.

    Args:
        runs: {directory: settings}.

    Returns:
        [Sweep, ...], one per seed of a line; and sentences on runs without a sweep, or without a meaningful one.
    """
    swept = {}
    returns_of_env: dict[str, list[float]] = {}
    without = [directory for directory in runs if not layout.sweep_path(directory).exists()]
    read, notes = reading.read_each(
        (directory for directory in runs if directory not in without),
        lambda directory: episodes.read_sweep(directory, trained_probability(runs[directory])))
    notes += [f"{directory} has no {layout.SWEEP} yet; evaluate.py --run_dir={directory} "
              "--observation_probabilities=0.1,...,1.0 writes it" for directory in without]
    for directory, (of_agent, of_random, played_with) in read.items():
        settings, path = runs[directory], layout.sweep_path(directory)
        if played_with != {(layout.BEST, settings["eval_epsilon"])}:
            notes.append(f"{path} is not of the best weights at the run's --eval_epsilon={settings['eval_epsilon']}, "
                         "and is left out")
            continue
        if episodes.is_older(path, layout.weights_path(directory, layout.BEST)):
            notes.append(f"{path} is older than the best weights beside it; evaluate.py --run_dir={directory} "
                         "--observation_probabilities=0.1,...,1.0 plays those of now")
        swept[directory] = of_agent, of_random
        returns_of_env.setdefault(settings["env"], []).extend(sum(of_agent.values(), of_random))
    sweeps: dict[tuple[str, int], Sweep] = {}
    for directory, (of_agent, of_random) in swept.items():
        settings, p = runs[directory], trained_probability(runs[directory])
        zero = statistics.zero_score(returns_of_env[settings["env"]], of_random)
        minus = r"-\mathrm{random}" if zero else ""
        formula = rf"$\dfrac{{\mathrm{{score}}(p){minus}}}{{\mathrm{{score}}({p:g}){minus}}}$"
        original = np.mean(of_agent[p])
        if original <= zero:
            notes.append(f"{directory} has no fractions: its original score, {original:.2f}, "
                         f"is no more than their zero, {zero:.2f}")
            continue
        fractions = [(np.mean(returns) - zero) / (original - zero) for returns in of_agent.values()]
        sweep = Sweep(directory, settings, np.array(list(of_agent)), np.array(fractions), formula)
        twin = sweeps.setdefault((sweep.line, settings["seed"]), sweep)
        if twin is not sweep:
            notes.append(f"{directory} and {twin.directory} are the same seed of the same settings; "
                         "only the longer one counts")
            sweeps[sweep.line, settings["seed"]] = max(twin, sweep, key=_count_evaluations)
    return list(sweeps.values()), notes


def _count_evaluations(sweep):
    return len(training.read_evaluations(sweep.directory, sweep.settings)["agent_step"])


def read_paper_sweeps() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return {network: (probabilities, fractions of the original score)} of the paper's Figure 5."""
    # The first two lines are the source and the header.
    probabilities, *columns = np.loadtxt(PAPER, delimiter=",", skiprows=2, unpack=True)
    return {network: (probabilities, fractions) for network, fractions in zip(PAPER_STYLES, columns)}


def paper_label(network: str) -> str:
    """Return the label of a curve of the paper's Figure 5."""
    return f"{network} of the paper, mean over 9 Atari games"


def arrange_sweeps(sweeps: Sequence[Sweep]) -> list[tuple[str, list[Sweep]]]:
    """Return panels: one per probability of training and environment, and the mean over several environments.

    Returns:
        [(title, [Sweep, ...]), ...].
    """
    panels = []
    for trained in sorted({sweep.trained for sweep in sweeps}, reverse=True):
        suffix = "" if trained == 1 else f"\ntrained with flicker {1 - trained:g}"
        group = [sweep for sweep in sweeps if sweep.trained == trained]
        envs = sorted({sweep.settings["env"] for sweep in group})
        panels += [(f"{env}{suffix}", [sweep for sweep in group if sweep.settings["env"] == env]) for env in envs]
        if len(envs) > 1:
            panels.append((f"mean over {len(envs)} environments{suffix}", group))
    return panels


def mean_over_environments(sweeps: Sequence[Sweep]) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return the mean of the sweeps of one line over environments; each environment counts once.

    Returns:
        x, y: float64[X]; and {environment: its interquartile mean over seeds, float64[X]}.
    """
    of_env: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for sweep in sweeps:
        of_env.setdefault(sweep.settings["env"], []).append((sweep.x, sweep.y))
    means = []
    for seeds in of_env.values():
        x, values = statistics.align_curves(seeds)
        means.append((x, statistics.interquartile_band(values)[0]))
    x, values = statistics.align_curves(means)
    return x, values.mean(0), dict(zip(of_env, values))


def draw_sweeps(sweeps: Sequence[Sweep]) -> "matplotlib.figure.Figure":
    """Return the figure of sweeps. The paper's curves are behind agents that were trained on full screens.

    Args:
        sweeps: from `read_sweeps`.
    """
    in_labels = drawing.settings_in_labels(sweeps, ("env", "flicker"))
    styles = drawing.style_lines(sweeps, in_labels)
    panels = arrange_sweeps(sweeps)
    columns = drawing.choose_columns(len(panels))
    rows, width = -(-len(panels) // columns), drawing.figure_width(columns)
    x_label = "probability that a screen is shown" if columns < 3 else "probability that\na screen is shown"
    num_seeds: dict[str, list[int]] = {}
    paper_styles, sentence = {}, ""
    from matplotlib.figure import Figure  # here, since a mistake is answered before that is imported
    with matplotlib.rc_context(drawing.STYLE):
        figure = Figure(layout="constrained")
        grid_axes = figure.subplots(rows, columns, squeeze=False)
        for i, (axes, (title, inside)) in enumerate(zip(grid_axes.flat, panels)):
            envs, formulas = {sweep.settings["env"] for sweep in inside}, {sweep.formula for sweep in inside}
            y_label = "fraction of original score" + "".join(f"\n{formula}" for formula in formulas if len(envs) == 1)
            axes.set(title=title, xlim=(0, 1.02), xticks=np.arange(6) / 5, ylabel=y_label,
                     xlabel=x_label if i + columns >= len(panels) else "")
            axes.yaxis.label.set_parse_math(True)
            axes.axvline(inside[0].trained, color="#444444", linewidth=0.8, linestyle=":", gid="trained")
            if inside[0].trained == 1:
                for network, (x, y) in read_paper_sweeps().items():
                    label = paper_label(network)
                    paper_styles[label] = PAPER_STYLES[network]
                    axes.plot(x, y, **PAPER_STYLES[network], zorder=1.5, label=label)
            for label, style in dict(styles.values()).items():
                of_label = [sweep for sweep in inside if styles[sweep.line][0] == label]
                if len(envs) == 1 and of_label:
                    num_seeds.setdefault(label, []).extend(curve_figure.draw_line(axes, of_label, label, style))
                elif len(envs) > 1 and {sweep.settings["env"] for sweep in of_label} == envs:
                    sentence = (" Means are of the agents that are in every environment; "
                                "thin beside them: single environments.")
                    x, mean, of_env = mean_over_environments(of_label)
                    for env, y in of_env.items():
                        axes.plot(x, y, color=style["color"], linewidth=0.5, alpha=0.35, gid=f"environment {env}")
                    axes.plot(x, mean, **style, linewidth=1.4, label=label)
            axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
        for axes in grid_axes.flat[len(panels):]:
            axes.remove()
        sentence = " Vertical: the probability of training." + sentence
        text_lines = drawing.add_legend(figure, width, dict(styles.values()), num_seeds, sentence, paper_styles)
        figure.set_size_inches(width, rows * max(1.8, 0.6 * width / columns) + 0.14 * text_lines + 0.3)
    return figure
