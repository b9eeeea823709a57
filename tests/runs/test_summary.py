"""What the filters of a run did, as a table."""

import json
import time

import pytest
from datatrove.io import get_datafolder

from datatrove_quality import QualityFilter, ScorerConfig
from datatrove_quality.runs import summary
from datatrove_quality.runs.summary import about_run


def test_statistics_that_two_copies_wrote_are_read(tmp_path, monkeypatch):
    """Two copies of a task that end together write one file, one over the other's longer one, or just emptied it."""
    stats = [{"name": "reader", "stats": {}}]
    stats += [{"name": f"filter: {QualityFilter.name}", "stats": {"total": 3, "tokens": {"total": 7}}}]
    (tmp_path / "logs/stats").mkdir(parents=True)
    (tmp_path / "logs/stats/00000.json").write_text(json.dumps(stats) + "8}]")
    [found] = summary.FilterSummary.of_run(get_datafolder(str(tmp_path)))
    assert found.counts == {"total": 3, "tokens": 7}
    file = tmp_path / "logs/stats/00000.json"
    file.write_text("")
    monkeypatch.setattr(time, "sleep", lambda _: file.write_text(json.dumps(stats)))
    assert summary.FilterSummary.of_run(get_datafolder(str(tmp_path))) == [found]
    file.write_text(json.dumps(stats)[:-9])
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with pytest.raises(ValueError, match=r"logs/stats/00000.json is damaged"):
        summary.FilterSummary.of_run(get_datafolder(str(tmp_path)))


def test_summary_adds_up_all_tasks():
    """The table's numbers are the sums of the tasks' statistics, and its parts add up to what came in."""
    counts = summary.Counter(
        {"total": 10, "forwarded": 6, "dropped": 4, "dropped_below_min_score": 3, "dropped_unscorable_no_messages": 1,
         "unscorable": 1, "unscorable_no_messages": 1, "scored": 9, "int_score_1": 3, "int_score_5": 6, "tokens": 900}
    )  # fmt: skip
    table = summary.FilterSummary(counts).table(seconds=2.0)
    assert "5 documents/s, 450 tokens/s" in table
    assert "kept without a score" not in table
    assert [line.split() for line in table.splitlines() if line.startswith("dropped")] == [["dropped", "4", "40.0%"]]


def test_counts_are_in_one_column():
    """Beside the longest reasons too."""
    counts = {"total": 9_999, "forwarded": 9_999, "unscorable": 1_234, "unscorable_unknown_template_argument": 1_234}
    lines = summary.FilterSummary(summary.Counter(counts)).table(None).splitlines()
    assert {line.index("%") for line in lines if "%" in line} == {54}
    assert "  no score: unknown_template_argument    1,234    12.3%" in lines


def test_tokens_that_were_not_computed_have_a_line():
    """As a share of all; none where nothing was shared, or where no text has a score."""
    counts = summary.Counter({"total": 2, "scored": 2, "tokens": 800, "shared_tokens": 600})
    (line,) = (line for line in summary.FilterSummary(counts).table(None).splitlines() if "not computed" in line)
    assert line.split()[-2:] == ["600", "75.0%"]
    for other in ({"shared_tokens": 0}, {"tokens": 0}):
        assert "not computed" not in summary.FilterSummary(summary.Counter({**counts, **other})).table(None)


def test_the_commonest_reason_is_the_commonest():
    """The last word of a run without scores names the reason of most documents, and how many they are."""
    counts = summary.Counter({"total": 3, "unscorable": 3, "unscorable_a": 1, "unscorable_b": 2})
    assert summary.FilterSummary(counts).commonest_reason().startswith("2 of 3 documents: b;")


def test_of_several_filters_the_end_names_each_model_and_threshold(tmp_path):
    """The last bounds of a prefix are those that hold; scores that the rows have come from no model."""
    filters = [
        QualityFilter(ScorerConfig(model="org/name")),
        QualityFilter(None, min_score=4, max_score=4.5),
        QualityFilter(None, prefix="instruct"),
    ]
    assert about_run(filters, ["/x/kept"], "/x/logs", "s3://x y/") == {
        "quality model": "org/name",
        "quality threshold": "scores at or above 4 and at or below 4.5 are kept",
        "instruct model": "the scores that the rows have",
        "instruct threshold": "none: rows are annotated",
        "rows": "/x/kept",
        "logs": "/x/logs",
        "next": "datatrove-quality report 's3://x y/' --output report",
    }
