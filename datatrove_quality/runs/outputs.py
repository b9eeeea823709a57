"""DataTrove's writers, and its other steps with output, whose files here appear under their names when complete.

A kill, a failure or a second copy of a task leaves no part of a file where a reader would take it for a whole one. A
writer's file that is complete removes what others of its name left unfinished: a killed task, or a second copy that is
still running, which gives way to it.
"""

import contextlib
import glob
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from datatrove.data import Document
from datatrove.io import DataFolder, OutputFileManager, get_datafolder
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.writers import JsonlWriter, ParquetWriter
from datatrove.pipeline.writers.disk_base import DiskWriter
from loguru import logger

from datatrove_quality.rows.arrow_values import record_batch
from datatrove_quality.rows.json_values import size_of
from datatrove_quality.runs.claim import Claim
from datatrove_quality.runs.sealed_folder import SealedFolder, write_seal


ID_LENGTH = 8
WAITING_BYTES = 16 * 2**20
"""Of rows that wait to be written as Parquet: a thousand with large columns would take gigabytes."""


class WholeFiles(DiskWriter):
    """What a DataTrove writer needs to write whole files only; to be named before the writer among the base classes.

    Args:
        output_folder: where the files appear.
        unfinished: a folder of this writer's alone, on the same file system, for files that are being written.
        options: the writer's own.
    """

    def __init__(self, output_folder: str, unfinished: str, **options: Any):
        super().__init__(output_folder, **options)
        self.output_mg: _UnfinishedFiles = _UnfinishedFiles(self.output_mg, get_datafolder(unfinished))
        self.claim: Claim | None = None

    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        complete = False
        try:
            super().__exit__(exc_type, exc_val, exc_tb)
            complete = exc_type is None
        finally:
            self.output_mg.settle(self.output_folder, complete, self.claim)


class WholeJsonlWriter(WholeFiles, JsonlWriter):
    """A `JsonlWriter` of whole files."""


class WholeParquetWriter(WholeFiles, ParquetWriter):
    """A `ParquetWriter` of whole files, with columns of extension types too; rows that wait are bounded by bytes."""

    _waiting_bytes = 0

    def _write(self, document: dict, file_handler: Any, filename: str) -> None:
        super()._write(document, file_handler, filename)
        self._waiting_bytes += size_of(document)
        if self._waiting_bytes > WAITING_BYTES:
            for waiting in list(self._batches):
                self._write_batch(waiting)

    def _write_batch(self, filename: str) -> None:
        self._waiting_bytes = 0
        if self._batches[filename]:
            self._writers[filename].write_batch(record_batch(self._batches.pop(filename), self.schema))


class _UnfinishedFiles(OutputFileManager):
    """Opens files under unique names."""

    def __init__(self, files: OutputFileManager, folder: DataFolder):
        super().__init__(folder, files.mode, files.compression)
        self._paths: dict[str, str] = {}

    def get_file(self, filename: str) -> Any:
        if filename not in self._output_files:
            folder, slash, name = filename.rpartition("/")
            # The ending stays, for compression is inferred from it.
            path = self._paths[filename] = f"{folder}{slash}{uuid.uuid4().hex[:ID_LENGTH]}.{name}"
            self._output_files[filename] = self.fs.open(path, mode=self.mode, compression=self.compression)
        return self._output_files[filename]

    def settle(self, target: DataFolder, complete: bool, claim: Claim | None = None) -> None:
        """Give the files, now closed, their names, or delete what is only a part."""
        for filename, path in self._paths.items():
            if complete:
                self._publish(filename, path, target, claim)
            elif self.fs.isfile(path):
                self.fs.rm(path)
        self._paths.clear()

    def _publish(self, filename: str, path: str, target: DataFolder, claim: Claim | None) -> None:
        """Give a file its name and remove what other tries at it left; unless one of them did so to this one."""
        try:
            _move(self.fs, path, target, filename, claim)
        except FileNotFoundError:
            if not target.isfile(filename):
                raise
            name = target.resolve_paths(filename)
            logger.info(f"Another copy of this task has completed {name} meanwhile: its file stays.")
            return
        self._remove_others(filename)

    def _remove_others(self, filename: str) -> None:
        folder, slash, name = filename.rpartition("/")
        for path in self.fs.glob(f"{folder}{slash}{'[0-9a-f]' * ID_LENGTH}.{glob.escape(name)}"):
            with contextlib.suppress(FileNotFoundError):  # another copy does the same
                self.fs.rm(path)


def _move(folder: DataFolder, path: str, target: DataFolder, name: str, claim: Claim | None) -> None:
    """Give a closed file its place, in one step, when its bytes are on the disk and while the folder is its run's."""
    if folder.is_local():
        with folder.open(path, "rb") as file:
            os.fsync(file.fileno())
    source, place = str(folder.resolve_paths(path)), str(target.resolve_paths(name))
    own = _identity(folder, source)
    if claim is not None:
        claim.require()
    target.fs.makedirs(place.rpartition("/")[0], exist_ok=True)
    target.fs.mv(source, place)
    if claim is not None:
        _take_back_unless_held(claim, target, place, own)


def _identity(folder: DataFolder, place: str) -> Any:
    """What tells a file from a later one of its name, also when it has moved."""
    if folder.is_local():
        return os.stat(place).st_ino
    folder.fs.invalidate_cache()
    found = folder.fs.info(place)
    tag = str(found.get("ETag"))
    # That of an object that came in parts is another one when it is copied.
    return found["size"], None if "-" in tag else tag


def _take_back_unless_held(claim: Claim, target: DataFolder, place: str, own: Any) -> None:
    """Another run may have taken the folder between the look and the move: what came too late is removed again."""
    try:
        claim.require()
    except RuntimeError:
        with contextlib.suppress(OSError):
            if _identity(target, place) == own:
                target.fs.rm_file(place)
        raise


@dataclass(frozen=True)
class ReasonAdapter:
    """Gives rows a `filter_reason`: for the exclusion writers of steps that give none.

    Args:
        rows: the writer's adapter, which makes the rows.
        reason: the `filter_reason`.
    """

    rows: Callable
    reason: str

    def __call__(self, writer: Any, document: Document) -> dict[str, Any]:
        """The row; arguments as those of `RowAdapter`."""
        document.metadata["filter_reason"] = self.reason
        row: dict[str, Any] = self.rows(writer, document)
        return row


@contextlib.contextmanager
def whole_files(target: DataFolder, unfinished: DataFolder, claim: Claim | None = None) -> Iterator[DataFolder]:
    """A folder of one's own, whose files get their place when all of them are there; after an error, none does.

    Args:
        target: where the files appear, under the names that they are given here.
        unfinished: a folder on the same file system, in which no reader looks.
        claim: of the run.

    Raises:
        FileNotFoundError: the folder was deleted meanwhile.
        LostOutput: the run has lost its output folder.
    """
    private = DataFolder(str(unfinished.resolve_paths(uuid.uuid4().hex[:ID_LENGTH])), fs=unfinished.fs)
    private.makedirs("", exist_ok=True)
    has_folders = private.isdir("")  # which an object store has not
    try:
        yield private
        if has_folders and not private.isdir(""):
            raise FileNotFoundError(f"{private.path} was deleted meanwhile: another run has taken the output folder.")
        for name in private.list_files():
            _move(private, name, target, name, claim)
    finally:
        if private.isdir(""):
            private.rm("", recursive=True)


class WholeOutput(PipelineStep):
    """Runs a DataTrove step whose files appear when all that a task writes is there.

    Such steps write in place, some of them twice: two copies of one task at once read each other's halves, and a copy
    that comes late truncates what the next stage reads. Here each copy has a folder of its own until it is done. As
    long as the step writes the same from the same input, it does not matter which copy was the last. In a folder of
    `Run.between` the files get digests, which the next stage looks at.

    Args:
        step: one with an `output_folder`.
        unfinished: a folder on the same file system for files that are being written.
    """

    def __init__(self, step: PipelineStep, unfinished: str):
        self.name, self.type = step.name, step.type
        self.step: Any = step
        self.unfinished = get_datafolder(unfinished)
        self.claim: Claim | None = None

    @property
    def stats(self) -> Any:
        """The step's own statistics."""
        return self.step.stats

    @stats.setter
    def stats(self, stats: Any) -> None:
        self.step.stats = stats

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:  # type: ignore[override]
        """What the step does, for one task."""
        target = self.step.output_folder
        try:
            with whole_files(target, self.unfinished, self.claim) as self.step.output_folder:
                yield from self.step.run(data, rank, world_size) or ()
                if isinstance(target, SealedFolder):
                    with whole_files(target.seals, self.unfinished, self.claim) as seals:
                        write_seal(seals, self.step.output_folder, type(self.step).__name__, rank, world_size)
        finally:
            self.step.output_folder = target
