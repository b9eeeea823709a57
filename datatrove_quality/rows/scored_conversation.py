"""What of a document is scored: its conversation, with what the row gives to the template; and what was edited."""

from typing import Any, Literal

from datatrove.data import Document

from datatrove_quality.rows.edits import checksum, text_of
from datatrove_quality.rows.layouts.arguments import arguments_of_document
from datatrove_quality.rows.normal_form import conversation_of
from datatrove_quality.rows.roles import is_answer
from datatrove_quality.rows.types import SOURCE, Conversation, ConversationWithArguments, InvalidConversation


TextEdit = Literal["", "white space", "text"]


def scored_conversation(
    document: Document, messages_key: str, render_tools: bool, allow_no_answer: bool
) -> Conversation:
    """The conversation of a document in normal form.

    Args:
        document: with the conversation in its metadata.
        messages_key: the metadata key.
        render_tools: whether tool definitions go to the template.
        allow_no_answer: whether a conversation without a turn of the assistant is scored.

    Raises:
        InvalidConversation: the document has no conversation that can be scored.
    """
    metadata = document.metadata
    if messages_key not in metadata:
        found = f"{sorted(map(str, metadata))!r:.300}"
        raise InvalidConversation("missing_messages", f"the document has no metadata {messages_key!r}; it has {found}")
    conversation = conversation_of(metadata[messages_key])
    if not allow_no_answer and not any(is_answer(message["role"]) for message in conversation):
        raise InvalidConversation(
            "no_answer",
            "no message is the assistant's, and no column with an answer was found: name it with answer_key "
            "(--answer-key); allow_no_answer=True (--allow-no-answer) scores prompts",
        )
    arguments = arguments_of_document(metadata, render_tools)
    return ConversationWithArguments(conversation, arguments) if arguments else conversation


def text_edit(document: Document, conversation: Conversation) -> TextEdit:
    """How a step has edited `document.text` without the conversation, which is what is scored and written.

    Returns:
        "": not at all, or the conversation was edited too, or it is not known what the text was.
    """
    expected = text_of(conversation)
    if document.text == expected:
        return ""
    source: Any = document.metadata.get(SOURCE)
    made = (source.get("expected") or source.get("text")) if isinstance(source, dict) else None
    if made is None or made == checksum(document.text) or made != checksum(expected):
        return ""
    return "white space" if document.text.split() == expected.split() else "text"


def changed_text_error(document: Document) -> ValueError:
    """What to say of a document whose text was edited and whose conversation was not."""
    file = document.metadata.get("file_path", "its file is not known")
    return ValueError(
        f"Document {document.id!r} ({file}): an earlier step has changed its text, and the conversation, which is "
        "what is scored and written, is as it was. Steps that do so: PIIFormatter, FTFYFormatter, "
        "SymbolLinesFormatter, C4QualityFilter, sentence deduplication. Wrap a formatter in PerMessage(...), so that "
        "it works on each message; or set accept_changed_text=True to score the unchanged conversation."
    )
