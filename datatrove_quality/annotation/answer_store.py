"""The answers of a judge, stored so that a task that starts again requests only those that are missing.

    checkpoints_dir/
      answers/
        00007_8812.0_c41d09ae.scores      of rank 7

A file belongs to one process, which only appends to it, as in the score store. A line is a record,

    <digest of the request> <the answer as JSON> <checksum>

so that a torn or damaged line costs that record alone. A record is with the operating system before its row goes on.
"""

from loguru import logger

from datatrove_quality.annotation.judge import Answer
from datatrove_quality.engine.store_files import RankFiles, checked, unchecked


class AnswerStore:
    """The answers of one rank that are known from earlier processes; new ones are written as they come.

    Whatever goes wrong with the folder costs saved answers, not the run: it is logged. Memory: about a kilobyte for
    each answer of an earlier process.

    Args:
        folder: a path or an fsspec address.
        rank: which task this is.
    """

    def __init__(self, folder: str, rank: int):
        self._files = RankFiles(folder, "answers", rank, lambda: b"", self._warn)
        self._rank = rank
        self._known: dict[bytes, bytes] = {}
        self._read()

    def __enter__(self) -> "AnswerStore":
        return self

    def __exit__(self, *error: object) -> None:
        self._files.writer.close()

    def get(self, key: bytes) -> Answer | None:
        """The answer that an earlier process got."""
        text = self._known.get(key)
        return None if text is None else Answer.from_json(text)

    def add(self, key: bytes, answer: Answer) -> None:
        """Store an answer; from any thread."""
        self._files.writer.add(checked(f"{key.hex()} {answer.to_json()}".encode()))
        self._files.save()

    def _read(self) -> None:
        damaged = 0
        try:
            paths = self._files.paths()
            for path in paths:
                with self._files.fs.open(path, "rb") as file:
                    damaged += sum(not self._take_in(line) for line in file if line.strip())
        except Exception as error:  # whatever the file system of an address raises
            self._warn("read", error)
            return
        if paths:
            logger.info(
                f"{len(self._known):,} answers of task {self._rank} are known, from {len(paths)} files in "
                f"{self._files.folder}; {damaged} torn or damaged records were left out"
            )

    def _take_in(self, line: bytes) -> bool:
        payload = unchecked(line)
        if payload is None:
            return False
        key, _, text = payload.partition(b" ")
        self._known.setdefault(bytes.fromhex(key.decode()), text)
        return True

    def _warn(self, verb: str, error: object) -> None:
        logger.warning(
            f"Cannot {verb} {self._files.folder}: {error}. Annotating goes on; answers that are not saved are "
            "requested again after a restart."
        )
