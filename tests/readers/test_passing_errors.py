"""What may pass (memory, disk, network) ends a task and is never a verdict on a row."""

import bz2
import errno
import gzip
import io
import json
import lzma
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from datatrove_quality import ConversationAdapter, ConversationJsonlReader, ConversationParquetReader
from datatrove_quality.config import Unscorable
from datatrove_quality.readers import compression, files, parquet
from datatrove_quality.readers.csv import ConversationCsvReader
from datatrove_quality.readers.files import BeingWritten
from datatrove_quality.rows import to_document
from datatrove_quality.rows.json_values import json_text, safe_repr


ROW = {"messages": [{"role": "user", "content": "Oi?"}]}
UNDER_A_LIMIT = """
import json, resource, sys
from datatrove_quality import ConversationJsonlReader
reader = ConversationJsonlReader(sys.argv[1])
used = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[2]) * 2**20,) * 2)
try:
    print([document.metadata.get("conversation_error") for document in reader.run()])
except MemoryError:
    print("MemoryError")
"""


@pytest.mark.parametrize("megabytes", [30, 100, 255, 600])
def test_a_valid_row_is_not_invalid_for_lack_of_memory(tmp_path, megabytes):
    """orjson tells of missing memory as of invalid JSON, or ends the process, as with 255 MB here: the task ends
    instead, and the next start tries again."""
    row = {"messages": [{"role": "user", "content": "x" * 20_000_000}]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    command = [sys.executable, "-c", UNDER_A_LIMIT, str(tmp_path), str(megabytes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout == ("[None]\n" if megabytes == 600 else "MemoryError\n"), done


@pytest.mark.parametrize(
    "error", [MemoryError(), OSError(errno.EIO, "disk"), TimeoutError(), ConnectionError("reset")]
)
def test_a_row_is_not_unreadable_for_an_error_that_passes(tmp_path, monkeypatch, error):
    """Whatever reads further while a row is looked at."""
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROW) + "\n")

    def fail(*_):
        raise error

    monkeypatch.setattr(to_document.ConversationAdapter, "_read", fail)
    with pytest.raises(type(error)):
        list(ConversationJsonlReader(str(tmp_path)).run())


class Unreadable:
    """A value whose texts do not fit into memory."""

    def __str__(self):
        raise MemoryError

    __repr__ = __str__


def test_a_value_is_not_cut_for_lack_of_memory():
    """Nor shown as something that cannot be shown."""
    for function in (json_text, safe_repr):
        with pytest.raises(MemoryError):
            function(Unreadable())


@pytest.mark.parametrize("error", [OSError(errno.EIO, "disk"), TimeoutError(), ConnectionResetError(), MemoryError()])
def test_a_row_group_is_not_damaged_for_an_error_that_passes(tmp_path, monkeypatch, error):
    """A time-out of the network has no number and is an OSError, as Arrow's own errors of damaged files are."""
    pq.write_table(pa.Table.from_pylist([ROW] * 100), tmp_path / "rows.parquet", row_group_size=10)
    reader = ConversationParquetReader(str(tmp_path))
    content = (tmp_path / "rows.parquet").read_bytes()

    class Failing(io.BytesIO):
        reads = 0

        def read(self, *arguments):
            Failing.reads += 1
            if Failing.reads > 3:
                raise error
            return super().read(*arguments)

    monkeypatch.setattr(reader.data_folder, "open", lambda *_, **__: Failing(content))
    monkeypatch.setattr(reader.data_folder, "is_local", lambda: False)
    with pytest.raises(type(error)):
        list(reader.read_file("rows.parquet"))


@pytest.mark.parametrize(("form", "megabytes"), [("zstd", 200), ("gzip", 50), ("bz2", 12), ("xz", 12)])
def test_what_expands_much_is_handed_on_in_pieces(tmp_path, form, megabytes):
    """A few kilobytes of zstd may hold a gigabyte: of it a few megabytes are held at a time."""
    compressors = {"zstd": zstandard.ZstdCompressor(level=3).compress, "gzip": gzip.compress}
    compressors |= {"bz2": bz2.compress, "xz": lzma.compress}
    line = json.dumps(ROW).encode() + b"\n"
    content = line * (megabytes * 2**20 // len(line))
    compressed = compressors[form](content)
    assert len(compressed) < len(content) // 200
    (tmp_path / "rows.jsonl").write_bytes(compressed)
    reader = ConversationJsonlReader(str(tmp_path))
    total = longest = 0
    for block in compression.decompressed_blocks(reader, "rows.jsonl"):
        assert not isinstance(block, Unscorable)
        total += len(block)
        longest = max(longest, len(block))
    assert total == len(content)
    assert longest <= 8 * 2**20


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.csv", "rows.parquet"])
def test_a_file_that_grows_while_it_is_read_ends_the_task(tmp_path, monkeypatch, name):
    """Its last line may be half a row, a Parquet file has no end yet: no verdict on its rows."""
    path = tmp_path / name
    half = json.dumps(ROW)[:20]
    whole = {"rows.jsonl": (json.dumps(ROW) + "\n" + half).encode(), "rows.csv": b'prompt,answer\nOi?,sim\nOi?,"si'}
    whole["rows.jsonl.gz"] = gzip.compress(whole["rows.jsonl"])[:-9]
    whole["rows.parquet"] = b"PAR1" + bytes(100)
    path.write_bytes(whole[name])
    made = {".csv": ConversationCsvReader, ".parquet": ConversationParquetReader}.get(
        path.suffix, ConversationJsonlReader
    )
    named = {"prompt_key": "prompt", "answer_key": "answer"} if path.suffix == ".csv" else {}
    reader = made(str(tmp_path), adapter=ConversationAdapter(**named))
    before = files.stamp(reader.data_folder, name)
    # What another process does between the first look at the file and its opening.
    times = iter([before, (before[0] + 1, before[1])])
    monkeypatch.setattr(files, "stamp", lambda folder, path: next(times))
    monkeypatch.setattr(compression, "stamp", files.stamp)
    monkeypatch.setattr(parquet, "stamp", files.stamp)
    read = []
    with pytest.raises(BeingWritten, match=f"{name} was written to while it was read"):
        read.extend(reader.read_file(name))
    assert not [document for document in read if "conversation_error" in document.metadata]


def test_a_decompressor_without_memory_is_not_a_damaged_file(tmp_path, monkeypatch):
    """zstd tells of missing memory as of damage."""

    class Starved:
        eof, unused_data = False, b""

        def decompress(self, data):
            raise zstandard.ZstdError("zstd decompressor error: Allocation error : not enough memory")

    (tmp_path / "rows.jsonl.zst").write_bytes(zstandard.compress(json.dumps(ROW).encode()))
    monkeypatch.setitem(compression.FORMATS, "zstd", compression.FORMATS["zstd"]._replace(decoder=Starved))
    with pytest.raises(MemoryError):
        list(ConversationJsonlReader(str(tmp_path)).run())
