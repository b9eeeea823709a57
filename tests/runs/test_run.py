"""`Run` in a pipeline of one's own: what it does with the folder, the steps and the stages."""

import json

import pytest
from datatrove.io import get_datafolder
from datatrove.pipeline.filters import LambdaFilter
from datatrove.pipeline.writers import JsonlWriter
from filter_runs import pipeline, start
from samples import read_rows, rows, without_scores, write_rows

from datatrove_quality import Cluster, ConversationAdapter, QualityFilter, Run, ScorerConfig, ScoresAdapter
from datatrove_quality.runs.active_run import active_run


@pytest.mark.parametrize("ending", [".jsonl.gz", ".parquet"])
def test_a_pipeline_of_ones_own_writes_each_row_once_in_the_inputs_format(tmp_path, model, ending, capsys):
    """The rows, the table, the places, and the result that they are taken from."""
    for name in "ab":
        write_rows(tmp_path / f"in/{name}{ending}", rows(20, name))
    result = start(tmp_path, model)
    kept, excluded = (read_rows(tmp_path / "out" / name) for name in ("kept", "excluded"))
    written = sorted((without_scores(row) for row in kept + excluded), key=lambda row: row["id"])
    assert written == sorted(rows(20, "a") + rows(20, "b"), key=lambda row: row["id"])
    assert all(row["quality_score"] >= -1 for row in kept) and all(row["quality_score"] < -1 for row in excluded)
    [counted] = result.filters
    assert (counted.documents, counted.prefix, counted.counts["forwarded"]) == (40, "quality", len(kept))
    assert result.problem() is None and result.seconds > 0
    printed = capsys.readouterr().out
    assert result.table() in printed
    assert printed.endswith(
        f"model       {model}\n"
        "threshold   scores at or above -1 are kept\n"
        f"rows        {tmp_path}/out/kept, {tmp_path}/out/excluded\n"
        f"logs        {tmp_path}/out/logs\n"
        f"next        datatrove-quality report {tmp_path}/out --output {tmp_path}/out-report\n"
    )
    assert not list((tmp_path / "out/logs").glob("active.json"))


def test_a_rerun_continues_and_a_changed_pipeline_is_refused_with_the_difference(tmp_path, model):
    """DataTrove would skip the completed tasks and leave the rest to the new threshold."""
    for name in "ab":
        write_rows(tmp_path / f"in/{name}.jsonl", rows(10, name))
    start(tmp_path, model)
    (tmp_path / "out/logs/completions/00001").unlink()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*/0000*")}
    free = {"scorer": ScorerConfig(model=model, device="cpu", tokens_per_batch=300), "progress": False}
    run = Run(tmp_path / "in", tmp_path / "out")
    steps = pipeline(run, free["scorer"], progress=False)
    assert run(steps).seconds is None
    after = {path: path.stat().st_mtime_ns for path in before}
    assert {path.name for path in before if before[path] != after[path]} == {"00001.jsonl"}
    for changed, difference in [
        ({"min_score": 2.0}, r"QualityFilter\.min_score: was -1\.0, is now 2\.0"),
        ({"options": {"special_tokens": "reject"}}, r'QualityFilter\.special_tokens: was "allow", is now "reject"'),
        ({"tasks": 1}, r"tasks: was 2, is now 1"),
        ({"limit": 5}, r"ConversationJsonlReader\.limit: was -1, is now 5"),
    ]:
        with pytest.raises(ValueError, match=rf"different settings:\n(.*\n)*  {difference}"):
            start(tmp_path, model, **{"min_score": -1.0, **changed})
    with pytest.raises(ValueError, match=r"QualityFilter\.scorer\.max_tokens: was 160, is now 30"):
        start(tmp_path, ScorerConfig(model=model, max_tokens=30))
    run = Run(tmp_path / "in", tmp_path / "out")
    reader, *others = pipeline(run, model)
    with pytest.raises(ValueError, match=r"steps: was .*Reader, QualityF.* is now .*Reader, LambdaFilter, Q"):
        run([reader, LambdaFilter(lambda document: True), *others])
    assert {path: path.stat().st_mtime_ns for path in before} == after
    start(tmp_path, model, 2.0, overwrite=True)
    assert len(read_rows(tmp_path / "out/kept") + read_rows(tmp_path / "out/excluded")) == 20


def test_a_run_that_failed_before_it_wrote_anything_can_be_corrected(tmp_path, model):
    """Wrong settings must not block the right ones; a completed task or a published row does."""
    write_rows(tmp_path / "in/a.jsonl", [*rows(5), {"id": "bad"}])
    with pytest.raises(ValueError, match="missing_column"):
        start(tmp_path, model, options={"unscorable": "raise"})
    saved = list((tmp_path / "out/logs/checkpoints").rglob("*"))
    write_rows(tmp_path / "in/b.jsonl", rows(2, "b"))
    start(tmp_path, model)
    assert len(read_rows(tmp_path / "out/kept") + read_rows(tmp_path / "out/excluded")) == 8
    assert saved and set(saved) <= set((tmp_path / "out/logs/checkpoints").rglob("*"))
    record = json.loads((tmp_path / "out/logs/run.json").read_text())
    assert sorted(record["files"]) == sorted(record["contents"]) == ["a.jsonl", "b.jsonl"]
    for name in ("logs/completions", "excluded"):  # what is left is reason enough
        moved = (tmp_path / "out" / name).rename(tmp_path / "moved")
        with pytest.raises(ValueError, match=r"min_score: was -1\.0, is now 2\.0"):
            start(tmp_path, model, 2.0)
        moved.rename(tmp_path / "out" / name)


def test_a_script_shows_warnings_and_the_table_and_all_of_the_log_if_it_is_verbose(tmp_path, model, capsys):
    """As the command does; the log file has all of it either way."""
    write_rows(tmp_path / "in/a.jsonl", [*rows(3), b"{broken\n"])
    for verbose in (False, True):
        start(tmp_path, model, verbose=verbose, overwrite=True)
        shown = capsys.readouterr()
        assert ("Launching pipeline" in shown.err) == ("Quality score" in shown.err) == verbose
        assert shown.err.count("1 line could not be read as a row") == 1
        assert "documents in" in shown.out
        assert "Launching pipeline" in (tmp_path / "out/logs/logs/task_00000.log").read_text()


def test_an_earlier_versions_folder_is_refused_and_can_be_overwritten(tmp_path, model):
    """Its record has other names: nothing can be compared, and nothing is guessed."""
    write_rows(tmp_path / "in/a.jsonl", rows(3))
    start(tmp_path, model)
    path = tmp_path / "out/logs/run.json"
    old = {"tasks": 1, "min_score": -1.0, "prefix": "quality", "scorer": json.loads(path.read_text())["scorer"]}
    path.write_text(json.dumps(old))
    with pytest.raises(ValueError, match=r"earlier version of datatrove-quality.*overwrite=True \(--overwrite\)"):
        start(tmp_path, model)
    start(tmp_path, model, overwrite=True)


def test_a_folder_with_an_active_run_is_refused_at_once(tmp_path, model):
    """As the run is made, before its pipeline is."""
    write_rows(tmp_path / "in/a.jsonl", rows(3))
    with (
        active_run(get_datafolder(str(tmp_path / "out"))),
        pytest.raises(ValueError, match="run is active: pr"),
    ):
        Run(tmp_path / "in", tmp_path / "out")
    start(tmp_path, model)


def test_a_run_is_active_while_its_tasks_run_and_not_after_they_failed(tmp_path):
    """Whatever ends it, the folder is free again, and the same run continues."""
    write_rows(tmp_path / "in/a.jsonl", rows(3))

    def look(data, rank, world_size):
        assert (tmp_path / "out/logs/active.json").is_file()
        if not (tmp_path / "fixed").exists():
            raise KeyError("a failed task")
        yield from data

    run = Run(tmp_path / "in", tmp_path / "out")
    steps = [run.reader(ConversationAdapter()), look, run.writer("kept")]
    with pytest.raises(KeyError):
        run(steps)
    assert not (tmp_path / "out/logs/active.json").exists()
    (tmp_path / "fixed").touch()
    run(steps)
    assert len(read_rows(tmp_path / "out/kept")) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"executor": "cloud"}, "executor='cloud': give one of 'local', 'slurm', 'ray'"),
        ({"tasks": 0}, "tasks=0: give a whole number from 1"),
        ({"workers": "two"}, "workers='two': give a whole number from 1"),
        ({"limit": 0}, "limit=0: give a whole number from 1"),
        ({"cluster": {"mem": "1G"}}, r"cluster=.*give a Cluster\(\.\.\.\)"),
        ({"cluster": Cluster(partition="x")}, "partition='x' has no effect with executor='local'"),
        ({"output": "in/out"}, "is or lies in the input folder"),
        ({"input": "nowhere"}, "input nowhere: there is no such file or folder"),
    ],
)
def test_a_wrong_argument_is_named_before_anything_is_written(tmp_path, monkeypatch, arguments, message):
    """The field, the value and the fix."""
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "in/a.jsonl", rows(3))
    with pytest.raises(ValueError, match=message):
        Run(**{"input": "in", "output": "out", **arguments})
    assert not (tmp_path / "out").exists()


def test_relative_paths_are_those_of_the_present_directory(tmp_path, monkeypatch):
    """Also where an earlier run of the same process was in another one."""
    for name in ("a", "b"):
        write_rows(tmp_path / name / "in/a.jsonl", [{"messages": [{"role": "user", "content": name}]}])
        monkeypatch.chdir(tmp_path / name)
        run = Run("in", "out")
        run([run.reader(ConversationAdapter()), run.writer("kept")])
        assert [row["messages"][0]["content"] for row in read_rows(tmp_path / name / "out/kept")] == [name]


@pytest.mark.parametrize("name", ["", "logs", "logs/x", "../kept", "/kept", "a b", "kept/", ".hidden", None])
def test_a_writers_name_is_a_folder_in_the_output(tmp_path, name):
    """Rows must not go where the run keeps its own files, or outside."""
    write_rows(tmp_path / "in/a.jsonl", rows(3))
    run = Run(tmp_path / "in", tmp_path / "out")
    with pytest.raises(ValueError, match="give a folder's name"):
        run.writer(name)
    run.writer("kept")
    with pytest.raises(ValueError, match="has been given to a writer"):
        run.writer("kept")


def test_a_folder_of_the_users_choice_is_written_resumed_and_overwritten(tmp_path):
    """Any name; and files that no run wrote are never deleted, also where a later run would write."""
    write_rows(tmp_path / "in/a.jsonl", rows(3))

    def write(name, overwrite=False):
        run = Run(tmp_path / "in", tmp_path / "out", overwrite=overwrite)
        run([run.reader(ConversationAdapter()), run.writer(name)])

    write("good/rows")
    write("good/rows")
    (tmp_path / "out/better").mkdir()
    (tmp_path / "out/better/mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="better holds files that no run recorded"):
        write("better", overwrite=True)
    assert (tmp_path / "out/better/mine.txt").exists() and len(read_rows(tmp_path / "out/good/rows")) == 3
    write("best", overwrite=True)
    assert not (tmp_path / "out/good").exists() and len(read_rows(tmp_path / "out/best")) == 3


def test_a_sidecar_has_the_scores_alone(tmp_path, model):
    """The columns of `ScoresAdapter`; an adapter of one's own has to say what its columns are."""
    write_rows(tmp_path / "in/a.parquet", rows(5))
    run = Run(tmp_path / "in", tmp_path / "out")
    run([run.reader(ConversationAdapter()), QualityFilter(model), run.writer("scores", ScoresAdapter())])
    found = read_rows(tmp_path / "out/scores")
    assert [row["id"] for row in found] == [f"a-{n}" for n in range(5)] and "messages" not in found[0]
    with pytest.raises(ValueError, match="an adapter of your own needs schema="):
        run.writer("other", adapter=lambda writer, document: {"id": document.id})


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_sidecar_joins_by_ids_that_are_numbers(tmp_path, model, ending):
    """Ids have the type that they have in the corpus, whatever their column is called, or no table joins the two."""
    items = [row | {"id": "other", "nr": 2**53 + n} for n, row in enumerate(rows(4))]
    items[2] |= {"nr": None}
    write_rows(tmp_path / f"in/a.{ending}", items)
    run = Run(tmp_path / "in", tmp_path / "out")
    reader = run.reader(ConversationAdapter(id_key="nr"))
    run([reader, QualityFilter(model), run.writer("scores", ScoresAdapter())])
    found = [row["id"] for row in read_rows(tmp_path / "out/scores")]
    # A column of numbers cannot hold what stands for an id that is missing.
    assert found == [2**53, 2**53 + 1, None if ending == "parquet" else "a.jsonl/2", 2**53 + 3]


def test_steps_of_datatroves_own_go_into_the_pipeline(tmp_path):
    """A run is no closed world: any step, any writer, any function."""
    write_rows(tmp_path / "in/a.jsonl", rows(3))
    run = Run(tmp_path / "in", tmp_path / "out")
    run([run.reader(ConversationAdapter()), JsonlWriter(str(tmp_path / "elsewhere"), compression=None)])
    assert len(read_rows(tmp_path / "elsewhere")) == 3
