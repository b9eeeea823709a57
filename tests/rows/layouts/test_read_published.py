"""Layouts of published data sets and trainers: all that a row says is in the conversation, or it is refused."""

import json
from typing import Any

import pytest
from datatrove.data import Document
from layout_rows import A1, ONE, READ, REFUSED, U1, C, S, T

from datatrove_quality.rows.layouts import parse_conversation
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


def test_long_texts_beside_a_conversation_are_named_once(log: list[str]) -> None:
    """A column outside the list that holds long text is data, but a user may want to know."""
    adapter = ConversationAdapter()
    for number in range(3):
        adapter(None, {"messages": ONE, "passagem": C * 100, "curta": C}, "dados/a.jsonl", number)
    adapter(None, {"messages": ONE, "passagem": C * 100}, "outros/a.jsonl", 0)
    named = [line for line in log if "'passagem'" in line]
    assert len(named) == 2
    assert not any("'curta'" in line for line in log)
