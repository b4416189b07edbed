"""Names of environments, and the environments that `make_envs` builds."""

import hashlib
import sys

import gymnasium
import numpy as np
import pytest
from ale_py.env import AtariEnv

from environments import catalogue
from helpers import counting
from helpers.playing import make_small_envs, play_actions, random_actions

PONG_SHA256 = "5c2e7969bc278738329084cf012eee85929e7b138cb5d6b072aa97d02c0790a9"



@pytest.mark.parametrize("spelling, game", [
    ("Frostbite", "Frostbite"), ("frostbite", "Frostbite"), ("FROSTBITE", "Frostbite"),
    ("MsPacman", "MsPacman"), ("ms_pacman", "MsPacman"), ("mspacman", "MsPacman")])
def test_a_game_is_known_in_every_spelling(spelling, game):
    name, settings = catalogue.describe(spelling)
    assert name == game
    assert settings == dict(frame_skip=4, sticky=0.0, full_actions=False, noops=30, max_episode_frames=108_000,
                            life_loss="none")


@pytest.mark.parametrize("name, expected", [
    ("ALE/Pong-v5", dict(frame_skip=4, sticky=0.25)),
    ("PongNoFrameskip-v4", dict(frame_skip=1, sticky=0.0)),
    ("Pong-v4", dict(frame_skip=None, sticky=0.0)),  # Its frame skip is random, 2 to 5; the user must choose one.
    ("CartPole-v1", dict(frame_skip=1, max_episode_frames=500)),
    ("Acrobot-v1", dict(frame_skip=1, max_episode_frames=500)),
])
def test_the_settings_of_an_id_are_its_defaults(name, expected):
    described, settings = catalogue.describe(name)
    assert described == name
    assert expected.items() <= settings.items()


def test_an_environment_outside_of_ale_has_no_settings_of_ale():
    assert catalogue.describe("CartPole-v1")[1].keys() == {"frame_skip", "max_episode_frames"}


@pytest.mark.parametrize("name, near", [
    ("Frostbit", "Frostbite"), ("brekout", "Breakout"), ("ms-pacman", "MsPacman"), ("CartPol-v1", "CartPole-v1"),
    ("CartPole-v9", "CartPole-v1"), ("ALE/Pnog-v5", "ALE/Pong-v5"), ("json:at_all", ""), ("", "")])
def test_an_unknown_name_gets_the_three_nearest(name, near):
    with pytest.raises(ValueError, match="neither an ALE game nor a registered Gymnasium id") as error:
        catalogue.describe(name)
    sentence, names = str(error.value).split("; the nearest names are ")
    names = names.split(", ")
    assert len(names) == 3 and near in [*names, ""]
    assert set(names) <= {*catalogue.atari_games().values(), *gymnasium.registry}
    assert sentence.startswith(f"--env={name} ") and "\n" not in sentence


@pytest.mark.parametrize("name, sentence", [
    ("nothing_like:at_all", "there is no module nothing_like; PYTHONPATH=FOLDER names the folder that has it, or, of a "
                            "package: pip install nothing_like"),
    ("MiniGrid-Empty-5x5-v0", "such ids are of a package that is not installed: pip install minigrid"),
    ("BabyAI-GoToObj-v0", "pip install minigrid"), ("MinAtar/Breakout-v1", "pip install minatar"),
    ("FlappyBird-v0", "pip install flappy-bird-gymnasium")])
def test_a_name_of_a_package_that_is_missing_says_what_to_install(name, sentence, monkeypatch):
    for package in catalogue.PACKAGES.values():  # As Python has it where it is not installed.
        monkeypatch.setitem(sys.modules, package.replace("-", "_"), None)
    with pytest.raises(ValueError) as error:
        catalogue.describe(name)
    assert sentence in str(error.value) and str(error.value).startswith(f"--env={name} ")
    assert "nearest" not in str(error.value)


def test_a_name_of_a_package_that_is_not_imported_says_how_to_name_it(tmp_path, monkeypatch):
    (tmp_path / "flappy_bird_gymnasium.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError) as error:
        catalogue.describe("FlappyBird-v7")
    assert str(error.value).endswith("such ids are of a package that has to be named: "
                                     "--env=flappy_bird_gymnasium:FlappyBird-v7")


def test_a_module_of_the_user_that_fails_is_named(tmp_path, monkeypatch):
    (tmp_path / "failing_envs.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="^--env=failing_envs:X-v0 cannot be used: the module failing_envs fails when "
                                         r"it is imported \(ZeroDivisionError: division by zero\)$"):
        catalogue.describe("failing_envs:X-v0")


def test_golden_hash_of_preprocessed_pong():
    envs = make_small_envs("Pong")
    frames, *_ = play_actions(envs, [1, 2], random_actions(envs, 60))
    assert frames.shape == (61, 2, 84, 84) and frames.dtype == np.uint8
    assert hashlib.sha256(frames.tobytes()).hexdigest() == PONG_SHA256


def test_screens_equal_gymnasiums_atari_preprocessing():
    envs = make_small_envs("Breakout", 1)
    gymnasiums = gymnasium.wrappers.AtariPreprocessing(
        gymnasium.make("ALE/Breakout-v5", frameskip=1, repeat_action_probability=0.0), noop_max=0, frame_skip=4)
    actions = random_actions(envs, 100)
    frames, rewards, *_ = play_actions(envs, [3], actions)
    expected, _ = gymnasiums.reset(seed=3)
    np.testing.assert_array_equal(frames[0, 0], expected)
    for t, action in enumerate(actions[:, 0]):
        expected, reward, *_ = gymnasiums.step(action)
        np.testing.assert_array_equal(frames[t + 1, 0], expected)
        assert rewards[t, 0] == reward
    assert len({frame.tobytes() for frame in frames}) > 50  # Something moved.


@pytest.mark.parametrize("full_actions, names", [(False, "NOOP FIRE RIGHT LEFT".split()), (True, None)])
def test_a_game_has_its_minimal_actions_unless_all_are_asked_for(full_actions, names):
    envs = make_small_envs("Breakout", 1, full_actions=full_actions)
    assert len(envs.action_names) == 18 if names is None else envs.action_names == names


@pytest.mark.slow
def test_all_ale_games_build_and_step():
    games = sorted(catalogue.atari_games().values())
    assert len(games) >= 104
    for game in games:
        envs = make_small_envs(game, 1, noops=30)
        frames, rewards, terminated, truncated = play_actions(envs, [1], random_actions(envs, 200))
        assert frames.shape == (201, 1, 84, 84), game
        assert len({frame.tobytes() for frame in frames}) > 1, f"{game} shows a still picture"
        assert np.isfinite(rewards).all() and not truncated.any(), game
        assert catalogue.describe(game)[0] == catalogue.describe(game.upper())[0] == game


@pytest.mark.parametrize("frame_skip, agent_steps", [(1, 12), (3, 4), (5, 3)])
def test_the_cap_counts_frames_off_atari(frame_skip, agent_steps):
    env = counting.register(length=100, max_episode_steps=50)
    envs = make_small_envs(env, frame_skip=frame_skip, max_episode_frames=12)
    frames, _, terminated, truncated = play_actions(envs, [1, 2], random_actions(envs, 14))
    assert truncated[:agent_steps, 0].tolist() == [False] * (agent_steps - 1) + [True]
    assert frames[agent_steps, 0, 0] == 13 and not terminated.any()


@pytest.mark.parametrize("frame_skip, agent_steps", [(4, 10), (1, 40)])
def test_the_cap_counts_frames_on_atari(frame_skip, agent_steps):
    envs = make_small_envs("Pong", frame_skip=frame_skip, max_episode_frames=40)
    _, _, terminated, truncated = play_actions(envs, [1, 2], random_actions(envs, agent_steps + 2))
    assert truncated[:, 0].tolist() == [False] * (agent_steps - 1) + [True] + [False] * 2
    assert not terminated.any()


def test_a_cap_replaces_a_shorter_one_of_the_id():
    envs = make_small_envs(counting.register(length=100, max_episode_steps=5), max_episode_frames=8)
    *_, truncated = play_actions(envs, [1, 2], random_actions(envs, 8))
    assert truncated[:, 0].tolist() == [False] * 7 + [True]


def test_no_cap_off_atari():
    envs = make_small_envs(counting.register(length=20, max_episode_steps=5), max_episode_frames=0)
    _, _, terminated, truncated = play_actions(envs, [1, 2], random_actions(envs, 20))
    assert not truncated.any() and terminated[:, 0].tolist() == [False] * 19 + [True]


def test_no_cap_on_atari(monkeypatch):
    settings, atari_vector_env = {}, catalogue.AtariVectorEnv

    def recording(*args, **kwargs):
        settings.update(kwargs)
        return atari_vector_env(*args, **kwargs)
    monkeypatch.setattr(catalogue, "AtariVectorEnv", recording)
    envs = make_small_envs("Pong", 1, max_episode_frames=0)
    *_, truncated = play_actions(envs, [1], np.zeros((50, 1), np.int64))
    assert not truncated.any()
    assert settings["max_num_frames_per_episode"] == 2**31 - 1  # That is a year of play, too long for a test.


@pytest.mark.parametrize("action_names, expected", [
    (["left", "right", "stay"], ["left", "right", "stay"]), (["a", "b"], ["0", "1", "2"]), (None, ["0", "1", "2"]),
    ("abc", ["0", "1", "2"]), ([1, 2, 3], ["0", "1", "2"]), (dict(a=1, b=2, c=3), ["0", "1", "2"])])
def test_the_action_space_decides_how_many_actions_there_are(action_names, expected, monkeypatch):
    monkeypatch.setattr(counting.Counting, "metadata", {"render_modes": [], "action_names": action_names})
    envs = catalogue.make_envs(counting.register(num_actions=3), 2, frame_skip=1, max_episode_frames=0)
    assert envs.action_names == expected


@pytest.mark.parametrize("names, expected", [
    (["height", "speed"], ["height", "speed"]), (["height"], []), (None, []), ([1, 2], [])])
def test_the_numbers_of_a_vector_have_names_where_the_environment_gives_as_many(names, expected, monkeypatch):
    monkeypatch.setattr(counting.Counting, "metadata", {"render_modes": [], "observation_names": names})
    envs = catalogue.make_envs(counting.register(shape=(2,)), 1, frame_skip=1, max_episode_frames=0)
    assert envs.observation_names == expected


@pytest.mark.parametrize("env", [
    "CartPole-v1", "CartPolePosition-v0", "CartPolePixels-v0", "MountainCar-v0", "Acrobot-v1", "DelayedCue30-v0",
    *(pytest.param(f"SlimeVolley{kind}-v0", marks=pytest.mark.slimevolley) for kind in ("", "NoFrameskip"))])
def test_known_environments_have_names_for_their_actions_and_numbers(env):
    envs = make_small_envs(env, 1, max_episode_frames=0)
    assert not {name for name in envs.action_names if name.isdigit()}
    assert len(envs.observation_names) == (envs.frame_shape[0] if len(envs.frame_shape) == 1 else 0)


# ALE ids of a user


def register_pong(entry_point="ale_py.env:AtariEnv", **registered):
    """Register Pong under a new id, with keyword arguments of its own; return the id."""
    name = f"MyPong{len(gymnasium.registry)}-v0"
    of_spec = {key: registered.pop(key) for key in ("max_episode_steps", "additional_wrappers") if key in registered}
    gymnasium.register(name, entry_point=entry_point, kwargs=dict(game="pong") | registered, **of_spec)
    return name


@pytest.mark.parametrize("registered, changed", [
    (dict(), dict()),  # the defaults of AtariEnv
    (dict(frameskip=2, repeat_action_probability=0.1, full_action_space=True, max_num_frames_per_episode=1000),
     dict(frame_skip=2, sticky=0.1, full_actions=True, max_episode_frames=1000)),
    (dict(noop_max=5), dict(noops=5)),
    (dict(mode=None, difficulty=None, obs_type="grayscale", sound_obs=False, render_mode="rgb_array"), dict()),
    (dict(max_episode_steps=50), dict(max_episode_frames=200)),
    (dict(max_episode_steps=50, max_num_frames_per_episode=100), dict(max_episode_frames=100)),
])
@pytest.mark.parametrize("entry_point", ["ale_py.env:AtariEnv", AtariEnv])
def test_keyword_arguments_of_an_ale_id_are_its_defaults(entry_point, registered, changed):
    name = register_pong(entry_point, **registered)
    assert catalogue.describe(name) == (name, dict(
        frame_skip=4, sticky=0.25, full_actions=False, noops=30, max_episode_frames=0, life_loss="none") | changed)
    assert make_small_envs(name, 1).is_atari


def test_maxpool_is_passed_on(monkeypatch):
    given, atari_vector_env = [], catalogue.AtariVectorEnv
    monkeypatch.setattr(catalogue, "AtariVectorEnv",
                        lambda *args, **kwargs: given.append(kwargs) or atari_vector_env(*args, **kwargs))
    for registered in (dict(maxpool=False), dict()):
        make_small_envs(register_pong(**registered), 1)
    assert given[0]["maxpool"] is False and "maxpool" not in given[1]


@pytest.mark.parametrize("registered, named", [
    (dict(mode=1), "mode=1"), (dict(mode=0, difficulty=1), "mode=0, difficulty=1"),
    (dict(obs_type="ram"), "obs_type='ram'"), (dict(continuous=True), "continuous=True"),
    (dict(render_mode="human"), "render_mode='human'"),
    (dict(stack_num=4), "stack_num=4"), (dict(no_such_thing=None), "no_such_thing=None"),
    (dict(additional_wrappers=(gymnasium.wrappers.TimeAwareObservation.wrapper_spec(),)),
     "the wrapper TimeAwareObservation"),
])
def test_keyword_arguments_that_ales_vector_environment_does_not_take_are_refused_by_name(registered, named):
    name = register_pong(**registered)
    settings = dict(frame_skip=4, max_episode_frames=0)
    for refuse in (lambda: catalogue.describe(name), lambda: catalogue.make_envs(name, 1, **settings)):
        with pytest.raises(ValueError) as error:
            refuse()
        assert str(error.value).startswith(f"--env={name} is registered with {named}, which ALE's vector environment "
                                           "does not take; expected an id with frameskip, ")


# Remarks


@pytest.mark.parametrize("env, frames, warned", [
    ("CartPole-v1", 0, True), ("CartPole-v1", 500, False), ("Pong", 0, True), ("Pong", 108_000, False)])
def test_an_environment_without_a_limit_is_remarked_with_the_flag_that_sets_one(env, frames, warned):
    remarks = catalogue.make_envs(env, 1, frame_skip=1, max_episode_frames=frames).remarks
    assert ["--max_episode_frames" in remark for remark in remarks] == [True] * warned
