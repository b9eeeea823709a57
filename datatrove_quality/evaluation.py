"""How good scores are: against labels (a confusion matrix and what follows from it), and at every threshold.

    labels, scores ── evaluate_scores ──> Evaluation ──> dict, Markdown, figures

Numpy only; the figures need matplotlib (extra `train`). Training and the pipelines judge with what is here.
"""

import json
import re
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from datatrove_quality.config import ScoreScale, Unscorable


Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

THRESHOLD_STEP = 0.25
WHOLE_NUMBER = re.compile(r"[+-]?[0-9]+(\.0*)?", re.ASCII)


def parse_label(value: Any, scale: ScoreScale) -> int:
    """A label as it stands in a row of data: a whole number of the scale, also as 4.0, "4" or " 4.0 ".

    Args:
        value: what the row holds; None where it holds nothing.
        scale: the labels' scale.

    Returns:
        The label, from `scale.low` to `scale.high`.

    Raises:
        Unscorable: it is none; the reason is "missing_label", "invalid_label" or "label_out_of_range".
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        raise Unscorable("missing_label", "there is no label")
    number = _whole_number(value)
    if number is None:
        raise Unscorable("invalid_label", f"label {value!r:.80} is no whole number")
    if not scale.low <= number <= scale.high:
        raise Unscorable("label_out_of_range", f"label {number} is not from {scale.low} to {scale.high}")
    return number


def _whole_number(value: Any) -> int | None:
    if isinstance(value, str):
        return int(value.strip().partition(".")[0]) if WHOLE_NUMBER.fullmatch(value.strip()) else None
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | Decimal | np.number):
        return None
    return int(value) if np.isfinite(float(value)) and value == int(value) else None


@dataclass(frozen=True)
class LevelFigures:
    """How well one level is found; a share of nothing is 0.0, as scikit-learn's `zero_division=0`.

    Args:
        level: the level.
        precision: of the documents with this int_score, the share with this label.
        recall: of the documents with this label, the share with this int_score.
        f1: the harmonic mean of the two.
        support: documents with this label.
        predicted: documents with this int_score.
    """

    level: int
    precision: float
    recall: float
    f1: float
    support: int
    predicted: int


@dataclass(frozen=True)
class ThresholdFigures:
    """What `score >= threshold` keeps.

    Args:
        threshold: the lowest score that is kept.
        kept: the share of documents kept.
        tokens_kept: the share of tokens kept; None without token counts.
        precision: by level k, the share of the kept whose label is k or more; None where nothing is kept.
        recall: by level k, the share kept of those whose label is k or more; None where there are none.
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
        confusion: L rows by label, L columns by int_score: counts of documents.
        macro_precision: mean over the levels that occur as a label or an int_score.
        macro_recall: likewise.
        macro_f1: likewise.
        accuracy: share of documents whose int_score is the label.
        mae: mean distance of score and label, in points of the scale.
        spearman: rank correlation of scores and labels; None where all scores or all labels are equal.
        per_level: figures of each level.
        thresholds: figures of thresholds from low to high in steps of 0.25.
    """

    documents: int
    levels: tuple[int, ...]
    confusion: tuple[tuple[int, ...], ...]
    macro_precision: float
    macro_recall: float
    macro_f1: float
    accuracy: float
    mae: float
    spearman: float | None
    per_level: tuple[LevelFigures, ...]
    thresholds: tuple[ThresholdFigures, ...]

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON has them: lists for tuples, text for the levels that are keys, None for what is not."""
        return json.loads(json.dumps(asdict(self), allow_nan=False))

    def to_markdown(self) -> str:
        """The figures as tables for a model card or a report, without a heading."""
        return "\n\n".join([self._overall(), self._confusion(), self._per_level(), self._thresholds()]) + "\n"

    def _overall(self) -> str:
        names = ("macro_precision", "macro_recall", "macro_f1", "accuracy", "mae", "spearman")
        shown = {"macro_f1": "macro F1", "mae": "mean absolute error", "spearman": "Spearman correlation"}
        rows = [[shown.get(name, name.replace("_", " ")), _number(getattr(self, name))] for name in names]
        return _table([f"{self.documents:,} documents", ""], rows)

    def _confusion(self) -> str:
        rows = [[level, *row] for level, row in zip(self.levels, self.confusion, strict=True)]
        return _table(["label \\ int_score", *self.levels], rows)

    def _per_level(self) -> str:
        rows = [
            [it.level, _number(it.precision), _number(it.recall), _number(it.f1), it.support, it.predicted]
            for it in self.per_level
        ]
        return _table(["level", "precision", "recall", "F1", "labels", "predicted"], rows)

    def _thresholds(self) -> str:
        levels = self.levels[1:]  # every label is at least the lowest
        with_tokens = self.thresholds[0].tokens_kept is not None
        header = ["score ≥", "kept", *["tokens kept"] * with_tokens, *(f"label ≥ {k}: P / R" for k in levels)]
        rows = [
            [f"{it.threshold:.2f}", _number(it.kept), *[_number(it.tokens_kept)] * with_tokens]
            + [f"{_number(it.precision[k])} / {_number(it.recall[k])}" for k in levels]
            for it in self.thresholds
        ]
        return _table(header, rows)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _table(header: list[Any], rows: list[list[Any]]) -> str:
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def evaluate_scores(
    labels: ArrayLike, scores: ArrayLike, scale: ScoreScale | None = None, tokens: ArrayLike | None = None
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

    Returns:
        The figures.

    Raises:
        ValueError: the arrays are empty or of different lengths, or hold a value that is none of those above.
    """
    scale = scale or ScoreScale()
    low, high = int(scale.low), int(scale.high)
    label_array, score_array = _numbers("labels", labels), _numbers("scores", scores)
    _require_same_length(labels=label_array, scores=score_array)
    whole = np.isfinite(label_array) & (label_array == np.floor(label_array))
    _require("labels", label_array, whole, "not whole numbers", "Leave rows without a label out.")
    _require_labels_within(label_array, low, high)
    _require("scores", score_array, np.isfinite(score_array), "not finite", "Leave documents without a score out.")
    levels = label_array.astype(np.int64) - low
    confusion = _counts(levels, _int_scores(score_array, scale) - low, high - low + 1)
    per_level = _level_figures(confusion, low)
    present = [it for it in per_level if it.support or it.predicted]
    return Evaluation(
        documents=len(levels),
        levels=tuple(range(low, high + 1)),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        macro_precision=sum(it.precision for it in present) / len(present),
        macro_recall=sum(it.recall for it in present) / len(present),
        macro_f1=sum(it.f1 for it in present) / len(present),
        accuracy=float(np.trace(confusion) / len(levels)),
        mae=float(np.abs(score_array - label_array).mean()),
        spearman=_spearman(levels, score_array),
        per_level=per_level,
        thresholds=_threshold_figures(levels, score_array, low, high, _token_counts(tokens, len(levels))),
    )


# --- the parts of an evaluation --------------------------------------------------------------------------------------


def _int_scores(scores: Floats, scale: ScoreScale) -> Ints:
    """`ScoreScale.int_score` of each score's logit."""
    logits = scores - scale.offset
    if scale.offset % 1:
        # With such an offset, (2.5 + offset) - offset can miss the edge by the last bit of a float64. Logits are
        # float32: next to an edge they differ by 3e-8 or more, so this restores them and moves no other.
        logits = logits.round(12)
    rounded = np.rint(logits.clip(scale.low - scale.offset, scale.high - scale.offset)) + scale.offset
    return rounded.clip(scale.low, scale.high).astype(np.int64)


def _counts(rows: Ints, columns: Ints, size: int) -> Ints:
    """How often each pair of a row and a column occurs; shape (levels, size), where there are `size` columns."""
    return np.bincount(rows * size + columns, minlength=size * size).reshape(-1, size)


def _level_figures(confusion: Ints, low: int) -> tuple[LevelFigures, ...]:
    hits, support, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    shares = (_share(hits, predicted), _share(hits, support), _share(2 * hits, support + predicted))
    figures = zip(*(share.tolist() for share in shares), support.tolist(), predicted.tolist(), strict=True)
    return tuple(LevelFigures(level, *row) for level, row in enumerate(figures, start=low))


def _share(part: NDArray, whole: NDArray, of_nothing: float = 0.0) -> Floats:
    return np.divide(part, whole, out=np.full(np.shape(part), of_nothing), where=whole > 0)


def _spearman(levels: Ints, scores: Floats) -> float | None:
    """Pearson's correlation of the ranks, where equal values share their mean rank."""
    order = np.argsort(scores)
    ordered = scores[order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    del ordered
    ties = np.diff(np.r_[first, len(scores)])
    ranks = first + (ties - len(scores)) / 2  # the mean rank of each distinct score, less that of all
    supports = np.bincount(levels)
    level_ranks = np.cumsum(supports) - (supports + len(levels)) / 2
    # There are few levels, so that the covariance needs only the sum of the scores' ranks in each.
    in_level = np.bincount(levels[order], weights=np.repeat(ranks, ties))
    spread = (supports * level_ranks**2).sum() * (ties * ranks**2).sum()
    return float(np.clip((in_level * level_ranks).sum() / np.sqrt(spread), -1, 1)) if spread > 0 else None


def _threshold_figures(
    levels: Ints, scores: Floats, low: int, high: int, tokens: Floats | None
) -> tuple[ThresholdFigures, ...]:
    thresholds = np.arange(low, high + THRESHOLD_STEP / 2, THRESHOLD_STEP)
    bins = np.searchsorted(thresholds, scores, side="right")  # bin b reaches the first b thresholds
    counts = np.bincount(levels * (len(thresholds) + 1) + bins, minlength=(high - low + 1) * (len(thresholds) + 1))
    # Sums from the highest level and score down: documents that have at least this label and at least this score.
    reached = counts.reshape(high - low + 1, -1)[::-1, ::-1].cumsum(axis=0).cumsum(axis=1)[::-1, ::-1]
    kept, at_least = reached[0, 1:], reached[:, :1]
    precision = _share(reached[:, 1:], np.broadcast_to(kept, reached[:, 1:].shape), of_nothing=np.nan)
    recall = _share(reached[:, 1:], np.broadcast_to(at_least, reached[:, 1:].shape), of_nothing=np.nan)
    return tuple(
        ThresholdFigures(
            threshold=float(threshold),
            kept=float(kept[place] / len(scores)),
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


# --- what is given must be what is expected --------------------------------------------------------------------------


def _numbers(name: str, values: ArrayLike) -> Floats:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: give a sequence of numbers ({error}).") from error
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}: give one number per document, shape (n,).")
    return array


def _require_same_length(**arrays: Floats) -> None:
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        found = " and ".join(f"{name} has {length:,}" for name, length in lengths.items())
        raise ValueError(f"{found} values: give one of each per document.")
    if not all(lengths.values()):
        raise ValueError(f"{', '.join(lengths)}: empty; give at least one document.")


def _require(name: str, array: Floats, good: NDArray[np.bool_], what: str, fix: str) -> None:
    if not good.all():
        first = int(np.argmin(good))
        count = len(array) - int(good.sum())
        raise ValueError(
            f"{name}: {count:,} of {len(array):,} are {what}, the first at index {first}: {array[first]}. {fix}"
        )


def _require_labels_within(labels: Floats, low: int, high: int) -> None:
    fix = "Give the scale that the labels have, as ScoreScale(offset, low, high)."
    _require("labels", labels, (labels >= low) & (labels <= high), f"not from {low} to {high}", fix)


def _token_counts(tokens: ArrayLike | None, count: int) -> Floats | None:
    if tokens is None:
        return None
    array = _numbers("tokens", tokens)
    _require_same_length(tokens=array, scores=np.empty(count))
    good = np.isfinite(array) & (array >= 0)
    _require("tokens", array, good, "no counts", "Give the number of tokens of each document, 0 or more.")
    return array
