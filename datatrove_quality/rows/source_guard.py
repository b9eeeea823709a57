"""A corpus of several sources of which one is read wrongly must not look like a finished job without that source."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from loguru import logger

from datatrove_quality.rows.column_values import MAX_VALUE_CHARS


# A source whose first rows are all unscorable is read wrongly.
ROWS_BEFORE_GIVING_UP = 1_000
# Of fewer rows nothing is said at a task's end.
FEW_ROWS = 50
# A column of more values names no sources.
MAX_SOURCES = 10_000


class SourceGuard:
    """Counts the rows of each source that cannot be scored, until one can.

    Args:
        columns: whose values name the source of a row, such as "source".
    """

    def __init__(self, columns: Iterable[str]):
        self._columns = list(columns)
        self._rows = 0
        # By column and value: why the rows so far could not be scored; None: one could.
        self._sources: dict[tuple[str, str], Counter[str] | None] = {}

    def note(self, metadata: dict[str, Any], reason: str | None) -> None:
        """Take in what became of a row.

        Args:
            metadata: of its document.
            reason: why it cannot be scored; None: it can.

        Raises:
            ValueError: none of the first 1,000 rows of its source can.
        """
        self._rows += 1
        for column in self._columns:
            value = metadata.get(column)
            if value is not None:
                self._note((column, str(value)[:MAX_VALUE_CHARS]), reason)

    def _note(self, source: tuple[str, str], reason: str | None) -> None:
        reasons = self._sources.setdefault(source, Counter())
        if reasons is None:
            return
        if reason is None:
            self._sources[source] = None
        else:
            reasons[reason] += 1
            if reasons.total() >= ROWS_BEFORE_GIVING_UP:
                raise ValueError(_message(source, reasons, "first "))
        if len(self._sources) > MAX_SOURCES:
            self._forget(source[0])

    def _forget(self, column: str) -> None:
        self._columns.remove(column)
        self._sources = {source: found for source, found in self._sources.items() if source[0] != column}
        logger.warning(
            f"group_by={column!r} has more than {MAX_SOURCES:,} values and names no sources: it is no longer checked "
            "whether all rows of one of them are unscorable."
        )

    def close(self) -> None:
        """Name the columns that no row had and the sources of which no row could be scored, at the end of a task."""
        for column in self._columns if self._rows >= FEW_ROWS else ():
            if not any(source[0] == column for source in self._sources):
                logger.warning(f"group_by={column!r}: no row of a task has this column.")
        for source, reasons in self._sources.items():
            if reasons is not None and reasons.total() >= FEW_ROWS:
                logger.error(_message(source, reasons))


def _message(source: tuple[str, str], reasons: Counter[str], which: str = "") -> str:
    column, value = source
    ((reason, count),) = reasons.most_common(1)
    return (
        f"None of the task's {which}{reasons.total():,} rows with {column}={value!r} can be scored, {count:,} of them "
        f"because of {reason}: they are read wrongly, or hold no conversations. Look at them with `datatrove-quality "
        "inspect`; name their columns (messages_key=, or prompt_key= and answer_key=), or filter them apart."
    )


def checked_columns(columns: str | Iterable[str]) -> list[str]:
    """The columns of a `group_by` argument.

    Raises:
        ValueError: it is no name, and no list of names.
    """
    is_listed = isinstance(columns, Iterable) and not isinstance(columns, str)
    found: list[Any] = list(columns) if is_listed else [columns]
    if not all(isinstance(column, str) and column for column in found):
        raise ValueError(f"group_by={columns!r:.80}: give a metadata column, or a list of such.")
    return found
