"""The values of a checkpoint's state.json, and what each of them must be."""

import math
from collections.abc import Collection
from typing import Any

import numpy as np

from storage import layout

LARGEST = 2**63 - 1  # of a count
NUMBERS = (int, float)


def _is_count(value):
    return type(value) is int and 0 <= value <= LARGEST


def _is_finite(value):
    return type(value) in NUMBERS and math.isfinite(value)


def _are_numbers(values):
    return isinstance(values, list) and all(type(value) in NUMBERS for value in values)


def _is_dict_of(is_value, names=()):
    """Return a function: whether a value is a dict with these names, all of whose values are such."""
    return lambda value: isinstance(value, dict) and {*names} <= value.keys() and all(map(is_value, value.values()))


def _is_generator(value):
    """Return whether NumPy takes a value for the state of a generator."""
    try:
        np.random.PCG64().state = value
    except (TypeError, ValueError, KeyError, OverflowError):
        return False
    return True


def _is_check(value):
    return isinstance(value, dict) and all(_is_count(value.get(name)) for name in ("size", "crc32"))


def _is_segment(value):
    return (_is_check(value) and _is_count(value.get("start")) and _is_count(value.get("stop"))
            and value.get("name") == layout.segment_name(value["start"], value["stop"]))


KINDS = {  # name -> whether a value is right
    **dict.fromkeys("agent_step updates evaluations episodes checked replay_end".split(), _is_count),
    "best": lambda value: value is None or _is_finite(value), "seconds": _is_finite, "returns": _are_numbers,
    "pending": _is_dict_of(_are_numbers), "phases": _is_dict_of(_is_finite),
    "generators": _is_dict_of(_is_generator, ("exploration", "replay")),
    "csv_sizes": _is_dict_of(_is_count),
    "files": _is_dict_of(_is_check, (layout.ONLINE, layout.ARRAYS)),
    "segments": lambda value: isinstance(value, list) and all(map(_is_segment, value)),
}
SINCE = {  # not in the states of every version
    "evaluation_owed": lambda value: type(value) is bool, "csv_rows": _is_dict_of(_is_count), "cut_episodes": _is_count}


def check(state: Any, names: Collection[str] = (*KINDS, "flicker")) -> None:
    """Refuse a state that no training wrote.

    Args:
        state: the content of a state.json.
        names: the values that are looked at; they are all of a whole state by default.

    Raises:
        ValueError: a value is missing or wrong; it is named.
    """
    if not isinstance(state, dict):
        raise ValueError(f"{layout.STATE} holds no names and values")
    for name, is_right in (KINDS | SINCE).items():
        if name in state and (name in names or name in SINCE) and not is_right(state[name]):
            raise ValueError(f"{layout.STATE} has {str(state[name])[:40]!r} for {name}")
        if name in names and name not in state:
            raise ValueError(f"{layout.STATE} has no {name}")
    if "flicker" in names and "cut_episodes" not in state and "flicker" not in state["generators"]:
        raise ValueError(f"{layout.STATE} has no generator of flicker")
