import numpy as np
import pytest
from scored_rows_samples import make, refused, scored, write

from datatrove_quality.report.aggregate import ScoreBatch
from datatrove_quality.report.comparison import ScoreIndex, compare
from datatrove_quality.report.contents import OfBoth, Picked


def test_two_runs_are_compared_by_id(tmp_path):
    """Decisions, moves, repeated and missing ids equal those counted by hand."""
    old, new = scored(400), scored(400)
    for i, row in enumerate(new):
        if row["quality_score"] is not None and i % 10 == 0:
            row["quality_score"] += 0.5 if i % 20 else -0.5
    new[5] |= {"quality_score": None, "quality_error": "nan: no number"}
    write(tmp_path / "new.parquet", [*new[:380], new[0], scored(1)[0] | {"id": None}])
    write(tmp_path / "old.jsonl", old[10:])
    figures, page = make(tmp_path, tmp_path / "new.parquet", "--against", tmp_path / "old.jsonl", "--threshold", "3")
    found = figures["comparison"]

    def kept(row):
        return row["quality_score"] is not None and row["quality_score"] >= 3

    pairs = list(zip(new[10:380], old[10:380], strict=True))
    assert found["documents_in_both"] == len(pairs)
    assert (found["only_here"], found["only_there"]) == (10, 20)
    assert found["repeated_ids"] == {"here": 1, "there": 0}
    assert found["without_id"] == {"here": 1, "there": 0}
    assert found["decisions"]["kept_here_only"] == sum(kept(a) and not kept(b) for a, b in pairs) > 0
    assert found["decisions"]["kept_there_only"] == sum(kept(b) and not kept(a) for a, b in pairs) > 0
    both = [(a, b) for a, b in pairs if a["quality_score"] is not None and b["quality_score"] is not None]
    moves = [a["quality_score"] - b["quality_score"] for a, b in both]
    assert found["moved"]["mean"] == pytest.approx(np.mean(moves))
    assert found["moved"]["changed"] == sum(move != 0 for move in moves)
    assert "Kept here, dropped there" in page and "there 2." in page


def test_files_that_cannot_be_compared_are_refused_and_thresholds_are_those_of_the_runs(tmp_path):
    """Another run without scores is an error; each run is judged by its own threshold, mere files by the first's."""
    rows = scored(100)
    for name, threshold in (("a", 3.0), ("b", 4.0)):
        write(tmp_path / name / "kept/0.jsonl", rows)
        write(tmp_path / name / "logs/run.json", [{"min_score": threshold, "prefix": "quality", "tasks": 0}])
    bare = write(tmp_path / "bare.jsonl", [{"id": "d-1"}])
    assert "--against: none of 1 rows has" in refused(tmp_path, tmp_path / "a", "--against", bare)
    between = sum(3 <= (row["quality_score"] or 0) < 4 for row in rows)
    found = make(tmp_path, tmp_path / "a", "--against", tmp_path / "b")[0]["comparison"]
    assert found["thresholds"] == {"here": 3.0, "there": 4.0}
    assert (found["decisions"]["kept_here_only"], found["decisions"]["kept_there_only"]) == (between, 0)
    found = make(tmp_path, tmp_path / "a", "--against", tmp_path / "b/kept")[0]["comparison"]
    assert found["decisions"]["differ_share"] == 0


def batch(ids, scores, tokens):
    return ScoreBatch(0, np.array(scores), np.array(tokens), {}, ids=tuple(ids))


def test_comparing_needs_no_threshold():
    """Without thresholds nothing is decided, and only scores are compared."""
    a, b = ScoreIndex(None), ScoreIndex(None)
    a.add(batch(["x", "y", 3], [1.0, 2.0, 3.0], [7.0, 8.0, 9.0]))
    b.add(batch(["y", "x", "3"], [2.5, 1.0, np.nan], [8.0, 7.0, np.nan]))
    figures, sections = compare(a, b, samples=3, seed=0)
    assert figures.documents_in_both == 3 and figures.decisions is None
    assert figures.moved.lowest == -0.5 and figures.scored_in_one_only == OfBoth(here=1, there=0)
    assert sections == [Picked("The largest changes", rows=[1], others=[2.5])]


def test_rows_that_were_rendered_otherwise_are_listed():
    """As after an upgrade: another number of tokens, though the score may be the same; or no score any more."""
    a, b = ScoreIndex(None), ScoreIndex(None)
    a.add(batch(["w", "x", "y", "z"], [1.0, 2.0, np.nan, 4.0], [7.0, 8.0, np.nan, 9.0]))
    b.add(batch(["z", "y", "x", "w"], [4.0, 3.0, 2.5, 1.0], [9.0, 5.0, 8.0, 6.0]))
    figures, sections = compare(a, b, samples=3, seed=0)
    assert figures.other_tokens == 1
    assert [(section.title, section.rows) for section in sections] == [
        ("Without a score here, scored there", [2]),
        ("Rendered otherwise: another number of tokens", [0]),
        ("The largest changes", [1]),
    ]
