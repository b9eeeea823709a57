"""A row becomes a document: its text, id and metadata, and an error that says what is wrong with it."""

import copy
import datetime
import gc
import json
import pickle
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import dill
import orjson
from adapted_rows import ASSISTANT, GOOD, TURNS, USER, adapt, nested, reason_of, reasons, same
from datatrove.pipeline.writers import JsonlWriter
from samples import read_rows, write_rows

from datatrove_quality.readers.jsonl import ConversationJsonlReader
from datatrove_quality.rows.to_document import ConversationAdapter, TextAdapter
from datatrove_quality.rows.to_row import RowAdapter, ScoresAdapter
from datatrove_quality.rows.types import CONVERSATION_ERROR, SOURCE


def test_document_of_a_row() -> None:
    """Text, id and metadata are what the interface promises, and the row is left alone."""
    row = {"id": 5, "messages": TURNS, "source": "x", "media": ["m"], "metadata": {"lang": "pt", "rank": 3}}
    before = copy.deepcopy(row)
    parts = ConversationAdapter()(None, row, "file.jsonl", 7)
    assert row == before
    assert set(parts) == {"text", "id", "metadata"}
    assert parts["text"] == f"{USER['content']}\n\n{ASSISTANT['content']}"
    assert parts["id"] == "5"
    metadata = {name: value for name, value in parts["metadata"].items() if name != SOURCE}
    assert metadata == {"source": "x", "media": ["m"], "lang": "pt", "messages": TURNS}
    orjson.dumps(parts["metadata"][SOURCE])


def test_document_ids() -> None:
    """An id is the column's value as text, else the place of the row."""
    assert adapt({"id": 0, "messages": TURNS}).id == "0"
    assert adapt({"uuid": "u", "id": "x", "messages": TURNS}, ConversationAdapter(id_key="uuid")).id == "u"
    for row in ({}, {"id": None}, {"id": ""}, {"id": {"$oid": 1}}, {"id": "\ud800"}):
        assert adapt(row).id == "file.jsonl/7"


def test_error_document_is_the_row_as_json() -> None:
    """What cannot be scored can be read by a person, and no step takes it for a conversation."""
    row = {"messages": [{"role": "user"}], "when": datetime.date(2026, 1, 2), "b": b"\x00"}
    document = adapt(row)
    assert document.text == json.dumps(row, default=str)
    assert document.metadata["when"] == datetime.date(2026, 1, 2)
    assert "messages" not in document.metadata


def test_nested_metadata_is_merged() -> None:
    """Rows that a DataTrove writer wrote have their columns, the conversation too, under `metadata`."""
    metadata = {"messages": TURNS, "url": "u", "token_count": "many"}
    for value in (metadata, json.dumps(metadata)):
        document = adapt({"text": "t", "id": "i", "url": "outer", "metadata": value})
        assert document.metadata["messages"] == TURNS
        assert document.metadata["url"] == "outer"
        assert "token_count" not in document.metadata
        assert same(RowAdapter()(None, document), {"text": "t", "id": "i", "url": "outer", "metadata": value})
    for value in (None, [1], "no json", "[1]", "{", 5):
        document = adapt(GOOD | {"metadata": value})
        assert document.metadata["metadata"] == value
        assert same(RowAdapter()(None, document), GOOD | {"metadata": value})


def test_unwritable_values_make_the_row_unscorable_and_text() -> None:
    """What JSON cannot carry stops no writer: it is written as text, and said."""
    big = 10**29
    bad = {"big": big, "bytes": b"\x00", "half": "\ud800", "deep": nested(400), "deeper": nested(3000)}
    for name, value in bad.items():
        document = adapt(GOOD | {name: value})
        assert reason_of(document.metadata[CONVERSATION_ERROR]) == "unwritable_value"
        assert name in document.metadata[CONVERSATION_ERROR]
        row = RowAdapter()(None, document)
        assert list(row) == ["id", "messages", name]
        assert row["messages"] == TURNS
        assert isinstance(row[name], str)
        orjson.dumps(document)
    assert RowAdapter()(None, adapt(GOOD | {"big": big}))["big"] == str(big)
    assert RowAdapter()(None, adapt(GOOD | {"deep": nested(400)}))["deep"] == "[" * 400 + "0" + "]" * 400
    assert RowAdapter()(None, adapt(GOOD | {"deep": nested(3000)}))["deep"] == "[" * 3000 + "0" + "]" * 3000


def test_deep_objects_are_written_as_json() -> None:
    """The encoder for values beyond Python's recursion limit writes the JSON that can be parsed."""
    value: Any = {}
    for number in range(2000):
        value = {"k": [number, value, "é"], "l": []}
    text = RowAdapter()(None, adapt({"deep": value}))["deep"]
    assert text.startswith('{"k": [1999, {"k": [1998, ')
    assert text.endswith(', "\\u00e9"], "l": []}')
    loop: list[Any] = []
    loop.append(loop)
    assert adapt({"loop": loop}).text


def test_unwritable_conversation_in_a_json_string() -> None:
    """A 30-digit integer inside a JSON string must not reach a writer as a number, from no column."""
    text = '[{"role": "user", "content": "a", "n": 123456789012345678901234567890}]'
    for row in ({"messages": text}, {"prompt": text, "response": "b"}, GOOD | {"metadata": f'{{"chat": {text}}}'}):
        document = adapt(row)
        if "metadata" not in row:
            assert reason_of(document.metadata[CONVERSATION_ERROR]) == "unwritable_value"
        assert RowAdapter()(None, document) == row
        orjson.dumps(document)


def test_adapters_are_values_that_pickle() -> None:
    """Executors pickle every step; equal settings are equal adapters."""
    adapters = (
        ConversationAdapter("sharegpt", "chat", "uuid"),
        RowAdapter(),
        ScoresAdapter("instruct"),
        TextAdapter(),
    )
    for adapter in adapters:
        assert dill.loads(dill.dumps(adapter)) == pickle.loads(pickle.dumps(adapter)) == adapter
        assert type(adapter).__name__ in repr(adapter)


def test_steps_with_adapters_pickle(tmp_path: Path) -> None:
    """A reader and a writer that hold an adapter pass through dill, as in every executor."""
    source = write_rows(tmp_path / "in" / "in.jsonl", [GOOD])
    reader = dill.loads(dill.dumps(ConversationJsonlReader(str(source))))
    writer = dill.loads(dill.dumps(JsonlWriter(str(tmp_path / "out"), adapter=RowAdapter(), compression=None)))
    list(writer.run(copy.deepcopy(reader).run()))
    assert read_rows(tmp_path / "out") == [GOOD]


def test_text_adapter(tmp_path: Path) -> None:
    """A corpus of plain text loses no row and no column either."""
    rows = [{"text": "a", "id": 1, "metadata": {"url": "u"}}, {"text": "", "id": 2}, {"id": 3}, {"text": 4}]
    source = write_rows(tmp_path / "in" / "in.jsonl", rows)
    documents = list(ConversationJsonlReader(str(source), adapter=TextAdapter()).run())
    assert documents[0].text == "a"
    assert documents[0].metadata["url"] == "u"
    assert reasons(documents) == [None, "empty_text", "missing_column", "invalid_content"]
    assert [RowAdapter()(None, document) for document in documents] == rows


def test_import_is_light() -> None:
    """Reading data must not load torch, transformers or pyarrow's parquet."""
    code = (
        "import sys, datatrove_quality.rows.to_document;"
        "print([name for name in ('torch', 'transformers', 'pyarrow', 'zstandard.backend') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_row_that_cannot_be_read_is_freed_at_once() -> None:
    """An error that held the frames in which it was raised would keep large rows until garbage is collected."""

    class Tracked(dict[str, Any]):
        pass

    row = Tracked(messages=[], html="x" * 1_000)
    alive = weakref.ref(row)
    gc.disable()
    try:
        document = ConversationAdapter()(None, row, "f", 0)
        del row
        assert document["metadata"][CONVERSATION_ERROR].startswith("no_messages: ")
        assert alive() is None
    finally:
        gc.enable()
