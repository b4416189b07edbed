"""Windows of rollouts, which cross episodes and start from the acting state: in replay, networks and loss."""

import signal

import keras
import numpy as np
import pytest
from keras import ops

import agent as agents
import choices
import models
import train
from helpers.short_runs import assert_same_runs, kill_at, stop_at, train_run
from helpers.steppers import make_rollout, step_row
from helpers.windows import A, make_agent, make_window
from replay import Replay

numpy = ops.convert_to_numpy
RECURRENT = pytest.mark.parametrize("network", ["DRQN", "DRQN_RNN2", "PQN_LSTM", "PQN_dense_LSTM"])
STACKED = pytest.mark.parametrize("network, history", [
    ("DQN", 3), ("PQN", 2), ("DRQN", 1), ("DRQN_RNN2", 2), ("PQN_LSTM", 3)])


# The replay


def fill(replay, num_rows, seed=0):
    """Write rows with random episodes; return frames, first and states as they were written."""
    rng, told = np.random.default_rng(seed), []
    for row in range(num_rows):
        frame = np.arange(replay.num_envs)[:, None] * 1000.0 + row + np.zeros((1, 2))
        first = (rng.random(replay.num_envs) < 0.3) | (row == 0)
        state = [rng.normal(size=(replay.num_envs, 3)).astype(np.float32) for _ in range(2)]
        replay.append(frame, rng.integers(0, 5, replay.num_envs), rng.normal(size=replay.num_envs),
                      np.full(replay.num_envs, 0.9), first, state)
        told.append((frame, first, state))
    return told


def make_rollouts(num_envs=6, history=1, unroll=4):
    capacity = (unroll + history + 1) * num_envs
    return Replay(capacity, num_envs, (2,), np.float32, history, unroll, "rollout", 0, state_sizes=(3, 3))


@pytest.mark.parametrize("history, unroll", [(4, 1), (1, 10), (3, 5)])
@pytest.mark.parametrize("rollouts", [1, 2, 7])
def test_the_newest_rows_of_every_environment_are_dealt_once_a_pass(history, unroll, rollouts):
    replay = make_rollouts(history=history, unroll=unroll)
    told = fill(replay, rollouts * unroll + 1)
    start, seen = (rollouts - 1) * unroll, []
    for _ in range(3):
        window = replay.sample(2)
        assert window.frames.shape == (2, unroll + history, 2) and window.firsts.shape == (2, unroll + history)
        for b in range(2):
            env = int(window.frames[b, -1, 0] // 1000)
            seen.append(env)
            for k in range(unroll + history):
                row = start + 1 - history + k
                assert window.frames[b, k, 0] == (env * 1000 + row if row >= 0 else 0)
                assert window.firsts[b, k] == (row >= 0 and told[row][1][env])
            np.testing.assert_array_equal(window.mask[b], [not told[start + 1 + k][1][env] for k in range(unroll)])
            for i in range(2):
                np.testing.assert_array_equal(window.state[i][b], told[start][2][i][env])
            assert window.first[b] == told[start][1][env]
    assert sorted(seen) == list(range(6))
    again = [int(env) for _ in range(3) for env in replay.sample(2).frames[:, -1, 0] // 1000]
    assert sorted(again) == list(range(6)) and again != seen  # shuffled anew


def test_a_rollout_is_ready_when_its_last_row_is_there_and_no_longer_when_the_next_begins():
    replay, ready = make_rollouts(unroll=4), []
    for _ in range(10):
        fill(replay, 1)
        ready.append(replay.ready)
    assert [row for row, now in enumerate(ready) if now] == [4, 8]


def test_a_rollout_that_lost_rows_is_not_ready_until_all_rows_of_one_are_there():
    replay, ready = make_rollouts(unroll=4), []
    fill(replay, 6)
    at = np.arange(5, 6) % replay.num_rows
    replay.restore([(5, {name: column[at] for name, column in replay.columns.items()})], 6)
    for _ in range(6, 18):
        fill(replay, 1)
        ready.append(replay.ready)
    assert [row for row, now in enumerate(ready, 6) if now] == [12, 16]  # Row 8 ends a rollout that began at row 4.


def test_what_a_first_row_holds_is_never_read():
    replay = make_rollouts()
    everywhere = np.ones(6, bool)
    for row in range(5):
        garbage = np.full(6, 99.0)
        replay.append(np.full((6, 2), row), garbage, garbage, garbage, everywhere, [np.zeros((6, 3))] * 2)
    window = replay.sample(6)
    assert not window.mask.any() and not (window.action.any() or window.reward.any() or window.discount.any())


# Networks


def crossing_window(history, unroll=5, batch_size=3, seed=0):
    rng = np.random.default_rng(seed)
    frames = rng.normal(size=(batch_size, unroll + history, 3)).astype(np.float32)
    firsts = rng.random((batch_size, unroll + history)) < 0.35
    return frames, firsts


@STACKED
def test_a_window_over_ends_equals_its_episodes_one_by_one(network, history):
    net = make_agent(network, history=history).online_network
    frames, firsts = crossing_window(history, unroll=8)
    rng = np.random.default_rng(1)
    state = [rng.normal(size=s.shape).astype(np.float32) for s in net.initial_state(3)]
    q_values, last = net(frames, state, firsts)
    q_values, crossed = numpy(q_values), 0
    for b in range(3):
        at = [s[b:b + 1] for s in state]
        past = np.zeros((1, history, 3), np.float32)
        for k in range(frames.shape[1]):  # Step by step, as acting does.
            past = np.concatenate([past[:, 1:], frames[b:b + 1, k:k + 1]], axis=1)
            if firsts[b, k]:
                past[:, :-1] = 0
                crossed += k >= history
                at = [0 * s for s in at] if k >= history - 1 else at  # Earlier frames are history alone.
            if k >= history - 1:
                q, at = net(past, at)
                np.testing.assert_allclose(q_values[b, k - history + 1], numpy(q)[0, 0], atol=1e-5)
        for ours, expected in zip(last, at):
            np.testing.assert_allclose(numpy(ours)[b], numpy(expected)[0], atol=1e-5)
    assert crossed > 3


@STACKED
def test_steps_to_burn_in_cross_episodes_too(network, history):
    net = make_agent(network, history=history).online_network
    frames, firsts = crossing_window(history)
    state = net.initial_state(3)
    whole, _ = net(frames, state, firsts)
    burnt, _ = net(frames, state, firsts, burn_in=1)
    keep = slice(1, None)
    np.testing.assert_allclose(numpy(burnt), numpy(whole)[:, keep], atol=1e-5)


@RECURRENT
def test_frames_without_a_first_one_give_what_one_episode_gives(network):
    net = make_agent(network).online_network
    frames, firsts = crossing_window(1)
    state = net.initial_state(3)
    for one, other in zip(net(frames, state, np.zeros_like(firsts)), net(frames, state)):
        for a, b in zip(keras.tree.flatten(one), keras.tree.flatten(other)):
            np.testing.assert_array_equal(numpy(a), numpy(b))


@STACKED
def test_the_gradient_of_a_window_over_an_end_is_that_of_two_windows(network, history, monkeypatch):
    monkeypatch.setitem(choices.OPTIMIZERS, "sgd", (keras.optimizers.SGD, dict(learning_rate=1.0)))
    settings = dict(history=history, optimizer="sgd", clip_norm=0.0, target_network=False, trace_decay=0.6, loss="mse")
    T, cut = 6, 3  # row `cut` of the window, its frame history - 1 + cut, is a first one
    window = make_window(2, T, history)
    firsts = np.zeros((2, T + history), bool)
    firsts[:, history - 1] = firsts[:, history - 1 + cut] = True
    mask = np.ones((2, T), np.float32)
    mask[:, cut - 1] = 0
    frames = window.frames.copy()
    frames[:, :history - 1] = 0

    def weights_after(*windows):
        agent = make_agent(network, **settings)
        before = [numpy(weight) for weight in agent.online_network.weights]
        steps = []
        for one in windows:
            agent = make_agent(network, **settings)
            agent.learn(one)
            steps.append([numpy(w) - b for w, b in zip(agent.online_network.weights, before)])
        return steps

    state = [np.full(s.shape, 0.5, np.float32) for s in make_agent(network, **settings).initial_state(2)]
    crossing = window._replace(frames=frames, mask=mask, first=firsts[:, history - 1], firsts=firsts, state=state)
    part = lambda start, stop, frames: make_window(2, stop - start, history)._replace(
        frames=frames, **{name: getattr(window, name)[:, start:stop] for name in ("action", "reward", "discount")},
        mask=np.ones((2, stop - start), np.float32), first=np.ones(2, bool))
    early = part(0, cut - 1, frames[:, :cut - 1 + history])
    late_frames = frames[:, cut:].copy()
    late_frames[:, :history - 1] = 0
    late = part(cut, T, late_frames)
    both, (one, two) = weights_after(crossing)[0], weights_after(early, late)
    for whole, first, second in zip(both, one, two):  # Means over transitions: 5 in all, 2 and 3.
        np.testing.assert_allclose(whole, (2 * first + 3 * second) / 5, atol=2e-6)


def test_a_window_of_reset_rows_alone_changes_nothing(monkeypatch):
    monkeypatch.setitem(choices.OPTIMIZERS, "sgd", (keras.optimizers.SGD, dict(learning_rate=1.0)))
    agent = make_agent("PQN_LSTM", optimizer="sgd", target_network=False)
    before = [numpy(weight) for weight in agent.online_network.weights]
    window = make_window(2, 1)
    state = [numpy(s) for s in agent.initial_state(2)]
    scalars = agent.learn(window._replace(mask=0 * window.mask, firsts=np.ones((2, 2), bool), state=state))
    assert float(scalars["loss"]) == float(scalars["gradient_norm"]) == 0
    for weight, old in zip(agent.online_network.weights, before):
        np.testing.assert_array_equal(numpy(weight), old)


@RECURRENT
def test_the_stored_state_is_where_a_window_starts(network):
    agent = make_agent(network, target_network=False)
    window = make_window(2, 4)
    rng = np.random.default_rng(0)
    state = [rng.normal(size=s.shape).astype(np.float32) for s in agent.initial_state(2)]
    crossing = window._replace(first=np.zeros(2, bool), firsts=np.zeros((2, 5), bool), state=state)
    _, aux = agents.td_loss(agent.online_network, None, crossing, state, "mse")
    q_values = numpy(agent.online_network(window.frames, state)[0])
    expected = window.reward + window.discount * q_values[:, 1:].max(-1)
    expected -= np.take_along_axis(q_values[:, :-1], window.action[..., None], -1)[..., 0]
    np.testing.assert_allclose(numpy(aux["td_error"]), expected, atol=1e-5)
    assert A == 4 and agent.learn(crossing).keys() == {"loss", "mean_q", "gradient_norm"}


def test_finite_differences_of_the_recurrence_over_an_end():
    """The written-out gradient of an LSTM whose state is zeroed inside, against differences of the loss."""
    core = models.LSTMCore(4, "float32")
    core.build((None, 3))
    rng = np.random.default_rng(0)
    features, first = rng.normal(size=(10, 3)).astype(np.float32), np.array([[0, 0, 1, 0, 0], [1, 0, 0, 0, 1]], bool)
    state, weight = rng.normal(size=(2, 2, 4)).astype(np.float32), rng.normal(size=(10, 4))

    def loss(h):
        outputs, _ = core(features, [h, state[1]], num_steps=5, first=first)
        return float((weight * numpy(outputs)).sum())

    for b in range(2):
        for unit in range(4):
            step = np.zeros_like(state[0])
            step[b, unit] = 1e-2
            slope = (loss(state[0] + step) - loss(state[0] - step)) / 2e-2
            assert (slope == 0) == (b == 1), "the second window begins an episode, so its stored state does not matter"


# What acting stores


def test_rows_hold_the_state_before_their_frame():
    stepper, rng = make_rollout(length=(2, 5)), np.random.default_rng(0)
    count = np.zeros(3)
    for _ in range(30):
        row, _ = step_row(stepper, rng)
        np.testing.assert_array_equal(row["state"][0][:, 0], count)  # The recorder's state counts frames of an episode.
        count = np.where(row["first"], 1, count + 1)


# Runs

ROLLOUT = """--env=CartPole-v1 --num_envs=4 --unroll=5 --batch_size=2 --update_period=5 --units=8 --target_period=0
    --trace_decay=0.65 --learning_starts=0 --optimizer=adam --learning_rate=1e-2 --loss=mse --flicker=0.3 --maxsteps=400
    --epsilon_decay=linear:200steps --eval_period=150 --eval_episodes=2 --checkpoint_period=90""".split()


@pytest.mark.parametrize("network", ["PQN", "PQN_LSTM"])
def test_a_run_of_rollouts_stopped_and_killed_anywhere_equals_one_that_was_not(network, tmp_path):
    arguments = [*ROLLOUT, f"--network={network}"]
    run = train_run(arguments, tmp_path / "whole")
    assert run.updates == pytest.approx(run.agent_step // 5, abs=4) and run.agent.target_network is None
    assert run.replay.num_rows == 5 + run.settings["history"] + 1
    for at_step in (37, 120, 122):  # in the middle of a rollout
        stop_at(at_step, arguments, tmp_path / "pieces")
    kill_at(301, arguments, tmp_path / "pieces")
    train_run(arguments, tmp_path / "pieces")
    assert_same_runs(tmp_path / "whole", tmp_path / "pieces")


def test_updates_between_which_a_run_was_stopped_are_made_up_for(tmp_path, monkeypatch):
    """A signal amid a rollout's updates: they are finished, then the run saves."""
    arguments, steps = [*ROLLOUT, "--network=PQN_LSTM"], []
    train_run(arguments, tmp_path / "whole")
    note = train.Trainer.note

    def raise_once(self, scalars):
        note(self, scalars)
        steps.append(self.agent_step)
        if len(steps) > 9 and steps.count(self.agent_step) == 2:  # the second update of a rollout
            signal.raise_signal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(train.Trainer, "note", raise_once)
        train_run(arguments, tmp_path / "pieces")
    assert steps.count(steps[-1]) > 2 and len(steps) < 16
    train_run(arguments, tmp_path / "pieces")
    assert_same_runs(tmp_path / "whole", tmp_path / "pieces")
