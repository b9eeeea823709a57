"""Choose a threshold by what it keeps, and say how sure the sample's size lets one be."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from datatrove_quality.evaluation.arrays import Floats, Ints
from datatrove_quality.evaluation.binomial import share_interval
from datatrove_quality.evaluation.markdown import percent
from datatrove_quality.evaluation.resampling import Curve, Sample, interval, resampled


@dataclass(frozen=True)
class Estimate:
    """A figure of a sample, and the interval that the sample's size allows.

    Args:
        value: the sample's own.
        low: the lower end of the 95% interval, at most `value`; None where the resamples have none.
        high: the upper end, at least `value`; likewise.
    """

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ThresholdChoice:
    """A threshold, and what `score >= threshold` keeps.

    Args:
        threshold: the lowest score that is kept, with the fewest decimals (2 or more) that keep the same documents.
            An end of its interval is None where, in a resample there, no threshold reaches the goal.
        kept: the share of all documents, those without a score included.
        tokens_kept: the share of the scored documents' tokens; None without token counts.
        precision: of the kept documents with a label, the share at the level or above; None without labels.
        recall: of the documents with such a label, the share that is kept; None without labels.
        labelled_kept: how many documents with a label are kept.
        unreached: the share of the resamples in which no threshold reaches the goal.
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
    weights: ArrayLike | None = None,
) -> ThresholdChoice:
    """The lowest threshold whose kept documents have labels of at least `level` as often as `min_precision` says.

    Precision mostly rises with the threshold, but not always: among the few best documents one bad label moves it far.
    The lowest threshold keeps the most, and does not depend on that noise unless no lower one reaches the precision;
    then `labelled_kept` is small and the interval wide.

    Args:
        labels: levels; NaN where a document has no label; shape (n,).
        scores: scores; -inf where a document has none, which no threshold keeps; shape (n,).
        level: the lowest good label.
        min_precision: share of the kept, above 0 up to 1.
        min_recall: share of the good that must be kept, from 0 to 1.
        tokens: tokens of each document (0 where there is no score), shape (n,).
        seed: of the bootstrap.
        weights: see `evaluate_scores`.

    Returns:
        The threshold, what it keeps, and intervals.

    Raises:
        ValueError: no threshold reaches it; names the best that can be had. Or a value is not as said above.
    """
    _require_share("min_precision", min_precision)
    if min_recall:
        _require_share("min_recall", min_recall)
    sample = Sample.of(scores, tokens, labels, level, weights)

    def place(curve: Curve) -> Ints:
        return _last((curve.precision >= min_precision) & (curve.recall >= min_recall))

    curve = Curve.of(sample.weights, sample.tokens)
    if (chosen := int(place(curve))) < 0:
        raise ValueError(_best_reachable(sample, curve, level, min_precision, min_recall))
    return _choice(sample, curve, chosen, place, seed)


def threshold_for_share(
    scores: ArrayLike,
    keep_share: float,
    tokens: ArrayLike | None = None,
    by: str = "documents",
    seed: int = 0,
    weights: ArrayLike | None = None,
) -> ThresholdChoice:
    """The highest threshold that keeps at least a share of the documents, or of their tokens.

    Args:
        scores: scores; -inf where a document has none, which counts as not kept; shape (n,).
        keep_share: the share, above 0 up to 1.
        tokens: tokens of each document (0 where there is no score), shape (n,).
        by: "documents" or "tokens".
        seed: of the bootstrap.
        weights: see `evaluate_scores`.

    Returns:
        The threshold, what it keeps, and intervals.

    Raises:
        ValueError: too many documents have no score, or a value is not as said above.
    """
    _require_share("keep_share", keep_share)
    if by not in ("documents", "tokens"):
        raise ValueError(f"by={by!r}: give 'documents' or 'tokens'.")
    sample = Sample.of(scores, tokens, weights=weights)
    if by == "tokens" and not sample.tokens.any():
        raise ValueError("by='tokens': there are no token counts; give tokens, or by='documents'.")

    def place(curve: Curve) -> Ints:
        reached = (curve.kept if by == "documents" else curve.tokens_kept) >= keep_share
        return np.where(reached.any(axis=-1), reached.argmax(axis=-1), -1)

    curve = Curve.of(sample.weights, sample.tokens)
    if (chosen := int(place(curve))) < 0:
        raise ValueError(
            f"keep_share={keep_share} cannot be reached: only {_rounded_down(curve.kept[-1])} of the documents have a "
            "score."
        )
    return _choice(sample, curve, chosen, place, seed)


def _last(good: NDArray[np.bool_]) -> Ints:
    """The last place of each row that is good; -1 where none is."""
    backwards = good[..., ::-1]
    return np.where(good.any(axis=-1), good.shape[-1] - 1 - backwards.argmax(axis=-1), -1)


def _choice(sample: Sample, curve: Curve, chosen: int, place: Callable[[Curve], Ints], seed: int) -> ThresholdChoice:
    """The chosen threshold with all its figures, each with its interval over the resamples.

    The threshold is chosen again in each resample; the other figures are those of the chosen one.
    """
    bins = sample.merged(chosen)
    resamples = resampled(bins, seed)
    at = int(np.searchsorted(-bins.scores, -sample.scores[chosen]))
    places = place(resamples)
    again = np.where(places < 0, np.inf, bins.scores[places])

    def estimate(name: str, rows: float) -> Estimate | None:
        value = float(getattr(curve, name)[chosen])
        return None if np.isnan(value) else estimated_share(value, getattr(resamples, name)[:, at], rows)

    everything, scored, kept_labelled, good = np.s_[:], np.s_[:-1], np.s_[: chosen + 1, :2], np.s_[:, 0]
    kept = estimate("kept", sample.effective_rows(everything))
    assert kept is not None  # a share of all documents, and there are some
    return ThresholdChoice(
        threshold=estimated(_short(sample.scores, chosen), again),
        kept=kept,
        tokens_kept=estimate("tokens_kept", sample.effective_rows(scored)),
        precision=estimate("precision", sample.effective_rows(kept_labelled)),
        recall=estimate("recall", sample.effective_rows(good)),
        labelled_kept=sample.labelled(chosen),
        unreached=float((places < 0).mean()),
    )


def estimated_share(value: float, resamples: Floats, rows: float) -> Estimate:
    """A share with its interval: that of the resamples, and at least the exact binomial one.

    Args:
        value: the sample's own.
        resamples: see `estimated`.
        rows: of which it is a share, or as many as they are worth.
    """
    return estimated(value, resamples, share_interval(value, rows))


def estimated(value: float, resamples: Floats, at_least: tuple[float, ...] = ()) -> Estimate:
    """A figure with its interval, which holds it: a threshold is shortened, and the resamples may all lie on one side.

    Args:
        value: the sample's own.
        resamples: the figure in each resample; infinite where it has none; shape (r,).
        at_least: what the interval holds, too.
    """
    low, high = interval(resamples)
    return Estimate(
        value,
        None if low is None else min(low, value, *at_least),
        None if high is None else max(high, value, *at_least),
    )


def _short(scores: Floats, chosen: int) -> float:
    """A number of few decimals that keeps what the chosen score keeps: not above it, and above the next lower one."""
    score = float(scores[chosen])
    below = float(scores[chosen + 1]) if chosen + 1 < len(scores) else -np.inf
    for decimals in range(2, 16):
        short = float(np.floor(score * 10.0**decimals) / 10.0**decimals)
        if below < short <= score:
            return short
    return score


def _best_reachable(sample: Sample, curve: Curve, level: int, min_precision: float, min_recall: float) -> str:
    enough = curve.recall >= min_recall
    wanted = f"min_precision={min_precision}" + (f" with min_recall={min_recall}" if min_recall else "")
    if not enough.any():
        most = _rounded_down(curve.recall[-1])
        return f"{wanted} cannot be reached: documents without a score leave a recall of {most} at most."
    best = int(np.nanargmax(np.where(enough, curve.precision, np.nan)))
    return (
        f"No threshold reaches {wanted} for labels of at least {level}. The best precision"
        f"{' at that recall' if min_recall else ''} is {_rounded_down(curve.precision[best])}, with score >= "
        f"{_short(sample.scores, best)}: it keeps {percent(curve.kept[best])} of the documents "
        f"({sample.labelled(best)} labelled), recall {percent(curve.recall[best])}."
    )


def _rounded_down(share: float) -> str:
    """A percentage that misses the requested one, and must not look as if it did not."""
    return percent(float(np.floor(share * 1_000) / 1_000))


def _require_share(name: str, value: float) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 1:
        raise ValueError(f"{name}={value!r}: give a share above 0, up to 1.")
