"""Files that DataTrove's steps of one stage hand to those of another, with digests of what was written.

Such a file is a row of numbers: of a signature, of a duplicate. A wrong byte, or a lost file, is another number or
none, and another document is dropped. Digests are written when a task has written its files, and looked at when a file
is opened.
"""

import hashlib
import json
from typing import Any

from datatrove.io import DataFolder, get_datafolder


DIGEST = "sha256"


class SealedFolder(DataFolder):
    """A folder of which files that `Run.whole` wrote are read only if they are as they were written.

    Files of a step that `Run.whole` did not write have no digest; where no file has one, all are read as they are.

    Args:
        path: of the folder. Digests are in the folder `seals` beside it.
    """

    cachable = False  # fsspec would share one between the tasks of a process, with what it has read

    def __init__(self, path: str):
        super().__init__(path)
        parent, _, name = path.rstrip("/").rpartition("/")
        self.seals = get_datafolder(f"{parent}/seals/{name}")
        self._digests: dict[str, str] | None = None

    def open(self, path: str, mode: str = "rb", *arguments: Any, **options: Any) -> Any:
        """Open a file.

        Raises:
            RuntimeError: it is not as it was written.
        """
        if "r" in mode and self._recorded():
            self._require_as_written(path)
        return super().open(path, mode, *arguments, **options)

    def list_files(self, subdirectory: str = "", *arguments: Any, **options: Any) -> list[str]:
        """The files in a folder.

        Raises:
            RuntimeError: one that was written there is gone.
        """
        if below := [path for path in self._recorded() if path.startswith(f"{subdirectory}/".lstrip("/"))]:
            there = set(super().list_files(subdirectory))
            for path in below:
                self._require_kept(path in there, path)
        return super().list_files(subdirectory, *arguments, **options)

    def exists(self, path: str, **options: Any) -> bool:
        """Whether there is such a file.

        Raises:
            RuntimeError: it was written, and is gone.
        """
        found = bool(super().exists(path, **options))
        self._require_kept(found, path)
        return found

    def isfile(self, path: str) -> bool:
        """As `exists`."""
        found = bool(super().isfile(path))
        self._require_kept(found, path)
        return found

    def _require_as_written(self, path: str) -> None:
        with super().open(path, "rb") as file:
            found = hashlib.file_digest(file, DIGEST).hexdigest()
        _require(found == self._recorded().get(path), self, path, "is damaged")

    def _require_kept(self, there: bool, path: str) -> None:
        _require(there or path not in self._recorded(), self, path, "is gone")

    def _recorded(self) -> dict[str, str]:
        """The digests of all files that the tasks wrote."""
        if self._digests is None:
            found: dict[str, str] = {}
            expected: set[str] = set()
            seals = self.seals.list_files()
            for path in seals:
                with self.seals.open(path, "rb") as file:
                    content = file.read()
                try:
                    seal = json.loads(content)
                    found |= seal["files"]
                    expected |= {_name(seal["step"], rank) for rank in range(seal["tasks"])}
                except (ValueError, TypeError, KeyError):
                    _require(False, self.seals, path, "is damaged")
            for path in sorted(expected):
                _require(path in seals, self.seals, path, "is gone")
            self._digests = found
        return self._digests


def _require(holds: bool, folder: DataFolder, path: str, what: str) -> None:
    if not holds:
        raise RuntimeError(
            f"{folder.resolve_paths(path)} {what}, since an earlier stage wrote it. Start the pipeline again with "
            "overwrite=True (--overwrite)."
        )


def write_seal(folder: DataFolder, written: DataFolder, step: str, rank: int, tasks: int) -> None:
    """Write the digests of a task's files.

    Args:
        folder: of digests.
        written: what the task has written, and nothing else.
        step: name of the class of the step.
        rank: of the task.
        tasks: that write into the folder.
    """
    files = {}
    for path in written.list_files():
        with written.open(path, "rb") as file:
            files[path] = hashlib.file_digest(file, DIGEST).hexdigest()
    with folder.open(_name(step, rank), "w") as file:
        json.dump({"step": step, "tasks": tasks, "files": files}, file)


def _name(step: str, rank: int) -> str:
    return f"{step}.{rank:05d}.json"
