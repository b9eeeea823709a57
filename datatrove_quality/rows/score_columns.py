"""The score columns: their names and types, and the scores that a document carries in them already."""

import math
import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from numbers import Real
from typing import Any, NamedTuple, cast

from datatrove_quality.config import Unscorable
from datatrove_quality.rows.types import CONVERSATION_ERROR


def require_prefix(prefix: str) -> None:
    """Refuse a prefix that names no columns, or whose error column would be the one that readers use.

    Raises:
        ValueError: the prefix is not usable.
    """
    if not isinstance(prefix, str) or not prefix or f"{prefix}_error" == CONVERSATION_ERROR:
        raise ValueError(f"prefix={prefix!r} cannot name score columns: give another word, such as 'quality'.")


def require_bounds(min_score: object, max_score: object) -> None:
    """Refuse bounds of scores that are no numbers, or keep nothing.

    Raises:
        ValueError: they are such; names the field, the value and the fix.
    """
    bounds = {"min_score": min_score, "max_score": max_score}
    for name, bound in bounds.items():
        is_number = isinstance(bound, int | float) and not isinstance(bound, bool) and not math.isnan(bound)
        if bound is not None and not is_number:
            raise ValueError(f"{name}={bound!r}: give a number, or None for no bound.")
    low, high = (bound for bound in bounds.values() if isinstance(bound, int | float) or bound is None)
    if low is not None and high is not None and low > high:
        raise ValueError(f"min_score={low} is above max_score={high}: nothing could be kept.")
    if low == math.inf or high == -math.inf:
        raise ValueError(
            f"min_score={low}, max_score={high}: nothing could be kept; give a number, or None for no bound."
        )


# How a QualityFilter's `filter_reason` begins; that of another step stays on a kept document.
OWN_REASONS = ("below_min_score", "above_max_score", "unscorable_")
# What `{prefix}_scored_by` holds where a cascade's proxy has decided a document.
PROXY = "proxy"


def cascade_types(prefix: str) -> dict[str, str]:
    """The columns that a QualityFilter with a cascade has beside the others, and their Arrow types."""
    return {f"{prefix}_proxy_score": "float64", f"{prefix}_scored_by": "string"}


@lru_cache
def step_columns(prefix: str, with_cascade: bool) -> tuple[str, ...]:
    """The columns that a QualityFilter writes, with or without those of a cascade; for each document again."""
    return (*score_types(prefix), *(cascade_types(prefix) if with_cascade else ()))


@lru_cache
def score_columns(prefix: str) -> tuple[str, str, str, str]:
    """The columns of a document that has a score: the score, its whole number, tokens, whether the text was cut."""
    return f"{prefix}_score", f"{prefix}_int_score", f"{prefix}_tokens", f"{prefix}_truncated"


def score_types(prefix: str) -> dict[str, str]:
    """The columns of a QualityFilter and their Arrow types."""
    return {
        f"{prefix}_score": "float64",
        f"{prefix}_int_score": "int64",
        f"{prefix}_tokens": "int64",
        f"{prefix}_truncated": "bool",
        f"{prefix}_error": "string",
    }


def answer_types(prefix: str) -> dict[str, str]:
    """The columns in which each answer of a row has its place, and the Arrow types of their items."""
    return {
        f"{prefix}_scores": "float64",
        f"{prefix}_int_scores": "int64",
        f"{prefix}_token_counts": "int64",
        f"{prefix}_truncations": "bool",
        f"{prefix}_errors": "string",
    }


def answer_values(metadata: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The lists of all answers, by column; {}: they are not there; one such column alone may be the source's own."""
    names = answer_types(prefix)
    return {name: metadata[name] for name in names} if all(name in metadata for name in names) else {}


def clean_name(label: str) -> str:
    """A classifier's label as a part of a column's name: letters, digits and underscores; -2 becomes minus_2."""
    label = re.sub(r"^\s*[-\u2212](?=[\d.])", "minus_", label)
    return re.sub(r"\W+", "_", label).strip("_").lower()


def output_values(metadata: dict[str, Any], prefix: str) -> dict[str, Any]:
    """What each output of a classifier with several said of a document, by column."""
    probabilities = f"{prefix}_probability_"
    found = {name: value for name, value in metadata.items() if name.startswith((f"{prefix}_score_", probabilities))}
    # Without probabilities beside it, a label is a column of the source's.
    label = f"{prefix}_label"
    has_label = label in metadata and any(name.startswith(probabilities) for name in found)
    return found | ({label: metadata[label]} if has_label else {})


def score_column(metadata: dict[str, Any], prefix: str, score_of: str | None) -> str:
    """The column of a document's score.

    Args:
        metadata: the document's.
        prefix: what the names of the score columns begin with.
        score_of: an output of a classifier with several, by its label or name. None: the one that was the score.
    """
    if score_of is None:
        return f"{prefix}_score"
    probability = f"{prefix}_probability_{clean_name(score_of)}"
    return probability if probability in metadata else f"{prefix}_score_{clean_name(score_of)}"


class RecordedScore(NamedTuple):
    """A score that was there before; the values beside it may be missing.

    Args:
        score: a finite number.
        int_score: see `Score`. None: not recorded.
        tokens: see `Score`. None: not recorded.
        truncated: see `Score`. False where it is not recorded.
    """

    score: float
    int_score: int | None
    tokens: int | None
    truncated: bool


def is_decided_by_proxy(row: Mapping[str, Any], column: str) -> bool:
    """Whether a row has no score because a cascade's proxy has decided it.

    Args:
        row: the row.
        column: of the score or its level: `{prefix}_score`, `{prefix}_int_score`.
    """
    prefix = column.removesuffix("_score").removesuffix("_int")
    return row.get(f"{prefix}_scored_by") == PROXY and not is_score(row.get(column))  # null; NaN where pandas wrote it


def recorded_score(
    metadata: dict[str, Any], prefix: str, score_of: str | None = None
) -> RecordedScore | Unscorable | None:
    """What an earlier run found out about a document.

    Args:
        metadata: the document's.
        prefix: what the names of the score columns begin with.
        score_of: see `score_column`.

    Returns:
        Its score; why it has none, if that was recorded or the score is no finite number; None: nothing is recorded.
    """
    column = score_column(metadata, prefix, score_of)
    score = metadata.get(column)
    if metadata.get(f"{prefix}_scored_by") == PROXY and not is_score(score):  # null; NaN where pandas wrote the row
        return Unscorable("scored_by_proxy", "a cascade's proxy decided it, and the classifier has not scored it")
    if score is None:
        return Unscorable.from_text(metadata.get(f"{prefix}_error"))
    if not is_score(score):
        return Unscorable("invalid_score", f"{column} is {_printable(score)}, not a finite number")
    int_score, tokens = metadata.get(f"{prefix}_int_score"), metadata.get(f"{prefix}_tokens")
    return RecordedScore(
        score if type(score) is float else float(score),
        int_score if type(int_score) is int and score_of is None else None,  # which is of one output
        tokens if type(tokens) is int else None,
        metadata.get(f"{prefix}_truncated") is True,
    )


def is_score(value: object) -> bool:
    """Whether a value is a number that a float can hold: not NaN, not infinite, not a truth value."""
    if type(value) is not float and (not isinstance(value, Real) or isinstance(value, bool)):
        return False
    return abs(cast(float, value)) <= sys.float_info.max


def _printable(value: object) -> str:
    try:
        return f"{value!r:.80}"
    except MemoryError:
        raise
    except Exception:  # such as an integer of more than 4,300 digits
        return f"a {type(value).__name__}"
