"""Name every file and every column of a run, and the settings that tell runs apart, each once.

```
config.json                       settings, versions, git commit, command line
train.csv  learn.csv  eval.csv    a row per episode, per 1,000 agent steps, per evaluation episode
best.weights.h5                   weights of the best evaluation
weights/000050.weights.h5         weights after 50 episodes, with --weights_period
torso.weights.h5  torso.json      a frozen torso and its description, with --features
checkpoints/000006250/            a checkpoint after 6,250 vector steps: state.json, arrays.npz, online.weights.h5
replay/000000000-000000256.npz    rows 0 to 255 of the replay, a segment that checkpoints name
events.out.tfevents.*             the numbers of the CSV files for TensorBoard, with histograms and films
lock                              held by the process that trains; its text names that process
episodes-best.csv                 of evaluate.py: episodes with the best weights; also -last, -random, and others
observability.csv                 of evaluate.py: a sweep over the probability that a screen is shown
../<run>.log                      what a run of a grid printed, beside its directory
```
"""

import pathlib
import re
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

CONFIG, LOCK = "config.json", "lock"
BEST, RANDOM = "best", "random"  # names of weights; random play has none, and its CSV is named like them
TORSO, TORSO_ABOUT = "torso", "torso.json"
CHECKPOINTS, REPLAY, MILESTONES = "checkpoints", "replay", "weights"  # folders
ASIDE = "aside"  # the folder of a checkpoint that is still being written
STATE, ARRAYS, ONLINE = "state.json", "arrays.npz", "online.weights.h5"  # in the folder of a checkpoint
CHECKPOINT = (STATE, ARRAYS, ONLINE)
SWEEP = "observability.csv"

COLUMNS = {  # of the CSV files that training writes
    "train": "agent_step frames episode_return length training_reward environment seconds".split(),
    "learn": "agent_step frames updates loss mean_q gradient_norm epsilon learning_rate "
             "environment_seconds act_seconds sample_seconds learn_seconds seconds".split(),
    "eval": "agent_step frames evaluation episode episode_return length seconds".split(),
}
OLD_COLUMNS = {  # of runs made when all environments were reset together; an episode with cut = 1 had not ended
    "train": "agent_step frames episode_return length training_reward environment cut seconds".split(),
    "learn": "agent_step frames updates loss mean_q gradient_norm epsilon learning_rate cut_share "
             "environment_seconds act_seconds sample_seconds learn_seconds seconds".split(),
    "eval": COLUMNS["eval"],
}
PHASES = ("environment", "act", "sample", "learn")  # of a vector step; learn.csv has their seconds
UNKNOWN = ("loss", "mean_q", "gradient_norm")  # columns of learn.csv that are NaN before the first update
# Columns of the CSV files that evaluate.py writes: of episodes, and of a sweep.
EPISODE_COLUMNS = "policy weights episode episode_return length epsilon flicker eval_seed".split()
SWEEP_COLUMNS = "policy weights observation_probability episode episode_return length epsilon eval_seed".split()
TEXT_COLUMNS = ("policy", "weights")  # all other columns hold numbers

LIMITS = dict(maxsteps="agent steps", maxepisodes="episodes")  # of training; whichever is met first ends it
# Settings that may change when a run goes on: its limits, and how often it is evaluated and saved.
FREE = (*LIMITS, "eval_period", "checkpoint_period", "weights_period")
SAME_LINE = ("seed", *FREE)  # settings in which the runs of one line may differ
# id of a variant with other training rewards -> its game, whose raw returns a run of either has
GAMES = {"AssaultCrafted-v0": "Assault", "BowlingShaped-v0": "Bowling"}

# Where training writes: files, and the folders with more of them.
FILES = (CONFIG, LOCK, *(f"{name}.csv" for name in COLUMNS), *(f"{name}.weights.h5" for name in (BEST, TORSO)),
         TORSO_ABOUT)
FOLDERS = (CHECKPOINTS, REPLAY, MILESTONES, f"{CHECKPOINTS}/{ASIDE}")
LONGEST_NAME = 251  # bytes of a run's name: file systems take 255, and `log_path` adds four


def config_path(directory: str | pathlib.Path) -> pathlib.Path:
    return pathlib.Path(directory, CONFIG)


def csv_path(directory: str | pathlib.Path, name: str) -> pathlib.Path:
    """Return the path of `train`, `learn` or `eval`, a key of COLUMNS."""
    return pathlib.Path(directory, f"{name}.csv")


def weights_path(directory: str | pathlib.Path, name: str) -> pathlib.Path:
    """Return the path of the weights `best`, `torso`, or those that `milestone` names."""
    return pathlib.Path(directory, f"{name}.weights.h5")


def milestone(episodes: int) -> str:
    """Return the name of the weights after so many episodes."""
    return f"{MILESTONES}/{episodes:06d}"


def checkpoint_path(directory: str | pathlib.Path, vector_steps: int) -> pathlib.Path:
    return pathlib.Path(directory, CHECKPOINTS, f"{vector_steps:09d}")


def segment_name(start: int, stop: int) -> str:
    """Return the path of rows [start, stop) of the replay, relative to the run's directory."""
    return f"{REPLAY}/{start:09d}-{stop:09d}.npz"


def is_checkpoint(path: pathlib.Path) -> bool:
    """Return whether a path in CHECKPOINTS is a checkpoint, whole or not."""
    return bool(re.fullmatch(r"\d{9,}", path.name)) and any((path / name).exists() for name in CHECKPOINT)


def is_segment(path: pathlib.Path) -> bool:
    """Return whether a path in REPLAY has the name of a segment."""
    return bool(re.fullmatch(r"\d{9,}-\d{9,}\.npz", path.name))


def events_path(directory: str | pathlib.Path, seconds: float, host: str, process: int) -> pathlib.Path:
    """Return the path of a file of events that begins at a time; TensorBoard reads the files in that order."""
    return pathlib.Path(directory, f"events.out.tfevents.{seconds:.0f}.{host}.{process}")


def find_events(directory: str | pathlib.Path) -> list[int]:
    """Return when the files of events in a directory begin, as `events_path` takes it."""
    names = (path.name for path in pathlib.Path(directory).glob("events.out.tfevents.*"))
    return [int(found[1]) for found in (re.match(r"events\.out\.tfevents\.(\d+)\.", name) for name in names) if found]


def episodes_path(directory: str | pathlib.Path, weights: str, otherwise: str = "") -> pathlib.Path:
    """Return the path of the episodes that evaluate.py played.

    Args:
        weights: name of the weights, or `random`.
        otherwise: what was not as in a plain evaluation, such as `-episodes=2-eval_seed=3` or `-flicker=0.5`; such
            episodes are no score of the run.
    """
    return pathlib.Path(directory, f"episodes-{weights}{otherwise}.csv")


def sweep_path(directory: str | pathlib.Path, otherwise: str = "") -> pathlib.Path:
    """Return the path of a sweep; `otherwise` as of `episodes_path`."""
    path = pathlib.Path(directory, SWEEP)
    return path.with_stem(path.stem + otherwise)


def log_path(directory: str | pathlib.Path) -> pathlib.Path:
    """Return the path of the log that the scripts of slurm/ write beside the directory of a grid's run."""
    return pathlib.Path(directory).with_name(f"{pathlib.Path(directory).name}.log")


def met_limit(settings: dict[str, Any], agent_step: float, episodes: int) -> str | None:
    """Return which limit training has met, `maxsteps` or `maxepisodes`; None before."""
    counts = dict(maxsteps=agent_step, maxepisodes=episodes)
    return next((name for name in LIMITS if settings.get(name) and counts[name] >= settings[name]), None)


def name_run(first: Iterable[str], flags: Mapping[str, Any], seed: int | str, jid: str | None = None) -> str:
    """Return the name of a run's directory. A name that is too long for a file system ends in a checksum and the seed.

    Args:
        first: environment, network and presets.
        flags: {name: value} of the flags that are set beside these; True and False become `name` and `noname`.
        seed: of the run.
        jid: a name of the user's own, or None.
    """
    spelled = [("" if value else "no") + name if isinstance(value, bool) else f"{name}={value}"
               for name, value in sorted(flags.items())]
    parts = [*first, *spelled, *([jid] if jid else []), f"s{seed}"]
    name = re.sub(r"[^\w.=:+-]+", "_", "-".join(parts))
    if len(name.encode()) <= LONGEST_NAME:
        return name
    end = f"-{zlib.crc32(name.encode()):08x}{name[name.rindex('-s'):]}"
    return name.encode()[:LONGEST_NAME - len(end)].decode(errors="ignore") + end
