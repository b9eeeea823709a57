"""Documents between the stages of a pipeline, kept as they are: any value, `None` or missing, any type of Parquet's.

A row that goes through JSON or through a Parquet schema of its own does not come back as it was. Here a document is
pickled, and a task reads what the same task of the stage before has written. Each document's length and bytes have
digests, for a disk that fails: damage must not become another text.
"""

import hashlib
import pickle
from collections.abc import Iterable, Iterator
from typing import Any

import zstandard
from datatrove.data import Document
from datatrove.io import get_datafolder
from datatrove.pipeline.base import PipelineStep

from datatrove_quality.runs.claim import Claim
from datatrove_quality.runs.outputs import whole_files


DIGEST_BYTES = 8


class SaveDocuments(PipelineStep):
    """Writes a task's documents to one file, which appears when it is complete, and passes them on.

    Args:
        folder: where the files appear.
        unfinished: a folder on the same file system for files that are being written.
    """

    type = "💽 - WRITER"
    name = "📦 Documents as they are"

    def __init__(self, folder: str, unfinished: str):
        super().__init__()
        self.folder = get_datafolder(folder)
        self.unfinished = get_datafolder(unfinished)
        self.claim: Claim | None = None

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:  # type: ignore[override]
        """Write the documents, even if there are no documents, so that a missing file is a mistake."""
        count = 0
        with (
            whole_files(self.folder, self.unfinished, self.claim) as private,
            private.open(_file(rank), "wb", compression="zstd") as file,
        ):
            for document in data:
                file.write(_sealed(pickle.dumps(document, pickle.HIGHEST_PROTOCOL)))
                count += 1
                self.stat_update("total")
                yield document
            file.write(_sealed(pickle.dumps(count)))


class LoadDocuments(PipelineStep):
    """Reads what the same task wrote with `SaveDocuments`.

    Args:
        folder: of `SaveDocuments`.
    """

    type = "📖 - READER"
    name = "📦 Documents as they are"

    def __init__(self, folder: str):
        super().__init__()
        self.folder = get_datafolder(folder)

    def run(self, data: None = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:  # type: ignore[override]
        """Read the documents.

        Raises:
            RuntimeError: the file is not as it was written.
        """
        count = 0
        with self.folder.open(_file(rank), "rb", compression="zstd") as file:
            while isinstance(item := _unsealed(file), Document):
                count += 1
                self.stat_update("total")
                yield item
        if item != count:
            raise RuntimeError(
                f"{self.folder.resolve_paths(_file(rank))} is damaged after {count} documents. Start the pipeline "
                "again with overwrite=True (--overwrite)."
            )


def _sealed(content: bytes) -> bytes:
    length = len(content).to_bytes(8, "little")
    return length + _digest(length) + content + _digest(content)


def _unsealed(file: Any) -> Any:
    """The next value; None: it is not as it was written."""
    length = _checked(file, 8)
    content = _checked(file, int.from_bytes(length, "little")) if length is not None else None
    return None if content is None else pickle.loads(content)


def _checked(file: Any, size: int) -> bytes | None:
    try:
        found = file.read(size + DIGEST_BYTES)
    except zstandard.ZstdError as error:
        if "memory" in str(error):  # of this process now, not of the file
            raise MemoryError(f"decompressing: {error}") from error
        return None
    content = found[:size]
    return content if len(content) == size and found[size:] == _digest(content) else None


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


def _file(rank: int) -> str:
    return f"{rank:05d}.documents"
