"""Schedules of epsilon and of the learning rate: functions of a run's counts, so that a checkpoint has nothing of them to store.

A schedule is one value, `name:<count><unit>[:value]`, and its unit says what is counted.
"""

import functools
import math
import re

import keras

UNITS = dict(steps="agent steps", ep="complete episodes", u="updates")


def epsilon(epsilon_begin, epsilon_end, epsilon_decay, epsilonStep=None):
    """Return epsilon as a function of {unit: count}.

    Args:
        epsilon_begin, epsilon_end: at count 0, and what it comes to.
        epsilon_decay: `linear:<N><unit>`: epsilon_end is reached after N; `exp:<N><unit>`: the distance to epsilon_end falls by a factor
            of e in N (the DQN tutorial of PyTorch). With an end of 0 that is also a factor of d every M: N = -M / ln d.
        epsilonStep: instead of epsilon_decay, a decrement per agent step.

    Raises:
        ValueError: it is no decay, in one sentence.
    """
    if epsilon_begin < epsilon_end:
        raise ValueError(f"--epsilon_begin={epsilon_begin} is below --epsilon_end={epsilon_end}; expected a decay")
    distance = epsilon_begin - epsilon_end
    if epsilonStep is not None:
        return lambda counts: max(epsilon_end, epsilon_begin - epsilonStep * counts["steps"])
    name, num, unit = _parse("epsilon_decay", epsilon_decay, ("steps", "ep"), ("linear:1000000steps", "exp:9975ep"))
    if name == "exp":
        return lambda counts: epsilon_end + distance * math.exp(-counts[unit] / num)
    return lambda counts: max(epsilon_end, epsilon_begin - distance / num * counts[unit])


def learning_rate(learning_rate, lr_schedule):
    """Return the learning rate as a function of {unit: count}, by Keras' own schedules.

    Args:
        learning_rate: at count 0.
        lr_schedule: None: constant; `step:<N><unit>:<factor>`: times the factor after every N; `cosine_restarts:<N><unit>:<floor>`: half a
            cosine to the floor in N, then again from the top (Loshchilov & Hutter 2017).

    Raises:
        ValueError: it is no schedule, in one sentence.
    """
    if lr_schedule is None:
        return lambda counts: learning_rate
    name, num, unit, value = _parse("lr_schedule", lr_schedule, ("u", "ep"), ("constant", "step:25ep:0.8", "cosine_restarts:10ep:0.001"))
    given = f"--lr_schedule={lr_schedule} was given"
    if name == "step":
        if not 0 < value <= 1:
            raise ValueError(f"{given}; expected a factor above 0 and at most 1")
        schedule = keras.optimizers.schedules.ExponentialDecay(learning_rate, num, value, staircase=True)
    else:
        if not 0 <= value <= learning_rate:
            raise ValueError(f"{given}; expected a floor between 0 and --learning_rate={learning_rate}")
        schedule = keras.optimizers.schedules.CosineDecayRestarts(learning_rate, num, t_mul=1.0, alpha=value / learning_rate)

    @functools.lru_cache(maxsize=1)  # An episode lasts many updates.
    def rate(count):
        with keras.device("cpu:0"):  # Reading it back from a GPU would wait for the updates before it.
            return float(schedule(count))
    return lambda counts: rate(counts[unit])


def _parse(flag, text, units, examples):
    """Return name, count and unit of a schedule, and its value where it has one; each name has an example."""
    example = next((e for e in examples if ":" in e and e.partition(":")[0] == text.partition(":")[0]), None)
    if example is None:
        raise ValueError(f"--{flag}={text} is no schedule; expected one such as {', '.join(examples)}")
    valued = example.count(":") == 2
    match = re.fullmatch(rf"(\w+):([1-9]\d*)({'|'.join(units)})" + r":(\d*\.?\d+(?:e-?\d+)?)" * valued, text)
    if not match:
        meanings = " or ".join(f"{unit} ({UNITS[unit]})" for unit in units)
        raise ValueError(f"--{flag}={text} was given; expected a positive count with its unit, {meanings}"
                         f"{', and a number' * valued}, as in {example}")
    name, num, unit, *value = match.groups()
    return name, int(num), unit, *map(float, value)
