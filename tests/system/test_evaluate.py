"""Evaluation: the numbers, the rows, and everything that is refused."""

import contextlib
import functools
import io
import os
import pathlib
import re
import statistics
import sys

from launch import build

import pytest

import agent
import evaluate
import evaluation
from helpers.evaluated_runs import CARTPOLE, list_files, read_csv_rows, read_episode_returns, train_small
from storage import reading
from storage.run import Run

RUN = "--run_dir=runs/cartpole"


# Numbers


def test_the_printed_statistics_are_those_of_the_rows(run_evaluate):
    said = run_evaluate(RUN, "--episodes=7")
    returns = read_episode_returns("runs/cartpole/episodes-best-episodes=7.csv")
    assert len(returns) == 7 and len(set(returns)) > 1
    line = next(line for line in said.splitlines() if line.startswith("best"))
    printed = [float(number) for number in re.findall(r"-?\d+\.\d+", line)]
    expected = [function(returns) for function in (statistics.mean, statistics.stdev, statistics.median, min, max)]
    assert printed == pytest.approx(expected, abs=0.051)
    assert any(line.startswith("random ") for line in said.splitlines())


def test_the_evaluation_that_chose_the_checkpoint_is_told_beside_its_fresh_score(run_evaluate):
    said = run_evaluate(RUN).splitlines()
    rows = read_csv_rows("runs/cartpole/eval.csv")  # of the one evaluation of this run
    mean = statistics.mean(float(row["episode_return"]) for row in rows)
    best = next(i for i, line in enumerate(said) if line.startswith("best "))
    assert said[best + 1] == (f"chosen at agent step {rows[0]['agent_step']} by evaluations' mean {mean:.2f} "
                              "(2 episodes); the fresh score above is the one to report")
    for otherwise in ("--flicker=0", "--epsilon=0.9", "--checkpoint=last", "--policy=random", "--eval_seed=1"):
        assert "the one to report" not in run_evaluate(RUN, otherwise)
    assert "the one to report" not in run_evaluate(RUN, "--episodes=2")


def test_rows_say_how_they_were_made_and_come_out_the_same_again(run_evaluate):
    same = (RUN, "--episodes=4", "--epsilon=0.25", "--flicker=0.1")
    run_evaluate(*same, "--eval_seed=3", "--csv=one.csv")
    run_evaluate(*same, "--eval_seed=3", "--csv=two.csv", "--checkpoint=last")
    run_evaluate(*same, "--eval_seed=4", "--csv=three.csv")
    one, two, three = (read_csv_rows(f"{name}.csv") for name in ("one", "two", "three"))
    assert [row["episode"] for row in one] == ["0", "1", "2", "3"]
    assert all(float(row["episode_return"]) == int(row["length"]) > 0 for row in one)  # CartPole pays 1 a step.
    assert {(row["policy"], row["weights"], row["epsilon"], row["flicker"], row["eval_seed"]) for row in one} == {
        ("agent", "best", "0.25", "0.1", "3")}
    assert [row["length"] for row in one] != [row["length"] for row in three]
    # The only evaluation of this run was at its end, where its only checkpoint is: the same weights under two names.
    assert [row | dict(weights="best") for row in two] == one


@pytest.mark.parametrize("arguments, word", [((), "playing"), (("--video=film.gif", "--video_steps=3"), "filming")])
def test_a_terminal_is_told_how_far_it_is(run_evaluate, monkeypatch, arguments, word):
    class Terminal(io.StringIO):
        isatty = lambda self: True

    monkeypatch.setattr(sys, "stderr", Terminal())
    # At each step: a fast machine ends the episode before a bar is drawn again by itself.
    monkeypatch.setattr(evaluation, "tqdm", functools.partial(evaluation.tqdm, mininterval=0, miniters=1))
    assert word not in run_evaluate(RUN, "--episodes=1", *arguments)
    assert re.search(rf"\r{word}: \d+ agent steps .*0 of 1 episodes ended", sys.stderr.getvalue())


def test_random_play_is_what_an_agent_is_printed_beside(run_evaluate):
    beside = run_evaluate(RUN, "--episodes=4").splitlines()
    rows = read_csv_rows("runs/cartpole/episodes-random-episodes=4.csv")
    alone = run_evaluate(RUN, "--episodes=4", "--policy=random").splitlines()
    line = next(line for line in alone if line.startswith("random"))
    assert line in beside and rows == read_csv_rows("runs/cartpole/episodes-random-episodes=4.csv")
    assert {(row["policy"], row["weights"], row["epsilon"]) for row in rows} == {("random", "random", "1.0")}
    assert f"{statistics.mean(float(row['episode_return']) for row in rows):.2f}" in line


def test_weights_may_be_given_as_a_file_and_are_the_ones_that_act(run_evaluate, tmp_path):
    settings = reading.read_config("runs/cartpole")["settings"]
    with contextlib.closing(build.make_envs(settings, 1)) as envs:
        always_left = build.make_agent(settings, envs)
    always_left.load_weights(pathlib.Path("runs/cartpole/best.weights.h5"))
    *_, bias = always_left.online_network.trainable_variables
    bias.assign([1e6, 0])
    always_left.save_weights(tmp_path / "left.weights.h5")
    run_evaluate(RUN, "--episodes=5", "--epsilon=0", "--weights=left.weights.h5", "--csv=left.csv")
    # A cart that is always pushed to the left drops its pole within 11 steps.
    assert max(read_episode_returns("left.csv")) <= 11


# Where rows go


def read_run_files(name):
    """Return {path: bytes} of the CSVs of evaluate.py in a run."""
    paths = [*pathlib.Path("runs", name).glob("episodes-*.csv"), *pathlib.Path("runs", name).glob("observability*.csv")]
    return {path.name: path.read_bytes() for path in paths}


def test_a_score_is_what_a_plain_evaluation_wrote_whatever_is_looked_at_afterwards(run_evaluate):
    run_evaluate(RUN)
    run_evaluate(RUN, "--observation_probabilities=0,1", "--episodes=3")
    plain = read_run_files("cartpole")
    assert sorted(plain) == ["episodes-best.csv", "episodes-random.csv", "observability.csv"]
    assert len(read_csv_rows("runs/cartpole/episodes-best.csv")) == 30
    looks = {
        ("--video=film.gif", "--video_steps=2", "--episodes=2", "--eval_seed=3"): "-episodes=2-eval_seed=3",
        ("--episodes=40",): "-episodes=40", ("--eval_seed=1234567",): "-eval_seed=1234567",
        ("--epsilon=0.1234567",): "-epsilon=0.1234567", ("--epsilon=1", "--flicker=0", "--episodes=3"):
        "-epsilon=1-flicker=0-episodes=3"}
    for arguments, otherwise in looks.items():
        said = run_evaluate(RUN, *arguments)
        assert f"Every episode is in runs/cartpole/episodes-best{otherwise}.csv." in said
    run_evaluate(RUN, "--checkpoint=last", "--episodes=2")
    run_evaluate(RUN, "--policy=random", "--episodes=2")
    for arguments in (["--epsilon=0.5"], ["--checkpoint=last"], ["--eval_seed=2"]):
        run_evaluate(RUN, "--observation_probabilities=0,1", "--episodes=3", *arguments)
    after = read_run_files("cartpole")
    assert {name: after[name] for name in plain} == plain
    assert after.keys() - plain.keys() == {
        *(f"episodes-best{otherwise}.csv" for otherwise in looks.values()), "episodes-last-episodes=2.csv",
        *(f"episodes-random{otherwise}.csv" for otherwise in (
            "-episodes=2-eval_seed=3", "-episodes=40", "-eval_seed=1234567", "-episodes=3", "-episodes=2")),
        "observability-epsilon=0.5.csv", "observability-checkpoint=last.csv", "observability-eval_seed=2.csv"}


def test_fewer_episodes_never_replace_more_of_the_same_weights(run_evaluate):
    run_evaluate(RUN, "--episodes=31", "--csv=runs/cartpole/episodes-best.csv")  # as older versions left it
    run_evaluate(RUN, "--episodes=31", "--policy=random", "--csv=runs/cartpole/episodes-random.csv")
    more = read_run_files("cartpole")
    assert "runs/cartpole/episodes-best-episodes=30.csv" in run_evaluate(RUN)
    after = read_run_files("cartpole")
    assert {name: after[name] for name in more} == more
    assert after.keys() - more.keys() == {"episodes-best-episodes=30.csv", "episodes-random-episodes=30.csv"}
    os.utime("runs/cartpole/episodes-best.csv", (0, 0))  # Weights are newer: these episodes are of others.
    run_evaluate(RUN)
    assert len(read_csv_rows("runs/cartpole/episodes-best.csv")) == 30


def test_a_sweep_is_replaced_by_more_probabilities_or_as_many_episodes_of_them(run_evaluate):
    def sweep(probabilities, episodes):
        said = run_evaluate(RUN, f"--observation_probabilities={probabilities}", f"--episodes={episodes}")
        return re.search(r"Every episode is in runs/cartpole/(.*)\.csv", said)[1]

    assert sweep("1", 3) == sweep("0,1", 2) == sweep("0,1", 2) == sweep("0,1", 3) == "observability"
    kept = read_run_files("cartpole")
    assert sweep("1", 5) == "observability-observation_probabilities=0.5,1-episodes=5"
    assert sweep("0,1", 2) == "observability-observation_probabilities=0,0.5,1-episodes=2"
    assert {name: read_run_files("cartpole")[name] for name in kept} == kept
    assert sweep("0,0.25,1", 1) == "observability"


# Sweeps over the probability that a screen is shown


def test_a_sweep_plays_the_episodes_of_plain_evaluations(run_evaluate):
    run, played = RUN, ("episode", "episode_return", "length", "epsilon", "eval_seed")
    run_evaluate(run, "--episodes=3", "--epsilon=0.3", "--eval_seed=5", "--observation_probabilities=0,1")
    rows = read_csv_rows("runs/cartpole/observability-epsilon=0.3-eval_seed=5.csv")
    assert [(row["policy"], row["weights"], row["observation_probability"]) for row in rows[::3]] == [
        ("agent", "best", "0.0"), ("agent", "best", "0.5"),  # 0.5 is the probability of training.
        ("agent", "best", "1.0"), ("random", "random", "1.0")]
    for part, arguments in ((rows[:3], ["--epsilon=0.3", "--flicker=1"]), (rows[6:9], ["--epsilon=0.3", "--flicker=0"]),
                            (rows[9:], ["--policy=random"])):
        run_evaluate(run, "--episodes=3", "--eval_seed=5", "--csv=plain.csv", *arguments)
        plain = read_csv_rows("plain.csv")
        assert [[row[key] for key in played] for row in part] == [[row[key] for key in played] for row in plain]
    assert len({row["episode_return"] for row in rows}) > 3


@pytest.mark.parametrize("negative", [False, True])
def test_the_printed_fractions_are_those_of_the_rows(run_evaluate, monkeypatch, negative):
    # Of 3 probabilities x 2 episodes, and of random play.
    returns = {6: [10, 14, 3, 5, 6, 6], 2: [1, -3] if negative else [1, 1]}
    monkeypatch.setattr(evaluation, "evaluate", lambda agent, envs, *_, **__: [
        dict(episode_return=float(r), length=1) for r in returns[envs.num_envs]])
    said = run_evaluate(RUN, "--episodes=2", "--observation_probabilities=1,0.25")
    # The means are 12 at 0.25, the original 4 at 0.5, 6 at 1, and of random play 1, or -1, which is then zero.
    assert [line.split() for line in said.splitlines()[-5:-1]] == [
        ["0.25", "12.00", "2.83", "2.600" if negative else "3.000"], ["0.5", "4.00", "1.41", "1.000"],
        ["1", "6.00", "0.00", "1.400" if negative else "1.500"],
        ["random", "play", *(["-1.00", "2.83", "0.000"] if negative else ["1.00", "0.00", "0.250"])]]
    assert ("random play being 0" in said) == negative


# Runs


def test_the_newest_run_is_the_one_whose_training_wrote_last(run_evaluate):
    for second, name in enumerate(["cartpole", "pacman"]):
        for path in pathlib.Path("runs", name).iterdir():
            os.utime(path, (1000 + second, 1000 + second))
    pathlib.Path("runs/pacman/aside.weights.h5").symlink_to("vanished")  # as when a run replaces it meanwhile
    pathlib.Path("runs/foreign").mkdir()
    pathlib.Path("runs/foreign/config.json").write_text("{}")
    pathlib.Path("runs/cartpole/episodes-best.csv").write_text("evaluated just now")
    assert reading.newest_run() == pathlib.Path("runs/pacman")
    os.utime("runs/cartpole/learn.csv", (2000, 2000))
    assert "runs/cartpole: DRQN on CartPole-v1" in run_evaluate("--episodes=1")


def test_a_run_is_evaluated_while_it_trains_and_does_not_notice(run_evaluate, monkeypatch):
    save, said = Run.save, []

    def save_and_evaluate(run, *rest):
        save(run, *rest)
        before = list_files(run.directory)
        of_run = f"--run_dir={run.directory}"
        said.append(run_evaluate("--episodes=1", of_run, "--checkpoint=last", "--csv=episodes.csv"))
        assert list_files(run.directory) == before

    monkeypatch.setattr(Run, "save", save_and_evaluate)
    train_small([*CARTPOLE, "--checkpoint_period=30"], "runs/watched")
    assert len(said) >= 3 and all("last " in words for words in said)
    for name in "train", "eval":
        alone, watched = (read_csv_rows(f"runs/{run}/{name}.csv") for run in ("cartpole", "watched"))
        assert [row | dict(seconds="") for row in alone] == [row | dict(seconds="") for row in watched]


# What is refused


@pytest.mark.parametrize("arguments, words", [
    (["--run_dir=missing"], "missing does not exist"),
    (["--run_dir=empty"], "empty holds no config.json"),
    (["runs/cartpole", "runs/pacman"], "'runs/pacman' was given beside the run runs/cartpole; expected one run"),
    ([RUN, "extra"], "the argument 'extra' was given beside the run runs/cartpole; expected one run"),
    (["foreign"], "foreign/config.json is not the configuration of a run"),
    (["--run_dir=foreign"], "is not the configuration of a run"),
    (["--run_dir=half"], "half/config.json has no env, which every run has"),
    (["--run_dir=unknown"], "Environment `CartPoole` doesn't exist"),
    (["--run_dir=young"], "young has no best weights yet"),
    ([RUN, "--weights=runs/pacman/best.weights.h5"], "does not hold weights of DRQN with 8 units for CartPole-v1"),
    ([RUN, "--weights=wider.weights.h5"], "does not hold weights of DRQN with 8 units for CartPole-v1"),
    ([RUN, "--weights=cut.weights.h5"], "does not hold weights"),
    ([RUN, "--weights=missing.weights.h5"], "--weights=missing.weights.h5 is no file"),
    ([RUN, "--video=missing/film.mp4"], "missing/film.mp4 cannot be written (No such file or directory)"),
    ([RUN, "--video=file/film.mp4"], "file/film.mp4 cannot be written (Not a directory)"),
    ([RUN, "--video=folder.mp4"], "folder.mp4 cannot be written (it is a directory)"),
    ([RUN, "--csv=missing/episodes.csv"], "missing/episodes.csv cannot be written"),
    (["--video=film.avi"], "the film film.avi ends in .avi; expected .mp4 or .gif"),
    (["--render"], "no display here"),
    (["--render", "--video=film.mp4"], "--render and --video"),
    (["--video_steps=3"], "--video_steps was given without --video"),
    (["--saliency"], "--saliency was given without --video"),
    (["--compare=runs/pacman"], "--compare was given without --video"),
    ([RUN, "--video=film.mp4", "--saliency"], "--saliency is of images, in which it blurs patches; of CartPole-v1 the "
     "agent sees vectors of 4 numbers"),
    (["--compare=runs/pacman", "--video=film.mp4", "--policy=random"], "--compare and --policy=random"),
    ([RUN, "--video=film.mp4", "--compare=runs/pacman"], "different environments: env is CartPole-v1 and MsPacman"),
    ([RUN, "--video=film.mp4", "--compare=clear"], "environments: flicker is 0.5 and 0.0; --flicker sets both"),
    ([RUN, "--video=film.mp4", "--compare=young"], "young has no best weights yet"),
    ([RUN, "--video=film.mp4", "--compare=missing"], "missing does not exist"),
    (["--run_dir=runs/pacman", "--contact_sheet=sheet.png"],
     "kept no weights of its milestones; train with --weights_period=50"),
    ([RUN, "--contact_sheet=missing/sheet.png"], "missing/sheet.png cannot be written"),
    (["--run_dir=torn", "--contact_sheet=sheet.png"], "torn/weights/000002.weights.h5 does not hold weights of DRQN"),
    (["--contact_sheet=sheet.pdf"], "--contact_sheet=sheet.pdf was given; expected a path ending in .png"),
    (["--contact_sheet=sheet.png", "--video=film.mp4"], "--contact_sheet and --video"),
    (["--contact_sheet=sheet.png", "--weights=best.weights.h5"], "--contact_sheet and --weights"),
    (["--contact_sheet=sheet.png", "--episodes=3"], "--contact_sheet and --episodes"),
    (["--observation_probabilities=0.1,...,1.0", "--flicker=0.5"],
     "--observation_probabilities and --flicker were given; expected one"),
    (["--observation_probabilities=1", "--render"], "--observation_probabilities and --render"),
    (["--observation_probabilities=1", "--video=film.mp4"], "--observation_probabilities and --video"),
    (["--observation_probabilities=1", "--policy=random"], "--observation_probabilities and --policy=random"),
    (["--observation_probabilities="], "--observation_probabilities= was given; expected probabilities from 0 to 1"),
    ([RUN, "--weights=flipped.weights.h5"], "flipped.weights.h5 is damaged: its checksum is another one than when it"),
    (["--observation_probabilities=1", RUN, "--csv=missing/sweep.csv"], "missing/sweep.csv cannot be written"),
    (["--policy=random", "--epsilon=0.3"], "--epsilon and --policy=random were given; expected one of them"),
    (["--policy=random", "--weights=best.weights.h5"], "--weights and --policy=random were given"),
    (["--policy=random", "--checkpoint=last"], "--checkpoint and --policy=random were given"),
    (["--epsilon=nan"], "--epsilon=nan was given; expected a finite number"),
    (["--weights=best.weights.h5", "--checkpoint=last"], "--weights=best.weights.h5 and --checkpoint=last were given"),
    (["--episodes=0"], "episodes"),
    (["--checkpoint=newest"], "checkpoint"),
    (["--moviefile=film.mp4"], "moviefile"),
])
def test_bad_input_is_one_sentence_before_anything_is_played(run_evaluate, monkeypatch, arguments, words):
    for name in "DISPLAY", "WAYLAND_DISPLAY":
        monkeypatch.delenv(name, raising=False)
    for name, config in dict(empty=None, foreign='{"model": "gpt"}', half='{"settings": {"network": "DQN"}}').items():
        pathlib.Path(name).mkdir()
        if config:
            pathlib.Path(name, "config.json").write_text(config)
    config = pathlib.Path("runs/cartpole/config.json").read_text()
    for name, text in dict(young=config, torn=config, clear=config.replace('"flicker": 0.5', '"flicker": 0.0'),
                           unknown=config.replace("CartPole-v1", "CartPoole-v1")).items():
        pathlib.Path(name).mkdir()
        pathlib.Path(name, "config.json").write_text(text)
    pathlib.Path("unknown/best.weights.h5").touch()
    pathlib.Path("torn/weights").mkdir()
    pathlib.Path("torn/weights/000002.weights.h5").write_bytes(b"torn")
    pathlib.Path("file").write_text("")
    pathlib.Path("folder.mp4").mkdir()
    weights = pathlib.Path("runs/cartpole/best.weights.h5").read_bytes()
    pathlib.Path("cut.weights.h5").write_bytes(weights[:len(weights) // 2])
    pathlib.Path("flipped.weights.h5").write_bytes(weights[:-99] + bytes([weights[-99] ^ 1]) + weights[-98:])
    if "--weights=wider.weights.h5" in arguments:
        agent.Agent("DRQN", (4,), 2, 1, 9).save_weights("wider.weights.h5")
    monkeypatch.setattr(evaluation, "play", lambda *_, **__: pytest.fail("an episode was played"))
    before = list_files()
    said = run_evaluate(*arguments, code=2)
    # absl prints a list of the flags' own errors on lines of their own.
    assert words in said and said.startswith("evaluate.py: ")
    assert len(said.splitlines()) <= 2 and "Traceback" not in said
    assert list_files() == before


def test_code_of_a_run_is_never_imported_and_a_users_own_module_is(run_evaluate, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("runs/cartpole/payload", "own_cartpoles"):
        pathlib.Path(f"{name}.py").write_text(f"open('{name}.ran', 'w')\n")
    config = pathlib.Path("runs/cartpole/config.json")
    original = config.read_text()
    config.write_text(original.replace("CartPole-v1", "runs.cartpole.payload:CartPole-v1"))
    for arguments in ([], ["--policy=random"], ["--observation_probabilities=1"], ["--contact_sheet=sheet.png"]):
        said = run_evaluate("--run_dir=runs/cartpole", *arguments, code=2)
        assert "the module runs.cartpole.payload is not imported, since " in said and said.count("\n") == 1
    assert not pathlib.Path("runs/cartpole/payload.ran").exists()
    for env, sentence in (("own_cartpole:CartPole-v1", "there is no module own_cartpole; PYTHONPATH=FOLDER names the"),
                          (".:CartPole-v1", "'.' is no name of a module")):
        config.write_text(original.replace("CartPole-v1", env))
        said = run_evaluate("--run_dir=runs/cartpole", code=2)
        assert sentence in said and said.count("\n") == 1
    config.write_text(original.replace("CartPole-v1", "own_cartpoles:CartPole-v1"))
    assert "1 episodes" in run_evaluate("--run_dir=runs/cartpole", "--episodes=1")
    assert pathlib.Path("own_cartpoles.ran").exists()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("OOM when allocating tensor with shape[9, 9]")])
def test_want_of_memory_is_one_sentence(run_evaluate, monkeypatch, error):
    def want(*_):
        raise error
    monkeypatch.setattr(build, "make_agent", want)
    said = run_evaluate("--run_dir=runs/cartpole", code=2)
    assert said == "evaluate.py: this machine has too little memory for it\n"


def test_without_runs_it_asks_for_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert evaluate.main([]) == 2
    assert capsys.readouterr().err == "evaluate.py: no run was found under runs/; train one, or give its --run_dir\n"


@pytest.mark.parametrize("error, code", [(KeyboardInterrupt(), 130), (OSError("the disk is full"), 2)])
def test_what_is_interrupted_leaves_nothing_half_written(run_evaluate, monkeypatch, error, code):
    act = agent.Agent.act
    steps = []

    def interrupted(*arguments):
        steps.append(1)
        if len(steps) == 5:
            raise error
        return act(*arguments)

    monkeypatch.setattr(agent.Agent, "act", interrupted)
    pathlib.Path("film.mp4").write_text("an older film")
    before = list_files()
    assert len(run_evaluate("--run_dir=runs/pacman", "--episodes=1", "--video=film.mp4", code=code).splitlines()) == 1
    assert list_files() == before and pathlib.Path("film.mp4").read_text() == "an older film"


def test_an_interrupted_sweep_leaves_nothing_half_written(run_evaluate, monkeypatch):
    play_episodes = evaluate.play_episodes

    def play_until_random_play_would_begin(*arguments, repeats=1):
        if repeats == 1:
            raise KeyboardInterrupt
        return play_episodes(*arguments, repeats=repeats)

    monkeypatch.setattr(evaluate, "play_episodes", play_until_random_play_would_begin)
    before = list_files()
    said = run_evaluate(RUN, "--episodes=1", "--observation_probabilities=1", code=130)
    assert "nothing was written" in said
    assert list_files() == before


def test_help_names_every_flag(capsys):
    assert evaluate.main(["--help"]) == 0
    said = capsys.readouterr().out
    names = """run_dir checkpoint weights episodes epsilon flicker eval_seed policy render video video_steps saliency
        compare contact_sheet csv observation_probabilities""".split()
    assert all(f"--{'[no]' * (name in ('render', 'saliency'))}{name}" in said for name in names)
