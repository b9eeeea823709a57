"""What a terminal shows of the log: warnings, errors and results, one line each. Log files have all of it.

DataTrove writes its whole log to `sys.stderr` too. The command and `Run` replace that stream, and so do their worker
processes; progress bars and all else that is printed pass through.
"""

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from traceback import walk_tb
from typing import Any, TextIO, TypeAlias, cast


Reword: TypeAlias = Callable[[str], str]

# Lines about how far a task or a training is; on a terminal there is a bar instead.
_PROGRESS = ("datatrove_quality.progress", "datatrove_quality.training.hf_trainer")
# They log an error and raise it: it is reported where it is caught.
_RAISE_WHAT_THEY_LOG = ("datatrove.executor.base", "datatrove.executor.ray")
# What DataTrove warns of where nothing is wrong: no near duplicates; more tasks than files, which `Run` says.
_NO_WARNINGS = (
    ("datatrove.pipeline.dedup.minhash", "No .remove file"),
    ("datatrove.pipeline.readers.base", "No files found on"),
)
_PACKAGE = f"{Path(__file__).resolve().parents[1]}{os.sep}"


class QuietStream:
    """A stream that leaves out log messages below warnings but for results, and shortens the others.

    A message that comes twice in a row is shown once: rows that are sampled before a run are read again by it.

    Args:
        stream: where the rest is written.
        reword: puts a message into the user's terms, such as options for parameters. None: it is shown as it is.
    """

    def __init__(self, stream: TextIO, reword: Reword | None = None):
        self.reword = reword
        self._stream = stream
        self._last = ""
        self._after_bar = False

    def write(self, text: str) -> int:
        """Write a text; loguru's messages are texts that carry their record."""
        record = getattr(text, "record", None)
        if record is None:
            return 0 if self._is_bar(text) else self._stream.write(text)
        if not self._is_shown(record):
            return 0
        line = f"{_line(record, self.reword)}\n"
        if line == self._last:
            return 0
        self._last = line
        return self._stream.write(line)

    def _is_shown(self, record: Any) -> bool:
        if record["name"] in _RAISE_WHAT_THEY_LOG and (record["exception"] or record["extra"].get("raised")):
            return False
        if any(record["name"] == module and record["message"].startswith(text) for module, text in _NO_WARNINGS):
            return False
        is_progress = record["name"] in _PROGRESS and not self._stream.isatty()
        # `shown` is bound to what a person waits for; 30 is loguru's number of WARNING.
        return is_progress or record["extra"].get("shown", False) or record["level"].no >= 30

    def _is_bar(self, text: str) -> bool:
        """Whether a text is a bar of one of DataTrove's steps, which is for terminals only, or its end."""
        after_bar, self._after_bar = self._after_bar, text.startswith("\r") and not self._stream.isatty()
        return self._after_bar or (after_bar and text == "\n")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def quiet_stderr(quiet: bool = True, reword: Reword | None = None) -> Iterator[None]:
    """Leave log messages below warnings out of `sys.stderr`.

    Args:
        quiet: whether to do so; False: nothing changes.
        reword: see `QuietStream`.
    """
    if not quiet or is_quiet():
        yield
        return
    with redirect_stderr(cast(TextIO, QuietStream(sys.stderr, reword))):
        _move_log()
        yield
    _move_log()


def _move_log() -> None:
    """Let the log that goes to the standard error go to what `sys.stderr` is now, as DataTrove does for each task."""
    if "loguru" not in sys.modules:  # its handler is made when it is imported
        return
    from loguru import logger

    numbers = re.findall(r"id=(\d+), level=\d+, sink=<stderr>", repr(logger))
    for number in numbers:
        logger.remove(int(number))
    if numbers:
        logger.add(sys.stderr)


def shorten_logged_errors(in_job: bool = False) -> None:
    """Log a task's error without its traceback where the message says it all, in log files too.

    That is a ValueError which this package raised: it names what to do. All other errors keep their tracebacks.

    Args:
        in_job: whether this process does nothing but tasks of one run, on a cluster. Else errors are shortened while
            the terminal is quiet.
    """
    from loguru import logger

    def patch(record: Any) -> None:
        if in_job or is_quiet():
            _drop_traceback(record)

    logger.configure(patcher=patch)


def _drop_traceback(record: Any) -> None:
    caught = record["exception"]
    if caught is None or record["name"] not in _RAISE_WHAT_THEY_LOG or not isinstance(caught.value, ValueError):
        return
    *_, (frame, _) = walk_tb(caught.traceback)
    if frame.f_code.co_filename.startswith(_PACKAGE):
        record["exception"] = None
        record["extra"]["raised"] = True


def is_quiet() -> bool:
    """Whether this process leaves log messages out of `sys.stderr`."""
    return isinstance(sys.stderr, QuietStream)


def rewording() -> Reword | None:
    """How this process rewords messages; its workers do the same."""
    return sys.stderr.reword if isinstance(sys.stderr, QuietStream) else None


def _line(record: Any, reword: Reword | None) -> str:
    """A message for a person: its level, unless it only informs, and its text."""
    level, message = record["level"], record["message"]
    if level.no < 30:
        return message
    return f"{level.name.lower()}: {reword(message) if reword else message}"
