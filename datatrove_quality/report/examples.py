"""Picked rows -> documents to read: their conversations, no longer than a page bears."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from datatrove_quality.report.columns import TEXT_COLUMNS, Columns, as_number, as_value
from datatrove_quality.report.contents import Example, Picked, Section, Turn
from datatrove_quality.report.scored_rows import ScoredRows
from datatrove_quality.report.text import cut_middle
from datatrove_quality.rows.layouts import parse_conversation
from datatrove_quality.rows.types import InvalidConversation, Row


# The most characters of one conversation, and of all of them together, that the page shows.
MAX_CHARS = 20_000
MAX_CHARS_OF_PAGE = 4_000_000
MAX_TURNS = 200
MIN_CHARS = 200


def examples(
    rows: ScoredRows, picked: Sequence[Picked], reasons: dict[str, int], threshold: float | None
) -> tuple[list[Section], dict[str, Example]]:
    """The documents to read, with their texts.

    Args:
        rows: after all of them were read once.
        picked: which rows to show, by section.
        reasons: a row for each reason why documents have no score.
        threshold: to which the examples of a section are sorted by closeness; None: they stay in the rows' order.

    Returns:
        The sections; and an example by reason.
    """
    numbers = [number for section in picked for number in section.rows] + list(reasons.values())
    limit = max(MIN_CHARS, min(MAX_CHARS, MAX_CHARS_OF_PAGE // max(1, len(numbers))))
    found = {number: example(row, file, rows.columns, limit) for number, file, row in rows.whole(numbers)}
    sections = [Section(section.title, _of_section(section, found, threshold)) for section in picked]
    return sections, {reason: found[number] for reason, number in reasons.items() if number in found}


def _of_section(picked: Picked, found: dict[int, Example], threshold: float | None) -> list[Example]:
    if picked.others is not None:  # of a comparison, in an order of its own
        pairs = zip(picked.rows, picked.others, strict=True)
        return [replace(found[number], other_score=other) for number, other in pairs if number in found]
    those = [found[number] for number in picked.rows if number in found]
    if threshold is None:
        return those
    return sorted(those, key=lambda one: math.inf if one.score is None else abs(one.score - threshold))


def example(row: Row, file: str, columns: Columns, limit: int) -> Example:
    """A row as it is shown.

    Args:
        row: as it was read.
        file: the name of its file.
        columns: that were read.
        limit: of all its texts together, in characters; a little more where there are many turns.
    """
    tokens, error = as_number(row.get(columns.tokens)), row.get(columns.error)
    return Example(
        id=str(row.get(columns.id)),
        file=file,
        turns=turns(row, columns, limit),
        score=as_number(row.get(columns.score)),
        tokens=None if tokens is None else int(tokens),
        truncated=row.get(columns.truncated) is True,
        group=as_value(row.get(columns.group)) if columns.group else None,
        error=str(error) if error is not None else None,
    )


def turns(row: Row, columns: Columns, limit: int) -> list[Turn]:
    """The conversation in a row; without one, its columns of text."""
    texts = {
        name: value for name, value in row.items() if name in (*TEXT_COLUMNS, columns.messages) and value is not None
    }
    try:
        messages = parse_conversation(texts, messages_key=columns.messages if columns.messages in texts else None)
        found = [Turn(message["role"], _content(message)) for message in messages]
    except InvalidConversation:
        found = [Turn(name, value if isinstance(value, str) else str(value)) for name, value in texts.items()]
    if len(found) > MAX_TURNS:
        left_out = Turn("", f"[… {len(found) - MAX_TURNS:,} turns left out …]")
        found = [*found[: MAX_TURNS // 2], left_out, *found[-MAX_TURNS // 2 :]]
    each = max(MIN_CHARS, limit // max(1, len(found)))
    spare = max(0, limit - sum(min(len(turn.text), each) for turn in found))
    return [Turn(turn.role, cut_middle(turn.text, each + spare)) for turn in found]


def _content(message: dict[str, Any]) -> str:
    """What a message says, and the tool calls that it makes."""
    calls = message.get("tool_calls")
    said = [message["content"], calls and json.dumps(calls, ensure_ascii=False, indent=1, default=str)]
    return "\n\n".join(part for part in said if part)
