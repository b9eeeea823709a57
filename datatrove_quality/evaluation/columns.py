"""Columns of scored or labelled rows: scores, token counts, and what an error says where they are missing."""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

from datatrove_quality.config import Unscorable
from datatrove_quality.rows.score_columns import is_decided_by_proxy, is_score
from datatrove_quality.rows.types import Row, conversation_error
from datatrove_quality.runs.inputs import Inputs


def read_columns(inputs: Inputs) -> Iterator[Row]:
    """Read the rows of all files, with what DataTrove's writers nest under `metadata` beside the other columns.

    Args:
        inputs: the files.

    Yields:
        The rows. A line that is not a row gives one with `conversation_error` alone.
    """
    reader = inputs.reader(_as_metadata)
    for path in inputs.sizes:
        for document in reader.read_file(path):
            yield document.metadata


def _as_metadata(reader: Any, row: Row, path: str, id_in_file: int | str) -> dict[str, Any]:
    """The arguments of a document, for the reader; it would skip a document without text."""
    return {"text": "-", "id": "", "metadata": flat(row)}


def flat(row: Row) -> Row:
    """A row whose nested `metadata`, if any, is merged into it; its own columns override nested ones."""
    nested = row.get("metadata")
    return nested | row if isinstance(nested, dict) else row


def score_in(row: Row, column: str) -> float:
    """The score in a row.

    Raises:
        Unscorable: no score; the reason is "missing_score", "invalid_score" or that of a line that is not a row.
    """
    value = row.get(column)
    if is_decided_by_proxy(row, column):
        raise Unscorable("scored_by_proxy", "a cascade's proxy decided it")
    if value is None:
        error = conversation_error(row)
        raise Unscorable("missing_score" if error is None else error.reason, f"there is no {column}")
    if not is_score(value):
        raise Unscorable("invalid_score", f"{column} holds a {type(value).__name__} that is not a finite number")
    return float(value)


def tokens_in(row: Row, column: str | None) -> float:
    """The token count in a row; NaN if it is missing."""
    value: Any = None if column is None else row.get(column)
    return float(value) if is_score(value) and value >= 0 else math.nan


def require_no_cascade(decided: int, rows: int) -> None:
    """Refuse rows of which a cascade's proxy has decided some.

    Args:
        decided: how many of the rows whose scores count.
        rows: how many there are.

    Raises:
        ValueError: there are some.
    """
    if decided:
        raise ValueError(
            f"A cascade's proxy decided {decided:,} of {rows:,} rows, which have no score, and the others are those "
            "near its threshold: no figure of them is that of the corpus. Score a sample without a cascade."
        )


def listed(reasons: Counter[str]) -> str:
    """Reasons with their counts, most frequent first."""
    return ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common())


def columns_found(row: Row) -> str:
    """The columns of the last row that was read, for an error about a column that is missing."""
    names = sorted(str(name) for name in row if name != "file_path")  # which DataTrove's readers add
    return f"the last row has the columns {', '.join(names)}"
