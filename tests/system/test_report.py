"""report.py: the file that it writes, what it prints, bad input in one sentence."""

import os
import pathlib
import subprocess
import sys

import pytest

import report
from helpers.pages import ParsedPage
from helpers.run_files import write_run

ROOT = pathlib.Path(report.__file__).parent


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def report_error(capsys, *arguments):
    """Return the sentence with which report.py refuses its arguments."""
    assert report.main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("report.py: ") and error.count("\n") == 1, error
    return error


def test_a_page_is_written_and_its_size_is_printed(tmp_path, capsys):
    write_run(tmp_path / "runs/s1", [(100, (1, 3))])
    write_run(tmp_path / "runs/s2", [(100, (1, 3))], seed=2)
    write_run(tmp_path / "runs/dqn", [(100, (9, 9))], network="DQN")
    assert report.main(["runs", "-o", "out/page.html"]) == 0
    assert os.listdir("out") == ["page.html"]  # The file that is written first and then renamed is gone.
    source = (tmp_path / "out/page.html").read_text()
    assert capsys.readouterr().out == f"3 runs in 2 experiments: out/page.html, {len(source) / 1e6:.1f} MB.\n"
    parsed = ParsedPage(source)
    assert parsed.row("CartPole-v1", "0", "DRQN, 1 frame", "2")
    assert "python report.py runs -o out/page.html" in parsed.text


def test_bad_input_is_one_sentence_and_leaves_nothing(tmp_path, capsys):
    assert "runs does not exist" in report_error(capsys)
    (tmp_path / "empty").mkdir()
    assert "empty holds no config.json, so it is no run of this suite" in report_error(capsys, "empty")
    run = write_run(tmp_path / "a", [(100, (1, 3))])
    (tmp_path / "a.log").write_text("log")
    assert "a.log is a file" in report_error(capsys, "a.log")
    assert "--out=empty is a directory" in report_error(capsys, "a", "-o", "empty")
    assert "--out=a.log/x.html cannot be written" in report_error(capsys, "a", "--out=a.log/x.html")
    assert "--out=a.doc asks for .doc; expected the path of a page, such as a.html" in report_error(
        capsys, "a", "--out=a.doc")
    assert "--colour is no flag" in report_error(capsys, "a", "--colour=red")
    (run / "eval.csv").write_text("agent_step\n1\n")
    assert "eval.csv is damaged" in report_error(capsys, "a")
    (run / "config.json").write_text("{")
    assert "config.json is not the configuration of a run" in report_error(capsys, "a")
    assert {path.name for path in tmp_path.iterdir()} == {"a", "a.log", "empty"}


def test_logs_beside_runs_are_passed_over_and_other_folders_are_named(tmp_path, capsys):
    write_run(tmp_path / "runs/a", [(100, (1, 3))])
    (tmp_path / "runs/a.log").write_text("log")
    (tmp_path / "runs/b").mkdir()
    assert report.main(["runs/a", "runs/a.log", "runs/b"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Note: left out: runs/b holds no config.json, so it is no run of this suite.\n1 run in ")
    parsed = ParsedPage((tmp_path / "report.html").read_text())
    assert "left out: runs/b holds no config.json" in parsed.text and "a.log" not in parsed.text
    assert "python report.py runs/a runs/b -o report.html" in parsed.text


def test_damaged_runs_are_named_and_the_others_shown_on_the_page(tmp_path, capsys):
    for name in "abc":
        write_run(tmp_path / "runs" / name, [(100, (1, 3))])
    (tmp_path / "runs/b/eval.csv").write_text("agent_step\n1\n")
    (tmp_path / "runs/c/config.json").write_text("{")
    assert report.main(["runs"]) == 0
    first, second, last = capsys.readouterr().out.splitlines()
    assert first.startswith("Note: left out: runs/c/config.json is not the configuration of a run of this suite")
    assert second.startswith("Note: left out: runs/b/eval.csv is damaged, or not of this suite: it begins with")
    assert last.startswith("1 run in 1 experiment: report.html")
    parsed = ParsedPage((tmp_path / "report.html").read_text())
    assert "left out: runs/b/eval.csv is damaged" in parsed.text and "left out: runs/c/config.json" in parsed.text
    assert parsed.row("runs/a")[1] == "1"


def test_help_needs_no_backend():
    code = ("import sys, report; report.main(['--help']); "
            "print({'keras', 'tensorflow', 'jax', 'train', 'plot'} & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "-o,--out" in done.stdout and done.stdout.endswith("set()\n"), done.stdout + done.stderr
