"""Which SLURM this machine reaches, and which jobs of a run are in its queue."""

import os
import shutil
import subprocess

from datatrove.io import DataFolder


# In a folder of logs, the ids of the jobs that were queued for it.
JOBS = "slurm_jobs.txt"
# A controller that does not answer within so many seconds is not reachable.
PING_SECONDS = 30


def require_login_node() -> None:
    """Refuse to queue jobs where no SLURM controller answers, or from within a task of one.

    Raises:
        ValueError: says which, and what to do.
    """
    if "SLURM_ARRAY_TASK_ID" in os.environ:
        raise ValueError(
            "executor='slurm': this is itself a task of a SLURM array, which DataTrove would take for one of its own. "
            "Start it on the login node, or run it here with executor='local'."
        )
    if reason := _why_no_controller():
        raise ValueError(
            f"executor='slurm': no SLURM controller is reachable from this machine ({reason}). Start it on the "
            "cluster's login node, or set executor='local'."
        )


def _why_no_controller() -> str | None:
    """Why no job can be queued from this machine; None: a controller answers."""
    if shutil.which("sbatch") is None:
        return "there is no sbatch in PATH"
    try:
        answer = subprocess.run(["scontrol", "ping"], capture_output=True, text=True, timeout=PING_SECONDS)
    except FileNotFoundError:  # an installation without scontrol: sbatch itself will say
        return None
    except subprocess.TimeoutExpired:
        return f"scontrol ping had no answer within {PING_SECONDS} s"
    if answer.returncode:
        return f"scontrol ping says: {' '.join((answer.stdout + answer.stderr).split())}"
    return None


def require_none_queued(logs: DataFolder) -> None:
    """Refuse to run beside jobs that an earlier start has queued: they would write the same files.

    Args:
        logs: of a run, or of one stage of it.

    Raises:
        ValueError: such jobs are in SLURM's queue, or SLURM cannot be reached.
    """
    records = [JOBS, *logs.glob(f"stages/*/{JOBS}")]
    if jobs := [job for record in records for job in active_jobs(logs, record)]:
        raise ValueError(
            f"{logs.path}: jobs {', '.join(jobs)} of an earlier start are still in the queue. Wait for "
            f"them (squeue -j {','.join(jobs)}), or end them with `scancel {' '.join(jobs)}` first."
        )


def active_jobs(logs: DataFolder, record: str = JOBS) -> list[str]:
    """The ids of a stage's jobs that SLURM has in its queue, waiting or running.

    Raises:
        ValueError: SLURM cannot be reached.
    """
    if not logs.isfile(record):
        return []
    with logs.open(record, "r") as file:
        jobs = file.read().split()
    if jobs and shutil.which("squeue") is None:
        raise ValueError(
            f"{logs.resolve_paths(record)} names SLURM's jobs {', '.join(jobs)}, and without squeue this machine "
            "cannot say whether they are still in the queue. Start it on the login node; or, if they have ended, "
            "delete that file."
        )
    return [job for job in jobs if is_in_queue(job)]


def is_in_queue(job: str) -> bool:
    """Whether SLURM has a job in its queue, waiting or running.

    Raises:
        ValueError: SLURM cannot be reached.
        OSError: there is no squeue.
    """
    answer = subprocess.run(["squeue", "-h", "-o", "%A", "-j", job], capture_output=True, text=True)
    if answer.returncode and "Invalid job id" not in answer.stderr:  # which is one that SLURM has forgotten
        raise ValueError(
            f"squeue cannot say whether job {job} is still in the queue: {answer.stderr.strip()}. Try again later."
        )
    return answer.returncode == 0 and bool(answer.stdout.strip())
