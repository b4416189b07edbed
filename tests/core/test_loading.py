"""An agent that is loaded from its run plays as the one that was trained."""

import numpy as np
import pytest

import loading
from helpers.evaluated_runs import CARTPOLE, train_small


def test_a_loaded_agent_plays_as_the_trained_one(tmp_path):
    run = train_small([*CARTPOLE, "--optimizer=adam", "--learning_rate=0.1"], tmp_path / "run")
    last, best = (loading.load(tmp_path / "run", checkpoint) for checkpoint in ("last", "best"))
    frames = np.random.default_rng(0).normal(size=(5, 1, 4)).astype(np.float32)
    everywhere = np.ones(5, bool)
    _, expected_state = run.agent.q_values(frames, run.agent.initial_state(5), everywhere)
    expected, expected_last = run.agent.q_values(frames[::-1], expected_state, ~everywhere)
    actions, state = last.act(frames)
    q_values, state_after = last.q_values(frames[::-1], state)
    np.testing.assert_array_equal(q_values, expected)
    for array, other in zip(state_after, expected_last, strict=True):
        np.testing.assert_array_equal(array, other)
    np.testing.assert_array_equal(last.act(frames[::-1], state)[0], expected.argmax(axis=-1))
    assert actions.shape == (5,) and set(actions) <= {0, 1}
    assert best.online_network.core.units == 8


def test_a_run_that_cannot_be_loaded_is_named(tmp_path, trained):
    with pytest.raises(ValueError, match=f"{tmp_path}/none does not exist"):
        loading.load(tmp_path / "none")
    (tmp_path / "run").mkdir()
    for name in "config.json", "train.csv":
        (tmp_path / "run" / name).write_bytes((trained / "cartpole" / name).read_bytes())
    with pytest.raises(ValueError, match="has no best weights yet"):
        loading.load(tmp_path / "run")
