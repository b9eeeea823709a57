"""Files of records that a task which starts again finds: appended to by one process, from a thread of its own."""

import atexit
import errno
import os
import socket
import threading
import time
import uuid
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem


ENDING = ".scores"
# A record is kept within five seconds: four are left to a slow disk.
SECONDS_BETWEEN_COMMITS = 1.0
SECONDS_BETWEEN_PARTS = 60.0
SECONDS_AFTER_A_FAILURE = 60.0
MAX_WAITING_LINES = 100_000


class _Sink(Protocol):
    """Where a process's records go."""

    def append(self, data: bytes) -> None: ...

    def sync(self) -> None: ...

    def close(self) -> None: ...


class _LocalFile:
    """A local file that only this process writes to."""

    def __init__(self, path: str, header: bytes):
        self._descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o666)
        self._header = header

    def append(self, data: bytes) -> None:
        data = self._header + data
        while data:
            data = data[os.write(self._descriptor, data) :]
        self._header = b""

    def sync(self) -> None:
        os.fsync(self._descriptor)
        if not os.fstat(self._descriptor).st_nlink:
            raise FileNotFoundError(errno.ENOENT, "the file was deleted while it was written")

    def close(self) -> None:
        os.close(self._descriptor)


class _Objects:
    """Objects that are written once, each with the header."""

    def __init__(self, fs: AbstractFileSystem, stem: str, header: bytes):
        self._fs = fs
        self._stem = stem
        self._header = header
        self._count = 0

    def append(self, data: bytes) -> None:
        path = f"{self._stem}-{self._count:05d}{ENDING}"
        self._count += 1  # first: what seems to have failed may have arrived, and is not written over
        self._fs.pipe_file(path, self._header + data)

    def sync(self) -> None:
        """An object is whole once it is written."""

    def close(self) -> None:
        """Nothing is open between two parts."""


class Writer:
    """Writes lines from a thread of its own, so that they are kept even while the consumer is busy.

    Args:
        open_sink: opens what is written to; called once there is something to write, and again after a failure.
        seconds: between two commits.
        warn: told of a failure.
    """

    def __init__(self, open_sink: Callable[[], _Sink], seconds: float, warn: Callable[[str, object], None]):
        self._open_sink = open_sink
        self._seconds = seconds
        self._warn = warn
        self._lines: list[bytes] = []
        # Reentrant: a garbage collection may close an abandoned stream in the midst of anything.
        self._adding = threading.RLock()
        self._writing = threading.RLock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._sink: _Sink | None = None
        self._synced = True
        self._not_before = 0.0
        # A traceback that is held somewhere keeps the pipeline's generators, and so this, from being closed.
        # Registered before the stream that adds to it, it is closed after that.
        atexit.register(self.close)

    def add(self, line: bytes) -> None:
        """Have a line written within some seconds; from any thread."""
        with self._adding:
            self._lines.append(line)
            if self._thread is None:
                self._thread = threading.Thread(target=self._commit_regularly, name="checkpoints", daemon=True)
                self._thread.start()

    def write(self) -> None:
        """Hand all lines to the sink now, unless it has just failed: then they wait."""
        with self._writing:
            if time.monotonic() < self._not_before and not self._closing.is_set():
                return
            with self._adding:
                lines, self._lines = self._lines, []
            if lines and not self._append(b"".join(lines)):
                with self._adding:
                    self._lines[:0] = lines[-MAX_WAITING_LINES:]

    def close(self) -> None:
        """Write what waits, bring it to the disk, and end the thread; a second call does nothing."""
        atexit.unregister(self.close)
        if self._thread is None or self._closing.is_set():
            return
        self._closing.set()
        if self._thread is not threading.current_thread():
            self._thread.join()
        self.write()
        self._sync()
        self._drop_sink()

    def _commit_regularly(self) -> None:
        while not self._closing.wait(self._seconds):
            self.write()
            self._sync()

    def _append(self, data: bytes) -> bool:
        try:
            self._sink = self._sink or self._open_sink()
            self._sink.append(data)
        except Exception as error:  # whatever the file system of an address raises
            self._fail(error)
            return False
        self._synced = False
        return True

    def _sync(self) -> None:
        sink = self._sink
        if self._synced or sink is None:
            return
        self._synced = True
        try:
            sink.sync()
        except OSError as error:
            # Not while another thread writes: a closed file's number may already be another file's.
            with self._writing:
                if self._sink is sink:
                    self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Go on later, with another file: what is wrong with this one may last, and it may end in half a line."""
        self._warn("write", error)
        self._drop_sink()
        self._not_before = time.monotonic() + SECONDS_AFTER_A_FAILURE

    def _drop_sink(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            with suppress(OSError):
                sink.close()


class RankFiles:
    """The files of a rank in a folder: those of earlier processes, and one that this process appends to.

    Args:
        address: a path or an fsspec address.
        name: of the folder there.
        rank: which task this is.
        header: gives what a new file, or each part of it, begins with.
        warn: told of a failure.
    """

    def __init__(
        self, address: str, name: str, rank: int, header: Callable[[], bytes], warn: Callable[[str, object], None]
    ):
        self.fs, self.root = url_to_fs(address)
        self.folder = f"{self.root.rstrip('/')}/{name}"
        self.is_local = isinstance(self.fs, LocalFileSystem)
        self._rank = rank
        self._header = header
        self.writer = Writer(self._open, SECONDS_BETWEEN_COMMITS if self.is_local else SECONDS_BETWEEN_PARTS, warn)

    def paths(self) -> list[str]:
        """The files of earlier processes, sorted. Raises whatever the file system of an address does."""
        self.fs.invalidate_cache(self.folder)
        try:
            found = self.fs.ls(self.folder, detail=False)
        except FileNotFoundError:
            return []
        names = ((path, path.rpartition("/")[2]) for path in found)
        return sorted(path for path, name in names if name.startswith(f"{self._rank:05d}_") and name.endswith(ENDING))

    def save(self) -> None:
        """Hand what was added to the operating system, so that it outlives this process; a part waits for its time."""
        if self.is_local:
            self.writer.write()

    def _open(self) -> _Sink:
        self.fs.makedirs(self.folder, exist_ok=True)
        path = f"{self.folder}/{self._rank:05d}_{_job()}_{uuid.uuid4().hex[:8]}"  # which no other process has
        return (
            _LocalFile(f"{path}{ENDING}", self._header()) if self.is_local else _Objects(self.fs, path, self._header())
        )


def _job() -> str:
    """What a person finds a file's process by: SLURM's job and restart, else host and process."""
    job = os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID")
    return f"{job}.{os.environ.get('SLURM_RESTART_COUNT', '0')}" if job else f"{socket.gethostname()}.{os.getpid()}"


def checked(payload: bytes, salt: int = 0) -> bytes:
    """A line with its checksum."""
    return b"%s %08x\n" % (payload, zlib.crc32(payload, salt))


def unchecked(line: bytes, salt: int = 0) -> bytes | None:
    """A line without its checksum; None where that is wrong."""
    payload, _, checksum = line.rpartition(b" ")
    return payload if checksum == b"%08x\n" % zlib.crc32(payload, salt) else None
