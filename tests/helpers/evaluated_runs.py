"""Two short runs to be evaluated and filmed, and functions that read the files of evaluate.py."""

import csv
import pathlib

import imageio_ffmpeg
import numpy as np

import train

TINY = """--units=8 --num_envs=2 --bufflen=200 --batch_size=4 --maxsteps=60 --learning_starts=40 --eval_period=60
    --eval_episodes=2 --checkpoint_period=60""".split()
CARTPOLE = [*TINY, "--env=CartPole-v1", "--network=DRQN", "--unroll=3", "--flicker=0.5"]
PACMAN = [*TINY, "--env=MsPacman", "--network=DQN", "--max_episode_frames=200", "--flicker=0.5", "--sticky=0.25"]


def train_small(arguments, directory):
    """Train with these flags in a directory; return the Trainer."""
    return train.train(train.configure([*arguments, f"--run_dir={directory}"]))


def read_csv_rows(path):
    """Return the rows of a CSV as dicts of text."""
    with open(path) as file:
        return list(csv.DictReader(file))


def read_episode_returns(path):
    return [float(row["episode_return"]) for row in read_csv_rows(path)]


def list_files(folder="."):
    """Return the paths of all files in a folder and in its folders, as a set of text."""
    return {str(path) for path in pathlib.Path(folder).rglob("*") if path.is_file()}


def decode_film(path):
    """Return what ffmpeg tells of a film, and its frames, uint8[height, width, 3] each."""
    reader = imageio_ffmpeg.read_frames(str(path))
    about = next(reader)
    width, height = about["size"]
    return about, [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader]
