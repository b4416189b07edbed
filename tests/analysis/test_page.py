"""The page without a browser: its values equal the CSVs, it fetches nothing, and names stay text."""

import base64
import json
import os
import pathlib
import re
import shlex
import subprocess

import pytest

import choices
from analysis import page
from helpers.analysed_runs import write_sweep_rows
from helpers.pages import ParsedPage
from helpers.run_files import find_checked, write_run
from storage import layout

ROOT = pathlib.Path(page.__file__).parents[1]
NONE, UNFINISHED = "\N{EN DASH}", "\N{DAGGER}"


@pytest.fixture
def parse_page(tmp_path, monkeypatch):
    """Return a function that makes the page of tmp_path / "runs", and returns the parsed page."""
    def make_and_parse():
        monkeypatch.chdir(tmp_path)
        source, make_and_parse.num_experiments = page.make_page(*find_checked(["runs"]), "python report.py")
        return ParsedPage(source)
    return make_and_parse


def write_learn_log(run, rows):
    """Write learn.csv: rows of (agent_step, loss, learn_seconds, seconds), a tenth of a second for each other phase."""
    tenths = dict.fromkeys(("environment_seconds", "act_seconds", "sample_seconds"), 0.1)
    default = dict.fromkeys(layout.COLUMNS["learn"], 0) | tenths
    filled = [default | dict(zip(("agent_step", "loss", "learn_seconds", "seconds"), row)) for row in rows]
    lines = [",".join(map(str, line)) for line in [default, *(row.values() for row in filled)]]
    layout.csv_path(run, "learn").write_text("\n".join(lines) + "\n")


# Values


def test_the_row_of_an_experiment_is_of_its_seeds(tmp_path, parse_page):
    for seed, means in enumerate([(10, 40), (20, 60), (30, 50)]):
        evaluations = [(100 * k, (mean - 1, mean + 1)) for k, mean in enumerate(means, 1)]
        write_run(tmp_path / f"runs/s{seed}", evaluations, seed=seed, maxsteps=200, fresh=(40 + seed, 42 + seed),
                  random=(2, 5))
    write_run(tmp_path / "runs/dqn", [(100, (9, 9)), (200, (7, 7))], network="DQN", units=32, maxsteps=300)
    parsed = parse_page()
    assert parse_page.num_experiments == 2
    mean, std = "50.0 ± 10.0", "42.0 ± 1.0"  # of 40, 60, 50; of 41, 42, 43
    assert parsed.row("CartPole-v1", "0", "DRQN, 1 frame", "3")[4:9] == ["200", mean, mean, std, "3.50"]
    dqn = parsed.row("CartPole-v1", "0", "DQN, 1 frame", "1")
    assert dqn[4:9] == [f"200{UNFINISHED}", "9.00", "7.00", NONE, NONE]
    assert parsed.row("runs/s1")[1:] == ["1", "200", "60.0 at 200", "60.0", "42.0 (2 episodes, eval_seed 0)"]
    assert "1 of 4 runs are unfinished; the shortest is runs/dqn, at 200 of 300 agent steps." in parsed.text


def test_sweeps_are_on_the_page_with_their_commands(tmp_path, parse_page):
    run = write_run(tmp_path / "runs/a", [(100, (1, 3))])
    write_sweep_rows(run, "agent,best,0.5,0,5,9,0.05,0", "agent,best,1.0,0,20,9,0.05,0",
                     "random,random,1.0,0,2,9,1.0,0")
    parsed = parse_page()
    assert parsed.traces("mean", 1) == {"DRQN, 1 frame": ([0.5, 1], [0.25, 1])}
    assert [name.split(" of ")[0] for name in parsed.traces("other", 1)] == ["DRQN", "DQN"]
    assert "random play 2.00" in parsed.traces("other")
    assert "--episodes=1 --observation_probabilities=0.5,1" in parsed.text


def test_published_tables_stand_beside_runs_of_their_games_only(tmp_path, parse_page):
    write_run(tmp_path / "runs/a", [(100, (1, 3))], fresh=(10, 20))
    parsed = parse_page()
    assert "Atari" not in parsed.text
    row = parsed.row("CartPole-v1", "0", "DRQN, 1 frame", "15.0")
    assert row[5:8] == ["1 × 2@0", f"100{UNFINISHED}", "2.0"]
    write_run(tmp_path / "runs/b", [(100, (1, 3))], fresh=(-10, -11), env="Frostbite")
    parsed = parse_page()
    row = parsed.row("Frostbite", "DRQN, 1 frame")
    assert row[2:4] == ["-10.5", "1 × 2@0"]
    paper = (ROOT / "paper/table1_standard.csv").read_text()
    mean = float(re.search(r"^Frostbite,([\d.]+)", paper, re.M)[1])
    assert any(f"{mean:g} ±" in cell for cell in row) and "obscured with probability" not in parsed.text


def test_speed_is_of_all_seeds_and_the_first_rows_have_no_loss(tmp_path, parse_page):
    for seed in (1, 2):
        run = write_run(tmp_path / f"runs/s{seed}", [(100, (1, 3))], seed=seed)
        write_learn_log(run, [(1000, "nan", 0.5, 1.0), (2000, 0.25, 1.5, 4.0 * seed)])
    # 4,000 agent steps in 4 + 8 seconds: learn takes 4 seconds, each other phase 0.4.
    row = parse_page().row("CartPole-v1", "0", "DRQN, 1 frame", "333.3")
    assert row[4:] == ["0.00", "33", "3", "3", "3", "57"]


def test_settings_that_differ_are_marked_and_no_others(tmp_path, parse_page):
    for name, settings in dict(a={}, b={}, c=dict(units=32)).items():
        write_run(tmp_path / "runs" / name, [(100, (1, 3))], **settings, seed=ord(name))
    parsed = parse_page()
    # In the closed list of differences, and in the list of all settings.
    assert re.findall("<mark>(.*?)</mark>", parsed.source) == ["units 32"] * 2
    assert "learning_rate 0.001" in parsed.text and parsed.text.count("as usual") == 1


def test_a_seed_that_is_there_twice_counts_once(tmp_path, parse_page):
    write_run(tmp_path / "runs/a", [(100, (1, 3))])
    write_run(tmp_path / "runs/b", [(100, (1, 3)), (200, (5, 5))])
    parsed = parse_page()
    assert parsed.row("CartPole-v1", "0", "DRQN, 1 frame", "1")[5] == "5.00"
    assert "only the longer one counts" in parsed.text


def test_runs_without_evaluations_are_on_the_page(tmp_path, parse_page):
    write_run(tmp_path / "runs/new")
    (write_run(tmp_path / "runs/training", episodes=[(50, 3)], seed=2) / "eval.csv").unlink()
    for path in (tmp_path / "runs/new").glob("*.csv"):
        path.unlink()
    parsed = parse_page()
    row = parsed.row("CartPole-v1", "0", "DRQN, 1 frame", "2")
    assert row[4:9] == [f"0{NONE}50{UNFINISHED}", *[NONE] * 4]
    assert "None of these runs has an evaluation yet." in parsed.text and len(parsed.plots) == 1
    assert "Speed" not in parsed.text and "runs/new has no complete episode yet." in parsed.text


def test_published_tables_show_the_games_that_some_run_has_played(tmp_path, parse_page):
    write_run(tmp_path / "runs/a", [(100, (1, 3))], env="Frostbite", fresh=(1, 3))
    parsed = parse_page()
    parts = parsed.source.split("<table>")
    table = next(part for part in parts if "(table 1 of Hausknecht" in part.partition("</caption>")[0])
    table = table.partition("</table>")[0]
    games = [game for game in ("Asteroids", "Bowling", "Centipede", "Frostbite") if game in table]
    assert games == ["Frostbite"] and table.count("<tr>") == 3  # the head, DRQN, and DQN beside it


# Parts of the page


def test_names_are_text_and_nothing_else(tmp_path, parse_page, monkeypatch):
    bad = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    monkeypatch.setitem(choices.NETWORKS, f'"{bad}', choices.NETWORKS["DRQN"])
    run = write_run(tmp_path / "runs" / "<i>dir", [(100, (1, 3))], env=bad, network=f'"{bad}', fresh=(1, 2))
    (run / "film.gif").write_bytes(b"GIF89a")
    parsed = parse_page()
    assert "<script>alert" not in parsed.source and "<img src=x" not in parsed.source and "<i>" not in parsed.source
    assert parsed.row(bad, "0", f'"{bad}, 1 frame', "1") and [tag for tag, _ in parsed.tags].count("script") == 3
    assert f'"{bad}, 1 frame' in [attributes.get("value") for _, attributes in parsed.tags]
    assert list(parsed.traces("mean")) == [f'"{bad}, 1 frame']


def test_nothing_is_fetched(tmp_path, parse_page):
    (write_run(tmp_path / "runs/a", [(100, (1, 3))]) / "film.mp4").write_bytes(b"film")
    parsed = parse_page()
    links = [value for _, attributes in parsed.tags for name, value in attributes.items()
             if name in ("src", "href", "action", "poster")]
    assert links and all(link.startswith(("#", "data:")) for link in links)
    policy = next(attributes["content"] for tag, attributes in parsed.tags
                  if tag == "meta" and "http-equiv" in attributes)
    assert policy.startswith("default-src 'none';") and "http" not in policy
    style = parsed.source.split("</style>")[0]
    assert "@import" not in style and "url(" not in style
    assert parsed.source.count("* plotly.js v") == 1


def test_films_are_in_the_page_unless_they_are_large(tmp_path, parse_page):
    run = write_run(tmp_path / "runs/a", [(100, (1, 3))])
    (run / "film.mp4").write_bytes(b"small film")
    (run / "sheet.png").write_bytes(b"sheet")
    (run / "large.gif").write_bytes(bytes(page.LARGEST_FILM + 1))
    parsed = parse_page()
    (video,) = [attributes for tag, attributes in parsed.tags if tag == "video"]
    (image,) = [attributes for tag, attributes in parsed.tags if tag == "img"]
    assert base64.b64decode(video["src"].removeprefix("data:video/mp4;base64,")) == b"small film"
    assert "controls" in video
    assert base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) == b"sheet"
    assert image["alt"] == "DRQN on CartPole-v1, flicker 0, seed 1: runs/a/sheet.png"
    assert "larger than this page takes: 3.0 MB." in parsed.text and "runs/a/large.gif" in parsed.text


def test_commands_are_those_of_config_json(tmp_path, parse_page):
    run = write_run(tmp_path / "runs/a b", [(100, (1, 3))], fresh=(1, 2, 3), backend="jax")
    config = json.loads((run / "config.json").read_text())
    command = ["train.py", "--jid=it's odd", "--env=CartPole-v1"]
    config |= dict(command=command, git_commit="abc", versions=dict(keras="3.13"))
    (run / "config.json").write_text(json.dumps(config))
    (block,) = [text for text in parse_page().texts if text.startswith("# commit")]
    comment, train, evaluate, plot = block.splitlines()
    assert comment == "# commit abc; keras 3.13"
    assert shlex.split(train) == ["KERAS_BACKEND=jax", "python", *command]
    assert shlex.split(evaluate) == ["python", "evaluate.py", "--run_dir=runs/a b", "--episodes=3"]
    assert shlex.split(plot) == ["python", "plot.py", "runs/a b"]


STOLEN = "touch stolen"


@pytest.mark.parametrize("config, settings", [
    (dict(command=["-c", "import os; os.system('touch stolen')"]), {}), (dict(command=["x.py; touch stolen #"]), {}),
    (dict(command=["train.py", f"--jid=a\n{STOLEN}"]), {}), (dict(command=f"train.py; {STOLEN}"), {}),
    (dict(command=["train.py", ["$(touch stolen)"]]), {}),
    (dict(command=["train.py", "--jid=$(touch stolen); `x`"]), {}),
    (dict(git_commit=f"abc\n{STOLEN}"), {}), (dict(git_commit=[f"\n{STOLEN}"]), {}), (dict(versions=[STOLEN]), {}),
    (dict(versions={f"keras\n{STOLEN}": "3", "jax": f"\r\n{STOLEN}", "numpy": [1]}), {}), (dict(versions=None), {}),
    ({}, dict(backend=f"jax; {STOLEN} #")), ({}, dict(backend="$(touch stolen)"))])
def test_the_commands_to_copy_run_our_scripts_alone(tmp_path, parse_page, config, settings):
    run = write_run(tmp_path / "runs/a; touch stolen", [(100, (1, 3))], fresh=(1, 2), **settings)
    whole = json.loads((run / "config.json").read_text()) | dict(command=["train.py", "--seed=1"]) | config
    (run / "config.json").write_text(json.dumps(whole))
    (block,) = [text for text in parse_page().texts if text.startswith("# commit")]
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").write_text('#!/bin/sh\necho "$1" >> ran\n')
    (tmp_path / "bin/python").chmod(0o755)
    paths = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    subprocess.run(["sh", "-c", block], cwd=tmp_path, env={"PATH": paths}, check=True)
    scripts = (tmp_path / "ran").read_text().split()
    assert scripts in (["train.py", "evaluate.py", "plot.py"], ["evaluate.py", "plot.py"])
    assert not (tmp_path / "stolen").exists()
    if not {"train.py"} & set(scripts):
        assert "# runs/a; touch stolen/config.json names no command of train.py" in block.splitlines()


def test_only_regular_files_of_a_run_are_put_into_the_page(tmp_path, parse_page):
    run = write_run(tmp_path / "runs/a", [(100, (1, 3))])
    (tmp_path / "private.png").write_bytes(b"private")
    (run / "private.png").symlink_to(tmp_path / "private.png")
    (run / "zero.png").symlink_to("/dev/zero")
    (run / "folder.gif").mkdir()
    os.mkfifo(run / "pipe.mp4")
    (run / "own.png").write_bytes(b"own")
    parsed = parse_page()
    (image,) = [attributes for tag, attributes in parsed.tags if tag in ("img", "video")]
    assert base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) == b"own"
    assert not re.search(r"private\.png|zero\.png|folder\.gif|pipe\.mp4", parsed.source)


def test_damaged_scores_and_sweeps_are_noted_and_their_runs_stay(tmp_path, parse_page):
    for name in "ab":
        run = write_run(tmp_path / "runs" / name, [(100, (1, 3))], fresh=(5, 7), random=(2, 2), seed=ord(name))
        write_sweep_rows(run, "agent,best,1.0,0,20,9,0.05,0", "random,random,1.0,0,2,9,1.0,0")
    damaged = ("episodes-best.csv", "episodes-random.csv", "observability.csv")
    for name in damaged:
        (run / name).write_text("torn")
    parsed = parse_page()
    assert parsed.row("CartPole-v1", "0", "DRQN, 1 frame", "2")[7:9] == ["6.00", "2.00"]
    for name in damaged:
        assert f"left out: runs/b/{name} is damaged, or not of this suite: it has no" in parsed.text


def test_runs_whose_rows_are_damaged_are_left_out(tmp_path):
    runs, _ = find_checked([write_run(tmp_path / name, [(100, (1, 3))]) for name in "ab"])
    (tmp_path / "b/learn.csv").write_text("torn\n")
    whole, (note,) = page.keep_whole(runs)
    assert list(whole) == [tmp_path / "a"] and note.startswith(f"left out: {tmp_path}/b/learn.csv is damaged")
    with pytest.raises(ValueError, match=f"^{tmp_path}/b/learn.csv is damaged"):
        page.keep_whole({tmp_path / "b": runs[tmp_path / "b"]})


def test_the_page_is_built_for_everybody(tmp_path, parse_page):
    write_run(tmp_path / "runs/a", [(100, (1, 3))])
    parsed = parse_page()
    tags = [tag for tag, _ in parsed.tags]
    assert ("html", {"lang": "en"}) in parsed.tags
    assert tags.count("h1") == tags.count("main") == tags.count("title") == 1
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    links = {attributes["href"][1:] for tag, attributes in parsed.tags if tag == "a"}
    assert len(ids) == len(set(ids)) and links <= set(ids)
    assert tags.count("table") == tags.count("caption")
    assert all("scope" in attributes for tag, attributes in parsed.tags if tag == "th")
    labels = [attributes["aria-label"] for _, attributes in parsed.tags if attributes.get("class") == "plot"]
    assert labels and all("evaluation return" in label and "DRQN, 1 frame" in label for label in labels)
