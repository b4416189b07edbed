"""Short runs of train.py: how to stop and kill them, and how to read and compare what they leave behind."""

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
CARTPOLE = f"""--env=CartPole-v1 --maxsteps={MAXSTEPS} --units=8 --num_envs={NUM_ENVS} --bufflen=240 --batch_size=4
    --unroll=3 --flicker=0.3 --learning_starts={LEARNING_STARTS} --update_period={UPDATE_PERIOD} --target_period=50
    --optimizer=adam --learning_rate=1e-2 --epsilon_decay=linear:200steps --eval_period=100 --eval_episodes=2
    --checkpoint_period=90 --loss=huber --epsilon_end=0.1""".split()

# For tests of the fixture `whole` in which a second network would show nothing new.
ONE_NETWORK = pytest.mark.parametrize("whole", ["DRQN"], indirect=True)


class RecordingDict(dict):
    """A dict that records the keys that were read."""

    def __init__(self, *args):
        super().__init__(*args)
        self.read = set()

    def __getitem__(self, key):
        self.read.add(key)
        return super().__getitem__(key)


def train_run(arguments, directory):
    """Train with these flags in a directory; return the Trainer."""
    return train.train(train.configure([*arguments, f"--run_dir={directory}"]))


def train_watched(network, directory):
    """Train on CartPole and record events; the environments of DRQN get new seeds every 20 vector steps.

    Returns:
        dict(arguments, directory, run: Trainer, updates: agent step of each, first: bool[rows, N] of the replay's rows,
        syncs: rows stored before each copy into the target network, read: settings that were read, reseed_period).
    """
    reseed_period = dict(DQN=rollout.RESEED_PERIOD, DRQN=20 * NUM_ENVS)[network]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollout, "RESEED_PERIOD", reseed_period)
        updates, firsts, syncs = [], [], []
        note, append, init = train.Trainer.note, replay.Replay.append, agent.Agent.__init__

        def recording_note(self, scalars):
            updates.append(self.agent_step)
            note(self, scalars)

        def recording_append(self, **row):
            firsts.append(row["first"].copy())
            append(self, **row)

        def recording_init(self, *args, **kwargs):
            init(self, *args, **kwargs)
            sync_target, self.sync_target = self.sync_target, lambda: syncs.append(len(firsts)) or sync_target()
        patch.setattr(train.Trainer, "note", recording_note)
        patch.setattr(replay.Replay, "append", recording_append)
        patch.setattr(agent.Agent, "__init__", recording_init)
        arguments = [*CARTPOLE, f"--network={network}"]
        config = train.configure([*arguments, f"--run_dir={directory}"])
        config["settings"] = settings = RecordingDict(config["settings"])
        run = train.train(config)
    return dict(arguments=arguments, directory=directory, run=run, updates=updates, first=np.array(firsts), syncs=syncs,
                read=set(settings.read), reseed_period=reseed_period)


def at_steps(monkeypatch, calls):
    """Make each `call` of {agent_step: call} once, after the first vector step at or past its agent step."""
    do_what_is_due, left = train.Trainer._do_what_is_due, dict(calls)

    def with_calls(self):
        do_what_is_due(self)
        for at_step in [at_step for at_step in left if self.agent_step >= at_step]:
            left.pop(at_step)()
    monkeypatch.setattr(train.Trainer, "_do_what_is_due", with_calls)


def stop_at(at_step, arguments, directory):
    """Train until a SIGINT, after the first vector step at or past an agent step; return the Trainer."""
    with pytest.MonkeyPatch.context() as patch:
        at_steps(patch, {at_step: lambda: signal.raise_signal(signal.SIGINT)})
        return train_run(arguments, directory)


def kill_at(at_step, arguments, directory):
    """Train until an error, after the first vector step at or past an agent step; then nothing is saved."""
    def die():
        raise MemoryError("killed")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(MemoryError, match="killed"):
        at_steps(patch, {at_step: die})
        train_run(arguments, directory)


def rows_without_seconds(directory, name):
    """Return the rows of a run's csv without the columns of seconds, which differ between equal runs."""
    with open(pathlib.Path(directory) / f"{name}.csv") as file:
        return [{column: value for column, value in row.items() if "seconds" not in column}
                for row in csv.DictReader(file)]


def checkpoint_of(directory):
    """Return the folder of a run's newest checkpoint."""
    return sorted((pathlib.Path(directory) / "checkpoints").glob("[0-9]*"))[-1]


def arrays_of(directory):
    """Return {name: array} of a run's newest checkpoint."""
    with np.load(checkpoint_of(directory) / "arrays.npz") as arrays:
        return dict(arrays)


def assert_same_runs(one, two, names=("train", "learn", "eval")):
    """Assert that two runs have bit-exact checkpoints, and equal rows in the csvs of these names."""
    for name in names:
        np.testing.assert_equal(rows_without_seconds(one, name), rows_without_seconds(two, name), err_msg=name)
    a, b = arrays_of(one), arrays_of(two)
    assert a.keys() == b.keys() and any(name.startswith("agent/optimizer") for name in a)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
