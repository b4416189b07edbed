"""Grids: their rows become commands that train.py takes, in directories that stay; other files are refused."""

import pathlib

from launch import settings

import pytest

from storage import grids

ROOT = pathlib.Path(__file__).parents[2]
GRIDS = sorted((ROOT / "slurm/grids").glob("*.csv"))


@pytest.fixture
def write_csv_lines(tmp_path, monkeypatch):
    """Return a function that writes lines into <name>.csv of an empty folder, the working directory."""
    monkeypatch.chdir(tmp_path)

    def write(name, *lines):
        path = pathlib.Path(f"{name}.csv")
        path.write_text("\n".join(lines) + "\n")
        return path
    return write


@pytest.mark.parametrize("path", [
    pytest.param(path, marks=pytest.mark.slimevolley if "SlimeVolley" in path.read_text() else ())
    for path in GRIDS], ids=lambda path: path.stem)
def test_train_takes_every_row_of_the_shipped_grids(path, monkeypatch):
    monkeypatch.chdir(ROOT)  # The grids name presets from here.
    for directory, (python, script, *arguments) in grids.read_grid(path).items():
        assert (python, script) == ("python", "train.py")
        assert settings.configure(arguments)["run_dir"] == str(directory)


def test_rows_without_a_filled_cell_and_quoted_comments_are_no_rows(write_csv_lines):
    path = write_csv_lines(
        "g", "# by hand", '"# quoted, by a spreadsheet"', "env,units,seed", "Pong,8,1", ",,", " , ,", '"#",,')
    assert [arguments[2:4] for arguments in grids.read_grid(path).values()] == [["--env=Pong", "--units=8"]]
    with pytest.raises(ValueError, match="has no rows"):
        grids.read_grid(write_csv_lines("empty", "env,units", ",", ","))


def test_empty_cells_past_the_columns_are_none(write_csv_lines):
    path = write_csv_lines("g", "env,units,,", "Pong,8,,", ",,,,", "Pong,9", "Pong,,,,,")
    assert [arguments[2:-1] for arguments in grids.read_grid(path).values()] == [
        ["--env=Pong", "--units=8"], ["--env=Pong", "--units=9"], ["--env=Pong"]]
    with pytest.raises(ValueError, match="has the column ''"):
        grids.read_grid(write_csv_lines("gap", "env,,units", "Pong,,8"))


def test_the_cells_of_a_row_win_over_its_preset(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    (tmp_path / "g.csv").write_text("env,units,flagfile\nPong,7,presets/cartpole.flags\n")
    ((directory, (_, _, *arguments)),) = grids.read_grid(tmp_path / "g.csv").items()
    resolved = settings.configure(arguments)["settings"]
    assert (resolved["env"], resolved["units"], resolved["maxsteps"]) == ("Pong", 7, 60_000)
    assert str(directory) == "runs/g/Pong-cartpole-units=7-s1"


def test_an_empty_cell_gives_no_flag_and_a_comment_no_row(write_csv_lines):
    path = write_csv_lines("grid", "# why", "env,network,flicker,seed", "Pong,DQN,,2", "ALE/Pong-v5,DRQN,0.5,")
    assert list(grids.read_grid(path).values()) == [
        "python train.py --env=Pong --network=DQN --seed=2 --run_dir=runs/grid/Pong-DQN-s2".split(),
        "python train.py --env=ALE/Pong-v5 --network=DRQN --flicker=0.5 "
        "--run_dir=runs/grid/Pong-v5-DRQN-flicker=0.5-s1".split()]


def test_a_row_keeps_its_directory_when_the_grid_grows(write_csv_lines):
    before = grids.read_grid(write_csv_lines("grid", "env,seed", "Pong,1"))
    after = grids.read_grid(write_csv_lines("grid", "seed,env,flicker,maxsteps", "3,Pong,0.5,", "1,Pong,,9000"))
    assert list(before) == list(after)[1:] == [pathlib.Path("runs/grid/Pong-s1")]


@pytest.mark.parametrize("lines, expected", [
    (["env,seed", "Pong"], "row 1 of bad.csv has more or fewer cells than the 2 columns"),
    (["env,seed", "Pong,1", "Pong,2,3"], "row 2 of bad.csv has more or fewer cells than the 2 columns"),
    (["env,seed", "Pong,1", "Pong,"], "row 2 of bad.csv is runs/bad/Pong-s1, as row 1 is"),
    (["env,run_dir", "Pong,here"], "bad.csv has a column run_dir"),
    (["env,seed"], "bad.csv has no rows"),
    (["env;seed", "Pong;1"], "bad.csv has the column 'env;seed'"),
    (["env,env", "Pong,Breakout"], "bad.csv has the column 'env'"),
])
def test_a_file_that_is_no_grid_is_refused(write_csv_lines, lines, expected):
    with pytest.raises(ValueError) as error:
        grids.read_grid(write_csv_lines("bad", *lines))
    assert expected in str(error.value) and "\n" not in str(error.value)


def test_a_grid_that_is_not_utf_8_is_named(tmp_path):
    (tmp_path / "bad.csv").write_bytes(b"# caf\xe9\nenv,seed\nPong,1\n")
    with pytest.raises(ValueError, match=r"bad.csv cannot be read as a table \(.*0xe9.*\); expected text in UTF-8"):
        grids.read_grid(tmp_path / "bad.csv")


def test_parts_of_one_package_have_names_of_their_own(write_csv_lines):
    rows = ["Pong,my.nets:Big,a/b.flags", "Pong,my.nets:Small,a/b.flags", "ALE/Pong-v5,my.nets:Big,a/b.flags"]
    names = [directory.name for directory in grids.read_grid(write_csv_lines("grid", "env,network,flagfile", *rows))]
    assert names == ["Pong-my.nets:Big-b-s1", "Pong-my.nets:Small-b-s1", "Pong-v5-my.nets:Big-b-s1"]


def test_a_column_that_is_no_flag_is_refused_with_the_nearest(write_csv_lines):
    path, known = write_csv_lines("bad", "env,learning_rat", "Pong,1"), ["env", "learning_rate", "seed", "flagfile"]
    with pytest.raises(ValueError) as error:
        grids.read_grid(path, known)
    assert str(error.value) == ("bad.csv has the column learning_rat, which is no flag of train.py; perhaps "
                                "learning_rate or env is meant")
    assert grids.read_grid(write_csv_lines("good", "env,flagfile", "Pong,a.flags"), known)


def test_a_grid_may_come_from_a_spreadsheet(write_csv_lines):
    path = write_csv_lines("grid", "\N{BYTE ORDER MARK}env,seed", "Pong,1")
    assert list(grids.read_grid(path).values()) == [
        ["python", "train.py", "--env=Pong", "--seed=1", "--run_dir=runs/grid/Pong-s1"]]
