"""An edited conversation is written back into the columns that it came from, in their form, or the row is an error."""

import json
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from adapted_rows import adapt
from datatrove.data import Document
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import ParquetWriter
from layout_rows import A1, A2, ONE, READ, U1, U2, C, assistant, gpt, human, user

from datatrove_quality.rows.layouts import parse_conversation
from datatrove_quality.rows.to_document import ConversationAdapter, TextAdapter
from datatrove_quality.rows.to_row import RowAdapter
from datatrove_quality.schema import score_schema


def masked(value: Any) -> Any:
    """A value with every text in it edited as a step would edit it."""
    if isinstance(value, str):
        for marker in ("PERGUNTA", "RESPOSTA", "SISTEMA", "CONTEXTO", "TOOL", "OUTRA"):
            value = value.replace(marker, f"<{marker.lower()}>")
        return value
    if isinstance(value, dict):
        return {key: masked(item) for key, item in value.items()}
    return [masked(item) for item in value] if isinstance(value, list) else value


def mask_contents(document: Document) -> None:
    for message in document.metadata["messages"]:
        message["content"] = masked(message["content"])
        if "reasoning_content" in message:
            message["reasoning_content"] = masked(message["reasoning_content"])


# What holds another answer or another conversation is no part of the conversation, and is not edited with it.
LEFT_ALONE = ("rejected", "non_preferred_output", "gold", "images", "source", "tools", "original_question", "metadata")


@pytest.mark.parametrize("name", [entry[0] for entry in READ])
def test_every_layout_is_written_back(name: str) -> None:
    """Each text lands where it was read, in JSON text and joined columns too, and wherever the row repeats it."""
    row = next(entry[1] for entry in READ if entry[0] == name)
    document = adapt(row)
    assert json.dumps(RowAdapter()(None, document)) == json.dumps(row)
    mask_contents(document)
    written = RowAdapter()(None, document)
    assert list(written) == list(row)
    assert parse_conversation(written) == document.metadata["messages"]
    for column, value in row.items():
        is_inside = column == "metadata" and name.startswith("a DataTrove")
        if column in LEFT_ALONE and not is_inside and column not in ("rejected", "original_question"):
            assert written[column] == value
        elif column not in LEFT_ALONE and not (column == "answer" and "chosen" in row):
            assert not any(said in json.dumps(written[column]) for said in ("PERGUNTA", "RESPOSTA", "SISTEMA"))
            assert type(written[column]) is type(value)
    assert RowAdapter()(None, Document(**orjson.loads(orjson.dumps(document)))) == written


def test_keys_that_are_ignored_stay() -> None:
    """A key of messages that is no part of them comes back beside an edited content."""
    row = {"messages": [user(U1), assistant(A1) | {"rationale": C}]}
    document = Document(**ConversationAdapter(ignored_columns=("rationale",))(None, row, "f", 0))
    assert document.metadata["messages"] == ONE
    assert RowAdapter()(None, document) == row
    document.metadata["messages"] = [user("B"), assistant(A1)]
    assert RowAdapter()(None, document) == {"messages": [user("B"), row["messages"][1]]}


@pytest.mark.parametrize("row", [
    {"prompt": U1, "messages": [user(f"{C}: {U1}"), assistant(A1)]},
    {"messages": [user(U1) | {"parts": [{"type": "text", "text": U1}]}, assistant(A1)]},
    {"messages": [user(f"{U1} {C}"), assistant(A1)], "context": C},
])  # fmt: skip
def test_a_part_that_is_repeated_is_no_silent_original(row: dict[str, Any]) -> None:
    """Where another column repeats a part of a text that was edited, what it should be is not known: an error."""
    document = adapt(row)
    assert RowAdapter()(None, document) == row
    mask_contents(document)
    with pytest.raises(ValueError, match=r"cannot be written: .*unused_column"):
        RowAdapter()(None, document)


@pytest.mark.parametrize("place", [
    lambda turns, value: {"metadata": json.dumps({"messages": turns, "v": value})},
    lambda turns, value: {"metadata": {"messages": turns, "v": value}},
    lambda turns, value: {"metadata": {"messages": json.dumps(turns), "v": [value]}},
    lambda turns, value: {"messages": turns, "v": value, "metadata": json.dumps({"v": value})},
    lambda turns, value: {"messages": [turn | {"weight": value} for turn in turns]},
    lambda turns, value: {"messages": json.dumps([turn | {"weight": value} for turn in turns])},
    lambda turns, value: {"body": {"messages": turns[:1], "top_p": value},
                          "response": {"body": {"choices": [{"message": turns[1], "logprob": value}]}}},
])  # fmt: skip
def test_values_of_any_type_beside_what_is_edited(place: Any) -> None:
    """They come back as they were: a number with a point in a text of metadata once ended the run."""
    for value in (0.5, -1.5e300, 1e-7, 7, -(2**63), True, False, None, "", "a", [0.25, [1]], {"k": 0.75}):
        document = adapt(place(ONE, value))
        assert RowAdapter()(None, document) == place(ONE, value)
        mask_contents(document)
        assert repr(RowAdapter()(None, document)) == repr(place(masked(ONE), value))


def test_what_was_not_chosen_has_the_edited_prompt() -> None:
    """The turns that a rejected answer repeats are edited with the others; the answer itself is another text."""
    row = {"messages": ONE, "rejected": [user(U1), assistant(A2)]}
    document = adapt(row)
    mask_contents(document)
    assert RowAdapter()(None, document) == {"messages": masked(ONE), "rejected": [masked(user(U1)), assistant(A2)]}


def test_forms_of_lists() -> None:
    """JSON text stays JSON text, from/value stays from/value, parts stay parts, and other keys stay."""
    edited = [user("x"), assistant("y")]
    cases: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"messages": json.dumps(ONE)}, {"messages": json.dumps(edited)}),
        (
            {"conversations": [human(U1) | {"weight": 0}, gpt(A1)]},
            {"conversations": [human("x") | {"weight": 0}, gpt("y")]},
        ),
        ({"conversations": json.dumps([human(U1), gpt(A1)])}, {"conversations": json.dumps([human("x"), gpt("y")])}),
        (
            {"messages": [user("") | {"content": [{"type": "text", "text": "PERG"}, {"type": "text", "text": "1"}]},
                          assistant(A1)]},
            {"messages": [user("") | {"content": [{"type": "text", "text": "x"}, {"type": "text", "text": ""}]},
                          assistant("y")]},
        ),
        ({"instruction": U1, "input": C, "output": A1}, {"instruction": "x", "input": "", "output": "y"}),
        ({"instruction": U1, "input": "", "output": A1}, {"instruction": "x", "input": "", "output": "y"}),
    ]  # fmt: skip
    for row, expected in cases:
        document = adapt(row)
        for message, new in zip(document.metadata["messages"], edited, strict=True):
            message["content"] = new["content"]
        assert RowAdapter()(None, document) == expected


def test_turns_may_be_removed_from_a_list_only() -> None:
    """A list holds any number of turns; columns of question and answer hold one each."""
    for row, expected in (
        ({"conversations": [human(U1), gpt(A1), human(U2)]}, {"conversations": [human(U1), gpt(A1)]}),
        ({"messages": [*ONE, user(U2)]}, {"messages": ONE}),
        ({"messages": json.dumps([*ONE, user(U2)])}, {"messages": json.dumps(ONE)}),
    ):
        document = adapt(row)
        document.metadata["messages"] = document.metadata["messages"][:2]
        assert RowAdapter()(None, document) == expected
    document = adapt({"prompt": U1, "response": A1, "id": "r1"})
    document.metadata["messages"] = [*ONE, user(U2)]
    with pytest.raises(ValueError, match=r"'r1'.* cannot be written: .*'prompt', 'response'.*rename no key"):
        RowAdapter()(None, document)
    document.metadata["messages"] = []
    with pytest.raises(ValueError, match="no_messages"):
        RowAdapter()(None, document)


def test_column_options_are_remembered() -> None:
    """What the adapter was told is known where the edit is written."""
    adapter = ConversationAdapter(prompt_key="q", answer_key="a", ignored_columns=("context",))
    row = {"q": U1, "a": A1, "context": C}
    document = adapt(row, adapter)
    mask_contents(document)
    assert RowAdapter()(None, document) == {"q": masked(U1), "a": masked(A1), "context": C}


def test_an_edited_text_is_written_into_its_column() -> None:
    """TextAdapter's column holds what was scored, whatever it is called."""
    for column in ("text", "content"):
        document = adapt({column: U1, "id": "a"}, TextAdapter(column))
        assert RowAdapter()(None, document) == {column: U1, "id": "a"}
        document.text = "x"
        assert RowAdapter()(None, document) == {column: "x", "id": "a"}


TABLES = {
    "messages": {"messages": [ONE, [*ONE, user(U2) | {"name": "Ana"}]]},
    "messages as JSON": {"messages": [json.dumps(ONE), json.dumps(ONE)]},
    "sharegpt": {"conversations": [[human(U1), gpt(A1)], [human(U2) | {"weight": 1}, gpt(A1)]], "system": [None, C]},
    "alpaca": {"instruction": [U1, U2], "input": ["", C], "output": [A1, A1]},
    "prompt and chosen": {"prompt": [[user(U1)], [user(U2)]], "chosen": [[assistant(A1)], [assistant(A1)]]},
}


@pytest.mark.parametrize("name", TABLES)
def test_parquet(tmp_path: Path, name: str) -> None:
    """The columns keep their types, and hold the edited texts."""
    table = pa.table(TABLES[name])
    (tmp_path / "in").mkdir()
    pq.write_table(table, tmp_path / "in" / "a.parquet")
    documents = list(ParquetReader(str(tmp_path / "in"), adapter=ConversationAdapter()).run())
    for document in documents:
        mask_contents(document)
    writer = ParquetWriter(str(tmp_path / "out"), adapter=RowAdapter(), schema=score_schema(table.schema))
    list(writer.run(documents))
    written = pq.read_table(tmp_path / "out").select(table.column_names)
    assert written.schema.equals(table.schema)
    assert written.to_pylist() == [
        {key: json.dumps(masked(json.loads(value)), ensure_ascii=False) if name.endswith("JSON") else masked(value)
         for key, value in row.items()}
        for row in table.to_pylist()
    ]  # fmt: skip
