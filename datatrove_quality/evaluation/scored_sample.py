"""The rows that a threshold is chosen by: their scores, token counts and labels, and what they lack."""

import math
from array import array
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from datatrove.io import get_datafolder
from tqdm import tqdm

from datatrove_quality.config import ScoreScale, Unscorable
from datatrove_quality.evaluation.columns import (
    columns_found,
    listed,
    read_columns,
    require_no_cascade,
    score_in,
    tokens_in,
)
from datatrove_quality.evaluation.labels import label_in, parse_label
from datatrove_quality.evaluation.sample_weights import SampleWeights
from datatrove_quality.rows.types import Row
from datatrove_quality.runs.inputs import Inputs, path_in
from datatrove_quality.runs.run_record import recorded_run


@dataclass
class ScoredSample:
    """Columns of rows as `threshold_for_precision` and `threshold_for_share` take them.

    Args:
        scores: of each row, -inf without a score; shape (n,).
        tokens: of each row, NaN where they are not known, 0 where there is no score; shape (n,).
        labels: of each row, NaN without a label; shape (n,), or empty where no labels were requested.
        no_score: number of rows without a score, by reason.
        no_label: number of rows without a label, by reason.
        weights: of the rows.
    """

    scores: array = field(default_factory=lambda: array("d"))
    tokens: array = field(default_factory=lambda: array("d"))
    labels: array = field(default_factory=lambda: array("d"))
    no_score: Counter[str] = field(default_factory=Counter)
    no_label: Counter[str] = field(default_factory=Counter)
    weights: SampleWeights = field(default_factory=SampleWeights)

    def token_counts(self) -> array | None:
        """Tokens of each row; None unless all rows with a score have them."""
        return None if np.isnan(self.tokens).any() else self.tokens

    def add_score(self, row: Row, prefix: str) -> None:
        """Read a row's score columns."""
        try:
            score = score_in(row, f"{prefix}_score")
        except Unscorable as error:
            self.no_score[error.reason] += 1
            self.scores.append(-math.inf)
            self.tokens.append(0)
        else:
            self.scores.append(score)
            self.tokens.append(tokens_in(row, f"{prefix}_tokens"))

    def add_label(self, row: Row, column: str, scale: ScoreScale) -> None:
        """Read a row's label."""
        try:
            label: float = parse_label(label_in(row, column), scale)
        except Unscorable as error:
            self.no_label[error.reason] += 1
            label = math.nan
        self.labels.append(label)

    def __str__(self) -> str:
        """How many rows there are, and what they lack, for a person."""
        total = len(self.scores)
        lines = [f"{total:,} rows, {total - self.no_score.total():,} with a score"]
        if self.no_score:
            lines.append(f"without a score, counted as documents that are not kept: {listed(self.no_score)}")
        if self.labels:
            lines.append(f"{total - self.no_label.total():,} with a label")
        if self.no_label:
            lines.append(f"without a label, counted for the shares kept only: {listed(self.no_label)}")
        if self.weights.found() is not None:
            lines.append("each row is counted by its sample weight")
        return "\n".join(lines)


def read_scored_sample(
    inputs: Inputs,
    prefix: str,
    labels: str | None = None,
    scale: ScoreScale | None = None,
    weights: SampleWeights | None = None,
) -> ScoredSample:
    """Read the score columns and, if requested, the labels of all rows; progress is shown on stderr.

    Args:
        inputs: the files.
        prefix: what the names of the score columns begin with.
        labels: the column of labels; None: none is read.
        scale: of the labels; None: the card's.
        weights: of the rows. None: `sample_weight`, where rows have it.

    Raises:
        ValueError: no row has a score, or none has a label; names the columns that there are.
    """
    sample = ScoredSample(weights=weights or SampleWeights())
    row: Row = {}
    for row in tqdm(read_columns(inputs), unit=" rows", disable=None):
        sample.add_score(row, prefix)
        sample.weights.add(row)
        if labels is not None:
            sample.add_label(row, labels, scale or ScoreScale())
    total = len(sample.scores)
    if not total:
        paths = [path_in(inputs.folder, path) for path in inputs.sizes]
        raise ValueError(f"SCORED {', '.join(paths[:5])}: the input has no rows.")
    require_no_cascade(sample.no_score["scored_by_proxy"], total)
    if sample.no_score.total() == total:
        raise ValueError(f"None of {total:,} rows has a {prefix}_score: give --prefix; {columns_found(row)}.")
    if labels is not None and sample.no_label.total() == total:
        reasons = listed(sample.no_label)
        raise ValueError(f"--labels {labels}: none of {total:,} rows has a label ({reasons}); {columns_found(row)}.")
    return sample


def run_of_half(source: str) -> Path | None:
    """The output folder of the run of which `source` is one half only: what it kept, or what it excluded.

    Figures of such a half are biased, since an earlier threshold chose its rows. None: it is no such half, or the run
    had no threshold.

    Raises:
        ValueError: the run's record is damaged.
    """
    folder = Path(source)
    is_half = folder.name in ("kept", "excluded") and folder.is_dir() and (folder.parent / "logs").is_dir()
    if not is_half:
        return None
    filters = (recorded_run(get_datafolder(str(folder.parent))) or {}).get("filters")
    bounds = [found.get(name) for found in filters or () for name in ("min_score", "max_score")]
    return None if filters and all(bound is None for bound in bounds) else folder.parent
