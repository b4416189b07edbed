"""From the settings of a run to its environments, agent and replay, and what is refused on the way."""

import re

from launch import build, process
from launch.settings import configure

import numpy as np
import pytest

from helpers.short_runs import CARTPOLE
from storage import weights

GAME = ["--env=Breakout", "--network=DQN", "--units=8", "--bufflen=64", "--learning_starts=9", "--noops=0"]


def resolve_settings(*arguments):
    """Return the settings of short runs on CartPole, with these flags beside them."""
    return configure([*CARTPOLE, *arguments])["settings"]


@pytest.fixture(scope="module")
def cartpole_envs():
    """Return two environments of CartPole."""
    return build.make_envs(resolve_settings(), 2)


def test_environments_have_the_settings_of_the_run_and_options_replace_them():
    settings = resolve_settings("--frame_skip=3")
    for options, flicker, num_steps in [({}, 0.3, 2), (dict(flicker=0.0, max_episode_frames=12), 0.0, 4)]:
        envs = build.make_envs(settings | dict(max_episode_frames=6), 5, **options)
        assert (envs.num_envs, envs.flicker, envs.frame_shape) == (5, flicker, (4,))
        assert envs.action_names == ["LEFT", "RIGHT"]
        envs.reset(seed=np.arange(5))
        truncated = [envs.step(np.full(5, t % 2))[3].all() for t in range(num_steps)]  # 3 frames per step
        assert truncated == [False] * (num_steps - 1) + [True]


def test_a_game_has_its_flags_and_the_number_of_environments_asked_for():
    settings = configure([*GAME, "--full_actions"])["settings"]
    envs = build.make_envs(settings, 3)
    assert (envs.num_envs, envs.is_atari, envs.frame_shape, len(envs.action_names)) == (3, True, (84, 84), 18)
    assert len(build.make_envs(settings, 1, full_actions=False).action_names) == 4


@pytest.mark.parametrize("network, history", [("DQN", 4), ("DRQN", 1)])
def test_the_agent_fits_the_environments_and_has_the_settings_of_the_run(cartpole_envs, network, history):
    agent = build.make_agent(resolve_settings(f"--network={network}", "--loss=mse"), cartpole_envs)
    online = agent.online_network
    assert (online.name, online.history, online.frame_shape) == (network.lower(), history, (4,))
    assert (agent.num_actions, agent.error_loss, online.core.units) == (2, "mse", 8)
    assert (type(agent.optimizer).__name__, float(agent.optimizer.learning_rate)) == ("Adam", pytest.approx(0.01))


def test_the_seed_decides_the_first_weights(cartpole_envs):
    agents = [build.make_agent(resolve_settings(f"--seed={seed}"), cartpole_envs) for seed in (1, 1, 2)]
    one, same, other = (agent.get_state()["online/0"] for agent in agents)
    assert (one == same).all() and (one != other).any()


def test_the_replay_has_the_settings_of_the_run(cartpole_envs):
    replay = build.make_replay(resolve_settings("--history=3", "--unroll=7"), cartpole_envs)
    assert (replay.num_rows, replay.num_envs, replay.history, replay.unroll) == (60, 4, 3, 7)
    assert replay.columns["frame"].shape == (60, 4, 4) and replay.columns["frame"].dtype == np.float32
    assert replay.length_reward == 0


def test_the_crafted_reward_reaches_the_replay():
    settings = configure([*GAME, "--env=AssaultCrafted-v0"])["settings"]
    replay = build.make_replay(settings, build.make_envs(settings, 8))
    assert (replay.length_reward, replay.ended_only) == (1e-4, True)


def test_a_bufflen_that_does_not_fit_is_refused_and_the_one_that_is_named_fits(cartpole_envs, monkeypatch):
    """Check the sentence: a timestep of CartPole takes 44 bytes, 16 of them for its frame."""
    monkeypatch.setattr(process, "available_memory", lambda: 10**9)
    settings = resolve_settings("--bufflen=100000000")
    sentence = (r"^--bufflen=100000000 timesteps need 4.4 GB, and 1.0 GB of memory are free; "
                r"expected at most --bufflen=(\d+)$")
    with pytest.raises(ValueError, match=sentence) as error:
        build.make_replay(settings, cartpole_envs)
    largest = int(re.search(sentence, str(error.value))[1])
    assert 0.89 < largest * 44 / 10**9 < 0.91
    assert build.make_replay(settings | dict(bufflen=largest), cartpole_envs).num_rows == largest // 4


def test_saved_weights_are_loaded(cartpole_envs, tmp_path):
    settings, path = resolve_settings(), tmp_path / "online.weights.h5"
    agent, other = (build.make_agent(settings | dict(seed=seed), cartpole_envs) for seed in (1, 2))
    agent.save_weights(path)
    build.load_weights(other, path, settings)
    for one, loaded in zip(agent.online_network.get_weights(), other.online_network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, loaded)


def test_damaged_weights_and_weights_that_are_not_finite_are_refused(cartpole_envs, tmp_path):
    settings, path = resolve_settings(), tmp_path / "online.weights.h5"
    agent = build.make_agent(settings, cartpole_envs)
    data = bytearray(weights.pack(agent.save_weights))
    path.write_bytes(data)
    build.load_weights(agent, path, settings)
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="online.weights.h5 is damaged: its checksum"):
        build.load_weights(agent, path, settings)
    agent.online_network.set_weights([np.full_like(array, np.nan) for array in agent.online_network.get_weights()])
    path.write_bytes(weights.pack(agent.save_weights))
    with pytest.raises(ValueError, match="online.weights.h5 holds a weight that is not finite, in "):
        build.load_weights(agent, path, settings)


@pytest.mark.parametrize("saved", [dict(network="DQN"), dict(units=9), None, b"no weights"])
def test_weights_of_another_network_and_other_files_are_refused_in_one_sentence(cartpole_envs, tmp_path, saved):
    settings, path = resolve_settings(), tmp_path / "online.weights.h5"
    agent = build.make_agent(settings, cartpole_envs)
    if isinstance(saved, bytes):
        path.write_bytes(saved)
    elif saved:
        build.make_agent(settings | saved, cartpole_envs).save_weights(path)
    sentence = f"^{re.escape(str(path))} does not hold weights of DRQN with 8 units for CartPole-v1 \\("
    with pytest.raises(ValueError, match=sentence) as error:
        build.load_weights(agent, path, settings)
    assert "\n" not in str(error.value)
