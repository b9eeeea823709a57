"""Conversations that are parsed already: recognised by a cheap check, so that a conversation is parsed only once.

A conversation is in normal form when it equals what `parse_conversation` returns for it: a list of messages whose
`role` and `content` are text, without null keys. `ConversationAdapter` puts it into a document in this form. Steps may
edit it there, and other readers use any form, so code that scores a conversation gets it through this module.
"""

from typing import Any, TypeGuard

from datatrove_quality.config import Unscorable
from datatrove_quality.rows.layouts import parse_conversation
from datatrove_quality.rows.layouts.messages import has_two_roles, says_more
from datatrove_quality.rows.types import MAX_DEPTH, MESSAGES, Conversation, ConversationWithArguments, Message


# The parser makes `tool_calls` of these.
CALL_KEYS = frozenset({"function_call", "function_calls"})


def conversation_of(value: object) -> Conversation:
    """The conversation that a value holds.

    Args:
        value: a list of messages, or the same as a JSON string.

    Returns:
        The value itself where it is in normal form, else a new list of new messages.

    Raises:
        InvalidConversation: the value holds no conversation.
    """
    if in_normal_form(value):
        return value
    conversation = parse_conversation({MESSAGES: value})
    if isinstance(value, ConversationWithArguments):
        return ConversationWithArguments(conversation, value.template_arguments)
    return conversation


def parsed(item: object) -> Conversation | str | Unscorable:
    """An input of a scorer, ready for the chat template.

    Args:
        item: plain text, which stays as it is; a conversation in any form; or why it is missing.

    Returns:
        The text; the conversation in normal form; or why the input cannot be scored.
    """
    if isinstance(item, str | Unscorable):
        return item
    try:
        return conversation_of(item)
    except Unscorable as error:
        return error


def in_normal_form(value: object) -> TypeGuard[Conversation]:
    """Whether `parse_conversation` would return an equal conversation; lone surrogates are left to the tokenizer."""
    if not isinstance(value, list):
        return False
    has_content = False
    for message in value:
        if not isinstance(message, dict):
            return False
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str) or not isinstance(content, str) or not role:
            return False
        if len(message) > 2 and not _others_are_normal(message):
            return False
        has_content = has_content or bool(content and not content.isspace())
    return has_content


def _others_are_normal(message: Message) -> bool:
    """Whether further keys are as the parser leaves them: no nulls, and calls of tools as a list of objects."""
    if message.get("type") == "message" or not CALL_KEYS.isdisjoint(message):
        return False
    if has_two_roles(message) or says_more(message):
        return False
    calls = message.get("tool_calls", [{}])
    if not calls or not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        return False
    return all(map(_without_nulls, message.values()))


def _without_nulls(value: Any, depth: int = 0) -> bool:
    """Whether a value is not null, holds no null key, and is nested no deeper than a conversation may be."""
    if value is None or depth > MAX_DEPTH:
        return False
    if isinstance(value, dict):
        return all(_without_nulls(item, depth + 1) for item in value.values())
    if isinstance(value, list | tuple):
        return all(item is None or _without_nulls(item, depth + 1) for item in value)
    return True
