"""Sweeps over the probability that a screen is shown: fractions against hand computations, panels, the paper's curve, bad input."""

import re

import numpy as np
import pytest
from helpers.run_files import write_run

import plot
from analysis import sweeps
from storage import reading

HEADER = "policy,weights,observation_probability,episode,episode_return,length,epsilon,eval_seed"


def make_sweep(directory, scores, random=(0, 2), **settings):
    """Write a run and its observability.csv: scores {probability: episode returns}, and random play's returns."""
    write_run(directory, **settings)
    rows = [("agent", "best", p, i, r, 9, 0.05, 0) for p, returns in scores.items() for i, r in enumerate(returns)]
    rows += [("random", "random", 1.0, i, r, 9, 1.0, 0) for i, r in enumerate(random)]
    (directory / "observability.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in [[HEADER], *rows]))
    return directory


def read(*paths):
    return sweeps.read_sweeps(reading.find_runs(paths)[0])


def drawn(figure, panel=0):
    """Return {label: (x, y)} of the lines of a panel."""
    return {line.get_label(): line.get_data() for line in figure.axes[panel].lines if not line.get_label().startswith("_")}


def titles(figure):
    return [axes.get_title().replace("\n", ", ") for axes in figure.axes]


def gids(figure, panel=0):
    return {line.get_gid(): line.get_data() for line in figure.axes[panel].lines if line.get_gid()}


def fails(capsys, *arguments):
    assert plot.main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("plot.py: ") and error.count("\n") == 1, error
    return error


def test_fractions_of_scores_that_are_never_negative(tmp_path):
    make_sweep(tmp_path / "a", {0.1: (1, 3), 0.5: (5, 5), 1.0: (4, 12)}, random=(3, 3))
    (sweep,), notes = read(tmp_path)
    np.testing.assert_allclose((sweep.x, sweep.y), [(0.1, 0.5, 1), (2 / 8, 5 / 8, 1)])
    assert sweep.formula == r"$\dfrac{\mathrm{score}(p)}{\mathrm{score}(1)}$" and not notes


def test_where_scores_can_be_negative_random_play_is_zero(tmp_path):
    make_sweep(tmp_path / "a", {0.5: (-15, -5), 1.0: (9, 11)}, random=(-21, -19), env="Pong")
    (sweep,), _ = read(tmp_path)
    np.testing.assert_allclose(sweep.y, [(-10 + 20) / (10 + 20), 1])
    assert sweep.formula == r"$\dfrac{\mathrm{score}(p)-\mathrm{random}}{\mathrm{score}(1)-\mathrm{random}}$"


def test_one_negative_return_of_an_environment_decides_for_all_its_runs(tmp_path):
    for seed, low in enumerate((2, -2)):
        make_sweep(tmp_path / f"s{seed}", {0.5: (4, low), 1.0: (10, 12)}, random=(1, 1), seed=seed)
    make_sweep(tmp_path / "other", {0.5: (4, 2), 1.0: (10, 12)}, random=(1, 1), env="Breakout")
    assert {(sweep.settings["env"], sweep.settings["seed"]): sweep.y[0] for sweep in read(tmp_path)[0]} == pytest.approx(
        {("CartPole-v1", 0): (3 - 1) / (11 - 1), ("CartPole-v1", 1): (1 - 1) / (11 - 1), ("Breakout", 1): 3 / 11})


def test_the_original_is_the_score_at_the_probability_of_training(tmp_path):
    make_sweep(tmp_path / "a", {0.1: (2, 2), 0.3: (8, 12), 1.0: (25, 25)}, flicker=0.7)  # 1 - 0.7 is 0.30000000000000004
    (sweep,), _ = read(tmp_path)
    np.testing.assert_allclose(sweep.y, [0.2, 1, 2.5])
    figure = sweeps.draw([sweep])
    assert sweep.trained == 0.3 and gids(figure)["trained"][0] == [0.3, 0.3]
    assert figure.axes[0].get_ylabel() == "fraction of original score" + "\n" + r"$\dfrac{\mathrm{score}(p)}{\mathrm{score}(0.3)}$"
    assert titles(figure) == ["CartPole-v1, trained with flicker 0.7"]


def test_a_line_is_the_interquartile_mean_of_its_seeds(tmp_path):
    for seed, half in enumerate((1, 2, 3, -90, 70)):
        make_sweep(tmp_path / f"s{seed}", {0.5: (100 + half, 100 + half), 1.0: (200, 200)}, seed=seed)
    figure = sweeps.draw(read(tmp_path)[0])
    np.testing.assert_allclose(drawn(figure)["DRQN, 1 frame"], [(0.5, 1), (102 / 200, 1)])
    np.testing.assert_allclose(gids(figure)["seed 3"], [(0.5, 1), (10 / 200, 1)])
    assert figure.axes[0].collections and figure.axes[0].get_xlabel() == "probability that a screen is shown"
    assert figure.legends[0].get_texts()[0].get_text() == "DRQN, 1 frame (5 seeds)"


def test_the_papers_curve_is_behind_agents_of_full_screens_only(tmp_path):
    for flicker in (0.0, 0.5):
        make_sweep(tmp_path / f"{flicker}", {0.5: (1, 1), 1.0: (2, 2)}, flicker=flicker)
    figure = sweeps.draw(read(tmp_path)[0])
    assert titles(figure) == ["CartPole-v1", "CartPole-v1, trained with flicker 0.5"]
    papers = ["DRQN of the paper, mean over 9 Atari games", "DQN of the paper, mean over 9 Atari games"]
    assert [*drawn(figure, 0)] == [*papers, "DRQN, 1 frame"] and [*drawn(figure, 1)] == ["DRQN, 1 frame"]
    for label, first, last in zip(papers, (0.328, 0.241), (0.657, 0.583)):
        x, y = drawn(figure)[label]
        np.testing.assert_allclose(x, np.arange(1, 10) / 10)
        assert (y[0], y[-1]) == (first, last)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["DRQN, 1 frame (1 seed)", *papers]
    only = sweeps.draw(read(tmp_path / "0.5")[0])
    assert [text.get_text() for text in only.legends[0].get_texts()] == ["DRQN, 1 frame (1 seed)"]


def test_several_environments_have_a_mean_of_the_agents_that_are_in_all_of_them(tmp_path):
    for env, half, original in (("Pong", -10, 10), ("Breakout", 20, 80)):
        for network, history in (("DRQN", 1), ("DQN", 4), ("DQN", 10)):
            if (env, history) != ("Pong", 10):
                make_sweep(tmp_path / f"{env}{network}{history}", {0.5: (half, half), 1.0: (original, original)},
                           random=(min(half, 0) - 10,) * 2, env=env, network=network, history=history)
    make_sweep(tmp_path / "converse", {0.5: (3, 3), 1.0: (6, 6)}, env="Pong", flicker=0.5)
    figure = sweeps.draw(read(tmp_path)[0])
    assert titles(figure) == ["Breakout", "Pong", "mean over 2 environments", "Pong, trained with flicker 0.5"]
    # Breakout's random play scores -10, Pong's -20: (20 + 10) / (80 + 10) and (-10 + 20) / (10 + 20).
    np.testing.assert_allclose([drawn(figure, i)["DRQN, 1 frame"][1] for i in range(3)], [(1 / 3, 1)] * 3)
    assert "DQN, 10 frames" in drawn(figure, 0) and "DQN, 10 frames" not in drawn(figure, 2)
    assert set(gids(figure, 2)) == {"trained", "environment Breakout", "environment Pong"}
    assert figure.axes[2].get_ylabel() == "fraction of original score"


def test_a_mean_over_environments_weighs_them_alike(tmp_path):
    for seed, half in enumerate((10, 30)):
        make_sweep(tmp_path / f"breakout{seed}", {0.2: (1, 1), 0.5: (half, half), 1.0: (100, 100)}, env="Breakout", seed=seed)
    make_sweep(tmp_path / "bowling", {0.5: (6, 6), 1.0: (10, 10)}, env="Bowling")
    x, y = drawn(sweeps.draw(read(tmp_path)[0]), 2)["DRQN, 1 frame"]
    np.testing.assert_allclose((x, y), [(0.2, 0.5, 1), (np.nan, (0.2 + 0.6) / 2, 1)])


def test_what_cannot_be_drawn_is_told(tmp_path, capsys):
    make_sweep(tmp_path / "a", {0.5: (-15, -5), 1.0: (9, 11)}, random=(-21, -19), env="Pong")
    make_sweep(tmp_path / "again", {0.5: (-15, -5), 1.0: (9, 11)}, random=(-21, -19), env="Pong")
    make_sweep(tmp_path / "bad", {0.5: (-20, -20), 1.0: (-21, -21)}, random=(-21, -20), env="Pong", seed=2)
    write_run(tmp_path / "none", env="Pong", seed=3)
    other = make_sweep(tmp_path / "other", {0.5: (-15, -5), 1.0: (9, 11)}, env="Pong", seed=4) / "observability.csv"
    other.write_text(other.read_text().replace("best", "last"))
    assert plot.main([str(tmp_path), "--figure=observability", f"--out={tmp_path / 'figure'}"]) == 0
    assert capsys.readouterr().out.replace(str(tmp_path), "").splitlines() == [
        "Note: /none has no observability.csv yet; evaluate.py --run_dir=/none --observation_probabilities=0.1,...,1.0 writes it.",
        "Note: /other/observability.csv is not of the best weights at the run's --eval_epsilon=0.05, and is left out.",
        "Note: /again and /a are the same seed of the same settings; only the latter counts.",
        "Note: /bad has no fractions: its original score, -21.00, is no more than their zero, -20.50.",
        "1 run drawn: /figure.png and /figure.svg."]
    assert "none has no observability.csv yet" in fails(capsys, tmp_path / "none", "--figure=observability")


@pytest.mark.parametrize("text, words", [
    ("", "no rows of the probability of training, 1"),
    ("policy,weights\nagent,best\n", "damaged, or not of this suite"),
    (f"{HEADER}\nagent,best,1.0,0,nan,9,0,0\n", "a value is not finite"),
    (f"{HEADER}\nagent,best,1.0,0,5,9,0,0\n", "no rows of random play"),
    (f"{HEADER}\nagent,best,1.0,0\n", "damaged, or not of this suite"),
    (f"{HEADER}\nagent,best,0.5,0,5,9,0,0\nrandom,random,1.0,0,5,9,1,0\n", "no rows of the probability of training, 1")])
def test_a_damaged_file_is_one_sentence(tmp_path, capsys, text, words):
    (write_run(tmp_path / "a") / "observability.csv").write_text(text)
    assert words in fails(capsys, tmp_path, "--figure=observability")


@pytest.mark.parametrize("text, probabilities", [
    ("0.1,...,1.0", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]), ("0.2,0.4,...,1.0", [0.2, 0.4, 0.6, 0.8, 1.0]),
    ("1,0.25,1", [0.25, 1.0]), ("0,1e-2", [0, 0.01]), ("0.5", [0.5]), ("0.3,...,0.3", [0.3])])
def test_probabilities_may_be_listed_or_progress(text, probabilities):
    assert sweeps.parse_probabilities(text) == probabilities


@pytest.mark.parametrize("text", [
    "", "half", "0.1,", "1.1", "-0.1", "nan", "...", "...,1", "0.1,...", "0.1,...,...,1", "0.1,...,0.95", "0.1,...,0.5,1", "1,...,0.1",
    "0.1,0.1,...,1", "0.1,0.2,0.3,...,1", "0.1,0.1000001,...,1", "0.1,...,inf", "0,0.4,...,2"])
def test_other_texts_are_no_probabilities(text):
    with pytest.raises(ValueError, match=f"--observation_probabilities={re.escape(text)} was given; expected probabilities from 0 to 1"):
        sweeps.parse_probabilities(text)
