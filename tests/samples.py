"""Rows with conversations, their files in the format that a name says, and documents with conversations."""

import gzip
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from datatrove.data import Document
from tiny_models import conversations


ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")


def write_rows(path: Path, rows: Iterable[Any], **options: Any) -> Path:
    """Write rows as JSONL, compressed or not, or as Parquet; makes the folder.

    Args:
        path: of the file; its ending is the format.
        rows: of JSONL, bytes are written as they are, to be a broken line.
        options: of `pyarrow.parquet.write_table`.

    Returns:
        The path.
    """
    assert path.name.lower().endswith(ENDINGS), path
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path, **options)
        return path
    data = b"".join(row if isinstance(row, bytes) else orjson.dumps(row) + b"\n" for row in rows)
    compress = {".gz": gzip.compress, ".zst": zstandard.compress}.get(path.suffix, bytes)
    path.write_bytes(compress(data))
    return path


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, or of all files in a folder and its folders, sorted by path; a missing folder has none."""
    paths = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.name.lower().endswith(ENDINGS))
    return [row for one in paths for row in _rows_of(one)]


def _rows_of(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    elif path.suffix == ".zst":
        data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return [orjson.loads(line) for line in data.splitlines()]


def rows_by_id(output: Path) -> dict[str, dict[str, Any]]:
    """The rows that a run wrote into `kept` and `excluded`, by id, each with its `folder`.

    Raises:
        SystemExit: a row is there twice.
    """
    found: dict[str, dict[str, Any]] = {}
    for folder in ("kept", "excluded"):
        for row in read_rows(output / folder):
            if row["id"] in found:
                raise SystemExit(f"FAILED: row {row['id']} was written twice")
            found[row["id"]] = row | {"folder": folder}
    return found


def documents(count: int, seed: int = 0, **metadata: Any) -> list[Document]:
    """Documents with short random conversations, as an adapter gives them; `metadata` is added to each."""
    made = conversations(count, seed, longest=20)
    return [
        Document(text="texto", id=f"doc-{index}", metadata={"messages": messages} | metadata)
        for index, messages in enumerate(made)
    ]


def turns(question: str, answer: str) -> list[dict[str, str]]:
    """A conversation of two messages."""
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def dialogue(*contents: str, system: str | None = None) -> list[dict[str, str]]:
    """A conversation in which user and assistant say these in turn."""
    said = [{"role": ("user", "assistant")[n % 2], "content": content} for n, content in enumerate(contents)]
    return said if system is None else [{"role": "system", "content": system}, *said]


def rows(count: int, name: str = "a") -> list[dict[str, Any]]:
    """Rows with a conversation each, and columns that DataTrove has uses of its own for."""
    return [
        {"id": f"{name}-{i}", "messages": turns(f"Pergunta {i} de {name}", f"Resposta {i * 7}."), "rank": i, "n": None}
        for i in range(count)
    ]


def words(seed: int, count: int = 40) -> str:
    """A text that resembles no other."""
    choose = random.Random(seed)
    letters = "abcdefghilmnoprstuv"
    return " ".join("".join(choose.choices(letters, k=choose.randint(3, 8))) for _ in range(count)) + "."


def without_scores(row: dict[str, Any]) -> dict[str, Any]:
    """A row without the columns that a run has added."""
    return {key: value for key, value in row.items() if not key.startswith("quality_") and key != "filter_reason"}
