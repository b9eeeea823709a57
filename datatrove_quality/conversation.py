"""A row of data becomes a conversation, and a scored document becomes the row again.

    row -- ConversationAdapter --> Document(text, id, metadata) -- any DataTrove steps --> RowAdapter --> row

Data of every origin comes through here, so the rule of this module is that nothing is lost and nothing raises: what is
no conversation becomes a document with `metadata["conversation_error"]`, and every source column comes back from
`RowAdapter` with its name, value and type. The price is one bookkeeping entry in the metadata, `_source`, which keeps
the order of the columns and the few values that cannot stand in the metadata under their own name.
"""

import base64
import codecs
import json
import lzma
import re
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import orjson
from datatrove.data import Document
from datatrove.io import DataFileLike, DataFolderLike
from datatrove.pipeline.readers import HuggingFaceDatasetReader, IpcReader, JsonlReader, ParquetReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.logging import logger

from datatrove_quality.config import Unscorable


if TYPE_CHECKING:
    import pyarrow as pa

Message = dict[str, Any]
Conversation = list[Message]
Row = dict[str, Any]

SCHEMAS = ("auto", "messages", "sharegpt", "alpaca", "prompt_response")

MESSAGES = "messages"
CONVERSATION_ERROR = "conversation_error"
SOURCE = "_source"
"""Metadata key of what `RowAdapter` needs: `columns` in order, and `values` not found under their own name."""

RESERVED = frozenset(
    {
        "text",  # Document.text, and what `expand_metadata` would write in its place
        "id",  # Document.id, and the `${id}` of output file names
        "rank",  # the `${rank}` of output file names
        "token_count",  # DataTrove's statistics: must be a number
        MESSAGES,  # the parsed conversation
        CONVERSATION_ERROR,
        SOURCE,
    }
)
"""Names that mean something else in a document's metadata: source columns of these names are kept in `_source`."""

REASONS = {
    "damaged_file": "the compressed data is corrupt here",
    "empty_conversation": "no message has any content",
    "empty_text": "a text without any content",
    "invalid_content": "a content that is neither text nor a list of text parts",
    "invalid_json": "text that should be JSON and is not",
    "invalid_message": "a message that is not an object",
    "invalid_role": "a role that is not text",
    "invalid_utf8": "a line that is not UTF-8",
    "lone_surrogate": "half of a UTF-16 pair, which no UTF-8 text can hold",
    "missing_column": "no column that could hold a conversation",
    "missing_content": "a message without content",
    "missing_role": "a message without role",
    "nested_too_deep": "more levels of lists and objects than can be handled",
    "no_messages": "an empty list of messages",
    "not_a_list": "a conversation that is not a list of messages",
    "not_an_object": "a line that is not a JSON object",
    "null_column": "the conversation's column is null",
    "truncated_file": "the compressed file ends early",
    "unknown_role": "a ShareGPT `from` that is none of the known names",
    "unreadable_row": "a row that could not be looked at",
    "unsupported_content": "a content part that is not text, such as an image",
    "unwritable_value": "a value that JSON output cannot carry",
}
"""Every reason of an `InvalidConversation` and of a `conversation_error`."""

MAX_DEPTH = 200
MAX_ERROR_CHARS = 500
MAX_RAW_BYTES = 64 * 1024


class InvalidConversation(Unscorable):
    """A row that holds no conversation: a ValueError.

    Args:
        reason: one word of `REASONS`.
        message: what was found, and where.

    Attributes:
        reason: as given.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, _cut(message, MAX_ERROR_CHARS))


def error_reason(conversation_error: str) -> str:
    """The reason in a document's `conversation_error`, which is `"<reason>: <message>"`."""
    return conversation_error.partition(":")[0]


# --- a row -> a conversation -----------------------------------------------------------------------------------------

CHAT_COLUMNS = ("messages", "conversations", "conversation")
RESPONSE_COLUMNS = ("response", "completion", "answer", "chosen")
LOOKED_FOR = (
    "'messages', 'conversations', 'conversation', 'instruction' with 'output', "
    "or 'prompt' with one of 'response', 'completion', 'answer', 'chosen'"
)

SHAREGPT_KEYS = {"from": "role", "value": "content"}
SHAREGPT_ROLES = {
    alias: role
    for role, aliases in {
        "user": ("user", "human", "prompter"),
        # A function call is what the model says, not what the tool answers (as in LLaMA-Factory).
        "assistant": (
            *("assistant", "gpt", "chatgpt", "gpt4", "gpt-4", "bing", "bard", "model", "bot", "chatbot", "ai"),
            *("claude", "function_call", "tool_call"),
        ),
        "system": ("system", "system_prompt", "developer"),
        "tool": ("tool", "function", "observation", "function_response", "tool_response"),
    }.items()
    for alias in aliases
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
    _check_schema(schema, messages_key)
    return _parse(row, schema, messages_key)[0]


def _check_schema(schema: str, messages_key: str | None) -> None:
    if schema not in SCHEMAS:
        raise ValueError(f"schema={schema!r} is unknown: use one of {', '.join(map(repr, SCHEMAS))}")
    if messages_key is None:
        return
    _check_column("messages_key", messages_key)
    if schema in ("alpaca", "prompt_response"):
        raise ValueError(
            f"messages_key={messages_key!r} does not go with schema={schema!r}, whose columns have fixed names: "
            "leave messages_key out, or use schema='messages' or 'sharegpt'"
        )


def _parse(row: Row, schema: str, messages_key: str | None) -> tuple[Conversation, str | None]:
    """The conversation, and the column of its messages if it was a list in one column."""
    if not isinstance(row, dict):
        raise InvalidConversation("not_an_object", f"the row is {_described(row)}, not an object with columns")
    try:
        schema, column = _detect(row) if schema == "auto" and messages_key is None else (schema, messages_key)
        if schema == "alpaca":
            messages = _parse_alpaca(row)
        elif schema == "prompt_response":
            messages = _parse_prompt_response(row)
        else:
            column = column or _chat_column(row, schema)
            messages = _parse_chat(row, column, schema)
    except RecursionError:
        raise InvalidConversation("nested_too_deep", "the row is nested too deep to be read") from None
    if not any(message["content"] and not message["content"].isspace() for message in messages):
        raise InvalidConversation("empty_conversation", f"none of the {len(messages)} messages has any content")
    return messages, column


def _detect(row: Row) -> tuple[str, str | None]:
    """The schema by the row's columns; for a list of messages `auto` and its column, since the items decide."""
    for column in CHAT_COLUMNS:
        if row.get(column) is not None:
            return ("sharegpt" if column == "conversations" else "auto"), column
    if row.get("instruction") is not None and row.get("output") is not None:
        return "alpaca", None
    if row.get("prompt") is not None and any(row.get(column) is not None for column in RESPONSE_COLUMNS):
        return "prompt_response", None
    for column in CHAT_COLUMNS:
        if column in row:
            raise InvalidConversation(
                "null_column", f"column {column!r} is null, and no other column can stand for it"
            )
    raise InvalidConversation("missing_column", f"looked for {LOOKED_FOR}; {_keys_found(row)}")


def _chat_column(row: Row, schema: str) -> str:
    columns = CHAT_COLUMNS[:1] if schema == "messages" else CHAT_COLUMNS[1:]
    return next((column for column in columns if row.get(column) is not None), columns[0])


def _parse_chat(row: Row, column: str, schema: str) -> Conversation:
    items = _items(_value(row, column), f"column {column!r}")
    sharegpt = schema == "sharegpt" or (schema == "auto" and _looks_like_sharegpt(items))
    messages = _messages(items, column, sharegpt)
    return _with_system(row, messages) if sharegpt else messages


def _looks_like_sharegpt(items: list[Any]) -> bool:
    first = items[0]
    return isinstance(first, dict) and first.get("role") is None and first.get("from") is not None


def _parse_alpaca(row: Row) -> Conversation:
    instruction, output = _text(row, "instruction"), _text(row, "output")
    question = instruction if row.get("input") is None else _blank_line((instruction, _text(row, "input")))
    return _with_system(row, [_turn("user", question), _turn("assistant", output)])


def _parse_prompt_response(row: Row) -> Conversation:
    prompt = _side(row, "prompt", "user")
    column = next((column for column in RESPONSE_COLUMNS if row.get(column) is not None), None)
    if column is None:
        raise InvalidConversation("missing_column", f"looked for one of {RESPONSE_COLUMNS}; {_keys_found(row)}")
    response = _side(row, column, "assistant")
    if _holds_prompt(response, prompt):
        return response
    return _with_system(row, prompt + response)


def _side(row: Row, column: str, role: str) -> Conversation:
    """One side of a prompt/response row: a text becomes one message of `role`, a list is a list of messages."""
    value = _value(row, column)
    if isinstance(value, str):
        listed = _listed_in_text(value)
        if listed is None:
            return [_turn(role, _text(row, column))]
        value = listed
    items = _items(value, f"column {column!r}")
    return _messages(items, column, _looks_like_sharegpt(items))


def _listed_in_text(text: str) -> list[Any] | None:
    """The messages of a JSON string. A prompt may be any text, so only what cannot be mistaken is taken for one."""
    if not text.lstrip().startswith("["):
        return None
    try:
        items = _loads(text.encode())
    except (InvalidConversation, UnicodeEncodeError):
        return None
    shapes = ({"role", "content"}, {"from", "value"})
    if items and all(isinstance(item, dict) and any(shape <= item.keys() for shape in shapes) for item in items):
        return items
    return None


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
    return [_turn("system", _text(row, "system")), *messages]


def _value(row: Row, column: str) -> Any:
    value = row.get(column)
    if value is not None:
        return value
    if column in row:
        raise InvalidConversation("null_column", f"column {column!r} is null")
    raise InvalidConversation("missing_column", f"looked for column {column!r}; {_keys_found(row)}")


def _text(row: Row, column: str) -> str:
    value = _value(row, column)
    if not isinstance(value, str):
        raise InvalidConversation("invalid_content", f"column {column!r} is {_described(value)}, not a text")
    _check_surrogates(value, f"column {column!r}")
    return value


def _items(value: Any, where: str) -> list[Any]:
    """The list in a column, which may be a JSON string."""
    if isinstance(value, str):
        try:
            value = _loads(value.encode())
        except UnicodeEncodeError:
            raise InvalidConversation("lone_surrogate", f"{where} holds a lone surrogate") from None
        except InvalidConversation as error:
            raise InvalidConversation(error.reason, f"{where} is a text that is not JSON: {error}") from None
    if not isinstance(value, list):
        raise InvalidConversation("not_a_list", f"{where} is {_described(value)}, not a list of messages")
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
        raise InvalidConversation("invalid_message", f"is {_described(item)}, not an object with role and content")
    message: Message = {}
    for key, value in item.items():
        if value is not None:
            name: Any = SHAREGPT_KEYS.get(key, key) if sharegpt else key
            message[name] = value if name in ("role", "content") else _without_nulls(value)
    message["role"] = _role(message, aliased=sharegpt, strict=sharegpt and item.get("from") is not None)
    message["content"] = _content(message)
    return message


def _role(message: Message, aliased: bool, strict: bool) -> str:
    role = message.get("role")
    if role is None or role == "":
        raise InvalidConversation("missing_role", f"has no role; {_keys_found(message)}")
    if not isinstance(role, str):
        raise InvalidConversation("invalid_role", f"has a role that is {_described(role)}, not a text")
    _check_surrogates(role, "has a role that")
    known = SHAREGPT_ROLES.get(role.strip().lower()) if aliased else role
    if known is None and strict:
        raise InvalidConversation("unknown_role", f"is from {_shown(role)}, which is none of {sorted(SHAREGPT_ROLES)}")
    return known or role


def _content(message: Message) -> str:
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(map(_part_text, content))
    if isinstance(content, str):
        _check_surrogates(content, "has a content that")
        return content
    if content is not None:
        raise InvalidConversation("invalid_content", f"has a content that is {_described(content)}, not a text")
    if message["role"] == "assistant" and (message.get("tool_calls") or message.get("function_call")):
        return ""
    raise InvalidConversation("missing_content", f"has no content; {_keys_found(message)}")


def _part_text(part: Any) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        raise InvalidConversation("invalid_content", f"has a content part that is {_described(part)}, not a text")
    if part.get("type") not in TEXT_PARTS:
        raise InvalidConversation(
            "unsupported_content", f"has a content part of type {_shown(part['type'])}, not text"
        )
    if not isinstance(part.get("text"), str):
        raise InvalidConversation("invalid_content", f"has a text part whose text is {_described(part.get('text'))}")
    return part["text"]


def _without_nulls(value: Any, depth: int = 0) -> Any:
    """A copy of the value in which no object has a key that is null: Arrow adds them to fill its structs."""
    if depth > MAX_DEPTH:
        raise InvalidConversation("nested_too_deep", f"is nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, dict):
        return {key: _without_nulls(item, depth + 1) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return type(value)([_without_nulls(item, depth + 1) for item in value])
    if isinstance(value, str):
        _check_surrogates(value, "has a value that")
    return value


def _check_surrogates(text: str, where: str) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        what = f"{where} holds a lone surrogate at character {error.start}"
        raise InvalidConversation("lone_surrogate", what) from None


def _turn(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _blank_line(texts: Iterable[str]) -> str:
    return "\n\n".join(text for text in texts if text.strip())


def _described(value: Any) -> str:
    if value is None:
        return "null"
    return f"of type {type(value).__name__}"


def _shown(value: Any) -> str:
    return _cut(repr(value[:80] if isinstance(value, str) else value), 80)


def _keys_found(row: Row) -> str:
    names = ", ".join(_shown(name) for name in list(row)[:20]) or "none"
    return f"keys found: {names}{' and more' if len(row) > 20 else ''}"


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


# --- JSON text, without silent changes -------------------------------------------------------------------------------

DIGITS_TO_ZEROS = bytes(ord("0") if chr(byte).isdecimal() and byte < 128 else ord(" ") for byte in range(256))
LONG_NUMBER = b"0" * 19


def _loads(raw: bytes) -> Any:
    """Parses JSON as orjson does, but keeps integers beyond 64 bits, which orjson turns into floats."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise _why_invalid(raw, str(error)) from None
    if LONG_NUMBER not in raw.translate(DIGITS_TO_ZEROS):
        return value
    try:
        return json.loads(raw.decode())
    except RecursionError:
        raise InvalidConversation("nested_too_deep", "the JSON is nested too deep") from None


def _why_invalid(raw: bytes, orjson_says: str) -> InvalidConversation:
    try:
        json.loads(raw.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        return InvalidConversation("invalid_utf8", f"byte {error.start} is not UTF-8 ({error.reason})")
    except RecursionError:
        return InvalidConversation("nested_too_deep", "the JSON is nested too deep")
    except json.JSONDecodeError:
        return InvalidConversation("invalid_json", orjson_says)
    except ValueError:  # Python refuses integers of more than 4,300 digits
        return InvalidConversation("unwritable_value", orjson_says)
    # Python takes what orjson refuses: half surrogate pairs, deep nesting, numbers beyond a double.
    if "surrogate" in orjson_says:
        return InvalidConversation("lone_surrogate", orjson_says)
    if "depth" in orjson_says:
        return InvalidConversation("nested_too_deep", orjson_says)
    return InvalidConversation("unwritable_value", orjson_says)


def _refuse_constant(name: str) -> NoReturn:
    raise json.JSONDecodeError(f"{name} is not JSON", name, 0)


def _writable(value: Any, media: bool = False) -> bool:
    """Whether a JSONL writer can carry the value: no bytes, no lone surrogate, 64-bit integers, 254 levels at most."""
    try:
        # Four more levels than the value has, for the metadata and `_source` of an intermediate step's output.
        orjson.dumps([[[[value]]]], default=_media_bytes if media else None)
    except (TypeError, RecursionError):  # orjson.JSONEncodeError is a TypeError
        return False
    return True


def _media_bytes(value: Any) -> str:
    """JsonlReader decodes the `media_bytes` of a column `media`, and JsonlWriter encodes them."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    raise TypeError(f"{type(value).__name__} is not JSON")


def _json_text(value: Any) -> str:
    """The value as JSON text, whatever its types and depth."""
    try:
        return json.dumps(value, default=str)
    except RecursionError:
        return _deep_json(value)
    except Exception:  # keys that are no text, reference cycles, objects that cannot be shown
        return _safe_repr(value)


def _deep_json(value: Any) -> str:
    """JSON text of a value that is too deep for Python's recursive encoder."""
    parts: list[str] = []
    stack: list[tuple[bool, Any]] = [(False, value)]  # (whether it is text already, item)
    while stack:
        done, item = stack.pop()
        if done:
            parts.append(item)
        elif isinstance(item, dict) and item:
            stack.append((True, "}"))
            for number, (key, child) in enumerate(reversed(item.items())):
                last = number == 0
                stack += [] if last else [(True, ", ")]
                stack += [(False, child), (True, f"{json.dumps(str(key))}: ")]
            parts.append("{")
        elif isinstance(item, (list, tuple)) and item:
            stack.append((True, "]"))
            for number, child in enumerate(reversed(item)):
                stack += [(False, child)] if number == 0 else [(True, ", "), (False, child)]
            parts.append("[")
        else:
            parts.append(_json_text(item))
    return "".join(parts)


def _safe_repr(value: Any) -> str:
    try:
        return ascii(value)[:MAX_RAW_BYTES]
    except Exception:
        return f"<a {type(value).__name__} that cannot be shown>"


# --- a row -> a document ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ConversationAdapter:
    """Makes a document of a row: for the `adapter=` of any DataTrove reader.

    The document's `text` is the contents joined by a blank line, `metadata["messages"]` the conversation, and every
    other column stands in the metadata under its own name. A column `metadata` (an object or a JSON string) is merged
    into it, as DataTrove's own adapter does, so that what a DataTrove writer wrote is read back. A row that is no
    conversation becomes a document with the row as JSON for its `text`, and `metadata["conversation_error"]`, which is
    `"<reason>: <message>"`, see `REASONS`. It never raises, and never changes the row.

    `metadata["_source"]` is what `RowAdapter` needs to give back the row. Columns named `text`, `id`, `rank`,
    `token_count`, `conversation_error` or `_source` mean something else in a document, and are found there only.

    Args:
        schema: see `parse_conversation`.
        messages_key: see `parse_conversation`.
        id_key: the column of the document's id; where it is missing or null the id is `path/number of the row`.

    Raises:
        ValueError: the schema is unknown, or a name is not usable.
    """

    schema: str = "auto"
    messages_key: str | None = None
    id_key: str = "id"

    def __post_init__(self) -> None:
        _check_schema(self.schema, self.messages_key)
        _check_column("id_key", self.id_key)

    def __call__(self, reader: Any, row: Row, path: str, id_in_file: int | str) -> dict[str, Any]:
        """The arguments of a DataTrove document: text, id and metadata.

        Args:
            reader: the reader, to which DataTrove binds its adapter. May be None.
            row: the row.
            path: the file of the row.
            id_in_file: the number of the row in the file.
        """
        return _adapted(self._read, self.id_key, reader, row, f"{path}/{id_in_file}")

    def _read(self, row: Row) -> "_Reading":
        messages, column = _parse(row, self.schema, self.messages_key)
        return _Reading("\n\n".join(message["content"] for message in messages), messages, column)


@dataclass(frozen=True)
class TextAdapter:
    """As `ConversationAdapter`, for a corpus of plain text (`QualityFilter(messages_key=None)`).

    The document's `text` is the row's, there is no conversation, and a row without text is not skipped, as DataTrove's
    readers do, but has a `conversation_error`.

    Args:
        text_key: the column of the text.
        id_key: the column of the document's id.

    Raises:
        ValueError: a name is not usable.
    """

    text_key: str = "text"
    id_key: str = "id"

    def __post_init__(self) -> None:
        _check_column("text_key", self.text_key)
        _check_column("id_key", self.id_key)

    def __call__(self, reader: Any, row: Row, path: str, id_in_file: int | str) -> dict[str, Any]:
        """The arguments of a DataTrove document; arguments as those of `ConversationAdapter`."""
        return _adapted(self._read, self.id_key, reader, row, f"{path}/{id_in_file}")

    def _read(self, row: Row) -> "_Reading":
        text = _text(row, self.text_key)
        if not text.strip():
            raise InvalidConversation("empty_text", f"column {self.text_key!r} holds no text")
        return _Reading(text)


@dataclass(frozen=True, slots=True)
class _Reading:
    """What an adapter reads in a row: a text, and the conversation and its column if there is one."""

    text: str
    messages: Conversation | None = None
    column: str | None = None


def _check_column(field_name: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{field_name}={value!r} is no column name: give a non-empty string")


def _adapted(read: Callable[[Row], _Reading], id_key: str, reader: Any, row: Row, default_id: str) -> dict[str, Any]:
    """The arguments of the row's document."""
    if not isinstance(row, dict):
        error = f"not_an_object: the row is {_described(row)}, not an object with columns"
        return _raw_document(_json_text(row), default_id, error)
    doc_id, text_of_row = _document_id(row.get(id_key), default_id), None
    nested = _nested_metadata(row)
    merged = row if nested is None else nested | {key: row[key] for key in row if key != "metadata"}
    reading, error = _read_or_error(read, merged, nested)
    # An Arrow row has types that JSON has not, and its natural output is Parquet.
    if not isinstance(reader, (ParquetReader, IpcReader, HuggingFaceDatasetReader)):
        texts, found = _unwritable(row, merged, reading)
        if found:
            text_of_row = _json_text(row)
            # What is nested in a column `metadata` is not for a flat place then: the column itself is kept as text.
            merged = {
                name: texts.get(name, value) for name, value in merged.items() if name in row or name not in texts
            }
            row = {name: texts.get(name, value) for name, value in row.items()}
            error = error or found
    text = reading.text if reading and not error else text_of_row or _json_text(row)
    metadata = {key: value for key, value in merged.items() if key not in RESERVED}
    source: Row = {"columns": list(row)}
    if error:
        metadata[CONVERSATION_ERROR] = error
    elif reading and reading.messages is not None:
        metadata[MESSAGES] = reading.messages
        source |= _edit_mark(row, reading)
    found_again = metadata | {"text": text, "id": doc_id}
    values = {name: value for name, value in row.items() if not _is_in(found_again, name, value)}
    if values:  # Parquet has no empty objects
        source["values"] = values
    metadata[SOURCE] = source  # last: a later step's entries come after it, see RowAdapter
    return {"text": text, "id": doc_id, "metadata": metadata}


def _read_or_error(
    read: Callable[[Row], _Reading], row: Row, nested: Row | None
) -> tuple[_Reading | None, str | None]:
    try:
        if nested is not None and SOURCE in nested and isinstance(nested.get(CONVERSATION_ERROR), str):
            return None, nested[CONVERSATION_ERROR]  # one of ours, written by a DataTrove writer
        return read(row), None
    except InvalidConversation as error:
        return None, f"{error.reason}: {error}"
    except Exception as error:  # a run of a week must not end at one row
        return None, f"unreadable_row: {_cut(_safe_repr(error), MAX_ERROR_CHARS)}"


def _nested_metadata(row: Row) -> Row | None:
    """The column `metadata`, if it is an object or the JSON text of one."""
    metadata = row.get("metadata")
    if isinstance(metadata, str) and metadata.lstrip().startswith("{"):
        try:
            metadata = _loads(metadata.encode())
        except (InvalidConversation, UnicodeEncodeError):
            return None
    return metadata if isinstance(metadata, dict) else None


def _document_id(value: Any, default: str) -> str:
    """The id as text. Only a scalar can be one, and it has to be writable."""
    if value is None or isinstance(value, (dict, list, tuple)):
        return default
    try:
        text = str(value)
        text.encode()
    except ValueError:  # UnicodeEncodeError, or an integer of more than 4,300 digits
        return default
    return text or default


def _unwritable(row: Row, merged: Row, reading: _Reading | None) -> tuple[dict[str, str], str | None]:
    """JSON text in place of each value that a JSONL writer cannot carry, by column; and the error if there is any."""
    messages = reading.messages if reading else None
    if _writable([row, merged, messages]):
        return {}, None
    texts = {
        name: _json_text(value) for name, value in (merged | row).items() if not _writable(value, name == "media")
    }
    if not texts and all(_writable(part, media=True) for part in (row, merged, messages)):
        return {}, None
    names = _cut(", ".join(map(_shown, texts)), 200) or "the conversation"
    limits = "bytes, a lone surrogate, an integer of more than 64 bits, or nested too deep"
    return texts, f"unwritable_value: {names} cannot be written as JSON ({limits}), and is kept as text"


def _is_in(metadata: Row, name: str, value: Any) -> bool:
    """Whether the value of a source column can be read back under its own name."""
    return name in metadata and name != SOURCE and _same(metadata[name], value)


def _same(value: Any, other: Any) -> bool:
    if value is other:
        return True
    try:
        return type(value) is type(other) and bool(value == other)
    except Exception:  # arrays, whose comparison is an array
        return False


def _edit_mark(row: Row, reading: _Reading) -> Row:
    """A checksum, where the source differs from the conversation: RowAdapter sees by it that a step has edited it."""
    if reading.column != MESSAGES or MESSAGES not in row or _same(row[MESSAGES], reading.messages):
        return {}
    return {"messages_crc": _checksum(reading.messages)}


def _checksum(value: Any) -> int | None:
    try:
        return zlib.crc32(orjson.dumps(value, default=str))
    except TypeError:
        return None


def _raw_document(text: str, doc_id: str, error: str) -> dict[str, Any]:
    """A document of what is no row."""
    return {"text": text or error, "id": doc_id, "metadata": {CONVERSATION_ERROR: error}}


# --- a document -> a row ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RowAdapter:
    """Gives back the row of a document: for the `adapter=` of any DataTrove writer.

    First the source columns in their order, with their values and types (a value that a step has changed under its own
    name is written as changed; a column that a step has removed is left out); then what the steps have added, such as
    scores and `filter_reason`. What the reader derived (`text`, `id`, `messages`, `file_path`) is left out unless the
    source had it; a conversation that a step has edited is written where the source had it in a column `messages`. A
    document that no `ConversationAdapter` made gives `text`, `id` and its metadata.

    A JsonlWriter never fails on a row, be it that of a Parquet file: what JSON has not is written as text, bytes in
    base64.
    """

    def __call__(self, writer: Any, document: Document) -> Row:
        """The row.

        Args:
            writer: the writer, to which DataTrove binds its adapter. May be None.
            document: the document. It is not changed.
        """
        source = document.metadata.get(SOURCE)
        if isinstance(source, dict) and "columns" in source:
            row = _source_row(document, source) | _added(document.metadata, source)
        else:
            row = {"text": document.text, "id": document.id, **document.metadata}
            row.pop(CONVERSATION_ERROR, None)
        return _for_jsonl(row) if isinstance(writer, JsonlWriter) else row


def _source_row(document: Document, source: Row) -> Row:
    current = document.metadata | {"text": document.text, "id": document.id}
    values = dict(source.get("values") or {})
    crc = source.get("messages_crc")
    if crc is not None and MESSAGES in document.metadata and _checksum(document.metadata[MESSAGES]) != crc:
        values.pop(MESSAGES, None)  # edited by a step: the edited conversation is written
    row = {}
    for name in source["columns"]:
        if name in values:
            row[name] = values[name]
        elif name in current:
            row[name] = current[name]
    return row


def _added(metadata: Row, source: Row) -> Row:
    """What the steps after the reader have added."""
    nested = _nested_metadata(source.get("values") or {}) or {}
    left_out = {MESSAGES, "text", "id", "file_path", CONVERSATION_ERROR, SOURCE, *source["columns"]}
    added = {}
    from_source = True
    for name, value in metadata.items():
        if name == SOURCE:
            from_source = False
        elif name in left_out or (from_source and name in nested and _same(nested[name], value)):
            continue  # an entry of a nested `metadata` goes back there; one that a step set anew comes after `_source`
        else:
            added[name] = value
    return added


class _JsonlRow(dict[str, Any]):
    """A row for JsonlWriter, which takes `row.get("media")` for DataTrove's media and fails on anything else."""

    def get(self, key: str, default: Any = None) -> Any:
        return default if key == "media" else super().get(key, default)


def _for_jsonl(row: Row) -> Row:
    try:
        orjson.dumps(row)
    except (TypeError, RecursionError):
        row = {str(name).encode("utf-8", "replace").decode(): _as_json(value) for name, value in row.items()}
    return _JsonlRow(row) if "media" in row else row


def _as_json(value: Any) -> Any:
    """The value with what JSON has not as text (bytes in base64); if that does not help, all of it as JSON text."""
    try:
        encoded = orjson.dumps(value, default=_leaf_text, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
        return orjson.loads(encoded)
    except (TypeError, ValueError, RecursionError):
        return _json_text(value)


def _leaf_text(value: Any) -> str:
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else str(value)


@dataclass(frozen=True)
class ScoresAdapter:
    """Gives the scores only: for a writer's `adapter=`, as a sidecar of a corpus that nobody rewrites.

    Each row has `id`, `file_path`, and `{prefix}_score`, `_int_score`, `_tokens`, `_truncated` and `_error`, null
    where the document has none, so that all rows have the same columns; and `filter_reason` where there is one.

    Args:
        prefix: the prefix of the `QualityFilter`.

    Raises:
        ValueError: the prefix is not usable.
    """

    prefix: str = "quality"

    def __post_init__(self) -> None:
        _check_prefix(self.prefix)

    def __call__(self, writer: Any, document: Document) -> Row:
        """The scores of a document; arguments as those of `RowAdapter`."""
        metadata = document.metadata
        row: Row = {"id": document.id, "file_path": metadata.get("file_path")}
        row |= {name: metadata.get(name) for name in _score_types(self.prefix)}
        if metadata.get("filter_reason") is not None:
            row["filter_reason"] = metadata["filter_reason"]
        return _for_jsonl(row) if isinstance(writer, JsonlWriter) else row


def _check_prefix(prefix: str) -> None:
    if not isinstance(prefix, str) or not prefix:
        raise ValueError(f"prefix={prefix!r} names no columns: give a non-empty string, such as 'quality'")


def _score_types(prefix: str) -> dict[str, str]:
    """The columns of a QualityFilter and their Arrow types."""
    return {
        f"{prefix}_score": "float64",
        f"{prefix}_int_score": "int64",
        f"{prefix}_tokens": "int64",
        f"{prefix}_truncated": "bool",
        f"{prefix}_error": "string",
    }


def score_schema(source_schema: "pa.Schema", prefix: str = "quality") -> "pa.Schema":
    """The schema of the scored rows: for `ParquetWriter(schema=...)`.

    Args:
        source_schema: the schema of the source files.
        prefix: the prefix of the `QualityFilter`.

    Returns:
        The source's fields and schema metadata as they are, and the nullable columns `{prefix}_score` (float64),
        `{prefix}_int_score` and `{prefix}_tokens` (int64), `{prefix}_truncated` (bool), `{prefix}_error` and
        `filter_reason` (string). A field of the source with such a name is replaced.

    Raises:
        TypeError: the schema is not a pyarrow.Schema.
        ValueError: the prefix is not usable.
    """
    import pyarrow as pa

    if not isinstance(source_schema, pa.Schema):
        raise TypeError(
            f"source_schema is {_described(source_schema)}: give a pyarrow.Schema, such as "
            "pyarrow.parquet.read_schema(file)"
        )
    _check_prefix(prefix)
    types = _score_types(prefix) | {"filter_reason": "string"}
    ours = {name: pa.field(name, pa.type_for_alias(alias)) for name, alias in types.items()}
    fields = [ours.get(field.name, field) for field in source_schema]
    names = set(source_schema.names)
    fields += [field for name, field in ours.items() if name not in names]
    return pa.schema(fields, metadata=source_schema.metadata)


# --- JSON lines, none lost -------------------------------------------------------------------------------------------

BLOCK_BYTES = 64 * 1024
MAX_HELD_BYTES = 1024 * 1024


@dataclass(frozen=True)
class _Damage:
    """Where a file cannot be read, between the blocks that can."""

    reason: str
    message: str


class ConversationJsonlReader(JsonlReader):
    """Reads JSONL files as DataTrove's `JsonlReader` does, and loses no line.

    A line that is no JSON object (malformed, another JSON value, not UTF-8, with half of a surrogate pair, ...) and
    the place where a compressed file is damaged or ends early become documents: their `text` is the raw line, cut at
    64 KB, and `metadata["conversation_error"]` is `"<reason>: <message>"`, see `REASONS`. What follows is read
    wherever the format allows it: the next lines, and after damage the next gzip member or zstd frame. Blank lines are
    no rows. Integers keep all their digits. Errors of the file system are raised.

    Args:
        data_folder: a str, tuple or DataFolder object representing a path/filesystem
        paths_file: optionally provide a file with one path per line (without the `data_folder` prefix) to read.
        compression: the compression to use (default: "infer")
        limit: limit the number of documents to read. Useful for debugging
        skip: skip the first n rows
        file_progress: show progress bar for files
        doc_progress: show progress bar for documents
        adapter: as for any reader; None: `ConversationAdapter(id_key=id_key)`
        text_key: passed on to JsonlReader, for adapters that use it
        id_key: the key containing the id for each sample (default: "id").
        default_metadata: a dictionary with any data that should be added to all samples' metadata
        recursive: whether to search files recursively. Ignored if paths_file is provided
        glob_pattern: pattern that all files must match exactly to be included (relative to data_folder)
        shuffle_files: shuffle the files within the returned shard
        add_file_path: add the source file path to metadata when missing
    """

    name = "🐿 Jsonl, every line"

    def __init__(
        self,
        data_folder: DataFolderLike,
        paths_file: DataFileLike | None = None,
        compression: Literal["infer", "gzip", "zstd"] | None = "infer",
        limit: int = -1,
        skip: int = 0,
        file_progress: bool = False,
        doc_progress: bool = False,
        adapter: Callable[..., Any] | None = None,
        text_key: str = "text",
        id_key: str = "id",
        default_metadata: dict[str, Any] | None = None,
        recursive: bool = True,
        glob_pattern: str | None = None,
        shuffle_files: bool = False,
        add_file_path: bool = True,
    ) -> None:
        super().__init__(
            data_folder,
            paths_file,
            compression,
            limit,
            skip,
            file_progress,
            doc_progress,
            adapter or ConversationAdapter(id_key=id_key),
            text_key,
            id_key,
            default_metadata or {},
            recursive,
            glob_pattern,
            shuffle_files,
            add_file_path,
        )

    def read_file(self, filepath: str) -> Generator[Document, None, None]:  # type: ignore[override]
        """The documents of one file, in the order of its lines."""
        bad = 0
        for number, line in enumerate(_lines(self._blocks(filepath))):
            with self.track_time():
                document = self._document(line, filepath, number)
            if document is None:
                continue
            if SOURCE not in document.metadata and CONVERSATION_ERROR in document.metadata:
                bad += 1
                if bad == 1:
                    logger.warning(f"{document.id}: {document.metadata[CONVERSATION_ERROR]}; kept as unscorable")
            yield document
        if bad > 1:
            logger.warning(f"`{filepath}`: {bad} lines were no rows; kept as unscorable")

    def _document(self, line: "_Line", filepath: str, number: int) -> Document | None:
        damage = line.damage
        if damage is None:
            if not line.raw.strip():
                return None
            try:
                return self._row_document(_object(line.raw), filepath, number)
            except InvalidConversation as error:
                damage = _Damage(error.reason, str(error))
        return self._error_document(line.raw, filepath, number, damage)

    def _row_document(self, row: Row, filepath: str, number: int) -> Document | None:
        if not isinstance(getattr(self.adapter, "__func__", None), (ConversationAdapter, TextAdapter)):
            _decode_media(row)
        return self.get_document_from_dict(row, filepath, number)

    def _error_document(self, raw: bytes, filepath: str, number: int, damage: _Damage) -> Document:
        document = Document(
            **_raw_document(_raw_text(raw), f"{filepath}/{number}", f"{damage.reason}: {damage.message}")
        )
        document.metadata = (self.default_metadata or {}) | document.metadata
        if self.add_file_path:
            document.metadata.setdefault("file_path", self.data_folder.resolve_paths(filepath))
        return document

    def _blocks(self, filepath: str) -> Iterator[bytes | _Damage]:
        """The decompressed bytes of a file, and the places where it is damaged."""
        from fsspec.core import get_compression

        compression = get_compression(filepath, self.compression)
        if compression not in MEMBER_FORMATS:
            yield from self._blocks_by_fsspec(filepath, compression)
            return
        form = MEMBER_FORMATS[compression]()
        with self.data_folder.open(filepath, "rb", compression=None) as file:
            blocks = _read_blocks(file)
            first = next(blocks, b"")
            if first.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{"):
                logger.warning(f"`{filepath}` is not {form.name}, whatever its name says: read as plain JSONL")
                yield from chain([first], blocks)
            else:
                yield from _decompressed(chain([first], blocks), form)

    def _blocks_by_fsspec(self, filepath: str, compression: str | None) -> Iterator[bytes | _Damage]:
        try:
            with self.data_folder.open(filepath, "rb", compression=compression) as file:
                yield from _read_blocks(file)
        except EOFError:
            yield _Damage("truncated_file", f"the {compression} file ends early")
        except (lzma.LZMAError, zipfile.BadZipFile, zlib.error) as error:
            yield _Damage("damaged_file", f"the {compression} data is corrupt: {error}")
        except OSError as error:
            if error.errno is not None or compression is None:
                raise  # the file system's, not bz2's
            yield _Damage("damaged_file", f"the {compression} data is corrupt: {error}")


def _read_blocks(file: Any) -> Iterator[bytes]:
    while block := file.read(BLOCK_BYTES):
        yield block


@dataclass(frozen=True, slots=True)
class _Line:
    """A line without its end; with `damage`, what could be read of the line where the file is damaged."""

    raw: bytes
    damage: _Damage | None = None


def _lines(blocks: Iterable[bytes | _Damage]) -> Iterator[_Line]:
    """Splits at line feeds only: a string may hold the other characters that Python takes for line ends."""
    parts: list[bytes] = []
    start = codecs.BOM_UTF8
    for block in blocks:
        if isinstance(block, _Damage):
            yield from _last_line(b"".join(parts).removeprefix(start), block)
            parts = []
            continue
        first, *others = block.split(b"\n")
        parts.append(first)
        if not others:
            continue
        yield _Line(b"".join(parts).removeprefix(start))
        start = b""
        parts = [others.pop()]
        yield from map(_Line, others)
    if rest := b"".join(parts).removeprefix(start):
        yield _Line(rest)


def _last_line(raw: bytes, damage: _Damage) -> Iterator[_Line]:
    """What stands before the damage. A complete object is a row: only the line feed after it is lost."""
    try:
        _object(raw)
    except InvalidConversation:
        yield _Line(raw, damage)
    else:
        yield _Line(raw)
        yield _Line(b"", damage)


def _object(raw: bytes) -> Row:
    value = _loads(raw)
    if not isinstance(value, dict):
        raise InvalidConversation("not_an_object", f"the line is a JSON value {_described(value)}, not an object")
    return value


def _raw_text(raw: bytes) -> str:
    """The line as text: bytes that are no UTF-8 are replaced, a character at the cut is dropped."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return decoder.decode(raw[:MAX_RAW_BYTES], final=len(raw) <= MAX_RAW_BYTES)


def _decode_media(row: Row) -> None:
    """As JsonlReader: other adapters hand the column `media` to DataTrove's Media."""
    media = row.get("media")
    for item in media if isinstance(media, list) else ():
        if isinstance(item, dict) and isinstance(item.get("media_bytes"), str):
            item["media_bytes"] = base64.decodebytes(item["media_bytes"].encode("ascii"))


# --- compressed files that may be damaged ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _MemberFormat:
    """A compression format whose files are one or more members (zstd: frames) on end.

    Args:
        name: for messages.
        head: matches the beginning of a member; strict enough to be no accident in compressed data.
        head_bytes: how many bytes `head` needs.
        decoder: makes a decoder of one member, with `decompress`, `eof` and `unused_data`.
        errors: what a decoder raises on damage.
    """

    name: str
    head: re.Pattern[bytes]
    head_bytes: int
    decoder: Callable[[], Any]
    errors: type[Exception]


def _gzip() -> _MemberFormat:
    # Magic, deflate, flags, time, compression level, operating system: 5e-12 per byte to be found by chance.
    head = re.compile(rb"\x1f\x8b\x08[\x00-\x1f].{4}[\x00\x02\x04][\x00-\x0d\xff]", re.DOTALL)
    return _MemberFormat("gzip", head, 10, lambda: zlib.decompressobj(wbits=31), zlib.error)


def _zstd() -> _MemberFormat:
    import zstandard

    # fsspec's reader stops without a word after the first frame, and at the end of a truncated one.
    decompressor = zstandard.ZstdDecompressor(max_window_size=2**31)
    return _MemberFormat(
        "zstd", re.compile(re.escape(b"\x28\xb5\x2f\xfd")), 4, decompressor.decompressobj, zstandard.ZstdError
    )


MEMBER_FORMATS: dict[str | None, Callable[[], _MemberFormat]] = {"gzip": _gzip, "zstd": _zstd}


@dataclass
class _Held:
    """What came after a head in the middle of a member: the next member, if this one proves to be cut off there."""

    inputs: list[bytes] = field(default_factory=list)
    outputs: list[bytes] = field(default_factory=list)


def _decompressed(blocks: Iterable[bytes], form: _MemberFormat) -> Iterator[bytes | _Damage]:
    """Decompresses the members of a file, and goes on at the next one where a member is damaged or cut off.

    A member that is cut off runs into the next one, whose bytes it decodes to garbage before it fails. So what it says
    after the head of another member is held back until it is seen to be right.
    """
    segments = _Replayable(_split_at_heads(blocks, form))
    decoder: Any = None
    held: _Held | None = None
    searching = False
    for segment in segments:
        at_head = form.head.match(segment) is not None
        if decoder is None:
            segment = segment.lstrip(b"\0")  # padding after a member
            if not segment or (searching and not at_head):
                continue
            decoder = form.decoder()
        elif at_head and held is None:
            held = _Held()
        if held:
            held.inputs.append(segment)
        before = decoder.copy() if hasattr(decoder, "copy") else None
        try:
            output = decoder.decompress(segment)
        except form.errors as error:
            if held is None and before is not None:
                yield from _salvaged(before, segment, form)
            yield (
                _cut_off(form)
                if held
                else _Damage(
                    "damaged_file", f"the {form.name} data is corrupt here, and rows before it may be altered: {error}"
                )
            )
            segments.replay(held.inputs if held else [])
            decoder, held, searching = None, None, True
            continue
        searching = False
        if held and not decoder.eof and sum(map(len, held.inputs)) < MAX_HELD_BYTES:
            held.outputs.append(output)
        else:
            yield from held.outputs if held else ()
            yield output
            held = None
        if decoder.eof:
            segments.replay([decoder.unused_data])
            decoder = None
        elif held and segments.at_end():
            yield _cut_off(form)
            segments.replay(held.inputs)
            decoder, held, searching = None, None, True
    if decoder is not None:
        yield _cut_off(form)


def _cut_off(form: _MemberFormat) -> _Damage:
    return _Damage("truncated_file", f"the {form.name} data ends early: a part of the file is missing from here on")


def _salvaged(decoder: Any, segment: bytes, form: _MemberFormat) -> Iterator[bytes]:
    """What a decoder gives of a segment before it fails, which it does not tell when it fails."""
    output = []
    try:
        for position in range(len(segment)):
            output.append(decoder.decompress(segment[position : position + 1]))
    except form.errors:
        pass
    yield b"".join(output)


def _split_at_heads(blocks: Iterable[bytes], form: _MemberFormat) -> Iterator[bytes]:
    """Cuts the file before everything that looks like the beginning of a member."""
    rest = b""
    for block in blocks:
        data = rest + block
        cuts = [match.start() for match in form.head.finditer(data) if match.start() > 0]
        end = max(0, len(data) - form.head_bytes + 1)  # a head may go on in the next block
        if cuts and cuts[-1] + form.head_bytes > end:
            end = cuts.pop()
        rest = data[end:]
        yield from (data[start:stop] for start, stop in pairwise([0, *cuts, end]) if start < stop)
    if rest:
        yield rest


class _Replayable:
    """An iterator to which what it gave can be given back."""

    def __init__(self, items: Iterable[bytes]) -> None:
        self._items = iter(items)
        self._first: deque[bytes] = deque()

    def __iter__(self) -> "_Replayable":
        return self

    def __next__(self) -> bytes:
        return self._first.popleft() if self._first else next(self._items)

    def replay(self, items: Iterable[bytes]) -> None:
        self._first.extendleft(reversed([item for item in items if item]))

    def at_end(self) -> bool:
        """Whether no item is left."""
        if not self._first:
            self._first.extend(item for item in [next(self._items, b"")] if item)
        return not self._first
