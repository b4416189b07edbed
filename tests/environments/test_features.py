"""Frozen torsos and transfer: features against the torso called by hand, exact resume, and refusals."""

import csv
import json
import pathlib
import shutil
import time
import urllib.error

from launch import build

import gymnasium
import keras
import numpy as np
import pytest

import agent
import evaluate
import rollout
import train
import wrappers
from environments import catalogue, features
from helpers import counting
from storage import weights

H = 2  # of the run whose torso this is
SHORT = """--network=DRQN --maxsteps=150 --units=8 --num_envs=3 --bufflen=120 --batch_size=4 --unroll=2 --flicker=0.5
    --learning_starts=40 --update_period=16 --eval_period=70 --eval_episodes=2 --checkpoint_period=60""".split()


@pytest.fixture(scope="module")
def game():
    """An environment of images whose brightness is their number, in episodes of 3 to 9 steps."""
    return counting.register(length=(3, 9), shape=(84, 84))


def make_source(directory, network="DQN", frame_shape=(84, 84), history=H):
    """Write the two files of a run that its torso is loaded from; return its agent."""
    source_agent = agent.Agent(network, frame_shape, 3, history, units=8, seed=7)
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(dict(settings=dict(network=network, history=history))))
    (directory / "best.weights.h5").write_bytes(weights.pack(source_agent.save_weights))
    return source_agent


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Return the directory of a run, and its agent."""
    directory = tmp_path_factory.mktemp("source") / "run"
    return directory, make_source(directory)


def torso_weights(network):
    return [np.asarray(w) for w in network.torso.get_weights()]


def assert_arrays_equal(one, two):
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


def train_short(arguments, game, directory):
    """Train; environments get new seeds after every 12 vector steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollout, "RESEED_PERIOD", 36)
        return train.train(train.configure([*SHORT, f"--env={game}", f"--run_dir={directory}", *arguments]))


@pytest.fixture(scope="module")
def finished_run(source, game, tmp_path_factory):
    """A run on features that was never stopped: its directory and Trainer."""
    directory = tmp_path_factory.mktemp("whole") / "run"
    return directory, train_short([f"--features={source[0]}"], game, directory)


# The wrapper


def play_screens(envs, num_steps):
    """Return the frames of each vector step, with the screens that are obscured and those that begin an episode."""
    rng, first, ended = np.random.default_rng(0), np.ones(3, bool), np.zeros(3, bool)
    frame, _ = envs.reset(seed=np.array([1, 2, 3]))
    for _ in range(num_steps):
        yield np.array(frame), envs.obscured, first
        first = ended
        frame, _, terminated, truncated, _ = envs.step(rng.integers(3, size=3))
        ended = terminated | truncated


def make_flickering_envs(game, torso=None):
    settings = dict(env=game, frame_skip=1, max_episode_frames=0, flicker=0.4, sticky=None, full_actions=None,
                    noops=None)
    return build.make_envs(settings | dict(features=torso and "given"), 3, torso)


def test_features_are_those_of_the_torso_over_the_frames_of_each_episode(source, game):
    torso = features.load(str(source[0]), "nowhere")
    envs = make_flickering_envs(game, torso)
    assert envs.frame_shape == (torso.size,) == (3136,) and envs.frame_dtype == np.float32
    assert (envs.action_names, envs.is_atari, envs.flicker) == (["0", "1", "2"], False, 0.4)
    episodes, num_obscured, num_first = [[], [], []], 0, 0
    on_features, on_screens = play_screens(envs, 25), play_screens(make_flickering_envs(game), 25)
    for (seen, obscured, first), (screens, _, _) in zip(on_features, on_screens, strict=True):
        for env in range(3):
            if first[env]:
                episodes[env] = [np.zeros((84, 84), np.uint8)] * (H - 1)
            episodes[env].append(screens[env])
            assert screens[env].any() != obscured[env]
        by_hand = source[1].online_network.torso(np.stack([screens[-H:] for screens in episodes]))
        np.testing.assert_allclose(seen, by_hand, atol=1e-5)
        num_obscured, num_first = num_obscured + obscured.sum(), num_first + first.sum()
    assert num_obscured > 20 and num_first > 6 and np.std(by_hand) > 0
    assert torso.traces == ["torso"]


def test_reseeded_environments_have_features_of_a_blank_history_and_others_go_on(source, game):
    torso = features.load(str(source[0]), "nowhere")
    envs, undisturbed = make_flickering_envs(game, torso), make_flickering_envs(game, torso)
    fresh = make_flickering_envs(game)
    fresh.flicker, seeds = 0.0, np.array([7, 8, 9])
    ended, rng = np.zeros(3, bool), np.random.default_rng(0)
    for each in (envs, undisturbed):
        each.reset(seed=np.array([1, 2, 3]))
    while not (ended.any() and not ended.all()):
        actions = rng.integers(3, size=3)
        _, _, terminated, truncated, _ = envs.step(actions)
        undisturbed.step(actions)
        ended = terminated | truncated
    envs.step(actions)
    expected = undisturbed.step(actions)[0]  # of the row in which some reset
    screens, _ = fresh.reset(seed=seeds)
    stacks = np.zeros((3, H, 84, 84), np.uint8)
    for step in range(4):
        if step == 0:
            frame, _ = envs.reseed(ended, seeds)
        else:
            actions = rng.integers(3, size=3)
            screens, (frame, *_), (expected, *_) = (each.step(actions) for each in (fresh, envs, undisturbed))
            screens = screens[0]
        visible = np.where(envs.obscured[:, None, None], 0, screens)
        stacks = np.concatenate([stacks[:, 1:], visible[:, None]], axis=1)
        np.testing.assert_array_equal(frame, np.where(ended[:, None], torso(stacks), expected))
        np.testing.assert_array_equal(envs.obscured, undisturbed.obscured)


def test_steps_without_looking_lead_to_the_same_features(source, game, monkeypatch):
    torso = features.load(str(source[0]), "nowhere")
    envs, other = make_flickering_envs(game, torso), make_flickering_envs(game, torso)
    actions, seeds = np.random.default_rng(0).integers(3, size=(12, 3)), np.array([4, 5, 6])
    for each in (envs, other):
        each.reset(seed=np.array([1, 2, 3]))
    mask = np.array([False, True, False])
    for row in actions[:8]:
        envs.step(row)
    envs.reseed(mask, seeds)
    for row in actions[8:-1]:
        envs.step(row)
    with monkeypatch.context() as patch:
        patch.setattr(features.Torso, "__call__", None)
        for i, row in enumerate(actions[:-1]):
            other.repeat(row, mask & (i == 7), seeds)
        assert other.set_state({name: np.array(value) for name, value in envs.get_state().items()})
    other.rng.bit_generator.state = envs.rng.bit_generator.state
    assert_arrays_equal(envs.step(actions[-1])[:4], other.step(actions[-1])[:4])


# Runs


def test_the_torso_stays_as_it_is_and_is_traced_once_for_training_and_evaluations(source, finished_run):
    run = finished_run[1]
    assert run.updates > 5 and run.evaluations == 2
    expected = torso_weights(source[1].online_network)
    assert_arrays_equal(torso_weights(features.load(str(source[0]), finished_run[0])._network), expected)
    assert_arrays_equal(torso_weights(run.envs.torso._network), expected)
    assert run.envs.torso is run.eval_envs.torso
    # JAX traces once per number of environments.
    assert len(run.envs.torso.traces) == {"tensorflow": 1, "jax": 2}[keras.backend.backend()]
    shapes = [tuple(w.shape) for w in run.agent.online_network.weights]
    assert shapes == [(3136, 32), (8, 32), (32,), (8, 3), (3,)]  # no torso
    assert run.replay.columns["frame"].shape[2:] == (3136,)


def read_untimed_rows(directory, name):
    with open(directory / f"{name}.csv") as file:
        return [{column: value for column, value in row.items() if "seconds" not in column}
                for row in csv.DictReader(file)]


def test_stopped_and_continued_without_the_other_run_equals_uninterrupted(source, finished_run, game, tmp_path):
    copy = tmp_path / "source"
    shutil.copytree(source[0], copy)
    train_short([f"--features={copy}", "--maxsteps=95"], game, tmp_path / "run")
    shutil.rmtree(copy)
    run = train_short([f"--features={copy}"], game, tmp_path / "run")
    assert run.rollout.num_seeds.min() > 1
    for name in "train", "eval":
        assert read_untimed_rows(tmp_path / "run", name) == read_untimed_rows(finished_run[0], name)
    for part in "agent", "rollout":
        ours, theirs = getattr(run, part).get_state(), getattr(finished_run[1], part).get_state()
        assert ours.keys() == theirs.keys()
        assert_arrays_equal(ours.values(), theirs.values())
    assert_arrays_equal(run.replay.columns.values(), finished_run[1].replay.columns.values())


def test_a_run_on_features_is_evaluated_without_the_other_run(finished_run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(features, "_read_source", None)
    assert evaluate.main([f"--run_dir={finished_run[0]}", "--episodes=2", f"--csv={tmp_path / 'rows.csv'}"]) == 0
    assert "2 episodes" in capsys.readouterr().out
    assert evaluate.main([f"--run_dir={finished_run[0]}", "--episodes=2", "--observation_probabilities=0.5,1",
                          f"--csv={tmp_path / 'sweep.csv'}"]) == 0


@pytest.fixture
def kept(finished_run, source, tmp_path):
    """Return a copy of a run that learned on features, and its --features."""
    return pathlib.Path(shutil.copytree(finished_run[0], tmp_path / "kept")), str(source[0])


@pytest.mark.parametrize("name", ["torso.json", "torso.weights.h5"])
def test_a_missing_torso_is_never_taken_from_its_source(kept, name):
    run, given = kept
    (run / name).unlink()
    with pytest.raises(ValueError, match=f"kept/{name} does not exist, and the run has learned from the features of"):
        features.load(given, run)
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(ValueError, match=f"kept/{name} does not exist"):
        features.load(given, run)
    (run / "best.weights.h5").unlink()  # Killed before its first weights, the run begins anew.
    assert features.load(given, run).size == 3136


@pytest.mark.parametrize("text, sentence", [
    ("{", "which the run has (Expecting property name"), ("[]", "which the run has ("), ("3", "which the run has ("),
    ("[" * 100_000, "it is nested too deeply"), ("{}", "it has no 'features'"),
    ('{"features": "other"}', "(it is of --features=other)"), ('{"features": 3}', "(it is of --features=3)"),
    ('{"features": GIVEN}', "is a run of --network=None, which is not in the table"),
    ('{"features": GIVEN, "network": 3, "history": 2}', "is a run of --network=3, which is not in the table"),
    ('{"features": GIVEN, "network": ["DQN"], "history": 2}', "which is not in the table of choices.py"),
    *[(f'{{"features": GIVEN, "network": "DQN", "history": {history}}}', "expected 1 to 1000")
      for history in ("-1", "0", '"x"', "null", "2.0", "true", "1000000000")]])
def test_a_changed_description_of_a_torso_is_refused(kept, text, sentence):
    run, given = kept
    (run / "torso.json").write_text(text.replace("GIVEN", json.dumps(given)))
    with pytest.raises(ValueError) as error:
        features.load(given, run)
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_a_torso_that_is_a_link_or_flipped_is_refused(kept, tmp_path):
    run, given = kept
    weights = run / "torso.weights.h5"
    data = weights.read_bytes()
    weights.write_bytes(data[:-99] + bytes([data[-99] ^ 1]) + data[-98:])
    with pytest.raises(ValueError, match="torso.weights.h5 is damaged: its checksum is another one"):
        features.load(given, run)
    for name in ("torso.weights.h5", "torso.json"):
        (run / name).rename(tmp_path / name)
        (run / name).symlink_to(tmp_path / name)
        with pytest.raises(ValueError, match=f"kept/{name} is a link, so it is not opened"):
            features.load(given, run)
        (run / name).unlink()
        (tmp_path / name).rename(run / name)


# Transfer


def test_training_begins_with_the_torso_of_the_other_run_and_moves_it(source, game, tmp_path):
    copy = tmp_path / "source"
    shutil.copytree(source[0], copy)
    arguments = ["--network=DQN", f"--history={H}", "--unroll=1", f"--init_from={copy}", "--maxsteps=60"]
    run = train.Trainer(train.configure([*SHORT, f"--env={game}", f"--run_dir={tmp_path / 'run'}", *arguments]))
    began = torso_weights(source[1].online_network)
    for network in (run.agent.online_network, run.agent.target_network):
        assert_arrays_equal(torso_weights(network), began)
    assert_arrays_equal(run.agent.online_network.get_weights(), run.agent.target_network.get_weights())
    run.train()
    assert run.updates == 1
    ended = torso_weights(run.agent.online_network)
    assert all((a != b).any() for a, b in zip(began, ended))
    shutil.rmtree(copy)  # Its weights are in the checkpoint.
    again = train.Trainer(train.configure([*SHORT, f"--env={game}", f"--run_dir={tmp_path / 'run'}", *arguments]))
    assert_arrays_equal(torso_weights(again.agent.online_network), ended)


# Torsos of ImageNet


def test_screens_come_in_rgb_for_a_torso_that_wants_them():
    envs = catalogue.make_envs("Pong", 1, frame_skip=4, max_episode_frames=0, screen=(224, 224, 3))
    screens, _ = envs.reset(seed=np.array([1]))
    assert (envs.frame_shape, screens.shape, screens.dtype) == ((224, 224, 3), (1, 224, 224, 3), np.uint8)
    there, _ = gymnasium.make("ALE/Pong-v5").reset(seed=1)
    assert screens[0, 112, 60].tolist() == there[105, 43].tolist() == [109, 118, 43]
    colour = np.full((20, 30, 3), (250, 100, 5), np.uint8)
    assert wrappers.as_screen(colour, (224, 224, 3))[7, 9].tolist() == [250, 100, 5]
    assert wrappers.as_screen(np.full((20, 30, 1), 9, np.uint8), (6, 5, 3)).tolist() == np.full((6, 5, 3), 9).tolist()


@pytest.mark.slow
def test_weights_of_a_resnet_from_a_file(tmp_path):
    torso = keras.applications.ResNet50(include_top=False, pooling="avg", weights=None)
    torso.save_weights(tmp_path / "resnet.weights.h5")
    given = f"resnet50:{tmp_path / 'resnet.weights.h5'}"
    arguments = """--env=Pong --network=DRQN --num_envs=1 --units=8 --unroll=3 --maxsteps=24 --batch_size=4
        --bufflen=100 --learning_starts=8 --max_episode_frames=32 --eval_episodes=1 --eval_period=24
        --noops=0""".split()
    run = train.train(train.configure([*arguments, f"--features={given}", f"--run_dir={tmp_path / 'run'}"]))
    assert (run.updates, run.evaluations) == (4, 1) and len(run.envs.torso.traces) == 1
    assert run.replay.columns["frame"].shape[2:] == (2048,)
    plain = catalogue.make_envs("Pong", 1, frame_skip=4, max_episode_frames=32, screen=(224, 224, 3))
    seed = dict(seed=np.array([5]))
    screens, seen = plain.reset(**seed)[0], run.envs.reset(**seed)[0]
    preprocessed = keras.applications.resnet50.preprocess_input(screens.astype(np.float32))
    np.testing.assert_allclose(seen, keras.ops.convert_to_numpy(torso(preprocessed)), rtol=1e-3, atol=1e-5)
    assert seen.std() > 0.01 * seen.mean() > 0
    (tmp_path / "resnet.weights.h5").unlink()
    again = features.load(given, tmp_path / "run")
    np.testing.assert_array_equal(again(screens[:, None]), seen)


# What is refused: one sentence, nothing written


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """Return the directory of a run that sees no screens."""
    directory = tmp_path_factory.mktemp("vectors") / "run"
    make_source(directory, frame_shape=(4,))
    return directory


@pytest.fixture
def refused(source, vectors, tmp_path, monkeypatch, capsys):
    """Return a function that gives train.py arguments which it refuses, and returns what it says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "cache"))
    shutil.copytree(source[0], "images")
    shutil.copytree(vectors, "vectors")
    pathlib.Path("untrained").mkdir()
    shutil.copy("images/config.json", "untrained")
    shutil.copytree("images", "torn")
    pathlib.Path("torn/best.weights.h5").write_bytes(pathlib.Path("images/best.weights.h5").read_bytes()[:10_000])
    shutil.copytree("images", "theirs")
    pathlib.Path("theirs/config.json").write_text(json.dumps(dict(settings=dict(network="DRQN_theirs", history=H))))
    pathlib.Path("garbage").write_text("no weights")
    before = set(tmp_path.rglob("*"))

    def call(*arguments):
        assert train.main([*SHORT, *arguments]) == 2
        said = capsys.readouterr()
        assert said.err.startswith("train.py: ") and said.err.count("\n") == 1 and said.out == ""
        assert set(tmp_path.rglob("*")) == before
        return said.err
    return call


@pytest.mark.parametrize("arguments, sentence", [
    ("--features=nowhere",
     "--features=nowhere is neither the directory of a run nor NAME:imagenet or NAME:PATH_OF_WEIGHTS with a NAME "),
    ("--features=resnet18:imagenet", "--features=resnet18:imagenet is neither"),
    ("--features=resnet50:nowhere", "--features=resnet50:nowhere: there is no file nowhere"),
    ("--features=mobilenetv2:garbage", "garbage does not hold the weights of a MobileNetV2"),
    ("--features=mobilenetv2:images/best.weights.h5", "best.weights.h5 does not hold the weights of a MobileNetV2"),
    ("--features=vectors", "--features=vectors has no torso for screens of 84x84 (vectors/best.weights.h5 holds a "
                           "torso of 8x128; expected a torso of 8x8x2x32"),
    ("--features=torn",
     "--features=torn has no torso for screens of 84x84 (Unable to synchronously open file (truncated file"),
    ("--features=theirs", "--features=theirs is a run of --network=DRQN_theirs, which is not in the table of choices"),
    ("--features=untrained",
     "--features=untrained: untrained has no best weights yet; wait for its first evaluation (evaluate.py also"),
    ("--features=images --env=CartPole-v1",
     "--features=images does not apply to --env=CartPole-v1, whose frames are vectors of 4 numbers"),
    ("--features=images --init_from=images",
     "--features=images leaves the network without a torso that --init_from=images could"),
    ("--init_from=images", "--init_from=images has no torso that fits this run (images/best.weights.h5 holds a torso "
                           "of 8x8x2x32, 4x4x32x64, 3x3x64x64; expected a torso of 8x8x1x32, 4x4x32x64, 3x3x64x64)"),
    ("--init_from=images --history=2 --network=DQN2013", "expected a torso of 8x8x2x16, 4x4x16x32"),
    ("--init_from=vectors", "holds a torso of 8x128; expected a torso of 8x8x1x32"),
    ("--init_from=nowhere", "--init_from=nowhere: nowhere does not exist"),
])
def test_torsos_that_do_not_fit_are_refused(arguments, sentence, refused):
    assert sentence in refused("--env=Pong", *arguments.split())


def test_weights_of_imagenet_without_internet_are_refused_at_once(refused, monkeypatch):
    def unreachable(*_, **__):
        raise urllib.error.URLError("no route to host")

    swallowed = lambda *_, **__: time.sleep(60) or unreachable()
    monkeypatch.setattr(features, "ANSWER_SECONDS", 0.2)
    for answer in (swallowed, unreachable):
        monkeypatch.setattr(features.urllib.request, "urlopen", answer)
        begin = time.monotonic()
        said = refused("--env=Pong", "--features=resnet50:imagenet")
        assert time.monotonic() - begin < 5
        assert "download https://" in said and "give its path: --features=resnet50:PATH" in said
        cached = pathlib.Path.cwd() / "cache/models/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
        assert f"{cached} does not exist" in said
