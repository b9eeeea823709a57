"""Labels as rows of data have them."""

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, TypeAlias

import numpy as np

from datatrove_quality.config import ScoreScale, Unscorable
from datatrove_quality.rows.score_columns import is_decided_by_proxy
from datatrove_quality.rows.types import Conversation


# What is scored, or why there is nothing to score; and the label as the data has it, or an Unscorable.
LabelledRow: TypeAlias = tuple[Conversation | str | Unscorable, Any]

_MADE_BY_MODELS = re.compile(r"(.+?)_(level|score|int_score)")
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]*)?")


def parse_label(value: Any, scale: ScoreScale) -> int:
    """The label in a row of data: a whole number of the scale, also written as 4.0, "4" or " 4.0 ".

    Args:
        value: what the row holds; None where it holds nothing. An Unscorable, which says why, is raised.
        scale: the labels' scale.

    Returns:
        The label, from `scale.low` to `scale.high`.

    Raises:
        Unscorable: there is no such label; the reason is "missing_label", "invalid_label" or "label_out_of_range".
    """
    _require_present(value)
    number = _number(value)
    if number is None or not number.is_integer():
        raise Unscorable("invalid_label", f"label {value!r:.80} is not a whole number")
    if not scale.low <= number <= scale.high:
        raise Unscorable("label_out_of_range", f"label {int(number)} is not from {scale.low} to {scale.high}")
    return int(number)


def parse_real_label(value: Any, scale: ScoreScale) -> float:
    """The label in a row of data as the number that it is: also 4.33, or "4.33", the mean of several annotations.

    Args:
        value: what the row holds; None where it holds nothing.
        scale: the labels' scale.

    Returns:
        The label. Its nearest level is from `scale.low` to `scale.high`.

    Raises:
        Unscorable: as `parse_label`.
    """
    _require_present(value)
    number = _number(value)
    if number is None:
        raise Unscorable("invalid_label", f"label {value!r:.80} is not a number")
    if not scale.low <= round(number) <= scale.high:
        raise Unscorable("label_out_of_range", f"label {number} is not from {scale.low} to {scale.high}")
    return number


def label_in(row: Mapping[str, Any], column: str) -> Any:
    """The label in a row, as the row has it.

    Args:
        row: the row.
        column: of labels. Those of a judge or a classifier, such as `judge_score`, have `judge_error` beside them.

    Raises:
        Unscorable: that says why the row has no label; the reason is the name of the column of errors that says so,
            or "scored_by_proxy".
    """
    if made := _MADE_BY_MODELS.fullmatch(column):
        error = f"{made[1]}_error"
        if isinstance(text := row.get(error), str) and text:
            raise Unscorable(error, text)
        if is_decided_by_proxy(row, column):
            raise Unscorable("scored_by_proxy", "a cascade's proxy decided it")
    return row.get(column)


def _require_present(value: Any) -> None:
    if value is None or (isinstance(value, str) and not value.strip()):
        raise Unscorable("missing_label", "there is no label")
    if isinstance(value, Unscorable):
        raise value


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        return float(value) if _NUMBER.fullmatch(value.strip()) else None
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | Decimal | np.number):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError, TypeError):  # a signalling NaN, a number beyond all, a complex one
        return None
    return number if math.isfinite(number) else None
