"""Two short runs to be evaluated and filmed, and what is then read."""

import csv
import pathlib

import imageio_ffmpeg
import numpy as np

import train
from films import panels

TINY = """--units=8 --num_envs=2 --bufflen=200 --batch_size=4 --maxsteps=60 --learning_starts=40 --eval_period=60 --eval_episodes=2
    --checkpoint_period=60""".split()
CARTPOLE = [*TINY, "--env=CartPole-v1", "--network=DRQN", "--unroll=3", "--flicker=0.5"]
PACMAN = [*TINY, "--env=MsPacman", "--network=DQN", "--max_episode_frames=200", "--flicker=0.5", "--sticky=0.25"]


def train_small(arguments, directory):
    return train.train(train.configure([*arguments, f"--run_dir={directory}"]))


def read_rows(path):
    with open(path) as file:
        return list(csv.DictReader(file))


def returns_of(path):
    return [float(row["episode_return"]) for row in read_rows(path)]


def files_in(folder="."):
    return {str(path) for path in pathlib.Path(folder).rglob("*") if path.is_file()}


def frames_of(path):
    reader = imageio_ffmpeg.read_frames(str(path))
    next(reader)
    return [np.frombuffer(frame, np.uint8).reshape(panels.HEIGHT, panels.FULL.width, 3) for frame in reader]
