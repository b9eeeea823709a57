"""How good scores are: against labels (a confusion matrix and what follows from it), and at every threshold.

    labels, scores ── evaluate_scores ──> Evaluation ──> dict, Markdown, figures

Numpy only; the figures need matplotlib (extra `train`). Training and the pipelines judge with what is here.
"""

import json
import re
from dataclasses import asdict, dataclass
from decimal import Decimal
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from datatrove_quality.config import ScoreScale, Unscorable


Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

THRESHOLD_STEP = 0.25
WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,18}(\.0*)?")


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
    try:
        whole = int(value)
    except (ValueError, OverflowError):  # NaN and infinity
        return None
    return whole if whole == value else None


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
    """Pearson's correlation of the ranks, less their mean, where equal values share their mean rank."""
    ordered, size = np.sort(scores), len(scores)
    below = 0
    covariance = level_spread = score_spread = 0.0
    for level, support in enumerate(np.bincount(levels).tolist()):
        own = np.sort(scores[levels == level])  # sorted, they are found fast
        ranks = (np.searchsorted(ordered, own) + np.searchsorted(ordered, own, side="right") - size) / 2
        level_rank = below + (support - size) / 2
        covariance += level_rank * ranks.sum()
        level_spread += support * level_rank**2
        score_spread += (ranks**2).sum()
        below += support
    spread = level_spread * score_spread
    return float(np.clip(covariance / np.sqrt(spread), -1, 1)) if spread > 0 else None


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


# --- choosing a threshold --------------------------------------------------------------------------------------------

RESAMPLES = 1_000
CONFIDENCE = 0.95
BOOTSTRAP_BINS = 1_000


@dataclass(frozen=True)
class Estimate:
    """A figure of a sample, and the interval that the sample's size allows.

    Args:
        value: the sample's own.
        low: the lower end of the 95 % interval; None where the resamples know none.
        high: the upper end; likewise.
    """

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ThresholdChoice:
    """A threshold, and what `score >= threshold` keeps.

    Args:
        threshold: the lowest score that is kept, with the fewest decimals (2 or more) that keep the same documents.
            An end of its interval is None where no threshold does what was asked in a resample there.
        kept: the share of all documents, those without a score included.
        tokens_kept: the share of the scored documents' tokens; None without token counts.
        precision: of the kept documents with a label, the share at the level or above; None without labels.
        recall: of the documents with such a label, the share that is kept; None without labels.
        labelled_kept: how many documents with a label are kept.
        unreached: the share of the resamples in which no threshold does what was asked.
    """

    threshold: Estimate
    kept: Estimate
    tokens_kept: Estimate | None
    precision: Estimate | None
    recall: Estimate | None
    labelled_kept: int
    unreached: float


def threshold_for_precision(
    labels: ArrayLike,
    scores: ArrayLike,
    level: int,
    min_precision: float,
    min_recall: float = 0.0,
    tokens: ArrayLike | None = None,
    seed: int = 0,
) -> ThresholdChoice:
    """The lowest threshold whose kept documents have labels of at least `level` as often as `min_precision` says.

    Precision mostly rises with the threshold, but not always: among the few best documents one bad label moves it far.
    The lowest threshold keeps the most, and does not depend on that noise unless no lower one will do; then
    `labelled_kept` is small and the interval wide.

    Args:
        labels: levels; NaN where a document has no label; shape (n,).
        scores: scores; -inf where a document has none, which no threshold keeps; shape (n,).
        level: the lowest good label.
        min_precision: share of the kept, above 0 up to 1.
        min_recall: share of the good that must be kept, from 0 to 1.
        tokens: tokens of each document (0 where there is no score), shape (n,).
        seed: of the bootstrap.

    Returns:
        The threshold, what it keeps, and intervals.

    Raises:
        ValueError: no threshold will do, and what is the best that can be had; or a value is none of those above.
    """
    _require_share("min_precision", min_precision)
    if min_recall:
        _require_share("min_recall", min_recall)
    sample = _Sample.of(scores, tokens, labels, level)

    def place(curve: "_Curve") -> Ints:
        return _last((curve.precision >= min_precision) & (curve.recall >= min_recall))

    curve = _Curve.of(sample)
    if (chosen := int(place(curve))) < 0:
        raise ValueError(_best_reachable(sample, curve, level, min_precision, min_recall))
    return _choice(sample, curve, chosen, place, seed)


def threshold_for_share(
    scores: ArrayLike, keep_share: float, tokens: ArrayLike | None = None, by: str = "documents", seed: int = 0
) -> ThresholdChoice:
    """The highest threshold that keeps at least a share of the documents, or of their tokens.

    Args:
        scores: scores; -inf where a document has none, which counts as not kept; shape (n,).
        keep_share: the share, above 0 up to 1.
        tokens: tokens of each document (0 where there is no score), shape (n,).
        by: "documents" or "tokens".
        seed: of the bootstrap.

    Returns:
        The threshold, what it keeps, and intervals.

    Raises:
        ValueError: too many documents have no score; or a value is none of those above.
    """
    _require_share("keep_share", keep_share)
    if by not in ("documents", "tokens"):
        raise ValueError(f"by={by!r}: give 'documents' or 'tokens'.")
    sample = _Sample.of(scores, tokens)
    if by == "tokens" and not sample.tokens.any():
        raise ValueError("by='tokens': there are no token counts; give tokens, or by='documents'.")

    def place(curve: "_Curve") -> Ints:
        reached = (curve.kept if by == "documents" else curve.tokens_kept) >= keep_share
        return np.where(reached.any(axis=-1), reached.argmax(axis=-1), -1)

    curve = _Curve.of(sample)
    if (chosen := int(place(curve))) < 0:
        raise ValueError(
            f"keep_share={keep_share} cannot be reached: only {curve.kept[-1]:.4f} of the documents have a score."
        )
    return _choice(sample, curve, chosen, place, seed)


@dataclass(frozen=True)
class _Sample:
    """A sample by distinct score, m of them from the highest down, and at last those without a score.

    Args:
        scores: the distinct scores, finite; shape (m,).
        counts: documents with a good label, with another, and with none; shape (m + 1, 3).
        tokens: the sum of the documents' tokens; shape (m + 1,).
        squares: the sum of the squares of their tokens; shape (m + 1,).
    """

    scores: Floats
    counts: Ints
    tokens: Floats
    squares: Floats

    @classmethod
    def of(
        cls, scores: ArrayLike, tokens: ArrayLike | None, labels: ArrayLike | None = None, level: int = 0
    ) -> "_Sample":
        score_array = _numbers("scores", scores)
        _require_same_length(scores=score_array)
        _require("scores", score_array, score_array < np.inf, "no scores", "Give -inf where there is no score.")
        kinds = _label_kinds(labels, level, score_array)
        distinct, places = np.unique(-score_array, return_inverse=True)
        if distinct[-1] < np.inf:
            distinct = np.append(distinct, np.inf)  # those without a score: none
        size = len(distinct)
        counts = np.bincount(places * 3 + kinds, minlength=3 * size).reshape(size, 3)
        weights = _token_counts(tokens, len(score_array))
        weights = np.zeros(len(score_array)) if weights is None else weights
        if size == 1:
            raise ValueError("scores: no document has a score.")
        sums: list[Floats] = [np.zeros(size), np.zeros(size)]
        for power, total in enumerate(sums, start=1):
            np.add.at(total, places, weights**power)
        return cls(-distinct[:-1], counts, *sums)

    def merged(self, chosen: int) -> "_Sample":
        """At most about `BOOTSTRAP_BINS` bins with about as many documents each; one ends at the chosen score."""
        reached = self.counts[:-1].sum(axis=1).cumsum()
        wanted = np.linspace(0, reached[-1], BOOTSTRAP_BINS + 1)[1:]
        last = np.unique(np.r_[np.searchsorted(reached, wanted), chosen, len(self.scores) - 1])
        last = last[last < len(self.scores)]
        first = np.r_[0, last + 1]
        sums = (np.add.reduceat(values, first, axis=0) for values in (self.counts, self.tokens, self.squares))
        return _Sample(self.scores[last], *sums)


def _label_kinds(labels: ArrayLike | None, level: int, scores: Floats) -> Ints:
    """0 for a good label, 1 for another, 2 for none."""
    if labels is None:
        return np.full(len(scores), 2)
    label_array = _numbers("labels", labels)
    _require_same_length(labels=label_array, scores=scores)
    kinds = np.where(np.isnan(label_array), 2, np.where(label_array >= level, 0, 1))
    for kind, what in enumerate((f"{level} or above", f"below {level}")):
        if not (kinds == kind).any():
            raise ValueError(f"labels: none is {what}; precision at level={level} says nothing. Give another level.")
    return kinds


@dataclass(frozen=True)
class _Curve:
    """What each threshold keeps, of one sample (m,) or of many resamples (r, m); NaN for a share of nothing."""

    kept: Floats
    tokens_kept: Floats
    precision: Floats
    recall: Floats
    labelled: Floats

    @classmethod
    def of(cls, sample: _Sample) -> "_Curve":
        return cls.of_counts(sample.counts, sample.tokens)

    @classmethod
    def of_counts(cls, counts: Ints, tokens: Floats) -> "_Curve":
        """Add up from the highest score down: counts are (..., m + 1, 3), tokens (..., m + 1)."""
        reached, tokens_reached = counts.cumsum(axis=-2, dtype=np.float64), tokens.cumsum(axis=-1)
        good, labelled, documents = reached[..., 0], reached[..., :2].sum(axis=-1), reached.sum(axis=-1)
        return cls(
            kept=_of_whole(documents),
            tokens_kept=_of_whole(tokens_reached),
            precision=_share(good, labelled, of_nothing=np.nan)[..., :-1],
            recall=_of_whole(good),
            labelled=labelled[..., :-1],
        )


def _of_whole(reached: Floats) -> Floats:
    """What each threshold reaches as a share of all, which the last place holds."""
    whole = np.broadcast_to(reached[..., -1:], reached.shape)
    return _share(reached, whole, of_nothing=np.nan)[..., :-1]


def _last(good: NDArray[np.bool_]) -> Ints:
    """The last place of each row that is good; -1 where none is."""
    backwards = good[..., ::-1]
    return np.where(good.any(axis=-1), good.shape[-1] - 1 - backwards.argmax(axis=-1), -1)


def _choice(sample: _Sample, curve: _Curve, chosen: int, place: Any, seed: int) -> ThresholdChoice:
    """The chosen threshold with all its figures, each with its interval over the resamples.

    The threshold is chosen anew in each resample; the other figures are those of the chosen one.
    """
    bins = sample.merged(chosen)
    resamples = _resampled(bins, seed)
    at = int(np.searchsorted(-bins.scores, -sample.scores[chosen]))
    places = place(resamples)
    again = np.where(places < 0, np.inf, bins.scores[places])

    def estimate(name: str) -> Estimate | None:
        value = float(getattr(curve, name)[chosen])
        return None if np.isnan(value) else Estimate(value, *_interval(getattr(resamples, name)[:, at]))

    kept = estimate("kept")
    assert kept is not None  # a share of all documents, and there are some
    return ThresholdChoice(
        threshold=Estimate(_short(sample.scores, chosen), *_interval(again)),
        kept=kept,
        tokens_kept=estimate("tokens_kept"),
        precision=estimate("precision"),
        recall=estimate("recall"),
        labelled_kept=int(curve.labelled[chosen]),
        unreached=float((places < 0).mean()),
    )


def _resampled(bins: _Sample, seed: int) -> _Curve:
    """The curves of `RESAMPLES` samples of the same size, drawn with replacement.

    To draw n documents is to draw how often each bin's documents occur: one multinomial over the bins, whatever n. The
    tokens of those drawn are taken as normal, with the bin's own mean and variance. A bin holds a thousandth of the
    sample, which bounds how finely the interval of the threshold is known, and nothing else.
    """
    rng = np.random.default_rng(seed)
    total = int(bins.counts.sum())
    counts = rng.multinomial(total, bins.counts.ravel() / total, size=RESAMPLES).reshape(RESAMPLES, -1, 3)
    documents, drawn = bins.counts.sum(axis=1), counts.sum(axis=-1)
    mean = _share(bins.tokens, documents)
    deviation = np.sqrt(np.maximum(_share(bins.squares, documents) - mean**2, 0))
    tokens = drawn * mean + np.sqrt(drawn) * deviation * rng.standard_normal(drawn.shape)
    return _Curve.of_counts(counts, np.maximum(tokens, 0))


def _interval(values: Floats) -> tuple[float | None, float | None]:
    """The middle 95 % of the resamples' values, from one of them to one of them; infinite ones are None."""
    known = np.sort(values[~np.isnan(values)])
    if not len(known):
        return None, None
    tail = int(len(known) * (1 - CONFIDENCE) / 2)
    low, high = float(known[tail]), float(known[-1 - tail])
    return (low if np.isfinite(low) else None), (high if np.isfinite(high) else None)


def _short(scores: Floats, chosen: int) -> float:
    """A number of few decimals that keeps what the chosen score keeps: not above it, and above the next lower one."""
    score = float(scores[chosen])
    below = float(scores[chosen + 1]) if chosen + 1 < len(scores) else -np.inf
    for decimals in range(2, 16):
        short = float(np.floor(score * 10.0**decimals) / 10.0**decimals)
        if below < short <= score:
            return short
    return score


def _best_reachable(sample: _Sample, curve: _Curve, level: int, min_precision: float, min_recall: float) -> str:
    enough = curve.recall >= min_recall
    asked = f"min_precision={min_precision}" + (f" with min_recall={min_recall}" if min_recall else "")
    if not enough.any():
        return (
            f"{asked} cannot be reached: documents without a score leave a recall of {curve.recall[-1]:.4f} at most."
        )
    best = int(np.nanargmax(np.where(enough, curve.precision, np.nan)))
    return (
        f"No threshold reaches {asked} for labels of at least {level}. The best precision"
        f"{' at that recall' if min_recall else ''} is {curve.precision[best]:.4f}, with score >= "
        f"{_short(sample.scores, best)}: it keeps {curve.kept[best]:.4f} of the documents "
        f"({curve.labelled[best]:.0f} labelled), recall {curve.recall[best]:.4f}."
    )


def _require_share(name: str, value: float) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 1:
        raise ValueError(f"{name}={value!r}: give a share above 0, up to 1.")


# --- figures ---------------------------------------------------------------------------------------------------------

INK, GREY, BLUE, ORANGE = "#222222", "#8a8a8a", "#1f5a99", "#d9730d"


def draw_confusion(evaluation: Evaluation, path: str | PathLike[str]) -> None:
    """Draw the confusion matrix as a PNG: counts, and each row's shares as its colours.

    Args:
        evaluation: what to draw.
        path: the file to write.

    Raises:
        ImportError: matplotlib is missing.
    """
    counts = np.array(evaluation.confusion)
    shares = _share(counts, np.broadcast_to(counts.sum(axis=1, keepdims=True), counts.shape))
    size = len(evaluation.levels)
    figure = _figure(2.2 + 0.85 * size, 1.6 + 0.72 * size)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 0.55 else INK
        text = f"{counts[row, column]:,}\n{share:.0%}" if share else "0"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9, linespacing=1.3)
    axes.set_xticks(range(size), map(str, evaluation.levels))
    axes.set_yticks(range(size), map(str, evaluation.levels))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("int_score")
    axes.set_ylabel("label")
    f1, accuracy = evaluation.macro_f1, evaluation.accuracy
    axes.set_title(f"{evaluation.documents:,} documents · macro F1 {f1:.3f} · accuracy {accuracy:.3f}", fontsize=10)
    bar = figure.colorbar(image, ax=axes, shrink=0.85, format=lambda share, _: f"{share:.0%}")
    bar.set_label("share of the label's documents")
    bar.outline.set_visible(False)
    figure.savefig(path, dpi=150, format="png")


def draw_thresholds(evaluation: Evaluation, path: str | PathLike[str]) -> None:
    """Draw precision, recall and the kept share over the threshold as a PNG, one panel for each "label >= k".

    Args:
        evaluation: what to draw.
        path: the file to write.

    Raises:
        ImportError: matplotlib is missing.
    """
    levels = evaluation.levels[1:]  # every label is at least the lowest
    columns = len(levels) if len(levels) <= 4 else 3
    rows = -(-len(levels) // columns)
    figure = _figure(max(6.0, 2.9 * columns), 0.9 + 2.7 * rows)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, level in zip(panels, levels, strict=False):
        _draw_curves(axes, evaluation, level)
    for axes in panels[len(levels) :]:
        axes.set_visible(False)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False)
    figure.supxlabel("threshold: documents with score ≥ threshold are kept", fontsize=10)
    figure.savefig(path, dpi=150, format="png")


def _draw_curves(axes: Any, evaluation: Evaluation, level: int) -> None:
    rows = evaluation.thresholds
    thresholds = [row.threshold for row in rows]

    def draw(name: str, values: list[float | None], **style: Any) -> None:
        axes.plot(thresholds, [np.nan if value is None else value for value in values], label=name, **style)

    axes.fill_between(thresholds, [row.kept for row in rows], color=GREY, alpha=0.15, linewidth=0)
    draw("documents kept", [row.kept for row in rows], color=GREY, linewidth=1.2)
    if rows[0].tokens_kept is not None:
        draw("tokens kept", [row.tokens_kept for row in rows], color=GREY, linewidth=1.2, linestyle=":")
    draw("precision", [row.precision[level] for row in rows], color=BLUE, linewidth=2)
    draw("recall", [row.recall[level] for row in rows], color=ORANGE, linewidth=2)
    axes.set_title(f"label ≥ {level}", fontsize=10)
    axes.set_xlim(thresholds[0], thresholds[-1])
    axes.set_ylim(0, 1.02)
    axes.set_xticks(evaluation.levels)
    axes.tick_params(labelbottom=True)
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Figures need matplotlib: pip install 'datatrove-quality[train]'") from error
    return Figure(figsize=(width, height), layout="constrained")
