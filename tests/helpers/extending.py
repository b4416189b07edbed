"""The Python of docs/extending.md, and the modules that the page has a user write."""

import pathlib
import re

EXTENDING = pathlib.Path(__file__).parents[2] / "docs/extending.md"
PYTHON = re.findall(r"^```python\n(.*?)^```$", EXTENDING.read_text(), re.M | re.S)


def write_modules(folder):
    """Write the modules of the page where a user would: into a folder that is on the path of Python."""
    for block in PYTHON:
        name = block.partition("\n")[0]
        if name.startswith("# my_"):
            (folder / name.removeprefix("# ")).write_text(block)
