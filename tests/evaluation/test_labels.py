"""Labels as people write them."""

from decimal import Decimal

import numpy as np
import pytest

from datatrove_quality import ScoreScale
from datatrove_quality.config import Unscorable
from datatrove_quality.evaluation import parse_label


@pytest.mark.parametrize("value", [4, 4.0, "4", " 4 ", "4.0", "+4", np.int64(4), np.float32(4), Decimal(4)])
def test_a_label_is_read_in_any_usual_form(value):
    """Labels come as integers, floats and text."""
    assert parse_label(value, ScoreScale()) == 4


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "missing_label"),
        ("", "missing_label"),
        *((value, "invalid_label") for value in (4.5, float("nan"), float("inf"), Decimal("sNaN"), True, [4])),
        *((value, "invalid_label") for value in ("four", "4.5", "1_0", "４", "9" * 5_000)),
        (0, "label_out_of_range"),
        ("6", "label_out_of_range"),
        (10**40, "label_out_of_range"),
    ],
)
def test_what_is_no_label_has_a_reason(value, reason):
    """Nothing that is no level of the scale is taken for one."""
    with pytest.raises(Unscorable) as error:
        parse_label(value, ScoreScale())
    assert error.value.reason == reason
