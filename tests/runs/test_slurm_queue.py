"""Which SLURM is reached, and which jobs of a run are in its queue."""

import os

import pytest
from executors import make
from slurm_stand_in import program, slurm_executor

from datatrove_quality.runs import slurm as slurm_jobs


def test_no_slurm_on_the_machine(tmp_path, monkeypatch):
    """Without SLURM the message says that no controller is reachable, and that there are other ways."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"no SLURM controller is reachable .*no sbatch in PATH.*executor='local'"):
        make(tmp_path / "logs", "slurm")
    assert not (tmp_path / "logs").exists() or not any((tmp_path / "logs").iterdir())


@pytest.mark.parametrize("record", ["slurm_jobs.txt", "stages/1-clean/slurm_jobs.txt"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_local_run_beside_queued_jobs_is_refused(tmp_path, monkeypatch, record, overwrite):
    """Queued jobs that start after a local run with another threshold would mix their rows with its."""
    logs = tmp_path / "logs"
    (logs / record).parent.mkdir(parents=True)
    (logs / record).write_text("12\n13\n")
    program(
        tmp_path / "bin",
        "squeue",
        """
[ "${@: -1}" = 12 ] && { echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1; }
echo "${@: -1}"
""",
    )
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with pytest.raises(ValueError, match="jobs 13 of an earlier start are still in the queue"):
        make(logs, overwrite=overwrite)
    program(tmp_path / "bin", "squeue", "echo 'Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(ValueError, match="job 12 is still in the queue: Unable to contact"):
        make(logs, overwrite=overwrite)
    program(tmp_path / "bin", "squeue", "true")
    make(logs, overwrite=overwrite)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ValueError, match=r"jobs.txt names SLURM's jobs 12, 13.*delete that file"):
        make(logs, overwrite=overwrite)


def test_waiting_survives_a_squeue_that_fails(tmp_path, monkeypatch):
    """A controller that restarts does not end --wait while the jobs run."""
    executor = slurm_executor(tmp_path / "logs")
    executor.job_id = "12"
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "slurm_jobs.txt").write_text("12\n")
    calls = tmp_path / "calls"
    program(
        tmp_path / "bin",
        "squeue",
        f"""
echo >> {calls}
case $(wc -l < {calls}) in
    1|2) echo 'Unable to contact slurm controller' >&2; exit 1;;
    3) echo 12;;
esac
""",
    )
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm_jobs, "POLL_SECONDS", 0)
    warnings: list[str] = []
    sink = slurm_jobs.logger.add(warnings.append, level="WARNING")
    executor.wait()
    slurm_jobs.logger.remove(sink)
    assert len(calls.read_text().splitlines()) == 4
    assert len(warnings) == 1 and "Unable to contact" in warnings[0]
