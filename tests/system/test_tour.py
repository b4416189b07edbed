"""tour.ipynb runs as it stands, and comes to what it promises."""

import os
import re

import pytest

from helpers.short_runs import ROOT

TOUR = ROOT / "tour.ipynb"


def run_tour(folder):
    """Execute the notebook in a folder that shows what the repository has; return the notebook with its outputs."""
    import nbclient
    import nbformat
    for name in "agents", "presets":
        (folder / name).symlink_to(ROOT / name)
    notebook = nbformat.read(TOUR, as_version=4)
    environment = os.environ | dict(PYTHONPATH=str(ROOT), SDL_VIDEODRIVER="dummy")
    client = nbclient.NotebookClient(notebook, timeout=300, resources=dict(metadata=dict(path=str(folder))))
    client.execute(env=environment)
    return notebook


@pytest.mark.optional
def test_the_tour_runs_from_its_first_cell_to_its_last(tmp_path):
    cells = [cell for cell in run_tour(tmp_path).cells if cell.cell_type == "code"]
    said = "".join(output.get("text", "") for cell in cells for output in cell.outputs)
    assert re.search(r"it goes (left|right) and remembers \[\(1, 64\), \(1, 64\), \(1, 2\)\]", said)
    r2 = {name: float(value) for name, value in re.findall(r"^([a-z ]+?) +R² (-?\d\.\d\d)$", said, re.M)}
    assert list(r2) == ["position", "velocity", "angle", "angular velocity"]
    assert min(r2["position"], r2["angle"]) > 0.5
    assert "best evaluation: 1.0" in said
    assert (tmp_path / "runs/tour.mp4").stat().st_size > 10_000
    assert any("image/png" in output.get("data", {}) for output in cells[-1].outputs)
