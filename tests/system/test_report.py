"""The page of a report without a browser: its values are those of the CSVs, it fetches nothing, and no name gets out of its text."""

import base64
import html.parser
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from helpers.run_files import write_run

import report
from analysis import curves, statistics
from storage import layout, reading

ROOT = pathlib.Path(report.__file__).parent
SWEEP = "policy,weights,observation_probability,episode,episode_return,length,epsilon,eval_seed"


class Page(html.parser.HTMLParser):
    """A page taken apart: text, tags with their attributes, rows of tables as texts of cells, data of plots."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text()
        self.tags, self.rows, self.plots, self.texts, self._script, self._in_cell = [], [], [], [], None, False
        self.feed(self.source)
        self.text = " ".join(self.texts)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._script = dict(attributes).get("type", "javascript") if tag == "script" else None
        self.rows += [[]] if tag == "tr" else []
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag):
        self._script = None if tag == "script" else self._script
        self._in_cell &= tag not in ("td", "th")

    def handle_data(self, data):
        if self._script == "application/json":
            self.plots.append(json.loads(data))
        elif not self._script:
            self.texts.append(data.strip())
            if self._in_cell:
                self.rows[-1][-1] += data.strip()

    def row(self, *begin):
        """Return the cells of the one row, of all tables, that begins with these."""
        (row,) = [row for row in self.rows if row[:len(begin)] == list(begin)]
        return row

    def traces(self, kind, plot=0):
        """Return {name: (x, y)} of the lines of a kind."""
        return {one["name"]: (one["x"], one["y"]) for one in self.plots[plot]["data"] if one["meta"]["kind"] == kind}


@pytest.fixture
def make(tmp_path, capsys, monkeypatch):
    """Return a function that makes the report of the runs in tmp_path / "runs", and returns its Page; `said` is what was printed."""
    def call(*arguments):
        monkeypatch.chdir(tmp_path)
        assert report.main(["runs", "-o", "out/page.html", *map(str, arguments)]) == 0
        call.said = capsys.readouterr().out
        assert os.listdir("out") == ["page.html"]
        return Page(tmp_path / "out/page.html")
    return call


def fails(capsys, *arguments):
    """Return the sentence with which report.py refuses its arguments."""
    assert report.main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("report.py: ") and error.count("\n") == 1, error
    return error


def write_log(run, rows):
    """Write learn.csv: rows of (agent_step, loss, learn_seconds, seconds), a tenth of a second for each other phase."""
    default = dict.fromkeys(layout.COLUMNS["learn"], 0) | dict.fromkeys(("environment_seconds", "act_seconds", "sample_seconds"), 0.1)
    own = [default | dict(zip(("agent_step", "loss", "learn_seconds", "seconds"), row)) for row in rows]
    (run / "learn.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in [default, *(row.values() for row in own)]))


# Values


def test_the_row_of_an_experiment_is_of_its_seeds(tmp_path, make):
    for seed, means in enumerate([(10, 40), (20, 60), (30, 50)]):
        write_run(tmp_path / f"runs/s{seed}", [(100 * k, (mean - 1, mean + 1)) for k, mean in enumerate(means, 1)], seed=seed, maxsteps=200,
                 fresh=(40 + seed, 42 + seed), random=(2, 5))
    write_run(tmp_path / "runs/dqn", [(100, (9, 9)), (200, (7, 7))], network="DQN", units=32, maxsteps=300)
    page = make()
    assert make.said == f"4 runs in 2 experiments: out/page.html, {len(page.source) / 1e6:.1f} MB.\n"
    mean, std = "50.0 ± 10.0", "42.0 ± 1.0"  # of 40, 60, 50; of 41, 42, 43
    assert page.row("CartPole-v1", "0", "DRQN, 1 frame", "3")[4:9] == ["200", mean, mean, std, "3.50"]
    assert page.row("CartPole-v1", "0", "DQN, 1 frame", "1")[4:9] == ["200\N{DAGGER}", "9.00", "7.00", "\N{EN DASH}", "\N{EN DASH}"]
    assert page.row("runs/s1")[1:] == ["1", "200", "60.0 at 200", "60.0", "42.0 (2 episodes)"]
    assert "1 of 4 runs are unfinished; the shortest is runs/dqn, at 200 of 300 agent steps." in page.text


def test_curves_are_those_of_the_statistics(tmp_path, make):
    for seed, means in enumerate([(10, 40, 70), (20, 50, 90), (30, 60, 80), (1000, -1000, 100), (0, 55, 60)]):
        write_run(tmp_path / f"runs/s{seed}", [(100 * k, (mean - 1, mean + 1)) for k, mean in enumerate(means, 1)], seed=seed,
                 episodes=[(100, 4, 0), (300, 8, 0)], random=(1, 2))
    page = make()
    evaluation, training = page.plots
    ((x, y),) = page.traces("mean").values()
    np.testing.assert_allclose((x, y), [(100, 200, 300), (20, (40 + 50 + 55) / 3, 80)])
    assert list(page.traces("seed")) == [f"seed {seed}" for seed in range(5)]
    assert page.traces("seed")["seed 3"] == ([100, 200, 300], [1000, -1000, 100])
    assert page.traces("other") == {"random play 1.50": ([0, 300], [1.5, 1.5])}
    (band,) = [one for one in evaluation["data"] if one["meta"]["kind"] == "band"]
    drawn, _ = curves.read_curves(reading.find_runs([tmp_path])[0])
    _, low, high = statistics.interquartile_band(np.array([curve.y for curve in drawn]))
    np.testing.assert_allclose(band["y"], [*high, *low[::-1]])
    assert evaluation["layout"]["xaxis"]["title"]["text"] == "agent steps"
    assert training["layout"]["yaxis"]["title"]["text"] == "training return (raw reward)"
    assert page.traces("mean", 1)["DRQN, 1 frame"][1][-1] == 8


def test_where_seeds_are_missing_the_mean_is_faint(tmp_path, make):
    for seed, own in enumerate([(10, 20, 30), (20, 30)]):
        write_run(tmp_path / f"runs/s{seed}", [(100 * k, (mean, mean)) for k, mean in enumerate(own, 1)], seed=seed)
    assert make().traces("mean") == {"DRQN, 1 frame": ([100, 200], [15, 25]),
                                     "DRQN, 1 frame, not all seeds": ([100, 200, 300], [None, 25, 30])}


def test_sweeps_and_the_papers_beside_them(tmp_path, make):
    run = write_run(tmp_path / "runs/a", [(100, (1, 3))])
    rows = [SWEEP, "agent,best,0.5,0,5,9,0.05,0", "agent,best,1.0,0,20,9,0.05,0", "random,random,1.0,0,2,9,1.0,0"]
    (run / "observability.csv").write_text("\n".join(rows) + "\n")
    page = make()
    assert page.traces("mean", 1) == {"DRQN, 1 frame": ([0.5, 1], [0.25, 1])}
    assert [name.split(" of ")[0] for name in page.traces("other", 1)] == ["DRQN", "DQN"]
    assert "random play 2.00" in page.traces("other")
    assert "--episodes=1 --observation_probabilities=0.5,1" in page.text


def test_published_tables_stand_beside_runs_of_their_games_only(tmp_path, make):
    write_run(tmp_path / "runs/a", [(100, (1, 3))], fresh=(10, 20))
    page = make()
    assert "Atari" not in page.text
    assert page.row("CartPole-v1", "0", "DRQN, 1 frame", "15.0")[5:8] == ["1", "100\N{DAGGER}", "2.0"]
    write_run(tmp_path / "runs/b", [(100, (1, 3))], fresh=(-10, -11), env="Frostbite")
    page = make()
    assert page.row("Frostbite", "DRQN, 1 frame")[2:4] == ["-10.5", "1"]
    paper = (ROOT / "paper/table1_standard.csv").read_text()
    mean = float(re.search(r"^Frostbite,([\d.]+)", paper, re.M)[1])
    assert any(f"{mean:g} ±" in cell for cell in page.row("Frostbite", "DRQN, 1 frame")) and "obscured with probability" not in page.text


def test_speed_is_of_all_seeds_and_the_first_rows_know_no_loss(tmp_path, make):
    for seed in (1, 2):
        run = write_run(tmp_path / f"runs/s{seed}", [(100, (1, 3))], seed=seed)
        write_log(run, [(1000, "nan", 0.5, 1.0), (2000, 0.25, 1.5, 4.0 * seed)])
    # 4,000 agent steps in 4 + 8 seconds: learn 4, the others 0.4 each.
    assert make().row("CartPole-v1", "0", "DRQN, 1 frame", "333.3")[4:] == ["0.00", "33", "3", "3", "3", "57"]


def test_settings_that_differ_are_marked_and_no_others(tmp_path, make):
    for name, own in dict(a={}, b={}, c=dict(units=32)).items():
        write_run(tmp_path / "runs" / name, [(100, (1, 3))], **own, seed=ord(name))
    page = make()
    assert re.findall("<mark>(.*?)</mark>", page.source) == ["units 32"] * 2  # in sight, and among all of them
    assert "learning_rate 0.001" in page.text and page.text.count("as usual") == 1


def test_a_seed_that_is_there_twice_counts_once(tmp_path, make):
    write_run(tmp_path / "runs/a", [(100, (1, 3))])
    write_run(tmp_path / "runs/b", [(100, (1, 3)), (200, (5, 5))])
    page = make()
    assert page.row("CartPole-v1", "0", "DRQN, 1 frame", "1")[5] == "5.00" and "only the longer one counts" in page.text


# Runs that have come to little yet


def test_runs_without_evaluations_are_there(tmp_path, make):
    write_run(tmp_path / "runs/new")
    (write_run(tmp_path / "runs/training", episodes=[(50, 3, 0)], seed=2) / "eval.csv").unlink()
    for path in (tmp_path / "runs/new").glob("*.csv"):
        path.unlink()
    page = make()
    assert page.row("CartPole-v1", "0", "DRQN, 1 frame", "2")[4:9] == ["0\N{EN DASH}50\N{DAGGER}", *["\N{EN DASH}"] * 4]
    assert "None of these runs has an evaluation yet." in page.text and len(page.plots) == 1 and "Speed" not in page.text
    assert "runs/new has no complete episode yet." in page.text


# What the page is made of


def test_names_are_text_and_nothing_else(tmp_path, make):
    bad = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    run = write_run(tmp_path / "runs" / "<i>dir", [(100, (1, 3))], env=bad, network=f'"{bad}', fresh=(1, 2))
    (run / "film.gif").write_bytes(b"GIF89a")
    page = make()
    assert "<script>alert" not in page.source and "<img src=x" not in page.source and "<i>" not in page.source
    assert page.row(bad, "0", f'"{bad}, 1 frame', "1") and [tag for tag, _ in page.tags].count("script") == 3
    assert f'"{bad}, 1 frame' in [attributes.get("value") for _, attributes in page.tags]
    assert list(page.traces("mean")) == [f'"{bad}, 1 frame']


def test_nothing_is_fetched(tmp_path, make):
    (write_run(tmp_path / "runs/a", [(100, (1, 3))]) / "film.mp4").write_bytes(b"film")
    page = make()
    links = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href", "action", "poster")]
    assert links and all(link.startswith(("#", "data:")) for link in links)
    policy = next(attributes["content"] for tag, attributes in page.tags if tag == "meta" and "http-equiv" in attributes)
    assert policy.startswith("default-src 'none';") and "http" not in policy
    assert "@import" not in page.source.split("</style>")[0] and "url(" not in page.source.split("</style>")[0]
    assert page.source.count("* plotly.js v") == 1


def test_films_are_in_the_page_unless_they_are_large(tmp_path, make):
    run = write_run(tmp_path / "runs/a", [(100, (1, 3))])
    (run / "film.mp4").write_bytes(b"small film")
    (run / "sheet.png").write_bytes(b"sheet")
    (run / "large.gif").write_bytes(bytes(report.LARGEST + 1))
    page = make()
    (video,) = [attributes for tag, attributes in page.tags if tag == "video"]
    (image,) = [attributes for tag, attributes in page.tags if tag == "img"]
    assert base64.b64decode(video["src"].removeprefix("data:video/mp4;base64,")) == b"small film" and "controls" in video
    assert base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) == b"sheet"
    assert image["alt"] == "DRQN on CartPole-v1, flicker 0, seed 1: runs/a/sheet.png"
    assert "larger than this page takes: 3.0 MB." in page.text and "runs/a/large.gif" in page.text


def test_commands_are_those_of_config_json(tmp_path, make):
    run = write_run(tmp_path / "runs/a b", [(100, (1, 3))], fresh=(1, 2, 3), backend="jax")
    config = json.loads((run / "config.json").read_text())
    command = ["train.py", "--jid=it's odd", "--env=CartPole-v1"]
    (run / "config.json").write_text(json.dumps(config | dict(command=command, git_commit="abc", versions=dict(keras="3.13"))))
    (block,) = [text for text in make().texts if text.startswith("# commit")]
    about, train, evaluate, plot = block.splitlines()
    assert about == "# commit abc; keras 3.13" and shlex.split(train) == ["KERAS_BACKEND=jax", "python", *command]
    assert shlex.split(evaluate) == ["python", "evaluate.py", "--run_dir=runs/a b", "--episodes=3"]
    assert shlex.split(plot) == ["python", "plot.py", "runs/a b"]


def test_the_page_is_built_for_everybody(tmp_path, make):
    write_run(tmp_path / "runs/a", [(100, (1, 3))])
    page = make()
    tags = [tag for tag, _ in page.tags]
    assert ("html", {"lang": "en"}) in page.tags and tags.count("h1") == tags.count("main") == tags.count("title") == 1
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) and {attributes["href"][1:] for tag, attributes in page.tags if tag == "a"} <= set(ids)
    assert tags.count("table") == tags.count("caption") and all("scope" in attributes for tag, attributes in page.tags if tag == "th")
    plots = [attributes for _, attributes in page.tags if attributes.get("class") == "plot"]
    assert plots and all("evaluation return" in plot["aria-label"] and "DRQN, 1 frame" in plot["aria-label"] for plot in plots)


# Bad input


def test_bad_input_is_one_sentence_and_leaves_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "runs does not exist" in fails(capsys)
    (tmp_path / "empty").mkdir()
    assert "empty holds no config.json, so it is no run of this suite" in fails(capsys, "empty")
    run = write_run(tmp_path / "a", [(100, (1, 3))])
    (tmp_path / "a.log").write_text("log")
    assert "a.log is a file" in fails(capsys, "a.log")
    assert "--out=empty is a directory" in fails(capsys, "a", "-o", "empty")
    assert "--out=a.log/x.html cannot be written" in fails(capsys, "a", "--out=a.log/x.html")
    assert "Unknown command line flag 'colour'" in fails(capsys, "a", "--colour=red")
    (run / "eval.csv").write_text("agent_step\n1\n")
    assert "eval.csv is damaged" in fails(capsys, "a")
    (run / "config.json").write_text("{")
    assert "config.json is not the configuration of a run" in fails(capsys, "a")
    assert {path.name for path in tmp_path.iterdir()} == {"a", "a.log", "empty"}


def test_logs_beside_runs_are_passed_over_and_other_folders_told(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs/a", [(100, (1, 3))])
    (tmp_path / "runs/a.log").write_text("log")
    (tmp_path / "runs/b").mkdir()
    assert report.main(["runs/a", "runs/a.log", "runs/b"]) == 0
    assert capsys.readouterr().out.startswith("Note: left out: runs/b holds no config.json, so it is no run of this suite.\n1 run in ")
    page = Page(tmp_path / "report.html")
    assert "left out: runs/b holds no config.json" in page.text and "a.log" not in page.text
    assert "python report.py runs/a runs/b -o report.html" in page.text


def test_the_command_needs_no_backend(tmp_path):
    code = "import sys, report; report.main(['--help']); print({'keras', 'tensorflow', 'jax', 'train', 'plot'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "-o,--out" in done.stdout and done.stdout.endswith("set()\n"), done.stdout + done.stderr
