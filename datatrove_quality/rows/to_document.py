"""A row of data becomes a conversation, and a scored document becomes the row again.

    row -- ConversationAdapter --> Document(text, id, metadata) -- any DataTrove steps --> RowAdapter --> row

Data of every origin comes through here, so the rule of this module is that nothing is lost and nothing raises: what is
no conversation becomes a document with `metadata["conversation_error"]`, and every source column comes back from
`RowAdapter` with its name, value and type. The price is one bookkeeping entry in the metadata, `_source`:

    columns   the names of the row's columns, in order
    kept      the columns that cannot stand in the metadata under their own name, and are found in `values`
    values    their values
    messages  the conversation as it was read, where the source's column `messages` has it in another form

Where a step has changed `metadata["messages"]` since, the last entry shows it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from datatrove.data import Document
from datatrove.pipeline.readers import HuggingFaceDatasetReader, IpcReader, ParquetReader
from datatrove.pipeline.readers.base import BaseDiskReader

from datatrove_quality.rows.json_values import json_text, parse_json, safe_repr, writable
from datatrove_quality.rows.layouts import check_column, check_schema, parse, text_in, without_nulls
from datatrove_quality.rows.types import (
    CONVERSATION_ERROR,
    MAX_ERROR_CHARS,
    MESSAGES,
    REASONS,
    RESERVED,
    SOURCE,
    Conversation,
    InvalidConversation,
    Row,
    cut,
    described,
    error_reason,
    shown,
)


if TYPE_CHECKING:
    pass


ARROW_READERS = (ParquetReader, IpcReader, HuggingFaceDatasetReader)


"""Their rows have types that JSON has not, and their natural output is Parquet."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """What an adapter reads in a row: a text, and either the conversation and its column (if any) or an error."""

    text: str
    messages: Conversation | None = None
    column: str = ""
    error: str = ""


class _Adapter:
    """Makes a document of a row, in which `_read` finds the text and the conversation."""

    id_key: str

    def __call__(self, reader: Any, row: Row, path: str, id_in_file: int | str) -> dict[str, Any]:
        """The arguments of a DataTrove document: text, id and metadata.

        Args:
            reader: the reader, to which DataTrove binds its adapter. May be None.
            row: the row. It is not changed.
            path: the file of the row.
            id_in_file: the number of the row in the file.
        """
        place = f"{path}/{id_in_file}"
        if not isinstance(row, dict):
            error = f"not_an_object: the row is {described(row)}, not an object with columns"
            return _error_document(json_text(row), place, error)
        reading = self._read_or_error(row)
        columns, problem = (row, "") if isinstance(reader, ARROW_READERS) else _for_json(row, reading.messages)
        if problem and not reading.error:
            reading = _Reading(json_text(row), error=f"unwritable_value: {problem}")
        metadata = {name: value for name, value in _merged(columns).items() if name not in RESERVED}
        if reading.error:
            metadata[CONVERSATION_ERROR] = reading.error
        elif reading.messages is not None:
            metadata[MESSAGES] = reading.messages
        document = {"text": reading.text, "id": _document_id(row.get(self.id_key), place)}
        # The last entry: what later steps add comes after it, see RowAdapter.
        metadata[SOURCE] = _bookkeeping(columns, metadata | document, reading)
        return document | {"metadata": metadata}

    def _read_or_error(self, row: Row) -> _Reading:
        try:
            columns = _merged(row)
            error = str(columns.get(CONVERSATION_ERROR))
            if CONVERSATION_ERROR in row or error_reason(error) not in REASONS:
                return self._read(columns)
            # What a DataTrove writer has made of an error document is not to be read as anything else.
        except InvalidConversation as invalid:
            error = f"{invalid.reason}: {invalid}"
        except Exception as unforeseen:  # a run of a week must not end at one row
            error = f"unreadable_row: {cut(safe_repr(unforeseen), MAX_ERROR_CHARS)}"
        return _Reading(json_text(row), error=error)

    def _read(self, row: Row) -> _Reading:
        raise NotImplementedError


@dataclass(frozen=True)
class ConversationAdapter(_Adapter):
    """Makes a document of a row: for the `adapter=` of any DataTrove reader.

    The document's `text` is the contents joined by a blank line, `metadata["messages"]` the conversation, and every
    other column stands in the metadata under its own name. A column `metadata` (an object or a JSON string) is merged
    into it, as DataTrove's own adapter does, so that what a DataTrove writer wrote is read back. A row that is no
    conversation becomes a document with the row as JSON for its `text`, and `metadata["conversation_error"]`, which is
    `"<reason>: <message>"`, see `REASONS`. It never raises, and never changes the row.

    `metadata["_source"]` is what `RowAdapter` needs to give back the row. Columns named `text`, `id`, `rank`,
    `token_count`, `conversation_error` or `_source` mean something else in a document, and are found there only.

    Args:
        schema: see `parse_conversation`.
        messages_key: see `parse_conversation`.
        id_key: the column of the document's id; where it is missing or null the id is `path/number of the row`.

    Raises:
        ValueError: the schema is unknown, or a name is not usable.
    """

    schema: str = "auto"
    messages_key: str | None = None
    id_key: str = "id"

    def __post_init__(self) -> None:
        check_schema(self.schema, self.messages_key)
        check_column("id_key", self.id_key)

    def _read(self, row: Row) -> _Reading:
        messages, column = parse(row, self.schema, self.messages_key)
        return _Reading("\n\n".join(message["content"] for message in messages), messages, column)


@dataclass(frozen=True)
class TextAdapter(_Adapter):
    """As `ConversationAdapter`, for a corpus of plain text (`QualityFilter(messages_key=None)`).

    The document's `text` is the row's, there is no conversation, and a row without text is not skipped, as DataTrove's
    readers do, but has a `conversation_error`.

    Args:
        text_key: the column of the text.
        id_key: the column of the document's id.

    Raises:
        ValueError: a name is not usable.
    """

    text_key: str = "text"
    id_key: str = "id"

    def __post_init__(self) -> None:
        check_column("text_key", self.text_key)
        check_column("id_key", self.id_key)

    def _read(self, row: Row) -> _Reading:
        text = text_in(row, self.text_key)
        if not text.strip():
            raise InvalidConversation("empty_text", f"column {self.text_key!r} holds no text")
        return _Reading(text)


def _merged(row: Row) -> Row:
    """The row's columns, and what is nested in its column `metadata`."""
    nested = nested_metadata(row)
    return row if nested is None else nested | {name: row[name] for name in row if name != "metadata"}


def nested_metadata(row: Row) -> Row | None:
    """The column `metadata`, if it is an object, or the text of one whose values can be written again."""
    metadata = row.get("metadata")
    if isinstance(metadata, str) and metadata.lstrip().startswith("{"):
        try:
            metadata = parse_json(metadata)
        except InvalidConversation:
            return None
        return metadata if writable(metadata) else None
    return metadata if isinstance(metadata, dict) else None


def _document_id(value: Any, default: str) -> str:
    """The id as text. Only a scalar can be one, and it has to be writable."""
    if value is None or isinstance(value, (dict, list, tuple)):
        return default
    try:
        text = str(value)
        text.encode()
    except ValueError:  # UnicodeEncodeError, or an integer of more than 4,300 digits
        return default
    return text or default


def _for_json(row: Row, messages: Conversation | None) -> tuple[Row, str]:
    """The row with JSON text in place of each value that a JSONL writer cannot carry; and what is wrong with them."""
    if writable(row) and writable(messages):
        return row, ""
    texts = {name: json_text(value) for name, value in row.items() if not writable([value])}  # as deep as in a row
    names = cut(", ".join(map(shown, texts)), 200) or "the conversation"  # which stands in the row as JSON text
    limits = "bytes, a lone surrogate, an integer of more than 64 bits, or nested too deep"
    return row | texts, f"{names} cannot be written as JSON ({limits}), and is kept as text"


def _bookkeeping(columns: Row, found: Row, reading: _Reading) -> Row:
    """The entry `_source`: how to make the row of what is found in the document."""
    values = {name: value for name, value in columns.items() if not (name in found and same(found[name], value))}
    source: Row = {"columns": list(columns)}
    if values:  # Parquet has no empty objects
        source |= {"kept": list(values), "values": values}
    if reading.column == MESSAGES and MESSAGES in values:
        source[MESSAGES] = without_nulls(reading.messages)  # a copy: a step may edit the conversation in place
    return source


def same(value: Any, other: Any) -> bool:
    """Whether two values are equal and of the same type."""
    if value is other:
        return True
    try:
        return type(value) is type(other) and bool(value == other)
    except Exception:  # arrays, whose comparison is an array
        return False


def _error_document(text: str, doc_id: str, error: str) -> dict[str, Any]:
    """The arguments of a document of what is no row."""
    return {"text": text or error, "id": doc_id, "metadata": {CONVERSATION_ERROR: error}}


def unread_document(reader: BaseDiskReader, text: str, path: str, number: int, error: InvalidConversation) -> Document:
    """A document in the place of what a reader could not read, with the metadata that the reader's others have.

    Args:
        reader: of files.
        text: what could be read; "": nothing.
        path: the file.
        number: of the row in the file.
        error: what is wrong.
    """
    document = Document(**_error_document(text, f"{path}/{number}", f"{error.reason}: {error}"))
    document.metadata = (reader.default_metadata or {}) | document.metadata
    if reader.add_file_path:
        document.metadata.setdefault("file_path", reader.data_folder.resolve_paths(path))
    return document
