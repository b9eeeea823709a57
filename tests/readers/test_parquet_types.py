"""Columns whose types say more than their values: read as what they mean, written back as they are."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datatrove.data import Document
from datatrove.pipeline.writers import JsonlWriter, ParquetWriter
from layout_rows import CALL, CALLED, ONE, U1, assistant, user
from samples import read_rows

from datatrove_quality import ConversationAdapter, QualityFilter, Run, ScorerConfig
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
    nested = pa.list_(pa.struct([("at", pa.time64("ns")), ("on", pa.date32())]))
    table = pa.table(
        {
            "messages": [ONE, ONE],
            "at": pa.array([1, 123_456_789_123], pa.time64("ns")),
            "on": pa.array([-1_000_000_000, 5], pa.date32()),
            "nested": pa.array([[{"at": 123_456_789, "on": 5}, None], [{"at": 1, "on": -1_000_000_000}]], nested),
            "keyed": pa.array([[("k", 1_001)], []], pa.map_(pa.string(), pa.time64("ns"))),
            "when": pa.array([-(2**62), None], pa.timestamp("us")),
        }
    )
    documents = read(tmp_path, table)
    assert all(document.metadata["messages"] == ONE for document in documents)
    rows = [RowAdapter()(None, document) for document in documents]
    assert pa.Table.from_batches([record_batch(rows, table.schema)]).equals(table)
    list(JsonlWriter(str(tmp_path / "out"), adapter=RowAdapter(), compression=None).run(documents))
    written = read_rows(tmp_path / "out")
    assert written[0]["nested"][0]["at"] == "00:00:00.123456789"
    assert written[1]["nested"][0]["on"] == "<value out of range: -1000000000>"


def test_other_extension_types(tmp_path: Path) -> None:
    """A UUID comes back as one, in lists, objects and maps too; DuckDB makes maps of JSON of objects."""
    uuids = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes(range(16)), None], pa.uuid().storage_type))
    texts = as_json([{"a": 1}, "x"])
    bounds, keys = pa.array([0, 1, 2], pa.int32()), pa.array(["k", "l"])
    columns = {
        "messages": pa.array([ONE, ONE]),
        "uuid": uuids,
        "list": pa.ListArray.from_arrays(bounds, uuids),
        "pair": pa.FixedSizeListArray.from_arrays(uuids, 1),
        "object": pa.StructArray.from_arrays([uuids, texts], names=["u", "j"]),
        "map": pa.MapArray.from_arrays(bounds, keys, texts),
        "lists": pa.MapArray.from_arrays(bounds, keys, pa.ListArray.from_arrays(bounds, uuids)),
        "flag": pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0], pa.int8())),
    }
    table = pa.table(columns)
    rows = [RowAdapter()(None, document) for document in read(tmp_path, table)]
    assert pa.Table.from_batches([record_batch(rows, table.schema)]).equals(table)


def as_duckdb_writes(path: Path, table: pa.Table) -> None:
    """Without Arrow's own schema in the file: its types are those that Parquet has."""
    path.parent.mkdir(parents=True)
    with pq.ParquetWriter(path, table.schema, store_schema=False) as writer:
        writer.write_table(table)


def test_a_run_writes_the_types_that_it_reads(tmp_path: Path, config: ScorerConfig) -> None:
    """JSON that is written as plain text would be scored with its quotes the next time."""
    ids = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes(range(16))], pa.uuid().storage_type))
    table = pa.table({"id": ids, "messages": messages_with_json("content", ONE), "more": as_json([{"a": 1}])})
    as_duckdb_writes(tmp_path / "in" / "a.parquet", table)
    assert pq.read_table(tmp_path / "in").schema.equals(table.schema)
    run = Run(str(tmp_path / "in"), str(tmp_path / "out"))
    result = run.execute(
        [run.reader(ConversationAdapter()), QualityFilter(config, progress=False), run.writer("kept")]
    )
    assert result is not None
    (path,) = (tmp_path / "out" / "kept").iterdir()
    written = pq.read_table(path)
    assert written.select(table.column_names).replace_schema_metadata(None).equals(table)
    assert written["quality_error"].to_pylist() == [None]


def test_datatroves_own_writer(tmp_path: Path) -> None:
    """It writes extension types, but not inside others: refused at the first row, and the error says what can."""
    ids = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes(range(16))], pa.uuid().storage_type))
    table = pa.table({"id": ids, "messages": as_json([ONE])})
    for name, source in (("plain", table), ("nested", table.set_column(1, "messages", listed(ONE)))):
        writer = ParquetWriter(str(tmp_path / name), adapter=RowAdapter(), schema=source.schema)
        documents = read(tmp_path / f"in-{name}", source)
        if name == "nested":
            with pytest.raises(ValueError, match=r"column 'messages', whose type has JSON.*run.writer"):
                list(writer.run(documents))
        else:
            list(writer.run(documents))
            assert pq.read_table(tmp_path / name).equals(source)


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
