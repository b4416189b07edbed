"""A user's module is found on the path of Python; code that lies in the directory of a run is never imported."""

import importlib
import sys

from launch import modules

import pytest

from helpers.run_files import write_run


@pytest.fixture
def search_path(tmp_path, monkeypatch):
    """Put an empty folder, and nothing else that is new, on the path of Python; return it."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write_code(path):
    """Write a module that leaves a file beside itself when it is imported."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("import pathlib\npathlib.Path(__file__).with_suffix('.ran').touch()\n")
    return path


def test_a_users_module_is_imported_also_beside_runs_and_other_configurations(search_path):
    write_run(search_path / "runs/a")
    (search_path / "config.json").write_text('{"compilerOptions": {}}')  # of another program
    for place in ("user_envs_alone.py", "user_package/user_envs.py"):
        code = write_code(search_path / place)
        modules.import_module(".".join(code.relative_to(search_path).with_suffix("").parts))
        assert code.with_suffix(".ran").exists()
    modules.import_module("user_envs_alone")  # It is there already.


@pytest.mark.parametrize("place, name", [
    ("received/run1/payload.py", "received.run1.payload"), ("received/run1/__init__.py", "received.run1.none"),
    ("received/run1/__init__.py", "received.run1"), ("received/run1/code/payload.py", "received.run1.code.payload"),
    ("received/run1/payload/__init__.py", "received.run1.payload")])
def test_code_in_a_run_is_never_imported(search_path, place, name):
    write_run(search_path / "received/run1")
    code = write_code(search_path / place)
    with pytest.raises(ValueError) as error:
        modules.import_module(name)
    assert str(error.value).startswith(f"the module {name} is not imported, since {search_path}/received/run1")
    assert f"lies in the run {search_path}/received/run1" in str(error.value)
    assert not code.with_suffix(".ran").exists() and name not in sys.modules


def test_no_link_and_no_entry_of_the_path_leads_to_code_in_a_run(search_path, monkeypatch):
    run = write_run(search_path / "received/run1")
    code, elsewhere = write_code(run / "payload.py"), write_code(search_path / "elsewhere/code.py")
    (search_path / "to_file.py").symlink_to(code)
    (search_path / "to_folder").symlink_to(run)
    (run / "inside").symlink_to(elsewhere.parent)
    for name in ("to_file", "to_folder.payload", "received.run1.inside.code"):
        with pytest.raises(ValueError, match="a run may come from a stranger"):
            modules.import_module(name)
    monkeypatch.syspath_prepend(run)
    with pytest.raises(ValueError, match="a run may come from a stranger"):
        modules.import_module("payload")
    monkeypatch.chdir(run)
    monkeypatch.setattr(sys, "path", ["", *sys.path[1:]])
    with pytest.raises(ValueError, match="a run may come from a stranger"):
        modules.import_module("payload")
    assert not code.with_suffix(".ran").exists() and not elsewhere.with_suffix(".ran").exists()


def test_a_run_whose_config_is_damaged_stays_a_run(search_path):
    run = write_run(search_path / "run1", [(100, (1, 3))])
    (run / "config.json").write_text("{")
    code = write_code(run / "payload.py")
    with pytest.raises(ValueError, match="a run may come from a stranger"):
        modules.import_module("run1.payload")
    assert not code.with_suffix(".ran").exists()


@pytest.mark.parametrize("name, sentence", [
    ("no_such_envs", "there is no module no_such_envs; PYTHONPATH=FOLDER names the folder that has it"),
    ("json.no_such_envs", "there is no module json.no_such_envs; PYTHONPATH=FOLDER names"),
    (".relative", "'.relative' is no name of a module"), ("a/b", "'a/b' is no name of a module"),
    ("", "'' is no name of a module")])
def test_a_missing_module_is_named_with_what_finds_it(search_path, name, sentence):
    with pytest.raises(ModuleNotFoundError) as error:
        modules.import_module(name)
    assert str(error.value).startswith(sentence)


def test_a_module_that_lacks_another_says_which(search_path):
    (search_path / "half_envs.py").write_text("import package_that_is_missing\n")
    with pytest.raises(ImportError, match="half_envs.* package_that_is_missing"):
        modules.import_module("half_envs")


@pytest.mark.parametrize("code, sentence", [
    ("raise ModuleNotFoundError('no scenes here')", "fails when it is imported (ModuleNotFoundError: no scenes here)"),
    ("1 / 0", "fails when it is imported (ZeroDivisionError: division by zero)"),
    ("raise ImportError('an older json is expected')", "an older json is expected")])
def test_a_module_that_fails_says_how(search_path, code, sentence):
    (search_path / "failing_envs.py").write_text(code)
    with pytest.raises(ImportError) as error:
        modules.import_module("failing_envs")
    assert type(error.value) is ImportError and str(error.value).endswith(sentence)
