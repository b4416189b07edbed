"""Small partially observed environments: what they hide and pay; training, resuming and filming know them."""

import json
import pathlib
import signal
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import evaluate
import evaluation
import train
import wrappers
from environments import catalogue

ROOT = pathlib.Path(__file__).parents[2]
PIXELS = {"CartPolePixels-v0": "CartPole-v1", "MountainCarPixels-v0": "MountainCar-v0",
          "AcrobotPixels-v0": "Acrobot-v1"}
IDS = ["CartPolePosition-v0", "DelayedCue-v0", "DelayedCue30-v0", "DelayedCue100-v0", *PIXELS]
LEFT, RIGHT, CORRIDOR, FORK = np.eye(4).tolist()


@pytest.fixture(autouse=True)
def no_display(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


def play_with_policy(env, seed, policy):
    """Play an episode with `policy(observation)`; return observations, rewards, and how it ended."""
    observation, _ = env.reset(seed=seed)
    observations, rewards, terminated, truncated = [observation], [], False, False
    while not (terminated or truncated):
        observation, reward, terminated, truncated, _ = env.step(policy(observation))
        observations.append(observation)
        rewards.append(reward)
    return np.array(observations), rewards, terminated, truncated


def scripted_policy(actions):
    """Return a policy that takes `actions` one after the other."""
    turn = iter(actions)
    return lambda _: next(turn)


@pytest.mark.parametrize("name", IDS)
def test_gymnasium_accepts_them_without_a_warning(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make(name, disable_env_checker=True).unwrapped)
        play_with_policy(gymnasium.make(name), 1, lambda _: 0)


@pytest.mark.parametrize("name, cap", [
    ("CartPolePosition-v0", 500), ("DelayedCue-v0", 12), ("DelayedCue100-v0", 102), ("CartPolePixels-v0", 500),
    ("MountainCarPixels-v0", 200), ("AcrobotPixels-v0", 500)])
def test_their_names_are_known_and_suggested(name, cap):
    assert catalogue.describe(name) == (name, dict(frame_skip=1, max_episode_frames=cap))
    with pytest.raises(ValueError, match=f"nearest names are .*{name}"):
        catalogue.describe(name[:3] + name[4:])


# CartPolePosition-v0


def test_it_is_cartpole_without_its_velocities():
    ours, full = (gymnasium.make(name, render_mode="rgb_array") for name in ("CartPolePosition-v0", "CartPole-v1"))
    for seed in range(5):
        rng = np.random.default_rng(seed)
        actions = rng.integers(2, size=500).tolist()
        observations, *others = play_with_policy(ours, seed, scripted_policy(actions))
        whole, *same = play_with_policy(full, seed, scripted_policy(actions))
        assert observations.shape == (len(whole), 2) and observations.dtype == np.float32
        np.testing.assert_array_equal(observations, whole[:, [0, 2]])
        assert others == same
        np.testing.assert_array_equal(ours.render(), full.render())
    assert ours.observation_space.high.tolist() == pytest.approx([4.8, np.radians(24)])
    assert ours.observation_space.low.tolist() == (-ours.observation_space.high).tolist()


def test_what_balances_the_pole_needs_two_frames_and_has_500_steps():
    env = gymnasium.make("CartPolePosition-v0")

    before = [0]

    def balance(observation):
        velocity = (observation - before[-1]) / 0.02
        before.append(observation)
        return int(observation @ [0.1, 1] + velocity @ [0.2, 0.3] > 0)
    _, rewards, terminated, truncated = play_with_policy(env, 1, balance)
    assert (len(rewards), sum(rewards), terminated, truncated) == (500, 500, False, True)
    _, rewards, terminated, _ = play_with_policy(env, 1, lambda observation: int(observation @ [0.1, 1] > 0))
    assert len(rewards) < 200 and terminated


# DelayedCue-v0


@pytest.mark.parametrize("choice", [0, 1])
def test_the_whole_of_an_episode(choice):
    env = gymnasium.make("DelayedCue-v0", length=3)
    seen = set()
    for seed in range(8):
        policy = scripted_policy([1, 0, 1, choice])  # The first three actions do nothing.
        observations, rewards, terminated, truncated = play_with_policy(env, seed, policy)
        cue = observations[0].tolist()
        seen.add(cue.index(1))
        assert cue in (LEFT, RIGHT) and observations[1:].tolist() == [CORRIDOR, CORRIDOR, FORK, FORK]
        assert rewards == [0, 0, 0, 1 if cue.index(1) == choice else -1]
        assert terminated and not truncated
    assert seen == {0, 1}


@pytest.mark.parametrize("env, length", [("DelayedCue-v0", 10), ("DelayedCue30-v0", 30), ("DelayedCue100-v0", 100)])
def test_an_id_says_how_many_steps_the_cue_lies_behind_the_choice(env, length):
    observations, rewards, *_ = play_with_policy(gymnasium.make(env), 0, scripted_policy([0] * (length + 1)))
    assert observations[length - 1].tolist() == CORRIDOR and observations[length].tolist() == FORK
    assert len(rewards) == length + 1 and rewards[-1] in (1, -1)


def test_a_corridor_without_length_is_refused():
    with pytest.raises(ValueError, match="length=0 was given; expected at least 1"):
        gymnasium.make("DelayedCue-v0", length=0)


class Policy:
    """An agent of `choose(frames [N, H, D], cue int64[N], rng)`, whose state is the last cue that it saw."""

    def __init__(self, choose):
        self.choose, self.stacks = choose, []

    def initial_state(self, num_envs):
        return [np.zeros(num_envs, np.int64)]

    def act(self, frames, state, first, epsilon, rng):
        newest = frames[:, -1]
        cue = np.where(newest[:, :2].any(axis=1), newest[:, 1], state[0]).astype(np.int64)
        self.stacks.append(frames.copy())
        return self.choose(frames, cue, rng), [cue]

    def see_reward(self, state, reward):
        pass


def play_delayed_cue(choose, history=1, num_envs=200, seed=0):
    envs = catalogue.make_envs("DelayedCue-v0", num_envs, frame_skip=1, max_episode_frames=0)
    policy = Policy(choose)
    episodes = evaluation.evaluate(policy, envs, history, 0.0, seed, evaluation=0)
    assert {episode["length"] for episode in episodes} == {11}
    return np.array([episode["episode_return"] for episode in episodes]), np.array(policy.stacks)


def test_only_memory_pays():
    always_left, stacks = play_delayed_cue(lambda frames, cue, rng: np.zeros(len(frames), np.int64))
    cue = stacks[0, :, 0, 1]  # 1: right
    assert always_left.tolist() == np.where(cue == 0, 1, -1).tolist()
    assert abs(always_left.mean()) < 4 / np.sqrt(200)
    at_random, _ = play_delayed_cue(lambda frames, cue, rng: rng.integers(2, size=len(frames)))
    assert set(at_random) == {-1, 1} and abs(at_random.mean()) < 4 / np.sqrt(200)
    assert (play_delayed_cue(lambda frames, cue, rng: cue)[0] == 1).all()
    assert (play_delayed_cue(lambda frames, cue, rng: 1 - cue)[0] == -1).all()


@pytest.mark.parametrize("history, kinds", [(1, 1), (4, 1), (10, 1), (11, 2)])
def test_at_the_choice_a_history_of_ten_frames_is_the_same_whatever_the_cue(history, kinds):
    _, stacks = play_delayed_cue(lambda frames, cue, rng: rng.integers(2, size=len(frames)), history, num_envs=20)
    assert stacks.shape == (11, 20, history, 4)
    assert len(np.unique(stacks[0], axis=0)) == 2  # At the start histories hold both cues,
    at_choice = np.unique(stacks[10], axis=0)
    assert len(at_choice) == kinds and (at_choice[:, -1] == FORK).all()
    assert (at_choice[:, -10:-1] == CORRIDOR).all()
    assert at_choice[:, -10:, :2].sum() == 0  # and ten frames later neither.


def test_cues_are_those_of_the_seed():
    cues = lambda seed: play_delayed_cue(lambda frames, cue, rng: cue * 0, seed=seed, num_envs=50)[0].tolist()
    assert cues(3) == cues(3) != cues(4)
    env = gymnasium.make("DelayedCue-v0")
    in_a_row = lambda: [env.reset(seed=5 if i == 0 else None)[0].tolist() for i in range(20)]
    assert in_a_row() == in_a_row() and LEFT in in_a_row() and RIGHT in in_a_row()


def test_a_screen_shows_the_cue_at_the_start_alone_and_how_it_ended():
    env = gymnasium.make("DelayedCue-v0", length=2, render_mode="rgb_array")

    def screens(cue, choice):
        seed = next(s for s in range(100) if env.reset(seed=s)[0][cue])
        env.reset(seed=seed)
        found = [env.render()]
        for action in (0, 0, choice):
            env.step(action)
            found.append(env.render())
        return np.array(found)
    left, right = screens(0, 0), screens(1, 0)
    assert left.shape == (4, 160, 160, 3) and left.dtype == np.uint8
    # In the end right and wrong have their colours.
    assert [np.array_equal(a, b) for a, b in zip(left, right)] == [False, True, True, False]
    np.testing.assert_array_equal(left[0], right[0, ::-1])  # Upside down.
    assert len({screen.tobytes() for screen in [*left, *right, *screens(1, 1)]}) == 7


# CartPolePixels-v0 and its like


@pytest.mark.parametrize("name, whole", PIXELS.items())
def test_it_shows_the_screen_and_all_else_is_the_environments(name, whole):
    ours, theirs = gymnasium.make(name, render_mode="rgb_array"), gymnasium.make(whole, render_mode="rgb_array")
    assert ours.spec.max_episode_steps == theirs.spec.max_episode_steps
    assert ours.metadata["render_fps"] == theirs.metadata["render_fps"]
    actions = np.random.default_rng(1).integers(ours.action_space.n, size=40)
    for seed in range(3):
        frame, _ = ours.reset(seed=seed)
        theirs.reset(seed=seed)
        for action in actions:
            np.testing.assert_array_equal(frame, theirs.render())
            np.testing.assert_array_equal(ours.render(), frame)
            frame, *others = ours.step(action)
            _, *same = theirs.step(action)
            assert others == same
            if others[1]:
                break


def test_a_frame_of_cartpole_tells_position_and_angle_but_no_velocity():
    """The agent's 84x84 gray pixels, of a cart put somewhere by hand."""
    envs = catalogue.make_envs("CartPolePixels-v0", 1, frame_skip=1, max_episode_frames=500)
    envs.reset(seed=[1])
    assert envs.frame_shape == (84, 84) and envs.frame_dtype == np.uint8
    cartpole = envs.env.envs[0].unwrapped._env

    def frame(*state):
        cartpole.state = np.array(state)
        return wrappers.as_screen(cartpole.render(), (84, 84))
    middle = frame(0, 0, 0, 0)
    columns = np.flatnonzero((middle < 200).any(axis=0))  # of pole and cart on white
    assert middle.shape == (84, 84) and middle.max() == 255 and 4 <= len(columns) <= 10 and 40 <= columns.mean() <= 43
    to_the_right = np.flatnonzero((frame(1.2, 0, 0, 0) < 200).any(axis=0))  # 1.2 is a quarter of 4.8, and 21 of 84.
    assert to_the_right.mean() == pytest.approx(columns.mean() + 21, abs=1)
    np.testing.assert_array_equal(frame(0, 2, 0, 3), middle)
    degrees = [frame(0, 0, np.radians(degree), 0).astype(int) for degree in range(-12, 13)]
    assert all(abs(a - b).max() > 20 for a, b in zip(degrees, degrees[1:]))  # The thin pole shows every degree.


# In the suite


TINY = """--network=DQN --history=2 --units=8 --num_envs=2 --batch_size=4 --bufflen=200 --maxsteps=120
    --learning_starts=40 --target_period=20 --flicker=0.3 --epsilon_decay=linear:100steps --eval_period=60
    --eval_episodes=2 --checkpoint_period=60 --max_episode_frames=100""".split()


@pytest.mark.parametrize("name, shape, fps", [
    ("DelayedCue-v0", (4,), 4), ("CartPolePixels-v0", (84, 84), 50),
    pytest.param("SlimeVolley-v0", (12,), 50, marks=pytest.mark.slimevolley),
    pytest.param("SlimeVolleyNoFrameskip-v0", (84, 84), 50, marks=pytest.mark.slimevolley)])
@pytest.mark.slow
def test_a_run_trains_goes_on_to_the_bit_and_is_filmed(tmp_path, monkeypatch, capsys, name, shape, fps):
    train_in = lambda directory: train.main([*TINY, f"--env={name}", f"--run_dir={tmp_path / directory}"])
    assert train_in("whole") == 0
    step = train.Trainer._do_what_is_due

    def interrupted(self):
        step(self)
        if self.agent_step >= 77:
            monkeypatch.setattr(train.Trainer, "_do_what_is_due", step)
            signal.raise_signal(signal.SIGINT)
    monkeypatch.setattr(train.Trainer, "_do_what_is_due", interrupted)
    assert train_in("stopped") == 130
    assert train_in("stopped") == 0
    assert "no function of its seed and actions" not in capsys.readouterr().err
    newest = lambda run, name: max(tmp_path.glob(f"{run}/checkpoints/[0-9]*/{name}"))
    arrays = [np.load(newest(run, "arrays.npz")) for run in ("whole", "stopped")]
    assert arrays[0]["rollout/frames"].shape == (2, 2, *shape)
    states = [json.loads(newest(run, "state.json").read_text()) for run in ("whole", "stopped")]
    assert [state["updates"] for state in states] == [(120 - 40) // 4] * 2
    for array in arrays[0]:
        np.testing.assert_array_equal(*(each[array] for each in arrays), err_msg=array)
    film = tmp_path / "film.gif"
    assert evaluate.main([f"--run_dir={tmp_path / 'whole'}", "--episodes=2", f"--video={film}", "--video_steps=5"]) == 0
    assert film.read_bytes().startswith(b"GIF89a")
    envs = catalogue.make_envs(name, 1, frame_skip=1, max_episode_frames=0, render_mode="rgb_array")
    assert envs.metadata["render_fps"] == fps


@pytest.mark.parametrize("network", ["DQN", "DRQN"])
def test_a_window_of_the_preset_holds_the_cue_and_the_choice(tmp_path, network):
    config = train.configure([f"--flagfile={ROOT / 'presets' / 'delayed_cue.flags'}", f"--network={network}",
                              "--learning_starts=100", "--maxsteps=104", f"--run_dir={tmp_path}"])
    run = train.train(config)
    window = run.replay.sample(200)
    frames = window.frames[:, config["settings"]["history"] - 1:]  # without the history before the first transition
    assert (frames[:, 0, :2].sum(axis=1) == 1).all()  # No window begins after the cue.
    whole = window.mask[:, :11].all(axis=1)  # An episode in progress has a masked end.
    frames = frames[whole]
    assert len(frames) > 20 and (frames[:, 10] == FORK).all()
    right = (window.action[whole, 10] == frames[:, 0, 1]).astype(int)
    assert window.reward[whole, :11].tolist() == [[0] * 10 + [2 * r - 1] for r in right]
    assert window.discount[whole, 10].max() == 0
