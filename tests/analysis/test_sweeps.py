"""Sweeps over the probability that a screen is shown: fractions by hand, panels, the paper's curve."""

import os
import re

import numpy as np
import pytest

from analysis import sweeps
from helpers.analysed_runs import write_swept_run
from helpers.run_files import find_checked, write_table
from storage import layout


def sweeps_of(*paths):
    return sweeps.read_sweeps(find_checked(paths)[0])


def write_evaluations(run, evaluations):
    """Write the eval.csv of a run, of [(agent_step, episode returns), ...]."""
    write_table(layout.csv_path(run, "eval"), layout.COLUMNS["eval"],
                [(step, step, number, i, episode_return, 9, step / 2)
                 for number, (step, returns) in enumerate(evaluations, 1) for i, episode_return in enumerate(returns)])


def labelled_lines(figure, panel=0):
    """Return {label: (x, y)} of the lines of a panel."""
    return {line.get_label(): line.get_data() for line in figure.axes[panel].lines
            if not line.get_label().startswith("_")}


def flat_titles(figure):
    return [axes.get_title().replace("\n", ", ") for axes in figure.axes]


def lines_by_gid(figure, panel=0):
    return {line.get_gid(): line.get_data() for line in figure.axes[panel].lines if line.get_gid()}


def test_fractions_of_scores_that_are_never_negative(tmp_path):
    write_swept_run(tmp_path / "a", {0.1: (1, 3), 0.5: (5, 5), 1.0: (4, 12)}, random=(3, 3))
    (sweep,), notes = sweeps_of(tmp_path)
    np.testing.assert_allclose((sweep.x, sweep.y), [(0.1, 0.5, 1), (2 / 8, 5 / 8, 1)])
    assert sweep.formula == r"$\dfrac{\mathrm{score}(p)}{\mathrm{score}(1)}$" and not notes


def test_of_a_seed_that_is_there_twice_the_longer_run_counts_and_old_sweeps_are_named(tmp_path):
    for name, num_evaluations in (("a", 1), ("b", 3), ("c", 2)):
        run = write_swept_run(tmp_path / name, {0.5: (1, 1), 1.0: (num_evaluations, num_evaluations)})
        write_evaluations(run, [(100 * i, (1, 2)) for i in range(1, num_evaluations + 1)])
    weights = tmp_path / "b/best.weights.h5"
    weights.touch()
    os.utime(weights, (2e9, 2e9))
    (sweep,), notes = sweeps_of(tmp_path)
    assert sweep.directory == tmp_path / "b"
    assert [sum(text in note for note in notes)
            for text in ("only the longer one counts", "is older than the best")] == [2, 1]


def test_where_scores_can_be_negative_random_play_is_zero(tmp_path):
    write_swept_run(tmp_path / "a", {0.5: (-15, -5), 1.0: (9, 11)}, random=(-21, -19), env="Pong")
    (sweep,), _ = sweeps_of(tmp_path)
    np.testing.assert_allclose(sweep.y, [(-10 + 20) / (10 + 20), 1])
    assert sweep.formula == r"$\dfrac{\mathrm{score}(p)-\mathrm{random}}{\mathrm{score}(1)-\mathrm{random}}$"


def test_one_negative_return_of_an_environment_decides_for_all_its_runs(tmp_path):
    for seed, low in enumerate((2, -2)):
        write_swept_run(tmp_path / f"s{seed}", {0.5: (4, low), 1.0: (10, 12)}, random=(1, 1), seed=seed)
    write_swept_run(tmp_path / "other", {0.5: (4, 2), 1.0: (10, 12)}, random=(1, 1), env="Breakout")
    first = {(sweep.settings["env"], sweep.settings["seed"]): sweep.y[0] for sweep in sweeps_of(tmp_path)[0]}
    assert first == pytest.approx({("CartPole-v1", 0): (3 - 1) / (11 - 1), ("CartPole-v1", 1): (1 - 1) / (11 - 1),
                                   ("Breakout", 1): 3 / 11})


def test_the_original_is_the_score_at_the_probability_of_training(tmp_path):
    # 1 - 0.7 is 0.30000000000000004.
    write_swept_run(tmp_path / "a", {0.1: (2, 2), 0.3: (8, 12), 1.0: (25, 25)}, flicker=0.7)
    (sweep,), _ = sweeps_of(tmp_path)
    np.testing.assert_allclose(sweep.y, [0.2, 1, 2.5])
    figure = sweeps.draw_sweeps([sweep])
    assert sweep.trained == 0.3 and lines_by_gid(figure)["trained"][0] == [0.3, 0.3]
    formula = r"$\dfrac{\mathrm{score}(p)}{\mathrm{score}(0.3)}$"
    assert figure.axes[0].get_ylabel() == f"fraction of original score\n{formula}"
    assert flat_titles(figure) == ["CartPole-v1, trained with flicker 0.7"]


def test_a_line_of_fractions_is_the_interquartile_mean_of_its_seeds(tmp_path):
    for seed, half in enumerate((1, 2, 3, -90, 70)):
        write_swept_run(tmp_path / f"s{seed}", {0.5: (100 + half, 100 + half), 1.0: (200, 200)}, seed=seed)
    figure = sweeps.draw_sweeps(sweeps_of(tmp_path)[0])
    np.testing.assert_allclose(labelled_lines(figure)["DRQN, 1 frame"], [(0.5, 1), (102 / 200, 1)])
    np.testing.assert_allclose(lines_by_gid(figure)["seed 3"], [(0.5, 1), (10 / 200, 1)])
    assert figure.axes[0].collections and figure.axes[0].get_xlabel() == "probability that a screen is shown"
    assert figure.legends[0].get_texts()[0].get_text() == "DRQN, 1 frame (5 seeds)"


def test_the_papers_curve_is_behind_agents_of_full_screens_only(tmp_path):
    for flicker in (0.0, 0.5):
        write_swept_run(tmp_path / f"{flicker}", {0.5: (1, 1), 1.0: (2, 2)}, flicker=flicker)
    figure = sweeps.draw_sweeps(sweeps_of(tmp_path)[0])
    assert flat_titles(figure) == ["CartPole-v1", "CartPole-v1, trained with flicker 0.5"]
    papers = ["DRQN of the paper, mean over 9 Atari games", "DQN of the paper, mean over 9 Atari games"]
    assert [*labelled_lines(figure, 0)] == [*papers, "DRQN, 1 frame"]
    assert [*labelled_lines(figure, 1)] == ["DRQN, 1 frame"]
    for label, first, last in zip(papers, (0.328, 0.241), (0.657, 0.583)):
        x, y = labelled_lines(figure)[label]
        np.testing.assert_allclose(x, np.arange(1, 10) / 10)
        assert (y[0], y[-1]) == (first, last)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["DRQN, 1 frame (1 seed)", *papers]
    only = sweeps.draw_sweeps(sweeps_of(tmp_path / "0.5")[0])
    assert [text.get_text() for text in only.legends[0].get_texts()] == ["DRQN, 1 frame (1 seed)"]


def test_several_environments_have_a_mean_of_the_agents_that_are_in_all_of_them(tmp_path):
    for env, half, original in (("Pong", -10, 10), ("Breakout", 20, 80)):
        for network, history in (("DRQN", 1), ("DQN", 4), ("DQN", 10)):
            if (env, history) != ("Pong", 10):
                write_swept_run(tmp_path / f"{env}{network}{history}", {0.5: (half, half), 1.0: (original, original)},
                                random=(min(half, 0) - 10,) * 2, env=env, network=network, history=history)
    write_swept_run(tmp_path / "converse", {0.5: (3, 3), 1.0: (6, 6)}, env="Pong", flicker=0.5)
    figure = sweeps.draw_sweeps(sweeps_of(tmp_path)[0])
    assert flat_titles(figure) == ["Breakout", "Pong", "mean over 2 environments", "Pong, trained with flicker 0.5"]
    # Breakout's random play scores -10, Pong's -20: (20 + 10) / (80 + 10) and (-10 + 20) / (10 + 20).
    np.testing.assert_allclose([labelled_lines(figure, i)["DRQN, 1 frame"][1] for i in range(3)], [(1 / 3, 1)] * 3)
    assert "DQN, 10 frames" in labelled_lines(figure, 0) and "DQN, 10 frames" not in labelled_lines(figure, 2)
    assert set(lines_by_gid(figure, 2)) == {"trained", "environment Breakout", "environment Pong"}
    assert figure.axes[2].get_ylabel() == "fraction of original score"


def test_a_mean_over_environments_weighs_them_alike(tmp_path):
    for seed, half in enumerate((10, 30)):
        returns = {0.2: (1, 1), 0.5: (half, half), 1.0: (100, 100)}
        write_swept_run(tmp_path / f"breakout{seed}", returns, env="Breakout", seed=seed)
    write_swept_run(tmp_path / "bowling", {0.5: (6, 6), 1.0: (10, 10)}, env="Bowling")
    x, y = labelled_lines(sweeps.draw_sweeps(sweeps_of(tmp_path)[0]), 2)["DRQN, 1 frame"]
    np.testing.assert_allclose((x, y), [(0.2, 0.5, 1), (np.nan, (0.2 + 0.6) / 2, 1)])


@pytest.mark.parametrize("text, probabilities", [
    ("0.1,...,1.0", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]),
    ("0.2,0.4,...,1.0", [0.2, 0.4, 0.6, 0.8, 1.0]),
    ("1,0.25,1", [0.25, 1.0]), ("0,1e-2", [0, 0.01]), ("0.5", [0.5]), ("0.3,...,0.3", [0.3])])
def test_probabilities_may_be_listed_or_progress(text, probabilities):
    assert sweeps.parse_probabilities(text) == probabilities


@pytest.mark.parametrize("text", [
    "", "half", "0.1,", "1.1", "-0.1", "nan", "...", "...,1", "0.1,...", "0.1,...,...,1", "0.1,...,0.95",
    "0.1,...,0.5,1", "1,...,0.1", "0.1,0.1,...,1", "0.1,0.2,0.3,...,1", "0.1,0.1000001,...,1", "0.1,...,inf",
    "0,0.4,...,2"])
def test_other_texts_are_no_probabilities(text):
    sentence = f"--observation_probabilities={re.escape(text)} was given; expected probabilities from 0 to 1"
    with pytest.raises(ValueError, match=sentence):
        sweeps.parse_probabilities(text)
