"""Films: of the scored episode as the agent saw it, of two agents, and contact sheets of a run's milestones."""

import contextlib
import pathlib
import re
import shutil

import gymnasium
import numpy as np
import pytest
from ale_py.vector_env import AtariVectorEnv
from helpers import counting
from helpers.played import files_in, frames_of, read_rows, returns_of
from PIL import Image

import agent
import build
import rollout
from environments import catalogue
from films import camera, film, panels, sheet
from storage import reading


def replay(env, seed, actions, frame_skip=4, sticky=0.0, noops=0, full_actions=False, max_episode_frames=0, **_):
    """Yield the screens of one environment before each of the actions and after the last, by code that twins share nothing with."""
    if env == "CartPole-v1":
        with contextlib.closing(gymnasium.make(env, render_mode="rgb_array")) as witness:
            witness.reset(seed=int(seed))
            yield witness.render()
            for action in actions:
                for _ in range(frame_skip):
                    if witness.step(int(action))[2]:
                        break
                yield witness.render()
        return
    rom = re.sub("(?!^)([A-Z])", r"_\1", env).lower()
    witness = AtariVectorEnv(  # in colour and of full size
        rom, 1, grayscale=False, img_height=210, img_width=160, stack_num=1, reward_clipping=False, use_fire_reset=False, noop_max=noops,
        repeat_action_probability=sticky, full_action_space=full_actions, frameskip=frame_skip,
        max_num_frames_per_episode=max_episode_frames or 10**6)
    yield witness.reset(seed=np.array([seed]))[0][0, 0].repeat(2, axis=1)
    for action in actions:
        yield witness.step(np.array([action]))[0][0, 0].repeat(2, axis=1)


def panel_of(image, screen_shape, history, state):
    left, top, right, bottom = panels.panel_boxes(screen_shape, history, state)[1][0]
    return image[top:bottom, left:right]


def record(monkeypatch):
    """Return a list that will hold (image, moment, values, words) of each frame that is composed."""
    composed, compose = [], film.compose

    def composing(moment, scales, values, span, names, **words):
        image = compose(moment, scales, values, span, names, **words)
        composed.append((image, moment, list(values), words | dict(names=names)))
        return image

    monkeypatch.setattr(film, "compose", composing)
    return composed


# Films


@pytest.mark.parametrize("name, rate, screen_shape, history", [("cartpole", 50, (400, 600), 1), ("pacman", 15, (210, 320), 4)])
def test_the_film_is_the_scored_episode_as_the_agent_saw_it(go, monkeypatch, name, rate, screen_shape, history):
    acted, act = [], agent.Agent.act

    def acting(self, frames, state, first, *rest):
        q_values, next_state = self.q_values(frames, state, first)
        actions, state = act(self, frames, state, first, *rest)
        acted.append((frames[0].copy(), q_values[0], actions[0], [np.asarray(s[0]) for s in next_state]))
        return actions, state

    monkeypatch.setattr(agent.Agent, "act", acting)
    composed = record(monkeypatch)
    said = go(f"--run_dir=runs/{name}", "--episodes=2", "--epsilon=0", "--video=film.mp4")
    row = read_rows(f"runs/{name}/episodes-best-epsilon=0.csv")[0]
    length, episode_return = int(row["length"]), float(row["episode_return"])
    assert "film.mp4" in said and f"{episode_return:g}" in said
    assert files_in(".") - files_in("runs") == {"film.mp4"}  # and nothing aside
    assert len(composed) == length + 1

    filmed = frames_of("film.mp4")
    assert len(filmed) == length + rate
    saw, has_state = [], name == "cartpole"
    for t in range(length):
        (image, moment, values, words), (frames, q_values, chosen, state) = composed[t], acted[t]
        black = not panel_of(image, screen_shape, history, has_state).any()
        assert black == moment.obscured == (not frames[-1].any())
        assert (panel_of(filmed[t], screen_shape, history, has_state).mean() < 3) == black
        assert np.array_equal(moment.q_values, q_values) and moment.action == chosen == q_values.argmax()  # epsilon is 0
        assert moment.step == t and values[-1] == q_values.max() and len(values) == t + 1
        assert np.array_equal(moment.state, state[0]) if has_state else moment.state is None
        left, top, right, bottom = panels.bar_boxes(words["names"])[chosen]
        assert tuple(image[bottom - 2, left + 5]) == panels.CHOSEN
        saw.append(black)
    assert 0.1 < np.mean(saw) < 0.9
    settings = reading.read_config(f"runs/{name}")["settings"]
    settings = {name: value for name, value in settings.items() if value is not None and name != "seed"}
    seed = rollout.derive_seeds(0, rollout.EVALUATION, 0, size=2)[0]
    truth = list(replay(seed=seed, actions=[chosen for _, _, chosen, _ in acted[:length]], **settings))
    assert len(truth) == length + 1
    for t in range(length):
        assert np.array_equal(composed[t][1].screen, truth[t]), f"the screen at step {t} is another"
    assert [(moment.episode_return, moment.step) for _, moment, *_ in (composed[0], composed[-1])] == [(0, 0), (episode_return, length)]
    assert composed[0][3]["title"] == ("CartPole-v1 · DRQN · flicker 0.5" if has_state else "MsPacman · DQN · flicker 0.5")
    assert composed[0][3]["subtitle"] == f"{name} · best"
    if not has_state:
        assert composed[0][3]["names"][:2] + composed[0][3]["names"][-1:] == ["NOOP", "↑ ", "↙ "]


def test_a_film_may_be_short_and_a_gif(go):
    go("--run_dir=runs/cartpole", "--episodes=1", "--video=film.mp4", "--video_steps=7")
    assert len(frames_of("film.mp4")) == 7
    go("--run_dir=runs/pacman", "--episodes=1", "--video=film.gif", "--video_steps=7", "--policy=random")
    assert pathlib.Path("film.gif").read_bytes().startswith(b"GIF89a")


def test_two_agents_play_the_same_seed_side_by_side_until_the_longer_episode_ends(go, monkeypatch):
    shutil.copytree("runs/cartpole", "runs/left")
    settings = reading.read_config("runs/left")["settings"]
    with contextlib.closing(build.make_envs(settings, 1)) as envs:
        left = build.make_agent(settings, envs)
    for variable in left.online_network.trainable_variables:
        variable.assign(0 * variable)
    left.online_network.trainable_variables[-1].assign([1, 0])
    left.save_weights(pathlib.Path("runs/left/best.weights.h5"))
    go("--run_dir=runs/left", "--episodes=2", "--csv=left.csv", "--epsilon=0.5")
    before = files_in("runs/left")
    composed = record(monkeypatch)
    said = go("--compare", "runs/cartpole", "runs/left", "--episodes=2", "--epsilon=0.5", "--video=film.mp4", "--csv=own.csv")
    assert files_in("runs/left") == before
    alone = [read_rows("own.csv"), read_rows("left.csv")]
    lines = said.splitlines()
    second = next(i for i, line in enumerate(lines) if line.startswith("runs/left: DRQN"))
    for line, rows in (lines[1], alone[0]), (lines[second + 1], alone[1]):
        assert line.startswith("best ") and f"{np.mean([float(row['episode_return']) for row in rows]):.2f}" in line
    lengths = [int(rows[0]["length"]) for rows in alone]
    assert lengths[0] != lengths[1], "the test is of episodes that differ in length"
    filmed = frames_of("film.mp4")
    assert len(filmed) == max(lengths) + 50 and len(composed) == 2 * (max(lengths) + 1)
    for i, length in enumerate(lengths):
        of_one = composed[i::2]
        assert [moment.step for _, moment, *_ in of_one] == [min(t, length) for t in range(max(lengths) + 1)]
        assert {words["title"] for *_, words in of_one} == {"CartPole-v1 · DRQN · flicker 0.5"}
        assert {words["subtitle"] for *_, words in of_one} == {f"{['cartpole', 'left'][i]} · best"}
        last, half = of_one[-1][0], slice(640 * i, 640 * (i + 1))
        assert last.shape == (720, 640, 3)
        assert np.abs(filmed[-1][:, half].astype(int) - last).mean() < 3
        if length < max(lengths):
            assert np.abs(filmed[length][:, half].astype(int) - last).mean() < 3
    np.testing.assert_array_equal(composed[0][1].screen, composed[1][1].screen)
    assert (composed[1][1].q_values == [1, 0]).all() and not (composed[0][1].q_values == [1, 0]).all()


def test_saliency_is_of_the_newest_frame_in_one_call_of_the_network_per_step(go, monkeypatch):
    calls, q_values = [], agent.Agent.q_values

    def counted(self, frames, state, first):
        calls.append(len(frames))
        return q_values(self, frames, state, first)

    monkeypatch.setattr(agent.Agent, "q_values", counted)
    composed = record(monkeypatch)
    go("--run_dir=runs/pacman", "--episodes=1", "--video=film.mp4", "--video_steps=3", "--saliency")
    assert calls.count(1 + 17 * 17) == 3  # every 5 pixels of 84
    for image, moment, *_ in composed:
        assert moment.saliency.shape == (84, 84) and bool(moment.saliency.any()) == bool(moment.seen[-1].any())
        panel = panel_of(image, (210, 320), 4, False).astype(int)
        assert (np.ptp(panel, axis=-1) > 0).any() == bool(moment.saliency.any())  # Frames are gray, what is salient orange.


def test_what_is_asked_of_perturbed_frames_is_asked_in_the_agents_own_state():
    actor = agent.Agent("DRQN", (4,), num_actions=3, history=1, units=5)
    rng = np.random.default_rng(0)
    frames, state = rng.normal(size=(2, 1, 4)).astype(np.float32), [rng.normal(size=(2, 5)).astype(np.float32) for _ in range(2)]
    for first in (np.zeros(2, bool), np.ones(2, bool)):
        expected, _ = actor.q_values(frames, state, first)
        again = camera._q_values_of(actor, state, first, frames[:1].repeat(7, axis=0))
        np.testing.assert_allclose(again, expected[:1].repeat(7, axis=0), rtol=1e-5)


def test_a_contact_sheet_has_a_row_per_milestone_of_the_episode_that_its_weights_play(go):
    milestones = sorted(path.name for path in pathlib.Path("runs/cartpole/weights").iterdir())
    assert 1 < len(milestones) <= sheet.ROWS
    before = files_in()
    said = go("--run_dir=runs/cartpole", "--contact_sheet=sheet.png")
    assert files_in() - before == {"sheet.png"}
    returns = [float(number) for number in re.findall(r"after +\d+ training episodes: return +(\d+\.\d+)", said)]
    assert len(returns) == len(milestones)
    go("--run_dir=runs/cartpole", "--episodes=1", f"--weights=runs/cartpole/weights/{milestones[1]}", "--csv=one.csv")
    assert returns_of("one.csv") == [returns[1]]
    with Image.open("sheet.png") as image:
        pixels = np.asarray(image)
    row_height = round(sheet.WIDTH * 400 / 600) + sheet.FOOT + sheet.GAP
    assert len(pixels) == sheet.TOP + len(milestones) * row_height + sheet.GAP
    first_screens = [pixels[sheet.TOP + i * row_height:][:100, sheet.LABEL_WIDTH:][:, :sheet.WIDTH] for i in range(len(milestones))]
    assert all(np.array_equal(screen, first_screens[0]) for screen in first_screens) and first_screens[0].mean() > 200  # the same seed


def make_watched(env, num_envs, **settings):
    settings = dict(frame_skip=4, max_episode_frames=0, sticky=0.0, noops=0, render_mode="rgb_array") | settings
    return catalogue.make_envs(env, num_envs, **settings)


@pytest.mark.parametrize("env, settings", [
    ("Pong", dict(sticky=0.25, noops=30, frame_skip=3)), ("MsPacman", dict(full_actions=True, noops=30, max_episode_frames=161)),
    ("Assault", dict(frame_skip=1, noops=7))])
def test_the_screens_of_an_ale_game_are_those_of_the_first_environment(env, settings):
    seeds, rng = rollout.derive_seeds(7, size=2), np.random.default_rng(0)
    with contextlib.closing(make_watched(env, 2, **settings)) as envs:
        assert envs.metadata["render_fps"] == 60 / settings.get("frame_skip", 4)
        for _ in range(2):  # Seeded anew after other play, it begins again.
            envs.reset(seed=seeds)
            screens, actions = [envs.render()[0]], []
            for _ in range(60):
                actions.append(rng.integers(len(envs.action_names), size=2))
                _, _, terminated, truncated, _ = envs.step(actions[-1])
                screens.append(envs.render()[0])
                if terminated[0] or truncated[0]:
                    break
            truth = list(replay(env, seeds[0], [action[0] for action in actions], **settings))
            ends = int(terminated[0] or truncated[0])  # AtariVectorEnv does not show the last screen of an episode.
            np.testing.assert_array_equal(screens[:len(screens) - ends], truth[:len(truth) - ends])
            assert len({screen.tobytes() for screen in truth}) > 10
    assert truncated[0] == ("max_episode_frames" in settings)


def test_the_screens_of_other_environments_are_those_of_the_first_until_its_episode_ends():
    seeds = rollout.derive_seeds(7, size=2)
    with contextlib.closing(make_watched("CartPole-v1", 2, frame_skip=2)) as envs:
        assert envs.metadata["render_fps"] == 25
        envs.reset(seed=seeds)
        screens, ended = [envs.render()[0]], False
        while not ended:
            ended = envs.step(np.ones(2, np.int64))[2][0]
            screens.append(envs.render()[0])
        np.testing.assert_array_equal(screens, list(replay("CartPole-v1", seeds[0], [1] * (len(screens) - 1), frame_skip=2)))
        envs.step(np.zeros(2, np.int64))  # Those that have ended play on unseen.
        np.testing.assert_array_equal(envs.render()[0], screens[-1])


def test_an_environment_without_screens_or_laws_cannot_be_filmed(monkeypatch):
    with pytest.raises(ValueError, match="has no screen: it renders neither"):
        make_watched(counting.register(), 1, frame_skip=1)
    monkeypatch.setattr(counting.Counting, "metadata", {"render_modes": ["rgb_array"]})
    monkeypatch.setattr(counting.Counting, "render_mode", "rgb_array")
    make = gymnasium.make
    monkeypatch.setattr(gymnasium, "make", lambda env, render_mode: make(env))
    for lawless in False, True:
        name = counting.register(lawless=lawless, length=50, shape=(5, 5, 3))
        with contextlib.closing(make_watched(name, 2, frame_skip=1)) as envs:
            envs.reset(seed=np.array([1, 2]))
            with pytest.raises(ValueError, match="no function of its seed and actions") if lawless else contextlib.nullcontext():
                for _ in range(20):
                    envs.step(np.array([0, 1]))
