"""What each threshold keeps, in a sample and in samples drawn from it (the bootstrap), which say how sure it is."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from datatrove_quality.evaluation.arrays import (
    Floats,
    Ints,
    as_numbers,
    as_token_counts,
    as_weights,
    require_all,
    require_same_length,
    share_of,
)


RESAMPLES = 1_000
CONFIDENCE = 0.95
BOOTSTRAP_BINS = 1_000


@dataclass(frozen=True)
class Sample:
    """Documents counted by distinct score: m of them from the highest down, and at last those without a score.

    Args:
        scores: the distinct scores, finite; shape (m,).
        counts: documents with a good label, with another, and with none; shape (m + 1, 3).
        weights: the sums of the documents' sample weights; equal to the counts where they have none.
        weight_squares: the sums of the squares of these weights.
        tokens: the sum of the documents' tokens, times their weights; shape (m + 1,).
        squares: the sum of the squares of that; shape (m + 1,).
    """

    scores: Floats
    counts: Ints
    weights: Floats
    weight_squares: Floats
    tokens: Floats
    squares: Floats

    @classmethod
    def of(
        cls,
        scores: ArrayLike,
        tokens: ArrayLike | None,
        labels: ArrayLike | None = None,
        level: int = 0,
        weights: ArrayLike | None = None,
    ) -> "Sample":
        """Count documents.

        Args:
            scores: scores; -inf where a document has none; shape (n,).
            tokens: tokens of each document; shape (n,). None: all are 0.
            labels: levels; NaN where a document has no label; shape (n,). None: no document has one.
            level: the lowest good label.
            weights: how many documents each stands for; shape (n,). None: itself.

        Raises:
            ValueError: a value is not as said above; no document has a score; or no label is good, or all are.
        """
        score_array = as_numbers("scores", scores)
        require_same_length(scores=score_array)
        require_all("scores", score_array, score_array < np.inf, "not scores", "Give -inf where there is no score.")
        kinds = _label_kinds(labels, level, score_array)
        distinct, places = np.unique(-score_array, return_inverse=True)
        if distinct[-1] < np.inf:
            distinct = np.append(distinct, np.inf)  # no document lacks a score
        size = len(distinct)
        if size == 1:
            raise ValueError("scores: no document has a score.")
        given, each = as_weights(weights, len(score_array)), as_token_counts(tokens, len(score_array))
        given = np.ones(len(score_array)) if given is None else given
        each = np.zeros(len(score_array)) if each is None else each * given
        cells = places * 3 + kinds
        counts = np.bincount(cells, minlength=3 * size).reshape(size, 3)
        weighted = [np.asarray(np.bincount(cells, given**power, 3 * size), np.float64) for power in (1, 2)]
        sums = [np.asarray(np.bincount(places, each**power, size), np.float64) for power in (1, 2)]
        return cls(-distinct[:-1], counts, weighted[0].reshape(size, 3), weighted[1].reshape(size, 3), *sums)

    def effective_rows(self, part: Any) -> float:
        """How many documents of one weight say as much as those of a part of `weights`.

        Args:
            part: an index.
        """
        weights, squares = float(self.weights[part].sum()), float(self.weight_squares[part].sum())
        return weights * weights / squares if squares else 0.0

    def labelled(self, place: int) -> int:
        """How many documents with a label have the score of a place or a higher one."""
        return int(self.counts[: place + 1, :2].sum())

    def merged(self, chosen: int) -> "Sample":
        """At most about `BOOTSTRAP_BINS` bins with about as many documents each; one ends at the chosen score."""
        reached = self.counts[:-1].sum(axis=1).cumsum()
        wanted = np.linspace(0, reached[-1], BOOTSTRAP_BINS + 1)[1:]
        last = np.unique(np.r_[np.searchsorted(reached, wanted), chosen, len(self.scores) - 1])
        last = last[last < len(self.scores)]
        first = np.r_[0, last + 1]
        summed = (self.counts, self.weights, self.weight_squares, self.tokens, self.squares)
        return Sample(self.scores[last], *(np.add.reduceat(values, first, axis=0) for values in summed))


def _label_kinds(labels: ArrayLike | None, level: int, scores: Floats) -> Ints:
    """0 for a good label, 1 for another, 2 for none; shape (n,)."""
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
class Curve:
    """What each threshold keeps, of one sample (m,) or of many resamples (r, m); NaN for a share of nothing.

    Args:
        kept: share of all documents.
        tokens_kept: share of all tokens.
        precision: share of good labels among the labels kept.
        recall: share of the good labels that is kept.
    """

    kept: Floats
    tokens_kept: Floats
    precision: Floats
    recall: Floats

    @classmethod
    def of(cls, weights: Floats, tokens: Floats) -> "Curve":
        """Add up from the highest score down: weights are (..., m + 1, 3), tokens (..., m + 1)."""
        reached, tokens_reached = weights.cumsum(axis=-2, dtype=np.float64), tokens.cumsum(axis=-1)
        good, labelled, documents = reached[..., 0], reached[..., :2].sum(axis=-1), reached.sum(axis=-1)
        return cls(
            kept=_of_whole(documents),
            tokens_kept=_of_whole(tokens_reached),
            precision=share_of(good, labelled, of_nothing=np.nan)[..., :-1],
            recall=_of_whole(good),
        )


def _of_whole(reached: Floats) -> Floats:
    """What each threshold reaches as a share of all, which the last place holds."""
    whole = np.broadcast_to(reached[..., -1:], reached.shape)
    return share_of(reached, whole, of_nothing=np.nan)[..., :-1]


def resampled(bins: Sample, seed: int) -> Curve:
    """The curves of `RESAMPLES` samples of the same size, drawn with replacement.

    To draw n documents is to draw how often each bin's documents occur: one multinomial over the bins, whatever n. The
    tokens of those drawn, and their sample weights, are taken as normal, with the bin's own mean and variance. A bin
    holds a thousandth of the sample, which bounds how finely the interval of the threshold is known, and nothing else.
    """
    rng = np.random.default_rng(seed)
    total = int(bins.counts.sum())
    counts = rng.multinomial(total, bins.counts.ravel() / total, size=RESAMPLES).reshape(RESAMPLES, -1, 3)
    tokens = _sums_of_drawn(counts.sum(axis=-1), bins.counts.sum(axis=1), bins.tokens, bins.squares, rng)
    weights: Floats = counts.astype(np.float64)
    if not np.array_equal(bins.weights, bins.counts):
        weights = _sums_of_drawn(counts, bins.counts, bins.weights, bins.weight_squares, rng)
    return Curve.of(weights, tokens)


def _sums_of_drawn(drawn: Ints, counts: Ints, sums: Floats, squares: Floats, rng: np.random.Generator) -> Floats:
    """What a value adds up to over documents that were drawn, by the sums over those that there are."""
    mean = share_of(sums, counts)
    deviation = np.sqrt(np.maximum(share_of(squares, counts) - mean**2, 0))
    return np.maximum(drawn * mean + np.sqrt(drawn) * deviation * rng.standard_normal(drawn.shape), 0)


def interval(values: Floats) -> tuple[float | None, float | None]:
    """The middle 95% of the resamples' values, from one of them to one of them; infinite ends are None."""
    known = np.sort(values[~np.isnan(values)])
    if not len(known):
        return None, None
    tail = int(len(known) * (1 - CONFIDENCE) / 2)
    low, high = float(known[tail]), float(known[-1 - tail])
    return (low if np.isfinite(low) else None), (high if np.isfinite(high) else None)
