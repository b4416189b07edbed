"""Linear probes: the regression against numbers by hand, the recorded episodes against the run, and refusals."""

import contextlib
import csv
import json

from launch import build

import numpy as np
import pytest

import evaluation
import models
import train
from benchmarks import hidden, probe
from environments import catalogue
from storage.weights import pack


def make_untrained_run(directory, *arguments):
    """Write a run whose weights are random, but not its seed's, so that they differ from untrained ones."""
    settings = train.configure(["--units=8", "--seed=1", *arguments])["settings"]
    envs = build.make_envs(settings, 1)
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(dict(settings=settings)))
    agent = build.make_agent(settings | dict(seed=2), envs)
    (directory / "best.weights.h5").write_bytes(pack(agent.save_weights))
    envs.close()
    return directory


CARTPOLE = ["--env=CartPole-v1", "--network=DRQN"]


@pytest.fixture(scope="session")
def cartpole(tmp_path_factory):
    return make_untrained_run(tmp_path_factory.mktemp("probe") / "cartpole", *CARTPOLE, "--flicker=0.5")


@pytest.fixture(scope="session")
def recorded(cartpole):
    return hidden.record_episodes(cartpole, 12)


# Regression


def test_ridge_by_hand():
    # w minimises (w - 2)^2 + (2w - 4)^2 + p w^2: w = 10 / (5 + p)
    weights = probe.fit_ridge(np.array([[1.0], [2]]), np.array([[2.0], [4]]), [0, 5, 15])
    np.testing.assert_allclose(weights[:, 0, 0], [2, 1, 0.5])


def test_ridge_is_least_squares_over_rows_that_pull_each_weight_to_zero():
    rng = np.random.default_rng(0)
    features, targets = rng.normal(size=(50, 7)), rng.normal(size=(50, 3))
    for penalty, weights in zip((0.0, 0.3, 20), probe.fit_ridge(features, targets, (0.0, 0.3, 20))):
        augmented = np.vstack([features, np.sqrt(penalty) * np.eye(7)]), np.vstack([targets, np.zeros((7, 3))])
        np.testing.assert_allclose(weights, np.linalg.lstsq(*augmented)[0], atol=1e-10)


def test_r_squared_by_hand():
    targets = np.array([[0.0], [2], [4]])  # Their variance about 2 sums to 8.
    assert probe.r_squared(targets, targets) == 1
    assert probe.r_squared(targets, np.full((3, 1), 2)) == 0
    assert probe.r_squared(targets, targets + [[0], [0], [2]]) == pytest.approx(0.5)
    assert probe.r_squared(targets, -targets) == pytest.approx(1 - 80 / 8)


def test_a_linear_target_is_found_and_noise_is_not():
    rng = np.random.default_rng(0)
    episode = np.repeat(np.arange(20), 50)
    features = rng.normal(5, [[1, 100, 0.01, 3, 0]], size=(1000, 5))  # The last is constant.
    features = probe.standardise(features, np.ones(1000, bool))
    targets = np.hstack([features @ [[1.0], [2], [-3], [0.1], [0]] + 7, rng.normal(size=(1000, 1))])
    fit, choose, test = probe.split_episodes(episode)
    found, noise = probe.r_squared(targets[test], probe.predict(features, targets, fit, choose)[test])
    assert found > 0.9999 and -0.1 < noise < 0.02


def test_the_penalty_is_chosen_for_each_target_where_the_weights_are_not_fitted():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 90))  # nearly as many as the 100 steps of the fit, so that noise needs a penalty
    targets = features[:, :1] + [0.01, 3] * np.hstack([rng.normal(size=(400, 1)), rng.normal(size=(400, 1))])
    fit, choose, test = (np.arange(400) // 100 == part for part in range(3))
    clean, noisy = probe.r_squared(targets[test], probe.predict(features, targets, fit, choose)[test])
    without = probe.r_squared(targets[test], features[test] @ probe.fit_ridge(features[fit], targets[fit], [1e-9])[0])
    assert clean > 0.99 and noisy > -0.1 > -1 > without[1]


@pytest.mark.parametrize("num_episodes, sizes", [(3, [1, 1, 1]), (6, [4, 1, 1]), (100, [60, 20, 20])])
def test_parts_share_no_episode_and_have_them_all(num_episodes, sizes):
    episode = np.repeat(np.arange(num_episodes), np.arange(num_episodes) % 7 + 1)
    parts = probe.split_episodes(episode)
    assert [len(np.unique(episode[part])) for part in parts] == sizes
    assert (np.sum(parts, axis=0) == 1).all()
    assert len({part for e in range(num_episodes) for part in np.argmax(parts, axis=0)[episode == e]}) == 3
    for e in range(num_episodes):
        assert len(set(np.argmax(parts, axis=0)[episode == e])) == 1


def test_standardised_features_have_mean_0_and_variance_1_where_they_are_fitted():
    features, fit = np.array([[1.0, 10], [3, 10], [99, 12]]), np.array([True, True, False])
    np.testing.assert_allclose(probe.standardise(features, fit), [[-1, 0], [1, 0], [97, 2]])
    features = np.array([[0.0, 0], [2, 6], [0, 0]])  # deviations 1 and 3, overall sqrt(5)
    np.testing.assert_allclose(probe.standardise(features, fit, axis=None) * 5**0.5, [[-1, -3], [1, 3], [-1, -3]])


def test_principal_components_keep_distances_as_long_as_there_are_enough(monkeypatch):
    frames = np.random.default_rng(0).integers(256, size=(30, 84, 84), dtype=np.uint8)
    distances = lambda points: np.linalg.norm(points[:, None] - points[None], axis=-1)
    projected = probe.project_images(frames, np.arange(30))
    pixels = frames.reshape(30, -1).astype(float)
    np.testing.assert_allclose(distances(projected), distances(pixels), rtol=1e-6, atol=0.1)
    monkeypatch.setattr(probe, "NUM_COMPONENTS", 1)
    frames[:] = 40
    frames[:, 30, 10:20] = np.arange(10) * np.linspace(0, 20, 30)[:, None]  # They differ along one direction only.
    assert abs(np.corrcoef(probe.project_images(frames, np.arange(20))[:, 0], np.arange(30))[0, 1]) > 0.999


# What was seen


def test_the_last_seen_step_never_comes_from_another_episode():
    obscured, episode = np.array([1, 0, 1, 1, 0, 1, 0], bool), np.array([0, 0, 0, 0, 0, 1, 1])
    assert probe.find_last_seen(obscured, episode).tolist() == [-1, 1, 1, 1, 4, -1, 6]


def test_a_variable_of_constant_speed_is_linear_in_the_last_seen_vector_with_its_age():
    rng = np.random.default_rng(0)
    seen, age = rng.normal(size=(60, 2)), rng.integers(5, size=(60, 1))
    now = seen[:, 0] + 0.02 * age[:, 0] * seen[:, 1]
    features = probe.add_age(seen, age)
    assert features.shape == (60, 5)
    np.testing.assert_allclose(features @ np.linalg.lstsq(features, now)[0], now, atol=1e-12)


def test_what_is_recorded_are_the_episodes_of_an_evaluation(cartpole, recorded):
    settings, _, steps = recorded
    with contextlib.closing(build.make_envs(settings, 12)) as envs:
        agent = build.make_agent(settings, envs)
        agent.load_weights(cartpole / "best.weights.h5")
        played = evaluation.evaluate(agent, envs, 1, settings["eval_epsilon"], 0, 0)
    assert np.bincount(steps["episode"]).tolist() == [episode["length"] for episode in played]
    assert (np.diff(steps["episode"]) >= 0).all() and len(set(np.bincount(steps["episode"]))) > 3
    assert {len(column) for column in steps.values()} == {sum(episode["length"] for episode in played)}


def test_recorded_states_are_those_of_one_pass_over_an_episodes_frames(cartpole, recorded):
    settings, _, steps = recorded
    network = lambda: models.QNetwork("DRQN", (4,), 2, 1, settings["units"])
    with contextlib.closing(build.make_envs(settings, 1)) as envs:
        untrained = build.make_agent(settings, envs).online_network
    trained = network()
    trained.load_weights(cartpole / "best.weights.h5")
    for e in (0, 5):
        in_episode = steps["episode"] == e
        frames = steps["frame"][in_episode]
        for name, one in ("state", trained), ("untrained", untrained):
            for t in (1, len(frames) // 2, len(frames)):
                unrolled = np.hstack([np.asarray(s) for s in one(frames[None, :t], one.initial_state(1))[1]])
                np.testing.assert_allclose(steps[name][in_episode][t - 1:t], unrolled, atol=1e-5)
    assert np.abs(steps["state"] - steps["untrained"]).max() > 0.01 and steps["state"].shape[1] == 2 * settings["units"]


def test_the_hidden_state_of_cartpole_is_what_is_seen_where_anything_is(recorded):
    _, names, steps = recorded
    obscured = steps["obscured"]
    assert len(names) == 4 and 0.35 < obscured.mean() < 0.65 and steps["defined"].all()
    np.testing.assert_array_equal(steps["targets"][~obscured].astype(np.float32), steps["frame"][~obscured])
    assert not steps["frame"][obscured].any() and np.abs(steps["targets"][obscured]).min(axis=1).all()
    position, velocity = steps["targets"][:, :2].T
    same = steps["episode"][1:] == steps["episode"][:-1]
    # Positions follow velocities by Euler's method, obscured or not.
    np.testing.assert_allclose(np.diff(position)[same], 0.02 * velocity[:-1][same], atol=1e-9)


# Pong


def test_velocities_are_of_rallies_alone():
    x, y = [0, 205, 130, 134, 138, 205, 130, 126], [0, 0, 130, 138, 130, 0, 40, 44]
    memory = np.array([x, y, [50] * 8, [60] * 8], float).T
    targets, defined = hidden.Pong.split(memory, np.array([0, 0, 0, 0, 0, 0, 0, 0]))
    assert defined.tolist() == [False, False, False, True, True, False, False, True]
    assert targets[defined, 2:4].tolist() == [[4, 8], [4, -8], [-4, 4]]
    assert targets[3].tolist() == [134, 138, 4, 8, 50, 60]
    assert not hidden.Pong.split(memory, np.arange(8))[1].any()
    assert hidden.Pong.split(memory[2:4], np.array([0, 0]))[1].tolist() == [False, True]


@pytest.mark.parametrize("sticky", [0.0, 0.25])
def test_pongs_memory_says_where_the_ball_is_on_the_screen(sticky):
    envs = catalogue.make_envs("Pong", 2, frame_skip=4, max_episode_frames=0, flicker=0.5, sticky=sticky, noops=30)
    envs.env = pong = hidden.Pong(envs.env, sticky)
    envs.reset(seed=np.array([3, 4]))
    rng, at, screens, obscured = np.random.default_rng(0), [], [], []
    for _ in range(200):
        frames, *_ = envs.step(rng.integers(6, size=2))
        at.append(pong.read())
        screens.append(envs.unobscured.copy())
        obscured.append(~frames.reshape(2, -1).any(axis=1))
    envs.close()
    at, screens, obscured = np.concatenate(at), np.concatenate(screens), np.concatenate(obscured)
    # Between the paddles, away from the walls.
    between = (at[:, 0] > 72) & (at[:, 0] < 184) & (at[:, 1] > 50) & (at[:, 1] < 195)
    assert between.sum() > 100 and obscured[between].any() and not obscured[between].all()
    field = screens[between][:, 16:76, 12:70].astype(float)
    field[field < field.max() / 2 + 40] = 0  # Only the ball is that bright.
    found = field.any(axis=(1, 2))
    assert found.mean() > 0.95
    mass = field[found].sum(axis=(1, 2))
    column = (field[found].sum(axis=1) * np.arange(58)).sum(axis=1) / mass
    row = (field[found].sum(axis=2) * np.arange(60)).sum(axis=1) / mass
    for pixel, known, scale in ((column, at[between][found, 0], 84 / 160), (row, at[between][found, 1], 84 / 210)):
        slope, _ = np.polyfit(known, pixel, 1)
        assert np.corrcoef(known, pixel)[0, 1] > 0.99 and slope == pytest.approx(scale, rel=0.05)


# The command


def test_the_command_writes_rows_a_table_and_a_plot(cartpole, tmp_path, capsys):
    other = make_untrained_run(tmp_path / "s2", *CARTPOLE, "--flicker=0.5", "--seed=7")
    out = f"--out={tmp_path / 'new' / 'out'}"
    assert probe.main([f"--run_dir={cartpole}", f"--run_dir={other}", "--episodes=10", out]) == 0
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"out.csv", "out.md", "out.png", "out.svg"}
    with open(tmp_path / "new" / "out.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 4 * 4 * 2 and list(rows[0]) == "run seed target features subset r2 samples".split()
    assert {row["seed"] for row in rows} == {"1", "7"}
    of = {(row["seed"], row["target"], row["features"], row["subset"]): float(row["r2"]) for row in rows}
    assert of["1", "position", "last seen", "all"] > 0.9  # It moves little in the steps that hide it.
    mean = (of["1", "angle", "LSTM state", "obscured"] + of["7", "angle", "LSTM state", "obscured"]) / 2
    lines = (tmp_path / "new" / "out.md").read_text().splitlines()
    line = next(line for line in lines if line.startswith("| angle | obscured"))
    assert float(line.split("|")[3]) == pytest.approx(mean, abs=0.0006)
    assert line in capsys.readouterr().out


def test_bars_are_means_over_seeds_and_stop_at_the_floor():
    make = lambda run, r2: dict(run=run, seed=run, target="angle", features="last seen", subset="all", r2=r2, samples=9)
    others = [dict(make(1, 0.25), features=kind) for kind in probe.FEATURES if kind != "last seen"]
    for values, height in (((0.5, 0.75), 0.625), ((-3.0, -1.0), probe.FLOOR)):
        figure = probe.draw_figure([make(run, r2) for run, r2 in enumerate(values)] + others, "a title")
        bars = {container.get_label(): container[0].get_height() for container in figure.axes[0].containers}
        assert bars == pytest.approx(dict.fromkeys(probe.FEATURES, 0.25) | {"last seen": height})


def test_without_flicker_there_are_no_obscured_steps_to_report(tmp_path):
    _, names, steps = hidden.record_episodes(make_untrained_run(tmp_path / "run", *CARTPOLE), 6)
    rows = probe.probe_steps(names, steps)
    assert {row["subset"] for row in rows} == {"all"}
    assert all(row["r2"] > 0.999 for row in rows if row["features"].startswith("last seen"))


@pytest.mark.parametrize("arguments, episodes, sentence", [
    (["--env=CartPole-v1", "--network=DQN"], 5, "is a run of DQN, which has no state to probe; expected one of DRQN"),
    (["--env=Acrobot-v1", "--network=DRQN"], 5,
     "is a run on Acrobot-v1, whose hidden variables are unknown; expected CartPole or Pong"),
    (["--env=Freeway", "--network=DRQN"], 5, "is a run on Freeway, whose hidden variables are unknown"),
    (CARTPOLE, 2, "--episodes=2 was given; expected at least 3"),
])
def test_what_cannot_be_probed_is_refused_in_one_sentence(arguments, episodes, sentence, tmp_path, capsys):
    directory = make_untrained_run(tmp_path / "run", *arguments)
    assert probe.main([f"--run_dir={directory}", f"--episodes={episodes}", f"--out={tmp_path / 'out'}"]) == 2
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1
    assert not list(tmp_path.glob("out*"))


def test_runs_of_two_experiments_and_runs_without_weights_are_refused(cartpole, tmp_path, capsys):
    other = make_untrained_run(tmp_path / "run", *CARTPOLE, "--flicker=0.25")
    assert probe.main(["--run_dir", str(cartpole), str(other), "--episodes=3", f"--out={tmp_path / 'out'}"]) == 2
    assert "has --flicker=0.25 and" in capsys.readouterr().err
    (other / "best.weights.h5").unlink()
    assert probe.main(["--run_dir", str(other), "--episodes=3", f"--out={tmp_path / 'out'}"]) == 2
    assert "has no best weights yet" in capsys.readouterr().err
