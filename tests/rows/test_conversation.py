"""A row becomes a conversation, a document, and the row again: every schema, every bad row, JSONL and Parquet."""

import copy
import datetime
import decimal
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import dill
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datatrove.data import Document
from datatrove.pipeline.readers import JsonlReader, ParquetReader
from datatrove.pipeline.writers import JsonlWriter, ParquetWriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from samples import read_rows, write_rows

from datatrove_quality.config import Unscorable
from datatrove_quality.readers.jsonl import ConversationJsonlReader
from datatrove_quality.rows.layouts import parse_conversation
from datatrove_quality.rows.to_document import ConversationAdapter, TextAdapter
from datatrove_quality.rows.to_row import RowAdapter, ScoresAdapter
from datatrove_quality.rows.types import CONVERSATION_ERROR, REASONS, SOURCE, InvalidConversation
from datatrove_quality.schema import score_schema


USER = {"role": "user", "content": "Qual é a capital de Portugal?"}
ASSISTANT = {"role": "assistant", "content": "A capital de Portugal é Lisboa."}
SYSTEM = {"role": "system", "content": "Responde em português."}
TURNS = [USER, ASSISTANT]
GOOD = {"id": "a", "messages": TURNS}


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def reason_of(text: Any) -> str:
    """The reason in an error's text."""
    error = Unscorable.from_text(text)
    assert error is not None
    return error.reason


def adapt(row: Any, adapter: Any = None, reader: Any = None) -> Document:
    return Document(**(adapter or ConversationAdapter())(reader, row, "file.jsonl", 7))


def through_jsonl(
    tmp_path: Path, rows: list[Any], reader: type = ConversationJsonlReader, **options: Any
) -> list[Any]:
    source = write_rows(tmp_path / "in" / "in.jsonl", rows)
    writer = JsonlWriter(str(tmp_path / "out"), adapter=RowAdapter(), compression=None)
    documents = reader(str(source), adapter=ConversationAdapter(**options)).run()
    assert len(list(writer.run(documents))) == len(rows)
    return read_rows(tmp_path / "out")


def reasons(documents: list[Document]) -> list[str | None]:
    errors = [document.metadata.get(CONVERSATION_ERROR) for document in documents]
    return [error and reason_of(error) for error in errors]


def same(one: Any, other: Any) -> bool:
    """Equal with types, all the way down: 1 is not True, and not 1.0."""
    return repr(one) == repr(other)


# --- parse_conversation: what is read --------------------------------------------------------------------------------

ROWS = [
    ("messages", {"messages": TURNS}, TURNS),
    ("messages as a JSON string", {"messages": json.dumps(TURNS)}, TURNS),
    ("text parts", {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, "b"]}]}, "ab"),
    ("unknown role is kept", {"messages": [{"role": "critic", "content": "a"}]}, [{"role": "critic", "content": "a"}]),
    ("extra keys are kept", {"messages": [USER | {"name": "Ana"}]}, [USER | {"name": "Ana"}]),
    ("nulls go", {"messages": [USER | {"name": None, "a": {"b": None, "c": [{"d": None}]}}]}, None),
    ("empty assistant", {"messages": [USER, {"role": "assistant", "content": ""}]}, None),
    (
        "tool calls without content",
        {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "x": None}]}]},
        [USER, {"role": "assistant", "tool_calls": [{"id": "1"}], "content": ""}],
    ),
    ("from/value in messages", {"messages": [{"from": "human", "value": "a"}]}, [{"role": "user", "content": "a"}]),
    (
        "sharegpt",
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b", "weight": 1}]},
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 1}],
    ),
    ("sharegpt with role/content", {"conversations": TURNS}, TURNS),
    ("sharegpt as a JSON string", {"conversations": json.dumps([{"from": "human", "value": "a"}])}, "a"),
    ("sharegpt with a system column", {"conversations": TURNS, "system": SYSTEM["content"]}, [SYSTEM, *TURNS]),
    ("its own system turn says it", {"conversations": [SYSTEM, USER], "system": "português."}, [SYSTEM, USER]),
    ("an empty system column", {"conversations": TURNS, "system": " "}, TURNS),
    ("WildChat, LMSYS", {"conversation": TURNS}, TURNS),
    ("alpaca", {"instruction": USER["content"], "input": "", "output": ASSISTANT["content"]}, TURNS),
    ("alpaca without input", {"instruction": USER["content"], "output": ASSISTANT["content"]}, TURNS),
    ("alpaca, null input", {"instruction": USER["content"], "input": None, "output": ASSISTANT["content"]}, TURNS),
    (
        "alpaca with input",
        {"instruction": "a", "input": "b", "output": "c", "system": "s"},
        [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "a\n\nb"},
            {"role": "assistant", "content": "c"},
        ],
    ),
    ("response", {"prompt": USER["content"], "response": ASSISTANT["content"]}, TURNS),
    ("completion", {"prompt": USER["content"], "completion": ASSISTANT["content"]}, TURNS),
    ("answer", {"prompt": USER["content"], "answer": ASSISTANT["content"]}, TURNS),
    ("chosen", {"prompt": USER["content"], "chosen": ASSISTANT["content"], "rejected": "x"}, TURNS),
    ("first that is not null", {"prompt": USER["content"], "response": None, "answer": ASSISTANT["content"]}, TURNS),
    ("prompt list, chosen list", {"prompt": [SYSTEM, USER], "chosen": [ASSISTANT]}, [SYSTEM, *TURNS]),
    ("chosen is everything", {"prompt": USER["content"], "chosen": TURNS}, TURNS),
    ("chosen is everything, with system", {"prompt": USER["content"], "chosen": [SYSTEM, *TURNS]}, [SYSTEM, *TURNS]),
    ("prompt and completion lists", {"prompt": [USER], "completion": [ASSISTANT]}, TURNS),
    ("a prompt list as JSON string", {"prompt": json.dumps([USER]), "response": ASSISTANT["content"]}, TURNS),
    ("a prompt that is JSON", {"prompt": "[1, 2]", "response": "3"}, "[1, 2]"),
    ("null columns of another schema", {"messages": None, "instruction": "a", "output": "b", "prompt": None}, "a"),
    ("messages come first", {"messages": TURNS, "conversations": [USER], "prompt": USER["content"]}, TURNS),
    ("the same twice", {"instruction": USER["content"], "output": "Lisboa", "conversations": TURNS}, TURNS),
]


@pytest.mark.parametrize(("row", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_auto_reads_every_shape(row: dict[str, Any], expected: Any) -> None:
    """Each known shape of a row gives the conversation it means, with roles and contents that are strings."""
    before = copy.deepcopy(row)
    messages = parse_conversation(row)
    assert row == before
    if isinstance(expected, str):
        assert messages[0] == {"role": "user", "content": expected}
    elif expected is not None:
        assert messages == expected
    assert all(isinstance(message["role"], str) and isinstance(message["content"], str) for message in messages)


def test_nulls_are_removed_at_every_level() -> None:
    """Arrow fills in null keys, in nested objects too; a template must not see them."""
    row = {"messages": [USER | {"name": None, "calls": [{"a": None, "b": {"c": None, "d": 1}}, None]}]}
    assert parse_conversation(row) == [USER | {"calls": [{"b": {"d": 1}}, None]}]


@pytest.mark.parametrize(
    ("alias", "role"),
    [
        *(("human", "user"), ("USER", "user"), ("gpt", "assistant"), ("chatgpt", "assistant"), ("bing", "assistant")),
        *(("bard", "assistant"), ("model", "assistant"), ("system", "system"), ("tool", "tool"), ("function", "tool")),
        *(("observation", "tool"), ("function_call", "assistant")),
    ],
)
def test_sharegpt_aliases(alias: str, role: str) -> None:
    """The known names of ShareGPT corpora mean one of four roles."""
    assert parse_conversation({"conversations": [{"from": alias, "value": "a"}]}) == [{"role": role, "content": "a"}]


def test_explicit_schemas_and_messages_key() -> None:
    """A schema that is named is the one that is read, and messages_key names its column."""
    sharegpt = [{"from": "human", "value": "a"}]
    row = {"messages": TURNS, "chat": TURNS, "dialog": sharegpt, "conversations": sharegpt}
    assert parse_conversation(row, "messages") == TURNS
    assert parse_conversation(row, "messages", "chat") == TURNS
    assert parse_conversation(row, messages_key="chat") == TURNS
    assert parse_conversation(row, messages_key="dialog") == [{"role": "user", "content": "a"}]
    assert parse_conversation(row, "sharegpt", "dialog") == [{"role": "user", "content": "a"}]
    assert parse_conversation(row, "sharegpt") == [{"role": "user", "content": "a"}]
    row |= {"instruction": "a", "output": "b", "prompt": "c", "answer": "d"}
    assert [message["content"] for message in parse_conversation(row, "alpaca")] == ["a", "b"]
    assert [message["content"] for message in parse_conversation(row, "prompt_response")] == ["c", "d"]


def test_large_integers_in_a_json_string_keep_their_digits() -> None:
    """orjson turns integers beyond 64 bits into floats; nothing may change silently."""
    row = {"messages": '[{"role": "user", "content": "a", "n": 123456789012345678901234567890}]'}
    assert parse_conversation(row)[0]["n"] == 123456789012345678901234567890


# --- parse_conversation: what is refused -----------------------------------------------------------------------------

SURROGATE = "a\ud800b"
BAD_ROWS: list[tuple[str, dict[str, Any]]] = [
    ("missing_column", {}),
    ("missing_column", {"text": "a", "url": "b"}),
    ("missing_column", {"instruction": "a"}),
    ("missing_column", {"prompt": "a"}),
    ("null_column", {"messages": None}),
    ("no_messages", {"messages": []}),
    ("no_messages", {"messages": "[]"}),
    ("not_a_list", {"messages": {"role": "user", "content": "a"}}),
    ("not_a_list", {"messages": 3}),
    ("not_a_list", {"messages": '{"role": "user"}'}),
    ("invalid_json", {"messages": "[{"}),
    ("invalid_json", {"messages": ""}),
    ("invalid_role", {"conversations": '[{"from": NaN}]'}),
    ("lone_surrogate", {"messages": '[{"role": "user", "content": "\\ud800"}]'}),
    ("lone_surrogate", {"messages": SURROGATE}),
    ("nested_too_deep", {"messages": "[" * 5000 + "]" * 5000}),
    ("invalid_message", {"messages": [[USER]]}),
    ("invalid_message", {"messages": [USER, None]}),
    ("invalid_message", {"messages": ["a", "b"]}),
    ("missing_role", {"messages": [{"content": "a"}]}),
    ("missing_role", {"messages": [{"role": None, "content": "a"}]}),
    ("missing_role", {"conversations": [{"value": "a"}]}),
    ("invalid_role", {"messages": [{"role": 1, "content": "a"}]}),
    ("unknown_role", {"conversations": [{"from": "narrator", "value": "a"}]}),
    ("missing_content", {"messages": [{"role": "user"}]}),
    ("missing_content", {"messages": [{"role": "user", "content": None}]}),
    ("missing_content", {"messages": [{"role": "user", "content": None, "tool_calls": [{"id": "1"}]}]}),
    ("missing_content", {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": []}]}),
    ("invalid_content", {"messages": [{"role": "user", "content": 5}]}),
    ("invalid_content", {"messages": [{"role": "user", "content": {"text": "a"}}]}),
    ("invalid_content", {"messages": [{"role": "user", "content": [1]}]}),
    ("invalid_content", {"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}),
    ("invalid_content", {"instruction": "a", "output": 4}),
    ("invalid_content", {"instruction": "a", "input": {}, "output": "b"}),
    ("unsupported_content", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "a"}]}]}),
    ("unsupported_content", {"messages": [{"role": "user", "content": [{"type": ["x"], "text": "a"}]}]}),
    ("lone_surrogate", {"messages": [{"role": "user", "content": SURROGATE}]}),
    ("lone_surrogate", {"messages": [{"role": SURROGATE, "content": "a"}]}),
    ("lone_surrogate", {"messages": [USER | {"name": SURROGATE}]}),
    ("lone_surrogate", {"instruction": SURROGATE, "output": "a"}),
    ("lone_surrogate", {"prompt": SURROGATE, "answer": "a"}),
    ("empty_conversation", {"messages": [{"role": "user", "content": ""}, {"role": "assistant", "content": " \n"}]}),
    ("empty_conversation", {"instruction": "", "input": "", "output": ""}),
    ("nested_too_deep", {"messages": [USER | {"deep": nested(500)}]}),
    ("nested_too_deep", {"messages": [USER | {"deep": nested(20_000)}]}),
    ("not_a_list", {"prompt": 4, "answer": "a"}),
]


@pytest.mark.parametrize(("reason", "row"), BAD_ROWS)
def test_bad_rows(reason: str, row: dict[str, Any]) -> None:
    """Each kind of bad row has its reason, from both entrances, and stays a row."""
    with pytest.raises(InvalidConversation) as caught:
        parse_conversation(row)
    assert caught.value.reason == reason
    assert reason in REASONS
    assert 10 < len(str(caught.value)) <= 500
    str(caught.value).encode()
    document = adapt(row)
    assert document.text
    assert reason_of(document.metadata[CONVERSATION_ERROR]) == reason
    assert "messages" not in document.metadata


def test_errors_say_what_was_found_and_where() -> None:
    """A person can find the bad message from the error alone."""
    with pytest.raises(InvalidConversation, match=r"message 2 of column 'messages' has a content that is of type int"):
        parse_conversation({"messages": [USER, {"role": "assistant", "content": 5}]})
    with pytest.raises(InvalidConversation, match=r"looked for 'messages', .*keys found: 'texto', 'url'"):
        parse_conversation({"texto": "a", "url": "b"})
    with pytest.raises(InvalidConversation, match=r"looked for column 'chat'; keys found: none"):
        parse_conversation({}, messages_key="chat")
    with pytest.raises(InvalidConversation) as caught:
        parse_conversation({"k" * 10_000_000: 1, "conversations": [{"from": "x" * 10_000_000, "value": "a"}]})
    assert len(str(caught.value)) <= 500


def test_a_row_must_be_an_object() -> None:
    """Whatever is given instead of a row is refused as a bad row, not with a TypeError."""
    for row in ([], "a", None, 3):
        with pytest.raises(InvalidConversation):
            parse_conversation(row)  # type: ignore[arg-type]
        assert reason_of(adapt(row).metadata[CONVERSATION_ERROR]) == "not_an_object"


def test_usage_errors_name_the_field_and_the_fix() -> None:
    """A wrong setting is found when the step is made, not on row one."""
    for make in (ConversationAdapter, lambda **options: parse_conversation(GOOD, **options)):
        with pytest.raises(ValueError, match=r"schema='chatml' is unknown: use one of 'auto'"):
            make(schema="chatml")
        with pytest.raises(ValueError, match="messages_key=''"):
            make(messages_key="")
        with pytest.raises(ValueError, match="does not go with schema='alpaca'"):
            make(schema="alpaca", messages_key="x")
    with pytest.raises(ValueError, match="id_key=''"):
        ConversationAdapter(id_key="")
    with pytest.raises(ValueError, match="text_key=None"):
        TextAdapter(text_key=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="prefix=''"):
        ScoresAdapter("")


def test_an_error_survives_pickling() -> None:
    """An exception that cannot be unpickled hangs a process pool."""
    error = pickle.loads(pickle.dumps(InvalidConversation("no_messages", "there are none")))
    assert (error.reason, str(error)) == ("no_messages", "there are none")


# --- ConversationAdapter ---------------------------------------------------------------------------------------------


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


# --- round trips -----------------------------------------------------------------------------------------------------

TROUBLE = [
    GOOD,
    {"messages": TURNS, "id": 5, "rank": 3, "token_count": "many", "../x": [1], "file_path": "mine", "media": ["a"]},
    {"text": "mine", "messages": TURNS, "media": None, "conversation_error": "mine", SOURCE: {"columns": ["a"]}},
    {"messages": [USER | {"content": [{"type": "text", "text": "a"}]}, ASSISTANT | {"name": None}], "id": None},
    {"media": [{"media_bytes": "aGk=", "id": "x"}, {"url": 1}], "messages": json.dumps(TURNS), "id": ""},
    {"conversations": [{"from": "human", "value": "a"}], "messages": None, "system": "s", "id": 1.5, "b": True},
    {"conversations": [{"from": "human", "value": "a"}], "messages": [], "id": True},
    {"instruction": "a", "output": "b", "metadata": {"url": "u", "rank": 1, "messages": "x", "file_path": "p"}},
    {"id": "a", "text": "t", "metadata": {"messages": TURNS, "url": "u", "quality_score": 3.5, "a": {"b": None}}},
    {"id": "a", "text": "t", "metadata": json.dumps({"messages": TURNS, "url": "u"})},
    {"messages": TURNS, "metadata": "plain", "filter_reason": None, "quality_score": "old", "dataset": "d"},
    {"messages": 5, "rank": None, "id": [1], "metadata": {"messages": TURNS}},
    {"messages": [[]], "text": "", "n": 18446744073709551615, "m": -9223372036854775808, "f": 1e300},
    {},
    {"": 1, "é": "\u2028\u0000", "id": "x/../y"},
]


@pytest.mark.parametrize("row", TROUBLE)
def test_a_row_comes_back_in_process(row: dict[str, Any]) -> None:
    """Names, order, values and types of every column, whatever it is called and holds."""
    document = adapt(row)
    document.metadata.setdefault("file_path", "the reader's")
    assert same(RowAdapter()(None, document), row)
    orjson.dumps(document)


def test_jsonl_round_trip(tmp_path: Path) -> None:
    """Through DataTrove's own steps: read, write, compare the bytes of the lines."""
    rows = through_jsonl(tmp_path, TROUBLE)
    assert list(map(orjson.dumps, rows)) == list(map(orjson.dumps, TROUBLE))


def test_jsonl_round_trip_with_datatroves_reader(tmp_path: Path) -> None:
    """The adapters work with the plain JsonlReader too, but for `media` columns that it fails on itself."""
    rows = [row | {"media": [{"media_bytes": None}]} if "media" in row else row for row in TROUBLE]
    assert through_jsonl(tmp_path, rows, JsonlReader) == rows


@pytest.mark.parametrize("expand", [False, True])
def test_intermediate_stage_with_datatroves_defaults(tmp_path: Path, expand: bool) -> None:
    """Adapters stand at the two ends of a longer pipeline, whose stages in between know nothing of them."""
    # DataTrove's default steps take a column `media` for their own, and `metadata` when it is expanded
    rows = [row for row in TROUBLE if "media" not in row and not isinstance(row.get("metadata"), str)]
    source = write_rows(tmp_path / "in" / "in.jsonl", rows)
    first = JsonlWriter(str(tmp_path / "mid"), expand_metadata=expand)
    list(first.run(ConversationJsonlReader(str(source)).run()))
    documents = list(JsonlReader(str(tmp_path / "mid")).run())
    for document in documents:
        document.metadata |= {"quality_score": 4.5, "filter_reason": "below_min_score"}
    list(JsonlWriter(str(tmp_path / "out"), adapter=RowAdapter(), compression=None).run(documents))
    scores = {"quality_score": 4.5, "filter_reason": "below_min_score"}
    assert read_rows(tmp_path / "out") == [row | scores for row in rows]


@pytest.mark.parametrize("expand", [False, True])
def test_what_a_datatrove_writer_wrote_is_a_row(tmp_path: Path, expand: bool) -> None:
    """Documents that DataTrove's writer wrote are read as conversations, and come back as they were."""
    document = Document(text="t", id="i", metadata={"messages": TURNS, "url": "u", "token_count": 3})
    writer = JsonlWriter(str(tmp_path / "old"), expand_metadata=expand, compression=None)
    list(writer.run([document]))
    rows = read_rows(tmp_path / "old")
    (read,) = ConversationJsonlReader(str(tmp_path / "old")).run()
    assert read.metadata["messages"] == TURNS
    assert read.metadata["url"] == "u"
    assert through_jsonl(tmp_path, rows) == rows


def test_an_error_document_stays_one_through_a_stage(tmp_path: Path) -> None:
    """The reason of an error is not lost when a DataTrove writer's output is read with ConversationAdapter."""
    source = write_rows(tmp_path / "in" / "in.jsonl", [{"messages": []}])
    list(JsonlWriter(str(tmp_path / "mid")).run(ConversationJsonlReader(str(source)).run()))
    assert reasons(list(ConversationJsonlReader(str(tmp_path / "mid")).run())) == ["no_messages"]


def test_scores_and_changes_are_written() -> None:
    """What a step sets wins over the source, what it adds comes after, what it removes is gone."""
    row = GOOD | {"quality_score": "old", "source": "x", "gone": 1, "metadata": {"quality_int_score": 3, "url": "u"}}
    document = adapt(row)
    document.metadata |= {"quality_score": 3.25, "source": "y", "token_count": 9, "rank": 1, "url": "v"}
    del document.metadata["gone"]
    document.metadata.pop("quality_int_score")
    document.metadata["quality_int_score"] = 3  # the value that the nested column has, but set anew
    assert RowAdapter()(None, document) == {
        "id": "a",
        "messages": TURNS,
        "quality_score": 3.25,
        "source": "y",
        "metadata": {"quality_int_score": 3, "url": "u"},
        "url": "v",
        "token_count": 9,
        "rank": 1,
        "quality_int_score": 3,
    }


OTHER_FORMS = [
    TURNS,
    [USER | {"name": None}, ASSISTANT],
    json.dumps(TURNS, ensure_ascii=False),
    [USER | {"content": [{"type": "text", "text": USER["content"]}]}, ASSISTANT],
]
REDACTED = USER | {"content": "[redacted]"}
EDITED_FORMS = [
    [REDACTED, ASSISTANT],
    [REDACTED | {"name": None}, ASSISTANT],
    json.dumps([REDACTED, ASSISTANT], ensure_ascii=False),
    [USER | {"content": [{"type": "text", "text": "[redacted]"}]}, ASSISTANT],
]


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize(("messages", "expected"), list(zip(OTHER_FORMS, EDITED_FORMS, strict=True)))
def test_an_edited_conversation_is_written(messages: Any, expected: Any, in_place: bool) -> None:
    """A step that redacts metadata["messages"] sees it written in the column's own form, also after JSONL."""
    document = adapt({"messages": messages})
    assert RowAdapter()(None, document) == {"messages": messages}
    if in_place:
        document.metadata["messages"][0]["content"] = "[redacted]"
    else:
        document.metadata["messages"] = [USER | {"content": "[redacted]"}, ASSISTANT]
    assert RowAdapter()(None, document) == {"messages": expected}
    assert RowAdapter()(None, Document(**orjson.loads(orjson.dumps(document)))) == {"messages": expected}


def test_a_removed_conversation_is_left_out() -> None:
    """A step that removes metadata["messages"] removes the column, in whatever form the source had it."""
    for messages in OTHER_FORMS:
        document = adapt(GOOD | {"messages": messages})
        del document.metadata["messages"]
        assert RowAdapter()(None, document) == {"id": "a"}


def test_source_columns_have_priority_under_reserved_names() -> None:
    """A step's token_count does not overwrite the corpus's own column of that name."""
    document = adapt(GOOD | {"token_count": "many"})
    document.metadata["token_count"] = 7
    assert RowAdapter()(None, document) == GOOD | {"token_count": "many"}


def test_a_document_of_another_adapter() -> None:
    """RowAdapter at the end of a plain DataTrove pipeline gives the text, the id and the metadata."""
    document = Document(text="t", id="i", metadata={"messages": TURNS, "url": "u", "quality_score": 1.0})
    expected = {"text": "t", "id": "i", "messages": TURNS, "url": "u", "quality_score": 1.0}
    assert RowAdapter()(None, document) == expected


JSON_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters())
)
JSON_VALUES = st.recursive(
    JSON_LEAVES,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    [
        *("messages", "conversations", "instruction", "input", "output", "prompt", "chosen", "system", "id", "text"),
        *("rank", "token_count", "media", "metadata", "file_path", "conversation_error", SOURCE, "dataset"),
    ]
)
MESSAGE = st.dictionaries(
    st.sampled_from(["role", "content", "from", "value", "name", "tool_calls"]),
    st.sampled_from(["user", "human", "gpt", "", None, 3]) | JSON_VALUES,
    max_size=4,
)
COLUMNS = (
    JSON_VALUES | st.lists(MESSAGE, max_size=3) | st.dictionaries(NAMES, JSON_VALUES | st.lists(MESSAGE), max_size=3)
)
JSON_ROWS = st.dictionaries(NAMES | st.text(max_size=4), COLUMNS | COLUMNS.map(json.dumps), max_size=6)


def has_large_number(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(has_large_number, value.values()))
    if isinstance(value, list):
        return any(map(has_large_number, value))
    return isinstance(value, int) and not -(2**63) <= value < 2**64


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(JSON_ROWS)
def test_any_json_object_comes_back(row: dict[str, Any]) -> None:
    """No JSON object raises, none is lost or changed, and every document can be written by a default JsonlWriter."""
    document = adapt(row)
    assert document.text and document.id
    assert ("messages" in document.metadata) != (CONVERSATION_ERROR in document.metadata)
    row_again = RowAdapter()(None, document)
    writable = {name for name in row if not has_large_number(row[name])}
    try:
        for name in row:
            orjson.dumps({name: row[name]})
    except TypeError:
        assert list(row_again) == list(row)
    else:
        assert same(row_again, row)
        through_json = Document(**orjson.loads(orjson.dumps(document)))
        assert same(RowAdapter()(None, through_json), row)
    assert writable <= row_again.keys()


# --- Parquet ---------------------------------------------------------------------------------------------------------


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


def test_jsonl_writer_never_fails_on_what_a_step_added(tmp_path: Path) -> None:
    """Steps add numpy numbers and worse; one of them must not end a run."""
    import numpy as np

    document = adapt(GOOD)
    document.metadata |= {"np": np.float32(0.5), "big": 10**29, "half": "\ud800", "deep": nested(300)}
    list(JsonlWriter(str(tmp_path / "out"), adapter=RowAdapter(), compression=None).run([document]))
    (row,) = read_rows(tmp_path / "out")
    assert row == GOOD | {"np": 0.5, "big": str(10**29), "half": '"\\ud800"', "deep": row["deep"]}
    assert row["deep"].startswith("[[[[")


def test_score_schema() -> None:
    """The source's fields stay as they are, ours are added or take the place of their namesakes."""
    source = pa.schema(
        [pa.field("id", pa.int32(), nullable=False, metadata={"k": "v"}), pa.field("quality_score", pa.string())],
        metadata={"pandas": "{}"},
    )
    schema = score_schema(source)
    assert schema.field("id").equals(source.field("id"), check_metadata=True)
    assert schema.metadata == source.metadata
    assert schema.names == [
        *("id", "quality_score", "quality_int_score", "quality_tokens", "quality_truncated", "quality_error"),
        "filter_reason",
    ]
    kinds = [pa.float64(), pa.int64(), pa.int64(), pa.bool_(), pa.string(), pa.string()]
    assert schema.types[1:] == kinds
    assert "instruct_score" in score_schema(source, "instruct").names
    with pytest.raises(ValueError, match=r"pyarrow\.Schema"):
        score_schema({"id": "int"})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="prefix=''"):
        score_schema(source, "")


SCORES = ("score", "int_score", "tokens", "truncated", "error")


def test_scores_adapter(tmp_path: Path) -> None:
    """A sidecar has the same columns in every row."""
    document = adapt(GOOD | {"secret": 1})
    document.metadata |= {"file_path": "f", "quality_score": 1.5, "quality_int_score": 2, "quality_tokens": 9}
    document.metadata |= {"quality_truncated": False}
    row = ScoresAdapter()(None, document)
    assert row == {
        "id": "a",
        "file_path": "f",
        "quality_score": 1.5,
        "quality_int_score": 2,
        "quality_tokens": 9,
        "quality_truncated": False,
        "quality_error": None,
    }
    document.metadata["filter_reason"] = "x"
    other = ScoresAdapter("instruct")(None, document)
    assert other["instruct_score"] is None
    assert other["filter_reason"] == "x"


def test_scores_adapter_finds_the_prefixes_by_itself() -> None:
    """Without a prefix, a sidecar has the scores of every filter, of a failed one its error, no source columns."""
    document = adapt(GOOD | {"some_error": "of the source", "count_tokens": 3})
    document.metadata |= {"edu_score": 1.5, "edu_int_score": 2, "edu_tokens": 9, "edu_truncated": False}
    document.metadata |= {"instruct_error": "no_tokens: none"}
    row = ScoresAdapter()(None, document)
    assert row.pop("edu_score") == 1.5 and row.pop("instruct_error") == "no_tokens: none"
    names = {f"{prefix}_{name}" for prefix in ("edu", "instruct") for name in SCORES} - {"edu_score", "instruct_error"}
    assert row.keys() == {"id", "file_path"} | names


# --- text ------------------------------------------------------------------------------------------------------------


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


def test_a_removed_entry_of_nested_metadata_stays_removed() -> None:
    """A score of an earlier run that a filter has taken away does not come back inside the column `metadata`."""
    document = adapt({"id": "a", "metadata": {"messages": TURNS, "quality_score": 4.9, "source": "s"}})
    del document.metadata["quality_score"]
    document.metadata["quality_error"] = "no_tokens: none"
    row = RowAdapter()(None, document)
    assert row == {"id": "a", "metadata": {"messages": TURNS, "source": "s"}, "quality_error": "no_tokens: none"}


def test_a_metadata_text_stays_a_text() -> None:
    """A JSON string that loses an entry is still a JSON string, as its column's type demands."""
    document = adapt(
        {"metadata": '{"messages": null, "filter_reason": "x", "lang": "pt"}', "id": "a", "messages": TURNS}
    )
    del document.metadata["filter_reason"]
    assert json.loads(RowAdapter()(None, document)["metadata"]) == {"messages": None, "lang": "pt"}
