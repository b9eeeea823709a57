import pytest
from scored_rows_samples import make, refused, scored, write

from datatrove_quality.report.sources import Sources, shown_path


def test_a_run_folder_gives_its_threshold_prefix_and_state(tmp_path):
    """kept and excluded are read together, min_score is marked, and an unfinished run is said to be one."""
    rows = [{key.replace("quality", "instruct"): value for key, value in row.items()} for row in scored(100)]
    write(tmp_path / "run/kept/0.jsonl", rows[:50])
    write(tmp_path / "run/excluded/0.jsonl", rows[50:])
    write(tmp_path / "run/logs/run.json", [{"min_score": 3.25, "prefix": "instruct", "tasks": 2}])
    (tmp_path / "run/logs/completions").mkdir()
    (tmp_path / "run/logs/completions/00000").touch()
    figures, _ = make(tmp_path, tmp_path / "run")
    assert (figures["documents"], figures["threshold"], figures["prefix"]) == (100, 3.25, "instruct")
    assert any("1 of the run's 2 tasks" in note for note in figures["notes"])
    assert make(tmp_path, tmp_path / "run", "--threshold", "4")[0]["threshold"] == 4
    (tmp_path / "run/logs/stages").mkdir()  # as of a curation
    assert any("run is not complete" in note for note in make(tmp_path, tmp_path / "run")[0]["notes"])
    write(tmp_path / "run/logs/counts/table.txt", [])
    assert not any("complete" in note for note in make(tmp_path, tmp_path / "run")[0]["notes"])
    assert "twice" in refused(tmp_path, tmp_path / "run", tmp_path / "run/kept")


def test_files_are_named_without_the_folders_above_them(tmp_path, monkeypatch):
    """Of a local path what lies in the working directory is shown, else its last part; addresses lose passwords."""
    monkeypatch.chdir(tmp_path)
    assert shown_path("runs/a/") == shown_path(str(tmp_path / "runs/a")) == "runs/a"
    assert shown_path("/elsewhere/deep/filtered/") == shown_path("file:///elsewhere/filtered") == "filtered"
    assert shown_path("../beside") == "beside"
    assert shown_path("s3://user:secret@bucket/run/x.parquet") == "s3://bucket/run/x.parquet"
    write(tmp_path / "in/deep/b.jsonl", scored(1))
    write(tmp_path / "run/kept/0.jsonl", scored(1))
    for source, name in (
        ("in", "in/deep/b.jsonl"),
        (".", "in/deep/b.jsonl"),
        ("in/deep/b.jsonl", "in/deep/b.jsonl"),
        ("in/*/*.jsonl", "in/deep/b.jsonl"),
        ("run", "run/kept/0.jsonl"),
    ):
        assert Sources.find([source]).files[0].name == name
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    names = ("in/deep/b.jsonl", "deep/b.jsonl", "b.jsonl", "in/deep/b.jsonl", "run/kept/0.jsonl")
    for source, name in zip(("in", "in/deep", "in/deep/b.jsonl", "in/*/*.jsonl", "run"), names, strict=True):
        assert Sources.find([str(tmp_path / source)]).files[0].name == name


def test_no_local_folder_is_in_the_report(tmp_path):
    """Neither the page nor the numbers tell where files lie on this machine: not by names, notes or errors."""
    rows = scored(60)
    write(tmp_path / "in/a.parquet", rows)
    (tmp_path / "in/b.parquet").write_bytes((tmp_path / "in/a.parquet").read_bytes()[:900])
    write(tmp_path / "other/c.jsonl.gz", rows)
    whole = (tmp_path / "other/c.jsonl.gz").read_bytes()
    (tmp_path / "other/c.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    damaged = write(tmp_path / "stats/histogram/quality_score/00001.json", [])
    damaged.write_text('{"3.1": {"to')
    options = ("--against", tmp_path / "other", "--stats", tmp_path / "stats", "--threshold", "3")
    figures, page = make(tmp_path, tmp_path / "in", *options)
    assert len(figures["notes"]) >= 3  # each names a file
    assert any("in/b.parquet could not be read" in note for note in figures["notes"])
    assert any("stats/histogram/quality_score/00001.json is no file" in note for note in figures["notes"])
    for text in (page, str(figures)):
        assert str(tmp_path) not in text and "a.parquet" in text and str(tmp_path.parent) not in text


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_a_file_that_goes_away_is_left_out_and_named_without_its_folder(tmp_path, monkeypatch, ending):
    """Of this run and of the other: the rest is reported, and the error names no local folder."""
    for name in ("one", "two"):
        write(tmp_path / name / f"a.{ending}", scored(60))
        write(tmp_path / name / f"gone.{ending}", scored(60))
    find = Sources.find

    def found(sources):
        files = find(sources)
        (tmp_path / sources[0] / f"gone.{ending}").unlink()
        return files

    monkeypatch.setattr(Sources, "find", found)
    figures, page = make(tmp_path, tmp_path / "one", "--against", tmp_path / "two", "--threshold", "3")
    assert figures["documents"] == figures["comparison"]["documents_in_both"] == 60
    for name in ("one", "two"):
        (note,) = [note for note in figures["notes"] if f"{name}/gone.{ending}" in note]
        assert "No such file" in note and "left out" in note
    assert str(tmp_path) not in page + str(figures)


@pytest.mark.parametrize("band", [[2.0, "inf"], ["-inf", 4.0]])
def test_a_cascade_whose_band_has_no_end_is_reported(tmp_path, band):
    """The record holds an infinite end as text: above it the proxy keeps nothing."""
    decided = [0.5, 9.0] if band[1] == "inf" else [4.5, -9.0]
    rows = scored(2)
    for score, row in zip(decided, scored(2, 1), strict=True):
        row["id"] += "-decided"
        rows.append(row | {"quality_score": None, "quality_scored_by": "proxy", "quality_proxy_score": score})
    write(tmp_path / "run/kept/0.jsonl", rows)
    cascade = {"prefix": "quality", "min_score": -99.0, "cascade": {"band": band}}
    write(tmp_path / "run/logs/run.json", [{"min_score": -99.0, "prefix": "quality", "filters": [cascade]}])
    figures, _ = make(tmp_path, tmp_path / "run", "--against", tmp_path / "run")
    assert figures["decided_by_proxy"] == 2
    assert figures["kept"]["documents"] == figures["comparison"]["decisions"]["kept_in_both"] == (2 + (band[1] == 4.0))
