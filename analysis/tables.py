"""Tables of scores over seeds, beside published ones.

Reference: Hausknecht & Stone 2015, tables 1 and 3, appendix; Mnih et al. 2015.
"""

import csv
import pathlib
import re
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from analysis import curves, drawing, scores, statistics
from analysis.writers import NONE, UNFINISHED, Column, Table

Run = TypeVar("Run", bound=curves.Curve)
PAPER = pathlib.Path(__file__).parents[1] / "paper"
# Parts of captions.
OURS = (
    "score: the best checkpoint's over fresh episodes, mean ± standard deviation over training seeds, the unit of "
    "replication here. seeds: training seeds × fresh episodes of each @ their --eval_seed. steps: agent steps, "
    f"{UNFINISHED} with unfinished runs. chosen by: mean return of the evaluation that chose it and flatters it. ")
TESTS = "p: Welch's t-test over seeds {}, Benjamini-Hochberg over the table's {} tests; * {}, p < .05. "
THEIRS = (
    "human %: 100 (score - random) / (human - random) of our and of the paper's score, random and human of Mnih et al. "
    "2015. IQM: interquartile mean of human % over seeds and the games that both agents have, with 95% bootstrap "
    "interval, seeds resampled within each game, to which a game of one seed adds nothing. The paper's deviations and "
    "its * (a t-test) are over 10 episodes of one checkpoint, not over training seeds: not comparable with ours. Mnih "
    "et al.: 30 episodes of one agent.")


# Cells


def format_return(value: float, beside: float = 0) -> str:
    """Return a return as text, with as many decimals as its size, or the size of the number beside it, needs."""
    size = max(abs(value), abs(beside))
    return f"{value:.{0 if size >= 1000 else 1 if size >= 10 else 2}f}"


def format_spread(mean: float, std: float | None) -> str:
    """Return `mean ± std` as text; the mean alone where std is None."""
    return format_return(mean) if std is None else f"{format_return(mean, std)} ± {format_return(std, mean)}"


def format_steps(low: int, high: int) -> str:
    """Return a range of agent steps as text, such as `300k` or `1M–10M`."""
    def shorten(count):
        return f"{count / 1e6:.3g}M" if count >= 999_500 else f"{count / 1e3:.3g}k" if count >= 1e3 else str(count)
    return shorten(low) if shorten(low) == shorten(high) else f"{shorten(low)}{NONE}{shorten(high)}"


def format_p(p: float) -> str:
    """Return a p value as text, such as `<.001` or `.043`."""
    return "<.001" if p < 0.001 else f"{p:.3f}".lstrip("0")


def _write_human(row):
    ends = f" [{row['human_low']:.1f}, {row['human_high']:.1f}]" if row.get("human_low") is not None else ""
    return f"{row['human']:.1f}{ends}"


def _write_seeds(row):
    if not row["seeds"]:
        return "0"
    low, high = row["episodes_min"], row["episodes_max"]
    episodes = low if low == high else f"{low}{NONE}{high}"
    return f"{row['seeds']} × {episodes}@{row['eval_seeds'].replace(' ', ',')}"


def _write_interval(row):
    return f"[{format_return(row['low'], row['mean'])}, {format_return(row['high'], row['mean'])}]"


def _write_published(prefix):
    return lambda row: f"{row[f'{prefix}_mean']:g} ± {row[f'{prefix}_std']:g}"


# A column whose cells may bear a mark has a blank where there is no mark, so that numbers stay below each other.
COLUMNS = {
    "game": Column("game", ("env",), lambda row: row["env"], "<"),
    "env": Column("environment", ("env",), lambda row: row["env"], "<"),
    "flicker": Column("flicker", ("flicker",), lambda row: f"{row['flicker']:g}", "<"),
    "agent": Column("agent", ("agent",), lambda row: row["agent"], "<"),
    "score": Column("score ", ("mean", "std", "better"),
                    lambda row: format_spread(row["mean"], row["std"]) + " *"[row.get("better", False)]),
    "interval": Column("95% interval", ("low", "high"), _write_interval),
    "seeds": Column("seeds", ("seeds", "episodes_min", "episodes_max", "eval_seeds"), _write_seeds),
    "steps": Column("steps ", ("steps_min", "steps_max", "unfinished"), lambda row:
                    format_steps(row["steps_min"], row["steps_max"]) + (UNFINISHED if row["unfinished"] else " ")),
    "chosen": Column("chosen by", ("chosen_by", "chosen_step_min", "chosen_step_max"),
                     lambda row: format_return(row["chosen_by"], row["mean"])),
    "human": Column("human %", ("human", "human_low", "human_high"), _write_human),
    "p": Column("p", ("p_adjusted", "p"), lambda row: format_p(row["p_adjusted"])),
    "improvement": Column("over random %", ("improvement",), lambda row: f"{row['improvement']:.0f}"),
    "paper": Column("paper ", ("paper_mean", "paper_std", "paper_better"),
                    lambda row: _write_published("paper")(row) + " *"[row["paper_better"]]),
    "paper_human": Column("human %", ("paper_human",), lambda row: f"{row['paper_human']:.1f}"),
    "paper_improvement": Column("paper", ("paper_improvement",), lambda row: f"{row['paper_improvement']:g}"),
    "mnih": Column("Mnih et al.", ("mnih_mean", "mnih_std"), _write_published("mnih")),
}


def choose_columns(keys: str) -> list[Column]:
    """Return the columns that a text of their keys names."""
    return [COLUMNS[key] for key in keys.split()]


# Tables


def make_table(name: str, runs: curves.Runs) -> tuple[Table, list[str]]:
    """Return a table of runs, and sentences on runs that are left out.

    Args:
        name: a key of TABLES.
        runs: {directory: settings}.

    Raises:
        ValueError: a file of a run is damaged, or no run belongs in this table.
    """
    run_scores, notes = scores.read_scores(runs)
    table, more_notes = TABLES[name](run_scores)
    return table, [*notes, *more_notes]


def read_paper(name: str) -> dict[str, dict[str, Any]]:
    """Read published numbers.

    Returns:
        {first cell of a row: {column: number, text, or None where a cell is empty}}.
    """
    lines = (PAPER / f"{name}.csv").read_text().splitlines()[1:]  # The first line cites the source.
    parse = lambda text: float(text) if re.fullmatch(r"-?[\d.]+", text) else text or None
    return {next(iter(row.values())): {column: parse(text) for column, text in row.items()}
            for row in csv.DictReader(lines)}


def games_table(run_scores: Sequence[scores.Score], name: str, title: str, dqn_history: int, flicker: float
                ) -> tuple[Table, list[str]]:
    """Return the table of the paper's games, our scores beside the published ones, and sentences on runs left out.

    Args:
        run_scores: [scores.Score, ...].
        name: the file of the paper's numbers.
        dqn_history, flicker: settings of the paper's agents. Its DRQN sees 1 frame.
    """
    theirs, mnih, agents = read_paper(name), read_paper("mnih2015_scores"), {"DRQN": 1, "DQN": dqn_history}
    cell_keys = [(game, *agent, flicker) for game in theirs for agent in agents.items()]
    cells, notes = scores.sort_into_cells(run_scores, cell_keys)
    rows = []
    for (game, network, history, _), inside in cells.items():
        mean, std = (theirs[game][f"{network.lower()}_{which}"] for which in ("mean", "std"))
        random, human = mnih[game]["random"], mnih[game]["human"]
        normalise = lambda score, random=random, human=human: 100 * (score - random) / (human - random)
        row = scores.summarise_scores(inside) | dict(
            env=game, agent=f"{network}, {drawing.setting_text('history', history)}", paper_mean=mean, paper_std=std,
            paper_better=theirs[game]["significant"] == network, paper_human=normalise(mean))
        row["normalised"] = [normalise(score) for score in row["scores"]]
        row["human"] = float(np.mean(row["normalised"])) if inside else None
        if network == "DQN":
            row |= dict(mnih_mean=mnih[game]["dqn_mean"], mnih_std=mnih[game]["dqn_std"])
        rows.append(row)
    pairs = list(zip(rows[::2], rows[1::2]))
    tests = scores.compare_pairs(pairs)
    scores.compare_pairs([pair[::-1] for pair in pairs])
    complete_pairs = [pair for pair in pairs if pair[0]["seeds"] and pair[1]["seeds"]]
    for i, network in enumerate(agents):
        of_network = [score for key, inside in cells.items() if key[1] == network for score in inside]
        names = scores.differing_settings(of_network, except_for=["env"])
        if names:
            notes.append(f"runs of {network} differ from game to game in {', '.join(names)}")
        if complete_pairs:
            rows.append(_aggregate_games([pair[i] for pair in complete_pairs]))
    caption = _describe_tests("between DRQN and DQN", tests, "the better one") + THEIRS + _describe_training(cells)
    columns = choose_columns("game agent score seeds steps chosen human p paper paper_human mnih")
    return Table(title, columns, rows, caption), notes


def _describe_training(cells):
    """Return a sentence on each way in which the runs of a table were trained.

    A reader sees from them which runs have the paper's settings.
    """
    names = "optimizer", "loss", "update_period", "target_period", "sample", "life_loss", "sticky", "num_envs"
    ways = set()
    for (_, network, *_), inside in cells.items():
        for score in inside:
            settings = ", ".join(f"{name} {score.settings[name]}" for name in names if name in score.settings)
            ways.add(f" {network}: {settings}.")
    return "".join(sorted(ways))


def _aggregate_games(rows):
    """Return the row of the interquartile mean over the games of one agent."""
    middle, low, high = statistics.stratified_interval([row["normalised"] for row in rows])
    has_spread = max(row["seeds"] for row in rows) > 1
    return dict(
        env=f"IQM, {len(rows)} game{'' if len(rows) == 1 else 's'}", agent=rows[0]["agent"], human=float(middle),
        human_low=float(low) if has_spread else None, human_high=float(high) if has_spread else None,
        paper_human=float(statistics.interquartile_mean([row["paper_human"] for row in rows])))


def _describe_tests(between, count, better):
    """Return the caption's sentences on our scores and on their tests."""
    return OURS + (TESTS.format(between, count, better) if count else "p: no test, which takes two seeds that differ. ")


def placement_table(run_scores: Sequence[scores.Score]) -> tuple[Table, list[str]]:
    """Return the table of the LSTM's places, and sentences on runs left out."""
    theirs, random = read_paper("lstm_placement"), read_paper("mnih2015_scores")["BeamRider"]["random"]
    cells, notes = scores.sort_into_cells(run_scores, [("BeamRider", network, 1, 0.0) for network in theirs])
    rows = [scores.summarise_scores(inside) | dict(agent=network, paper_improvement=theirs[network]["improvement"])
            for (_, network, *_), inside in cells.items()]
    for row in rows:
        row["improvement"] = 100 * (row["mean"] - random) / random if row["seeds"] else None
    tests = scores.compare_pairs([(row, rows[0]) for row in rows[1:]])
    caption = _describe_tests("against DRQN", tests, "better than it") + (
        "over random %: 100 (score - random) / random, random play of Mnih et al. 2015; beside it the paper's."
        ) + _describe_training(cells)
    columns = choose_columns("agent score seeds steps chosen p improvement paper_improvement")
    return Table("Places of the LSTM on Beam Rider", columns, rows, caption), notes


def group_lines(runs: Sequence[Run]) -> list[tuple[tuple[str, float, str], list[Run]]]:
    """Group runs by line, in the order in which a reader looks for them.

    Args:
        runs: [curves.Curve, ...].

    Returns:
        [((environment, flicker, label), runs of one line), ...].
    """
    in_labels = drawing.settings_in_labels(runs, apart=["env", "flicker"])
    lines: dict[tuple[Any, str], list[Run]] = {}  # (place among the lines, label) -> runs
    for run in runs:
        env, network, flicker = (run.settings[name] for name in ("env", "network", "flicker"))
        values = [run.settings.get(name) for name in in_labels[network]]
        # Random windows come before sequential ones, long windows before short ones.
        windows = run.settings.get("sample") == "sequential", -run.settings.get("unroll", 0)
        place = env, flicker, network != "DRQN", network, windows, *map(drawing.sort_key, values)
        label = ", ".join([network, *map(drawing.setting_text, in_labels[network], values)])
        lines.setdefault((place, label), []).append(run)
    return [((env, flicker, label), inside) for ((env, flicker, *_), label), inside in sorted(lines.items())]


def runs_table(run_scores: Sequence[scores.Score]) -> tuple[Table, list[str]]:
    """Return the table of any runs, with a row per line, and no sentences: no run is left out."""
    rows, pairs = [], []
    references: dict[tuple[str, float], dict[str, Any] | None] = {}
    for (env, flicker, label), inside in group_lines(run_scores):
        row = scores.summarise_scores(inside) | dict(env=env, flicker=flicker, agent=label)
        is_drqn = inside[0].settings["network"] == "DRQN"
        reference = references.setdefault((env, flicker), row if is_drqn else None)
        pairs += [(row, reference)] if reference and reference is not row else []
        rows.append(row)
    between = "against the first DRQN of the same environment and flicker"
    caption = _describe_tests(between, scores.compare_pairs(pairs), "better than it") + (
        f"95% interval: Student's t over seeds. {NONE}: unknown, from one seed; a p also where no seeds differ.")
    return Table("Runs", choose_columns("env flicker agent score interval seeds steps chosen p"), rows, caption), []


TABLES = {  # name -> function of [scores.Score, ...]
    "standard": lambda run_scores: games_table(run_scores, "table1_standard", "Atari, fully observed", 4, 0.0),
    "flicker": lambda run_scores: games_table(run_scores, "table3_flicker",
                                              "Atari, each screen obscured with probability 0.5", 10, 0.5),
    "placement": placement_table,
    "runs": runs_table,
}
