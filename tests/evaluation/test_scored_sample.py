"""The sample that a threshold is chosen by, and what a person reads about the choice."""

import json
import math

from samples import write_rows

from datatrove_quality import ScoreScale
from datatrove_quality.evaluation.scored_sample import read_scored_sample, run_of_half
from datatrove_quality.runs.inputs import find_inputs


def test_each_row_has_a_score_a_count_and_a_label_or_lacks_it(tmp_path):
    """Columns stay aligned: what a row lacks is -inf, 0 or NaN, and is counted."""
    rows = [
        {"x_score": 3.5, "x_tokens": 7, "label": 4},
        {"x_error": "no_messages: none", "label": 2},
        {"x_score": 1.0, "x_tokens": 2},
        {"x_score": "2", "x_tokens": 9, "label": 9},
    ]
    write_rows(tmp_path / "a.jsonl", rows)
    sample = read_scored_sample(find_inputs(str(tmp_path)), "x", "label", ScoreScale())
    assert sample.scores.tolist() == [3.5, -math.inf, 1.0, -math.inf]
    assert sample.tokens.tolist() == [7, 0, 2, 0] and sample.token_counts() is sample.tokens
    assert [None if math.isnan(label) else label for label in sample.labels] == [4, 2, None, None]
    assert str(sample).splitlines() == [
        "4 rows, 2 with a score",
        "without a score, counted as documents that are not kept: missing_score 1, invalid_score 1",
        "2 with a label",
        "without a label, counted for the shares kept only: missing_label 1, label_out_of_range 1",
    ]


def test_counts_that_some_scored_rows_lack_are_not_used(tmp_path):
    """A share of tokens over half of the rows would be wrong; labels are read only where a column is named."""
    write_rows(tmp_path / "a.jsonl", [{"quality_score": 3.5, "quality_tokens": 7}, {"quality_score": 2}])
    sample = read_scored_sample(find_inputs(str(tmp_path)), "quality")
    assert sample.token_counts() is None and not sample.labels
    assert str(sample) == "2 rows, 2 with a score"


def test_one_half_of_a_run_is_known_by_its_folder(tmp_path):
    """`kept` beside `logs` is half of a run that had a threshold; a folder that is only called so is not."""
    (tmp_path / "run/kept").mkdir(parents=True)
    assert run_of_half(str(tmp_path / "run/kept")) is None
    (tmp_path / "run/logs").mkdir()
    assert run_of_half(str(tmp_path / "run/kept")) == tmp_path / "run"
    assert run_of_half(str(tmp_path / "run")) is None
    assert run_of_half(str(tmp_path / "run/excluded")) is None
    for bound, half in ((None, None), (3.5, tmp_path / "run")):
        filters = [{"prefix": "quality", "min_score": bound, "max_score": None}]
        (tmp_path / "run/logs/run.json").write_text(json.dumps({"filters": filters}))
        assert run_of_half(str(tmp_path / "run/kept")) == half
