"""The rules of CONTRIBUTING.md that a machine can check: imports point down, and files, lines and names stay small.

A new file gets a row in MAY_IMPORT and a test file of the same name.
"""

import ast
import collections
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SCRIPTS = "train evaluate plot report export status doctor".split()
ROOMS = "launch environments storage analysis films".split()
PAPER = "train models agent replay rollout wrappers".split()  # the six files of the paper, with shorter lines

# A module or room -> the modules and rooms of ours that it may import. A module without a row has the row of its room.
MAY_IMPORT = {
    **dict.fromkeys(SCRIPTS, "analysis films launch loading evaluation counters rollout agent models replay wrappers "
                             "environments storage schedules backends choices"),
    "films.camera": "films launch.build evaluation",
    "films.film": "films.panels",
    "films.sheet": "films.panels",
    "films": "",
    "launch": "launch.start",
    "launch.train_flags": "launch.parsing choices",
    "launch.settings": "launch.parsing launch.start launch.train_flags schedules choices environments.catalogue "
                       "storage.layout storage.strangers",
    "launch.build": "launch.process launch.start agent choices rollout replay wrappers environments storage.weights",
    "launch.cost": "launch.build rollout environments.features backends",
    "launch.modules": "storage",
    "launch.process": "",
    "launch.start": "",
    "loading": "launch.settings launch.build environments.features storage",
    "evaluation": "rollout agent wrappers",
    "rollout": "agent wrappers",
    "agent": "models choices backends",
    "models": "kernels choices backends",
    "kernels": "backends",
    "counters": "launch.process schedules backends storage.layout",
    "analysis": "analysis storage",
    "analysis.statistics": "",
    "environments": "",
    "environments.catalogue": "launch.modules environments wrappers storage.layout",
    "environments.features": "models choices backends wrappers storage",
    "wrappers": "environments.rewards",
    "storage": "storage",
    "replay": "priorities",
    "priorities": "",
    "schedules": "",
    "backends": "launch.start",
    "choices": "launch.modules",
}


def find_files(*folders):
    """Return every Python file in these folders of the repository."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def module_name(path):
    """Return the dotted name of a file: `agent`, `storage.layout`; a room's __init__ has the name of the room."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FOLDERS = [path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] != "." and path.name != "runs"]
MODULES = {module_name(path): path for path in [*ROOT.glob("*.py"), *find_files(*ROOMS)]}
TESTS = find_files("tests")
ALL_FILES = [*sorted(ROOT.glob("*.py")), *find_files(*FOLDERS)]
BY_MODULE = pytest.mark.parametrize("module", MODULES)


def imported_names(path):
    """Return the dotted names of every import in a file, also inside functions; `from a import b` gives a and a.b."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def room_of(module):
    """Return the room of a module, or the module itself where it lies at the root."""
    return module.partition(".")[0]


def test_every_file_has_a_place():
    assert [module for module in MODULES if room_of(module) not in MAY_IMPORT] == []
    assert [module for module in MAY_IMPORT if module not in MODULES] == []
    assert {module.rpartition(".")[2] for module in MODULES} & {"utils", "util", "common", "helpers", "misc"} == set()
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages <= {*ROOMS, "benchmarks"}


@BY_MODULE
def test_imports_point_down_only(module):
    allowed = MAY_IMPORT.get(module, MAY_IMPORT[room_of(module)]).split()
    imported = [name for name in imported_names(MODULES[module]) & MODULES.keys() if name not in ROOMS]
    assert [name for name in imported if name not in allowed and room_of(name) not in allowed] == []


@BY_MODULE
def test_only_scripts_and_the_launch_know_flags(module):
    imported = {room_of(name) for name in imported_names(MODULES[module])}
    assert module in (*SCRIPTS, "launch.parsing", "launch.train_flags") or "absl" not in imported


@BY_MODULE
def test_only_backends_imports_a_backend(module):
    backends = {"tensorflow", "tf_keras", "jax", "jaxlib", "torch"}
    assert module == "backends" or not backends & {room_of(name) for name in imported_names(MODULES[module])}


@pytest.mark.parametrize("module", [module for module in MODULES if module not in ROOMS])
def test_every_module_has_its_test_file(module):
    room, _, name = module.rpartition(".")
    folder = room or ("system" if name in SCRIPTS and name != "train" else "core")
    assert (ROOT / "tests" / folder / f"test_{name}.py").exists()


def test_no_test_module_imports_another():
    importing = {str(path): [name for name in imported_names(path) if re.search(r"(^|\.)test_\w+$", name)]
                 for path in TESTS}
    assert {path: names for path, names in importing.items() if names} == {}


def test_names_of_helpers_are_unique_over_all_tests():
    files = collections.defaultdict(list)
    for path in TESTS:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("test_"):
                files[node.name].append(str(path.relative_to(ROOT)))
    assert {name: paths for name, paths in files.items() if len(paths) > 1} == {}


def test_lines_are_short():
    long = []
    for path in ALL_FILES:
        columns = 100 if path.parent == ROOT and path.stem in PAPER else 120
        long += [f"{path.relative_to(ROOT)}:{number}" for number, line in enumerate(path.read_text().splitlines(), 1)
                 if len(line) > columns]
    assert long == []


def test_files_are_short():
    num_lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in ALL_FILES}
    assert {path: lines for path, lines in num_lines.items() if lines > 400} == {}
    assert len(num_lines) > 100  # No file was overlooked.


def test_benchmarks_change_no_paths():
    assert [str(path) for path in find_files("benchmarks") if "sys.path" in path.read_text()] == []
