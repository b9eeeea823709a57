import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scored_rows_samples import make, scored, write


def test_groups_beyond_fifty_are_shown_together(tmp_path, monkeypatch):
    """Of many values the commonest fifty stand alone, the rest together; past the limit they are not told apart."""
    rows = [{"id": str(i), "quality_score": 3.0, "source": f"s{i % 90 if i < 180 else i}"} for i in range(500)]
    path = write(tmp_path / "a.parquet", rows)
    groups = make(tmp_path, path, "--group-by", "source")[0]["groups"]
    assert (groups["distinct"], len(groups["values"])) == (410, 51)
    assert sum(group["documents"] for group in groups["values"]) == 500
    monkeypatch.setattr("datatrove_quality.report.groups.MAX_GROUPS", 60)
    groups = make(tmp_path, path, "--group-by", "source")[0]["groups"]
    assert groups["more"] and sum(group["documents"] for group in groups["values"]) == 500


@pytest.mark.parametrize(
    "column",
    [
        pa.array([True, False, None]),
        pa.nulls(3),
        pa.array(["a", "b", None]).dictionary_encode(),
        pa.array([b"\xff", b"a", None]),
        pa.array([1.5, math.nan, None]),
    ],
    ids=lambda column: str(column.type),
)
def test_columns_of_any_single_values_are_grouped_by(tmp_path, column):
    """Whatever the type of the column, each row is in one group, those without a value in a group of theirs."""
    table = pa.table({"quality_score": [1.0, 2.0, None], "kind": column, "quality_tokens": [math.inf, -5.0, 3.0]})
    pq.write_table(table, tmp_path / "a.parquet")
    groups = make(tmp_path, tmp_path / "a.parquet", "--group-by", "kind")[0]["groups"]["values"]
    assert sum(group["documents"] for group in groups) == 3
    assert "(none)" in [group["value"] for group in groups]


def test_the_histogram_of_each_value_is_that_of_its_own_rows(tmp_path):
    """Bar by bar, the documents of a value are those whose scores lie in the bar."""
    rows = [row for row in scored(900) if row["quality_score"] is not None and 0.5 < row["quality_score"] < 5.5]
    figures, _ = make(tmp_path, write(tmp_path / "a.parquet", rows), "--group-by", "source")
    edges = [*figures["histogram"]["from"], figures["histogram"]["from"][-1] + figures["histogram"]["width"]]
    for group in figures["groups"]["values"]:
        scores = [row["quality_score"] for row in rows if row["source"] == group["value"]]
        inside = sum(edges[0] <= score < edges[-1] for score in scores)
        assert group["histogram"]["outside"] == len(scores) - inside
        for start, end, documents in list(zip(edges, edges[1:], group["histogram"]["documents"], strict=False))[1:-1]:
            assert documents == sum(start <= score < end for score in scores)
