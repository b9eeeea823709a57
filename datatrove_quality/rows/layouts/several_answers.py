"""A row with several answers to one question becomes a row for each: chosen and rejected, choices, completions."""

from typing import Any

from datatrove_quality.rows.layouts.answers import is_choice, is_filled
from datatrove_quality.rows.layouts.column_names import ANSWERS, CHATS, LATER_ANSWERS, SEVERAL_ANSWERS
from datatrove_quality.rows.layouts.repeated import is_said
from datatrove_quality.rows.layouts.slots import decoded
from datatrove_quality.rows.layouts.where import Where
from datatrove_quality.rows.roles import is_answer
from datatrove_quality.rows.types import InvalidConversation, Row


PREFERENCES = (("chosen", "rejected"), ("preferred_output", "non_preferred_output"))
# Of an object in a list of completions, the first that is there is the answer; of others that it does not hold, which
# one is meant is not known.
ANSWER_KEYS = ("message", "response", "completion", "text", "generated_text", "answer", "output")
# Where an API's reply has its alternatives, and what it may be wrapped in.
REPLY_KEYS, WRAPPINGS = ("choices", "candidates"), ("body", "message", "response")


def answer_rows(row: Row, where: Where) -> list[Row]:
    """The row once for each of its answers, with that answer alone.

    Args:
        row: is not changed.
        where: where the conversation is.

    Returns:
        In the order of the row's list; of preferences first what is preferred. The row itself where it has one answer.
    """
    if not isinstance(row, dict):
        return [row]
    if where.answer_key is not None:
        return _with_each(row, where.answer_key, _options(row.get(where.answer_key)))
    for preferred, other in PREFERENCES:
        if is_filled(row.get(preferred)) and is_filled(row.get(other)):
            return _preferences(row, preferred, other)
    for column in SEVERAL_ANSWERS:
        if isinstance(items := _list_in(row.get(column)), list) and items and column not in where.ignored_columns:
            others = {name: value for name, value in row.items() if name != column}
            return [others | {"response": _answer_in(item)} for item in items]
    for column in (*ANSWERS, *LATER_ANSWERS):
        if is_filled(row.get(column)):
            options = _options(row[column])
            if len(options) > 1:
                return _with_each(row, column, options)
    return [row]


def _with_each(row: Row, column: str, options: list[Any]) -> list[Row]:
    return [row | {column: option} for option in options] if len(options) > 1 else [row]


def _preferences(row: Row, preferred: str, other: str) -> list[Row]:
    """First the row without what is not preferred, then one for each answer that is not."""
    first = {name: value for name, value in row.items() if name != other}
    prompt = {name: _before_answer(value) if name in CHATS else value for name, value in first.items()}
    rows = [first | {preferred: option} for option in _options(row[preferred])]
    return rows + [prompt | {preferred: option} for option in _options(row[other])]


def _before_answer(messages: Any) -> Any:
    """A list of messages without the answers at its end, which repeat what is preferred."""
    messages = _list_in(messages)
    if not isinstance(messages, list):
        return messages
    end = len(messages)
    while end and isinstance(messages[end - 1], dict) and is_answer(_role(messages[end - 1])):
        end -= 1
    return messages[:end] or None


def _role(message: Row) -> str:
    return str(message.get("role") or message.get("from") or "")


def _list_in(value: Any) -> Any:
    """A list, also where it is written as JSON text."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return decoded(value)
        except InvalidConversation:
            return value
    return value


def _options(value: Any) -> list[Any]:
    """The answers in a value; one that holds a single answer in whatever form is that answer."""
    if isinstance(value, dict):
        for key in REPLY_KEYS:
            if isinstance(value.get(key), list) and value[key]:
                return [value | {key: [item]} for item in value[key]]
        for key in WRAPPINGS:
            if isinstance(value.get(key), dict):
                return [value | {key: option} for option in _options(value[key])]
        return [value]
    items = _list_in(value)
    if not isinstance(items, list) or not items:
        return [value]
    if all(isinstance(item, str) for item in items) or all(isinstance(item, list) for item in items):
        return items
    if all(isinstance(item, dict) and _is_choice(item) for item in items):
        return [[item] for item in items]
    return [value]


def _is_choice(item: Row) -> bool:
    return is_choice(item) or ("text" in item and not {"role", "type"} & item.keys())


def _answer_in(item: Any) -> Any:
    if not isinstance(item, dict) or "role" in item or "from" in item:
        return item
    first, *others = [item[key] for key in ANSWER_KEYS if is_filled(item.get(key))] or [item]
    return item if any(not _is_said(other, first) for other in others) else first


def _is_said(value: Any, answer: Any) -> bool:
    return value == answer or (isinstance(value, str) and isinstance(answer, str) and is_said(value, answer))
