"""Labels as rows of data have them."""

import re
from decimal import Decimal
from typing import Any

import numpy as np

from datatrove_quality.config import ScoreScale, Unscorable


WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,18}(\.0*)?")


def parse_label(value: Any, scale: ScoreScale) -> int:
    """A label as it stands in a row of data: a whole number of the scale, also as 4.0, "4" or " 4.0 ".

    Args:
        value: what the row holds; None where it holds nothing.
        scale: the labels' scale.

    Returns:
        The label, from `scale.low` to `scale.high`.

    Raises:
        Unscorable: it is none; the reason is "missing_label", "invalid_label" or "label_out_of_range".
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        raise Unscorable("missing_label", "there is no label")
    number = _whole_number(value)
    if number is None:
        raise Unscorable("invalid_label", f"label {value!r:.80} is no whole number")
    if not scale.low <= number <= scale.high:
        raise Unscorable("label_out_of_range", f"label {number} is not from {scale.low} to {scale.high}")
    return number


def _whole_number(value: Any) -> int | None:
    if isinstance(value, str):
        return int(value.strip().partition(".")[0]) if WHOLE_NUMBER.fullmatch(value.strip()) else None
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | Decimal | np.number):
        return None
    try:
        whole = int(value)
    except (ValueError, OverflowError):  # NaN and infinity
        return None
    return whole if whole == value else None
