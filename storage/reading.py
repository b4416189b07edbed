"""The one reader of runs: their settings, rows, evaluations, fresh episodes, sweeps, checkpoints and locks.

A run may come from a stranger. Nothing here runs code of a run: its files are text and numbers.
"""

import collections
import contextlib
import csv
import fcntl
import json
import pathlib
import socket

import numpy as np

from storage import layout

# Settings that every run has, and that are texts or numbers.
TEXTS = ("network", "env")
NUMBERS = "seed history flicker num_envs frame_skip maxsteps eval_period eval_episodes".split()
TAIL = 16_384  # bytes that are read from the end of a file: a table of many runs reads no long files


# Settings and directories


def read_config(directory):
    """Return a run's config.json.

    Raises:
        ValueError: the directory has no config.json of this suite.
    """
    path = layout.config_path(directory)
    try:
        config = json.loads(path.read_text())
        config["settings"]["network"]
        return config
    except FileNotFoundError as error:
        missing = "holds no config.json, so it is no run of this suite" if path.parent.is_dir() else "does not exist"
        raise ValueError(f"{directory} {missing}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not the configuration of a run of this suite ({error!r})") from error


def find_runs(paths):
    """Find the runs among `paths` and in the folders among them.

    Returns:
        {directory: settings}, and a sentence for each path that is no run.

    Raises:
        ValueError: a path does not exist, or none is a run.
    """
    found, others, known = {}, [], set()
    for path in map(pathlib.Path, paths):
        if not path.exists():
            raise ValueError(f"{path} does not exist; expected directories of runs, such as runs/*")
        for directory in _find_directories(path) or [path]:
            if directory.resolve() not in known:
                try:
                    found[directory] = _read_settings(directory)
                    known.add(directory.resolve())
                except (ValueError, OSError) as error:
                    others.append(str(error))
    if not found:
        raise ValueError(others[0] if len(others) == 1 else
                         f"none of the {len(others)} paths given is a run; the first: {others[0]}")
    return found, others


def _find_directories(folder):
    """Return the directories with a config.json in and below a folder, sorted; also those that it links to."""
    below = {config.parent for config in folder.glob(f"**/{layout.CONFIG}")}
    return sorted(below | {config.parent for config in folder.glob(f"*/{layout.CONFIG}")})  # ** follows no link.


def _read_settings(directory):
    """Return the settings of a run, and check those that every reader needs."""
    if not directory.is_dir():
        raise ValueError(f"{directory} is a file, so it is no run of this suite")
    settings = read_config(directory)["settings"]
    for names, kind in ((TEXTS, str), (NUMBERS, int | float)):
        for name in names:
            if not isinstance(settings.get(name), kind):
                raise ValueError(f"{layout.config_path(directory)} has {settings.get(name)!r} for {name}, "
                                 "so it is of no run of this suite")
    return settings


def newest_run(folder="runs"):
    """Return the run under `folder` whose training wrote last.

    Raises:
        ValueError: there is no run.
    """
    directories = _find_directories(pathlib.Path(folder))
    runs = [directory for directory in directories if layout.csv_path(directory, "train").exists()]
    if not runs:
        raise ValueError(f"no run was found under {folder}/; train one, or give its --run_dir")
    return max(runs, key=read_last_write)


def read_last_write(directory):
    """Return when training wrote its newest row [seconds since the epoch], None before its first."""
    paths = [layout.csv_path(directory, name) for name in layout.COLUMNS]
    return max((path.stat().st_mtime for path in paths if path.exists()), default=None)


# Weights and checkpoints


def find_weights(directory, which):
    """Return the path of a run's `best` or `last` weights.

    Raises:
        ValueError: the run has none yet.
    """
    paths = ([layout.weights_path(directory, layout.BEST)] if which == layout.BEST else
             [checkpoint / layout.ONLINE for checkpoint in find_checkpoints(directory)])
    paths = [path for path in paths if path.exists()]
    if not paths:
        remedy = "evaluation (evaluate.py also plays --checkpoint=last)" if which == layout.BEST else "checkpoint"
        raise ValueError(f"{directory} has no {which} weights yet; wait for its first {remedy}")
    return paths[-1]


def find_milestones(directory):
    """Return the paths of the weights that --weights_period kept, the oldest first."""
    return sorted(pathlib.Path(directory, layout.MILESTONES).glob("[0-9]*.weights.h5"))


def find_checkpoints(directory):
    """Return the folders of a run's checkpoints, whole or not, the oldest first."""
    return sorted(pathlib.Path(directory, layout.CHECKPOINTS).glob("[0-9]*"))


def has_checkpoint(directory):
    """Return whether a run has a checkpoint, whole or not."""
    return bool(find_checkpoints(directory))


def read_saved_counts(directory):
    """Return agent steps and training episodes of the newest checkpoint, 0 and 0 if there is none."""
    for checkpoint in reversed(find_checkpoints(directory)):
        with contextlib.suppress(OSError, ValueError, KeyError):  # Training may remove this one right now.
            state = json.loads((checkpoint / layout.STATE).read_text())
            return state["agent_step"], state["episodes"] - state.get("cut_episodes", 0)  # Old runs counted these too.
    return 0, 0


# Rows of training


def read_rows(directory, name):
    """Return the rows of a run's `train`, `learn` or `eval` CSV as {column: float64[rows]}; none if there is no file.

    A last row without a line end is still being written, and left out. So is a row with a value that is not finite;
    only losses may be unknown.

    Raises:
        ValueError: the CSV is damaged.
    """
    table, is_finite = _read_table(directory, name)
    return dict(zip(layout.COLUMNS[name], table[is_finite].T))


def count_lost_rows(directory, name):
    """Return how many rows `read_rows` leaves out, since a value is not finite."""
    return int((~_read_table(directory, name)[1]).sum())


def _read_table(directory, name):
    """Return the rows of a CSV float64[rows, columns], and bool[rows], whether all known values are finite."""
    path, columns = layout.csv_path(directory, name), layout.COLUMNS[name]
    with _name_damage(path):
        lines = (path.read_text() if path.exists() else "").split("\n")[:-1] or [",".join(columns)]
        layouts = [each for each in _layouts(name) if lines[0] == ",".join(each)]
        if not layouts:
            raise ValueError(f"it begins with {lines[0][:40]!r}, expected {','.join(columns)}")
        table = _parse_rows(lines[1:], layouts)
        is_finite = np.isfinite(table[:, [column not in layout.UNKNOWN for column in columns]]).all(axis=1)
        if (np.diff(table[is_finite, 0]) < 0).any():
            raise ValueError(f"{columns[0]} decreases")
    return table, is_finite


def read_last_rows(directory, name):
    """Return {column: list of numbers} of the last rows of a run's CSV; none if there is no file.

    Raises:
        ValueError: they are not rows of this CSV.
    """
    path = layout.csv_path(directory, name)
    with _name_damage(path):
        # The first line is the header, or the end of a row.
        table = _parse_rows(read_last_lines(path)[1:], _layouts(name))
    return dict(zip(layout.COLUMNS[name], table.T.tolist()))


def read_header(directory, name):
    """Return the first line of a run's CSV; an empty one if there is no file."""
    with contextlib.suppress(FileNotFoundError), open(layout.csv_path(directory, name), errors="replace") as file:
        return file.readline().rstrip("\n")
    return ""


def read_last_lines(path):
    """Return the last whole lines of a file, read from its end; none if there is no file."""
    if not path.exists():
        return []
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        return file.read().decode(errors="replace").split("\n")[:-1]


def _layouts(name):
    """Return the lists of columns that a CSV may have, the one of today first."""
    return layout.COLUMNS[name], layout.OLD_COLUMNS[name]


def _parse_rows(lines, layouts):
    """Return float64[rows, columns] of lines of numbers, with the columns of today.

    Args:
        layouts: lists of columns; the lines have those of the first that fits.
    """
    table = np.loadtxt(lines, delimiter=",", ndmin=2, comments=None) if any(lines) else np.empty((0, len(layouts[0])))
    columns = next((columns for columns in layouts if len(columns) == table.shape[1]), None)
    if not columns:
        raise ValueError(f"its rows have {table.shape[1]} values, expected {len(layouts[0])}")
    if "cut" in columns:
        table = table[table[:, columns.index("cut")] == 0]
    return table[:, [column not in ("cut", "cut_share") for column in columns]]


@contextlib.contextmanager
def _name_damage(path):
    """Turn an error in the content of a CSV into a ValueError that names the file."""
    try:
        yield
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        reason = f"it has no column {error}" if isinstance(error, KeyError) else str(error).split(";")[0].rstrip(".")
        raise ValueError(f"{path} is damaged, or not of this suite: {reason}") from error


# Evaluations during training


def read_evaluations(directory, settings):
    """Return {column: float64[evaluations]}: means over the episodes of each whole evaluation of a run.

    Raises:
        ValueError: eval.csv is damaged.
    """
    rows = read_rows(directory, "eval")
    _, evaluation, count = np.unique(rows["evaluation"], return_inverse=True, return_counts=True)
    whole = count >= settings["eval_episodes"]  # The newest evaluation may be half-written.
    return {name: (np.bincount(evaluation, values, len(count)) / count)[whole] for name, values in rows.items()}


def best_evaluation(directory, settings):
    """Return agent step and mean return of the evaluation that chose a run's best weights; None before the first.

    Of evaluations with equal means the latest counts, as in training.
    """
    rows = read_evaluations(directory, settings)
    steps, means = rows["agent_step"], rows["episode_return"]
    return max(zip(steps, means), key=lambda row: (row[1], row[0]), default=None)


def is_unfinished(directory, settings, agent_step):
    """Return whether training goes on to another evaluation after the one at `agent_step`."""
    episodes = len(read_rows(directory, "train")["agent_step"]) if settings.get("maxepisodes") else 0
    return not layout.met_limit(settings, agent_step + settings["eval_period"] - 1, episodes)


# Episodes that evaluate.py played


def read_episodes(path):
    """Read the episodes of one policy that evaluate.py wrote.

    Returns:
        A dict of policy, weights, epsilon, flicker and eval_seed for each episode, and float64[episodes] of returns.

    Raises:
        ValueError: the CSV is damaged, or has no episodes.
    """
    with _name_damage(path):
        rows = _parse_episodes(path, ("policy", "weights", "epsilon", "flicker", "episode_return", "eval_seed"))
        return rows, _returns_of(rows)


def count_episodes(path):
    """Return a Counter of the episodes in a CSV of evaluate.py: (policy, probability that a screen is shown).

    The probability is None where the CSV is no sweep. Of no file, or of a damaged one, the Counter is empty.
    """
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, csv.Error), open(path, newline="") as file:
        shown = lambda row: float(row["observation_probability"]) if "observation_probability" in row else None
        return collections.Counter((row["policy"], shown(row)) for row in csv.DictReader(file, strict=True))
    return collections.Counter()


def read_random_play(directories):
    """Return {directory: float64[episodes]} of random play's returns, of runs for which evaluate.py played at random.

    Episodes beside a score win over episodes of a sweep.

    Raises:
        ValueError: a CSV is damaged, or has no episodes of random play.
    """
    returns = {}
    for directory in directories:
        paths = layout.episodes_path(directory, layout.RANDOM), layout.sweep_path(directory)
        path = next((path for path in paths if path.exists()), None)
        if path:
            with _name_damage(path):
                rows = _parse_episodes(path, ("policy", "episode_return"))
                returns[directory] = _returns_of([row for row in rows if row["policy"] == "random"])
    return returns


def read_sweep(directory, trained):
    """Read a run's sweep over the probability that a screen is shown.

    Args:
        trained: the probability of training, of which the sweep must have episodes.

    Returns:
        {probability: the agent's episode returns} by increasing probability; random play's episode returns; and the
        set of (weights, epsilon) with which the agent played.

    Raises:
        ValueError: observability.csv is damaged, or lacks what a sweep needs.
    """
    path = layout.sweep_path(directory)
    of_agent, of_random, played_with = {}, [], set()
    with _name_damage(path):
        columns = ("policy", "weights", "observation_probability", "epsilon", "episode_return")
        for row in _parse_episodes(path, columns):
            if row["policy"] == "random":
                of_random.append(row["episode_return"])
            else:
                of_agent.setdefault(row["observation_probability"], []).append(row["episode_return"])
                played_with.add((row["weights"], row["epsilon"]))
        if trained not in of_agent or not of_random:
            missing = "random play" if trained in of_agent else f"the probability of training, {trained:g}"
            raise ValueError(f"it has no rows of {missing}")
    return dict(sorted(of_agent.items())), of_random, played_with


def _parse_episodes(path, columns):
    """Return a dict of these columns for each row of a CSV of evaluate.py; numbers are finite."""
    with open(path, newline="") as file:
        rows = [{column: row[column] if column in layout.TEXT_COLUMNS else float(row[column]) for column in columns}
                for row in csv.DictReader(file, strict=True)]
    numbers = [row[column] for row in rows for column in columns if column not in layout.TEXT_COLUMNS]
    if not np.isfinite(numbers).all():
        raise ValueError("a value is not finite")
    return rows


def _returns_of(rows):
    """Return float64[episodes] of the returns of at least one episode."""
    if not rows:
        raise ValueError("it has no episodes")
    return np.array([row["episode_return"] for row in rows])


# Locks


def is_locked(directory):
    """Return whether a process holds the lock of a run; None if another machine took it, which may not show here."""
    try:
        with open(pathlib.Path(directory, layout.LOCK)) as file:
            here = socket.gethostname() in file.read().split()
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError:  # The file system has no locks.
        return None
    return False if here else None
