"""Time limits, which SLURM counts in minutes: these take some."""

import pytest
from lab import run, wait_for
from slurm_runs import at_gate, filter_stats, log_of_jobs, require_same_rows


pytestmark = pytest.mark.slurm_long


def test_a_task_near_its_time_limit_requeues_itself(lab, gated, local, tmp_path):
    """The signal before the limit reaches the task, which starts again by itself, with the scores that it had."""
    executor = gated(1, time="2")
    wait_for(lambda: len(at_gate(tmp_path)) == 1, "the task at the gate")
    wait_for(lambda: len(at_gate(tmp_path)) == 2, "the task at the gate again", seconds=240)
    (tmp_path / "gate" / "open").touch()
    executor.wait()
    assert executor.get_incomplete_ranks() == []
    require_same_rows(tmp_path / "out", local, range(1))
    [stats] = filter_stats(tmp_path / "out/logs").values()
    assert stats["from_store"] == stats["scored"] > 0
    assert "Received signal" in log_of_jobs(tmp_path / "out/logs")


def test_a_task_beyond_its_time_limit_goes_on_when_started_again(lab, gated, local, tmp_path):
    """Killed at the limit, a task is not requeued; the same command runs it again, with the scores that it had."""
    executor = gated(1, time="1", sbatch=("signal=CONT@1",))
    wait_for(lambda: len(at_gate(tmp_path)) == 1, "the task at the gate")
    wait_for(lambda: not run("squeue", "-h", "-j", executor.job_id), "the time limit", seconds=240)
    assert "TIMEOUT" in run("scontrol", "show", "job", executor.job_id)
    assert executor.get_incomplete_ranks() == [0]
    (tmp_path / "gate" / "open").touch()
    again = gated(1)
    again.wait()
    assert again.get_incomplete_ranks() == []
    require_same_rows(tmp_path / "out", local, range(1))
    [stats] = filter_stats(tmp_path / "out/logs").values()
    assert stats["from_store"] == stats["scored"] > 0
