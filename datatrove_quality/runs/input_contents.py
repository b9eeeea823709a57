"""What the input files hold when a run starts, so that a run is never continued on other files of the same names.

A file's size, and its ETag where an object store gives one, else the time of its last change and a digest: of the
whole file, or of evenly spaced blocks where the files together are larger than `MAX_DIGESTED`. Times change when
files on a scratch file system are touched: then the digest decides.
"""

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from datatrove.io import DataFolder
from loguru import logger


# Bytes of all files together that are read for their digests; about a second on a core.
MAX_DIGESTED = 2**30
BLOCK = 2**18
THREADS = 16


def input_contents(folder: DataFolder, sizes: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """What tells each file from any other of its name and size; JSON values.

    Args:
        folder: of the files.
        sizes: bytes of each file by its path in the folder.
    """
    total = sum(sizes.values())
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(lambda path: _content(folder, path, sizes[path], total), sizes)
        return dict(zip(sizes, found, strict=True))


def require_unchanged(
    folder: DataFolder, sizes: Mapping[str, int], recorded: Mapping[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Refuse to continue a run whose input files hold something else now.

    Args:
        folder: of the files.
        sizes: bytes of each file by its path in the folder; those that the run recorded.
        recorded: what `input_contents` gave when the run started.

    Returns:
        As `recorded`, with the times that touched files have now.

    Raises:
        ValueError: names the files.
    """
    total = sum(sizes.values())

    def content_now(path: str) -> dict[str, Any] | None:
        before = recorded[path]
        now = _tag(folder, path)
        if "etag" in before or "etag" in now:
            return before if now.get("etag") == before.get("etag") else None
        if now == {"modified": before.get("modified")}:
            return before
        if folder.size(path) != sizes[path]:
            return None
        content = _content(folder, path, sizes[path], total)
        if content["digest"] == before.get("digest") and content["digested"] < sizes[path]:
            logger.warning(
                f"{folder.resolve_paths(path)} was touched since the run started. Its size and "
                f"{content['digested']:,} of its bytes are the same; the others were not compared."
            )
        return content if content["digest"] == before.get("digest") else None

    known = [path for path in sizes if path in recorded]
    with ThreadPoolExecutor(THREADS) as pool:
        found = dict(zip(known, pool.map(content_now, known), strict=True))
    if changed := [path for path in known if found[path] is None]:
        shown = ", ".join(str(folder.resolve_paths(path)) for path in changed[:3])
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise ValueError(
            f"{shown}{more}: the content has changed since this run started, and rows of both would mix. "
            "Give another output folder, or overwrite=True (--overwrite)."
        )
    return {path: content for path, content in found.items() if content is not None}


def _content(folder: DataFolder, path: str, size: int, total: int) -> dict[str, Any]:
    tag = _tag(folder, path)
    if "etag" in tag:
        return tag
    places = _places(size, total)
    hashed = hashlib.blake2b(digest_size=16)
    digested = 0
    with folder.open(path, "rb", compression=None) as file:
        for place in places:
            file.seek(place)
            block = file.read(BLOCK)
            hashed.update(block)
            digested += len(block)
    return tag | {"digest": hashed.hexdigest(), "digested": digested}


def _places(size: int, total: int) -> list[int]:
    """Where the blocks begin that are read: all of them, or this file's share of `MAX_DIGESTED`, evenly spaced."""
    blocks = -(-size // BLOCK)
    share = blocks if total <= MAX_DIGESTED else max(4, int(blocks * MAX_DIGESTED / total))
    if share >= blocks:
        return [index * BLOCK for index in range(blocks)]
    last = max(0, size - BLOCK)
    return [last * index // (share - 1) for index in range(share)]


def _tag(folder: DataFolder, path: str) -> dict[str, Any]:
    """What the file system tells of a file's content beside its size."""
    if folder.is_local():
        return {"modified": os.stat(str(folder.resolve_paths(path))).st_mtime_ns}
    info = folder.info(path)
    if etag := info.get("ETag") or info.get("etag"):
        return {"etag": str(etag).strip('"')}
    modified = info.get("mtime") or info.get("LastModified") or info.get("last_modified") or info.get("updated")
    return {"modified": modified if isinstance(modified, int | float) else str(modified)}
