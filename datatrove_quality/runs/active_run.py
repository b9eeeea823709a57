"""Which process is running into an output folder now, so that a second one does not write the same files.

The file `logs/active.json` names the process, its machine and the time. A process that was killed leaves it behind: on
the same machine the next run sees that the process has ended, and within a SLURM job that the job has. Jobs that wait
in SLURM's queue are found by their own record: slurm_queue.py.
"""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from datatrove.io import DataFolder
from loguru import logger

from datatrove_quality.runs.slurm_queue import is_in_queue


ACTIVE = "logs/active.json"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_GUARD = "logs/active.lock"


@dataclass(frozen=True)
class ActiveRun:
    """The process that runs into a folder.

    Args:
        pid: of the process.
        started: when the machine started it, in a form that only this machine reads: a later process of the same
            number has another. None: not known.
        host: the machine's name.
        since: date and time, for people.
        slurm_job: the SLURM job that the process is in. None: none.
    """

    pid: int
    started: str | None
    host: str
    since: str
    slurm_job: str | None = None

    @classmethod
    def of_this_process(cls) -> "ActiveRun":
        """The one that this process would be."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(os.getpid(), _start_of(os.getpid()), socket.gethostname(), now, os.environ.get("SLURM_JOB_ID"))

    @property
    def has_ended(self) -> bool | None:
        """Whether the process has ended; None: this machine cannot tell."""
        if self.host == socket.gethostname():
            started = _start_of(self.pid)
            return started is None if self.started is None else started != self.started
        if self.slurm_job:
            with suppress(ValueError, OSError):  # SLURM cannot be reached from here
                return not is_in_queue(self.slurm_job)
        return None


@contextmanager
def active_run(output: DataFolder) -> Iterator[None]:
    """Make this process the one that runs into a folder, until the block ends.

    Args:
        output: the run's folder.

    Raises:
        ValueError: another process is.
    """
    own = ActiveRun.of_this_process()
    with guarded(output):
        require_inactive(output)
        with output.open(ACTIVE, "w") as file:
            json.dump(asdict(own), file)
    try:
        yield
    finally:
        with suppress(OSError):
            if _recorded(output) == own:
                output.rm(ACTIVE)


def require_inactive(output: DataFolder) -> None:
    """Refuse a folder into which another process is running.

    Args:
        output: the run's folder.

    Raises:
        ValueError: there is one, or none can be ruled out; says which process, where and since when.
    """
    found = _recorded(output)
    if found is None or found.has_ended:
        return
    job = f" in SLURM job {found.slurm_job}" if found.slurm_job else ""
    raise ValueError(
        f"output={output.path!r}: a run is active: process {found.pid} on {found.host}{job}, since {found.since}. "
        + (
            "Wait for it, or end it first."
            if found.has_ended is False
            else "This machine cannot tell whether it still runs. If it has ended, delete "
            f"{output.resolve_paths(ACTIVE)}."
        )
    )


def _recorded(output: DataFolder) -> ActiveRun | None:
    """What the folder says; a file that a full disk cut off says nothing."""
    if not output.isfile(ACTIVE):
        return None
    try:
        with output.open(ACTIVE, "r") as file:
            return ActiveRun(**json.load(file))
    except FileNotFoundError:  # it has just ended
        return None
    except (ValueError, TypeError):
        return None


def _start_of(pid: int) -> str | None:
    """When a process started, in ticks since a boot that is named too; None: it has ended, or is a zombie."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state == "Z" else f"{_boot()}/{fields[18]}"
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return None
    try:  # a system without /proc
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "running"


def _boot() -> str:
    """What the system calls the time since it was started; empty where it shows processes alone."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


@contextmanager
def guarded(output: DataFolder) -> Iterator[None]:
    """A block in which one process at a time looks whose a folder is and makes it its own; where files can be locked.

    Args:
        output: the run's folder. An object store has no locks.
    """
    output.fs.makedirs(str(output.resolve_paths("logs")), exist_ok=True)
    if not output.is_local():
        yield
        return
    import fcntl

    with open(str(output.resolve_paths(_GUARD)), "w") as file:
        with suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                logger.warning(f"{output.path}: waiting for another run that takes this folder at this moment.")
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
