"""A model whose branch moves while jobs are queued: one commit scores all rows of a run, and run.json names it."""

import json
import shutil

import pytest
from loopback_hub import serving, use
from safetensors.torch import load_file, save_file
from samples import read_rows, rows, write_rows
from slurm_runs import MODEL, log_of_jobs, make

from datatrove_quality import (
    Cluster,
    ConversationAdapter,
    ConversationJsonlReader,
    QualityFilter,
    RowAdapter,
    Run,
    ScorerConfig,
    load_scorer,
)
from datatrove_quality.model.found_model import prepare_for_nodes
from datatrove_quality.runs.outputs import WholeJsonlWriter


pytestmark = pytest.mark.slurm
NAME = "org/classifier"


@pytest.fixture
def commits(tmp_path, monkeypatch):
    """Two commits of a classifier, whose scores are each other's opposite, by their names; `main` moves whenever it is
    looked up. Both are in the cache that the jobs see, which reach no hub."""
    folders = [shutil.copytree(MODEL, tmp_path / name) for name in ("one", "two")]
    weights = load_file(folders[1] / "model.safetensors")
    weights["score.weight"] = -weights["score.weight"]
    save_file(weights, folders[1] / "model.safetensors", {"format": "pt"})
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with serving() as hub:
        use(hub, tmp_path / "hub", monkeypatch)
        found = {hub.publish(NAME, folder): folder for folder in folders}
        for commit in found:
            prepare_for_nodes(ScorerConfig(model=NAME, revision=commit, device="cpu"))
        asked = []

        def move(request):
            if "/api/models/" in request and not any(commit in request for commit in found):
                hub.publish(NAME, folders[len(asked) % 2])
                asked.append(request)

        hub.on_request = move
        yield found
        assert asked


@pytest.mark.parametrize("way", ["run", "plain step"])
def test_all_jobs_score_by_one_commit(lab, tmp_path, commits, way):
    """Four tasks on two nodes, by `Run` and by a step in a pipeline of one's own."""
    source, output = tmp_path / "in", tmp_path / "out"
    for file in range(4):
        write_rows(source / f"{file}.jsonl", rows(6, str(file)))
    step = QualityFilter(ScorerConfig(model=NAME, device="cpu"))
    if way == "run":
        run = Run(
            str(source), str(output), executor="slurm", tasks=4, cluster=Cluster(cpus_per_task=1, mem="2G", wait=True)
        )
        run([run.reader(ConversationAdapter()), step, run.writer("kept")])
    else:
        reader = ConversationJsonlReader(str(source), adapter=ConversationAdapter())
        kept, unfinished = str(output / "kept"), str(output / "logs/unfinished")
        writer = WholeJsonlWriter(kept, unfinished, adapter=RowAdapter(), compression=None)
        executor = make([reader, step, writer], output / "logs", 4)
        executor.run()
        executor.wait()
    found = {row["id"]: row["quality_score"] for row in read_rows(output / "kept")}
    given = {row["id"]: row["messages"] for row in read_rows(source)}
    assert len(found) == len(given), log_of_jobs(output / "logs")
    of_commit = {}
    for commit, folder in commits.items():
        scores = load_scorer(ScorerConfig(model=str(folder), device="cpu")).score([given[name] for name in found])
        of_commit[commit] = [one.score for one in scores] == pytest.approx(list(found.values()), abs=1e-4)
    assert sum(of_commit.values()) == 1
    if way == "run":
        record = json.loads((output / "logs/run.json").read_text())
        assert of_commit[record["filters"][0]["scorer"]["parts"]["commit"]]
