"""The values of a checkpoint's state.json: right ones pass, and a wrong or missing one is named."""

import json
import pathlib

import pytest

from helpers.run_parts import STATE
from storage import states

OLD_STATE = pathlib.Path(__file__).parent / "old_run/checkpoints/000000082/state.json"
SEGMENT = dict(name="replay/000000000-000000016.npz", start=0, stop=16, size=9, crc32=7)
CHECKS = {name: dict(size=1, crc32=2) for name in ("online.weights.h5", "arrays.npz")}
WHOLE = json.loads(json.dumps(STATE | dict(agent_step=32, replay_end=16, csv_sizes=dict(train=40), segments=[SEGMENT],
                                           files=CHECKS)))


def test_states_of_this_and_of_earlier_versions_pass():
    states.check(WHOLE)
    states.check(WHOLE | dict(best=-3.5, pending=dict(loss=[0.5, float("nan")]), evaluation_owed=True))
    states.check(json.loads(OLD_STATE.read_text()))
    states.check(dict(agent_step=3), ["agent_step"])


GENERATORS = WHOLE["generators"]
WRONG = {
    "agent_step": ["x", -1, 1.5, True, None, 2**63],
    "replay_end": ["x"],
    "best": ["x", float("nan"), []],
    "seconds": ["x", float("inf"), None],
    "returns": [3, ["x"], None, [None]],
    "pending": [3, dict(loss=3), dict(loss=["x"])],
    "phases": [3, dict(act="x")],
    "csv_sizes": [dict(train=-1), []],
    "evaluation_owed": [1, "x"],
    "generators": [None, {}, GENERATORS | dict(replay={}), GENERATORS | dict(flicker="x"),
                   GENERATORS | dict(flicker=GENERATORS["replay"] | dict(state=dict(state=-1, inc="x")))],
    "files": [{}, 3, CHECKS | {"arrays.npz": dict(size="x", crc32=2)}],
    "segments": [3, [3], [SEGMENT | dict(name="../../private")], [SEGMENT | dict(stop=[])],
                 [SEGMENT | dict(crc32=None)]],
}


@pytest.mark.parametrize("name, values", WRONG.items())
def test_a_wrong_or_missing_value_is_named(name, values):
    for value in values:
        with pytest.raises(ValueError, match=f"state.json has .* for {name}$"):
            states.check(WHOLE | {name: value})
    if name != "evaluation_owed":
        with pytest.raises(ValueError, match=f"state.json has no {name}$"):
            states.check({other: value for other, value in WHOLE.items() if other != name})


def test_flicker_has_its_generator():
    generators = {name: state for name, state in GENERATORS.items() if name != "flicker"}
    with pytest.raises(ValueError, match="state.json has no generator of flicker"):
        states.check(WHOLE | dict(generators=generators))


@pytest.mark.parametrize("state", [None, 3, [], "x"])
def test_a_state_holds_names_and_values(state):
    with pytest.raises(ValueError, match="state.json holds no names and values"):
        states.check(state)
