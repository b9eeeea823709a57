"""Columns and schemas that a user names."""

from typing import Any

import pytest
from adapted_rows import GOOD
from datatrove.data import Document
from layout_rows import A1, A2, ONE, OTHER, U1, U2, C, S, assistant, system, user

from datatrove_quality.rows.layouts import parse_conversation
from datatrove_quality.rows.layouts.arguments import arguments_of_document
from datatrove_quality.rows.to_document import ConversationAdapter, TextAdapter
from datatrove_quality.rows.to_row import ScoresAdapter
from datatrove_quality.rows.types import InvalidConversation


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


@pytest.mark.parametrize(
    ("row", "names"),
    [
        ({"messages": ONE, "tools": [{"name": "f"}]}, ["f"]),
        ({"body": {"messages": [user(U1)], "tools": [{"name": "f"}]}, "response": A1}, ["f"]),
        ({"input": {"messages": [user(U1)], "tools": [{"name": "f"}]}, "output": A1}, ["f"]),
        ({"messages": ONE, "body": {"tools": [{"name": "f"}]}}, []),
    ],
)
def test_tools_are_those_of_the_conversation(row: dict[str, Any], names: list[str]) -> None:
    """In a column, or in the object that the conversation was read from."""
    document = Document(**ConversationAdapter()(None, row, "f", 0))
    tools = arguments_of_document(document.metadata, render_tools=True).get("tools", [])
    assert [tool["function"]["name"] for tool in tools] == names


def test_column_options() -> None:
    """Columns of any name are read where they are named, and what is named settles what else could be meant."""
    row = {"pergunta": U1, "resposta": A1, "sistema": S, "antes": [[U2, A2]], "answer": OTHER}
    names = {"prompt_key": "pergunta", "answer_key": "resposta", "system_key": "sistema", "history_key": "antes"}
    expected = [system(S), user(U2), assistant(A2), *ONE]
    assert parse_conversation(row, **names) == expected
    document = Document(**ConversationAdapter(**names)(None, row, "f", 0))
    assert document.metadata["messages"] == expected
    with pytest.raises(InvalidConversation, match="--prompt-key, --answer-key"):
        parse_conversation({"pergunta": U1, "resposta": A1})
    two = {"prompt": U1, "response": A1, "completion": A2}
    assert parse_conversation(two, answer_key="completion") == [user(U1), assistant(A2)]
    assert parse_conversation({"messages": [user(U1)], "gpt4": A1}, answer_key="gpt4") == ONE
    assert parse_conversation({"messages": ONE, "documents": [C]}, ignored_columns=("documents",)) == ONE
    assert parse_conversation({"messages": ONE, "context": C}, ignored_columns=["context"]) == ONE
    noted = [user(U1), assistant(A1) | {"rationale": C, "text": OTHER}]
    assert parse_conversation({"messages": noted}, ignored_columns=("rationale", "text")) == ONE
    for wrong in (
        {"prompt_key": ""},
        {"prompt_key": "a", "messages_key": "b"},
        {"prompt_key": "a", "schema": "alpaca"},
    ):
        with pytest.raises(ValueError, match="prompt_key"):
            ConversationAdapter(**wrong)
    with pytest.raises(ValueError, match="ignored_columns"):
        ConversationAdapter(ignored_columns="context")  # type: ignore[arg-type]
