"""Which files are input: their formats by their names, what is skipped, and the columns in the names of folders."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote

from datatrove.io import DataFolder, DataFolderLike, get_datafolder
from fsspec.core import url_to_fs


Format = Literal["json", "csv", "parquet"]

COMPRESSED = {
    "": None,
    ".gz": "gzip",
    ".gzip": "gzip",
    ".zst": "zstd",
    ".zstd": "zstd",
    ".bz2": "gzip",
    ".bzip2": "gzip",
    ".xz": "gzip",
}
"""Endings of compressed files, and the compression of what is written: DataTrove writes gzip and zstd only."""

JSON = (".jsonl", ".jsonlines", ".ndjson", ".json")
TABLES = (".csv", ".tsv")
PARQUET = ".parquet"

LEFTOVERS = frozenset(
    {
        *("_temporary", "_SUCCESS", "_delta_log", "_metadata", "_common_metadata", "_spark_metadata"),
        *("__MACOSX", "lost+found", "$RECYCLE.BIN"),
    }
)
"""Files and folders that programs leave among data."""

_LEFTOVER = re.compile(r"\..*|_(started|committed)_.*|.*(~|\.sw[op]|\.bak|\.orig|\.tmp)|#.*#")
"""Hidden files and folders (.ipynb_checkpoints, .Trash-1000, ...), and editors' backups."""

_UNREAD_FORM = re.compile(
    r".*\.((jsonl|jsonlines|ndjson|csv|tsv|parquet)([.-]\d[\w.-]*|\.(gz|gzip|zst|zstd|bz2|bzip2|xz|lzma|lz4|zip|7z|br|sz|"
    r"snappy|z|tar|tgz))|pq|parq)",
    re.IGNORECASE,
)
"""Names of parts (`a.jsonl.1`, `a.jsonl-00000-of-00002`) and of what is compressed otherwise (`a.jsonl.zip`)."""

_PARTITION = re.compile(r"([^=/]+)=([^=/]*)")
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class FileFormat:
    """What a file's name says about it.

    Args:
        kind: the format.
        stem: the name without the ending of its compression.
        compression: of what is written for it.
    """

    kind: Format
    stem: str
    compression: str | None


def file_format(path: str) -> FileFormat | None:
    """The format of a file by its name; None: it is not read."""
    name = path.lower()
    if name.endswith(PARQUET):
        return FileFormat("parquet", path, None)
    for ending, compression in COMPRESSED.items():
        stem = name.removesuffix(ending)
        if name.endswith(ending) and stem.endswith((*JSON, *TABLES)):
            return FileFormat("json" if stem.endswith(JSON) else "csv", path[: len(stem)], compression)
    return None


def is_unread_form(path: str) -> bool:
    """Whether a file's name says that it holds rows of a format that is read, in a form that is not."""
    return file_format(path) is None and _UNREAD_FORM.fullmatch(path) is not None


def is_plain_json(path: str) -> bool:
    """Whether a file is a `.json`: a data set, or a description of one, such as `dataset_info.json`."""
    found = file_format(path)
    return found is not None and found.stem.lower().endswith(".json")


def is_leftover(path: str) -> bool:
    """Whether a path below the input's folder is hidden, or left there by a program.

    Other names that begin with an underscore are data: `_lang=pt/` is a partition.
    """
    return any(part in LEFTOVERS or _LEFTOVER.fullmatch(part) for part in path.split("/"))


@dataclass(frozen=True)
class Selected:
    """Which of the files that were found are input.

    Args:
        files: those that are read, sorted.
        leftovers: hidden files, and those that programs left.
        links: symbolic links to files that are read already.
    """

    files: list[str]
    leftovers: list[str]
    links: list[str]

    def __str__(self) -> str:
        parts = [
            f"{len(paths)} {what} ({', '.join(paths[:3])}{', ...' if len(paths) > 3 else ''})"
            for paths, what in ((self.leftovers, "hidden or left by programs"), (self.links, "links to others"))
            if paths
        ]
        return "; ".join(parts)


def select_files(paths: Iterable[str], folder: str | None) -> Selected:
    """Chooses the input among the files that were found in a folder.

    Args:
        paths: below the folder.
        folder: the local folder; None: it is on object storage, which has no links.
    """
    found = sorted(set(paths))
    leftovers = [path for path in found if is_leftover(path)]
    kept = [path for path in found if not is_leftover(path)]
    if folder is None:
        return Selected(kept, leftovers, [])
    chosen: dict[str, str] = {}
    # A file before the links to it, so that it is read under its own name.
    for path in sorted(kept, key=lambda path: (os.path.islink(os.path.join(folder, path)), path)):
        chosen.setdefault(os.path.realpath(os.path.join(folder, path)), path)
    files = sorted(chosen.values())
    return Selected(files, leftovers, sorted(set(kept) - set(files)))


def same_data_twice(paths: Iterable[str]) -> tuple[str, str] | None:
    """Two files that differ by their compression only, such as `x.jsonl` and `x.jsonl.gz`; None: no such pair."""
    stems: dict[str, str] = {}
    for path in paths:
        found = file_format(path)
        if found is None or found.kind == "parquet":
            continue
        if found.stem in stems:
            return stems[found.stem], path
        stems[found.stem] = path
    return None


def partition_columns(path: str) -> dict[str, str | None]:
    """The columns in the names of a path's folders, as Hive has them: `lang=pt/a.parquet` has `lang`."""
    columns: dict[str, str | None] = {}
    for part in path.split("/")[:-1]:
        if match := _PARTITION.fullmatch(part):
            value = unquote(match[2])
            columns[unquote(match[1])] = None if value == _NO_VALUE else value
    return columns


def with_partitions(row: dict[str, Any], partitions: dict[str, str | None]) -> dict[str, Any]:
    """The row with the columns in the names of its folders, where it has none of the name."""
    return {**row, **{name: value for name, value in partitions.items() if name not in row}} if partitions else row


class BeingWritten(OSError):
    """A file is written to while it is read: what was half written is no verdict on its rows."""


def require_regular(path: str) -> None:
    """Refuse a local path that is neither a regular file nor a folder: opening a pipe may wait for ever.

    Raises:
        ValueError: it is such a one.
    """
    if not os.path.isfile(path) and not os.path.isdir(path) and os.path.exists(path):
        raise ValueError(f"input {path} is no regular file, but a pipe, a socket or a device: give files.")


def stamp(folder: DataFolder, path: str) -> tuple[int, int] | None:
    """Size and time of the last change of a local file; None: it is elsewhere, where files are replaced as a whole.

    Raises:
        ValueError: it is no regular file.
    """
    if not folder.is_local():
        return None
    full_path = str(folder.resolve_paths(path))
    require_regular(full_path)
    found = os.stat(full_path)
    return found.st_size, found.st_mtime_ns


def require_unwritten(folder: DataFolder, path: str, before: tuple[int, int] | None) -> None:
    """Refuse what was read of a file that has changed since its stamp.

    Raises:
        BeingWritten: it has.
    """
    if stamp(folder, path) != before:
        raise BeingWritten(
            f"{folder.resolve_paths(path)} was written to while it was read: start again when it is complete."
        )


def folder_at(path: DataFolderLike) -> DataFolder:
    """A folder by its path or address, where a relative path is one of the present working directory.

    fsspec gives back the DataFolder that it made earlier for the same text, with the directory of that time (datatrove
    0.10.1, fsspec 2026.9.0).
    """
    if not isinstance(path, str):
        return get_datafolder(path)
    filesystem, full_path = url_to_fs(path)
    return DataFolder(full_path, fs=filesystem)
