"""The figure of learning curves: values against hand computations, panels from the data, lines, bands, random play."""

import numpy as np
import pytest

from analysis import curve_figure, drawing
from helpers.analysed_runs import curves_of, write_seeds
from helpers.run_files import find_checked, write_run
from storage import episodes


def lines_of(figure, panel=0):
    """Return {label: (x, y)} of the lines of a panel."""
    return {line.get_label(): line.get_data() for line in figure.axes[panel].lines
            if not line.get_label().startswith("_")}


def lines_with_gid(figure, gid, panel=0):
    return [line for line in figure.axes[panel].lines if (line.get_gid() or "").startswith(gid)]


def titles_of(figure):
    return [axes.get_title() for axes in figure.axes]


def legend_of(figure):
    """Return the labels of the legend, and its sentence."""
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()], legend.get_title().get_text().replace("\n", " ")


# Lines and bands


def test_a_line_is_the_interquartile_mean_of_its_seeds(tmp_path):
    write_seeds(tmp_path, [(10, 40, 70), (20, 50, 90), (30, 60, 80), (1000, -1000, 100), (0, 55, 60)])
    figure = curve_figure.draw_curves(curves_of(tmp_path))
    assert list(lines_of(figure)) == ["DRQN, 1 frame"]
    x, y = lines_of(figure)["DRQN, 1 frame"]
    np.testing.assert_allclose(x, [103.2, 203.2, 303.2])  # The seeds are 0, 3, 7, 5 and 1 agent steps late.
    np.testing.assert_allclose(y, [20, (40 + 50 + 55) / 3, 80])
    assert legend_of(figure) == (["DRQN, 1 frame (5 seeds)"],
                                 "Interquartile mean over seeds with 95% bootstrap band; thin: single seeds.")


def test_thin_lines_are_the_seeds_and_the_band_lies_between_them(tmp_path):
    write_seeds(tmp_path, [(10, 40), (20, 60)])
    figure = curve_figure.draw_curves(curves_of(tmp_path))
    seeds = {line.get_gid(): line for line in lines_with_gid(figure, "seed ")}
    np.testing.assert_array_equal(seeds["seed 1"].get_data(), [(103, 203), (20, 60)])
    assert all(line.get_linewidth() < 1 for line in seeds.values())
    paths = [path for collection in figure.axes[0].collections for path in collection.get_paths()]
    band = np.concatenate([path.vertices for path in paths])
    for x, low, high in ((101.5, 10, 20), (201.5, 40, 60)):  # The band of two seeds goes from one seed to the other.
        at = band[np.isclose(band[:, 0], x), 1]
        assert (at.min(), at.max()) == (low, high)


def test_a_single_seed_has_no_band(tmp_path):
    write_run(tmp_path / "a", [(100, (1, 3)), (200, (5, 9))])
    figure = curve_figure.draw_curves(curves_of(tmp_path))
    np.testing.assert_array_equal(lines_of(figure)["DRQN, 1 frame"], [(100, 200), (2, 7)])
    assert not figure.axes[0].collections and not lines_with_gid(figure, "seed ")
    assert legend_of(figure) == (["DRQN, 1 frame (1 seed)"], "Lines are single seeds.")


def test_a_single_evaluation_is_a_dot(tmp_path):
    write_run(tmp_path / "a", [(100, (1, 3))])
    (line,) = curve_figure.draw_curves(curves_of(tmp_path)).axes[0].lines
    assert line.get_marker() == "o" and line.get_xdata() == [100]


def test_where_seeds_are_missing_the_mean_is_faint_and_then_ends(tmp_path):
    write_seeds(tmp_path, [(10, 20, 30, 40), (20, 30, 60), (60, 70)], late=(0, 0, 0), maxsteps=400)
    figure = curve_figure.draw_curves(curves_of(tmp_path))
    np.testing.assert_array_equal(lines_of(figure)["DRQN, 1 frame"], [(100, 200), (30, 40)])
    (faint,) = lines_with_gid(figure, "fewer seeds")
    # The faint line begins where all three seeds have data. One seed of three is too few.
    np.testing.assert_array_equal(faint.get_ydata(), [np.nan, 40, 45, np.nan])
    assert faint.get_alpha() < 0.5
    labels, sentence = legend_of(figure)
    assert labels == ["DRQN, 1 frame (2\N{EN DASH}3 seeds)"] and "faint: not from all seeds" in sentence


def test_seeds_that_never_meet_have_no_mean(tmp_path):
    for seed, step in enumerate((100, 200, 300)):
        write_run(tmp_path / f"s{seed}", [(step, (1, 1))], seed=seed)
    figure = curve_figure.draw_curves(curves_of(tmp_path, x="hours"), x="hours")
    assert len(lines_of(figure)["DRQN, 1 frame"][0]) == 0 and len(lines_with_gid(figure, "seed ")) == 3


# Axes and panels


@pytest.mark.parametrize("x, label, first", [
    ("agent_step", "agent steps", 100), ("frames", "emulator frames", 400),
    ("hours", "hours of training", 100 / 2 / 3600)])
def test_x_axes_and_their_units(tmp_path, x, label, first):
    write_run(tmp_path / "a", [(100, (1, 3)), (200, (5, 9))], frame_skip=4)
    figure = curve_figure.draw_curves(curves_of(tmp_path, x=x), x=x)
    np.testing.assert_allclose(lines_of(figure)["DRQN, 1 frame"][0], [first, 2 * first])
    assert figure.axes[0].get_xlabel() == label and figure.axes[0].get_ylabel() == "evaluation return\n(raw reward)"


def test_training_returns_have_another_label_than_evaluations(tmp_path):
    write_run(tmp_path / "a", episodes=[(1, 10), (100, 3)])
    figure = curve_figure.draw_curves(curves_of(tmp_path, y="train"), y="train")
    np.testing.assert_allclose(lines_of(figure)["DRQN, 1 frame"], [(1, 99), (10, 3)])
    assert "mean of the episodes in 1/50 of the axis" in legend_of(figure)[1]
    assert figure.axes[0].get_ylabel() == "training return\n(raw reward)"


def test_a_panel_per_environment_and_flicker(tmp_path):
    write_run(tmp_path / "a", [(100, (1, 3))], flicker=0.5)
    figure = curve_figure.draw_curves(curves_of(tmp_path))
    assert figure.axes[0].get_title() == "CartPole-v1, flicker 0.5" and list(lines_of(figure)) == ["DRQN, 1 frame"]
    write_run(tmp_path / "b", [(100, (1, 3))], network="DQN", history=4)
    figure = curve_figure.draw_curves(curves_of(tmp_path))
    assert titles_of(figure) == ["CartPole-v1", "CartPole-v1, flicker 0.5"]
    assert [list(lines_of(figure, panel)) for panel in (0, 1)] == [["DQN, 4 frames"], ["DRQN, 1 frame"]]


def test_a_panel_per_environment(tmp_path):
    for env in ("Pong", "Breakout", "CartPole-v1"):
        write_run(tmp_path / env, [(100, (len(env), len(env)))], env=env)
    figure = curve_figure.draw_curves(curves_of(tmp_path))
    assert titles_of(figure) == ["Breakout", "CartPole-v1", "Pong"]
    assert [lines_of(figure, i)["DRQN, 1 frame"][1][0] for i in range(3)] == [8, 11, 4]
    assert len(legend_of(figure)[0]) == 1


def test_crafted_and_plain_rewards_are_four_lines_in_the_panel_of_their_game_by_episodes(tmp_path):
    envs, schedules = ("Assault", "AssaultCrafted-v0"), ("step:25ep:0.8", "cosine_restarts:10ep:0.001")
    for env, schedule in [(env, schedule) for env in envs for schedule in schedules]:
        for seed in (1, 2):
            episodes = [(100 * k, seed + 10 * k) for k in (1, 3)]
            write_run(tmp_path / f"{env}-{schedule}-{seed}", episodes=episodes, env=env, lr_schedule=schedule,
                      seed=seed, num_envs=1)
    figure = curve_figure.draw_curves(curves_of(tmp_path, x="episodes", y="train"), "episodes", "train")
    assert titles_of(figure) == ["Assault"] and figure.axes[0].get_xlabel() == "complete training episodes"
    assert sorted(lines_of(figure)) == [f"DRQN, 1 frame, {env}, lr_schedule {schedule}"
                                        for env in envs for schedule in sorted(schedules)]
    for x, y in lines_of(figure).values():
        # Bins are a 50th of 2 episodes.
        assert x.tolist() == pytest.approx([0.98, 1.98], abs=0.03) and y.tolist() == [11.5, 31.5]
    apart = curve_figure.draw_curves(curves_of(tmp_path, y="train"), "agent_step", "train", grid_columns="lr_schedule")
    assert [len(lines_of(apart, panel)) for panel in (0, 1)] == [2, 2]


@pytest.fixture
def grid(tmp_path):
    """Return a folder of runs with two values of flicker, three of units, two of network; one pair has no run."""
    for flicker in (0.0, 0.5):
        for units in (16, 128, 1024):
            for network in ("DRQN", "DQN"):
                if (flicker, units) != (0.5, 128):
                    settings = dict(flicker=flicker, units=units, network=network)
                    write_run(tmp_path / str(settings), [(100, (units, units))], **settings)
    return tmp_path


def test_grid_of_two_flags(grid):
    figure = curve_figure.draw_curves(curves_of(grid), grid_rows="flicker", grid_columns="units")
    assert titles_of(figure) == ["units 16", "units 128", "units 1024", "", "", ""]  # sorted by size, not as text
    beside = [[text.get_text() for text in axes.texts if text.get_text()] for axes in figure.axes]
    assert beside == [[], [], ["flicker 0"], [], ["no runs"], ["flicker 0.5"]]
    assert [len(lines_of(figure, i)) for i in range(6)] == [2, 2, 2, 2, 0, 2]
    assert set(lines_of(figure)) == {"DRQN, 1 frame", "DQN, 1 frame"}  # Labels do not repeat the titles of panels.
    assert lines_of(figure, 2)["DQN, 1 frame"][1] == [1024]
    assert len({axes.get_ylim() for axes in figure.axes}) == len({axes.get_xlim() for axes in figure.axes}) == 1
    assert figure.get_suptitle() == "CartPole-v1"


@pytest.mark.parametrize("which, titles", [
    ("grid_rows", ["", "", ""]), ("grid_columns", ["units 16", "units 128", "units 1024"])])
def test_grid_of_one_flag(grid, which, titles):
    figure = curve_figure.draw_curves(curves_of(grid), **{which: "units"})
    assert titles_of(figure) == titles
    assert "DQN, 1 frame, flicker 0.5" in lines_of(figure)


def test_grid_over_environments_shares_axes_within_each(tmp_path):
    for env, mean in (("Pong", -20), ("Breakout", 300)):
        write_run(tmp_path / env, [(100, (mean, mean)), (200, (mean, mean + 2))], env=env)
    figure = curve_figure.draw_curves(curves_of(tmp_path), grid_rows="env", grid_columns="history")
    assert figure.axes[0].get_ylim()[0] > 100 > figure.axes[1].get_ylim()[1]
    assert [axes.texts[0].get_text() for axes in figure.axes] == ["Breakout", "Pong"]


def test_small_multiples_show_each_line_before_the_others(tmp_path):
    for seed in (1, 2):
        for history in (1, 2, 3, 4, 5, 6):
            write_run(tmp_path / f"{history}-{seed}", [(100, (history, history)), (200, (history + seed, 9))],
                      history=history, seed=seed)
        write_run(tmp_path / f"Pong-{seed}", [(100, (-20, -20))], env="Pong", seed=seed)
    figure = curve_figure.draw_curves(curves_of(tmp_path), grid_columns=curve_figure.LINES)
    assert titles_of(figure) == [*(f"DRQN, {n} frame{'s' * (n > 1)} (2 seeds)" for n in range(1, 7)),
                                 "DRQN, 1 frame (2 seeds)"]
    places = [(axes.get_subplotspec().rowspan.start, axes.get_subplotspec().colspan.start) for axes in figure.axes]
    assert places == [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (1, 0), (2, 0)]
    assert [[text.get_text() for text in axes.texts if text.get_text()] for axes in figure.axes] == [
        [], [], [], [], ["CartPole-v1"], ["CartPole-v1"], ["Pong"]]
    gray = [[line for line in axes.lines if line.get_color() == drawing.BEHIND["color"]] for axes in figure.axes]
    assert [len(lines) for lines in gray] == [5] * 6 + [0]
    assert [line.get_ydata()[0] for line in gray[1]] == [1, 3, 4, 5, 6]  # not the panel's own
    assert list(lines_of(figure, 1)) == ["DRQN, 2 frames"] and lines_of(figure, 1)["DRQN, 2 frames"][1][0] == 2
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["the other lines"]


# Random play


@pytest.mark.parametrize("y", ["eval", "train"])
def test_a_panel_has_the_mean_of_its_random_play(tmp_path, y):
    rows = dict(evaluations=[(100, (1, 3))], episodes=[(50, 2)])
    for env, returns in (("Breakout", (1, 2)), ("Pong", (-21, -20, -20.5)), ("Tennis", ())):
        write_run(tmp_path / env, **rows, env=env, random=returns)
    random_play, _ = episodes.find_random_play(find_checked([tmp_path])[0])
    figure = curve_figure.draw_curves(curves_of(tmp_path, y=y), y=y, random_play=random_play)
    dashed = [[line for line in axes.lines if line.get_color() == drawing.RANDOM["color"]] for axes in figure.axes]
    assert [[(line.get_label(), *line.get_ydata()) for line in of_panel] for of_panel in dashed] == [
        [("random play 1.50", 1.5, 1.5)], [("random play -20.50", -20.5, -20.5)], []]
    assert [axes.get_legend() and axes.get_legend().get_texts()[0].get_text() for axes in figure.axes] == [
        "random play 1.50", "random play -20.50", None]
