"""The prompt of a judge: the rubric, and the conversation between markers that do not occur in it.

A conversation may hold anything, also "give this a 5" or a closing marker. The marker is a digest of the conversation,
so that it cannot be written into one, and it is searched for all the same. Each message's heading carries it too: a
message cannot look like the next speaker's. No markup makes a model ignore an instruction for certain.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, Protocol

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from datatrove_quality.annotation.rubric import Rubric
from datatrove_quality.rows.types import Conversation, Message


TEMPLATES = files("datatrove_quality.annotation") / "templates"
MARK_BYTES = 6
MAX_ROLE = 40


class Measure(Protocol):
    """Measures and cuts texts: by characters or by the tokens of the judge."""

    def length(self, text: str) -> int:
        """The length of a text."""

    def first(self, text: str, length: int) -> str:
        """The beginning of a text that has at most this length."""


class Characters:
    """Measures texts by characters."""

    def length(self, text: str) -> int:
        """The number of characters."""
        return len(text)

    def first(self, text: str, length: int) -> str:
        """The first characters."""
        return text[:length]


class Tokens:
    """Measures texts by the tokens of a tokenizer.

    Args:
        name: hub id or folder of the tokenizer.
    """

    def __init__(self, name: str):
        from transformers import AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(name)

    def _ends(self, text: str) -> list[int]:
        """The character behind each token."""
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return [end for _, end in encoded["offset_mapping"]]

    def length(self, text: str) -> int:
        """The number of tokens."""
        return len(self._ends(text))

    def first(self, text: str, length: int) -> str:
        """The text of the first tokens."""
        ends = self._ends(text)
        return text if len(ends) <= length else text[: ends[length - 1]]


@dataclass(frozen=True)
class Prompt:
    """What is sent about one row.

    Args:
        text: of the user's turn.
        truncated: whether the judge does not see all of the conversation.
    """

    text: str
    truncated: bool


def make_prompt(rubric: Rubric, judged: Conversation | str, measure: Measure, limit: int) -> Prompt:
    """Put the prompt for a conversation or a text together.

    Args:
        rubric: the task and the levels.
        judged: a conversation in normal form, or plain text.
        measure: by what the limit is counted.
        limit: how much of the conversation the judge sees.

    Raises:
        ValueError: the rubric's template cannot be rendered, or leaves the conversation out.
    """
    parts = [(None, judged)] if isinstance(judged, str) else [(_role(message), _body(message)) for message in judged]
    mark = _mark("\n".join(f"{role}\n{body}" for role, body in parts))
    blocks = [body if role is None else f"[{mark}] {role}:\n{body}" for role, body in parts]
    shown, truncated = _cut(blocks, mark, measure, limit, rubric.cut)
    marked = f"<<<{mark}\n{shown}\n{mark}>>>"
    words = {"rubric": rubric, "mark": mark, "conversation": marked, "truncated": truncated}
    try:
        text = _template(rubric).render(words, is_text=isinstance(judged, str), json=_json)
    except jinja2.TemplateError as error:
        raise ValueError(f"rubric {rubric.name}: its template cannot be rendered: {error}.") from error
    if text.count(marked) != 1:
        raise ValueError(f"rubric {rubric.name}: its template must have {{{{ conversation }}}} once, as it is.")
    return Prompt(text.strip(), truncated)


def _mark(text: str) -> str:
    """A word that does not occur in a text, the same for the same text."""
    number = 0
    while (mark := hashlib.blake2b(f"{number}\n{text}".encode(), digest_size=MARK_BYTES).hexdigest()) in text:
        number += 1
    return mark


def _role(message: Message) -> str:
    return " ".join(str(message.get("role")).split())[:MAX_ROLE]


def _body(message: Message) -> str:
    """The content, and as JSON what else a message says, such as the calls of tools."""
    others = {name: value for name, value in message.items() if name not in ("role", "content") and value is not None}
    content = message.get("content")
    lines = [content] if isinstance(content, str) and content else []
    return "\n".join([*lines, *(f"{name}: {_json(value)}" for name, value in others.items())])


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _cut(blocks: Sequence[str], mark: str, measure: Measure, limit: int, where: str) -> tuple[str, bool]:
    """The messages as one text of at most a length, and whether something was left out."""
    whole = "\n\n".join(blocks)
    if measure.length(whole) <= limit:
        return whole, False
    kept = list(blocks)
    if where == "middle" and len(blocks) > 2:
        gap = f"[{mark}] (...)"
        lengths = [measure.length(block) + 2 for block in blocks]
        room = limit - measure.length(gap) - 2
        before, behind = _around(lengths, room)
        kept = [*blocks[:before], gap, *blocks[behind:]]
    return measure.first("\n\n".join(kept), limit), True


def _around(lengths: Sequence[int], room: int) -> tuple[int, int]:
    """How many messages are kept at the beginning, and from which one on at the end; the last ones first."""
    before, behind = 1, len(lengths)
    room -= lengths[0]
    while before < behind:
        at_end = len(lengths) - behind <= before - 1
        length = lengths[behind - 1] if at_end else lengths[before]
        if length > room:
            break
        room -= length
        before, behind = (before, behind - 1) if at_end else (before + 1, behind)
    return before, behind


@lru_cache
def _template_of(source: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    return environment.from_string(source)


def _template(rubric: Rubric) -> jinja2.Template:
    source = rubric.template
    if source is None:
        name = "pt" if rubric.language == "pt" else "en"
        source = (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")
    return _template_of(source)
