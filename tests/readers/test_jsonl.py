"""Every line of a JSONL file becomes a document, whatever the line and the file have been through."""

import gzip
import hashlib
import random
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard
from adapted_rows import GOOD, reasons
from datatrove.data import Document
from datatrove.pipeline.writers import JsonlWriter
from file_forms import read

from datatrove_quality.readers.compression import BLOCK_BYTES
from datatrove_quality.readers.jsonl import ConversationJsonlReader
from datatrove_quality.rows.to_row import RowAdapter
from datatrove_quality.rows.types import CONVERSATION_ERROR, REASONS, InvalidConversation


LINE = orjson.dumps(GOOD)


# --- lines -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        ("invalid_json", b'{"messages": ['),
        ("invalid_json", b"not json"),
        ("invalid_json", b'{"a": NaN, "messages": [}'),
        ("invalid_json", b'{"a": nan, "messages": []}'),
        ("unwritable_value", b'{"a": 1e999}'),
        ("unwritable_value", b'{"a": 1' + b"0" * 400 + b"}"),
        ("not_an_object", b"[1, 2]"),
        ("not_an_object", b"null"),
        ("not_an_object", b'"text"'),
        ("invalid_utf8", b'{"a": "\xff\xfe"}'),
        ("invalid_utf8", b'{"a": "\xed\xa0\x80"}'),
        ("lone_surrogate", b'{"messages": [{"role": "user", "content": "\\ud800"}]}'),
        ("nested_too_deep", b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}"),
        ("unwritable_value", b'{"a": 1' + b"0" * 5000 + b"}"),
        ("repeated_key", b'{"prompt": "a?", "prompt": "b?", "answer": "c"}'),
    ],
)
def test_bad_lines_become_documents(tmp_path: Path, reason: str, line: bytes) -> None:
    """A line that is no row is kept as text, in its place, and the lines around it are read."""
    documents = read(tmp_path, b"\n".join([LINE, line, LINE]), default_metadata={"corpus": "c"})
    assert reasons(documents) == [None, reason, None]
    bad = documents[1]
    assert reason in REASONS
    assert bad.text == line.decode(errors="replace")
    assert bad.id == "in.jsonl/1"
    assert bad.metadata["corpus"] == "c"
    assert bad.metadata["file_path"] == documents[0].metadata["file_path"]
    row = RowAdapter()(None, bad)
    assert row == {"text": bad.text, "id": bad.id, "corpus": "c", "file_path": bad.metadata["file_path"]}
    orjson.dumps(row)


def test_rows_that_json_cannot_carry_become_documents(tmp_path: Path) -> None:
    """30 digits and 500 levels are read without change, and written as text."""
    big = b'{"id": "a", "messages": [], "n": 123456789012345678901234567890}'
    deep = b'{"id": "b", "d": ' + b"[" * 500 + b"]" * 500 + b"}"
    deeper = b'{"id": "c", "d": ' + b"[" * 1000 + b"]" * 1000 + b"}"
    good = orjson.dumps(GOOD | {"n": 18446744073709551615, "s": "123456789012345678901234567890"})
    documents = read(tmp_path, b"\n".join([big, deep, deeper, good]))
    assert reasons(documents) == ["no_messages", "missing_column", "missing_column", None]
    assert documents[0].text == big.decode()
    list(JsonlWriter(str(tmp_path / "out"), adapter=RowAdapter(), compression=None).run(documents))
    rows = [orjson.loads(line) for line in (tmp_path / "out" / "00000.jsonl").read_bytes().splitlines()]
    assert rows[0] == {"id": "a", "messages": [], "n": "123456789012345678901234567890"}
    assert rows[1] == {"id": "b", "d": "[" * 500 + "]" * 500}
    assert rows[2] == {"id": "c", "d": "[" * 1000 + "]" * 1000}
    assert rows[3] == orjson.loads(good)


def test_line_ends(tmp_path: Path) -> None:
    """A byte order mark, CRLF, blank lines, and the characters that Python takes for line ends lose no row."""
    odd = orjson.dumps({"id": "b", "messages": [{"role": "user", "content": "a\u2028b\u0085c\x0bd"}]})
    documents = read(tmp_path, b"\xef\xbb\xbf" + LINE + b"\r\n\r\n  \n" + odd + b"\r\n" + LINE)
    assert reasons(documents) == [None, None, None]
    assert [document.id for document in documents] == ["a", "b", "a"]
    assert documents[1].text == "a\u2028b\u0085c\x0bd"
    assert read(tmp_path, b"") == []
    assert read(tmp_path, b"\xef\xbb\xbf\n") == []


def test_long_lines(tmp_path: Path) -> None:
    """A line of any length is read in linear time, and that of a bad one is kept whole: it is kept nowhere else."""
    long = orjson.dumps({"id": "a", "messages": [{"role": "user", "content": "é" * 5_000_000}]})
    documents = read(tmp_path, long + b"\n" + b"x" + "é".encode() * 100_000 + b"\n" + LINE)
    assert reasons(documents) == [None, "invalid_json", None]
    assert len(documents[0].text) == 5_000_000
    assert documents[1].text == "x" + "é" * 100_000


def test_limit_and_skip(tmp_path: Path) -> None:
    """limit and skip count documents, bad ones too, as DataTrove's readers do."""
    raw = b"\n".join([LINE, b"bad", LINE, LINE])
    assert reasons(read(tmp_path, raw, limit=2)) == [None, "invalid_json"]
    assert reasons(read(tmp_path, raw, skip=1, limit=2)) == ["invalid_json", None]


def test_other_adapters(tmp_path: Path) -> None:
    """Any adapter may be used, also one that refuses a row."""

    def adapter(reader: Any, row: dict[str, Any], path: str, number: int) -> dict[str, Any]:
        if not row["t"]:
            raise InvalidConversation("empty_text", "there is none")
        return {"text": row["t"], "id": "x", "media": row["media"], "metadata": {}}

    rows = [{"t": "a", "media": [{"id": "m", "type": 0, "url": "u"}]}, {"t": "", "media": []}]
    raw = b"\n".join([*map(orjson.dumps, rows), b"bad"])
    documents = read(tmp_path, raw, adapter=adapter)
    assert [document.text for document in documents] == ["a", '{"t":"","media":[]}', "bad"]
    assert reasons(documents) == [None, "empty_text", "invalid_json"]
    assert documents[0].media[0].url == "u"


def test_media_stay_as_they_are(tmp_path: Path) -> None:
    """DataTrove's reader decodes `media_bytes`, and fails on other media: here a row comes back as it was."""
    rows = [GOOD | {"media": media} for media in ([{"media_bytes": "aGk"}, {"url": 1}], ["a"], None, {"a": 1})]
    documents = read(tmp_path, b"\n".join(map(orjson.dumps, rows)))
    assert [RowAdapter()(None, document) for document in documents] == rows
    list(JsonlWriter(str(tmp_path / "out"), adapter=RowAdapter(), compression=None).run(documents))
    lines = (tmp_path / "out" / "00000.jsonl").read_bytes().splitlines()
    assert [orjson.loads(line) for line in lines] == rows


def test_the_default_adapter_takes_the_id_key(tmp_path: Path) -> None:
    """The reader's own arguments reach the adapter that it makes."""
    (document,) = read(tmp_path, orjson.dumps(GOOD | {"uuid": "u"}), id_key="uuid")
    assert document.id == "u"


def test_missing_files_are_errors(tmp_path: Path) -> None:
    """An error of the file system is no damaged data: it must not become a document."""
    read(tmp_path, LINE)
    for name in ("gone.jsonl", "gone.jsonl.gz", "gone.jsonl.zst", "gone.jsonl.bz2"):
        (tmp_path / "paths").write_text(name)
        with pytest.raises(FileNotFoundError):
            list(ConversationJsonlReader(str(tmp_path / "raw"), paths_file=str(tmp_path / "paths")).run())


# --- damaged files ---------------------------------------------------------------------------------------------------


def lines(first: int, last: int) -> bytes:
    # The salt keeps the data from being so compressible that a member fits one block
    rows = [GOOD | {"id": f"r{n}", "salt": hashlib.sha256(b"%d" % n).hexdigest()} for n in range(first, last)]
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


COMPRESS = {"gz": gzip.compress, "zst": zstandard.compress}


def ids_in(documents: list[Document]) -> list[int]:
    return [int(document.id[1:]) for document in documents if CONVERSATION_ERROR not in document.metadata]


@pytest.mark.parametrize("kind", ["gz", "zst"])
@pytest.mark.parametrize("count", [3, 3000])
def test_whole_compressed_files(tmp_path: Path, kind: str, count: int) -> None:
    """Files of one and of many members are read to their end; fsspec's zstd reader stops after the first frame."""
    raw = lines(0, count)
    compress = COMPRESS[kind]
    half = len(raw) // 2  # in the middle of a line
    for data in (compress(raw), compress(raw[:half]) + compress(raw[half:]), compress(b"") + compress(raw)):
        documents = read(tmp_path, data, f"in.jsonl.{kind}")
        assert ids_in(documents) == list(range(count))
        assert set(reasons(documents)) == {None}


def test_gzip_padding_and_zstd_skippable_frames(tmp_path: Path) -> None:
    """Tape blocks of zeros after a gzip file and skippable zstd frames are no damage."""
    assert ids_in(documents := read(tmp_path, gzip.compress(lines(0, 5)) + b"\0" * 1000, "in.jsonl.gz")) == list(
        range(5)
    )
    assert reasons(documents) == [None] * 5
    skippable = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
    data = skippable + zstandard.compress(lines(0, 5)) + skippable
    documents = read(tmp_path, data, "in.jsonl.zst")
    assert reasons(documents) == [None] * 5


@pytest.mark.parametrize("kind", ["gz", "zst"])
@pytest.mark.parametrize("count", [20, 3000])
def test_truncated_files(tmp_path: Path, kind: str, count: int) -> None:
    """A copy that broke off gives its rows and says so; DataTrove raises on gzip, and is silent on zstd."""
    data = COMPRESS[kind](lines(0, count))
    for missing in (1, 5, len(data) // 3):
        documents = read(tmp_path, data[:-missing], f"in.jsonl.{kind}")
        good = ids_in(documents)
        assert good == list(range(len(good)))
        if kind == "gz" or count == 3000:
            assert len(good) > count // 3
        assert reasons(documents)[len(good) :] == ["truncated_file"]
        assert all(document.text for document in documents)
    gzip_missing_trailer = data[:-4] if kind == "gz" else None
    if gzip_missing_trailer:
        assert len(ids_in(read(tmp_path, gzip_missing_trailer, "in.jsonl.gz"))) == count


@pytest.mark.parametrize("kind", ["gz", "zst"])
@pytest.mark.parametrize(("first", "second"), [(3, 3), (40, 3), (2500, 2500), (3, 2500), (2500, 3)])
def test_a_truncated_member_before_a_whole_one(tmp_path: Path, kind: str, first: int, second: int) -> None:
    """Two files on end of which the first is cut off: no row of the second is lost, no garbage becomes a row."""
    one, two = COMPRESS[kind](lines(0, first)), COMPRESS[kind](lines(first, first + second))
    expected = [orjson.loads(line) for line in lines(0, first + second).splitlines()]
    for missing in (1, 9, 20, len(one) // 2):
        documents = read(tmp_path, one[:-missing] + two, f"in.jsonl.{kind}")
        numbers = ids_in(documents)
        assert numbers[-second:] == list(range(first, first + second))
        assert numbers[:-second] == list(range(len(numbers) - second))
        assert [reason for reason in reasons(documents) if reason] in (["truncated_file"], ["damaged_file"])
        for number, document in zip(
            numbers, (d for d in documents if CONVERSATION_ERROR not in d.metadata), strict=True
        ):
            assert RowAdapter()(None, document) == expected[number]
        assert len({document.id for document in documents}) == len(documents)


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_corrupt_bytes(tmp_path: Path, kind: str) -> None:
    """Damage in the middle is said; what comes before (as far as the format can tell) and the next member are read."""
    compress = gzip.compress if kind == "gz" else zstandard.ZstdCompressor(write_checksum=True).compress
    one, two = compress(lines(0, 5000)), compress(lines(5000, 6000))
    middle = len(one) // 2
    broken = one[:middle] + bytes(byte ^ 0xFF for byte in one[middle : middle + 2000]) + one[middle + 2000 :]
    documents = read(tmp_path, broken + two, f"in.jsonl.{kind}")
    ids = [document.id for document in documents]
    assert ids[:2000] == [f"r{n}" for n in range(2000)]
    assert ids[-1000:] == [f"r{n}" for n in range(5000, 6000)]
    assert "damaged_file" in reasons(documents)


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_wrong_checksum_is_said(tmp_path: Path, kind: str) -> None:
    """A member that fails its checksum may hold altered rows: all but its last are read, with a warning."""
    compress = gzip.compress if kind == "gz" else zstandard.ZstdCompressor(write_checksum=True).compress
    one = bytearray(compress(lines(0, 5000)))
    one[-8 if kind == "gz" else -1] ^= 1
    documents = read(tmp_path, bytes(one) + COMPRESS[kind](lines(5000, 5010)), f"in.jsonl.{kind}")
    numbers = ids_in(documents)
    assert numbers == [*range(len(numbers) - 10), *range(5000, 5010)]
    assert len(numbers) > (5005 if kind == "gz" else 4000)  # zstd gives blocks of 128 KiB
    (error,) = [document for document in documents if CONVERSATION_ERROR in document.metadata]
    assert reasons([error]) == ["damaged_file"]
    assert "rows may be missing from here to the next part" in error.metadata[CONVERSATION_ERROR]


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_damage_anywhere(tmp_path: Path, kind: str) -> None:
    """Wherever a file of many members is cut or overwritten, all rows of the other members are read as they are."""
    chance = random.Random(7)
    compress = gzip.compress if kind == "gz" else zstandard.ZstdCompressor(write_checksum=True).compress
    members = [compress(lines(first, first + 50)) for first in range(0, 1000, 50)]
    ends = list(accumulate(map(len, members)))
    data = b"".join(members)
    rows = [orjson.loads(line) for line in lines(0, 1000).splitlines()]
    for _ in range(12):
        start = chance.randrange(len(data))
        end = start + chance.choice([1, 10, 1000])
        damaged = data[:start] + chance.choice([b"", chance.randbytes(end - start)]) + data[end:]
        documents = read(tmp_path, damaged, f"in.jsonl.{kind}")
        first, last = (bisect_right(ends, place) * 50 for place in (start, end - 1))
        given = [RowAdapter()(None, document) for document in documents]
        assert any(reasons(documents)) or given == rows  # not every byte of a head matters
        assert given[:first] == rows[:first]
        assert last + 50 >= 1000 or given[last + 50 - 1000 :] == rows[last + 50 :]


def test_a_file_of_damage(tmp_path: Path) -> None:
    """Many damaged members are one gap until something can be read again, and none of them ends the run."""
    head = gzip.compress(b"")[:10]
    member = gzip.compress(lines(0, 3))
    documents = read(tmp_path, (head + b"\xff" * 90) * 5000 + member, "in.jsonl.gz")
    assert ids_in(documents) == [0, 1, 2]
    assert [reason for reason in reasons(documents) if reason] == ["damaged_file"]


@pytest.mark.parametrize("shift", range(-12, 3))
def test_a_member_begins_at_the_border_of_two_blocks(tmp_path: Path, shift: int) -> None:
    """After damage, the head of the next member is found also where two reads of the file meet."""
    data = b"\xff" * (BLOCK_BYTES + shift) + gzip.compress(lines(0, 3))
    documents = read(tmp_path, data, "in.jsonl.gz")
    assert reasons(documents) == ["damaged_file", None, None, None]


def test_files_that_are_not_what_their_name_says(tmp_path: Path) -> None:
    """JSONL that a server has decompressed keeps its .gz; bytes of no known kind become one document."""
    documents = read(tmp_path, lines(0, 5), "in.jsonl.gz")
    assert reasons(documents) == [None] * 5
    assert reasons(read(tmp_path, b"\x00\x01garbage" * 1000, "in.jsonl.gz")) == ["damaged_file"]
    assert reasons(read(tmp_path, b"", "in.jsonl.gz")) == []


@pytest.mark.parametrize("kind", ["bz2", "xz"])
def test_other_compressions(tmp_path: Path, kind: str) -> None:
    """Formats that fsspec reads are read; a file that ends early or is corrupt says so."""
    import bz2
    import lzma

    data = {"bz2": bz2.compress, "xz": lzma.compress}[kind](lines(0, 100))
    assert ids_in(read(tmp_path, data, f"in.jsonl.{kind}")) == list(range(100))
    assert reasons(read(tmp_path, data[:-30], f"in.jsonl.{kind}"))[-1] == "truncated_file"
    broken = data[:200] + b"\xff" * 50 + data[250:]
    assert reasons(read(tmp_path, broken, f"in.jsonl.{kind}"))[-1] == "damaged_file"
