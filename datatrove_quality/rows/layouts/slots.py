"""Texts that know where in a row they come from, so that an edited conversation can be written back.

The parser takes any `str`. To find out where each content comes from, a row's texts are replaced by `Slot`s and the
row is parsed again: a content that is a `Slot` says which text of the row it is, a `JoinedSlot` of which texts it was
put together. Nothing of this runs unless a conversation was edited.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datatrove_quality.rows.json_values import parse_json


HUMAN_OR_ASSISTANT = re.compile(r"(?:\A|\n\n)(Human|Assistant):")
"""What divides the turns of a text as Anthropic's helpful-harmless data have it."""


@dataclass(frozen=True, slots=True)
class JsonText:
    """The step from a text into the JSON value that it holds."""


@dataclass(frozen=True, slots=True)
class TurnOfText:
    """The step from a text of `Human:` and `Assistant:` turns into the words of one of them.

    Args:
        number: of the turn, from 0.
    """

    number: int


Step = str | int | JsonText | TurnOfText
Path = tuple[Step, ...]


class Slot(str):
    """A text of a row.

    Attributes:
        path: the steps from the row to the text.
    """

    path: Path

    def __new__(cls, text: str, path: Path) -> "Slot":
        slot = super().__new__(cls, text)
        slot.path = path
        return slot


class WholeSlot(int):
    """A whole number of a row; see `Slot`."""

    path: Path


class FractionSlot(float):
    """A number with a point of a row; see `Slot`."""

    path: Path


class JoinedSlot(str):
    """A text that was put together of a row's texts.

    Attributes:
        separator: between the pieces.
        pieces: the texts, at least one of them a `Slot`.
    """

    separator: str
    pieces: tuple[str, ...]

    def __new__(cls, separator: str, pieces: Sequence[str]) -> "JoinedSlot":
        slot = super().__new__(cls, separator.join(pieces))
        slot.separator, slot.pieces = separator, tuple(pieces)
        return slot


def joined(separator: str, pieces: Sequence[str]) -> str:
    """The pieces with a separator between them."""
    if len(pieces) == 1:
        return pieces[0]
    if any(isinstance(piece, Slot) for piece in pieces):
        return JoinedSlot(separator, pieces)
    return separator.join(pieces)


def decoded(text: str) -> Any:
    """The JSON value in a text.

    Raises:
        InvalidConversation: it is not JSON.
    """
    if isinstance(text, Slot):
        return with_slots(parse_json(str(text)), (*text.path, JsonText()))
    return parse_json(text)


def turns_of_text(text: str) -> list[tuple[str, str]]:
    """The turns of a text with `Human:` and `Assistant:` before them: the name and the words of each."""
    parts = HUMAN_OR_ASSISTANT.split(text)
    turns = []
    for number, (name, words) in enumerate(zip(parts[1::2], parts[2::2], strict=True)):
        stripped = words.strip()
        turns.append((name, Slot(stripped, (*text.path, TurnOfText(number))) if isinstance(text, Slot) else stripped))
    return turns


def with_slots(value: Any, path: Path) -> Any:
    """A copy of a value in which each text is a `Slot`, and each number knows its path as well."""
    if isinstance(value, str):
        return Slot(value, path)
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = WholeSlot(value) if isinstance(value, int) else FractionSlot(value)
        number.path = path
        return number
    if isinstance(value, dict):
        return {key: with_slots(item, (*path, key)) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [with_slots(item, (*path, index)) for index, item in enumerate(value)]
    return value


def replaced(value: Any, path: Path, new: Any) -> Any:
    """A copy of a value with another text or number at a path."""
    if not path:
        return new
    step, rest = path[0], path[1:]
    if isinstance(step, JsonText):
        return json.dumps(replaced(parse_json(value), rest, new), ensure_ascii=False)
    if isinstance(step, TurnOfText):
        return _replaced_turn(value, step.number, new)
    copied: Any = dict(value) if isinstance(value, dict) else list(value)
    copied[step] = replaced(value[step], rest, new)
    return tuple(copied) if isinstance(value, tuple) else copied  # a map's pair


def _replaced_turn(text: str, number: int, words: str) -> str:
    heads = list(HUMAN_OR_ASSISTANT.finditer(text))
    start = heads[number].end()
    end = heads[number + 1].start() if number + 1 < len(heads) else len(text)
    old = text[start:end]
    lead = old[: len(old) - len(old.lstrip())]
    return text[:start] + lead + words + old[len(lead) + len(old.strip()) :] + text[end:]
