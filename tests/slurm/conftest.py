"""One SLURM for all tests of this folder."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(ROOT / "pipelines")]

from lab import Lab, why_not  # noqa: E402


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """A SLURM of two nodes with two GPUs each."""
    if reason := why_not():
        pytest.skip(reason)
    # Jobs inherit it: they import the code under test, and the steps of the tests.
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), str(HERE), before)))
    slurm = Lab(Path(tempfile.mkdtemp(prefix="lab-")))
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.stop()
        shutil.rmtree(slurm.folder, ignore_errors=True)
