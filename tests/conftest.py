"""Fixtures that every kind of test shares."""

import os
from pathlib import Path

import pytest

# Two workers with as many threads each as there are cores wait for each other most of the time, and a test
# that forks to be killed must not have started OpenMP threads, which do not survive a fork.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data for both kinds of track, beside the project; the test is skipped where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("../shared/data is not here")
    return folder
