"""Which files are input: none twice, none that a program left, and none silently left out."""

import os
from pathlib import Path
from typing import Any

import pytest

from datatrove_quality.readers.csv import ConversationCsvReader
from datatrove_quality.readers.files import (
    file_format,
    folder_at,
    is_leftover,
    is_unread_form,
    partition_columns,
    same_data_twice,
    select_files,
)
from datatrove_quality.readers.jsonl import ConversationJsonlReader
from datatrove_quality.readers.parquet import ConversationParquetReader


@pytest.mark.parametrize(
    ("name", "kind", "compression"),
    [
        *(("a.jsonl", "json", None), ("a.JSONL", "json", None), ("a.json", "json", None), ("a.ndjson", "json", None)),
        *(("a.json.gz", "json", "gzip"), ("a.jsonl.zst", "json", "zstd"), ("a.jsonl.bz2", "json", "gzip")),
        *(("a.json.xz", "json", "gzip"), ("a.csv", "csv", None), ("a.tsv.gz", "csv", "gzip")),
        *(("a.jsonlines", "json", None), ("a.jsonl.GZIP", "json", "gzip"), ("a.tsv.zstd", "csv", "zstd")),
        *(("a.parquet", "parquet", None), ("b/c.d.jsonl", "json", None)),
    ],
)
def test_formats(name: str, kind: str, compression: str | None) -> None:
    """The name says what is read, and how what is written is compressed."""
    found = file_format(name)
    assert found is not None and (found.kind, found.compression) == (kind, compression)


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl.tmp2", "jsonl", "a.gz", "a.parquet.gz", ".json.zip"])
def test_no_formats(name: str) -> None:
    """Files of other names are not read."""
    assert file_format(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "a.jsonl.1",
        "b/a.jsonl-00000-of-00002",
        "a.JSONL.2026-11-29",
        "a.csv.zip",
        "a.jsonl.lz4",
        "a.parquet.gz",
        "a.pq",
    ],
)
def test_unread_forms(name: str) -> None:
    """Rows that are left out if a reader does not know the name."""
    assert is_unread_form(name)


@pytest.mark.parametrize(
    "name",
    [
        *("a.jsonl", "a.jsonl.gz", "a.jsonl.md5", "a.jsonl.sha256", "a.parquet.crc", "a.jsonl.idx", "a.jsonl.lock"),
        *("a.jsonl.part", "jsonl.1", "a.txt", "README.md", "a.jsonl/b.txt", "a.json.1", "a.jl"),
    ],
)
def test_files_that_go_with_rows_or_are_read(name: str) -> None:
    """Sums, indexes and locks are not rows; nor is what a download has not finished."""
    assert not is_unread_form(name)


@pytest.mark.parametrize(
    "path",
    [
        *(".a.jsonl", ".ipynb_checkpoints/a-checkpoint.jsonl", "x/.Trash-1000/files/a.jsonl", "_temporary/0/a.jsonl"),
        *("_SUCCESS", "_delta_log/00000.json", "_metadata", "_started_123", "_committed_123", "a.jsonl~"),
        *(".a.jsonl.swp", "a.jsonl.bak", "#a.jsonl#", "__MACOSX/a.jsonl"),
    ],
)
def test_leftovers(path: str) -> None:
    """Files that programs leave among data are not read."""
    assert is_leftover(path)


@pytest.mark.parametrize("path", ["_lang=pt/a.jsonl", "_a.jsonl", "a/_b/c.parquet", "a~b/c.jsonl", "tmp/a.jsonl"])
def test_data_with_odd_names(path: str) -> None:
    """Other names that begin with an underscore are data."""
    assert not is_leftover(path)


def test_each_file_once(tmp_path: Path) -> None:
    """A link to a file that is there already is not read again; one to a file elsewhere is."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "b.jsonl").touch()
    (tmp_path / "elsewhere.jsonl").touch()
    (tmp_path / "in" / "a.jsonl").symlink_to(tmp_path / "in" / "b.jsonl")
    (tmp_path / "in" / "c.jsonl").symlink_to(tmp_path / "elsewhere.jsonl")
    (tmp_path / "in" / "d.jsonl").symlink_to(tmp_path / "elsewhere.jsonl")
    (tmp_path / "in" / ".e.jsonl").touch()
    selected = select_files(["a.jsonl", "b.jsonl", "c.jsonl", "d.jsonl", ".e.jsonl"], str(tmp_path / "in"))
    assert selected.files == ["b.jsonl", "c.jsonl"]
    assert (selected.leftovers, selected.links) == ([".e.jsonl"], ["a.jsonl", "d.jsonl"])
    assert str(selected) == "1 hidden or left by programs (.e.jsonl); 2 links to others (a.jsonl, d.jsonl)"
    assert select_files(["a.jsonl", ".b"], None).files == ["a.jsonl"]


def test_the_same_data_twice() -> None:
    """A file and its compressed copy are the same rows."""
    assert same_data_twice(["a/x.jsonl", "a/x.jsonl.gz"]) == ("a/x.jsonl", "a/x.jsonl.gz")
    assert same_data_twice(["x.json.zst", "y.json", "x.json"]) == ("x.json.zst", "x.json")
    assert same_data_twice(["a/x.jsonl", "b/x.jsonl.gz", "x.parquet"]) is None


def test_partitions() -> None:
    """Folders of a partitioned table name columns."""
    assert partition_columns("lang=pt/src=a%20b/x.parquet") == {"lang": "pt", "src": "a b"}
    assert partition_columns("_lang=__HIVE_DEFAULT_PARTITION__/x.jsonl") == {"_lang": None}
    assert partition_columns("a/b=c.jsonl") == {}


def test_a_relative_folder_is_one_of_the_present_directory(tmp_path, monkeypatch):
    """fsspec keeps folders by the text of their paths: the first directory's would be given back."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert folder_at("in").path == str(tmp_path / name / "in")


@pytest.mark.parametrize(
    ("reader", "name"),
    [
        (ConversationJsonlReader, "b.jsonl"),
        (ConversationCsvReader, "b.csv"),
        (ConversationParquetReader, "b.parquet"),
    ],
)
def test_a_reader_refuses_a_pipe(tmp_path: Path, reader: Any, name: str) -> None:
    """Opening it would wait for a writer for ever."""
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=f"{name} is no regular file"):
        list(reader(str(tmp_path)).run())
