"""Runs of several stages: what is handed on, counted, refused, and given to the executor of each."""

from dataclasses import replace

import pytest
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.filters import LambdaFilter
from samples import read_rows, rows, write_rows

from datatrove_quality import Cluster, ConversationAdapter, QualityFilter, Run, ScorerConfig, Stage
from datatrove_quality.runs import run as run_module


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


@pytest.mark.parametrize("given", [[], [[]], ["steps"], [[3]], [[None]], [Stage("a", [str]), [str]]])
def test_what_is_no_pipeline_is_refused(tmp_path, given):
    """With what to give."""
    write_rows(tmp_path / "in/a.jsonl", rows(3))
    with pytest.raises(ValueError, match=r"give a (list of|DataTrove)"):
        Run(tmp_path / "in", tmp_path / "out")(*given)
    assert not (tmp_path / "out").exists()


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
