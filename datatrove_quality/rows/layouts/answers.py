"""The answer in a column of its own: a text, a message, a list of messages, or what an API gave back."""

from collections.abc import Iterable
from typing import Any

from datatrove_quality.rows.layouts.column_names import CHOICES, LATER_ANSWERS, SAYS
from datatrove_quality.rows.layouts.messages import RESPONSES_ITEMS, items_in, read_messages, turn
from datatrove_quality.rows.layouts.slots import decoded, turns_of_text
from datatrove_quality.rows.roles import ASSISTANT, SYSTEM, USER, known_role
from datatrove_quality.rows.types import Conversation, InvalidConversation, Row, described, require_no_surrogates


MESSAGE_SHAPES = ({"role", "content"}, {"role", "parts"}, {"from", "value"})
"""Keys by which a message is known, where a text could hold anything else."""

ANSWER_PLACES = ("body", "message", "response", "choices", "candidates", "output")
"""Where an API's reply has its answer."""


def is_filled(value: Any) -> bool:
    """Whether a value says something: not null, not blank, not empty."""
    if isinstance(value, str):
        return bool(value) and not value.isspace()
    return value is not None and value != [] and value != {}


def side(value: Any, column: str, role: str) -> Conversation:
    """The messages of one side of a conversation: of a question (role user) or an answer (role assistant).

    Raises:
        InvalidConversation: it is none, or may be something else.
    """
    if isinstance(value, str):
        if column in LATER_ANSWERS and value.lstrip()[:1] in ("[", "{"):
            return side(decoded(value), column, role)
        return _of_text(value, column, role)
    if column == CHOICES and not (isinstance(value, list) and value and isinstance(value[0], dict)):
        raise InvalidConversation(
            "invalid_content", f"column {column!r} may be the options of a question, not answers"
        )
    if isinstance(value, dict) and role == ASSISTANT:
        return _of_object(value, column)
    if isinstance(value, dict) and value.get("messages") is not None:  # OpenAI's preferences
        if others := [key for key in value if key in SAYS and key != "messages" and is_filled(value[key])]:
            raise InvalidConversation("unused_column", f"column {column!r} has {others[0]!r} beside its messages")
        return read_messages(items_in(value["messages"], f"column {column!r}"), column)
    if isinstance(value, dict) and not value.keys().isdisjoint(("role", "from")):
        return read_messages([value], column)
    if isinstance(value, list) and value and role == ASSISTANT:
        return _of_list(value, column)
    if role == ASSISTANT and not isinstance(value, list):
        raise InvalidConversation("invalid_content", f"column {column!r} is {described(value)}, not a text")
    return read_messages(items_in(value, f"column {column!r}"), column)


def _of_text(text: str, column: str, role: str) -> Conversation:
    require_no_surrogates(text, f"column {column!r}")
    if is_text_of_turns(text):
        names = {"Human": USER, "Assistant": ASSISTANT}
        turns = [turn(names[name], words) for name, words in turns_of_text(text)]
        return turns[:-1] if role == USER and not turns[-1]["content"] else turns
    if (value := _json_value(text, role)) is not None:
        return side(value, column, role)
    return [turn(role, text)]


def is_text_of_turns(text: str) -> bool:
    """Whether a text is a whole conversation as Anthropic's helpful-harmless data have it."""
    return text.startswith("\n\nHuman:") or (text.startswith("Human:") and "\n\nAssistant:" in text)


def _json_value(text: str, role: str) -> Any:
    """The messages, or of an answer the parts or an API's reply, in a text. None: the text could be anything else."""
    if text.lstrip()[:1] not in ("[", "{"):
        return None
    try:
        value = decoded(text)
    except InvalidConversation:
        return None
    if isinstance(value, dict):
        if is_message(value):
            return value
        listed = [value[key] for key in ("messages", "choices", "candidates") if isinstance(value.get(key), list)]
        is_wrapped = any(items and all(map(_is_wrapped, items)) for items in listed)
        return value if is_wrapped and (role == ASSISTANT or "messages" in value) else None
    if any(map(is_message, value)) and all(is_message(item) or _is_item(item) for item in value):
        return value
    return value if role == ASSISTANT and value and (_are_parts(value) or all(map(is_choice, value))) else None


def is_message(item: Any) -> bool:
    """Whether a value has the keys of a message."""
    return isinstance(item, dict) and any(shape <= item.keys() for shape in MESSAGE_SHAPES)


def _is_item(item: Any) -> bool:
    kind = item.get("type") if isinstance(item, dict) else None
    return isinstance(kind, str) and kind in RESPONSES_ITEMS


def _is_wrapped(item: Any) -> bool:
    """Whether an item of a list in an object is a message, or an alternative with one."""
    return is_message(item) or is_choice(item) or (isinstance(item, dict) and isinstance(item.get("content"), dict))


def _are_parts(items: list[Any]) -> bool:
    return all(isinstance(item, dict) and item.get("type") == "text" and "role" not in item for item in items)


def _of_list(items: list[Any], column: str) -> Conversation:
    if is_choice(items[0]) or (column in LATER_ANSWERS and isinstance(items[0], dict) and "text" in items[0]):
        return _the_one([_of_choice(item, column) for item in items], column)
    if all(isinstance(item, str) for item in items) and not any(item.lstrip().startswith("{") for item in items):
        return _the_one([_of_text(item, column, ASSISTANT) for item in items], column)
    if _are_parts(items):
        return read_messages([{"role": ASSISTANT, "content": items}], column)
    return read_messages(items, column)


def is_choice(item: Any) -> bool:
    """Whether an item of a list is one of an API's alternatives."""
    return isinstance(item, dict) and isinstance(item.get("message"), dict)


def _of_choice(item: Any, column: str) -> Conversation:
    if not isinstance(item, dict):
        raise InvalidConversation("invalid_content", f"column {column!r} has an item that is {described(item)}")
    _require_one_of(item, ("message", "text"), column)
    message = item.get("message")
    return _of_object(message, column) if isinstance(message, dict) else side(item.get("text"), column, ASSISTANT)


def _of_object(value: Row, column: str) -> Conversation:
    """The messages of an object: a message, or what an API gave back, in its wrappings."""
    _require_one_of(
        {key: item for key, item in value.items() if isinstance(item, (dict, list))}, ANSWER_PLACES, column
    )
    for key in ("body", "message", "response"):
        if isinstance(value.get(key), dict):
            return _of_object(value[key], column)
    if isinstance(value.get("choices"), list) and value["choices"]:
        return _the_one([_of_choice(item, column) for item in value["choices"]], column)
    if isinstance(value.get("candidates"), list) and value["candidates"]:
        return _the_one([_of_candidate(item, column) for item in value["candidates"]], column)
    if isinstance(value.get("output"), list) and value["output"]:
        instructions = value.get("instructions")
        system = [turn(SYSTEM, instructions)] if isinstance(instructions, str) and is_filled(instructions) else []
        return system + read_messages(value["output"], column)
    named = value if value.get("role") is not None or value.get("from") is not None else {"role": ASSISTANT, **value}
    return read_messages([named], column)


def _require_one_of(value: Row, keys: tuple[str, ...], column: str) -> None:
    """Refuse what may hold an answer in two places, of which one would be left out."""
    filled = [key for key in keys if is_filled(value.get(key))]
    if len(filled) > 1:
        what = f"column {column!r} may hold an answer in {filled[0]!r} and in {filled[1]!r}"
        raise InvalidConversation("ambiguous_answer", what)


def _of_candidate(item: Any, column: str) -> Conversation:
    if isinstance(item, dict):
        _require_one_of(item, ("content", "text", "output"), column)
    content = item.get("content") if isinstance(item, dict) else None
    if not isinstance(content, dict):
        raise InvalidConversation("invalid_content", f"column {column!r} has a candidate without content")
    return _of_object(content, column)


def _the_one(answers: list[Conversation], column: str) -> Conversation:
    if any(answer != answers[0] for answer in answers):
        raise InvalidConversation(
            "ambiguous_answer",
            f"column {column!r} holds {len(answers)} answers: write each in a row of its own, or name the column of "
            "the answer with answer_key (--answer-key)",
        )
    return answers[0]


def find_answer(row: Row, columns: Iterable[str]) -> tuple[Conversation, list[str]] | None:
    """The answer of a row, and the columns that hold it.

    Args:
        row: the row.
        columns: that may hold it, in the order in which they are preferred.

    Returns:
        None: none of the columns is given.

    Raises:
        InvalidConversation: two columns hold different answers, and the first is not `chosen`.
    """
    given = [column for column in columns if row.get(column) is not None]
    filled = [column for column in given if is_filled(row[column])] or given[:1]
    if not filled:
        return None
    answer = side(row[filled[0]], filled[0], ASSISTANT)
    if filled[0] == "chosen":
        return answer, given
    for other in filled[1:]:
        if contents(side(row[other], other, ASSISTANT)) != contents(answer):
            raise InvalidConversation(
                "ambiguous_answer",
                f"columns {filled[0]!r} and {other!r} hold different answers: name the one that is to be scored with "
                "answer_key (--answer-key)",
            )
    return answer, given


def contents(messages: Conversation) -> list[str]:
    """The contents of messages, without blanks around them."""
    return [message["content"].strip() for message in messages]


def with_answer(prompt: Conversation, answer: Conversation) -> Conversation:
    """A prompt and its answer as one conversation; the answer may repeat the prompt, or its end."""
    if answer[: len(prompt)] == prompt:
        return answer
    systems = [message for message in prompt if known_role(message["role"]) == SYSTEM]
    others = [message for message in prompt if known_role(message["role"]) != SYSTEM]
    if systems and others and answer[: len(others)] == others:
        return [*systems, *answer]
    for length in range(min(len(prompt), len(answer)), 0, -1):
        if prompt[-length:] == answer[:length]:
            return prompt + answer[length:]
    first = next((index for index, message in enumerate(answer) if known_role(message["role"]) != SYSTEM), 0)
    if known_role(answer[first]["role"]) == USER:
        return answer
    return [*answer[:first], *prompt, *answer[first:]]  # a system turn goes first
