"""The names of a run's files, and when training is over."""

import pathlib

import pytest

from storage import layout


def test_every_file_has_its_place():
    paths = dict(
        config_path=[()], csv_path=[("train",)], weights_path=[("best",), (layout.milestone(50),)],
        checkpoint_path=[(6250,)], episodes_path=[("best",), ("random",), ("best", "-flicker=0.5")],
        sweep_path=[(), ("-epsilon=0.5",)], events_path=[(12.6, "host", 7)], log_path=[()])
    assert [str(getattr(layout, name)("runs/a.b", *arguments)) for name in paths for arguments in paths[name]] == [
        "runs/a.b/config.json", "runs/a.b/train.csv", "runs/a.b/best.weights.h5", "runs/a.b/weights/000050.weights.h5",
        "runs/a.b/checkpoints/000006250", "runs/a.b/episodes-best.csv", "runs/a.b/episodes-random.csv",
        "runs/a.b/episodes-best-flicker=0.5.csv", "runs/a.b/observability.csv",
        "runs/a.b/observability-epsilon=0.5.csv", "runs/a.b/events.out.tfevents.13.host.7", "runs/a.b.log"]
    assert layout.segment_name(0, 256) == "replay/000000000-000000256.npz"
    assert layout.csv_path(pathlib.Path("runs/a"), "eval") == pathlib.Path("runs/a/eval.csv")


def test_the_phases_of_a_step_and_unknown_values_are_columns_of_learn_csv():
    seconds = [column.removesuffix("_seconds") for column in layout.COLUMNS["learn"] if column.endswith("_seconds")]
    assert sorted(seconds) == sorted(layout.PHASES)
    assert set(layout.UNKNOWN) < set(layout.COLUMNS["learn"])
    assert set(layout.TEXT_COLUMNS) < set(layout.EPISODE_COLUMNS) & set(layout.SWEEP_COLUMNS)


@pytest.mark.parametrize("settings, agent_step, episodes, limit", [
    (dict(maxsteps=100), 99, 10**6, None),
    (dict(maxsteps=100), 100, 0, "maxsteps"),
    (dict(maxsteps=100, maxepisodes=None), 103, 0, "maxsteps"),
    (dict(maxsteps=100, maxepisodes=5), 99, 4, None),
    (dict(maxsteps=100, maxepisodes=5), 99, 5, "maxepisodes"),
])
def test_training_ends_at_the_limit_that_is_met_first(settings, agent_step, episodes, limit):
    assert layout.met_limit(settings, agent_step, episodes) == limit
