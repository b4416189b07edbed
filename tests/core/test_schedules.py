"""Schedules of epsilon and of the learning rate agree with computations by hand."""

import backends  # noqa: F401 - first: it imports the backend quietly

import keras
import pytest

import schedules


def values_at(schedule, unit, counts):
    """Return a schedule's values at these counts of a unit. All other units have counted to a million, to no effect."""
    return [schedule(dict.fromkeys(schedules.UNITS, 10**6) | {unit: count}) for count in counts]


@pytest.mark.parametrize("decay, unit", [
    (dict(epsilon_decay="linear:100steps"), "steps"), (dict(epsilon_decay="linear:100ep"), "ep"),
    (dict(epsilon_decay=None, epsilonStep=0.009), "steps")])
def test_epsilon_decays_linearly_from_0_on(decay, unit):
    epsilon = schedules.epsilon(1.0, 0.1, **decay)
    assert values_at(epsilon, unit, (0, 50, 99, 100, 10**7)) == pytest.approx([1.0, 0.55, 0.109, 0.1, 0.1])


def test_a_step_of_zero_never_decays():
    assert schedules.epsilon(0.3, 0.1, None, 0.0)(dict(steps=10**7)) == 0.3


def test_the_exponential_decay_of_bhowmik():
    """.05 + .85 exp(-step / 200): exp(-1) is .36788, exp(-5) .0067379."""
    epsilon = schedules.epsilon(0.9, 0.05, "exp:200steps")
    expected = [0.9, 0.362698, 0.055727, 0.05]
    assert values_at(epsilon, "steps", (0, 200, 1000, 10**6)) == pytest.approx(expected, abs=1e-6)


def test_the_multiplicative_decay_of_untitledgrub():
    """Theirs is multiplied by .995 after every 50 games: .995^300 = .2223 at 15,000 games.

    Ours agrees there, and lies below their stairs between, by .5% at most.
    """
    epsilon = schedules.epsilon(1.0, 0.0, "exp:9975ep")
    games = range(0, 15_001, 50)
    theirs = [0.995 ** (game // 50) for game in games]
    assert values_at(epsilon, "ep", games) == pytest.approx(theirs, rel=2e-5)
    assert values_at(epsilon, "ep", [15_000]) == pytest.approx([0.2223], abs=1e-4)
    assert 0.995 < values_at(epsilon, "ep", [99])[0] / 0.995 < 1


def test_each_environment_has_an_epsilon_of_its_own():
    """.4^1, .4^(1 + 7/3), .4^(1 + 14/3), .4^8."""
    epsilon = schedules.epsilon(1.0, 0.1, "apex", num_envs=4)
    for counts in (dict(steps=0), dict(steps=10**7)):
        assert epsilon(counts).tolist() == pytest.approx([0.4, 0.0471556, 0.00555913, 0.00065536], rel=1e-4)
    assert schedules.epsilon(1.0, 0.1, "apex")({}).tolist() == [0.4]


def test_a_learning_rate_without_a_schedule_stays():
    assert schedules.learning_rate(2.5e-4, None)({}) == 2.5e-4


@pytest.mark.parametrize("unit", ["u", "ep"])
def test_the_step_schedule_of_kalbag(unit):
    rate = schedules.learning_rate(0.005, f"step:25{unit}:0.8")
    expected = [0.005, 0.005, 0.004, 0.004, 0.0032, 0.005 * 0.8**10]
    assert values_at(rate, unit, (0, 24, 25, 49, 50, 250)) == pytest.approx(expected)


@pytest.mark.parametrize("unit", ["u", "ep"])
def test_the_cosine_with_restarts_of_kalbag(unit):
    """.001 + .0005 (1 + cos(pi count / 10)): the cosine of 18 degrees is .951057; at 10 the cosine begins again."""
    rate = schedules.learning_rate(0.002, f"cosine_restarts:10{unit}:0.001")
    expected = [0.002, 0.00197553, 0.0015, 0.002, 0.00197553, 0.0015]
    assert values_at(rate, unit, (0, 1, 5, 10, 11, 25)) == pytest.approx(expected)
    assert min(values_at(rate, unit, range(10))) == pytest.approx(0.00102447, abs=1e-8)


@pytest.mark.parametrize("name", ["step", "cosine_restarts"])
def test_rates_are_those_of_keras(name):
    given = keras.optimizers.schedules
    theirs = dict(step=given.ExponentialDecay(0.004, 7, 0.25, staircase=True),
                  cosine_restarts=given.CosineDecayRestarts(0.004, 7, t_mul=1.0, alpha=0.25))[name]
    rate = schedules.learning_rate(0.004, f"{name}:7u:{dict(step=0.25, cosine_restarts=0.001)[name]}")
    rates = [rate(dict(u=count)) for count in range(30)]
    assert rates == pytest.approx([float(theirs(count)) for count in range(30)], rel=1e-5)
    assert {type(value) for value in rates} == {float}
