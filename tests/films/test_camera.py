"""Films: of the scored episode as the agent saw it, of two agents, and contact sheets of a run's milestones."""

import contextlib
import pathlib
import re
import shutil

from launch import build

import numpy as np
import pytest
from PIL import Image

import agent
import rollout
from films import camera, film, panels, sheet
from helpers.evaluated_runs import decode_film, list_files, read_csv_rows, read_episode_returns
from helpers.replayed import replay_screens
from storage import reading

RUN = "--run_dir=runs/cartpole"


def crop_newest_frame(image, screen_shape, history, state):
    left, top, right, bottom = panels.panel_boxes(screen_shape, history, state)[1][0]
    return image[top:bottom, left:right]


def record_frames(monkeypatch):
    """Return a list that will hold (image, moment, values, words) of each frame that is composed."""
    composed, compose_frame = [], film.compose_frame

    def composing(moment, scales, values, span, names, **words):
        image = compose_frame(moment, scales, values, span, names, **words)
        composed.append((image, moment, list(values), words | dict(names=names)))
        return image

    monkeypatch.setattr(film, "compose_frame", composing)
    return composed


# Films


@pytest.mark.parametrize("name, rate, screen_shape, history", [
    ("cartpole", 50, (400, 600), 1), ("pacman", 15, (210, 320), 4)])
def test_the_film_is_the_scored_episode_as_the_agent_saw_it(run_evaluate, monkeypatch, name, rate, screen_shape,
                                                            history):
    acted, act = [], agent.Agent.act

    def acting(self, frames, state, first, *rest):
        q_values, next_state = self.q_values(frames, state, first)
        actions, state = act(self, frames, state, first, *rest)
        acted.append((frames[0].copy(), q_values[0], actions[0], [np.asarray(s[0]) for s in next_state]))
        return actions, state

    monkeypatch.setattr(agent.Agent, "act", acting)
    composed = record_frames(monkeypatch)
    said = run_evaluate(f"--run_dir=runs/{name}", "--episodes=2", "--epsilon=0", "--video=film.mp4")
    (rows,) = pathlib.Path("runs", name).glob("episodes-best*-episodes=2.csv")
    row = read_csv_rows(rows)[0]
    length, episode_return = int(row["length"]), float(row["episode_return"])
    assert "film.mp4" in said and f"{episode_return:g}" in said
    assert list_files(".") - list_files("runs") == {"film.mp4"}  # and nothing aside
    assert len(composed) == length + 1

    filmed = decode_film("film.mp4")[1]
    assert len(filmed) == length + rate
    saw, has_state = [], name == "cartpole"
    for t in range(length):
        (image, moment, values, words), (frames, q_values, chosen, state) = composed[t], acted[t]
        black = not crop_newest_frame(image, screen_shape, history, has_state).any()
        assert black == moment.obscured == (not frames[-1].any())
        assert (crop_newest_frame(filmed[t], screen_shape, history, has_state).mean() < 3) == black
        assert np.array_equal(moment.q_values, q_values)
        assert moment.action == chosen == q_values.argmax()  # Epsilon is 0.
        assert moment.step == t and values[-1] == q_values.max() and len(values) == t + 1
        assert np.array_equal(moment.state, state[0]) if has_state else moment.state is None
        left, top, right, bottom = panels.bar_boxes(words["names"])[chosen]
        assert tuple(image[bottom - 2, left + 5]) == panels.CHOSEN
        saw.append(black)
    assert 0.1 < np.mean(saw) < 0.9
    settings = reading.read_config(f"runs/{name}")["settings"]
    settings = {name: value for name, value in settings.items() if value is not None and name != "seed"}
    seed = rollout.derive_seeds(0, rollout.EVALUATION, 0, size=2)[0]
    truth = list(replay_screens(seed=seed, actions=[chosen for _, _, chosen, _ in acted[:length]], **settings))
    assert len(truth) == length + 1
    for t in range(length):
        assert np.array_equal(composed[t][1].screen, truth[t]), f"the screen at step {t} is another"
    counts = [(moment.episode_return, moment.step) for _, moment, *_ in (composed[0], composed[-1])]
    assert counts == [(0, 0), (episode_return, length)]
    words = composed[0][3]
    assert words["title"] == ("CartPole-v1 · DRQN · flicker 0.5" if has_state else "MsPacman · DQN · flicker 0.5")
    assert words["subtitle"] == f"{name} · best"
    if not has_state:
        assert words["names"][:2] + words["names"][-1:] == ["NOOP", "↑ ", "↙ "]


def test_a_film_may_be_short_and_a_gif(run_evaluate):
    run_evaluate(RUN, "--episodes=1", "--video=film.mp4", "--video_steps=7")
    assert len(decode_film("film.mp4")[1]) == 7
    run_evaluate("--run_dir=runs/pacman", "--episodes=1", "--video=film.gif", "--video_steps=7", "--policy=random")
    assert pathlib.Path("film.gif").read_bytes().startswith(b"GIF89a")


def test_a_film_shows_its_first_episode_alone_or_the_one_that_is_asked_for(run_evaluate, monkeypatch):
    run_evaluate(RUN, "--episodes=6", "--csv=six.csv", "--epsilon=0.5")
    returns = read_episode_returns("six.csv")
    rising = np.argsort(returns, kind="stable")
    assert len(set(returns)) > 3
    for which, index in dict(best=rising[-1], median=rising[2], worst=rising[0], first=0).items():
        composed = record_frames(monkeypatch)
        said = run_evaluate(RUN, "--episodes=6", "--csv=again.csv", "--epsilon=0.5", "--video=film.mp4",
                            f"--film_episode={which}")
        assert f"The film of episode {index}, which returned {returns[index]:g}, is film.mp4." in said
        assert read_episode_returns("again.csv") == returns
        assert (composed[-1][1].episode_return, composed[-1][1].step) == (returns[index], len(composed) - 1)
    said = run_evaluate(RUN, "--video=film.mp4", "--epsilon=0.5")
    assert f"The film of episode 0, which returned {returns[0]:g}, is film.mp4." in said
    assert read_episode_returns("runs/cartpole/episodes-best-epsilon=0.5-episodes=1.csv") == returns[:1]
    said = run_evaluate(RUN, "--epsilon=0.5", "--film_episode=best", code=2)
    assert said == "evaluate.py: --film_episode was given without --video, and is of films\n"


def test_two_agents_play_the_same_seed_side_by_side_until_the_longer_episode_ends(run_evaluate, monkeypatch):
    shutil.copytree("runs/cartpole", "runs/left")
    settings = reading.read_config("runs/left")["settings"]
    with contextlib.closing(build.make_envs(settings, 1)) as envs:
        left = build.make_agent(settings, envs)
    for variable in left.online_network.trainable_variables:
        variable.assign(0 * variable)
    left.online_network.trainable_variables[-1].assign([1, 0])
    left.save_weights(pathlib.Path("runs/left/best.weights.h5"))
    run_evaluate("--run_dir=runs/left", "--episodes=2", "--csv=left.csv", "--epsilon=0.5")
    before = list_files("runs/left")
    composed = record_frames(monkeypatch)
    said = run_evaluate("--compare", "runs/cartpole", "runs/left", "--episodes=2", "--epsilon=0.5", "--video=film.mp4",
                        "--csv=cartpole.csv")
    assert list_files("runs/left") == before
    alone = [read_csv_rows("cartpole.csv"), read_csv_rows("left.csv")]
    lines = said.splitlines()
    second = next(i for i, line in enumerate(lines) if line.startswith("runs/left: DRQN"))
    for line, rows in (lines[1], alone[0]), (lines[second + 1], alone[1]):
        assert line.startswith("best ") and f"{np.mean([float(row['episode_return']) for row in rows]):.2f}" in line
    lengths = [int(rows[0]["length"]) for rows in alone]
    assert lengths[0] != lengths[1], "the test is of episodes that differ in length"
    filmed = decode_film("film.mp4")[1]
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


def test_saliency_is_of_the_newest_frame_in_one_call_of_the_network_per_step(run_evaluate, monkeypatch):
    calls, q_values = [], agent.Agent.q_values

    def counted(self, frames, state, first):
        calls.append(len(frames))
        return q_values(self, frames, state, first)

    monkeypatch.setattr(agent.Agent, "q_values", counted)
    composed = record_frames(monkeypatch)
    run_evaluate("--run_dir=runs/pacman", "--episodes=1", "--video=film.mp4", "--video_steps=3", "--saliency")
    assert calls.count(1 + 17 * 17) == 3  # every 5 pixels of 84
    for image, moment, *_ in composed:
        assert moment.saliency.shape == (84, 84) and bool(moment.saliency.any()) == bool(moment.seen[-1].any())
        panel = crop_newest_frame(image, (210, 320), 4, False).astype(int)
        # Frames are gray, and salient patches orange.
        assert (np.ptp(panel, axis=-1) > 0).any() == bool(moment.saliency.any())


def test_what_is_asked_of_perturbed_frames_is_asked_in_the_agents_own_state():
    actor = agent.Agent("DRQN", (4,), num_actions=3, history=1, units=5)
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(2, 1, 4)).astype(np.float32)
    state = [rng.normal(size=(2, 5)).astype(np.float32) for _ in range(2)]
    for first in (np.zeros(2, bool), np.ones(2, bool)):
        expected, _ = actor.q_values(frames, state, first)
        again = camera._q_values_of(actor, state, first, frames[:1].repeat(7, axis=0))
        np.testing.assert_allclose(again, expected[:1].repeat(7, axis=0), rtol=1e-5)


def test_a_contact_sheet_has_a_row_per_milestone_of_the_episode_that_its_weights_play(run_evaluate):
    milestones = sorted(path.name for path in pathlib.Path("runs/cartpole/weights").iterdir())
    assert 1 < len(milestones) <= sheet.ROWS
    before = list_files()
    said = run_evaluate(RUN, "--contact_sheet=sheet.png")
    assert list_files() - before == {"sheet.png"}
    returns = [float(number) for number in re.findall(r"after +\d+ training episodes: return +(\d+\.\d+)", said)]
    assert len(returns) == len(milestones)
    run_evaluate(RUN, "--episodes=1", f"--weights=runs/cartpole/weights/{milestones[1]}", "--csv=one.csv")
    assert read_episode_returns("one.csv") == [returns[1]]
    with Image.open("sheet.png") as image:
        pixels = np.asarray(image)
    row_height = round(sheet.WIDTH * 400 / 600) + sheet.FOOT + sheet.GAP
    assert len(pixels) == sheet.TOP + len(milestones) * row_height + sheet.GAP
    first_screens = [pixels[sheet.TOP + i * row_height:][:100, sheet.LABEL_WIDTH:][:, :sheet.WIDTH]
                     for i in range(len(milestones))]
    # Episodes of one seed begin with the same screen.
    assert all(np.array_equal(screen, first_screens[0]) for screen in first_screens) and first_screens[0].mean() > 200
