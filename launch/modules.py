"""A user's module of environments, networks, optimizers or losses: found on the path of Python, never in a run."""

import importlib
import importlib.machinery
import os
import pathlib
import sys
import types

from storage import layout, reading

SUFFIXES = ("", *importlib.machinery.all_suffixes())  # of a folder, and of files that Python imports


def import_module(name: str) -> types.ModuleType:
    """Import and return a module; the name may come from the config.json of a stranger.

    Raises:
        ModuleNotFoundError: there is no such module; it says where to look.
        ImportError: the module lacks something that it imports, or fails in another way.
        ValueError: the module, or a package that holds it, lies in the directory of a run. It was not imported.
    """
    parts = name.split(".")
    if name not in sys.modules:
        if not all(part.isidentifier() for part in parts):
            raise ModuleNotFoundError(f"{name!r} is no name of a module")
        _refuse_code_of_runs(parts)
    try:
        return importlib.import_module(name)
    except Exception as error:  # A user's module raises any.
        missing = error.name if isinstance(error, ModuleNotFoundError) else None  # None, too, of one raised by hand
        if missing in [".".join(parts[:i + 1]) for i in range(len(parts))]:
            install = f", or, of a package: pip install {name}" * (len(parts) == 1)
            raise ModuleNotFoundError(f"there is no module {name}; PYTHONPATH=FOLDER names the folder that has it"
                                      f"{install}", name=name) from error
        if missing:
            raise ImportError(f"the module {name} imports {missing}, which is not installed: pip install "
                              f"{missing.partition('.')[0]}") from error
        if type(error) is ImportError:
            raise
        raise ImportError(f"the module {name} fails when it is imported ({type(error).__name__}: {error})") from error


def _refuse_code_of_runs(parts):
    """Raise ValueError if a module, or a package on the way to it, could be found in the directory of a run.

    Nothing is imported to see this: the packages on the way would run.
    """
    for folder in sys.path:
        for i, part in enumerate(parts):
            for suffix in SUFFIXES:
                place = pathlib.Path(folder, *parts[:i], part + suffix)
                run = _run_around(place) if os.path.lexists(place) else None
                if run:
                    raise ValueError(f"the module {'.'.join(parts)} is not imported, since {place} lies in the run "
                                     f"{run}, and a run may come from a stranger; expected a module elsewhere on "
                                     "PYTHONPATH")


def _run_around(place):
    """Return the directory of a run in which a file or a folder lies, also by way of a link; None if there is none."""
    for path in map(pathlib.Path, (os.path.abspath(place), os.path.realpath(place))):
        for folder in (path, *path.parents):
            if _is_run(folder):
                return folder
    return None


def _is_run(folder):
    """Return whether a folder is the directory of a run; other projects have files named config.json, too."""
    if not os.path.lexists(layout.config_path(folder)):
        return False
    try:
        reading.read_config(folder)
    except (ValueError, OSError):
        return layout.csv_path(folder, "train").exists()
    return True
