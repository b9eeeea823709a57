"""Edited conversations: noticed, and written back into the source's own columns in their own form."""

import hashlib
import json
import zlib
from itertools import pairwise
from typing import Any, TypeAlias

import orjson

from datatrove_quality.rows.forms import Forms, decoded_columns
from datatrove_quality.rows.json_values import json_text, parse_json
from datatrove_quality.rows.layouts import Where, parse_conversation, read
from datatrove_quality.rows.layouts.column_names import API_ANSWERS, ENVELOPES, REJECTED, SAYS
from datatrove_quality.rows.layouts.messages import without_nulls
from datatrove_quality.rows.layouts.read import slots_in
from datatrove_quality.rows.layouts.slots import FractionSlot, JoinedSlot, Path, Slot, WholeSlot, replaced, with_slots
from datatrove_quality.rows.roles import known_role
from datatrove_quality.rows.types import MESSAGES, Conversation, InvalidConversation, Message, Row, shown


ROLE_NAMES = {"user": "human", "assistant": "gpt"}
"""What ShareGPT calls a role, where a list has no message of it that would say."""


# A text or number that has changed, and its place in the row.
Change: TypeAlias = tuple[Path, str | int | float]


class CannotWriteBack(ValueError):
    """An edited conversation that does not fit into the columns that it came from."""


def text_of(messages: Conversation) -> str:
    """A document's text: the contents, with a blank line between two."""
    return "\n\n".join(message["content"] for message in messages)


def checksum(text: str) -> int:
    """A number by which an edited text is noticed: its length and its CRC."""
    return len(text) << 32 | zlib.crc32(text.encode("utf-8", "surrogatepass"))


def shape(messages: Conversation) -> str:
    """A text by which other edits than of contents are noticed: roles, lengths, and a digest of all other keys."""
    text = " ".join([f"{message['role']}:{len(message['content'])}" for message in messages])
    if all(len(message) == 2 for message in messages):
        return text
    others = [{key: value for key, value in message.items() if key not in ("role", "content")} for message in messages]
    if not any(others := without_nulls(others)):
        return text
    try:
        data = orjson.dumps(others, option=orjson.OPT_SORT_KEYS, default=str)
    except (TypeError, RecursionError):
        data = json_text(others).encode()
    return f"{text} {hashlib.blake2b(data, digest_size=12).hexdigest()}"


def is_edited(messages: Any, text: int, shaped: str) -> bool:
    """Whether messages are others than those with this checksum of their text, and this shape."""
    try:
        return checksum(text_of(messages)) != text or shape(messages) != shaped
    except (TypeError, KeyError, InvalidConversation):
        return True  # a form of its own, which a step has made


def write_back(row: Row, where: Where, edited: Any, text: int, forms: Forms) -> Row:
    """The row with an edited conversation in the columns that it was read from.

    Args:
        row: the source's columns. It is not changed.
        where: how the conversation was read.
        edited: the messages.
        text: the checksum of the text that was read.
        forms: of columns that are stored otherwise than they were read.

    Raises:
        CannotWriteBack: the columns have no place for the edit, such as a third turn in a row of prompt and response.
    """
    try:
        wanted = parse_conversation({MESSAGES: edited})
        named = {where.messages_key, where.prompt_key, where.answer_key, where.system_key, where.history_key}
        says = SAYS | REJECTED | named | {*ENVELOPES, *API_ANSWERS, "metadata"}
        slots = {name: with_slots(value, (name,)) if name in says else value for name, value in row.items()}
        slots = decoded_columns(slots, forms)
        found = read(slots, where)
        if checksum(text_of(found.messages)) != text:
            raise CannotWriteBack("the conversation is no longer what the row's columns say")
        changes = _changes(found.messages, wanted)
        written: Row | None = None
        if changes is not None:
            changes += _repeated(slots, {path for path, _ in changes}, found.messages, wanted)
            written = _with_changes(row, changes)
        elif found.column in row and forms.get(found.column, "json") == "json":
            written = row | {found.column: _as_list(row[found.column], wanted)}
        if written is not None and read(decoded_columns(written, forms), where).messages == wanted:
            return written
        columns = ", ".join(sorted(map(shown, found.used)))
    except InvalidConversation as error:
        raise CannotWriteBack(f"the row would not hold the edited conversation: {error.to_text()}") from None
    raise CannotWriteBack(
        f"the conversation was read from {columns}, and was edited in a way that does not fit there: a step may "
        "change the texts and numbers in messages, but add or remove no message and rename no key"
    )


def _changes(original: Conversation, edited: Conversation) -> list[Change] | None:
    """What has changed; None: more than texts and numbers has, or one has no place."""
    if len(original) != len(edited):
        return None
    changes: list[Change] = []
    for before, after in zip(original, edited, strict=True):
        placed = _placed(before, after)
        if placed is None:
            return None
        changes += placed
    return changes


def _with_changes(row: Row, changes: list[Change]) -> Row:
    for path, new in changes:
        column = str(path[0])
        row = row | {column: replaced(row[column], path[1:], new)}
    return row


def _repeated(slots: Row, written: set[Path], original: Conversation, edited: Conversation) -> list[Change]:
    """The same change wherever else a column says the text that has changed: as `prompt` may repeat the first turn."""
    new = {before["content"].strip(): after["content"] for before, after in zip(original, edited, strict=True)}
    changes: list[Change] = []
    for column, value in slots.items():
        for text in slots_in(value, column):
            after = new.get(text.strip())
            if after is not None and after != text and text.path not in written:
                changes.append((text.path, after))
    return changes


def _placed(before: Any, after: Any) -> list[Change] | None:
    """Where an edited value goes; None: it has no place."""
    if before == after:
        return []
    if isinstance(before, (dict, list)) and type(before) is type(after):
        pairs = _pairs(before, after)
        placed = None if pairs is None else [_placed(*pair) for pair in pairs]
        return None if placed is None or None in placed else [change for part in placed for change in part or ()]
    if isinstance(before, WholeSlot | FractionSlot) and isinstance(after, int | float | str):
        return [(before.path, after)]
    if not isinstance(after, str):
        return None
    if isinstance(before, Slot):
        return [(before.path, after)]
    return _shared_out(before, after) if isinstance(before, JoinedSlot) else None


def _pairs(before: Any, after: Any) -> list[tuple[Any, Any]] | None:
    if isinstance(before, dict):
        return [(before[key], after[key]) for key in before] if before.keys() == after.keys() else None
    return list(zip(before, after, strict=True)) if len(before) == len(after) else None


def _shared_out(before: JoinedSlot, after: str) -> list[Change] | None:
    """Shares an edited text out among the texts that it was put together of."""
    texts = _by_separators(before, after) or _by_unchanged_ends(before, after)
    placed = [_placed(piece, text) for piece, text in zip(before.pieces, texts, strict=True)]
    return None if None in placed else [change for part in placed for change in part or ()]


def _by_separators(before: JoinedSlot, after: str) -> list[str] | None:
    """Each piece has as many separators as it had; None: the edited text has more or fewer."""
    counts = [piece.count(before.separator) + 1 if before.separator else 0 for piece in before.pieces]
    parts = after.split(before.separator) if before.separator else []
    if not parts or len(parts) != sum(counts):
        return None
    starts = [sum(counts[:index]) for index in range(len(counts) + 1)]
    return [before.separator.join(parts[start:end]) for start, end in pairwise(starts)]


def _by_unchanged_ends(before: JoinedSlot, after: str) -> list[str]:
    """Pieces at both ends that are unchanged stay; the first that is not takes what there is, the others nothing."""
    pieces, separator = list(before.pieces), before.separator
    first, last = 0, len(pieces)
    while first < last - 1 and after.startswith(pieces[first] + separator):
        after = after[len(pieces[first] + separator) :]
        first += 1
    while first < last - 1 and after.endswith(separator + pieces[last - 1]):
        after = after[: len(after) - len(separator + pieces[last - 1])]
        last -= 1
    return [*pieces[:first], after, *([""] * (last - first - 1)), *pieces[last:]]


def _as_list(value: Any, messages: Conversation) -> Any:
    """Messages in the form of the list that they were read from: its keys, its names of roles, a list or JSON text."""
    items = parse_json(value) if isinstance(value, str) else value
    names = {known_role(item["from"]): item["from"] for item in items if isinstance(item.get("from"), str)}
    is_sharegpt = bool(names) and all(item.get("role") is None for item in items)
    written = [_sharegpt(message, names) for message in messages] if is_sharegpt else messages
    return json.dumps(written, ensure_ascii=False) if isinstance(value, str) else written


def _sharegpt(message: Message, names: dict[str | None, str]) -> Message:
    role = message["role"]
    others = {key: value for key, value in message.items() if key not in ("role", "content")}
    return {"from": names.get(role) or ROLE_NAMES.get(role, role), "value": message["content"], **others}
