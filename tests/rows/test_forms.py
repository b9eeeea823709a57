"""Values that only a column's type tells: read as what they mean, and edited where they are stored."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datatrove.data import Document
from datatrove.pipeline.readers import ParquetReader
from layout_rows import A1, ONE, U1, S

from datatrove_quality.readers.parquet import ConversationParquetReader
from datatrove_quality.rows.arrow_values import record_batch
from datatrove_quality.rows.forms import decoded_columns
from datatrove_quality.rows.to_document import ConversationAdapter
from datatrove_quality.rows.to_row import RowAdapter


TEXTS = [json.dumps(message) for message in ONE]
MAPS = pa.map_(pa.string(), pa.string())
PARTS = [[{"type": "text", "text": message["content"]}] for message in ONE]


def as_json(texts: list[str]) -> pa.Array:
    return pa.ExtensionArray.from_storage(pa.json_(), pa.array(texts, pa.string()))


def listed(items: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array([0, len(items)], pa.int32()), items)


COLUMNS = {
    "json": as_json([json.dumps(ONE)]),
    "list of json": listed(as_json(TEXTS)),
    "list of maps": pa.array([[list(message.items()) for message in ONE]], pa.list_(MAPS)),
    "json contents": listed(
        pa.StructArray.from_arrays(
            [pa.array(["user", "assistant"]), as_json([json.dumps(parts) for parts in PARTS])], ["role", "content"]
        )
    ),
}


def read(folder: Path, table: pa.Table) -> Document:
    folder.mkdir()
    pq.write_table(table, folder / "a.parquet")
    (document,) = ConversationParquetReader(str(folder)).run()
    return document


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_an_edit_is_written_where_the_text_is_stored(tmp_path: Path, column: pa.Array) -> None:
    """In JSON text, in maps, in JSON contents: the column keeps its type, and nothing of the original text is left."""
    table = pa.table({"messages": column, "prompt": [U1]})
    document = read(tmp_path / "in", table)
    assert document.metadata["messages"] == ONE
    edited = [message | {"content": message["content"].lower()} for message in ONE]
    document.metadata["messages"] = edited
    row: dict[str, Any] = RowAdapter()(None, document)
    assert U1 not in str(row) and A1 not in str(row)
    again = read(tmp_path / "out", pa.Table.from_batches([record_batch([row], table.schema)]))
    assert again.metadata["messages"] == edited


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_datatroves_own_reader_does_not_say_the_types(tmp_path: Path, column: pa.Array) -> None:
    """The adapter looks them up in the file."""
    table = pa.table({"messages": column, "system": as_json([json.dumps(S)])})
    expected = read(tmp_path / "in", table)
    (document,) = ParquetReader(str(tmp_path / "in"), adapter=ConversationAdapter()).run()
    assert document.metadata == expected.metadata
    assert document.metadata["messages"] == [{"role": "system", "content": S}, *ONE]


def test_a_message_that_is_added_has_a_place_in_json_text_only(tmp_path: Path) -> None:
    """A list of JSON texts or of maps is not rebuilt: that is an error at the row, never a silent original."""
    for number, (name, column) in enumerate(COLUMNS.items()):
        document = read(tmp_path / str(number), pa.table({"messages": column}))
        document.metadata["messages"] = [*document.metadata["messages"], ONE[0]]
        if name == "json":
            assert json.loads(RowAdapter()(None, document)["messages"]) == [*ONE, ONE[0]]
        else:
            with pytest.raises(ValueError, match="cannot be written"):
                RowAdapter()(None, document)


def test_values_are_read_by_their_forms() -> None:
    """Each form, nulls in every place, and text that is no JSON, which stays as it is."""
    row = {"a": "[1]", "b": [("x", "{}"), ("y", None)], "c": [0, 1, 2, None], "d": {"e": "1", "f": "1"}, "g": "{"}
    forms = {
        "a": "json",
        "b": {"map": "json"},
        "c": {"list": {"names": ["user", "assistant"]}},
        "d": {"struct": {"e": "json"}},
        "g": "json",
        "absent": "json",
    }
    expected = {"a": [1], "b": {"x": {}, "y": None}, "c": ["user", "assistant", 2, None], "d": {"e": 1, "f": "1"}}
    assert decoded_columns(row, forms) == expected | {"g": "{"}
    assert decoded_columns({"b": None, "c": None}, forms) == {"b": None, "c": None}
