"""Writers of tables: text, CSV, Markdown and LaTeX of one table, and files that are written whole or not at all."""

import csv
import pathlib
import re

import numpy as np
import pytest

from analysis import tables, writers
from helpers.analysed_runs import write_scores
from helpers.run_files import find_checked


@pytest.fixture
def written(tmp_path):
    """Return a table as text, and a function that reads the file of the same table with a given suffix."""
    settings = dict(env="Wicked_&_100%_v-1", flicker=0.5)
    write_scores(tmp_path, [1234.5, 2000, 1 / 3], **settings, network="DRQN")
    write_scores(tmp_path, [-0.5, -0.7], **settings, network="DQN")
    table, _ = tables.make_table("runs", find_checked([tmp_path])[0])
    paths = writers.save_table(table, f"{tmp_path}/deep/table.csv")
    assert sorted(paths) == sorted((tmp_path / "deep").iterdir())
    return writers.to_text(table), lambda suffix: (tmp_path / "deep" / f"table.{suffix}").read_text()


def test_csv_has_full_precision(written):
    drqn, dqn = csv.DictReader(written[1]("csv").splitlines())
    assert float(drqn["mean"]) == np.mean([1234.5, 2000, np.mean([1 / 3 - 1, 1 / 3, 1 / 3 + 1])])
    assert (drqn["seeds"], drqn["episodes_min"], drqn["steps_max"], drqn["chosen_step_min"]) == ("3", "3", "300", "200")
    assert (drqn["env"], drqn["agent"]) == ("Wicked_&_100%_v-1", "DRQN, 1 frame")
    assert (drqn["p"], drqn["better"]) == ("", "")
    assert float(dqn["mean"]) == pytest.approx(-0.6, rel=1e-12) and dqn["better"] == "False" and float(dqn["p"]) > 0


def test_text_and_markdown_have_the_same_cells(written):
    text, read_suffix = written
    text_cells = [re.split(r" {2,}", line.strip()) for line in text.splitlines() if "frame" in line]
    lines = [line for line in read_suffix("md").splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == len(set(map(len, lines))) == 1
    markdown = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [[cell for cell in row if cell] for row in markdown[2:]] == text_cells
    assert re.fullmatch(r"(\|--+){3}(\|-+:){6}\|", lines[1])
    assert markdown[2][:4] == ["Wicked_&_100%_v-1", "0.5", "DRQN, 1 frame", "1078 ± 1009"]
    assert markdown[3][:4] == ["", "", "DQN, 1 frame", "-0.60 ± 0.14"]
    assert "training seeds, the unit of replication" in text.replace("\n", " ")
    assert "the unit of replication" in read_suffix("md")


def test_latex_is_a_booktabs_tabular_with_every_sign_escaped(written):
    latex = written[1]("tex")
    parts = [r"\begin{table*}", r"\begin{tabular}{lllrrrrrr}", r"\toprule", r"\midrule", r"\bottomrule",
             r"\end{tabular}", r"\caption{", r"\end{table*}"]
    assert sorted(map(latex.index, parts)) == [latex.index(part) for part in parts] and latex.isascii()
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 3 and all(len(re.findall(r"(?<!\\)&", row)) == 8 for row in rows)
    assert r"Wicked\_\&\_100\%\_v-1 & 0.5 & DRQN, 1 frame & 1078 $\pm$ 1009 &" in latex
    assert r"& $-$0.60 $\pm$ 0.14 &" in latex
    body = latex.split("booktabs}", 1)[1]
    assert not re.search(r"(?<!\\)[%#_]", body) and len(re.findall(r"(?<!\\)\$", body)) % 2 == 0
    assert body.count("{") - body.count(r"\{") == body.count("}") - body.count(r"\}")


def test_latex_escapes_the_signs_of_its_language():
    row = dict(env="\\~^{}$#<a|b>*", flicker=0.0, agent="–†")
    latex = writers.to_latex(writers.Table("t", tables.choose_columns("env flicker agent"), [row], ""))
    signs = r"\textbackslash{}\textasciitilde{}\textasciicircum{}\{\}\$\#$<$a$|$b$>$$^*$"
    assert signs + r" & 0 & --$^\dagger$ \\" in latex


def test_markdown_lets_no_name_begin_a_cell_a_tag_or_a_link():
    row = dict(env="a|b<img src=x onerror=alert(1)>[c](javascript:d)</td>", flicker=0.5, agent="p <.001, 1 < 2 [1, 2]")
    *_, cells, _, caption, _ = writers.to_markdown(writers.Table(
        "t", tables.choose_columns("env flicker agent"), [row], "<b>p < .05")).split("\n")
    assert cells == (r"| a\|b&lt;img src=x onerror=alert(1)>[c]\(javascript:d)&lt;/td> | 0.5     | "
                     "p <.001, 1 < 2 [1, 2] |")
    assert caption == "&lt;b>p < .05"


def test_a_file_that_cannot_be_written_leaves_no_other_file(tmp_path):
    table = writers.Table("t", tables.choose_columns("env"), [dict(env="Pong")], "")
    (tmp_path / "one.md").mkdir()
    with pytest.raises(ValueError, match="--out=.*one cannot be written"):
        writers.save_table(table, f"{tmp_path}/one")
    with pytest.raises(ValueError, match="is a directory; expected a path to which .csv, .md and .tex are added"):
        writers.save_table(table, f"{tmp_path}/")
    assert [path.name for path in pathlib.Path(tmp_path).iterdir()] == ["one.md"]
