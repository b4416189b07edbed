"""The window of the scored episode, on a display without a monitor."""

import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers.played import TINY, files_in, read_rows, train_small

ROOT = pathlib.Path(__file__).parents[2]


def screenshot(folder):
    """Return uint8[height, width, 3] of Xvfb's screen, from the dump in X's own format that it keeps in `folder`."""
    data = (folder / "Xvfb_screen0").read_bytes()
    header = np.frombuffer(data[:100], ">u4")
    size, width, height, bytes_per_line, num_colours = (int(header[i]) for i in (0, 4, 5, 12, 19))
    pixels = np.frombuffer(data[size + 12 * num_colours:][:bytes_per_line * height], np.uint8).reshape(height, bytes_per_line // 4, 4)
    return pixels[:, :width, 2::-1]  # stored as blue, green, red, nothing


@pytest.fixture
def display(tmp_path):
    """Start a display without a monitor; return its name and the folder of its screen."""
    folder = tmp_path / "framebuffer"
    folder.mkdir()
    reading, writing = os.pipe()
    server = subprocess.Popen(["Xvfb", "-displayfd", str(writing), "-screen", "0", "1280x1024x24", "-fbdir", str(folder)],
                              pass_fds=[writing], stderr=subprocess.DEVNULL)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        yield f":{pipe.readline().strip()}", folder
    server.terminate()
    server.wait()


@pytest.mark.slow
@pytest.mark.parametrize("env, colour", [("MountainCar-v0", (255, 255, 255)), ("MsPacman", (0, 28, 136))])
def test_a_window_shows_the_first_episode(display, tmp_path, env, colour):
    """The white sky, and the blue ground of the maze: as much of the screen as a window of theirs, which moves, and then closes."""
    train_small([*TINY, f"--env={env}", "--network=DQN", "--max_episode_frames=200"], tmp_path / "run")
    command = [sys.executable, str(ROOT / "evaluate.py"), "--run_dir=run", "--episodes=1", "--render"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SDL_")} | {"DISPLAY": display[0]}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    seen = set()
    while process.poll() is None:
        image = screenshot(display[1])
        if 0.03 < (image == colour).all(axis=-1).mean() < 0.6:
            seen.add(image.tobytes())
        time.sleep(0.05)
    assert process.returncode == 0, process.stderr.read()
    assert len(seen) > 3, "no picture, or one that stands still"
    assert read_rows(tmp_path / "run" / "episodes-best.csv")[0]["length"] == str(200 if env == "MountainCar-v0" else 50)
    assert not screenshot(display[1]).any(), "the window stayed open"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cartpole", "pacman"])
def test_a_display_that_does_not_answer_is_said(trained, tmp_path, name):
    command = [sys.executable, str(ROOT / "evaluate.py"), f"--run_dir={trained / name}", "--episodes=1", "--render", "--csv=episodes.csv"]
    result = subprocess.run(command, cwd=tmp_path, env=os.environ | {"DISPLAY": ":7777"}, capture_output=True, text=True)
    assert result.returncode == 2 and "no window can be opened" in result.stderr and "--video" in result.stderr
    assert "Traceback" not in result.stderr and not files_in(tmp_path)
