"""Compressed files under any name."""

import bz2
import gzip
import json
import lzma
from pathlib import Path

import pytest
import zstandard
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
