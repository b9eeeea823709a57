"""Rows of Parquet through both adapters: types, nulls, and a change of the format."""

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from adapted_rows import ASSISTANT, GOOD, SYSTEM, TURNS, USER, adapt
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import JsonlWriter, ParquetWriter
from samples import read_rows, write_rows

from datatrove_quality.readers.jsonl import ConversationJsonlReader
from datatrove_quality.rows.to_document import ConversationAdapter
from datatrove_quality.rows.to_row import RowAdapter
from datatrove_quality.schema import score_schema


def through_parquet(tmp_path: Path, table: pa.Table, scores: dict[str, Any] | None = None) -> pa.Table:
    (tmp_path / "pin").mkdir()
    pq.write_table(table, tmp_path / "pin" / "a.parquet")
    schema = score_schema(table.schema)
    writer = ParquetWriter(str(tmp_path / "pout"), adapter=RowAdapter(), schema=schema)
    documents = list(ParquetReader(str(tmp_path / "pin"), adapter=ConversationAdapter()).run())
    assert len(documents) == table.num_rows
    for document in documents:
        document.metadata |= scores or {}
    list(writer.run(documents))
    return pq.read_table(tmp_path / "pout")


def test_parquet_round_trip(tmp_path: Path) -> None:
    """Every Arrow type that a corpus may hold comes back, beside columns whose names mean something to DataTrove."""
    table = pa.table(
        {
            "id": pa.array([1, 2, None], pa.int32()),
            "messages": [[USER | {"name": "Ana"}, ASSISTANT], [ASSISTANT | {"tool_calls": [{"a": 1}]}], None],
            "text": ["t", None, ""],
            "rank": pa.array([1, 2, 3], pa.int8()),
            "token_count": ["many", None, "x"],
            "../x": [1.5, None, 2.5],
            "file_path": ["mine", None, "mine"],
            "media": [[{"a": 1}], [], None],
            "metadata": [{"url": "u", "rank": 1}, None, {"url": None, "rank": 2}],
            "when": pa.array([datetime.datetime(2026, 1, 2, 3, 4, 5, 6), None, None], pa.timestamp("us", "UTC")),
            "price": pa.array([decimal.Decimal("1.50"), None, None], pa.decimal128(10, 2)),
            "raw": pa.array([b"\x00\xff", None, b""], pa.binary()),
            "map": pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int64())),
            "quality_score": ["old", "old", "old"],
        }
    )
    result = through_parquet(tmp_path, table, {"quality_score": 2.5, "quality_int_score": 3})
    assert result.column_names[: len(table.column_names)] == table.column_names
    for name in table.column_names[:-1]:
        assert result[name].combine_chunks().equals(table[name].combine_chunks()), name
    assert result["quality_score"].to_pylist() == [2.5, 2.5, 2.5]
    assert result["quality_int_score"].to_pylist() == [3, 3, 3]
    assert result["quality_error"].null_count == 3


def test_an_intermediate_parquet_stage(tmp_path: Path) -> None:
    """DataTrove's default ParquetWriter takes our documents: Parquet has no empty objects."""
    rows = [GOOD | {"id": f"r{n}"} for n in range(3)]
    list(ParquetWriter(str(tmp_path / "mid")).run(map(adapt, rows)))
    again = list(ParquetReader(str(tmp_path / "mid")).run())
    assert [RowAdapter()(None, document) for document in again] == rows


def test_an_intermediate_parquet_stage_of_uneven_rows(tmp_path: Path) -> None:
    """Parquet gives every row the bookkeeping entries of all others, filled with nulls that must not come back."""
    rows = [
        {"messages": json.dumps(TURNS), "rank": 2, "text": "mine"},
        {"messages": json.dumps([USER | {"name": "Ana"}]), "token_count": 3, "id": None},
        {"messages": "no JSON", "id": "a", "rank": None},
    ]
    documents = [adapt(row) for row in rows]
    schema = pa.Table.from_pylist([{"text": d.text, "id": d.id, "metadata": d.metadata} for d in documents]).schema
    list(ParquetWriter(str(tmp_path / "mid"), schema=schema).run(documents))
    again = list(ParquetReader(str(tmp_path / "mid")).run())
    assert [RowAdapter()(None, document) for document in again] == rows


def test_the_same_conversation_from_jsonl_and_parquet(tmp_path: Path) -> None:
    """Arrow fills messages with null keys; the conversation has to render as that of the JSONL file."""
    calls = [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]
    rows = [
        {"messages": [USER | {"name": "Ana"}, {"role": "assistant", "content": None, "tool_calls": calls}]},
        {"messages": [SYSTEM, USER, ASSISTANT | {"weight": 1}]},
    ]
    (tmp_path / "p").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "p" / "a.parquet")
    source = write_rows(tmp_path / "j" / "in.jsonl", rows)
    from_parquet = list(ParquetReader(str(tmp_path / "p"), adapter=ConversationAdapter()).run())
    from_jsonl = list(ConversationJsonlReader(str(source)).run())
    assert [d.metadata["messages"] for d in from_parquet] == [d.metadata["messages"] for d in from_jsonl]
    assert [d.text for d in from_parquet] == [d.text for d in from_jsonl]
    assert from_jsonl[0].metadata["messages"][1] == {"role": "assistant", "content": "", "tool_calls": calls}


def test_parquet_to_jsonl_writes_what_json_has_not_as_text(tmp_path: Path) -> None:
    """A change of format must not end a run at the first decimal."""
    table = pa.table(
        {
            "messages": [TURNS],
            "price": pa.array([decimal.Decimal("1.50")]),
            "raw": [b"\x00\xff"],
            "when": pa.array([datetime.datetime(2026, 1, 2)], pa.timestamp("us")),
            "map": pa.array([[("k", decimal.Decimal("2.5"))]], pa.map_(pa.string(), pa.decimal128(5, 1))),
            "media": [[b"\x01"]],
        }
    )
    (tmp_path / "p").mkdir()
    pq.write_table(table, tmp_path / "p" / "a.parquet")
    documents = ParquetReader(str(tmp_path / "p"), adapter=ConversationAdapter()).run()
    list(JsonlWriter(str(tmp_path / "out"), adapter=RowAdapter(), compression=None).run(documents))
    (row,) = read_rows(tmp_path / "out")
    assert row["messages"] == TURNS
    assert (row["price"], row["raw"], row["when"]) == ("1.50", "AP8=", "2026-01-02T00:00:00")
    assert (row["map"], row["media"]) == ([["k", "2.5"]], ["AQ=="])
