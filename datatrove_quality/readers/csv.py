"""Tables with separators in, documents out, no row lost."""

import io
import json
from collections.abc import Generator, Iterator
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.readers.csv import CsvReader
from datatrove.utils.logging import logger

from datatrove_quality.readers.compression import decompressed_blocks
from datatrove_quality.readers.disk import DiskReader
from datatrove_quality.readers.files import partition_columns, with_partitions
from datatrove_quality.readers.table import Table
from datatrove_quality.rows.to_document import unread_document
from datatrove_quality.rows.types import InvalidConversation, Row, shown


class ConversationCsvReader(DiskReader, CsvReader):
    """Reads CSV and TSV files as DataTrove's `CsvReader` does, and loses no row.

    The first row has the names of the columns; all values are text. A row with more or fewer fields, or with bytes
    that are no UTF-8, becomes a document with `metadata["conversation_error"]`; its fields are a JSON list in `text`.
    So does, in CSV, a line with a field that begins with a quote and is not closed properly; `text` is the line. In
    TSV such a field is text with its quotes.

    Args:
        data_folder: this and all other arguments are those of `CsvReader`. Without `adapter`, rows go through
            `ConversationAdapter(id_key=id_key)`. A file whose name has `.tsv` is divided at tabs.
    """

    name = "🔢 Csv, every row"

    def read_file(self, filepath: str) -> Generator[Document, None, None]:  # type: ignore[override]
        """The documents of one file, in the order of its rows."""
        blocks = _Blocks(decompressed_blocks(self, filepath))
        text = io.TextIOWrapper(io.BufferedReader(blocks), "utf-8-sig", errors="surrogateescape", newline="")
        is_tsv = ".tsv" in filepath.lower()
        table = Table(text, "\t" if is_tsv else ",", is_tsv, lambda: blocks.damage is not None)
        number = 0
        for fields, error in table:
            with self.track_time():
                document = self._document(table.columns, fields, error, filepath, number)
            number += 1
            if document:
                yield document
        if table.doubtful:
            first, last = table.doubtful
            logger.warning(
                f"`{filepath}`, lines {first} to {last}: a quoted field holds lines of which each could be a row by "
                "itself. They are read as one row: look whether the quotes are meant so."
            )
        if blocks.damage:
            logger.warning(f"`{filepath}` is damaged: {blocks.damage}")
            yield unread_document(self, _readable(table.rest), filepath, number, blocks.damage)

    def _document(
        self, columns: list[str], fields: list[str], error: InvalidConversation | None, filepath: str, number: int
    ) -> Document | None:
        if error:
            return unread_document(self, _readable(fields[0]), filepath, number, error)
        try:
            return self.get_document_from_dict(
                with_partitions(_row(columns, fields), partition_columns(filepath)), filepath, number
            )
        except InvalidConversation as invalid:
            text = json.dumps(list(map(_readable, fields)), ensure_ascii=False)
            return unread_document(self, text, filepath, number, invalid)


def _readable(field: str) -> str:
    """A text without the bytes that are no UTF-8."""
    return field.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _row(columns: list[str], fields: list[str]) -> Row:
    twice = next((column for column in columns if columns.count(column) > 1), None)
    if twice is not None:
        raise InvalidConversation("invalid_csv", f"two columns are called {shown(twice)}: rename one")
    if len(fields) != len(columns):
        raise InvalidConversation("invalid_csv", f"the row has {len(fields)} fields, and the header {len(columns)}")
    try:
        "".join(fields).encode()
    except UnicodeEncodeError:
        raise InvalidConversation("invalid_utf8", "the row has bytes that are not UTF-8") from None
    return dict(zip(columns, fields, strict=True))


class _Blocks(io.RawIOBase):
    """Blocks of bytes as a file; the first damage ends it.

    Attributes:
        damage: what was damaged.
    """

    def __init__(self, blocks: Iterator[bytes | InvalidConversation]):
        self._blocks = blocks
        self._left = b""
        self.damage: InvalidConversation | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            block = next(self._blocks, b"")
            if isinstance(block, InvalidConversation):
                self.damage = block
                return 0
            if not block:
                return 0
            self._left = block
        size = min(len(buffer), len(self._left))
        buffer[:size], self._left = self._left[:size], self._left[size:]
        return size
