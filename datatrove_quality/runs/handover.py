"""Documents between the stages of a pipeline, kept as they are: any value, `None` or missing, any type of Parquet's.

A row that goes through JSON or through a Parquet schema of its own does not come back as it was. Here a document is
pickled, and a task reads what the same task of the stage before has written.
"""

import pickle
from collections.abc import Iterable, Iterator

from datatrove.data import Document
from datatrove.io import get_datafolder
from datatrove.pipeline.base import PipelineStep

from datatrove_quality.runs.outputs import Claim, whole_files


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
                pickle.dump(document, file, pickle.HIGHEST_PROTOCOL)
                count += 1
                self.stat_update("total")
                yield document
            pickle.dump(count, file)


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
            RuntimeError: the file does not end as it was written.
        """
        count = 0
        with self.folder.open(_file(rank), "rb", compression="zstd") as file:
            try:
                while isinstance(item := pickle.load(file), Document):
                    count += 1
                    self.stat_update("total")
                    yield item
            except (EOFError, pickle.UnpicklingError):
                item = None
        if item != count:
            raise RuntimeError(
                f"{self.folder.resolve_paths(_file(rank))} is damaged after {count} documents. Start the pipeline "
                "again with overwrite=True (--overwrite)."
            )


def _file(rank: int) -> str:
    return f"{rank:05d}.documents"
