"""Files of strangers: only regular ones are opened, and their texts change no terminal."""

import os
import pathlib

import pytest

from storage import strangers


def test_control_characters_become_escapes_and_the_rest_of_a_text_stays():
    text = "Gr\u00fc\u00dfe \U0001f3ae a-b_c=1"
    assert strangers.escape(text) == text
    assert strangers.escape("\x1b[31mred\x1b[0m\r\n\t\x9b\u202eold\udcff") == (
        r"\x1b[31mred\x1b[0m\r\n\t\x9b\u202eold\udcff")


def test_only_regular_files_are_opened(tmp_path):
    (tmp_path / "file").write_bytes(b"a\r\n")
    with strangers.open_regular(tmp_path / "file", newline="") as file:
        assert file.read() == "a\r\n"
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "device").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    for name, kind in (("link", "a link"), ("device", "a link"), ("pipe", "a device or a pipe"), ("", "a folder")):
        with pytest.raises(ValueError, match=f"{tmp_path / name} is {kind}, so it is not opened; expected what a run"):
            strangers.open_regular(tmp_path / name)
    with pytest.raises(ValueError, match="/dev/zero is a device or a pipe"):
        strangers.open_regular(pathlib.Path("/dev/zero"))
    with pytest.raises(FileNotFoundError):
        strangers.open_regular(tmp_path / "none")


def test_folders_of_a_run_are_no_links_but_the_run_itself_may_be_one(tmp_path):
    (tmp_path / "scratch/inner").mkdir(parents=True)
    (tmp_path / "scratch/inner/file").touch()
    (tmp_path / "run").symlink_to("scratch")
    path = tmp_path / "run/inner/file"
    assert strangers.check_regular(path, tmp_path / "run") is path
    (tmp_path / "scratch/outer").symlink_to("inner")
    with pytest.raises(ValueError, match="run/outer is a link"):
        strangers.check_regular(tmp_path / "run/outer/file", tmp_path / "run")
