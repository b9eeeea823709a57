"""Compressed files that may be damaged: what can be read is read, and an error marks where something is missing.

A file's first bytes say how it is compressed, whatever its name is.
"""

import bz2
import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, pairwise
from typing import Any, NamedTuple

import zstandard
from datatrove.utils.logging import logger
from fsspec.core import get_compression

from datatrove_quality.readers.files import require_unwritten, stamp
from datatrove_quality.rows.types import InvalidConversation


BLOCK_BYTES = 64 * 1024
DECODED_AT_ONCE = 64  # a step that fails gives nothing, so at most this much before some damage is lost with it
MAX_PIECE = 4 * 1024 * 1024  # of decompressed bytes that are handed on at once, and a step more
LOOK_BACK = 192 * 1024  # more than a zstd decoder takes (a block of 128 KiB) before it can fail


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
PLAIN = re.compile(rb"\s*[\[{]")  # how text of JSON begins
AFTER_PADDING = re.compile(rb"[^\x00]")  # tapes and block devices fill up the last block with zeros
MISSING = "rows may be missing from here to the next part that can be read"


def decompressed_blocks(reader: Any, filepath: str) -> Iterator[bytes | InvalidConversation]:
    """The decompressed bytes of a file, and an error where it is damaged.

    Args:
        reader: a DataTrove reader of files, with its `data_folder` and `compression`.
        filepath: the file.

    Raises:
        BeingWritten: the file has changed meanwhile; before an error or its last line is given.
    """
    named = get_compression(filepath, reader.compression)
    form = FORMATS.get(named)
    # fsspec's own decompression stops at damage, and without a word at the end of a zstd file's first frame.
    before = stamp(reader.data_folder, filepath)
    with reader.data_folder.open(filepath, "rb", compression=None if form else named) as file:
        blocks = iter(lambda: file.read(BLOCK_BYTES), b"")
        first = next(blocks, b"")
        found = next((name for name in FORMATS if FORMATS[name].head.match(first)), None)
        if found and found != named:
            logger.warning(f"`{filepath}` is {found}, whatever its name says: read as that")
        elif form and not found and PLAIN.match(first):
            logger.warning(f"`{filepath}` is not {named}, whatever its name says: read as plain text")
            form = None
        form = FORMATS[found] if found else form
        blocks = chain([first], blocks)
        for block in _decompressed(blocks, form) if form else blocks:
            if isinstance(block, InvalidConversation):
                require_unwritten(reader.data_folder, filepath, before)
            yield block
    require_unwritten(reader.data_folder, filepath, before)


def _decompressed(blocks: Iterable[bytes], form: _Format) -> Iterator[bytes | InvalidConversation]:
    """Decompresses the members of a file, and goes on at the next one where a member is damaged or cut off.

    A member that is cut off runs on into the next one, whose bytes it takes for its own before it fails. Therefore
    the next member is looked for in what the failed one has been given, and what it has made of that is dropped.
    """
    decoder: Any = None
    lost = False  # since some damage nothing could be read
    data, search_from = b"", 0  # where in the data another member than the decoder's may begin
    for block, following in pairwise(chain(blocks, [b""])):
        seen = data[max(search_from, len(data) - LOOK_BACK) :]
        data, search_from = seen + block, 0
        position = 0 if lost and decoder is None else len(seen)
        while position < len(data) or _holds_more(decoder):
            if decoder is None:
                start = form.head.search(data, position) if lost else AFTER_PADDING.search(data, position)
                if start is None:
                    break
                position, search_from, decoder = start.start(), start.start() + 1, form.decoder()
            outputs, end, error = _decode(decoder, data, position, form)
            if not (error or decoder.eof or following or end < len(data) or _holds_more(decoder)):
                error = InvalidConversation("truncated_file", f"the compressed data ends early: {MISSING}")
            if error:
                head = form.head.search(data, search_from)
                end = head.start() if head else len(data)
                if head:
                    outputs = [output for output in outputs if output.end <= end]
            if any(output.content for output in outputs):
                lost = False
                yield b"".join(output.content for output in outputs)
            if error and not lost:
                yield error
            if error or decoder.eof:
                decoder, lost = None, error is not None
            position = end


class _Output(NamedTuple):
    """What a step of decoding gives, and where in the data the step ends."""

    end: int
    content: bytes


def _holds_more(decoder: Any) -> bool:
    """Whether a decoder has more to give without being fed: bz2's and xz's, which give at most what is asked for."""
    return decoder is not None and not decoder.eof and not getattr(decoder, "needs_input", True)


def _decode(
    decoder: Any, data: bytes, position: int, form: _Format
) -> tuple[list[_Output], int, InvalidConversation | None]:
    """Decodes to the end of the member, or of the data, in small steps, since a step that fails gives nothing.

    Of what expands much it decodes as much as is handed on at once; the rest comes with the next call.

    Returns:
        What each step gives, the end in the data, and an error if the data is damaged.
    """
    at_most = (MAX_PIECE,) if hasattr(decoder, "needs_input") else ()
    outputs: list[_Output] = []
    size = 0
    while position < len(data) or _holds_more(decoder):
        step = b"" if _holds_more(decoder) else data[position : position + DECODED_AT_ONCE]
        try:
            content = decoder.decompress(step, *at_most)
        except form.error as error:
            if "memory" in str(error) or "Error -4" in str(error):  # of this process now, not of the file
                raise MemoryError(f"decompressing: {error}") from error
            what = f"the compressed data is corrupt ({error}): rows before may be altered, and {MISSING}"
            return outputs, position, InvalidConversation("damaged_file", what)
        position += len(step)
        outputs.append(_Output(position, content))
        size += len(content)
        if decoder.eof:
            return outputs, position - len(decoder.unused_data), None
        if size > MAX_PIECE:
            break
    return outputs, position, None
