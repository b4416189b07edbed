"""plot.py: the files that it writes, what it prints, its flags, bad input in one sentence."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

import plot
from analysis import tables
from helpers.analysed_runs import (
    DQN,
    DQN_10,
    DRQN,
    SWEEP_HEADER,
    write_scores,
    write_seeds,
    write_sweep_rows,
    write_swept_run,
)
from helpers.run_files import write_run

ROOT = pathlib.Path(plot.__file__).parent


@pytest.fixture(autouse=True)
def elsewhere(tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))  # The default --out is in the working directory.


def plot_text(capsys, *arguments):
    """Return what plot.py prints."""
    assert plot.main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def plot_error(capsys, *arguments):
    """Return the sentence with which plot.py refuses its arguments."""
    assert plot.main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("plot.py: ") and error.count("\n") == 1, error
    return error


# Figures


def test_pictures_are_written_and_show_the_lines(tmp_path, capsys):
    write_seeds(tmp_path / "a", [(10, 40, 70), (20, 50, 90)])
    write_seeds(tmp_path / "b", [(1, 4, 7), (2, 5, 9)], network="DQN", history=4)
    out, folders = tmp_path / "figures" / "learning", (tmp_path / "a", tmp_path / "b")
    # Flags may come after paths.
    assert plot_text(capsys, *folders, f"--out={out}", "--x", "frames") == f"4 runs drawn: {out}.png and {out}.svg.\n"
    image = np.asarray(Image.open(f"{out}.png").convert("RGB"))
    assert 900 < image.shape[1] < 1200  # a column of 3.5 inches at 300 dots
    pixels = image.reshape(-1, 3)
    assert (pixels == 255).all(1).mean() > 0.5
    for colour in ("#D55E00", "#0072B2"):
        assert (np.abs(pixels - 255 * np.array(to_rgb(colour))).max(1) < 3).sum() > 500
    svg = pathlib.Path(f"{out}.svg").read_text()
    assert "emulator frames" in svg and "#d55e00" in svg and not re.search("<dc:date>", svg)
    plot_text(capsys, *folders, f"--out={out}.png", "--x=frames")
    assert pathlib.Path(f"{out}.svg").read_text() == svg  # The same runs give the same bytes, for either form of --out.


def test_pictures_have_the_name_of_their_figure(tmp_path):
    write_run(tmp_path / "a", [(100, (1, 3))])
    assert plot.main([str(tmp_path / "a")]) == 0
    assert {path.name for path in pathlib.Path().iterdir()} == {"curves.png", "curves.svg"}


@pytest.mark.parametrize("figure", ["curves", "observability"])
def test_a_pdf_has_its_fonts_as_truetype_and_nothing_is_written_beside_it(tmp_path, figure, capsys):
    run = write_run(tmp_path / "a", [(100, (1, 3)), (200, (5, 9))], maxsteps=200)
    write_sweep_rows(run, "agent,best,0.5,0,50,9,0.05,0", "agent,best,1.0,0,100,9,0.05,0",
                     "random,random,1.0,0,20,9,1.0,0")
    out = tmp_path / "figures" / "one.pdf"
    assert plot_text(capsys, run, f"--figure={figure}", f"--out={out}") == f"1 run drawn: {out}.\n"
    assert list(out.parent.iterdir()) == [out]
    pdf = out.read_bytes()
    assert pdf.startswith(b"%PDF") and b"/CIDFontType2" in pdf and b"/FontFile2" in pdf and b"/Type3" not in pdf
    assert b"/CreationDate" not in pdf  # The same runs give the same bytes.


# Notes


def test_empty_and_unfinished_runs_are_noted(tmp_path, capsys):
    write_run(tmp_path / "runs" / "a", [(100, (1, 3))], maxsteps=1_000_000)
    write_run(tmp_path / "runs" / "b", seed=2)
    (write_run(tmp_path / "runs" / "c", seed=3) / "eval.csv").write_text("")
    (write_run(tmp_path / "runs" / "d", seed=4) / "eval.csv").unlink()
    for name in "pong.log", "curves.png":  # A pattern takes these, too; they are no runs, and nobody thinks so.
        (tmp_path / "runs" / name).write_text("log")
    (tmp_path / "runs" / "empty").mkdir()
    text = plot_text(capsys, *sorted((tmp_path / "runs").iterdir()), f"--out={tmp_path / 'curves'}")
    assert text.replace(str(tmp_path), "").splitlines() == [
        "Note: left out: /runs/empty holds no config.json, so it is no run of this suite.",
        *(f"Note: /runs/{name} has no evaluation yet." for name in "bcd"),
        "Note: 1 of 4 runs are unfinished; the shortest is /runs/a, at 100 of 1,000,000 agent steps.",
        "1 run drawn: /curves.png and /curves.svg."]


@pytest.mark.parametrize("maxepisodes", [2, 3])
def test_a_run_that_has_met_its_episodes_is_finished(tmp_path, capsys, maxepisodes):
    limits = dict(maxsteps=1_000_000, maxepisodes=maxepisodes)
    write_run(tmp_path / "a", [(100, (1, 3))], episodes=[(40, 1), (90, 3)], **limits)
    text = plot_text(capsys, tmp_path / "a", f"--out={tmp_path / 'curves'}")
    assert ("1 of 1 runs are unfinished" in text) == (maxepisodes == 3)


def test_sweeps_that_cannot_be_drawn_are_noted(tmp_path, capsys):
    for name in ("a", "again"):
        write_swept_run(tmp_path / name, {0.5: (-15, -5), 1.0: (9, 11)}, random=(-21, -19), env="Pong")
    write_swept_run(tmp_path / "bad", {0.5: (-20, -20), 1.0: (-21, -21)}, random=(-21, -20), env="Pong", seed=2)
    write_run(tmp_path / "none", env="Pong", seed=3)
    other = write_swept_run(tmp_path / "other", {0.5: (-15, -5), 1.0: (9, 11)}, env="Pong", seed=4)
    sweep = other / "observability.csv"
    sweep.write_text(sweep.read_text().replace("best", "last"))
    text = plot_text(capsys, tmp_path, "--figure=observability", f"--out={tmp_path / 'figure'}")
    assert text.replace(str(tmp_path), "").splitlines() == [
        "Note: /none has no observability.csv yet; "
        "evaluate.py --run_dir=/none --observation_probabilities=0.1,...,1.0 writes it.",
        "Note: /other/observability.csv is not of the best weights at the run's --eval_epsilon=0.05, and is left out.",
        "Note: /again and /a are the same seed of the same settings; only the longer one counts.",
        "Note: /bad has no fractions: its original score, -21.00, is no more than their zero, -20.50.",
        "1 run drawn: /figure.png and /figure.svg."]
    assert "none has no observability.csv yet" in plot_error(capsys, tmp_path / "none", "--figure=observability")


# Tables


def test_published_tables_fit_a_terminal_and_are_named_after_themselves(tmp_path, capsys):
    for game, theirs in tables.read_paper("table3_flicker").items():
        for network, mean in ((DRQN, theirs["drqn_mean"]), (DQN_10, theirs["dqn_mean"])):
            means = [0.75 * mean, mean + 0.1, 1.25 * mean]
            write_scores(tmp_path, means, env=game, flicker=0.5, maxsteps=10_000, **network)
    text = plot_text(capsys, tmp_path, "--table=flicker")
    assert max(map(len, text.split("Note:")[0].splitlines())) <= 140
    assert {path.name for path in pathlib.Path().iterdir()} == {"flicker.csv", "flicker.md", "flicker.tex"}
    pathlib.Path("runs").mkdir()  # A folder of runs is no obstacle to the table of that name.
    plot_text(capsys, tmp_path, "--table=runs")
    assert pathlib.Path("runs.csv").exists()


def test_a_table_is_printed_with_its_notes_and_its_files(tmp_path, capsys):
    write_scores(tmp_path, [1, 2], env="Bowling", **DRQN)
    write_run(tmp_path / "new", env="Bowling", **DQN)
    text = plot_text(capsys, tmp_path, "--table=standard", "--out=deep/table.md")
    table, after = text.split("Note: ", 1)
    assert table.startswith("Atari, fully observed\n----") and "\nBowling" in table
    assert after.endswith("The table is in deep/table.csv, deep/table.md, deep/table.tex.\n")
    assert after.startswith(f"{tmp_path}/new has no evaluation yet.\n")


def test_tables_that_cannot_be_made_are_refused_in_one_sentence(tmp_path, capsys):
    write_scores(tmp_path / "a", [1], env="Pong", **DRQN)
    assert "1 of 1 runs have no cell in this table" in plot_error(capsys, tmp_path / "a", "--table=standard")
    assert "--x cannot be given with --table=runs" in plot_error(capsys, tmp_path / "a", "--table=runs", "--x=frames")
    assert "is a directory" in plot_error(capsys, tmp_path / "a", "--table=runs", "--out=here/")
    pathlib.Path("file").touch()
    error = plot_error(capsys, tmp_path / "a", "--table=runs", "--out=file/table")
    assert "--out=file/table cannot be written" in error
    pathlib.Path("b.md").mkdir()
    assert "--out=b cannot be written" in plot_error(capsys, tmp_path / "a", "--table=runs", "--out=b")
    assert "--table=latex" in plot_error(capsys, tmp_path / "a", "--table=latex")
    write_run(tmp_path / "c" / "d", [(100, (1, 2))])
    assert "none of 1 runs has a score" in plot_error(capsys, tmp_path / "c", "--table=runs")
    write_run(tmp_path / "c" / "e")
    assert "no evaluation yet" in plot_error(capsys, tmp_path / "c" / "e", "--table=runs")
    assert {path.name for path in pathlib.Path().iterdir()} == {"file", "b.md"}


def test_damaged_episodes_are_refused_in_one_sentence(tmp_path, capsys):
    write_scores(tmp_path, [10], env="Bowling", **DRQN)
    (path,) = tmp_path.glob("*/episodes-best.csv")
    path.write_text(path.read_text().replace("agent,best,1,10", "agent,best,1,many"))
    error = plot_error(capsys, tmp_path, "--table=standard")
    assert f"{path} is damaged, or not of this suite: could not convert string to float: 'many'" in error


# Bad input


def test_runs_without_points_are_not_drawn(tmp_path, capsys):
    write_run(tmp_path / "a")
    assert "a has no evaluation yet" in plot_error(capsys, tmp_path)
    assert "a has no complete episode yet" in plot_error(capsys, tmp_path, "--y=train")
    write_run(tmp_path / "b", seed=2)
    assert "none of 2 runs can be drawn; the first" in plot_error(capsys, tmp_path)


@pytest.mark.parametrize("config", [
    "", "[]", '"abc"', "{}", '{"settings": {"network": "DRQN"}}', '{"settings": {"network": [1]}}', "\x00"])
def test_directories_of_other_programs_are_left_out(tmp_path, capsys, config):
    run = write_run(tmp_path / "a", [(100, (1, 3))])
    (run / "config.json").write_text(config)
    sentences = "is not the configuration of a run of this suite|config.json has .*; expected|has no env, which every"
    assert re.search(sentences, plot_error(capsys, run))
    write_run(tmp_path / "b", [(100, (1, 3))])
    assert "left out" in plot_text(capsys, run, tmp_path / "b", f"--out={tmp_path / 'c'}")


def test_damaged_runs_are_noted_and_the_others_drawn(tmp_path, capsys):
    for seed, name in enumerate("abcd"):
        write_run(tmp_path / name, [(100, (1, 3))], fresh=(1, 2), random=(0, 1), seed=seed)
    (tmp_path / "b/eval.csv").write_text("agent_step\n1\n")
    (tmp_path / "c/config.json").write_text('{"settings": {"network": 3}}')
    (tmp_path / "d/episodes-random.csv").write_text("torn")
    figure = plot_text(capsys, tmp_path).splitlines()
    assert figure[0].startswith(f"Note: left out: {tmp_path}/c/config.json has no env")
    assert figure[1].startswith(f"Note: left out: {tmp_path}/b/eval.csv is damaged, or not of this suite: ")
    assert figure[-2].startswith(f"Note: left out: {tmp_path}/d/episodes-random.csv is damaged")
    assert figure[-1] == "2 runs drawn: curves.png and curves.svg."
    (tmp_path / "d/episodes-best.csv").write_text("torn")
    table = plot_text(capsys, tmp_path, "--table=runs")
    assert "1 × 2@0" in table
    for name in ("b/eval.csv", "c/config.json", "d/episodes-best.csv"):
        assert f"Note: left out: {tmp_path}/{name} " in table


def test_missing_paths_are_never_passed_over(tmp_path, capsys):
    write_run(tmp_path / "a", [(100, (1, 3))])
    assert "does not exist" in plot_error(capsys, tmp_path / "a", tmp_path / "typo")
    assert "does not exist" in plot_error(capsys, tmp_path / "runs" / "*")  # a pattern that matched nothing


@pytest.mark.parametrize("text, words", [
    ("", "no rows of the probability of training, 1"),
    ("policy,weights\nagent,best\n", "damaged, or not of this suite"),
    (f"{SWEEP_HEADER}\nagent,best,1.0,0,nan,9,0,0\n", "a value is not finite"),
    (f"{SWEEP_HEADER}\nagent,best,1.0,0,5,9,0,0\n", "no rows of random play"),
    (f"{SWEEP_HEADER}\nagent,best,1.0,0\n", "damaged, or not of this suite"),
    (f"{SWEEP_HEADER}\nagent,best,0.5,0,5,9,0,0\nrandom,random,1.0,0,5,9,1,0\n",
     "no rows of the probability of training, 1")])
def test_a_damaged_sweep_is_refused_in_one_sentence(tmp_path, capsys, text, words):
    (write_run(tmp_path / "a") / "observability.csv").write_text(text)
    assert words in plot_error(capsys, tmp_path, "--figure=observability")


def test_bad_flags(tmp_path, capsys):
    write_run(tmp_path / "a", [(100, (1, 3))], fresh=(1, 3))
    write_run(tmp_path / "b", [(100, (1, 3))], env="Pong")
    (tmp_path / "file").write_text("")
    for error, path, *arguments in [
            ("flickr is no flag of these runs; expected one such as flicker", tmp_path, "--grid_rows=flickr"),
            ("both history", tmp_path / "a", "--grid_rows=history", "--grid_columns=history"),
            ("--grid_columns=lines was given with --grid_rows=units; expected one of them alone", tmp_path / "a",
             "--grid_rows=units", "--grid_columns=lines"),
            ("lines is no flag of these runs", tmp_path / "a", "--grid_rows=lines"),
            ("runs of CartPole-v1, Pong; expected runs of one environment", tmp_path, "--grid_rows=history"),
            ("--x=minutes", tmp_path, "--x=minutes"),
            ("colour", tmp_path, "--colour=red"),
            ("cannot be written", tmp_path, f"--out={tmp_path}/file/curves"),
            ("is a directory", tmp_path, f"--out={tmp_path}"),
            ("--x=episodes counts episodes of training; expected --y=train", tmp_path, "--x=episodes"),
            ("asks for .eps", tmp_path, f"--out={tmp_path}/curves.eps"),
            ("asks for .doc", tmp_path, f"--out={tmp_path}/curves.doc"),
            ("asks for .doc; expected a path to which .csv, .md and .tex are added", tmp_path, "--table=runs",
             f"--out={tmp_path}/table.doc"),
            ("is a file, so it is no run", tmp_path / "file")]:
        assert error in plot_error(capsys, path, *arguments)
    assert not list(tmp_path.glob("*.png"))


def test_flags_of_curves_do_not_apply_to_the_sweeps(tmp_path, capsys):
    write_run(tmp_path / "a", [(100, (1, 3))])
    sweep = "--figure=observability"
    assert f"--grid_rows cannot be given with {sweep}" in plot_error(capsys, tmp_path, sweep, "--grid_rows=env")
    assert "--x and --y cannot be given" in plot_error(capsys, tmp_path, "--y=eval", sweep, "--x=agent_step")
    assert "--figure=bars" in plot_error(capsys, tmp_path, "--figure=bars")


def test_a_dot_in_a_name_is_no_ending(tmp_path, capsys):
    write_run(tmp_path / "a", [(100, (1, 3))])
    out = tmp_path / "flicker=0.5"
    assert plot_text(capsys, tmp_path / "a", f"--out={out}").endswith(f"1 run drawn: {out}.png and {out}.svg.\n")


def test_who_reads_only_the_head_is_no_error(tmp_path):
    for i in range(40):
        write_run(tmp_path / f"run{i}", [(100, (1, 3))], seed=i)
    command = f"set -o pipefail; {sys.executable} {ROOT / 'status.py'} {tmp_path} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) in [(0, ""), (141, "")]  # 141: it was told by a signal


def test_help_and_exit_code_of_the_command_without_any_backend(tmp_path):
    code = ("import sys, plot; assert plot.main(['--help']) == 0; "
            "print({'keras', 'tensorflow', 'jax', 'gymnasium', 'train', 'evaluate', 'rollout', 'matplotlib.pyplot'} "
            "& set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "--grid_columns" in done.stdout and done.stdout.endswith("set()\n"), done.stderr
    done = subprocess.run([sys.executable, str(ROOT / "plot.py"), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"plot.py: {tmp_path} holds no config.json, so it is no run of this suite\n"
