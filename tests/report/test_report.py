import gzip
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from commands import run_command
from datatrove.data import Document
from datatrove.pipeline.stats import StatsMerger

from datatrove_quality import QualityStats
from datatrove_quality.report import scored_rows
from datatrove_quality.report.aggregate import ScoreBatch, ScoreReport, score_bins
from datatrove_quality.report.comparison import ScoreIndex, compare


ROOT = Path(__file__).resolve().parents[2]


def scored(count, seed=0, shift=0.0):
    """Rows of a finished run, some of them without a score."""
    random = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        score = float(np.round(random.normal(3, 1), 3)) + shift
        row = {
            "id": f"d-{i}",
            "messages": [
                {"role": "user", "content": f"Pergunta {i}"},
                {"role": "assistant", "content": "Resposta " * 9},
            ],
            "source": f"site-{int(random.integers(5))}",
            "quality_score": score,
            "quality_tokens": int(random.integers(1, 3_000)),
            "quality_error": None,
        }
        if i % 40 == 7:
            row |= {"quality_score": None, "quality_tokens": None, "quality_error": "template_error: refused"}
        rows.append(row)
    return rows


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=70)
        return path
    data = b"".join(orjson.dumps(row) + b"\n" for row in rows)
    data = {".gz": gzip.compress, ".zst": zstandard.compress}.get(path.suffix, bytes)(data)
    path.write_bytes(data)
    return path


def make(tmp_path, *arguments):
    output = tmp_path / "report"
    run_command("report", *arguments, "--output", output)
    return json.loads((output / "report.json").read_text()), (output / "report.html").read_text()


def refused(tmp_path, *arguments):
    with pytest.raises(ValueError) as caught:
        make(tmp_path, *arguments)
    return str(caught.value)


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


def test_formats_and_batches_do_not_matter(tmp_path, monkeypatch):
    """The same rows give the same figures and the same sample from JSONL and Parquet, in batches of any size."""
    rows = scored(500)
    parquet = make(tmp_path, write(tmp_path / "a.parquet", rows), "--threshold", "3", "--group-by", "source")[0]
    monkeypatch.setattr(scored_rows, "LINES_AT_ONCE", 37)
    jsonl = make(tmp_path, write(tmp_path / "a.jsonl", rows), "--threshold", "3", "--group-by", "source")[0]
    for figures in (parquet, jsonl):
        figures.pop("sources")
        for example in figures["examples"]:
            example.pop("file")
    assert parquet["scores"].pop("mean") == pytest.approx(jsonl["scores"].pop("mean"))
    for one, other in zip(parquet["groups"]["values"], jsonl["groups"]["values"], strict=True):
        assert one.pop("mean") == pytest.approx(other.pop("mean"))
    assert parquet == jsonl


def test_bins_agree_with_the_comparison_that_a_filter_makes():
    """A score on an edge such as 1.15, no float of which is exact, falls on the side where `>=` puts it."""
    edges = np.array([k / 100 for k in range(-500, 600)])
    scores = np.concatenate([edges, np.nextafter(edges, -np.inf), np.nextafter(edges, np.inf)])
    bins = score_bins(scores)
    assert (scores >= bins / 100).all() and (scores < (bins + 1) / 100).all()
    assert score_bins(np.array([1e300, -1e300])).tolist() == [100_000, -100_000]


def test_samples_are_seeded_and_lie_in_their_bands(tmp_path):
    """A seed decides what is read; each example lies in the band or on the side under whose title it stands."""
    source = write(tmp_path / "a.jsonl", scored(2_000))
    examples = make(tmp_path, source, "--threshold", "3", "--sample", "5")[0]["examples"]
    assert examples == make(tmp_path, source, "--threshold", "3", "--sample", "5")[0]["examples"]
    assert examples != make(tmp_path, source, "--threshold", "3", "--sample", "5", "--seed", "1")[0]["examples"]
    for example in examples:
        if example["section"].startswith("Just"):
            assert 2.75 <= example["score"] < 3.25
            assert (example["score"] >= 3) == ("above" in example["section"])
        else:
            low = int(example["section"].split()[2])
            assert low <= example["score"] < low + 1
    sections = [example["section"] for example in examples]
    assert all(sections.count(title) <= 5 for title in sections)
    assert sections.count("Scores from 2 to 3") == sections.count("Just above the threshold") == 5


def test_bands_of_wide_scales_are_merged():
    """Scores of 0 to 100 make at most twelve bands, and a sample of each, not a hundred."""
    scores = np.random.default_rng(0).uniform(0, 100, 5_000)
    counted = ScoreReport(samples=4)
    counted.add(ScoreBatch(0, scores, np.full(5_000, 10.0), {}))
    sections = counted.to_read()
    assert len(sections) == 10
    assert [len(section["rows"]) for section in sections] == [4] * 10
    assert all((scores[section["rows"]] // 10 == at).all() for at, section in enumerate(sections))


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


def test_what_a_datatrove_writer_nests_under_metadata_is_found(tmp_path):
    """Scores are read where DataTrove's own writers put them: in the column `metadata`."""
    rows = [{"id": row.pop("id"), "text": "Um texto.", "metadata": row | {"messages": None}} for row in scored(90)]
    for name in ("a.parquet", "a.jsonl"):
        figures, page = make(tmp_path, write(tmp_path / name, rows), "--group-by", "source")
        assert (figures["documents"], figures["unscorable"]) == (90, 3)
        assert len(figures["groups"]["values"]) == 5
        assert "Um texto." in page


def test_scores_that_are_none_are_counted_as_such(tmp_path):
    """NaN, null, text, true, absent and endless scores are documents without a score, each with a reason."""
    good = scored(3)
    bad = [{"id": "x", "quality_score": score} for score in (math.nan, math.inf, None)]
    path = write(tmp_path / "a.parquet", good + bad)
    figures, _ = make(tmp_path, path)
    assert figures["reasons"] == {"invalid_score": 2, "missing_score": 1}
    assert (figures["documents"], figures["scored"]) == (6, 3)
    assert any("NaN" in note for note in figures["notes"])

    lines = [json.dumps(row) for row in good] + ['{"quality_score": "4"}', '{"quality_score": true}', '{"id": 1}']
    lines += ['{"quality_score": 1e999}', '{"quality_error": "<b>odd</b>: reason"}']
    path = tmp_path / "a.jsonl"
    lines += ['{"quality_score": NaN}']
    path.write_text("\n".join(lines))
    figures, _ = make(tmp_path, path)
    assert (figures["documents"], figures["scored"]) == (9, 3)
    assert figures["reasons"]["invalid_score"] == 2 and figures["reasons"]["other"] == 1
    assert sum(figures["reasons"].values()) == 6


def test_damage_is_left_out_and_said(tmp_path):
    """A file that is still being written costs its own rows, and the report says which."""
    write(tmp_path / "in/a.jsonl", scored(10))
    with open(tmp_path / "in/b.jsonl", "wb") as file:
        file.write(orjson.dumps(scored(1)[0]) + b'\n{"id": "half')
    figures, _ = make(tmp_path, tmp_path / "in")
    assert (figures["documents"], figures["scored"]) == (12, 10)
    assert any("b.jsonl: 1 lines are no rows" in note for note in figures["notes"])

    write(tmp_path / "gz/a.jsonl.gz", scored(100))
    whole = (tmp_path / "gz/a.jsonl.gz").read_bytes()
    (tmp_path / "gz/a.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    figures, _ = make(tmp_path, tmp_path / "gz")
    assert 10 < figures["documents"] < 100 and not figures["reasons"].get("truncated_file")
    assert any("a.jsonl.gz is damaged" in note for note in figures["notes"])

    write(tmp_path / "pq/a.parquet", scored(10))
    (tmp_path / "pq/b.parquet").write_bytes((tmp_path / "pq/a.parquet").read_bytes()[:900])
    figures, _ = make(tmp_path, tmp_path / "pq")
    assert figures["documents"] == 10
    assert any("b.parquet" in note and "left out" in note for note in figures["notes"])


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
def test_mixed_prefixes_are_said(tmp_path, ending):
    """Files under another prefix count as documents without a score, and the page says why."""
    write(tmp_path / f"in/a.{ending}", scored(10))
    write(tmp_path / f"in/b.{ending}", [{"id": "x", "instruct_score": 3.0}])
    figures, _ = make(tmp_path, tmp_path / "in")
    assert figures["reasons"] == {"missing_score": 1, "template_error": 1}
    assert any("instruct_score" in note for note in figures["notes"])


def test_groups_beyond_fifty_are_shown_together(tmp_path, monkeypatch):
    """Of many values the commonest fifty stand alone, the rest together; past the limit they are not told apart."""
    rows = [{"id": str(i), "quality_score": 3.0, "source": f"s{i % 90 if i < 180 else i}"} for i in range(500)]
    path = write(tmp_path / "a.parquet", rows)
    groups = make(tmp_path, path, "--group-by", "source")[0]["groups"]
    assert (groups["distinct"], len(groups["values"])) == (410, 51)
    assert sum(group["documents"] for group in groups["values"]) == 500
    monkeypatch.setattr("datatrove_quality.report.aggregate.MOST_GROUPS", 60)
    groups = make(tmp_path, path, "--group-by", "source")[0]["groups"]
    assert groups["more"] and sum(group["documents"] for group in groups["values"]) == 500


def test_long_conversations_are_cut_in_the_middle(tmp_path):
    """Of a conversation of megabytes, beginning and end are shown, and what was left out is said."""
    huge = scored(1)[0] | {"messages": [{"role": "user", "content": "A" * 3_000_000 + " the end"}]}
    many = scored(1)[0] | {"messages": [{"role": "user", "content": f"turn {i}"} for i in range(50_000)]}
    _, page = make(tmp_path, write(tmp_path / "a.jsonl", [huge, many]))
    assert len(page) < 200_000
    assert "the end" in page and "characters left out" in page
    assert "turn 0<" in page and "turn 49999<" in page and "49,800 turns left out" in page


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


def test_scores_alone_and_rows_without_messages_are_shown_as_they_are(tmp_path):
    """A sidecar of scores makes a report too; where there is no text the page says so."""
    rows = [{"id": f"{i}", "file_path": "x", "quality_score": 1.0 + i % 4} for i in range(20)]
    figures, page = make(tmp_path, write(tmp_path / "run/scores/0.parquet", rows).parent.parent)
    assert figures["documents"] == 20 and figures["lengths"] is None
    assert any("quality_tokens" in note for note in figures["notes"])
    assert "There is no text in this row." in page


def test_comparing_needs_no_threshold():
    """Without thresholds nothing is decided, and only scores are compared."""
    a, b = ScoreIndex(None), ScoreIndex(None)
    a.add(["x", "y", 3], np.array([1.0, 2.0, 3.0]))
    b.add(["y", "x", "3"], np.array([2.5, 1.0, np.nan]))
    figures, sections = compare(a, b, samples=3, seed=0)
    assert figures["documents_in_both"] == 3 and "decisions" not in figures
    assert figures["moved"]["lowest"] == -0.5 and figures["scored_in_one_only"] == {"here": 1, "there": 0}
    assert sections == [{"title": "The largest changes", "kind": "flip", "rows": [1], "others": [2.5]}]


def count(folder, rows, tasks=3, merge=False):
    """What a `QualityStats` in a pipeline over these rows writes."""
    counted = QualityStats(str(folder), group_by=["source", "wide"])
    for rank in range(tasks):
        documents = [Document(text="x", id=row["id"], metadata=row | {"wide": row["id"]}) for row in rows[rank::tasks]]
        list(counted.run(documents, rank, tasks))
    if merge:
        list(StatsMerger(str(folder), f"{folder}-merged").run(None))


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
    assert "by <bdi>org/&lt;judge&gt;</bdi>, from 1 (bad) to 5 (good)" in page
    assert not any("scorers" in note for note in figures["notes"])
    figures, _ = make(tmp_path, tmp_path / "a", tmp_path / "b/kept")
    assert any("The scores are of 2 scorers or scales" in note for note in figures["notes"])


def test_calls_of_tools_and_unseen_ends_are_shown(tmp_path):
    """A turn that only calls a tool is not empty, and a text that was cut says that its end had no say."""
    calls = [{"id": "c1", "function": {"name": "get_weather", "arguments": '{"city": "Évora"}'}}]
    turn = {"role": "assistant", "content": None, "tool_calls": calls}
    row = scored(1)[0] | {"messages": [{"role": "user", "content": "Tempo?"}, turn], "quality_truncated": True}
    for name in ("a.jsonl", "a.parquet"):
        _, page = make(tmp_path, write(tmp_path / name, [row]))
        assert "get_weather" in page and "Évora" in page and "tokens, its end unseen" in page


def test_the_report_needs_neither_datatrove_nor_torch():
    """The figures are numpy alone."""
    code = "import sys, datatrove_quality.report.page; assert not {'torch', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_matplotlib_is_named_before_anything_is_read(tmp_path, monkeypatch):
    """Without the extra, the first line says what to install."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'datatrove-quality\[plots\]'"):
        make(tmp_path, tmp_path / "nowhere")


def test_mistakes_end_with_one_line_and_code_2(tmp_path):
    """The script says what is wrong in a line, without a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "datatrove_quality", "report", tmp_path / "nowhere", "--output", tmp_path],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr


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
    assert "(no value)" in [group["value"] for group in groups]


def test_a_corpus_of_which_nothing_could_be_scored_has_a_report(tmp_path):
    """All documents unscorable: no chart, but the reasons and an example of each."""
    rows = [row | {"quality_score": None, "quality_error": "template_error: no"} for row in scored(30)]
    figures, page = make(tmp_path, write(tmp_path / "a.parquet", rows), "--threshold", "3", "--group-by", "source")
    assert (figures["documents"], figures["scored"], figures["kept"]["documents"]) == (30, 0, 0)
    assert figures["figures"] == [] and "An example:" in page
