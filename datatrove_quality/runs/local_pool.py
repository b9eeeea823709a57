"""Runs the tasks of a pipeline in processes of this machine, and ends when one of them is killed.

DataTrove's own pool waits for ever for the result of a worker that the system killed, and leaves its helpers behind
when it is killed itself. Here the parent waits for each worker's end as well as for its results, and each worker ends
as soon as its parent has.
"""

import os
import pickle
import queue
import signal
import threading
import traceback
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import multiprocess
from datatrove.executor import LocalPipelineExecutor
from datatrove.utils.stats import PipelineStats
from loguru import logger
from multiprocess.reduction import ForkingPickler

from datatrove_quality.runs.completed_tasks import IncompleteRun, OwnCompletions
from datatrove_quality.runs.terminal import is_quiet, quiet_stderr, rewording, shorten_logged_errors


# How long workers that were told to end may take, before they are killed.
SECONDS_TO_END = 10.0


class LocalExecutor(OwnCompletions, LocalPipelineExecutor):
    """A local executor whose run ends when a worker is killed, and which no process of it outlives.

    Its workers show as much of the log as the process that starts them.

    Args:
        arguments: as those of `LocalPipelineExecutor`.
        options: likewise.
    """

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.quiet = is_quiet()
        self.reword = rewording()

    def run(self) -> PipelineStats | None:
        """Run the tasks that are not completed, `workers` at a time.

        Returns:
            The statistics of the tasks that ran; None if there was nothing to do.

        Raises:
            IncompleteRun: a worker process was killed.
            Exception: whatever a task raised.
        """
        self._launched = True
        ranks = self.get_incomplete_ranks()
        if not ranks:
            logger.info(f"All {self.tasks} tasks have been completed.")
            return None
        if len(ranks) < self.tasks:
            logger.info(f"Skipping {self.tasks - len(ranks)} completed tasks")
        self.save_executor_as_json()
        results = self._run_here(ranks) if self.workers == 1 else _run_in_workers(self, ranks)
        stats: PipelineStats = sum(results, start=PipelineStats())
        with self.logging_dir.open("stats.json", "wt") as file:
            stats.save_to_disk(file)
        logger.success(stats.get_repr(f"All {self.tasks} tasks"))
        return stats

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> PipelineStats:
        # DataTrove sets up a task's log in here, and the default one at its end: both write to this stream.
        if self.quiet:
            shorten_logged_errors()
        with quiet_stderr(self.quiet, self.reword):
            return super()._run_for_rank(rank, local_rank, node_rank)

    def _run_here(self, ranks: Sequence[int]) -> list[PipelineStats]:
        pipeline = self.pipeline
        places = _places(0)
        stats = []
        try:
            for rank in ranks:
                self.pipeline = deepcopy(pipeline)
                stats.append(self._launch_run_for_rank(rank, places))
        finally:
            self.pipeline = pipeline
        return stats


@dataclass
class _Worker:
    """A process that runs one task after the other.

    Args:
        process: of the worker.
        tasks: the parent's end of its pipe: ranks go out, statistics or errors come in.
        rank: the task it runs; None: none.
    """

    process: Any
    tasks: Connection
    rank: int | None = None


@dataclass
class _Pool:
    """The workers of a run, and what is left for them to do."""

    executor: LocalExecutor
    waiting: deque[int]
    completed: int
    workers: list[_Worker] = field(default_factory=list)
    stats: list[PipelineStats] = field(default_factory=list)
    ooms: int = 0

    def start(self) -> None:
        """Start the processes and give each its first task."""
        self.ooms = _oom_kills()
        context = cast(Any, multiprocess).get_context(self.executor.start_method)
        context.set_forkserver_preload([])  # see main_guard
        payload = bytes(ForkingPickler.dumps(self.executor))
        for place in range(min(self.executor.workers, len(self.waiting))):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(payload, place, theirs), name=f"worker-{place}", daemon=True)
            process.start()
            theirs.close()
            worker = _Worker(process, ours)
            self.workers.append(worker)
            self.give_task(worker)

    def give_task(self, worker: _Worker) -> None:
        """Send a worker the next task; without one, it ends."""
        worker.rank = self.waiting.popleft() if self.waiting else None
        with suppress(BrokenPipeError):  # it was killed: its end is seen by `wait`
            worker.tasks.send(worker.rank)

    def next(self) -> None:
        """Wait until a worker has done something, and take it in.

        Raises:
            IncompleteRun: a worker was killed.
            Exception: whatever its task raised.
        """
        running = {worker.tasks: worker for worker in self.workers if worker.rank is not None}
        for ready in wait(list(running)):
            worker = running[ready]  # type: ignore[index]
            try:
                result = worker.tasks.recv()
            except (EOFError, OSError, pickle.UnpicklingError):
                raise self.killed(worker) from None
            if isinstance(result, BaseException):
                raise result
            self.stats.append(result)
            self.completed += 1
            logger.info(f"{self.completed}/{self.executor.tasks} tasks completed.")
            self.give_task(worker)

    def killed(self, worker: _Worker) -> IncompleteRun:
        """Why a worker ended, as far as this process can tell."""
        worker.process.join(SECONDS_TO_END)
        code = worker.process.exitcode
        how = f"ended with code {code}"
        if code is not None and code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        why = ""
        if code == -signal.SIGKILL:
            seen = _oom_kills() > self.ooms
            why = (
                ". The kernel has just ended a process for lack of memory: give it more, or fewer workers"
                if seen
                else ". Perhaps there was too little memory (dmesg, or the job's log, may tell): try fewer workers"
            )
        log = self.executor.logging_dir.resolve_paths(f"logs/task_{worker.rank:05d}.log")
        return IncompleteRun(
            f"The worker process {worker.process.pid} {how} while it ran task {worker.rank}{why}. Its log: {log}. The "
            "same command runs only what is missing."
        )

    def end(self) -> None:
        """Leave no process behind."""
        for worker in self.workers:
            worker.tasks.close()  # an idle worker ends, and so does one that is done
        for worker in self.workers:
            if worker.rank is not None:
                worker.process.terminate()
        for worker in self.workers:
            worker.process.join(SECONDS_TO_END)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()


def _run_in_workers(executor: LocalExecutor, ranks: Sequence[int]) -> list[PipelineStats]:
    pool = _Pool(executor, deque(ranks), executor.tasks - len(ranks))
    try:
        pool.start()
        while any(worker.rank is not None for worker in pool.workers):
            pool.next()
    finally:
        pool.end()
    return pool.stats


def _work(payload: bytes, place: int, tasks: Connection) -> None:
    """Run the tasks that come through a pipe, until it is closed or gives None."""
    _end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and ends its workers
    places = _places(place)
    with suppress(EOFError):
        while (rank := tasks.recv()) is not None:
            try:
                # Each task has steps of its own, as if it were the first.
                result: Any = ForkingPickler.loads(payload)._launch_run_for_rank(rank, places)
            except Exception as error:
                result = _sendable(error, rank)
            tasks.send(result)


def _places(place: int) -> Any:
    """In the shape of DataTrove's queue of places, by which only one worker logs to the terminal."""
    places: queue.SimpleQueue[int] = queue.SimpleQueue()
    places.put(place)
    return SimpleNamespace(get=places.get, put=places.put)


def _sendable(error: Exception, rank: int) -> Exception:
    """The error with its traceback as a note, in a form that another process can read."""
    error.add_note(f"In task {rank}:\n{traceback.format_exc()}")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever an error of some library needs to be made again
        return RuntimeError(f"task {rank}: {type(error).__name__}: {error}")
    return error


def _end_with_parent() -> None:
    """End this process when its parent has ended, whatever it is computing."""
    parent = cast(Any, multiprocess).parent_process()

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _oom_kills() -> int:
    """How many processes the kernel has ended for lack of memory, here and in this process's cgroup."""
    total = 0
    with suppress(OSError, ValueError, IndexError):
        group = Path("/proc/self/cgroup").read_text().splitlines()[-1].rpartition(":")[2]
        for folder in (Path(f"/sys/fs/cgroup{group}"), Path("/sys/fs/cgroup")):
            total += _counter(folder / "memory.events", "oom_kill")
    return total + _counter(Path("/proc/vmstat"), "oom_kill")


def _counter(path: Path, name: str) -> int:
    with suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return 0
