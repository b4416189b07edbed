"""POPGym and MiniGrid themselves: the agent sees what they show, trains on it, and a stopped run goes on.

These tests need requirements-pomdp.txt.
"""

import numpy as np
import pytest

from environments import catalogue
from helpers.playing import make_small_envs
from helpers.short_runs import assert_same_runs, stop_at, train_run

pytestmark = pytest.mark.optional

SHORT = """--maxsteps=120 --units=8 --num_envs=2 --bufflen=200 --batch_size=4 --unroll=3 --learning_starts=40
    --eval_period=60 --eval_episodes=2 --checkpoint_period=50 --max_episode_frames=30""".split()


@pytest.mark.parametrize("env, size, num_actions", [
    ("popgym:popgym-RepeatFirstEasy-v0", 4, 4),  # Discrete
    ("popgym:popgym-CountRecallEasy-v0", 4, 27),  # MultiDiscrete
    ("popgym:popgym-AutoencodeEasy-v0", 6, 4),  # Tuple of two Discrete
    ("popgym:popgym-PositionOnlyCartPoleEasy-v0", 2, 2),  # Box
    ("popgym:popgym-ConcentrationEasy-v0", 156, 52),
    ("minigrid:MiniGrid-MemoryS7-v0", 151, 7)])  # Dict of a Discrete, a Box and a text
def test_their_observations_are_vectors(env, size, num_actions):
    envs = make_small_envs(env)
    frame, _ = envs.reset(seed=np.array([1, 2]))
    assert envs.frame_shape == (size,) and frame.dtype == np.float32 and len(envs.action_names) == num_actions


def test_who_repeats_the_first_card_returns_one():
    envs = make_small_envs("popgym:popgym-RepeatFirstEasy-v0", 3)
    frame, _ = envs.reset(seed=np.array([1, 2, 3]))
    first, total, playing = frame.argmax(axis=1), np.zeros(3), np.ones(3, bool)
    assert (frame.sum(axis=1) == 1).all() and len(set(first)) > 1
    while playing.any():
        _, reward, terminated, truncated, _ = envs.step(first)
        total += np.where(playing, reward, 0)
        playing &= ~(terminated | truncated)
    np.testing.assert_allclose(total, 1)


def test_a_grid_is_seen_with_its_direction_and_without_its_text():
    envs = make_small_envs("minigrid:MiniGrid-MemoryS7-v0", 1)
    frame, _ = envs.reset(seed=np.array([1]))
    turned, *_ = envs.step(np.array([1]))  # to the right
    grid = envs.env.envs[0].unwrapped
    shown = grid.gen_obs()
    np.testing.assert_array_equal(turned[0], [*np.eye(4)[shown["direction"]], *shown["image"].ravel()])
    assert turned[0, :4].argmax() == (frame[0, :4].argmax() + 1) % 4
    assert any(remark.endswith("nothing of mission, which has no numbers.") for remark in envs.remarks)


@pytest.mark.parametrize("env", ["popgym:popgym-RepeatFirstEasy-v0", "minigrid:MiniGrid-MemoryS7-v0"])
def test_a_run_on_them_that_is_stopped_equals_one_that_is_not(env, tmp_path):
    arguments = [*SHORT, f"--env={env}"]
    whole = train_run(arguments, tmp_path / "whole")
    stop_at(70, arguments, tmp_path / "stopped")
    train_run(arguments, tmp_path / "stopped")
    assert_same_runs(tmp_path / "whole", tmp_path / "stopped")
    assert whole.updates == 20 and whole.episodes > 0


def test_an_action_that_is_several_numbers_is_refused():
    with pytest.raises(ValueError, match="action space MultiDiscrete.*expects Discrete actions"):
        make_small_envs("popgym:popgym-BattleshipEasy-v0")


def test_a_package_that_is_there_has_to_be_named():
    assert catalogue.describe("minigrid:MiniGrid-MemoryS7-v0")[0] == "minigrid:MiniGrid-MemoryS7-v0"
