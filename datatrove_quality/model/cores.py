"""How many threads this process computes with: its part of the cores, while other processes score there too.

torch takes all cores of a machine in each process, and processes that do wait for each other's threads. A user's
processes of this package know of each other as they do for GPUs (leases.py), and look again every few seconds, since
others start and end. A process that is pinned to cores, has a cgroup's CPU quota or runs in a SLURM task divides only
what it has.
"""

import math
import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType

from loguru import logger

from datatrove_quality.model import leases


# torch reads them: a user who sets one has chosen the number.
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
SECONDS_BETWEEN_LOOKS = 2.0
LEASE = "cores"


@dataclass(frozen=True)
class Bounds:
    """What a process may use of the machine's cores.

    Args:
        cores: their numbers.
        budgets: how many cores all processes of a group may use together, by the group's name: a cgroup with a quota,
            a SLURM task.
    """

    cores: frozenset[int]
    budgets: Mapping[str, Fraction] = field(default_factory=dict)


def part_of_cores(process: int, bounds: Mapping[int, Bounds], threads: int) -> int:
    """How many threads one of several processes computes with.

    Each core is divided evenly among the processes that may use it, and so is each budget. What is left over goes to
    the processes with the highest ids.

    Args:
        process: its id.
        bounds: of each process that computes, by its id; this one among them.
        threads: of this process, if it were alone. Fewer than its cores where two of them are one physical core.

    Returns:
        At least 1.
    """
    own = bounds[process]
    sharing = [[one for one, other in bounds.items() if core in other.cores] for core in own.cores]
    of_cores = Fraction(threads, len(own.cores)) * sum(Fraction(1, len(processes)) for processes in sharing)
    limits = [(of_cores, sorted({one for processes in sharing for one in processes}))]
    for name, budget in own.budgets.items():
        processes = sorted(one for one, other in bounds.items() if name in other.budgets)
        limits.append((budget / len(processes), processes))
    part, processes = min(limits)
    return max(1, math.floor(part + Fraction(processes.index(process), len(processes))))


def bounds_of(process: int, root: Path = Path("/")) -> Bounds:
    """What a process may use, by its CPU affinity, its cgroups and its environment.

    Args:
        process: an id. Where nothing can be learned of it, it may use what this process may.
        root: of the file system.
    """
    if not hasattr(os, "sched_getaffinity"):
        return Bounds(frozenset(range(os.cpu_count() or 1)))
    try:
        cores = frozenset(os.sched_getaffinity(process))
    except OSError:  # in another container, maybe
        return bounds_of(os.getpid(), root)
    folder = root / "proc" / str(process)
    return Bounds(cores, _quotas(folder, root / "sys/fs/cgroup") | _slurm_task(folder))


def _quotas(process: Path, cgroups: Path) -> dict[str, Fraction]:
    """The CPU quotas of a process's cgroup and of those above it, by the folder; of versions 1 and 2."""
    found: dict[str, Fraction] = {}
    for line in _read(process / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mounted = cgroups / controllers if controllers else cgroups
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts) + 1):
            folder = mounted.joinpath(*parts[:depth])
            words = _read(folder / "cpu.max").split() or [
                *_read(folder / "cpu.cfs_quota_us").split(),
                *_read(folder / "cpu.cfs_period_us").split(),
            ]
            if len(words) == 2 and words[0].isdigit() and int(words[1]):
                found[str(folder)] = Fraction(int(words[0]), int(words[1]))
    return found


def _slurm_task(process: Path) -> dict[str, Fraction]:
    """The cores of the SLURM task that a process belongs to, where SLURM says how many they are."""
    variables = dict(line.split("=", 1) for line in _read(process / "environ").split("\0") if "=" in line)
    number = variables.get("SLURM_CPUS_PER_TASK", "")
    if not number.isdigit() or not int(number):
        return {}
    task = [variables.get(f"SLURM_{name}", "") for name in ("JOB_ID", "STEP_ID", "PROCID")]
    return {f"SLURM task {'.'.join(task)}": Fraction(int(number))}


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


class Threads:
    """The threads of torch's operations in one thread that computes: a context manager, within which it computes.

    A number that the user has set, by one of `VARIABLES` or by `torch.set_num_threads`, is left as it is. One of all
    cores, which is what torch takes without being told, cannot be told from that.
    """

    def __init__(self) -> None:
        self._looked = -math.inf
        self._last_part: int | None = None

    def __enter__(self) -> "Threads":
        _process.enter()
        self.adjust()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _process.leave()

    def adjust(self) -> None:
        """Look how many others compute now, at most every few seconds, and take this process's part of the cores.

        Fewer are taken at once, more only at the second look: between two tasks a process gives its part back.
        """
        now = time.monotonic()
        if now - self._looked < SECONDS_BETWEEN_LOOKS:
            return
        is_first = self._looked == -math.inf
        self._looked = now
        self._last_part = _process.set_threads(self._last_part, is_first)


class _Process:
    """What all threads of this process that compute share: one lease, and the numbers that were set."""

    def __init__(self) -> None:
        self.undivided: int | None = None
        self._lock = threading.RLock()
        self._computing = 0
        self._set: set[int] = set()
        self._said = ""

    def enter(self) -> None:
        with self._lock:
            self._computing += 1
            with suppress(OSError, ValueError):  # without the folder processes cannot divide: `_processes` says so
                leases.register([LEASE])

    def leave(self) -> None:
        with self._lock:
            self._computing -= 1
            if self._computing == 0:
                leases.release(LEASE)

    def set_threads(self, last_part: int | None, is_first: bool) -> int | None:
        import torch

        with self._lock:
            present = torch.get_num_threads()
            if is_chosen(present, self._set):
                self._say(f"Threads that compute: {present}, the number that was set.")
                return None
            if self.undivided is None:
                self.undivided = present
                self._set.add(present)
            processes = self._processes()
            part = part_of_cores(os.getpid(), {one: bounds_of(one) for one in processes}, self.undivided)
            if is_first or part < present or part == last_part:
                if part != present:
                    torch.set_num_threads(part)
                    self._set.add(part)
                self._say(f"Threads that compute: {part}. This user's processes that score here: {len(processes)}.")
            return part

    def _processes(self) -> Sequence[int]:
        try:
            found = leases.holders(LEASE)
        except (OSError, ValueError) as error:
            self._say(f"Processes that score on this machine cannot divide its cores: {error}")
            found = []
        return sorted({*found, os.getpid()})

    def _say(self, what: str) -> None:
        if what != self._said:
            self._said = what
            logger.info(what)


_process = _Process()


def _start_again() -> None:
    """In a forked child no thread computes, and one of the parent's may hold the lock."""
    global _process
    _process = _Process()


os.register_at_fork(after_in_child=_start_again)


def undivided_threads() -> int | None:
    """The threads that this process would compute with if it were alone; None before it computes, or where chosen."""
    return _process.undivided


def is_chosen(threads: int, ours: Iterable[int]) -> bool:
    """Whether the user has set the number of threads: neither torch's default nor one that was set here.

    Args:
        threads: torch's present number.
        ours: the numbers that were set here.
    """
    return any(os.environ.get(name) for name in VARIABLES) or threads not in {*ours, *_defaults()}


def _defaults() -> set[int]:
    """The numbers that torch may take by itself: the logical or the physical cores, of the process or the machine."""
    everything = frozenset(range(os.cpu_count() or 1))
    found = set()
    for cores in (everything, bounds_of(os.getpid()).cores):
        found |= {len(cores), len({_siblings(core) or str(core) for core in cores})}
    return found


def _siblings(core: int) -> str:
    return _read(Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list"))
