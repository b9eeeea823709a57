"""Parquet files in, documents out, with a document in the place of what cannot be read.

DataTrove's reader raises at the first damaged page, and the task with it. Here each row of the rest of that row
group becomes a document with `metadata["conversation_error"]`, so that every row has its place, and the next row
group is read.
"""

from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from datatrove.data import Document
from datatrove.pipeline.readers import ParquetReader
from datatrove.utils.logging import logger

from datatrove_quality.readers.disk import DiskReader
from datatrove_quality.readers.files import partition_columns, require_unwritten, stamp, with_partitions
from datatrove_quality.rows.arrow_values import column_forms, rows_of_batch
from datatrove_quality.rows.forms import DecodedRow
from datatrove_quality.rows.to_document import unread_document
from datatrove_quality.rows.types import InvalidConversation


if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


BATCH_BYTES = 16 * 2**20
"""Of rows that are in memory at once, on average: a thousand with large columns would take gigabytes."""

BUFFER_BYTES = 2**20
"""Of a column of a local file that are read at once, instead of all that the row group has of it."""


class ConversationParquetReader(DiskReader, ParquetReader):
    """Reads Parquet files as DataTrove's `ParquetReader` does, and goes on behind damage.

    At most `batch_size` rows are in memory at once, and fewer where rows are large.

    Args:
        data_folder: this and all other arguments are those of `ParquetReader`. Without `adapter`, rows go through
            `ConversationAdapter(id_key=id_key)`. Errors of the file system are raised.
    """

    name = "📒 Parquet, every row group"

    def read_file(self, filepath: str) -> Generator[Document, None, None]:  # type: ignore[override]
        """The documents of one file, in the order of its rows."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        is_local = self.data_folder.is_local()
        path = self.data_folder.resolve_paths(filepath)
        self._before = stamp(self.data_folder, filepath)
        with pa.OSFile(path) if is_local else self.data_folder.open(filepath, "rb") as file:
            try:
                # Object storage is read by whole columns of row groups: jumping between them fetches much for nothing.
                options = {"buffer_size": BUFFER_BYTES, "pre_buffer": False} if is_local else {}
                parquet = pq.ParquetFile(file, page_checksum_verification=True, **options)
            except (OSError, pa.ArrowException) as error:
                yield self._damaged(filepath, 0, error, "it is no whole Parquet file: none of its rows can be read")
                return
            names = parquet.schema_arrow.names
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise ValueError(
                    f"{filepath}: two columns are called {twice!r}, so that one would be lost: rename one"
                )
            row = 0
            for group in range(parquet.num_row_groups):
                yield from self._read_group(parquet, group, filepath, row)
                row += parquet.metadata.row_group(group).num_rows
                # Arrow's pool keeps what a group took, beside which the next one needs as much again.
                pa.default_memory_pool().release_unused()
            if not _counts_agree(parquet):
                counts = ValueError(f"its row groups hold {row} rows, and the file {parquet.metadata.num_rows}")
                yield self._damaged(filepath, row, counts, "its own counts of its rows disagree: some may be missing")
        require_unwritten(self.data_folder, filepath, self._before)

    def _read_group(self, parquet: "pq.ParquetFile", group: int, filepath: str, row: int) -> Iterator[Document]:
        import pyarrow as pa

        described = parquet.metadata.row_group(group)
        end = row + described.num_rows
        columns = None if self.read_metadata else [self.text_key, self.id_key]
        size = _rows_of(described.num_rows, described.total_byte_size, self.batch_size)
        batches = parquet.iter_batches(size, row_groups=[group], columns=columns)
        while row < end:
            with self.track_time("batch"):
                try:
                    batch = next(batches, None)
                    if batch is None:
                        raise pa.ArrowInvalid("there are fewer rows than the file's footer says")
                except (OSError, pa.ArrowException) as error:
                    lost = f"rows {row} to {end - 1}, the rest of row group {group}, cannot be read"
                    first = self._damaged(filepath, row, error, lost)
                    yield first
                    for missing in range(row + 1, end if _counts_agree(parquet) else row + 1):
                        yield replace(first, id=f"{filepath}/{missing}", metadata=dict(first.metadata))
                    return
            # What was stored in few bytes, such as the same text in each row, may take many here.
            size = _rows_of(batch.num_rows, batch.nbytes, self.batch_size)
            for start in range(0, batch.num_rows, size):
                with self.track_time("batch"):
                    documents = self._documents(batch.slice(start, size), filepath, row + start)
                yield from filter(None, documents)
            row += batch.num_rows

    def _documents(self, batch: "pa.RecordBatch", filepath: str, row: int) -> list[Document | None]:
        import pyarrow as pa

        try:
            rows = rows_of_batch(batch)
        except (ValueError, OverflowError, pa.ArrowException) as error:
            if batch.num_rows == 1:
                lost = f"row {row} holds what Python cannot: bytes that are not UTF-8, or a date beyond its calendar"
                return [self._damaged(filepath, row, error, lost)]
            singles = (self._documents(batch.slice(at, 1), filepath, row + at) for at in range(batch.num_rows))
            return [document for single in singles for document in single]
        forms, partitions = column_forms(batch.schema), partition_columns(filepath)
        rows = [with_partitions(values, partitions) for values in rows]
        rows = [DecodedRow(values, forms) for values in rows] if forms else rows
        return [self.get_document_from_dict(values, filepath, row + at) for at, values in enumerate(rows)]

    def _damaged(self, filepath: str, row: int, error: Exception, lost: str) -> Document:
        """A document in the place of rows; an error that may pass, of the file system or of memory, is raised."""
        import pyarrow as pa

        require_unwritten(self.data_folder, filepath, self._before)
        # Arrow's own errors of damaged files are plain OSErrors; those of disks and networks have a number or a type.
        is_systems = isinstance(error, OSError) and (error.errno is not None or type(error) is not OSError)
        if isinstance(error, MemoryError) or (is_systems and not isinstance(error, pa.ArrowException)):
            raise error
        logger.warning(f"`{filepath}` is damaged: {lost}: {error}")
        reason = InvalidConversation("damaged_file", f"{lost} ({type(error).__name__}: {error})")
        return unread_document(self, "", filepath, row, reason)


def _counts_agree(parquet: "pq.ParquetFile") -> bool:
    """Whether a footer's counts can be trusted: a damaged one may tell of any number of rows."""
    described = parquet.metadata
    return sum(described.row_group(at).num_rows for at in range(described.num_row_groups)) == described.num_rows


def _rows_of(rows: int, size: int, limit: int) -> int:
    """How many rows are read at once, of some that take so many bytes together."""
    return max(1, min(limit, rows * BATCH_BYTES // max(1, size)))
