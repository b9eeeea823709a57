"""`QualityFilter` with scores that the documents carry already."""

import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from datatrove.data import Document
from datatrove.pipeline.writers import JsonlWriter, ParquetWriter
from filters import TURNS, statistics
from samples import documents, read_rows, write_rows

from datatrove_quality import (
    ConversationAdapter,
    ConversationJsonlReader,
    ConversationParquetReader,
    QualityFilter,
    RowAdapter,
    score_schema,
)
from datatrove_quality import filter as filter_module
from datatrove_quality.config import Unscorable
from datatrove_quality.engine import streaming
from datatrove_quality.rows.score_columns import recorded_score
from datatrove_quality.rows.types import REASONS


def scored_document(score, **metadata):
    return Document(text="texto", id="a", metadata={"quality_score": score, "messages": TURNS} | metadata)


def test_scores_in_the_metadata_are_filtered_without_torch():
    """A new threshold over a scored corpus needs no model, no GPU and no torch."""
    code = (
        "import sys; from datatrove.data import Document; from datatrove_quality import QualityFilter\n"
        "made = [Document(text='x', id=str(n), metadata={'quality_score': n / 2}) for n in range(10)]\n"
        "print([doc.id for doc in QualityFilter(None, min_score=2, max_score=3.5).run(made)])\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['4', '5', '6', '7']", "[]"]


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({}, "missing_score"),
        ({"quality_score": None, "quality_error": None}, "missing_score"),
        ({"quality_score": float("nan")}, "invalid_score"),
        ({"quality_score": float("-inf")}, "invalid_score"),
        ({"quality_score": "4.5"}, "invalid_score"),
        ({"quality_score": True}, "invalid_score"),
        ({"quality_score": 10**400}, "invalid_score"),
        ({"quality_score": 10**5000}, "invalid_score"),
        ({"quality_score": [4.5]}, "invalid_score"),
        ({"quality_error": "template_error: roles must alternate"}, "template_error"),
        ({"quality_error": "a remark"}, "missing_score"),
        ({"conversation_error": "invalid_json: line 3"}, "invalid_json"),
        ({"quality_error": "damaged_file: rows 1 to 9", "conversation_error": "null_column: ..."}, "damaged_file"),
    ],
)
def test_what_is_no_recorded_score(metadata, reason):
    """Nothing but a finite number is a score; why an earlier run found none is remembered."""
    doc = Document(text="x", id="a", metadata=dict(metadata))
    step = QualityFilter(None, min_score=-1e300)
    assert list(step.run([doc])) == []
    assert statistics(step)[f"dropped_unscorable_{reason}"] == 1
    assert doc.metadata["quality_error"].startswith(f"{reason}: ")
    assert "quality_score" not in doc.metadata
    assert len(list(QualityFilter(None, min_score=-1e300, unscorable="keep").run([doc]))) == 1


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_of_a_reader_is_remembered(reason):
    """Whatever a reader found wrong is read again as the reason that it is, be there digits in it."""
    found = recorded_score({"quality_error": f"{reason}: what was found"}, "quality")
    assert isinstance(found, Unscorable) and found.reason == reason


def test_recorded_scores_stay_as_they_are():
    """Beside a number that becomes a float nothing is added, and what the earlier decision left is taken away."""
    doc = scored_document(4, quality_error=None, filter_reason="below_min_score", other=1)
    (kept,) = QualityFilter(None, min_score=4).run([doc])
    assert kept.metadata == {"quality_score": 4.0, "messages": TURNS, "other": 1}
    assert type(kept.metadata["quality_score"]) is float


def test_statistics_of_recorded_scores():
    """Reused scores are counted as scores are, with the tokens and roundings that stand beside them."""
    beside = {"quality_int_score": 4, "quality_tokens": 7, "quality_truncated": True}
    step = QualityFilter(None, min_score=4)
    list(step.run([scored_document(4.5, **beside), scored_document(3.5), scored_document(float("nan"))]))
    found = statistics(step)
    names = ("scored", "reused", "unscorable", "tokens", "truncated", "int_score_4", "forwarded", "dropped")
    assert [found[name] for name in names] == [2, 2, 1, 7, 1, 1, 1, 2]
    assert step.stats["score"].mean == 4.0


def test_reuse_scores_computes_only_what_is_missing(config, monkeypatch):
    """A document with a score is not scored again, one without is, and all stay in their order."""
    expected = [doc.metadata for doc in QualityFilter(config).run(documents(12, source="s"))]
    seen = []
    submit = streaming.LogitStream._submit
    monkeypatch.setattr(
        streaming.LogitStream, "_submit", lambda self, texts: seen.extend(texts) or submit(self, texts)
    )
    made = documents(12, source="s")
    for index in (0, 1, 4, 11):
        made[index].metadata |= {"quality_score": 100.0 + index, "quality_error": None}
    made[5].metadata["quality_score"] = float("nan")
    made[6].metadata["quality_error"] = "non_finite_score: of an earlier run"
    step = QualityFilter(config, reuse_scores=True)
    out = list(step.run(made))
    assert [doc.id for doc in out] == [f"doc-{index}" for index in range(12)]
    scores = [doc.metadata["quality_score"] for doc in out]
    for index in range(12):
        reused = index in (0, 1, 4, 11)
        assert scores[index] == (
            100.0 + index if reused else pytest.approx(expected[index]["quality_score"], abs=5e-5)
        )
    assert len(seen) == 8
    assert statistics(step)["reused"] == 4 and statistics(step)["scored"] == 12


def test_reuse_scores_loads_nothing_where_all_have_one(monkeypatch):
    """A corpus that is scored throughout is filtered without the model, though one is given."""
    monkeypatch.setattr(filter_module, "find_scorer", lambda config: pytest.fail("the model was looked for"))
    step = QualityFilter("no/model", min_score=4, reuse_scores=True, special_tokens="reject")
    assert len(list(step.run([scored_document(4.5), scored_document(3.0)]))) == 1


def test_a_corpus_without_score_columns_stops_with_advice():
    """A misspelt prefix must not empty a corpus."""
    step = QualityFilter(None, min_score=4, prefix="qualty")
    with pytest.raises(ValueError, match=r"first 1000 documents.*missing_score.*Set prefix="):
        list(step.run(scored_document(4.5) for _ in range(2_000)))


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_new_threshold_decides_as_a_fresh_run(config, tmp_path, form):
    """Through files, and with bad rows, rethresholding gives row by row what scoring with that threshold gives."""
    rows = [{"id": doc.id, "messages": doc.metadata["messages"], "source": "s"} for doc in documents(40, source="s")]
    rows.insert(7, {"id": "bad", "messages": [], "source": "t"})
    rows.insert(20, {"id": "null", "messages": None, "source": "t"})

    def run(name, source, scorer, **options):
        list(through_files(tmp_path / name, form, source, scorer, **options))
        return {folder: rows_in(tmp_path / name / folder) for folder in ("kept", "excluded")}

    write_rows(tmp_path / "in" / f"a.{form}", rows)
    first = run("first", tmp_path / "in", config, min_score=2)
    scores = sorted(row["quality_score"] for row in first["kept"] + first["excluded"] if "quality_score" in row)
    low, high = scores[10], scores[30]
    fresh = run("fresh", tmp_path / "in", config, min_score=low, max_score=high)
    again = run("again", tmp_path / "first", None, min_score=low, max_score=high)
    assert len(fresh["kept"]) == 21 and len(fresh["excluded"]) == 21
    assert {row["filter_reason"] for row in fresh["excluded"]} == {
        "below_min_score", "above_max_score", "unscorable_no_messages", "unscorable_null_column",
    }  # fmt: skip
    for folder in ("kept", "excluded"):
        assert again[folder] == fresh[folder]


def through_files(output, form, source, scorer, **options):
    """The kept documents of a run over files, which writes kept and excluded."""
    schema = score_schema(pq.read_schema(next(source.rglob("*.parquet")))) if form == "parquet" else None
    writers = [
        ParquetWriter(str(output / folder), adapter=RowAdapter(), schema=schema)
        if schema
        else JsonlWriter(str(output / folder), compression=None, adapter=RowAdapter())
        for folder in ("kept", "excluded")
    ]
    reader = (ConversationParquetReader if schema else ConversationJsonlReader)(
        str(source), adapter=ConversationAdapter()
    )
    step = QualityFilter(scorer, exclusion_writer=writers[1], **options)
    yield from writers[0].run(step.run(reader.run()))


def rows_in(folder):
    """The rows in an output folder by their ids, without what is null, as a column is in Parquet."""
    rows = read_rows(folder)
    return sorted(({k: v for k, v in row.items() if v is not None} for row in rows), key=lambda row: row["id"])
