"""Schedules of epsilon and of the learning rate: functions of a run's counts, so that checkpoints need not store them.

A schedule is written as one value, `name:<count><unit>[:value]`. Its unit tells what is counted.
"""

import math
import re
from collections.abc import Callable, Mapping

import numpy as np

APEX = "apex"  # the value of --epsilon_decay with an epsilon for each environment
UNITS = dict(steps="agent steps", ep="complete episodes", u="updates")


def epsilon(epsilon_begin: float, epsilon_end: float, epsilon_decay: str | None, epsilonStep: float | None = None,
            num_envs: int = 1) -> Callable[[Mapping[str, float]], float | np.ndarray]:
    """Return epsilon as a function of {unit: count}: a float, or float[num_envs].

    Args:
        epsilon_begin: at count 0.
        epsilon_end: the lowest value.
        epsilon_decay: `linear:<N><unit>` reaches epsilon_end after N. `exp:<N><unit>` divides the distance to
            epsilon_end by e every N (the DQN tutorial of PyTorch); with an end of 0, epsilon is multiplied by d
            every M for N = -M / ln d. `apex`: environment i of N has .4^(1 + 7 i / (N - 1)) throughout (Horgan et al.
            2018; Kapturowski et al. 2019).
        epsilonStep: instead of epsilon_decay, a decrement per agent step.
        num_envs: N, which is told apart by `apex` alone.

    Raises:
        ValueError: the values are no decay, in one sentence.
    """
    if epsilon_decay == APEX:
        ladder = 0.4 ** np.linspace(1, 8, num_envs)
        return lambda counts: ladder
    if epsilon_begin < epsilon_end:
        raise ValueError(f"--epsilon_begin={epsilon_begin} is below --epsilon_end={epsilon_end}; expected a decay")
    distance = epsilon_begin - epsilon_end
    if epsilonStep is not None:
        return lambda counts: max(epsilon_end, epsilon_begin - epsilonStep * counts["steps"])
    examples = ("linear:1000000steps", "exp:9975ep", APEX)
    name, num, unit = _parse("epsilon_decay", epsilon_decay, ("steps", "ep"), examples)
    if name == "exp":
        return lambda counts: epsilon_end + distance * math.exp(-counts[unit] / num)
    return lambda counts: max(epsilon_end, epsilon_begin - distance / num * counts[unit])


def learning_rate(learning_rate: float, lr_schedule: str | None) -> Callable[[Mapping[str, float]], float]:
    """Return the learning rate as a function of {unit: count}.

    Args:
        learning_rate: at count 0.
        lr_schedule: None is constant. `step:<N><unit>:<factor>` multiplies by the factor after every N.
            `cosine_restarts:<N><unit>:<floor>` falls along half a cosine to the floor in N, then begins again at the
            top (Loshchilov & Hutter 2017).

    Raises:
        ValueError: the value is no schedule, in one sentence.
    """
    if lr_schedule is None:
        return lambda counts: learning_rate
    examples = ("constant", "step:25ep:0.8", "cosine_restarts:10ep:0.001")
    name, num, unit, value = _parse("lr_schedule", lr_schedule, ("u", "ep"), examples)
    given = f"--lr_schedule={lr_schedule} was given"
    if name == "step" and not 0 < value <= 1:
        raise ValueError(f"{given}; expected a factor above 0 and at most 1")
    if name == "cosine_restarts" and not 0 <= value <= learning_rate:
        raise ValueError(f"{given}; expected a floor between 0 and --learning_rate={learning_rate}")

    # As Keras' ExponentialDecay and CosineDecayRestarts, which on JAX would take 0.2 s for each update.
    if name == "step":
        return lambda counts: learning_rate * value ** (counts[unit] // num)
    fall = lambda count: (1 + math.cos(math.pi * (count % num) / num)) / 2  # from 1 to 0
    return lambda counts: value + (learning_rate - value) * fall(counts[unit])


def _parse(flag, text, units, examples):
    """Return name, count and unit of a schedule, and its value if schedules of this name have one.

    Args:
        units: that this flag may count.
        examples: one for each name; a name whose example has no colon is not parsed here.
    """
    if re.fullmatch(r"[\d_.]+(?:e\d+)?", text):
        example = next(example for example in examples if ":" in example)
        with_unit = lambda unit: re.sub(r"\d+[a-z]+", text + unit, example, count=1)
        choices = " or ".join(f"{with_unit(unit)} ({UNITS[unit]})" for unit in units)
        raise ValueError(f"--{flag}={text} names no unit; expected a schedule such as {choices}")
    example = next((e for e in examples if ":" in e and e.partition(":")[0] == text.partition(":")[0]), None)
    if example is None:
        raise ValueError(f"--{flag}={text} is no schedule; expected one such as {', '.join(examples)}")
    has_value = example.count(":") == 2
    match = re.fullmatch(rf"(\w+):([1-9]\d*)({'|'.join(units)})" + r":(\d*\.?\d+(?:e-?\d+)?)" * has_value, text)
    if not match:
        meanings = " or ".join(f"{unit} ({UNITS[unit]})" for unit in units)
        raise ValueError(f"--{flag}={text} was given; expected a positive count with its unit, {meanings}"
                         f"{', and a number' * has_value}, as in {example}")
    name, num, unit, *value = match.groups()
    return name, int(num), unit, *map(float, value)
