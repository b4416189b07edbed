"""Figures of the page: the values of the statistics, faint means, sweeps beside the paper's, colours on a dark page."""

import json

import numpy as np
import pytest

from analysis import curves, drawing, plotly_figures, statistics, sweeps
from helpers.analysed_runs import write_swept_run
from helpers.run_files import find_checked, write_run
from storage import episodes


def curve_figures(folder, y="eval"):
    """Return the figures of the runs in a folder, each with its `data` and `layout` beside title and alt."""
    runs = find_checked([folder])[0]
    run_curves, _ = curves.read_curves(runs, y=y)
    in_labels = drawing.settings_in_labels(run_curves, ["flicker"])
    styles = drawing.style_lines(run_curves, in_labels)
    figures = plotly_figures.make_curve_figures(run_curves, in_labels, styles, y, episodes.find_random_play(runs)[0])
    return [figure | json.loads(figure["json"]) for figure in figures]


def traces_of_kind(figure, kind):
    """Return {name: (x, y)} of the lines of a kind."""
    return {trace["name"]: (trace["x"], trace["y"]) for trace in figure["data"] if trace["meta"]["kind"] == kind}


def test_curves_are_those_of_the_statistics(tmp_path):
    for seed, means in enumerate([(10, 40, 70), (20, 50, 90), (30, 60, 80), (1000, -1000, 100), (0, 55, 60)]):
        evaluations = [(100 * k, (mean - 1, mean + 1)) for k, mean in enumerate(means, 1)]
        write_run(tmp_path / f"s{seed}", evaluations, seed=seed, episodes=[(100, 4), (300, 8)], random=(1, 2))
    (evaluation,), (training,) = curve_figures(tmp_path), curve_figures(tmp_path, "train")
    ((x, y),) = traces_of_kind(evaluation, "mean").values()
    np.testing.assert_allclose((x, y), [(100, 200, 300), (20, (40 + 50 + 55) / 3, 80)])
    assert list(traces_of_kind(evaluation, "seed")) == [f"seed {seed}" for seed in range(5)]
    assert traces_of_kind(evaluation, "seed")["seed 3"] == ([100, 200, 300], [1000, -1000, 100])
    assert traces_of_kind(evaluation, "other") == {"random play 1.50": ([0, 300], [1.5, 1.5])}
    (band,) = [trace for trace in evaluation["data"] if trace["meta"]["kind"] == "band"]
    run_curves, _ = curves.read_curves(find_checked([tmp_path])[0])
    _, low, high = statistics.interquartile_band(np.array([curve.y for curve in run_curves]))
    np.testing.assert_allclose(band["y"], [*high, *low[::-1]])
    assert evaluation["layout"]["xaxis"]["title"]["text"] == "agent steps"
    assert training["layout"]["yaxis"]["title"]["text"] == "training return (raw reward)"
    assert traces_of_kind(training, "mean")["DRQN, 1 frame"][1][-1] == 8


def test_where_seeds_are_missing_the_mean_is_faint(tmp_path):
    for seed, means in enumerate([(10, 20, 30), (20, 30)]):
        write_run(tmp_path / f"s{seed}", [(100 * k, (mean, mean)) for k, mean in enumerate(means, 1)], seed=seed)
    (figure,) = curve_figures(tmp_path)
    assert traces_of_kind(figure, "mean") == {"DRQN, 1 frame": ([100, 200], [15, 25]),
                                              "DRQN, 1 frame, not all seeds": ([100, 200, 300], [None, 25, 30])}


def test_a_figure_says_in_words_what_it_shows(tmp_path):
    write_run(tmp_path / "a", [(100, (1, 3))], env="Pong", flicker=0.5, random=(1, 2))
    write_run(tmp_path / "b", [(100, (1, 3))], env="Breakout", network="DQN", history=4)
    breakout, pong = curve_figures(tmp_path)
    assert breakout["alt"] == "evaluation return (raw reward) over agent steps, Breakout: DQN, 4 frames"
    assert pong["title"] == "Pong, flicker 0.5" and pong["alt"].endswith("0.5: DRQN, 1 frame; random play")


def test_sweeps_are_beside_the_papers_and_their_mean_is_over_environments(tmp_path):
    for env, half in (("Pong", 5), ("Breakout", 15)):
        write_swept_run(tmp_path / env, {0.5: (half,), 1.0: (20,)}, random=(2,), env=env)
    write_swept_run(tmp_path / "negative", {0.5: (-5,), 1.0: (-1,)}, random=(-9,), env="Tennis", flicker=0.5)
    run_sweeps, _ = sweeps.read_sweeps(find_checked([tmp_path])[0])
    styles = drawing.style_lines(run_sweeps, drawing.settings_in_labels(run_sweeps, ["env", "flicker"]))
    figures = [figure | json.loads(figure["json"]) for figure in plotly_figures.make_sweep_figures(run_sweeps, styles)]
    titles = ["Breakout", "Pong", "mean over 2 environments", "Tennis, trained with flicker 0.5, random play being 0"]
    assert [figure["title"] for figure in figures] == titles
    assert traces_of_kind(figures[1], "mean") == {"DRQN, 1 frame": ([0.5, 1], [0.25, 1])}
    assert traces_of_kind(figures[2], "mean") == {"DRQN, 1 frame": ([0.5, 1], [0.5, 1])}
    papers = [[name.split(" of ")[0] for name in traces_of_kind(figure, "other")] for figure in figures]
    assert papers == [["DRQN", "DQN"]] * 3 + [[]]


@pytest.mark.parametrize("colour, dark", [("#000000", "#999999"), ("#ffffff", "#ffffff"), ("#808080", "#a6a6a6")])
def test_dark_colours_get_lighter_on_a_dark_page(colour, dark):
    solid = plotly_figures.plotly_style(dict(color=colour, linestyle="-"))
    assert solid == dict(light=colour, dark=dark, dash="solid")
    assert plotly_figures.plotly_style(dict(color=colour, linestyle=(0, (4, 1.3))))["dash"] == "8px,2.6px"
