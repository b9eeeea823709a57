"""The numbers of a report, against those counted by hand."""

import numpy as np
import pytest
from scored_rows_samples import make, scored, write


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "jsonl.zst", "parquet"])
def test_numbers_equal_those_counted_by_hand_and_add_up(tmp_path, ending):
    """Every figure is what a loop over the same rows gives, in each format; nothing is lost or counted twice."""
    rows = scored(1_000)
    source = write(tmp_path / f"in/a.{ending}", rows[:600]).parent
    write(tmp_path / f"in/b.{ending}", rows[600:])
    figures, _ = make(tmp_path, source, "--threshold", "3.137", "--group-by", "source")

    with_score = [row for row in rows if row["quality_score"] is not None]
    kept = [row for row in with_score if row["quality_score"] >= 3.137]
    tokens = sum(row["quality_tokens"] for row in with_score)
    assert (figures["documents"], figures["scored"], figures["unscorable"]) == (1_000, len(with_score), 25)
    assert figures["reasons"] == {"template_error": 25}
    assert figures["tokens"] == tokens
    assert figures["kept"]["documents"] == len(kept)
    assert figures["kept"]["tokens"] == sum(row["quality_tokens"] for row in kept)
    assert figures["kept"]["documents_share"] == pytest.approx(len(kept) / 1_000)
    assert figures["scores"]["mean"] == pytest.approx(np.mean([row["quality_score"] for row in with_score]))
    assert figures["scores"]["max"] == max(row["quality_score"] for row in with_score)
    assert sum(figures["histogram"]["documents"]) + figures["unscorable"] == figures["documents"]
    assert sum(figures["histogram"]["tokens"]) == tokens
    assert sum(map(sum, figures["lengths"]["documents"])) == len(with_score)
    for row in figures["thresholds"]:
        assert row["documents"] == sum(other["quality_score"] >= row["threshold"] for other in with_score)
    for group in figures["groups"]["values"]:
        here = [row for row in rows if row["source"] == group["value"]]
        assert group["documents"] == len(here) == sum(group["histogram"]["documents"]) + group["unscorable"]
        assert group["kept"]["documents"] == sum(row in kept for row in here)
        assert group["tokens"] == sum(row["quality_tokens"] or 0 for row in here)
    assert sum(group["documents"] for group in figures["groups"]["values"]) == 1_000


def test_an_infinite_score_is_none(tmp_path):
    """Parquet can hold one: it is not usable, so its row is not kept and its tokens are not counted."""
    rows = scored(3)
    rows[0]["quality_score"] = np.inf
    figures, _ = make(tmp_path, write(tmp_path / "in/a.parquet", rows), "--threshold", "-9", "--group-by", "source")
    assert (figures["scored"], figures["kept"]["documents"], figures["kept"]["tokens_share"]) == (2, 2, 1)
    assert sum(group["kept"]["documents"] for group in figures["groups"]["values"]) == 2
