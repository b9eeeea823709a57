"""Whether a text says already what another column, or another key of a message, says too."""

from typing import Any

from datatrove_quality.rows.types import InvalidConversation, Row


LONG = 64
"""Characters of a text that is in no other one by chance."""

NO_BLANKS = "\u0e00"
"""From here on scripts have no blanks between words: Thai, Chinese, Japanese, ..."""


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


def is_repeated(context: str, question: str) -> bool:
    """Whether a question has its context in it: a short one at the end of a line, for `a` is in many by chance."""
    if len(context) >= LONG:
        return context in question
    return is_said(f"{context}\n", f"{question.strip()}\n")


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
