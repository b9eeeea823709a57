"""Which layout a row has: by the columns that the user names, by the schema, or by those that are filled."""

from typing import Any

from datatrove_quality.rows.layouts.answers import is_filled, is_message, is_text_of_turns
from datatrove_quality.rows.layouts.column_names import (
    ANSWERS,
    API_ANSWERS,
    CHATS,
    CONTENTS,
    ENVELOPES,
    LATER_ANSWERS,
    PAIRS,
    TURNS,
    Pair,
)
from datatrove_quality.rows.layouts.where import Where
from datatrove_quality.rows.types import InvalidConversation, Row, keys_found


NAME_THEM = "name the columns with prompt_key and answer_key (--prompt-key, --answer-key), or messages_key"


class NotHere(InvalidConversation):
    """The row's own columns hold no conversation; something in them may."""


def detect(row: Row, where: Where) -> tuple[str, Pair | None]:
    """The column of the list of messages, or of the question, and the columns that question and answer may be in.

    Raises:
        NotHere: no column holds a conversation.
    """
    if where.messages_key is not None:
        return required_column(row, where.messages_key), None
    if where.prompt_key is not None:
        return required_column(row, where.prompt_key), Pair("prompt_response", where.prompt_key)
    if where.schema == "messages":
        return required_column(row, CHATS[0]), None
    if where.schema == "sharegpt":
        return first_given(row, CHATS[1:]) or required_column(row, CHATS[1]), None
    if where.schema != "auto":
        pairs = [pair for pair in PAIRS if pair.schema == where.schema]
        pair = next((pair for pair in pairs if row.get(pair.question) is not None), pairs[0])
        return required_column(row, pair.question), pair
    if column := next((column for column in CHATS if is_filled(row.get(column))), None):
        return column, None
    for pair in PAIRS:
        if row.get(pair.question) is not None and _is_answered(row, pair, where):
            return pair.question, pair
    return first_given(row, CHATS) or _detect_list(row), None


def _is_answered(row: Row, pair: Pair, where: Where) -> bool:
    columns = (where.answer_key,) if where.answer_key else (*pair.answers, *LATER_ANSWERS)
    return first_given(row, columns) is not None or _is_list_of_messages(row[pair.question])


def _is_list_of_messages(value: Any) -> bool:
    first = value[0] if isinstance(value, list) and value else value
    return isinstance(first, dict) and not first.keys().isdisjoint(("role", "from", "messages"))


def _detect_list(row: Row) -> str:
    """The column of a conversation that has no column for the question."""
    if isinstance(row.get(CONTENTS), list) and row[CONTENTS]:
        return CONTENTS
    turns = row.get(TURNS)  # of objects it may be a whole data set
    if isinstance(turns, list) and turns and (isinstance(turns[0], str) or _is_list_of_messages(turns)):
        return TURNS
    chosen = row.get("chosen")
    if _is_list_of_messages(chosen) or (isinstance(chosen, str) and is_text_of_turns(chosen)):
        return "chosen"
    if "custom_id" in row and not any(isinstance(row.get(name), dict) for name in ENVELOPES):
        for column in API_ANSWERS:
            if isinstance(row.get(column), dict | list) and row[column]:
                return column
    return _not_here(row)


def _not_here(row: Row) -> str:
    for column in CHATS:
        if column in row:
            raise NotHere("null_column", f"column {column!r} is null, and no other can replace it: {NAME_THEM}")
    if is_message(row):
        what = 'a row is one message, not a conversation: put its messages into a list, {"messages": [...]}'
        raise NotHere("missing_column", f"{what}; {keys_found(row)}")
    questions = ", ".join(f"{pair.question!r} with {_either(pair.answers)}" for pair in PAIRS[:5])
    raise NotHere(
        "missing_column",
        f"looked for {', '.join(map(repr, CHATS))}, {questions}, and others; {keys_found(row)}. {NAME_THEM}",
    )


def _either(answers: tuple[str, ...]) -> str:
    return "an answer" if answers == ANSWERS else " or ".join(map(repr, answers))


def required_column(row: Row, column: str) -> str:
    """The name of a column of this row.

    Raises:
        NotHere: the row has none of this name, or null in it.
    """
    if row.get(column) is not None:
        return column
    if column in row:
        raise NotHere("null_column", f"column {column!r} is null")
    raise NotHere("missing_column", f"looked for column {column!r}; {keys_found(row)}")


def first_given(row: Row, columns: tuple[str, ...]) -> str | None:
    """The first of some columns in which a row has a value."""
    return next((column for column in columns if row.get(column) is not None), None)
