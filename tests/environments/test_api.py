"""Environments that follow the API of old Gym, or none, are refused before training; rewards become numbers."""

import gymnasium
import numpy as np
import pytest

from environments import api, catalogue


class Usual(gymnasium.Env):
    """One step, with a reward of 2.5."""

    observation_space, action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32), gymnasium.spaces.Discrete(2)
    reward = 2.5

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.zeros(2, np.float32), self.reward, False, False, {}


class AnyKeywords(Usual):
    def reset(self, **keywords):
        return super().reset(**keywords)


class WithoutSeed(Usual):
    def reset(self):
        return np.zeros(2, np.float32)


class WithoutOptions(Usual):
    def reset(self, seed=None):
        return super().reset(seed=seed)


class ObservationAlone(Usual):
    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32)


class OtherShape(Usual):
    def reset(self, *, seed=None, options=None):
        return np.zeros(3, np.float32), {}


class StepOfFour(Usual):
    def step(self, action):
        return np.zeros(2, np.float32), 1.0, False, {}


class WithArgument(Usual):
    def __init__(self, size):
        self.size = size


class WithoutActionSpace(gymnasium.Env):
    observation_space = Usual.observation_space


class OddInfos(Usual):
    """Gymnasium's vector environment cannot merge such infos."""

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return np.zeros(2, np.float32), dict(winner=1, legal=np.arange(2))

    def step(self, action):
        self.t += 1
        return np.zeros(2, np.float32), 1.0, self.t % 2 == 0, False, dict(winner=None, legal=np.arange(self.t))


class TwoRewards(Usual):
    reward = np.array([1.0, 2.0])


class OfOldGym:
    observation_space, action_space, metadata = Usual.observation_space, Usual.action_space, {}


def build(environment, **attributes):
    """Return make_envs' two environments of a class."""
    made = type("Made", (environment,), attributes)
    gymnasium.register("Made-v0", made, max_episode_steps=3)
    try:
        return catalogue.make_envs("Made-v0", 2, frame_skip=attributes.pop("skip", 1), max_episode_frames=3)
    finally:
        del gymnasium.registry["Made-v0"]


@pytest.mark.parametrize("environment, sentence", [
    (WithoutSeed, "has a reset without seed and options, as in old Gym; expected Gymnasium's reset(*, seed=None, "),
    (WithoutOptions, "has a reset without options, as in old Gym"),
    (ObservationAlone, "returns one ndarray from reset, as in old Gym; expected Gymnasium's observation, info"),
    (OtherShape, "returns an observation of shape (3,) from reset; expected (2,), as its observation_space has"),
    (WithArgument, "cannot be made: "),
    (WithoutActionSpace, "cannot be made: "),
    (OfOldGym, "cannot be made: The environment must inherit from the gymnasium.Env class"),
    (StepOfFour, "returns 4 values from step, as in old Gym; expected Gymnasium's observation, reward, terminated, ")])
def test_another_api_is_refused_in_a_sentence(environment, sentence):
    with pytest.raises(ValueError) as error:
        build(environment)
    assert str(error.value).startswith(f"--env=Made-v0 {sentence}")


@pytest.mark.parametrize("reward, shape, kind", [
    (np.array([1.0, 2.0]), "(2,)", "ndarray"), (None, "()", "NoneType"), ([], "(0,)", "list"), ("much", "()", "str")])
def test_a_reward_that_is_no_number_is_refused(reward, shape, kind):
    with pytest.raises(ValueError) as error:
        build(Usual, reward=reward)
    assert str(error.value) == f"--env=Made-v0 pays a reward of shape {shape}, {kind}; expected one number"


@pytest.mark.filterwarnings("ignore:.*The reward returned by `step")
@pytest.mark.parametrize("skip, total", [(1, 2.5), (2, 5.0)])
@pytest.mark.parametrize("reward", [2.5, np.float32(2.5), np.array(2.5), np.array([2.5]), np.array([[2.5]]), [2.5]])
def test_a_reward_of_one_number_counts_whatever_its_shape(reward, skip, total):
    envs = build(Usual, reward=reward, skip=skip)
    envs.reset(seed=np.arange(2))
    assert envs.step(np.zeros(2, np.int64))[1].tolist() == [total, total]


def test_a_reset_that_takes_any_keyword_is_right():
    api.check(AnyKeywords(), "X")


def test_infos_of_any_kind_do_no_harm():
    envs = build(OddInfos)
    envs.reset(seed=np.arange(2))
    assert [envs.step(np.zeros(2, np.int64))[1].tolist() for _ in range(3)] == [[1, 1], [1, 1], [0, 0]]


def test_an_environment_is_judged_as_its_entry_point_returns_it():
    make = lambda: gymnasium.wrappers.TransformReward(TwoRewards(), np.sum)
    gymnasium.register("Scalar-v0", make, max_episode_steps=3)
    try:
        envs = catalogue.make_envs("Scalar-v0", 2, frame_skip=1, max_episode_frames=3)
    finally:
        del gymnasium.registry["Scalar-v0"]
    envs.reset(seed=np.arange(2))
    assert envs.step(np.zeros(2, np.int64))[1].tolist() == [3, 3]
