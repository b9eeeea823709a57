"""Labels as people write them."""

from decimal import Decimal

import numpy as np
import pytest

from datatrove_quality import ScoreScale
from datatrove_quality.config import Unscorable
from datatrove_quality.evaluation import parse_label
from datatrove_quality.evaluation.labels import label_in, parse_real_label


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


@pytest.mark.parametrize("value", [4.25, "4.25", " 4.25 ", np.float32(4.25), Decimal("4.25")])
def test_a_real_label_is_the_number_itself(value):
    """Means of several annotations, and a score of which a smaller model learns."""
    assert parse_real_label(value, ScoreScale()) == 4.25
    assert parse_real_label(0.51, ScoreScale()) == 0.51  # its nearest level is 1


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "missing_label"),
        *((value, "invalid_label") for value in (float("nan"), Decimal("sNaN"), True, [4], "4,5", "nan", 1j, 10**400)),
        *((value, "label_out_of_range") for value in (0.5, 5.5, "87.5", 10**40)),
    ],
)
def test_what_is_no_real_label_has_a_reason(value, reason):
    """A number far from every level is a label of another scale."""
    with pytest.raises(Unscorable) as error:
        parse_real_label(value, ScoreScale())
    assert error.value.reason == reason


def test_the_error_beside_a_label_overrides_it():
    """A judge's or a classifier's row that failed is counted by that, not as one that lost its label."""
    assert label_in({"judge_score": 4.5, "judge_error": None}, "judge_score") == 4.5
    assert label_in({"human": 4, "human_error": "of typing"}, "human") == 4
    for column in ("judge_score", "judge_level"):
        with pytest.raises(Unscorable) as error:
            label_in({column: None, "judge_error": "timeout: no answer"}, column)
        assert error.value.reason == "judge_error"
    with pytest.raises(Unscorable, match="no answer"):
        parse_real_label(Unscorable("judge_error", "no answer"), ScoreScale())
