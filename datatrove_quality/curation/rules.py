"""What a conversation must be, whatever it is about: rules about its turns, by which a conversation is dropped.

Each rule is a function that tells whether a conversation breaks it, and errs on the side of keeping. The name that it
has in `RULES` is the `filter_reason`.
"""

import re
from collections.abc import Callable

import regex

from datatrove_quality.rows.types import Conversation, Message


# A loop is a unit of at most so many characters that an answer repeats at its end, so often, over so many characters.
LOOP_PERIOD = 500
LOOP_REPEATS = 5
LOOP_CHARS = 200

# A shorter last line may be a name, a title or a greeting that ends without a full stop.
PROSE_LINE_CHARS = 80

TOOL_ROLES = ("tool", "function", "ipython", "observation")
MAY_FOLLOW: dict[str, tuple[str | None, ...]] = {
    "user": (None, "assistant"),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}

CODE_FENCE = re.compile(r"^ *```", re.MULTILINE)
SENTENCE_END = regex.compile(r"[.!?][^\s\w]?\s+[^\s\w]?\p{Lu}")
LIST_ITEM = re.compile(r"\s*([-*+•|>#]|\d+[.)])")


def answers(messages: Conversation) -> list[Message]:
    """The assistant's messages."""
    return [message for message in messages if message["role"] == "assistant"]


def has_no_answer(messages: Conversation) -> bool:
    """Nothing is the assistant's."""
    return not answers(messages)


def has_empty_answer(messages: Conversation) -> bool:
    """An answer says nothing and calls no tool."""
    return any(
        not (message["content"].strip() or message.get("tool_calls") or message.get("function_call"))
        for message in answers(messages)
    )


def ends_without_answer(messages: Conversation) -> bool:
    """The last word is not the assistant's."""
    return messages[-1]["role"] != "assistant"


def does_not_alternate(messages: Conversation) -> bool:
    """User and assistant do not take turns, the user first; tools answer the assistant; other roles are free."""
    previous = None
    for message in messages:
        role = "tool" if message["role"] in TOOL_ROLES else message["role"]
        if role not in MAY_FOLLOW:
            continue
        if previous not in MAY_FOLLOW[role]:
            return True
        previous = role
    return False


def has_loop(messages: Conversation) -> bool:
    """An answer ends in the same piece of text again and again, as a model does that has lost its way."""
    return any(map(_loops, (message["content"].rstrip() for message in answers(messages))))


def is_cut_off(messages: Conversation) -> bool:
    """The last answer ends before its end: says so itself, in code that is left open, or amid a sentence."""
    last = answers(messages)[-1:]
    if any(message.get("finish_reason") in ("length", "max_tokens") for message in last):
        return True
    return any(len(CODE_FENCE.findall(message["content"])) % 2 or _breaks_off(message["content"]) for message in last)


RULES: dict[str, Callable[[Conversation], object]] = {
    "no_answer": has_no_answer,
    "empty_answer": has_empty_answer,
    "ends_without_answer": ends_without_answer,
    "roles_do_not_alternate": does_not_alternate,
    "answer_loops": has_loop,
    "answer_cut_off": is_cut_off,
}


def _loops(text: str) -> bool:
    for period in range(1, min(LOOP_PERIOD, len(text) // LOOP_REPEATS) + 1):
        end = text[-max(LOOP_CHARS, LOOP_REPEATS * period) :]
        if len(end) >= LOOP_CHARS and end[period:] == end[:-period]:
            return True
    return False


def _breaks_off(text: str) -> bool:
    """Whether a line of prose ends in a comma or a lower-case letter, in a text that ends its other sentences.

    Scripts without case have no such sign, and are left alone.
    """
    line = text.rstrip().rpartition("\n")[2]
    if len(line) < PROSE_LINE_CHARS or LIST_ITEM.match(line) or not SENTENCE_END.search(text):
        return False
    last_word = line.split()[-1]
    is_address = any(sign in last_word for sign in "./@_=\\")
    return line.endswith(",") or (line[-1].islower() and not is_address)
