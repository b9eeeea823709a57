"""Whether a script may start worker processes, which import the script again.

DataTrove's local workers are started by multiprocessing's "forkserver": each imports the script that was started, to
find what it defines. Where the script runs its pipeline without `if __name__ == "__main__":`, each worker would run it
again; multiprocessing refuses that in the worker, DataTrove starts another worker, and so on: the script hangs.
"""

import ast
import sys
from pathlib import Path
from types import FrameType

from multiprocess import process


def is_import_in_worker() -> bool:
    """Whether this process is a worker that is importing the script it was started for."""
    return bool(getattr(process.current_process(), "_inheriting", False))


def require_main_guard(workers: int) -> None:
    """Refuse to start workers from a script that would run again in each of them.

    Args:
        workers: how many processes are about to be started.

    Raises:
        ValueError: names the line of the script, and the fix.
    """
    main = sys.modules.get("__main__")
    path = getattr(main, "__file__", None)
    frame = _module_frame(getattr(main, "__dict__", {}))
    if path is None or frame is None or _is_guarded(Path(path), frame.f_lineno):
        return
    raise ValueError(
        f"workers={workers}: each worker imports {path} again, and would run line {frame.f_lineno} again. Put what "
        'the script does under `if __name__ == "__main__":`, or set workers=1.'
    )


def _module_frame(names: dict[str, object]) -> FrameType | None:
    """The frame of the script's own lines, if this is called from them."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_globals is names and frame.f_code.co_name == "<module>":
            return frame
        frame = frame.f_back
    return None


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
