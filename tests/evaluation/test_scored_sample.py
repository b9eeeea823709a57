"""The sample that a threshold is chosen by, and what a person reads about the choice."""

import math

from samples import write_rows

from datatrove_quality import ScoreScale
from datatrove_quality.evaluation import Estimate, ThresholdChoice
from datatrove_quality.evaluation.scored_sample import read_scored_sample, run_of_half
from datatrove_quality.evaluation.threshold_text import describe_choice
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
    """A share of tokens over half of the rows would be wrong; labels that nobody asked for are not read."""
    write_rows(tmp_path / "a.jsonl", [{"quality_score": 3.5, "quality_tokens": 7}, {"quality_score": 2}])
    sample = read_scored_sample(find_inputs(str(tmp_path)), "quality")
    assert sample.token_counts() is None and not sample.labels
    assert str(sample) == "2 rows, 2 with a score"


def test_one_half_of_a_run_is_known_by_its_folder(tmp_path):
    """`kept` beside `logs` is half of a run; a folder that is only called so is not."""
    (tmp_path / "run/kept").mkdir(parents=True)
    assert run_of_half(str(tmp_path / "run/kept")) is None
    (tmp_path / "run/logs").mkdir()
    assert run_of_half(str(tmp_path / "run/kept")) == tmp_path / "run"
    assert run_of_half(str(tmp_path / "run")) is None
    assert run_of_half(str(tmp_path / "run/excluded")) is None


def choice(**values):
    one = Estimate(0.5, 0.25, 0.75)
    figures = {"threshold": Estimate(3.5, 3.5, 3.5042), "kept": one, "tokens_kept": None, "precision": None}
    return ThresholdChoice(**(figures | {"recall": None, "labelled_kept": 0, "unreached": 0.0} | values))


def test_a_choice_is_described_in_percentages_and_an_interval_that_holds_it():
    """Ends of a threshold's interval are rounded outwards; an end that is unknown is none."""
    assert describe_choice(choice()).splitlines() == [
        "threshold                      3.5   95% interval 3.500 to 3.505",
        "documents kept               50.0%   95% interval 25.0% to 75.0%",
    ]
    text = describe_choice(choice(threshold=Estimate(-0.25, -0.2501, None), unreached=0.125))
    assert "-0.25   95% interval -0.251 to none" in text
    assert text.endswith("In 12.5% of the resamples no threshold reaches it: label more rows to be sure.")


def test_a_perfect_precision_is_qualified():
    """The rule of three: 60 labels without an error cannot exclude 95%; one label cannot exclude anything."""
    sure = Estimate(1.0, 1.0, 1.0)
    for labelled, bound in ((60, "95.0%"), (1, "0.0%")):
        text = describe_choice(choice(precision=sure, recall=sure, labelled_kept=labelled), level=4)
        assert "precision, label >= 4       100.0%   95% interval 100.0% to 100.0%" in text
        assert f"None of the {labelled} labelled rows kept" in text and f"a precision of {bound}." in text
    text = describe_choice(choice(precision=Estimate(0.999, 0.9, 1.0), labelled_kept=60), level=4)
    assert "None of the" not in text
