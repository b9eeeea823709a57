"""A node's own copy of a model's files, so that many tasks on it read the weights from the network once."""

import fcntl
import hashlib
import json
import os
import shutil
import time
from pathlib import Path

from loguru import logger

from datatrove_quality.atomic_write import atomic_file


# Names the folder on the node's own disk; set, and every process reads its weights from there.
STAGE_VARIABLE = "DATATROVE_QUALITY_STAGE"

# Bytes that are copied at once.
CHUNK = 2**22

# What a classifier is made of; weights in other formats are never read.
MODEL_FILES = (".safetensors", ".json", ".jinja", ".model", ".txt", ".py")


def stage_folder() -> Path | None:
    """The folder for copies that the environment names."""
    named = os.environ.get(STAGE_VARIABLE)
    return Path(named) if named else None


def staged(folder: Path) -> Path:
    """The copy of a model's folder, made by the first process that asks while the others of its node wait.

    A copy has its name when it is whole: a process that is killed meanwhile leaves only what the next one deletes. One
    that has lost files since, to a cleaner of temporary folders, is made again. A disk that is full or cannot be
    written to costs a warning, and the model is read from where it lies.

    Args:
        folder: the model's.

    Returns:
        The copy's folder; the model's own where no folder for copies is named.
    """
    root = stage_folder()
    if root is None:
        return folder
    files = [path for path in sorted(folder.iterdir()) if path.suffix in MODEL_FILES and path.is_file()]
    copy = root / f"{folder.name}-{_digest(files)}"
    if _is_whole(copy, files):
        return copy
    try:
        root.mkdir(parents=True, exist_ok=True)
        with copy.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed, or the process ends
            if not _is_whole(copy, files):
                if copy.is_dir():
                    shutil.rmtree(copy)
                _copy(files, copy)
    except OSError as error:
        logger.warning(f"The model's files cannot be copied to {root}: {error}. Reading them from {folder}.")
        return folder
    return copy


def _is_whole(copy: Path, files: list[Path]) -> bool:
    copied = ((copy / path.name, path) for path in files)
    return copy.is_dir() and all(
        own.is_file() and own.stat().st_size == original.stat().st_size for own, original in copied
    )


def _copy(files: list[Path], target: Path) -> None:
    started = time.perf_counter()
    unfinished = target.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        for path in files:
            # Each file is on the disk before the folder gets its name: no name without its bytes after a crash.
            with path.open("rb") as original, atomic_file(unfinished / path.name) as own:
                shutil.copyfileobj(original, own, CHUNK)
    except OSError:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    unfinished.rename(target)
    gigabytes = sum(path.stat().st_size for path in files) / 1e9
    logger.info(f"Copied {gigabytes:.1f} GB of model to {target} in {time.perf_counter() - started:.1f} s")


def _digest(files: list[Path]) -> str:
    """Of what tells other files, or later ones of the same names, from these."""
    stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.blake2b(json.dumps(stats).encode(), digest_size=8).hexdigest()
