"""Whether a text says already what another column, or another key of a message, says too."""

from typing import Any

from datatrove_quality.rows.roles import ASSISTANT, SYSTEM, USER, is_answer, known_role
from datatrove_quality.rows.types import Conversation, InvalidConversation, Message, Row


LONG = 64
"""Characters of a text that is in no other one by chance."""

NO_BLANKS = "\u0e00"
"""From here on scripts have no blanks between words: Thai, Chinese, Japanese, ..."""


def are_in(said: Conversation, messages: Conversation) -> bool:
    """Whether messages hold what others say: long texts anywhere, short ones where they would be.

    That is, an answer in answers, and the last one in those after the user's last turn. Where there are such, it may
    also be the whole of an earlier answer. A system prompt is in the first message.
    """
    return all(_is_in(message, messages, message is said[-1]) for message in said)


def _is_in(said: Message, messages: Conversation, is_last: bool) -> bool:
    text, role = said["content"].strip(), known_role(said["role"])
    if not text:
        others = {key: value for key, value in said.items() if key not in ("role", "content")}
        return any(message | others == message for message in messages)
    if len(text) >= LONG:
        return any(text in message["content"] for message in messages)
    if role == ASSISTANT:
        answers, last = _answers(messages), _answers(_after_question(messages))
        if last and text in [answer.strip() for answer in answers]:
            return True
        return any(is_said(text, answer) for answer in (last if is_last else answers))
    places = messages[:1] if role == SYSTEM else messages
    return any(is_repeated(text, message["content"]) for message in places)


def _answers(messages: Conversation) -> list[str]:
    return [message["content"] for message in messages if is_answer(message["role"])]


def _after_question(messages: Conversation) -> Conversation:
    users = [number for number, message in enumerate(messages, 1) if known_role(message["role"]) == USER]
    return messages[users[-1] if users else 0 :]


def is_said(said: str, text: str) -> bool:
    """Whether a text holds another one, and not within a word: `42` does not say `4`."""
    if said not in text:
        return False
    if not said or len(said) >= LONG:
        return True
    start = text.find(said)
    while start >= 0:
        if not (_is_cut(text, start) or _is_cut(text, start + len(said))):
            return True
        start = text.find(said, start + 1)
    return False


def is_repeated(said: str, text: str) -> bool:
    """Whether a text holds another one as a part of its own: one or two words at the end of a line, `a` is in many."""
    is_by_chance = len(said) < LONG and said.count(" ") < 2
    return is_said(f"{said}\n", f"{text.strip()}\n") if is_by_chance else is_said(said, text)


def _is_cut(text: str, at: int) -> bool:
    """Whether a word goes on at a place in a text."""
    return 0 < at < len(text) and all(char < NO_BLANKS and char.isalnum() for char in text[at - 1 : at + 1])


def one_of(holder: Row, keys: tuple[str, ...]) -> Any:
    """What an object holds under one of several names for the same thing; None: nothing.

    Raises:
        InvalidConversation: it holds different things under two of them.
    """
    given = [key for key in keys if holder.get(key) is not None]
    filled = [key for key in given if holder[key] not in ("", [], {})] or given[:1]
    for other in filled[1:]:
        if holder[other] != holder[filled[0]]:
            raise InvalidConversation("unused_column", f"has {filled[0]!r} and {other!r}, which differ")
    return holder[filled[0]] if filled else None
