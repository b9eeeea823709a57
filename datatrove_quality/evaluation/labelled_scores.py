"""Labels and scores of rows, side by side: the scores are columns of the rows, or a classifier computes them."""

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from datatrove_quality.atomic_write import write_atomic, write_json
from datatrove_quality.config import ScoreScale, Unscorable
from datatrove_quality.engine.scorer import Input, Scorer
from datatrove_quality.evaluation.columns import (
    columns_found,
    listed,
    read_columns,
    require_no_cascade,
    score_in,
    tokens_in,
)
from datatrove_quality.evaluation.labelled_rows import labelled_documents
from datatrove_quality.evaluation.labels import label_in, parse_label
from datatrove_quality.evaluation.metrics import Evaluation, evaluate_scores
from datatrove_quality.evaluation.sample_weights import SampleWeights
from datatrove_quality.rows.to_document import ConversationAdapter, TextAdapter
from datatrove_quality.rows.types import Row
from datatrove_quality.runs.inputs import Inputs


@dataclass
class LabelledScores:
    """The rows that have a label and a score, and why the others are left out.

    Args:
        scale: of labels and scores.
        labels: of each row; shape (n,).
        scores: of each row; shape (n,).
        tokens: of each row, NaN where they are not known; shape (n,).
        left_out: number of other rows, by reason.
        weights: of the rows that have both.
    """

    scale: ScoreScale
    labels: array = field(default_factory=lambda: array("q"))
    scores: array = field(default_factory=lambda: array("d"))
    tokens: array = field(default_factory=lambda: array("d"))
    left_out: Counter[str] = field(default_factory=Counter)
    weights: SampleWeights = field(default_factory=SampleWeights)

    def add(self, row: Row, label: int, score: float, tokens: float) -> None:
        """Add a row that has a label and a score.

        Raises:
            ValueError: its sample weight is not a positive number.
        """
        self.labels.append(label)
        self.scores.append(score)
        self.tokens.append(tokens)
        self.weights.add(row)

    def evaluation(self) -> Evaluation:
        """How well the scores agree with the labels.

        Raises:
            ValueError: no row has both, or some have sample weights and others have not.
        """
        if not self.labels:
            raise ValueError(f"No row has both a usable label and a score: {listed(self.left_out) or 'no rows'}.")
        has_tokens = not np.isnan(self.tokens).any()
        tokens = self.tokens if has_tokens else None
        return evaluate_scores(self.labels, self.scores, self.scale, tokens, self.weights.found())

    def write(self, evaluation: Evaluation, settings: dict[str, Any], output: Path) -> str:
        """Write evaluation.json and evaluation.md; gives the text of the latter.

        Args:
            evaluation: of these rows.
            settings: how labels and scores were found, for the record; JSON values by name.
            output: the folder; made where it is missing.

        Raises:
            OSError: a file cannot be written.
        """
        reasons = f": {listed(self.left_out)}" if self.left_out else ""
        text = f"{evaluation.to_markdown()}\n{self.left_out.total():,} rows left out{reasons}\n"
        record = {"settings": settings, "scale": asdict(self.scale), "left_out": dict(self.left_out)}
        output.mkdir(parents=True, exist_ok=True)
        write_json(output / "evaluation.json", record | {"evaluation": evaluation.to_dict()})
        write_atomic(output / "evaluation.md", text)
        return text


def compute_labelled_scores(
    inputs: Inputs,
    adapter: ConversationAdapter | TextAdapter,
    labels: str,
    scorer: Scorer,
    weights: SampleWeights | None = None,
) -> LabelledScores:
    """Score each row that has a label; progress is shown on stderr.

    Args:
        inputs: the files.
        adapter: makes documents of rows: conversations or plain text.
        labels: the column that holds the labels.
        scorer: the classifier.
        weights: of the rows. None: `sample_weight`, where rows have it.

    Raises:
        ValueError: the rows are conversations and the classifier has no chat template.
    """
    if isinstance(adapter, ConversationAdapter):
        scorer.renderer.require_template()
    found = LabelledScores(scorer.scale, weights=weights or SampleWeights())

    def with_label() -> Iterator[tuple[tuple[Row, int], Input]]:
        for doc, item, value in labelled_documents(inputs, adapter, labels):
            try:
                label = parse_label(value, scorer.scale)
            except Unscorable as error:
                found.left_out[error.reason] += 1
            else:
                yield (doc.metadata, label), item

    for (row, label), result in tqdm(scorer.stream_pairs(with_label()), unit=" documents", disable=None):
        if isinstance(result, Unscorable):
            found.left_out[result.reason] += 1
        else:
            found.add(row, label, result.score, result.tokens)
    return found


def read_labelled_scores(
    inputs: Inputs,
    labels: str,
    scores: str,
    tokens: str | None,
    scale: ScoreScale,
    weights: SampleWeights | None = None,
) -> LabelledScores:
    """Read labels and scores from columns; progress is shown on stderr.

    Args:
        inputs: the files.
        labels: the column of labels.
        scores: the column of scores.
        tokens: the column of token counts; None: the counts are not known.
        scale: of labels and scores.
        weights: of the rows. None: `sample_weight`, where rows have it.

    Raises:
        ValueError: a column holds nothing that can be used, and names the columns that there are; or a cascade's
            proxy has decided rows with a label.
    """
    found = LabelledScores(scale, weights=weights or SampleWeights())
    row: Row = {}
    for row in tqdm(read_columns(inputs), unit=" rows", disable=None):
        try:
            label, score = parse_label(label_in(row, labels), scale), score_in(row, scores)
        except Unscorable as error:
            found.left_out[error.reason] += 1
        else:
            found.add(row, label, score, tokens_in(row, tokens))
    decided = found.left_out["scored_by_proxy"]
    require_no_cascade(decided, decided + len(found.labels))
    if row and not found.labels:
        raise ValueError(
            f"No row has both a label in {labels} and a score in {scores}: {listed(found.left_out)}; "
            f"{columns_found(row)}."
        )
    if tokens is not None and (missing := np.isnan(found.tokens).sum()):
        raise ValueError(
            f"--tokens {tokens}: {missing:,} of {len(found.tokens):,} rows have no count there: omit it, or give "
            f"another column; {columns_found(row)}."
        )
    return found
