"""The several answers of a document: what of each is scored, and the lists in which each has its place."""

from collections.abc import Sequence
from typing import Any

from datatrove.data import Document

from datatrove_quality.config import Score, Unscorable
from datatrove_quality.rows.edits import checksum, text_of
from datatrove_quality.rows.score_columns import RecordedScore, answer_types, answer_values
from datatrove_quality.rows.types import ANSWERS, SOURCE, Conversation, ConversationWithArguments


VALUES = ("score", "int_score", "tokens", "truncated")


def other_answers(document: Document, conversation: Conversation) -> list[Conversation | Unscorable]:
    """The conversations with the other answers of a document, or why one cannot be scored.

    Args:
        document: as `ConversationAdapter(all_answers=True)` made it.
        conversation: the document's, as it is scored.

    Raises:
        ValueError: a step has edited the conversation, and so not the other answers.
    """
    answers = document.metadata.get(ANSWERS) or []
    source: Any = document.metadata.get(SOURCE)
    made = source.get("text") if isinstance(source, dict) else None
    if answers and made is not None and made != checksum(text_of(conversation)):
        file = document.metadata.get("file_path", "its file is not known")
        raise ValueError(
            f"Document {document.id!r} ({file}): an earlier step has edited its conversation, but not its other "
            "answers, which would be scored and written as they were: omit all_answers (--all-answers), or that step."
        )
    return [
        _with_arguments(conversation, answer) if isinstance(answer, list) else _reason(answer) for answer in answers
    ]


def _with_arguments(conversation: Conversation, answer: Conversation) -> Conversation:
    """An answer, with what its row gives to the template beside the messages."""
    if isinstance(conversation, ConversationWithArguments):
        return ConversationWithArguments(answer, conversation.template_arguments)
    return answer


def _reason(text: object) -> Unscorable:
    return Unscorable.from_text(text) or Unscorable("unreadable_row", f"{text!r:.200}")


def answer_lists(results: Sequence[Score | RecordedScore | Unscorable], prefix: str) -> dict[str, Any]:
    """The lists of what each answer got, by column: null where it has no score, or no error."""
    values = [
        [None if isinstance(result, Unscorable) else getattr(result, name) for result in results] for name in VALUES
    ]
    errors = [result.to_text() if isinstance(result, Unscorable) else None for result in results]
    return dict(zip(answer_types(prefix), [*values, errors], strict=True))


def drop_answer_lists(metadata: dict[str, Any], prefix: str) -> None:
    """Take away the lists of an earlier run."""
    if f"{prefix}_scores" in metadata:
        for name in answer_values(metadata, prefix):
            del metadata[name]
