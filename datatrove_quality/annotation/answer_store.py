"""The answers of a judge, stored so that a task that starts again requests only those that are missing.

    checkpoints_dir/
      answers/
        00007_8812.0_c41d09ae.scores      of rank 7

A file belongs to one process, which only appends to it, as in the score store. A line is a record,

    <digest of the request> <the answer as JSON> <checksum>

so that a torn or damaged line costs that record alone. A record is with the operating system before its row goes on.
"""

import zlib
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from loguru import logger

from datatrove_quality.annotation.judge import Answer
from datatrove_quality.engine.store import SECONDS_BETWEEN_COMMITS, SECONDS_BETWEEN_PARTS, new_file_name
from datatrove_quality.engine.store_files import ENDING, File, Parts, Writer


class AnswerStore:
    """The answers of one rank that are known from earlier processes; new ones are written as they come.

    Whatever goes wrong with the folder costs saved answers, not the run: it is logged. Memory: about a kilobyte for
    each answer of an earlier process.

    Args:
        folder: a path or an fsspec address.
        rank: which task this is.
    """

    def __init__(self, folder: str, rank: int):
        self._fs, root = url_to_fs(folder)
        self._folder = f"{root.rstrip('/')}/answers"
        self._rank = rank
        self._is_local = isinstance(self._fs, LocalFileSystem)
        self._known: dict[bytes, bytes] = {}
        seconds = SECONDS_BETWEEN_COMMITS if self._is_local else SECONDS_BETWEEN_PARTS
        self._writer = Writer(self._open, seconds, self._warn)
        self._read()

    def __enter__(self) -> "AnswerStore":
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.close()

    def get(self, key: bytes) -> Answer | None:
        """The answer that an earlier process got."""
        text = self._known.get(key)
        return None if text is None else Answer.from_json(text)

    def add(self, key: bytes, answer: Answer) -> None:
        """Store an answer; from any thread."""
        self._writer.add(_checked(f"{key.hex()} {answer.to_json()}".encode()))
        if self._is_local:
            self._writer.write()

    def _read(self) -> None:
        damaged = 0
        try:
            paths = self._paths()
            for path in paths:
                with self._fs.open(path, "rb") as file:
                    damaged += sum(not self._take_in(line) for line in file if line.strip())
        except Exception as error:  # whatever the file system of an address raises
            self._warn("read", error)
            return
        if paths:
            logger.info(
                f"{len(self._known):,} answers of task {self._rank} are known, from {len(paths)} files in "
                f"{self._folder}; {damaged} torn or damaged records were left out"
            )

    def _paths(self) -> list[str]:
        self._fs.invalidate_cache(self._folder)
        try:
            paths = self._fs.ls(self._folder, detail=False)
        except FileNotFoundError:
            return []
        names = ((path, str(path).rpartition("/")[2]) for path in paths)
        return sorted(path for path, name in names if name.startswith(f"{self._rank:05d}_") and name.endswith(ENDING))

    def _take_in(self, line: bytes) -> bool:
        payload, _, checksum = line.rpartition(b" ")
        if checksum != b"%08x\n" % zlib.crc32(payload):
            return False
        key, _, text = payload.partition(b" ")
        self._known.setdefault(bytes.fromhex(key.decode()), text)
        return True

    def _open(self) -> Any:
        self._fs.makedirs(self._folder, exist_ok=True)
        name = new_file_name(self._rank)
        if self._is_local:
            return File(f"{self._folder}/{name}{ENDING}", b"")
        return Parts(self._fs, f"{self._folder}/{name}", b"")

    def _warn(self, verb: str, error: object) -> None:
        logger.warning(
            f"Cannot {verb} {self._folder}: {error}. Annotating goes on; answers that are not saved are requested "
            "again after a restart."
        )


def _checked(payload: bytes) -> bytes:
    """A line with its checksum."""
    return b"%s %08x\n" % (payload, zlib.crc32(payload))
