"""What a run reads: files found and named, formats, and overlaps with the output."""

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datatrove.io import get_datafolder
from samples import rows, write_rows

from datatrove_quality.rows.to_row import RowAdapter
from datatrove_quality.runs import inputs


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


def test_files_that_are_not_read_are_named(tmp_path, log):
    """Endings count in any case; other files and links to folders are left out aloud."""
    for name in ("a.jsonl", "b.JSONL", "sub/c.jsonl"):
        write_rows(tmp_path / "in" / name, rows(1))
    (tmp_path / "in/d.json").write_text("{}")
    (tmp_path / "in/link").symlink_to(tmp_path / "in/sub")
    assert list(inputs.find_inputs(str(tmp_path / "in")).sizes) == ["a.jsonl", "b.JSONL", "sub/c.jsonl"]
    assert any("2 files are NOT read" in line and "d.json" in line and "'link'" in line for line in log)


@pytest.mark.parametrize("text", ['[\n {"prompt": "a"}]', '\ufeff[{"a": 1}]', '{"a": {"b": 1}}\n{"a": 2}\n'])
def test_a_json_file_of_rows_beside_others_is_refused(tmp_path, text):
    """It would be left out as a description; one object, on however many lines, is one."""
    write_rows(tmp_path / "a.jsonl", rows(1))
    (tmp_path / "info.json").write_text('{\n "features": {"a": [{"b": 1}]},\n "splits": {\n  "train": {}\n }\n}\n')
    assert list(inputs.find_inputs(str(tmp_path)).sizes) == ["a.jsonl"]
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/train.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"holds sub/train\.json, a file of rows"):
        inputs.find_inputs(str(tmp_path))
    assert list(inputs.find_inputs(str(tmp_path / "*.jsonl")).sizes) == ["a.jsonl"]


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


def test_other_forms_of_output_are_said_once(tmp_path, log):
    """Of tables and arrays, JSON lines are made."""
    for name, expected in (("a.csv", 1), ("b.json", 1), ("c.jsonl", 0)):
        (tmp_path / name).write_text("[]")
        found = inputs.find_inputs(str(tmp_path / name))
        for folder in ("kept", "excluded"):
            found.writer(get_datafolder(str(tmp_path / "out")), folder, RowAdapter(), None)
        assert sum(name in line and "written as JSON lines" in line for line in log) == expected


def test_more_tasks_than_files_are_named(tmp_path, log):
    """Each of the rest would wait for a GPU to do nothing with it."""
    write_rows(tmp_path / "in/a.jsonl", rows(1))
    found = inputs.find_inputs(str(tmp_path / "in"))
    assert [found.tasks(None), found.tasks(1)] == [1, 1] and not log
    assert found.tasks(64) == 64
    assert any("tasks=64: a task reads whole files, and there are 1" in line for line in log)


def test_parquet_tells_how_many_documents_a_task_reads(tmp_path):
    """So that a bar knows the time left; JSONL would have to be read for it."""
    for name, count in (("a", 3), ("b", 5), ("c", 7)):
        pq.write_table(pa.table({"n": range(count)}), tmp_path / f"{name}.parquet")
    found = inputs.find_inputs(str(tmp_path))
    assert found.documents_per_task(2, -1) == [10, 5]
    assert found.documents_per_task(2, 6) == [6, 5]
    write_rows(tmp_path / "jsonl/a.jsonl", rows(3))
    assert inputs.find_inputs(str(tmp_path / "jsonl")).documents_per_task(2, -1) is None
