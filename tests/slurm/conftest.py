"""One SLURM for all tests of this folder."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Lab, run, why_not
from slurm_runs import MIN_SCORE, MODEL, filter_pipeline, make
from slurm_steps import Gate

from datatrove_quality import (
    ConversationAdapter,
    ConversationJsonlReader,
    QualityFilter,
    RowAdapter,
    ScorerConfig,
)
from datatrove_quality.runs import slurm as slurm_jobs
from datatrove_quality.runs.outputs import WholeJsonlWriter


HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
slurm_jobs.POLL_SECONDS = 1


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """A SLURM of two nodes with two GPUs each."""
    if reason := why_not():
        pytest.skip(reason)
    # Jobs inherit it: they import the steps of the tests.
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(HERE), before)))
    slurm = Lab(Path(tempfile.mkdtemp(prefix="lab-")))
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.stop()
        shutil.rmtree(slurm.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """The demo conversations in six files."""
    folder = tmp_path_factory.mktemp("source")
    lines = (ROOT / "examples" / "conversations.jsonl").read_bytes().splitlines(keepends=True)
    for number in range(6):
        (folder / f"{number}.jsonl").write_bytes(b"".join(lines[number::6]))
    return folder


@pytest.fixture(scope="session")
def local(source, tmp_path_factory):
    """The output of a local run, undisturbed."""
    output = tmp_path_factory.mktemp("local")
    filter_pipeline(source, output)
    return output


@pytest.fixture
def gated(lab, source, tmp_path):
    """A function that queues tasks which score a file each and then wait at a gate: `gated(tasks, **cluster)`."""

    def start(tasks, **cluster):
        (tmp_path / "gate").mkdir(exist_ok=True)
        output = tmp_path / "out"
        unfinished = output / "logs" / "unfinished"
        pipeline = [
            ConversationJsonlReader(str(source), glob_pattern=f"[0-{tasks - 1}].jsonl", adapter=ConversationAdapter()),
            QualityFilter(
                ScorerConfig(model=str(MODEL), device="cpu"),
                min_score=MIN_SCORE,
                exclusion_writer=WholeJsonlWriter(
                    str(output / "excluded"), str(unfinished / "excluded"), adapter=RowAdapter(), compression=None
                ),
                checkpoints_dir=str(output / "logs/checkpoints"),
            ),
            Gate(str(tmp_path / "gate")),
            WholeJsonlWriter(str(output / "kept"), str(unfinished / "kept"), adapter=RowAdapter(), compression=None),
        ]
        executor = make(pipeline, output / "logs", tasks, **cluster)
        executor.run()
        return executor

    yield start
    run("scancel", "--user=root")
