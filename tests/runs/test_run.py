"""`Run` in a pipeline of one's own: what it does with the folder, the steps and the stages."""

import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from datatrove.executor import LocalPipelineExecutor
from datatrove.io import get_datafolder
from datatrove.pipeline.filters import LambdaFilter
from datatrove.pipeline.writers import JsonlWriter
from samples import read_rows, rows, without_scores, write_rows
from tiny_models import ENCODER, encoder_tokenizer, save_model

from datatrove_quality import (
    Cluster,
    ConversationAdapter,
    QualityFilter,
    Run,
    ScorerConfig,
    ScoresAdapter,
    Stage,
    TextAdapter,
)
from datatrove_quality.runs import run as run_module
from datatrove_quality.runs import scoring as scoring_module
from datatrove_quality.runs.active_run import active_run
from datatrove_quality.runs.summary import about_run


def pipeline(run, model, min_score=-1.0, **options):
    return [
        run.reader(ConversationAdapter()),
        QualityFilter(
            model,
            min_score=min_score,
            exclusion_writer=run.writer("excluded"),
            checkpoints_dir=run.checkpoints,
            **options,
        ),
        run.writer("kept"),
    ]


def start(folder, model, min_score=-1.0, options=None, **arguments):
    run = Run(folder / "in", folder / "out", **arguments)
    return run(pipeline(run, model, min_score, **(options or {})))


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


def test_other_settings_are_refused_before_the_model_is_looked_for(tmp_path, model, monkeypatch):
    """What is compared without it takes no time; what only the model tells is compared later."""
    write_rows(tmp_path / "in/a.parquet", rows(3))
    start(tmp_path, model)

    def no_model(config):
        raise AssertionError

    monkeypatch.setattr(scoring_module, "find_scorer", no_model)
    with pytest.raises(
        ValueError, match=r"different settings:\n  QualityFilter\.min_score: was -1\.0, is now 2\.0\nG"
    ):
        start(tmp_path, model, 2.0)
    with pytest.raises(AssertionError):
        start(tmp_path, model)


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


def test_a_failed_stage_can_be_corrected_unless_another_one_is_complete(tmp_path, model):
    """Of several stages, the completions of each count."""
    write_rows(tmp_path / "in/a.jsonl", rows(5))

    def staged(min_score, fails):
        def passed(document):
            if fails:
                raise OSError("no such disk")
            return True

        run = Run(tmp_path / "in", tmp_path / "out")
        first = [run.reader(ConversationAdapter()), LambdaFilter(passed), run.save("clean")]
        second = [run.load("clean"), QualityFilter(model, min_score=min_score), run.writer("kept")]
        return run(Stage("1-clean", first), Stage("2-score", second))

    with pytest.raises(OSError, match="no such disk"):
        staged(2.0, fails=True)
    assert staged(-100.0, fails=False).steps[-1].came == 5
    with pytest.raises(ValueError, match=r"min_score: was -100\.0, is now 2\.0"):
        staged(2.0, fails=False)


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


def test_of_several_filters_the_end_names_each_model_and_threshold(tmp_path):
    """The last bounds of a prefix are those that hold; scores that the rows have come from no model."""
    filters = [
        QualityFilter(ScorerConfig(model="org/name")),
        QualityFilter(None, min_score=4, max_score=4.5),
        QualityFilter(None, prefix="instruct"),
    ]
    assert about_run(filters, ["/x/kept"], "/x/logs", "s3://x y/") == {
        "quality model": "org/name",
        "quality threshold": "scores at or above 4 and at or below 4.5 are kept",
        "instruct model": "the scores that the rows have",
        "instruct threshold": "none: rows are annotated",
        "rows": "/x/kept",
        "logs": "/x/logs",
        "next": "datatrove-quality report 's3://x y/' --output report",
    }


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


@pytest.mark.parametrize("given", [[], [[]], ["steps"], [[3]], [[None]], [Stage("a", [str]), [str]]])
def test_what_is_no_pipeline_is_refused(tmp_path, given):
    """With what to give."""
    write_rows(tmp_path / "in/a.jsonl", rows(3))
    with pytest.raises(ValueError, match=r"give a (list of|DataTrove)"):
        Run(tmp_path / "in", tmp_path / "out")(*given)
    assert not (tmp_path / "out").exists()


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


def test_two_filters_have_columns_tables_and_records_of_their_own(tmp_path, model, capsys):
    """Of two prefixes, in Parquet: the schema has both, and each file says what made which score."""
    write_rows(tmp_path / "in/a.parquet", rows(10))
    run = Run(tmp_path / "in", tmp_path / "out")
    other = ScorerConfig(model=model, max_tokens=30)
    result = run(
        [
            run.reader(ConversationAdapter()),
            QualityFilter(model, prefix="one"),
            QualityFilter(other, prefix="two", min_score=-1, exclusion_writer=run.writer("excluded")),
            run.writer("kept"),
        ]
    )
    schema = pq.read_schema(tmp_path / "out/kept/000_00000.parquet")
    limits = {
        prefix: json.loads(schema.metadata[f"{prefix}_scorer".encode()])["parts"]["max_tokens"]
        for prefix in ("one", "two")
    }
    assert limits == {"one": 160, "two": 30}
    assert {f"{prefix}_{name}" for prefix in ("one", "two") for name in ("score", "error", "tokens")} <= set(
        schema.names
    )
    assert [found.prefix for found in result.filters] == ["one", "two"]
    assert [found.counts["scored"] for found in result.filters] == [10, 10]
    assert capsys.readouterr().out.count("documents in") == 2


def test_a_sidecar_has_the_scores_alone(tmp_path, model):
    """The columns of `ScoresAdapter`; an adapter of one's own has to say what its columns are."""
    write_rows(tmp_path / "in/a.parquet", rows(5))
    run = Run(tmp_path / "in", tmp_path / "out")
    run([run.reader(ConversationAdapter()), QualityFilter(model), run.writer("scores", ScoresAdapter())])
    found = read_rows(tmp_path / "out/scores")
    assert [row["id"] for row in found] == [f"a-{n}" for n in range(5)] and "messages" not in found[0]
    with pytest.raises(ValueError, match="an adapter of your own needs schema="):
        run.writer("other", adapter=lambda writer, document: {"id": document.id})


def test_text_is_scored_by_an_encoder(tmp_path):
    """Plain text with `messages_key=None`: no template is needed, and the rows come back."""
    encoder = save_model(tmp_path / "encoder", "bert", encoder_tokenizer(), **ENCODER)
    items = [{"id": f"{n}", "text": f"Um texto, o {n}."} for n in range(4)]
    write_rows(tmp_path / "in/a.jsonl", [*items, {"id": "empty", "text": ""}])
    run = Run(tmp_path / "in", tmp_path / "out")
    run([run.reader(TextAdapter()), QualityFilter(str(encoder), messages_key=None, prefix="edu"), run.writer("kept")])
    found = read_rows(tmp_path / "out/kept")
    assert [row["id"] for row in found] == ["0", "1", "2", "3", "empty"]
    assert all(isinstance(row["edu_score"], float) for row in found[:4])
    assert found[4]["edu_error"].startswith("empty_text")


def test_a_corpus_without_a_score_ends_in_an_error(tmp_path, model):
    """An emptied corpus must not look like a finished job; nor does one of the wrong layout begin."""
    write_rows(tmp_path / "in/a.jsonl", [{"id": "x", "messages": []}])
    with pytest.raises(ValueError, match=r"No document could be scored\. 1 of 1 documents: no_messages"):
        start(tmp_path, model)
    write_rows(tmp_path / "in/a.jsonl", [{"id": "x", "body": "Um texto."}])
    with pytest.raises(ValueError, match="None of the first 1 rows can be scored"):
        start(tmp_path, model, overwrite=True)


def test_stages_hand_documents_on_and_their_table_adds_up(tmp_path, model, capsys):
    """Documents saved by one stage are read by the next; what each step dropped is counted exactly."""
    for name in "ab":
        write_rows(tmp_path / f"in/{name}.jsonl", rows(10, name))

    def run_stages():
        run = Run(tmp_path / "in", tmp_path / "out")
        odd = LambdaFilter(lambda document: int(document.id[2:]) % 2 == 0, run.writer("excluded/odd", reason="is_odd"))
        clean = Stage("clean", [run.reader(ConversationAdapter()), odd, run.save("clean")])
        excluded = run.writer("excluded/score")
        score = [run.load("clean"), QualityFilter(model, min_score=-1, exclusion_writer=excluded), run.writer("kept")]
        return run(clean, Stage("score", score))

    result = run_stages()
    assert [(step.name, step.came, step.left) for step in result.steps[:2]] == [("", 20, 20), ("odd", 20, 10)]
    kept, low, odd = (read_rows(tmp_path / "out" / name) for name in ("kept", "excluded/score", "excluded/odd"))
    assert len(kept) + len(low) == 10 and len(odd) == 10
    assert {row["filter_reason"] for row in odd} == {"is_odd"}
    assert (tmp_path / "out/logs/counts/table.txt").read_text() in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.jsonl")}
    assert run_stages().table() == result.table()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.jsonl")} == before


def test_a_stage_that_reads_what_other_tasks_saved_is_refused(tmp_path):
    """Task 3 of 3 would find nothing of two tasks."""
    write_rows(tmp_path / "in/a.jsonl", rows(3))
    run = Run(tmp_path / "in", tmp_path / "out")
    first = Stage("first", [run.reader(ConversationAdapter()), run.save("all")])
    with pytest.raises(ValueError, match="tasks=3 of stage 'last'"):
        run(first, Stage("last", [run.load("all"), run.writer("kept")], tasks=3))


def test_a_clusters_options_reach_the_executor_of_their_stage(tmp_path, model, monkeypatch):
    """Only the stage with the model gets GPUs and memory for it, and may requeue itself; each has a partition."""
    write_rows(tmp_path / "in/a.jsonl", rows(3))
    made = []

    def record(steps, *, logging_dir, tasks, executor, depends, **options):
        made.append(options | {"tasks": tasks, "before": depends is not None})
        return LocalPipelineExecutor(steps, tasks=tasks, logging_dir=logging_dir, workers=1)

    monkeypatch.setattr(run_module, "make_executor", record)
    monkeypatch.setattr(run_module, "require_executor", lambda executor: None)
    gpu = Cluster(partition="a100", gpus_per_task=1)
    run = Run(tmp_path / "in", tmp_path / "out", executor="slurm", cluster=gpu, name="corpus")
    score = [
        run.load("all"),
        QualityFilter(ScorerConfig(model=model, device="cpu"), checkpoints_dir=run.checkpoints),
        run.writer("kept"),
    ]
    run(
        Stage(
            "clean",
            [run.reader(ConversationAdapter()), run.save("all")],
            cluster=replace(gpu, partition="short", gpus_per_task=None),
        ),
        Stage("score", score),
    )
    assert [options["name"] for options in made] == ["corpus-1-clean", "corpus-2-score", "corpus-3-table"]
    assert [options["gpu"] for options in made] == [False, True, False]
    assert [options["cluster"].partition for options in made] == ["short", "a100", "short"]
    assert [options["keeps_progress"] for options in made] == [False, True, False]
    assert [options["memory_gb"] for options in made] == [None, 5, None]
    assert [options["before"] for options in made] == [False, True, True]


def test_steps_of_datatroves_own_go_into_the_pipeline(tmp_path):
    """A run is no closed world: any step, any writer, any function."""
    write_rows(tmp_path / "in/a.jsonl", rows(3))
    run = Run(tmp_path / "in", tmp_path / "out")
    run([run.reader(ConversationAdapter()), JsonlWriter(str(tmp_path / "elsewhere"), compression=None)])
    assert len(read_rows(tmp_path / "elsewhere")) == 3
