"""How good scores are: against labels (a confusion matrix and what follows from it), and at every threshold.

    labels, scores ── evaluate_scores ──> Evaluation ──> dict, Markdown, figures

Numpy only; the figures need matplotlib (extra `train`). Training selects its model by these figures.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from datatrove_quality.config import ScoreScale
from datatrove_quality.evaluation.arrays import (
    Floats,
    Ints,
    as_numbers,
    as_token_counts,
    as_weights,
    count_pairs,
    int_scores,
    require_all,
    require_same_length,
    share_of,
)
from datatrove_quality.evaluation.markdown import decimal, markdown_table, percent


THRESHOLD_STEP = 0.25


@dataclass(frozen=True)
class LevelFigures:
    """How well one level is found; a share of nothing is 0.0, as scikit-learn's `zero_division=0`.

    Args:
        level: the level.
        precision: of the documents with this int_score, the share with this label.
        recall: of the documents with this label, the share with this int_score.
        f1: the harmonic mean of the two.
        support: documents with this label; with sample weights an estimated number.
        predicted: documents with this int_score; likewise.
    """

    level: int
    precision: float
    recall: float
    f1: float
    support: float
    predicted: float


@dataclass(frozen=True)
class ThresholdFigures:
    """What `score >= threshold` keeps.

    Args:
        threshold: the lowest score that is kept.
        kept: the share of documents kept.
        tokens_kept: the share of tokens kept; None without token counts.
        precision: by level k, the share of the kept whose label is k or more; None where nothing is kept.
        recall: by level k, the share kept of those whose label is k or more; None if no label is.
    """

    threshold: float
    kept: float
    tokens_kept: float | None
    precision: dict[int, float | None]
    recall: dict[int, float | None]


@dataclass(frozen=True)
class Evaluation:
    """How well scores agree with labels; the value of `evaluate_scores`.

    Args:
        documents: how many there are.
        levels: the levels of the scale, L of them, from low to high.
        confusion: L rows by label, L columns by int_score: counts of documents; with sample weights, estimated numbers
            of the documents that the sampled ones stand for.
        macro_precision: mean over the levels that occur as a label or an int_score.
        macro_recall: likewise.
        macro_f1: likewise.
        accuracy: share of documents whose int_score is the label.
        mae: mean distance of score and label, in points of the scale.
        spearman: rank correlation of scores and labels; None where all scores or all labels are equal.
        per_level: figures of each level.
        thresholds: figures of thresholds from low to high in steps of 0.25.
        weighted: whether documents count by their sample weights, in all figures but `documents`.
    """

    documents: int
    levels: tuple[int, ...]
    confusion: tuple[tuple[float, ...], ...]
    macro_precision: float
    macro_recall: float
    macro_f1: float
    accuracy: float
    mae: float
    spearman: float | None
    per_level: tuple[LevelFigures, ...]
    thresholds: tuple[ThresholdFigures, ...]
    weighted: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values: lists for tuples, levels that are keys as text, None for what is undefined."""
        return json.loads(json.dumps(asdict(self), allow_nan=False))

    def to_markdown(self) -> str:
        """The figures as tables for a model card or a report, without a heading; shares are percentages."""
        return "\n\n".join([self._overall(), self._confusion(), self._per_level(), self._thresholds()]) + "\n"

    def _overall(self) -> str:
        rows = [
            ["macro precision", percent(self.macro_precision)],
            ["macro recall", percent(self.macro_recall)],
            ["macro F1", percent(self.macro_f1)],
            ["accuracy", percent(self.accuracy)],
            ["mean absolute error", decimal(self.mae)],
            ["Spearman correlation", decimal(self.spearman)],
        ]
        by_weight = ", by their sample weights" if self.weighted else ""
        return markdown_table([f"{self.documents:,} documents{by_weight}", ""], rows)

    def _confusion(self) -> str:
        rows = [[level, *map(_whole, row)] for level, row in zip(self.levels, self.confusion, strict=True)]
        return markdown_table(["label \\ int_score", *self.levels], rows)

    def _per_level(self) -> str:
        rows = [
            [it.level, *map(percent, (it.precision, it.recall, it.f1)), _whole(it.support), _whole(it.predicted)]
            for it in self.per_level
        ]
        return markdown_table(["level", "precision", "recall", "F1", "labels", "predicted"], rows)

    def _thresholds(self) -> str:
        levels = self.levels[1:]  # every label is at least the lowest
        with_tokens = self.thresholds[0].tokens_kept is not None
        header = ["score ≥", "kept", *["tokens kept"] * with_tokens, *(f"label ≥ {k}: P / R" for k in levels)]
        rows = [
            [f"{it.threshold:.2f}", percent(it.kept), *[percent(it.tokens_kept)] * with_tokens]
            + [f"{percent(it.precision[k])} / {percent(it.recall[k])}" for k in levels]
            for it in self.thresholds
        ]
        return markdown_table(header, rows)


def _whole(count: float) -> str:
    return f"{count:.0f}"


def evaluate_scores(
    labels: ArrayLike,
    scores: ArrayLike,
    scale: ScoreScale | None = None,
    tokens: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> Evaluation:
    """Compare scores with labels, as the model card does, and at every threshold.

    The int_score of a score is `ScoreScale.int_score`'s. Macro figures are means over the levels that occur as a label
    or as an int_score, and a share of nothing counts as 0: scikit-learn's figures with `zero_division=0`.

    On the model card's matrix (https://huggingface.co/Polygl0t/portuguese-qwen3-4b-instruct-quality-classifier) this
    gives precision 0.8152, recall 0.7827, F1 0.7980, accuracy 0.8871. The card prints 0.8248, 0.7821, 0.8082, 0.894,
    which its matrix gives in neither orientation.

    Args:
        labels: levels of the scale, as whole numbers; shape (n,).
        scores: `Score.score` of each document, not clipped; shape (n,).
        scale: the scale of both; None: the card's.
        tokens: tokens of each document; shape (n,). None: the shares of tokens kept are None.
        weights: how many documents each stands for, where they are a sample of unequal chances; shape (n,). None: each
            stands for itself.

    Returns:
        The figures.

    Raises:
        ValueError: the arrays are empty or of different lengths, or hold another value than said above.
    """
    scale = scale or ScoreScale()
    low, high = int(scale.low), int(scale.high)
    label_array, score_array = as_numbers("labels", labels), as_numbers("scores", scores)
    require_same_length(labels=label_array, scores=score_array)
    whole = np.isfinite(label_array) & (label_array == np.floor(label_array))
    require_all("labels", label_array, whole, "not whole numbers", "Leave out rows without a label.")
    fix = "Give the scale that the labels have, as ScoreScale(offset, low, high)."
    require_all("labels", label_array, (label_array >= low) & (label_array <= high), f"not from {low} to {high}", fix)
    require_all("scores", score_array, np.isfinite(score_array), "not finite", "Leave out documents without a score.")
    levels = label_array.astype(np.int64) - low
    weight_array = as_weights(weights, len(levels))
    confusion = count_pairs(levels, int_scores(score_array, scale) - low, high - low + 1, weight_array)
    per_level = _level_figures(confusion, low)
    present = [it for it in per_level if it.support or it.predicted]
    return Evaluation(
        documents=len(levels),
        levels=tuple(range(low, high + 1)),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        macro_precision=sum(it.precision for it in present) / len(present),
        macro_recall=sum(it.recall for it in present) / len(present),
        macro_f1=sum(it.f1 for it in present) / len(present),
        accuracy=float(np.trace(confusion) / confusion.sum()),
        mae=float(np.average(np.abs(score_array - label_array), weights=weight_array)),
        spearman=_spearman(levels, score_array, weight_array),
        per_level=per_level,
        thresholds=_threshold_figures(
            levels, score_array, low, high, as_token_counts(tokens, len(levels)), weight_array
        ),
        weighted=weight_array is not None,
    )


def _level_figures(confusion: Ints | Floats, low: int) -> tuple[LevelFigures, ...]:
    """Each level's figures, by a confusion matrix (levels, levels): rows by label, columns by int_score."""
    hits, support, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    shares = (share_of(hits, predicted), share_of(hits, support), share_of(2 * hits, support + predicted))
    figures = zip(*(share.tolist() for share in shares), support.tolist(), predicted.tolist(), strict=True)
    return tuple(LevelFigures(level, *row) for level, row in enumerate(figures, start=low))


def _spearman(levels: Ints, scores: Floats, weights: Floats | None) -> float | None:
    """Pearson's correlation of the ranks, less their mean, where equal values share their mean rank.

    A document of weight w takes w ranks, as w equal documents would.
    """
    order = np.argsort(scores)
    ordered, by_level = scores[order], levels[order]  # sorted, they are found fast
    each = np.ones(len(scores)) if weights is None else weights[order]
    reached = np.concatenate([[0.0], each.cumsum()])
    size, below = reached[-1], 0.0
    covariance = level_spread = score_spread = 0.0
    for level, support in enumerate(np.bincount(by_level, each).tolist()):
        own, counted = ordered[by_level == level], each[by_level == level]
        ends = (np.searchsorted(ordered, own, side=side) for side in ("left", "right"))
        ranks = (sum(reached[end] for end in ends) - size) / 2
        level_rank = below + (support - size) / 2
        covariance += level_rank * (counted * ranks).sum()
        level_spread += support * level_rank**2
        score_spread += (counted * ranks**2).sum()
        below += support
    spread = level_spread * score_spread
    return float(np.clip(covariance / np.sqrt(spread), -1, 1)) if spread > 0 else None


def _threshold_figures(
    levels: Ints, scores: Floats, low: int, high: int, tokens: Floats | None, weights: Floats | None
) -> tuple[ThresholdFigures, ...]:
    thresholds = np.arange(low, high + THRESHOLD_STEP / 2, THRESHOLD_STEP)
    bins = np.searchsorted(thresholds, scores, side="right")  # bin b reaches the first b thresholds
    size = (high - low + 1) * (len(thresholds) + 1)
    counts = np.bincount(levels * (len(thresholds) + 1) + bins, weights, minlength=size)
    tokens = tokens if tokens is None or weights is None else tokens * weights
    # Sums from the highest level and score down: documents that have at least this label and at least this score.
    reached = counts.reshape(high - low + 1, -1)[::-1, ::-1].cumsum(axis=0).cumsum(axis=1)[::-1, ::-1]
    kept, at_least = reached[0, 1:], reached[:, :1]
    precision = share_of(reached[:, 1:], np.broadcast_to(kept, reached[:, 1:].shape), of_nothing=np.nan)
    recall = share_of(reached[:, 1:], np.broadcast_to(at_least, reached[:, 1:].shape), of_nothing=np.nan)
    return tuple(
        ThresholdFigures(
            threshold=float(threshold),
            kept=float(kept[place] / counts.sum()),
            tokens_kept=tokens_kept,
            precision=_by_level(precision[:, place], low),
            recall=_by_level(recall[:, place], low),
        )
        for place, (threshold, tokens_kept) in enumerate(
            zip(thresholds, _tokens_kept(bins, tokens, len(thresholds)), strict=True)
        )
    )


def _tokens_kept(bins: Ints, tokens: Floats | None, count: int) -> list[float] | list[None]:
    """The share of all tokens that reaches each threshold; None where no tokens are known."""
    if tokens is None or not tokens.any():
        return [None] * count
    reached = np.bincount(bins, weights=tokens, minlength=count + 1)[::-1].cumsum()[::-1]
    return (reached[1:] / reached[0]).tolist()


def _by_level(shares: Floats, low: int) -> dict[int, float | None]:
    return {level: None if np.isnan(share) else float(share) for level, share in enumerate(shares, start=low)}
