"""Frames as the agent sees them: flicker, history, frame skip, images and vectors, and refused spaces."""

import copy

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

import wrappers
from helpers import counting
from helpers.playing import make_small_envs, play_actions, random_actions
from helpers.screens import Grid, register_screen

# Randomness


@pytest.mark.parametrize("env, settings", [
    ("Pong", dict(noops=30)), ("Pong", dict(sticky=0.25, noops=30, flicker=0.5)),
    ("CartPole-v1", dict()), ("CartPole-v1", dict(flicker=0.5))])
def test_after_a_seeded_reset_everything_is_a_function_of_seeds_and_actions(env, settings):
    envs, fresh = make_small_envs(env, **settings), make_small_envs(env, **settings)
    actions = random_actions(envs, 40)
    first = play_actions(envs, [5, 6], actions)
    play_actions(envs, [7, 8], random_actions(envs, 25, seed=1))  # Other episodes in between make no difference.
    for played_envs in (envs, envs, fresh):
        for a, b in zip(first, play_actions(played_envs, [5, 6], actions)):
            np.testing.assert_array_equal(a, b)


def test_other_seeds_make_other_episodes():
    for settings in (dict(sticky=0.25), dict(noops=30), dict(flicker=0.5)):
        envs = make_small_envs("Pong", **settings)
        actions = random_actions(envs, 40)
        assert (play_actions(envs, [5, 6], actions)[0] != play_actions(envs, [7, 8], actions)[0]).any(), settings


def draw_seeds(first, num_envs):
    return np.arange(first, first + num_envs)


@pytest.mark.parametrize("env, settings, num_steps", [
    ("Pong", dict(sticky=0.25, noops=30, max_episode_frames=40), 6),  # in the middle of an episode
    ("Pong", dict(sticky=0.25, noops=30, max_episode_frames=40), 10),  # The episodes have ended; a step would reset.
    ("Pong", dict(sticky=0.25, noops=30, max_episode_frames=40), 11),  # They have just reset.
    ("CartPole-v1", dict(), 5),
    (counting.register(length=(3, 9)), dict(), 3), (counting.register(length=(3, 9)), dict(), 4),
    (counting.register(length=3), dict(), 3), (counting.register(length=3, shape=(40, 40, 3)), dict(), 4)])
def test_environments_that_are_reseeded_equal_fresh_ones_of_their_seeds_and_others_go_on(env, settings, num_steps):
    envs, fresh, undisturbed = (make_small_envs(env, 3, **settings) for _ in range(3))
    envs.flicker = undisturbed.flicker = 0.5
    mask, seeds = np.array([True, False, True]), draw_seeds(50, 3)
    actions = random_actions(envs, num_steps + 25)
    for each in (envs, undisturbed):
        play_actions(each, draw_seeds(5, 3), actions[:num_steps])
    frame, _ = envs.reseed(mask, seeds)
    first, _ = fresh.reset(seed=seeds)
    assert_rows_are_of(mask, frame, first, undisturbed)
    np.testing.assert_array_equal(envs.obscured, undisturbed.obscured)  # as it was drawn
    for a in actions[num_steps:]:
        (frame, *row, _), (first, *of_fresh, _), (_, *of_undisturbed, _) = (
            each.step(a) for each in (envs, fresh, undisturbed))
        assert_rows_are_of(mask, frame, first, undisturbed)
        np.testing.assert_array_equal(envs.obscured, undisturbed.obscured)
        for column, new, old in zip(row, of_fresh, of_undisturbed):
            np.testing.assert_array_equal(column, np.where(mask, new, old))


def assert_rows_are_of(mask, frame, fresh, undisturbed):
    """Assert that masked frames are fresh ones, that others are undisturbed ones, and that flicker is undisturbed."""
    expected = undisturbed.unobscured.copy()
    expected[mask] = fresh[mask]
    expected[undisturbed.obscured] = 0
    np.testing.assert_array_equal(frame, expected)


def test_lives_of_reseeded_environments_are_in_info():
    envs = make_small_envs(counting.register(length=9, lives=5), 3)
    play_actions(envs, [1, 2, 3], random_actions(envs, 5))
    _, info = envs.reseed(np.array([True, False, True]), draw_seeds(9, 3))
    assert info["lives"][[0, 2]].tolist() == [5, 5]
    game = make_small_envs("Breakout", 3)
    play_actions(game, [1, 2, 3], random_actions(game, 5))
    assert game.reseed(np.array([True, False, True]), draw_seeds(9, 3))[1]["lives"][[0, 2]].tolist() == [5, 5]


@pytest.mark.parametrize("env", ["Pong", counting.register(length=(3, 9))])
def test_steps_and_reseeds_that_are_repeated_lead_to_the_same_frames(env):
    envs, other = make_small_envs(env, flicker=0.5), make_small_envs(env, flicker=0.5)
    actions, seeds = random_actions(envs, 14), draw_seeds(9, 2)
    play_actions(envs, [1, 2], actions[:8])
    envs.reseed(np.array([False, True]), seeds)
    other.reset(seed=np.array([1, 9]))  # The second environment's seed comes too soon, which makes no difference.
    for step in range(8):
        other.repeat(actions[step], np.array([False, step == 7]), seeds)
    assert other.set_state(envs.get_state())
    other.rng.bit_generator.state = envs.rng.bit_generator.state
    for a in actions[8:]:
        for one, same in zip(envs.step(a)[:4], other.step(a)[:4]):
            np.testing.assert_array_equal(one, same)
    envs.step(actions[0])
    assert not other.set_state(envs.get_state())


# History


def test_the_tape_of_push_frame():
    frames = np.array([[1, 2, 3, 4], [1, 2, 3, 4]])[..., None]
    frames = wrappers.push_frame(frames, np.array([[5], [5]]), np.array([False, False]))
    assert frames[..., 0].tolist() == [[2, 3, 4, 5], [2, 3, 4, 5]]
    frames = wrappers.push_frame(frames, np.array([[6], [6]]), np.array([True, False]))
    assert frames[..., 0].tolist() == [[0, 0, 0, 6], [3, 4, 5, 6]]


# Flicker


@pytest.mark.parametrize("shape, num_steps", [((3,), 600), ((40, 32, 3), 150)])
@pytest.mark.parametrize("flicker", [0.0, 0.3, 1.0])
def test_flicker_zeroes_whole_frames_at_its_rate_and_unobscured_keeps_them(shape, num_steps, flicker):
    envs = make_small_envs(counting.register(length=7, shape=shape), 8, flicker=flicker)
    frame, _ = envs.reset(seed=np.arange(8))
    expected, obscured = np.ones(8), []
    for a in random_actions(envs, num_steps):
        flat = frame.reshape(8, -1)
        real = envs.unobscured.reshape(8, -1)
        assert (real == expected[:, None]).all()
        zeroed = (flat == 0).all(axis=1)
        assert (flat[~zeroed] == real[~zeroed]).all()  # A frame is zeroed whole or not at all.
        obscured.append(zeroed)
        frame, *_ = envs.step(a)
        expected = expected % 8 + 1
    obscured = np.array(obscured)
    deviation = np.sqrt(flicker * (1 - flicker) / obscured.size)
    assert abs(obscured.mean() - flicker) <= 4 * deviation
    assert abs(obscured[::8].mean() - flicker) <= 4 * deviation * np.sqrt(8)  # Reset rows flicker at the same rate.
    if 0 < flicker < 1:  # Environments flicker independently of each other.
        assert abs(np.corrcoef(obscured.T) - np.eye(8)).max() < 5 / np.sqrt(num_steps)


def test_each_environment_may_flicker_at_another_rate():
    rates, num_steps = np.array([0, 0.3, 0.9, 1]), 600
    envs = make_small_envs(counting.register(length=7), 4, flicker=rates)
    frames, *_ = play_actions(envs, np.arange(4), random_actions(envs, num_steps))
    obscured = (frames == 0).all(axis=-1).mean(axis=0)
    assert (abs(obscured - rates) <= 4 * np.sqrt(rates * (1 - rates) / num_steps)).all(), obscured


@pytest.mark.parametrize("flicker", [0.3, np.full(4, 0.3)])
def test_one_number_per_environment_and_step_decides_whether_it_is_obscured(flicker):
    """Pin the draws of flicker, because a run that goes on must be bit-exact."""
    envs = make_small_envs(counting.register(length=7), 4, flicker=flicker)
    frames, *_ = play_actions(envs, [5, 6, 7, 8], random_actions(envs, 20))
    expected = np.random.default_rng([5, 6, 7, 8]).random((21, 4)) < 0.3
    np.testing.assert_array_equal((frames == 0).all(axis=-1), expected)


def test_flicker_does_not_touch_the_game():
    clear, flickering = make_small_envs("Pong", sticky=0.25), make_small_envs("Pong", sticky=0.25, flicker=0.5)
    actions = random_actions(clear, 40)
    frames, *rows = play_actions(clear, [5, 6], actions)
    obscured, *same_rows = play_actions(flickering, [5, 6], actions)
    seen = obscured.any(axis=(2, 3))
    assert 0.2 < seen.mean() < 0.8
    np.testing.assert_array_equal(obscured[seen], frames[seen])
    for a, b in zip(rows, same_rows):
        np.testing.assert_array_equal(a, b)


# Ends of episodes, frame skip


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_frame_skip_sums_rewards_and_stops_at_the_end(end):
    envs = make_small_envs(counting.register(length=4, end=end), 1, frame_skip=3)
    frames, rewards, terminated, truncated = play_actions(envs, [1], [[2]] * 4)
    assert frames[:, 0, 0].tolist() == [1, 4, 5, 1, 4]
    assert rewards[:, 0].tolist() == [22 + 32 + 42, 52, 0, 96]
    assert (terminated if end == "terminated" else truncated)[:, 0].tolist() == [False, True, False, False]
    assert not (truncated if end == "terminated" else terminated).any()


@pytest.mark.parametrize("env, settings, last", [
    (counting.register(length=4), dict(), 4), (counting.register(length=4, end="truncated"), dict(), 4),
    ("Pong", dict(max_episode_frames=40), 10)])
def test_reset_rows_have_no_reward_and_no_flags_and_ignore_the_action(env, settings, last):
    envs = make_small_envs(env, **settings)
    actions = random_actions(envs, last + 1)
    frames, rewards, *flags = play_actions(envs, [1, 2], actions)
    assert (flags[0] | flags[1])[last - 1].all()
    assert not rewards[last].any() and not flags[0][last].any() and not flags[1][last].any()
    actions[last] = (actions[last] + 1) % len(envs.action_names)
    np.testing.assert_array_equal(frames, play_actions(envs, [1, 2], actions)[0])


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.DISABLED])
def test_another_autoreset_mode_is_refused(mode):
    envs = gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync", vector_kwargs=dict(autoreset_mode=mode))
    with pytest.raises(AssertionError, match="one reset row after each end"):
        wrappers.Flicker(envs, 0.0, ["left", "right"], is_atari=False)


# Spaces


@pytest.mark.parametrize("shape", [
    (32, 33), (84, 84), (210, 160, 3), (100, 50, 1), (64, 64, 4), (3, 64, 48), (1, 36, 40), (32, 32, 3)])
def test_images_of_any_size_and_colour_become_gray(shape):
    envs = make_small_envs(counting.register(shape=shape))
    frames, *_ = play_actions(envs, [1, 2], random_actions(envs, 3))
    assert frames.shape == (4, 2, 84, 84) and frames.dtype == np.uint8 and envs.frame_shape == (84, 84)
    assert (frames == np.arange(1, 5).reshape(4, 1, 1, 1)).all()


@pytest.mark.parametrize("colour, gray", [
    ((255, 0, 0), 76), ((0, 255, 0), 150), ((0, 0, 255), 29), ((255, 255, 255), 255)])
def test_gray_is_the_luma_of_red_green_and_blue(colour, gray):
    image = np.full((40, 60, 3), colour, np.uint8)  # .299 R + .587 G + .114 B
    assert (wrappers.as_screen(image, (84, 84)) == gray).all()
    assert (wrappers.as_screen(np.moveaxis(image, -1, 0), (84, 84)) == gray).all()


@pytest.mark.parametrize("shape", [(168, 84), (168, 84, 1), (168, 84, 3), (3, 168, 84)])
def test_rows_stay_rows_and_columns_stay_columns(shape):
    image = np.zeros(shape, np.uint8)
    view = image.reshape(168, 84, -1) if shape[0] == 168 else np.moveaxis(image, 0, -1)
    view[:84, :21] = 200  # the upper half of the left quarter
    expected = np.zeros((84, 84), np.uint8)
    expected[:42, :21] = 200
    np.testing.assert_array_equal(wrappers.as_screen(image, (84, 84)), expected)


@pytest.mark.parametrize("box", [
    spaces.Box(0, 1, (10, 10, 4), np.uint8),  # MinAtar
    spaces.Box(0, 255, (7, 7, 3), np.uint8),  # MiniGrid: an object, its colour and its state
    spaces.Box(0, 255, (31, 90), np.uint8),  # a terminal's characters
    spaces.Box(0, 1, (64, 64, 3), np.uint8),
    spaces.Box(1, 255, (64, 64), np.uint8),
    spaces.Box(0, 1, (9, 9), bool),
    spaces.Box(0, 1, (40, 40, 3), np.float32)])
def test_what_is_no_picture_is_a_vector_of_the_same_numbers_and_a_remark_says_so(box):
    name = register_screen(Grid, observation_space=box)
    envs = make_small_envs(name)
    frames, *_ = play_actions(envs, [1, 2], random_actions(envs, 2))
    size = int(np.prod(box.shape))
    assert envs.frame_shape == (size,) and frames.dtype == np.float32
    low, high = float(box.low.flat[0]), float(box.high.flat[0])
    np.testing.assert_array_equal(frames[0, 0], (np.arange(size) % 251).clip(low, high))
    _, remark = envs.remarks
    assert remark.startswith(
        f"--env={name} has observations {box.dtype}{list(box.shape)} from {low:g} to {high:g}: no pictures")
    assert remark.endswith(f"so the agent sees vectors of {size} numbers.")


@pytest.mark.parametrize("shape, word", [((84, 84, 4), "alpha"), ((84, 84, 3), None), ((64, 64), None)])
def test_a_fourth_channel_that_is_dropped_is_said(shape, word):
    remarks = make_small_envs(counting.register(shape=shape), max_episode_frames=9).remarks
    assert [word in remark for remark in remarks] == [True] * bool(word)


def test_vectors_keep_their_numbers():
    envs = make_small_envs(counting.register(shape=(5,)))
    frames, *_ = play_actions(envs, [1, 2], random_actions(envs, 2))
    assert frames.dtype == np.float32 and envs.frame_shape == (5,)
    assert frames[:, 1].tolist() == [[1] * 5, [2] * 5, [3] * 5]


@pytest.mark.parametrize("start", [1, -1, 5])
def test_actions_that_do_not_start_at_zero(start):
    envs = make_small_envs(counting.register(start=start), 1)
    _, rewards, *_ = play_actions(envs, [1], [[0], [1], [2]])  # The environment asserts that its action space has them.
    assert rewards[:, 0].tolist() == [20, 31, 42]
    assert envs.action_names == ["0", "1", "2"]


VECTOR, TWO = spaces.Box(-1, 1, (3,), np.float32), spaces.Discrete(2)


class Showing(gymnasium.Env):
    """An environment that shows the same observation for ever."""

    action_space = spaces.Discrete(2)

    def __init__(self, observation_space, shown):
        self.observation_space, self.shown = observation_space, shown

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return copy.deepcopy(self.shown), {}

    def step(self, action):
        return copy.deepcopy(self.shown), 0.0, False, False, {}


@pytest.mark.parametrize("space, shown, vector, said", [
    (spaces.Discrete(4), 2, [0, 0, 1, 0], "Discrete(4)"),
    (spaces.Discrete(3, start=5), 6, [0, 1, 0], "Discrete(3, start=5)"),
    (spaces.MultiDiscrete([2, 3]), np.array([1, 2]), [0, 1, 0, 0, 1], "MultiDiscrete([2 3])"),
    (spaces.MultiBinary(3), np.array([1, 0, 1], np.int8), [1, 0, 1], "MultiBinary(3)"),
    (spaces.Tuple([TWO, VECTOR]), (1, np.float32([0.5, -1, 1])), [0, 1, 0.5, -1, 1], "Tuple(Discrete(2)"),
    (spaces.Dict(b=TWO, a=VECTOR), dict(a=np.float32([0.5, -1, 1]), b=0), [1, 0, 0.5, -1, 1], "Dict('b'"),
    (spaces.Dict(a=spaces.Dict(b=TWO), c=spaces.Text(5)), dict(a=dict(b=1), c="word"), [0, 1], "Dict('a'")])
def test_what_is_no_box_is_flattened_and_a_remark_says_so(space, shown, vector, said):
    name = f"Showing{len(gymnasium.registry)}-v0"
    gymnasium.register(name, entry_point=Showing, kwargs=dict(observation_space=space, shown=shown))
    envs = make_small_envs(name, 2)
    frames, *_ = play_actions(envs, [1, 2], [[0, 1]])
    assert envs.frame_shape == (len(vector),) and frames.dtype == np.float32
    assert frames.tolist() == [[vector] * 2] * 2  # after the reset and after the step
    _, remark = envs.remarks
    assert remark.startswith(f"--env={name} has observations {said}")
    assert f": the agent sees vectors of {len(vector)} numbers, whole numbers as one-hot" in remark
    assert remark.endswith(", and nothing of c, which has no numbers.") == ("c" in getattr(space, "spaces", ()))


class AnySpaces(gymnasium.Env):
    """An environment with any spaces, which cannot be played."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space


@pytest.mark.parametrize("observation_space, action_space, kind", [
    (spaces.Dict(a=spaces.Text(5)), TWO, "observation space Dict"),
    (spaces.Dict(a=spaces.Dict(b=VECTOR, c=spaces.Text(5))), TWO, "observation space Dict"),
    (spaces.Tuple([VECTOR, spaces.Text(5)]), TWO, "observation space Tuple"),
    (spaces.Sequence(VECTOR), TWO, "observation space Sequence"),
    (spaces.Text(5), TWO, "observation space Text"),
    (spaces.Box(0, 255, (4, 36, 40), np.uint8), TWO, r"images of shape \(4, 36, 40\)"),  # 4 frames, not 4 colours
    (VECTOR, VECTOR, "action space Box"),
    (VECTOR, spaces.MultiDiscrete([2, 3]), "action space MultiDiscrete"),
    (VECTOR, spaces.Box(-np.arange(1.0, 61), np.arange(1.0, 61), dtype=np.float64), "action space Box")])
def test_other_spaces_are_refused_in_one_sentence(observation_space, action_space, kind):
    name = f"AnySpaces{len(gymnasium.registry)}-v0"
    settings = dict(observation_space=observation_space, action_space=action_space)
    gymnasium.register(name, entry_point=AnySpaces, kwargs=settings)
    with pytest.raises(ValueError, match=kind) as error:
        make_small_envs(name)
    assert str(error.value).startswith(f"--env={name} ") and "expect" in str(error.value)
    assert "\n" not in str(error.value)
