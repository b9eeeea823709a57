import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import run_command, run_filter, start_command
from samples import read_rows, rows, turns, without_scores, write_rows


ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet"])
def test_kept_and_excluded_are_the_input_in_its_own_format(tmp_path, model, ending, capsys):
    """Every row comes out once, whole, in the format and compression that it came in."""
    source = tmp_path / "in"
    source.mkdir()
    for name in ("a", "b"):
        path = source / f"{name}{ending}"
        if ending == ".parquet":
            pq.write_table(pa.Table.from_pylist(rows(30, name)), path, compression="zstd")
        else:
            write_rows(path, rows(30, name))
    (source / "README.md").write_text("another program's file")
    run_filter(source, "--output", tmp_path / "out", "--model", model, "--min-score", -1)
    kept, excluded = read_rows(tmp_path / "out/kept"), read_rows(tmp_path / "out/excluded")
    assert kept and excluded
    assert all(path.name.endswith((f"00000{ending}", f"00001{ending}")) for path in (tmp_path / "out/kept").iterdir())
    came_back = sorted((without_scores(row) for row in kept + excluded), key=lambda row: row["id"])
    assert came_back == sorted(rows(30, "a") + rows(30, "b"), key=lambda row: row["id"])
    assert all(row["quality_score"] >= -1 for row in kept)
    assert all(row["quality_score"] < -1 and row["filter_reason"] == "below_min_score" for row in excluded)
    table = capsys.readouterr().out
    assert f"documents in{60:>34}" in table
    assert "int_score 1" in table
    if ending == ".parquet":
        footer = pq.ParquetFile(tmp_path / "out/kept/000_00000.parquet").metadata
        assert footer.row_group(0).column(0).compression == "ZSTD"


def test_parquet_schema_is_that_of_all_files_together(tmp_path, model):
    """A column or message field that first appears in the last file is neither lost nor fatal, as is a bad row."""
    source = tmp_path / "in"
    source.mkdir()
    first = [{"id": "bad", "messages": []}, *({"id": str(i), "messages": turns("Oi", "Olá")} for i in range(3))]
    later = [{"role": "user", "content": "Oi", "name": "Ana"}, {"role": "assistant", "content": "Olá", "name": None}]
    pq.write_table(pa.Table.from_pylist(first[1:] + first[:1]).take([3, 0, 1, 2]), source / "a.parquet")
    pq.write_table(
        pa.Table.from_pylist([{"id": "late", "messages": later, "topic": "saudação"}]), source / "b.parquet"
    )
    run_filter(source, "--output", tmp_path / "out", "--model", model, "--min-score", -100)
    kept, excluded = read_rows(tmp_path / "out/kept"), read_rows(tmp_path / "out/excluded")
    assert [row["id"] for row in excluded] == ["bad"]
    assert excluded[0]["quality_score"] is None and excluded[0]["filter_reason"] == "unscorable_no_messages"
    [late] = [row for row in kept if row["id"] == "late"]
    assert late["topic"] == "saudação" and late["messages"][0]["name"] == "Ana"


def test_parquet_files_that_disagree_are_refused(tmp_path, model):
    """Two files with different types for one column end in an error that names it, before any work."""
    source = tmp_path / "in"
    source.mkdir()
    for name, value in (("a", "1"), ("b", 1)):
        table = pa.Table.from_pylist([{"messages": turns("Oi", "Olá"), "n": value}])
        pq.write_table(table, source / f"{name}.parquet")
    with pytest.raises(ValueError, match=r"disagree about a column.* n "):
        run_filter(source, "--output", tmp_path / "out", "--model", model)
    assert not (tmp_path / "out").exists()


def test_scores_only_writes_one_row_per_input_row_in_order(tmp_path, model):
    """A sidecar can be joined to its corpus row by row, broken rows included."""
    items = [*rows(5), {"id": "bad", "messages": None}, *rows(5, "b")]
    write_rows(tmp_path / "in/a.jsonl", items)
    run_filter(
        tmp_path / "in", "--output", tmp_path / "out", "--model", model, "--scores-only", "--prefix", "instruct"
    )
    scores = read_rows(tmp_path / "out/scores")
    assert [row["id"] for row in scores] == [item["id"] for item in items]
    assert scores[5]["instruct_score"] is None and scores[5]["instruct_error"]
    assert all(isinstance(row["instruct_score"], float) for row in scores if row["id"] != "bad")
    assert set(scores[0]) == {
        "id",
        "file_path",
        *(f"instruct_{x}" for x in ("score", "int_score", "tokens", "truncated", "error")),
    }
    assert not (tmp_path / "out/kept").exists()


def test_scores_only_after_a_damaged_row_group_has_a_row_for_each(tmp_path, model):
    """Rows that cannot be read keep their places, so that the sidecar can be joined by position too."""
    items = rows(60)
    path = write_rows(tmp_path / "in/a.parquet", items, row_group_size=20, compression="none")
    data = path.read_bytes()
    at = data.index(b"Pergunta 25 de a") - 7  # in the second row group, the length of a text
    path.write_bytes(data[:at] + b"\xff" * 6 + data[at + 6 :])
    run_filter(tmp_path / "in", "--output", tmp_path / "out", "--model", model, "--scores-only")
    scores = read_rows(tmp_path / "out/scores")
    lost = range(20, 40)
    assert [row["id"] for row in scores] == [
        f"a.parquet/{at}" if at in lost else item["id"] for at, item in enumerate(items)
    ]
    assert all((row["quality_score"] is None) == (at in lost) for at, row in enumerate(scores))
    assert all(scores[at]["quality_error"].startswith("damaged_file: rows 20 to 39") for at in lost)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "./no/such/model"), "there is no folder .*no/such/model"),
        (("--min-score", "4", "--max-score", "2"), "--min-score 4 is above --max-score 2"),
        (("--max-tokens", "100000"), "max_tokens=100000"),
        (("--max-tokens", "0"), "max_tokens=0: give a whole number of tokens from 1"),
        (("--device", "gpu"), "device='gpu'"),
        (("--schema", "alpaca"), "None of the first 3 rows can be scored. missing_column"),
    ],
)
def test_mistakes_end_in_an_error_before_anything_is_written(tmp_path, model, arguments, message):
    """A wrong setting costs seconds, not a night, and leaves no folder behind."""
    write_rows(tmp_path / "in/a.jsonl", rows(3))
    model_argument = () if "--model" in arguments else ("--model", model)
    with pytest.raises(ValueError, match=message):
        run_filter(tmp_path / "in", "--output", tmp_path / "out", *model_argument, *arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "value", "fix"),
    [
        ("--min-score", "nan", "give a number"),
        ("--limit", "0", "give a whole number from 1"),
        ("--tasks", "-1", "give a whole number from 1"),
        ("--max-tokens", "many", "give a whole number"),
        ("--dtype", "int3", "invalid choice"),
        ("--scale", "1,5", "give OFFSET,LOW,HIGH"),
        ("--chat-template", "nowhere.jinja", "cannot be read as text"),
    ],
)
def test_a_value_that_is_none_is_named_before_anything_is_read(capsys, option, value, fix):
    """The option, what was given and what to give, with argparse's code for a mistake."""
    with pytest.raises(SystemExit, match="2"):
        run_filter("nowhere", "--output", "nowhere", option, value)
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"argument {option}: " in error and repr(value) in error and fix in error


def test_a_glob_without_quotes_is_recognized(capsys):
    """The shell makes several paths of it; a mistyped option is another mistake."""
    with pytest.raises(SystemExit, match="2"):
        run_filter("data/a.jsonl", "data/b.jsonl", "--output", "nowhere")
    assert "data/b.jsonl (one path is read; put a glob in quotes)" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        run_filter("data/a.jsonl", "--ouput", "nowhere")
    assert "quotes" not in capsys.readouterr().err.splitlines()[-1]


def test_a_broken_parquet_file_is_named_before_anything_runs(tmp_path, model):
    """A file that is no Parquet is an error with its path, not six hours in."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(ValueError, match=r"a\.parquet is no whole Parquet file"):
        run_filter(tmp_path / "in", "--output", tmp_path / "out", "--model", model)


def test_plain_text_is_scored_with_text(tmp_path, model):
    """A corpus of plain text is refused with the way out, and scored when that is taken; its empty rows are kept."""
    items = [{"id": i, "content": text} for i, text in enumerate(["Um texto.", "", "Outro texto."])]
    write_rows(tmp_path / "in/a.jsonl", items)
    with pytest.raises(ValueError, match=r"plain text is scored with TextAdapter"):
        run_filter(tmp_path / "in", "--output", tmp_path / "out", "--model", model)
    run_filter(
        tmp_path / "in", "--output", tmp_path / "out", "--model", model, "--text", "content", "--min-score", -100
    )
    assert [row["id"] for row in read_rows(tmp_path / "out/kept")] == [0, 2]
    assert [without_scores(row) for row in read_rows(tmp_path / "out/excluded")] == [items[1]]


def test_two_workers_write_the_same_rows_as_one(tmp_path, model):
    """The executor's pool changes nothing about the rows, as a user starts it: from the command line."""
    for name in "abc":
        write_rows(tmp_path / f"in/{name}.jsonl", rows(10, name))
    options = [str(tmp_path / "in"), "--model", model, "--min-score", "-1", "--allow-outside-scale", "--output"]
    run_filter(*options, tmp_path / "one")
    script = [sys.executable, "-m", "datatrove_quality", "filter"]
    done = subprocess.run([*script, *options, str(tmp_path / "two"), "--workers", "2"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "INFO" not in done.stderr and "Processing done" not in done.stderr
    one, two = ([read_rows(tmp_path / name / outcome) for outcome in ("kept", "excluded")] for name in ("one", "two"))
    assert one == two
    assert len(one[0] + one[1]) == 30


@pytest.mark.parametrize(("workers", "scores"), [(1, "--model"), (2, "--scores-from-columns")])
def test_the_terminal_shows_warnings_and_the_table(tmp_path, model, workers, scores):
    """DataTrove's log is in the log files, of which --verbose shows all; a warning is one line, in workers too."""
    for name in "ab":
        scored = [row | {"quality_score": 3.0} for row in rows(5, name)]
        write_rows(tmp_path / f"in/{name}.jsonl", [*scored, b"{broken\n"])
    which = [scores, model] if scores == "--model" else [scores]
    arguments = ("filter", tmp_path / "in", *which, "--workers", workers, "--output")
    quiet = start_command(*arguments, tmp_path / "quiet")
    assert quiet.returncode == 0, quiet.stderr
    lines = [line for line in quiet.stderr.split("\n") if line and "Loading weights" not in line]
    reasons = "(invalid JSON, a key with two values, not an object, or damaged)"
    warning = f"warning: `{{}}.jsonl`: 1 line could not be read as a row {reasons}: unscorable"
    assert lines and set(lines) <= {warning.format("a"), warning.format("b")}
    assert workers == 2 or len(lines) == 2  # DataTrove's second worker shows errors only
    log = "".join(path.read_text() for path in (tmp_path / "quiet/logs/logs").glob("task_*.log"))
    assert all(part in log for part in ("PIPELINE", "Processing done", "INFO", "WARNING"))
    verbose = start_command(*arguments, tmp_path / "verbose", "--verbose")
    assert verbose.returncode == 0 and "Processing done" in verbose.stderr and "| INFO" in verbose.stderr


def test_the_table_says_what_the_run_was_and_what_to_do_next(tmp_path, model, capsys):
    """Model, threshold, rows and logs, and a command that can be typed as it is, in a shell too."""
    write_rows(tmp_path / "in/a.jsonl", rows(5))
    run_filter(tmp_path / "in", "--output", tmp_path / "my out", "--model", model, "--min-score", -1, "--max-score", 9)
    shown = dict(
        line.split(maxsplit=1) for line in capsys.readouterr().out.split("weights included")[1].splitlines()[2:]
    )
    assert shown["model"] == model
    assert shown["threshold"] == "scores at or above -1 and at or below 9 are kept"
    assert shown["rows"] == f"{tmp_path}/my out/kept, {tmp_path}/my out/excluded"
    assert shown["logs"] == f"{tmp_path}/my out/logs"
    name, *command = shlex.split(shown["next"])
    assert name == "datatrove-quality" and command[:2] == ["report", f"{tmp_path}/my out"]
    run_command(*command)
    assert (tmp_path / "my out-report/report.html").exists()
    run_filter(tmp_path / "my out", "--output", tmp_path / "again", "--scores-from-columns")
    shown = capsys.readouterr().out
    assert "the scores that the rows have" in shown and "none: rows are annotated" in shown
    assert "control tokens" not in shown  # which were not looked for


def test_a_run_without_a_score_does_not_look_finished(tmp_path, model, capsys):
    """Rows that are all broken are written to excluded, and the exit status says that nothing was scored."""
    write_rows(tmp_path / "in/a.jsonl", [{"id": "x", "messages": []}, {"id": "y", "messages": 3}])
    with pytest.raises(SystemExit, match="No document could be scored"):
        run_filter(tmp_path / "in", "--output", tmp_path / "out", "--model", model, "--min-score", 1)
    assert len(read_rows(tmp_path / "out/excluded")) == 2


def test_raise_stops_with_the_documents_id_and_file(tmp_path, model):
    """With --unscorable raise the first bad row stops the run and is named."""
    write_rows(tmp_path / "in/a.jsonl", [*rows(2), {"id": "culprit", "messages": []}])
    with pytest.raises(ValueError, match=r"'culprit' \(.*a\.jsonl\) cannot be scored: no_messages"):
        run_filter(tmp_path / "in", "--output", tmp_path / "out", "--model", model, "--unscorable", "raise")


def test_limit_scale_and_template_reach_the_scorer(tmp_path, model):
    """What the command line says about the score is what the score is made of."""
    write_rows(tmp_path / "in/a.jsonl", rows(10))
    template = tmp_path / "template.jinja"
    template.write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    run_filter(tmp_path / "in", "--output", tmp_path / "plain", "--model", model, "--limit", 4)
    options = ("--scale", "11,1,15", "--limit", "4")
    run_filter(tmp_path / "in", "--output", tmp_path / "scaled", "--model", model, *options)
    plain, scaled = read_rows(tmp_path / "plain/kept"), read_rows(tmp_path / "scaled/kept")
    assert len(plain) == 4
    assert [row["quality_score"] + 10 for row in plain] == pytest.approx(
        [row["quality_score"] for row in scaled], abs=1e-4
    )
    run_filter(
        tmp_path / "in", "--output", tmp_path / "template", "--model", model, "--chat-template", template, "--limit", 4
    )
    shorter = read_rows(tmp_path / "template/kept")
    assert all(row["quality_tokens"] < other["quality_tokens"] for row, other in zip(shorter, plain, strict=True))


def test_a_mistake_is_named_where_the_first_file_is_empty(tmp_path, model):
    """The rows that are looked at before anything is written are those of the first file that has any."""
    write_rows(tmp_path / "in/a.jsonl", [])
    write_rows(tmp_path / "in/b.jsonl", [{"id": 1, "content": "Um texto."}])
    with pytest.raises(ValueError, match=r"None of the first 1 rows can be scored.*TextAdapter"):
        run_filter(tmp_path / "in", "--output", tmp_path / "out", "--model", model)
    with pytest.raises(ValueError, match="the first 1 rows have no score"):
        run_filter(tmp_path / "in", "--output", tmp_path / "out", "--scores-from-columns")
    assert not (tmp_path / "out").exists()


def test_text_takes_its_ids_from_the_column_that_is_named(tmp_path, model):
    """A sidecar of plain text can be joined by its own ids; options that say nothing about text are refused."""
    write_rows(tmp_path / "in/a.jsonl", [{"doc": f"d{i}", "body": f"Texto {i}."} for i in range(3)])
    options = ("--text", "body", "--id-key", "doc", "--scores-only")
    run_filter(tmp_path / "in", "--output", tmp_path / "out", "--model", model, *options)
    assert [row["id"] for row in read_rows(tmp_path / "out/scores")] == ["d0", "d1", "d2"]
    with pytest.raises(ValueError, match="--text is for plain text: omit --schema"):
        run_filter(tmp_path / "in", "--output", tmp_path / "other", "--model", model, "--text", "--schema", "alpaca")


def test_columns_of_a_table_are_named(tmp_path, model):
    """A CSV file is scored when its columns are named, and refused before."""
    (tmp_path / "in.csv").write_text("q,a,note\nPergunta?,Resposta.,x\nOutra?,Certo.,y\n")
    options = (tmp_path / "in.csv", "--output", tmp_path / "out", "--model", model)
    with pytest.raises(ValueError, match=r"in\.csv is a table of texts: name its columns"):
        run_filter(*options)
    run_filter(*options, "--prompt-key", "q", "--answer-key", "a")
    written = read_rows(tmp_path / "out/kept")
    assert [(row["q"], row["a"], row["note"]) for row in written] == [
        ("Pergunta?", "Resposta.", "x"),
        ("Outra?", "Certo.", "y"),
    ]
    assert all(isinstance(row["quality_score"], float) for row in written)


def test_a_template_file_that_is_none_is_refused_before_any_work(tmp_path, model):
    """A README given as --chat-template would score every conversation alike."""
    write_rows(tmp_path / "in/a.jsonl", rows(3))
    template = tmp_path / "README.md"
    template.write_text("{ not a template }")
    with pytest.raises(ValueError, match="renders all messages alike"):
        run_filter(tmp_path / "in", "--output", tmp_path / "out", "--model", model, "--chat-template", template)
    assert not (tmp_path / "out").exists()


# --- whole files -----------------------------------------------------------------------------------------------------


# As SLURM's copies of a task, which do not know of each other.
COPY = """
import contextlib, sys
from datatrove_quality.cli.main import run as command
from datatrove_quality.runs import run
run.require_inactive = lambda output: None
run.active_run = lambda output: contextlib.nullcontext()
command(["filter", *sys.argv[1:]])
"""


@pytest.mark.parametrize("ending", [".jsonl.gz", ".parquet"])
def test_two_copies_of_a_run_at_once_leave_whole_files(tmp_path, model, ending):
    """Started at the same moment: no file is half of each, and the copy that owns the folder completes it."""
    source = tmp_path / "in" / f"a{ending}"
    if ending == ".parquet":
        source.parent.mkdir()
        pq.write_table(pa.Table.from_pylist(rows(400)), source)
    else:
        write_rows(source, rows(400))
    command = [sys.executable, "-c", COPY, str(source), "--model", model]
    command += ["--output", str(tmp_path / "out"), "--min-score", "0", "--allow-outside-scale"]
    copies = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(2)]
    failed = [copy.communicate()[1].decode() for copy in copies if copy.wait()]
    assert len(failed) <= 1 and all("belongs to another run now" in error for error in failed), failed
    written = [row for name in ("kept", "excluded") for row in read_rows(tmp_path / "out" / name)]
    assert sorted(row["id"] for row in written) == sorted(row["id"] for row in rows(400))


# --- damage and interruption -----------------------------------------------------------------------------------------


def test_a_damaged_parquet_file_costs_its_rows_and_not_the_run(tmp_path, model):
    """The rows that can be read are scored; what is missing stands in `excluded` and in the table."""
    from test_parquet import damage_group

    source = tmp_path / "in" / "a.parquet"
    source.parent.mkdir()
    pq.write_table(pa.Table.from_pylist(rows(300)), source, row_group_size=100, write_page_checksum=True)
    damage_group(source, 1)
    run_filter(source, "--output", tmp_path / "out", "--model", model, "--min-score", -99)
    kept = [row["id"] for row in read_rows(tmp_path / "out" / "kept")]
    assert kept == [f"a-{index}" for index in [*range(100), *range(200, 300)]]
    excluded = read_rows(tmp_path / "out" / "excluded")
    assert [row["id"] for row in excluded] == [f"a.parquet/{index}" for index in range(100, 200)]
    assert all(row["quality_error"].startswith("damaged_file: rows 100 to 199") for row in excluded)


def test_a_new_threshold_computes_nothing(tmp_path, model, monkeypatch):
    """--overwrite with another bound takes every score from the checkpoints, and loads no weights."""
    write_rows(tmp_path / "in" / "a.jsonl", rows(50))
    arguments = [str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--model", model, "--overwrite"]
    run_filter(*arguments, "--min-score", 1)
    first = {
        row["id"]: row["quality_score"] for name in ("kept", "excluded") for row in read_rows(tmp_path / "out" / name)
    }
    monkeypatch.setattr("datatrove_quality.engine.scorer._found", {})
    monkeypatch.setattr("datatrove_quality.engine.scorer.load_weights", lambda *_: pytest.fail("weights were read"))
    middle = sorted(first.values())[25]
    run_filter(*arguments, "--min-score", middle)
    assert {row["id"]: row["quality_score"] for row in read_rows(tmp_path / "out" / "kept")} == {
        name: score for name, score in first.items() if score >= middle
    }


def test_sigterm_ends_the_workers_and_the_next_run_goes_on(tmp_path, model, capsys):
    """As SLURM and people stop a run: no worker lives on, and what was scored is not scored again."""
    for name in ("a", "b"):
        write_rows(tmp_path / "in" / f"{name}.jsonl", rows(3_000, name))
    options = [str(tmp_path / "in"), "--model", model, "--output", str(tmp_path / "out"), "--min-score", "1"]
    command = [sys.executable, "-m", "datatrove_quality", "filter", *options, "--workers", "2"]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out").glob("logs/checkpoints/*/*.scores")) and time.monotonic() < deadline:
        time.sleep(0.02)
    first.terminate()
    assert first.wait(60) != 0
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.killpg(first.pid, 0)
            time.sleep(0.1)
    run_filter(*options)
    assert "known from checkpoints" in capsys.readouterr().out
    written = [row["id"] for name in ("kept", "excluded") for row in read_rows(tmp_path / "out" / name)]
    assert sorted(written) == sorted(row["id"] for name in ("a", "b") for row in rows(3_000, name))


def by_id(folder):
    """The rows of both outputs by folder and id, without what is null, as a column is in Parquet."""
    found = {}
    for outcome in ("kept", "excluded"):
        for row in read_rows(folder / outcome):
            found[outcome, row["id"]] = {name: value for name, value in row.items() if value is not None}
    return found


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_scores_from_columns_decides_as_a_fresh_run(tmp_path, model, ending, monkeypatch, capsys):
    """A scored run's own output gets another threshold without a model, row by row as scoring again would."""
    bad = {"id": "bad", "messages": [], "rank": 0, "n": None}
    for name in ("a", "b"):
        path = tmp_path / "in" / f"{name}{ending}"
        items = [*rows(40, name), bad | {"id": f"bad-{name}"}]
        if ending == ".jsonl":
            write_rows(path, items)
        else:
            path.parent.mkdir(exist_ok=True)
            pq.write_table(pa.Table.from_pylist(items), path)
    run_filter(tmp_path / "in", "--output", tmp_path / "first", "--model", model, "--min-score", -99)
    scores = sorted(row["quality_score"] for row in by_id(tmp_path / "first").values() if "quality_score" in row)
    run_filter(tmp_path / "in", "--output", tmp_path / "fresh", "--model", model, "--min-score", scores[30])
    monkeypatch.setattr(
        "datatrove_quality.runs.scoring.find_scorer", lambda config: pytest.fail("a model was looked for")
    )
    options = ("--scores-from-columns", "--min-score", scores[30])
    run_filter(tmp_path / "first", "--output", tmp_path / "again", *options)
    assert by_id(tmp_path / "again") == by_id(tmp_path / "fresh")
    assert len(read_rows(tmp_path / "again/kept")) == 50 and len(read_rows(tmp_path / "again/excluded")) == 32
    assert f"scores that were there already{80:>16}" in capsys.readouterr().out
    if ending == ".parquet":
        scorers = {pq.read_schema(path).metadata[b"quality_scorer"] for path in tmp_path.glob("*/kept/*.parquet")}
        assert len(scorers) == 1


def test_scores_from_columns_needs_scores(tmp_path, model):
    """Rows without the column end in an error that names it, before anything is written."""
    write_rows(tmp_path / "in/a.jsonl", [row | {"quality_score": 3} for row in rows(3)])
    options = ("--output", tmp_path / "out", "--scores-from-columns")
    with pytest.raises(ValueError, match=r"first 3 rows have no score in a column 'instruct_score'.*--prefix"):
        run_filter(tmp_path / "in", *options, "--prefix", "instruct")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options",
    [["--model", "m"], ["--reuse-scores"], ["--scores-only"], ["--no-checkpoints"], ["--special-tokens", "reject"]],
)
def test_scores_from_columns_takes_no_option_of_scoring(tmp_path, options):
    """An option that would have no effect is a mistake."""
    with pytest.raises(ValueError, match=f"--scores-from-columns scores nothing: omit {options[0]}"):
        run_filter("in", "--output", tmp_path, "--scores-from-columns", *options)
