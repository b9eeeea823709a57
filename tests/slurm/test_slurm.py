"""The pipelines on a real SLURM: the rows of a local run, whatever happens to the jobs meanwhile."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from lab import run, wait_for
from slurm_runs import (
    MODEL,
    SMALL,
    at_gate,
    filter_pipeline,
    filter_stats,
    job,
    kept_scores,
    log_of_jobs,
    make,
    require_same_rows,
)
from slurm_steps import Devices, Need

from datatrove_quality import QualityFilter, ScorerConfig
from datatrove_quality.cli.main import run as run_command
from datatrove_quality.runs.slurm import SlurmExecutor


pytestmark = pytest.mark.slurm


@pytest.mark.parametrize("tasks_per_job", [1, 3])
def test_six_tasks_on_four_gpus_write_the_rows_of_a_local_run(lab, source, local, tmp_path, tasks_per_job, capsys):
    """Rows, statistics and table are the local run's, also where a job runs several tasks with one loaded model."""
    capsys.readouterr()
    output = tmp_path / "out"
    command = ["--executor", "slurm", "--gpus-per-task", 1, "--tasks-per-job", tasks_per_job, "--wait", *SMALL]
    filter_pipeline(source, output, *command)
    table = capsys.readouterr().out
    require_same_rows(output, local)
    ours, expected = filter_stats(output / "logs"), filter_stats(local / "logs")
    assert ours == expected
    total = sum(stats["total"] for stats in expected.values())
    assert f"documents in{total:>34,}" in table
    assert f"squeue -j {(output / 'logs/slurm_jobs.txt').read_text().strip()}" in table
    assert log_of_jobs(output / "logs").count("fingerprint") == 6 / tasks_per_job
    assert not list((output / "logs/unfinished").glob("*/*"))
    # Again, there is nothing left to run, and the table is printed from what is there.
    jobs = (output / "logs/slurm_jobs.txt").read_text()
    filter_pipeline(source, output, *command)
    assert (output / "logs/slurm_jobs.txt").read_text() == jobs
    assert f"documents in{total:>34,}" in capsys.readouterr().out


def test_interrupted_tasks_end_with_the_same_rows_and_their_scores(lab, gated, local, tmp_path):
    """Requeue, SIGUSR1, preemption and a node that goes down: what was scored is not computed again."""
    executor = gated(4)
    wait_for(lambda: len(at_gate(tmp_path)) == 4, "four tasks at the gate")
    stats = filter_stats(local / "logs")
    scored = sum(stats[task]["scored"] for task in range(4))
    wait_for(lambda: kept_scores(tmp_path / "out") >= scored, "the scores behind the gate")
    before = at_gate(tmp_path)
    nodes = {task: job(executor, task)[1] for task in range(4)}
    first, second = [task for task in range(4) if nodes[task] == "n1"]
    run("scontrol", "requeue", job(executor, first)[0])
    run("scancel", "--signal=USR1", job(executor, second)[0])
    urgent = run("sbatch", "--parsable", "-p", "urgent", "-w", "n2", "--gpus=1", "--mem=100M", "-o", "/dev/null",
                 "--wrap", "sleep 2")  # fmt: skip
    wait_for(lambda: "RUNNING" in run("squeue", "-h", "-o", "%T", "-j", urgent.strip()), "the urgent job to run")
    lab.set_node("n2", "down")
    wait_for(lambda: "n2" not in run("squeue", "-h", "-o", "%N"), "the node to be empty")
    lab.resume_node("n2")
    (tmp_path / "gate" / "open").touch()
    executor.wait()
    assert executor.get_incomplete_ranks() == []
    again = at_gate(tmp_path) - before
    assert {name.split("-")[1] for name in again} == {"0", "1", "2", "3"}
    require_same_rows(tmp_path / "out", local, range(4))
    for stats in filter_stats(tmp_path / "out/logs").values():
        assert stats["from_store"] == stats["scored"] > 0
    assert "Received signal" in log_of_jobs(tmp_path / "out/logs")
    assert not list((tmp_path / "out/logs/unfinished").glob("*/*"))


def test_two_copies_of_a_task_at_once_write_whole_files(lab, gated, local, tmp_path):
    """A node whose daemon dies keeps its task running while SLURM starts it elsewhere: both end, with right rows."""
    executor = gated(1)
    wait_for(lambda: len(at_gate(tmp_path)) == 1, "the task at the gate")
    node = job(executor, 0)[1]
    lab.kill_node(node)
    try:
        wait_for(lambda: len(at_gate(tmp_path, 0)) == 2, "the second copy at the gate")
        pids = [int(name.rpartition("-")[2]) for name in at_gate(tmp_path)]
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
        (tmp_path / "gate" / "open").touch()
        executor.wait()
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "both copies to end")
    finally:
        lab.start_node(node)
        lab.wait_until_idle()
    assert executor.get_incomplete_ranks() == []
    require_same_rows(tmp_path / "out", local, range(1))
    assert not list((tmp_path / "out/logs/unfinished").glob("*/*"))


@pytest.mark.parametrize("asked", [{"gpus_per_task": 2}, {"sbatch": ("gres=gpu:2",)}])
def test_a_task_has_all_gpus_that_it_asked_for(lab, tmp_path, asked):
    """With two GPUs per task the device choice reports both, whatever an earlier process leased."""
    executor = make([Devices(str(tmp_path))], tmp_path / "logs", 2, **asked)
    executor.run()
    executor.wait()
    for rank in range(2):
        _, visible, chosen = json.loads((tmp_path / f"rank-{rank}").read_text())
        assert len(visible) == 2 and chosen == [0, 1]


def test_local_workers_inside_a_job_divide_its_gpus(lab, tmp_path):
    """LocalPipelineExecutor in an sbatch script: SLURM's variables are set, and still each worker leases its own."""
    script = tmp_path / "script.py"
    script.write_text(
        "from datatrove.executor import LocalPipelineExecutor\nfrom slurm_steps import Devices\n"
        "if __name__ == '__main__':\n"
        f"    LocalPipelineExecutor([Devices({str(tmp_path)!r}, together=2)], tasks=4, workers=2, "
        f"logging_dir={str(tmp_path / 'logs')!r}).run()\n"
    )
    run("sbatch", "--wait", "--gpus=2", "--nodes=1", "--mem=2G", f"--output={tmp_path}/log", "--wrap",
        f"{sys.executable} {script}")  # fmt: skip
    found = [json.loads((tmp_path / f"rank-{rank}").read_text()) for rank in range(4)]
    assert all(len(visible) == 2 for _, visible, _ in found)
    leased = {process: chosen for process, _, chosen in found}
    assert sorted(leased.values()) == [[0], [1]]


def test_the_merge_job_asks_for_no_gpu(lab, tmp_path):
    """A job that adds up numbers must neither wait for a GPU nor take a whole node."""
    executor = make([], tmp_path / "logs", 1, gpus_per_task=2, sbatch=("exclusive", "comment=x"))
    before = set(run("squeue", "-h", "-t", "all", "-o", "%A").split())
    lab.set_node("n1", "drain")
    lab.set_node("n2", "drain")
    try:
        executor.run()
        after = set(run("squeue", "-h", "-o", "%A").split()) - before
        [merge] = after - {executor.job_id}
        main, merging = (run("scontrol", "show", "job", name) for name in (executor.job_id, merge))
        assert "gpu:2" in main and "OverSubscribe=NO" in main
        assert "gpu" not in merging and "OverSubscribe=OK" in merging
    finally:
        run("scancel", "--user=root")
        lab.resume_node("n1")
        lab.resume_node("n2")
        lab.wait_until_idle()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--partition", "nowhere"], r"invalid partition.*nowhere[\s\S]*lab: 2 nodes"),
        (["--gpus-per-task", 3], r"3 GPUs[\s\S]*gpu:2"),
        (["--mem", "400G"], r"400G memory[\s\S]*16000 MB"),
        (["--sbatch", "nodes=2"], "each of the nodes would run the same task"),
    ],
)
def test_what_the_cluster_cannot_do_is_refused_before_anything_is_queued(
    lab, source, local, tmp_path, arguments, message
):
    """A mistake costs an error message: nothing is queued, and an earlier run's output is as it was."""
    output = tmp_path / "out"
    shutil.copytree(local, output)
    with pytest.raises(ValueError, match=message):
        filter_pipeline(source, output, "--executor", "slurm", "--gpus-per-task", 1, *SMALL, "--overwrite", *arguments)
    assert run("squeue", "-h") == ""
    require_same_rows(output, local)


@pytest.mark.parametrize("max_array_size", [3, 1])
def test_the_stage_after_a_failed_one_does_not_run_and_both_go_on(lab, tmp_path, max_array_size):
    """Nothing waits for ever or starts on half of its input, also where the last of several arrays ended well."""
    needed = tmp_path / "needed"

    def start():
        first = make([Need(str(needed))], tmp_path / "first", 2, max_array_size=max_array_size)
        last = make([], tmp_path / "last", 1, depends=first)
        last.run()
        wait_for(lambda: run("squeue", "-h") == "", "the queue to be empty")
        return first.get_incomplete_ranks(), last.get_incomplete_ranks()

    assert start() == ([0], [0])
    needed.touch()
    assert start() == ([], [])


def test_a_second_start_while_jobs_are_queued_is_refused(lab, gated, tmp_path):
    """Started twice by mistake, a pipeline does not run twice."""
    executor = gated(1, sbatch=("hold",))
    with pytest.raises(ValueError, match=f"jobs {executor.job_id} of an earlier start are still in the queue"):
        gated(1)


def test_another_number_of_tasks_is_refused(lab, tmp_path):
    """Done tasks are known by their numbers: with another count these mean other files."""
    logs = tmp_path / "logs"
    executor = make([], logs, 2)
    (logs / "completions").mkdir(parents=True)
    (logs / "completions" / "00000").touch()
    executor.save_executor_as_json()
    with pytest.raises(ValueError, match="holds a run of 2 tasks, and this one has 3"):
        make([], logs, 3)
    assert isinstance(make([], logs, 2), SlurmExecutor)


def test_a_task_does_not_start_tasks(lab, tmp_path, monkeypatch):
    """Inside an array's task DataTrove would take the script for one of its own tasks."""
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    with pytest.raises(ValueError, match="login node"):
        make([], tmp_path / "logs", 2)


def test_several_nodes_per_task_are_refused_in_the_job(monkeypatch):
    """DataTrove's own nodes_per_task=2 would score every document twice."""
    monkeypatch.setenv("DATATROVE_NODE_RANK", "1")
    with pytest.raises(ValueError, match="nodes_per_task is above 1"):
        list(QualityFilter(ScorerConfig(model=str(MODEL))).run([], 0, 1))


def test_a_missing_model_is_named_before_anything_is_queued(lab, source, tmp_path):
    """Without the hub, a model that is not in the cache is an error that says how to fetch it."""
    with pytest.raises(ValueError, match=r"hf download org/not-here"):
        run_command(
            [
                "filter",
                str(source),
                "--output",
                str(tmp_path / "out"),
                "--model",
                "org/not-here",
                "--executor",
                "slurm",
            ]
        )
    assert run("squeue", "-h") == "" and not os.path.exists(tmp_path / "out")
