"""Environments: names, preprocessing, flicker, caps and skips, and what is refused."""

import hashlib

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from helpers import counting

import wrappers
from environments import catalogue

PONG_SHA256 = "5c2e7969bc278738329084cf012eee85929e7b138cb5d6b072aa97d02c0790a9"


def make(env, num_envs=2, **settings):
    """Build environments with the id's own settings, save those given, and neither noops nor stickiness unless given."""
    name, own = catalogue.describe(env)
    names = "frame_skip max_episode_frames sticky full_actions".split()
    return catalogue.make_envs(name, num_envs, **{key: own[key] for key in names if key in own} | settings)


def play(envs, seeds, actions):
    """Reset and step; return (frames [1+T, N, ...], rewards [T, N], terminated, truncated), copied."""
    frame, _ = envs.reset(seed=np.asarray(seeds))
    frames, rows = [frame.copy()], []
    for a in actions:
        frame, *row, _ = envs.step(a)
        frames.append(frame.copy())
        rows.append([np.array(column) for column in row])
    return np.stack(frames), *(np.stack(column) for column in zip(*rows))


def random_actions(envs, num_steps, seed=0):
    return np.random.default_rng(seed).integers(len(envs.action_names), size=(num_steps, envs.num_envs))


# Names


@pytest.mark.parametrize("spelling, game", [
    ("Frostbite", "Frostbite"), ("frostbite", "Frostbite"), ("FROSTBITE", "Frostbite"),
    ("MsPacman", "MsPacman"), ("ms_pacman", "MsPacman"), ("mspacman", "MsPacman")])
def test_a_game_is_known_in_every_spelling(spelling, game):
    name, settings = catalogue.describe(spelling)
    assert name == game
    assert settings == dict(frame_skip=4, sticky=0.0, full_actions=False, noops=30, max_episode_frames=108_000, life_loss="none")


@pytest.mark.parametrize("name, own", [
    ("ALE/Pong-v5", dict(frame_skip=4, sticky=0.25)),
    ("PongNoFrameskip-v4", dict(frame_skip=1, sticky=0.0)),
    ("Pong-v4", dict(frame_skip=None, sticky=0.0)),  # random, 2 to 5: the user must choose
    ("CartPole-v1", dict(frame_skip=1, max_episode_frames=500)),
    ("Acrobot-v1", dict(frame_skip=1, max_episode_frames=500)),
])
def test_an_ids_own_settings_are_its_defaults(name, own):
    described, settings = catalogue.describe(name)
    assert described == name
    assert own.items() <= settings.items()


def test_flags_of_ale_are_no_settings_of_another_environment():
    assert catalogue.describe("CartPole-v1")[1].keys() == {"frame_skip", "max_episode_frames"}


@pytest.mark.parametrize("name, near", [
    ("Frostbit", "Frostbite"), ("brekout", "Breakout"), ("ms-pacman", "MsPacman"), ("CartPol-v1", "CartPole-v1"),
    ("CartPole-v9", "CartPole-v1"), ("ALE/Pnog-v5", "ALE/Pong-v5"), ("nothing_like_it:at_all", ""), ("", "")])
def test_an_unknown_name_gets_the_three_nearest(name, near):
    with pytest.raises(ValueError, match="neither an ALE game nor a registered Gymnasium id") as error:
        catalogue.describe(name)
    sentence, names = str(error.value).split("; the nearest names are ")
    names = names.split(", ")
    assert len(names) == 3 and near in [*names, ""]
    assert set(names) <= {*catalogue.atari_games().values(), *gymnasium.registry}
    assert sentence.startswith(f"--env={name} ") and "\n" not in sentence


# Atari's screens


def test_golden_hash_of_preprocessed_pong():
    envs = make("Pong")
    frames, *_ = play(envs, [1, 2], random_actions(envs, 60))
    assert frames.shape == (61, 2, 84, 84) and frames.dtype == np.uint8
    assert hashlib.sha256(frames.tobytes()).hexdigest() == PONG_SHA256


def test_screens_are_those_of_gymnasiums_atari_preprocessing():
    ours = make("Breakout", 1)
    theirs = gymnasium.wrappers.AtariPreprocessing(
        gymnasium.make("ALE/Breakout-v5", frameskip=1, repeat_action_probability=0.0), noop_max=0, frame_skip=4)
    actions = random_actions(ours, 100)
    frames, rewards, *_ = play(ours, [3], actions)
    expected, _ = theirs.reset(seed=3)
    np.testing.assert_array_equal(frames[0, 0], expected)
    for t, action in enumerate(actions[:, 0]):
        expected, reward, *_ = theirs.step(action)
        np.testing.assert_array_equal(frames[t + 1, 0], expected)
        assert rewards[t, 0] == reward
    assert len({frame.tobytes() for frame in frames}) > 50  # Something moved.


@pytest.mark.parametrize("full_actions, names", [(False, "NOOP FIRE RIGHT LEFT".split()), (True, None)])
def test_actions_are_the_games_own_unless_all_are_asked_for(full_actions, names):
    envs = make("Breakout", 1, full_actions=full_actions)
    assert len(envs.action_names) == 18 if names is None else envs.action_names == names


@pytest.mark.slow
def test_all_ale_games_build_and_step():
    games = sorted(catalogue.atari_games().values())
    assert len(games) >= 104
    for game in games:
        envs = make(game, 1, noops=30)
        frames, rewards, terminated, truncated = play(envs, [1], random_actions(envs, 200))
        assert frames.shape == (201, 1, 84, 84), game
        assert len({frame.tobytes() for frame in frames}) > 1, f"{game} shows a still picture"
        assert np.isfinite(rewards).all() and not truncated.any(), game
        assert catalogue.describe(game)[0] == catalogue.describe(game.upper())[0] == game


# Randomness


@pytest.mark.parametrize("env, settings", [
    ("Pong", dict(noops=30)), ("Pong", dict(sticky=0.25, noops=30, flicker=0.5)),
    ("CartPole-v1", dict()), ("CartPole-v1", dict(flicker=0.5))])
def test_what_follows_a_seeded_reset_is_a_function_of_seeds_and_actions(env, settings):
    envs, fresh = make(env, **settings), make(env, **settings)
    actions = random_actions(envs, 40)
    first = play(envs, [5, 6], actions)
    play(envs, [7, 8], random_actions(envs, 25, seed=1))  # Something else in between.
    for again in (play(envs, [5, 6], actions), play(envs, [5, 6], actions), play(fresh, [5, 6], actions)):
        for a, b in zip(first, again):
            np.testing.assert_array_equal(a, b)


def test_other_seeds_make_other_episodes():
    for settings in (dict(sticky=0.25), dict(noops=30), dict(flicker=0.5)):
        envs = make("Pong", **settings)
        actions = random_actions(envs, 40)
        assert (play(envs, [5, 6], actions)[0] != play(envs, [7, 8], actions)[0]).any(), settings


# Flicker


@pytest.mark.parametrize("shape, num_steps", [((3,), 600), ((20, 30, 3), 150)])
@pytest.mark.parametrize("flicker", [0.0, 0.3, 1.0])
def test_flicker_zeroes_whole_frames_at_its_rate_and_unobscured_keeps_them(shape, num_steps, flicker):
    envs = make(counting.register(length=7, shape=shape), 8, flicker=flicker)
    frame, _ = envs.reset(seed=np.arange(8))
    expected, obscured = np.ones(8), []
    for a in random_actions(envs, num_steps):
        flat = frame.reshape(8, -1)
        real = envs.unobscured.reshape(8, -1)
        assert (real == expected[:, None]).all()
        zeroed = (flat == 0).all(axis=1)
        assert (flat[~zeroed] == real[~zeroed]).all()  # Wholly, or not at all.
        obscured.append(zeroed)
        frame, *_ = envs.step(a)
        expected = expected % 8 + 1
    obscured = np.array(obscured)
    deviation = np.sqrt(flicker * (1 - flicker) / obscured.size)
    assert abs(obscured.mean() - flicker) <= 4 * deviation
    assert abs(obscured[::8].mean() - flicker) <= 4 * deviation * np.sqrt(8)  # Reset rows like the others.
    if 0 < flicker < 1:
        assert abs(np.corrcoef(obscured.T) - np.eye(8)).max() < 5 / np.sqrt(num_steps)  # Each environment has its own draw.


def test_each_environment_may_flicker_at_a_rate_of_its_own():
    rates, num_steps = np.array([0, 0.3, 0.9, 1]), 600
    envs = make(counting.register(length=7), 4, flicker=rates)
    frames, *_ = play(envs, np.arange(4), random_actions(envs, num_steps))
    obscured = (frames == 0).all(axis=-1).mean(axis=0)
    assert (abs(obscured - rates) <= 4 * np.sqrt(rates * (1 - rates) / num_steps)).all(), obscured


@pytest.mark.parametrize("flicker", [0.3, np.full(4, 0.3)])
def test_one_number_per_environment_and_step_decides_whether_it_is_obscured(flicker):
    """Runs resume to the bit, so these draws are never to change."""
    envs = make(counting.register(length=7), 4, flicker=flicker)
    frames, *_ = play(envs, [5, 6, 7, 8], random_actions(envs, 20))
    np.testing.assert_array_equal((frames == 0).all(axis=-1), np.random.default_rng([5, 6, 7, 8]).random((21, 4)) < 0.3)


def test_flicker_does_not_touch_the_game():
    clear, flickering = make("Pong", sticky=0.25), make("Pong", sticky=0.25, flicker=0.5)
    actions = random_actions(clear, 40)
    frames, *rows = play(clear, [5, 6], actions)
    obscured, *same_rows = play(flickering, [5, 6], actions)
    seen = obscured.any(axis=(2, 3))
    assert 0.2 < seen.mean() < 0.8
    np.testing.assert_array_equal(obscured[seen], frames[seen])
    for a, b in zip(rows, same_rows):
        np.testing.assert_array_equal(a, b)


# Ends of episodes, frame skip


@pytest.mark.parametrize("frame_skip, agent_steps", [(1, 12), (3, 4), (5, 3)])
def test_the_cap_counts_frames_off_atari(frame_skip, agent_steps):
    envs = make(counting.register(length=100, max_episode_steps=50), frame_skip=frame_skip, max_episode_frames=12)
    frames, _, terminated, truncated = play(envs, [1, 2], random_actions(envs, 14))
    assert truncated[:agent_steps, 0].tolist() == [False] * (agent_steps - 1) + [True]
    assert frames[agent_steps, 0, 0] == 13 and not terminated.any()


@pytest.mark.parametrize("frame_skip, agent_steps", [(4, 10), (1, 40)])
def test_the_cap_counts_frames_on_atari(frame_skip, agent_steps):
    envs = make("Pong", frame_skip=frame_skip, max_episode_frames=40)
    _, _, terminated, truncated = play(envs, [1, 2], random_actions(envs, agent_steps + 2))
    assert truncated[:, 0].tolist() == [False] * (agent_steps - 1) + [True] + [False] * 2
    assert not terminated.any()


def test_a_cap_longer_than_the_ids_own_replaces_it():
    envs = make(counting.register(length=100, max_episode_steps=5), max_episode_frames=8)
    *_, truncated = play(envs, [1, 2], random_actions(envs, 8))
    assert truncated[:, 0].tolist() == [False] * 7 + [True]


def test_no_cap_off_atari():
    envs = make(counting.register(length=20, max_episode_steps=5), max_episode_frames=0)
    _, _, terminated, truncated = play(envs, [1, 2], random_actions(envs, 20))
    assert not truncated.any() and terminated[:, 0].tolist() == [False] * 19 + [True]


def test_no_cap_on_atari(monkeypatch):
    given = {}
    real = catalogue.AtariVectorEnv
    monkeypatch.setattr(wrappers, "AtariVectorEnv", lambda *a, **k: given.update(k) or real(*a, **k))
    envs = make("Pong", 1, max_episode_frames=0)
    *_, truncated = play(envs, [1], np.zeros((50, 1), np.int64))
    assert not truncated.any()
    assert given["max_num_frames_per_episode"] == 2**31 - 1  # A year of play: nobody waits for it here.


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_frame_skip_sums_rewards_and_stops_at_the_end(end):
    envs = make(counting.register(length=4, end=end), 1, frame_skip=3)
    frames, rewards, terminated, truncated = play(envs, [1], [[2]] * 4)
    assert frames[:, 0, 0].tolist() == [1, 4, 5, 1, 4]
    assert rewards[:, 0].tolist() == [22 + 32 + 42, 52, 0, 96]
    assert (terminated if end == "terminated" else truncated)[:, 0].tolist() == [False, True, False, False]
    assert not (truncated if end == "terminated" else terminated).any()


@pytest.mark.parametrize("env, settings, last", [
    (counting.register(length=4), dict(), 4), (counting.register(length=4, end="truncated"), dict(), 4),
    ("Pong", dict(max_episode_frames=40), 10)])
def test_reset_rows_have_no_reward_and_no_flags_and_ignore_the_action(env, settings, last):
    envs = make(env, **settings)
    actions = random_actions(envs, last + 1)
    frames, rewards, *flags = play(envs, [1, 2], actions)
    assert (flags[0] | flags[1])[last - 1].all()
    assert not rewards[last].any() and not flags[0][last].any() and not flags[1][last].any()
    actions[last] = (actions[last] + 1) % len(envs.action_names)
    np.testing.assert_array_equal(frames, play(envs, [1, 2], actions)[0])


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.DISABLED])
def test_another_autoreset_mode_is_refused(mode):
    envs = gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync", vector_kwargs=dict(autoreset_mode=mode))
    with pytest.raises(AssertionError, match="one reset row after each end"):
        wrappers.Flicker(envs, 0.0, ["left", "right"], is_atari=False)


# Spaces


@pytest.mark.parametrize("shape", [
    (7, 9), (84, 84), (210, 160, 3), (100, 50, 1), (64, 64, 4), (3, 64, 48), (1, 30, 40), (3, 3, 3)])
def test_images_of_any_size_and_colour_become_gray(shape):
    envs = make(counting.register(shape=shape))
    frames, *_ = play(envs, [1, 2], random_actions(envs, 3))
    assert frames.shape == (4, 2, 84, 84) and frames.dtype == np.uint8 and envs.frame_shape == (84, 84)
    assert (frames == np.arange(1, 5).reshape(4, 1, 1, 1)).all()


@pytest.mark.parametrize("colour, gray", [((255, 0, 0), 76), ((0, 255, 0), 150), ((0, 0, 255), 29), ((255, 255, 255), 255)])
def test_colours_weigh_as_the_eye_sees_them(colour, gray):  # .299 R + .587 G + .114 B
    image = np.full((40, 60, 3), colour, np.uint8)
    assert (wrappers.as_screen(image, (84, 84)) == gray).all()
    assert (wrappers.as_screen(np.moveaxis(image, -1, 0), (84, 84)) == gray).all()


@pytest.mark.parametrize("image", [
    np.zeros((168, 84), np.uint8), np.zeros((168, 84, 1), np.uint8), np.zeros((168, 84, 3), np.uint8), np.zeros((3, 168, 84), np.uint8)])
def test_rows_stay_rows_and_columns_stay_columns(image):
    rows = image.reshape(168, 84, -1) if image.shape[0] == 168 else np.moveaxis(image, 0, -1)  # A view.
    rows[:84, :21] = 200  # The upper half of the left quarter.
    expected = np.zeros((84, 84), np.uint8)
    expected[:42, :21] = 200
    np.testing.assert_array_equal(wrappers.as_screen(image, (84, 84)), expected)


def test_vectors_stay_what_they_are():
    envs = make(counting.register(shape=(5,)))
    frames, *_ = play(envs, [1, 2], random_actions(envs, 2))
    assert frames.dtype == np.float32 and envs.frame_shape == (5,)
    assert frames[:, 1].tolist() == [[1] * 5, [2] * 5, [3] * 5]


@pytest.mark.parametrize("start", [1, -1, 5])
def test_actions_that_do_not_start_at_zero(start):
    envs = make(counting.register(start=start), 1)
    _, rewards, *_ = play(envs, [1], [[0], [1], [2]])  # The environment asserts that they are its own.
    assert rewards[:, 0].tolist() == [20, 31, 42]
    assert envs.action_names == ["0", "1", "2"]


class Odd(gymnasium.Env):
    """An environment with any spaces."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space


VECTOR, TWO = spaces.Box(-1, 1, (3,), np.float32), spaces.Discrete(2)


@pytest.mark.parametrize("observation_space, action_space, kind", [
    (spaces.Dict(a=VECTOR), TWO, "observation space Dict"), (spaces.Tuple([VECTOR, VECTOR]), TWO, "observation space Tuple"),
    (spaces.Discrete(16), TWO, "observation space Discrete"), (spaces.MultiBinary(3), TWO, "observation space MultiBinary"),
    (spaces.Box(0, 255, (4, 30, 40), np.uint8), TWO, r"images of shape \(4, 30, 40\)"),  # a stack of frames, not a colour
    (VECTOR, VECTOR, "action space Box"), (VECTOR, spaces.MultiDiscrete([2, 3]), "action space MultiDiscrete"),
    (VECTOR, spaces.Box(-np.arange(1.0, 61), np.arange(1.0, 61), dtype=np.float64), "action space Box")])
def test_other_spaces_are_refused_in_one_sentence(observation_space, action_space, kind):
    name = f"Odd{len(gymnasium.registry)}-v0"
    gymnasium.register(name, entry_point=Odd, kwargs=dict(observation_space=observation_space, action_space=action_space))
    with pytest.raises(ValueError, match=kind) as error:
        make(name)
    assert str(error.value).startswith(f"--env={name} ") and "expect" in str(error.value)
    assert "\n" not in str(error.value)
