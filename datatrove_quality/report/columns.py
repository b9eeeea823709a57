"""The columns of scored rows that a report reads, and their values as numbers and text."""

import math
from dataclasses import dataclass
from typing import Any

from datatrove_quality.rows.column_values import MAX_VALUE_CHARS, value_text
from datatrove_quality.rows.score_columns import PROXY, is_score


# Where conversations and texts are found; other columns, such as embeddings, are not read.
TEXT_COLUMNS = (
    *("messages", "conversations", "conversation", "text", "system", "instruction", "input", "output"),
    *("prompt", "response", "completion", "answer", "chosen"),
)


@dataclass(frozen=True)
class Columns:
    """The names of the columns to read.

    Args:
        prefix: of the score columns.
        group: to group by; None: rows are not grouped.
        id: of the document.
        messages: of the conversation or text, if it has another name than the usual ones.
    """

    prefix: str
    group: str | None = None
    id: str = "id"
    messages: str | None = None

    @property
    def score(self) -> str:
        return f"{self.prefix}_score"

    @property
    def scorer(self) -> str:
        return f"{self.prefix}_scorer"

    @property
    def tokens(self) -> str:
        return f"{self.prefix}_tokens"

    @property
    def truncated(self) -> str:
        return f"{self.prefix}_truncated"

    @property
    def error(self) -> str:
        return f"{self.prefix}_error"

    @property
    def proxy_score(self) -> str:
        return f"{self.prefix}_proxy_score"

    @property
    def scored_by(self) -> str:
        return f"{self.prefix}_scored_by"

    def to_show(self) -> list[str]:
        """The columns of a row that is shown."""
        scores = (self.score, self.tokens, self.truncated, self.error)
        names = (self.id, *scores, self.group, self.messages, *TEXT_COLUMNS)
        return list(dict.fromkeys(name for name in names if name))


class WrongColumn(ValueError):
    """A column whose type does not fit its use: an error of the user's, not of the file."""


def score_names(names: Any) -> list[str]:
    """The names of columns of scores and errors, of any prefix."""
    return [name for name in names if isinstance(name, str) and name.endswith(("_score", "_error"))]


def as_number(value: Any) -> float | None:
    """A value of a row as a finite number; None if it is not one."""
    return float(value) if is_score(value) else None


def as_value(value: Any) -> str:
    """A value to group by, as text of limited length."""
    text = value_text(value)
    return text if len(text) <= MAX_VALUE_CHARS else text[: MAX_VALUE_CHARS - 1] + "…"


def error_of(error: Any, score: Any) -> str:
    """Why a row has no score that can be read, as `"<reason>: <message>"`.

    Args:
        error: in the row's column of errors.
        score: in the row's column of scores.
    """
    if isinstance(error, str) and error:
        return error
    return "missing_score: no score and no error" if score is None else f"invalid_score: {score!r:.100}"


def deciding_score(error: Any, score: Any, scored_by: Any, proxy_score: Any) -> float | None:
    """The proxy's score of a row that a cascade's proxy has decided; NaN where it cannot be read; None: of others.

    Args:
        error: in the row's column of errors.
        score: in the row's column of scores.
        scored_by: in the row's column of what decided it.
        proxy_score: in the row's column of the proxy's scores.
    """
    if scored_by != PROXY or is_score(score) or (isinstance(error, str) and error):
        return None
    return or_nan(as_number(proxy_score))


def or_nan(number: float | None) -> float:
    """A number; NaN for None."""
    return math.nan if number is None else number
