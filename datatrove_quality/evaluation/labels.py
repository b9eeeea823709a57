"""Labels as rows of data have them."""

import re
from decimal import Decimal
from typing import Any, TypeAlias

import numpy as np

from datatrove_quality.config import ScoreScale, Unscorable
from datatrove_quality.rows.types import Conversation


# What is scored, or why there is nothing to score; and the label as the data has it.
LabelledRow: TypeAlias = tuple[Conversation | str | Unscorable, Any]

_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,18}(\.0*)?")


def parse_label(value: Any, scale: ScoreScale) -> int:
    """The label in a row of data: a whole number of the scale, also written as 4.0, "4" or " 4.0 ".

    Args:
        value: what the row holds; None where it holds nothing.
        scale: the labels' scale.

    Returns:
        The label, from `scale.low` to `scale.high`.

    Raises:
        Unscorable: there is no such label; the reason is "missing_label", "invalid_label" or "label_out_of_range".
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        raise Unscorable("missing_label", "there is no label")
    number = _whole_number(value)
    if number is None:
        raise Unscorable("invalid_label", f"label {value!r:.80} is not a whole number")
    if not scale.low <= number <= scale.high:
        raise Unscorable("label_out_of_range", f"label {number} is not from {scale.low} to {scale.high}")
    return number


def _whole_number(value: Any) -> int | None:
    if isinstance(value, str):
        return int(value.strip().partition(".")[0]) if _WHOLE_NUMBER.fullmatch(value.strip()) else None
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | Decimal | np.number):
        return None
    try:
        whole = int(value)
    except (ValueError, OverflowError):  # NaN and infinity
        return None
    return whole if whole == value else None
