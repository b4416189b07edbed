"""Scores of runs: fresh episodes that count and that do not, cells of published tables, summaries and tests."""

import json
import os
import re

import pytest

from analysis import scores
from helpers.analysed_runs import DRQN, write_scores
from helpers.run_files import find_checked, write_run


def read_folder(folder):
    """Return the scores of the runs in a folder, and the notes on those left out."""
    return scores.read_scores(find_checked([folder])[0])


def test_a_score_is_the_fresh_episodes_and_the_evaluation_that_chose_the_weights(tmp_path):
    write_scores(tmp_path, [10, 20], env="Bowling", **DRQN)
    run_scores, notes = read_folder(tmp_path)
    assert [score.returns.tolist() for score in run_scores] == [[9, 10, 11], [19, 20, 21]] and not notes
    assert [score.best for score in run_scores] == [(200, 20), (200, 30)]
    assert [score.eval_seeds for score in run_scores] == [[0], [0]]


def test_a_summary_says_over_how_many_episodes_and_seeds_it_is(tmp_path):
    write_scores(tmp_path, [10], env="Bowling", **DRQN)
    run = write_run(tmp_path / "b", [(100, (1, 1))], fresh=[5, 7], env="Bowling", seed=2)
    path = run / "episodes-best.csv"
    path.write_bytes(path.read_bytes().replace(b",0.0,0\r", b",0.0,3\r"))
    summary = scores.summarise_scores(read_folder(tmp_path)[0])
    assert (summary["episodes_min"], summary["episodes_max"], summary["eval_seeds"]) == (2, 3, "0 3")
    json.dumps(summary)


def test_scores_belong_to_the_seed_that_trained_longer(tmp_path):
    write_run(tmp_path / "a", [(100, (1, 1))], fresh=[1], env="Bowling")
    write_run(tmp_path / "b", [(100, (1, 1)), (200, (2, 2))], fresh=[5], env="Bowling")
    run_scores, notes = read_folder(tmp_path)
    assert [score.returns.tolist() for score in run_scores] == [[5]]
    assert any("the same seed of the same settings" in note for note in notes)
    json.dumps(scores.summarise_scores(run_scores))  # Plain numbers, which every writer takes.


def test_episodes_that_were_evaluated_otherwise_do_not_count(tmp_path):
    write_scores(tmp_path, [1, 2, 3, 4, 5, 6], env="Bowling", **DRQN)
    changes = ("agent,best", "agent,last"), ("agent,best", "random,best"), (",0.05,", ",0.0,"), (",0.0,0\r", ",0.5,0\r")
    for seed, (old, new) in enumerate(changes, 2):
        path = tmp_path / f"Bowling-DRQN-1-s{seed}" / "episodes-best.csv"
        path.write_bytes(path.read_bytes().replace(old.encode(), new.encode(), 1))  # in one episode
    (tmp_path / "Bowling-DRQN-1-s6" / "episodes-best.csv").unlink()
    run_scores, notes = read_folder(tmp_path)
    assert [score.returns.mean() for score in run_scores] == [1]
    differences = ["weights best, last for best", "policy agent, random for agent", "epsilon 0.0, 0.05 for 0.05",
                   "flicker 0.0, 0.5 for 0.0"]
    for seed, difference, note in zip((2, 3, 4, 5), differences, notes):
        assert (f"s{seed}/episodes-best.csv was evaluated otherwise than in training ({difference}) "
                "and is left out") in note
    assert "1 of 6 runs have no fresh score" in notes[4] and "evaluate.py --run_dir=" in notes[4] and len(notes) == 5


def test_scores_older_than_their_weights_are_noted(tmp_path):
    write_scores(tmp_path, [1], env="Bowling", **DRQN)
    (run,) = tmp_path.iterdir()
    (run / "best.weights.h5").touch()
    os.utime(run / "episodes-best.csv", (0, 0))
    (note,) = read_folder(tmp_path)[1]
    assert "older than the best weights beside it" in note


@pytest.mark.parametrize("damage, reason", [
    (lambda text: "", "it has no episodes"),
    (lambda text: text.replace("episode_return", "score"), "it has no column 'episode_return'"),
    (lambda text: text.replace("agent,best,1,10", "agent,best,1,many"), "could not convert string to float: 'many'"),
    (lambda text: text.replace("agent,best,1,10", "agent,best,1,nan"), "a value is not finite"),
    (lambda text: text + "agent,best", "float() argument must be"),
    (lambda text: text + "\udcff", "can't decode"),
])
def test_a_run_with_damaged_episodes_is_left_out_by_name_and_the_others_stay(tmp_path, damage, reason):
    write_scores(tmp_path, [10], env="Bowling", **DRQN)
    (path,) = tmp_path.glob("*/episodes-best.csv")
    path.write_bytes(damage(path.read_text()).encode(errors="surrogateescape"))
    sentence = f"left out: {path} is damaged, or not of this suite: "
    with pytest.raises(ValueError, match=f"1 runs has a score: {re.escape(sentence)}.*{re.escape(reason)}") as error:
        read_folder(tmp_path)
    assert "\n" not in str(error.value)
    write_scores(tmp_path / "b", [20], env="Bowling", learning_rate=0.5, **DRQN)
    (score,), (note,) = read_folder(tmp_path)
    assert score.returns.mean() == 20 and note.startswith(sentence) and reason in note


def test_runs_without_any_score_are_refused(tmp_path):
    write_run(tmp_path / "a", [(100, (1, 2))])
    with pytest.raises(ValueError, match="none of 1 runs has a score: 1 of 1 runs have no fresh score"):
        read_folder(tmp_path)


def test_a_cell_has_the_runs_of_its_settings_and_never_mixes_others(tmp_path):
    write_scores(tmp_path / "a", [1, 2], env="Pong", flicker=0.5, **DRQN)
    write_scores(tmp_path / "b", [3], env="Bowling", learning_rate=0.1, **DRQN)
    write_scores(tmp_path / "c", [4], env="Bowling", learning_rate=0.2, **DRQN)
    write_scores(tmp_path / "d", [5], env="Tennis", **DRQN)
    pong, bowling, empty = [(env, "DRQN", 1, flicker) for env, flicker in
                            (("Pong", 0.5), ("Bowling", 0.0), ("Pong", 0.0))]
    cells, notes = scores.sort_into_cells(read_folder(tmp_path)[0], [pong, bowling, empty])
    assert [score.returns.mean() for score in cells[pong]] == [1, 2] and cells[bowling] == cells[empty] == []
    assert notes[0].startswith("1 of 5 runs have no cell in this table, such as ")
    assert notes[1].startswith("2 runs of DRQN on Bowling are not pooled and left out, "
                               "since they differ in learning_rate")
    with pytest.raises(ValueError, match="5 of 5 runs have no cell in this table.*; --table=runs takes any run"):
        scores.sort_into_cells(read_folder(tmp_path)[0], [empty])


def test_summaries_are_compared_over_seeds(tmp_path):
    write_scores(tmp_path / "a", [4, 6, 8], env="Pong", **DRQN)
    write_scores(tmp_path / "b", [1, 2, 3], env="Pong", network="DQN")
    write_scores(tmp_path / "c", [1], env="Pong", network="DQN2013")
    first, second, single = (scores.summarise_scores(read_folder(tmp_path / name)[0]) for name in "abc")
    assert (first["mean"], first["std"], first["seeds"], first["scores"]) == (6, 2, 3, [4, 6, 8])
    assert scores.summarise_scores([])["mean"] is None and single["std"] is None
    assert scores.compare_pairs([(first, second), (single, second)]) == 1
    # t = 4 / sqrt(5/3) with 50 / 17 degrees of freedom; the pair of a single seed is no test, so nothing is adjusted.
    assert first["p"] == first["p_adjusted"] == pytest.approx(0.0553, abs=1e-3) and first["better"] is False
    assert single["p"] is single["p_adjusted"] is None and single["better"] is False
