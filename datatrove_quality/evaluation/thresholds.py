"""Choose a threshold by what it keeps, and say how sure the sample lets one be."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from datatrove_quality.evaluation.arrays import (
    Floats,
    Ints,
    as_numbers,
    as_token_counts,
    require_all,
    require_same_length,
    share_of,
)


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
        score_array = as_numbers("scores", scores)
        require_same_length(scores=score_array)
        require_all("scores", score_array, score_array < np.inf, "no scores", "Give -inf where there is no score.")
        kinds = _label_kinds(labels, level, score_array)
        distinct, places = np.unique(-score_array, return_inverse=True)
        if distinct[-1] < np.inf:
            distinct = np.append(distinct, np.inf)  # those without a score: none
        size = len(distinct)
        counts = np.bincount(places * 3 + kinds, minlength=3 * size).reshape(size, 3)
        weights = as_token_counts(tokens, len(score_array))
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
    label_array = as_numbers("labels", labels)
    require_same_length(labels=label_array, scores=scores)
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
            precision=share_of(good, labelled, of_nothing=np.nan)[..., :-1],
            recall=_of_whole(good),
            labelled=labelled[..., :-1],
        )


def _of_whole(reached: Floats) -> Floats:
    """What each threshold reaches as a share of all, which the last place holds."""
    whole = np.broadcast_to(reached[..., -1:], reached.shape)
    return share_of(reached, whole, of_nothing=np.nan)[..., :-1]


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
    mean = share_of(bins.tokens, documents)
    deviation = np.sqrt(np.maximum(share_of(bins.squares, documents) - mean**2, 0))
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
