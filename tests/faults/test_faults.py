"""Short runs of what `make faults` runs long: kills at random moments, hostile rows."""

import hostile
import pytest
from fault_scripts import start_fault_script


@pytest.mark.parametrize(("signal", "kills"), [("KILL", 10), ("TERM", 5), ("USR1", 5)])
def test_a_task_that_is_killed_again_and_again_ends_as_if_it_were_not(signal, kills):
    """Same rows as an undisturbed run, none missing or doubled, and no more than five seconds redone a kill."""
    result = start_fault_script("kill_and_resume", "--signal", signal, "--kills", kills, "--rows", 2000)
    assert result.returncode == 0, result.stderr[-3_000:]
    assert f"SIG{signal}: {kills} kills; 2,000 of 2,000 rows" in result.stdout


def test_the_kills_would_show_a_store_that_keeps_nothing():
    """The test above can fail: without a store that keeps scores, it does."""
    result = start_fault_script("kill_and_resume", "--kills", 7, "--rows", 1000, "--forgetful")
    assert "FAILED: a score was lost" in result.stderr


def test_an_annotation_that_is_killed_again_and_again():
    """The endpoint fails in every way meanwhile: rows in = labels and reasons, and few answers are given twice."""
    result = start_fault_script("kill_annotation", "--kills", 3)
    assert result.returncode == 0, result.stderr[-3_000:]
    assert "3 kills" in result.stdout and "of 9 kinds" in result.stdout


def test_hostile_rows_are_all_accounted_for(tmp_path):
    """Any JSON value anywhere, any text, broken lines: no exception escapes, and every row is written exactly once."""
    stats = hostile.run(tmp_path, 5_000)
    assert stats["total"] == 5_000
    assert len([name for name in stats if name.startswith("unscorable_")]) >= 15
    assert stats["scored"] > 1_000


def test_a_disturbed_run_ends_right_or_with_an_error():
    """One file access fails, is cut short or comes late, or bytes are corrupted where a digest can tell."""
    result = start_fault_script("inject", "--seeds", 20)
    assert result.returncode == 0, result.stderr[-3_000:]
    assert "20 seeds, none wrong without an error" in result.stdout
