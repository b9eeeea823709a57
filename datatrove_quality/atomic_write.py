"""Local files that appear whole: written under a temporary name, on the disk, and only then renamed.

A process that is killed, or a disk that is full, leaves the earlier file or none, never a part of one. Published rows,
which may lie on any fsspec file system, have writers of their own: `runs.outputs`.
"""

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file that gets its name when the block ends, in place of any earlier file; after an error it does not.

    Args:
        path: of the file, in a folder that exists. The temporary file lies beside it: `.NAME.RANDOM.tmp`.

    Raises:
        OSError: the file cannot be written.
    """
    folder, name = os.path.split(os.fspath(path))
    temporary = os.path.join(folder, f".{name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # some file systems rename before the bytes are on the disk
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def write_atomic(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a file whole: text as UTF-8 with the line ends that it has, or bytes.

    Args:
        path: of the file, in a folder that exists.
        content: of the file.

    Raises:
        OSError: the file cannot be written; an earlier one is unchanged.
    """
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_json(path: str | os.PathLike[str], value: Any, indent: int | None = 2) -> None:
    """Write a JSON file whole, with a line end.

    Args:
        path: of the file, in a folder that exists.
        value: JSON values only; NaN and infinity are refused, which other readers of JSON would refuse.
        indent: spaces per level; None: all on one line.

    Raises:
        OSError: the file cannot be written; an earlier one is unchanged.
        TypeError: the value has no form in JSON; an earlier file is unchanged.
        ValueError: the value holds NaN or infinity; likewise.
    """
    write_atomic(path, json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n")
