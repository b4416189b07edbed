"""The rendered copy: its screens equal the first environment's, and a window shows them."""

import contextlib
import os
import pathlib
import subprocess
import sys
import time

import gymnasium
import numpy as np
import pytest

import rollout
from environments import catalogue, mirror
from helpers import counting
from helpers.evaluated_runs import TINY, list_files, read_csv_rows, train_small
from helpers.replayed import replay_screens
from helpers.screens import Modeless, Rendered, register_screen

ROOT = pathlib.Path(__file__).parents[2]


# Screens


def make_rendered_envs(env, num_envs, **settings):
    settings = dict(frame_skip=4, max_episode_frames=0, sticky=0.0, noops=0, render_mode="rgb_array") | settings
    return catalogue.make_envs(env, num_envs, **settings)


@pytest.mark.parametrize("env, settings", [
    ("Pong", dict(sticky=0.25, noops=30, frame_skip=3)),
    ("MsPacman", dict(full_actions=True, noops=30, max_episode_frames=161)),
    ("Assault", dict(frame_skip=1, noops=7))])
def test_the_screens_of_an_ale_game_are_those_of_the_first_environment(env, settings):
    seeds, rng = rollout.derive_seeds(7, size=2), np.random.default_rng(0)
    with contextlib.closing(make_rendered_envs(env, 2, **settings)) as envs:
        assert envs.metadata["render_fps"] == 60 / settings.get("frame_skip", 4)
        for _ in range(2):  # Seeded anew after other play, it begins again.
            envs.reset(seed=seeds)
            screens, actions = [envs.render()[0]], []
            for _ in range(60):
                actions.append(rng.integers(len(envs.action_names), size=2))
                _, _, terminated, truncated, _ = envs.step(actions[-1])
                screens.append(envs.render()[0])
                if terminated[0] or truncated[0]:
                    break
            truth = list(replay_screens(env, seeds[0], [action[0] for action in actions], **settings))
            ends = int(terminated[0] or truncated[0])  # AtariVectorEnv does not show the last screen of an episode.
            np.testing.assert_array_equal(screens[:len(screens) - ends], truth[:len(truth) - ends])
            assert len({screen.tobytes() for screen in truth}) > 10
    assert truncated[0] == ("max_episode_frames" in settings)


def test_the_screens_of_other_environments_are_those_of_the_first_until_its_episode_ends():
    seeds = rollout.derive_seeds(7, size=2)
    with contextlib.closing(make_rendered_envs("CartPole-v1", 2, frame_skip=2)) as envs:
        assert envs.metadata["render_fps"] == 25
        envs.reset(seed=seeds)
        screens, ended = [envs.render()[0]], False
        while not ended:
            ended = envs.step(np.ones(2, np.int64))[2][0]
            screens.append(envs.render()[0])
        truth = list(replay_screens("CartPole-v1", seeds[0], [1] * (len(screens) - 1), frame_skip=2))
        np.testing.assert_array_equal(screens, truth)
        envs.step(np.zeros(2, np.int64))  # Those that have ended play on unseen.
        np.testing.assert_array_equal(envs.render()[0], screens[-1])


def test_an_environment_without_screens_or_laws_cannot_be_filmed(monkeypatch):
    with pytest.raises(ValueError, match="has no screen: it renders neither"):
        make_rendered_envs(counting.register(), 1, frame_skip=1)
    monkeypatch.setattr(counting.Counting, "metadata", {"render_modes": ["rgb_array"]})
    monkeypatch.setattr(counting.Counting, "render_mode", "rgb_array")
    make = gymnasium.make
    monkeypatch.setattr(gymnasium, "make", lambda env, render_mode: make(env))
    for lawless in False, True:
        name = counting.register(lawless=lawless, length=50, shape=(32, 32, 3))
        with contextlib.closing(make_rendered_envs(name, 2, frame_skip=1)) as envs:
            envs.reset(seed=np.array([1, 2]))
            refusal = pytest.raises(ValueError, match="no function of its seed and actions")
            with refusal if lawless else contextlib.nullcontext():
                for _ in range(20):
                    envs.step(np.array([0, 1]))


BLUE = np.zeros((40, 50, 3), np.uint8)
BLUE[:20] = 0, 0, 255


@pytest.mark.parametrize("picture", [
    lambda: BLUE, lambda: [np.zeros_like(BLUE), BLUE], lambda: (BLUE,), lambda: np.moveaxis(BLUE, -1, 0),
    lambda: BLUE / 255, lambda: BLUE > 0, lambda: BLUE.astype(np.int64), lambda: np.asfortranarray(BLUE),
    lambda: np.concatenate([BLUE, BLUE[..., :1]], axis=-1)])
def test_what_render_returns_becomes_a_picture(picture):
    with contextlib.closing(make_rendered_envs(register_screen(Rendered, picture=picture), 2, frame_skip=1)) as envs:
        envs.reset(seed=np.array([1, 2]))
        screen, = envs.render()
    assert screen.dtype == np.uint8 and screen.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(screen, BLUE)


@pytest.mark.parametrize("gray", [BLUE[..., 2], BLUE[..., 2:], BLUE[None, ..., 2], BLUE[..., 2] / 255])
def test_a_gray_screen_has_three_equal_channels(gray):
    np.testing.assert_array_equal(mirror.as_picture(gray), BLUE[..., 2:].repeat(3, axis=-1))


@pytest.mark.parametrize("returned, words", [
    (None, "NoneType"), ([], "an empty list"), ("text", "str"), ([1, 2], "list"), (np.zeros(5), "float64[5]"),
    (np.zeros((2, 2, 2, 3)), "float64[2, 2, 2, 3]"), (np.zeros((0, 4, 3)), "float64[0, 4, 3]"),
    (np.full((4, 4, 3), 255.0), "float64[4, 4, 3] from 255.0 to 255.0"),
    (np.full((4, 4, 3), np.nan), "float64[4, 4, 3] from nan to nan"),
    (np.full((4, 4), -1), "int64[4, 4] from -1 to -1"), (np.array([["a"]]), "<U1[1, 1]")])
def test_what_is_no_picture_is_named_in_one_sentence(returned, words):
    name = register_screen(Rendered, picture=lambda: returned)
    with contextlib.closing(make_rendered_envs(name, 1, frame_skip=1)) as envs:
        envs.reset(seed=np.array([1]))
        with pytest.raises(ValueError) as error:
            envs.render()
    assert str(error.value) == (f"--env={name} cannot be filmed: its render() returned {words}; "
                                "expected uint8[height, width, 3]")


@pytest.mark.parametrize("given, fps", [
    (None, 30), (0, 30), (-5, 30), (np.nan, 30), (np.inf, 30), ("50", 30), (0.2, 0.2), (np.float32(8), 8)])
def test_a_rate_that_is_none_is_the_usual_one(given, fps):
    name = register_screen(Rendered, picture=lambda: BLUE, render_fps=given)
    with contextlib.closing(make_rendered_envs(name, 1, frame_skip=2)) as envs:
        assert envs.metadata["render_fps"] == fps / 2


def test_an_environment_that_takes_no_render_mode_is_refused_in_one_sentence():
    name = register_screen(Modeless, picture=lambda: BLUE)
    with pytest.raises(ValueError, match=f"--env={name} has no screen: it takes no render_mode") as error:
        make_rendered_envs(name, 1, frame_skip=1)
    assert str(error.value).endswith("expected an environment that takes render_mode='rgb_array'")


# Windows


def screenshot(folder):
    """Return uint8[height, width, 3] of Xvfb's screen, from the dump in X's own format that it keeps in `folder`."""
    data = (folder / "Xvfb_screen0").read_bytes()
    header = np.frombuffer(data[:100], ">u4")
    size, width, height, bytes_per_line, num_colours = (int(header[i]) for i in (0, 4, 5, 12, 19))
    pixels = np.frombuffer(data[size + 12 * num_colours:][:bytes_per_line * height], np.uint8)
    pixels = pixels.reshape(height, bytes_per_line // 4, 4)
    return pixels[:, :width, 2::-1]  # stored as blue, green, red, nothing


@pytest.fixture
def display(tmp_path):
    """Start a display without a monitor; return its name and the folder of its screen."""
    folder = tmp_path / "framebuffer"
    folder.mkdir()
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1280x1024x24", "-fbdir", str(folder)]
    server = subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        yield f":{pipe.readline().strip()}", folder
    server.terminate()
    server.wait()


@pytest.mark.slow
@pytest.mark.display
@pytest.mark.parametrize("env, colour", [("MountainCar-v0", (255, 255, 255)), ("MsPacman", (0, 28, 136))])
def test_a_window_shows_the_first_episode(display, tmp_path, env, colour):
    """The window has the colour of MountainCar's sky or of the maze's ground; it changes, and it closes."""
    train_small([*TINY, f"--env={env}", "--network=DQN", "--max_episode_frames=200"], tmp_path / "run")
    command = [sys.executable, str(ROOT / "evaluate.py"), "--run_dir=run", "--episodes=1", "--render"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SDL_")}
    environment["DISPLAY"] = display[0]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    seen = set()
    while process.poll() is None:
        image = screenshot(display[1])
        if 0.03 < (image == colour).all(axis=-1).mean() < 0.6:
            seen.add(image.tobytes())
        time.sleep(0.05)
    assert process.returncode == 0, process.stderr.read()
    assert len(seen) > 3, "no picture, or one that stands still"
    length = read_csv_rows(tmp_path / "run" / "episodes-best-episodes=1.csv")[0]["length"]
    assert length == ("200" if env == "MountainCar-v0" else "50")
    assert not screenshot(display[1]).any(), "the window stayed open"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cartpole", "pacman"])
def test_a_display_that_does_not_answer_is_said(trained, tmp_path, name):
    command = [sys.executable, str(ROOT / "evaluate.py"), f"--run_dir={trained / name}", "--episodes=1", "--render",
               "--csv=episodes.csv"]
    environment = os.environ | {"DISPLAY": ":7777"}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 2 and "no window can be opened" in result.stderr and "--video" in result.stderr
    assert "Traceback" not in result.stderr and not list_files(tmp_path)
