"""A run writes through no link, and removes no file that is not its own."""

import json
import os
import re

import pytest

import train
from helpers.run_parts import SETTINGS, check_restores, make_small_replay, open_run, read_tree, save_run
from storage import layout, opening

pytestmark = pytest.mark.usefixtures("small_segments")


def make_run(directory, ends=(10, 20, 27)):
    """Leave a run with checkpoints at these rows."""
    run, ring = open_run(directory), make_small_replay()
    for end in ends:
        save_run(run, ring, end)
    run.close()


@pytest.mark.parametrize("name", layout.FILES)
def test_a_link_in_the_place_of_a_file_is_refused_and_the_file_behind_it_stays(tmp_path, name):
    run, private = tmp_path / "run", tmp_path / "private"
    make_run(run)
    private.write_bytes((run / name).read_bytes() if (run / name).exists() else b"private")
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(private)
    before = read_tree(tmp_path)
    with pytest.raises(ValueError, match=f"{name} is a link, and the run would write there; expected a file") as error:
        open_run(run)
    assert "\n" not in str(error.value) and read_tree(tmp_path) == before


@pytest.mark.parametrize("name", [*layout.FOLDERS, "checkpoints/000000027"])
def test_a_link_in_the_place_of_a_folder_is_refused(tmp_path, name):
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    make_run(run)
    if (run / name).exists():
        (run / name).rename(elsewhere)
    else:
        elsewhere.mkdir()
    (elsewhere / "thesis.tex").write_text("years of work")
    (run / name).symlink_to(elsewhere)
    before = read_tree(tmp_path)
    with pytest.raises(ValueError, match=f"{name} is a link, and the run would write there; expected a folder"):
        open_run(run)
    assert read_tree(tmp_path) == before


def test_a_link_that_leads_nowhere_and_a_pipe_are_refused(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path / "missing")
    with pytest.raises(ValueError, match="lock is a link"):
        open_run(tmp_path)
    (tmp_path / "lock").unlink()
    os.mkfifo(tmp_path / "train.csv")
    with pytest.raises(ValueError, match="train.csv is no file"):
        open_run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["train.csv"]


def test_a_run_that_is_a_link_itself_goes_on(tmp_path):
    make_run(tmp_path / "scratch")
    (tmp_path / "run").symlink_to("scratch")
    check_restores(open_run(tmp_path / "run"), 27)


def test_a_name_that_is_too_long_is_told_before_anything_is_built(tmp_path, capsys):
    with pytest.raises(ValueError, match="cannot be written .File name too long; expected names of at most 255 bytes"):
        opening.check(tmp_path / ("x" * 256), SETTINGS)
    assert train.main(["--env=CartPole-v1", f"--run_dir={tmp_path}/{'x' * 256}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("train.py: --run_dir=") and error.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_refused_before_a_run_is_opened(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for directory in tmp_path / "file", tmp_path / "file/run":
        with pytest.raises(ValueError, match="cannot be written .*(is no directory|Not a directory)"):
            opening.check(directory, SETTINGS)
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)  # as if it was another user's
    with pytest.raises(ValueError, match=r"--run_dir=\S+/new/run cannot be written \(Permission denied\)"):
        opening.check(tmp_path / "new/run", SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("value, shown", [
    ("\x1b[2Jred", r"\x1b[2Jred"), (["a"] * 99, "['a', 'a', 'a', 'a', 'a', 'a', ...]"),
    (json.loads("[" * 300 + "]" * 300), "[[[[[[[...]]]]]]]"), ("x" * 999, "x" * 200), (-1, "-1"), (None, "None")])
def test_a_setting_of_a_damaged_config_is_shown_short_and_harmless(tmp_path, value, shown):
    layout.config_path(tmp_path).write_text(json.dumps(dict(settings=SETTINGS | dict(units=value))))
    with pytest.raises(ValueError, match=re.escape(f"other settings: --units was {shown} and is now 8; repeat them")):
        opening.check(tmp_path, SETTINGS)
