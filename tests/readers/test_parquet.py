"""Parquet files that are damaged: what can be read is read, and what cannot is said."""

import random
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datatrove.pipeline.readers import ParquetReader

from datatrove_quality import ConversationAdapter, ConversationParquetReader
from datatrove_quality.rows.types import CONVERSATION_ERROR


def rows(count):
    turns = [{"role": "user", "content": "Oi?"}]
    return [
        {"id": f"r{index}", "messages": [*turns, {"role": "assistant", "content": f"n {index} " * 9}]}
        for index in range(count)
    ]


@pytest.fixture
def file(tmp_path):
    """Three row groups of a hundred rows, with checksums."""
    path = tmp_path / "in" / "a.parquet"
    path.parent.mkdir()
    pq.write_table(pa.Table.from_pylist(rows(300)), path, row_group_size=100, write_page_checksum=True)
    return path


def read(path, **options):
    reader = ConversationParquetReader(str(path.parent), adapter=ConversationAdapter(), **options)
    return list(reader.run())


def errors(documents):
    return [doc.metadata[CONVERSATION_ERROR] for doc in documents if CONVERSATION_ERROR in doc.metadata]


def damage_group(path, group):
    """Overwrite a part of a row group's largest column."""
    columns = pq.ParquetFile(path).metadata.row_group(group)
    column = max(
        (columns.column(at) for at in range(columns.num_columns)), key=lambda each: each.total_compressed_size
    )
    data = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    middle = start + column.total_compressed_size // 2
    data[middle : middle + 8] = b"\xff" * 8
    path.write_bytes(data)


def test_a_whole_file_is_read_as_datatrove_reads_it(file):
    """Same documents, ids and metadata as DataTrove's own reader gives."""
    theirs = ParquetReader(str(file.parent), adapter=ConversationAdapter()).run()
    assert [(doc.id, doc.text, doc.metadata) for doc in read(file)] == [
        (doc.id, doc.text, doc.metadata) for doc in theirs
    ]


def test_a_damaged_row_group_costs_itself(file):
    """Each of its rows is a document that says so, in its place; the row groups around it are whole."""
    damage_group(file, 1)
    documents = read(file)
    found = errors(documents)
    assert found[0].startswith("damaged_file: rows 100 to 199, the rest of row group 1, cannot be read")
    assert found == [found[0]] * 100
    ids = [f"r{index}" if index // 100 != 1 else f"a.parquet/{index}" for index in range(300)]
    assert [doc.id for doc in documents] == ids


@pytest.mark.parametrize("size", [0, 3, 2_000, -1])
def test_a_file_that_was_cut_off_is_one_document(file, size):
    """Without its end a Parquet file has no rows; it is not passed over in silence, and ends nothing."""
    file.write_bytes(file.read_bytes()[:size])
    pq.write_table(pa.Table.from_pylist(rows(5)), file.with_name("b.parquet"))
    documents = read(file)
    assert len(documents) == 6
    (error,) = errors(documents)
    assert "no whole Parquet file" in error
    assert documents[0].metadata["file_path"].endswith("a.parquet")


def test_text_that_is_not_utf8_costs_its_row(tmp_path):
    """Writers that do not check leave bytes in text columns."""
    bad = pa.StringArray.from_buffers(3, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0"), pa.py_buffer(b"a\xffc"))
    path = tmp_path / "in" / "a.parquet"
    path.parent.mkdir()
    pq.write_table(pa.table({"id": bad, "messages": [row["messages"] for row in rows(3)]}), path)
    documents = read(path)
    assert [doc.id for doc in documents] == ["a", f"{path.name}/1", "c"]
    assert "row 1 holds what Python cannot: bytes that are not UTF-8" in errors(documents)[0]


def test_values_that_python_cannot_hold_cost_nothing(tmp_path):
    """A date in the year 12,000 is a good value in Arrow, and none in Python: it stays Arrow's."""
    path = tmp_path / "in" / "a.parquet"
    path.parent.mkdir()
    when = pa.array([0, 4 * 10**17, 1], pa.timestamp("us"))
    pq.write_table(pa.table({"id": list("abc"), "messages": [row["messages"] for row in rows(3)], "when": when}), path)
    documents = read(path)
    assert [doc.id for doc in documents] == ["a", "b", "c"] and not errors(documents)


def test_random_damage_never_ends_the_run(file):
    """Bytes flipped anywhere, 300 times: a row is read or said to be missing, and no exception escapes."""
    whole, rng = file.read_bytes(), random.Random(0)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 3])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        file.write_bytes(data)
        documents = read(file)
        found = errors(documents)
        good = len(documents) - len(found)
        named = [re.search(r"rows (\d+) to (\d+), the rest of row group", error) for error in dict.fromkeys(found)]
        missing = sum(int(rows[2]) - int(rows[1]) + 1 for rows in named if rows)
        # Where the damage is in a column's name, each row says so.
        good += sum(error.startswith("missing_column") for error in found)
        # Each row is read or among those that an error names; of a file without a footer none is.
        no_footer = good == 0 and len(found) == 1 and "none of its rows can be read" in found[0]
        # A footer that was changed may count otherwise: then an error has both of its counts.
        counts = re.search(r"hold (\d+) rows, and the file (\d+)", " ".join(found))
        expected = int(counts[1]) if counts and counts[1] != counts[2] else 300
        assert good + missing == expected or no_footer, (good, found)
        assert len(documents) == 300 or no_footer or counts, (good, found)


def test_an_error_of_the_file_system_is_raised(file, monkeypatch):
    """A disk that fails for a while must not turn into missing rows."""

    def fail(*_, **__):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", lambda *_, **__: (fail() for _ in range(1)))
    with pytest.raises(OSError, match="Input/output"):
        read(file)


@pytest.mark.parametrize("is_repeated", [False, True])
def test_rows_with_large_columns_are_read_a_few_at_a_time(tmp_path, monkeypatch, is_repeated):
    """What is in memory is bounded by bytes, not by rows; also where a value is stored once for all rows."""
    monkeypatch.setattr("datatrove_quality.readers.parquet.BATCH_BYTES", 100_000)
    path = tmp_path / "in" / "a.parquet"
    path.parent.mkdir()
    large = ["x" * 10_000 if is_repeated else random.Random(index).randbytes(5_000).hex() for index in range(300)]
    pq.write_table(pa.Table.from_pylist([row | {"large": large[at]} for at, row in enumerate(rows(300))]), path)
    made = []
    reader = ConversationParquetReader(
        str(path.parent), adapter=lambda *arguments: made.append(1) or ConversationAdapter()(*arguments[:4])
    )
    documents = reader.run()
    for taken in range(1, 301):
        document = next(documents)
        assert document.id == f"r{taken - 1}" and document.metadata["large"] == large[taken - 1]
        assert len(made) <= taken + 10
