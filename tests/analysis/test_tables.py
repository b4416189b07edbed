"""Tables: published numbers as typed from the papers, our numbers by hand, runs that are not pooled."""

import pathlib
import re

import pytest

from analysis import tables, writers
from helpers.analysed_runs import DQN, DQN_10, DRQN, write_scores
from helpers.run_files import find_checked

ROOT = pathlib.Path(tables.__file__).parents[1]


def table_of(name, *paths):
    """Return a table of the runs among paths, and its notes."""
    return tables.make_table(name, find_checked(paths)[0])


def rows_of_env(table, env):
    return [row for row in table.rows if row["env"] == env]


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
    ("lstm_placement", "DRQN_after_dense", "improvement", 418),
    ("lstm_placement", "DRQN_after_dense_ReLU", "improvement", 0),
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
    write_scores(tmp_path, [1], env="Bowling", **DRQN)
    write_scores(tmp_path, [1], env="Bowling", flicker=0.5, **DRQN)
    games = [[row["env"] for row in table_of(name, tmp_path)[0].rows][::2] for name in ("standard", "flicker")]
    assert len(games[0]) == 9 and "Pong" not in games[0]
    assert len(games[1]) == 10 and set(games[1]) - set(games[0]) == {"Pong"}


# Our numbers


def test_a_row_by_hand(tmp_path):
    write_scores(tmp_path, [10, 20, 60], env="Pong", flicker=0.5, **DRQN)
    write_scores(tmp_path, [4, 6], env="Pong", flicker=0.5, **DQN_10)
    table, notes = table_of("flicker", tmp_path)
    drqn, dqn = rows_of_env(table, "Pong")
    assert notes == []
    assert (drqn["agent"], drqn["seeds"], drqn["mean"], drqn["chosen_by"]) == ("DRQN, 1 frame", 3, 30, 40)
    assert drqn["std"] == pytest.approx(700**0.5)  # (400 + 100 + 900) / 2
    assert (drqn["steps_min"], drqn["chosen_step_min"], drqn["chosen_step_max"]) == (300, 200, 200)
    assert drqn["episodes_max"] == 3
    assert drqn["human"] == pytest.approx(169)  # 100 (30 + 20.7) / (9.3 + 20.7)
    assert (drqn["paper_mean"], drqn["paper_std"], drqn["paper_better"]) == (12.1, 2.2, True)
    assert (dqn["mnih_mean"], dqn["mnih_std"], dqn["paper_better"]) == (18.9, 1.3, False) and "mnih_mean" not in drqn
    # t = 25 / sqrt(700/3 + 2/2) = 1.633, with (234.33)^2 / (233.33^2 / 2 + 1^2 / 1) = 2.017 degrees of freedom.
    assert drqn["p"] == drqn["p_adjusted"] == dqn["p"] == pytest.approx(0.243, abs=1e-3)
    assert not drqn["better"] and not dqn["better"]


def test_p_values_are_corrected_over_the_games_and_the_better_agent_is_marked(tmp_path):
    games = [("Pong", (20, 19, 18), (1, 2, 3)), ("Bowling", (5, 6, 7), (50, 51, 52)),
             ("Asteroids", (4, 5, 9), (5, 6, 7))]
    for env, means, others in games:
        write_scores(tmp_path, means, env=env, flicker=0.5, **DRQN)
        write_scores(tmp_path, others, env=env, flicker=0.5, **DQN_10)
    table, _ = table_of("flicker", tmp_path)
    pong, bowling, asteroids = (rows_of_env(table, env)[0] for env in ("Pong", "Bowling", "Asteroids"))
    p = sorted(row["p"] for row in (pong, bowling, asteroids))
    assert p == [bowling["p"], pong["p"], asteroids["p"]]
    assert bowling["p_adjusted"] == pytest.approx(3 * p[0]) and pong["p_adjusted"] == pytest.approx(3 / 2 * p[1])
    assert asteroids["p_adjusted"] == p[2] == pytest.approx(1)  # The means are equal.
    better = [(row["env"], row["agent"][:4]) for row in table.rows if row.get("better")]
    assert better == [("Bowling", "DQN,"), ("Pong", "DRQN")]
    assert "over the table's 3 tests" in table.caption


def test_the_aggregate_is_over_the_games_that_both_agents_have(tmp_path):
    write_scores(tmp_path, [-20.7, 9.3], env="Pong", flicker=0.5, **DRQN)  # 0% and 100% of human
    write_scores(tmp_path, [9.3], env="Pong", flicker=0.5, **DQN_10)
    write_scores(tmp_path, [23.1], env="Bowling", flicker=0.5, **DRQN)
    write_scores(tmp_path, [154.8], env="Bowling", flicker=0.5, **DQN_10)
    write_scores(tmp_path, [10**6], env="Asteroids", flicker=0.5, **DRQN)
    *_, drqn, dqn = table_of("flicker", tmp_path)[0].rows
    # Pong has 0 and 100. Bowling has one seed, 0, which counts twice. Without the outer quarters 0 and 0 are left.
    # Asteroids does not count, since it has no DQN.
    assert (drqn["env"], drqn["agent"], drqn["human"]) == ("IQM, 2 games", "DRQN, 1 frame", pytest.approx(0, abs=1e-9))
    # Both draws of Pong can be 0, or 100.
    assert (drqn["human_low"], drqn["human_high"]) == (pytest.approx(0, abs=1e-9), pytest.approx(50))
    assert dqn["human"] == pytest.approx(100) and dqn["human_low"] is None  # from one seed each
    pong, bowling = 100 * (12.1 + 20.7) / 30, 100 * (65.5 - 23.1) / (154.8 - 23.1)
    assert drqn["paper_human"] == pytest.approx((pong + bowling) / 2)


def test_games_and_agents_without_runs_are_missing(tmp_path):
    write_scores(tmp_path, [1, 2], env="Bowling", **DRQN)
    text = writers.to_text(table_of("standard", tmp_path)[0])
    asteroids, bowling = (next(re.split(r" {2,}", line) for line in text.splitlines() if line.startswith(game))
                          for game in ("Asteroids", "Bowling"))
    assert asteroids == ["Asteroids", "DRQN, 1 frame", "–", "0", "–", "–", "–", "–", "1020 ± 312", "2.4"]
    assert bowling == ["Bowling", "DRQN, 1 frame", "1.50 ± 0.71", "2 × 3@0", "300", "11.5", "-16.4", "–",
                       "62 ± 5.9", "29.5"]
    assert "IQM," not in text


@pytest.mark.parametrize("name", ["runs", "standard"])
def test_every_format_says_over_how_many_episodes_and_evaluation_seeds_a_score_is(tmp_path, name):
    write_scores(tmp_path, [1, 2], env="Bowling", **DRQN)
    path = tmp_path / "Bowling-DRQN-1-s2" / "episodes-best.csv"
    path.write_bytes(b"\r\n".join(path.read_bytes().split(b"\r\n")[:3]).replace(b",0.0,0", b",0.0,7") + b"\r\n")
    table, _ = table_of(name, tmp_path)
    for write in (writers.to_text, writers.to_markdown):
        assert " 2 × 2–3@0,7 " in write(table)
    assert r"& 2 $\times$ 2--3@0,7 &" in writers.to_latex(table)
    head, *lines = writers.to_csv(table).splitlines()
    row = dict(zip(head.split(","), next(line for line in lines if "Bowling" in line).replace('"DRQN, 1', '"DRQN 1')
                   .split(",")))
    assert (row["episodes_min"], row["episodes_max"], row["eval_seeds"]) == ("2", "3", "0 7")


def test_one_seed_has_a_mean_and_no_test(tmp_path):
    write_scores(tmp_path, [1], env="Bowling", **DRQN)
    write_scores(tmp_path, [3, 4], env="Bowling", **DQN)
    table, _ = table_of("standard", tmp_path)
    drqn, dqn = rows_of_env(table, "Bowling")
    assert (drqn["mean"], drqn["std"], drqn["seeds"], drqn["p"]) == (1, None, 1, None)
    assert (dqn["p"], dqn["better"]) == (None, False)
    assert tables.COLUMNS["score"].text(drqn) == "1.00 " and tables.COLUMNS["p"].text(drqn) == "–"


def test_seeds_without_spread_are_not_tested(tmp_path):
    for network in (DRQN, DQN):
        write_scores(tmp_path, [500, 500, 500], env="CartPole-v1", **network)
    rows = table_of("runs", tmp_path)[0].rows
    assert [row.get("p_adjusted", "reference") for row in rows] == ["reference", None]


def test_runs_of_different_settings_are_never_pooled(tmp_path):
    write_scores(tmp_path / "a", [1, 2], env="Bowling", learning_rate=0.1, **DRQN)
    write_scores(tmp_path / "b", [50, 60], env="Bowling", learning_rate=0.2, **DRQN)
    write_scores(tmp_path / "c", [5, 6], env="Frostbite", learning_rate=0.1, **DRQN)
    write_scores(tmp_path / "c", [5, 6], env="Asteroids", learning_rate=0.3, **DRQN)
    table, notes = table_of("standard", tmp_path)
    assert rows_of_env(table, "Bowling")[0]["mean"] is None and rows_of_env(table, "Frostbite")[0]["mean"] == 5.5
    assert notes == [
        "4 runs of DRQN on Bowling are not pooled and left out, since they differ in learning_rate; "
        "give runs of one setting, or --table=runs, which keeps them apart",
        "runs of DRQN differ from game to game in learning_rate"]
    assert [(row["agent"], row["mean"]) for row in rows_of_env(table_of("runs", tmp_path)[0], "Bowling")] == [
        ("DRQN, 1 frame, learning_rate 0.1", 1.5), ("DRQN, 1 frame, learning_rate 0.2", 55)]


def test_places_of_the_lstm_are_in_improvement_over_random_play(tmp_path):
    write_scores(tmp_path, [3639, 3640, 3638], env="BeamRider", network="DRQN")
    write_scores(tmp_path, [363.9, 364.9], env="BeamRider", network="DRQN_after_dense")
    rows = table_of("placement", tmp_path)[0].rows
    assert [row["agent"] for row in rows] == ["DRQN", "DRQN_ReLU", "DRQN_after_dense", "DRQN_after_dense_ReLU"]
    assert [row["improvement"] and round(row["improvement"], 3) for row in rows] == [900, None, 0.137, None]
    assert [row["paper_improvement"] for row in rows] == [709, 533, 418, 0]
    assert "p" not in rows[0] and rows[1]["p"] is None and rows[2]["p"] < 1e-6


def test_any_runs_are_compared_with_the_drqn_of_their_environment(tmp_path):
    for env, flicker, network, means in (
            ("CartPole-v1", 0.0, DQN, (9, 10, 11)), ("CartPole-v1", 0.0, DRQN, (1, 2, 3)),
            ("CartPole-v1", 0.5, DQN, (7, 8)), ("Acrobot-v1", 0.0, DRQN, (-90, -80))):
        write_scores(tmp_path, means, env=env, flicker=flicker, **network)
    rows = table_of("runs", tmp_path)[0].rows
    assert [(row["env"], row["flicker"], row["agent"], "p" in row) for row in rows] == [
        ("Acrobot-v1", 0, "DRQN, 1 frame", False), ("CartPole-v1", 0, "DRQN, 1 frame", False),
        ("CartPole-v1", 0, "DQN, 4 frames", True), ("CartPole-v1", 0.5, "DQN, 4 frames", False)]
    half = 4.302653 / 3**0.5  # of Student's t interval
    assert (rows[1]["low"], rows[1]["high"]) == pytest.approx((2 - half, 2 + half))
    # t = 8 / sqrt(2/3) with 4 degrees of freedom.
    assert rows[2]["better"] and rows[2]["p"] == pytest.approx(0.0006, abs=1e-4)


def test_unfinished_runs_are_marked(tmp_path):
    write_scores(tmp_path / "a", [1], env="Bowling", maxsteps=1000, **DRQN)
    assert " 300† " in writers.to_text(table_of("standard", tmp_path)[0])


def test_runs_of_different_lengths_are_pooled_with_a_note(tmp_path):
    write_scores(tmp_path / "a", [1], env="Bowling", maxsteps=1000, **DRQN)
    write_scores(tmp_path / "b", [1, 3], env="Bowling", **DRQN)
    (tmp_path / "b" / "Bowling-DRQN-1-s1").rename(tmp_path / "b" / "other")
    config = tmp_path / "b" / "other" / "config.json"
    config.write_text(config.read_text().replace('"seed": 1', '"seed": 9'))
    table, notes = table_of("standard", tmp_path)
    assert rows_of_env(table, "Bowling")[0]["seeds"] == 3
    assert any(note.startswith("3 runs that are pooled, such as ") and note.endswith("differ in maxsteps: 300, 1000")
               for note in notes)


def test_runs_that_were_evaluated_otherwise_are_left_out_with_a_note(tmp_path):
    write_scores(tmp_path, [1, 2], env="Bowling", **DRQN)
    path = tmp_path / "Bowling-DRQN-1-s2" / "episodes-best.csv"
    path.write_bytes(path.read_bytes().replace(b"agent,best", b"agent,last", 1))
    table, (note,) = table_of("standard", tmp_path)
    assert rows_of_env(table, "Bowling")[0]["scores"] == [1] and "was evaluated otherwise than in training" in note


def test_the_caption_says_how_the_agents_were_trained(tmp_path):
    write_scores(tmp_path, [1], env="BeamRider", optimizer="adadelta", sample="sequential", **DRQN)
    for name in ("standard", "placement"):
        caption = table_of(name, tmp_path)[0].caption
        assert ("DRQN: optimizer adadelta, loss huber, update_period 4, target_period 10000, sample sequential, "
                "life_loss None, sticky None, num_envs 8.") in caption
