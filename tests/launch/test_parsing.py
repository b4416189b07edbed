"""Flags of any script: whole numbers, names in a table, flagfiles, and mistakes with the nearest right thing."""

from launch import parsing
from launch.settings import configure

import pytest
from absl import flags


@pytest.fixture
def values():
    """Return three flags of a script that does not exist."""
    values = flags.FlagValues()
    parsing.define_integer("episodes", 30, "of an evaluation", 1, flag_values=values)
    parsing.define_enum("checkpoint", "best", ["best", "last"], "of a run", flag_values=values)
    parsing.define_row("loss", "huber", dict(huber=abs, mse=abs), "of an error", flag_values=values)
    return values


@pytest.mark.parametrize("given, episodes", [("7", 7), ("1e3", 1000), ("1_000", 1000), ("2.0", 2)])
def test_a_whole_number_may_be_written_as_a_float_that_is_whole(given, episodes, values):
    assert parsing.parse_flags(values, [f"--episodes={given}", "runs/a", "--checkpoint=LAST"]) == ["runs/a"]
    assert (values.episodes, values.checkpoint) == (episodes, "last")


@pytest.mark.parametrize("given, loss", [("MSE", "mse"), ("my_parts:LogCosh", "my_parts:LogCosh")])
def test_a_row_is_of_the_table_in_any_case_or_of_a_module_as_written(given, loss, values):
    parsing.parse_flags(values, [f"--loss={given}"])
    assert values.loss == loss


@pytest.mark.parametrize("arguments, sentence", [
    (["--episode=3"], "--episode is no flag; perhaps --episodes is meant"),
    (["--episodes=0"], "--episodes=0"),
    (["--episodes=1.5"], "expected a whole number, such as 1000000, 1_000_000 or 1e6"),
    (["--checkpoint=first"], "value should be one of <best|last>"),
    (["--loss=l1"], "value should be one of <huber|mse>"), (["--loss=:mse"], "value should be one of <huber|mse>"),
    (["--flagfile=nowhere.flags"], "--flagfile=nowhere.flags cannot be opened (No such file or directory); perhaps "),
    (["--flagfile="], "--flagfile was given without a value; expected one, or no --flagfile")])
def test_a_mistake_is_one_sentence(arguments, sentence, values):
    with pytest.raises((ValueError, flags.Error)) as caught:
        parsing.parse_flags(values, arguments)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [
    "--seed=7\n--network=DQN\n", "\n# a comment\n--seed=7\n--network=DQN", "# a comment\n--seed=7\n--network=DQN\n",
    "// a comment\n--seed=7\n--network=DQN\n", "--flagfile=inner.flags\n--network=DQN\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_flagfile_may_begin_with_a_byte_order_mark(text, mark, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.flags").write_text(mark + text, encoding="utf-8")
    (tmp_path / "inner.flags").write_text(f"{mark}--seed=7\n", encoding="utf-8")
    config = configure(["--flagfile=mine.flags", "--env=CartPole-v1"])
    assert (config["settings"]["seed"], config["settings"]["network"]) == (7, "DQN")
    assert config["run_dir"] == "runs/CartPole-v1-DQN-mine-s7"


def test_a_flagfile_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "mine.flags").write_text("--seed=7\n", encoding="utf-16")
    with pytest.raises(ValueError, match="a --flagfile is no text in UTF-8"):
        configure([f"--flagfile={tmp_path}/mine.flags"])
