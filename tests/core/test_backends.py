"""The compiled steps are traced once, and TensorFlow and JAX make the same update.

As a script this file is the half of the comparison that runs on the other backend.
"""

import json
import os
import pathlib
import re
import subprocess
import sys

import backends

import keras
import numpy as np
import pytest

import agent as agents
from helpers.windows import A, act_arguments, make_agent, make_window

COMPILE_FAST = "--xla_backend_optimization_level=0"  # JAX then compiles in two thirds of the time.
OTHER = {"tensorflow": "jax", "jax": "tensorflow"}[keras.backend.backend()]
HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
# These tests of test_agent.py and of this file run on the other backend, too, since weights may live on its device.
# Only DRQN's run there, since JAX compiles slowly.
CARRIED = "not DQN and (restored or snapshot or saved or loading or sync_alone or has_learned or traced_once)"
NUM_CARRIED = 9

CASES = {  # name -> settings of the agent
    "DQN": dict(network="DQN"),
    "DRQN": dict(network="DRQN"),
    "DQN of images": dict(network="DQN", frame_shape=(36, 36), history=2),
    "DRQN of images in RGB": dict(network="DRQN", frame_shape=(36, 36, 3)),
}


def start_of(name):
    """Return the arrays from which both backends start: other target weights, a state carried into the window."""
    rng = np.random.default_rng(0)
    state = make_agent(**CASES[name]).get_state()
    state |= {key: value + rng.normal(0, 0.05, value.shape) for key, value in state.items() if key.startswith("target")}
    num_states = 2 * ("DRQN" in name)
    return state | {f"window_state/{i}": rng.uniform(-1, 1, (4, 8)).astype(np.float32) for i in range(num_states)}


def update_and_act(name, start):
    """Return {quantity: array} after one update and one acting step."""
    agent = make_agent(**CASES[name])
    history, rng = agent.online_network.history, np.random.default_rng(1)
    window = make_window(history=history, mask=np.array([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1]], np.float32),
                         first=np.array([True, False, False, True]))
    arguments = act_arguments(agent, history=history) | dict(first=np.array([True, False, False, False, True]))
    if "images" in name:
        shape = agent.online_network.frame_shape
        pixels = lambda frames: rng.integers(256, size=(*frames.shape[:2], *shape), dtype=np.uint8)
        window, arguments["frames"] = window._replace(frames=pixels(window.frames)), pixels(arguments["frames"])
    agent.set_state(start)
    scalars = {key: np.array(float(value)) for key, value in agent.learn(window).items()}
    q_values, state = agent.q_values(**arguments)
    actions, _ = agent.act(**arguments, epsilon=0.5, rng=np.random.default_rng(0))
    acting = dict(backend=keras.backend.backend(), q_values=q_values, actions=actions)
    return scalars | agent.get_state() | acting | {f"state/{i}": np.array(s) for i, s in enumerate(state)}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Return {case: (this backend's arrays, the other's arrays, arrays of the start)}, and what the other printed."""
    folder = tmp_path_factory.mktemp("backends")
    for name in CASES:
        np.savez(folder / f"{name}.start.npz", **start_of(name))
    environment = os.environ | dict(
        KERAS_BACKEND=OTHER, PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'tests'}", XLA_FLAGS=COMPILE_FAST)
    other = subprocess.Popen([sys.executable, __file__, str(folder)], env=environment, cwd=ROOT,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    starts = {name: start_of(name) for name in CASES}
    ours = {name: update_and_act(name, start) for name, start in starts.items()}
    output, _ = other.communicate()
    try:
        return {name: (ours[name], dict(np.load(folder / f"{name}.npz")), starts[name]) for name in CASES}, output
    except FileNotFoundError:
        pytest.fail(output)


@pytest.mark.jax
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("quantity", [
    "loss mean_q gradient_norm", "online", "target", "optimizer", "window_state", "q_values actions state"])
def test_both_backends_make_the_same_update(outcomes, name, quantity):
    ours, theirs, _ = outcomes[0][name]
    assert (ours["backend"], theirs["backend"]) == (keras.backend.backend(), OTHER)
    assert ours.keys() == theirs.keys()
    keys = [key for key in ours if key.split("/")[0] in quantity.split()]
    assert keys or ("DRQN" not in name and quantity == "window_state")
    for key in keys:
        np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-5, atol=1e-5, err_msg=key)


@pytest.mark.jax
@pytest.mark.parametrize("name", CASES)
def test_the_update_compared_is_one(outcomes, name):
    ours, _, start = outcomes[0][name]
    changed = [key for key in start if key.startswith(("online", "window_state"))]
    assert all(np.abs(ours[key] - start[key]).max() > 1e-4 for key in changed)
    assert 0.01 < ours["gradient_norm"] < 10  # not clipped
    assert len(set(ours["actions"])) > 1


@pytest.mark.jax
def test_the_other_backend_keeps_restores_saves_and_synchronises_its_weights(outcomes):
    assert re.search(rf"^{NUM_CARRIED} passed, ", outcomes[1], re.MULTILINE), outcomes[1]


@pytest.mark.slow
@pytest.mark.jax
def test_every_test_of_the_update_and_its_networks_passes_on_the_other_backend(tmp_path):
    files = [HERE / f"test_{name}.py" for name in "agent updates loss targets models kernels rollouts color".split()]
    # A resumed run is compiled again; a cache saves a fifth of all the time.
    cached = dict(JAX_COMPILATION_CACHE_DIR=str(tmp_path), JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0.2")
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-n", "0", *map(str, files)], cwd=ROOT,
                          env=os.environ | cached | dict(KERAS_BACKEND=OTHER, XLA_FLAGS=COMPILE_FAST),
                          capture_output=True, text=True)
    assert re.search(r"^\d+ passed", done.stdout, re.MULTILINE), done.stdout


@pytest.mark.parametrize("network", ["DQN", "DRQN"])
def test_acting_and_learning_are_each_traced_once(network, tmp_path):
    agent = agents.Agent(network, (3,), A, history=1, units=8)
    arguments, window = act_arguments(agent), make_window()
    state = arguments["state"]
    for seed in range(3):
        _, state = agent.act(**arguments | dict(state=state), epsilon=0.5, rng=np.random.default_rng(seed))
        agent.set_learning_rate(1e-3 / (1 + seed))
        agent.learn(make_window(seed=seed, first=np.full(4, seed == 1)))
        agent.sync_target()
    agent.set_state(agent.get_state())
    agent.save_weights(tmp_path / "online.weights.h5")
    agent.load_weights(tmp_path / "online.weights.h5")
    agent.learn(window)
    agent.act(**arguments, epsilon=0, rng=np.random.default_rng(0))
    agent.act(**arguments | dict(state=agent.initial_state(5)), epsilon=0, rng=np.random.default_rng(0))
    assert sorted(agent.traces) == ["act", "learn"]


@pytest.mark.parametrize("network", ["DQN", "DRQN"])
def test_windows_of_other_shapes_are_learned_from_by_graphs_of_their_own(network):
    agent = agents.Agent(network, (3,), A, history=1, units=8, optimizer="adam", learning_rate=1e-9)
    for shape in ((4, 3), (4, 5), (2, 5), (4, 3)):
        fresh = agents.Agent(network, (3,), A, history=1, units=8)
        agent._window_state = None
        losses = [float(any_agent.learn(make_window(*shape))["loss"]) for any_agent in (agent, fresh)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert agent.traces == ["learn"] * 3


def test_further_numbers_of_environments_share_one_trace_on_tensorflow():
    agent = agents.Agent("DRQN", (3,), A, history=1, units=8)
    for num_envs in (2, 3, 5, 7, 2, 11):
        agent.act(**act_arguments(agent, num_envs), epsilon=0, rng=np.random.default_rng(0))
    num_traces = {"tensorflow": 1, "jax": 5}[keras.backend.backend()]  # JAX compiles for every shape.
    assert agent.traces == ["act"] * num_traces


USERS_KERAS = """
import backends, keras, numpy, agent
pictures = agent.Agent("DQN", (36, 36), 2, history=2, units=4)
print(keras.config.floatx(), keras.config.epsilon(), keras.config.image_data_format())
print(pictures.online_network.torso.weights[0].shape, pictures.online_network.torso.weights[0].dtype)
"""


@pytest.mark.parametrize("settings, code, output", [
    (dict(floatx="float16", epsilon=1e-3, image_data_format="channels_first"), 0,
     "float32 1e-07 channels_last\n(8, 8, 2, 32) float32\n"),
    (dict(floatx="float8"), 1, "")])
def test_a_users_settings_of_keras_change_nothing_and_wrong_ones_are_named(tmp_path, settings, code, output):
    (tmp_path / "keras.json").write_text(json.dumps(settings))
    environment = os.environ | dict(KERAS_HOME=str(tmp_path))
    command = [sys.executable, "-c", USERS_KERAS]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (code, output), done.stderr
    assert not code or f"Keras refuses its settings in {tmp_path}/keras.json: Invalid `floatx`" in done.stderr


def test_scalars_come_to_the_host_as_floats():
    values = dict(loss=[keras.ops.convert_to_tensor(0.5), 2.0], mean_q=[])
    assert backends.to_host(values) == dict(loss=[0.5, 2.0], mean_q=[])
    assert all(type(value) is float for value in backends.to_host(values)["loss"])


def test_an_unknown_backend_is_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ValueError, match="KERAS_BACKEND=torch was given; expected tensorflow or jax"):
        backends.compile_steps(None, None, None, None, None, None)


def test_only_what_the_backend_says_while_it_is_imported_is_silenced(capfd):
    with backends._silence():
        os.write(2, b"a greeting")
    os.write(2, b"a warning")
    assert capfd.readouterr().err == "a warning"


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    for name in CASES:
        start = dict(np.load(folder / f"{name}.start.npz"))
        np.savez(folder / f"{name}.npz", **update_and_act(name, start))
    files = str(HERE / "test_agent.py"), str(HERE / "test_backends.py")
    pytest.main(["-q", "-n", "0", "-W", "ignore", "-p", "no:cacheprovider", "-k", CARRIED, *files])
