"""Which scorer made the scores that rows have: known, checked, handed on."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import run_filter
from datatrove.io import get_datafolder
from samples import read_rows, rows, write_rows

from datatrove_quality.runs import summary


def test_parquet_carries_the_scorers_fingerprint(tmp_path, model):
    """What made the scores can be read from the file itself, and a second scorer's takes the place of the first's."""
    source = tmp_path / "in" / "a.parquet"
    source.parent.mkdir()
    pq.write_table(pa.Table.from_pylist(rows(5)), source)
    digests = []
    for name, inputs_ in (("one", source), ("two", tmp_path / "one" / "kept")):
        options = ["--max-tokens", "30"] if name == "two" else []
        run_filter(inputs_, "--output", tmp_path / name, "--model", model, *options)
        (path,) = (tmp_path / name / "kept").iterdir()
        metadata = pq.read_schema(path).metadata
        scorer = json.loads(metadata[b"quality_scorer"])
        assert {"torch", "transformers"} <= scorer["versions"].keys()
        assert scorer["parts"]["max_tokens"] == (30 if options else 160)
        digests.append(scorer["fingerprint"])
    assert digests[0] != digests[1]
    assert (tmp_path / "one" / "logs" / "checkpoints" / digests[0] / "scorer.json").exists()


def test_reuse_scores_scores_what_is_new(tmp_path, model, monkeypatch):
    """Rows that joined a scored corpus later are scored, and no other."""
    write_rows(tmp_path / "in/a.jsonl", rows(30, "a"))
    run_filter(tmp_path / "in", "--output", tmp_path / "first", "--model", model)
    (scored,) = (tmp_path / "first/kept").iterdir()
    shutil.copy(scored, tmp_path / "in/a.jsonl")
    write_rows(tmp_path / "in/b.jsonl", rows(10, "b"))
    run_filter(tmp_path / "in", "--output", tmp_path / "second", "--model", model, "--reuse-scores", "--no-progress")
    assert len(read_rows(tmp_path / "second/kept")) == 40
    assert all("quality_score" in row for row in read_rows(tmp_path / "second/kept"))
    [found] = summary.FilterSummary.of_run(get_datafolder(str(tmp_path / "second")))
    counts = found.counts
    assert counts["reused"] == 30 and counts["scored"] == 40


@pytest.mark.parametrize("ending", [".jsonl.gz", ".parquet"])
@pytest.mark.parametrize(
    ("other", "difference"),
    [(("--max-tokens", 30), "max_tokens was 30, is now 160"), (("--scale", "0,0,5"), r"scale was .*'offset': 0.*1.0")],
)
def test_scores_of_another_scorer_or_scale_are_not_reused(tmp_path, model, ending, other, difference, log):
    """Parquet files, and the record beside JSONL, say what made scores: another's are refused, and two's not mixed."""
    write_rows(tmp_path / f"in/a{ending}", rows(10))
    run_filter(tmp_path / "in", "--output", tmp_path / "one", "--model", model)
    run_filter(tmp_path / "in", "--output", tmp_path / "two", "--model", model, *other)
    options = ("--output", tmp_path / "out", "--model", model, "--reuse-scores")
    for source in (tmp_path / "two", tmp_path / "two/kept", tmp_path / f"two/kept/*{ending}"):
        with pytest.raises(ValueError, match=rf"reuse_scores .*\n.*{difference}"):
            run_filter(source, *options)
    with pytest.raises(ValueError, match="scores of 2 scorers or scales"):
        run_filter(tmp_path / f"*/kept/*{ending}", "--output", tmp_path / "out", "--scores-from-columns")
    assert not (tmp_path / "out").exists()
    for source in (tmp_path / "one/kept", tmp_path / "in"):
        run_filter(source, *options, "--overwrite")
    said = [line for line in log if "do not say what made the scores" in line]
    assert len(said) == 1 and "1 of 1 files" in said[0]


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_what_made_scores_is_known_of_what_was_filtered_by_them(tmp_path, model, ending):
    """A second pass without a model hands on what made its scores; under another prefix it says nothing."""
    write_rows(tmp_path / f"in/a{ending}", rows(10))
    run_filter(tmp_path / "in", "--output", tmp_path / "one", "--model", model, "--max-tokens", 30)
    run_filter(tmp_path / "one", "--output", tmp_path / "two", "--scores-from-columns", "--min-score", -99)
    with pytest.raises(ValueError, match="max_tokens was 30, is now 160"):
        run_filter(tmp_path / "two/kept", "--output", tmp_path / "out", "--model", model, "--reuse-scores")
    run_filter(
        tmp_path / "two/kept", "--output", tmp_path / "out", "--model", model, "--reuse-scores", "--prefix", "other"
    )
