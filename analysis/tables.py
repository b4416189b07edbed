"""Tables of scores over seeds, beside the published ones (Hausknecht & Stone 2015, tables 1 and 3, appendix; Mnih et al. 2015)."""

import contextlib
import csv
import dataclasses
import errno
import io
import itertools
import os
import pathlib
import re
import textwrap

import numpy as np

from analysis import drawing, scores, statistics

PAPER = pathlib.Path(__file__).parents[1] / "paper"
NONE, UNFINISHED = "\N{EN DASH}", "\N{DAGGER}"
LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", **{sign: f"\\{sign}" for sign in "&%$#_{}"},
         NONE: "--", UNFINISHED: r"$^\dagger$", "*": "$^*$", "±": r"$\pm$", **{sign: f"${sign}$" for sign in "<>|"}}
OURS = ("score: the best checkpoint's over fresh episodes, mean ± standard deviation over training seeds, the unit of replication here. "
        f"steps: agent steps, {UNFINISHED} with unfinished runs. chosen by: mean return of the evaluation that chose it and flatters it. ")
TESTS = "p: Welch's t-test over seeds {}, Benjamini-Hochberg over the table's {} tests; * {}, p < .05. "
THEIRS = ("human %: 100 (score - random) / (human - random) of our and of the paper's score, random and human of Mnih et al. 2015. "
          "IQM: interquartile mean of human % over seeds and the games that both agents have, with 95% bootstrap interval, seeds resampled "
          "within each game, to which a game of one seed adds nothing. The paper's deviations and its * (a t-test) are over 10 episodes of "
          "one checkpoint, not over training seeds: not comparable with ours. Mnih et al.: 30 episodes of one agent.")


@dataclasses.dataclass
class Column:
    """A column of every table that has it, for all writers.

    Args:
        fields: of a row, each a column of the CSV. A row without the first of them is blank here; where it is None, there is no value.
        show: turns a row into text.
    """

    title: str
    fields: tuple
    show: callable
    align: str = ">"

    def text(self, row):
        return "" if self.fields[0] not in row else NONE if row[self.fields[0]] is None else self.show(row)


def number(value, beside=0):
    """Return a return with as many decimals as its size, or that of the one beside it, needs."""
    size = max(abs(value), abs(beside))
    return f"{value:.{0 if size >= 1000 else 1 if size >= 10 else 2}f}"


def spread(mean, std):
    return number(mean) if std is None else f"{number(mean, std)} ± {number(std, mean)}"


def steps(low, high):
    show = lambda count: f"{count / 1e6:.3g}M" if count >= 1e6 else f"{count / 1e3:.3g}k" if count >= 1e3 else str(count)
    return show(low) if show(low) == show(high) else f"{show(low)}{NONE}{show(high)}"


def human(row):
    return f"{row['human']:.1f}" + (f" [{row['human_low']:.1f}, {row['human_high']:.1f}]" if row.get("human_low") is not None else "")


COLUMNS = {  # Those that may bear a mark have a blank where they bear none, so that numbers stay below each other.
    "game": Column("game", ("env",), lambda row: row["env"], "<"),
    "env": Column("environment", ("env",), lambda row: row["env"], "<"),
    "flicker": Column("flicker", ("flicker",), lambda row: f"{row['flicker']:g}", "<"),
    "agent": Column("agent", ("agent",), lambda row: row["agent"], "<"),
    "score": Column("score ", ("mean", "std", "better"), lambda row: spread(row["mean"], row["std"]) + " *"[row.get("better", False)]),
    "interval": Column("95% interval", ("low", "high"),
                       lambda row: f"[{number(row['low'], row['mean'])}, {number(row['high'], row['mean'])}]"),
    "seeds": Column("seeds", ("seeds", "episodes_min", "episodes_max"), lambda row: str(row["seeds"])),
    "steps": Column("steps ", ("steps_min", "steps_max", "unfinished"),
                    lambda row: steps(row["steps_min"], row["steps_max"]) + (UNFINISHED if row["unfinished"] else " ")),
    "chosen": Column("chosen by", ("chosen_by", "chosen_step_min", "chosen_step_max"), lambda row: number(row["chosen_by"], row["mean"])),
    "human": Column("human %", ("human", "human_low", "human_high"), human),
    "p": Column("p", ("p_adjusted", "p"), lambda row: "<.001" if row["p_adjusted"] < 0.001 else f"{row['p_adjusted']:.3f}".lstrip("0")),
    "improvement": Column("over random %", ("improvement",), lambda row: f"{row['improvement']:.0f}"),
    "paper": Column("paper ", ("paper_mean", "paper_std", "paper_better"),
                    lambda row: f"{row['paper_mean']:g} ± {row['paper_std']:g}" + " *"[row["paper_better"]]),
    "paper_human": Column("human %", ("paper_human",), lambda row: f"{row['paper_human']:.1f}"),
    "paper_improvement": Column("paper", ("paper_improvement",), lambda row: f"{row['paper_improvement']:g}"),
    "mnih": Column("Mnih et al.", ("mnih_mean", "mnih_std"), lambda row: f"{row['mnih_mean']:g} ± {row['mnih_std']:g}"),
}


@dataclasses.dataclass
class Table:
    """Rows of fields, the columns in which they are shown, and what a reader must know about them."""

    title: str
    keys: str  # of COLUMNS
    rows: list
    caption: str

    @property
    def columns(self):
        return [COLUMNS[key] for key in self.keys.split()]

    def lines(self):
        """Return texts [titles and rows][columns], of one width per column; on the left, what repeats the line above is blank."""
        lines = [[column.title for column in self.columns]] + [[column.text(row) for column in self.columns] for row in self.rows]
        for above, line in reversed(list(itertools.pairwise(lines))):
            for i, column in enumerate(self.columns):
                if line[i] != above[i] or column.align == ">":
                    break
                line[i] = ""
        widths = [max(map(len, texts)) for texts in zip(*lines)]
        return [[f"{text:{column.align}{width}}" for text, column, width in zip(line, self.columns, widths)] for line in lines]


# From scores to rows


def make(name, found):
    """Return a table of runs, and sentences on all that it leaves out.

    Args:
        name: of TABLES.
        found: {directory: settings}.

    Raises:
        ValueError: a file of a run is damaged, or none of them belongs into this table.
    """
    own, notes = scores.read_scores(found)
    table, more = TABLES[name](own)
    return table, [*notes, *more]


def read_paper(name):
    """Return {first column: {column: number, text, or None where a cell is empty}} of published numbers."""
    lines = (PAPER / f"{name}.csv").read_text().splitlines()[1:]  # The first line cites the source.
    value = lambda text: float(text) if re.fullmatch(r"-?[\d.]+", text) else text or None
    return {next(iter(row.values())): {column: value(cell) for column, cell in row.items()} for row in csv.DictReader(lines)}


def published(own, name, title, dqn_history, flicker):
    """Return a table of the paper's games, ours beside theirs, and sentences on what is not in it."""
    theirs, mnih, agents = read_paper(name), read_paper("mnih2015_scores"), {"DRQN": 1, "DQN": dqn_history}
    cells, notes = scores.into_cells(own, [(game, *agent, flicker) for game in theirs for agent in agents.items()])
    rows = []
    for (game, network, history, _), inside in cells.items():
        mean, std = (theirs[game][f"{network.lower()}_{which}"] for which in ("mean", "std"))
        normalise = lambda score, mnih=mnih[game]: 100 * (score - mnih["random"]) / (mnih["human"] - mnih["random"])
        row = scores.summarise(inside) | dict(
            env=game, agent=f"{network}, {drawing.show('history', history)}", paper_mean=mean, paper_std=std,
            paper_better=theirs[game]["significant"] == network, paper_human=normalise(mean))
        row["normalised"] = [normalise(score) for score in row["scores"]]
        row["human"] = float(np.mean(row["normalised"])) if inside else None
        rows.append(row | (dict(mnih_mean=mnih[game]["dqn_mean"], mnih_std=mnih[game]["dqn_std"]) if network == "DQN" else {}))
    pairs = list(zip(rows[::2], rows[1::2]))
    tests = scores.compare(pairs)
    scores.compare([pair[::-1] for pair in pairs])
    both = [pair for pair in pairs if pair[0]["seeds"] and pair[1]["seeds"]]
    for i, network in enumerate(agents):
        names = scores.differing([score for key, inside in cells.items() if key[1] == network for score in inside], but=["env"])
        notes += [f"runs of {network} differ from game to game in {', '.join(names)}"] if names else []
        rows += [aggregate([pair[i] for pair in both])] if both else []
    caption = describe_tests("between DRQN and DQN", tests, "the better one") + THEIRS + describe(cells)
    return Table(title, "game agent score seeds steps chosen human p paper paper_human mnih", rows, caption), notes


def describe(cells):
    """Return a sentence on each way in which the runs of a table were trained, by which one tells the paper's settings from others."""
    names = "optimizer", "loss", "update_period", "target_period", "sample", "life_loss", "sticky", "num_envs"
    ways = {f" {key[1]}: {', '.join(f'{name} {score.settings[name]}' for name in names if name in score.settings)}."
            for key, inside in cells.items() for score in inside}
    return "".join(sorted(ways))


def aggregate(rows):
    """Return the row of the interquartile mean over the games of one agent."""
    middle, low, high = statistics.stratified_interval([row["normalised"] for row in rows])
    known = max(row["seeds"] for row in rows) > 1
    return dict(env=f"IQM, {len(rows)} game{'' if len(rows) == 1 else 's'}", agent=rows[0]["agent"], human=float(middle),
                human_low=float(low) if known else None, human_high=float(high) if known else None,
                paper_human=float(statistics.interquartile_mean([row["paper_human"] for row in rows])))


def describe_tests(between, count, better):
    """Return the caption's sentences on our scores, and on their tests where there are any."""
    return OURS + (TESTS.format(between, count, better) if count else "p: no test, which takes two seeds that differ. ")


def placement(own):
    """Return the table of the places of the LSTM, and sentences on what is not in it."""
    theirs, random = read_paper("lstm_placement"), read_paper("mnih2015_scores")["BeamRider"]["random"]
    cells, notes = scores.into_cells(own, [("BeamRider", network, 1, 0.0) for network in theirs])
    rows = [scores.summarise(inside) | dict(agent=network, paper_improvement=theirs[network]["improvement"])
            for (_, network, *_), inside in cells.items()]
    for row in rows:
        row["improvement"] = 100 * (row["mean"] - random) / random if row["seeds"] else None
    tests = scores.compare([(row, rows[0]) for row in rows[1:]])
    caption = describe_tests("against DRQN", tests, "better than it") + (
        "over random %: 100 (score - random) / random, random play of Mnih et al. 2015; beside it the paper's.") + describe(cells)
    return Table("Places of the LSTM on Beam Rider", "agent score seeds steps chosen p improvement paper_improvement", rows, caption), notes


def group(own):
    """Return [((environment, flicker, label), runs of one line), ...], in the order in which a reader looks for them."""
    names = drawing.label_settings(own, apart=["env", "flicker"])
    lines = {}
    for run in own:
        env, network, flicker = (run.settings[name] for name in ("env", "network", "flicker"))
        values = [run.settings.get(name) for name in names[network]]
        usual = run.settings.get("sample") == "sequential", -run.settings.get("unroll", 0)  # Windows at random, and long, come first.
        place = env, flicker, network != "DRQN", network, usual, *map(drawing.order, values)
        label = ", ".join([network, *map(drawing.show, names[network], values)])
        lines.setdefault((place, label), []).append(run)
    return [((env, flicker, label), inside) for ((env, flicker, *_), label), inside in sorted(lines.items())]


def each_line(own):
    """Return the table of any runs, a row per line, and no sentences: it leaves nothing out."""
    rows, pairs, references = [], [], {}
    for (env, flicker, label), inside in group(own):
        row = scores.summarise(inside) | dict(env=env, flicker=flicker, agent=label)
        reference = references.setdefault((env, flicker), row if inside[0].settings["network"] == "DRQN" else None)
        pairs += [(row, reference)] if reference and reference is not row else []
        rows.append(row)
    caption = describe_tests("against the first DRQN of the same environment and flicker", scores.compare(pairs), "better than it")
    return Table("Runs", "env flicker agent score interval seeds steps chosen p", rows,
                 f"{caption}95% interval: Student's t over seeds. {NONE}: unknown, from one seed or where all seeds return the same."), []


TABLES = {
    "standard": lambda own: published(own, "table1_standard", "Atari, fully observed", 4, 0.0),
    "flicker": lambda own: published(own, "table3_flicker", "Atari, each screen obscured with probability 0.5", 10, 0.5),
    "placement": placement,
    "runs": each_line,
}


# Writers


def to_text(table):
    head, *lines = ["  ".join(line).rstrip() for line in table.lines()]
    rule = "-" * max(map(len, [head, *lines]))
    return "\n".join([table.title, rule, head, rule, *lines, rule, textwrap.fill(table.caption, len(rule))])


def to_markdown(table):
    head, *lines = [f"| {' | '.join(line)} |" for line in table.lines()]  # A lone * or _ within a word needs no escape.
    rule = ["-" * len(text) + ("-:" if column.align == ">" else "--") for text, column in zip(table.lines()[0], table.columns)]
    return "\n".join([f"**{table.title}**", "", head, f"|{'|'.join(rule)}|", *lines, "", table.caption, ""])


def to_latex(table):
    escape = lambda text: re.sub(r"(?<!\w)-(?=\d)", "$-$", "".join(LATEX.get(sign, sign) for sign in text.strip()))
    head, *lines = [" & ".join(map(escape, line)) + r" \\" for line in table.lines()]
    align = "".join("l" if column.align == "<" else "r" for column in table.columns)
    return "\n".join([r"\begin{table*}  % needs \usepackage{booktabs}", r"\centering", rf"\begin{{tabular}}{{{align}}}", r"\toprule", head,
                      r"\midrule", *lines, r"\bottomrule", r"\end{tabular}", rf"\caption{{{escape(f'{table.title}. {table.caption}')}}}",
                      r"\end{table*}", ""])


def to_csv(table):
    file = io.StringIO()
    fields = [field for column in table.columns for field in column.fields]
    writer = csv.DictWriter(file, fields, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(table.rows)
    return file.getvalue()


WRITERS = {".csv": to_csv, ".md": to_markdown, ".tex": to_latex}


def save(table, out):
    """Write <out>.csv, <out>.md and <out>.tex, each whole; return their paths.

    Raises:
        ValueError: out is no path for them.
    """
    out = re.sub(r"\.(csv|md|tex)$", "", out)
    if not out or out.endswith("/"):
        raise ValueError(f"--out={out} is a directory; expected a path to which .csv, .md and .tex are added")
    asides = {pathlib.Path(out + suffix): pathlib.Path(f"{out}.aside-{os.getpid()}{suffix}") for suffix in WRITERS}
    try:
        pathlib.Path(out).parent.mkdir(parents=True, exist_ok=True)
        for path, aside in asides.items():
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
            aside.write_text(WRITERS[path.suffix](table))
        for path, aside in asides.items():
            os.replace(aside, path)
    except OSError as error:
        raise ValueError(f"--out={out} cannot be written ({error.strerror}: {error.filename})") from error
    finally:
        for aside in asides.values():
            with contextlib.suppress(OSError):
                aside.unlink()
    return list(asides)
