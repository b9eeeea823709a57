"""Scored rows of JSONL files: values that are no scores, and damage."""

import json

import orjson
from scored_rows_samples import make, scored, write


def test_values_that_are_no_scores_are_counted_as_such(tmp_path):
    """NaN, text, true, absent and endless scores are documents without a score, each with a reason."""
    lines = [json.dumps(row) for row in scored(3)]
    lines += ['{"quality_score": "4"}', '{"quality_score": true}', '{"id": 1}']
    lines += ['{"quality_score": 1e999}', '{"quality_error": "<b>odd</b>: reason"}', '{"quality_score": NaN}']
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines))
    figures, _ = make(tmp_path, path)
    assert (figures["documents"], figures["scored"]) == (9, 3)
    assert figures["reasons"]["invalid_score"] == 3 and figures["reasons"]["other"] == 1
    assert sum(figures["reasons"].values()) == 6


def test_a_file_that_is_being_written_costs_its_last_line(tmp_path):
    """Half a line is counted and said; the rows before it and the other files are read."""
    write(tmp_path / "in/a.jsonl", scored(10))
    with open(tmp_path / "in/b.jsonl", "wb") as file:
        file.write(orjson.dumps(scored(1)[0]) + b'\n{"id": "half')
    figures, _ = make(tmp_path, tmp_path / "in")
    assert (figures["documents"], figures["scored"]) == (12, 10)
    assert any("b.jsonl: 1 invalid JSON lines" in note for note in figures["notes"])


def test_a_truncated_gzip_member_is_read_as_far_as_it_goes(tmp_path):
    """Its rows are no unscorable documents, and the report says that the file is damaged."""
    write(tmp_path / "gz/a.jsonl.gz", scored(100))
    whole = (tmp_path / "gz/a.jsonl.gz").read_bytes()
    (tmp_path / "gz/a.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    figures, _ = make(tmp_path, tmp_path / "gz")
    assert 10 < figures["documents"] < 100 and not figures["reasons"].get("truncated_file")
    assert any("a.jsonl.gz is damaged" in note for note in figures["notes"])
