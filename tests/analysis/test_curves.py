"""Learning curves: values against hand computations, panels from the data, lines, bands and random play."""

import numpy as np
import pytest

from analysis import curves, drawing
from helpers.analysed_runs import write_seeds, write_sweep_rows
from helpers.run_files import find_checked, write_run, write_table
from storage import episodes, layout


def curves_of(*paths, x="agent_step", y="eval"):
    return curves.read_curves(find_checked(paths)[0], x, y)[0]


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


# From directories to curves


def test_runs_that_differ_in_seed_and_limits_form_one_line(tmp_path):
    write_run(tmp_path / "a", [(100, (1, 3))])
    write_run(tmp_path / "b", [(100, (5, 7))], seed=2, maxsteps=500, eval_period=50, checkpoint_period=7)
    write_run(tmp_path / "c", [(100, (5, 7))], seed=2, units=65)
    a, b, c = curves_of(tmp_path)
    assert a.line == b.line != c.line


def test_training_returns_are_means_over_bins_of_complete_episodes(tmp_path):
    run = write_run(tmp_path / "a", episodes=[(1, 10), (2, 30), (3, 5), (99, 1), (100, 3)])
    (curve,) = curves_of(run, y="train")
    np.testing.assert_allclose([curve.x, curve.y], [(1, 3, 99), (20, 5, 2)])  # bins (0, 2], (2, 4], (98, 100]


def test_episodes_that_an_old_run_cut_are_left_out(tmp_path):
    run = write_run(tmp_path / "a")
    rows = [(step, step, episode_return, 9, 1, 0, cut, step / 2)
            for step, episode_return, cut in [(1, 10, 0), (2, 999, 1), (50, 30, 0), (100, 5, 0)]]
    write_table(layout.csv_path(run, "train"), layout.OLD_COLUMNS["train"], rows)
    (curve,) = curves_of(run, y="train")
    assert curve.y.tolist() == [10, 30, 5]
    (curve,) = curves_of(run, x="episodes", y="train")
    np.testing.assert_allclose([curve.x, curve.y], [(0.99, 2.01, 2.97), (10, 30, 5)])  # bins of 3 / 50


def test_the_last_bin_of_a_shorter_run_is_left_out_unless_half_full(tmp_path):
    write_run(tmp_path / "a", episodes=[(t, t) for t in range(1, 1001)])  # bins of 20
    write_run(tmp_path / "b", episodes=[(t, t) for t in range(1, 106)], seed=2)
    shorter = curves_of(tmp_path, y="train")[1]
    np.testing.assert_allclose(shorter.x, [10, 30, 50, 70, 90])
    np.testing.assert_allclose(shorter.y, [10.5, 30.5, 50.5, 70.5, 90.5])


def test_the_same_seed_counts_once(tmp_path):
    write_run(tmp_path / "a", [(100, (1, 3))])
    write_run(tmp_path / "b", [(100, (1, 3)), (200, (5, 7))])
    longer, notes = curves.read_curves(find_checked([tmp_path, tmp_path / "a"])[0])
    assert [curve.directory.name for curve in longer] == ["b"]
    assert any("the same seed of the same settings" in note for note in notes)


def test_an_evaluation_that_is_being_written_is_left_out(tmp_path):
    run = write_run(tmp_path / "a", [(100, (1, 3)), (200, (5, 9))])
    complete = (run / "eval.csv").read_text()
    half_a_row, a_row = "300,300,3,0,7", "300,300,3,0,7,9,150"
    for more in (half_a_row, a_row, a_row + "\n", a_row + "\n3"):  # An evaluation has two episodes here.
        (run / "eval.csv").write_text(complete + more)
        (curve,) = curves_of(run)
        np.testing.assert_array_equal([curve.x, curve.y], [(100, 200), (2, 7)])


@pytest.mark.parametrize("damage, message", [
    (lambda text: "step,reward\n1,2\n", "it begins with 'step,reward', expected agent_step,frames"),
    (lambda text: text.replace("100", "a hundred", 1), "could not convert string 'a hundred'"),
    (lambda text: text.replace("100,100,1,0,1,9,50.0", "100,100"), "the number of columns changed from 2 to 7"),
    (lambda text: text.splitlines()[0] + "\n1,2\n", "its rows have 2 values, expected 7"),
    (lambda text: text + text.split("\n", 1)[1], "agent_step decreases"),
    (lambda text: text + "\x00" * 50 + "\n", "the number of columns changed from 7 to 1"),
    (lambda text: "\x00" * 50 + "\n", "it begins with"),
    (lambda text: "\udcff", "can't decode"),
])
def test_a_run_with_a_damaged_csv_is_left_out_by_name_and_the_others_stay(tmp_path, damage, message):
    run = write_run(tmp_path / "a", [(100, (1, 3)), (200, (5, 9))])
    write_run(tmp_path / "b", [(300, (1, 3))], seed=2)
    (run / "eval.csv").write_bytes(damage((run / "eval.csv").read_text()).encode(errors="surrogateescape"))
    (curve,), (note,) = curves.read_curves(find_checked([tmp_path])[0])
    assert (curve.directory.name, *curve.x, *curve.y) == ("b", 300, 2)
    assert note.startswith(f"left out: {run / 'eval.csv'} is damaged") and message in note and "\n" not in note


def test_episodes_that_limit_a_run_are_read_with_its_curve(tmp_path):
    for name, maxepisodes in (("a", 1), ("b", 2), ("c", 2)):
        write_run(tmp_path / name, [(100, (1, 3))], [(50, 2)], maxepisodes=maxepisodes, env=f"Game-{name}")
    (tmp_path / "c/train.csv").write_text("torn\n")
    run_curves, notes = curves.read_curves(find_checked([tmp_path])[0])
    assert [curve.directory.name for curve in run_curves] == ["a", "b"]
    assert notes[0].startswith(f"left out: {tmp_path / 'c/train.csv'} is damaged")
    assert notes[1].startswith(f"1 of 3 runs are unfinished; the shortest is {tmp_path / 'b'}")


def test_an_evaluation_that_is_not_finite_is_no_point_and_is_noted(tmp_path):
    run = write_run(tmp_path / "a", [(100, (1, float("nan"))), (200, (5, 9)), (300, (6, 8))])
    (curve,), notes = curves.read_curves(find_checked([tmp_path])[0])
    np.testing.assert_array_equal([curve.x, curve.y], [(200, 300), (7, 7)])
    assert notes == [f"{run / 'eval.csv'} has values that are not finite; 1 row of it, and evaluations without them, "
                     "do not count"]


# Lines and bands


def test_a_line_is_the_interquartile_mean_of_its_seeds(tmp_path):
    write_seeds(tmp_path, [(10, 40, 70), (20, 50, 90), (30, 60, 80), (1000, -1000, 100), (0, 55, 60)])
    figure = curves.draw_curves(curves_of(tmp_path))
    assert list(lines_of(figure)) == ["DRQN, 1 frame"]
    x, y = lines_of(figure)["DRQN, 1 frame"]
    np.testing.assert_allclose(x, [103.2, 203.2, 303.2])  # The seeds are 0, 3, 7, 5 and 1 agent steps late.
    np.testing.assert_allclose(y, [20, (40 + 50 + 55) / 3, 80])
    assert legend_of(figure) == (["DRQN, 1 frame (5 seeds)"],
                                 "Interquartile mean over seeds with 95% bootstrap band; thin: single seeds.")


def test_thin_lines_are_the_seeds_and_the_band_lies_between_them(tmp_path):
    write_seeds(tmp_path, [(10, 40), (20, 60)])
    figure = curves.draw_curves(curves_of(tmp_path))
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
    figure = curves.draw_curves(curves_of(tmp_path))
    np.testing.assert_array_equal(lines_of(figure)["DRQN, 1 frame"], [(100, 200), (2, 7)])
    assert not figure.axes[0].collections and not lines_with_gid(figure, "seed ")
    assert legend_of(figure) == (["DRQN, 1 frame (1 seed)"], "Lines are single seeds.")


def test_a_single_evaluation_is_a_dot(tmp_path):
    write_run(tmp_path / "a", [(100, (1, 3))])
    (line,) = curves.draw_curves(curves_of(tmp_path)).axes[0].lines
    assert line.get_marker() == "o" and line.get_xdata() == [100]


def test_where_seeds_are_missing_the_mean_is_faint_and_then_ends(tmp_path):
    write_seeds(tmp_path, [(10, 20, 30, 40), (20, 30, 60), (60, 70)], late=(0, 0, 0), maxsteps=400)
    figure = curves.draw_curves(curves_of(tmp_path))
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
    figure = curves.draw_curves(curves_of(tmp_path, x="hours"), x="hours")
    assert len(lines_of(figure)["DRQN, 1 frame"][0]) == 0 and len(lines_with_gid(figure, "seed ")) == 3


# Axes and panels


@pytest.mark.parametrize("x, label, first", [
    ("agent_step", "agent steps", 100), ("frames", "emulator frames", 400),
    ("hours", "hours of training", 100 / 2 / 3600)])
def test_x_axes_and_their_units(tmp_path, x, label, first):
    write_run(tmp_path / "a", [(100, (1, 3)), (200, (5, 9))], frame_skip=4)
    figure = curves.draw_curves(curves_of(tmp_path, x=x), x=x)
    np.testing.assert_allclose(lines_of(figure)["DRQN, 1 frame"][0], [first, 2 * first])
    assert figure.axes[0].get_xlabel() == label and figure.axes[0].get_ylabel() == "evaluation return\n(raw reward)"


def test_training_returns_have_another_label_than_evaluations(tmp_path):
    write_run(tmp_path / "a", episodes=[(1, 10), (100, 3)])
    figure = curves.draw_curves(curves_of(tmp_path, y="train"), y="train")
    np.testing.assert_allclose(lines_of(figure)["DRQN, 1 frame"], [(1, 99), (10, 3)])
    assert "mean of the episodes in 1/50 of the axis" in legend_of(figure)[1]
    assert figure.axes[0].get_ylabel() == "training return\n(raw reward)"


def test_a_panel_per_environment_and_flicker(tmp_path):
    write_run(tmp_path / "a", [(100, (1, 3))], flicker=0.5)
    figure = curves.draw_curves(curves_of(tmp_path))
    assert figure.axes[0].get_title() == "CartPole-v1, flicker 0.5" and list(lines_of(figure)) == ["DRQN, 1 frame"]
    write_run(tmp_path / "b", [(100, (1, 3))], network="DQN", history=4)
    figure = curves.draw_curves(curves_of(tmp_path))
    assert titles_of(figure) == ["CartPole-v1", "CartPole-v1, flicker 0.5"]
    assert [list(lines_of(figure, panel)) for panel in (0, 1)] == [["DQN, 4 frames"], ["DRQN, 1 frame"]]


def test_a_panel_per_environment(tmp_path):
    for env in ("Pong", "Breakout", "CartPole-v1"):
        write_run(tmp_path / env, [(100, (len(env), len(env)))], env=env)
    figure = curves.draw_curves(curves_of(tmp_path))
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
    figure = curves.draw_curves(curves_of(tmp_path, x="episodes", y="train"), "episodes", "train")
    assert titles_of(figure) == ["Assault"] and figure.axes[0].get_xlabel() == "complete training episodes"
    assert sorted(lines_of(figure)) == [f"DRQN, 1 frame, {env}, lr_schedule {schedule}"
                                        for env in envs for schedule in sorted(schedules)]
    for x, y in lines_of(figure).values():
        # Bins are a 50th of 2 episodes.
        assert x.tolist() == pytest.approx([0.98, 1.98], abs=0.03) and y.tolist() == [11.5, 31.5]
    apart = curves.draw_curves(curves_of(tmp_path, y="train"), "agent_step", "train", grid_columns="lr_schedule")
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
    figure = curves.draw_curves(curves_of(grid), grid_rows="flicker", grid_columns="units")
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
    figure = curves.draw_curves(curves_of(grid), **{which: "units"})
    assert titles_of(figure) == titles
    assert "DQN, 1 frame, flicker 0.5" in lines_of(figure)


def test_grid_over_environments_shares_axes_within_each(tmp_path):
    for env, mean in (("Pong", -20), ("Breakout", 300)):
        write_run(tmp_path / env, [(100, (mean, mean)), (200, (mean, mean + 2))], env=env)
    figure = curves.draw_curves(curves_of(tmp_path), grid_rows="env", grid_columns="history")
    assert figure.axes[0].get_ylim()[0] > 100 > figure.axes[1].get_ylim()[1]
    assert [axes.texts[0].get_text() for axes in figure.axes] == ["Breakout", "Pong"]


def test_small_multiples_show_each_line_before_the_others(tmp_path):
    for seed in (1, 2):
        for history in (1, 2, 3, 4, 5, 6):
            write_run(tmp_path / f"{history}-{seed}", [(100, (history, history)), (200, (history + seed, 9))],
                      history=history, seed=seed)
        write_run(tmp_path / f"Pong-{seed}", [(100, (-20, -20))], env="Pong", seed=seed)
    figure = curves.draw_curves(curves_of(tmp_path), grid_columns=curves.LINES)
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
    figure = curves.draw_curves(curves_of(tmp_path, y=y), y=y, random_play=random_play)
    dashed = [[line for line in axes.lines if line.get_color() == drawing.RANDOM["color"]] for axes in figure.axes]
    assert [[(line.get_label(), *line.get_ydata()) for line in of_panel] for of_panel in dashed] == [
        [("random play 1.50", 1.5, 1.5)], [("random play -20.50", -20.5, -20.5)], []]
    assert [axes.get_legend() and axes.get_legend().get_texts()[0].get_text() for axes in figure.axes] == [
        "random play 1.50", "random play -20.50", None]


def test_random_play_of_a_sweep_counts_where_there_is_no_other(tmp_path):
    swept, both = write_run(tmp_path / "a"), write_run(tmp_path / "b", random=(30, 40))
    for run in (swept, both):
        write_sweep_rows(run, "agent,best,1.0,0,100,9,0.05,0", "random,random,1.0,0,20,9,1.0,0",
                         "random,random,1.0,1,26,9,1.0,0")
    returns, notes = episodes.find_random_play([swept, both, write_run(tmp_path / "none")])
    assert list(returns) == [swept, both] and notes == []
    np.testing.assert_array_equal(returns[swept], [20, 26])
    np.testing.assert_array_equal(returns[both], [30, 40])  # The file beside a score comes first.
    (both / "episodes-random.csv").write_text("policy,episode_return\n")
    returns, (note,) = episodes.find_random_play([swept, both])
    assert list(returns) == [swept] and note == (
        f"left out: {both / 'episodes-random.csv'} is damaged, or not of this suite: it has no episodes")
