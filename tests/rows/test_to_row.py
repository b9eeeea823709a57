"""A document becomes the row again: every column, every edit, the scores."""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from adapted_rows import ASSISTANT, GOOD, TURNS, USER, adapt, nested, reasons, same
from datatrove.data import Document
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from samples import read_rows, write_rows

from datatrove_quality.readers.jsonl import ConversationJsonlReader
from datatrove_quality.rows.to_document import ConversationAdapter
from datatrove_quality.rows.to_row import RowAdapter, ScoresAdapter
from datatrove_quality.rows.types import CONVERSATION_ERROR, SOURCE


def through_jsonl(
    tmp_path: Path, rows: list[Any], reader: type = ConversationJsonlReader, **options: Any
) -> list[Any]:
    source = write_rows(tmp_path / "in" / "in.jsonl", rows)
    writer = JsonlWriter(str(tmp_path / "out"), adapter=RowAdapter(), compression=None)
    documents = reader(str(source), adapter=ConversationAdapter(**options)).run()
    assert len(list(writer.run(documents))) == len(rows)
    return read_rows(tmp_path / "out")


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
    document.metadata["quality_int_score"] = 3  # the value that the nested column has, but set again
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


def test_jsonl_writer_never_fails_on_what_a_step_added(tmp_path: Path) -> None:
    """Steps add numpy numbers and worse; one of them must not end a run."""
    import numpy as np

    document = adapt(GOOD)
    document.metadata |= {"np": np.float32(0.5), "big": 10**29, "half": "\ud800", "deep": nested(300)}
    list(JsonlWriter(str(tmp_path / "out"), adapter=RowAdapter(), compression=None).run([document]))
    (row,) = read_rows(tmp_path / "out")
    assert row == GOOD | {"np": 0.5, "big": str(10**29), "half": '"\\ud800"', "deep": row["deep"]}
    assert row["deep"].startswith("[[[[")


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


def test_a_sidecar_has_the_ids_of_its_rows(tmp_path: Path) -> None:
    """A number stays one, unless a step has given another id; what JSON or a column cannot hold as one is text."""
    ids = [7, 0.5, "007", True, None, 2**70, float("inf"), 2**64 - 1]
    documents = [adapt(GOOD | {"id": value}) for value in ids]
    changed = adapt(GOOD | {"id": 8})
    changed.id = "new"
    writer = JsonlWriter(str(tmp_path / "out"), adapter=ScoresAdapter(), compression=None)
    list(writer.run([*documents, changed]))
    texts = [document.id for document in documents]
    assert [row["id"] for row in read_rows(tmp_path / "out")] == [7, 0.5, *texts[2:7], 2**64 - 1, "new"]
    # Without a schema the first rows of a Parquet file would decide the type of its column.
    assert [ScoresAdapter()(None, document)["id"] for document in documents] == texts


def test_scores_adapter_finds_the_prefixes_by_itself() -> None:
    """Without a prefix, a sidecar has the scores of every filter, of a failed one its error, no source columns."""
    document = adapt(GOOD | {"some_error": "of the source", "count_tokens": 3})
    document.metadata |= {"edu_score": 1.5, "edu_int_score": 2, "edu_tokens": 9, "edu_truncated": False}
    document.metadata |= {"instruct_error": "no_tokens: none"}
    row = ScoresAdapter()(None, document)
    assert row.pop("edu_score") == 1.5 and row.pop("instruct_error") == "no_tokens: none"
    names = {f"{prefix}_{name}" for prefix in ("edu", "instruct") for name in SCORES} - {"edu_score", "instruct_error"}
    assert row.keys() == {"id", "file_path"} | names


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
