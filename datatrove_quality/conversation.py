"""A row of data becomes a conversation, and a scored document becomes the row again.

    row -- ConversationAdapter --> Document(text, id, metadata) -- any DataTrove steps --> RowAdapter --> row

Data of every origin comes through here, so the rule of this module is that nothing is lost and nothing raises: what is
no conversation becomes a document with `metadata["conversation_error"]`, and every source column comes back from
`RowAdapter` with its name, value and type. The price is one bookkeeping entry in the metadata, `_source`:

    columns   the names of the row's columns, in order
    kept      the columns that cannot stand in the metadata under their own name, and are found in `values`
    values    their values
    messages  the conversation as it was read, where the source's column `messages` has it in another form

Where a step has changed `metadata["messages"]` since, the last entry shows it.
"""

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import orjson
from datatrove.data import Document
from datatrove.pipeline.readers import HuggingFaceDatasetReader, IpcReader, ParquetReader
from datatrove.pipeline.readers.base import BaseDiskReader
from datatrove.pipeline.writers import JsonlWriter

from datatrove_quality.config import ScorerConfig, Unscorable


if TYPE_CHECKING:
    import pyarrow as pa

Message = dict[str, Any]
Conversation = list[Message]
Row = dict[str, Any]

SCHEMAS = ("auto", "messages", "sharegpt", "alpaca", "prompt_response")

MESSAGES = "messages"
CONVERSATION_ERROR = "conversation_error"
SOURCE = "_source"

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
    "damaged_file": "the file is damaged here: rows are missing",
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
"""Every reason of an `InvalidConversation` and of a `conversation_error`; the scorer has reasons of its own."""

MAX_DEPTH = 200
MAX_ERROR_CHARS = 500


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


def _parse(row: Row, schema: str, messages_key: str | None) -> tuple[Conversation, str]:
    """The conversation, and the column of its messages; "" where it is put together from several columns."""
    if not isinstance(row, dict):
        raise InvalidConversation("not_an_object", f"the row is {_described(row)}, not an object with columns")
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
    raise InvalidConversation("missing_column", f"looked for {LOOKED_FOR}; {_keys_found(row)}")


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
    question, output = _text(row, "instruction"), _text(row, "output")
    if row.get("input") is not None:
        question = "\n\n".join(text for text in (question, _text(row, "input")) if text.strip())
    return _with_system(row, [_turn("user", question), _turn("assistant", output)])


def _parse_prompt_response(row: Row) -> Conversation:
    column = _first_given(row, RESPONSE_COLUMNS)
    if column is None:
        raise InvalidConversation("missing_column", f"looked for one of {RESPONSE_COLUMNS}; {_keys_found(row)}")
    prompt, response = _side(row, "prompt", "user"), _side(row, column, "assistant")
    return response if _holds_prompt(response, prompt) else _with_system(row, prompt + response)


def _side(row: Row, column: str, role: str) -> Conversation:
    """One side of a prompt/response row: a text becomes one message of `role`, a list is a list of messages."""
    value = _value(row, column)
    if isinstance(value, str) and not _is_json_of_messages(value):
        return [_turn(role, _text(row, column))]
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
            value = parse_json(value)
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
            name = (SHAREGPT_KEYS.get(key) or key) if sharegpt else key
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
        what = f"has a content part whose type is {_shown(part['type'])}, not text"
        raise InvalidConversation("unsupported_content", what)
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


def _described(value: Any) -> str:
    return "null" if value is None else f"of type {type(value).__name__}"


def _shown(value: Any) -> str:
    return _cut(repr(value[:80]), 80) if isinstance(value, str) else _described(value)


def _keys_found(row: Row) -> str:
    names = ", ".join(_shown(name) for name in list(row)[:20]) or "none"
    return f"keys found: {names}{' and more' if len(row) > 20 else ''}"


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


# --- JSON, without silent changes ------------------------------------------------------------------------------------

DIGITS_TO_ZEROS = bytes.maketrans(b"123456789", b"0" * 9)
LONG_NUMBER = b"0" * 19

ORJSON_SAYS = {"surrogate": "lone_surrogate", "depth": "nested_too_deep", "infinity": "unwritable_value"}
"""Words in orjson's errors, and what they mean; all else is invalid JSON."""


def parse_json(text: bytes | str) -> Any:
    """Parses JSON; integers of more than 64 bits, which orjson turns into floats, keep their digits.

    Raises:
        InvalidConversation: it is not JSON, or holds what no Python value or no JSON writer can hold.
    """
    try:
        value = orjson.loads(text)
        raw = text if isinstance(text, bytes) else text.encode()
        return json.loads(raw) if LONG_NUMBER in raw.translate(DIGITS_TO_ZEROS) else value
    except RecursionError:
        raise InvalidConversation("nested_too_deep", "the JSON has too many levels") from None
    except orjson.JSONDecodeError as error:
        said = str(error)
    reason = next((reason for word, reason in ORJSON_SAYS.items() if word in said), "invalid_json")
    if isinstance(text, bytes) and "not valid UTF-8" in said:
        reason = "invalid_utf8"
    raise InvalidConversation(reason, said)


def _writable(value: Any) -> bool:
    """Whether a JSONL writer can carry the value: no bytes, no lone surrogate, 64-bit integers, 254 levels at most."""
    try:
        # Four more levels than the value has, for the metadata and `_source` of an intermediate step's output.
        orjson.dumps([[[[value]]]])
    except (TypeError, RecursionError):  # orjson.JSONEncodeError is a TypeError
        return False
    return True


def _json_text(value: Any) -> str:
    """The value as JSON text, whatever its types and depth."""
    try:
        return json.dumps(value, default=str)
    except RecursionError:
        return _deep_json(value)
    except Exception:  # keys that are no text, reference cycles, objects that cannot be shown
        return _safe_repr(value)


class _Json(str):
    """A piece of JSON text, among values that are not yet written."""


def _deep_json(value: Any) -> str:
    """JSON text of a value with more levels than Python can recurse: orjson reads 1,024 of them."""
    pieces, todo = [], [value]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            parts = [(_Json(", "), _Json(f"{json.dumps(str(key))}: "), child) for key, child in item.items()]
            todo += [_Json("}"), *reversed(list(chain(*parts))[1:]), _Json("{")]
        elif isinstance(item, (list, tuple)):
            todo += [_Json("]"), *reversed([part for child in item for part in (_Json(", "), child)][1:]), _Json("[")]
        else:
            pieces.append(item if isinstance(item, _Json) else _json_text(item))
    return "".join(pieces)


def _safe_repr(value: Any) -> str:
    try:
        return ascii(value)
    except Exception:
        return f"<a {type(value).__name__} that cannot be shown>"


# --- a row -> a document ---------------------------------------------------------------------------------------------

ARROW_READERS = (ParquetReader, IpcReader, HuggingFaceDatasetReader)
"""Their rows have types that JSON has not, and their natural output is Parquet."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """What an adapter reads in a row: a text, and either the conversation and its column (if any) or an error."""

    text: str
    messages: Conversation | None = None
    column: str = ""
    error: str = ""


class _Adapter:
    """Makes a document of a row, in which `_read` finds the text and the conversation."""

    id_key: str

    def __call__(self, reader: Any, row: Row, path: str, id_in_file: int | str) -> dict[str, Any]:
        """The arguments of a DataTrove document: text, id and metadata.

        Args:
            reader: the reader, to which DataTrove binds its adapter. May be None.
            row: the row. It is not changed.
            path: the file of the row.
            id_in_file: the number of the row in the file.
        """
        place = f"{path}/{id_in_file}"
        if not isinstance(row, dict):
            error = f"not_an_object: the row is {_described(row)}, not an object with columns"
            return _error_document(_json_text(row), place, error)
        reading = self._read_or_error(row)
        columns, problem = (row, "") if isinstance(reader, ARROW_READERS) else _for_json(row, reading.messages)
        if problem and not reading.error:
            reading = _Reading(_json_text(row), error=f"unwritable_value: {problem}")
        metadata = {name: value for name, value in _merged(columns).items() if name not in RESERVED}
        if reading.error:
            metadata[CONVERSATION_ERROR] = reading.error
        elif reading.messages is not None:
            metadata[MESSAGES] = reading.messages
        document = {"text": reading.text, "id": _document_id(row.get(self.id_key), place)}
        # The last entry: what later steps add comes after it, see RowAdapter.
        metadata[SOURCE] = _bookkeeping(columns, metadata | document, reading)
        return document | {"metadata": metadata}

    def _read_or_error(self, row: Row) -> _Reading:
        try:
            columns = _merged(row)
            error = str(columns.get(CONVERSATION_ERROR))
            if CONVERSATION_ERROR in row or error_reason(error) not in REASONS:
                return self._read(columns)
            # What a DataTrove writer has made of an error document is not to be read as anything else.
        except InvalidConversation as invalid:
            error = f"{invalid.reason}: {invalid}"
        except Exception as unforeseen:  # a run of a week must not end at one row
            error = f"unreadable_row: {_cut(_safe_repr(unforeseen), MAX_ERROR_CHARS)}"
        return _Reading(_json_text(row), error=error)

    def _read(self, row: Row) -> _Reading:
        raise NotImplementedError


@dataclass(frozen=True)
class ConversationAdapter(_Adapter):
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

    def _read(self, row: Row) -> _Reading:
        messages, column = _parse(row, self.schema, self.messages_key)
        return _Reading("\n\n".join(message["content"] for message in messages), messages, column)


@dataclass(frozen=True)
class TextAdapter(_Adapter):
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

    def _read(self, row: Row) -> _Reading:
        text = _text(row, self.text_key)
        if not text.strip():
            raise InvalidConversation("empty_text", f"column {self.text_key!r} holds no text")
        return _Reading(text)


def _check_column(field_name: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{field_name}={value!r} is no column name: give a non-empty string")


def _merged(row: Row) -> Row:
    """The row's columns, and what is nested in its column `metadata`."""
    nested = _nested_metadata(row)
    return row if nested is None else nested | {name: row[name] for name in row if name != "metadata"}


def _nested_metadata(row: Row) -> Row | None:
    """The column `metadata`, if it is an object, or the text of one whose values can be written again."""
    metadata = row.get("metadata")
    if isinstance(metadata, str) and metadata.lstrip().startswith("{"):
        try:
            metadata = parse_json(metadata)
        except InvalidConversation:
            return None
        return metadata if _writable(metadata) else None
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


def _for_json(row: Row, messages: Conversation | None) -> tuple[Row, str]:
    """The row with JSON text in place of each value that a JSONL writer cannot carry; and what is wrong with them."""
    if _writable(row) and _writable(messages):
        return row, ""
    texts = {name: _json_text(value) for name, value in row.items() if not _writable([value])}  # as deep as in a row
    names = _cut(", ".join(map(_shown, texts)), 200) or "the conversation"  # which stands in the row as JSON text
    limits = "bytes, a lone surrogate, an integer of more than 64 bits, or nested too deep"
    return row | texts, f"{names} cannot be written as JSON ({limits}), and is kept as text"


def _bookkeeping(columns: Row, found: Row, reading: _Reading) -> Row:
    """The entry `_source`: how to make the row of what is found in the document."""
    values = {name: value for name, value in columns.items() if not (name in found and _same(found[name], value))}
    source: Row = {"columns": list(columns)}
    if values:  # Parquet has no empty objects
        source |= {"kept": list(values), "values": values}
    if reading.column == MESSAGES and MESSAGES in values:
        source[MESSAGES] = _without_nulls(reading.messages)  # a copy: a step may edit the conversation in place
    return source


def _same(value: Any, other: Any) -> bool:
    if value is other:
        return True
    try:
        return type(value) is type(other) and bool(value == other)
    except Exception:  # arrays, whose comparison is an array
        return False


def _error_document(text: str, doc_id: str, error: str) -> dict[str, Any]:
    """The arguments of a document of what is no row."""
    return {"text": text or error, "id": doc_id, "metadata": {CONVERSATION_ERROR: error}}


def unread_document(reader: BaseDiskReader, text: str, path: str, number: int, error: InvalidConversation) -> Document:
    """A document in the place of what a reader could not read, with the metadata that the reader's others have.

    Args:
        reader: of files.
        text: what could be read; "": nothing.
        path: the file.
        number: of the row in the file.
        error: what is wrong.
    """
    document = Document(**_error_document(text, f"{path}/{number}", f"{error.reason}: {error}"))
    document.metadata = (reader.default_metadata or {}) | document.metadata
    if reader.add_file_path:
        document.metadata.setdefault("file_path", reader.data_folder.resolve_paths(path))
    return document


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
        metadata = document.metadata
        source = metadata.get(SOURCE)
        if isinstance(source, dict) and "columns" in source:
            kept = {name: source["values"][name] for name in source.get("kept") or ()}
            if source.get(MESSAGES) is not None and source[MESSAGES] != metadata.get(MESSAGES):
                del kept[MESSAGES]  # a step has edited the conversation
            nested = _nested_metadata(kept) or {}
            removed = nested.keys() - metadata.keys() - RESERVED
            if removed:  # as a filter removes the score of an earlier run
                left = {name: value for name, value in nested.items() if name not in removed}
                kept["metadata"] = _json_text(left) if isinstance(kept["metadata"], str) else left
            found = metadata | {"text": document.text, "id": document.id} | kept
            row = {name: found[name] for name in source["columns"] if name in found}
            row |= _added(metadata, {*source["columns"]}, nested)
        else:
            row = {"text": document.text, "id": document.id, **metadata}
            row.pop(CONVERSATION_ERROR, None)
        return _for_jsonl_writer(row) if isinstance(writer, JsonlWriter) else row


def _added(metadata: Row, columns: set[str], nested: Row) -> Row:
    """What the steps after the reader have added.

    An entry of the source's own column `metadata` goes back there, unless a step has changed it, or has set it anew:
    then it comes after `_source`.
    """
    left_out = columns | {MESSAGES, "text", "id", "file_path", CONVERSATION_ERROR, SOURCE}
    added = {}
    is_from_source = True
    for name, value in metadata.items():
        is_from_source = is_from_source and name != SOURCE
        is_nested = is_from_source and name in nested and _same(nested[name], value)
        if name not in left_out and not is_nested:
            added[name] = value
    return added


class _JsonlRow(dict[str, Any]):
    """A row for JsonlWriter, which takes `row.get("media")` for DataTrove's media and fails on anything else."""

    def get(self, key: str, default: Any = None) -> Any:
        return default if key == "media" else super().get(key, default)


def _for_jsonl_writer(row: Row) -> Row:
    try:
        orjson.dumps(row)
    except (TypeError, RecursionError):
        row = {name: _as_json(value) for name, value in row.items()}
    return _JsonlRow(row) if "media" in row else row


def _as_json(value: Any) -> Any:
    """The value with what JSON has not as text (bytes in base64); if that does not help, all of it as JSON text."""
    try:
        options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
        return orjson.loads(orjson.dumps(value, default=_leaf_text, option=options))
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
        prefix: the prefix of the `QualityFilter`. None: those of all filters that the document went through.

    Raises:
        ValueError: the prefix is not usable.
    """

    prefix: str | None = None

    def __post_init__(self) -> None:
        if self.prefix is not None:
            check_prefix(self.prefix)

    def __call__(self, writer: Any, document: Document) -> Row:
        """The scores of a document; arguments as those of `RowAdapter`."""
        metadata = document.metadata
        row: Row = {"id": document.id, "file_path": metadata.get("file_path")}
        for prefix in [self.prefix] if self.prefix else _prefixes(metadata):
            row |= {name: metadata.get(name) for name in _score_types(prefix)}
        if metadata.get("filter_reason") is not None:
            row["filter_reason"] = metadata["filter_reason"]
        return _for_jsonl_writer(row) if isinstance(writer, JsonlWriter) else row


def _prefixes(metadata: Row) -> list[str]:
    """The prefixes of the filters that left a score or an error, in their order."""
    errors = metadata.keys() - {CONVERSATION_ERROR, *metadata.get(SOURCE, {}).get("columns", ())}
    found = [name.removesuffix("_int_score") for name in metadata if name.endswith("_int_score")]
    found += [name.removesuffix("_error") for name in metadata if name.endswith("_error") and name in errors]
    return found


def check_prefix(prefix: str) -> None:
    """Refuse a prefix that names no columns, or whose error column would be the one that readers use.

    Raises:
        ValueError: the prefix is not usable.
    """
    if not isinstance(prefix, str) or not prefix or f"{prefix}_error" == CONVERSATION_ERROR:
        raise ValueError(f"prefix={prefix!r} cannot name score columns: give another word, such as 'quality'.")


def _score_types(prefix: str) -> dict[str, str]:
    """The columns of a QualityFilter and their Arrow types."""
    return {
        f"{prefix}_score": "float64",
        f"{prefix}_int_score": "int64",
        f"{prefix}_tokens": "int64",
        f"{prefix}_truncated": "bool",
        f"{prefix}_error": "string",
    }


def score_schema(
    source_schema: "pa.Schema", prefix: str = "quality", scorer: ScorerConfig | None = None
) -> "pa.Schema":
    """The schema of the scored rows: for `ParquetWriter(schema=...)`.

    Args:
        source_schema: the schema of the source files.
        prefix: the prefix of the `QualityFilter`.
        scorer: of the `QualityFilter`; its fingerprint, name and scale are then carried in the schema's metadata as
            `{prefix}_scorer`, in JSON. Finds the model, but loads no weights.

    Returns:
        The source's fields and schema metadata as they are, and the nullable columns `{prefix}_score` (float64),
        `{prefix}_int_score` and `{prefix}_tokens` (int64), `{prefix}_truncated` (bool), `{prefix}_error` and
        `filter_reason` (string). A field of the source with such a name is replaced.

    Raises:
        ValueError: the schema is no pyarrow.Schema, the prefix is not usable, or the scorer's model cannot be found.
    """
    import pyarrow as pa

    from datatrove_quality.scorer import find_scorer

    if not isinstance(source_schema, pa.Schema):
        raise ValueError(
            f"source_schema is {_described(source_schema)}: give a pyarrow.Schema, such as "
            "pyarrow.parquet.read_schema(file)"
        )
    check_prefix(prefix)
    types = _score_types(prefix) | {"filter_reason": "string"}
    ours = {name: pa.field(name, pa.type_for_alias(alias)) for name, alias in types.items()}
    fields = [ours.get(field.name, field) for field in source_schema]
    names = set(source_schema.names)
    fields += [field for name, field in ours.items() if name not in names]
    key = f"{prefix}_scorer".encode()
    # What an earlier scorer left there says nothing of the new scores.
    metadata = {name: value for name, value in (source_schema.metadata or {}).items() if name != key}
    if scorer is not None:
        metadata[key] = json.dumps(find_scorer(scorer).describe()).encode()
    return pa.schema(fields, metadata=metadata or None)
