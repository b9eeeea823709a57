"""Runs of the pipelines that the tests compare: on SLURM, and on this machine."""

import argparse
import json
from pathlib import Path

from lab import run

from datatrove_quality.cli.main import run as run_command
from datatrove_quality.runs.executors import add_executor_options, make_executor


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
        for door in ("kept", "excluded")
        for path in sorted((output / door).rglob("*.jsonl"))
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


def filter_stats(logs, step=1):
    """The filter's counts, by task."""
    stats = {}
    for path in sorted((logs / "stats").iterdir()):
        counts = json.loads(path.read_text())[step]["stats"]
        stats[int(path.stem)] = {name: n if isinstance(n, int) else n["total"] for name, n in counts.items()}
    return stats


def kept_scores(output):
    """How many scores the tasks have kept so far: all lines but the headers."""
    files = (output / "logs" / "checkpoints").glob("*/*.scores")
    return sum(not line.startswith(b"{") for file in files for line in file.read_bytes().splitlines())


def log_of_jobs(logs):
    return "".join(path.read_text(errors="replace") for path in (logs / "slurm_logs").iterdir())


def make(pipeline, logs, tasks, *arguments, depends=None):
    parser = argparse.ArgumentParser()
    add_executor_options(parser)
    options = parser.parse_args(["--executor", "slurm", *SMALL, *map(str, arguments)])
    asked = {"name": "test", "tasks": tasks, "logging_dir": str(logs), "gpu": True, "keeps_progress": True}
    return make_executor(options, pipeline, **asked, depends=depends)


def at_gate(folder, rank=None):
    return {path.name for path in (folder / "gate").glob(f"rank-{'*' if rank is None else rank}-*")}


def job(executor, task):
    """The id and the node of an array's task."""
    line = run("squeue", "-h", "-r", "-o", "%i %A %N %T", "-j", f"{executor.job_id}_{task}").split()
    return line[1], line[2]
