"""What a chat template writes of a conversation, found by rendering it once more with marks for all that it says.

A template may leave out the arguments of a call, or a short message whose words are elsewhere in the text, and nothing
in the text tells. With marks in their places it does. What the template writes around the marks, and in which order,
is kept for each shape of conversation: its roles, which contents are blank, and how its calls are built. A text is
compared with that. It differs where a template does something else for certain contents; then each thing said must be
in the text as often as all that is written says it.
"""

import json
import re
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple

from datatrove_quality.config import Unscorable
from datatrove_quality.rows.layouts.messages import REASONING_KEYS, reasoning
from datatrove_quality.rows.types import Conversation, Message


CONTENT, CALL, KEY, THOUGHT, LAST_THOUGHT = "content", "call", "name of an argument", "thought", "last thought"
ARGUMENT_KEYS = ("arguments", "parameters", "args", "input", "kwargs")
THOUGHT_FIRST = re.compile(r"\s*<think>(.*?)</think>(.*)", re.DOTALL)
"""A content with thoughts before its answer, which templates leave out of earlier turns on purpose."""

MAX_MARKS = 100_000
MAX_COUNTED = 500_000_000
"""Characters that are looked at for one conversation, a second or two at most."""

_MARK = re.compile(r"(?:qzx7m|72900)(\d{5})", re.IGNORECASE)
_IN_PYTHON = {"true": "True", "false": "False", "null": "None"}


class Said(NamedTuple):
    """One thing that a conversation says.

    Args:
        message: the number of its message, from 0.
        kind: what it is of the message; thoughts of earlier turns may be left out.
        text: itself.
    """

    message: int
    kind: str
    text: str


class Skeleton(NamedTuple):
    """What a template writes of conversations of one shape.

    Args:
        pieces: of the text, with the places of what is said at odd numbers.
        order: what is said there, by its number.
        is_plain: whether it is the contents of all messages, and nothing else, that is said.
        with_keys: whether the names of arguments are among what is said.
        lost: what is left out, but for thoughts of earlier turns.
        refused: why such a conversation cannot be scored; "": it can.
        num_said: how many things the conversation says.
    """

    pieces: tuple[str, ...]
    order: tuple[int, ...]
    is_plain: bool = False
    with_keys: bool = False
    lost: tuple[Said, ...] = ()
    refused: str = ""
    num_said: int = 0

    @property
    def size(self) -> int:
        """Bytes that it takes in memory, about."""
        return 100 * len(self.pieces) + sum(map(len, set(self.pieces)))


UNKNOWN = Skeleton((), ())


def shape_of(conversation: Conversation) -> Hashable:
    """All of a conversation on which it should depend what a template writes of it.

    Of conversations of roles and contents alone it is all that their marks leave of them. Of others it is not: values
    of other keys, such as the number of a call, are not in it.
    """
    shape: list[Hashable] = []
    for message in conversation:
        content, role = message["content"], message["role"]
        if len(message) > 2:
            shape.append((role, _content_shape(content), *_others_shape(message)))
        elif "<" < content[:1] < "\x7f":
            shape.append(role)  # of nearly all: it begins with a letter
        else:
            is_said = _content_shape(content)
            shape.append(role if is_said is True else (role, is_said))
    return tuple(shape)


def _content_shape(content: str) -> Hashable:
    if parts := _thought_and_answer(content):
        return tuple(part.replace(part.strip(), "-", 1) if part.strip() else part for part in parts)
    return content if not content or content.isspace() else True


def _others_shape(message: Message) -> Iterator[Hashable]:
    for key in sorted(message):
        if key == "tool_calls" or key in REASONING_KEYS:
            yield key, _value_shape(message[key])
        elif key not in ("role", "content"):
            yield key, bool(message[key])


def _value_shape(value: Any) -> Hashable:
    if isinstance(value, dict):
        return tuple((key, _value_shape(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return "list", *map(_value_shape, value)
    return ("text", bool(value.strip())) if isinstance(value, str) else type(value).__name__


def _thought_and_answer(content: str) -> tuple[str, str] | None:
    """The parts of a content that begins with a block of thoughts; None: it does not."""
    found = THOUGHT_FIRST.match(content) if "<think>" in content[:16] else None
    return (found[1], found[2]) if found else None


def _is_said(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


class _Marking:
    """Puts marks in the places of what a conversation says.

    Args:
        conversation: in normal form.
        with_keys: whether names of arguments are replaced too.

    Attributes:
        said: what the marks stand for, by their numbers.
        marked: the conversation with marks.
    """

    def __init__(self, conversation: Conversation, with_keys: bool):
        self.said: list[Said] = []
        self.marked: Conversation = []
        self._with_keys = with_keys
        self._last = len(conversation) - 1
        self._number = 0
        for self._number, message in enumerate(conversation):
            self.marked.append(self._message(message))

    def _mark(self, kind: str, text: str) -> str:
        if not text or text.isspace():
            return text
        self.said.append(Said(self._number, kind, text))
        return f"qzx7m{len(self.said) - 1:05}"

    def _message(self, message: Message) -> Message:
        marked = message | {"content": self._content(message["content"])}
        if len(message) > 2 and (thought := reasoning(message)):
            mark = self._mark(LAST_THOUGHT if self._number == self._last else THOUGHT, thought)
            marked |= {key: mark for key in REASONING_KEYS if _is_said(message.get(key))}
        if "tool_calls" in message:
            marked["tool_calls"] = [self._call(call) for call in message["tool_calls"]]
        return marked

    def _content(self, content: str) -> str:
        if parts := _thought_and_answer(content):
            thought, answer = map(self._within_blanks, (THOUGHT, CONTENT), parts)
            return f"<think>{thought}</think>{answer}"
        return self._mark(CONTENT, content)

    def _within_blanks(self, kind: str, text: str) -> str:
        said = text.strip()
        return text.replace(said, self._mark(kind, said), 1) if said else text

    def _call(self, call: Message) -> Message:
        function = call.get("function")
        return call | {"function": self._function(function)} if isinstance(function, dict) else self._function(call)

    def _function(self, function: Message) -> Message:
        marked = dict(function)
        if isinstance(function.get("name"), str):
            marked["name"] = self._mark(CALL, function["name"])
        given = [key for key in ARGUMENT_KEYS if key in function]
        for key in given:
            same = next(other for other in given if function[other] == function[key])
            marked[key] = self._value(function[key]) if same == key else marked[same]
        return marked

    def _value(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self._key(key): self._value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._value(item) for item in value]
        if isinstance(value, str):
            return self._mark(CALL, value)
        try:
            mark = self._mark(CALL, json.dumps(value, default=str))
        except ValueError:  # thousands of digits
            return value
        return mark if value is None or isinstance(value, bool) else 7_290_000_000 + len(self.said) - 1

    def _key(self, key: Any) -> Any:
        return self._mark(KEY, key) if self._with_keys and isinstance(key, str) else key


def skeleton_of(conversation: Conversation, render: Callable[[Conversation], str]) -> Skeleton:
    """What a template writes of conversations that have the shape of this one.

    Args:
        conversation: in normal form, with roles that the template knows.
        render: the template; raises `Unscorable`.

    Returns:
        `UNKNOWN` where the template does not take the conversation with marks.
    """
    skeleton = _skeleton(conversation, render, with_keys=True)
    has_calls = any("tool_calls" in message for message in conversation)
    if has_calls and (skeleton is UNKNOWN or any(said.kind != KEY for said in skeleton.lost)):
        # The template may look for the arguments of a tool by their names, and finds none where these are marks.
        return _skeleton(conversation, render, with_keys=False)
    return skeleton


def _skeleton(conversation: Conversation, render: Callable[[Conversation], str], with_keys: bool) -> Skeleton:
    marking = _Marking(conversation, with_keys)
    try:
        pieces = _MARK.split(render(marking.marked))
    except Unscorable:
        return UNKNOWN
    order = tuple(map(int, pieces[1::2]))
    if len(marking.said) > MAX_MARKS or not all(number < len(marking.said) for number in order):
        return UNKNOWN
    written = set(order)
    lost = [said for number, said in enumerate(marking.said) if number not in written and said.kind != THOUGHT]
    calls = {said.message for said in map(marking.said.__getitem__, written) if said.kind in (CALL, KEY)}
    refused = next(filter(None, (_why_refused(said, conversation[said.message], calls) for said in lost)), "")
    are_pairs = all(len(message) == 2 for message in conversation)
    is_plain = are_pairs and [said.message for said in marking.said] == list(range(len(conversation)))
    pieces[1::2] = [""] * len(order)
    shared = {piece: piece for piece in pieces}  # most are alike, and skeletons are kept
    lost = [said._replace(text="") for said in lost]
    around = tuple(map(shared.__getitem__, pieces))
    return Skeleton(around, order, is_plain, with_keys, tuple(lost), refused, len(marking.said))


def _why_refused(lost: Said, message: Message, calls: set[int]) -> str:
    """Why a conversation in which this is lost cannot be scored; "": a part of a message is, which is counted."""
    what = f"message {lost.message + 1}: the chat template leaves out"
    if lost.kind == CONTENT and lost.message not in calls:
        return f"{what} this message of role {message['role']!r}, where it is in the conversation"
    has_content = bool(message["content"]) and not message["content"].isspace()
    if lost.kind in (CALL, KEY) and not has_content:
        return f"{what} a part of its call of a tool ({lost.kind})"
    return ""


def is_whole(conversation: Conversation, text: str, skeleton: Skeleton) -> bool:
    """Whether a text is all that a skeleton has, with what this conversation says in its places, and nothing is lost.

    Args:
        conversation: as the template got it.
        text: what it has made of it.
        skeleton: of a conversation of the same shape.
    """
    if skeleton.lost or skeleton is UNKNOWN:
        return False
    if skeleton.is_plain:
        texts = [message["content"] for message in conversation]
    else:
        texts = [one.text for one in _Marking(conversation, skeleton.with_keys).said]
    if len(texts) != skeleton.num_said:
        return False
    return _filled(skeleton, texts) == text or _filled(skeleton, list(map(str.strip, texts))) == text


def leaves_out(conversation: Conversation, text: str, skeleton: Skeleton) -> bool:
    """Whether a rendered text lacks a part of a message, but for thoughts of earlier turns.

    Args:
        conversation: as the template got it.
        text: what it has made of it.
        skeleton: its own.
    """
    if skeleton.lost:
        return True
    if is_whole(conversation, text, skeleton):
        return False  # of nearly all
    said = _Marking(conversation, skeleton.with_keys).said
    written = set(skeleton.order)
    said = [one for number, one in enumerate(said) if one.kind != THOUGHT or number in written]
    return _says_less(text, said, skeleton.pieces[::2])


def _filled(skeleton: Skeleton, texts: list[str]) -> str:
    pieces = [*skeleton.pieces]
    pieces[1::2] = map(texts.__getitem__, skeleton.order)
    return "".join(pieces)


def _says_less(text: str, said: list[Said], around: tuple[str, ...]) -> bool:
    """Whether a text lacks something, or has it only as a part of what else is written."""
    if len(said) * len(text) > MAX_COUNTED:
        return True  # that nothing is left out cannot be shown
    written: dict[str, set[str]] = {}
    everything = [*around]
    for one in said:
        forms = _forms(one.text)
        found = next((form for form in forms if form in text), None)
        if found is not None:
            everything.append(found)
        elif one.kind not in (THOUGHT, KEY):
            return True
        if found is not None and one.kind != KEY:  # names are often a letter, and whether they are written is known
            written[one.text] = set(forms)
    whole = "\0".join(everything)
    return any(_count(text, forms) < _count(whole, forms) for forms in written.values())


def _forms(text: str) -> list[str]:
    """How a template may write a text: as it is, as JSON has it, or as Python."""
    forms = [text.strip(), json.dumps(text, ensure_ascii=False)[1:-1], repr(text)[1:-1]]
    if "'" in text:
        forms += [form.replace("\\'", "'").replace("'", "\\'") for form in forms]
    return [*forms, _IN_PYTHON[text]] if text in _IN_PYTHON else forms


def _count(text: str, forms: set[str]) -> int:
    """How often a text says something in any form; one within another counts for both, on either side."""
    return sum(map(text.count, forms))
