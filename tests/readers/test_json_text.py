"""JSON as it is distributed: arrays, objects that are not one per line, constants of Python."""

import gzip
import json
import math
import tracemalloc
from pathlib import Path

import pytest
from adapted_rows import reasons
from datatrove.pipeline.writers import JsonlWriter
from file_forms import ROWS, read, rows_of

from datatrove_quality.readers.jsonl import ConversationJsonlReader
from datatrove_quality.rows.to_row import RowAdapter
from datatrove_quality.rows.types import CONVERSATION_ERROR


LAYOUTS = {
    "one line": json.dumps(ROWS),
    "indented": json.dumps(ROWS, indent=2),
    "one per line": "[\n" + ",\n".join(map(json.dumps, ROWS)) + "\n]\n",
    "with a byte order mark": "\ufeff" + json.dumps(ROWS),
    "with a trailing comma": "[" + ",".join(map(json.dumps, ROWS)) + ",]",
    "an array on each line": "\n".join(json.dumps([row]) for row in ROWS),
    "arrays one after the other": f"{json.dumps(ROWS[:2], indent=1)} []\n{json.dumps(ROWS[2:])}\n",
    "blank lines first": "\n \n" + json.dumps(ROWS),
}


@pytest.mark.parametrize("name", ["in.json", "in.jsonl", "in.ndjson"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays(tmp_path: Path, layout: str, name: str) -> None:
    """An array of rows is read row by row, on any number of lines, under any name."""
    documents = read(tmp_path, LAYOUTS[layout].encode(), name)
    assert rows_of(documents) == ROWS
    assert reasons(documents) == [None] * 5


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_arrays_in_pieces(tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a block of the file ends, the rows are the same."""
    monkeypatch.setattr("datatrove_quality.readers.compression.BLOCK_BYTES", size)
    for layout in LAYOUTS.values():
        assert rows_of(read(tmp_path, layout.encode(), "in.json")) == ROWS


def test_objects_that_are_not_one_per_line(tmp_path: Path) -> None:
    """A .json file may hold lines, or indented objects one after the other."""
    lines = "\n".join(map(json.dumps, ROWS))
    indented = "\n".join(json.dumps(row, indent=1) for row in ROWS)
    assert rows_of(read(tmp_path, lines.encode(), "in.json")) == ROWS
    assert rows_of(read(tmp_path, indented.encode(), "in.json")) == ROWS
    assert reasons(read(tmp_path, lines.encode() + b"\n{bad\n" + lines.encode(), "in.json"))[5] == "invalid_json"


def test_bad_elements_of_an_array(tmp_path: Path) -> None:
    """An element that is no row is one bad row; an array without an end is said; lists on lines are no rows."""
    raw = b'[{"instruction": "a", "output": "b"}, 5, {"a" 1}, {"instruction": "c", "output": "d"}'
    documents = read(tmp_path, raw, "in.json")
    assert reasons(documents) == [None, "not_an_object", "invalid_json", "truncated_file"]
    assert documents[3].text.strip() == '{"instruction": "c", "output": "d"}'
    lines = b'[1, 2]\n[]\n{"instruction": "a", "output": "b"}\n'
    assert reasons(read(tmp_path, lines, "in.jsonl")) == ["not_an_object", "not_an_object", None]
    both = json.dumps(ROWS[:2]).encode() + b"\n" + json.dumps(ROWS[2]).encode()
    assert rows_of(read(tmp_path, both, "in.jsonl")) == ROWS[:3]
    assert reasons(read(tmp_path, both + b" [1]\n[]\nx", "in.jsonl")) == [
        None,
        None,
        "invalid_json",
        "not_an_object",
        "invalid_json",
    ]
    assert reasons(read(tmp_path, b'[{"a": 1}]\nnada', "in.json")) == ["missing_column", "invalid_json"]


@pytest.mark.parametrize("raw", [b"[]", b" [ ]\n", b"\xef\xbb\xbf[]", b"[]\n[]\n", b"", b"\n"])
def test_files_without_a_row(tmp_path: Path, raw: bytes) -> None:
    """An empty array is no row."""
    assert read(tmp_path, raw, "in.json") == []


def test_lists_of_messages_are_refused_by_name(tmp_path: Path) -> None:
    """A line that is a bare list of messages is no row, and what is missing is said."""
    lines = json.dumps([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]).encode() + b"\n"
    for document in read(tmp_path, lines * 3, "in.jsonl"):
        assert "a row is one message" in document.metadata[CONVERSATION_ERROR]


def test_a_damaged_array_goes_on(tmp_path: Path) -> None:
    """Behind damage in a compressed array, the next rows are read."""
    rows = [{"instruction": "a" * 1000 + str(n), "output": "b"} for n in range(3000)]
    raw = json.dumps(rows).encode()
    half = len(raw) // 2
    packed = bytearray(gzip.compress(raw[:half])) + gzip.compress(raw[half:])
    packed[len(packed) // 4] ^= 255
    documents = read(tmp_path, bytes(packed), "in.json.gz")
    found = reasons(documents)
    assert found.count("damaged_file") == 1
    good = [document for document, error in zip(documents, found, strict=True) if error is None]
    assert len(good) >= 1400
    assert rows_of(good)[-1] == rows[-1]


def test_an_array_is_read_in_bounded_memory(tmp_path: Path) -> None:
    """An array of any size is held one row at a time; a row of any size is scanned in linear time."""
    folder = tmp_path / "raw"
    folder.mkdir()
    with (folder / "in.json").open("w") as file:
        file.write("[")
        for number in range(6_000):
            file.write(("," if number else "") + json.dumps({"instruction": "x" * 1000, "output": str(number)}))
        file.write(',{"instruction": "' + "y" * 8_000_000 + '", "output": "last"}]')
    tracemalloc.start()
    count, last = 0, ""
    for document in ConversationJsonlReader(str(folder)).run():
        if count == 5_900:
            assert tracemalloc.get_traced_memory()[1] < 3_000_000
            tracemalloc.stop()
        count, last = count + 1, document.metadata.get("output", "")
    assert count == 6_001
    assert last == "last"


def test_constants_come_back(tmp_path: Path) -> None:
    """NaN and Infinity are read, and written as they were."""
    line = b'{"instruction": "a", "output": "b", "loss": NaN, "more": [Infinity, {"x": -Infinity}], "t": "NaN"}'
    documents = read(tmp_path, line, "in.jsonl")
    assert reasons(documents) == [None]
    assert math.isnan(documents[0].metadata["loss"])
    list(JsonlWriter(str(tmp_path / "out"), adapter=RowAdapter(), compression=None).run(documents))
    assert (tmp_path / "out" / "00000.jsonl").read_bytes() == line.replace(b": ", b":").replace(b", ", b",") + b"\n"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ('{"instruction": "a", "output": "b"}'.encode("utf-16"), "UTF-16"),
        ('{"instruction": "ação", "output": "b"}'.encode("latin-1"), "Latin-1"),
        (b'{"instruction": "a", "output": "b"}\r{"instruction": "c", "output": "d"}', "carriage returns"),
        (b'{"instruction": "a", "output": "b",}', "trailing comma"),
        (b'{"instruction": "a", "output": "b"},', "trailing comma"),
    ],
)
def test_the_error_says_what_is_wrong(tmp_path: Path, raw: bytes, said: str) -> None:
    """The usual mistakes are named in the error."""
    documents = read(tmp_path, raw, "in.jsonl")
    assert said in documents[0].metadata[CONVERSATION_ERROR]
    assert documents[0].metadata[CONVERSATION_ERROR].startswith("invalid_")
