"""How far raters agree about levels: confusion matrices, quadratic-weighted kappa, Krippendorff's alpha.

All of it is a sum over rows, divided: so a resample of rows is a sum with other weights, and gives the interval. A
resample has no difference that the sample has not. So an interval also holds what the figure would be if as many rows
more differed, by one level, as the exact binomial bound on their share admits; that of equal levels holds the exact
binomial one.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from datatrove_quality.evaluation.arrays import Floats, as_weights, share_of
from datatrove_quality.evaluation.binomial import share_interval, unseen_share
from datatrove_quality.evaluation.resampling import RESAMPLES
from datatrove_quality.evaluation.thresholds import Estimate, estimated


# Numbers that a block of resamples may hold at a time.
BLOCK = 4_000_000


@dataclass(frozen=True)
class PairAgreement:
    """How far one rater agrees with another, on the rows that both have rated.

    Args:
        labels: the name of the first.
        other: the name of the second.
        rows: how many both have rated.
        confusion: L rows by the first's level, L columns by the second's; with sample weights, estimated numbers of
            rows of the whole that the rows stand for.
        equal: the share of rows with equal levels.
        kappa: Cohen's, weighted by the square of the distance. None: all levels of both are the same one.
        difference: the mean of the second's level less the first's.
    """

    labels: str
    other: str
    rows: int
    confusion: tuple[tuple[float, ...], ...]
    equal: Estimate
    kappa: Estimate | None
    difference: Estimate


@dataclass(frozen=True)
class Agreement:
    """How far raters agree.

    Args:
        rows: how many rows two raters or more have rated.
        levels: of the scale, from low to high.
        weighted: whether rows count by their sample weights.
        stands_for: how many rows of the whole these rows stand for: the sum of their weights.
        alpha: Krippendorff's, for ordered levels, over all raters. None: all levels are the same one.
        pairs: the first rater with each other one.
    """

    rows: int
    levels: tuple[int, ...]
    weighted: bool
    stands_for: float
    alpha: Estimate | None
    pairs: tuple[PairAgreement, ...]


def measure_agreement(
    ratings: ArrayLike,
    names: Sequence[str],
    levels: Sequence[int],
    weights: ArrayLike | None = None,
    seed: int = 0,
) -> Agreement:
    """Compare raters, with 95% intervals: by the bootstrap over rows, and the exact binomial of rows that differ.

    Args:
        ratings: the level that each rater gave, NaN where it gave none; shape (n, raters).
        names: of the raters; the first is compared with each other.
        levels: of the scale, from low to high, each one more than the one before.
        weights: how many rows each row stands for; shape (n,). None: each stands for itself.
        seed: of the bootstrap.

    Raises:
        ValueError: there are fewer than two raters, a value is not as said above, or two raters have no row in common.
    """
    table = np.asarray(ratings, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != len(names) or len(names) < 2:
        raise ValueError(f"ratings has shape {table.shape}: give (n, {len(names)}), of two raters or more.")
    given = as_weights(weights, len(table))
    codes = np.where(np.isnan(table), -1, table - levels[0]).astype(np.int64)
    if codes.min(initial=-1) < -1 or codes.max(initial=-1) >= len(levels):
        raise ValueError(f"ratings: a level is not from {levels[0]} to {levels[-1]}.")
    rated = (codes >= 0).sum(axis=1) > 1
    bins = _Bins.of(codes[rated], None if given is None else given[rated])
    for place, name in enumerate(names[1:], start=1):
        if not ((codes[:, 0] >= 0) & (codes[:, place] >= 0)).any():
            raise ValueError(f"No row has a usable level in both {names[0]} and {name}.")
    size = len(levels)
    pairs = tuple(_pair(bins, names, place, size, seed) for place in range(1, len(names)))
    coincidences = _coincidences(bins.codes, size)
    sums = bins.sums(coincidences)
    known = np.where(bins.codes < 0, bins.codes.max(axis=1, keepdims=True), bins.codes)
    worse = _with_differences(sums, unseen_share(*bins.differing(np.ptp(known, axis=1) > 0)), (-1, 1))
    alpha = _estimate(_alpha(sums), [_alpha(block) for block in bins.resamples(coincidences, seed)], _alpha(worse))
    whole = float(rated.sum() if given is None else given[rated].sum())
    return Agreement(int(rated.sum()), tuple(levels), given is not None, whole, alpha, pairs)


@dataclass(frozen=True)
class _Bins:
    """Rows with the same levels and the same weight, counted.

    Args:
        codes: levels less the lowest, -1 for none; shape (bins, raters).
        weights: of each row of a bin; shape (bins,).
        counts: rows; shape (bins,).
        factor: by which weights were divided so that their mean is 1.
    """

    codes: np.ndarray
    weights: Floats
    counts: np.ndarray
    factor: float

    @classmethod
    def of(cls, codes: np.ndarray, weights: Floats | None) -> "_Bins":
        factor = 1.0 if weights is None or not len(weights) else float(weights.mean())
        scaled = np.ones(len(codes)) if weights is None else weights / factor
        distinct, counts = np.unique(np.column_stack([codes, scaled]), axis=0, return_counts=True)
        return cls(distinct[:, :-1].astype(np.int64), distinct[:, -1], counts, factor)

    def sums(self, of_row: Floats) -> Floats:
        """The weighted sum over all rows of what each adds; of shape (bins, k), (k,)."""
        return (self.weights * self.counts) @ of_row

    def differing(self, differs: np.ndarray, among: np.ndarray | None = None) -> tuple[float, float]:
        """The share of rows that differ, and how many rows of one weight these rows are worth.

        Args:
            differs: whether the rows of a bin do; shape (bins,).
            among: the bins that count; shape (bins,). None: all.
        """
        rows = self.weights * self.counts * (True if among is None else among)
        total = rows.sum()
        return float((rows * differs).sum() / total), float(total**2 / (rows * self.weights).sum())

    def resamples(self, of_row: Floats, seed: int) -> Iterator[Floats]:
        """The same over rows drawn with replacement, as many as there are: blocks of shape (r, k)."""
        rng = np.random.default_rng(seed)
        total = int(self.counts.sum())
        size = max(1, BLOCK // max(1, len(self.counts)))
        for start in range(0, RESAMPLES, size):
            drawn = rng.multinomial(total, self.counts / total, size=min(size, RESAMPLES - start))
            yield (drawn * self.weights) @ of_row


def _pair(bins: _Bins, names: Sequence[str], place: int, size: int, seed: int) -> PairAgreement:
    first, other = bins.codes[:, 0], bins.codes[:, place]
    both = (first >= 0) & (other >= 0)
    cells = np.zeros((len(first), size * size))
    cells[both, (first * size + other)[both]] = 1
    sums, resamples = bins.sums(cells), list(bins.resamples(cells, seed))
    differing, worth = bins.differing(first != other, both)
    unseen = unseen_share(differing, worth)

    def estimate(figure: Callable[[Floats], Floats], at_least: Sequence[float] = ()) -> Estimate | None:
        others = [figure(_with_differences(sums, unseen, steps)) for steps in ((-1, 1), (-1,), (1,))]
        return _estimate(figure(sums), [figure(block) for block in resamples], *others, *at_least)

    equal = estimate(_equal, share_interval(1 - differing, worth))
    difference, kappa = estimate(_difference), estimate(_kappa)
    assert equal is not None and difference is not None  # they have a row in common
    return PairAgreement(
        labels=names[0],
        other=names[place],
        rows=int(bins.counts[both].sum()),
        confusion=tuple(tuple(row) for row in (sums * bins.factor).reshape(size, size).tolist()),
        equal=equal,
        kappa=kappa,
        difference=difference,
    )


def _estimate(value: Floats, resamples: list[Floats], *others: Floats | float) -> Estimate | None:
    """A figure with its interval, which holds the others too; None where it has no value."""
    known = tuple(float(other) for other in others if not np.isnan(other))
    return None if np.isnan(value) else estimated(float(value), np.concatenate(resamples), known)


def _with_differences(sums: Floats, part: float, steps: Sequence[int]) -> Floats:
    """Sums of cells of which more differ, by one level.

    Args:
        sums: of the cells, laid flat.
        part: a share of them, which is taken from those that are equal.
        steps: from the first's level to the other's, as often the one as the other, where they are on the scale.
    """
    matrix = _square(sums)
    equal, size = np.diag(matrix), len(matrix)
    moving = equal * min(1.0, float(_share(part * matrix.sum(), equal.sum())) if equal.any() else 0.0)
    moved = np.zeros_like(matrix)
    for level, rows in enumerate(moving):
        places = [level + step for step in steps if 0 <= level + step < size] or [level]
        moved[level, places] += rows / len(places)
    if len(steps) > 1:  # as often the one higher as the other
        moved = (moved + moved.T) / 2
    return (matrix - np.diag(moving) + moved).reshape(-1)


def _square(sums: Floats) -> Floats:
    """Sums of cells as matrices, (..., k * k) to (..., k, k)."""
    size = round(np.sqrt(sums.shape[-1]))
    return sums.reshape(*sums.shape[:-1], size, size)


_share = partial(share_of, of_nothing=np.nan)


# Figures of confusion matrices or coincidence matrices, laid flat: (..., k * k) to (...), NaN where there are no rows.


def _equal(sums: Floats) -> Floats:
    """The share of rows whose two levels are equal."""
    return _share(np.trace(_square(sums), axis1=-2, axis2=-1), sums.sum(axis=-1))


def _difference(sums: Floats) -> Floats:
    """The mean difference in levels, other less first."""
    matrix = _square(sums)
    levels = np.arange(matrix.shape[-1])
    return _share((matrix * (levels - levels[:, None])).sum(axis=(-2, -1)), sums.sum(axis=-1))


def _kappa(sums: Floats) -> Floats:
    """Cohen's kappa with quadratic weights of confusion matrices."""
    matrix = _square(sums)
    levels = np.arange(matrix.shape[-1])
    distance = (levels - levels[:, None]) ** 2.0
    by_chance = matrix.sum(axis=-1)[..., :, None] * matrix.sum(axis=-2)[..., None, :]
    observed, expected = ((part * distance).sum(axis=(-2, -1)) for part in (matrix, by_chance))
    return 1 - _share(observed * sums.sum(axis=-1), expected)


def _coincidences(codes: np.ndarray, size: int) -> Floats:
    """What a row adds to Krippendorff's coincidence matrix; shape (bins, size * size).

    Each ordered pair of a row's m ratings, by different raters, counts 1 / (m - 1).
    """
    votes = (codes[:, :, None] == np.arange(size)).sum(axis=1).astype(np.float64)
    pairs = votes[:, :, None] * votes[:, None, :] - votes[:, :, None] * np.eye(size)
    return (pairs / np.maximum(votes.sum(axis=1) - 1, 1)[:, None, None]).reshape(len(codes), -1)


def _alpha(sums: Floats) -> Floats:
    """Krippendorff's alpha of coincidence matrices, with his difference function for ordered categories."""
    matrix = _square(sums)
    totals = matrix.sum(axis=-1)
    middle = totals.cumsum(axis=-1) - totals / 2  # the mean rank of each level
    distance = (middle[..., :, None] - middle[..., None, :]) ** 2
    by_chance = totals[..., :, None] * totals[..., None, :]
    observed, expected = ((part * distance).sum(axis=(-2, -1)) for part in (matrix, by_chance))
    return 1 - _share(observed * (totals.sum(axis=-1) - 1), expected)
