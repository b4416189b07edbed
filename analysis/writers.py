"""A table of rows, and its writers: text, Markdown, LaTeX and CSV."""

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
from collections.abc import Callable
from typing import Any

NONE, UNFINISHED, MINUS = "\N{EN DASH}", "\N{DAGGER}", "\N{MINUS SIGN}"
LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", NONE: "--",
    UNFINISHED: r"$^\dagger$", "*": "$^*$", "±": r"$\pm$",
    "×": r"$\times$", MINUS: "$-$",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"}, **{sign: f"${sign}$" for sign in "<>|"},
}


@dataclasses.dataclass
class Column:
    """A column of tables, the same for all writers.

    Attributes:
        title: the text at its head.
        fields: the fields of a row that it needs; each is a column of the CSV. Where a row lacks the first field, the
            cell is blank. Where the first field is None, the cell says that there is no value.
        write_cell: turns a row into the text of its cell.
        align: `<` or `>`.
    """

    title: str
    fields: tuple[str, ...]
    write_cell: Callable[[dict[str, Any]], str]
    align: str = ">"

    def text(self, row: dict[str, Any]) -> str:
        """Return the text of a row's cell."""
        if self.fields[0] not in row:
            return ""
        return NONE if row[self.fields[0]] is None else self.write_cell(row)


@dataclasses.dataclass
class Table:
    """Rows of fields, the columns that show them, and a caption on how to read them."""

    title: str
    columns: list[Column]
    rows: list[dict[str, Any]]
    caption: str

    def lines(self) -> list[list[str]]:
        """Return the head and the rows as texts [line][column], padded to one width per column.

        In the leading columns of text, a cell that repeats the cell above is blank.
        """
        lines = [[column.title for column in self.columns]]
        lines += [[column.text(row) for column in self.columns] for row in self.rows]
        for above, line in reversed(list(itertools.pairwise(lines))):
            for i, column in enumerate(self.columns):
                if line[i] != above[i] or column.align == ">":
                    break
                line[i] = ""
        widths = [max(map(len, texts)) for texts in zip(*lines)]
        return [[f"{text:{column.align}{width}}" for text, column, width in zip(line, self.columns, widths)]
                for line in lines]


def to_text(table: Table) -> str:
    """Return a table as plain text for a terminal."""
    head, *lines = ["  ".join(line).rstrip() for line in table.lines()]
    rule = "-" * max(map(len, [head, *lines]))
    return "\n".join([table.title, rule, head, rule, *lines, rule, textwrap.fill(table.caption, len(rule))])


def to_markdown(table: Table) -> str:
    """Return a table as Markdown."""
    head, *lines = [f"| {' | '.join(map(_escape_markdown, line))} |" for line in table.lines()]
    rule = "|".join("-" * len(text) + ("-:" if column.align == ">" else "--")
                    for text, column in zip(table.lines()[0], table.columns))
    caption = _escape_markdown(table.caption)
    return "\n".join([f"**{table.title}**", "", head, f"|{rule}|", *lines, "", caption, ""])


def _escape_markdown(text):
    """Return a text that begins no cell, tag or link. A lone * or _ in a word, and `<` before a number, begin none."""
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text.replace("|", r"\|")).replace("](", r"]\(")


def to_latex(table: Table) -> str:
    """Return a table as a LaTeX table* that needs the package booktabs."""
    escape = lambda text: "".join(LATEX.get(sign, sign) for sign in re.sub(r"(?<!\w)-(?=\d)", MINUS, text.strip()))
    head, *lines = [" & ".join(map(escape, line)) + r" \\" for line in table.lines()]
    align = "".join("l" if column.align == "<" else "r" for column in table.columns)
    return "\n".join([
        r"\begin{table*}  % needs \usepackage{booktabs}", r"\centering", rf"\begin{{tabular}}{{{align}}}",
        r"\toprule", head, r"\midrule", *lines, r"\bottomrule", r"\end{tabular}",
        rf"\caption{{{escape(f'{table.title}. {table.caption}')}}}", r"\end{table*}", ""])


def to_csv(table: Table) -> str:
    """Return a table as CSV: a column per field, numbers with full precision."""
    file = io.StringIO()
    fields = [field for column in table.columns for field in column.fields]
    writer = csv.DictWriter(file, fields, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(table.rows)
    return file.getvalue()


WRITERS = {".csv": to_csv, ".md": to_markdown, ".tex": to_latex}


def save_table(table: Table, out: str) -> list[pathlib.Path]:
    """Write <out>.csv, <out>.md and <out>.tex. All three are written aside first, so that no file is ever half a table.

    Returns:
        the paths of the files.

    Raises:
        ValueError: out cannot be the path of these files.
    """
    out = re.sub(r"\.(csv|md|tex)$", "", out)
    suffix = pathlib.Path(out).suffix
    if re.fullmatch(r"\.[A-Za-z]{2,5}", suffix):
        raise ValueError(f"--out={out} asks for {suffix}; expected a path to which .csv, .md and .tex are added")
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
