"""A model whose branch moves while workers start: one commit scores all rows of a run, and run.json names it."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from loopback_hub import serving
from safetensors.torch import load_file, save_file
from samples import read_rows, rows, write_rows

from datatrove_quality import ScorerConfig, load_scorer


NAME = "org/classifier"
FILES, ROWS = 4, 6
SCRIPT = """
import sys
from datatrove.executor import LocalPipelineExecutor
from datatrove_quality import ConversationAdapter, ConversationJsonlReader, QualityFilter, RowAdapter
from datatrove_quality import Run, ScorerConfig
from datatrove.pipeline.writers import JsonlWriter

if __name__ == "__main__":
    source, output, way = sys.argv[1:]
    scorer = ScorerConfig(model="org/classifier", dtype="float32", device="cpu")
    if way == "run":
        run = Run(source, output, workers=2)
        run([run.reader(ConversationAdapter()), QualityFilter(scorer), run.writer("kept")])
    else:
        pipeline = [
            ConversationJsonlReader(source),
            QualityFilter(scorer),
            JsonlWriter(f"{output}/kept", adapter=RowAdapter(), compression=None, expand_metadata=True),
        ]
        LocalPipelineExecutor(pipeline, tasks=4, workers=2, logging_dir=f"{output}/logs").run()
"""


@pytest.mark.parametrize("way", ["run", "plain step"])
def test_all_workers_score_by_one_commit(tmp_path, model, way):
    """The branch moves back and forth with each question for it."""
    for file in range(FILES):
        write_rows(tmp_path / f"in/{file}.jsonl", rows(ROWS, str(file)))
    models = [tmp_path / "one", tmp_path / "two"]
    for folder, sign in zip(models, (1, -1), strict=True):
        shutil.copytree(model, folder)
        weights = load_file(folder / "model.safetensors")
        weights["score.weight"] = sign * weights["score.weight"]
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with serving() as hub:
        commits = {hub.publish(NAME, folder): folder for folder in models}
        asked = []

        def move(request):
            if "/api/models/" in request and not any(commit in request for commit in commits):
                hub.publish(NAME, models[len(asked) % 2])
                asked.append(request)

        hub.on_request = move
        environment = os.environ | {
            "HF_ENDPOINT": hub.address,
            "HF_HOME": str(tmp_path / "hub"),
            "HF_HUB_OFFLINE": "0",
        }
        environment.pop("HF_HUB_CACHE", None)
        (tmp_path / "script.py").write_text(SCRIPT)
        command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "in"), str(tmp_path / "out"), way]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3_000:]
    assert asked
    found = {row["id"]: row["quality_score"] for row in read_rows(tmp_path / "out/kept")}
    assert len(found) == FILES * ROWS
    conversations = {row["id"]: row["messages"] for file in range(FILES) for row in rows(ROWS, str(file))}
    of_commit = {}
    for commit, folder in commits.items():
        scorer = load_scorer(ScorerConfig(model=str(folder), dtype="float32", device="cpu"))
        scores = [score.score for score in scorer.score([conversations[name] for name in found])]
        of_commit[commit] = scores == pytest.approx(list(found.values()), abs=1e-4)
    assert sum(of_commit.values()) == 1
    if way == "run":
        record = json.loads((tmp_path / "out/logs/run.json").read_text())
        assert of_commit[record["filters"][0]["scorer"]["parts"]["commit"]]
        assert len(list((tmp_path / "out/logs/completions").iterdir())) == FILES
