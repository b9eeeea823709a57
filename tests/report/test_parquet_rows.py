"""Scored rows of Parquet files: values that are no scores, and damage."""

import math

from scored_rows_samples import make, scored, write


def test_values_that_are_no_scores_are_counted_as_such(tmp_path):
    """NaN, null and endless scores are documents without a score, each with a reason."""
    bad = [{"id": "x", "quality_score": score} for score in (math.nan, math.inf, None)]
    figures, _ = make(tmp_path, write(tmp_path / "a.parquet", scored(3) + bad))
    assert figures["reasons"] == {"invalid_score": 2, "missing_score": 1}
    assert (figures["documents"], figures["scored"]) == (6, 3)
    assert any("NaN" in note for note in figures["notes"])


def test_a_file_without_its_end_is_left_out_and_said(tmp_path):
    """A file that is being written has no footer, and costs the others nothing."""
    write(tmp_path / "pq/a.parquet", scored(10))
    (tmp_path / "pq/b.parquet").write_bytes((tmp_path / "pq/a.parquet").read_bytes()[:900])
    figures, _ = make(tmp_path, tmp_path / "pq")
    assert figures["documents"] == 10
    assert any("b.parquet" in note and "left out" in note for note in figures["notes"])
