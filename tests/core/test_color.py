"""Screens in RGB with --color: what agents see, learn, resume and show, and what is refused."""

import json
import pathlib
import shutil

from launch import build
from launch.settings import configure

import cv2
import gymnasium
import keras
import numpy as np
import pytest
from gymnasium import spaces
from keras import ops

import evaluate
import models
import rollout
import train
import wrappers
from environments import catalogue, features
from films import panels
from helpers.evaluated_runs import decode_film
from helpers.gradients import assert_close
from helpers.screens import Grid, register_screen
from helpers.short_runs import assert_same_runs, stop_at, train_run
from storage import layout

CUES = np.array([(255, 0, 0), (0, 130, 0)], np.uint8)  # gray 76 both
PACMAN_RGB = """--env=MsPacman --color --network=DRQN --unroll=3 --units=8 --num_envs=2 --bufflen=200 --batch_size=4
    --maxsteps=60 --learning_starts=40 --eval_period=60 --eval_episodes=2 --checkpoint_period=60 --flicker=0.3
    --max_episode_frames=120""".split()


class ColourCue(gymnasium.Env):
    """Show one of two colours for an episode of one step; the action of its number is rewarded with 1."""

    observation_space, action_space = spaces.Box(0, 255, (40, 40, 3), np.uint8), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cue = int(self.np_random.integers(2))
        return np.full((40, 40, 3), CUES[self.cue]), {}

    def step(self, action):
        return np.full((40, 40, 3), CUES[self.cue]), float(action == self.cue), True, False, {}


@pytest.fixture(scope="module")
def colourful(tmp_path_factory):
    """Return the directory of a short run in RGB, and its Trainer."""
    directory = tmp_path_factory.mktemp("colour") / "run"
    return directory, train_run(PACMAN_RGB, directory)


# What an agent sees


def resize_area(screen):
    return cv2.resize(np.ascontiguousarray(screen), (84, 84), interpolation=cv2.INTER_AREA)


def test_an_agent_sees_the_rgb_screen_of_a_game_resized_as_its_gray_one_is():
    settings = configure(["--env=MsPacman", "--color", "--sticky=0.25"])["settings"]
    # The mirror is another emulator, which shows RGB screens of full size, their pixels doubled in width.
    envs = build.make_envs(settings, 1, render_mode="rgb_array")
    assert (envs.frame_shape, envs.frame_dtype) == ((84, 84, 3), np.uint8)
    frames, _ = envs.reset(seed=np.array([3]))
    rng, colours = np.random.default_rng(0), 0
    for _ in range(60):
        frames, *_ = envs.step(rng.integers(9, size=1))
        np.testing.assert_array_equal(frames[0], resize_area(envs.render()[0][:, ::2]))
        colours += np.ptp(frames[0].astype(int), axis=-1).max() > 100
    assert frames.shape == (1, 84, 84, 3) and colours == 60


@pytest.mark.parametrize("shape", [(60, 100, 3), (3, 60, 100), (60, 100)])
def test_an_agent_sees_pictures_of_any_environment_in_rgb(shape):
    env = register_screen(Grid, observation_space=spaces.Box(0, 255, shape, np.uint8))
    envs = build.make_envs(configure([f"--env={env}", "--color"])["settings"], 2)
    frames, _ = envs.reset(seed=[1, 2])
    picture = np.uint8(np.arange(np.prod(shape)).reshape(shape) % 251)
    picture = np.moveaxis(picture, 0, -1) if shape[0] == 3 else picture
    expected = resize_area(picture if picture.ndim == 3 else np.stack([picture] * 3, axis=-1))
    np.testing.assert_array_equal(frames, [expected, expected])


def test_flicker_obscures_all_colours_of_a_frame():
    envs = catalogue.make_envs("Pong", 8, frame_skip=4, max_episode_frames=0, flicker=0.5, screen=wrappers.COLOR)
    envs.reset(seed=np.arange(8))
    for _ in range(4):
        frames, *_ = envs.step(np.zeros(8, int))
        np.testing.assert_array_equal((frames == 0).all(axis=(1, 2, 3)), envs.obscured)
        np.testing.assert_array_equal(frames[~envs.obscured], envs.unobscured[~envs.obscured])
        assert envs.unobscured.any(axis=(1, 2, 3)).all()


# The network


@pytest.mark.parametrize("name, history", [("DRQN", 1), ("DQN", 3), ("PQN_LSTM", 2)])
def test_acting_step_by_step_equals_the_unroll_in_colour(name, history):
    keras.utils.set_random_seed(0)
    network = models.QNetwork(name, (36, 36, 3), 4, history, units=8)
    assert network.frame_dtype == "uint8"
    assert network.torso.weights[0].shape[:3] == (8, 8, 3 * history)
    frames = np.random.default_rng(0).integers(256, size=(2, 5 + history - 1, 36, 36, 3), dtype=np.uint8)
    state = network.initial_state(2)
    unrolled, last_state = network(frames, state)
    steps = []
    for t in range(5):
        q_values, state = network(frames[:, t:t + history], state)
        steps.append(q_values)
    assert_close([ops.concatenate(steps, axis=1), *state], [unrolled, *last_state])
    assert np.ptp(ops.convert_to_numpy(unrolled), axis=1).min() > 1e-4  # Frames are told apart.


def test_a_torso_that_skips_blank_frames_takes_no_colour_for_blank():
    keras.utils.set_random_seed(0)
    skipping, plain = (models.QNetwork("DRQN", (36, 36, 3), 4, 1, units=8, flicker=flickers)
                       for flickers in (True, False))
    assert skipping.skips_blank and not plain.skips_blank
    plain.set_weights(skipping.get_weights())
    frames = np.zeros((4, 6, 36, 36, 3), np.uint8)
    frames[0] = np.random.default_rng(0).integers(256, size=(6, 36, 36, 3))
    frames[1, ::2, 7, 9, 2] = 255  # one blue pixel
    frames[2, 3, ..., 0] = 90
    q_values, expected = (network(frames, network.initial_state(4)) for network in (skipping, plain))
    assert_close([q_values[0], *q_values[1]], [expected[0], *expected[1]])


# Learning, resuming, films


@pytest.mark.slow
def test_only_an_agent_that_sees_colours_learns_a_cue_of_colours_of_one_gray(tmp_path):
    cues = [np.full((40, 40, 3), cue) for cue in CUES]
    assert {int(cv2.cvtColor(cue, cv2.COLOR_RGB2GRAY)[0, 0]) for cue in cues} == {76}
    env = register_screen(ColourCue)
    arguments = f"""--env={env} --network=DQN2013 --history=1 --units=16 --num_envs=8 --bufflen=400 --batch_size=32
        --maxsteps=900 --learning_starts=100 --update_period=8 --target_period=100 --optimizer=adam
        --learning_rate=1e-3 --epsilon_decay=linear:500steps --eval_period=900 --eval_episodes=40 --eval_epsilon=0
        --gamma=0""".split()
    returns = {}
    for flag, screen in (("--color", wrappers.COLOR), ("--nocolor", wrappers.GRAY)):
        run = train_run([*arguments, flag], tmp_path / flag)
        q_values, _ = run.agent.q_values(np.stack([wrappers.as_screen(cue, screen)[None] for cue in cues]))
        returns[flag] = run.best, q_values
    best, q_values = returns["--color"]
    assert best == 1 and q_values.argmax(axis=1).tolist() == [0, 1]
    np.testing.assert_allclose(q_values, np.eye(2), atol=0.3)
    best, q_values = returns["--nocolor"]
    np.testing.assert_array_equal(q_values[0], q_values[1])
    assert 0.25 < best < 0.75


def test_stopped_and_continued_in_colour_equals_uninterrupted(colourful, tmp_path):
    directory, run = colourful
    stop_at(50, PACMAN_RGB, tmp_path)
    again = train_run(PACMAN_RGB, tmp_path)
    assert_same_runs(directory, tmp_path)
    frames = again.replay.columns["frame"]
    assert frames.shape[2:] == (84, 84, 3) and again.updates > 3
    np.testing.assert_array_equal(frames, run.replay.columns["frame"])
    blank = (frames[:again.replay.end] == 0).all(axis=(2, 3, 4))
    assert 0.1 < blank.mean() < 0.5


def test_a_film_shows_the_colours_that_the_agent_sees(colourful, tmp_path, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")  # As main sets it for films; the test undoes it.
    run = shutil.copytree(colourful[0], tmp_path / "run")
    film = tmp_path / "film.mp4"
    assert evaluate.main([f"--run_dir={run}", "--episodes=1", "--flicker=0", f"--video={film}", "--video_steps=3"]) == 0
    filmed = decode_film(film)[1]
    envs = build.make_envs(colourful[1].settings, 1, flicker=0.0)
    frames, _ = envs.reset(seed=rollout.derive_seeds(0, rollout.EVALUATION, 0, size=1))
    left, top, right, bottom = panels.panel_boxes((210, 320, 3), 1, True)[1][0]
    panel = filmed[0][top:bottom, left:right]
    assert len(filmed) == 3 and np.ptp(frames[0].astype(int), axis=-1).max() > 100
    seen = cv2.resize(panel, (84, 84), interpolation=cv2.INTER_AREA)
    assert np.abs(seen.astype(int) - frames[0]).mean() < 8  # A film is compressed.
    assert evaluate.main([f"--run_dir={run}", "--episodes=1", f"--video={film}", "--video_steps=2", "--saliency"]) == 0


def test_features_of_a_run_in_rgb_are_of_rgb_screens(colourful, tmp_path):
    torso = features.load(str(colourful[0]), tmp_path)
    assert torso.screen == (84, 84, 3) and torso.size == 3136
    settings = configure(["--env=MsPacman", f"--features={colourful[0]}"])["settings"]
    plain, envs = build.make_envs(colourful[1].settings, 2, flicker=0.0), build.make_envs(settings, 2, torso)
    seen, (screens, _) = envs.reset(seed=np.array([1, 2]))[0], plain.reset(seed=np.array([1, 2]))
    colourful[1].agent.load_weights(layout.weights_path(colourful[0], layout.BEST))
    expected = colourful[1].agent.online_network.torso(screens[:, None])
    np.testing.assert_allclose(seen, ops.convert_to_numpy(expected), rtol=1e-4, atol=1e-5)


# What is refused: one sentence, nothing written


@pytest.mark.parametrize("arguments, sentence", [
    ("--color --env=CartPole-v1", "--color does not apply to --env=CartPole-v1, whose observations are vectors"),
    ("--color --features=run", "--color does not apply to --features=run, whose torso sees the screens that it was"),
    ("--color --env=BowlingShaped-v0", "--env=BowlingShaped-v0 counts its pins on gray screens of 84x84; expected no "),
    ("--features=run --env=BowlingShaped-v0", "--env=BowlingShaped-v0 counts its pins on gray screens of 84x84"),
    ("--init_from=run", "--init_from=run is a run with --color, and its torso does not fit one without it; expected a"),
    ("--color --init_from=older", "--init_from=older is a run without --color, and its torso does not fit one with it"),
    ("--color --bufflen=1000000000", "--bufflen=1000000000 timesteps need 21196.0 GB"),
    ("--color=blue", "color")])
def test_colours_that_nothing_can_see_are_refused(arguments, sentence, colourful, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("run", "older"):
        shutil.copytree(colourful[0], name)
    config = json.loads(pathlib.Path("older/config.json").read_text())
    del config["settings"]["color"]  # As runs have it that were begun before there was the flag.
    pathlib.Path("older/config.json").write_text(json.dumps(config))
    before = set(tmp_path.rglob("*"))
    assert train.main(["--env=MsPacman", *arguments.split()]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("train.py: ") and said.err.count("\n") == 1 and said.out == ""
    assert sentence in said.err and set(tmp_path.rglob("*")) == before
