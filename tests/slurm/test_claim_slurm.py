"""One run owns a folder, also where a job of the run before is still at work on a node that SLURM has lost."""

from pathlib import Path

import pytest
from lab import run, wait_for
from slurm_runs import MODEL, at_gate, log_of_jobs, rows
from slurm_steps import Gate

from datatrove_quality import Cluster, ConversationAdapter, QualityFilter, Run, ScorerConfig


pytestmark = pytest.mark.slurm


def start(source, output, gate, min_score, wait, **options):
    """One task that scores, and waits at a gate before it writes a first row."""
    gate.mkdir(exist_ok=True)
    cluster = Cluster(cpus_per_task=1, mem="2G", wait=wait)
    made = Run(source, output, executor="slurm", tasks=1, cluster=cluster, **options)
    scorer = ScorerConfig(model=str(MODEL), device="cpu")
    step = QualityFilter(scorer, min_score=min_score, exclusion_writer=made.writer("excluded"))
    made([made.reader(ConversationAdapter()), step, Gate(str(gate)), made.writer("kept")])


@pytest.mark.parametrize("is_lost", [True, False], ids=["lost node", "another cluster"])
def test_a_job_that_goes_on_after_its_folder_was_taken_publishes_nothing(lab, source, tmp_path, is_lost):
    """A second run overwrites with another threshold and ends first; its SLURM knows nothing of the first job."""
    output, gate = tmp_path / "out", tmp_path / "gate"
    start(source / "0.jsonl", output, gate, 2.0, wait=False)
    wait_for(lambda: at_gate(tmp_path), "the task at the gate")
    [process] = [Path("/proc", name.rpartition("-")[2]) for name in at_gate(tmp_path)]
    node = run("squeue", "-h", "-t", "R", "-o", "%N").strip()
    if is_lost:
        lose_node(lab, node)
    else:
        (output / "logs/slurm_jobs.txt").unlink()
    try:
        (tmp_path / "open").mkdir()
        (tmp_path / "open/open").touch()
        start(source / "0.jsonl", output, tmp_path / "open", 3.5, wait=True, overwrite=True)
        expected = rows(output)
        assert process.exists()
        (gate / "open").touch()
        wait_for(lambda: not process.exists(), "the first run's task to end")
    finally:
        if is_lost:
            lab.start_node(node)
            lab.resume_node(node)
        run("scancel", "--user=root")
        lab.wait_until_idle()
    assert rows(output) == expected
    assert min(row["quality_score"] for row in expected["kept/00000.jsonl"]) >= 3.5
    assert [path.name for path in (output / "logs/completions").iterdir()] == ["00000"]
    # Nothing shows what a process writes whose srun has been cancelled.
    assert is_lost or f"{output} belongs to another run now (process " in log_of_jobs(output / "logs")


def lose_node(lab, node):
    """The node's daemon dies, its job is cancelled, and the job's processes go on."""
    lab.kill_node(node)
    run("scancel", "--user=root")
    lab.set_node(node, "down")
    wait_for(lambda: not run("squeue", "-h").strip(), "the queue to be empty")
