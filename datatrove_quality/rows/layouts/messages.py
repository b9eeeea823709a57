"""Lists of messages in any form: OpenAI's, ShareGPT's, Anthropic's, Gemini's, and pairs of question and answer."""

import json
from collections.abc import Collection
from typing import Any

from datatrove_quality.rows.json_values import holds_anything
from datatrove_quality.rows.layouts.blocks import TEXT_KEYS, is_text_part, part_text, turns_of_blocks
from datatrove_quality.rows.layouts.column_names import MEDIA, SAYS
from datatrove_quality.rows.layouts.repeated import is_repeated, one_of
from datatrove_quality.rows.layouts.slots import decoded, joined
from datatrove_quality.rows.roles import ASSISTANT, ROLES, SYSTEM, TOOL, USER, known_role
from datatrove_quality.rows.types import (
    MAX_DEPTH,
    Conversation,
    InvalidConversation,
    Message,
    described,
    keys_found,
    require_no_surrogates,
    shown,
)


CONTENT_KEYS = ("content", "value", "parts", "text", "message")
"""Keys of a message's content; the first that is not null is read."""

REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")
"""Keys of what an assistant thinks before it answers. They go to the template as they are."""

BESIDE_CONTENT = (SAYS | MEDIA | {*CONTENT_KEYS, "attachments", "refusal"}) - {"content", *REASONING_KEYS}
"""Keys of a message in which a template does not look: what one says has to be in the content too."""

PAIR_KEYS = (
    *(("human", "assistant"), ("human", "gpt"), ("human", "bot"), ("user", "assistant"), ("user", "bot")),
    *(("input", "output"), ("question", "answer"), ("prompt", "response"), ("query", "response")),
    *(("instruction", "output"), ("instruction", "response")),
)
"""Keys of an item that holds a question and its answer."""


def items_in(value: Any, where: str) -> list[Any]:
    """The list in a column, which may be a JSON string.

    Raises:
        InvalidConversation: it is none, or an empty one.
    """
    if isinstance(value, str):
        try:
            value = decoded(value)
        except InvalidConversation as error:
            raise InvalidConversation(error.reason, f"{where} is a text that is not JSON: {error}") from None
    if not isinstance(value, list):
        raise InvalidConversation("not_a_list", f"{where} is {described(value)}, not a list of messages")
    if not value:
        raise InvalidConversation("no_messages", f"{where} is an empty list")
    return value


def without_keys(items: list[Any], keys: Collection[str]) -> list[Any]:
    """The messages without some keys beside their contents, which the user has named as no part of them."""
    unread = BESIDE_CONTENT.intersection(keys)
    return [_without_keys(item, unread) if isinstance(item, dict) else item for item in items]


def _without_keys(item: Message, keys: frozenset[str]) -> Message:
    kept = () if item.get("content") else CONTENT_KEYS
    return {key: value for key, value in item.items() if key in kept or key not in keys}


def read_messages(items: list[Any], column: str, aliased: bool = False) -> Conversation:
    """The messages in a list of any form.

    Args:
        items: the list.
        column: its column, for errors.
        aliased: whether known names of roles become the four roles at once, as ShareGPT's do; else it is
            first tested whether the template knows them.

    Raises:
        InvalidConversation: an item is no message; names the column and the number of the item, from 1.
    """
    messages: Conversation = []
    for number, item in enumerate(items, 1):
        try:
            plain = _plain(item, aliased) if type(item) is dict and len(item) == 2 else None
            messages += [plain] if plain is not None else _turns(item, aliased)
        except InvalidConversation as error:
            raise InvalidConversation(error.reason, f"message {number} of column {column!r} {error}") from None
    if not messages:
        raise InvalidConversation("no_messages", f"column {column!r} has items, and none with a content")
    has_items = any(type(item) is dict and item.get("type") is not None and item.get("role") is None for item in items)
    return _merged(messages) if has_items else messages


def _merged(messages: Conversation) -> Conversation:
    """Thoughts, calls and text of one turn, which OpenAI's Responses have as items of their own, in one message."""
    merged: Conversation = []
    for message in messages:
        last = merged[-1] if merged else {}
        if last.get("role") == message["role"] == ASSISTANT and not last["content"]:
            calls = last.get("tool_calls", []) + message.get("tool_calls", [])
            merged[-1] = last | message | ({"tool_calls": calls} if calls else {})
        else:
            merged.append(message)
    return merged


def _plain(item: Message, aliased: bool) -> Message | None:
    """The message in an item of two keys, as most have: role and content, or from and value; None: it is another."""
    role, content = item.get("role"), item.get("content")
    if role is None:
        sender, content = item.get("from"), item.get("value")
        role = ROLES.get(sender) if isinstance(sender, str) else None
    if not (isinstance(role, str) and isinstance(content, str) and role) or (aliased and ROLES.get(role) != role):
        return None
    require_no_surrogates(role, "has a role that")
    require_no_surrogates(content, "has a content that")
    return {"role": role, "content": content}


def _turns(item: Any, aliased: bool) -> list[Message]:
    if isinstance(item, str) and item.lstrip().startswith("{"):  # a list whose elements are JSON
        item = decoded(item)
    if not isinstance(item, dict):
        raise InvalidConversation("invalid_message", f"is {described(item)}, not an object with role and content")
    if item.get("role") is None and item.get("from") is None:
        kind = item.get("type")
        if isinstance(kind, str) and kind in RESPONSES_ITEMS:
            return RESPONSES_ITEMS[kind](item)
        if keys := next((keys for keys in PAIR_KEYS if keys[1] in item and isinstance(item.get(keys[0]), str)), None):
            return _pair(item, *keys)
    return _message(item, aliased)


def _message(item: Message, aliased: bool) -> list[Message]:
    """A message of one role and content, which may be several turns: calls' results are turns of their own."""
    given = [key for key in CONTENT_KEYS if item.get(key) is not None]
    content_key = next((key for key in given if item[key]), given[0] if given else "content")
    is_sharegpt = item.get("from") is not None and item.get("role") is None
    left_out = {"role", "content", "from" if is_sharegpt else "role", content_key}
    message: Message = {"role": _role(item, aliased, is_sharegpt)}
    for key, value in item.items():
        if value is not None and key not in left_out and not (key == "type" and value == "message"):
            message[key] = without_nulls(value)
    _settle_calls(message)
    content = item.get(content_key)
    if content is None and known_role(message["role"]) == ASSISTANT:
        content = message.pop("refusal", None)
    if isinstance(content, list) and not all(map(is_text_part, content)):
        turns = _ordered(turns_of_blocks(message, [without_nulls(part) for part in content]))
        _require_no_more(message | {"content": "\n".join(turn["content"] for turn in turns)})
        return turns
    message["content"] = _content(content, message)
    _require_no_more(message)
    return [_in_order(message, item)]


def says_more(message: Message) -> str:
    """The key of a message that says, in text or otherwise, what its content does not; "": there is none."""
    for key in BESIDE_CONTENT & message.keys():
        value = message[key]
        if key in MEDIA:
            if holds_anything(value):
                return key
            continue
        try:
            parts = value if isinstance(value, list) else [value] if isinstance(value, (str, dict)) else []
            if all(is_repeated(part_text(part).strip(), message["content"]) for part in parts):
                continue
        except InvalidConversation:
            pass
        return key
    return _second_thought(message)


def repeats_itself(message: Message) -> bool:
    """Whether another key of a message may say what its content says."""
    return len(message) > 2 and not BESIDE_CONTENT.isdisjoint(message)


def _second_thought(message: Message) -> str:
    """The key of a thought that no template looks for: it is no text, or another key has another one; "": none is."""
    given = [key for key in REASONING_KEYS if isinstance(message.get(key), str | list | dict)]
    thoughts = [key for key in given if holds_anything(message[key])]  # parsers that find none leave a line end
    first = reasoning(message) if thoughts else ""
    return next((key for key in thoughts if not (isinstance(message[key], str) and message[key] in first)), "")


def _require_no_more(message: Message) -> None:
    if key := says_more(message):
        what = f"has {key!r} beside its content, which may be a part of it"
        todo = "if it is not, name it in ignored_columns (--ignored-columns)"
        raise InvalidConversation("unused_column", f"{what}: {todo}")


def _in_order(message: Message, item: Message) -> Message:
    """The message's keys in the order of the item's: what is written again should look as it did."""
    names = {"from": "role", "value": "content"}
    order = [names.get(key, key) for key in item]
    return {key: message[key] for key in order if key in message} | message


def _ordered(turns: list[Message]) -> list[Message]:
    for turn in turns:
        _settle_calls(turn)
        require_no_surrogates(turn["content"], "has a content that")
    return turns


def _role(item: Message, aliased: bool, is_sharegpt: bool) -> str:
    role = item.get("from") if is_sharegpt else item.get("role")
    if has_two_roles(item):
        raise InvalidConversation("invalid_role", f"has the role {shown(role)} and is from {shown(item['from'])}")
    if role is None or role == "":
        raise InvalidConversation("missing_role", f"has no role; {keys_found(item)}")
    if not isinstance(role, str):
        raise InvalidConversation("invalid_role", f"has a role that is {described(role)}, not a text")
    require_no_surrogates(role, "has a role that")
    if not (aliased or is_sharegpt):
        return role
    known = known_role(role)
    if known is None and is_sharegpt:
        raise InvalidConversation("unknown_role", f"is from {shown(role)}, which is no known role of ShareGPT data")
    return known or role


def has_two_roles(message: Message) -> bool:
    """Whether `role` and `from` of a message name different roles."""
    names = [name for name in (message.get("role"), message.get("from")) if isinstance(name, str)]
    return len({known_role(name) for name in names} - {None}) == 2


def _content(content: Any, message: Message) -> str:
    if isinstance(content, list):
        texts = list(map(part_text, content))
        content = joined("", texts) if texts else ""
    if isinstance(content, dict) and isinstance(content.get("parts"), list):  # an export of ChatGPT
        one_of(content, ("parts", *TEXT_KEYS, "result"))
        content = joined("", list(map(part_text, content["parts"])) or [""])
    if isinstance(content, str):
        require_no_surrogates(content, "has a content that")
        return content
    if content is not None:
        raise InvalidConversation("invalid_content", f"has a content that is {described(content)}, not a text")
    if known_role(message["role"]) == ASSISTANT and (message.get("tool_calls") or reasoning(message)):
        return ""
    raise InvalidConversation("missing_content", f"has no content; {keys_found(message)}")


def reasoning(message: Message) -> str:
    """What an assistant's message says it has thought; "": nothing."""
    texts = (message.get(key) for key in REASONING_KEYS)
    return next((text for text in texts if isinstance(text, str) and text.strip()), "")


# --- calls of tools --------------------------------------------------------------------------------------------------


def _settle_calls(message: Message) -> None:
    """Calls under any known key become `tool_calls`; an empty list goes, for templates lose the answer over it."""
    calls: list[Any] = []
    for key in ("tool_calls", "function_calls", "function_call"):
        if key in message:
            calls += _calls(message.pop(key), key)
    if calls:
        message["tool_calls"] = calls


def _calls(value: Any, key: str) -> list[Any]:
    if isinstance(value, str):
        value = decoded(value) if value.strip() else []
    listed = value if isinstance(value, list) else [value] if value else []
    calls = [decoded(call) if isinstance(call, str) else call for call in listed]
    if not all(isinstance(call, dict) for call in calls):
        raise InvalidConversation("invalid_message", f"has {key} that are no objects with name and arguments")
    if key == "tool_calls":
        return calls
    return [call if "function" in call else {"type": "function", "function": call} for call in calls]


# --- items that are no messages --------------------------------------------------------------------------------------


def _pair(item: Message, question: str, answer: str) -> list[Message]:
    """The turns of an item that holds a question and its answer, and perhaps a system prompt."""
    texts = {SYSTEM: item.get(SYSTEM), USER: item[question], ASSISTANT: item[answer]}
    others = (SAYS | MEDIA | {"human", "user", "assistant", "bot", "gpt"}) - {question, answer, SYSTEM}
    if unread := [key for key in others & item.keys() if holds_anything(item[key])]:
        raise InvalidConversation("invalid_message", f"has {shown(unread[0])} beside {question} and {answer}")
    turns = [turn(role, text) for role, text in texts.items() if text is not None and (text or role != SYSTEM)]
    for made in turns:
        if not isinstance(made["content"], str):
            raise InvalidConversation("invalid_content", f"has a text that is {described(made['content'])}")
        require_no_surrogates(made["content"], "has a content that")
    return turns


def _called(item: Message) -> list[Message]:
    """OpenAI's Responses: a call."""
    arguments = item.get("arguments")
    if isinstance(arguments, str) and arguments.lstrip().startswith("{"):
        arguments = decoded(arguments)
    call = {"type": "function", "function": {"name": item.get("name"), "arguments": arguments}}
    return [turn(ASSISTANT, "") | {"tool_calls": [call]}]


def _call_output(item: Message) -> list[Message]:
    """OpenAI's Responses: what a call gave."""
    output = item.get("output")
    if isinstance(output, list):
        output = _content(output, {"role": TOOL})
    text = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
    return [turn(TOOL, text)]


def _thought(item: Message) -> list[Message]:
    """OpenAI's Responses: reasoning, of which often only an encrypted form is there."""
    found = [item.get("summary"), item.get("content")]
    parts = [part for value in found for part in (value if isinstance(value, list) else [value])]
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    text = "\n\n".join(text for text in texts if isinstance(text, str) and text.strip())
    return [turn(ASSISTANT, "") | {"reasoning_content": text}] if text else []


RESPONSES_ITEMS = {"function_call": _called, "function_call_output": _call_output, "reasoning": _thought}


def pairs_as_messages(items: list[Any], column: str) -> Conversation:
    """A history: pairs of question and answer, or messages.

    Raises:
        InvalidConversation: an item is neither.
    """
    if not all(isinstance(item, (list, tuple)) for item in items):
        return read_messages(items, column, aliased=True)
    messages: Conversation = []
    for item in items:
        if len(item) != 2 or not isinstance(item[0], str) or not isinstance(item[1], str | None):
            raise InvalidConversation("invalid_message", f"column {column!r} has an item that is no pair of texts")
        roles = zip((USER, ASSISTANT), item, strict=True)
        messages += [turn(role, text) for role, text in roles if text is not None]
    for message in messages:
        require_no_surrogates(message["content"], f"column {column!r}")
    return messages


def texts_as_messages(items: list[Any], column: str) -> Conversation:
    """A list of texts that take turns, the user's first.

    Raises:
        InvalidConversation: an item is neither a text nor a message.
    """
    if not all(isinstance(item, str) for item in items):
        return read_messages(items, column, aliased=True)
    for text in items:
        require_no_surrogates(text, f"column {column!r}")
    return [turn((USER, ASSISTANT)[number % 2], text) for number, text in enumerate(items)]


def without_nulls(value: Any, depth: int = 0) -> Any:
    """A copy of the value in which no object has a key that is null: Arrow adds them to fill its structs.

    Raises:
        InvalidConversation: a text in it has a lone surrogate, or it is nested deeper than `MAX_DEPTH`.
    """
    if isinstance(value, str):
        require_no_surrogates(value, "has a value that")
        return value
    if depth > MAX_DEPTH:
        raise InvalidConversation("nested_too_deep", f"is nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, dict):
        return {key: without_nulls(item, depth + 1) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return type(value)([without_nulls(item, depth + 1) for item in value])
    return value


def turn(role: str, content: Any) -> Message:
    """A message."""
    return {"role": role, "content": content}
