"""Files of JSON in, documents out, no row lost: JSON lines, arrays of rows, and rows one after the other.

    file -- blocks of bytes -- decompression --> lines or elements --> rows --> documents

DataTrove's reader drops a malformed line, ends a file at bytes that are not UTF-8, raises on a truncated gzip file,
and does not notice a truncated zstd file. Here an `InvalidConversation` takes the place of what cannot be read, and
becomes a document with `metadata["conversation_error"]`, in its place among the others.
"""

from collections.abc import Generator

from datatrove.data import Document
from datatrove.pipeline.readers import JsonlReader
from datatrove.utils.logging import logger

from datatrove_quality.readers.compression import decompressed_blocks
from datatrove_quality.readers.disk import DiskReader
from datatrove_quality.readers.files import partition_columns, with_partitions
from datatrove_quality.readers.json_text import raw_rows, why_invalid
from datatrove_quality.rows.json_values import parse_json
from datatrove_quality.rows.to_document import unread_document
from datatrove_quality.rows.types import SOURCE, InvalidConversation, Row


class ConversationJsonlReader(DiskReader, JsonlReader):
    """Reads JSONL files as DataTrove's `JsonlReader` does, and loses no line; files that hold an array of rows too.

    A line that is not a JSON object (malformed, another JSON value, not UTF-8, with half of a surrogate pair, ...) and
    the place where a compressed file is damaged or ends early become documents: their `text` is the raw line, and
    `metadata["conversation_error"]` is `"<reason>: <message>"`, see `REASONS`. What follows is read wherever the
    format allows it: the next lines, and after damage the next gzip member or zstd frame. Blank lines are skipped.
    Integers keep all their digits, and `NaN` and `Infinity`, as Python and pandas write them, come back as they were.
    Errors of the file system are raised.

    A file that begins with `[` and then `{` is an array of rows, on any number of lines; it is read element by
    element. A `.json` file of objects that are not one per line is read object by object. How a file is compressed is
    seen by its first bytes.

    Args:
        data_folder: this and all other arguments are those of `JsonlReader`, with two differences. Without `adapter`,
            rows go through `ConversationAdapter(id_key=id_key)`. And `media_bytes` in a column `media` stay the text
            that they are in the file, so that they are written back as they were.
    """

    name = "🐿 Jsonl, every line"

    def read_file(self, filepath: str) -> Generator[Document, None, None]:  # type: ignore[override]
        """The documents of one file, in the order of its rows."""
        bad = 0
        partitions = partition_columns(filepath)
        for number, (raw, damage) in enumerate(raw_rows(decompressed_blocks(self, filepath), filepath)):
            if not damage and not raw.strip():
                continue
            with self.track_time():
                try:
                    document = self.get_document_from_dict(
                        with_partitions(_row(raw, damage), partitions), filepath, number
                    )
                    if document and (b"NaN" in raw or b"Infinity" in raw):
                        document.metadata.get(SOURCE, {})["constants"] = True
                except InvalidConversation as error:
                    text = raw.decode("utf-8", "replace")
                    document = unread_document(self, text, filepath, number, error)
                    bad += 1
            if document:
                yield document
        if bad:
            lines = "1 line" if bad == 1 else f"{bad:,} lines"
            reasons = "invalid JSON, a key with two values, not an object, or damaged"
            logger.warning(f"`{filepath}`: {lines} could not be read as a row ({reasons}): unscorable")


def _row(raw: bytes, damage: InvalidConversation | None) -> Row:
    if damage:
        raise damage
    try:
        value = parse_json(raw)
    except InvalidConversation as error:
        raise InvalidConversation(error.reason, f"{error}{why_invalid(raw)}") from None
    if not isinstance(value, dict):
        raise InvalidConversation("not_an_object", f"the line is a JSON {type(value).__name__}, not an object")
    return value
