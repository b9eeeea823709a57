"""A run continues only what was started with the same settings, and deletes only what a run wrote."""

import shutil

import pytest
from commands import run_filter
from samples import read_rows, rows, write_rows


def test_a_rerun_resumes_and_a_different_one_is_refused(tmp_path, model, capsys):
    """Completed tasks are not done again; what would mix two runs is an error that names the difference."""
    write_rows(tmp_path / "in/a.jsonl", rows(10))
    write_rows(tmp_path / "in/b.jsonl", rows(10, "b"))
    arguments = (tmp_path / "in", "--output", tmp_path / "out", "--model", model, "--min-score", -1)
    run_filter(*arguments)
    first = capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*/0000*")}
    (tmp_path / "out/logs/completions/00001").unlink()
    run_filter(*arguments, "--tokens-per-batch", 300)  # decides no score
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*/0000*")}
    assert {path.name for path in before if before[path] != after[path]} == {"00001.jsonl"}
    second = capsys.readouterr().out
    assert first.split("tokens")[0] == second.split("tokens")[0]
    with pytest.raises(ValueError, match=r"min_score: was -1.0, is now 2.0"):
        run_filter(*arguments[:-1], 2)
    with pytest.raises(ValueError, match=r"tasks: was 2, is now 1"):
        run_filter(*arguments, "--tasks", 1)
    write_rows(tmp_path / "in/c.jsonl", rows(3, "c"))
    with pytest.raises(ValueError, match=r"files: c\.jsonl: was nothing, is now"):
        run_filter(*arguments)
    run_filter(*arguments, "--overwrite")
    assert len(read_rows(tmp_path / "out/kept") + read_rows(tmp_path / "out/excluded")) == 23


def test_somebody_elses_files_are_never_deleted(tmp_path, model):
    """An output folder whose files no run of the script recorded is refused, even with --overwrite."""
    write_rows(tmp_path / "in/a.jsonl", rows(3))
    precious = tmp_path / "out/kept/precious.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("mine")
    with pytest.raises(ValueError, match="holds files that no run recorded"):
        run_filter(tmp_path / "in", "--output", tmp_path / "out", "--model", model, "--overwrite")
    assert precious.read_text() == "mine"


def test_overwrite_leaves_nothing_of_the_other_mode(tmp_path, model):
    """After --overwrite the folder holds the new run's output and no other."""
    write_rows(tmp_path / "in/a.jsonl", rows(3))
    run_filter(tmp_path / "in", "--output", tmp_path / "out", "--model", model)
    run_filter(tmp_path / "in", "--output", tmp_path / "out", "--model", model, "--scores-only", "--overwrite")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"scores", "logs"}


@pytest.mark.parametrize("lost", ["kept", "logs/inputs.txt"])
def test_killed_while_starting_the_next_run_is_whole(tmp_path, model, lost):
    """Killed between the steps of claiming the folder, a run can be started again and ends with all rows."""
    write_rows(tmp_path / "in/a.jsonl", rows(5))
    arguments = (tmp_path / "in", "--output", tmp_path / "out", "--model", model, "--min-score", -100)
    run_filter(*arguments)
    shutil.rmtree(tmp_path / "out/logs/completions")  # what --overwrite deletes first
    path = tmp_path / "out" / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    run_filter(*arguments)
    assert len(read_rows(tmp_path / "out/kept")) == 5


def test_a_damaged_record_says_so(tmp_path, model):
    """A run.json cut off by a kill is named, with the way out."""
    write_rows(tmp_path / "in/a.jsonl", rows(3))
    run_filter(tmp_path / "in", "--output", tmp_path / "out", "--model", model)
    (tmp_path / "out/logs/run.json").write_text("{")
    with pytest.raises(ValueError, match=r"run\.json is damaged"):
        run_filter(tmp_path / "in", "--output", tmp_path / "out", "--model", model)


def test_weights_that_changed_since_are_another_run(tmp_path, model, monkeypatch):
    """A rerun into the same folder with a model that was trained on meanwhile is refused: its scores would mix."""
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    write_rows(tmp_path / "in" / "a.jsonl", rows(3))
    arguments = [str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--model", str(folder)]
    run_filter(*arguments)
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-2] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    monkeypatch.setattr("datatrove_quality.engine.scorer._found", {})
    with pytest.raises(ValueError, match=r"weights: was .*, is now"):
        run_filter(*arguments)


def test_a_second_pass_never_deletes_its_own_input(tmp_path, model):
    """Filtering DIR/kept again into DIR is refused, with --overwrite too, and so is a way around by a link."""
    write_rows(tmp_path / "in/a.jsonl", rows(5))
    run_filter(tmp_path / "in", "--output", tmp_path / "out", "--model", model, "--min-score", -100)
    before = read_rows(tmp_path / "out/kept")
    with pytest.raises(ValueError, match="is the output of a run into"):
        run_filter(tmp_path / "out/kept", "--output", tmp_path / "out", "--model", model, "--overwrite")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    with pytest.raises(ValueError, match="is or lies in the input folder"):
        run_filter(tmp_path / "in", "--output", tmp_path / "link/out", "--model", model)
    assert read_rows(tmp_path / "out/kept") == before and len(before) == 5


def test_an_input_that_links_into_the_output_is_refused(tmp_path, model):
    """A link to a file of DIR/kept is that file: --overwrite does not delete it."""
    write_rows(tmp_path / "in/a.jsonl", rows(3))
    run_filter(tmp_path / "in", "--output", tmp_path / "out", "--model", model)
    (tmp_path / "in2").mkdir()
    (tmp_path / "in2/a.jsonl").symlink_to(tmp_path / "out/kept/00000.jsonl")
    with pytest.raises(ValueError, match="is the output of a run into"):
        run_filter(tmp_path / "in2", "--output", tmp_path / "out", "--model", model, "--overwrite")
    assert len(read_rows(tmp_path / "out/kept")) == 3


@pytest.mark.parametrize("output", ["in", "in/deeper"])
def test_output_must_lie_outside_of_the_input(tmp_path, model, output):
    """A run that would read its own output the next time is refused."""
    write_rows(tmp_path / "in/a.jsonl", rows(3))
    with pytest.raises(ValueError, match="is or lies in the input folder"):
        run_filter(tmp_path / "in", "--output", tmp_path / output, "--model", model)
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["a.jsonl"]
