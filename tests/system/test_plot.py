"""Learning curves: values against hand computations, labels and panels from the data, pictures with something on them, bad input."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from helpers.run_files import write_run
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

import plot
from analysis import curves, drawing
from storage import reading

ROOT = pathlib.Path(plot.__file__).parent


@pytest.fixture(autouse=True)
def elsewhere(tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))  # The default --out is in the working directory.


def make_seeds(folder, means, late=(0, 3, 7, 5, 1), **settings):
    """Write a run per seed, with the means of its evaluations at agent steps 100, 200, ..., each up to 7 steps late."""
    for seed, own in enumerate(means):
        evaluations = [(100 * k + late[seed], (mean - 1, mean + 1)) for k, mean in enumerate(own, 1)]
        write_run(folder / f"s{seed}", evaluations, seed=seed, **settings)
    return folder


def read(*paths, x="agent_step", y="eval"):
    return curves.read_curves(reading.find_runs(paths)[0], x, y)[0]


def lines(figure, panel=0):
    """Return {label: (x, y)} of the lines of a panel."""
    return {line.get_label(): line.get_data() for line in figure.axes[panel].lines if not line.get_label().startswith("_")}


def of_gid(figure, gid, panel=0):
    return [line for line in figure.axes[panel].lines if (line.get_gid() or "").startswith(gid)]


def legend(figure):
    """Return the labels of the legend, and its sentence."""
    return [text.get_text() for text in figure.legends[0].get_texts()], figure.legends[0].get_title().get_text().replace("\n", " ")


def fails(capsys, *arguments):
    """Return the sentence with which plot.py refuses its arguments."""
    assert plot.main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("plot.py: ") and error.count("\n") == 1, error
    return error


def test_a_line_is_the_interquartile_mean_of_its_seeds(tmp_path):
    make_seeds(tmp_path, [(10, 40, 70), (20, 50, 90), (30, 60, 80), (1000, -1000, 100), (0, 55, 60)])
    figure = curves.draw(read(tmp_path))
    assert list(lines(figure)) == ["DRQN, 1 frame"]
    x, y = lines(figure)["DRQN, 1 frame"]
    np.testing.assert_allclose(x, [103.2, 203.2, 303.2])  # of steps that are 0, 3, 7, 5, 1 late
    np.testing.assert_allclose(y, [20, (40 + 50 + 55) / 3, 80])
    assert legend(figure) == (["DRQN, 1 frame (5 seeds)"], "Interquartile mean over seeds with 95% bootstrap band; thin: single seeds.")


def test_thin_lines_are_the_seeds_and_the_band_lies_between_them(tmp_path):
    make_seeds(tmp_path, [(10, 40), (20, 60)])
    figure = curves.draw(read(tmp_path))
    seeds = {line.get_gid(): line for line in of_gid(figure, "seed ")}
    np.testing.assert_array_equal(seeds["seed 1"].get_data(), [(103, 203), (20, 60)])
    assert all(line.get_linewidth() < 1 for line in seeds.values())
    band = np.concatenate([path.vertices for collection in figure.axes[0].collections for path in collection.get_paths()])
    for x, low, high in ((101.5, 10, 20), (201.5, 40, 60)):  # of two seeds the band goes from one to the other
        at = band[np.isclose(band[:, 0], x), 1]
        assert (at.min(), at.max()) == (low, high)


def test_a_single_seed_has_no_band(tmp_path):
    write_run(tmp_path / "a", [(100, (1, 3)), (200, (5, 9))])
    figure = curves.draw(read(tmp_path))
    np.testing.assert_array_equal(lines(figure)["DRQN, 1 frame"], [(100, 200), (2, 7)])
    assert not figure.axes[0].collections and not of_gid(figure, "seed ")
    assert legend(figure) == (["DRQN, 1 frame (1 seed)"], "Lines are single seeds.")


def test_a_single_evaluation_is_a_dot(tmp_path):
    write_run(tmp_path / "a", [(100, (1, 3))])
    (line,) = curves.draw(read(tmp_path)).axes[0].lines
    assert line.get_marker() == "o" and line.get_xdata() == [100]


def test_where_seeds_are_missing_the_mean_is_faint_and_then_ends(tmp_path):
    make_seeds(tmp_path, [(10, 20, 30, 40), (20, 30, 60), (60, 70)], late=(0, 0, 0), maxsteps=400)
    figure = curves.draw(read(tmp_path))
    np.testing.assert_array_equal(lines(figure)["DRQN, 1 frame"], [(100, 200), (30, 40)])
    (faint,) = of_gid(figure, "fewer seeds")
    np.testing.assert_array_equal(faint.get_ydata(), [np.nan, 40, 45, np.nan])  # from all three seeds to two; one is too few
    assert faint.get_alpha() < 0.5
    labels, sentence = legend(figure)
    assert labels == ["DRQN, 1 frame (2\N{EN DASH}3 seeds)"] and "faint: not from all seeds" in sentence


def test_seeds_that_never_meet_have_no_mean(tmp_path):
    for seed, step in enumerate((100, 200, 300)):
        write_run(tmp_path / f"s{seed}", [(step, (1, 1))], seed=seed)
    figure = curves.draw(read(tmp_path, x="hours"), x="hours")
    assert len(lines(figure)["DRQN, 1 frame"][0]) == 0 and len(of_gid(figure, "seed ")) == 3


@pytest.mark.parametrize("x, label, first", [("agent_step", "agent steps", 100), ("frames", "emulator frames", 400),
                                             ("hours", "hours of training", 100 / 2 / 3600)])
def test_x_axes_and_their_units(tmp_path, x, label, first):
    write_run(tmp_path / "a", [(100, (1, 3)), (200, (5, 9))], frame_skip=4)
    figure = curves.draw(read(tmp_path, x=x), x=x)
    np.testing.assert_allclose(lines(figure)["DRQN, 1 frame"][0], [first, 2 * first])
    assert figure.axes[0].get_xlabel() == label and figure.axes[0].get_ylabel() == "evaluation return\n(raw reward)"


def test_training_returns_are_told_from_evaluations(tmp_path):
    write_run(tmp_path / "a", episodes=[(1, 10, 0), (100, 3, 0)])
    figure = curves.draw(read(tmp_path, y="train"), y="train")
    np.testing.assert_allclose(lines(figure)["DRQN, 1 frame"], [(1, 99), (10, 3)])
    assert "mean of the episodes in 1/50 of the axis" in legend(figure)[1]
    assert figure.axes[0].get_ylabel() == "training return\n(raw reward)"


def test_labels_tell_settings_apart_and_name_no_files(tmp_path):
    for i, own in enumerate([dict(network="DQN", history=10), dict(network="DQN", history=4), dict(), dict(learning_rate=0.0005)]):
        write_run(tmp_path / f"misleading-{i}", [(100, (i, i))], **own)
    figure = curves.draw(read(tmp_path))
    labels = ["DRQN, 1 frame, learning_rate 0.0005", "DRQN, 1 frame, learning_rate 0.001", "DQN, 4 frames", "DQN, 10 frames"]
    assert list(lines(figure)) == labels and legend(figure)[0] == [f"{label} (1 seed)" for label in labels]


def test_a_panel_per_environment_and_flicker(tmp_path):
    write_run(tmp_path / "a", [(100, (1, 3))], flicker=0.5)
    figure = curves.draw(read(tmp_path))
    assert figure.axes[0].get_title() == "CartPole-v1, flicker 0.5" and list(lines(figure)) == ["DRQN, 1 frame"]
    write_run(tmp_path / "b", [(100, (1, 3))], network="DQN", history=4)
    figure = curves.draw(read(tmp_path))
    assert [axes.get_title() for axes in figure.axes] == ["CartPole-v1", "CartPole-v1, flicker 0.5"]
    assert [list(lines(figure, panel)) for panel in (0, 1)] == [["DQN, 4 frames"], ["DRQN, 1 frame"]]


def test_crafted_and_plain_rewards_are_four_lines_of_their_games_panel_by_episodes(tmp_path):
    for env, schedule in [(e, s) for e in ("Assault", "AssaultCrafted-v0") for s in ("step:25ep:0.8", "cosine_restarts:10ep:0.001")]:
        for seed in (1, 2):
            episodes = [(100 * k, seed + 10 * k, int(k == 2)) for k in (1, 2, 3)]  # The second was cut by a reseed.
            write_run(tmp_path / f"{env}-{schedule}-{seed}", episodes=episodes, env=env, lr_schedule=schedule, seed=seed, num_envs=1)
    figure = curves.draw(read(tmp_path, x="episodes", y="train"), "episodes", "train")
    assert [axes.get_title() for axes in figure.axes] == ["Assault"] and figure.axes[0].get_xlabel() == "complete training episodes"
    assert sorted(lines(figure)) == [f"DRQN, 1 frame, {env}, lr_schedule {schedule}" for env in ("Assault", "AssaultCrafted-v0")
                                     for schedule in ("cosine_restarts:10ep:0.001", "step:25ep:0.8")]
    for x, y in lines(figure).values():
        assert x.tolist() == pytest.approx([0.98, 1.98], abs=0.03) and y.tolist() == [11.5, 31.5]  # Bins are a 50th of 2 episodes.
    apart = curves.draw(read(tmp_path, y="train"), "agent_step", "train", grid_columns="lr_schedule")
    assert [len(lines(apart, panel)) for panel in (0, 1)] == [2, 2]


def test_colours_belong_to_networks_and_dashes_to_their_variants(tmp_path):
    for i, (network, history) in enumerate([("DRQN", 1), ("DQN", 1), ("DQN", 4), ("Another", 1)]):
        write_run(tmp_path / f"{i}", [(100, (i, i)), (200, (i, i))], network=network, history=history)
    styles = {line.get_label(): (line.get_color(), line.get_linestyle()) for line in curves.draw(read(tmp_path)).axes[0].lines}
    assert styles["DRQN, 1 frame"][0] == drawing.to_rgb("#D55E00")
    assert len(set(styles.values())) == len(styles) == 4
    dark, light = styles["DQN, 1 frame"], styles["DQN, 4 frames"]
    assert sum(dark[0]) < sum(drawing.to_rgb("#0072B2")) < sum(light[0]) and dark[1] != light[1]
    alone = curves.draw(read(tmp_path / "2")).axes[0].lines[0]
    assert alone.get_color() == drawing.to_rgb("#0072B2") and alone.get_linestyle() == "-"


def test_a_panel_per_environment(tmp_path):
    for env in ("Pong", "Breakout", "CartPole-v1"):
        write_run(tmp_path / env, [(100, (len(env), len(env)))], env=env)
    figure = curves.draw(read(tmp_path))
    assert [axes.get_title() for axes in figure.axes] == ["Breakout", "CartPole-v1", "Pong"]
    assert [lines(figure, i)["DRQN, 1 frame"][1][0] for i in range(3)] == [8, 11, 4]
    assert len(legend(figure)[0]) == 1


@pytest.fixture
def grid(tmp_path):
    for flicker in (0.0, 0.5):
        for units in (16, 128, 1024):
            for network in ("DRQN", "DQN"):
                if (flicker, units) != (0.5, 128):
                    own = dict(flicker=flicker, units=units, network=network)
                    write_run(tmp_path / str(own), [(100, (units, units))], **own)
    return tmp_path


def test_grid_of_two_flags(grid):
    figure = curves.draw(read(grid), grid_rows="flicker", grid_columns="units")
    assert [axes.get_title() for axes in figure.axes] == ["units 16", "units 128", "units 1024", "", "", ""]  # by size, not as text
    beside = [[text.get_text() for text in axes.texts if text.get_text()] for axes in figure.axes]
    assert beside == [[], [], ["flicker 0"], [], ["no runs"], ["flicker 0.5"]]
    assert [len(lines(figure, i)) for i in range(6)] == [2, 2, 2, 2, 0, 2]
    assert set(lines(figure)) == {"DRQN, 1 frame", "DQN, 1 frame"}  # what panels tell, labels need not
    assert lines(figure, 2)["DQN, 1 frame"][1] == [1024]
    assert len({axes.get_ylim() for axes in figure.axes}) == len({axes.get_xlim() for axes in figure.axes}) == 1
    assert figure.get_suptitle() == "CartPole-v1"


@pytest.mark.parametrize("which, titles", [("grid_rows", ["", "", ""]), ("grid_columns", ["units 16", "units 128", "units 1024"])])
def test_grid_of_one_flag(grid, which, titles):
    figure = curves.draw(read(grid), **{which: "units"})
    assert [axes.get_title() for axes in figure.axes] == titles
    assert "DQN, 1 frame, flicker 0.5" in lines(figure)


def test_grid_over_environments_shares_axes_within_each(tmp_path):
    for env, mean in (("Pong", -20), ("Breakout", 300)):
        write_run(tmp_path / env, [(100, (mean, mean)), (200, (mean, mean + 2))], env=env)
    figure = curves.draw(read(tmp_path), grid_rows="env", grid_columns="history")
    assert figure.axes[0].get_ylim()[0] > 100 > figure.axes[1].get_ylim()[1]
    assert [axes.texts[0].get_text() for axes in figure.axes] == ["Breakout", "Pong"]


def test_pictures_are_written_and_show_the_lines(tmp_path, capsys):
    make_seeds(tmp_path / "a", [(10, 40, 70), (20, 50, 90)])
    make_seeds(tmp_path / "b", [(1, 4, 7), (2, 5, 9)], network="DQN", history=4)
    out = tmp_path / "figures" / "learning"
    assert plot.main([str(tmp_path / "a"), str(tmp_path / "b"), f"--out={out}", "--x", "frames"]) == 0  # flags after paths
    assert capsys.readouterr().out == f"4 runs drawn: {out}.png and {out}.svg.\n"
    pixels = np.asarray(Image.open(f"{out}.png").convert("RGB")).reshape(-1, 3)
    assert 900 < np.asarray(Image.open(f"{out}.png")).shape[1] < 1200  # a column of 3.5 inches at 300 dots
    assert (pixels == 255).all(1).mean() > 0.5
    for colour in ("#D55E00", "#0072B2"):
        assert (np.abs(pixels - 255 * np.array(drawing.to_rgb(colour))).max(1) < 3).sum() > 500
    svg = pathlib.Path(f"{out}.svg").read_text()
    assert "emulator frames" in svg and "#d55e00" in svg and not re.search("<dc:date>", svg)
    assert plot.main([str(tmp_path / "a"), str(tmp_path / "b"), f"--out={out}.png", "--x=frames"]) == 0
    assert pathlib.Path(f"{out}.svg").read_text() == svg  # The same runs, the same bytes; and one extension is enough.


def test_no_text_overlaps_or_leaves_the_figure(tmp_path):
    for i in range(6):
        write_run(tmp_path / f"{i}", [(100_000, (i, i)), (1_000_000, (i, 1000 * i))], learning_rate=10.0**-i, units=2**i, env="Pong")
    figure = curves.draw(read(tmp_path))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (axes,), (key,) = figure.axes, figure.legends
    ticks = [label for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim()))
             for at, label in zip(axis.get_ticklocs(), axis.get_ticklabels()) if limits[0] <= at <= limits[1]]
    texts = [axes.title, axes.xaxis.label, axes.yaxis.label, key.get_title(), *key.get_texts(), *ticks]
    boxes = [artist.get_window_extent(canvas.get_renderer()) for artist in [axes, *texts]]
    assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0 and box.y1 <= figure.bbox.y1 for box in boxes)
    assert key.get_texts()[5].get_text().endswith("\nlearning_rate 1e-05 (1 seed)")


def test_empty_and_unfinished_runs_are_told(tmp_path, capsys):
    write_run(tmp_path / "runs" / "a", [(100, (1, 3))], maxsteps=1_000_000)
    write_run(tmp_path / "runs" / "b", seed=2)
    (write_run(tmp_path / "runs" / "c", seed=3) / "eval.csv").write_text("")
    (write_run(tmp_path / "runs" / "d", seed=4) / "eval.csv").unlink()
    (tmp_path / "runs" / "pong.log").write_text("log")
    (tmp_path / "runs" / "empty").mkdir()
    assert plot.main([*map(str, sorted((tmp_path / "runs").iterdir())), f"--out={tmp_path / 'curves'}"]) == 0
    told = capsys.readouterr().out.replace(str(tmp_path), "").splitlines()
    assert told == [
        "Note: left out: /runs/empty holds no config.json, so it is no run of this suite.",
        "Note: left out: /runs/pong.log is a file, so it is no run of this suite.",
        *(f"Note: /runs/{name} has no evaluation yet." for name in "bcd"),
        "Note: 1 of 4 runs are unfinished; the shortest is /runs/a, at 100 of 1,000,000 agent steps.",
        "1 run drawn: /curves.png and /curves.svg."]


@pytest.mark.parametrize("cut", [0, 1])
def test_a_run_that_has_met_its_episodes_is_finished(tmp_path, capsys, cut):
    write_run(tmp_path / "a", [(100, (1, 3))], episodes=[(40, 1, 0), (90, 3, cut)], maxsteps=1_000_000, maxepisodes=2)
    assert plot.main([str(tmp_path / "a"), f"--out={tmp_path / 'curves'}"]) == 0
    assert ("1 of 1 runs are unfinished" in capsys.readouterr().out) == bool(cut)


def test_nothing_to_draw(tmp_path, capsys):
    write_run(tmp_path / "a")
    assert "a has no evaluation yet" in fails(capsys, tmp_path)
    assert "a has no complete episode yet" in fails(capsys, tmp_path, "--y=train")
    write_run(tmp_path / "b", seed=2)
    assert "none of 2 runs can be drawn; the first" in fails(capsys, tmp_path)


@pytest.mark.parametrize("config", ["", "[]", '"abc"', "{}", '{"settings": {"network": "DRQN"}}', '{"settings": {"network": [1]}}', "\x00"])
def test_foreign_directories(tmp_path, capsys, config):
    run = write_run(tmp_path / "a", [(100, (1, 3))])
    (run / "config.json").write_text(config)
    assert re.search("is not the configuration of a run of this suite|so it is of no run of this suite", fails(capsys, run))
    write_run(tmp_path / "b", [(100, (1, 3))])
    assert plot.main([str(run), str(tmp_path / "b"), f"--out={tmp_path / 'c'}"]) == 0
    assert "left out" in capsys.readouterr().out


def test_missing_paths_are_never_passed_over(tmp_path, capsys):
    write_run(tmp_path / "a", [(100, (1, 3))])
    assert "does not exist" in fails(capsys, tmp_path / "a", tmp_path / "typo")
    assert "does not exist" in fails(capsys, tmp_path / "runs" / "*")  # a pattern that matched nothing


def test_bad_flags(tmp_path, capsys):
    write_run(tmp_path / "a", [(100, (1, 3))])
    write_run(tmp_path / "b", [(100, (1, 3))], env="Pong")
    (tmp_path / "file").write_text("")
    assert "flickr is no flag of these runs; expected one such as flicker" in fails(capsys, tmp_path, "--grid_rows=flickr")
    assert "both history" in fails(capsys, tmp_path / "a", "--grid_rows=history", "--grid_columns=history")
    assert "runs of CartPole-v1, Pong; expected runs of one environment" in fails(capsys, tmp_path, "--grid_rows=history")
    assert "--x=minutes" in fails(capsys, tmp_path, "--x=minutes")
    assert "colour" in fails(capsys, tmp_path, "--colour=red")
    assert "cannot be written" in fails(capsys, tmp_path, f"--out={tmp_path}/file/curves")
    assert "is a directory" in fails(capsys, tmp_path, f"--out={tmp_path}")
    assert "--x=episodes counts episodes of training; expected --y=train" in fails(capsys, tmp_path, "--x=episodes")
    assert "asks for .eps" in fails(capsys, tmp_path, f"--out={tmp_path}/curves.eps")
    assert not list(tmp_path.glob("*.png"))


def test_help_and_exit_code_of_the_command_without_any_backend(tmp_path):
    code = ("import sys, plot; assert plot.main(['--help']) == 0; "
            "print({'keras', 'tensorflow', 'jax', 'gymnasium', 'train', 'evaluate', 'rollout', 'matplotlib.pyplot'} & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "--grid_columns" in done.stdout and done.stdout.endswith("set()\n"), done.stderr
    done = subprocess.run([sys.executable, str(ROOT / "plot.py"), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr == f"plot.py: {tmp_path} holds no config.json, so it is no run of this suite\n"


def test_flags_of_curves_do_not_apply_to_the_sweeps(tmp_path, capsys):
    write_run(tmp_path / "a", [(100, (1, 3))])
    assert "--grid_rows cannot be given with --figure=observability" in fails(capsys, tmp_path, "--figure=observability", "--grid_rows=env")
    assert "--x and --y cannot be given" in fails(capsys, tmp_path, "--y=eval", "--figure=observability", "--x=agent_step")
    assert "--figure=bars" in fails(capsys, tmp_path, "--figure=bars")


def test_pictures_have_the_name_of_their_figure(tmp_path):
    write_run(tmp_path / "a", [(100, (1, 3))])
    assert plot.main([str(tmp_path / "a")]) == 0
    assert {path.name for path in pathlib.Path().iterdir()} == {"curves.png", "curves.svg"}
