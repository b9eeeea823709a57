"""Rows as documents, and as rows again: what the tests of the adapters share."""

from typing import Any

from datatrove.data import Document

from datatrove_quality.config import Unscorable
from datatrove_quality.rows.to_document import ConversationAdapter
from datatrove_quality.rows.types import CONVERSATION_ERROR


USER = {"role": "user", "content": "Qual é a capital de Portugal?"}
ASSISTANT = {"role": "assistant", "content": "A capital de Portugal é Lisboa."}
SYSTEM = {"role": "system", "content": "Responde em português."}
TURNS = [USER, ASSISTANT]
GOOD = {"id": "a", "messages": TURNS}


def nested(depth: int) -> Any:
    """Lists within lists, as deep as that."""
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
    """The document of a row, as a reader makes it."""
    return Document(**(adapter or ConversationAdapter())(reader, row, "file.jsonl", 7))


def reasons(documents: list[Document]) -> list[str | None]:
    """The reason of each document that is an error, else None."""
    errors = [document.metadata.get(CONVERSATION_ERROR) for document in documents]
    return [error and reason_of(error) for error in errors]


def same(one: Any, other: Any) -> bool:
    """Equal with types, all the way down: 1 is not True, and not 1.0."""
    return repr(one) == repr(other)
