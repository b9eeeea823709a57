"""Score, keep and drop: `QualityFilter` in a pipeline, and the same classifier without one. Runs on the demo."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.writers import JsonlWriter

from datatrove_quality import (
    ConversationAdapter,
    ConversationJsonlReader,
    QualityFilter,
    RowAdapter,
    ScorerConfig,
    load_scorer,
)


HERE = Path(__file__).resolve().parent
MODEL = str(HERE / "demo-classifier")  # for real work: "Polygl0t/portuguese-qwen3-4b-instruct-quality-classifier"


def filter_in_a_pipeline(output: str) -> None:
    """Fifteen lines: read, score, keep what scores at least 3.5, write the rows back with their scores."""
    pipeline: list[PipelineStep | Callable] = [
        ConversationJsonlReader(str(HERE), glob_pattern="conversations.jsonl", adapter=ConversationAdapter()),
        QualityFilter(
            MODEL,
            min_score=3.5,
            exclusion_writer=JsonlWriter(f"{output}/excluded", adapter=RowAdapter(), compression=None),
        ),
        JsonlWriter(f"{output}/kept", adapter=RowAdapter(), compression=None),
    ]
    LocalPipelineExecutor(pipeline, logging_dir=f"{output}/logs").run()


def score_without_a_pipeline() -> None:
    """Five lines: two answers to one question."""
    question = {"role": "user", "content": "Qual é a capital da Eslovênia?"}
    answers = ["A capital da Eslovênia é Liubliana.", "Gosto muito de andar de bicicleta."]
    scorer = load_scorer(ScorerConfig(model=MODEL))
    scores = scorer.score([[question, {"role": "assistant", "content": answer}] for answer in answers])
    print(*(f"{score.score:5.2f}  {answer}" for score, answer in zip(scores, answers, strict=True)), sep="\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        filter_in_a_pipeline(folder)
    score_without_a_pipeline()
