"""Both scores of each document of a sample, by the step that a run uses; and what a document costs each model."""

import math
import time
from array import array
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, Literal

from datatrove.data import Document

from datatrove_quality.cascade.values import Cascade
from datatrove_quality.config import ScorerConfig
from datatrove_quality.engine.scorer import Input, Scorer, find_scorer
from datatrove_quality.evaluation.labels import LabelledRow
from datatrove_quality.filter import QualityFilter


# Of each model, documents whose time is taken, and seconds after which no more are.
TIMED_DOCUMENTS = 256
TIMED_SECONDS = 20.0
WARM_UP = 8


@dataclass
class PairedScores:
    """Scores of documents by two models; NaN where one gives none.

    Args:
        scores: the classifier's; shape (n,).
        proxies: the proxy's; shape (n,).
        inputs: what was scored of each.
        unscorable: documents that neither model got, or that neither scores.
    """

    scores: array = field(default_factory=lambda: array("d"))
    proxies: array = field(default_factory=lambda: array("d"))
    inputs: list[Input] = field(default_factory=list)
    unscorable: int = 0


def score_both(
    documents: Sequence[Document],
    scorer: ScorerConfig,
    proxy: ScorerConfig,
    min_score: float,
    checkpoints: str | PathLike[str] | None,
    *,
    messages_key: str | None,
    allow_no_answer: bool = False,
    render_tools: bool = False,
    special_tokens: Literal["allow", "reject"] = "allow",
) -> PairedScores:
    """Score documents with both models, as a cascade does whose band is without end.

    Args:
        documents: as adapters make them.
        scorer: the classifier.
        proxy: the cheaper one.
        min_score: the threshold; decides nothing here.
        checkpoints: where the scores of both are kept and found. None: nowhere.
        messages_key: of `QualityFilter`, as the others.
        allow_no_answer: likewise.
        render_tools: likewise.
        special_tokens: likewise.

    Raises:
        ValueError: a model cannot be loaded, or none of the first 1,000 documents can be scored.
    """
    step = QualityFilter(
        scorer,
        min_score=min_score,
        messages_key=messages_key,
        allow_no_answer=allow_no_answer,
        render_tools=render_tools,
        special_tokens=special_tokens,
        checkpoints_dir=checkpoints,
        cascade=Cascade(proxy, (-math.inf, math.inf), audit=0.0),
        drop=False,
    )
    found = PairedScores()
    for document in step.run(iter(documents)):
        score, estimate = (document.metadata.get(f"quality_{name}") for name in ("score", "proxy_score"))
        if score is None and estimate is None:
            found.unscorable += 1
            continue
        found.scores.append(math.nan if score is None else score)
        found.proxies.append(math.nan if estimate is None else estimate)
        found.inputs.append(document.text if messages_key is None else document.metadata[messages_key])
    return found


def labelled_by(
    scorer: ScorerConfig,
    documents: Sequence[Document],
    checkpoints: str | PathLike[str],
    **reading: Any,
) -> list[LabelledRow]:
    """What a classifier says of documents, as rows to train another one on.

    Scores beyond the scale become its ends: a student learns nothing there that a threshold within it needs.

    Args:
        scorer: the classifier.
        documents: as adapters make them.
        checkpoints: where its scores are kept and found.
        reading: `messages_key`, `allow_no_answer` and `render_tools` of `QualityFilter`.

    Returns:
        For each document that has a score, what was scored of it, and the score.

    Raises:
        ValueError: the model cannot be loaded, or none of the first 1,000 documents can be scored.
    """
    scale = find_scorer(scorer).scale
    step = QualityFilter(scorer, checkpoints_dir=checkpoints, **reading)
    rows: list[LabelledRow] = []
    for document in step.run(iter(documents)):
        score = document.metadata.get("quality_score")
        if score is not None:
            item = document.text if step.messages_key is None else document.metadata[step.messages_key]
            rows.append((item, min(max(score, float(scale.low)), float(scale.high))))
    return rows


def seconds_per_document(scorer: Scorer, inputs: Sequence[Input]) -> float:
    """How long a model takes for a document, on its own and without loading; in seconds.

    Args:
        scorer: the model.
        inputs: of a random sample; the first ones are timed.
    """
    for _ in scorer.stream_pairs([(None, item) for item in inputs[:WARM_UP]], alone=True):
        pass
    done, started = 0, time.perf_counter()
    with closing(scorer.stream_pairs([(None, item) for item in inputs[:TIMED_DOCUMENTS]], alone=True)) as stream:
        for _ in stream:
            done += 1
            if time.perf_counter() - started > TIMED_SECONDS:
                break
        seconds = time.perf_counter() - started
    return seconds / max(1, done)
