"""What a pipeline reads: the files behind a path, a glob or an address, and the reader and writers that fit them."""

import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import islice
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from datatrove.data import Document
from datatrove.io import DataFolder
from datatrove.pipeline.readers.base import BaseDiskReader
from datatrove.pipeline.writers.disk_base import DiskWriter
from fsspec.core import has_magic, url_to_fs
from fsspec.implementations.local import LocalFileSystem
from loguru import logger

from datatrove_quality.readers.compression import decompressed_blocks
from datatrove_quality.readers.csv import ConversationCsvReader
from datatrove_quality.readers.files import (
    JSON,
    PARQUET,
    TABLES,
    Format,
    file_format,
    folder_at,
    is_plain_json,
    is_unread_form,
    partition_columns,
    require_regular,
    same_data_twice,
    select_files,
)
from datatrove_quality.readers.json_text import looks_like_rows
from datatrove_quality.readers.jsonl import ConversationJsonlReader
from datatrove_quality.readers.parquet import ConversationParquetReader
from datatrove_quality.rows.to_document import NAME_COLUMNS, ConversationAdapter
from datatrove_quality.rows.types import conversation_error
from datatrove_quality.runs.linked_folders import require_no_linked_rows
from datatrove_quality.runs.named_columns import require_named_columns
from datatrove_quality.runs.outputs import WholeJsonlWriter, WholeParquetWriter, whole_files
from datatrove_quality.runs.parquet_schemas import common_schema
from datatrove_quality.runs.run_record import LOGS, RECORD, ROW_FOLDERS, UNFINISHED


if TYPE_CHECKING:
    import pyarrow as pa


# In a run's folder, the list of the files that all its tasks read, one path per line.
PATHS = "logs/inputs.txt"
# DataTrove reads it by lines, without the spaces around them.
_UNLISTABLE = re.compile(r"^\s|[\r\n\ud800-\udfff]")
# A task costs some files and a copy of the pipeline; more files than this share tasks.
MAX_TASKS = 1_000
Codec: TypeAlias = Literal["snappy", "gzip", "brotli", "lz4", "zstd"]
ENDINGS = (*JSON, *TABLES, PARQUET)


READERS = {"json": ConversationJsonlReader, "csv": ConversationCsvReader, "parquet": ConversationParquetReader}


@dataclass(frozen=True)
class Inputs:
    """The files that a run reads, all of one format.

    Args:
        folder: where they lie.
        sizes: bytes of each file by its path in the folder, sorted by path.
        kind: the format.
        compression: of the JSONL files that are written for them; None where compressions are mixed.
        searched: whether the folder was searched to any depth, so that a later search finds what is added anywhere.
    """

    folder: DataFolder
    sizes: dict[str, int]
    kind: Format
    compression: str | None
    searched: bool

    @property
    def is_parquet(self) -> bool:
        """Whether the files are Parquet; else JSONL is written."""
        return self.kind == "parquet"

    def reader(self, adapter: Callable, paths_file: str | None = None, limit: int = -1) -> BaseDiskReader:
        """A DataTrove reader of these files that loses no row.

        Args:
            adapter: makes a document of a row.
            paths_file: a file with one path per line; tells every task the same list.
            limit: the most documents per task; -1: all.

        Raises:
            ValueError: tables in CSV are to be read, and no column of theirs is named.
        """
        if self.kind == "csv":
            require_names_for_csv(adapter, next(iter(self.sizes)))
        return READERS[self.kind](self.folder, paths_file=paths_file, adapter=adapter, limit=limit)

    def write_paths(self, output: DataFolder) -> None:
        """Write `PATHS`, at once: a task that starts in that moment must not take half a list for the whole.

        Args:
            output: the run's folder.
        """
        unfinished = DataFolder(path_in(output, UNFINISHED), fs=output.fs)
        with whole_files(output, unfinished) as folder, folder.open(PATHS, "w") as file:
            file.writelines(f"{path}\n" for path in self.sizes)

    def writer(self, output: DataFolder, name: str, adapter: Callable, schema: "pa.Schema | None") -> DiskWriter:
        """A DataTrove writer in the format and compression of these files.

        Args:
            output: the run's folder.
            name: of the folder in it to write to.
            adapter: makes a row of a document.
            schema: the columns, for Parquet.
        """
        folders = (path_in(output, name), path_in(output, f"{UNFINISHED}/{name}"))
        if self.is_parquet:
            compression = self._parquet_compression()
            return WholeParquetWriter(*folders, adapter=adapter, schema=schema, compression=compression)
        if self.kind == "csv" or any(map(is_plain_json, self.sizes)):
            _say_jsonl(path_in(self.folder, next(iter(self.sizes))))
        return WholeJsonlWriter(*folders, adapter=adapter, compression=self.compression)

    def parquet_schema(self) -> "pa.Schema":
        """The columns of all files together, read from their footers, with the first one's metadata.

        Raises:
            ValueError: a footer cannot be read, or two files disagree about a column.
        """
        import pyarrow as pa

        schemas = [schema for schema, _ in self._footers]
        try:
            schema = common_schema(schemas)
        except pa.ArrowException as error:
            raise ValueError(
                f"The Parquet files in {self.folder.path} disagree about a column: {error}. Filter those that agree "
                "together, by a glob, or rewrite the others."
            ) from error
        for name in dict.fromkeys(name for path in self.sizes for name in partition_columns(path)):
            schema = schema if name in schema.names else schema.append(pa.field(name, pa.string()))
        return schema

    def schema_metadata(self, key: str) -> list[str | None]:
        """What each Parquet file's schema metadata holds under a key, in the files' order."""
        found = [(schema.metadata or {}).get(key.encode()) for schema, _ in self._footers]
        return [None if value is None else value.decode() for value in found]

    def documents_per_task(self, tasks: int, limit: int) -> list[int] | None:
        """How many documents each task reads, as far as the files tell without being read: Parquet's do.

        Args:
            tasks: among which the files are dealt out.
            limit: the most documents per task; -1: all.
        """
        if not self.is_parquet:
            return None
        rows = [count for _, count in self._footers]
        totals = [sum(rows[task::tasks]) for task in range(tasks)]
        return totals if limit == -1 else [min(total, limit) for total in totals]

    @cached_property
    def _footers(self) -> "list[tuple[pa.Schema, int]]":
        """The schema and the number of rows of each file."""
        with ThreadPoolExecutor(16) as pool:
            return list(pool.map(self._read_footer, self.sizes))

    def sample(self, adapter: Callable, count: int) -> list[Document]:
        """The first documents of the first file that has any; what the readers warn of is left to who reads all."""
        reader = self.reader(adapter)
        found = (list(islice(reader.read_file(path), count)) for path in self.sizes)
        logger.disable("datatrove_quality.readers")
        try:
            return next(filter(None, found), [])
        finally:
            logger.enable("datatrove_quality.readers")

    def tasks(self, wanted: int | None) -> int:
        """Into how many parts the files are divided.

        Args:
            wanted: how many the user wants; None: a task per file, up to `MAX_TASKS`.
        """
        files = len(self.sizes)
        if wanted and wanted > files:
            logger.warning(f"tasks={wanted}: a task reads whole files, and there are {files}: the rest do nothing.")
        return wanted or min(files, MAX_TASKS)

    def _read_footer(self, path: str) -> "tuple[pa.Schema, int]":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with self.folder.open(path, "rb") as file:
                parquet = pq.ParquetFile(file)  # which knows extension types, as the reader does
                return parquet.schema_arrow, parquet.metadata.num_rows
        except pa.ArrowException as error:
            raise ValueError(f"{path_in(self.folder, path)} is no whole Parquet file: {error}") from error

    def _parquet_compression(self) -> "Codec | None":
        import pyarrow.parquet as pq

        with self.folder.open(next(iter(self.sizes)), "rb") as file:
            footer = pq.ParquetFile(file).metadata
        if not footer.num_row_groups or not footer.num_columns:
            return "snappy"
        codec = footer.row_group(0).column(0).compression.lower()
        return cast("Codec | None", {"uncompressed": None, "lz4_raw": "lz4"}.get(codec, codec))


@cache
def _say_jsonl(path: str) -> None:
    """Say it once per process."""
    logger.warning(f"{path} and its like: rows are written as JSON lines, in .jsonl files.")


def path_in(folder: DataFolder, name: str) -> str:
    """The whole path or address of something in a folder."""
    return str(folder.resolve_paths(name))


def find_inputs(source: str) -> Inputs:
    """The files that a path, a glob or an address matches.

    Args:
        source: a folder (searched to any depth), a file, or a glob; local, or any address that DataTrove takes.

    Raises:
        ValueError: there is no such file, the files are of two formats, or one has a name that no list can hold.
    """
    if not source.strip():
        raise ValueError("input='': give a folder, a file or a glob; '.' is the present folder.")
    folder, paths, searched = _matching(source)
    is_file = not searched and len(paths) == 1 and source.endswith(paths[0])
    if left := [path for path in paths if f"/{UNFINISHED}/" in f"/{path}"]:
        logger.warning(f"{len(left)} files in {UNFINISHED} are NOT read: killed tasks left them and start again.")
        paths = sorted(set(paths) - set(left))
    if not paths:
        as_pattern = " (a [ in a folder's name is written [[] in a glob)" if has_magic(source) else ""
        raise ValueError(f"input {source}: there is no file{as_pattern}.")
    if folder.isfile(RECORD):  # written by a run of ours: its logs are not rows
        paths = [path for path in paths if not path.startswith("logs/")]
    if not is_file:
        selected = select_files(paths, str(folder.path) if folder.is_local() else None)
        paths = selected.files
        if skipped := str(selected):
            logger.warning(f"Not read: {skipped}. Files that are given by their own path are read.")
    formats = {path: file_format(path) for path in paths}
    known = sorted(path for path, found in formats.items() if found)
    _require_readable(folder, paths, known)
    others = sorted(path for path, found in formats.items() if not found)
    if any(not is_plain_json(path) for path in known):  # else they are the data; beside data they describe it
        descriptions = [path for path in known if is_plain_json(path)]
        _require_no_rows_in(source, folder, descriptions)
        others += descriptions
        known = [path for path in known if not is_plain_json(path)]
    if not known:
        raise ValueError(
            f"input {source}: no file here ends in {', '.join(ENDINGS)} (the first ones may be compressed: .gz, .zst, "
            f".bz2, .xz); {len(others)} others were found."
        )
    _require_no_unread_rows(source, others)
    if others:
        logger.warning(
            f"{len(others)} files are NOT read, for their names end in none of {', '.join(ENDINGS)}, or they are "
            f".json files beside files of another ending: {others[:5]} (a glob says otherwise)"
        )
    _require_usable_names(source, known)
    found = [found for path in known if (found := formats[path])]
    kinds = {one.kind for one in found}
    if len(kinds) > 1:
        raise ValueError(
            f"input {source} holds files of several formats ({', '.join(sorted(kinds))}); filter them apart, with a "
            "glob for each."
        )
    compressions = {one.compression for one in found}
    with ThreadPoolExecutor(16) as pool:
        sizes = dict(zip(known, pool.map(folder.size, known), strict=True))
    compression = compressions.pop() if len(compressions) == 1 else None
    return Inputs(folder, sizes, kinds.pop(), compression, searched)


def _require_no_unread_rows(source: str, others: Iterable[str]) -> None:
    """Refuse files beside those that are read whose names say that they hold rows, too, in a form that is not read."""
    if unread := next(filter(is_unread_form, others), None):
        raise ValueError(
            f"input {source} holds {unread}, which seems to be a file of rows in a form that is not read: it would be "
            f"left out beside the others. Rename it to end in one of {', '.join(ENDINGS)}, convert it, or give a glob "
            "that does not match it."
        )


def _require_no_rows_in(source: str, folder: DataFolder, paths: list[str]) -> None:
    """Refuse `.json` files that hold rows, where they would be left out as descriptions of the others."""
    reader = ConversationJsonlReader(folder)
    for path in paths:
        first = next(decompressed_blocks(reader, path), b"")
        if isinstance(first, bytes) and looks_like_rows(first):
            raise ValueError(
                f"input {source} holds {path}, a file of rows, beside files of another ending, where .json files are "
                "not read, for they mostly describe the others: give a glob that matches what is to be read, or "
                "rename or move it."
            )


def _require_usable_names(source: str, paths: list[str]) -> None:
    """Refuse files that seem to hold the same rows, or whose names no list of files can hold."""
    if twice := same_data_twice(paths):
        raise ValueError(
            f"input {source} holds {twice[0]} and {twice[1]}, which seem to be the same rows: give a glob that "
            "matches one of them, or remove one."
        )
    if unlisted := [path for path in paths if _UNLISTABLE.search(path)]:
        raise ValueError(
            f"input {source}: the name {unlisted[0]!r} begins with a space, or holds a line break or bytes that are "
            f"not UTF-8, so that {PATHS} cannot list it: rename it."
        )


def _require_readable(folder: DataFolder, paths: Iterable[str], known: Iterable[str]) -> None:
    """Refuse links to what is not there, and what is no regular file.

    Args:
        folder: in which they are.
        paths: all; a broken link may stand for a folder of data, whatever its name is.
        known: those that would be read.
    """
    if folder.is_local():
        _require_no_broken_links(path_in(folder, name) for name in paths)
        for name in known:
            require_regular(path_in(folder, name))


def _require_no_broken_links(paths: Iterable[str]) -> None:
    for path in paths:
        if os.path.islink(path) and not os.path.exists(path):
            raise ValueError(
                f"input {path} is a link to {os.readlink(path)}, which is not there: remove or mend it, or give a "
                "glob that does not match it."
            )


def _require_no_broken_folders(pattern: str) -> None:
    """Refuse a path or glob through a link to a folder that is not there: what is behind it would be left out."""
    parts = pattern.split("/")
    any_depth = next((place for place, part in enumerate(parts) if "**" in part), None)
    for count in range(2, len(parts) if any_depth is None else any_depth + 1):
        _require_no_broken_links(glob.iglob("/".join(parts[:count])))
    if any_depth is not None:  # where glob would follow links, also those that lead back
        for folder in glob.iglob("/".join(parts[:any_depth]) or "/"):
            for at, folders, files in os.walk(folder):
                _require_no_broken_links(os.path.join(at, name) for name in (*folders, *files))


def require_names_for_csv(adapter: Callable, path: str) -> None:
    """Refuse a table of texts of which no column is named: in CSV, a list of messages is a text as any other.

    Raises:
        ValueError: the adapter goes by the names of columns.
    """
    if isinstance(adapter, ConversationAdapter) and not (adapter.prompt_key or adapter.messages_key):
        raise ValueError(
            f"input {path} is a table of texts: name its columns with prompt_key= and answer_key= of "
            "ConversationAdapter; plain text is scored with TextAdapter and messages_key=None."
        )


def require_no_overlap(inputs: Inputs, output: DataFolder, folders: Iterable[str] = ROW_FOLDERS) -> None:
    """Refuse an output folder that the next run would read, or an input that this run would overwrite.

    Args:
        inputs: the files.
        output: the run's folder.
        folders: those in it to which rows are written.

    Raises:
        ValueError: they overlap.
    """
    source, target = (_real_path(folder) for folder in (inputs.folder, output))
    if source == target or (inputs.searched and target.startswith(source)):
        raise ValueError(f"output={target!r} is or lies in the input folder {source}: give a folder outside of it.")
    written = tuple(f"{target}{name}/" for name in (*LOGS, *folders))
    files = (path_in(inputs.folder, path) for path in inputs.sizes)
    if any((os.path.realpath(file) if inputs.folder.is_local() else file).startswith(written) for file in files):
        raise ValueError(f"input {source} is the output of a run into {target}: give another output.")


def require_scorable(inputs: Inputs, adapter: Callable) -> None:
    """Refuse a corpus in whose first thousand rows no column holds what is to be scored, or one that is named lacks.

    Raises:
        ValueError: it is one.
    """
    require_named_columns(inputs, adapter)
    errors = [conversation_error(doc.metadata) for doc in inputs.sample(adapter, 1_000)]
    reasons = Counter(None if error is None else error.reason for error in errors)
    # Beside them a corpus may have lines that nothing could read.
    if None not in reasons and reasons and reasons.most_common(1)[0][0] == "missing_column":
        first = next(error for error in errors if error is not None and error.reason == "missing_column")
        raise ValueError(
            f"None of the first {len(errors)} rows can be scored. missing_column: {first}. {NAME_COLUMNS}"
        )


def _real_path(folder: DataFolder) -> str:
    """A folder's path or address with a slash at its end, and without symbolic links."""
    path = path_in(folder, "")
    return (os.path.realpath(path) if folder.is_local() else path).rstrip("/") + "/"


def _matching(source: str) -> tuple[DataFolder, list[str], bool]:
    filesystem, path = url_to_fs(source)
    if filesystem.isfile(path):
        parent, _, name = path.rpartition("/")
        return DataFolder(parent or "/", fs=filesystem), [name], False
    is_local = isinstance(filesystem, LocalFileSystem)
    if filesystem.isdir(path):
        folder = DataFolder(path, fs=filesystem)
        paths = folder.list_files()
        if is_local:
            require_no_linked_rows(str(folder.path), paths)
        return folder, paths, True
    if is_local:
        _require_no_broken_folders(path)
    if not has_magic(source):
        parent, _, name = path.rpartition("/")
        _require_readable(DataFolder(parent or "/", fs=filesystem), [name], [name])
        raise ValueError(f"input {source}: there is no such file or folder.")
    plain = source[: min(source.find(sign) for sign in "*?[" if sign in source)]
    parent, _, _ = plain.rpartition("/")
    folder = folder_at(parent or ("/" if source.startswith("/") else "."))
    paths = folder.list_files(glob_pattern=source[len(parent) :].lstrip("/"))
    if is_local:
        require_no_linked_rows(str(folder.path), paths, path)
    return folder, paths, "**" in source
