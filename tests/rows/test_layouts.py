"""Layouts of published data sets and trainers: all that a row says is in the conversation, or it is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from datatrove.data import Document
from layout_rows import A1, A2, CALL, ONE, OTHER, READ, REFUSED, U1, U2, C, S, T, assistant, human, system, user

from datatrove_quality.rows.layouts import parse_conversation
from datatrove_quality.rows.layouts.table import ENVELOPES, REJECTED, SAYS, TOOLS
from datatrove_quality.rows.roles import ROLES, is_answer, known_role
from datatrove_quality.rows.to_document import ConversationAdapter
from datatrove_quality.rows.types import CONVERSATION_ERROR, REASONS, InvalidConversation


@pytest.mark.parametrize(("row", "expected"), [entry[1:] for entry in READ], ids=[entry[0] for entry in READ])
def test_layouts_that_are_read(row: dict[str, Any], expected: list[dict[str, Any]] | None) -> None:
    """The whole conversation, whatever the columns and whatever their order; JSON text in a column's place too."""
    before = json.dumps(row)
    messages = parse_conversation(row)
    assert json.dumps(row) == before
    if expected is not None:
        assert messages == expected
    assert parse_conversation(dict(reversed(row.items()))) == messages
    said = json.dumps(messages, ensure_ascii=False)
    if expected is None:
        assert all(marker in said for marker in (S, U1, A1, C, T) if marker in before)
    document = Document(**ConversationAdapter()(None, row, "f", 0))
    assert document.metadata["messages"] == messages
    assert document.text == "\n\n".join(message["content"] for message in messages)


@pytest.mark.parametrize(("row", "reason"), [entry[1:] for entry in REFUSED], ids=[entry[0] for entry in REFUSED])
def test_layouts_that_are_refused(row: dict[str, Any], reason: str) -> None:
    """Where a part would be left out, or two columns say different things, there is no conversation, and a reason."""
    with pytest.raises(InvalidConversation) as caught:
        parse_conversation(row)
    assert caught.value.reason == reason
    assert reason in REASONS
    document = Document(**ConversationAdapter()(None, row, "f", 0))
    assert document.metadata[CONVERSATION_ERROR].startswith(f"{reason}: ")


def test_anthropic_and_responses_details() -> None:
    """What APIs give in pieces of their own is one turn."""
    items = [user(U1), {"type": "reasoning", "summary": [{"type": "summary_text", "text": C}]},
             {"type": "function_call", "name": "soma", "arguments": '{"a": 1}'},
             {"type": "function_call_output", "output": T},
             {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": A1}]}]  # fmt: skip
    assert parse_conversation({"messages": items}) == [
        user(U1), assistant("") | {"reasoning_content": C, "tool_calls": [CALL]}, {"role": "tool", "content": T},
        assistant(A1),
    ]  # fmt: skip
    blocks = [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": T}]},
              {"type": "text", "text": U2}]  # fmt: skip
    assert parse_conversation({"messages": [user(U1), assistant(A1), {"role": "user", "content": blocks}]})[2:] == [
        {"role": "tool", "content": T, "tool_call_id": "t"},
        user(U2),
    ]
    parts = [{"functionCall": {"name": "soma", "args": {"a": 1}}}]
    (call,) = parse_conversation({"contents": [{"role": "user", "parts": [{"text": U1}]},
                                               {"role": "model", "parts": parts}]})[1]["tool_calls"]  # fmt: skip
    assert call == CALL


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
    for wrong in (
        {"prompt_key": ""},
        {"prompt_key": "a", "messages_key": "b"},
        {"prompt_key": "a", "schema": "alpaca"},
    ):
        with pytest.raises(ValueError, match="prompt_key"):
            ConversationAdapter(**wrong)
    with pytest.raises(ValueError, match="ignored_columns"):
        ConversationAdapter(ignored_columns="context")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "role"),
    [
        *(("model", "assistant"), ("bot", "assistant"), ("ai", "assistant"), ("gpt", "assistant")),
        *(("chatgpt", "assistant"), ("human", "user"), ("function", "tool"), ("ipython", "tool")),
        *(("environment", "tool"), ("observation", "tool"), ("tool_call", "assistant"), ("tool_response", "tool")),
        *(("developer", "system"), ("USER", "user"), (" Assistant ", "assistant"), ("usuário", "user")),
        *(("Usuário", "user"), ("assistente", "assistant"), ("SISTEMA", "system"), ("ferramenta", "tool")),
        *(("用户", "user"), ("usu\u0061\u0301rio", "user"), ("system prompt", "system")),
    ],
)
def test_names_of_roles(name: str, role: str) -> None:
    """Known names mean one of four roles, in any case and language, composed or not."""
    assert known_role(name) == role
    assert parse_conversation({"conversations": [human(U1), {"from": name, "value": A1}]})[1]["role"] == role


def test_unknown_names_of_roles() -> None:
    """A name that is not known stands for no role, and may be the assistant's."""
    assert known_role("narrador") is None
    assert is_answer("narrador") and is_answer("gpt") and not is_answer("developer")
    assert set(ROLES.values()) == {"user", "assistant", "system", "tool"}


def test_long_texts_beside_a_conversation_are_named_once(log: list[str]) -> None:
    """A column outside the list that holds long text is data, but a user may want to know."""
    adapter = ConversationAdapter()
    for number in range(3):
        adapter(None, {"messages": ONE, "passagem": C * 100, "curta": C}, "dados/a.jsonl", number)
    adapter(None, {"messages": ONE, "passagem": C * 100}, "outros/a.jsonl", 0)
    named = [line for line in log if "'passagem'" in line]
    assert len(named) == 2
    assert not any("'curta'" in line for line in log)


def test_the_documentation_names_every_column() -> None:
    """docs/layouts.md has each column of the table, so that a layout that is added is documented."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "layouts.md").read_text(encoding="utf-8")
    columns = sorted(SAYS | REJECTED | {*TOOLS, *ENVELOPES})
    assert [column for column in columns if f"`{column}`" not in text] == []
