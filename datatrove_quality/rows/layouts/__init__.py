"""Rows in every layout that is read, and how it is recognised: `column_names.py` is the place to add one."""

from typing import Any

from datatrove_quality.rows.layouts.column_names import SCHEMAS
from datatrove_quality.rows.layouts.read import Found, nested_metadata, read, text_in
from datatrove_quality.rows.layouts.where import Where, require_column_name
from datatrove_quality.rows.types import Conversation, ConversationWithArguments, Row


__all__ = [
    "SCHEMAS",
    "Found",
    "Where",
    "require_column_name",
    "nested_metadata",
    "parse_conversation",
    "read",
    "text_in",
]


def parse_conversation(
    row: Row, schema: str = "auto", messages_key: str | None = None, **columns: Any
) -> Conversation:
    """Reads the conversation in a row of data.

    docs/layouts.md has the table of all layouts, with the columns of each and what is read; one is added in
    `column_names.py`, and a test keeps both equal. By `schema="auto"`, in this order: a list of messages (`messages`,
    `conversations`, `conversation`, in OpenAI's, ShareGPT's, Anthropic's or Gemini's form, or pairs), a question and
    its answer (`instruction`, `prompt`, `question`, `query`, `inputs`, `problem`, `input`), `data`, `contents`,
    `chosen`, an API's request or reply, `metadata`. Beside any of them: `system`, `history`, `context`, an answer in a
    column of its own. What a row says about its conversation is in it, or the row is refused.

    Args:
        row: a row, as a dictionary. It is not changed.
        schema: one of `SCHEMAS`.
        messages_key: the column of the list of messages, where it has another name.
        columns: `prompt_key`, `answer_key`, `system_key`, `history_key`, `ignored_columns`: see `ConversationAdapter`.

    Returns:
        A new list of new messages: `role` and `content` are strings, and the other keys are kept, but for those that
        are null, since Arrow fills them in: the same conversation from JSONL and from Parquet is equal. Where the
        row has `chat_template_kwargs`, the list carries them as `template_arguments`: a scorer gives them to the
        template.

    Raises:
        InvalidConversation: the row holds no conversation, or says something about it that would be left out; its
            `reason` is one of `REASONS`.
        ValueError: the schema is unknown, or the names do not go together.
    """
    found = read(row, Where(schema, messages_key, **columns))
    return ConversationWithArguments(found.messages, found.arguments) if found.arguments else found.messages
