"""Whether a script may start worker processes, which import the script again.

DataTrove's local workers are started by multiprocessing's "forkserver": each imports the script that was started, to
find what it defines. Where the script runs its pipeline without `if __name__ == "__main__":`, each worker would run it
again; multiprocessing refuses that in the worker, DataTrove starts another worker, and so on: the script hangs. Where
the run is in a thread, the worker survives that error. But one that is ended before it leaves behind a process that
DataTrove had started there for its queue, which keeps the script's output open: its readers wait for ever.
"""

import ast
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, cast

import multiprocess
from multiprocess import process


# As multiprocess is built for Python 3.13, the server that forks the workers would import the script as well, without
# its arguments: a script that reads them at its top would end there. Workers import it with them.
cast(Any, multiprocess).set_forkserver_preload([])

# The modules whose pools pickle tasks in a thread of their own.
POOLS = ("multiprocess.pool", "multiprocessing.pool")


def is_import_in_worker() -> bool:
    """Whether this process is a worker that is importing the script it was started for."""
    return bool(getattr(process.current_process(), "_inheriting", False))


def require_main_guard_of_pool() -> None:
    """As `require_main_guard`, where multiprocessing's pool pickles something for its workers; elsewhere nothing.

    An error that is raised meanwhile is the one way to end a pool whose workers cannot import the script.

    Raises:
        ValueError: as `require_main_guard`.
    """
    feeding = next((frame for frame in _frames(sys._getframe()) if _is_in(frame, "_handle_tasks", *POOLS)), None)
    if feeding is None:
        return
    workers = feeding.f_locals.get("pool") or []
    if not any(getattr(worker, "_start_method", None) in ("spawn", "forkserver") for worker in workers):
        return
    threads = sys._current_frames()
    if any(_is_in(frame, "run", "datatrove.executor.local") for top in threads.values() for frame in _frames(top)):
        # The run may be in a thread that the script waits for: what counts is where the script itself is.
        _require_guard(list(_frames(threads.get(threading.main_thread().ident or 0))), len(workers))


def require_main_guard(workers: int) -> None:
    """Refuse to start workers from a script that would run again in each of them.

    Args:
        workers: how many processes are about to be started.

    Raises:
        ValueError: names the line of the script, and the fix.
    """
    _require_guard(list(_frames(sys._getframe())), workers)


def _require_guard(frames: list[FrameType], workers: int) -> None:
    main = sys.modules.get("__main__")
    path = getattr(main, "__file__", None)
    names = getattr(main, "__dict__", {})
    own = (frame for frame in frames if frame.f_globals is names and frame.f_code.co_name == "<module>")
    frame = next(own, None)
    module = getattr(getattr(main, "__spec__", None), "name", "")
    if path is None or frame is None or module.endswith("__main__") or _is_guarded(Path(path), frame.f_lineno):
        return  # of a package that is run by `python -m`, workers do not import __main__
    raise ValueError(
        f"workers={workers}: each worker imports {path} again, and would run line {frame.f_lineno} again. Put what "
        'the script does under `if __name__ == "__main__":`, or set workers=1.'
    )


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    """A frame, its caller's, and so on."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_in(frame: FrameType, function: str, *modules: str) -> bool:
    return frame.f_code.co_name == function and frame.f_globals.get("__name__") in modules


def _is_guarded(path: Path, line: int) -> bool:
    """Whether a line of a script lies in an `if` that looks at `__name__`; also where the script cannot be read."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return True
    return any(
        isinstance(node, ast.If)
        and node.lineno <= line <= (node.end_lineno or node.lineno)
        and any(isinstance(part, ast.Name) and part.id == "__name__" for part in ast.walk(node.test))
        for node in ast.walk(tree)
    )
