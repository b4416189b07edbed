"""Tables: published numbers as typed from the papers, ours against hand computations, what is not pooled, three writers, bad input."""

import csv
import json
import os
import pathlib
import re

import numpy as np
import pytest
from helpers.run_files import write_run

import plot
from analysis import scores, tables
from storage import reading

ROOT = pathlib.Path(tables.__file__).parents[1]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))  # The default --out is in the working directory.


def make_seeds(folder, means, **settings):
    """Write a run per seed; `means` are those of its fresh episodes, and 10 less than those of the evaluation that chose its weights."""
    for seed, mean in enumerate(means, 1):
        name = "-".join(map(str, settings.values()))
        write_run(folder / f"{name}-s{seed}", [(100, (0, 0)), (200, (mean + 9, mean + 11)), (300, (mean, mean))],
                 fresh=(mean - 1, mean, mean + 1), seed=seed, **settings)
    return folder


DRQN, DQN, DQN_10 = dict(network="DRQN", history=1), dict(network="DQN", history=4), dict(network="DQN", history=10)


def make(name, *paths):
    return tables.make(name, reading.find_runs(paths)[0])


def rows_of(table, env=None):
    return [row for row in table.rows if env is None or row["env"] == env]


def go(capsys, *arguments):
    assert plot.main(list(map(str, arguments))) == 0
    return capsys.readouterr().out


def fails(capsys, *arguments):
    assert plot.main(list(map(str, arguments))) == 2
    error = capsys.readouterr().err
    assert error.startswith("plot.py: ") and error.count("\n") == 1, error
    return error


# Published numbers


@pytest.mark.parametrize("name, key, column, value", [
    ("table1_standard", "Frostbite", "drqn_mean", 2875), ("table1_standard", "BeamRider", "dqn_std", 1027),
    ("table1_standard", "DoubleDunk", "mnih_mean", -18.1), ("table1_standard", "BeamRider", "significant", "DQN"),
    ("table1_standard", "Asteroids", "significant", None),
    ("table3_flicker", "Pong", "drqn_mean", 12.1), ("table3_flicker", "Pong", "dqn_mean", -9.9),
    ("table3_flicker", "Centipede", "drqn_std", 4378), ("table3_flicker", "Pong", "significant", "DRQN"),
    ("mnih2015_scores", "Pong", "human", 9.3), ("mnih2015_scores", "MsPacman", "random", 307.3),
    ("mnih2015_scores", "Breakout", "dqn_mean", 401.2),
    ("lstm_placement", "DRQN", "improvement", 709), ("lstm_placement", "DRQN_ReLU", "improvement", 533),
    ("lstm_placement", "DRQN_after_dense", "improvement", 418), ("lstm_placement", "DRQN_after_dense_ReLU", "improvement", 0),
])
def test_published_numbers_are_the_papers(name, key, column, value):
    assert tables.read_paper(name)[key][column] == value


def test_every_file_of_published_numbers_cites_its_source():
    paths = sorted((ROOT / "paper").glob("*.csv"))
    assert {"table1_standard", "table3_flicker", "mnih2015_scores", "lstm_placement"} <= {path.stem for path in paths}
    sources = r"Hausknecht & Stone 2015 \(arXiv 1507\.06527v4\)|Mnih et al\. 2015 \(Nature 518\)"
    for path in paths:
        assert re.match(rf"# ({sources}), (Extended Data )?(Table|Figure|appendix)", path.read_text()), path


def test_tables_have_the_papers_games(tmp_path):
    make_seeds(tmp_path, [1], env="Bowling", **DRQN)
    make_seeds(tmp_path, [1], env="Bowling", flicker=0.5, **DRQN)
    games = [[row["env"] for row in make(name, tmp_path)[0].rows][::2] for name in ("standard", "flicker")]
    assert len(games[0]) == 9 and "Pong" not in games[0]
    assert len(games[1]) == 10 and set(games[1]) - set(games[0]) == {"Pong"}


# Ours


def test_a_row_by_hand(tmp_path):
    make_seeds(tmp_path, [10, 20, 60], env="Pong", flicker=0.5, **DRQN)
    make_seeds(tmp_path, [4, 6], env="Pong", flicker=0.5, **DQN_10)
    table, notes = make("flicker", tmp_path)
    drqn, dqn = rows_of(table, "Pong")
    assert notes == []
    assert (drqn["agent"], drqn["seeds"], drqn["mean"], drqn["chosen_by"]) == ("DRQN, 1 frame", 3, 30, 40)
    assert drqn["std"] == pytest.approx(700**0.5)  # (400 + 100 + 900) / 2
    assert (drqn["steps_min"], drqn["chosen_step_min"], drqn["chosen_step_max"], drqn["episodes_max"]) == (300, 200, 200, 3)
    assert drqn["human"] == pytest.approx(169)  # 100 (30 + 20.7) / (9.3 + 20.7)
    assert (drqn["paper_mean"], drqn["paper_std"], drqn["paper_better"]) == (12.1, 2.2, True)
    assert (dqn["mnih_mean"], dqn["mnih_std"], dqn["paper_better"]) == (18.9, 1.3, False) and "mnih_mean" not in drqn
    # t = 25 / sqrt(700/3 + 2/2) = 1.633, with (234.33)^2 / (233.33^2 / 2 + 1^2 / 1) = 2.017 degrees of freedom: p = .243
    assert drqn["p"] == drqn["p_adjusted"] == dqn["p"] == pytest.approx(0.243, abs=1e-3)
    assert not drqn["better"] and not dqn["better"]


def test_p_values_are_corrected_over_the_games_and_the_better_agent_is_marked(tmp_path):
    games = ("Pong", (20, 19, 18), (1, 2, 3)), ("Bowling", (5, 6, 7), (50, 51, 52)), ("Asteroids", (4, 5, 9), (5, 6, 7))
    for env, means, others in games:
        make_seeds(tmp_path, means, env=env, flicker=0.5, **DRQN)
        make_seeds(tmp_path, others, env=env, flicker=0.5, **DQN_10)
    table, _ = make("flicker", tmp_path)
    pong, bowling, asteroids = (rows_of(table, env)[0] for env in ("Pong", "Bowling", "Asteroids"))
    p = sorted(row["p"] for row in (pong, bowling, asteroids))
    assert p == [bowling["p"], pong["p"], asteroids["p"]]
    assert bowling["p_adjusted"] == pytest.approx(3 * p[0]) and pong["p_adjusted"] == pytest.approx(3 / 2 * p[1])
    assert asteroids["p_adjusted"] == p[2] == pytest.approx(1)  # the means are equal
    assert [(row["env"], row["agent"][:4]) for row in table.rows if row.get("better")] == [("Bowling", "DQN,"), ("Pong", "DRQN")]
    assert "over the table's 3 tests" in table.caption


def test_the_aggregate_is_over_the_games_that_both_agents_have(tmp_path):
    make_seeds(tmp_path, [-20.7, 9.3], env="Pong", flicker=0.5, **DRQN)  # 0 and 100 of human
    make_seeds(tmp_path, [9.3], env="Pong", flicker=0.5, **DQN_10)
    make_seeds(tmp_path, [23.1], env="Bowling", flicker=0.5, **DRQN)
    make_seeds(tmp_path, [154.8], env="Bowling", flicker=0.5, **DQN_10)
    make_seeds(tmp_path, [10**6], env="Asteroids", flicker=0.5, **DRQN)
    *_, drqn, dqn = make("flicker", tmp_path)[0].rows
    # Of Pong's 0 and 100 and Bowling's 0, twice: 0 and 0 between the quarters. A third of 3 games is not what it is over.
    assert (drqn["env"], drqn["agent"], drqn["human"]) == ("IQM, 2 games", "DRQN, 1 frame", pytest.approx(0, abs=1e-9))
    assert (drqn["human_low"], drqn["human_high"]) == (pytest.approx(0, abs=1e-9), pytest.approx(50))  # both of Pong's draws 0, or 100
    assert dqn["human"] == pytest.approx(100) and dqn["human_low"] is None  # from one seed each
    pong, bowling = 100 * (12.1 + 20.7) / 30, 100 * (65.5 - 23.1) / (154.8 - 23.1)
    assert drqn["paper_human"] == pytest.approx((pong + bowling) / 2)


def test_games_and_agents_without_runs_are_missing(tmp_path, capsys):
    make_seeds(tmp_path, [1, 2], env="Bowling", **DRQN)
    said = go(capsys, tmp_path, "--table=standard")
    asteroids, bowling = (next(line for line in said.splitlines() if line.startswith(game)) for game in ("Asteroids", "Bowling"))
    assert re.split(r" {2,}", asteroids) == ["Asteroids", "DRQN, 1 frame", "–", "0", "–", "–", "–", "–", "1020 ± 312", "2.4"]
    assert re.split(r" {2,}", bowling) == ["Bowling", "DRQN, 1 frame", "1.50 ± 0.71", "2", "300", "11.5", "-16.4", "–", "62 ± 5.9", "29.5"]
    assert "IQM," not in said


def test_one_seed_has_a_mean_and_no_test(tmp_path):
    make_seeds(tmp_path, [1], env="Bowling", **DRQN)
    make_seeds(tmp_path, [3, 4], env="Bowling", **DQN)
    table, _ = make("standard", tmp_path)
    drqn, dqn = rows_of(table, "Bowling")
    assert (drqn["mean"], drqn["std"], drqn["seeds"], drqn["p"], dqn["p"], dqn["better"]) == (1, None, 1, None, None, False)
    assert tables.COLUMNS["score"].text(drqn) == "1.00 " and tables.COLUMNS["p"].text(drqn) == "–"


def test_seeds_without_spread_are_not_tested(tmp_path):
    for network in (DRQN, DQN):
        make_seeds(tmp_path, [500, 500, 500], env="CartPole-v1", **network)
    assert [row.get("p_adjusted", "reference") for row in make("runs", tmp_path)[0].rows] == ["reference", None]


def test_runs_of_different_settings_are_never_pooled(tmp_path):
    make_seeds(tmp_path / "a", [1, 2], env="Bowling", learning_rate=0.1, **DRQN)
    make_seeds(tmp_path / "b", [50, 60], env="Bowling", learning_rate=0.2, **DRQN)
    make_seeds(tmp_path / "c", [5, 6], env="Frostbite", learning_rate=0.1, **DRQN)
    make_seeds(tmp_path / "c", [5, 6], env="Asteroids", learning_rate=0.3, **DRQN)
    table, notes = make("standard", tmp_path)
    assert rows_of(table, "Bowling")[0]["mean"] is None and rows_of(table, "Frostbite")[0]["mean"] == 5.5
    assert notes == ["4 runs of DRQN on Bowling are not pooled and left out, since they differ in learning_rate; give runs of one setting, "
                     "or --table=runs, which keeps them apart", "runs of DRQN differ from game to game in learning_rate"]
    assert [(row["agent"], row["mean"]) for row in rows_of(make("runs", tmp_path)[0], "Bowling")] == [
        ("DRQN, 1 frame, learning_rate 0.1", 1.5), ("DRQN, 1 frame, learning_rate 0.2", 55)]


def test_places_of_the_lstm_are_in_improvement_over_random_play(tmp_path):
    make_seeds(tmp_path, [3639, 3640, 3638], env="BeamRider", network="DRQN")
    make_seeds(tmp_path, [363.9, 364.9], env="BeamRider", network="DRQN_after_dense")
    rows = make("placement", tmp_path)[0].rows
    assert [row["agent"] for row in rows] == ["DRQN", "DRQN_ReLU", "DRQN_after_dense", "DRQN_after_dense_ReLU"]
    assert [row["improvement"] and round(row["improvement"], 3) for row in rows] == [900, None, 0.137, None]
    assert [row["paper_improvement"] for row in rows] == [709, 533, 418, 0]
    assert "p" not in rows[0] and rows[1]["p"] is None and rows[2]["p"] < 1e-6


def test_any_runs_are_compared_with_the_drqn_of_their_environment(tmp_path):
    for env, flicker, network, means in (("CartPole-v1", 0.0, DQN, (9, 10, 11)), ("CartPole-v1", 0.0, DRQN, (1, 2, 3)),
                                         ("CartPole-v1", 0.5, DQN, (7, 8)), ("Acrobot-v1", 0.0, DRQN, (-90, -80))):
        make_seeds(tmp_path, means, env=env, flicker=flicker, **network)
    rows = make("runs", tmp_path)[0].rows
    assert [(row["env"], row["flicker"], row["agent"], "p" in row) for row in rows] == [
        ("Acrobot-v1", 0, "DRQN, 1 frame", False), ("CartPole-v1", 0, "DRQN, 1 frame", False), ("CartPole-v1", 0, "DQN, 4 frames", True),
        ("CartPole-v1", 0.5, "DQN, 4 frames", False)]
    assert (rows[1]["low"], rows[1]["high"]) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))  # Student's t
    assert rows[2]["better"] and rows[2]["p"] == pytest.approx(0.0006, abs=1e-4)  # t = 8 / sqrt(2/3) with 4 degrees of freedom


def test_unfinished_runs_are_marked(tmp_path, capsys):
    make_seeds(tmp_path / "a", [1], env="Bowling", maxsteps=1000, **DRQN)
    assert " 300† " in go(capsys, tmp_path, "--table=standard")


def test_runs_of_different_lengths_are_pooled_and_that_is_told(tmp_path):
    make_seeds(tmp_path / "a", [1], env="Bowling", maxsteps=1000, **DRQN)
    make_seeds(tmp_path / "b", [1, 3], env="Bowling", **DRQN)
    (tmp_path / "b" / "Bowling-DRQN-1-s1").rename(tmp_path / "b" / "other")
    config = tmp_path / "b" / "other" / "config.json"
    config.write_text(config.read_text().replace('"seed": 1', '"seed": 9'))
    table, notes = make("standard", tmp_path)
    assert rows_of(table, "Bowling")[0]["seeds"] == 3
    assert any(note.startswith("3 runs that are pooled, such as ") and note.endswith("differ in maxsteps: 300, 1000") for note in notes)


def test_the_caption_says_how_the_agents_were_trained(tmp_path):
    make_seeds(tmp_path, [1], env="BeamRider", optimizer="adadelta", sample="sequential", **DRQN)
    for name in ("standard", "placement"):
        assert "DRQN: optimizer adadelta, sample sequential, sticky None, num_envs 8." in make(name, tmp_path)[0].caption


# Fresh episodes


def test_what_was_evaluated_otherwise_does_not_count(tmp_path):
    make_seeds(tmp_path, [1, 2, 3, 4, 5, 6], env="Bowling", **DRQN)
    changes = ("agent,best", "agent,last"), ("agent,best", "random,best"), (",0.05,", ",0.0,"), (",0.0,0\r", ",0.5,0\r")
    for seed, (old, new) in enumerate(changes, 2):
        path = tmp_path / f"Bowling-DRQN-1-s{seed}" / "episodes-best.csv"
        path.write_bytes(path.read_bytes().replace(old.encode(), new.encode(), 1))  # of one episode
    (tmp_path / "Bowling-DRQN-1-s6" / "episodes-best.csv").unlink()
    table, notes = make("standard", tmp_path)
    assert rows_of(table, "Bowling")[0]["scores"] == [1]
    differences = ["weights best, last for best", "policy agent, random for agent", "epsilon 0.0, 0.05 for 0.05",
                   "flicker 0.0, 0.5 for 0.0"]
    for seed, difference, note in zip((2, 3, 4, 5), differences, notes):
        assert f"s{seed}/episodes-best.csv was evaluated otherwise than in training ({difference}) and is left out" in note
    assert "1 of 6 runs have no fresh score" in notes[4] and "evaluate.py --run_dir=" in notes[4] and len(notes) == 5


def test_scores_older_than_their_weights_are_told(tmp_path):
    make_seeds(tmp_path, [1], env="Bowling", **DRQN)
    (run,) = tmp_path.iterdir()
    (run / "best.weights.h5").touch()
    os.utime(run / "episodes-best.csv", (0, 0))
    (note,) = make("standard", tmp_path)[1]
    assert "older than the best weights beside it" in note


@pytest.mark.parametrize("damage, reason", [
    (lambda text: "", "it has no episodes"),
    (lambda text: text.replace("episode_return", "score"), "it has no column 'episode_return'"),
    (lambda text: text.replace("agent,best,1,10", "agent,best,1,many"), "could not convert string to float: 'many'"),
    (lambda text: text.replace("agent,best,1,10", "agent,best,1,nan"), "a value is not finite"),
    (lambda text: text + "agent,best", "float() argument must be"),
    (lambda text: text + "\udcff", "can't decode"),
])
def test_damaged_episodes_are_refused_by_name(tmp_path, capsys, damage, reason):
    make_seeds(tmp_path, [10], env="Bowling", **DRQN)
    (path,) = tmp_path.glob("*/episodes-best.csv")
    path.write_bytes(damage(path.read_text()).encode(errors="surrogateescape"))
    error = fails(capsys, tmp_path, "--table=standard")
    assert f"{path} is damaged, or not of this suite: " in error and reason in error


# Writers


@pytest.fixture
def written(tmp_path, capsys):
    """Return what a table said, and a function that reads what was written with it."""
    make_seeds(tmp_path, [1234.5, 2000, 1 / 3], env="Wicked_&_100%_v-1", flicker=0.5, network="DRQN")
    make_seeds(tmp_path, [-0.5, -0.7], env="Wicked_&_100%_v-1", flicker=0.5, network="DQN")
    said = go(capsys, tmp_path, "--table=runs", f"--out={tmp_path}/deep/table.csv")
    return said, lambda kind: (tmp_path / "deep" / f"table.{kind}").read_text()


def test_csv_has_full_precision(written):
    drqn, dqn = csv.DictReader(written[1]("csv").splitlines())
    assert float(drqn["mean"]) == np.mean([1234.5, 2000, np.mean([1 / 3 - 1, 1 / 3, 1 / 3 + 1])])
    assert (drqn["seeds"], drqn["episodes_min"], drqn["steps_max"], drqn["chosen_step_min"]) == ("3", "3", "300", "200")
    assert (drqn["env"], drqn["agent"], drqn["p"], drqn["better"]) == ("Wicked_&_100%_v-1", "DRQN, 1 frame", "", "")
    assert float(dqn["mean"]) == pytest.approx(-0.6, rel=1e-12) and dqn["better"] == "False" and float(dqn["p"]) > 0


def test_text_and_markdown_show_the_same_cells(written):
    said, read = written
    text = [re.split(r" {2,}", line.strip()) for line in said.splitlines() if "frame" in line]
    lines = [line for line in read("md").splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == len(set(map(len, lines))) == 1
    markdown = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [[cell for cell in row if cell] for row in (markdown[0], *markdown[2:])][1:] == text
    assert re.fullmatch(r"(\|--+){3}(\|-+:){6}\|", lines[1])
    assert markdown[2][:4] == ["Wicked_&_100%_v-1", "0.5", "DRQN, 1 frame", "1078 ± 1009"]
    assert markdown[3][:4] == ["", "", "DQN, 1 frame", "-0.60 ± 0.14"]
    assert "training seeds, the unit of replication" in said.replace("\n", " ") and "the unit of replication" in read("md")


def test_latex_is_a_booktabs_tabular_with_every_sign_escaped(written):
    latex = written[1]("tex")
    order = [r"\begin{table*}", r"\begin{tabular}{lllrrrrrr}", r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}", r"\caption{",
             r"\end{table*}"]
    assert sorted(map(latex.index, order)) == [latex.index(part) for part in order] and latex.isascii()
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 3 and all(len(re.findall(r"(?<!\\)&", row)) == 8 for row in rows)
    assert r"Wicked\_\&\_100\%\_v-1 & 0.5 & DRQN, 1 frame & 1078 $\pm$ 1009 &" in latex and r"& $-$0.60 $\pm$ 0.14 &" in latex
    body = latex.split("booktabs}", 1)[1]
    assert not re.search(r"(?<!\\)[%#_]", body) and len(re.findall(r"(?<!\\)\$", body)) % 2 == 0
    assert body.count("{") - body.count(r"\{") == body.count("}") - body.count(r"\}")


def test_latex_escapes_what_it_has_a_meaning_for():
    row = dict(env="\\~^{}$#<a|b>*", flicker=0.0, agent="–†")
    latex = tables.to_latex(tables.Table("t", "env flicker agent", [row], ""))
    assert (r"\textbackslash{}\textasciitilde{}\textasciicircum{}\{\}\$\#$<$a$|$b$>$$^*$ & 0 & --$^\dagger$ \\") in latex


def test_published_tables_fit_a_terminal_and_are_named_after_themselves(tmp_path, capsys):
    for game, theirs in tables.read_paper("table3_flicker").items():
        for network, mean in ((DRQN, theirs["drqn_mean"]), (DQN_10, theirs["dqn_mean"])):
            make_seeds(tmp_path, [0.75 * mean, mean + 0.1, 1.25 * mean], env=game, flicker=0.5, maxsteps=10_000, **network)
    said = go(capsys, tmp_path, "--table=flicker")
    assert max(map(len, said.split("Note:")[0].splitlines())) <= 140
    assert {path.name for path in pathlib.Path().iterdir()} == {"flicker.csv", "flicker.md", "flicker.tex"}
    pathlib.Path("runs").mkdir()  # A folder of runs is no obstacle to the table of that name.
    go(capsys, tmp_path, "--table=runs")
    assert pathlib.Path("runs.csv").exists()


def test_bad_input_is_refused_in_one_sentence(tmp_path, capsys):
    make_seeds(tmp_path / "a", [1], env="Pong", **DRQN)
    assert "1 of 1 runs have no cell in this table" in fails(capsys, tmp_path / "a", "--table=standard")
    assert "--x cannot be given with --table=runs" in fails(capsys, tmp_path / "a", "--table=runs", "--x=frames")
    assert "is a directory" in fails(capsys, tmp_path / "a", "--table=runs", "--out=here/")
    pathlib.Path("file").touch()
    assert "--out=file/table cannot be written" in fails(capsys, tmp_path / "a", "--table=runs", "--out=file/table")
    pathlib.Path("b.md").mkdir()
    assert "--out=b cannot be written" in fails(capsys, tmp_path / "a", "--table=runs", "--out=b")
    assert "--table=latex" in fails(capsys, tmp_path / "a", "--table=latex")
    write_run(tmp_path / "c" / "d", [(100, (1, 2))])
    assert "none of 1 runs has a score" in fails(capsys, tmp_path / "c", "--table=runs")
    write_run(tmp_path / "c" / "e")
    assert "no evaluation yet" in fails(capsys, tmp_path / "c" / "e", "--table=runs")
    assert {path.name for path in pathlib.Path().iterdir()} == {"file", "b.md"}


def test_scores_belong_to_the_seed_that_trained_longer(tmp_path):
    write_run(tmp_path / "a", [(100, (1, 1))], fresh=[1], env="Bowling")
    write_run(tmp_path / "b", [(100, (1, 1)), (200, (2, 2))], fresh=[5], env="Bowling")
    own, notes = scores.read_scores(reading.find_runs([tmp_path])[0])
    assert [score.returns.tolist() for score in own] == [[5]] and any("the same seed of the same settings" in note for note in notes)
    json.dumps(scores.summarise(own))  # numbers, for any writer
