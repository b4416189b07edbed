"""The house, as CONTRIBUTING.md says: imports point down only, and flags and backends stay where they belong."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SCRIPTS = {"train", "evaluate", "plot", "report", "status", "doctor"}
GROUND = {"replay", "wrappers", "screens", "twins", "crafted", "pomdps", "slimevolley", "runs", "checkpoints", "events", "job", "models",
          "backends", "schedules", "panels", "saliency"}
MAY_IMPORT = {
    **{name: {"trainer", "rollout", "curves", "sweeps", "tables", "scores", "stats", "filming", "film", "agent", "features"} | GROUND
       for name in SCRIPTS},
    **{name: {"curves", "scores", "stats"} | GROUND for name in ("sweeps", "tables")},
    "scores": {"stats"} | GROUND,
    "curves": {"stats"} | GROUND,
    "trainer": {"rollout", "agent", "features"} | GROUND,
    "filming": {"film", "sheet", "rollout"} | GROUND,
    "film": {"panels"},
    "sheet": {"panels"},
    **{name: {"agent"} | GROUND for name in ("rollout", "stats")},
    "agent": {"backends", "models"},
    "features": {"backends", "models", "runs", "checkpoints"},
    **{name: set() for name in GROUND},
    "models": {"backends"},
    "wrappers": {"screens", "twins", "crafted", "pomdps", "slimevolley"},
    "runs": {"checkpoints", "events"},  # a run's directory holds its checkpoints and events
}
FILES = sorted(path.stem for path in ROOT.glob("*.py"))


def imports_of(name):
    """Return the top-level names of every import in a file of the house, those inside functions too."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / f"{name}.py").read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}.py has a relative import; the house is flat"
            found.add(node.module.split(".")[0])
    return found


def test_every_file_has_a_place_in_the_house():
    assert set(FILES) <= MAY_IMPORT.keys()  # Neither utils.py nor common.py among them.
    assert MAY_IMPORT.keys() - SCRIPTS <= set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_imports_point_down_only(name):
    assert imports_of(name) & set(FILES) <= MAY_IMPORT[name]


@pytest.mark.parametrize("name", FILES)
def test_only_scripts_know_flags(name):
    assert name in SCRIPTS or "absl" not in imports_of(name)


@pytest.mark.parametrize("name", FILES)
def test_only_backends_imports_a_backend(name):
    assert name == "backends" or not imports_of(name) & {"tensorflow", "tf_keras", "jax", "jaxlib", "torch"}


def test_no_folder_hides_more_of_the_house():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert not packages - {"tests"}
