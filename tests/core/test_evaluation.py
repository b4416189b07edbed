"""Evaluation: one episode per environment, on seeds of its own."""


import evaluation
from environments import catalogue
from helpers.steppers import Recorder, make_rollout


def evaluate(envs, seed=1, number=1, epsilon=0.1, history=2, agent=None):
    return evaluation.evaluate(agent or Recorder(len(envs.action_names)), envs, history, epsilon, seed, number)


def test_evaluation_takes_exactly_one_episode_from_each_environment():
    agent, envs = Recorder(), make_rollout(num_envs=6, length=(2, 9)).envs
    episodes = evaluate(envs, agent=agent)
    lengths = [episode["length"] for episode in episodes]
    assert len(episodes) == 6 and len(set(lengths)) > 2
    assert len(agent.seen) == max(lengths)  # And stops when the longest has ended.
    for episode in episodes:  # The sum of 10 t + action over t = 2 .. length + 1.
        base = 10 * sum(range(2, episode["length"] + 2))
        assert base <= episode["episode_return"] <= base + 2 * episode["length"]


def test_evaluation_shows_the_agent_each_episode_from_its_first_frame_on():
    agent, envs = Recorder(), make_rollout(num_envs=2, length=4).envs
    evaluate(envs, agent=agent, history=3)
    assert [seen["frames"][0, :, 0].tolist() for seen in agent.seen] == [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4]]
    assert [seen["state"][0, 0] for seen in agent.seen] == [1, 2, 3, 4]


def test_evaluation_is_a_function_of_seed_and_number():
    envs = make_rollout(num_envs=4, length=(2, 20), flicker=0.5).envs
    first = evaluate(envs, 1, 3)
    others = [evaluate(envs, 1, 4), evaluate(envs, 2, 3)]
    assert evaluate(envs, 1, 3) == first  # Whatever came before.
    assert evaluate(make_rollout(num_envs=4, length=(2, 20), flicker=0.5).envs, 1, 3) != others[0]
    assert first not in others and others[0] != others[1]


def test_evaluation_counts_raw_rewards():
    envs = catalogue.make_envs("Skiing", 2, frame_skip=4, max_episode_frames=40, noops=0)
    for episode in evaluate(envs, history=1):  # About 7 hundredths of a second per agent step.
        assert episode["length"] == 10 and -80 < episode["episode_return"] < -50


def test_a_glimpse_of_an_evaluation_is_of_its_first_steps_and_changes_nothing():
    class Agent(Recorder):
        def q_values(self, frames, state, first):
            return frames[:, -1, :2], state  # "Q-values" that tell the frame

    envs = make_rollout(num_envs=2, length=(5, 9)).envs
    plain = evaluate(envs, agent=Agent())
    glimpse = evaluation.Glimpse(Agent())
    assert evaluation.evaluate(Agent(), envs, 2, 0.1, 1, 1, watch=glimpse) == plain
    length = plain[0]["length"]
    assert [frame[0] for frame in glimpse.frames] == list(range(1, length + 1))
    assert [q.tolist() for q in glimpse.q_values] == [[[t, t]] * 2 for t in range(1, length + 1, glimpse.Q_PERIOD)]
    glimpse = evaluation.Glimpse(Agent())
    glimpse.STEPS = 3
    evaluation.evaluate(Agent(), envs, 2, 0.1, 1, 1, watch=glimpse)
    assert len(glimpse.frames) == 3 and len(glimpse.q_values) == 1
