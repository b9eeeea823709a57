"""Scores and token counts in the columns of rows."""

import math
from collections import Counter

import pytest
from samples import write_rows

from datatrove_quality.config import Unscorable
from datatrove_quality.evaluation.columns import columns_found, flat, listed, read_columns, score_in, tokens_in
from datatrove_quality.runs.inputs import find_inputs


def test_rows_of_all_files_are_read_with_nested_metadata(tmp_path):
    """A DataTrove writer nests columns under `metadata`; a row's own columns override them."""
    write_rows(tmp_path / "a.jsonl", [{"x": 1}, {"metadata": {"x": 2, "y": 3}, "y": 4}])
    write_rows(tmp_path / "b.jsonl", [{"x": 5}])
    assert [(row["x"], row.get("y")) for row in read_columns(find_inputs(str(tmp_path)))] == [
        (1, None),
        (2, 4),
        (5, None),
    ]
    assert flat({"metadata": "text", "x": 1}) == {"metadata": "text", "x": 1}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "missing_score"),
        ({"s": None}, "missing_score"),
        ({"conversation_error": "invalid_json: no"}, "invalid_json"),
        *(({"s": value}, "invalid_score") for value in ("3", True, math.nan, math.inf, [3])),
    ],
)
def test_what_is_no_score_has_a_reason(row, reason):
    """No text, truth value or NaN is taken for a score."""
    with pytest.raises(Unscorable) as error:
        score_in(row, "s")
    assert error.value.reason == reason


def test_scores_and_counts():
    """Whole numbers are scores; a count that is not one is unknown."""
    assert score_in({"s": 3}, "s") == 3.0 and score_in({"s": -0.5}, "s") == -0.5
    assert tokens_in({"t": 7}, "t") == 7
    assert all(math.isnan(tokens_in({"t": value}, "t")) for value in (None, -1, "7", math.nan))
    assert math.isnan(tokens_in({"t": 7}, None))


def test_lists_for_messages():
    """Reasons come most frequent first, columns by name."""
    assert listed(Counter({"a": 1, "b": 2_000})) == "b 2,000, a 1"
    assert columns_found({"b": 1, "a": 2}) == "the last row has the columns a, b"
