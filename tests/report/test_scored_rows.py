"""Scored rows of any format: what is read of them, and what a page says about them."""

import numpy as np
import pytest
from scored_rows_samples import make, scored, write

from datatrove_quality.report import jsonl_rows


def test_formats_and_batches_do_not_matter(tmp_path, monkeypatch):
    """The same rows give the same figures and the same sample from JSONL and Parquet, in batches of any size."""
    rows = scored(500)
    parquet = make(tmp_path, write(tmp_path / "a.parquet", rows), "--threshold", "3", "--group-by", "source")[0]
    monkeypatch.setattr(jsonl_rows, "LINES_AT_ONCE", 37)
    jsonl = make(tmp_path, write(tmp_path / "a.jsonl", rows), "--threshold", "3", "--group-by", "source")[0]
    for figures in (parquet, jsonl):
        for name in ("sources", "date"):
            figures.pop(name)
        for example in figures["examples"]:
            example.pop("file")
    assert parquet["scores"].pop("mean") == pytest.approx(jsonl["scores"].pop("mean"))
    for one, other in zip(parquet["groups"]["values"], jsonl["groups"]["values"], strict=True):
        assert one.pop("mean") == pytest.approx(other.pop("mean"))
    assert parquet == jsonl


def test_what_a_datatrove_writer_nests_under_metadata_is_found(tmp_path):
    """Scores are read where DataTrove's own writers put them: in the column `metadata`."""
    rows = [{"id": row.pop("id"), "text": "Um texto.", "metadata": row | {"messages": None}} for row in scored(90)]
    for name in ("a.parquet", "a.jsonl"):
        figures, page = make(tmp_path, write(tmp_path / name, rows), "--group-by", "source")
        assert (figures["documents"], figures["unscorable"]) == (90, 3)
        assert len(figures["groups"]["values"]) == 5
        assert "Um texto." in page


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_mixed_prefixes_are_said(tmp_path, ending):
    """Files under another prefix count as documents without a score, and the page says why."""
    write(tmp_path / f"in/a.{ending}", scored(10))
    write(tmp_path / f"in/b.{ending}", [{"id": "x", "instruct_score": 3.0}])
    figures, _ = make(tmp_path, tmp_path / "in")
    assert figures["reasons"] == {"missing_score": 1, "template_error": 1}
    assert any("instruct_score" in note for note in figures["notes"])


def test_a_share_of_the_rows_of_each_file_is_read_and_said(tmp_path):
    """However few rows a file has, its share is read: kept and excluded keep their proportion; examples are found."""
    rows = scored(200)
    for ending, wanted in (("jsonl", slice(0, None, 4)), ("parquet", slice(0, 25))):
        for part in range(2):
            write(tmp_path / ending / f"{part}.{ending}", rows[part * 100 : part * 100 + 100])
        figures = make(tmp_path, tmp_path / ending, "--share", "0.25")[0]
        read = [row for part in range(2) for row in rows[part * 100 : part * 100 + 100][wanted]]
        scores = {row["id"]: row["quality_score"] for row in read if row["quality_score"] is not None}
        assert figures["documents"] == 50
        assert figures["scores"]["mean"] == pytest.approx(np.mean(list(scores.values())))
        assert {example["id"]: example["score"] for example in figures["examples"]}.items() <= scores.items()
        assert "A sample: 0.25 of each file's rows, 50 documents." in figures["notes"]
