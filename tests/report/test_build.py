import json
import re
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from scored_rows_samples import make, refused, scored, write

from datatrove_quality.report.build import scorer_facts


def test_what_cannot_be_reported_is_refused_with_what_to_do(tmp_path):
    """No files, no rows, no scores, another prefix, a wrong column: one line says what is there and what to give."""
    (tmp_path / "empty").mkdir()
    assert "there is no file" in refused(tmp_path, tmp_path / "empty")
    assert "no such file or folder" in refused(tmp_path, tmp_path / "nowhere")
    write(tmp_path / "none/a.jsonl", [])
    assert "no row could be read" in refused(tmp_path, tmp_path / "none")
    for name in ("a.jsonl", "a.parquet"):
        bare = write(tmp_path / "bare" / name, [{"id": "a", "text": "x"}])
        assert "Score the files first" in refused(tmp_path, bare)
        other = write(tmp_path / "other" / name, [{"id": "a", "instruct_score": 3.0}])
        assert "under instruct" in refused(tmp_path, other)
        rows = write(tmp_path / "rows" / name, scored(5))
        assert "no file has a column" in refused(tmp_path, rows, "--group-by", "language")
    assert "single values" in refused(tmp_path, tmp_path / "rows/a.parquet", "--group-by", "messages")
    text = write(tmp_path / "text.parquet", [{"quality_score": "4.5"}])
    assert "not of numbers" in refused(tmp_path, text)


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_what_made_the_scores_is_named_and_two_scorers_are_said(tmp_path, ending):
    """The page names model and scale, from Parquet's own metadata or the run's record, and warns of a mix."""
    for name, offset in (("a", 1.0), ("b", 0.0)):
        scale = {"offset": offset, "low": 1, "high": 5}
        scorer = {"fingerprint": "f", "parts": {}, "model": "org/<judge>", "scale": scale}
        path = write(tmp_path / name / f"kept/0.{ending}", scored(50))
        if ending == "parquet":
            table = pq.read_table(path)
            pq.write_table(table.replace_schema_metadata({"quality_scorer": json.dumps(scorer)}), path)
        else:
            write(tmp_path / name / "logs/run.json", [{"prefix": "quality", "min_score": 3, "scorer": scorer}])
    figures, page = make(tmp_path, tmp_path / "a")
    (scorer,) = figures["scorers"]
    assert (scorer["model"], scorer["scale"]["offset"]) == ("org/<judge>", 1.0)
    assert "<dt>Model</dt><dd><bdi>org/&lt;judge&gt;</bdi>, scale from 1 (bad) to 5 (good)</dd>" in page
    assert not any("scorers" in note for note in figures["notes"])
    figures, _ = make(tmp_path, tmp_path / "a", tmp_path / "b/kept")
    assert any("The scores are of 2 scorers or scales" in note for note in figures["notes"])


def test_a_corpus_of_which_nothing_could_be_scored_has_a_report(tmp_path):
    """All documents unscorable: no chart, but the reasons and an example of each."""
    rows = [row | {"quality_score": None, "quality_error": "template_error: no"} for row in scored(30)]
    figures, page = make(tmp_path, write(tmp_path / "a.parquet", rows), "--threshold", "3", "--group-by", "source")
    assert (figures["documents"], figures["scored"], figures["kept"]["documents"]) == (30, 0, 0)
    assert "An example:" in page and "<figure>" not in page


def test_the_page_needs_neither_matplotlib_nor_torch():
    """Charts and templates load neither torch nor matplotlib."""
    code = "import sys, datatrove_quality.report.page; assert not {'torch', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_report_needs_no_matplotlib_and_writes_two_files(tmp_path, monkeypatch):
    """Where matplotlib is missing the report is the same; there are a page and its numbers."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    make(tmp_path, write(tmp_path / "a.jsonl", scored(100)), "--threshold", "3", "--group-by", "source")
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["report.html", "report.json"]


def test_what_made_the_scores_is_said_with_commit_dtype_and_weights(tmp_path):
    """The head names what a hub's and a local model's scores were made of, and the numbers hold it too."""
    scale = {"offset": 1.0, "low": 1, "high": 5}
    made = {"fingerprint": "f", "model": "org/judge", "scale": scale}
    commit, weights = "0123456789abcdef0123456789abcdef01234567", "c97f1925f5cb1724dd913156647f679f"
    for name, parts in (("hub", {"commit": commit, "dtype": "bfloat16"}), ("local", {"weights": weights})):
        write(tmp_path / name / "kept/0.jsonl", scored(50))
        run = {"prefix": "quality", "min_score": 3, "scorer": made | {"parts": parts}}
        write(tmp_path / name / "logs/run.json", [run])
    figures, page = make(tmp_path, tmp_path / "hub")
    (scorer,) = figures["scorers"]
    assert (scorer["commit"], scorer["dtype"], scorer["weights"]) == (commit, "bfloat16", None)
    head = re.search(r'<dl class="head">(.*?)</dl>', page, re.S)[1]
    text = re.sub(r"<[^>]+>", " ", head)
    assert f"org/judge , commit   {commit}  ,  bfloat16 , scale from 1 (bad) to 5 (good)" in text
    assert re.search(r"Threshold\s+3\b", text) and re.search(r"Date\s+20\d\d-\d\d-\d\d \d\d:\d\d UTC", text)
    assert figures["date"] in text and f"datatrove-quality {figures['version']}" in text
    figures, page = make(tmp_path, tmp_path / "local")
    assert figures["scorers"][0]["weights"] == weights and f"<bdi>{weights[:12]}</bdi>" in page


@pytest.mark.parametrize("scale", [None, "1 to 5", {"low": "<b>", "high": 5}, {"low": float("nan"), "high": True}])
def test_what_a_stranger_wrote_as_the_scorer_is_taken_as_far_as_it_is_usable(scale):
    """Descriptions that are not as ours are no error, and show no path of the machine that wrote them."""
    facts = scorer_facts(
        {"fingerprint": 7, "parts": {"dtype": ["x"], "commit": None}, "model": "/home/someone/judge/", "scale": scale}
    )
    assert (facts.fingerprint, facts.model, facts.dtype, facts.commit, facts.scale) == ("7", "judge", None, None, None)


def test_a_threshold_outside_the_scale_is_refused_and_scores_beyond_the_histogram_are_noted(tmp_path):
    """A slip such as 45 for 4.5 is refused, as a filter's; scores that the histogram cannot show are said."""
    scorer = {"fingerprint": "f", "parts": {}, "model": "m", "scale": {"offset": 1.0, "low": 1, "high": 5}}
    write(tmp_path / "run/kept/0.jsonl", [*scored(50), scored(1)[0] | {"id": "far", "quality_score": -5_000.0}])
    write(tmp_path / "run/logs/run.json", [{"prefix": "quality", "min_score": 3, "scorer": scorer}])
    message = (
        "threshold=45 is outside the scale of the scores, 1 to 5: did you mean 4.5? If it is meant, set allow_out"
    )
    assert message in refused(tmp_path, tmp_path / "run", "--threshold", "45")
    assert not (tmp_path / "report").exists()
    notes = make(tmp_path, tmp_path / "run", "--threshold", "45", "--allow-outside-scale")[0]["notes"]
    assert "The threshold 45 is outside the scale, which is from 1 to 5." in notes
    assert "1 scores lie beyond ±1,000 and count there in the histogram." in notes
    for threshold in (1, 5):
        notes = make(tmp_path, tmp_path / "run", "--threshold", threshold)[0]["notes"]
        assert not any("outside the scale" in note for note in notes)


def test_an_output_that_cannot_be_written_is_refused_before_anything_is_read(tmp_path):
    """A file in the folder's place is named at once."""
    (tmp_path / "report").write_text("")
    assert "it is a file" in refused(tmp_path, tmp_path / "nowhere")
