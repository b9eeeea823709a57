"""Columns of scored or annotated rows, read without the rest of the row: scores, token counts, labels."""

import math
from collections.abc import Iterator
from typing import Any

from inputs import Inputs

from datatrove_quality.config import Unscorable
from datatrove_quality.conversation import CONVERSATION_ERROR, Row, error_reason


def read_columns(inputs: Inputs) -> Iterator[Row]:
    """The rows of all files; what DataTrove's writers nest in a column `metadata` stands beside the other columns.

    Args:
        inputs: the files. A line that is no row gives one with `conversation_error` alone.
    """
    reader = inputs.reader(_as_metadata)
    for path in inputs.sizes:
        for document in reader.read_file(path):
            yield document.metadata


def _as_metadata(reader: Any, row: Row, path: str, id_in_file: int | str) -> dict[str, Any]:
    """The arguments of a document for the reader: it skips those without text."""
    nested = row.get("metadata")
    return {"text": "-", "id": "", "metadata": nested | row if isinstance(nested, dict) else row}


def score_of(row: Row, column: str) -> float:
    """The score in a row.

    Raises:
        Unscorable: there is none; the reason is "missing_score", "invalid_score" or that of a line that is no row.
    """
    value = row.get(column)
    if value is None:
        error = row.get(CONVERSATION_ERROR)
        reason = error_reason(error) if isinstance(error, str) else "missing_score"
        raise Unscorable(reason, f"there is no {column}")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Unscorable("invalid_score", f"{column} is {value!r:.80}, not a finite number")
    return float(value)


def tokens_of(row: Row, column: str) -> float:
    """The token count in a row; NaN where there is none."""
    value = row.get(column)
    is_count = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
    return float(value) if is_count and math.isfinite(value) else math.nan  # type: ignore[arg-type]
