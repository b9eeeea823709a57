"""A task is marked as completed only in a folder that is still its run's."""

import pytest
from datatrove.executor.base import PipelineExecutor
from kept_rows import Keep, expected, kept, run, second_run_at, write_files

from datatrove_quality.runs.claim import LostOutput


def test_a_task_that_was_done_too_late_is_not_marked_in_the_folder_of_the_next_run(tmp_path, monkeypatch):
    """The folder is taken between the look at the end of the task and the mark: the next run does the task again."""
    source, output = write_files(tmp_path / "in"), tmp_path / "out"
    second_run_at(monkeypatch, PipelineExecutor, "mark_rank_as_completed", source, output, at=2)
    with pytest.raises(LostOutput):
        run(source, output, Keep(2))
    assert sorted(path.name for path in (output / "logs/completions").iterdir()) == ["00000", "00002"]
    assert not (output / "logs/stats/00001.json").exists()
    run(source, output, Keep(5))
    assert kept(output) == expected(5)
