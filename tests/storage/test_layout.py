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


def test_a_run_s_name_fits_a_file_system_and_stays_its_own():
    long = "\N{GREEK SMALL LETTER PI}" * 200
    name = lambda units, seed=1: layout.name_run(["Pong", "DRQN"], dict(units=units, jid=long), seed)
    assert layout.name_run(["Pong", "DRQN"], dict(jid="x" * 225), 1) == f"Pong-DRQN-jid={'x' * 225}-s1"  # 242 bytes
    assert name(8).startswith("Pong-DRQN-jid=\N{GREEK SMALL LETTER PI}") and name(8).endswith("-s1")
    assert 249 <= len(name(8).encode()) <= 251
    assert layout.log_path(f"runs/{name(8)}").name == f"{name(8)}.log" and name(8) == name(8)
    assert len({name(8), name(9), name(8, seed=2)}) == 3


def test_what_is_a_checkpoint_or_a_segment_is_told_by_its_name(tmp_path):
    for name in ("000000027", "000000028", "27", "2026-05-01", "aside"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ("notes.txt" if name == "000000028" else layout.STATE)).touch()
    assert [path.name for path in sorted(tmp_path.iterdir()) if layout.is_checkpoint(path)] == ["000000027"]
    names = (layout.segment_name(0, 256), "replay/0-256.npz", "replay/000000000-000000256.npz.old", "replay/data.npz")
    assert [name for name in names if layout.is_segment(pathlib.Path(name))] == [names[0]]


def test_files_of_events_are_found_by_the_second_in_which_they_begin(tmp_path):
    assert layout.find_events(tmp_path / "missing") == []
    for seconds, host in ((12.6, "a.host"), (7, "tfevents.99.host")):
        layout.events_path(tmp_path, seconds, host, 7).touch()
    (tmp_path / "events.out.tfevents.notes").touch()
    assert sorted(layout.find_events(tmp_path)) == [7, 13]


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
