"""What export.py writes plays as the agent does, in programs without Keras."""

import sys

import numpy as np
import pytest

import agent as agents
import export
import loading
from helpers.evaluated_runs import TINY, train_small

STATES = {"DRQN": 2, "PQN_LSTM": 2, "DRQN_RNN2": 2, "R2D2": 2, "DQN": 0}


def random_inputs(agent, num_episodes=3):
    """Return frames and a state for an agent, both random."""
    rng, network = np.random.default_rng(0), agent.online_network
    shape = (num_episodes, network.history, *network.frame_shape)
    frames = (rng.integers(0, 256, shape, np.uint8) if network.frame_dtype == "uint8"
              else rng.normal(size=shape).astype(np.float32))
    state = [rng.normal(size=(num_episodes, size)).astype(np.float32) for size in agent.state_sizes]
    if agent.sees_previous:
        state.append(np.stack([np.arange(num_episodes), rng.normal(size=num_episodes)], axis=1).astype(np.float32))
    return frames, state


def name_states(agent, state):
    """Return {name: array} of an acting state, as an exported step takes it."""
    names = [*(f"state_{i}" for i in range(len(agent.state_sizes))), *["previous"] * agent.sees_previous]
    return dict(zip(names, state, strict=True))


def assert_same_step(outputs, agent, frames, state):
    """Assert that outputs {name: array} are those of an agent's acting step."""
    q_values, next_state = agent.q_values(frames, state)
    expected = dict(q_values=q_values, **{f"next_state_{i}": s for i, s in enumerate(next_state)})
    assert outputs.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(outputs[name], array, rtol=1e-4, atol=1e-5, err_msg=name)
    assert np.ptp(q_values) > 1e-3


@pytest.mark.optional
@pytest.mark.parametrize("network", STATES)
@pytest.mark.parametrize("frame_shape, history", [((4,), 1), ((84, 84), 2), ((84, 84, 3), 2)])
def test_an_exported_step_equals_the_agents_in_onnxruntime(network, frame_shape, history, tmp_path):
    import backends

    import onnxruntime
    agent = agents.Agent(network, frame_shape, 3, history, 8)
    backends.export_acting(agent.online_network, tmp_path / "agent.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "agent.onnx", providers=["CPUExecutionProvider"])
    frames, state = random_inputs(agent)
    assert len(agent.state_sizes) == STATES[network]
    assert [node.name for node in session.get_inputs()] == ["frames", *name_states(agent, state)]
    names = [node.name for node in session.get_outputs()]
    values = session.run(names, dict(frames=frames, **name_states(agent, state)))
    assert_same_step(dict(zip(names, values)), agent, frames, state)
    frames, state = random_inputs(agent, num_episodes=1)
    (q_values,) = session.run(["q_values"], dict(frames=frames, **name_states(agent, state)))
    assert q_values.shape == (1, 3)  # Any number of episodes plays.


@pytest.fixture(scope="module")
def screens(tmp_path_factory):
    """Return the directory of a short run whose screens flicker, in bfloat16."""
    run = tmp_path_factory.mktemp("runs") / "pong"
    train_small([*TINY, "--env=Pong", "--network=PQN_LSTM", "--flicker=0.5", "--precision=mixed_bfloat16",
                 "--bufflen=200", "--sample=episode", "--max_episode_frames=200"], run)
    return run


def test_a_saved_model_plays_as_the_agent(screens, tmp_path, capsys):
    import tensorflow as tf
    assert export.main([str(screens), f"--out={tmp_path / 'model'}"]) == 0
    assert capsys.readouterr().out == (f"{tmp_path}/model holds the acting step of {screens}: frames uint8"
                                       "[N, 1, 84, 84], state_0 [N, 8], state_1 [N, 8]\n")
    agent = loading.load(screens, precision="float32")
    frames, state = random_inputs(agent)
    served = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    outputs = served(frames=tf.constant(frames), **{f"state_{i}": tf.constant(s) for i, s in enumerate(state)})
    assert_same_step({name: value.numpy() for name, value in outputs.items()}, agent, frames, state)
    text = str(tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"].graph.as_graph_def())
    assert "_XlaMustCompile" not in text  # Programs that serve models have no XLA.


@pytest.mark.parametrize("arguments, sentence", [
    ([], "no --out was given; expected a path ending in .onnx, or a new folder"),
    (["--out=there"], "--out=there is there already; expected a new folder"),
    (["--out=no/folder/a.onnx"], "no/folder/a.onnx cannot be written"),
    (["a", "b", "--out=a.onnx"], "2 runs were given; expected one"),
    (["none", "--out=a.onnx"], "none does not exist"),
    (["--out=a.onnx", "--checkpoint=first"], "flag --checkpoint=first: value should be one of")])
def test_a_mistake_is_one_sentence_and_writes_nothing(arguments, sentence, screens, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/pong").symlink_to(screens)
    assert export.main(arguments) == 2
    said = capsys.readouterr().err
    assert sentence in said and said.startswith("export.py: ") and said.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"there", "runs"}


def test_a_missing_package_is_named(screens, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)  # As Python has it where it is not installed.
    assert export.main([str(screens), f"--out={tmp_path / 'a.onnx'}"]) == 2
    assert "expected pip install -r requirements-export.txt, or a folder for a SavedModel" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
