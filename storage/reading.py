"""The one reader of runs: their settings, rows, evaluations, fresh episodes, sweeps and locks."""

import contextlib
import csv
import fcntl
import json
import pathlib
import socket

import numpy as np

from storage import layout

TEXTS, NUMBERS = ("network", "env"), ("seed", "history", "flicker", "num_envs", "frame_skip", "maxsteps", "eval_period", "eval_episodes")
TAIL = 16_384  # bytes of a file that are read, from its end: a table of many runs reads no long files


def read_config(directory):
    """Return a run's config.json.

    Raises:
        ValueError: there is none, or it is not one of this suite's.
    """
    path = pathlib.Path(directory) / "config.json"
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
        {directory: settings}, and a sentence for each path that is none.

    Raises:
        ValueError: a path does not exist, or none is a run.
    """
    found, others, known = {}, [], set()
    for path in map(pathlib.Path, paths):
        if not path.exists():
            raise ValueError(f"{path} does not exist; expected directories of runs, such as runs/*")
        for directory in sorted(file.parent for file in path.glob("**/config.json")) or [path]:
            if directory.resolve() not in known:
                try:
                    found[directory] = _read_settings(directory)
                    known.add(directory.resolve())
                except (ValueError, OSError) as error:
                    others.append(str(error))
    if not found:
        raise ValueError(others[0] if len(others) == 1 else f"none of the {len(others)} paths given is a run; the first: {others[0]}")
    return found, others


def _read_settings(directory):
    if not directory.is_dir():
        raise ValueError(f"{directory} is a file, so it is no run of this suite")
    settings = read_config(directory)["settings"]
    for names, kind in ((TEXTS, str), (NUMBERS, int | float)):
        for name in names:
            if not isinstance(settings.get(name), kind):
                raise ValueError(f"{directory}/config.json has {settings.get(name)!r} for {name}, so it is of no run of this suite")
    return settings


def newest_run(folder="runs"):
    """Return the run under `folder` whose training wrote last.

    Raises:
        ValueError: there is none.
    """
    found = [path.parent for path in pathlib.Path(folder).glob("**/config.json") if path.with_name("train.csv").exists()]
    if not found:
        raise ValueError(f"no run was found under {folder}/; train one, or give its --run_dir")
    return max(found, key=lambda run: max(path.stat().st_mtime for path in run.glob("*.csv") if path.stem in layout.COLUMNS))


def find_weights(directory, which):
    """Return the path of a run's `best` or `last` weights.

    Raises:
        ValueError: it has none yet.
    """
    directory = pathlib.Path(directory)
    paths = [directory / "best.weights.h5"] if which == "best" else sorted(directory.glob("checkpoints/[0-9]*/online.weights.h5"))
    if not paths or not paths[-1].exists():
        remedy = "evaluation (evaluate.py also plays --checkpoint=last)" if which == "best" else "checkpoint"
        raise ValueError(f"{directory} has no {which} weights yet; wait for its first {remedy}")
    return paths[-1]


def has_checkpoint(directory):
    """Whether a run has begun to be saved, whole or not."""
    return any(pathlib.Path(directory).glob("checkpoints/[0-9]*"))


def read_csv(path, columns):
    """Return {column: float64[rows]}. A missing file has no rows; a last row without a line end is still being written, and left out.

    Raises:
        ValueError: it is not what Run writes.
    """
    try:
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        if lines and lines[0] != ",".join(columns):
            raise ValueError(f"it begins with {lines[0][:40]!r}, expected {','.join(columns)}")
        table = np.loadtxt(lines[1:], delimiter=",", ndmin=2, comments=None) if any(lines[1:]) else np.empty((0, len(columns)))
        if table.shape[1] != len(columns):
            raise ValueError(f"its rows have {table.shape[1]} values, expected {len(columns)}")
        if not np.isfinite(table[:, [name not in layout.UNKNOWN for name in columns]]).all() or (np.diff(table[:, 0]) < 0).any():
            raise ValueError(f"a value is not finite, or {columns[0]} decreases")
    except ValueError as error:
        raise ValueError(f"{path} is damaged, or not of this suite: {str(error).split(';')[0].rstrip('.')}") from error
    return dict(zip(columns, table.T))


def read_evaluations(directory, settings):
    """Return {column: float64[evaluations]}: means over the episodes of each whole evaluation of a run.

    Raises:
        ValueError: its CSV is damaged.
    """
    rows = read_csv(directory / "eval.csv", layout.COLUMNS["eval"])
    _, evaluation, count = np.unique(rows["evaluation"], return_inverse=True, return_counts=True)
    whole = count >= settings["eval_episodes"]  # The newest may be half-written.
    return {name: (np.bincount(evaluation, values, len(count)) / count)[whole] for name, values in rows.items()}


def best_evaluation(directory, settings):
    """Return agent step and mean return of the evaluation that chose a run's best weights, of equals the latest; None before the first."""
    rows = read_evaluations(directory, settings)
    steps, means = rows["agent_step"], rows["episode_return"]
    return max(zip(steps, means), key=lambda row: (row[1], row[0]), default=None)


def is_unfinished(directory, settings, agent_step):
    """Return whether a run goes on to an evaluation after that of `agent_step`."""
    episodes = (read_csv(directory / "train.csv", layout.COLUMNS["train"])["cut"] == 0).sum() if settings.get("maxepisodes") else 0
    return not layout.met_limit(settings, agent_step + settings["eval_period"] - 1, episodes)


def read_episodes(path):
    """Return rows of policy, weights, epsilon and flicker, and float64[episodes] of returns, that evaluate.py wrote.

    Raises:
        ValueError: the CSV is damaged.
    """
    with _reading(path) as rows:
        return [dict(policy=row["policy"], weights=row["weights"], epsilon=float(row["epsilon"]), flicker=float(row["flicker"]))
                for row in rows], _returns(rows)


def read_random_play(found):
    """Return {directory: float64[episodes] of random play's returns} of the runs beside which evaluate.py has played it.

    Raises:
        ValueError: a CSV is damaged.
    """
    returns = {}
    for directory in found:
        for path in (directory / "episodes-random.csv", directory / "observability.csv"):
            if path.exists() and directory not in returns:
                with _reading(path) as rows:
                    returns[directory] = _returns([row for row in rows if row["policy"] == "random"])
    return returns


@contextlib.contextmanager
def _reading(path):
    """Yield the rows of a CSV of episodes; what goes wrong with them is a ValueError that names it."""
    try:
        with open(path, newline="") as file:
            yield list(csv.DictReader(file, strict=True))
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        reason = f"it has no column {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{path} is damaged, or not of this suite: {reason}") from error


def _returns(rows):
    returns = np.array([float(row["episode_return"]) for row in rows])
    if not rows or not np.isfinite(returns).all():
        raise ValueError("a return is not finite" if rows else "it has no episodes")
    return returns


def read_returns(path, trained):
    """Return {probability: the agent's episode returns} by increasing probability that a screen is shown, random play's, and how it played.

    The last is the set of (weights, epsilon) of its episodes.

    Raises:
        ValueError: it is not what evaluate.py writes.
    """
    of_agent, of_random, played = {}, [], set()
    try:
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                policy, probability, episode_return = row["policy"], float(row["observation_probability"]), float(row["episode_return"])
                if not np.isfinite([probability, episode_return]).all():
                    raise ValueError("a value is not finite")
                played |= {(row["weights"], float(row["epsilon"]))} if policy == "agent" else set()
                (of_random if policy == "random" else of_agent.setdefault(probability, [])).append(episode_return)
        if trained not in of_agent or not of_random:
            raise ValueError(f"it has no rows of {'random play' if trained in of_agent else f'the probability of training, {trained:g}'}")
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise ValueError(f"{path} is damaged, or not of this suite: {error}") from error
    return dict(sorted(of_agent.items())), of_random, played


def is_locked(directory):
    """Return whether a process holds the lock of a run; None: it was taken on another machine, from where it may not be seen."""
    try:
        with open(directory / "lock") as file:
            here = socket.gethostname() in file.read().split()
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError:  # A file system without locks.
        return None
    return False if here else None


def last_lines(path):
    """Return the last whole lines of a file, read from its end; none if there is no file."""
    if not path.exists():
        return []
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        return file.read().decode(errors="replace").split("\n")[:-1]


def last_rows(directory, name):
    """Return {column: numbers} of the last rows of a run's CSV; none if there is no file.

    Raises:
        ValueError: they are not what Run writes.
    """
    path, columns = directory / f"{name}.csv", layout.COLUMNS[name]
    try:
        rows = [list(map(float, line.split(","))) for line in last_lines(path)[1:]]  # The first is the header, or the end of a row.
        return dict(zip(columns, zip(*rows, strict=True) if rows else [()] * len(columns), strict=True))
    except ValueError as error:
        raise ValueError(f"{path} is damaged, or not of this suite: {error}") from error


def saved_counts(directory):
    """Return agent steps and complete episodes of the newest checkpoint, 0 if there is none."""
    for state in sorted(directory.glob("checkpoints/[0-9]*/state.json"), reverse=True):
        with contextlib.suppress(OSError, ValueError, KeyError):  # Training removes old ones while we look.
            saved = json.loads(state.read_text())
            return saved["agent_step"], saved["episodes"] - saved["cut_episodes"]
    return 0, 0
