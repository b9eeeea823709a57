"""Pipelines on a local Ray: one to its end, one whose folder is taken meanwhile."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import run_command
from datatrove.io import get_datafolder

from datatrove_quality.runs.summary import FilterSummary


ROOT = Path(__file__).resolve().parents[2]


RAY = """
import json, sys
from pathlib import Path
import ray
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False,
         runtime_env={{"env_vars": {{"PYTHONPATH": {root!r}}}}})
from datatrove_quality.cli.main import run
command = [{source!r}, "--output", "out", "--model", {model!r}, "--min-score", "3.5", "--device", "cpu",
           "--executor", "ray", "--cpus-per-task", "1", "--mem", "1G"]
try:
    run(["filter", *command, "--gpus-per-task", "1"])
except ValueError as error:
    print("refused:", error)
run(["filter", *command, "--tasks-per-job", "2"])

from datatrove_quality.runs import executors
from datatrove_quality.runs.cluster import Cluster

def fail(data, rank, world_size):
    raise ValueError("as asked")

ray_of = {{"executor": "ray", "cluster": Cluster(mem="1G"), "tasks": 1}}
first = executors.make_executor([fail], name="first", logging_dir="first", **ray_of)
last = executors.make_executor([], name="last", logging_dir="last", depends=first, **ray_of)
try:
    executors.run_to_end([first, last], wait=False)
except executors.IncompleteRun as error:
    print("stopped:", error)

# A second run takes the folder while a task of the first one waits.
import subprocess, threading, time
from datatrove_quality import ConversationAdapter, Run
from datatrove_quality.runs.claim import LostOutput

taken, at_gate, gate = (Path.cwd() / name for name in ("taken", "at-gate", "gate"))

def wait(data, rank, world_size):
    for number, document in enumerate(data):
        if (rank, number) == (1, 5):
            at_gate.touch()
            while not gate.exists():
                time.sleep(0.05)
        yield document

def second():
    while not at_gate.exists():
        time.sleep(0.05)
    (taken / "logs/active.json").unlink()  # as of a machine that cannot be asked
    subprocess.run([sys.executable, "-c", {second!r}, {source!r}, str(taken)], check=True)
    gate.touch()

other = threading.Thread(target=second)
other.start()
first = Run({source!r}, str(taken), executor="ray", cluster=Cluster(cpus_per_task=1, mem="1G"), tasks=2)
try:
    first([first.reader(ConversationAdapter()), wait, first.writer("kept")])
except LostOutput as error:
    print("lost:", error)
other.join()
"""


SECOND = """
import sys
from datatrove_quality import ConversationAdapter, Run

def some(data, rank, world_size):
    yield from (document for number, document in enumerate(data) if number % 8 == rank)

run = Run(*sys.argv[1:], tasks=2, overwrite=True)
run([run.reader(ConversationAdapter()), some, run.writer("kept")])
"""


def test_a_pipeline_on_ray_writes_the_rows_of_a_local_run(tmp_path):
    """The same command on a local Ray: the same rows and statistics; nothing waits for what will not come."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'datatrove-quality[ray]'")
    lines = (ROOT / "examples/conversations.jsonl").read_bytes().splitlines(keepends=True)[:80]
    (tmp_path / "in").mkdir()
    for number in range(2):
        (tmp_path / "in" / f"{number}.jsonl").write_bytes(b"".join(lines[number::2]))
    source, model = str(tmp_path / "in"), str(ROOT / "examples/demo-classifier")
    script = RAY.format(root=str(ROOT), source=source, model=model, second=SECOND)
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "refused: executor='ray': a task asks for 1 CPUs, 1 GPUs" in done.stdout
    assert "stopped: 1 of 1 tasks failed" in done.stdout
    command = [source, "--output", str(tmp_path / "local"), "--model", model, "--min-score", "3.5", "--device", "cpu"]
    run_command("filter", *command)
    for outcome in ("kept", "excluded"):
        for number in range(2):
            name = f"{outcome}/{number:05d}.jsonl"
            found, expected = ((tmp_path / run / name).read_bytes() for run in ("out", "local"))
            assert found == expected
    assert f"documents in{80:>34}" in done.stdout
    counts = [FilterSummary.of_run(get_datafolder(str(tmp_path / run)))[0].counts for run in ("out", "local")]
    assert counts[0].pop("score") == pytest.approx(counts[1].pop("score"))
    assert counts[0] == counts[1]
    assert f"lost: {tmp_path / 'taken'} belongs to another run now (process " in done.stdout
    for number in range(2):
        found = (tmp_path / f"taken/kept/{number:05d}.jsonl").read_bytes().splitlines()
        assert list(map(json.loads, found)) == list(map(json.loads, lines[number::2][number::8]))
    assert sorted(path.name for path in (tmp_path / "taken/logs/completions").iterdir()) == ["00000", "00001"]
    assert len(list((tmp_path / "taken/logs/stats").iterdir())) == 2
