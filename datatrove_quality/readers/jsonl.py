"""JSONL files in, documents out, no line lost.

    file -- blocks of bytes -- decompression --> lines --> rows --> documents

DataTrove's reader drops a malformed line, ends a file at bytes that are not UTF-8, raises on a truncated gzip file,
and does not notice a truncated zstd file. Here an `InvalidConversation` takes the place of what cannot be read, and
becomes a document with `metadata["conversation_error"]`, between the others, where it stands in the file.
"""

import bz2
import codecs
import lzma
import re
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import chain, pairwise
from typing import Any, NamedTuple

import zstandard
from datatrove.data import Document
from datatrove.pipeline.readers import JsonlReader
from datatrove.utils.logging import logger
from fsspec.core import get_compression

from datatrove_quality.rows.json_values import parse_json
from datatrove_quality.rows.to_document import ConversationAdapter, unread_document
from datatrove_quality.rows.types import InvalidConversation, Row


MAX_RAW_BYTES = 64 * 1024
BLOCK_BYTES = 64 * 1024
DECODED_AT_ONCE = 64  # a step that fails gives nothing, so at most this much before some damage is lost with it
LOOK_BACK = 192 * 1024  # more than a zstd decoder takes (a block of 128 KiB) before it can fail


class ConversationJsonlReader(JsonlReader):
    """Reads JSONL files as DataTrove's `JsonlReader` does, and loses no line.

    A line that is no JSON object (malformed, another JSON value, not UTF-8, with half of a surrogate pair, ...) and
    the place where a compressed file is damaged or ends early become documents: their `text` is the raw line, cut at
    64 KB, and `metadata["conversation_error"]` is `"<reason>: <message>"`, see `conversation.REASONS`. What follows is
    read wherever the format allows it: the next lines, and after damage the next gzip member or zstd frame. Blank
    lines are no rows. Integers keep all their digits. Errors of the file system are raised.

    Args:
        data_folder: this and all other arguments are those of `JsonlReader`, with two differences. Without `adapter`,
            rows go through `ConversationAdapter(id_key=id_key)`. And `media_bytes` in a column `media` stay the text
            that they are in the file, so that they are written back as they were.
    """

    name = "🐿 Jsonl, every line"

    def _default_adapter(self, data: Row, path: str, id_in_file: int | str) -> dict[str, Any]:
        return ConversationAdapter(id_key=self.id_key)(self, data, path, id_in_file)

    def read_file(self, filepath: str) -> Generator[Document, None, None]:  # type: ignore[override]
        """The documents of one file, in the order of its lines."""
        bad = 0
        for number, (raw, damage) in enumerate(_lines(self._blocks(filepath))):
            if number == 0:
                raw = raw.removeprefix(codecs.BOM_UTF8)
            if not damage and not raw.strip():
                continue
            with self.track_time():
                try:
                    document = self.get_document_from_dict(_row(raw, damage), filepath, number)
                except InvalidConversation as error:
                    document = self._error_document(raw, filepath, number, error)
                    bad += 1
            if document:
                yield document
        if bad:
            logger.warning(f"`{filepath}`: {bad} lines are no rows, or could not be read; kept as unscorable")

    def _error_document(self, raw: bytes, filepath: str, number: int, error: InvalidConversation) -> Document:
        # Bytes that are no UTF-8 are replaced; of a character at the cut there is nothing.
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        text = decoder.decode(raw[:MAX_RAW_BYTES], final=len(raw) <= MAX_RAW_BYTES)
        return unread_document(self, text, filepath, number, error)

    def _blocks(self, filepath: str) -> Iterator[bytes | InvalidConversation]:
        """The decompressed bytes of a file, and an error where it is damaged."""
        compression = get_compression(filepath, self.compression)
        form = FORMATS.get(compression)
        # fsspec's own decompression stops at damage, and without a word at the end of a zstd file's first frame.
        with self.data_folder.open(filepath, "rb", compression=None if form else compression) as file:
            blocks = iter(lambda: file.read(BLOCK_BYTES), b"")
            first = next(blocks, b"")
            if form and first.startswith(b"{"):
                logger.warning(f"`{filepath}` is not {compression}, whatever its name says: read as plain JSONL")
                form = None
            blocks = chain([first], blocks)
            yield from _decompressed(blocks, form) if form else blocks


def _lines(blocks: Iterable[bytes | InvalidConversation]) -> Iterator[tuple[bytes, InvalidConversation | None]]:
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


def _row(raw: bytes, damage: InvalidConversation | None) -> Row:
    if damage:
        raise damage
    value = parse_json(raw)
    if not isinstance(value, dict):
        raise InvalidConversation("not_an_object", f"the line is a JSON {type(value).__name__}, not an object")
    return value


# --- compressed files that may be damaged ----------------------------------------------------------------------------


class _Format(NamedTuple):
    """A compression format, whose files are one or more members (zstd: frames) on end.

    Attributes:
        head: matches the first bytes of a member.
        decoder: makes a decoder of one member, with `decompress`, `eof` and `unused_data`.
        error: what the decoder raises on damage.
    """

    head: re.Pattern[bytes]
    decoder: Callable[[], Any]
    error: type[Exception]


FORMATS = {
    "gzip": _Format(
        # Magic, deflate, flags, time, level, operating system: strict, as three bytes are found in any data by chance.
        re.compile(rb"\x1f\x8b\x08[\x00-\x1f].{4}[\x00\x02\x04][\x00-\x0d\xff]", re.DOTALL),
        lambda: zlib.decompressobj(wbits=31),
        zlib.error,
    ),
    "zstd": _Format(
        re.compile(rb"\x28\xb5\x2f\xfd"),
        lambda: zstandard.ZstdDecompressor(max_window_size=2**31).decompressobj(),
        zstandard.ZstdError,
    ),
    "bz2": _Format(re.compile(rb"BZh[1-9]1AY&SY"), bz2.BZ2Decompressor, OSError),
    "xz": _Format(re.compile(rb"\xfd7zXZ\x00"), lzma.LZMADecompressor, lzma.LZMAError),
}
AFTER_PADDING = re.compile(rb"[^\x00]")  # tapes and block devices fill up the last block with zeros
MISSING = "rows may be missing from here to the next part that can be read"


def _decompressed(blocks: Iterable[bytes], form: _Format) -> Iterator[bytes | InvalidConversation]:
    """Decompresses the members of a file, and goes on at the next one where a member is damaged or cut off.

    A member that is cut off runs on into the next one, whose bytes it takes for its own before it fails. So the next
    member is looked for in what the failed one has been given, and what it has made of that is dropped.
    """
    decoder: Any = None
    lost = False  # since some damage nothing could be read
    data, search_from = b"", 0  # where in the data another member than the decoder's may begin
    for block, following in pairwise(chain(blocks, [b""])):
        seen = data[max(search_from, len(data) - LOOK_BACK) :]
        data, search_from = seen + block, 0
        position = 0 if lost and decoder is None else len(seen)
        while position < len(data):
            if decoder is None:
                start = form.head.search(data, position) if lost else AFTER_PADDING.search(data, position)
                if start is None:
                    break
                position, search_from, decoder = start.start(), start.start() + 1, form.decoder()
            outputs, end, error = _decode(decoder, data, position, form)
            if not (error or decoder.eof or following):
                error = InvalidConversation("truncated_file", f"the compressed data ends early: {MISSING}")
            if error:
                head = form.head.search(data, search_from)
                end = head.start() if head else len(data)
                if head:
                    outputs = outputs[: max(0, end - position) // DECODED_AT_ONCE]
            if any(outputs):
                lost = False
                yield b"".join(outputs)
            if error and not lost:
                yield error
            if error or decoder.eof:
                decoder, lost = None, error is not None
            position = end


def _decode(
    decoder: Any, data: bytes, start: int, form: _Format
) -> tuple[list[bytes], int, InvalidConversation | None]:
    """Decodes to the end of the member, or of the data, in small steps, since a step that fails gives nothing.

    Returns:
        What each step gives, the end in the data, and an error if the data is damaged.
    """
    outputs: list[bytes] = []
    for position in range(start, len(data), DECODED_AT_ONCE):
        step = data[position : position + DECODED_AT_ONCE]
        try:
            outputs.append(decoder.decompress(step))
        except form.error as error:
            what = f"the compressed data is corrupt ({error}): rows before may be altered, and {MISSING}"
            return outputs, position, InvalidConversation("damaged_file", what)
        if decoder.eof:
            return outputs, position + len(step) - len(decoder.unused_data), None
    return outputs, len(data), None
