"""A scored document becomes the row again: adapters for DataTrove's writers."""

import base64
from dataclasses import dataclass
from typing import Any

import orjson
from datatrove.data import Document
from datatrove.pipeline.writers import JsonlWriter, ParquetWriter

from datatrove_quality.rows.arrow_values import has_numbers, nested_extension, scalar_text
from datatrove_quality.rows.edits import CannotWriteBack, checksum, is_edited, write_back
from datatrove_quality.rows.json_values import json_text, with_constants
from datatrove_quality.rows.layouts import Where, nested_metadata
from datatrove_quality.rows.score_columns import (
    answer_values,
    cascade_types,
    output_values,
    require_prefix,
    score_types,
)
from datatrove_quality.rows.to_document import same
from datatrove_quality.rows.types import ANSWERS, CONVERSATION_ERROR, MESSAGES, RESERVED, SOURCE, Row


@dataclass(frozen=True)
class RowAdapter:
    """Rebuilds the row of a document: for the `adapter=` of any DataTrove writer.

    First the source columns in their order, with their values and types (a value that a step has changed under its own
    name is written as changed; a column that a step has removed is left out); then what the steps have added, such as
    scores and `filter_reason`. What the reader derived (`text`, `id`, `messages`, `file_path`) is left out unless the
    source had it. A conversation that a step has edited in `metadata["messages"]`, or a `TextAdapter`'s text, is
    written back into the columns that it was read from, in their own form. A document that no `ConversationAdapter`
    made gives `text`, `id` and its metadata.

    A JsonlWriter never fails on a row, be it that of a Parquet file: what JSON has not is written as text, bytes in
    base64.
    """

    def __call__(self, writer: Any, document: Document) -> Row:
        """The row.

        Args:
            writer: the writer, to which DataTrove binds its adapter. May be None.
            document: the document. It is not changed.

        Raises:
            ValueError: the conversation was edited in a way that its columns cannot hold.
        """
        metadata = document.metadata
        source = metadata.get(SOURCE)
        if isinstance(source, dict) and "columns" in source:
            kept = {name: source["values"][name] for name in source.get("kept") or ()}
            nested = nested_metadata(kept) or {}
            removed = nested.keys() - metadata.keys() - RESERVED
            if removed:  # as a filter removes the score of an earlier run
                left = {name: value for name, value in nested.items() if name not in removed}
                kept["metadata"] = json_text(left) if isinstance(kept["metadata"], str) else left
            found = metadata | {"text": document.text, "id": document.id} | kept
            row = {name: found[name] for name in source["columns"] if name in found}
            row = _with_edits(row, document, source)
            left_out = {*source["columns"]}
            if "dataset" in source and same(metadata.get("dataset"), source["dataset"]):
                left_out.add("dataset")  # which HuggingFaceDatasetReader has added
            row |= _added(metadata, left_out, nested)
        else:
            row = {"text": document.text, "id": document.id, **metadata}
            row.pop(CONVERSATION_ERROR, None)
        if not isinstance(writer, JsonlWriter):
            _require_no_nested_extensions(writer)
            return row
        return _for_jsonl_writer(row, isinstance(source, dict) and bool(source.get("constants")))


def _require_no_nested_extensions(writer: Any) -> None:
    """Refuse what DataTrove's own Parquet writer cannot write before a thousand rows wait for it.

    Raises:
        ValueError: it has such a column.
    """
    if type(writer) is ParquetWriter and (name := nested_extension(writer.schema)):
        raise ValueError(
            f"DataTrove's ParquetWriter cannot write column {name!r}, whose type has JSON, UUID or another extension "
            "type inside a list, an object or a map: write with run.writer() of a Run, or as JSONL."
        )


def _with_edits(row: Row, document: Document, source: Row) -> Row:
    """The row with what steps have changed in the conversation or the text."""
    into = source.get("into")
    if into in row and source.get("text") is not None and checksum(document.text) != source["text"]:
        return row | {into: document.text}
    if source.get(MESSAGES) is None:
        return row
    messages = document.metadata.get(MESSAGES)
    if messages is None:  # a step has removed the conversation
        return {name: value for name, value in row.items() if name != MESSAGES}
    if not is_edited(messages, source["text"], source[MESSAGES]):
        return row
    where = Where(**{name: value for name, value in (source.get("where") or {}).items() if value is not None})
    try:
        return write_back(row, where, messages, source["text"], source.get("forms") or {})
    except CannotWriteBack as error:
        file = document.metadata.get("file_path", "its file is not known")
        raise ValueError(f"Document {document.id!r} ({file}) cannot be written: {error}.") from error


def _added(metadata: Row, columns: set[str], nested: Row) -> Row:
    """What the steps after the reader have added.

    An entry of the source's own column `metadata` goes back there, unless a step has changed it, or has set it again:
    then it comes after `_source`.
    """
    left_out = columns | {MESSAGES, "text", "id", "file_path", CONVERSATION_ERROR, SOURCE, ANSWERS}
    added = {}
    is_from_source = True
    for name, value in metadata.items():
        is_from_source = is_from_source and name != SOURCE
        is_nested = is_from_source and name in nested and same(nested[name], value)
        if name not in left_out and not is_nested:
            added[name] = value
    return added


class _JsonlRow(dict[str, Any]):
    """A row for JsonlWriter, which takes `row.get("media")` for DataTrove's media and fails on anything else."""

    def get(self, key: str, default: Any = None) -> Any:
        return default if key == "media" else super().get(key, default)


def _for_jsonl_writer(row: Row, has_constants: bool = False) -> Row:
    """The row with values that the writer can write; `has_constants`: it holds NaN or Infinity, which are kept."""
    columns = with_constants(row) if has_constants else row
    if not _is_json(columns):
        fallback = json_text if has_constants else _as_json  # the latter would make null of NaN
        columns = {name: value if _is_json(value) else fallback(row[name]) for name, value in columns.items()}
    return _JsonlRow(columns) if "media" in columns else columns


def _is_json(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except (TypeError, RecursionError):
        return False
    return True


def _as_json(value: Any) -> Any:
    """The value with what JSON has not as text (bytes in base64); if that does not help, all of it as JSON text."""
    try:
        options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
        return orjson.loads(orjson.dumps(value, default=_leaf_text, option=options))
    except (TypeError, ValueError, RecursionError):
        return json_text(value)


def _leaf_text(value: Any) -> str:
    if type(value).__module__ == "pyarrow.lib":
        return scalar_text(value)
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else str(value)


@dataclass(frozen=True)
class ScoresAdapter:
    """Gives the scores only: for a writer's `adapter=`, as a sidecar of a corpus that is not rewritten.

    Each row has `id` (a number where it is one in the source, else text), `file_path`, and `{prefix}_score`,
    `_int_score`, `_tokens`, `_truncated` and `_error`, null where the document has none, so that all rows have the
    same columns; what each output of a classifier with several says, where the document has it; and `filter_reason`
    where there is one.

    Args:
        prefix: the prefix of the `QualityFilter`. None: those of all filters that the document went through.

    Raises:
        ValueError: the prefix is not usable.
    """

    prefix: str | None = None

    def __post_init__(self) -> None:
        if self.prefix is not None:
            require_prefix(self.prefix)

    def __call__(self, writer: Any, document: Document) -> Row:
        """The scores of a document; arguments as those of `RowAdapter`."""
        metadata = document.metadata
        row: Row = {"id": _row_id(writer, document), "file_path": metadata.get("file_path")}
        for prefix in [self.prefix] if self.prefix else _prefixes(metadata):
            types = score_types(prefix) | (cascade_types(prefix) if f"{prefix}_scored_by" in metadata else {})
            row |= {name: metadata.get(name) for name in types} | output_values(metadata, prefix)
            row |= answer_values(metadata, prefix)
        if metadata.get("filter_reason") is not None:
            row["filter_reason"] = metadata["filter_reason"]
        return _for_jsonl_writer(row) if isinstance(writer, JsonlWriter) else row


def _row_id(writer: Any, document: Document) -> Any:
    """The row's id, a number where it was one, so that scores can be joined with their corpus.

    In Parquet it is what the schema says: in a column of numbers, a row without one has None; without a schema it is
    text, since the first rows would decide its type.
    """
    source = document.metadata.get(SOURCE)
    number = source.get("id") if isinstance(source, dict) else None
    if number is not None and str(number) != document.id:  # a step has given another one
        number = None
    if isinstance(writer, JsonlWriter):
        return document.id if number is None else number
    schema = getattr(writer, "schema", None)
    return document.id if schema is None or not has_numbers(schema, "id") else number


def _prefixes(metadata: Row) -> list[str]:
    """The prefixes of the filters that left a score or an error, in their order."""
    errors = metadata.keys() - {CONVERSATION_ERROR, *metadata.get(SOURCE, {}).get("columns", ())}
    # An output's own name may end so, and its value is a float.
    values = [(name, value) for name, value in metadata.items() if not isinstance(value, float)]
    found = [name.removesuffix("_int_score") for name, _ in values if name.endswith("_int_score")]
    found += [name.removesuffix("_error") for name, _ in values if name.endswith("_error") and name in errors]
    decided = (name.removesuffix("_scored_by") for name in metadata if name.endswith("_scored_by"))
    found += [prefix for prefix in decided if f"{prefix}_proxy_score" in metadata]
    return list(dict.fromkeys(found))
