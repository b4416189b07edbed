"""Evaluation: the numbers, the rows, the film and the window of the scored episode, and everything that is refused."""

import contextlib
import csv
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import time

import counting
import gymnasium
import imageio_ffmpeg
import numpy as np
import pytest
from ale_py.vector_env import AtariVectorEnv

import agent
import evaluate
import film
import rollout
import runs
import train
import wrappers

ROOT = pathlib.Path(__file__).parent.parent
TINY = """--units=8 --num_envs=2 --bufflen=200 --batch_size=4 --maxsteps=60 --learning_starts=40 --eval_period=60 --eval_episodes=2
    --checkpoint_period=60""".split()
CARTPOLE = [*TINY, "--env=CartPole-v1", "--network=DRQN", "--unroll=3", "--flicker=0.5"]
PACMAN = [*TINY, "--env=MsPacman", "--network=DQN", "--max_episode_frames=200", "--flicker=0.5", "--sticky=0.25"]


def make_run(arguments, directory):
    return train.train(train.configure([*arguments, f"--run_dir={directory}"]))


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Return a folder with the directories of two short runs."""
    folder = tmp_path_factory.mktemp("runs")
    make_run(CARTPOLE, folder / "cartpole")
    make_run(PACMAN, folder / "pacman")
    return folder


@pytest.fixture
def go(trained, tmp_path, monkeypatch, capsys):
    """Return a function that calls evaluate.main in an empty folder beside copies of the two runs; it returns what was said."""
    for name in "cartpole", "pacman":
        shutil.copytree(trained / name, tmp_path / "runs" / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")  # as main sets it for films, but only as long as the test

    def call(*arguments, code=0):
        assert evaluate.main(list(arguments)) == code
        said = capsys.readouterr()
        return said.out if code == 0 else said.err

    return call


def rows_of(path):
    with open(path) as file:
        return list(csv.DictReader(file))


def returns_of(path):
    return [float(row["episode_return"]) for row in rows_of(path)]


def files_in(folder="."):
    return {str(path) for path in pathlib.Path(folder).rglob("*") if path.is_file()}


def frames_of(path):
    reader = imageio_ffmpeg.read_frames(str(path))
    next(reader)
    return [np.frombuffer(frame, np.uint8).reshape(film.HEIGHT, film.WIDTH, 3) for frame in reader]


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


def panel_of(image, screen_shape, history):
    left, top, right, bottom = film.panel_boxes(screen_shape, history)[1]
    return image[top:bottom, left:right]


# Numbers


def test_the_printed_statistics_are_those_of_the_rows(go):
    said = go("--run_dir=runs/cartpole", "--episodes=7")
    returns = returns_of("runs/cartpole/episodes-best.csv")
    assert len(returns) == 7 and len(set(returns)) > 1
    printed = [float(number) for number in re.findall(r"-?\d+\.\d+", next(line for line in said.splitlines() if line.startswith("best")))]
    expected = [statistics.mean(returns), statistics.stdev(returns), statistics.median(returns), min(returns), max(returns)]
    assert printed == pytest.approx(expected, abs=0.051)
    assert any(line.startswith("random ") for line in said.splitlines())


def test_the_evaluation_that_chose_the_checkpoint_is_told_beside_its_fresh_score(go):
    said = go("--run_dir=runs/cartpole", "--episodes=2").splitlines()
    rows = rows_of("runs/cartpole/eval.csv")  # of the one evaluation of this run
    mean = statistics.mean(float(row["episode_return"]) for row in rows)
    best = next(i for i, line in enumerate(said) if line.startswith("best "))
    assert said[best + 1] == (f"chosen at agent step {rows[0]['agent_step']} by evaluations' mean {mean:.2f} (2 episodes); "
                              "the fresh score above is the one to report")
    for otherwise in ("--flicker=0", "--epsilon=0.9", "--checkpoint=last", "--policy=random"):
        assert "the one to report" not in go("--run_dir=runs/cartpole", "--episodes=2", otherwise)


def test_rows_say_how_they_were_made_and_come_out_the_same_again(go):
    go("--run_dir=runs/cartpole", "--episodes=4", "--epsilon=0.25", "--flicker=0.1", "--eval_seed=3", "--csv=one.csv")
    go("--run_dir=runs/cartpole", "--episodes=4", "--epsilon=0.25", "--flicker=0.1", "--eval_seed=3", "--csv=two.csv", "--checkpoint=last")
    go("--run_dir=runs/cartpole", "--episodes=4", "--epsilon=0.25", "--flicker=0.1", "--eval_seed=4", "--csv=three.csv")
    one, two, three = (rows_of(f"{name}.csv") for name in ("one", "two", "three"))
    assert [row["episode"] for row in one] == ["0", "1", "2", "3"]
    assert all(float(row["episode_return"]) == int(row["length"]) > 0 for row in one)  # CartPole pays 1 a step.
    assert {(row["policy"], row["weights"], row["epsilon"], row["flicker"], row["eval_seed"]) for row in one} == {
        ("agent", "best", "0.25", "0.1", "3")}
    assert [row["length"] for row in one] != [row["length"] for row in three]
    # The only evaluation of this run was at its end, where its only checkpoint is: the same weights under two names.
    assert [row | dict(weights="best") for row in two] == one


def test_random_play_is_what_an_agent_is_printed_beside(go):
    beside = go("--run_dir=runs/cartpole", "--episodes=4").splitlines()
    rows = rows_of("runs/cartpole/episodes-random.csv")
    alone = go("--run_dir=runs/cartpole", "--episodes=4", "--policy=random").splitlines()
    line = next(line for line in alone if line.startswith("random"))
    assert line in beside and rows == rows_of("runs/cartpole/episodes-random.csv")
    assert {(row["policy"], row["weights"], row["epsilon"]) for row in rows} == {("random", "random", "1.0")}
    assert f"{statistics.mean(float(row['episode_return']) for row in rows):.2f}" in line


def test_weights_may_be_given_as_a_file_and_are_the_ones_that_act(go, tmp_path):
    settings = runs.read_config("runs/cartpole")["settings"]
    with contextlib.closing(rollout.make_envs(settings, 1)) as envs:
        always_left = rollout.make_agent(settings, envs)
    always_left.load_weights(pathlib.Path("runs/cartpole/best.weights.h5"))
    *_, bias = always_left.online_network.trainable_variables
    bias.assign([1e6, 0])
    always_left.save_weights(tmp_path / "left.weights.h5")
    go("--run_dir=runs/cartpole", "--episodes=5", "--epsilon=0", "--weights=left.weights.h5", "--csv=left.csv")
    assert max(returns_of("left.csv")) <= 11, "a cart that is always pushed to the left drops its pole within 11 steps"


# Sweeps over the probability that a screen is shown


@pytest.mark.parametrize("text, probabilities", [
    ("0.1,...,1.0", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]), ("0.2,0.4,...,1.0", [0.2, 0.4, 0.6, 0.8, 1.0]),
    ("1,0.25,1", [0.25, 1.0]), ("0,1e-2", [0, 0.01]), ("0.5", [0.5]), ("0.3,...,0.3", [0.3])])
def test_probabilities_may_be_listed_or_progress(text, probabilities):
    assert evaluate.parse_probabilities(text) == probabilities


@pytest.mark.parametrize("text", [
    "", "half", "0.1,", "1.1", "-0.1", "nan", "...", "...,1", "0.1,...", "0.1,...,...,1", "0.1,...,0.95", "0.1,...,0.5,1", "1,...,0.1",
    "0.1,0.1,...,1", "0.1,0.2,0.3,...,1", "0.1,0.1000001,...,1", "0.1,...,inf", "0,0.4,...,2"])
def test_other_texts_are_no_probabilities(text):
    with pytest.raises(ValueError, match=f"--observation_probabilities={re.escape(text)} was given; expected probabilities from 0 to 1"):
        evaluate.parse_probabilities(text)


def test_a_sweep_plays_the_episodes_of_plain_evaluations(go):
    run, played = "--run_dir=runs/cartpole", ("episode", "episode_return", "length", "epsilon", "eval_seed")
    go(run, "--episodes=3", "--epsilon=0.3", "--eval_seed=5", "--observation_probabilities=0,1")
    rows = rows_of("runs/cartpole/observability.csv")
    assert [(row["policy"], row["weights"], row["observation_probability"]) for row in rows[::3]] == [
        ("agent", "best", "0.0"), ("agent", "best", "0.5"), ("agent", "best", "1.0"), ("random", "random", "1.0")]  # 0.5: as it was trained
    for part, arguments in ((rows[:3], ["--epsilon=0.3", "--flicker=1"]), (rows[6:9], ["--epsilon=0.3", "--flicker=0"]),
                            (rows[9:], ["--policy=random"])):
        go(run, "--episodes=3", "--eval_seed=5", "--csv=plain.csv", *arguments)
        assert [[row[key] for key in played] for row in part] == [[row[key] for key in played] for row in rows_of("plain.csv")]
    assert len({row["episode_return"] for row in rows}) > 3


@pytest.mark.parametrize("negative", [False, True])
def test_the_printed_fractions_are_those_of_the_rows(go, monkeypatch, negative):
    returns = {6: [10, 14, 3, 5, 6, 6], 2: [1, -3] if negative else [1, 1]}  # of 3 probabilities x 2 episodes, and of random play
    monkeypatch.setattr(rollout, "evaluate", lambda agent, envs, *_, **__: [
        dict(episode_return=float(r), length=1) for r in returns[envs.num_envs]])
    said = go("--run_dir=runs/cartpole", "--episodes=2", "--observation_probabilities=1,0.25")
    # The means are 12 at 0.25, the original 4 at 0.5, 6 at 1, and of random play 1, or -1, which is then zero.
    assert [line.split() for line in said.splitlines()[-5:-1]] == [
        ["0.25", "12.00", "2.83", "2.600" if negative else "3.000"], ["0.5", "4.00", "1.41", "1.000"],
        ["1", "6.00", "0.00", "1.400" if negative else "1.500"],
        ["random", "play", *(["-1.00", "2.83", "0.000"] if negative else ["1.00", "0.00", "0.250"])]]
    assert ("random play being 0" in said) == negative


# Runs


def test_the_newest_run_is_the_one_whose_training_wrote_last(go):
    for second, name in enumerate(["cartpole", "pacman"]):
        for path in pathlib.Path("runs", name).iterdir():
            os.utime(path, (1000 + second, 1000 + second))
    pathlib.Path("runs/pacman/aside.weights.h5").symlink_to("vanished")  # as when a run replaces it meanwhile
    pathlib.Path("runs/foreign").mkdir()
    pathlib.Path("runs/foreign/config.json").write_text("{}")
    pathlib.Path("runs/cartpole/episodes-best.csv").write_text("evaluated just now")
    assert evaluate.newest_run() == pathlib.Path("runs/pacman")
    os.utime("runs/cartpole/learn.csv", (2000, 2000))
    assert "runs/cartpole: DRQN on CartPole-v1" in go("--episodes=1")


def test_a_run_is_evaluated_while_it_trains_and_does_not_notice(go, monkeypatch):
    arguments = [*CARTPOLE, "--checkpoint_period=20"]
    make_run(arguments, "runs/alone")
    save, said = runs.Run.save, []

    def save_and_evaluate(run, *rest):
        save(run, *rest)
        before = files_in(run.directory)
        said.append(go("--episodes=1", f"--run_dir={run.directory}", "--checkpoint=last", "--csv=episodes.csv"))
        assert files_in(run.directory) == before

    monkeypatch.setattr(runs.Run, "save", save_and_evaluate)
    make_run(arguments, "runs/watched")
    assert len(said) >= 3 and all("last " in words for words in said)
    for name in "train", "eval":
        alone, watched = (rows_of(f"runs/{run}/{name}.csv") for run in ("alone", "watched"))
        assert [row | dict(seconds="") for row in alone] == [row | dict(seconds="") for row in watched]


# Films


@pytest.mark.parametrize("name, rate, screen_shape, history", [("cartpole", 50, (400, 600), 1), ("pacman", 15, (210, 320), 4)])
def test_the_film_is_the_scored_episode_as_the_agent_saw_it(go, monkeypatch, name, rate, screen_shape, history):
    acted, composed = [], []
    act, compose = agent.Agent.act, film.compose

    def acting(self, frames, state, first, *rest):
        q_values, _ = self.q_values(frames, state, first)
        actions, state = act(self, frames, state, first, *rest)
        acted.append((frames[0].copy(), q_values[0], actions[0]))
        return actions, state

    def composing(screen, seen, q_values, action, names, *rest, **keywords):
        image = compose(screen, seen, q_values, action, names, *rest, **keywords)
        composed.append((image, screen, q_values, action, names, rest, keywords))
        return image

    monkeypatch.setattr(agent.Agent, "act", acting)
    monkeypatch.setattr(film, "compose", composing)
    said = go(f"--run_dir=runs/{name}", "--episodes=2", "--epsilon=0", "--video=film.mp4")
    row = rows_of(f"runs/{name}/episodes-best-epsilon=0.csv")[0]
    length, episode_return = int(row["length"]), float(row["episode_return"])
    assert "film.mp4" in said and f"{episode_return:g}" in said
    assert files_in(".") - files_in("runs") == {"film.mp4"}  # and nothing aside
    assert len(composed) == length + rate

    filmed = frames_of("film.mp4")
    assert len(filmed) == length + rate
    saw = []
    for t in range(length):
        (image, _, q_values, action, names, rest, keywords), (frames, own_q_values, chosen) = composed[t], acted[t]
        black = not panel_of(image, screen_shape, history).any()
        assert black == keywords["obscured"] == (not frames[-1].any())
        assert (panel_of(filmed[t], screen_shape, history).mean() < 3) == black
        assert np.array_equal(q_values, own_q_values) and action == chosen == q_values.argmax() and rest[-1] == t  # epsilon is 0
        left, top, right, bottom = film.bar_boxes(names)[action]
        assert tuple(image[bottom - 2, left + 5]) == film.CHOSEN
        saw.append(black)
    assert 0.1 < np.mean(saw) < 0.9
    settings = runs.read_config(f"runs/{name}")["settings"]
    settings = {name: value for name, value in settings.items() if value is not None and name != "seed"}
    seed = rollout.derive_seeds(0, rollout.EVALUATION, 0, size=2)[0]
    truth = list(replay(seed=seed, actions=[chosen for *_, chosen in acted[:length]], **settings))
    assert len(truth) == length + 1
    for t in range(length):
        assert np.array_equal(composed[t][1], truth[t]), f"the screen at step {t} is another"
    assert composed[0][5] == (0, 0) and composed[-1][5] == (episode_return, length)
    assert composed[0][6]["title"] == ("CartPole-v1 · DRQN · flicker 0.5" if name == "cartpole" else "MsPacman · DQN · flicker 0.5")


def test_a_film_may_be_short_and_a_gif(go):
    go("--run_dir=runs/cartpole", "--episodes=1", "--video=film.mp4", "--video_steps=7")
    assert len(frames_of("film.mp4")) == 7
    go("--run_dir=runs/pacman", "--episodes=1", "--video=film.gif", "--video_steps=7", "--policy=random")
    assert pathlib.Path("film.gif").read_bytes().startswith(b"GIF89a")


def make_watched(env, num_envs, **settings):
    settings = dict(frame_skip=4, max_episode_frames=0, sticky=0.0, noops=0, render_mode="rgb_array") | settings
    return wrappers.make_envs(env, num_envs, **settings)


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


# What is refused


@pytest.mark.parametrize("arguments, words", [
    (["--run_dir=missing"], "missing holds no config.json"),
    (["--run_dir=empty"], "empty holds no config.json"),
    (["--run_dir=foreign"], "is not the configuration of a run"),
    (["--run_dir=half"], "does not describe a run that can be rebuilt here"),
    (["--run_dir=unknown"], "Environment `CartPoole` doesn't exist"),
    (["--run_dir=young"], "young has no best weights yet"),
    (["--run_dir=runs/cartpole", "--weights=runs/pacman/best.weights.h5"], "does not hold weights of DRQN with 8 units for CartPole-v1"),
    (["--run_dir=runs/cartpole", "--weights=wider.weights.h5"], "does not hold weights of DRQN with 8 units for CartPole-v1"),
    (["--run_dir=runs/cartpole", "--weights=cut.weights.h5"], "does not hold weights"),
    (["--run_dir=runs/cartpole", "--weights=missing.weights.h5"], "does not hold weights"),
    (["--run_dir=runs/cartpole", "--video=missing/film.mp4"], "missing/film.mp4 cannot be written (No such file or directory)"),
    (["--run_dir=runs/cartpole", "--video=file/film.mp4"], "file/film.mp4 cannot be written (Not a directory)"),
    (["--run_dir=runs/cartpole", "--video=folder.mp4"], "folder.mp4 cannot be written (it is a directory)"),
    (["--run_dir=runs/cartpole", "--csv=missing/episodes.csv"], "missing/episodes.csv cannot be written"),
    (["--video=film.avi"], "the film film.avi ends in .avi; expected .mp4 or .gif"),
    (["--render"], "no display here"),
    (["--render", "--video=film.mp4"], "--render and --video"),
    (["--video_steps=3"], "without --video"),
    (["--observation_probabilities=0.1,...,1.0", "--flicker=0.5"], "--observation_probabilities and --flicker were given; expected one"),
    (["--observation_probabilities=1", "--render"], "--observation_probabilities and --render"),
    (["--observation_probabilities=1", "--video=film.mp4"], "--observation_probabilities and --video"),
    (["--observation_probabilities=1", "--policy=random"], "--observation_probabilities and --policy=random"),
    (["--observation_probabilities="], "--observation_probabilities= was given; expected probabilities from 0 to 1"),
    (["--observation_probabilities=1", "--run_dir=runs/cartpole", "--csv=missing/sweep.csv"], "missing/sweep.csv cannot be written"),
    (["--episodes=0"], "episodes"),
    (["--checkpoint=newest"], "checkpoint"),
    (["runs/cartpole"], "'runs/cartpole' is no flag"),
    (["--moviefile=film.mp4"], "moviefile"),
])
def test_bad_input_is_one_sentence_before_anything_is_played(go, monkeypatch, arguments, words):
    for name in "DISPLAY", "WAYLAND_DISPLAY":
        monkeypatch.delenv(name, raising=False)
    for name, config in dict(empty=None, foreign='{"model": "gpt"}', half='{"settings": {"network": "DQN"}}').items():
        pathlib.Path(name).mkdir()
        if config:
            pathlib.Path(name, "config.json").write_text(config)
    config = pathlib.Path("runs/cartpole/config.json").read_text()
    for name, text in dict(young=config, unknown=config.replace("CartPole-v1", "CartPoole-v1")).items():
        pathlib.Path(name).mkdir()
        pathlib.Path(name, "config.json").write_text(text)
    pathlib.Path("file").write_text("")
    pathlib.Path("folder.mp4").mkdir()
    weights = pathlib.Path("runs/cartpole/best.weights.h5").read_bytes()
    pathlib.Path("cut.weights.h5").write_bytes(weights[:len(weights) // 2])
    if "--weights=wider.weights.h5" in arguments:
        agent.Agent("DRQN", (4,), 2, 1, 9).save_weights("wider.weights.h5")
    monkeypatch.setattr(rollout, "evaluate", lambda *_, **__: pytest.fail("an episode was played"))
    before = files_in()
    said = go(*arguments, code=2)
    # absl prints a list of the flags' own errors on lines of their own.
    assert words in said and said.startswith("evaluate.py: ") and len(said.splitlines()) <= 2 and "Traceback" not in said
    assert files_in() == before


def test_without_runs_it_asks_for_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert evaluate.main([]) == 2
    assert capsys.readouterr().err == "evaluate.py: no run was found under runs/; train one, or give its --run_dir\n"


@pytest.mark.parametrize("error, code", [(KeyboardInterrupt(), 130), (OSError("the disk is full"), 2)])
def test_what_is_interrupted_leaves_nothing_half_written(go, monkeypatch, error, code):
    act = agent.Agent.act
    steps = []

    def interrupted(*arguments):
        steps.append(1)
        if len(steps) == 5:
            raise error
        return act(*arguments)

    monkeypatch.setattr(agent.Agent, "act", interrupted)
    pathlib.Path("film.mp4").write_text("an older film")
    before = files_in()
    assert len(go("--run_dir=runs/pacman", "--episodes=1", "--video=film.mp4", code=code).splitlines()) == 1
    assert files_in() == before and pathlib.Path("film.mp4").read_text() == "an older film"


def test_an_interrupted_sweep_leaves_nothing_half_written(go, monkeypatch):
    monkeypatch.setattr(evaluate, "play", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))  # when random play would begin
    before = files_in()
    assert "nothing was written" in go("--run_dir=runs/cartpole", "--episodes=1", "--observation_probabilities=1", code=130)
    assert files_in() == before


def test_help_names_every_flag(capsys):
    assert evaluate.main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"--{'[no]' if name == 'render' else ''}{name}" in said for name in
               "run_dir checkpoint weights episodes epsilon flicker eval_seed policy render video video_steps csv observation_probabilities"
               .split())


# The window


def screenshot(folder):
    """Return uint8[height, width, 3] of Xvfb's screen, from the dump in X's own format that it keeps in `folder`."""
    data = (folder / "Xvfb_screen0").read_bytes()
    header = np.frombuffer(data[:100], ">u4")
    size, width, height, bytes_per_line, num_colours = (int(header[i]) for i in (0, 4, 5, 12, 19))
    pixels = np.frombuffer(data[size + 12 * num_colours:][:bytes_per_line * height], np.uint8).reshape(height, bytes_per_line // 4, 4)
    return pixels[:, :width, 2::-1]  # stored as blue, green, red, nothing


@pytest.fixture
def display(tmp_path):
    """Start a display without a monitor; return its name and the folder of its screen."""
    folder = tmp_path / "framebuffer"
    folder.mkdir()
    reading, writing = os.pipe()
    server = subprocess.Popen(["Xvfb", "-displayfd", str(writing), "-screen", "0", "1280x1024x24", "-fbdir", str(folder)],
                              pass_fds=[writing], stderr=subprocess.DEVNULL)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        yield f":{pipe.readline().strip()}", folder
    server.terminate()
    server.wait()


@pytest.mark.slow
@pytest.mark.parametrize("env, colour", [("MountainCar-v0", (255, 255, 255)), ("MsPacman", (0, 28, 136))])
def test_a_window_shows_the_first_episode(display, tmp_path, env, colour):
    """The white sky, and the blue ground of the maze: as much of the screen as a window of theirs, which moves, and then closes."""
    make_run([*TINY, f"--env={env}", "--network=DQN", "--max_episode_frames=200"], tmp_path / "run")
    command = [sys.executable, str(ROOT / "evaluate.py"), "--run_dir=run", "--episodes=1", "--render"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SDL_")} | {"DISPLAY": display[0]}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    seen = set()
    while process.poll() is None:
        image = screenshot(display[1])
        if 0.03 < (image == colour).all(axis=-1).mean() < 0.6:
            seen.add(image.tobytes())
        time.sleep(0.05)
    assert process.returncode == 0, process.stderr.read()
    assert len(seen) > 3, "no picture, or one that stands still"
    assert rows_of(tmp_path / "run" / "episodes-best.csv")[0]["length"] == str(200 if env == "MountainCar-v0" else 50)
    assert not screenshot(display[1]).any(), "the window stayed open"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cartpole", "pacman"])
def test_a_display_that_does_not_answer_is_said(trained, tmp_path, name):
    command = [sys.executable, str(ROOT / "evaluate.py"), f"--run_dir={trained / name}", "--episodes=1", "--render", "--csv=episodes.csv"]
    result = subprocess.run(command, cwd=tmp_path, env=os.environ | {"DISPLAY": ":7777"}, capture_output=True, text=True)
    assert result.returncode == 2 and "no window can be opened" in result.stderr and "--video" in result.stderr
    assert "Traceback" not in result.stderr and not files_in(tmp_path)
