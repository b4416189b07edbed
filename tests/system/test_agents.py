"""agents/: each is a run that is scored and played as any other, and its card says what its rows say."""

import re
import statistics

import pytest

import evaluate
from helpers.evaluated_runs import read_csv_rows, read_episode_returns
from helpers.short_runs import ROOT

AGENTS = sorted(path.parent for path in (ROOT / "agents").glob("*/config.json"))
CARDS = (ROOT / "agents/README.md").read_text()
EACH_AGENT = pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)


@EACH_AGENT
def test_its_card_has_the_scores_of_its_rows(agent):
    cells = next(line.split("|") for line in CARDS.splitlines() if line.startswith(f"| [{agent.name}]"))
    best, at_random = (read_episode_returns(agent / f"episodes-{name}.csv") for name in ("best", "random"))
    assert len(best) == len(at_random) == 30
    numbers = [float(number) for number in re.findall(r"-?\d+\.\d+", cells[4] + cells[5])]
    expected = [statistics.mean(best), statistics.stdev(best), statistics.mean(at_random)]
    expected = [number for number in expected if number]  # no deviation where all are the same
    assert numbers == [pytest.approx(number, abs=0.05) for number in expected]
    assert statistics.mean(best) > statistics.mean(at_random) + statistics.stdev(best)


@EACH_AGENT
def test_it_is_small_and_says_nothing_of_where_it_was_made(agent):
    files = {path.name for path in agent.iterdir() if not re.match(r"(episodes|observability)-.*=", path.name)}
    assert files == {"best.weights.h5", "config.json", "episodes-best.csv", "episodes-random.csv", "eval.csv",
                     "train.csv"}
    assert sum(path.stat().st_size for path in agent.iterdir()) < 8e6
    assert f"--run_dir=agents/{agent.name}" in (agent / "config.json").read_text()
    assert "/work" not in (agent / "config.json").read_text()


@pytest.mark.parametrize("agent", [
    pytest.param(agent, marks=pytest.mark.slimevolley if agent.name == "slimevolley" else ())
    for agent in AGENTS], ids=lambda agent: agent.name)
def test_its_first_episode_is_played_again(agent, tmp_path, capsys):
    # Pong takes thousands of steps; a film's first ones show that the weights fit.
    arguments = [str(agent), "--episodes=1", f"--csv={tmp_path / 'again.csv'}"]
    assert evaluate.main(arguments) == 0
    assert "no checksum" not in capsys.readouterr().err
    (again,), first = read_csv_rows(tmp_path / "again.csv"), read_csv_rows(agent / "episodes-best.csv")[0]
    if agent.name == "delayed_cue":  # Elsewhere another processor's rounding may lead to another episode.
        assert (again["episode_return"], again["length"]) == (first["episode_return"], first["length"])
    at_random = statistics.mean(read_episode_returns(agent / "episodes-random.csv"))
    assert float(again["episode_return"]) > at_random
