"""JSON without silent changes: what is parsed keeps its digits, and what JSON cannot carry becomes text."""

import json
import math
import mmap
from collections.abc import Iterator
from itertools import chain
from typing import Any

import orjson

from datatrove_quality.rows.types import MAX_DEPTH, InvalidConversation


DIGITS_TO_ZEROS = bytes.maketrans(b"123456789", b"0" * 9)
LONG_NUMBER = b"0" * 19
ORJSON_SAYS = {"surrogate": "lone_surrogate", "depth": "nested_too_deep", "infinity": "unwritable_value"}
"""Words in orjson's errors, and what they mean; all else is invalid JSON."""
QUOTE_AS_ESCAPE = rb"\u0022"
LARGE = 2**20
"""Bytes of a text before whose parsing memory is looked at, which takes microseconds."""
MEMORY_PER_BYTE = 17
"""Of a text: orjson allocates 12 at once, then texts and numbers (together 13 to 16.3 by measurement)."""
MAX_VALUES = 1_000
"""Whose sizes are added up."""


def parse_json(text: bytes | str) -> Any:
    """Parses JSON; integers of more than 64 bits, which orjson turns into floats, keep their digits.

    `NaN` and `Infinity`, which Python and pandas write though JSON has not got them, are read.

    Raises:
        InvalidConversation: it is not JSON, has two values for a key, or holds what no Python value or no JSON writer
            can hold.
        MemoryError: this process has too little memory for it.
    """
    if len(text) > LARGE:
        _require_memory(len(text))
    try:
        value = orjson.loads(text)
        raw = text if isinstance(text, bytes) else text.encode()
        value = json.loads(raw) if LONG_NUMBER in raw.translate(DIGITS_TO_ZEROS) else value
        _require_unique_keys(raw, value)
        return value
    except RecursionError:
        raise InvalidConversation("nested_too_deep", "the JSON has too many levels") from None
    except orjson.JSONDecodeError as error:
        said = str(error)
    if "memory" in said:  # of this process now, not of the text
        raise MemoryError(f"JSON of {len(text):,} bytes: {said}")
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    if b"NaN" in raw or b"Infinity" in raw:
        try:
            value = json.loads(raw.decode())
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:  # an escape such as \\ud800, which Python's parser lets pass
            raise InvalidConversation("lone_surrogate", said) from None
        except (ValueError, RecursionError):
            pass
        else:
            _require_unique_keys(raw, value)
            return value
    reason = next((reason for word, reason in ORJSON_SAYS.items() if word in said), "invalid_json")
    if isinstance(text, bytes) and "not valid UTF-8" in said:
        reason = "invalid_utf8"
    raise InvalidConversation(reason, said)


def _require_unique_keys(raw: bytes, value: Any) -> None:
    """Refuse JSON of which the parser has left a value out: of two for one key it keeps the last.

    Each key has two quotes, so that a value written again has fewer quotes than its text if a key was left out. A text
    that mentions the escape itself, as a lesson about JSON does, is parsed again too.

    Args:
        raw: the text.
        value: what was parsed.

    Raises:
        InvalidConversation: a key has two values; one that has the same value twice loses nothing.
        RecursionError: its levels are too many to look.
    """
    if raw.count(b'"') + raw.count(QUOTE_AS_ESCAPE) != _quotes(value, len(raw)):
        json.loads(raw, object_pairs_hook=_unique_keys)


def _quotes(value: Any, size: int) -> int:
    """How many quotes a value of so many bytes has in JSON."""
    if size <= LARGE:  # writing takes memory
        try:
            return orjson.dumps(value).count(b'"')
        except (TypeError, RecursionError):  # a long number, or many levels
            pass
    return sum(2 + text.count('"') for text in texts_in(value, keys=True))


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of its keys and values."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found and repr(found[key]) != repr(value):  # 1 and true are equal in Python
            raise InvalidConversation("repeated_key", f"{key!r} has two values, of which one would be lost")
        found[key] = value
    return found


def _require_memory(size: int) -> None:
    """Refuse to parse where memory is limited (ulimit -v): orjson 3.13 then ends the process, without a word.

    Raises:
        MemoryError: there is less than parsing takes.
    """
    try:
        mmap.mmap(-1, MEMORY_PER_BYTE * size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except OSError as error:
        raise MemoryError(f"JSON of {size:,} bytes: {error}") from error


def is_writable(value: Any) -> bool:
    """Whether a JSONL writer can carry the value: no bytes, no lone surrogate, 64-bit integers, 254 levels at most."""
    try:
        # Four more levels than the value has, for the metadata and `_source` of an intermediate step's output.
        orjson.dumps([[[[value]]]])
    except (TypeError, RecursionError):  # orjson.JSONEncodeError is a TypeError
        return False
    return True


def with_constants(value: Any) -> Any:
    """A copy for orjson, which would write `NaN` and `Infinity` as null: they are written as Python writes them."""
    if isinstance(value, float) and not math.isfinite(value):
        return orjson.Fragment(json.dumps(value))
    if isinstance(value, dict):
        return {key: with_constants(item) for key, item in value.items()}
    return [with_constants(item) for item in value] if isinstance(value, (list, tuple)) else value


def json_text(value: Any) -> str:
    """The value as JSON text, whatever its types and depth."""
    try:
        return json.dumps(value, default=str)
    except RecursionError:
        return _deep_json(value)
    except MemoryError:
        raise
    except Exception:  # keys that are no text, reference cycles, objects that cannot be shown
        return safe_repr(value)


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
            pieces.append(item if isinstance(item, _Json) else json_text(item))
    return "".join(pieces)


def safe_repr(value: Any) -> str:
    """The value as ASCII text, even where its own repr fails."""
    try:
        return ascii(value)
    except MemoryError:
        raise
    except Exception:
        return f"<a {type(value).__name__} that cannot be shown>"


def texts_in(value: Any, keys: bool = False) -> Iterator[str]:
    """All texts in a JSON value, however deep, in no particular order.

    Args:
        value: any.
        keys: whether the keys of objects are given too.
    """
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting += [*value, *value.values()] if keys else value.values()
        elif isinstance(value, list | tuple):
            waiting += value


def holds_anything(value: Any, depth: int = 0) -> bool:
    """Whether a value has, however deep, a text that is not blank, a number but 0, true, or what no JSON holds."""
    if isinstance(value, str):
        return bool(value) and not value.isspace()
    if isinstance(value, dict | list | tuple):
        items = value.values() if isinstance(value, dict) else value
        return depth > MAX_DEPTH or any(holds_anything(item, depth + 1) for item in items)
    return value is not None and (bool(value) if isinstance(value, int | float) else True)


def size_of(value: Any) -> int:
    """Roughly the bytes of a value, by its texts; of a value with thousands of parts, of the first ones."""
    waiting, size, seen = [value], 0, 0
    while waiting and seen < MAX_VALUES:
        value = waiting.pop()
        seen += 1
        if type(value) is str or isinstance(value, bytes):  # nearly all are; each document comes through here
            size += len(value)
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, (list, tuple)):
            waiting += value
    return size * (1 + len(waiting) // MAX_VALUES) + 8 * len(waiting)
