"""Fixtures of the tests of storage."""

import pytest

from helpers.disks import small_disk
from helpers.run_parts import NUM_ENVS
from storage import checkpoints


@pytest.fixture
def small_segments(monkeypatch):
    """Let a segment of the replay hold 8 rows."""
    monkeypatch.setattr(checkpoints, "SEGMENT_TIMESTEPS", 8 * NUM_ENVS)


@pytest.fixture
def disk(tmp_path):
    """Yield a small disk that the test can fill."""
    with small_disk(tmp_path / "disk") as disk:
        yield disk
