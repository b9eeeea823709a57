"""The curation pipeline on a real SLURM: the rows and the table of a local run, whatever happens to its jobs."""

import pytest
from lab import run, wait_for
from slurm_runs import MIN_SCORE, MODEL, rows


pytest.importorskip("spacy", reason="the extra curate is not installed: pip install 'datatrove-quality[curate]'")

import plant_garbage

from datatrove_quality.cli.main import run as run_command


TASKS = 6
# Each stage has a partition of its own, only the scoring has GPUs, and a job runs several tasks with the same steps.
SLURM = ["--executor", "slurm", "--partition", "cpu=lab,gpu=urgent", "--gpus-per-task", "gpu=1", "--mem", "2G"]
SLURM += ["--cpus-per-task", "1", "--tasks-per-job", "cpu=5,gpu=3"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The demo with planted duplicates and garbage."""
    folder = tmp_path_factory.mktemp("planted") / "in"
    plant_garbage.write(folder)
    return folder


@pytest.fixture(scope="module")
def local(source, tmp_path_factory):
    """The output of a local run, undisturbed."""
    output = tmp_path_factory.mktemp("local")
    curate(source, output)
    return output


def curate(source, output, *arguments):
    given = [source, "--output", output, "--model", MODEL, "--min-score", MIN_SCORE, "--device", "cpu"]
    given += ["--tasks", TASKS, "--no-progress", *arguments]
    run_command(["curate", *map(str, given)])


@pytest.mark.slurm
def test_the_stages_write_the_rows_and_the_table_of_a_local_run(lab, source, local, tmp_path, capsys):
    """Exact also where a job runs several tasks, whose statistics DataTrove carries over from one to the next."""
    output = tmp_path / "out"
    curate(source, output, *SLURM, "--wait")
    assert rows(output) == rows(local)
    assert (output / "logs/counts/table.txt").read_text() == (local / "logs/counts/table.txt").read_text()
    assert (local / "logs/counts/table.txt").read_text() in capsys.readouterr().out
    plant_garbage.check(output)
    scripts = {stage.name: (stage / "launch_script.slurm").read_text() for stage in stages(output)}
    assert len(scripts) == 7
    for name, script in scripts.items():
        assert ("#SBATCH --gpus=1" in script) == ("#SBATCH --partition=urgent" in script) == (name == "6-score")
    # Again, there is nothing left to run, and the table is printed from what is there.
    curate(source, output, *SLURM, "--wait")
    assert "Queued" not in capsys.readouterr().out.rpartition("documents in")[0].rpartition("Written to")[2]


@pytest.mark.slurm_long
def test_interrupted_within_and_between_stages_it_ends_with_the_same_rows(lab, source, local, tmp_path):
    """Jobs cancelled and started again, requeued, and running twice at once when a node's daemon dies."""
    output = tmp_path / "out"

    def done(stage):
        return len(list((output / f"logs/stages/{stage}/completions").glob("*")))

    def running(stage):
        return run("squeue", "-h", "-r", "-t", "R", "-n", f"curate-{stage}", "-o", "%i").split()

    def cancel_when(condition, what):
        """Start or go on, end all jobs when it is time, and wait until they are gone."""
        curate(source, output, *SLURM)
        wait_for(condition, what)
        run("scancel", "--user=root")
        wait_for(lambda: not run("squeue", "-h").strip(), "the queue to be empty")

    cancel_when(lambda: running("1-clean"), "the first stage to run")
    cancel_when(lambda: done("1-clean") >= 1, "a task of the first stage to be done")
    cancel_when(lambda: done("1-clean") == TASKS, "the first stage to be done")
    cancel_when(lambda: running("3-drop-exact"), "the third stage to run")
    cancel_when(lambda: done("4-find-near") >= 3, "some of the fourth stage to be done")

    curate(source, output, *SLURM)
    wait_for(lambda: running("6-score"), "the scoring to run")
    for job in running("6-score"):
        run("scontrol", "requeue", job)
    wait_for(lambda: running("6-score"), "the scoring to run again", seconds=120)
    lab.kill_node("n1")  # its tasks go on, and start on the other node too
    wait_for(lambda: run("sinfo", "-h", "-n", "n1", "-p", "lab", "-o", "%T").strip().startswith("down"), "n1 down")
    lab.start_node("n1")
    wait_for(lambda: done("7-table") and not run("squeue", "-h").strip(), "the end", seconds=200)
    assert rows(output) == rows(local)
    assert (output / "logs/counts/table.txt").read_text() == (local / "logs/counts/table.txt").read_text()


def stages(output):
    return sorted((output / "logs/stages").iterdir())
