"""A row of data becomes a document with its conversation; `to_row.py` makes the row of it again.

    row -- ConversationAdapter --> Document(text, id, metadata) -- any DataTrove steps --> RowAdapter --> row

Data of every origin comes through here, so the rule of this module is that nothing is lost and nothing raises: what is
no conversation becomes a document with `metadata["conversation_error"]`, and every source column comes back from
`RowAdapter` with its name, value and type. The price is one bookkeeping entry in the metadata, `_source`:

    columns   the names of the row's columns, in order
    kept      the columns that cannot be in the metadata under their own name, and are found in `values`
    values    their values
    text      a checksum of the document's text
    expected  the same after `PerMessage` has edited it
    messages  the conversation's shape, where it is not the source's column `messages` as it is
    forms     of columns whose values are stored otherwise than they were read, see `forms.py`
    where     the settings of the adapter, where they are not the defaults
    into      the column of a `TextAdapter`
    dataset   the column `dataset` that the reader adds, where the row has none
    constants whether the row's text has `NaN` or `Infinity`
    id        the row's id, where it is a number, of which the document has the text

`text` to `into` show whether a step has changed the text or `metadata["messages"]` since, and where that is written.
"""

import math
import os
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from operator import attrgetter
from typing import Any

from datatrove.data import Document
from datatrove.io import DataFolder
from datatrove.pipeline.readers import HuggingFaceDatasetReader, IpcReader, ParquetReader
from datatrove.pipeline.readers.base import BaseDiskReader
from loguru import logger

from datatrove_quality.config import Unscorable
from datatrove_quality.rows.arrow_values import column_forms
from datatrove_quality.rows.edits import checksum, shape, text_of
from datatrove_quality.rows.forms import DecodedRow, Forms
from datatrove_quality.rows.json_values import is_writable, json_text, safe_repr
from datatrove_quality.rows.layouts import Where, nested_metadata, read, require_column_name, text_in
from datatrove_quality.rows.layouts.column_names import NOT_LONG_TEXT
from datatrove_quality.rows.layouts.several_answers import answer_rows
from datatrove_quality.rows.types import (
    ANSWERS,
    CONVERSATION_ERROR,
    MESSAGES,
    RESERVED,
    SOURCE,
    Conversation,
    InvalidConversation,
    Row,
    conversation_error,
    cut,
    described,
    shown,
)


ARROW_READERS = (ParquetReader, IpcReader, HuggingFaceDatasetReader)
"""Their rows have types that JSON has not, and their natural output is Parquet."""

NAME_COLUMNS = (
    "Name the columns: messages_key=, or prompt_key= and answer_key= of ConversationAdapter; plain text is scored "
    "with TextAdapter and messages_key=None."
)
"""What to do where rows are read wrongly."""

# The fields of a `Where`, which an adapter has under the same names.
_where = attrgetter(*(field.name for field in fields(Where)))


@dataclass(frozen=True, slots=True)
class _Reading:
    """What an adapter reads in a row: a text, and either the conversation and its column (if any) or an error.

    `answers` has the conversations with the row's other answers, or the text of an error.
    """

    text: str
    messages: Conversation | None = None
    column: str = ""
    error: Unscorable | None = None
    used: frozenset[str] = frozenset()
    is_alone: bool = False
    answers: tuple[Conversation | str, ...] = ()


class _Adapter:
    """Makes a document of a row, in which `_read` finds the text and the conversation."""

    id_key: str

    @property
    def settings(self) -> dict[str, Any]:
        """What `RowAdapter` must know to write an edited conversation or text back."""
        raise NotImplementedError

    def __call__(self, reader: Any, row: Row, path: str, id_in_file: int | str) -> dict[str, Any]:
        """The arguments of a DataTrove document: text, id and metadata.

        Args:
            reader: the reader, to which DataTrove binds its adapter. May be None.
            row: the row. It is not changed.
            path: the file of the row.
            id_in_file: the number of the row in the file.
        """
        place = f"{path}/{id_in_file}"
        if type(reader) is ParquetReader and isinstance(row, dict) and (forms := _forms_of(reader.data_folder, path)):
            row = DecodedRow(row, forms)
        decoded, row = row, getattr(row, "stored", row)
        if (error := _no_row(row)) is not None:
            return _error_document(json_text(row), place, error)
        reading = self._read_or_error(decoded)
        columns, problem = (row, "") if isinstance(reader, ARROW_READERS) else _for_json(row, reading.messages)
        if problem and reading.error is None:
            reading = _Reading(json_text(row), error=Unscorable("unwritable_value", problem))
        metadata = {name: value for name, value in _merged(columns).items() if name not in RESERVED}
        if reading.error is not None:
            metadata[CONVERSATION_ERROR] = reading.error.to_text()
        elif reading.messages is not None:
            metadata[MESSAGES] = reading.messages
            if reading.answers:
                metadata[ANSWERS] = list(reading.answers)
        document = {"text": reading.text, "id": _document_id(row.get(self.id_key), place)}
        # The last entry: what later steps add comes after it, see RowAdapter.
        metadata[SOURCE] = _bookkeeping(columns, metadata | document, reading) | self.settings
        number = columns.get(self.id_key)
        if type(number) is int or (type(number) is float and math.isfinite(number)):
            metadata[SOURCE]["id"] = number
        if isinstance(decoded, DecodedRow) and reading.messages is not None:
            metadata[SOURCE]["forms"] = decoded.forms
        if isinstance(reader, HuggingFaceDatasetReader) and "dataset" not in metadata:
            metadata[SOURCE]["dataset"] = path
        _name_long_texts(row, path, reading)
        return document | {"metadata": metadata}

    def _read_or_error(self, row: Row) -> _Reading:
        try:
            nested = nested_metadata(row) if "metadata" in row else None
            error = conversation_error(nested) if nested else None
            if CONVERSATION_ERROR in row or error is None:
                return self._read(row)
            # What a DataTrove writer has made of an error document is not to be read as anything else.
        except InvalidConversation as invalid:
            # Frames and error would hold each other, and the row, until the garbage is collected.
            error = invalid.with_traceback(None)
        except (MemoryError, OSError):  # which may pass: the task ends, and its next start tries again
            raise
        except Exception as unforeseen:  # a run of a week must not end at one row
            error = InvalidConversation("unreadable_row", safe_repr(unforeseen))
        return _Reading(json_text(row), error=error)

    def _read(self, row: Row) -> _Reading:
        raise NotImplementedError


@dataclass(frozen=True)
class ConversationAdapter(_Adapter):
    """Makes a document of a row: for the `adapter=` of any DataTrove reader.

    The document's `text` is the contents joined by a blank line, `metadata["messages"]` the conversation, and every
    other column is in the metadata under its own name. A column `metadata` (an object or a JSON string) is merged
    into it, as DataTrove's own adapter does, so that what a DataTrove writer wrote is read back. A row that is no
    conversation becomes a document with the row as JSON for its `text`, and `metadata["conversation_error"]`, which is
    `"<reason>: <message>"`, see `REASONS`. It never raises, and never changes the row.

    `metadata["_source"]` is what `RowAdapter` needs to rebuild the row. Columns named `text`, `id`, `rank`,
    `token_count`, `conversation_error` or `_source` mean something else in a document, and are found there only.

    Args:
        schema: see `parse_conversation`.
        messages_key: see `parse_conversation`.
        id_key: the column of the document's id; where it is missing or null the id is `path/number of the row`.
        prompt_key: the column of the question, where it has a name of its own.
        answer_key: the column of the answer, where several hold one, or it has a name of its own.
        system_key: the column of the system prompt, where it has a name of its own.
        history_key: the column of the turns before the question, where it has a name of its own.
        ignored_columns: columns, and keys of messages, that hold no part of the conversation, though their names say
            so.
        all_answers: read all answers of a row that has several (`chosen` and `rejected`, `choices`, `completions`).
            The conversation is that with the first, or the chosen one; `QualityFilter(all_answers=True)` scores the
            others too.

    Raises:
        ValueError: the schema is unknown, or a name is not usable or does not go with another.
    """

    schema: str = "auto"
    messages_key: str | None = None
    id_key: str = "id"
    prompt_key: str | None = None
    answer_key: str | None = None
    system_key: str | None = None
    history_key: str | None = None
    ignored_columns: tuple[str, ...] = ()
    all_answers: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.ignored_columns, list):
            object.__setattr__(self, "ignored_columns", tuple(self.ignored_columns))
        require_column_name("id_key", self.id_key)
        _ = self.where

    @cached_property
    def where(self) -> Where:
        """Where the conversation is."""
        return Where(*_where(self))

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The entry `where`, unless all is as by default."""
        settings = self.where.settings()
        return {"where": settings} if settings else {}

    def _read(self, row: Row) -> _Reading:
        first, *others = answer_rows(row, self.where) if self.all_answers else [row]
        found = read(first, self.where)
        text = text_of(found.messages)
        answers = tuple(self._conversation_or_error(other) for other in others)
        return _Reading(text, found.messages, found.column, None, frozenset(found.used), found.is_alone, answers)

    def _conversation_or_error(self, row: Row) -> Conversation | str:
        try:
            return read(row, self.where).messages
        except InvalidConversation as error:
            return error.to_text()


@lru_cache(maxsize=16)
def _forms_of(folder: DataFolder, path: str) -> Forms:
    """What DataTrove's own reader does not say of a Parquet file's columns."""
    import pyarrow.parquet as pq

    with folder.open(path, "rb") as file:
        return column_forms(pq.read_schema(file))


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
        require_column_name("text_key", self.text_key)
        require_column_name("id_key", self.id_key)

    @property
    def settings(self) -> dict[str, Any]:
        """The entry `into`, unless the column is the document's own `text`."""
        return {} if self.text_key == "text" else {"into": self.text_key}

    def _read(self, row: Row) -> _Reading:
        text = text_in(_merged(row), self.text_key)
        if not text.strip():
            raise InvalidConversation("empty_text", f"column {self.text_key!r} holds no text")
        return _Reading(text)


@dataclass(frozen=True)
class ColumnsAdapter(_Adapter):
    """As `TextAdapter`, for steps that look at columns alone, such as scores: no text is read, and none is missing.

    Args:
        id_key: the column of the document's id.

    Raises:
        ValueError: a name is not usable.
    """

    id_key: str = "id"

    def __post_init__(self) -> None:
        require_column_name("id_key", self.id_key)

    @property
    def settings(self) -> dict[str, Any]:
        """None that differ from the defaults."""
        return {}

    def _read(self, row: Row) -> _Reading:
        return _Reading("-")  # DataTrove skips documents without text


def _merged(row: Row) -> Row:
    """The row's columns, and what is nested in its column `metadata`."""
    nested = nested_metadata(row) if "metadata" in row else None
    return row if nested is None else nested | {name: row[name] for name in row if name != "metadata"}


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
    if is_writable(row) and (_is_of_texts(messages) or is_writable(messages)):
        return row, ""
    texts = {name: json_text(value) for name, value in row.items() if not is_writable([value])}  # as deep as in a row
    names = cut(", ".join(map(shown, texts)), 200) or "the conversation"  # which is JSON text in the row
    limits = "bytes, a lone surrogate, an integer of more than 64 bits, or nested too deep"
    return row | texts, f"{names} cannot be written as JSON ({limits}), and is kept as text"


def _is_of_texts(messages: Conversation | None) -> bool:
    """Whether messages hold nothing but texts, which as parts of a writable row are writable."""
    return messages is None or all(len(message) == 2 for message in messages)


def _bookkeeping(columns: Row, found: Row, reading: _Reading) -> Row:
    """The entry `_source`: how to make the row of what is found in the document."""
    values = {name: value for name, value in columns.items() if not (name in found and same(found[name], value))}
    if MESSAGES in columns and reading.messages is not None and not reading.is_alone:
        values[MESSAGES] = columns[MESSAGES]  # as it was: an edit has to be found in the other columns
    source: Row = {"columns": list(columns)}
    if values:  # Parquet has no empty objects
        source |= {"kept": list(values), "values": values}
    if reading.error:
        return source
    source["text"] = checksum(reading.text)
    if reading.messages is not None and (reading.column != MESSAGES or MESSAGES in values):
        source[MESSAGES] = shape(reading.messages)
    return source


_named: set[tuple[str, str]] = set()
LONG_TEXT = 400


def _name_long_texts(row: Row, path: str, reading: _Reading) -> None:
    """Say once per source which columns hold long texts that are not scored."""
    if reading.messages is None:
        return
    for name, value in row.items():
        if type(value) is not str or len(value) < LONG_TEXT or name in NOT_LONG_TEXT or name in reading.used:
            continue
        source = os.path.dirname(path)
        if (source, name) not in _named:
            _named.add((source, name))
            logger.info(
                f"Column {name!r} holds long text beside the conversation and is not scored ({path}): if it is a part "
                "of the conversation, name the columns (prompt_key, answer_key, system_key, history_key)."
            )


def same(value: Any, other: Any) -> bool:
    """Whether two values are equal and of the same type."""
    if value is other:
        return True
    try:
        return type(value) is type(other) and bool(value == other)
    except MemoryError:
        raise
    except Exception:  # arrays, whose comparison is an array
        return False


def _no_row(row: Any) -> InvalidConversation | None:
    """Why there are no columns in a row, which then is kept as text."""
    if not isinstance(row, dict):
        return InvalidConversation("not_an_object", f"the row is {described(row)}, not an object with columns")
    if None in row:  # where DataTrove's CsvReader puts them
        return InvalidConversation("invalid_csv", "the row has more fields than the header: they are under null")
    other = next((name for name in row if not isinstance(name, str)), None)
    return other if other is None else InvalidConversation("not_an_object", f"a column's name is {described(other)}")


def _error_document(text: str, doc_id: str, error: Unscorable) -> dict[str, Any]:
    """The arguments of a document of what is not a row."""
    return {"text": text or error.to_text(), "id": doc_id, "metadata": {CONVERSATION_ERROR: error.to_text()}}


def unread_document(reader: BaseDiskReader, text: str, path: str, number: int, error: InvalidConversation) -> Document:
    """A document in the place of what a reader could not read, with the metadata that the reader's others have.

    Args:
        reader: of files.
        text: what could be read; "": nothing.
        path: the file.
        number: of the row in the file.
        error: what is wrong.
    """
    document = Document(**_error_document(text, f"{path}/{number}", error))
    document.metadata = (reader.default_metadata or {}) | document.metadata
    if reader.add_file_path:
        document.metadata.setdefault("file_path", reader.data_folder.resolve_paths(path))
    return document
