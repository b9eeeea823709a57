"""A row becomes a conversation: the layout is recognised, its parts are put together, and nothing may be left over.

    system prompt ── history ── question, with its context ── answer

Each part may be in a column of its own: `column_names.py` has their names, and `detection.py` chooses among them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from datatrove_quality.rows.json_values import is_writable, parse_json, texts_in
from datatrove_quality.rows.layouts.answers import (
    find_answer,
    is_filled,
    is_message,
    is_text_of_turns,
    side,
    with_answer,
)
from datatrove_quality.rows.layouts.arguments import template_arguments_in
from datatrove_quality.rows.layouts.blocks import part_text
from datatrove_quality.rows.layouts.column_names import (
    ANSWERS,
    API_ANSWERS,
    CHATS,
    CONTENTS,
    CONTEXTS,
    ENVELOPES,
    HISTORY,
    LATER_ANSWERS,
    OTHER_CHATS,
    PAIRS,
    REJECTED,
    SAYS,
    SWITCHES,
    SYSTEMS,
    TEMPLATE_ARGUMENTS,
    THOUGHTS,
    TURNS,
    Pair,
)
from datatrove_quality.rows.layouts.detection import NotHere, detect, first_given, required_column
from datatrove_quality.rows.layouts.messages import (
    items_in,
    pairs_as_messages,
    read_messages,
    repeats_itself,
    texts_as_messages,
    turn,
    without_keys,
)
from datatrove_quality.rows.layouts.repeated import are_in, is_repeated, one_of
from datatrove_quality.rows.layouts.slots import Slot, decoded, joined
from datatrove_quality.rows.layouts.where import Where
from datatrove_quality.rows.roles import ASSISTANT, SYSTEM, USER, known_role
from datatrove_quality.rows.types import (
    SOURCE,
    Conversation,
    InvalidConversation,
    Row,
    described,
    keys_found,
    require_no_surrogates,
)


OTHERS_THAN = {column: SAYS - {column} for column in CHATS}
SYSTEM_COLUMNS = frozenset(SYSTEMS)
QUESTIONS = frozenset(pair.question for pair in PAIRS)
ALL_ANSWERS = frozenset(answer for pair in PAIRS for answer in pair.answers) | {*ANSWERS, *LATER_ANSWERS}


@dataclass(slots=True)
class Found:
    """A conversation that was found in a row.

    Args:
        messages: the conversation.
        layout: what the layout is called: the schema, or the column.
        column: the column that holds all of it as a list of messages; "" where it was put together.
        used: the columns whose contents are in it.
        is_alone: whether nothing else in the row can say something.
        arguments: for the chat template, but for tool definitions.
    """

    messages: Conversation
    layout: str
    column: str = ""
    used: set[str] = field(default_factory=set)
    is_alone: bool = False
    arguments: Row = field(default_factory=dict)


def read(row: Row, where: Where) -> Found:
    """The conversation in a row.

    Raises:
        InvalidConversation: the row has no conversation, or a column that can say something about it is not in it.
    """
    if not isinstance(row, dict):
        raise InvalidConversation("not_an_object", f"the row is {described(row)}, not an object with columns")
    if where.ignored_columns:
        row = {name: value for name, value in row.items() if name not in where.ignored_columns}
    try:
        found = _read_columns(row, where)
    except NotHere as error:
        found = _read_inside(row, where, error)
        found.is_alone = False
    if not any(message["content"] and not message["content"].isspace() for message in found.messages):
        raise InvalidConversation("empty_conversation", f"none of the {len(found.messages)} messages has any content")
    return found


def _read_columns(row: Row, where: Where) -> Found:
    column, pair = detect(row, where)
    found = _read_pair(row, where, pair) if pair else _read_list(row, where, column)
    # Most rows have no other column that can say something.
    others = OTHERS_THAN.get(column)
    if others is not None and others.isdisjoint(row) and not (where.system_key or where.history_key):
        is_whole = REJECTED.isdisjoint(row) and not where.ignored_columns
        found.is_alone = is_whole and not any(map(repeats_itself, found.messages))
    else:
        if where.history_key or HISTORY in row:
            _add_history(found, row, where)
        if where.system_key or not SYSTEM_COLUMNS.isdisjoint(row):
            _add_system(found, row, where)
        if row.get(TEMPLATE_ARGUMENTS) is not None:
            found.arguments = template_arguments_in(row[TEMPLATE_ARGUMENTS])
            found.arguments.pop("tools", None)  # rendered only on request
            found.used.add(TEMPLATE_ARGUMENTS)
        _require_all_read(found, row, where)
    return found


def _read_inside(row: Row, where: Where, error: NotHere) -> Found:
    """The conversation in a request's object, or in the column `metadata` as DataTrove's writers nest it."""
    for name in ENVELOPES:
        if isinstance(row.get(name), dict):
            if others := [other for other in ENVELOPES if other != name and _says(row.get(other))]:
                raise InvalidConversation("unused_column", f"columns {name!r} and {others[0]!r} may be the request")
            column = first_given(row, API_ANSWERS)
            answer = {"choices" if column == "choices" else "response": row[column]} if column else {}
            nested = row[name]
            found = _read_columns(answer | nested, where)
            break
    else:
        name, column, nested = "metadata", None, nested_metadata(row)
        if nested is None:
            raise error
        if SOURCE in nested and CHATS[0] in nested:  # a document of ours, whose conversation has been put together
            nested = {CHATS[0]: nested[CHATS[0]]}
        try:
            found = _read_columns({**nested, **dict.fromkeys((*SYSTEMS, *CONTEXTS, HISTORY))}, where)
            _require_all_read(found, nested, where)
        except NotHere:
            raise error from None
    found.used = {name}
    found.column = ""
    _require_all_read(found, row, where)
    found.used |= {column} if column else set()
    if is_filled(nested.get(TEMPLATE_ARGUMENTS)):
        raise InvalidConversation("unused_column", f"{TEMPLATE_ARGUMENTS!r} is read only as a column of its own")
    return found


def _says(value: Any) -> bool:
    """Whether an object has a column that can say something about a conversation."""
    return isinstance(value, dict) and any(name in SAYS and is_filled(value[name]) for name in value)


def nested_metadata(row: Row) -> Row | None:
    """The column `metadata`, if it is an object, or the text of one whose values can be written again."""
    metadata = row.get("metadata")
    if isinstance(metadata, str) and metadata.lstrip().startswith("{"):
        try:
            plain = parse_json(str(metadata))
        except InvalidConversation:
            return None
        if not is_writable(plain):  # asked without slots: orjson refuses numbers that know their places
            return None
        return plain if type(metadata) is str else decoded(metadata)
    return metadata if isinstance(metadata, dict) else None


# --- its parts -------------------------------------------------------------------------------------------------------


def _read_list(row: Row, where: Where, column: str) -> Found:
    """A conversation in one column; one that ends before the answer takes it from another."""
    value = row[column]
    if column in ("chosen", *API_ANSWERS) and column != where.messages_key:
        return Found(side(value, column, ASSISTANT), column, "", {column})
    if isinstance(value, str) and is_text_of_turns(value):
        messages = side(value, column, USER)
    else:
        items = items_in(value, f"column {column!r}")
        if where.ignored_columns:
            items = without_keys(items, where.ignored_columns)
        if column == TURNS or (column in CHATS[1:] and _are_texts(items)):
            messages = texts_as_messages(items, column)
        else:
            is_sharegpt = where.schema == "sharegpt" or (where.messages_key is None and column == CHATS[1])
            messages = read_messages(items, column, aliased=is_sharegpt or _looks_like_sharegpt(items))
    found = Found(messages, column, column, {column})
    if known_role(messages[-1]["role"]) not in (ASSISTANT, None):
        _add_answer(found, row, where, (*ANSWERS, *LATER_ANSWERS))
    return found


def _are_texts(items: list[Any]) -> bool:
    return all(isinstance(item, str) and not item.lstrip().startswith("{") for item in items)


def _looks_like_sharegpt(items: list[Any]) -> bool:
    first = items[0]
    return isinstance(first, dict) and first.get("role") is None and first.get("from") is not None


def _read_pair(row: Row, where: Where, pair: Pair) -> Found:
    """A conversation of a question, its context and an answer."""
    question = row[pair.question]
    found = Found([], pair.schema, "", {pair.question})
    contexts = [column for column in pair.contexts if row.get(column) not in (None, "") and column != pair.question]
    prompt = side(question, pair.question, USER)
    if contexts and isinstance(question, str) and prompt == [turn(USER, question)]:
        texts = [text_in(row, column) for column in contexts]
        if pair.schema != "alpaca":
            texts = [text for text in texts if not is_repeated(text.strip(), question)]
        pieces = [text for text in (question, *texts) if text.strip()]
        prompt = [turn(USER, joined("\n\n", pieces) if pieces else "")]
        found.used.update(contexts)
    found.messages = prompt
    is_own = where.schema == pair.schema and any(is_filled(row.get(column)) for column in pair.own)
    answers = pair.own if is_own else (*pair.answers, *LATER_ANSWERS)
    if not _add_answer(found, row, where, answers) and where.schema == pair.schema:
        raise InvalidConversation("missing_column", f"looked for one of {pair.answers}; {keys_found(row)}")
    return found


def _add_answer(found: Found, row: Row, where: Where, columns: tuple[str, ...]) -> bool:
    """Put the answer behind the prompt; False: the row has no answer."""
    if where.answer_key is not None:
        columns = (where.answer_key,)
    answer = find_answer(row, tuple(column for column in columns if column not in found.used))
    if answer is None:
        return False
    messages, used = answer
    whole = with_answer(found.messages, messages)
    if whole is messages and not are_in(found.messages, whole):
        raise InvalidConversation(
            "unused_column",
            f"column {used[0]!r} is a whole conversation, and what {sorted(found.used)} say is not in it: name the "
            "column of the whole conversation with messages_key (--messages-key)",
        )
    found.messages, found.column = whole, ""
    found.used.update(used)
    return True


def _add_history(found: Found, row: Row, where: Where) -> None:
    column = where.history_key or HISTORY
    if not is_filled(row.get(column)) or column in found.used:
        return
    earlier = pairs_as_messages(items_in(row[column], f"column {column!r}"), column)
    found.used.add(column)
    messages = found.messages
    start = int(known_role(messages[0]["role"]) == SYSTEM)
    if any(_said_by(messages[first : first + len(earlier)]) == _said_by(earlier) for first in (0, start)):
        return
    found.messages, found.column = [*messages[:start], *earlier, *messages[start:]], ""


def _said_by(messages: Conversation) -> list[tuple[str, str]]:
    return [(known_role(message["role"]) or message["role"], message["content"].strip()) for message in messages]


def _add_system(found: Found, row: Row, where: Where) -> None:
    """Puts the system prompt of a column of its own first. A conversation's own system turn must hold it."""
    columns: tuple[str, ...] = (where.system_key,) if where.system_key else SYSTEMS
    if not isinstance(row.get("output"), list):  # else it is the Responses API's name; others call the question so
        columns = tuple(column for column in columns if column != "instructions" or where.system_key)
    column = next((column for column in columns if is_filled(row.get(column)) and column not in found.used), None)
    if column is None:
        return
    text = _system_text(row[column], column)
    if text is None or known_role(found.messages[0]["role"]) == SYSTEM:
        return
    require_no_surrogates(text, f"column {column!r}")
    found.messages, found.column = [turn(SYSTEM, text), *found.messages], ""
    found.used.add(column)


def _system_text(value: Any, column: str) -> str | None:
    """The text of a system prompt: a text, a list of texts or of text parts, or a message."""
    if isinstance(value, str):
        value = _system_value(value)
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        if _says(value):
            raise InvalidConversation("unused_column", f"column {column!r} has more than a text; {keys_found(value)}")
        found = one_of(value, ("parts", "content", "text"))
        value = value if found is None else found
        if isinstance(value, str):
            return value
    if isinstance(value, list):
        separator = "\n\n" if all(isinstance(part, str) or is_message(part) for part in value) else ""
        return joined(separator, [part_text(part) for part in value])
    if isinstance(value, dict):
        raise InvalidConversation("invalid_content", f"column {column!r} is an object without a text")
    return None  # a number, such as the version of a system


def _system_value(text: str) -> Any:
    """The list of texts or parts, or the message, in JSON text; the text itself where it could be anything else."""
    if text.lstrip()[:1] not in ("[", "{"):
        return text
    try:
        value = decoded(text)
    except InvalidConversation:
        return text
    if isinstance(value, dict):
        return value if "parts" in value or {"role", "content"} <= value.keys() else text
    is_parts = all(isinstance(part, str) or (isinstance(part, dict) and "text" in part) for part in value)
    return value if value and is_parts else text


def text_in(row: Row, column: str) -> str:
    """The text in a column.

    Raises:
        InvalidConversation: it holds something else, or there is no such column.
    """
    value = row[required_column(row, column)]
    if not isinstance(value, str):
        raise InvalidConversation("invalid_content", f"column {column!r} is {described(value)}, not a text")
    require_no_surrogates(value, f"column {column!r}")
    return value


# --- nothing may be left over ----------------------------------------------------------------------------------------


def _require_all_read(found: Found, row: Row, where: Where) -> None:
    """Refuse a row in which a column that can say something about the conversation says what is not in it."""
    unread = [name for name in row if name in SAYS and name not in found.used and is_filled(row[name])]
    unread = [name for name in unread if not (name in THOUGHTS and _is_switch(row[name]))]
    if not unread:
        return
    settled = _settled_by_names(where)
    for column in unread:
        if column in settled or are_in(_said(row[column], column), found.messages):
            continue
        is_answer = column in ALL_ANSWERS and column not in CONTEXTS
        raise InvalidConversation(
            "ambiguous_answer" if is_answer else "unused_column",
            f"column {column!r} may be a part of the conversation that was read from {sorted(found.used)}, and is not "
            "in it: name the columns (prompt_key, answer_key, system_key, history_key, messages_key), or name it in "
            "ignored_columns (--ignored-columns) if it is not part of it",
        )


def _is_switch(value: Any) -> bool:
    return isinstance(value, str) and value.strip().casefold() in SWITCHES


def _settled_by_names(where: Where) -> frozenset[str]:
    """Columns that cannot be meant where the user has named others."""
    settled: frozenset[str] = frozenset()
    is_list = where.messages_key is not None or where.schema in ("messages", "sharegpt")
    if is_list or where.prompt_key is not None or where.schema != "auto":
        settled |= {*CHATS, *OTHER_CHATS, TURNS, CONTENTS} | (QUESTIONS - {*CONTEXTS})
    if is_list or where.answer_key is not None or where.schema != "auto":
        settled |= ALL_ANSWERS
    if where.system_key is not None:
        settled |= {*SYSTEMS}
    if where.history_key is not None:
        settled |= {HISTORY}
    return settled


def _said(value: Any, column: str) -> Conversation:
    """The texts in a column, as they would be in the conversation."""
    if not isinstance(value, (str, list, dict)):
        return []
    role = ASSISTANT if column in ALL_ANSWERS and column not in CONTEXTS else USER
    try:
        if column == TEMPLATE_ARGUMENTS:
            return [turn(role, "\0")]  # settings, which no message holds
        if column == HISTORY:
            return pairs_as_messages(items_in(value, column), column)
        if column in SYSTEMS:
            return [turn(SYSTEM, _system_text(value, column) or "")]
        return side(value, column, role if isinstance(value, str) else ASSISTANT)
    except InvalidConversation:
        return [turn(role, text) for text in texts_in(value)]


def slots_in(value: Any, column: str) -> Iterator[Slot]:
    """The texts of a row's column that know their places, those inside JSON text and of a text's turns too."""
    try:
        messages = side(value, column, USER if isinstance(value, str) else ASSISTANT)
        texts: Iterable[str] = [message["content"] for message in messages]
    except InvalidConversation:
        texts = texts_in(value)
    yield from (text for text in texts if isinstance(text, Slot))
