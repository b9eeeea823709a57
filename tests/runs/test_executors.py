"""Where a pipeline runs: options by stage, and mistakes found early. tests/slurm has a real SLURM."""

from pathlib import Path

import pytest
from datatrove.executor import LocalPipelineExecutor
from executors import make

from datatrove_quality.runs.completed_tasks import IncompleteRun
from datatrove_quality.runs.executors import require_complete, run_to_end


ROOT = Path(__file__).resolve().parents[2]


def test_local_is_the_default(tmp_path):
    """Without an option a pipeline runs here, a task at a time; more workers than tasks are not started."""
    executor = make(tmp_path)
    assert isinstance(executor, LocalPipelineExecutor) and executor.workers == 1
    assert make(tmp_path, workers=8).workers == 2


@pytest.mark.parametrize(
    ("executor", "options", "message"),
    [
        (
            "local",
            {"partition": "x"},
            "partition='x' has no effect with executor='local': omit it, or set executor='slurm'",
        ),
        ("ray", {"account": "x"}, "account='x' has no effect with executor='ray'"),
        ("local", {"wait": True}, "wait=True has no effect with executor='local'"),
        ("local", {"mem": "1G"}, "mem='1G' has no effect .* set executor='slurm' or executor='ray'"),
    ],
)
def test_options_without_effect_are_a_mistake(tmp_path, executor, options, message):
    """A user who gives a partition and forgets executor="slurm" does not want to run on the login node."""
    with pytest.raises(ValueError, match=message):
        make(tmp_path, executor, **options)


def test_stages_run_in_order_until_one_is_incomplete(tmp_path, monkeypatch):
    """Where a stage leaves a task undone, the next does not start on half of its input."""

    def stage(name, workers=None):
        return make(tmp_path / name, workers=workers, pipeline=[["document"]])

    assert run_to_end([stage("first", workers=2), stage("second")], wait=False)
    lost = stage("lost")
    monkeypatch.setattr(lost, "mark_rank_as_completed", lambda rank: None)
    with pytest.raises(IncompleteRun, match="2 of 2 tasks failed"):
        run_to_end([stage("first"), lost, stage("next")], wait=False)
    assert not (tmp_path / "next").exists()


def test_another_number_of_tasks_is_refused(tmp_path):
    """Done tasks are skipped by number: with another count a number means other files."""
    make(tmp_path, pipeline=[["document"]]).run()
    with pytest.raises(ValueError, match="holds a run of 2 tasks, and this one has 3"):
        make(tmp_path, tasks=3)
    make(tmp_path, tasks=3, overwrite=True)
    make(tmp_path)


@pytest.mark.parametrize("left", ["", '{"tasks": '])
def test_a_damaged_record_of_the_executor_is_in_nobodys_way(tmp_path, left):
    """A kill while DataTrove rewrites executor.json must not block every start after it."""
    make(tmp_path, pipeline=[["document"]]).run()
    (tmp_path / "executor.json").write_text(left)
    make(tmp_path).run()


def test_an_incomplete_run_is_an_error(tmp_path):
    """A cluster's executor ends well where tasks failed: the script does not."""
    executor = make(tmp_path)
    executor.run()
    require_complete(executor)
    (tmp_path / "completions" / "00001").unlink()
    with pytest.raises(IncompleteRun, match=r"1 of 2 tasks failed.*task_00001\.log"):
        require_complete(executor)
