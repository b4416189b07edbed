"""What evaluate.py played: episodes, random play and sweeps are read, and damaged ones named."""

import collections
import os

import numpy as np
import pytest

from helpers.run_files import write_run, write_table
from storage import episodes, layout


def write_sweep(run, *rows):
    """Write a sweep of (policy, weights, probability, episode return, epsilon)."""
    write_table(layout.sweep_path(run), layout.SWEEP_COLUMNS,
                [(policy, weights, p, i, episode_return, 9, epsilon, 0)
                 for i, (policy, weights, p, episode_return, epsilon) in enumerate(rows)])


def test_episodes_of_a_score(tmp_path):
    run = write_run(tmp_path / "a", fresh=(3, 4.5), flicker=0.5)
    rows, returns = episodes.read_episodes(layout.episodes_path(run, "best"))
    np.testing.assert_array_equal(returns, [3, 4.5])
    names = ("policy", "weights", "epsilon", "flicker", "eval_seed")
    assert [{name: row[name] for name in names} for row in rows] == [
        dict(policy="agent", weights="best", epsilon=0.05, flicker=0.5, eval_seed=0)] * 2


def test_episodes_are_counted_by_policy_and_probability(tmp_path):
    run = write_run(tmp_path / "a", fresh=(3, 4, 5))
    assert episodes.count_episodes(layout.episodes_path(run, "best")) == {("agent", None): 3}
    write_sweep(run, *[("agent", "best", p, 1, 0.05) for p in (0.5, 1.0, 0.5)], ("random", "random", 1.0, 7, 1.0))
    assert episodes.count_episodes(layout.sweep_path(run)) == {
        ("agent", 0.5): 2, ("agent", 1.0): 1, ("random", 1.0): 1}
    layout.sweep_path(run).write_text("policy,observation_probability\nagent,often\n")
    assert not episodes.count_episodes(layout.sweep_path(run)) and not episodes.count_episodes(run / "none.csv")


def test_random_play_is_that_beside_a_score_or_else_of_a_sweep(tmp_path):
    score, swept, neither = (write_run(tmp_path / name, random=(1, 2) * (name == "a")) for name in "abc")
    for run in (score, swept):
        write_sweep(run, ("agent", "best", 1.0, 50, 0.05), ("random", "random", 1.0, 7, 1.0))
    assert list(episodes.read_random_play(score)) == [1, 2] and list(episodes.read_random_play(swept)) == [7]
    assert episodes.read_random_play(neither) is None
    layout.sweep_path(swept).write_text("")
    returns, notes = episodes.find_random_play([score, swept, neither])
    assert {run: list(values) for run, values in returns.items()} == {score: [1, 2]}
    assert notes == [f"left out: {swept}/observability.csv is damaged, or not of this suite: it has no episodes"]


def test_a_sweep_is_sorted_by_probability(tmp_path):
    run = write_run(tmp_path / "a")
    played = [("agent", "best", p, episode_return, 0.05) for p, episode_return in ((1.0, 50), (0.1, 5), (1.0, 60))]
    write_sweep(run, *played, ("random", "random", 1.0, 7, 1.0))
    of_agent, of_random, played_with = episodes.read_sweep(run, 1.0)
    assert list(of_agent.items()) == [(0.1, [5]), (1.0, [50, 60])]
    assert of_random == [7] and played_with == {("best", 0.05)}
    with pytest.raises(ValueError, match="observability.csv is damaged.* no rows of the probability of training, 0.5"):
        episodes.read_sweep(run, 0.5)
    write_sweep(run, ("agent", "best", 1.0, 50, 0.05))
    with pytest.raises(ValueError, match="it has no rows of random play"):
        episodes.read_sweep(run, 1.0)


@pytest.mark.parametrize("text, message", [
    ("", "it has no episodes"),
    ("policy,weights\nagent,best\n", "it has no column 'epsilon'"),
    ("policy,weights,epsilon,flicker,eval_seed,episode_return\nagent,best,0,0,0,nan\n", "a value is not finite"),
    ("policy,weights,epsilon,flicker,eval_seed,episode_return\nagent,best,0,0,0\n", "not 'NoneType'"),
    ("policy,weights,epsilon,flicker,eval_seed,episode_return\nagent,best,0,0,0,ten\n",
     "could not convert string to float: 'ten'"),
    ("policy,weights,epsilon,flicker,eval_seed,episode_return\nagent,\x1b[31mbest,0,0,0,1\n",
     "a name has control characters"),
])
def test_damaged_episodes_are_named(tmp_path, text, message):
    path = tmp_path / "episodes-best.csv"
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        episodes.read_episodes(path)
    assert str(error.value).startswith(f"{path} is damaged, or not of this suite: ") and message in str(error.value)


def test_rows_of_weights_that_were_replaced_while_they_played_are_older_than_those_of_now(tmp_path):
    run = write_run(tmp_path / "a", fresh=(3, 4, 5))
    path, weights = layout.episodes_path(run, "best"), layout.weights_path(run, "best")
    weights.touch()
    os.utime(weights, (1000, 1000))
    loaded = episodes.time_of(weights)
    for now, is_old in (1000, False), (2000, True):
        os.utime(weights, (now, now))
        path.touch()
        episodes.date_back(path, weights, loaded)
        assert (path.stat().st_mtime < weights.stat().st_mtime) == is_old
    weights.unlink()
    episodes.date_back(path, weights, loaded)
    episodes.date_back(path, None, None)  # Random play has none.
    assert episodes.time_of(None) is None and path.stat().st_mtime == 1000


def test_fewer_episodes_never_replace_more(tmp_path):
    run = write_run(tmp_path / "a", fresh=(3, 4, 5))
    path, beside = layout.episodes_path(run, "best"), run / "episodes-best-few.csv"
    choose = lambda count, **weights: episodes.choose_path(path, collections.Counter({("agent", None): count}), "-few",
                                                           **weights)
    assert [choose(count) for count in (2, 3, 4)] == [beside, path, path]
    weights = layout.weights_path(run, "best")
    weights.touch()
    os.utime(path, (0, 0))
    assert [choose(2, weights=weights)] == [path]  # The weights are newer than the episodes.
    assert episodes.name_otherwise(("epsilon", 0.0, 0.05), ("eval_seed", 0, 0), ("episodes", 2, 30)) == (
        "-epsilon=0-episodes=2")
