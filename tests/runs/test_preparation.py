"""What is said before jobs are queued."""

from datatrove.io import get_datafolder
from executors import make
from slurm_stand_in import slurm_executor

from datatrove_quality.runs.inputs import Inputs
from datatrove_quality.runs.preparation import warn_of_loading


def test_loading_for_little_work_is_named_while_there_is_something_to_run(tmp_path, monkeypatch):
    """64 loads for a few rows are a mistake worth a line; a command that only prints the table does not repeat it."""
    warnings: list[str] = []
    monkeypatch.setattr("datatrove_quality.runs.preparation.logger.warning", warnings.append)
    weights = 8 * 10**9
    rows = Inputs(get_datafolder(str(tmp_path)), {"a.jsonl": 1_000}, "json", None, searched=True)
    executor = slurm_executor(tmp_path / "logs", tasks=64)
    warn_of_loading(weights, rows, executor)
    assert len(warnings) == 1 and "loaded 64 times" in warnings[0] and "tasks_per_job=64" in warnings[0]
    (tmp_path / "logs" / "completions").mkdir(parents=True)
    for rank in range(64):
        (tmp_path / "logs" / "completions" / f"{rank:05d}").touch()
    warn_of_loading(weights, rows, executor)
    warn_of_loading(weights, rows, make(tmp_path / "local", workers=2))
    assert len(warnings) == 1
