"""Evaluation: one episode per environment, with seeds that training does not use."""

from launch import build
from launch.settings import configure

import numpy as np
import pytest

import evaluation
from environments import catalogue
from helpers.steppers import Recorder, make_rollout


def evaluate_recorder(envs, seed=1, number=1, epsilon=0.1, history=2, agent=None):
    """Return the episodes of evaluation `number`, played by a Recorder."""
    return evaluation.evaluate(agent or Recorder(len(envs.action_names)), envs, history, epsilon, seed, number)


def test_evaluation_takes_exactly_one_episode_from_each_environment():
    agent, envs = Recorder(), make_rollout(num_envs=6, length=(2, 9)).envs
    episodes = evaluate_recorder(envs, agent=agent)
    lengths = [episode["length"] for episode in episodes]
    assert len(episodes) == 6 and len(set(lengths)) > 2
    assert len(agent.seen) == max(lengths)  # Evaluation stops when the longest episode has ended.
    for episode in episodes:  # The return is the sum of 10 t + action over t = 2 .. length + 1.
        base = 10 * sum(range(2, episode["length"] + 2))
        assert base <= episode["episode_return"] <= base + 2 * episode["length"]


def test_the_agent_sees_each_evaluated_episode_from_its_first_frame_on():
    agent, envs = Recorder(), make_rollout(num_envs=2, length=4).envs
    evaluate_recorder(envs, agent=agent, history=3)
    assert [seen["frames"][0, :, 0].tolist() for seen in agent.seen] == [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4]]
    assert [seen["state"][0, 0] for seen in agent.seen] == [1, 2, 3, 4]


def test_evaluation_is_a_function_of_seed_and_number():
    envs = make_rollout(num_envs=4, length=(2, 20), flicker=0.5).envs
    first = evaluate_recorder(envs, 1, 3)
    others = [evaluate_recorder(envs, 1, 4), evaluate_recorder(envs, 2, 3)]
    assert evaluate_recorder(envs, 1, 3) == first  # Earlier evaluations make no difference.
    assert evaluate_recorder(make_rollout(num_envs=4, length=(2, 20), flicker=0.5).envs, 1, 3) != others[0]
    assert first not in others and others[0] != others[1]


def test_evaluation_counts_raw_rewards():
    envs = catalogue.make_envs("Skiing", 2, frame_skip=4, max_episode_frames=40, noops=0)
    for episode in evaluate_recorder(envs, history=1):  # An agent step costs about 7 hundredths of a second.
        assert episode["length"] == 10 and -80 < episode["episode_return"] < -50


def test_repeated_groups_have_the_seeds_and_the_random_actions_of_the_first_group():
    agent, envs = Recorder(), make_rollout(num_envs=6, length=(2, 9)).envs
    episodes = evaluation.evaluate(agent, envs, 1, 1.0, 1, 1, repeats=3)
    assert episodes[:2] == episodes[2:4] == episodes[4:] and episodes[0] != episodes[1]


def test_an_episode_is_the_same_however_many_are_played_beside_it():
    settings = configure(["--units=4", "--env=CartPole-v1", "--network=DRQN", "--flicker=0.5"])["settings"]

    def play(num_episodes, policy, **others):
        envs = build.make_envs(settings, num_episodes)
        agent = build.make_agent(settings, envs) if policy == "agent" else evaluation.RandomPlay(2)
        return evaluation.evaluate(agent, envs, 1, 0.5, 7, 0, **others)

    for policy in ("agent", "random"):
        many = play(12, policy)
        assert len({episode["length"] for episode in many}) > 6
        assert [play(n, policy) for n in (1, 2, 5)] == [many[:1], many[:2], many[:5]]
        assert play(12, policy, watched=9) == many


def test_the_watched_episode_is_the_one_of_that_number():
    envs, seen = make_rollout(num_envs=4, length=(2, 20), flicker=0.5).envs, []
    episodes = evaluate_recorder(envs)
    steps = lambda watched: evaluation.evaluate(
        Recorder(), envs, 2, 0.1, 1, 1, watched=watched,
        watch=lambda frames, state, first, actions, episode_return, length: seen.append((watched, length)))
    assert [steps(watched) for watched in range(4)] == [episodes] * 4
    assert seen == [(i, t) for i, episode in enumerate(episodes) for t in range(episode["length"])]


@pytest.mark.parametrize("repeats", [1, 3])
def test_random_play_does_what_an_agent_does_at_an_epsilon_of_1(repeats):
    envs = make_rollout(num_envs=6, length=(2, 30), flicker=0.5).envs
    play = lambda player: evaluation.evaluate(player, envs, 1, 1.0, 5, 0, repeats=repeats)
    settings = configure(["--units=4", "--env=CartPole-v1", "--network=DRQN"])["settings"]
    assert play(evaluation.RandomPlay(len(envs.action_names))) == play(build.make_agent(settings, envs))


def test_a_glimpse_holds_the_first_steps_of_an_evaluation_and_does_not_change_it():
    class TellingRecorder(Recorder):
        """A Recorder whose Q-values are the number of the newest frame."""

        def q_values(self, frames, state, first):
            return frames[:, -1, :2], state

    envs = make_rollout(num_envs=2, length=(5, 9)).envs
    plain = evaluate_recorder(envs, agent=TellingRecorder())
    glimpse = evaluation.Glimpse(TellingRecorder())
    assert evaluation.evaluate(TellingRecorder(), envs, 2, 0.1, 1, 1, watch=glimpse) == plain
    length = plain[0]["length"]
    assert [frame[0] for frame in glimpse.frames] == list(range(1, length + 1))
    expected = [[[t, t]] * 2 for t in range(1, length + 1, glimpse.Q_PERIOD)]
    assert [q_values.tolist() for q_values in glimpse.q_values] == expected
    glimpse = evaluation.Glimpse(TellingRecorder())
    glimpse.STEPS = 3
    evaluation.evaluate(TellingRecorder(), envs, 2, 0.1, 1, 1, watch=glimpse)
    assert len(glimpse.frames) == 3 and len(glimpse.q_values) == 1


def test_episodes_are_broken_off_where_they_are_asked_to_stop():
    envs, asked = make_rollout(num_envs=2, length=(4, 9), seed=1).envs, []

    def stop_at_three(num_steps, playing):
        asked.append((num_steps, playing.tolist()))
        return num_steps == 3

    agent = Recorder()
    assert evaluation.evaluate(agent, envs, 2, 0.1, 1, 1, stop=stop_at_three) is None
    assert asked == [(t, [True, True]) for t in range(4)] and len(agent.seen) == 3


def test_a_stop_is_asked_until_the_last_episode_has_ended():
    asked = []
    lengths = [episode["length"] for episode in evaluation.evaluate(
        Recorder(), make_rollout(num_envs=3, length=(2, 9)).envs, 2, 0.1, 1, 1,
        stop=lambda num_steps, playing: asked.append((num_steps, playing.tolist())))]
    assert len(set(lengths)) > 1
    assert asked == [(t, [t < length for length in lengths]) for t in range(max(lengths))]


def test_progress_counts_the_episodes_that_have_ended_in_plain_lines(monkeypatch, capsys):
    monkeypatch.setattr(evaluation.Progress, "PERIOD", 0)
    with evaluation.Progress("playing") as progress:
        episodes = evaluation.evaluate(Recorder(), make_rollout(num_envs=3, length=(2, 9)).envs, 2, 0.1, 1, 1,
                                       stop=progress)
    lengths = [episode["length"] for episode in episodes]
    assert capsys.readouterr().err.splitlines() == [
        f"playing: {t:,} agent steps, {sum(t >= length for length in lengths)} of 3 episodes ended"
        for t in range(max(lengths))]


def test_progress_says_little_where_it_is_no_terminal(capsys):
    with evaluation.Progress("playing") as progress:
        evaluate_recorder(make_rollout(num_envs=3).envs)
        assert not progress(1200, np.array([True, False]))
    assert capsys.readouterr().err == ""
