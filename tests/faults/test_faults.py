"""Short runs of what `make faults` runs long: kills at random moments, hostile rows."""

import subprocess
import sys
from pathlib import Path

import pytest


HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import hostile  # noqa: E402


@pytest.mark.parametrize(("signal", "kills"), [("KILL", 10), ("TERM", 5), ("USR1", 5)])
def test_a_task_that_is_killed_again_and_again_ends_as_if_it_were_not(signal, kills):
    """Same rows as an undisturbed run, none missing or doubled, and no more than five seconds redone a kill."""
    command = [sys.executable, str(HERE / "kill_and_resume.py"), "--signal", signal, "--kills", str(kills)]
    result = subprocess.run([*command, "--rows", "2000"], capture_output=True, text=True, timeout=500, check=False)
    assert result.returncode == 0, result.stderr[-3_000:]
    assert f"SIG{signal}: {kills} kills; 2,000 of 2,000 rows" in result.stdout


def test_the_kills_would_show_a_store_that_keeps_nothing():
    """The test above can fail: without a store that keeps scores, it does."""
    command = [sys.executable, str(HERE / "kill_and_resume.py"), "--kills", "7", "--rows", "1000", "--forgetful"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert "FAILED: a score was lost" in result.stderr


def test_hostile_rows_are_all_accounted_for(tmp_path):
    """Any JSON value anywhere, any text, broken lines: no exception escapes, and every row leaves by one door."""
    stats = hostile.run(tmp_path, 5_000)
    assert stats["total"] == 5_000
    assert len([name for name in stats if name.startswith("unscorable_")]) >= 15
    assert stats["scored"] > 1_000
