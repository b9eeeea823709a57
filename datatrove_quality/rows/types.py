"""The words of this package: a row, a message, a conversation, and why a row holds none."""

import codecs
from typing import Any

from datatrove_quality.config import Unscorable


Message = dict[str, Any]
Conversation = list[Message]
Row = dict[str, Any]

MESSAGES = "messages"
CONVERSATION_ERROR = "conversation_error"
SOURCE = "_source"
ANSWERS = "_answers"
RESERVED = frozenset(
    {
        "text",  # Document.text, and what `expand_metadata` would write in its place
        "id",  # Document.id, and the `${id}` of output file names
        "rank",  # the `${rank}` of output file names
        "token_count",  # DataTrove's statistics: must be a number
        MESSAGES,  # the parsed conversation
        CONVERSATION_ERROR,
        SOURCE,
        ANSWERS,  # the conversations with the row's other answers
    }
)
"""Names that mean something else in a document's metadata: source columns of these names are kept in `_source`."""

MAX_DEPTH = 200
MAX_ERROR_CHARS = 500


class ConversationWithArguments(list[Message]):
    """A conversation, and arguments for the chat template that its row carries.

    Args:
        messages: the conversation.
        template_arguments: by name.
    """

    def __init__(self, messages: Conversation, template_arguments: dict[str, Any]) -> None:
        super().__init__(messages)
        self.template_arguments = template_arguments


REASONS = {
    "ambiguous_answer": "two columns hold different answers",
    "damaged_file": "the file is damaged here: rows are missing",
    "empty_conversation": "no message has any content",
    "empty_text": "a text without any content",
    "invalid_content": "a content that is neither text nor a list of text parts",
    "invalid_csv": "a row of a CSV file with more or fewer fields than its header, or with broken quotes",
    "invalid_json": "text that should be JSON and is not",
    "invalid_message": "a message that is not an object",
    "invalid_role": "a role that is not text",
    "invalid_utf8": "a line that is not UTF-8",
    "invalid_tools": "tool definitions that are no list of objects",
    "lone_surrogate": "half of a UTF-16 pair, which no UTF-8 text can hold",
    "missing_column": "no column that could hold a conversation",
    "missing_content": "a message without content",
    "missing_role": "a message without role",
    "nested_too_deep": "more levels of lists and objects than can be handled",
    "no_answer": "no turn of the assistant, and no column with an answer",
    "no_messages": "an empty list of messages",
    "not_a_list": "a conversation that is not a list of messages",
    "not_an_object": "a line that is not a JSON object",
    "null_column": "the conversation's column is null",
    "repeated_key": "JSON in which a key has two values",
    "truncated_file": "the compressed file ends early",
    "unknown_role": "a ShareGPT `from` that is not one of the known names",
    "unknown_template_argument": "a `chat_template_kwargs` with a name that no known template takes",
    "unreadable_row": "a row that could not be looked at",
    "unsupported_content": "a content part that is not text, such as an image",
    "unused_column": "a column that may be a part of the conversation, and is not in it",
    "unwritable_value": "a value that JSON output cannot carry",
    "argument_not_rendered": "the chat template leaves out an argument that the row gives it",
    "role_not_rendered": "the chat template leaves out messages of a role",
    "template_error": "the chat template refuses the conversation",
    "no_tokens": "the tokenizer makes no token of the text",
    "unknown_token": "a token that the model does not know",
    "special_tokens": "a message spells out a control token, and those are rejected",
    "out_of_memory": "a text that does not fit into the device's memory",
    "non_finite_score": "the model's output is no number",
    "missing_messages": "a document without a conversation in its metadata",
    "missing_score": "a document without a score, where scores are only read",
    "invalid_score": "a recorded score that is no finite number",
    "invalid_text": "a document whose text is not a string",
}
"""Every reason why a row has no score: those of reading the row, and those of rendering and scoring it."""


class InvalidConversation(Unscorable):
    """A row that holds no conversation: a ValueError.

    Args:
        reason: one word of `REASONS`.
        message: what was found, and where.

    Attributes:
        reason: as given.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, cut(message, MAX_ERROR_CHARS))


def conversation_error(metadata: dict[str, Any]) -> Unscorable | None:
    """Why a document holds no conversation, as the reader or adapter that made it found; None: they found nothing.

    Data may have a column of this name for itself: what is no error with one of `REASONS` is not taken for one.
    """
    error = Unscorable.from_text(metadata.get(CONVERSATION_ERROR))
    return error if error is not None and error.reason in REASONS else None


def require_no_surrogates(text: str, where: str) -> None:
    """Refuse a text that holds half of a UTF-16 pair."""
    if text.isascii():
        return
    try:
        codecs.utf_16_le_encode(text)  # a tenth of the time of UTF-8; `encode` looks the codec up
    except UnicodeEncodeError as error:
        what = f"{where} holds a lone surrogate at character {error.start}"
        raise InvalidConversation("lone_surrogate", what) from None


def described(value: Any) -> str:
    """The kind of a value, for an error message."""
    return "null" if value is None else f"of type {type(value).__name__}"


def shown(value: Any) -> str:
    """A text, cut and quoted, for an error message; of any other value its kind."""
    return cut(repr(value[:80]), 80) if isinstance(value, str) else described(value)


def keys_found(row: Row) -> str:
    """The keys of a row, for an error message."""
    names = ", ".join(shown(name) for name in list(row)[:20]) or "none"
    return f"keys found: {names}{' and more' if len(row) > 20 else ''}"


def cut(text: str, limit: int) -> str:
    """A text of at most `limit` characters."""
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
