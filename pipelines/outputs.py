"""DataTrove's writers, whose files here appear under their names when they are complete.

A kill, a failure or a second copy of a task leaves no part of a file where a reader would take it for a whole one. A
file that is complete removes what others of its name left unfinished: a killed task, or a second copy that is still
running, which gives way to it.
"""

import contextlib
import glob
import uuid
from typing import Any

from datatrove.io import DataFolder, OutputFileManager, get_datafolder
from datatrove.pipeline.writers import JsonlWriter, ParquetWriter
from datatrove.pipeline.writers.disk_base import DiskWriter
from loguru import logger


ID_LENGTH = 8


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

    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        complete = False
        try:
            super().__exit__(exc_type, exc_val, exc_tb)
            complete = exc_type is None
        finally:
            self.output_mg.settle(self.output_folder, complete)


class WholeJsonlWriter(WholeFiles, JsonlWriter):
    """A `JsonlWriter` of whole files."""


class WholeParquetWriter(WholeFiles, ParquetWriter):
    """A `ParquetWriter` of whole files."""


class _UnfinishedFiles(OutputFileManager):
    """Opens files under names that nobody else has."""

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

    def settle(self, target: DataFolder, complete: bool) -> None:
        """Give the files, now closed, their names, or delete what is only a part."""
        for filename, path in self._paths.items():
            if complete:
                self._publish(filename, path, target)
            elif self.fs.isfile(path):
                self.fs.rm(path)
        self._paths.clear()

    def _publish(self, filename: str, path: str, target: DataFolder) -> None:
        """Give a file its name and remove what other tries at it left; unless one of them did so to this one."""
        name = str(target.resolve_paths(filename))
        target.fs.makedirs(name.rpartition("/")[0], exist_ok=True)
        try:
            target.fs.mv(self.fs.resolve_paths(path), name)
        except FileNotFoundError:
            if not target.isfile(filename):
                raise
            logger.info(f"Another copy of this task has completed {name} meanwhile: its file stays.")
            return
        self._remove_others(filename)

    def _remove_others(self, filename: str) -> None:
        folder, slash, name = filename.rpartition("/")
        for path in self.fs.glob(f"{folder}{slash}{'[0-9a-f]' * ID_LENGTH}.{glob.escape(name)}"):
            with contextlib.suppress(FileNotFoundError):  # another copy does the same
                self.fs.rm(path)
