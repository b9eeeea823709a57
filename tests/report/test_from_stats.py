import pytest
from scored_rows_samples import count, make, refused, scored, write


@pytest.mark.parametrize("merge", [False, True])
def test_statistics_show_all_documents_where_only_a_sample_is_read(tmp_path, merge):
    """Counts, histogram, thresholds and groups of a QualityStats are those of a report over all rows."""
    rows = [row | {"quality_score": row["quality_score"] and round(row["quality_score"], 2)} for row in scored(900)]
    for part in range(3):
        write(tmp_path / f"out/kept/{part}.parquet", rows[part::3])
    options = (tmp_path / "out", "--threshold", "3.5", "--group-by", "source")
    whole = make(tmp_path, *options)[0]
    assert whole["stats"] is None
    count(tmp_path / "out/stats", rows, merge=merge)
    figures, page = make(tmp_path, *options, "--share", "0.2")
    stats = figures["stats"]
    assert figures["documents"] == 180 and not stats["same"]
    assert "A sample: 0.2 of each file's rows, 180 documents of 900." in figures["notes"]
    for name in ("documents", "scored", "unscorable", "tokens", "reasons", "kept", "histogram", "thresholds"):
        assert stats[name] == whole[name], name
    assert stats["mean"] == pytest.approx(whole["scores"]["mean"])
    found = {group["value"]: group for group in stats["groups"]["source"]["values"]}
    for group in whole["groups"]["values"]:
        assert found[group["value"]]["mean"] == pytest.approx(group["mean"])
        assert all(found[group["value"]][name] == group[name] for name in ("documents", "unscorable", "tokens"))
    wide = stats["groups"]["wide"]["values"]
    assert len(wide) == 51 and sum(group["documents"] for group in wide) == 900
    assert 'id="all-documents-title"' in page

    figures, page = make(tmp_path, *options)
    assert figures["stats"]["same"] and figures["notes"] == []
    assert 'id="all"' in page and "all-documents-title" not in page


def test_statistics_that_disagree_are_said_and_those_that_are_none_refused(tmp_path):
    """Other documents, damaged files and folders without statistics are named; rows are reported all the same."""
    rows = scored(300)
    source = write(tmp_path / "rows/a.jsonl", rows)
    count(tmp_path / "other", rows[:200])
    figures, _ = make(tmp_path, source, "--stats", tmp_path / "other")
    (note,) = [note for note in figures["notes"] if "disagree" in note]
    assert "it counted 200 documents, 195 with a score" in note and "the rows are 300 documents, 292" in note
    assert "no statistics of 'quality_score'" in refused(tmp_path, source, "--stats", tmp_path / "rows")
    assert "give it by --stats" in refused(tmp_path, tmp_path / "other")
    (tmp_path / "other/histogram/quality_score/00001.json").write_text('{"3.1": {"to')
    figures, _ = make(tmp_path, source, "--stats", tmp_path / "other")
    assert figures["stats"] is None and any("00001.json is no file of statistics" in note for note in figures["notes"])
