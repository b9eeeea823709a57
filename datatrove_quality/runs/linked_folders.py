"""Links to folders in a local input. They are not followed, and rows behind them must not be left out in silence."""

import os
import re
from collections.abc import Iterable, Iterator

from fsspec.utils import glob_translate

from datatrove_quality.readers.files import file_format, is_leftover, is_plain_json


def require_no_linked_rows(folder: str, paths: Iterable[str], pattern: str | None = None) -> None:
    """Refuse a link to a folder with files that would be read if they were in the place of the link.

    Args:
        folder: that was searched.
        paths: what was found in it. Files that are read under another name are not left out.
        pattern: the whole path of the glob that says which files are read; None: all.

    Raises:
        ValueError: there is such a link; names it, a file behind it, and what to do.
    """
    paths = list(paths)
    has_rows = any(file_format(path) and not is_plain_json(path) for path in paths)
    read: set[str] | None = None
    for link, file in _files_behind_links(folder, _depth(folder, pattern)):
        is_input = file_format(file) and not is_leftover(os.path.relpath(file, folder))
        if not is_input or (has_rows and is_plain_json(file)):  # beside rows, .json files describe them
            continue
        if pattern is not None and not re.match(glob_translate(pattern), file):
            continue
        if read is None:
            read = {os.path.realpath(os.path.join(folder, path)) for path in paths}
        if (real := os.path.realpath(file)) not in read:
            raise ValueError(
                f"input {link} is a link to a folder, {os.path.realpath(link)}. Such links are not followed, and "
                f"{real} would be left out: put links to its files in the place of the link (cp -rs), or give the "
                "folder as the input of another run and remove the link from this one."
            )


def _depth(folder: str, pattern: str | None) -> int:
    """How many levels of folders are searched in the folder itself and below."""
    if pattern is None or "**" in pattern:
        return 1_000
    return pattern.count("/") - folder.rstrip("/").count("/") - 1


def _files_behind_links(folder: str, depth: int) -> Iterator[tuple[str, str]]:
    """Each link to a folder, with each file in what it points to, by its path through the link."""
    if depth < 1:
        return
    for entry in _entries(folder):
        if entry.is_symlink() and entry.is_dir():
            yield from ((entry.path, file) for file in _files(entry.path, depth - 1, set()))
        elif entry.is_dir():
            yield from _files_behind_links(entry.path, depth - 1)


def _files(folder: str, depth: int, seen: set[str]) -> Iterator[str]:
    """The files in a folder and below; links are followed, but to each folder once, for they may lead back."""
    real = os.path.realpath(folder)
    if depth < 0 or real in seen:
        return
    seen.add(real)
    for entry in _entries(folder):
        if entry.is_dir():
            yield from _files(entry.path, depth - 1, seen)
        elif entry.is_file():
            yield entry.path


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except PermissionError:  # a glob may meet folders of others
        return []
