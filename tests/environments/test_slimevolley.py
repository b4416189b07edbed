"""Slime volleyball: the package's game stepped beside ours, and what is said where it is not installed.

Tests marked slimevolley need requirements-slimevolley.txt; training, resuming and filming are in test_pomdps.py.
"""

import pathlib
import subprocess
import sys
import warnings

from launch import build

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import evaluation
import train
from environments import catalogue, slimevolley
from storage import grids

ROOT = pathlib.Path(__file__).parents[2]
IDS = ["SlimeVolley-v0", "SlimeVolleyNoFrameskip-v0"]
# The buttons forward, backward and jump of each action; on the right, forward is to the left.
BUTTONS = dict(NOOP=[0, 0, 0], LEFT=[1, 0, 0], UPLEFT=[1, 0, 1], UP=[0, 0, 1], UPRIGHT=[0, 1, 1], RIGHT=[0, 1, 0])


@pytest.mark.parametrize("name", IDS)
def test_their_names_are_known_and_suggested_with_or_without_the_package(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "slimevolleygym", None)
    assert catalogue.describe(name) == (name, dict(frame_skip=1, max_episode_frames=3000))
    with pytest.raises(ValueError, match=f"nearest names are .*{name}"):
        catalogue.describe(name.replace("Volley", "Voley"))


def test_without_the_package_one_sentence_says_how_to_install_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "slimevolleygym", None)  # As Python has it where it is not installed.
    assert train.main(["--env=SlimeVolley-v0", f"--run_dir={tmp_path / 'run'}"]) == 2
    assert capsys.readouterr().err == ("train.py: --env=SlimeVolley-v0 needs a package that is not installed: "
                                       "slimevolleygym; pip install -r requirements-slimevolley.txt\n")
    assert (ROOT / "requirements-slimevolley.txt").exists() and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_package_that_is_broken_is_one_sentence_too(tmp_path, monkeypatch, capsys):
    (tmp_path / "slimevolleygym.py").write_text("import numpy\nnumpy.bool_of_old")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "slimevolleygym", raising=False)
    assert train.main(["--env=SlimeVolley-v0", f"--run_dir={tmp_path / 'run'}"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("train.py: slimevolleygym does not work here (AttributeError(") and said.count("\n") == 1
    assert "bool_of_old" in said and said.endswith("pip install -r requirements-slimevolley.txt\n")


# What needs the package


@pytest.mark.slimevolley
def test_lives_are_no_flag_of_it(capsys):
    assert train.main(["--env=SlimeVolley-v0", "--life_loss=terminal"]) == 2  # A life lost is a point lost: -1 anyhow.
    assert "--life_loss=terminal does not apply to --env=SlimeVolley-v0" in capsys.readouterr().err


@pytest.mark.slimevolley
def test_the_grid_is_siegel_and_orgads_sixteen_runs(monkeypatch):
    monkeypatch.chdir(ROOT)
    commands = list(grids.read_grid(ROOT / "slurm/grids/siegel_orgad.csv").values())
    settings = [train.configure(command[2:])["settings"] for command in commands]
    varied = {tuple(each[name] for name in ("network", "epsilonStep", "bufflen")) for each in settings}
    assert len(settings) == 16 and varied == {
        (network, step, bufflen) for network in ("DQN", "DRQN") for step in (9e-7, 1.2e-6, 1.8e-6, 3.6e-6)
        for bufflen in (10_000, 100_000)}
    table = dict(env="SlimeVolleyNoFrameskip-v0", optimizer="rmsprop", batch_size=32, gamma=0.95, clip_norm=10,
                 units=256, epsilon_begin=1, epsilon_end=0.1, maxsteps=3_000_000, eval_period=2500)
    assert all({name: each[name] for name in table} == table for each in settings)


def play_slimevolley(env, seed, policy):
    """Play an episode with `policy(observation)`; return observations, rewards, lives, and how it ended."""
    observation, info = env.reset(seed=seed)
    observations, rewards, lives, ended = [observation], [], [info["lives"]], (False, False)
    while not any(ended):
        observation, reward, *ended, info = env.step(policy(observation))
        observations.append(observation)
        rewards.append(reward)
        lives.append(info["lives"])
    return np.array(observations), rewards, lives, ended


def random_policy(seed):
    rng = np.random.default_rng(seed)
    return lambda _: int(rng.integers(6))


@pytest.mark.slow
@pytest.mark.slimevolley
@pytest.mark.parametrize("name", IDS)
def test_gymnasium_accepts_it_without_a_warning(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make(name, disable_env_checker=True).unwrapped)
        play_slimevolley(gymnasium.make(name, max_episode_steps=100), 1, random_policy(1))


@pytest.mark.slow
@pytest.mark.slimevolley
def test_importing_it_says_nothing_and_leaves_numpys_print_options():
    code = ("import numpy, environments.slimevolley, gymnasium; before = numpy.get_printoptions(); "
            "gymnasium.make('SlimeVolley-v0').reset(seed=1); assert numpy.get_printoptions() == before")
    done = subprocess.run([sys.executable, "-W", "always", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
@pytest.mark.slimevolley
@pytest.mark.parametrize("name, raw_name", [*zip(IDS, ["SlimeVolleyEnv", "SlimeVolleyPixelEnv"])])
def test_it_is_the_packages_game(name, raw_name):
    """The raw one takes buttons; for 1,500 steps, through the end of an episode and into the next."""
    ours, raw = gymnasium.make(name).unwrapped, getattr(slimevolley._import_package(), raw_name)()
    names, rng = ours.metadata["action_names"], np.random.default_rng(1)
    raw.seed(7)
    observation, same, ends, points = ours.reset(seed=7)[0], raw.reset(), 0, 0
    for _ in range(1500 if name == "SlimeVolley-v0" else 700):
        assert observation.dtype == ours.observation_space.dtype
        np.testing.assert_array_equal(observation, same.astype(observation.dtype))
        action = int(rng.integers(6))
        observation, reward, terminated, truncated, info = ours.step(action)
        same, same_reward, done, same_info = raw.step(BUTTONS[names[action]])
        assert (reward, terminated, info["lives"]) == (same_reward, done, same_info["ale.lives"]) and not truncated
        points += abs(reward)
        if done:
            observation, same, ends = ours.reset()[0], raw.reset(), ends + 1
    assert ends >= 1 and points >= 5


@pytest.mark.slow
@pytest.mark.slimevolley
def test_what_follows_a_seed_is_a_function_of_it_and_of_the_actions():
    env, fresh = gymnasium.make("SlimeVolley-v0"), gymnasium.make("SlimeVolley-v0")
    first = play_slimevolley(env, 5, random_policy(0))
    other = play_slimevolley(env, 6, random_policy(1))
    for one in (env, fresh):  # The opponent's memory too begins anew.
        again = play_slimevolley(one, 5, random_policy(0))
        np.testing.assert_array_equal(first[0], again[0])
        assert first[1:] == again[1:]
    assert not np.array_equal(first[0][0], other[0][0])


@pytest.mark.slow
@pytest.mark.slimevolley
def test_a_point_is_1_or_minus_1_and_the_episode_terminates_when_five_lives_are_lost():
    _, rewards, lives, ended = play_slimevolley(gymnasium.make("SlimeVolley-v0"), 1, random_policy(2))
    assert set(rewards) == {-1, 0, 1} or set(rewards) == {-1, 0}
    assert (-np.diff(lives) == (np.array(rewards) == -1)).all()
    assert lives[0] == 5 and lives[-1] == 0 and ended == [True, False]


@pytest.mark.slow
@pytest.mark.slimevolley
def test_random_play_loses_by_4_87():
    returns = [sum(play_slimevolley(gymnasium.make("SlimeVolley-v0"), seed, random_policy(seed))[1])
               for seed in range(40)]
    # Thousands of episodes have a mean of -4.87 and a deviation of 0.43.
    assert abs(np.mean(returns) + 4.87) < 4 * 0.43 / np.sqrt(40), np.mean(returns)


@pytest.mark.slow
@pytest.mark.slimevolley
@pytest.mark.parametrize("limit", [3000, 3500])
def test_who_holds_out_to_the_limit_is_truncated_there(limit):
    """The package's player is on both sides, so that few points are lost."""
    def package_policy(observation):
        forward, backward, jump = player.predict(observation)
        return actions.index([forward and not backward, backward and not forward, jump])
    actions, player = list(BUTTONS.values()), slimevolley._import_package().slimevolley.BaselinePolicy()
    env = gymnasium.make("SlimeVolley-v0", max_episode_steps=limit)
    _, rewards, lives, ended = play_slimevolley(env, 1, package_policy)
    assert len(rewards) == limit and lives[-1] > 0 and ended == [False, True]


@pytest.mark.slow
@pytest.mark.slimevolley
def test_pixels_become_gray_and_change_with_the_game():
    envs = catalogue.make_envs("SlimeVolleyNoFrameskip-v0", 2, frame_skip=4, max_episode_frames=3000,
                               render_mode="rgb_array")
    frames = [envs.reset(seed=[1, 2])[0], *(envs.step(np.array([action, 3]))[0] for action in [0, 1, 2, 3, 4, 5] * 5)]
    frames, screen = np.array(frames), envs.render()[0]
    assert frames.shape == (31, 2, 84, 84) and frames.dtype == np.uint8
    assert len({frame.tobytes() for frame in frames[:, 0]}) > 25
    night, ground = 15, 114  # Gray of its background (11, 16, 19) and of the ground (116, 114, 117)
    assert abs(np.median(frames[:, :, :70]) - night) <= 1 and abs(np.median(frames[:, :, 80:]) - ground) <= 2
    assert screen.shape == (336, 672, 3) and screen.dtype == np.uint8
    assert len(np.unique(screen.reshape(-1, 3), axis=0)) > 4
    assert envs.action_names == list(BUTTONS)


class RandomAgent:
    def initial_state(self, num_envs):
        return []

    def act(self, frames, state, first, epsilon, rng):
        return rng.integers(6, size=len(frames)), []

    def see_reward(self, state, reward):
        pass


@pytest.mark.slow
@pytest.mark.slimevolley
def test_one_episode_of_each_environment_is_scored(tmp_path):
    settings = train.configure(["--env=SlimeVolley-v0", "--frame_skip=4"])["settings"]
    envs = build.make_envs(settings, 6)
    episodes = evaluation.evaluate(RandomAgent(), envs, 1, 1.0, 1, evaluation=0)
    assert len(episodes) == 6
    assert all(-5 <= episode["episode_return"] <= 5 and 50 < episode["length"] <= 750 for episode in episodes)
