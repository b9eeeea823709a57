"""The ready-to-run pipeline on a real SLURM: what a script of the user's own defines reaches the jobs."""

import subprocess
import sys

import pytest
from slurm_runs import MIN_SCORE, MODEL, ROOT, rows


pytestmark = pytest.mark.slurm


def start(source, output, *arguments):
    script = [sys.executable, str(ROOT / "pipelines/corpus_on_slurm.py"), str(source), str(output)]
    given = ["--model", str(MODEL), "--min-score", str(MIN_SCORE), "--device", "cpu", *arguments]
    return subprocess.run([*script, *given], capture_output=True, text=True, check=False)


def test_raw_rows_become_a_corpus_on_slurm(lab, source, tmp_path):
    """As a user starts it: jobs are queued, the same command later prints the table; the rows are a local run's."""
    local = start(source, tmp_path / "local", "--executor", "local")
    assert local.returncode == 0, local.stderr
    output = tmp_path / "out"
    partitions = ("--cpu-partition", "lab", "--gpu-partition", "urgent")
    queued = start(source, output, *partitions)
    assert queued.returncode == 0, queued.stderr
    assert "Queued corpus-1-clean as SLURM job" in queued.stdout and "documents in" not in queued.stdout
    beside = start(source, output, *partitions)
    done = "of an earlier start are still in the queue"
    assert done in beside.stderr or "documents in" in beside.stdout
    subprocess.run(["bash", "-c", 'while [ -n "$(squeue -h)" ]; do sleep 1; done'], timeout=180, check=True)
    again = start(source, output, *partitions)
    assert again.returncode == 0, again.stderr
    table = (tmp_path / "local/logs/counts/table.txt").read_text()
    assert table in again.stdout and table in local.stdout
    assert rows(output) == rows(tmp_path / "local") and sum(map(len, rows(output).values())) > 600


def test_no_controller_is_named(lab, source, tmp_path, monkeypatch):
    """sbatch is there, and slurmctld does not answer: said within seconds, before anything is written."""
    stopped = tmp_path / "slurm.conf"
    text = lab.configuration.read_text()
    port = next(line for line in text.splitlines() if line.startswith("SlurmctldPort="))
    stopped.write_text(text.replace(port, "SlurmctldPort=1"))
    monkeypatch.setenv("SLURM_CONF", str(stopped))
    done = start(source, tmp_path / "out")
    assert done.returncode == 1 and not (tmp_path / "out").exists()
    assert "no SLURM controller is reachable from this machine (scontrol ping says: " in done.stderr
