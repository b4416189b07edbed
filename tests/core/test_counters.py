"""The counts of a run by hand: limits, means of learn.csv, losses that are not finite, and going on."""

import json
import math
import time

from launch.settings import configure

import keras
import pytest

from counters import Counters
from helpers.short_runs import CARTPOLE


def make_counters(*arguments):
    """Return the Counters of a short run on CartPole with these flags beside others."""
    return Counters(configure([*CARTPOLE, *arguments])["settings"])


def scalars_of(loss, mean_q, gradient_norm):
    """Return the scalars of an update as tensors, as the agent returns them."""
    values = dict(loss=loss, mean_q=mean_q, gradient_norm=gradient_norm)
    return {name: keras.ops.convert_to_tensor(value) for name, value in values.items()}


def test_a_new_run_has_counted_nothing():
    counters = make_counters()
    assert counters.counts == dict(steps=0, ep=0, u=0)
    assert (counters.best, counters.limit, counters.frames, counters.epsilon(counters.counts)) == (None, None, 0, 1.0)


def test_schedules_count_agent_steps_episodes_and_updates():
    schedules = ["--epsilon_decay=exp:3ep", "--epsilon_end=0", "--lr_schedule=step:5u:0.5"]
    counters = make_counters(*schedules, "--frame_skip=3")
    counters.agent_step, counters.updates, counters.episodes = 70, 12, 6
    assert counters.counts == dict(steps=70, ep=6, u=12) and counters.frames == 210
    assert counters.epsilon(counters.counts) == pytest.approx(math.exp(-2))  # 6 episodes, in periods of 3
    assert counters.learning_rate(counters.counts) == pytest.approx(0.01 * 0.5**2)  # 12 updates, in periods of 5


@pytest.mark.parametrize("agent_step, episodes, limit", [
    (299, 6, None), (300, 6, "maxsteps"), (303, 6, "maxsteps"), (10, 7, "maxepisodes"), (10, 9, "maxepisodes")])
def test_a_run_ends_at_maxsteps_or_at_maxepisodes(agent_step, episodes, limit):
    counters = make_counters("--maxepisodes=7")  # CARTPOLE has --maxsteps=300.
    counters.agent_step, counters.episodes = agent_step, episodes
    assert counters.limit == limit


def test_a_row_of_learn_csv_has_the_means_since_the_last_row():
    counters = make_counters()
    counters.agent_step = 100
    for update in [(1.0, 5.0, 0.25), (2.0, 7.0, 0.75), (6.0, 9.0, 0.5)]:
        counters.note(scalars_of(*update))
    counters.phases.update(act=0.12345678, learn=2)
    values, phases = counters.summarise()
    assert values == dict(loss=3.0, mean_q=7.0, gradient_norm=0.5, epsilon=pytest.approx(1 - 0.9 * 100 / 200),
                          learning_rate=0.01)
    assert phases == dict(environment=0, act=0.1235, sample=0, learn=2)
    counters.note(scalars_of(4.0, 4.0, 4.0))
    values, phases = counters.summarise()
    assert (values["loss"], values["mean_q"], set(phases.values())) == (4.0, 4.0, {0})


def test_a_row_without_updates_has_nan_for_what_updates_measure():
    values, _ = make_counters().summarise()
    assert [name for name, value in values.items() if math.isnan(value)] == ["loss", "mean_q", "gradient_norm"]


@pytest.mark.parametrize("update", [(math.nan, 0, 1), (math.inf, 0, 1), (1, 0, math.nan), (1, 0, math.inf)])
@pytest.mark.parametrize("check", ["check_finite", "summarise"])
def test_a_loss_or_gradient_that_is_not_finite_is_refused_between_two_agent_steps(update, check):
    counters = make_counters()
    counters.agent_step = 80
    counters.note(scalars_of(1.0, math.nan, 1.0))  # Q-values alone are not checked.
    counters.check_finite()
    counters.agent_step = 120
    counters.note(scalars_of(*map(float, update)))
    counters.note(scalars_of(1.0, 0.0, 1.0))
    with pytest.raises(FloatingPointError, match="non-finite between agent steps 80 and 120; .* lower --learning_rate"):
        getattr(counters, check)()


def test_restored_counters_go_on_as_the_original_from_json(monkeypatch):
    seconds = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: seconds[0])
    one = make_counters()
    one.agent_step, one.updates, one.evaluations, one.episodes, one.best = 90, 4, 1, 4, 12.5
    one.returns.extend([9.0, 11.0])
    one.note(scalars_of(1.0, 2.0, 3.0))
    one.check_finite()
    one.phases["act"] = 0.5
    seconds[0] = 1060.0
    state = json.loads(json.dumps(one.get_counts()))
    assert state["seconds"] == 60
    seconds[0] = 5000.0
    two = make_counters()
    two.set_counts(state)
    seconds[0] = 5005.0
    assert (two.seconds, two.best, two.evaluations, list(two.returns)) == (65, 12.5, 1, [9, 11])
    assert two.counts == one.counts == dict(steps=90, ep=4, u=4)
    for counters in (one, two):
        counters.agent_step = 95
        counters.note(scalars_of(3.0, 4.0, 5.0))
    assert two.summarise() == one.summarise()
    two.note(scalars_of(math.nan, 0.0, 0.0))
    with pytest.raises(FloatingPointError, match="between agent steps 95 and 95"):
        two.check_finite()


def test_means_of_training_returns_are_over_the_last_100_episodes():
    counters = make_counters()
    counters.returns.extend(range(150))
    assert counters.vital_signs()["mean_return"] == "99.5"  # of 50 to 149


def test_the_progress_bar_shows_the_newest_loss_and_keeps_it_after_a_row():
    counters = make_counters()
    assert counters.vital_signs() == dict(epsilon="1.000", loss="-", mean_return="-")
    counters.agent_step = 100
    counters.note(scalars_of(1.0, 0.0, 0.0))
    counters.note(scalars_of(0.12345, 0.0, 0.0))
    assert counters.vital_signs() == dict(epsilon="0.550", loss="0.123", mean_return="-")
    counters.summarise()
    assert counters.vital_signs()["loss"] == "0.123"
    limited = make_counters("--maxepisodes=1000")
    limited.episodes = 12
    assert limited.vital_signs()["episodes"] == "12/1,000"
