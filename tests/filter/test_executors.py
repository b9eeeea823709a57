"""`QualityFilter` in executors: copied, pickled, pinned to one model, the same rows from any number of workers."""

import copy
import json
import os
import pickle
from dataclasses import replace

import dill
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import JsonlWriter, ParquetWriter
from filters import TURNS, pipeline
from samples import documents, read_rows, write_rows
from tiny_models import conversations

from datatrove_quality import (
    ConversationAdapter,
    ConversationJsonlReader,
    QualityFilter,
    RowAdapter,
    ScorerConfig,
    score_schema,
)
from datatrove_quality.engine import scorer as scorer_module
from datatrove_quality.engine.scorer import find_scorer


@pytest.mark.parametrize(
    "through",
    [copy.deepcopy, lambda step: dill.loads(dill.dumps(step)), lambda step: pickle.loads(pickle.dumps(step))],
    ids=["copy", "dill", "pickle"],
)
def test_a_step_travels(config, tmp_path, through):
    """Executors copy and pickle steps: the copy scores the same, and the model is not loaded again."""
    step = QualityFilter(config, min_score=2, exclusion_writer=JsonlWriter(str(tmp_path / "x")))
    expected = [doc.metadata["quality_score"] for doc in step.run(documents(12, source="s"))]
    loaded = set(scorer_module._found.values())
    assert [doc.metadata["quality_score"] for doc in through(step).run(documents(12, source="s"))] == expected
    assert set(scorer_module._found.values()) == loaded


def test_a_step_is_pinned_to_a_commit_when_it_is_copied(config, tmp_path, monkeypatch):
    """`main` moves while workers start: all of them load the commit of the first pickle, which loads nothing."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    root = tmp_path / "models--org--classifier"
    (root / "refs").mkdir(parents=True)
    for commit in ("a" * 40, "b" * 40):
        (root / "snapshots" / commit).mkdir(parents=True)
        (root / "snapshots" / commit / "config.json").write_text("{}")
    (root / "refs" / "main").write_text("a" * 40)
    step = QualityFilter("org/classifier")
    assert step.scorer.revision is None
    first = pickle.loads(pickle.dumps(step))
    (root / "refs" / "main").write_text("b" * 40)
    others = [dill.loads(dill.dumps(step)), copy.deepcopy(step), step, pickle.loads(pickle.dumps(first))]
    assert {one.scorer.revision for one in [first, *others]} == {"a" * 40}
    with pytest.raises(ValueError, match="org/missing"):
        pickle.dumps(QualityFilter("org/missing"))
    local = pickle.loads(pickle.dumps(QualityFilter(config))).scorer
    assert replace(local, template_date=None) == config  # the date on which it was pickled is added


def test_a_task_with_another_model_than_its_runs_refuses(config, model_folder):
    """The run's record names the model: what lies there since is not scored with."""
    expected = find_scorer(config).describe()
    step = QualityFilter(config)
    step.expected_scorer = expected
    assert len(list(pickle.loads(pickle.dumps(step)).run(documents(12, source="s")))) == 12
    step.expected_scorer = expected | {"fingerprint": "0" * 16, "parts": expected["parts"] | {"weights": "others"}}
    with pytest.raises(ValueError, match="no longer the one that this run started with: weights was others, is now"):
        list(pickle.loads(pickle.dumps(step)).run(documents(12, source="s")))


def loads(logs):
    """How often each task's log says that a model was loaded."""
    return [path.read_text().count(" - Loaded ") for path in sorted((logs / "logs").glob("*.log"))]


def test_one_worker_and_two_give_the_same_rows(model_folder, tmp_path, monkeypatch):
    """Five tasks on one worker and on two give the same rows, and the model is loaded at most once per process."""
    secret = "hf_a_secret_that_nobody_may_read"
    monkeypatch.setenv("HF_TOKEN", secret)
    for index in range(5):
        rows = [
            {"id": f"{index}-{number}", "messages": messages}
            for number, messages in enumerate(conversations(6, seed=index, longest=15))
        ]
        write_rows(tmp_path / "in" / f"{index}.jsonl", [*rows, {"id": f"{index}-bad", "messages": []}])
    found = {}
    for workers in (1, 2):
        # A config of this test's own, so that no other test has loaded it.
        config = ScorerConfig(model=str(model_folder("qwen3")), dtype="float32", device="cpu", tokens_per_batch=765)
        output = tmp_path / str(workers)
        steps = pipeline(tmp_path / "in", output, config, min_score=2.5)
        LocalPipelineExecutor(steps, tasks=5, workers=workers, logging_dir=str(output / "logs")).run()
        found[workers] = [
            {row.pop("id"): row for row in read_rows(output / folder)} for folder in ("kept", "excluded")
        ]
        assert len(loads(output / "logs")) == 5
        assert 1 <= sum(loads(output / "logs")) <= workers
        settings = (output / "logs" / "executor.json").read_text()
        assert json.loads(settings)["pipeline"][1]["min_score"] == 2.5
        assert secret not in settings
        assert secret.encode() not in dill.dumps(steps)
        stats = json.loads((output / "logs" / "stats.json").read_text())[1]["stats"]
        assert stats["total"] == 35
        assert stats["unscorable"] == 5
    for one, two in zip(found[1], found[2], strict=True):
        assert one.keys() == two.keys()
        for key, row in one.items():
            other = two[key]
            assert row.pop("quality_score", 0) == pytest.approx(other.pop("quality_score", 0), abs=5e-5)
            assert row == other
    assert sum(map(len, found[1])) == 35
    assert all(found[1])


def test_parquet_scores_as_jsonl_does(config, tmp_path):
    """The same rows from Parquet, where Arrow fills in nulls, get the same scores and come back with their columns."""
    rows = [{"id": str(number), "messages": messages, "n": number} for number, messages in enumerate(conversations(8))]
    rows[3]["messages"][0]["name"] = "Ana"
    rows.append({"id": "bad", "messages": [], "n": 99})
    write_rows(tmp_path / "jsonl" / "rows.jsonl", rows)
    (tmp_path / "parquet").mkdir()
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, tmp_path / "parquet" / "rows.parquet")
    schema = score_schema(table.schema)
    writers = [
        ParquetWriter(str(tmp_path / folder), adapter=RowAdapter(), schema=schema) for folder in ("kept", "excluded")
    ]
    steps = [
        ParquetReader(str(tmp_path / "parquet"), adapter=ConversationAdapter()),
        QualityFilter(config, min_score=-1.1, exclusion_writer=writers[1]),
        writers[0],
    ]
    LocalPipelineExecutor(steps, tasks=1, workers=1, logging_dir=str(tmp_path / "logs")).run()
    written = [pq.read_table(tmp_path / folder) for folder in ("kept", "excluded")]
    found = {row["id"]: row for table in written for row in table.to_pylist()}
    reader = ConversationJsonlReader(str(tmp_path / "jsonl"), adapter=ConversationAdapter())
    scored = {doc.id: doc.metadata.get("quality_score") for doc in QualityFilter(config).run(reader.run())}
    assert found.keys() == scored.keys()
    for source in table.to_pylist():
        row = found[source["id"]]
        assert {name: row[name] for name in source} == source
        assert row["quality_score"] == pytest.approx(scored[source["id"]], abs=1e-4)
    assert found["bad"]["filter_reason"] == "unscorable_no_messages"
    assert found["bad"]["quality_error"]


def test_a_wrong_model_stops_the_task_with_advice(tmp_path):
    """A wrong path is an error that says so when the first document arrives, and nothing is marked complete."""
    write_rows(tmp_path / "in" / "a.jsonl", [{"id": "a", "messages": TURNS}])
    steps = pipeline(tmp_path / "in", tmp_path, ScorerConfig(model="/nowhere/model", device="cpu"))
    with pytest.raises(ValueError, match="There is no folder /nowhere/model"):
        LocalPipelineExecutor(steps, tasks=1, workers=1, logging_dir=str(tmp_path / "logs")).run()
    assert not os.path.exists(tmp_path / "logs" / "completions" / "00000")
