"""Folders in a local input that are not searched: behind links, and without access. No row is left out in silence."""

import os
import re
from collections.abc import Iterable, Iterator

from fsspec.utils import glob_translate

from datatrove_quality.readers.files import file_format, is_leftover, is_plain_json


def require_no_linked_rows(folder: str, paths: Iterable[str], pattern: str | None = None) -> None:
    """Refuse a link to a folder with files that would be read if they were in the place of the link.

    Of a folder of which all is read, refuse also parts that cannot be listed; a glob may meet folders of others.

    Args:
        folder: that was searched.
        paths: what was found in it. Files that are read under another name are not left out.
        pattern: the whole path of the glob that says which files are read; None: all.

    Raises:
        ValueError: there is such a link, or such a part; names it, and what to do.
    """
    paths = list(paths)
    has_rows = any(file_format(path) and not is_plain_json(path) for path in paths)
    read: set[str] | None = None
    for link, file in _files_behind_links(folder, _depth(folder, pattern), pattern is None):
        if not file_format(file) or (has_rows and is_plain_json(file)):  # beside rows, .json files describe them
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


def _files_behind_links(folder: str, depth: int, all_read: bool) -> Iterator[tuple[str, str]]:
    """Each link to a folder, with each file in what it points to, by its path through the link."""
    if depth < 1:
        return
    for entry in _entries(folder, all_read):
        if entry.is_symlink() and os.path.isdir(entry):
            yield from ((entry.path, file) for file in _files(entry.path, depth - 1, all_read, set()))
        elif entry.is_dir(follow_symlinks=False):
            yield from _files_behind_links(entry.path, depth - 1, all_read)


def _files(folder: str, depth: int, all_read: bool, seen: set[str]) -> Iterator[str]:
    """The files in a folder and below; links are followed, but to each folder once, for they may lead back."""
    real = os.path.realpath(folder)
    if depth < 0 or real in seen:
        return
    seen.add(real)
    for entry in _entries(folder, all_read):
        if os.path.isdir(entry):
            yield from _files(entry.path, depth - 1, all_read, seen)
        elif os.path.isfile(entry):
            yield entry.path


def _entries(folder: str, all_read: bool) -> list[os.DirEntry[str]]:
    """What is in a folder, without hidden files and leftovers."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not is_leftover(entry.name)), key=lambda entry: entry.name)
    except PermissionError as error:
        if not all_read:
            return []
        raise ValueError(
            f"input {folder} cannot be listed ({error.strerror}), and files in it would be left out: get access to "
            "it, or give a glob that does not lead through it."
        ) from error
