"""Compressed files under any name."""

import bz2
import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pytest
import zstandard
from adapted_rows import reasons
from file_forms import ROWS, read, rows_of


COMPRESSIONS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstandard.compress}


@pytest.mark.parametrize("kind", COMPRESSIONS)
@pytest.mark.parametrize("name", ["in.jsonl", "in.json", "in.json.{}", "in.jsonl.{}", "in.jsonl.gz"])
def test_compressions(tmp_path: Path, kind: str, name: str) -> None:
    """The first bytes say how a file is compressed, and not its name."""
    for raw in (json.dumps(ROWS).encode(), b"\n".join(json.dumps(row).encode() for row in ROWS)):
        assert rows_of(read(tmp_path, COMPRESSIONS[kind](raw), name.format(kind))) == ROWS


def test_plain_text_under_a_compressed_name(tmp_path: Path) -> None:
    """A name that promises a compression keeps no plain file from being read."""
    assert rows_of(read(tmp_path, json.dumps(ROWS).encode(), "in.json.gz")) == ROWS


@pytest.mark.parametrize("kind", COMPRESSIONS)
@pytest.mark.parametrize("size", [5, 10])
def test_what_expands_much_is_read_to_its_end(tmp_path: Path, kind: str, size: int) -> None:
    """The end of the file is not the end of what the decoder still holds."""
    rows = [{"text": "a"}, {"text": "b" * size * 10**6}, {"text": "c"}]
    raw = b"\n".join(json.dumps(row).encode() for row in rows)
    found = [doc.text for doc in read(tmp_path, COMPRESSIONS[kind](raw), "in.jsonl", adapter=_as_it_is)]
    assert [(text[0], len(text)) for text in found] == [("a", 1), ("b", size * 10**6), ("c", 1)]


def test_what_expands_much_and_is_cut_off_is_named(tmp_path: Path) -> None:
    """After all that the decoder holds: here two blocks of 5 MB, and not the third."""
    raw = bz2.compress(b'{"text": "a"}\n{"text": "' + b"b" * 12 * 10**6 + b'"}', compresslevel=1)
    documents = read(tmp_path, raw[:-20], "in.jsonl", adapter=_as_it_is)
    assert documents[0].text == "a"
    assert "truncated_file" in reasons(documents)[1:]


def _as_it_is(reader: Any, row: dict[str, Any], path: str, id_in_file: int | str) -> dict[str, Any]:
    return {"text": row["text"], "id": "", "metadata": {}}
