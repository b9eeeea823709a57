"""Runs of the pipelines that the tests compare: on SLURM, and on this machine."""

import json
from pathlib import Path

import executors
from lab import run

from datatrove_quality import QualityFilter
from datatrove_quality.cli.main import run as run_command


ROOT = Path(__file__).resolve().parent.parent.parent
MODEL = ROOT / "examples" / "demo-classifier"
MIN_SCORE = 3.5
SMALL = ["--cpus-per-task", "1", "--mem", "2G"]


def filter_pipeline(source, output, *arguments):
    given = [source, "--output", output, "--model", MODEL, "--min-score", MIN_SCORE, "--device", "cpu", *arguments]
    run_command(["filter", *map(str, given)])


def rows(output):
    """The rows of each file, by its path."""
    return {
        str(path.relative_to(output)): [json.loads(line) for line in path.read_bytes().splitlines()]
        for outcome in ("kept", "excluded")
        for path in sorted((output / outcome).rglob("*.jsonl"))
    }


def require_same_rows(output, expected, ranks=range(6)):
    """The same files with the same rows; the same machine computes the same bits."""
    names = {f"{rank:05d}.jsonl" for rank in ranks}
    expected = {name: found for name, found in rows(expected).items() if name.rpartition("/")[2] in names}
    found = rows(output)
    assert {name: len(file) for name, file in found.items()} == {name: len(file) for name, file in expected.items()}
    for name, file in found.items():
        for row, other in zip(file, expected[name], strict=True):
            assert row == other, name


def filter_stats(logs):
    """The filter's counts, by task."""
    stats = {}
    for path in sorted((logs / "stats").iterdir()):
        [counts] = [step["stats"] for step in json.loads(path.read_text()) if QualityFilter.name in step["name"]]
        stats[int(path.stem)] = {name: n if isinstance(n, int) else n["total"] for name, n in counts.items()}
    return stats


def kept_scores(output):
    """How many scores the tasks have kept so far: all lines but the headers."""
    files = (output / "logs" / "checkpoints").glob("*/*.scores")
    return sum(not line.startswith(b"{") for file in files for line in file.read_bytes().splitlines())


def log_of_jobs(logs):
    return "".join(path.read_text(errors="replace") for path in (logs / "slurm_logs").iterdir())


def make(pipeline, logs, tasks, depends=None, **cluster):
    """An executor on SLURM; `cluster` are fields of `Cluster`."""
    asked = {"cpus_per_task": 1, "mem": "2G", **cluster}
    return executors.make(
        logs, "slurm", tasks=tasks, pipeline=pipeline, gpu=True, keeps_progress=True, depends=depends, **asked
    )


def at_gate(folder, rank=None):
    return {path.name for path in (folder / "gate").glob(f"rank-{'*' if rank is None else rank}-*")}


def job(executor, task):
    """The id and the node of an array's task."""
    line = run("squeue", "-h", "-r", "-o", "%i %A %N %T", "-j", f"{executor.job_id}_{task}").split()
    return line[1], line[2]
