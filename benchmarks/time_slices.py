"""Processes that run in turns of a few seconds, so that a machine that gets slower does so for all of them."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from contextlib import suppress
from functools import partial
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any, Generic, TypeVar


T = TypeVar("T")

SECONDS_OF_SLICE = 2.0

# Seconds for which this process has been stopped; its parent writes it.
_stopped: Any = None


def clock() -> float:
    """Seconds, as `time.perf_counter` counts them, but for those in which this process was stopped."""
    return time.perf_counter() - (0.0 if _stopped is None else _stopped.value)


class Sliced(Generic[T]):
    """A function in a process of its own, which is stopped but in its turns, with all processes that it starts.

    Args:
        begin: called there first.
        function: whose result is wanted.
        arguments: of the function.
    """

    def __init__(self, begin: Callable[[], None], function: Callable[..., T], *arguments: Any):
        context = get_context("spawn")
        self.stopped = context.Value("d", 0.0, lock=False)  # a lock might be held by a process that is stopped
        self.pool = ProcessPoolExecutor(1, context, initializer=_start, initargs=(self.stopped, begin))
        self.call = partial(function, *arguments)
        self.process: int | None = None

    def start(self) -> None:
        """Start the process, and stop it until its first turn. Raises what hinders it."""
        process = self.pool.submit(os.getpid).result()
        self.result = self.pool.submit(self.call)
        self.process = process
        self._stop()

    def turn(self) -> bool:
        """Let it run for a slice; False if it has ended. Raises what it raised."""
        self.stopped.value += time.perf_counter() - self.since
        self._send(signal.SIGCONT)
        done, _ = wait([self.result], SECONDS_OF_SLICE)
        if done:
            self.result.result()
            self.pool.shutdown()
            return False
        self._stop()
        return True

    def end(self) -> None:
        """End a process that was started and has not ended well, and what it has started."""
        if self.process is not None and not (self.result.done() and self.result.exception() is None):
            self._send(signal.SIGKILL)

    def _stop(self) -> None:
        self._send(signal.SIGSTOP)
        self.since = time.perf_counter()

    def _send(self, number: int) -> None:
        assert self.process is not None
        with suppress(ProcessLookupError, PermissionError):  # it was killed by another process: its result tells
            os.killpg(self.process, number)


def in_turns(processes: Sequence[Sliced[T]]) -> list[T]:
    """Start processes and let them run in turns until all have ended: what they give, in their order.

    Raises:
        Exception: what one of them raised, or why it could not start; the others are ended.
    """
    try:
        for process in processes:
            process.start()
        running = list(processes)
        while running:
            running = [process for process in running if process.turn()]
        return [process.result.result() for process in processes]
    finally:
        for process in processes:
            process.end()


def _start(stopped: Any, begin: Callable[[], None]) -> None:
    global _stopped
    _stopped = stopped
    os.setpgrp()  # those that it starts are stopped and ended with it
    Thread(target=_end_with_parent, daemon=True).start()
    begin()


def _end_with_parent() -> None:
    """A terminal that is closed, say, tells only its own group."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.killpg(0, signal.SIGKILL)
