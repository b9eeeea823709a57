"""A row of data becomes a conversation: every layout that is read, and how it is recognised."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from datatrove_quality.rows.json_values import parse_json
from datatrove_quality.rows.types import (
    MAX_DEPTH,
    MESSAGES,
    Conversation,
    InvalidConversation,
    Message,
    Row,
    check_surrogates,
    described,
    keys_found,
    shown,
)


if TYPE_CHECKING:
    pass


SCHEMAS = ("auto", "messages", "sharegpt", "alpaca", "prompt_response")
CHAT_COLUMNS = ("messages", "conversations", "conversation")
RESPONSE_COLUMNS = ("response", "completion", "answer", "chosen")
LOOKED_FOR = (
    "'messages', 'conversations', 'conversation', 'instruction' with 'output', "
    "or 'prompt' with one of 'response', 'completion', 'answer', 'chosen'"
)


SHAREGPT_KEYS = {"from": "role", "value": "content"}
SHAREGPT_ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "gpt4", "gpt-4", "bing", "bard", "claude"), "assistant"),
    **dict.fromkeys(("model", "bot", "chatbot", "ai"), "assistant"),
    # A function call is what the model says, not what the tool answers (as in LLaMA-Factory).
    **dict.fromkeys(("function_call", "tool_call"), "assistant"),
    **dict.fromkeys(("system", "system_prompt", "developer"), "system"),
    **dict.fromkeys(("tool", "function", "observation", "function_response", "tool_response"), "tool"),
}


TEXT_PARTS = (None, "text", "input_text", "output_text")


def parse_conversation(row: Row, schema: str = "auto", messages_key: str | None = None) -> Conversation:
    """Reads the conversation in a row of data.

    Schemas:
        `messages`: column `messages` of role/content objects. A content is text, or a list of text parts, which are
            joined as they are. An assistant message with tool calls may have no content. Unknown roles are kept.
        `sharegpt`: column `conversations` (or `conversation`) of from/value objects, with the known aliases of user,
            assistant, system and tool; role/content objects are read too. A text column `system` becomes the system
            turn, unless there is one.
        `alpaca`: columns `instruction`, `input` (optional, joined to the instruction by a blank line) and `output`; a
            text column `system` as above.
        `prompt_response`: `prompt`, and the first of `response`, `completion`, `answer`, `chosen` that is not null.
            Each is a text or a list of messages; a response that holds the prompt too is the whole conversation. A
            text column `system` as above.
        `auto`: the first of `messages`, `conversations`, `conversation` that is not null (from/value or role/content:
            its items decide), then alpaca, then prompt_response.

    Args:
        row: a row, as a dictionary. It is not changed.
        schema: one of the above.
        messages_key: the column of the messages, where it has another name (`auto`, `messages` and `sharegpt` only).
            A list may stand in its column as a JSON string.

    Returns:
        A new list of new messages: `role` and `content` are strings, and the other keys are kept, but for those that
        are null, since Arrow fills them in: the same conversation from JSONL and from Parquet is equal.

    Raises:
        InvalidConversation: the row holds no conversation; its `reason` is one of `REASONS`.
        ValueError: the schema is unknown, or `messages_key` does not go with it.
    """
    check_schema(schema, messages_key)
    return parse(row, schema, messages_key)[0]


def check_schema(schema: str, messages_key: str | None) -> None:
    """Refuse an unknown schema, or a `messages_key` that it does not use."""
    if schema not in SCHEMAS:
        raise ValueError(f"schema={schema!r} is unknown: use one of {', '.join(map(repr, SCHEMAS))}")
    if messages_key is None:
        return
    check_column("messages_key", messages_key)
    if schema in ("alpaca", "prompt_response"):
        raise ValueError(
            f"messages_key={messages_key!r} does not go with schema={schema!r}, whose columns have fixed names: "
            "leave messages_key out, or use schema='messages' or 'sharegpt'"
        )


def parse(row: Row, schema: str, messages_key: str | None) -> tuple[Conversation, str]:
    """The conversation, and the column of its messages; "" where it is put together from several columns."""
    if not isinstance(row, dict):
        raise InvalidConversation("not_an_object", f"the row is {described(row)}, not an object with columns")
    schema, column = (schema, messages_key) if messages_key is not None else _detect(row, schema)
    if schema == "alpaca":
        messages = _parse_alpaca(row)
    elif schema == "prompt_response":
        messages = _parse_prompt_response(row)
    else:
        messages = _parse_chat(row, schema, column)
    if not any(message["content"] and not message["content"].isspace() for message in messages):
        raise InvalidConversation("empty_conversation", f"none of the {len(messages)} messages has any content")
    return messages, column


def _detect(row: Row, schema: str) -> tuple[str, str]:
    """The schema by the row's columns, and the column of the list of messages if it has one."""
    if schema == "messages":
        return schema, MESSAGES
    if schema == "sharegpt":
        return schema, _first_given(row, CHAT_COLUMNS[1:]) or "conversations"
    if schema != "auto":
        return schema, ""
    if column := _first_given(row, CHAT_COLUMNS):
        return ("sharegpt" if column == "conversations" else "auto"), column
    if row.get("instruction") is not None and row.get("output") is not None:
        return "alpaca", ""
    if row.get("prompt") is not None and _first_given(row, RESPONSE_COLUMNS):
        return "prompt_response", ""
    for column in CHAT_COLUMNS:
        if column in row:
            raise InvalidConversation("null_column", f"column {column!r} is null, and no other can stand for it")
    raise InvalidConversation("missing_column", f"looked for {LOOKED_FOR}; {keys_found(row)}")


def _first_given(row: Row, columns: Iterable[str]) -> str | None:
    return next((column for column in columns if row.get(column) is not None), None)


def _parse_chat(row: Row, schema: str, column: str) -> Conversation:
    items = _items(_value(row, column), f"column {column!r}")
    sharegpt = schema == "sharegpt" or (schema == "auto" and _looks_like_sharegpt(items))
    messages = _messages(items, column, sharegpt)
    return _with_system(row, messages) if sharegpt else messages


def _looks_like_sharegpt(items: list[Any]) -> bool:
    first = items[0]
    return isinstance(first, dict) and first.get("role") is None and first.get("from") is not None


def _parse_alpaca(row: Row) -> Conversation:
    question, output = text_in(row, "instruction"), text_in(row, "output")
    if row.get("input") is not None:
        question = "\n\n".join(text for text in (question, text_in(row, "input")) if text.strip())
    return _with_system(row, [_turn("user", question), _turn("assistant", output)])


def _parse_prompt_response(row: Row) -> Conversation:
    column = _first_given(row, RESPONSE_COLUMNS)
    if column is None:
        raise InvalidConversation("missing_column", f"looked for one of {RESPONSE_COLUMNS}; {keys_found(row)}")
    prompt, response = _side(row, "prompt", "user"), _side(row, column, "assistant")
    return response if _holds_prompt(response, prompt) else _with_system(row, prompt + response)


def _side(row: Row, column: str, role: str) -> Conversation:
    """One side of a prompt/response row: a text becomes one message of `role`, a list is a list of messages."""
    value = _value(row, column)
    if isinstance(value, str) and not _is_json_of_messages(value):
        return [_turn(role, text_in(row, column))]
    items = _items(value, f"column {column!r}")
    return _messages(items, column, _looks_like_sharegpt(items))


def _is_json_of_messages(text: str) -> bool:
    """Whether a text is a list of messages in JSON. A prompt may be any text: what can be mistaken is none."""
    if not text.lstrip().startswith("["):
        return False
    try:
        items = _items(text, "the text")
    except InvalidConversation:
        return False
    shapes = ({"role", "content"}, {"from", "value"})
    return all(isinstance(item, dict) and any(shape <= item.keys() for shape in shapes) for item in items)


def _holds_prompt(response: Conversation, prompt: Conversation) -> bool:
    """Whether the response (`chosen` of preference data) is the whole conversation."""
    if response[: len(prompt)] == prompt:
        return True
    first = next((message["role"] for message in response if message["role"] != "system"), None)
    return first == "user" and any(message["role"] == "user" for message in prompt)


def _with_system(row: Row, messages: Conversation) -> Conversation:
    """Puts a `system` column, as LLaMA-Factory's data sets have it, before a conversation without a system turn."""
    system = row.get("system")
    if not isinstance(system, str) or not system.strip() or messages[0]["role"] == "system":
        return messages
    return [_turn("system", text_in(row, "system")), *messages]


def _value(row: Row, column: str) -> Any:
    value = row.get(column)
    if value is not None:
        return value
    if column in row:
        raise InvalidConversation("null_column", f"column {column!r} is null")
    raise InvalidConversation("missing_column", f"looked for column {column!r}; {keys_found(row)}")


def text_in(row: Row, column: str) -> str:
    """The text in a column; what is no text is refused."""
    value = _value(row, column)
    if not isinstance(value, str):
        raise InvalidConversation("invalid_content", f"column {column!r} is {described(value)}, not a text")
    check_surrogates(value, f"column {column!r}")
    return value


def _items(value: Any, where: str) -> list[Any]:
    """The list in a column, which may be a JSON string."""
    if isinstance(value, str):
        try:
            value = parse_json(value)
        except InvalidConversation as error:
            raise InvalidConversation(error.reason, f"{where} is a text that is not JSON: {error}") from None
    if not isinstance(value, list):
        raise InvalidConversation("not_a_list", f"{where} is {described(value)}, not a list of messages")
    if not value:
        raise InvalidConversation("no_messages", f"{where} is an empty list")
    return value


def _messages(items: list[Any], column: str, sharegpt: bool) -> Conversation:
    messages = []
    for number, item in enumerate(items, 1):
        try:
            messages.append(_message(item, sharegpt))
        except InvalidConversation as error:
            raise InvalidConversation(error.reason, f"message {number} of column {column!r} {error}") from None
    return messages


def _message(item: Any, sharegpt: bool) -> Message:
    if not isinstance(item, dict):
        raise InvalidConversation("invalid_message", f"is {described(item)}, not an object with role and content")
    message: Message = {}
    for key, value in item.items():
        if value is not None:
            name = (SHAREGPT_KEYS.get(key) or key) if sharegpt else key
            message[name] = value if name in ("role", "content") else without_nulls(value)
    message["role"] = _role(message, aliased=sharegpt, strict=sharegpt and item.get("from") is not None)
    message["content"] = _content(message)
    return message


def _role(message: Message, aliased: bool, strict: bool) -> str:
    role = message.get("role")
    if role is None or role == "":
        raise InvalidConversation("missing_role", f"has no role; {keys_found(message)}")
    if not isinstance(role, str):
        raise InvalidConversation("invalid_role", f"has a role that is {described(role)}, not a text")
    check_surrogates(role, "has a role that")
    known = SHAREGPT_ROLES.get(role.strip().lower()) if aliased else role
    if known is None and strict:
        raise InvalidConversation("unknown_role", f"is from {shown(role)}, which is none of {sorted(SHAREGPT_ROLES)}")
    return known or role


def _content(message: Message) -> str:
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(map(_part_text, content))
    if isinstance(content, str):
        check_surrogates(content, "has a content that")
        return content
    if content is not None:
        raise InvalidConversation("invalid_content", f"has a content that is {described(content)}, not a text")
    if message["role"] == "assistant" and (message.get("tool_calls") or message.get("function_call")):
        return ""
    raise InvalidConversation("missing_content", f"has no content; {keys_found(message)}")


def _part_text(part: Any) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        raise InvalidConversation("invalid_content", f"has a content part that is {described(part)}, not a text")
    if part.get("type") not in TEXT_PARTS:
        what = f"has a content part whose type is {shown(part['type'])}, not text"
        raise InvalidConversation("unsupported_content", what)
    if not isinstance(part.get("text"), str):
        raise InvalidConversation("invalid_content", f"has a text part whose text is {described(part.get('text'))}")
    return part["text"]


def without_nulls(value: Any, depth: int = 0) -> Any:
    """A copy of the value in which no object has a key that is null: Arrow adds them to fill its structs."""
    if depth > MAX_DEPTH:
        raise InvalidConversation("nested_too_deep", f"is nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, dict):
        return {key: without_nulls(item, depth + 1) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return type(value)([without_nulls(item, depth + 1) for item in value])
    if isinstance(value, str):
        check_surrogates(value, "has a value that")
    return value


def _turn(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def check_column(field_name: str, value: Any) -> None:
    """Refuse what is no column name."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{field_name}={value!r} is no column name: give a non-empty string")
