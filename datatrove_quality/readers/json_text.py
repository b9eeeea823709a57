"""Bytes in, the raw text of each row out: lines, the elements of an array, or objects one after the other."""

import codecs
import re
from collections.abc import Iterable, Iterator
from itertools import chain

import orjson

from datatrove_quality.rows.types import InvalidConversation


Block = bytes | InvalidConversation
Raw = tuple[bytes, InvalidConversation | None]

ARRAY = re.compile(rb"\s*\[\s*[\{\]]")
ROWS = re.compile(rb"\s*\[\s*\{")
UNDECIDED = re.compile(rb"\s*\[?\s*\Z")
# A whole string, or a sign that opens, closes or divides; what lies between two of them is numbers, words and blanks.
TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},]|"', re.DOTALL)
JSON_ENDING = re.compile(r"\.json(\.[a-z0-9]+)?\Z", re.IGNORECASE)
TWO_LINES = re.compile(rb"\s*\{[^\n]*\}\s*\n\s*\{")


def raw_rows(blocks: Iterable[Block], filepath: str) -> Iterator[Raw]:
    """The raw text of each row of a file, and an error where the file is damaged or ends early.

    Args:
        blocks: the file's bytes, decompressed, and an error in the place of what is damaged.
        filepath: its name: in `.json` files objects need not be one per line.
    """
    iterator = iter(blocks)
    first, rest = b"", iterator
    for block in iterator:
        if isinstance(block, InvalidConversation):
            rest = chain([block], iterator)
            break
        first += block
        if len(first) >= 3 and not UNDECIDED.match(first.removeprefix(codecs.BOM_UTF8)):
            break
    first = first.removeprefix(codecs.BOM_UTF8)
    together = chain([first], rest)
    if ARRAY.match(first):
        return _values(together, in_array=True)
    if JSON_ENDING.search(filepath) and _spans_lines(first):
        return _values(together, in_array=False)
    return _lines(together)


def looks_like_rows(first: bytes) -> bool:
    """Whether a file begins as an array of objects, or as several lines of one: not as one object, a description."""
    first = first.removeprefix(codecs.BOM_UTF8)
    return bool(ROWS.match(first) or TWO_LINES.match(first))


def _spans_lines(first: bytes) -> bool:
    """Whether a file of objects begins with one that does not end with its line."""
    line = first.lstrip().partition(b"\n")[0]
    if not line.startswith(b"{") or b"\n" not in first.lstrip():
        return False
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return line.strip() == b"{" or line.rstrip()[-1:] in (b",", b"{", b"[")
    return False


def _lines(blocks: Iterable[Block]) -> Iterator[Raw]:
    """Lines without their ends; where the file is damaged, what there is of the line, and the error.

    Splits at line feeds only: a string may hold the other characters that Python takes for line ends.
    """
    parts: list[bytes] = []
    for block in blocks:
        if isinstance(block, InvalidConversation):
            yield b"".join(parts), block
            parts = []
            continue
        first, *others = block.split(b"\n")
        parts.append(first)
        if others:
            yield b"".join(parts), None
            parts = [others.pop()]
            yield from ((line, None) for line in others)
    if rest := b"".join(parts):
        yield rest, None


def _values(blocks: Iterable[Block], in_array: bool) -> Iterator[Raw]:
    """The elements of arrays, or objects one after the other; what follows the last array is read as lines.

    Holds one value and a block, however long the file.
    """
    iterator = chain(blocks, [b""])  # the last, empty one: what was waited for does not come
    scanner = _Scanner(in_array)
    for block in iterator:
        if isinstance(block, InvalidConversation):
            yield scanner.rest(), block
            scanner = _Scanner(in_array, is_torn=True)
            continue
        yield from ((value, None) for value in scanner.feed(block))
        if scanner.is_closed:
            yield from _lines(chain([scanner.rest()], iterator))
            return
    rest = scanner.rest()
    if scanner.is_between:
        yield from _lines([rest])
    elif in_array:
        yield rest, InvalidConversation("truncated_file", "the array of rows has no end: rows may be missing")
    elif rest.strip():
        yield rest, None


class _Scanner:
    """Finds where values end in bytes that come piece by piece.

    Args:
        in_array: whether the values are the elements of an array, or of several, one after the other.
        is_torn: whether the bytes begin somewhere in the array, behind damage.

    Attributes:
        is_between: an array has ended, and another may follow.
        is_closed: the last array has ended.
    """

    def __init__(self, in_array: bool, is_torn: bool = False) -> None:
        self.is_between = self.is_closed = False
        self._base = 1 if in_array else 0
        self._depth = 1 if in_array and is_torn else 0
        self._is_torn = is_torn
        self._data = b""
        self._scanned = 0
        self._start = 0
        self._wanted = 0

    def rest(self) -> bytes:
        """The bytes that belong to no value yet."""
        return self._data[self._start :]

    def feed(self, block: bytes) -> Iterator[bytes]:
        """The values that end in the bytes so far."""
        self._data += block
        if self._is_torn:
            self._skip_torn()
        if block and len(self._data) < self._wanted:
            return
        for token in TOKEN.finditer(self._data, self._scanned):
            sign = token[0]
            if self.is_between and (sign != b"[" or self._data[self._start : token.start()].strip()):
                self.is_closed = True
                return
            if sign == b'"':  # a string that has not ended: look again when there is twice as much
                self._wanted = 2 * len(self._data) - self._start
                break
            self._scanned = token.end()
            yield from self._at(sign, token.start(), token.end())
        self._data, self._scanned = self._data[self._start :], self._scanned - self._start
        self._wanted = max(0, self._wanted - self._start)
        self._start = 0

    def _at(self, sign: bytes, start: int, end: int) -> Iterator[bytes]:
        """What a sign means for the value: it opens, closes or ends one."""
        if sign in (b"[", b"{"):
            self._depth += 1
            if self._depth == 1 and self._base == 1:  # the array itself
                self._start, self.is_between = end, False
        elif sign in (b"]", b"}"):
            self._depth -= 1
            if self._depth < self._base and self._base == 1:
                yield from self._ended(start, end)
                self.is_between = True
            elif self._depth <= 0 and self._base == 0:
                self._depth = 0
                yield from self._ended(end, end)
        elif sign == b"," and self._depth == 1 and self._base == 1:
            yield from self._ended(start, end)

    def _ended(self, end: int, following: int) -> Iterator[bytes]:
        value = self._data[self._start : end].strip()
        self._start = following
        if value:
            yield value

    def _skip_torn(self) -> None:
        """Begin at the next object that follows a comma."""
        found = re.search(rb",\s*\{", self._data)
        self._data = self._data[found.start() + 1 :] if found else self._data[-64:]
        self._is_torn = found is None
        self._scanned = self._start = 0


def why_invalid(raw: bytes) -> str:
    """What is known to make such a text of invalid JSON, for an error message; "": the cause is not known."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or raw[:200].count(b"\0") > len(raw[:200]) // 4:
        return "; it looks like UTF-16: convert the file to UTF-8"
    try:
        raw.decode()
    except UnicodeDecodeError:
        return "; it looks like Latin-1 or another encoding of one byte a character: convert the file to UTF-8"
    if b"\r" in raw.strip() and re.search(rb"\}\s*\r\s*\{", raw):
        return "; its lines end in lone carriage returns: convert them to line feeds"
    if re.search(rb",\s*[}\]]", raw) or raw.rstrip().endswith(b","):
        return "; it has a trailing comma"
    return ""
