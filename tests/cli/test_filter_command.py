import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import run_command, start_command
from datatrove.io import get_datafolder
from samples import read_rows, write_rows
from tiny_models import DECODER, chatml_tokenizer, save_model

from datatrove_quality import QualityFilter
from datatrove_quality.runs import inputs, summary


ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_model(tmp_path_factory.mktemp("pipeline-model"), "qwen3", chatml_tokenizer(), **DECODER))


def rows(count, name="a"):
    return [
        {"id": f"{name}-{i}", "messages": turns(f"Pergunta {i} de {name}", f"Resposta {i * 7}."), "rank": i, "n": None}
        for i in range(count)
    ]


def turns(question, answer):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def run(*arguments):
    """The command, with thresholds to which the random model's scores lie on both sides."""
    run_command("filter", *arguments, "--allow-outside-scale")


def without_scores(row):
    return {key: value for key, value in row.items() if not key.startswith("quality_") and key != "filter_reason"}


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
    (source / "README.md").write_text("somebody else's file")
    run(source, "--output", tmp_path / "out", "--model", model, "--min-score", -1)
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
    run(source, "--output", tmp_path / "out", "--model", model, "--min-score", -100)
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
        run(source, "--output", tmp_path / "out", "--model", model)
    assert not (tmp_path / "out").exists()


def test_scores_only_writes_one_row_per_input_row_in_order(tmp_path, model):
    """A sidecar can be joined to its corpus row by row, broken rows included."""
    items = [*rows(5), {"id": "bad", "messages": None}, *rows(5, "b")]
    write_rows(tmp_path / "in/a.jsonl", items)
    run(tmp_path / "in", "--output", tmp_path / "out", "--model", model, "--scores-only", "--prefix", "instruct")
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


def test_a_rerun_resumes_and_a_different_one_is_refused(tmp_path, model, capsys):
    """Completed tasks are not done again; what would mix two runs is an error that names the difference."""
    write_rows(tmp_path / "in/a.jsonl", rows(10))
    write_rows(tmp_path / "in/b.jsonl", rows(10, "b"))
    arguments = (tmp_path / "in", "--output", tmp_path / "out", "--model", model, "--min-score", -1)
    run(*arguments)
    first = capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*/0000*")}
    (tmp_path / "out/logs/completions/00001").unlink()
    run(*arguments, "--tokens-per-batch", 300)  # decides no score
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*/0000*")}
    assert {path.name for path in before if before[path] != after[path]} == {"00001.jsonl"}
    second = capsys.readouterr().out
    assert first.split("tokens")[0] == second.split("tokens")[0]
    with pytest.raises(ValueError, match=r"min_score: was -1.0, is now 2.0"):
        run(*arguments[:-1], 2)
    with pytest.raises(ValueError, match=r"tasks: was 2, is now 1"):
        run(*arguments, "--tasks", 1)
    write_rows(tmp_path / "in/c.jsonl", rows(3, "c"))
    with pytest.raises(ValueError, match=r"files: c\.jsonl: was nothing, is now"):
        run(*arguments)
    run(*arguments, "--overwrite")
    assert len(read_rows(tmp_path / "out/kept") + read_rows(tmp_path / "out/excluded")) == 23


def test_somebody_elses_files_are_never_deleted(tmp_path, model):
    """An output folder whose files no run of the script recorded is refused, even with --overwrite."""
    write_rows(tmp_path / "in/a.jsonl", rows(3))
    precious = tmp_path / "out/kept/precious.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("mine")
    with pytest.raises(ValueError, match="holds files that no run recorded"):
        run(tmp_path / "in", "--output", tmp_path / "out", "--model", model, "--overwrite")
    assert precious.read_text() == "mine"


@pytest.mark.parametrize("output", ["in", "in/deeper"])
def test_output_must_lie_outside_of_the_input(tmp_path, model, output):
    """A run that would read its own output the next time is refused."""
    write_rows(tmp_path / "in/a.jsonl", rows(3))
    with pytest.raises(ValueError, match="is or lies in the input folder"):
        run(tmp_path / "in", "--output", tmp_path / output, "--model", model)
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["a.jsonl"]


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
        run(tmp_path / "in", "--output", tmp_path / "out", *model_argument, *arguments)
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
        run("nowhere", "--output", "nowhere", option, value)
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"argument {option}: " in error and repr(value) in error and fix in error


def test_a_glob_without_quotes_is_recognized(capsys):
    """The shell makes several paths of it; a mistyped option is another mistake."""
    with pytest.raises(SystemExit, match="2"):
        run("data/a.jsonl", "data/b.jsonl", "--output", "nowhere")
    assert "data/b.jsonl (one path is read; put a glob in quotes)" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        run("data/a.jsonl", "--ouput", "nowhere")
    assert "quotes" not in capsys.readouterr().err.splitlines()[-1]


def test_missing_and_foreign_input_is_named(tmp_path):
    """No file, no file of a known format, and two formats at once are three clear errors."""
    with pytest.raises(ValueError, match="no such file or folder"):
        inputs.find_inputs(str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match=r"there is no file\.$"):
        inputs.find_inputs(str(tmp_path))
    with pytest.raises(ValueError, match=r"there is no file \(a \[ in a folder's name is written \[\[\]"):
        inputs.find_inputs(str(tmp_path / "data [v1]/*"))
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ValueError, match=r"no file here ends in \.jsonl.*1 others"):
        inputs.find_inputs(str(tmp_path))
    write_rows(tmp_path / "b.jsonl", rows(1))
    pq.write_table(pa.Table.from_pylist(rows(1)), tmp_path / "c.parquet")
    with pytest.raises(ValueError, match=r"several formats \(json, parquet\)"):
        inputs.find_inputs(str(tmp_path))
    assert list(inputs.find_inputs(str(tmp_path / "*.parquet")).sizes) == ["c.parquet"]
    assert list(inputs.find_inputs(str(tmp_path / "b.jsonl")).sizes) == ["b.jsonl"]


def test_a_broken_parquet_file_is_named_before_anything_runs(tmp_path, model):
    """A file that is no Parquet is an error with its path, not six hours in."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(ValueError, match=r"a\.parquet is no whole Parquet file"):
        run(tmp_path / "in", "--output", tmp_path / "out", "--model", model)


def test_plain_text_is_scored_with_text(tmp_path, model):
    """A corpus of plain text is refused with the way out, and scored when that is taken; its empty rows are kept."""
    items = [{"id": i, "content": text} for i, text in enumerate(["Um texto.", "", "Outro texto."])]
    write_rows(tmp_path / "in/a.jsonl", items)
    with pytest.raises(ValueError, match=r"plain text is scored with .*--text \[COLUMN\]"):
        run(tmp_path / "in", "--output", tmp_path / "out", "--model", model)
    run(tmp_path / "in", "--output", tmp_path / "out", "--model", model, "--text", "content", "--min-score", -100)
    assert [row["id"] for row in read_rows(tmp_path / "out/kept")] == [0, 2]
    assert [without_scores(row) for row in read_rows(tmp_path / "out/excluded")] == [items[1]]


def test_two_workers_write_the_same_rows_as_one(tmp_path, model):
    """The executor's pool changes nothing about the rows, as a user starts it: from the command line."""
    for name in "abc":
        write_rows(tmp_path / f"in/{name}.jsonl", rows(10, name))
    options = [str(tmp_path / "in"), "--model", model, "--min-score", "-1", "--allow-outside-scale", "--output"]
    run(*options, tmp_path / "one")
    script = [sys.executable, "-m", "datatrove_quality", "filter"]
    done = subprocess.run([*script, *options, str(tmp_path / "two"), "--workers", "2"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    one, two = ([read_rows(tmp_path / name / door) for door in ("kept", "excluded")] for name in ("one", "two"))
    assert one == two
    assert len(one[0] + one[1]) == 30


@pytest.mark.parametrize("workers", [1, 2])
def test_the_terminal_shows_warnings_and_the_table(tmp_path, model, workers):
    """DataTrove's log is in the log files, of which --verbose shows all; a warning is one line, in workers too."""
    for name in "ab":
        write_rows(tmp_path / f"in/{name}.jsonl", rows(5, name))
        with (tmp_path / f"in/{name}.jsonl").open("a") as file:
            file.write("{broken\n")
    arguments = ("filter", tmp_path / "in", "--model", model, "--workers", workers, "--output")
    quiet = start_command(*arguments, tmp_path / "quiet")
    assert quiet.returncode == 0, quiet.stderr
    lines = [line for line in quiet.stderr.split("\n") if line and "Loading weights" not in line]
    warning = "warning: `{}.jsonl`: 1 lines are no rows, or could not be read; kept as unscorable"
    assert lines and set(lines) <= {warning.format("a"), warning.format("b")}
    assert workers == 2 or len(lines) == 2  # DataTrove's second worker shows errors only
    log = "".join(path.read_text() for path in (tmp_path / "quiet/logs/logs").glob("task_*.log"))
    assert all(part in log for part in ("PIPELINE", "Processing done", "INFO", "WARNING"))
    verbose = start_command(*arguments, tmp_path / "verbose", "--verbose")
    assert verbose.returncode == 0 and "Processing done" in verbose.stderr and "| INFO" in verbose.stderr


def test_the_table_says_what_the_run_was_and_what_to_do_next(tmp_path, model, capsys):
    """Model, threshold, rows and logs, and a command that can be typed as it is, in a shell too."""
    write_rows(tmp_path / "in/a.jsonl", rows(5))
    run(tmp_path / "in", "--output", tmp_path / "my out", "--model", model, "--min-score", -1, "--max-score", 9)
    shown = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.split("start to end")[1].splitlines()[2:])
    assert shown["model"] == model
    assert shown["threshold"] == "scores at or above -1 and at or below 9 are kept"
    assert shown["rows"] == f"{tmp_path}/my out/kept, {tmp_path}/my out/excluded"
    assert shown["logs"] == f"{tmp_path}/my out/logs"
    name, *command = shlex.split(shown["next"])
    assert name == "datatrove-quality" and command[:2] == ["report", f"{tmp_path}/my out"]
    run_command(*command)
    assert (tmp_path / "my out-report/report.html").exists()
    run(tmp_path / "my out", "--output", tmp_path / "again", "--scores-from-columns")
    shown = capsys.readouterr().out
    assert "the scores that the rows have" in shown and "none: rows are annotated" in shown


def test_a_run_without_a_score_does_not_look_finished(tmp_path, model, capsys):
    """Rows that are all broken are written to excluded, and the exit status says that nothing was scored."""
    write_rows(tmp_path / "in/a.jsonl", [{"id": "x", "messages": []}, {"id": "y", "messages": 3}])
    with pytest.raises(SystemExit, match="No document could be scored"):
        run(tmp_path / "in", "--output", tmp_path / "out", "--model", model, "--min-score", 1)
    assert len(read_rows(tmp_path / "out/excluded")) == 2


def test_raise_stops_with_the_documents_id_and_file(tmp_path, model):
    """With --unscorable raise the first bad row stops the run and is named."""
    write_rows(tmp_path / "in/a.jsonl", [*rows(2), {"id": "culprit", "messages": []}])
    with pytest.raises(ValueError, match=r"'culprit' \(.*a\.jsonl\) cannot be scored: no_messages"):
        run(tmp_path / "in", "--output", tmp_path / "out", "--model", model, "--unscorable", "raise")


def test_limit_scale_and_template_reach_the_scorer(tmp_path, model):
    """What the command line says about the score is what the score is made of."""
    write_rows(tmp_path / "in/a.jsonl", rows(10))
    template = tmp_path / "template.jinja"
    template.write_text("{{ messages[-1].content }}")
    run(tmp_path / "in", "--output", tmp_path / "plain", "--model", model, "--limit", 4)
    options = ("--scale", "11,1,15", "--limit", "4")
    run(tmp_path / "in", "--output", tmp_path / "scaled", "--model", model, *options)
    plain, scaled = read_rows(tmp_path / "plain/kept"), read_rows(tmp_path / "scaled/kept")
    assert len(plain) == 4
    assert [row["quality_score"] + 10 for row in plain] == pytest.approx(
        [row["quality_score"] for row in scaled], abs=1e-4
    )
    run(
        tmp_path / "in", "--output", tmp_path / "template", "--model", model, "--chat-template", template, "--limit", 4
    )
    shorter = read_rows(tmp_path / "template/kept")
    assert all(row["quality_tokens"] < other["quality_tokens"] for row, other in zip(shorter, plain, strict=True))


def test_statistics_that_two_copies_wrote_are_read(tmp_path):
    """Two copies of a task that end together write one file of statistics, one over the other's longer one."""
    stats = [{"name": "reader", "stats": {}}]
    stats += [{"name": f"filter: {QualityFilter.name}", "stats": {"total": 3, "tokens": {"total": 7}}}]
    (tmp_path / "logs/stats").mkdir(parents=True)
    (tmp_path / "logs/stats/00000.json").write_text(json.dumps(stats) + "8}]")
    [found] = summary.Summary.of_run(get_datafolder(str(tmp_path)))
    assert found.counts == {"total": 3, "tokens": 7}
    (tmp_path / "logs/stats/00000.json").write_text(json.dumps(stats)[:-9])
    with pytest.raises(ValueError, match=r"logs/stats/00000.json is damaged"):
        summary.Summary.of_run(get_datafolder(str(tmp_path)))


def test_summary_adds_up_all_tasks():
    """The table's numbers are the sums of the tasks' statistics, and its parts add up to what came in."""
    counts = summary.Counter(
        {"total": 10, "forwarded": 6, "dropped": 4, "dropped_below_min_score": 3, "dropped_unscorable_no_messages": 1,
         "unscorable": 1, "unscorable_no_messages": 1, "scored": 9, "int_score_1": 3, "int_score_5": 6, "tokens": 900}
    )  # fmt: skip
    table = summary.Summary(counts).table(seconds=2.0)
    assert "5 documents/s, 450 tokens/s" in table
    assert "kept without a score" not in table
    assert [line.split() for line in table.splitlines() if line.startswith("dropped")] == [["dropped", "4", "40.0%"]]


def test_a_second_pass_never_deletes_its_own_input(tmp_path, model):
    """Filtering DIR/kept again into DIR is refused, with --overwrite too, and so is a way around by a link."""
    write_rows(tmp_path / "in/a.jsonl", rows(5))
    run(tmp_path / "in", "--output", tmp_path / "out", "--model", model, "--min-score", -100)
    before = read_rows(tmp_path / "out/kept")
    with pytest.raises(ValueError, match="is the output of a run into"):
        run(tmp_path / "out/kept", "--output", tmp_path / "out", "--model", model, "--overwrite")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    with pytest.raises(ValueError, match="is or lies in the input folder"):
        run(tmp_path / "in", "--output", tmp_path / "link/out", "--model", model)
    assert read_rows(tmp_path / "out/kept") == before and len(before) == 5


def test_overwrite_leaves_nothing_of_the_other_mode(tmp_path, model):
    """After --overwrite the folder holds the new run's output and no other."""
    write_rows(tmp_path / "in/a.jsonl", rows(3))
    run(tmp_path / "in", "--output", tmp_path / "out", "--model", model)
    run(tmp_path / "in", "--output", tmp_path / "out", "--model", model, "--scores-only", "--overwrite")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"scores", "logs"}


@pytest.mark.parametrize("lost", ["kept", "logs/inputs.txt"])
def test_killed_while_starting_the_next_run_is_whole(tmp_path, model, lost):
    """Killed between the steps of claiming the folder, a run can be started again and ends with all rows."""
    write_rows(tmp_path / "in/a.jsonl", rows(5))
    arguments = (tmp_path / "in", "--output", tmp_path / "out", "--model", model, "--min-score", -100)
    run(*arguments)
    shutil.rmtree(tmp_path / "out/logs/completions")  # what --overwrite deletes first
    path = tmp_path / "out" / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    run(*arguments)
    assert len(read_rows(tmp_path / "out/kept")) == 5


def test_files_that_are_not_read_are_named(tmp_path, log):
    """Endings count in any case; other files and links to folders are left out aloud."""
    for name in ("a.jsonl", "b.JSONL", "sub/c.jsonl"):
        write_rows(tmp_path / "in" / name, rows(1))
    (tmp_path / "in/d.json").write_text("{}")
    (tmp_path / "in/link").symlink_to(tmp_path / "in/sub")
    assert list(inputs.find_inputs(str(tmp_path / "in")).sizes) == ["a.jsonl", "b.JSONL", "sub/c.jsonl"]
    assert any("2 files are NOT read" in line and "d.json" in line and "'link'" in line for line in log)


def test_a_rewritten_list_of_files_is_never_seen_in_part(tmp_path):
    """A task that starts while the same command is given again would lose the rows of the files it does not see."""
    (tmp_path / "in").mkdir()
    for number in range(3):
        write_rows(tmp_path / "in" / f"{number}.jsonl", rows(1))
    found, output = inputs.find_inputs(str(tmp_path / "in")), get_datafolder(str(tmp_path / "out"))
    found.write_paths(output)
    with (tmp_path / "out/logs/inputs.txt").open() as before:
        found.write_paths(output)
        assert before.read().splitlines() == ["0.jsonl", "1.jsonl", "2.jsonl"]
        assert os.fstat(before.fileno()).st_nlink == 0  # another file has its name now
    assert (tmp_path / "out/logs/inputs.txt").read_text() == "0.jsonl\n1.jsonl\n2.jsonl\n"


def test_a_folder_whose_name_looks_like_a_glob(tmp_path):
    """What exists is taken as it stands; only what does not is read as a pattern."""
    write_rows(tmp_path / "data [v1]/a.jsonl", rows(1))
    assert list(inputs.find_inputs(str(tmp_path / "data [v1]")).sizes) == ["a.jsonl"]
    assert list(inputs.find_inputs(str(tmp_path / "data [v1]/a.jsonl")).sizes) == ["a.jsonl"]


@pytest.mark.parametrize("name", [b" a.jsonl", b"a\nb.jsonl", b"sub/a\rb.jsonl", b"\xff.jsonl"])
def test_a_name_that_the_list_of_files_cannot_hold_is_refused(tmp_path, name):
    """DataTrove reads the list by lines and strips them: of " a.jsonl" and "a.jsonl" it would read one twice."""
    write_rows(tmp_path / "in/a.jsonl", rows(1))
    (tmp_path / "in/sub").mkdir()
    with open(os.fsencode(tmp_path / "in") + b"/" + name, "wb") as file:
        file.write(b"{}\n")
    with pytest.raises(ValueError, match=r"the name '.*\.jsonl' begins with a space, .*: rename it"):
        inputs.find_inputs(str(tmp_path / "in"))


def test_what_a_killed_task_left_is_no_input(tmp_path):
    """A run's folder has its finished rows, and not those that will come again, wherever it lies in the input."""
    write_rows(tmp_path / "runs/a/kept/00000.jsonl", rows(1))
    write_rows(tmp_path / "runs/a/logs/unfinished/kept/0123abcd.00001.jsonl", rows(1, "b"))
    assert list(inputs.find_inputs(str(tmp_path / "runs")).sizes) == ["a/kept/00000.jsonl"]
    assert list(inputs.find_inputs(str(tmp_path / "runs/a")).sizes) == ["kept/00000.jsonl"]


def test_a_mistake_is_named_where_the_first_file_is_empty(tmp_path, model):
    """The rows that are looked at before anything is written are those of the first file that has any."""
    write_rows(tmp_path / "in/a.jsonl", [])
    write_rows(tmp_path / "in/b.jsonl", [{"id": 1, "content": "Um texto."}])
    with pytest.raises(ValueError, match=r"None of the first 1 rows can be scored.*\n.*--text"):
        run(tmp_path / "in", "--output", tmp_path / "out", "--model", model)
    with pytest.raises(ValueError, match="the first 1 rows have no score"):
        run(tmp_path / "in", "--output", tmp_path / "out", "--scores-from-columns")
    assert not (tmp_path / "out").exists()


def test_more_tasks_than_files_are_named(tmp_path, log):
    """Each of the rest would wait for a GPU to do nothing with it."""
    write_rows(tmp_path / "in/a.jsonl", rows(1))
    found = inputs.find_inputs(str(tmp_path / "in"))
    assert [found.tasks(None), found.tasks(1)] == [1, 1] and not log
    assert found.tasks(64) == 64
    assert any("tasks=64: a task reads whole files, and there are 1" in line for line in log)


def test_whole_and_broken_numbers_in_one_column_are_refused(tmp_path):
    """A column of integers in one file and floats in another would come back rounded: said before any work."""
    for name, value in (("a", 2**60 + 1), ("b", 0.5)):
        pq.write_table(pa.table({"n": [value]}), tmp_path / f"{name}.parquet")
    with pytest.raises(ValueError, match=r"disagree about a column.* n is one of double, int64"):
        inputs.find_inputs(str(tmp_path)).parquet_schema()


def test_text_takes_its_ids_from_the_column_that_is_named(tmp_path, model):
    """A sidecar of plain text can be joined by its own ids; options that say nothing about text are refused."""
    write_rows(tmp_path / "in/a.jsonl", [{"doc": f"d{i}", "body": f"Texto {i}."} for i in range(3)])
    options = ("--text", "body", "--id-key", "doc", "--scores-only")
    run(tmp_path / "in", "--output", tmp_path / "out", "--model", model, *options)
    assert [row["id"] for row in read_rows(tmp_path / "out/scores")] == ["d0", "d1", "d2"]
    with pytest.raises(ValueError, match="--text is for plain text: omit --schema"):
        run(tmp_path / "in", "--output", tmp_path / "other", "--model", model, "--text", "--schema", "alpaca")


def test_columns_of_a_table_are_named(tmp_path, model):
    """A CSV file is scored when its columns are named, and refused before."""
    (tmp_path / "in.csv").write_text("q,a,note\nPergunta?,Resposta.,x\nOutra?,Certo.,y\n")
    options = (tmp_path / "in.csv", "--output", tmp_path / "out", "--model", model)
    with pytest.raises(ValueError, match=r"in\.csv is a table of texts: name its columns"):
        run(*options)
    run(*options, "--prompt-key", "q", "--answer-key", "a")
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
        run(tmp_path / "in", "--output", tmp_path / "out", "--model", model, "--chat-template", template)
    assert not (tmp_path / "out").exists()


def test_the_commonest_reason_is_the_commonest():
    """The last word of a run without scores names the reason of most documents, and how many they are."""
    counts = summary.Counter({"total": 3, "unscorable": 3, "unscorable_a": 1, "unscorable_b": 2})
    assert summary.Summary(counts).commonest_reason().startswith("2 of 3 documents: b;")


def test_an_input_that_links_into_the_output_is_refused(tmp_path, model):
    """A link to a file of DIR/kept is that file: --overwrite does not delete it."""
    write_rows(tmp_path / "in/a.jsonl", rows(3))
    run(tmp_path / "in", "--output", tmp_path / "out", "--model", model)
    (tmp_path / "in2").mkdir()
    (tmp_path / "in2/a.jsonl").symlink_to(tmp_path / "out/kept/00000.jsonl")
    with pytest.raises(ValueError, match="is the output of a run into"):
        run(tmp_path / "in2", "--output", tmp_path / "out", "--model", model, "--overwrite")
    assert len(read_rows(tmp_path / "out/kept")) == 3


STRUCT = pa.struct([("a", pa.int64())])


@pytest.mark.parametrize(
    ("first", "second", "fits"),
    [
        (pa.int32(), pa.int64(), True),
        (pa.null(), pa.string(), True),
        (pa.string(), pa.large_string(), True),
        (STRUCT, pa.struct([("a", pa.int32()), ("b", pa.string())]), True),
        (pa.list_(STRUCT), pa.list_(pa.struct([("b", pa.string())])), True),
        (pa.int64(), pa.float64(), False),
        (pa.int64(), pa.uint64(), False),
        (STRUCT, pa.struct([("a", pa.float64())]), False),
        (pa.list_(pa.int64()), pa.list_(pa.float64()), False),
        (pa.string(), pa.binary(), False),
        (pa.timestamp("s"), pa.timestamp("ns"), False),
    ],
    ids=str,
)
def test_files_share_a_column_only_where_nothing_is_lost(tmp_path, first, second, fits):
    """Two files' types of one column are merged where every value comes back as it was, and refused elsewhere."""
    for name, kind in (("a", first), ("b", second)):
        pq.write_table(pa.schema([("n", kind)]).empty_table(), tmp_path / f"{name}.parquet")
    found = inputs.find_inputs(str(tmp_path))
    if fits:
        assert found.parquet_schema().names == ["n"]
    else:
        with pytest.raises(ValueError, match="disagree about a column"):
            found.parquet_schema()


def test_a_damaged_record_says_so(tmp_path, model):
    """A run.json cut off by a kill is named, with the way out."""
    write_rows(tmp_path / "in/a.jsonl", rows(3))
    run(tmp_path / "in", "--output", tmp_path / "out", "--model", model)
    (tmp_path / "out/logs/run.json").write_text("{")
    with pytest.raises(ValueError, match=r"run\.json is damaged"):
        run(tmp_path / "in", "--output", tmp_path / "out", "--model", model)


# --- whole files -----------------------------------------------------------------------------------------------------


def test_a_file_appears_when_it_is_complete(tmp_path):
    """While a task writes, and after it fails, no reader finds a part of a file; at its end the file is there."""
    from datatrove.data import Document

    from datatrove_quality.runs.outputs import WholeJsonlWriter

    def write(name, fail=False):
        with WholeJsonlWriter(str(tmp_path / "kept"), str(tmp_path / "unfinished"), compression=None) as writer:
            writer.write(Document(text=name, id=name), 0)
            writer.output_mg.get_file("00000.jsonl").flush()
            assert len(list((tmp_path / "unfinished").iterdir())) == 1
            before = [path.read_text() for path in (tmp_path / "kept").glob("*")]
            assert not any(name in text for text in before)
            if fail:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write("failed", fail=True)
    assert not list((tmp_path / "kept").glob("*"))
    write("first")
    write("second")
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["00000.jsonl"]
    assert json.loads((tmp_path / "kept" / "00000.jsonl").read_text())["id"] == "second"
    assert not list((tmp_path / "unfinished").iterdir())


@pytest.mark.parametrize("kind", ["WholeJsonlWriter", "WholeParquetWriter"])
def test_the_first_complete_copy_wins_and_nothing_of_others_stays(tmp_path, kind):
    """A copy that another has overtaken gives way; what a killed one left goes; other tasks' files are left alone."""
    from datatrove.data import Document

    from datatrove_quality.runs import outputs

    folders = (str(tmp_path / "kept"), str(tmp_path / "unfinished"))
    slow, fast, other = (getattr(outputs, kind)(*folders, compression=None) for _ in range(3))
    ending = "jsonl" if kind == "WholeJsonlWriter" else "parquet"
    (tmp_path / "unfinished").mkdir()
    names = ["00000.jsonl", "00001.jsonl"] if ending == "jsonl" else ["000_00000.parquet", "000_00001.parquet"]
    (tmp_path / "unfinished" / f"0123abcd.{names[0]}").write_text("of a killed task")
    with other:
        other.write(Document(text="other", id="other"), 1)
        with slow:
            slow.write(Document(text="slow", id="slow"), 0)
            with fast:
                fast.write(Document(text="fast", id="fast"), 0)
            assert len(list((tmp_path / "unfinished").iterdir())) == 1
        found = read_rows(tmp_path / "kept")
        assert [row["id"] for row in found] == ["fast"]
    assert {path.name for path in (tmp_path / "kept").iterdir()} == set(names)
    assert not list((tmp_path / "unfinished").iterdir())


# As SLURM's copies of a task, which do not know of each other.
COPY = """
import contextlib, sys
from datatrove_quality.cli.main import run as command
from datatrove_quality.runs import run
run.refuse_active = lambda output: None
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
    run(source, "--output", tmp_path / "out", "--model", model, "--min-score", -99)
    kept = [row["id"] for row in read_rows(tmp_path / "out" / "kept")]
    assert kept == [f"a-{index}" for index in [*range(100), *range(200, 300)]]
    (excluded,) = read_rows(tmp_path / "out" / "excluded")
    assert excluded["quality_error"].startswith("damaged_file: rows 100 to 199")


def test_parquet_carries_the_scorers_fingerprint(tmp_path, model):
    """What made the scores can be read from the file itself, and a second scorer's takes the place of the first's."""
    source = tmp_path / "in" / "a.parquet"
    source.parent.mkdir()
    pq.write_table(pa.Table.from_pylist(rows(5)), source)
    digests = []
    for name, inputs_ in (("one", source), ("two", tmp_path / "one" / "kept")):
        options = ["--max-tokens", "30"] if name == "two" else []
        run(inputs_, "--output", tmp_path / name, "--model", model, *options)
        (path,) = (tmp_path / name / "kept").iterdir()
        metadata = pq.read_schema(path).metadata
        scorer = json.loads(metadata[b"quality_scorer"])
        assert {"torch", "transformers"} <= scorer["versions"].keys()
        assert scorer["parts"]["max_tokens"] == (30 if options else 160)
        digests.append(scorer["fingerprint"])
    assert digests[0] != digests[1]
    assert (tmp_path / "one" / "logs" / "checkpoints" / digests[0] / "scorer.json").exists()


def test_weights_that_changed_since_are_another_run(tmp_path, model, monkeypatch):
    """A rerun into the same folder with a model that was trained on meanwhile is refused: its scores would mix."""
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    write_rows(tmp_path / "in" / "a.jsonl", rows(3))
    arguments = [str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--model", str(folder)]
    run(*arguments)
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-2] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    monkeypatch.setattr("datatrove_quality.engine.scorer._found", {})
    with pytest.raises(ValueError, match=r"weights: was .*, is now"):
        run(*arguments)


def test_a_new_threshold_computes_nothing(tmp_path, model, monkeypatch):
    """--overwrite with another bound takes every score from the checkpoints, and loads no weights."""
    write_rows(tmp_path / "in" / "a.jsonl", rows(50))
    arguments = [str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--model", model, "--overwrite"]
    run(*arguments, "--min-score", 1)
    first = {
        row["id"]: row["quality_score"] for name in ("kept", "excluded") for row in read_rows(tmp_path / "out" / name)
    }
    monkeypatch.setattr("datatrove_quality.engine.scorer._found", {})
    monkeypatch.setattr("datatrove_quality.engine.scorer.load_weights", lambda *_: pytest.fail("weights were read"))
    middle = sorted(first.values())[25]
    run(*arguments, "--min-score", middle)
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
    run(*options)
    assert "known from checkpoints" in capsys.readouterr().out
    written = [row["id"] for name in ("kept", "excluded") for row in read_rows(tmp_path / "out" / name)]
    assert sorted(written) == sorted(row["id"] for name in ("a", "b") for row in rows(3_000, name))


def by_id(folder):
    """The rows behind both doors by door and id, without what is null, as a column is in Parquet."""
    found = {}
    for door in ("kept", "excluded"):
        for row in read_rows(folder / door):
            found[door, row["id"]] = {name: value for name, value in row.items() if value is not None}
    return found


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_scores_from_columns_decides_as_a_fresh_run(tmp_path, model, ending, monkeypatch, capsys):
    """A scored run's own output gets another threshold without a model, row by row as scoring anew would."""
    bad = {"id": "bad", "messages": [], "rank": 0, "n": None}
    for name in ("a", "b"):
        path = tmp_path / "in" / f"{name}{ending}"
        items = [*rows(40, name), bad | {"id": f"bad-{name}"}]
        if ending == ".jsonl":
            write_rows(path, items)
        else:
            path.parent.mkdir(exist_ok=True)
            pq.write_table(pa.Table.from_pylist(items), path)
    run(tmp_path / "in", "--output", tmp_path / "first", "--model", model, "--min-score", -99)
    scores = sorted(row["quality_score"] for row in by_id(tmp_path / "first").values() if "quality_score" in row)
    run(tmp_path / "in", "--output", tmp_path / "fresh", "--model", model, "--min-score", scores[30])
    monkeypatch.setattr(
        "datatrove_quality.runs.scoring.find_scorer", lambda config: pytest.fail("a model was looked for")
    )
    options = ("--scores-from-columns", "--min-score", scores[30])
    run(tmp_path / "first", "--output", tmp_path / "again", *options)
    assert by_id(tmp_path / "again") == by_id(tmp_path / "fresh")
    assert len(read_rows(tmp_path / "again/kept")) == 50 and len(read_rows(tmp_path / "again/excluded")) == 32
    assert f"scores that were there already{80:>16}" in capsys.readouterr().out
    if ending == ".parquet":
        scorers = {pq.read_schema(path).metadata[b"quality_scorer"] for path in tmp_path.glob("*/kept/*.parquet")}
        assert len(scorers) == 1


def test_reuse_scores_scores_what_is_new(tmp_path, model, monkeypatch):
    """Rows that joined a scored corpus later are scored, and no other."""
    write_rows(tmp_path / "in/a.jsonl", rows(30, "a"))
    run(tmp_path / "in", "--output", tmp_path / "first", "--model", model)
    (scored,) = (tmp_path / "first/kept").iterdir()
    shutil.copy(scored, tmp_path / "in/a.jsonl")
    write_rows(tmp_path / "in/b.jsonl", rows(10, "b"))
    run(tmp_path / "in", "--output", tmp_path / "second", "--model", model, "--reuse-scores", "--no-progress")
    assert len(read_rows(tmp_path / "second/kept")) == 40
    assert all("quality_score" in row for row in read_rows(tmp_path / "second/kept"))
    [found] = summary.Summary.of_run(get_datafolder(str(tmp_path / "second")))
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
    run(tmp_path / "in", "--output", tmp_path / "one", "--model", model)
    run(tmp_path / "in", "--output", tmp_path / "two", "--model", model, *other)
    options = ("--output", tmp_path / "out", "--model", model, "--reuse-scores")
    for source in (tmp_path / "two", tmp_path / "two/kept", tmp_path / f"two/kept/*{ending}"):
        with pytest.raises(ValueError, match=rf"reuse_scores .*\n.*{difference}"):
            run(source, *options)
    with pytest.raises(ValueError, match="scores of 2 scorers or scales"):
        run(tmp_path / f"*/kept/*{ending}", "--output", tmp_path / "out", "--scores-from-columns")
    assert not (tmp_path / "out").exists()
    for source in (tmp_path / "one/kept", tmp_path / "in"):
        run(source, *options, "--overwrite")
    said = [line for line in log if "do not say what made the scores" in line]
    assert len(said) == 1 and "1 of 1 files" in said[0]


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_what_made_scores_is_known_of_what_was_filtered_by_them(tmp_path, model, ending):
    """A second pass without a model hands on what made its scores; under another prefix it says nothing."""
    write_rows(tmp_path / f"in/a{ending}", rows(10))
    run(tmp_path / "in", "--output", tmp_path / "one", "--model", model, "--max-tokens", 30)
    run(tmp_path / "one", "--output", tmp_path / "two", "--scores-from-columns", "--min-score", -99)
    with pytest.raises(ValueError, match="max_tokens was 30, is now 160"):
        run(tmp_path / "two/kept", "--output", tmp_path / "out", "--model", model, "--reuse-scores")
    run(tmp_path / "two/kept", "--output", tmp_path / "out", "--model", model, "--reuse-scores", "--prefix", "other")


def test_scores_from_columns_needs_scores(tmp_path, model):
    """Rows without the column end in an error that names it, before anything is written."""
    write_rows(tmp_path / "in/a.jsonl", [row | {"quality_score": 3} for row in rows(3)])
    options = ("--output", tmp_path / "out", "--scores-from-columns")
    with pytest.raises(ValueError, match=r"first 3 rows have no score in a column 'instruct_score'.*--prefix"):
        run(tmp_path / "in", *options, "--prefix", "instruct")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options",
    [["--model", "m"], ["--reuse-scores"], ["--scores-only"], ["--no-checkpoints"], ["--special-tokens", "reject"]],
)
def test_scores_from_columns_takes_no_option_of_scoring(tmp_path, options):
    """An option that would have no effect is a mistake."""
    with pytest.raises(ValueError, match=f"--scores-from-columns scores nothing: omit {options[0]}"):
        run("in", "--output", tmp_path, "--scores-from-columns", *options)


def test_parquet_tells_how_many_documents_a_task_reads(tmp_path):
    """So that a bar knows the time left; JSONL would have to be read for it."""
    for name, count in (("a", 3), ("b", 5), ("c", 7)):
        pq.write_table(pa.table({"n": range(count)}), tmp_path / f"{name}.parquet")
    found = inputs.find_inputs(str(tmp_path))
    assert found.documents_per_task(2, -1) == [10, 5]
    assert found.documents_per_task(2, 6) == [6, 5]
    write_rows(tmp_path / "jsonl/a.jsonl", rows(3))
    assert inputs.find_inputs(str(tmp_path / "jsonl")).documents_per_task(2, -1) is None
