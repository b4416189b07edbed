"""Short runs of train.py, what they leave behind, and what is done to them on the way."""

import csv
import pathlib
import signal

import numpy as np
import pytest

import agent
import replay
import rollout
import train

ROOT = pathlib.Path(__file__).parents[2]
MAXSTEPS, LEARNING_STARTS, UPDATE_PERIOD, NUM_ENVS = 300, 60, 8, 4
CARTPOLE = f"""--env=CartPole-v1 --maxsteps={MAXSTEPS} --units=8 --num_envs={NUM_ENVS} --bufflen=240 --batch_size=4 --unroll=3 --flicker=0.3
    --learning_starts={LEARNING_STARTS} --update_period={UPDATE_PERIOD} --target_period=50 --optimizer=adam --learning_rate=1e-2
    --epsilon_decay=linear:200steps --eval_period=100 --eval_episodes=2 --checkpoint_period=90""".split()

ONE_NETWORK = pytest.mark.parametrize("whole", ["DRQN"], indirect=True)  # where a second would show nothing new


class Reads(dict):
    """A dict that remembers which of its keys were asked for."""

    def __init__(self, *args):
        super().__init__(*args)
        self.read = set()

    def __getitem__(self, key):
        self.read.add(key)
        return super().__getitem__(key)


def train_run(arguments, directory):
    return train.train(train.configure([*arguments, f"--run_dir={directory}"]))


def go_and_watch(network, directory):
    """Train on CartPole; DRQN's environments start anew every 20 vector steps.

    Returns:
        dict of its arguments, directory, Trainer, updates' agent steps, `first` of each row, rows before each sync, settings read.
    """
    reseed_period = dict(DQN=rollout.RESEED_PERIOD, DRQN=20)[network]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollout, "RESEED_PERIOD", reseed_period)
        updates, rows, syncs = [], [], []
        note, append, init = train.Trainer.note, replay.Replay.append, agent.Agent.__init__
        patch.setattr(train.Trainer, "note", lambda self, scalars: updates.append(self.agent_step) or note(self, scalars))
        patch.setattr(replay.Replay, "append", lambda self, **row: rows.append(row["first"].copy()) or append(self, **row))

        def counting_syncs(self, *args, **kwargs):
            init(self, *args, **kwargs)
            copy, self.sync_target = self.sync_target, lambda: syncs.append(len(rows)) or copy()
        patch.setattr(agent.Agent, "__init__", counting_syncs)
        arguments = [*CARTPOLE, f"--network={network}"]
        config = train.configure([*arguments, f"--run_dir={directory}"])
        config["settings"] = settings = Reads(config["settings"])
        run = train.train(config)
    return dict(arguments=arguments, directory=directory, run=run, updates=updates, first=np.array(rows), syncs=syncs,
                read=set(settings.read), reseed_period=reseed_period)


def at_steps(monkeypatch, calls):
    """Make each `call` of {agent_step: call}, once, after the vector step that reaches its agent step."""
    due, left = train.Trainer._do_what_is_due, dict(calls)

    def do_what_is_due(self):
        due(self)
        for at_step in [at_step for at_step in left if self.agent_step >= at_step]:
            left.pop(at_step)()
    monkeypatch.setattr(train.Trainer, "_do_what_is_due", do_what_is_due)


def stop_at(at_step, arguments, directory):
    """Train until a SIGINT after the vector step that reaches an agent step."""
    with pytest.MonkeyPatch.context() as patch:
        at_steps(patch, {at_step: lambda: signal.raise_signal(signal.SIGINT)})
        return train_run(arguments, directory)


def kill_at(at_step, arguments, directory):
    """Train until an error after the vector step that reaches an agent step; nothing is saved then."""
    def die():
        raise MemoryError("killed")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(MemoryError, match="killed"):
        at_steps(patch, {at_step: die})
        train_run(arguments, directory)


def rows_of(directory, name):
    """Return the rows of a csv, columns of seconds aside."""
    with open(pathlib.Path(directory) / f"{name}.csv") as file:
        return [{column: value for column, value in row.items() if "seconds" not in column} for row in csv.DictReader(file)]


def checkpoint_of(directory):
    return sorted((pathlib.Path(directory) / "checkpoints").glob("[0-9]*"))[-1]


def arrays_of(directory):
    with np.load(checkpoint_of(directory) / "arrays.npz") as arrays:
        return dict(arrays)


def assert_same_runs(one, two, names=("train", "learn", "eval")):
    for name in names:
        np.testing.assert_equal(rows_of(one, name), rows_of(two, name), err_msg=name)
    a, b = arrays_of(one), arrays_of(two)
    assert a.keys() == b.keys() and any(name.startswith("agent/optimizer") for name in a)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
