"""Flags and the config that they resolve to: defaults, presets, names of runs, help, and refused input."""

import json
import re
import subprocess
import sys

from launch.settings import LATER, check_settings, configure, doubt

import pytest

import choices
import train
from helpers.run_files import SETTINGS
from helpers.short_runs import CARTPOLE, ROOT

# Settings


PONG, R2D2 = "--flagfile=presets/pong.flags", "--flagfile=presets/r2d2_small.flags"


@pytest.mark.parametrize("arguments, resolved", [
    ([], dict(network="DRQN", env="Frostbite", history=1, unroll=10, sample="episode", frame_skip=4, sticky=0.0,
              full_actions=False, noops=30, max_episode_frames=108_000, life_loss="none", learning_rate=2.5e-4,
              epsilon_decay="linear:1000000steps")),
    (["--network=DQN"], dict(history=4, unroll=1, sample="timestep")),
    (["--network=DQN", "--history=10", "--unroll=5", "--sample=episode"], dict(history=10, unroll=5, sample="episode")),
    (["--sample=sequential"], dict(network="DRQN", unroll=10, sample="sequential")),
    (["--network=DQN", "--sample=sequential"], dict(history=4, unroll=1, sample="sequential")),
    (["--env=CartPole-v1"], dict(frame_skip=1, max_episode_frames=500, sticky=None, noops=None, life_loss=None)),
    (["--env=CartPole-v1"], dict(history=1, unroll=10, reward_scale=None, **choices.VECTORS["replay"])),
    (["--env=CartPole-v1", "--sample=episode", "--epsilon_end=0.1", "--maxsteps=9000"],
     choices.VECTORS["replay"] | dict(sample="episode", epsilon_end=0.1, maxsteps=9000)),
    (["--env=CartPole-v1", "--optimizer=rmsprop"], dict(optimizer="rmsprop", learning_rate=2.5e-4, batch_size=64)),
    (["--env=CartPole-v1", "--epsilonStep=1e-5", "--maxepisodes=7"],
     dict(epsilonStep=1e-5, epsilon_decay=None, maxepisodes=7, maxsteps=10_000_000)),
    (["--env=CartPole-v1", "--network=PQN_LSTM"], dict(unroll=32, sample="rollout", **choices.VECTORS["rollout"])),
    (["--env=CartPole-v1", "--network=PQN", "--sample=timestep"], choices.VECTORS["replay"]),
    (["--env=CartPolePixels-v0"], dict(maxsteps=10_000_000, sample="episode", learning_starts=50_000)),
    (["--env=ms_pacman"], dict(env="MsPacman", frame_skip=4)),
    (["--env=ALE/Pong-v5"], dict(env="ALE/Pong-v5", frame_skip=4, sticky=0.25)),
    (["--env=ALE/Pong-v5", "--sticky=0", "--frame_skip=5"], dict(frame_skip=5, sticky=0.0)),
    (["--env=PongNoFrameskip-v4"], dict(frame_skip=1, sticky=0.0)),
    (["--env=Pong-v4", "--frame_skip=3"], dict(frame_skip=3)),
    (["--optimizer=adadelta"], dict(learning_rate=0.1)),
    (["--optimizer=adam", "--learning_rate=3e-4"], dict(learning_rate=3e-4)),
    (["--network=drqn_relu", "--sample=Timestep"], dict(network="DRQN_ReLU", sample="timestep")),
    (["--maxsteps=1e6", "--bufflen=100_000", "--learning_starts=1.5e3"],
     dict(maxsteps=1_000_000, bufflen=100_000, learning_starts=1500)),
    (["--seed=0", "--maxsteps", "2E5"], dict(seed=0, maxsteps=200_000)),
    (["--epsilonStep=1e-5"], dict(epsilonStep=1e-5, epsilon_decay=None)),
    (["--lr_schedule=constant"], dict(lr_schedule=None)),
    (["--env=FrozenLake-v1"], dict(env="FrozenLake-v1", max_episode_frames=100)),  # Discrete observations
    (["--loss=MSE", "--network=dqn"], dict(loss="mse", network="DQN")),
    (["--lr_schedule=step:9u:0.5"], dict(lr_schedule="step:9u:0.5", learning_rate=2.5e-4)),
    ([R2D2, "--network=DQN", "--burn_in=0"], dict(burn_in=0)),
    ([R2D2, "--network=DQN"], dict(burn_in=10)),  # It means nothing there.
    ([PONG, "--epsilonStep=1e-6"], dict(epsilonStep=1e-6, epsilon_decay=None)),  # What is typed wins.
    ([PONG, "--epsilon_decay=apex"], dict(epsilon_decay="apex", epsilon_end=0.1)),
    ([PONG, "--network=PQN", "--num_envs=32"], dict(sample="rollout", bufflen=None)),
    ([PONG, "--sample=rollout", "--num_envs=32", "--unroll=8"], dict(network="DRQN", bufflen=None)),
])
def test_defaults_of_the_family_are_resolved_once(arguments, resolved):
    settings = configure(arguments)["settings"]
    assert {name: settings[name] for name in resolved} == resolved


@pytest.mark.parametrize("preset", [
    pytest.param(path, marks=pytest.mark.slimevolley if "SlimeVolley" in path.read_text() else ())
    for path in sorted(ROOT.glob("presets/*.flags"))], ids=lambda path: path.stem)
@pytest.mark.parametrize("network", list(choices.NETWORKS))
def test_every_preset_parses(preset, network, monkeypatch):
    monkeypatch.chdir(ROOT)  # A preset names other presets by their path from here.
    replayed = ["--sample=timestep"] if network.startswith("PQN") and not preset.stem.startswith("pqn") else []
    settings = configure([*replayed, f"--flagfile={preset}", f"--network={network}"])["settings"]
    given = dict(re.findall(r"^--(\w+)=(.*)$", preset.read_text(), re.MULTILINE))
    assert given and all(str(settings[name]) == value or float(settings[name]) == float(value)
                         for name, value in given.items() if name not in ("network", "flagfile"))


HAUSKNECHT = dict(  # the paper's table of settings, in the units of our flags
    optimizer="adadelta", learning_rate=0.1, loss="euclidean", clip_norm=10, maxsteps=10_000_000, update_period=1,
    bufflen=400_000, learning_starts=50_000, num_envs=8, batch_size=32, units=512, gamma=0.99, target_period=10_000,
    epsilon_begin=1, epsilon_end=0.1, epsilon_decay="linear:1000000steps", frame_skip=4, noops=0, max_episode_frames=0,
    life_loss="penalty", full_actions=False, sticky=0, flicker=0, eval_episodes=10, eval_period=50_000,
    eval_epsilon=0.05)
MNIH = dict(
    network="DQN", optimizer="rmsprop", learning_rate=0.00025, loss="huber", clip_norm=0, maxsteps=50_000_000,
    update_period=4, bufflen=1_000_000, learning_starts=50_000, batch_size=32, units=512, history=4, unroll=1,
    gamma=0.99, target_period=10_000, epsilon_begin=1, epsilon_end=0.1, epsilon_decay="linear:1000000steps",
    frame_skip=4, noops=30, max_episode_frames=5 * 60 * 60, life_loss="terminal", full_actions=False, sticky=0,
    eval_episodes=30, eval_epsilon=0.05)
MACHADO = dict(sticky=0.25, full_actions=True, life_loss="none", noops=0, max_episode_frames=108_000)


@pytest.mark.parametrize("presets, table", [
    (["drqn_paper"], HAUSKNECHT | dict(network="DRQN", history=1, unroll=10, sample="episode")),
    (["dqn_paper"], HAUSKNECHT | dict(network="DQN", history=4, unroll=1)),
    (["dqn10_paper"], HAUSKNECHT | dict(network="DQN", history=10, unroll=1)),
    (["dqn_nature"], MNIH),
    (["drqn_paper", "machado"], HAUSKNECHT | MACHADO),
    (["dqn_nature", "machado"], MNIH | MACHADO),
], ids="-".join)
def test_the_presets_hold_the_papers_tables(presets, table, monkeypatch):
    monkeypatch.chdir(ROOT)
    settings = configure([f"--flagfile=presets/{preset}.flags" for preset in presets])["settings"]
    assert {name: settings[name] for name in table} == table


PRESET = f"--flagfile={ROOT}/presets/cartpole.flags"


@pytest.mark.parametrize("arguments, name", [
    ([], "Frostbite-DRQN-s1"),
    (["--env=ms_pacman", "--network=DQN", "--seed=7"], "MsPacman-DQN-s7"),
    (["--env=ALE/Pong-v5"], "ALE_Pong-v5-DRQN-s1"),
    ([PRESET], "CartPole-v1-DRQN-cartpole-s1"),
    ([PRESET, "--flicker=0.5", "--seed=3", "--jid=job7"], "CartPole-v1-DRQN-cartpole-flicker=0.5-job7-s3"),
    ([PRESET, "--maxsteps=70000", "--eval_period=7", "--checkpoint_period=8"], "CartPole-v1-DRQN-cartpole-s1"),
    ([PRESET, "--resume=never"], "CartPole-v1-DRQN-cartpole-s1"),
    (["--noops=0", "--flicker=0.5", "--full_actions"], "Frostbite-DRQN-flicker=0.5-full_actions-noops=0-s1"),
    (["--flicker=0.5", "--full_actions", "--noops=0"], "Frostbite-DRQN-flicker=0.5-full_actions-noops=0-s1"),
    (["--flicker", "0.5", "--maxsteps", "70000", "--seed", "3"], "Frostbite-DRQN-flicker=0.5-s3"),
    (["--flagfile", PRESET.partition("=")[2]], "CartPole-v1-DRQN-cartpole-s1"),
    (["--jid=../../etc"], "Frostbite-DRQN-.._.._etc-s1"),
])
def test_the_default_run_dir_names_preset_and_flags_beside_it_but_no_limits(arguments, name):
    assert configure(arguments)["run_dir"] == f"runs/{name}"


def test_a_run_dir_that_is_given_is_taken():
    assert configure(["--run_dir=/tmp/x/y"])["run_dir"] == "/tmp/x/y"


# Bad input: one sentence, exit code 2, no traceback, nothing written.


@pytest.mark.parametrize("arguments, sentence", [
    (["--env=Frostbit"], "--env=Frostbit is neither .* the nearest names are Frostbite, "),
    (["--env=CartPole-v9"], "--env=CartPole-v9 is neither .*CartPole-v1"),
    (["--env=ALE/Nothing-v5"], "nearest names"),
    (["--env=Pendulum-v1"], "Pendulum-v1 has the action space Box.*Discrete"),
    (["--env=phys2d/CartPole-v1"], "--env=phys2d/CartPole-v1 needs"),
    (["--env=Reacher-v2"], "--env=Reacher-v2"),
    (["--env=Pong-v4"], "random.*--frame_skip"),
    (["--bufflen=1000000000000"], r"--bufflen=1000000000000 timesteps need [\d.]+ GB, and [\d.]+ GB"),
    (["--bufflen=7", "--learning_starts=0"], "--bufflen=7"),
    (["--learning_starts=400", "--maxsteps=400", "--bufflen=1000"], "--learning_starts=400 .*--maxsteps=400"),
    (["--learning_starts=401", "--maxsteps=400", "--bufflen=1000"], "--learning_starts=401 .*--maxsteps=400"),
    (["--learning_starts=250"], "--learning_starts=250 .*--bufflen=240"),
    *[([f"--{name}={value}"], f"--{name}={value}") for name, value in [
        ("flicker", 1.5), ("flicker", -0.1), ("flicker", "nan"), ("gamma", 1.01), ("gamma", "nan"),
        ("epsilon_begin", 2), ("epsilon_end", -1), ("eval_epsilon", 7), ("eval_epsilon", "nan"), ("learning_rate", 0),
        ("learning_rate", "nan"), ("learning_rate", "inf"), ("clip_norm", "nan"), ("maxsteps", 0), ("maxsteps", "many"),
        ("maxepisodes", 0), ("batch_size", 0), ("num_envs", 0), ("units", -1), ("seed", -1), ("network", "DDQN"),
        ("resume", "yes"), ("optimizer", "sgd"), ("precision", "int8"), ("sample", "best"), ("eval_episodes", 0)]],
    (["--env=Frostbite", "--sticky=1.1"], "--sticky=1.1"),
    *[([f"--{name}={value}"], f"--{name}={value} does not apply to --env=CartPole-v1") for name, value in [
        ("sticky", 0.25), ("full_actions", True), ("noops", 0), ("life_loss", "none"), ("life_loss", "terminal")]],
    (["--epsilon_decay=linear:100steps", "--epsilonStep=1e-3"], "--epsilon_decay and --epsilonStep"),
    ([f"--seed={2**63}"], f"--seed={2**63}: expected a whole number below 2"),
    (["--unroll=1", "--trace_decay=0.65"], "--trace_decay=0.65 needs windows of several.*--unroll=2"),
    (["--trace_decay=1.5"], "--trace_decay=1.5"),
    (["--double", "--target_period=0"], "--double needs a target network, and --target_period=0 has none"),
    (["--sample=rollout"], "--bufflen=240 does not apply to --sample=rollout"),
    (["--target_period=-1"], "--target_period=-1"),
    (["--burn_in=-1"], "--burn_in=-1"), (["--start_state=carried"], "--start_state=carried: value should be one of"),
    (["--network=DQN", "--burn_in=4"], "--burn_in=4 does not apply to --network=DQN, which has no memory"),
    (["--network=PQN", "--start_state=stored"], "--start_state=stored does not apply to --network=PQN, which has no"),
    (["--sample=sequential", "--burn_in=4"],
     "--burn_in=4 does not apply to --sample=sequential, whose windows start from the state after the window before"),
    (["--sample=sequential", "--start_state=stored"], "--start_state=stored does not apply to --sample=sequential"),
    (["--epsilon_decay=exponential"], "--epsilon_decay=exponential.*linear:"),
    (["--epsilon_decay=linear:0steps"], "--epsilon_decay=linear:0steps"),
    (["--epsilon_decay=exp:200"],
     r"exp:200 was given; expected a positive count with its unit, steps \(agent steps\) or ep "),
    (["--epsilon_decay=exp:200u"], "--epsilon_decay=exp:200u was given.*its unit, steps .* or ep .*as in exp:9975ep"),
    (["--epsilon_decay=exp:200ep:0.1"], "--epsilon_decay=exp:200ep:0.1 was given.*as in exp:9975ep"),
    (["--epsilon_decay=step:25ep:0.8"],
     "--epsilon_decay=step:25ep:0.8 is no schedule; expected one such as linear:1000000steps, exp:"),
    (["--lr_schedule=exp:25ep"],
     "--lr_schedule=exp:25ep is no schedule; expected one such as constant, step:25ep:0.8, cosine_restarts:"),
    (["--lr_schedule=step:25:0.8"],
     r"step:25:0.8 was given; expected .* its unit, u \(updates\) or ep \(complete episodes\)"),
    (["--lr_schedule=step:25ep"], "--lr_schedule=step:25ep was given; expected .* and a number, as in step:25ep:0.8"),
    (["--lr_schedule=step:25ep:1.2.3"],
     "--lr_schedule=step:25ep:1.2.3 was given.* and a number, as in step:25ep:0.8"),
    (["--lr_schedule=step:0.5ep:0.8"], "--lr_schedule=step:0.5ep:0.8 was given; expected a positive count"),
    (["--lr_schedule=step:25ep:1.1"],
     "--lr_schedule=step:25ep:1.1 was given; expected a factor above 0 and at most 1"),
    (["--lr_schedule=cosine_restarts:9u:0.02"],
     "9u:0.02 was given; expected a floor between 0 and --learning_rate=0.01"),
    (["--epsilon_decay=apex", "--epsilon_end=0.05"],
     "--epsilon_end=0.05 does not apply to --epsilon_decay=apex, which gives each environment an epsilon of its own"),
    (["--epsilon_begin=0.05"], "--epsilon_begin=0.05 is below --epsilon_end=0.1"),
    (["--init_from="], "--init_from was given without a value; expected one, or no --init_from"),
    *[([f"--maxsteps={value}"], f"--maxsteps={value}: expected a whole number, such as 1000000, 1_000_000 or 1e6")
      for value in ("1.5", "1e-3", "1e999", "nan", "12,000", "1e16")],
    (["--maxsteps=-1e6"], "--maxsteps=-1e6"), (["--epsilon_decay=10000"],
     r"=10000 names no unit; expected a schedule such as linear:10000steps \(agent steps\) or linear:10000ep "),
    (["--lr_schedule=25"], r"=25 names no unit; expected a schedule such as step:25u:0.8 \(updates\) or step:25ep:0.8"),
    (["--epsilon=0.5"], "--epsilon is no flag; perhaps --epsilon_begin or --epsilon_end or --epsilon_decay or "),
    (["--lr=0.1"], "--lr is no flag; perhaps --learning_rate or --lr_schedule is meant"),
    (["--learning-rate=0.1"], "--learning-rate is no flag; perhaps --learning_rate or "),
    (["--nosuchflag=1"], "--nosuchflag is no flag; perhaps "), (["--core=LSTM"], "--core is no flag"),
    (["stray"], "'stray' is no flag"), (["--maxsteps"], "maxsteps"),
    (["--flagfile=nowhere.flags"], "--flagfile=nowhere.flags cannot be opened .No such file.*; perhaps .*presets/"),
    (["--flagfile=presets/drqn.flags"], "perhaps .*presets/drqn_paper.flags is meant"),
    (["--flagfile", "Pong"], "--flagfile=Pong cannot be opened .No such file or .*; perhaps .*presets/pong.flags is"),
    (["--flagfile="], "--flagfile was given without a value; expected one, or no --flagfile"),
    (["--run_dir=/proc/run"], "/proc/run"),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_bad_input_is_refused_in_one_sentence(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    others = [argument for argument in CARTPOLE if argument.partition("=")[0] not in ("--flicker", "--epsilon_decay")]
    assert train.main([*others, *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("train.py: ") and printed.err.count("\n") == 1 and printed.out == ""
    assert re.search(sentence, printed.err)
    assert list(tmp_path.iterdir()) == []  # Nothing was written.


def test_a_directory_of_something_else_is_refused(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert train.main([*CARTPOLE, f"--run_dir={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "is no run of this suite" in error
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [
    ["--env=Frostbit"], ["--env=Pong-v4"], ["--env=Pendulum-v1"], ["--env=CartPole-v0", "--sticky=0.1"]])
def test_a_real_process_prints_nothing_but_the_sentence(arguments, tmp_path):
    command = [sys.executable, str(ROOT / "train.py"), *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("train.py: ") and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


# Back from a config.json


def test_settings_that_configure_resolves_are_those_that_readers_take():
    for arguments in ([], ["--env=CartPole-v1", "--network=PQN_LSTM", "--batch_size=8", "--update_period=64"],
                      ["--epsilonStep=1e-5", "--maxepisodes=3"]):
        settings = configure(arguments)["settings"]
        assert check_settings(json.loads(json.dumps(settings))) == settings
    early = {name: value for name, value in SETTINGS.items() if name not in LATER}
    assert check_settings(early) == SETTINGS and list(check_settings(early))[:len(early)] == list(early)
    assert check_settings(SETTINGS | dict(of_later="x"))["of_later"] == "x"


@pytest.mark.parametrize("preset, arguments", [
    ("cartpole", ["--env=CartPole-v1", "--network=DRQN"]),
    ("pqn_mini", ["--env=CartPole-v1", "--network=PQN_LSTM", "--flicker=0.5"])])
def test_the_defaults_of_vectors_are_those_of_the_presets_that_were_measured(preset, arguments):
    of_preset = configure([f"--flagfile={ROOT}/presets/{preset}.flags", *arguments[1:2]])["settings"]
    resolved = configure(arguments)["settings"]
    assert {name: of_preset[name] for name in resolved if of_preset[name] != resolved[name]} == (
        dict(lr_schedule="cosine_restarts:3200u:0.00001") if preset == "pqn_mini" else {})


@pytest.mark.parametrize("arguments, words", [
    ([], []), (["--env=CartPole-v1"], []), (["--env=CartPole-v1", "--maxsteps=10000"], []),
    (["--env=CartPole-v1", "--network=PQN"], []),
    (["--maxsteps=200000"], ["ends while epsilon is 0.82"]),
    (["--maxsteps=600000", "--learning_starts=599000", "--bufflen=600000"], ["makes 250 updates"]),
    (["--env=CartPole-v1", "--maxsteps=2000"], ["ends while epsilon is 0.81", "makes 250 updates"]),
    (["--epsilon_decay=linear:100ep", "--epsilon_end=0", "--maxepisodes=40"], ["ends while epsilon is 0.60"]),
    (["--epsilon_decay=linear:100ep"], []), (["--epsilonStep=1e-8"], ["a shorter --epsilon_decay than 1e-08"])])
def test_a_run_that_is_too_short_to_learn_is_doubted(arguments, words):
    doubts = doubt(configure(arguments)["settings"])
    assert len(doubts) == len(words) and all(word in sentence for word, sentence in zip(words, doubts))


NUMBERS = [name for name, value in SETTINGS.items() if type(value) in (int, float)]
NESTED = json.loads("[" * 300 + "]" * 300)


@pytest.mark.parametrize("name", [*SETTINGS, "of_another_version"])
def test_a_setting_that_its_flag_would_not_take_is_named(name):
    wrong = [[], {}, NESTED, {"a": NESTED}, float("nan"), float("inf"), 10**30, "\x1b[31mred", "a\nb"]
    wrong += [-1, -0.5, "x", "", True, "8"] + [None] * (name != "bufflen") if name in NUMBERS else []
    wrong += [1e9, 0.5] if type(SETTINGS.get(name)) is int else []
    wrong += [3, "drqn", None, "DRQN "] if name == "network" else []
    for value in wrong:
        with pytest.raises(ValueError, match=f"^has .* for {name}; expected ") as error:
            check_settings(SETTINGS | {name: value})
        assert "\n" not in str(error.value) and len(str(error.value)) < 200


@pytest.mark.parametrize("name, value, sentence", [
    ("history", -1, "has -1 for history; expected an integer in the range [1, 1000]"),
    ("history", 10**7, "has 10000000 for history; expected an integer in the range [1, 1000]"),
    ("network", 3, "has 3 for network; expected one of DQN, DRQN, "),
    ("flicker", 1e9, "has 1000000000.0 for flicker; expected a number in the range [0, 1]"),
    ("double", 1, "has 1 for double; expected true or false"), ("env", None, "has None for env; expected a value"),
    ("frame_skip", None, "has None for frame_skip; expected a value"), ("features", 3, "has 3 for features; expected "),
    ("backend", None, "has None for backend; expected text"), ("sample", "often", "expected one of timestep, episode"),
    ("eval_epsilon", 1.01, "has 1.01 for eval_epsilon; expected a number in the range [0, 1]"),
    ("a\x1b[31m", 3, r"has 3 for a\x1b[31m; expected text without control characters")])
def test_what_a_setting_is_and_what_is_expected(name, value, sentence):
    with pytest.raises(ValueError) as error:
        check_settings(SETTINGS | {name: value})
    assert sentence in str(error.value)


@pytest.mark.parametrize("name", [name for name in SETTINGS if name not in (*LATER, "backend")])
def test_a_setting_that_every_run_has_may_not_be_missing(name):
    with pytest.raises(ValueError, match=f"^has no {name}, which every run has$"):
        check_settings({other: value for other, value in SETTINGS.items() if other != name})
