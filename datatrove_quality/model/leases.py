"""GPUs divided among the processes of a machine: each takes free ones, for as long as it lives.

Processes that divide the machine's cores (cores.py) hold the resource "cores" in common.

A lease is a locked file. The kernel unlocks it when its process ends in whatever way, so that nothing is left behind
and no process needs to know how many processes there are, which rank they run, or in what order they start.
"""

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

from loguru import logger


# The locked files of this process, by the name of a resource: a GPU, or "cores".
_held: dict[str, int] = {}


def lease(gpus: Sequence[str], most: int | None, advice: str) -> list[int]:
    """Take GPUs for this process, until it ends; a second call gives the same.

    Args:
        gpus: the identifiers of those that this process may use.
        most: how many to take at most; None: all that are free.
        advice: what to set, for the warning where none is free, so that this process shares the one with the fewest
            others.

    Returns:
        The places in `gpus` of those that are taken, at least one.
    """
    folder = lease_folder()
    with _undisturbed(folder):
        others = {gpu: _holders(gpu, folder) for gpu in gpus if gpu not in _held}
        free = [gpu for gpu, processes in others.items() if not processes]
        mine = [gpu for gpu in gpus if gpu in _held]
        taken = (mine + free)[:most]
        if not taken:
            taken = [min(others, key=lambda gpu: len(others[gpu]))]
            sharing = ", ".join(str(process) for process in others[taken[0]])
            logger.warning(
                f"None of the {len(gpus)} GPUs that this process may use is free: it shares GPU {taken[0]} with "
                f"process {sharing}. {advice}"
            )
        for gpu in taken:
            _hold(gpu, folder)
    return sorted(gpus.index(gpu) for gpu in taken)


def register(resources: Sequence[str]) -> None:
    """Record what this process uses, such as GPUs from a scheduler, even if others do too, so that others know."""
    folder = lease_folder()
    with _undisturbed(folder):
        for resource in resources:
            _hold(resource, folder)


def release(resource: str) -> None:
    """Give back what this process has leased or registered; does nothing where it has not."""
    file = _held.pop(resource, None)
    if file is not None:
        os.close(file)


def holders(resource: str) -> list[int]:
    """The ids of the processes that have a resource now, this one included."""
    folder = lease_folder()
    with _undisturbed(folder):
        return _holders(resource, folder)


def lease_folder() -> Path:
    """This user's folder of leases. In /tmp even where TMPDIR says otherwise, for that may differ between processes.

    Raises:
        ValueError: another user has made a folder of that name, or it is a link, which may lead anywhere.
    """
    root = Path("/tmp") if os.access("/tmp", os.W_OK) else Path(tempfile.gettempdir())
    folder = root / f"datatrove-quality-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
        raise ValueError(
            f"{folder} belongs to another user or is no folder, so GPUs cannot be divided there: have it removed."
        )
    return folder


def _hold(resource: str, folder: Path) -> None:
    """Lock the first unlocked file of a resource."""
    if resource in _held:
        return
    for number in count():
        file = _try_lock(folder / f"{resource}.{number}")
        if file is not None:
            os.truncate(file, 0)
            os.write(file, str(os.getpid()).encode())
            _held[resource] = file
            return


def _holders(resource: str, folder: Path) -> list[int]:
    found = []
    for path in sorted(folder.glob(f"{resource}.*")):
        file = _try_lock(path)
        if file is None:
            found.append(int(path.read_text() or 0))
        else:
            os.close(file)
    return found


def _try_lock(path: Path) -> int | None:
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


@contextlib.contextmanager
def _undisturbed(folder: Path) -> Iterator[None]:
    """One process at a time looks and takes."""
    file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _forget() -> None:
    """In a forked child: the leases are the parent's, and must not outlive it here."""
    for file in _held.values():
        os.close(file)
    _held.clear()


os.register_at_fork(after_in_child=_forget)
