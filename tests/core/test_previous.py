"""Networks that see the action and the reward before: acting, windows and evaluations show them the same."""

import numpy as np
import pytest
from keras import ops

import evaluation
import models
import rollout
from environments import catalogue
from helpers import counting
from helpers.steppers import Recorder, make_rollout
from helpers.windows import A, make_agent, make_window
from replay import Replay

numpy = ops.convert_to_numpy


def rollout_of(agent, num_envs=2, history=1, **counting_settings):
    """Return a Rollout of counting environments with a real agent."""
    envs = catalogue.make_envs(counting.register(**counting_settings), num_envs, frame_skip=1, max_episode_frames=0)
    return rollout.Rollout(envs, agent, history, 0.9, "none", 1)


def act_and_store(stepper, replay, num_rows, epsilon=0.5):
    """Act as training does; return Q-values [rows, N, A] of acting."""
    told, q_values, rng = [], stepper.agent.q_values, np.random.default_rng(0)
    stepper.agent.q_values = lambda *inputs: (told.append(q_values(*inputs)) or told[-1])
    try:
        replay.append(**stepper.reset())
        for _ in range(num_rows - 1):
            stepper.send(stepper.act(epsilon, rng))
            replay.append(**stepper.receive()[0])
    finally:
        del stepper.agent.q_values
    return np.array([q for q, _ in told])


@pytest.mark.parametrize("history", [1, 3])
def test_step_by_step_equals_the_unroll_of_a_window(history):
    agent = make_agent("R2D2", history=history, num_actions=3)
    replay = Replay(200, 2, (3,), np.float32, history, 6, "episode", 0, sees_previous=True)
    acted = act_and_store(rollout_of(agent, history=history, length=(3, 9)), replay, 60)
    starts = replay.columns["start"][:50]
    for env in range(2):
        for row in np.unique(starts[:, env]):
            window = replay.windows(np.array([row]), np.array([env]))
            q_values, _ = agent.online_network(window.frames, agent.online_network.initial_state(1),
                                               previous=window.previous)
            length = int(window.mask.sum())
            np.testing.assert_allclose(numpy(q_values)[0, :length], acted[row:row + length, env], atol=1e-5)
    assert len(np.unique(starts[:, 0])) > 4


@pytest.mark.parametrize("sample, begins", [("episode", 1), ("rollout", 2)])
def test_a_window_over_an_end_starts_again_without_an_action_or_a_reward(sample, begins):
    """Rewards are 10 t + action; an episode has three steps."""
    agent = make_agent("R2D2", num_actions=3)
    replay = Replay(18, 2, (3,), np.float32, 1, 7, sample, 0, state_sizes=(8, 8) if sample == "rollout" else (),
                    sees_previous=True)
    act_and_store(rollout_of(agent, length=3), replay, 8)
    window = replay.windows(np.array([0, 0]), np.array([0, 1]))
    for b in range(2):
        actions = replay.columns["action"][:8, b]
        expected = [[a + 1, np.tanh(10 * t + a)] if t > 1 else [0, 0] for t, a in zip([1, 2, 3, 4] * 2, actions)]
        expected[4 * begins:] = [[0, 0]] * (8 - 4 * begins)  # outside of the episode
        np.testing.assert_allclose(window.previous[b], expected, rtol=1e-6)


def test_what_came_before_reaches_its_own_step_and_later_ones():
    network = make_agent("R2D2").online_network
    window, state = make_window(2, 5), network.initial_state(2)
    previous = np.tile(np.float32([2, 0.5]), (2, 6, 1))
    plain = numpy(network(window.frames, state, previous=previous)[0])
    for place, value in ((0, 3), (1, -0.5)):  # another action, another reward
        changed = previous.copy()
        changed[:, 2, place] = value
        differs = (numpy(network(window.frames, state, previous=changed)[0]) != plain).any(axis=(0, 2))
        assert differs.tolist() == [False] * 2 + [True] * 4


def test_no_action_and_no_reward_are_no_input():
    network = make_agent("R2D2").online_network
    window, state = make_window(2, 5), network.initial_state(2)
    nothing = network(window.frames, state, previous=np.zeros((2, 6, 2), np.float32))
    for one, other in zip((nothing[0], *nothing[1]), (lambda q, s: (q, *s))(*network(window.frames, state))):
        np.testing.assert_allclose(numpy(one), numpy(other), atol=1e-6)


def test_the_acting_state_holds_the_action_and_the_squashed_reward():
    agent = make_agent("R2D2")
    state, frames = agent.initial_state(3), np.ones((3, 1, 3), np.float32)
    assert [s.shape for s in state] == [(3, 8), (3, 8), (3, 2)]
    actions, state = agent.act(frames, state, np.ones(3, bool), 1.0, np.random.default_rng(0))
    agent.see_reward(state, np.array([0, -2, 1e6]))
    np.testing.assert_allclose(state[2], np.stack([actions + 1, np.tanh([0, -2, 1e6])], axis=1), rtol=1e-6)
    assert make_agent("DRQN").see_reward([], np.ones(3)) is None


def test_an_evaluation_shows_the_environments_rewards():
    agent, envs = Recorder(), make_rollout(num_envs=1, length=3).envs
    (episode,) = evaluation.evaluate(agent, envs, 1, 0.0, 1, 1)
    counts, rewards = zip(*agent.rewards)
    assert [count[0] for count in counts] == [1, 2, 3] and sum(r[0] for r in rewards) == episode["episode_return"]


def test_an_update_learns_from_what_came_before():
    agent, window = make_agent("R2D2", optimizer="adam"), make_window(4, 5)
    before = agent.get_state()
    agent.learn(window._replace(previous=np.tile(np.float32([2, 0.5]), (4, 6, 1))))
    after = agent.get_state()
    moved = [name for name in before if name.startswith("online") and (before[name] != after[name]).any()]
    assert len(moved) == len(agent.online_network.trainable_variables)


# The dueling head


def test_the_dueling_head_by_hand():
    """A value of 7, advantages of 1, 2 and 6, whose mean is 3."""
    head = models.DuelingHead(3, 2)
    head.build((None, 4))
    value, advantages = head.streams
    value.set_weights([np.zeros((4, 2)), np.zeros(2), np.zeros((2, 1)), np.full(1, 7)])
    advantages.set_weights([np.zeros((4, 2)), np.zeros(2), np.zeros((2, 3)), np.array([1, 2, 6])])
    np.testing.assert_allclose(numpy(head(np.ones((5, 4), np.float32))), [[5, 6, 10]] * 5)


def test_the_mean_of_a_dueling_heads_q_values_is_its_value():
    head, outputs = models.DuelingHead(A, 8), np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    q_values = numpy(head(outputs))
    np.testing.assert_allclose(q_values.mean(axis=1), numpy(head.streams[0](outputs))[:, 0], atol=1e-6)
    spread = numpy(head.streams[1](outputs))
    np.testing.assert_allclose(np.diff(q_values), np.diff(spread), atol=1e-5)


def test_the_number_of_r2d2s_parameters():
    """An LSTM over 3136 features, 18 actions and a reward; two streams of 512 units."""
    network = models.QNetwork("R2D2", (84, 84), 18, 1, 512)
    convolutions = 8 * 8 * 32 + 32 + 4 * 4 * 32 * 64 + 64 + 3 * 3 * 64 * 64 + 64
    lstm = (3136 + 18 + 1 + 512 + 1) * 4 * 512
    head = 2 * (512 + 1) * 512 + (512 + 1) * (1 + 18)
    assert sum(int(np.prod(w.shape)) for w in network.trainable_variables) == convolutions + lstm + head
