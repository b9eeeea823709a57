"""Digests of files: the bytes that a model is loaded from are those that its fingerprint, or the hub, names.

A digest is a text such as "blake2b:5f1c...". Those of files that no hub names are BLAKE2b. In the hub's cache a file's
blob is named by what the hub says of its content: SHA-256 for a file in large-file storage, else git's SHA-1.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from datatrove_quality.atomic_write import write_atomic


CHUNK = 2**22
THREADS = 8
# An ETag of 64 digits is a SHA-256, one of 40 a SHA-1: git's, with a header; a mirror's may have none.
_BLOB_NAMES = {64: ("sha256",), 40: ("git-sha1", "sha1")}

# What this process has found by reading whole files.
_read_here: dict["_Stamp", set[str]] = {}


class _Stamp(NamedTuple):
    """What changes with a file's content, unless a disk fails or a machine stops before it has written all."""

    path: str
    size: int
    modified: int
    changed: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> "_Stamp":
        found = path.stat()
        return cls(str(path.resolve()), found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


class Hashed:
    """A digest that grows with what is read.

    Args:
        kind: "blake2b", "sha256", "sha1" or "git-sha1".
        size: of the whole content in bytes.
    """

    def __init__(self, kind: str, size: int):
        self.kind = kind
        self._hash = hashlib.blake2b(digest_size=16) if kind == "blake2b" else hashlib.new(kind.removeprefix("git-"))
        if kind == "git-sha1":
            self._hash.update(f"blob {size}\0".encode())

    def update(self, chunk: bytes | memoryview) -> None:
        """Take in what was read next."""
        self._hash.update(chunk)

    @property
    def digest(self) -> str:
        """Of all that was taken in."""
        return f"{self.kind}:{self._hash.hexdigest()}"


def digest(path: Path, kind: str = "blake2b") -> str:
    """A file's digest, from its bytes as they are now.

    Raises:
        OSError: the file cannot be read.
    """
    hashed = Hashed(kind, path.stat().st_size)
    with noting(path, hashed), path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK):
            hashed.update(chunk)
    return hashed.digest


@contextmanager
def noting(path: Path, hashed: Hashed) -> Iterator[None]:
    """Note a file's digest for later, when the block has read it whole and the file has not changed meanwhile."""
    stamp = _Stamp.of(path)
    yield
    if _Stamp.of(path) == stamp:
        _read_here.setdefault(stamp, set()).add(hashed.digest)


def cached_digest(path: Path) -> str:
    """A file's BLAKE2b digest; from the user's cache where the file has not changed since it was read whole."""
    stamp = _Stamp.of(path)
    cached = _cache_entry(stamp)
    with suppress(OSError, UnicodeDecodeError):
        known = cached.read_text()
        if re.fullmatch(r"[0-9a-f]{32}", known):
            return f"blake2b:{known}"
    noted = [one for one in _read_here.get(stamp, ()) if one.startswith("blake2b:")]
    found = noted[0] if noted else digest(path)
    if _Stamp.of(path) == stamp:
        # A cache that cannot be written to costs the time of the next reading.
        with suppress(OSError):
            cached.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(cached, found.partition(":")[2])
    return found


def forget(path: Path) -> None:
    """Leave out of the user's cache what it holds of a file, whose bytes turned out to be others."""
    stamp = _Stamp.of(path)
    _read_here.pop(stamp, None)
    with suppress(OSError):
        _cache_entry(stamp).unlink()


def blob_digests(path: Path) -> list[str]:
    """What the hub says of a file in its cache: the digests of which its content must have one; [] where none is told.

    Args:
        path: in a snapshot's folder: a link to a blob named by its digest, unless the file system has no links.
    """
    blob = path.resolve()
    if blob.parent.name != "blobs" or not re.fullmatch(r"[0-9a-f]+", blob.name):
        return []
    return [f"{kind}:{blob.name}" for kind in _BLOB_NAMES.get(len(blob.name), ())]


def hub_digests(folder: Path, files: Iterable[Path], told: Mapping[str, str | None]) -> dict[Path, list[str]]:
    """What the hub says of files of a commit: the digests of which each must have one; [] where none is told.

    Args:
        folder: of the commit in the hub's cache.
        files: in it.
        told: what the hub told beside the names of its blobs, see `hub.Fetched`.
    """
    also = {path: told.get(path.relative_to(folder).as_posix()) for path in files}
    return {path: blob_digests(path) or ([found] if found else []) for path, found in also.items()}


def wrong_files(expected: Mapping[Path, list[str]]) -> list[Path]:
    """The files whose bytes have none of the digests that are expected of them.

    A file that this process has read whole before, and that has not changed since, is not read again.

    Args:
        expected: digests by file; a file of which none is known passes.

    Raises:
        OSError: a file cannot be read.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        right = pool.map(_is_right, expected.keys(), expected.values())
        return [path for path, is_right in zip(expected, right, strict=True) if not is_right]


def _is_right(path: Path, digests: list[str]) -> bool:
    if not digests or not _read_here.get(_Stamp.of(path), set()).isdisjoint(digests):
        return True
    # One after the other: the second kind is only for small files.
    return any(digest(path, one.partition(":")[0]) == one for one in digests)


def stamps(paths: Iterable[Path]) -> dict[Path, tuple[int, int, int]]:
    """What must stay the same while files are read: size, time of the last change and inode of each."""
    found = ((path, _Stamp.of(path)) for path in paths)
    return {path: (stamp.size, stamp.modified, stamp.inode) for path, stamp in found}


def json_digest(value: Any, size: int = 16) -> str:
    """The BLAKE2b digest of a JSON value, of so many bytes, in hexadecimal digits."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=size).hexdigest()


def cache_folder(name: str) -> Path:
    """The user's folder for what runs remember of each other, which may not exist; local.

    Without a home folder it is one beneath which nothing can be written.
    """
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(os.devnull if root.startswith("~") else root, "datatrove-quality", name)


def _cache_entry(stamp: _Stamp) -> Path:
    return cache_folder("digests") / json_digest(list(stamp))
