"""Columns whose types say more than their values: read as what they mean, written back as they are."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datatrove.data import Document
from layout_rows import CALL, CALLED, ONE, U1, assistant, user

from datatrove_quality.readers.parquet import ConversationParquetReader
from datatrove_quality.rows.arrow_values import record_batch
from datatrove_quality.rows.to_row import RowAdapter
from datatrove_quality.rows.types import CONVERSATION_ERROR


JSON = pa.json_()


def read(tmp_path: Path, table: pa.Table, folder: str = "in") -> list[Document]:
    path = tmp_path / folder / "a.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return list(ConversationParquetReader(str(tmp_path)).run())


def as_json(values: list[Any]) -> pa.Array:
    texts = [None if value is None else json.dumps(value) for value in values]
    return pa.ExtensionArray.from_storage(JSON, pa.array(texts, JSON.storage_type))


def listed(values: list[Any]) -> pa.Array:
    items = as_json(values)
    return pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), items)


def messages_with_json(key: str, messages: list[dict[str, Any]]) -> pa.Array:
    """A list of structs in which one key is JSON text."""
    keys = list(dict.fromkeys(name for message in messages for name in message))
    columns = [
        as_json([m.get(name) for m in messages]) if name == key else pa.array([m.get(name) for m in messages])
        for name in keys
    ]
    structs = pa.StructArray.from_arrays(columns, names=keys)
    return pa.ListArray.from_arrays(pa.array([0, len(messages)], pa.int32()), structs)


PARTS = [user("") | {"content": [{"type": "text", "text": U1}]}, ONE[1]]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (as_json([ONE]), ONE),
        (listed(ONE), ONE),
        (messages_with_json("content", ONE), ONE),
        (messages_with_json("content", PARTS), ONE),
        (messages_with_json("tool_calls", [user(U1), assistant("") | {"tool_calls": [CALL]}]), CALLED[:2]),
        (pa.array([[[*message.items()] for message in ONE]], pa.list_(pa.map_(pa.string(), pa.string()))), ONE),
    ],
)
def test_conversations_in_typed_columns(tmp_path: Path, column: pa.Array, expected: list[dict[str, Any]]) -> None:
    """JSON text, alone, in lists and in structs, and maps: the conversation is the one of the JSONL file."""
    table = pa.table({"id": ["a"], "messages": column, "more": column})
    (document,) = read(tmp_path, table)
    assert document.metadata["messages"] == expected
    batch = record_batch([RowAdapter()(None, document)], table.schema)
    assert pa.Table.from_batches([batch]).equals(table)


def test_prompts_and_answers_in_json(tmp_path: Path) -> None:
    """A JSON column of texts has quotes around them, which are not part of them; maps hold keys and values."""
    (document,) = read(tmp_path, pa.table({"prompt": as_json([U1]), "response": as_json([ONE[1]["content"]])}))
    assert document.metadata["messages"] == ONE
    message = pa.array([[*ONE[1].items()]], pa.map_(pa.string(), pa.string()))
    (document,) = read(tmp_path, pa.table({"messages": [[user(U1)]], "chosen": message}))
    assert document.metadata["messages"] == ONE


def test_names_of_roles_that_are_numbers(tmp_path: Path) -> None:
    """A ClassLabel of `datasets` is read by its names."""
    names = {"names": ["user", "assistant"], "_type": "ClassLabel"}
    feature = {"feature": {"role": names, "content": {"dtype": "string", "_type": "Value"}}, "_type": "List"}
    for described in (feature, [feature["feature"]]):
        metadata = {"huggingface": json.dumps({"info": {"features": {"messages": described}}})}
        turns = [{"role": 0, "content": U1}, {"role": 1, "content": ONE[1]["content"]}]
        table = pa.table({"messages": [turns]}).replace_schema_metadata(metadata)
        (document,) = read(tmp_path, table)
        assert document.metadata["messages"] == ONE
        assert RowAdapter()(None, document) == {"messages": turns}


def test_columns_that_python_cannot_hold(tmp_path: Path) -> None:
    """Nanoseconds, and dates beyond Python's calendar, in a column beside the conversation cost nothing."""
    table = pa.table(
        {
            "messages": [ONE, ONE],
            "at": pa.array([1, 123_456_789_123], pa.time64("ns")),
            "on": pa.array([-1_000_000_000, 5], pa.date32()),
            "when": pa.array([-(2**62), None], pa.timestamp("us")),
        }
    )
    documents = read(tmp_path, table)
    assert all(document.metadata["messages"] == ONE for document in documents)
    rows = [RowAdapter()(None, document) for document in documents]
    assert pa.Table.from_batches([record_batch(rows, table.schema)]).equals(table)


def test_other_extension_types(tmp_path: Path) -> None:
    """A UUID comes back as one."""
    kind = pa.uuid()
    ids = pa.ExtensionArray.from_storage(kind, pa.array([bytes(range(16)), None], kind.storage_type))
    table = pa.table({"uuid": ids, "messages": [ONE, ONE]})
    rows = [RowAdapter()(None, document) for document in read(tmp_path, table)]
    assert pa.Table.from_batches([record_batch(rows, table.schema)]).equals(table)


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    """One of them would be lost without a word."""
    table = pa.Table.from_arrays([pa.array([ONE]), pa.array([1]), pa.array([2])], ["messages", "n", "n"])
    with pytest.raises(ValueError, match="two columns are called 'n'"):
        read(tmp_path, table)


def test_partitions_are_columns(tmp_path: Path) -> None:
    """Folders of a partitioned table give their column back."""
    (document,) = read(tmp_path, pa.table({"messages": [ONE]}), "lang=pt/day=1")
    assert RowAdapter()(None, document) == {"messages": ONE, "lang": "pt", "day": "1"}


def test_a_row_that_is_none_stays_an_error(tmp_path: Path) -> None:
    """What is no conversation in a typed column is an error as in any other."""
    (document,) = read(tmp_path, pa.table({"messages": listed([user(U1), 5])}))
    assert document.metadata[CONVERSATION_ERROR].startswith("invalid_message")
