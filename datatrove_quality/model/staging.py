"""A node's own copy of a model's files, so that many tasks on it read the weights from the network once."""

import fcntl
import hashlib
import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from loguru import logger

from datatrove_quality.atomic_write import atomic_file, write_json
from datatrove_quality.model.digests import CHUNK, Hashed, blob_digests, cached_digest, digest, noting, wrong_files
from datatrove_quality.model.weights import model_files


# Names the folder on the node's own disk; set, and every process reads its weights from there.
STAGE_VARIABLE = "DATATROVE_QUALITY_STAGE"

# In a copy: the digest of each file, from the bytes that were read where the model lies.
DIGESTS = ".digests"


def stage_folder() -> Path | None:
    """The folder for copies that the environment names."""
    named = os.environ.get(STAGE_VARIABLE)
    return Path(named) if named else None


def staged(folder: Path) -> Path:
    """The copy of a model's folder, made by the first process that asks while the others of its node wait.

    A copy has its name when it is whole and on the disk: a process that is killed meanwhile leaves only what the next
    one deletes. One that has lost files since, to a cleaner of temporary folders, is made again, and so is one whose
    bytes are not those that were copied. A disk that is full, cannot be written to or returns other bytes costs a
    warning, and the model is read from where it lies.

    Args:
        folder: the model's.

    Returns:
        The copy's folder; the model's own where no folder for copies is named.

    Raises:
        ValueError: a file in the hub's cache is not what the hub says.
    """
    root = stage_folder()
    if root is None:
        return folder
    copy = root / f"{folder.name}-{_name_digest(model_files(folder))}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        _make(copy, folder)
        if not (damaged := _damaged(copy)):
            return copy
        logger.warning(f"The model's copy {copy} is damaged ({', '.join(damaged)}): copying again.")
        _make(copy, folder, damaged)
        if not (damaged := _damaged(copy)):
            return copy
        why: object = f"{', '.join(damaged)} came back with other bytes than were written"
    except OSError as error:
        why = error
    logger.warning(f"The model's files cannot be copied to {root}: {why}. Reading them from {folder}.")
    return folder


def copied_digests(copy: Path) -> dict[str, str]:
    """The digests of the files that were copied, by their path in the folder; {} where the copy does not say."""
    try:
        return dict(json.loads((copy / DIGESTS).read_bytes()))
    except (FileNotFoundError, ValueError):
        return {}


def _make(copy: Path, folder: Path, damaged: list[str] | None = None) -> None:
    """Copy the folder, unless a whole copy is there; one whose damage was seen is replaced, unless another did so."""
    files = model_files(folder)
    if not damaged and _is_whole(copy, folder, files):
        return
    with copy.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed, or the process ends
        if _is_whole(copy, folder, files) and not (damaged and _damaged(copy)):
            return
        if copy.is_dir():
            shutil.rmtree(copy)
        _copy(files, folder, copy)


def _is_whole(copy: Path, folder: Path, files: list[Path]) -> bool:
    names = copied_digests(copy).keys()
    copied = ((copy / path.relative_to(folder), path) for path in files)
    return names == {str(path.relative_to(folder)) for path in files} and all(
        own.is_file() and own.stat().st_size == original.stat().st_size for own, original in copied
    )


def _damaged(copy: Path) -> list[str]:
    """The files of a copy whose bytes are not those that were copied; reads all of them, as loading is about to."""
    found = wrong_files({copy / name: [one] for name, one in copied_digests(copy).items()})
    return [str(path.relative_to(copy)) for path in found]


def _copy(files: list[Path], folder: Path, target: Path) -> None:
    started = time.perf_counter()
    unfinished = target.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        digests = {}
        for path in files:
            name = path.relative_to(folder)
            (unfinished / name).parent.mkdir(parents=True, exist_ok=True)
            digests[str(name)] = _copy_file(path, unfinished / name)
        write_json(unfinished / DIGESTS, digests)
        _sync_folder(unfinished)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    unfinished.rename(target)
    _sync_folder(target.parent)
    gigabytes = sum(path.stat().st_size for path in files) / 1e9
    logger.info(f"Copied {gigabytes:.1f} GB of model to {target} in {time.perf_counter() - started:.1f} s")


def _copy_file(path: Path, own: Path) -> str:
    """Copy one file, on the disk when this returns; gives the digest of what was read, computed while writing."""
    named = blob_digests(path)
    hashed = Hashed(named[0].partition(":")[0] if named else "blake2b", path.stat().st_size)
    with (
        noting(path, hashed),
        path.open("rb", buffering=0) as original,
        atomic_file(own) as file,
        ThreadPoolExecutor(1) as pool,
    ):
        while chunk := original.read(CHUNK):
            taken = pool.submit(hashed.update, chunk)
            file.write(chunk)
            taken.result()
    if not named:
        # What was found on the way is kept for the fingerprint, which needs no second reading then.
        return cached_digest(path)
    if hashed.digest in named:
        return hashed.digest
    for other in named[1:]:
        if digest(path, other.partition(":")[0]) == other:
            return other
    raise ValueError(
        f"{path.resolve()} is not what the hub says: its {hashed.kind} is {hashed.digest.partition(':')[2]}. Delete "
        "that file and fetch the model again."
    )


def _sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _name_digest(files: list[Path]) -> str:
    """Of what tells other files, or later ones of the same names, from these."""
    stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.blake2b(json.dumps(stats).encode(), digest_size=8).hexdigest()
