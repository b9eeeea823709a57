"""What a chat template leaves out: tested, not trusted, by rendering messages with marked contents.

A template may raise on what it does not know, which is seen. It may also leave a message out without a word: of a role
that it has no branch for, of an answer beside a tool call, of a second system turn. Each kind of message that occurs
is therefore rendered once with a marker in its place, and the marker must be in the text. Templates may move, trim and
wrap what they are given. So is each shape of conversation (`template_marks`), for what depends on other messages.
"""

from collections.abc import Callable, Hashable, Iterator
from datetime import datetime
from functools import cache
from hashlib import sha256
from typing import Any, NamedTuple

from loguru import logger

from datatrove_quality.config import Unscorable
from datatrove_quality.model.template_limits import TemplateLimitExceeded, at_date
from datatrove_quality.model.template_marks import UNKNOWN, Skeleton, is_whole, leaves_out, shape_of, skeleton_of
from datatrove_quality.rows.json_values import texts_in
from datatrove_quality.rows.layouts.messages import reasoning
from datatrove_quality.rows.roles import ASSISTANT, SYSTEM, TOOL, USER, known_role
from datatrove_quality.rows.types import Conversation, Message


Apply = Callable[[Conversation, dict[str, Any]], str]
Places = Callable[[Message, str, bool], Iterator[Conversation]]

FOUR_ROLES = frozenset((USER, ASSISTANT, SYSTEM, TOOL))
MARKER = "qzx7marker"
NAME_MARKER = "qzx7name"
MAX_SHAPES, MAX_BYTES = 500, 20_000_000
"""Shapes of conversations that are remembered, and what they take."""

# They differ in all that a date can be written with: century, weekday, half of the day, ...
TWO_DATES = (datetime(1999, 2, 3, 4, 5, 6), datetime(2012, 11, 27, 18, 39, 47))

TEXT_ARGUMENTS = ("custom_instructions", "model_identity", "documents")
TOOL_ARGUMENTS = ("tools", "python_tools", "xml_tools")


class Kind(NamedTuple):
    """All that affects whether a template renders a message.

    Args:
        role: of the message.
        is_first: whether it is the first of the conversation.
        has_content: whether its content is not blank.
        has_calls: whether it calls tools.
        only_thinks: whether it has nothing but a reasoning.
    """

    role: str
    is_first: bool
    has_content: bool
    has_calls: bool = False
    only_thinks: bool = False


class _Kept:
    """Skeletons by shapes; of too many, those that were used last."""

    def __init__(self) -> None:
        self._skeletons: dict[Hashable, tuple[Skeleton, int]] = {}
        self._size = 0

    def get(self, shape: Hashable) -> Skeleton | None:
        found = self._skeletons.pop(shape, None)
        if found is None:
            return None
        self._skeletons[shape] = found
        return found[0]

    def keep(self, shape: Hashable, skeleton: Skeleton) -> None:
        if shape is None:
            return
        self._size -= self._skeletons.pop(shape, (skeleton, 0))[1]
        self._skeletons[shape] = skeleton, skeleton.size
        self._size += skeleton.size
        while len(self._skeletons) > MAX_SHAPES or self._size > MAX_BYTES:
            oldest = next(iter(self._skeletons))
            self._size -= self._skeletons.pop(oldest)[1]


class TemplateChecks:
    """What one template does with each kind of message, each found out once.

    Args:
        apply: renders a conversation with arguments for the template, or raises `Unscorable`.
    """

    def __init__(self, apply: Apply):
        self._apply = apply
        self._roles: dict[str, str] = {role: role for role in FOUR_ROLES}
        self._left_out: dict[Kind, str] = {}
        # Of conversations whose roles are rendered as they are.
        self._skeletons = _Kept()
        self._leaves_out_tools: dict[str, bool] = {}

    def rendered(self, item: Conversation, arguments: dict[str, Any]) -> tuple[str, bool]:
        """The text of a conversation, and whether the template leaves out a part of a message that it renders.

        Args:
            item: a conversation in normal form.
            arguments: for the template, which its row has.

        Raises:
            Unscorable: the template refuses the conversation, or leaves out messages, calls or arguments.
        """
        shape = _shape(item, arguments)
        known = self._skeletons.get(shape)
        conversation = item if known else self._prepared(item)
        text = None
        if known and not known.refused:
            text = self._apply(conversation, arguments)
            if _is_whole(conversation, text, known):
                self._require_arguments(arguments, text)
                return text, False
        # What is lost of another conversation of this shape may be lost for what only that one has: names, numbers.
        skeleton = known if known and _is_exact(conversation) else self._skeleton(conversation, arguments)
        if conversation is item:
            self._skeletons.keep(shape, skeleton)
        if skeleton.refused:
            raise Unscorable("role_not_rendered", skeleton.refused)
        text = self._apply(conversation, arguments) if text is None else text
        self._require_arguments(arguments, text)
        return text, _leaves_out(conversation, text, skeleton)

    def _skeleton(self, conversation: Conversation, arguments: dict[str, Any]) -> Skeleton:
        """What the template writes of a conversation; `UNKNOWN` where that cannot be found out."""
        try:
            return skeleton_of(conversation, lambda marked: self._apply(marked, arguments))
        except (MemoryError, OSError):  # may pass: says nothing of the template, and would be kept
            raise
        except Exception as error:  # a check of what is rendered, which ends no run
            _warn_once(type(error).__name__)
            return UNKNOWN

    def _prepared(self, conversation: Conversation) -> Conversation:
        """The conversation with roles that the template renders.

        Raises:
            Unscorable: it leaves out messages of a role.
        """
        names = [self._roles.get(message["role"]) or self._role(message["role"]) for message in conversation]
        has_other_names = False
        for number, (message, name) in enumerate(zip(conversation, names, strict=True)):
            kind = _kind(name, number == 0, message)
            reason = self._left_out.get(kind)
            if reason is None:
                reason = self._left_out[kind] = self._why_left_out(kind)
            if reason:
                raise Unscorable("role_not_rendered", f"message {number + 1}: {reason}")
            has_other_names |= message["role"] != name
        if not has_other_names:
            return conversation
        return [message | {"role": name} for message, name in zip(conversation, names, strict=True)]

    def _require_arguments(self, arguments: dict[str, Any], text: str) -> None:
        """Refuse a text in which what a row gives to the template beside its messages is not found.

        Raises:
            Unscorable: the template leaves an argument out.
        """
        for name, value in arguments.items():
            if name in TEXT_ARGUMENTS:
                is_missing = any(part.strip() not in text for part in texts_in(value))
            else:
                is_missing = name in TOOL_ARGUMENTS and bool(value) and self._tools_left_out(name)
            if is_missing:
                raise Unscorable("argument_not_rendered", f"the chat template leaves out {name!r}, which the row has")

    def _role(self, name: str) -> str:
        """The role by which the template knows a message: its own name if rendered, else the role that it means."""
        known = known_role(name)
        role = name
        if known is not None and not self._renders(Kind(name, known == SYSTEM, True), known, _suiting):
            role = known
        self._roles[name] = role
        return role

    def _why_left_out(self, kind: Kind) -> str:
        known = known_role(kind.role) or kind.role
        if not (kind.has_content or kind.has_calls or kind.only_thinks) or self._renders(kind, known) is not False:
            return ""
        what = " with a tool call" if kind.has_calls else " that only think" if kind.only_thinks else ""
        where = " at the beginning" if kind.is_first else " after the first message"
        return f"the chat template leaves out messages of role {kind.role!r}{what}{where}, or a part of them"

    def _renders(self, kind: Kind, known: str, places: Places | None = None) -> bool | None:
        """Whether a marked message is rendered, in the first surroundings that the template accepts; None: in none."""
        message: Message = {"role": kind.role, "content": MARKER if kind.has_content else ""}
        markers = [MARKER] if kind.has_content else []
        if kind.has_calls:
            function = {"name": NAME_MARKER, "arguments": {"x": "1"}}
            message["tool_calls"] = [{"id": "call00001", "type": "function", "function": function}]
            markers = markers or [NAME_MARKER]  # a call beside a content that is rendered is looked for in each text
        if kind.only_thinks:
            message["reasoning_content"] = MARKER
            markers.append(MARKER)
        for conversation in (places or _surroundings)(message, known, kind.is_first):
            try:
                text = self._apply(conversation, {}).casefold()
            except Unscorable:
                continue
            return all(marker in text for marker in markers)
        return None

    def _tools_left_out(self, name: str) -> bool:
        if name not in self._leaves_out_tools:
            function = {"name": NAME_MARKER, "description": "", "parameters": {"type": "object", "properties": {}}}
            value = [{"type": "function", "function": function}] if name == "tools" else [NAME_MARKER]
            texts = []
            for conversation in _surroundings({"role": USER, "content": "?"}, USER, True):
                try:
                    texts.append(self._apply(conversation, {name: value}).casefold())
                except Unscorable:
                    continue
            self._leaves_out_tools[name] = bool(texts) and not any(NAME_MARKER in text for text in texts)
        return self._leaves_out_tools[name]


@cache
def _warn_once(error: str) -> None:
    logger.warning(f"What the chat template leaves out was not looked for in each conversation: {error}")


def _shape(conversation: Conversation, arguments: dict[str, Any]) -> Hashable:
    """The shape under which a skeleton is kept; None: it has none, such as values of unusual types."""
    try:
        shape = shape_of(conversation)
        # Other tools, another text around the messages.
        shape = (shape, sha256(repr(arguments).encode("utf-8", "replace")).digest()) if arguments else shape
        hash(shape)
    except Exception:  # a check of what is rendered, which ends no run
        return None
    return shape


def _is_exact(conversation: Conversation) -> bool:
    """Whether a conversation with marks is the same for all of its shape."""
    return all(len(message) == 2 for message in conversation)


def _is_whole(conversation: Conversation, text: str, known: Skeleton) -> bool:
    try:
        return is_whole(conversation, text, known)
    except Exception:  # its own marks decide
        return False


def _leaves_out(conversation: Conversation, text: str, skeleton: Skeleton) -> bool:
    try:
        return leaves_out(conversation, text, skeleton)
    except (MemoryError, OSError):
        raise
    except Exception as error:  # that nothing is left out cannot be shown
        _warn_once(type(error).__name__)
        return True


def _kind(role: str, is_first: bool, message: Message) -> Kind:
    content = message["content"]
    has_content = bool(content) and not content.isspace()
    if len(message) == 2:
        return Kind(role, is_first, has_content)
    has_calls = bool(message.get("tool_calls"))
    return Kind(role, is_first, has_content, has_calls, not has_content and not has_calls and bool(reasoning(message)))


def _surroundings(message: Message, known: str, is_first: bool) -> Iterator[Conversation]:
    """Conversations with a message in a place that suits its role, the most usual one first; then in any other."""
    yield from _suiting(message, known, is_first)
    user, answer = _said_by(USER), _said_by(ASSISTANT)
    if not is_first:
        yield from (
            [user, message, answer],
            [user, answer, message, user, answer],
            [user, answer, message],
            [user, message],
        )


def _suiting(message: Message, known: str, is_first: bool) -> Iterator[Conversation]:
    """Conversations with a message where one of its role would be: else a template may take it for another's."""
    system, user, answer = (_said_by(role) for role in (SYSTEM, USER, ASSISTANT))
    function = {"name": "f", "arguments": {"x": "1"}}
    call = answer | {"content": "", "tool_calls": [{"id": "call00001", "type": "function", "function": function}]}
    if known == TOOL:
        result = message | {"tool_call_id": "call00001", "name": "f"}
        yield from ([user, call, result, answer], [user, call, result], [user, answer, message, answer])
    elif is_first:
        yield from ([message, user, answer], [message, answer], [message, user], [message])
    elif known == USER:
        yield from ([user, answer, message, answer], [user, answer, message], [system, message, answer])
    elif known == ASSISTANT:
        yield from ([user, message], [user, message, user, answer], [system, user, message])
        result = _said_by(TOOL) | {"tool_call_id": "call00001", "name": "f"}
        yield from ([user, message, result, answer], [system, user, message, result, answer])


def _said_by(role: str) -> Message:
    return {"role": role, "content": "?"}


def require_all_rendered(apply: Apply) -> list[str]:
    """Find out before any work starts whether a template renders each message of a conversation.

    Args:
        apply: renders a conversation with arguments for the template.

    Returns:
        Rendered texts; none where the template accepts no conversation that was tried: documents will show.

    Raises:
        ValueError: it leaves out a message, or does not end.
    """
    for roles in ((USER, ASSISTANT, USER, ASSISTANT), (USER, ASSISTANT), (SYSTEM, USER, ASSISTANT)):
        markers = [f"{MARKER}{number}" for number in range(len(roles))]
        messages = [{"role": role, "content": marker} for role, marker in zip(roles, markers, strict=True)]
        try:
            text = apply(messages, {})
        except Unscorable as error:
            if isinstance(error.__cause__, TemplateLimitExceeded):
                raise ValueError(f"chat_template: for {len(roles)} short messages {error.__cause__}.") from error
            refused = error
            continue
        missing = [number for number, marker in enumerate(markers) if marker not in text.casefold()]
        if missing:
            found = f"it renders {'all messages alike' if len(missing) == len(roles) else 'not all messages'}"
            raise ValueError(
                f"chat_template: {found}: of a conversation of {', '.join(roles)}, message {missing[0] + 1} (the "
                f"{roles[missing[0]]}'s) is not in the text {text!r:.80}; give the template that the classifier was "
                "trained with."
            )
        return [text]
    raise refused


def writes_date(apply: Apply) -> bool:
    """Whether the texts of a template change with the date: conversations of several kinds, each under two dates.

    Args:
        apply: renders a conversation with arguments for the template.
    """
    system, user, answer = (_said_by(role) for role in (SYSTEM, USER, ASSISTANT))
    tool = {"type": "function", "function": {"name": "f", "description": "", "parameters": {"type": "object"}}}
    kinds: list[tuple[Conversation, dict[str, Any]]] = [
        ([user, answer], {}),
        ([system, user, answer], {}),
        ([user, answer], {"tools": [tool]}),
        ([system, user, answer], {"tools": [tool]}),
    ]
    return any(_changes_with_date(apply, *kind) for kind in kinds)


def _changes_with_date(apply: Apply, conversation: Conversation, arguments: dict[str, Any]) -> bool:
    texts = set()
    for date in TWO_DATES:
        with at_date(date):
            try:
                texts.add(apply(conversation, arguments))
            except Unscorable as error:
                texts.add(str(error))
    return len(texts) > 1
