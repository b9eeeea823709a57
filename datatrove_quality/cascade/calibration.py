"""A cascade from two scores of each row of a sample: one half chooses the band, the other half certifies it."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from datatrove_quality.cascade.bounds import (
    chance_of_at_most,
    chance_of_passing,
    errors_allowed,
    rows_needed,
    upper_bound,
)
from datatrove_quality.cascade.values import AUDIT, KINDS, Bound, Cascade, Certificate, Kind, require_audit
from datatrove_quality.config import ScorerConfig


Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

# A band is as narrow as it can be while it passes on as many fresh samples as this.
CHANCE_OF_PASSING = 0.9
# Where fewer rows than that would show the promise, the band is widened by the proxy's noise around the threshold: by
# so many standard deviations, if the classifier then still scores at most so many rows.
DEVIATIONS = 4.0
MAX_WIDENED = 0.5
# Rows by which that noise is estimated, as a share.
AROUND = 0.2
# How many times as many rows as needed without an error are drawn, unless the user says how many.
ROOM_FOR_ERRORS = 4
# Points of the curve of the share rescored against the decisions changed.
CURVE_POINTS = 40


@dataclass(frozen=True)
class Calibration:
    """What a sample says of a proxy: a cascade with its certificate, or why there is no cascade.

    Args:
        cascade: None where no certificate was issued.
        reason: why not; None: it was.
        band: the one that was chosen. None: none could be.
        bounds: what the certifying half says of it.
        rows: the certifying half's.
        rescored: the share of the rows that the classifier would score; on the certifying half.
        agreement: the share of the rows that are decided as the classifier alone decides them; likewise.
        speed: how many times as fast as the classifier alone, by the costs that were given. NaN: they were not.
        curve: what other bands would give on the choosing half, as (share rescored, share of changed decisions).
    """

    cascade: Cascade | None
    reason: str | None
    band: tuple[float, float] | None
    bounds: tuple[Bound, ...]
    rows: int
    rescored: float
    agreement: float
    speed: float
    curve: tuple[tuple[float, float], ...]


def calibrate_cascade(
    scores: ArrayLike,
    proxy_scores: ArrayLike,
    min_score: float,
    *,
    disagreement: float | None = None,
    wrongly_dropped: float | None = None,
    wrongly_kept: float | None = None,
    confidence: float = 0.95,
    costs: Sequence[float] | None = None,
    seed: int = 0,
    attempts: int = 1,
    proxy: ScorerConfig | None = None,
    audit: float = AUDIT,
) -> Calibration:
    """Choose a band on one half of a sample, and certify it on the other.

    The promise is `disagreement`, a bound on the share of all decisions that differ from the classifier's, or
    `wrongly_dropped` (as a share of what the classifier keeps) and `wrongly_kept` (of what it drops), or all three.
    The chance of being wrong, 1 - confidence, is divided among them. The certifying half is looked at once, with one
    band, so that its errors are binomial: over all calibrations, those without a certificate included, at most
    1 - confidence end in a certificate whose promise is broken. Arrays do not say what made them: the certificate
    names neither models nor how rows are read, to which `datatrove-quality calibrate` ties its own.

    Args:
        scores: the classifier's, of a simple random sample of the corpus; NaN (none) counts as a changed decision
            whatever the proxy decides; shape (n,).
        proxy_scores: the proxy's, of the same rows; NaN where it gives none, which the classifier decides; shape (n,).
        min_score: the threshold: the classifier keeps scores from it on.
        disagreement: a share above 0, below 1. None: not promised.
        wrongly_dropped: likewise; together with `wrongly_kept`.
        wrongly_kept: likewise.
        confidence: above 0, below 1.
        costs: of a row scored by the classifier and by the proxy, in one unit. None: whether it pays is not judged.
        seed: of the halves.
        attempts: calibrations on this corpus, this one included: each has half the chance of being wrong that the one
            before had, so that together they have at most twice the first one's.
        proxy: of the cascade that is returned.
        audit: likewise; it costs speed.

    Returns:
        The cascade, or why there is no cascade; and what the sample says of the band.

    Raises:
        ValueError: a value is not as said above; names it, and the fix.
    """
    require_audit(audit)
    promise = _promise(disagreement, wrongly_dropped, wrongly_kept)
    alpha = _alpha(confidence, attempts, len(promise))
    fit, certify = _Sample.halves(scores, proxy_scores, min_score, seed)
    if reason := fit.unusable(promise, alpha) or certify.too_small(promise, alpha):
        return Calibration(None, reason, None, (), certify.size, math.nan, math.nan, math.nan, ())
    band = fit.choose(promise, alpha)
    bounds = certify.bounds(band, promise, alpha)
    rescored, speed = certify.rescored(band), certify.speed(band, costs, audit)
    agreement = 1 - certify.errors(band, "disagreement") / certify.size
    reason = _broken(bounds, alpha) or _not_worth_it(rescored, speed)
    issued = Certificate(float(min_score), confidence, bounds, certify.size, seed, attempts)
    cascade = None if reason else Cascade(proxy, band, issued, audit)
    return Calibration(cascade, reason, band, bounds, certify.size, rescored, agreement, speed, fit.curve())


@dataclass(frozen=True)
class _Sample:
    """Rows in the order of their proxy scores; those without one come last, and are always rescored.

    Args:
        proxies: the proxy's scores that there are, ascending; shape (m,), m <= size.
        keeps: whether dropping the row would change the classifier's decision; shape (size,).
        drops: whether keeping it would; shape (size,).
        above: by how much the classifier's score is above the threshold; shape (size,).
    """

    proxies: Floats
    keeps: Bools
    drops: Bools
    above: Floats

    @classmethod
    def halves(
        cls, scores: ArrayLike, proxy_scores: ArrayLike, min_score: float, seed: int
    ) -> tuple["_Sample", "_Sample"]:
        """The rows that choose the band, and those that certify it, divided at random."""
        arrays = [np.asarray(values, dtype=np.float64) for values in (scores, proxy_scores)]
        if arrays[0].ndim != 1 or arrays[0].shape != arrays[1].shape:
            raise ValueError(
                f"scores has shape {arrays[0].shape} and proxy_scores {arrays[1].shape}: give one of each per row."
            )
        if np.isinf(arrays[1]).any():
            raise ValueError("proxy_scores: give finite numbers, or NaN where a document has no score.")
        if isinstance(min_score, bool) or not isinstance(min_score, int | float) or not math.isfinite(min_score):
            raise ValueError(f"min_score={min_score!r}: give a finite number.")
        order = np.random.default_rng(seed).permutation(len(arrays[0]))
        choosing, certifying = np.split(order, [len(order) // 2])
        return cls._of(arrays, choosing, min_score), cls._of(arrays, certifying, min_score)

    @classmethod
    def _of(cls, arrays: list[Floats], rows: Ints, min_score: float) -> "_Sample":
        scores, proxies = (values[rows] for values in arrays)
        order = np.argsort(proxies, kind="stable")  # NaN comes last
        known = len(proxies) - int(np.isnan(proxies).sum())
        scores = scores[order]
        return cls(proxies[order][:known], ~(scores < min_score), ~(scores >= min_score), scores - min_score)

    @property
    def size(self) -> int:
        return len(self.keeps)

    def rows_of(self, kind: Kind) -> int:
        """Of how many rows the errors of a kind are a share."""
        if kind == "disagreement":
            return self.size
        # A row without the classifier's score is neither kept nor dropped by it, though it counts as an error of both.
        return int((~self.drops if kind == "wrongly_dropped" else ~self.keeps).sum())

    def errors(self, band: tuple[float, float], kind: Kind) -> int:
        """Decisions that the band's proxy changes."""
        dropped, kept = self._outside(band)
        wrongly_dropped, wrongly_kept = (
            int(self.keeps[:dropped].sum()),
            int(self.drops[kept : len(self.proxies)].sum()),
        )
        return {
            "wrongly_dropped": wrongly_dropped,
            "wrongly_kept": wrongly_kept,
            "disagreement": wrongly_dropped + wrongly_kept,
        }[kind]

    def _outside(self, band: tuple[float, float]) -> tuple[int, int]:
        """How many rows are dropped by the proxy, and the place of the first that is kept by it."""
        return (
            int(np.searchsorted(self.proxies, band[0], side="left")),
            int(np.searchsorted(self.proxies, band[1], side="right")),
        )

    def rescored(self, band: tuple[float, float]) -> float:
        """The share of the rows that the classifier scores; without the audit's."""
        dropped, kept = self._outside(band)
        return 1 - (dropped + len(self.proxies) - kept) / self.size

    def speed(self, band: tuple[float, float], costs: Sequence[float] | None, audit: float) -> float:
        """How many times as fast as the classifier alone, the audit included; NaN where costs are not known."""
        if costs is None:
            return math.nan
        classifier, proxy = costs
        rescored = self.rescored(band)
        return classifier / (proxy + (rescored + audit * (1 - rescored)) * classifier)

    def unusable(self, promise: dict[Kind, float], alpha: float) -> str | None:
        """Why no band can be chosen by these rows; None: one can."""
        kept, dropped = int((~self.drops).sum()), int((~self.keeps).sum())
        if not kept or not dropped:
            side = "keeps" if kept else "drops"
            return f"The classifier {side} all of the rows of the sample: there is nothing to decide."
        least = min(kept, dropped) / self.size
        if set(promise) == {"disagreement"} and promise["disagreement"] >= least:
            return (
                f"The classifier {'keeps' if kept < dropped else 'drops'} {least:.2%} of the rows: a promise of "
                f"{promise['disagreement']:.2%} of all would let all of them be decided wrongly. Promise "
                "wrongly_dropped and wrongly_kept instead."
            )
        return self.too_small(promise, alpha)

    def too_small(self, promise: dict[Kind, float], alpha: float) -> str | None:
        """Whether the promise cannot be shown by so few rows, even if none is decided wrongly."""
        for kind, limit in promise.items():
            needed, found = rows_needed(limit, alpha), self.rows_of(kind)
            if found < needed:
                return (
                    f"The sample is too small: a promise of {limit:.3%} {kind.replace('_', ' ')} needs {needed:,} "
                    f"certifying {ROWS_OF[kind]} without one error, and there are {found:,}; half of a sample "
                    "certifies."
                )
        return None

    def choose(self, promise: dict[Kind, float], alpha: float) -> tuple[float, float]:
        """The narrowest band that is likely to pass on the other half."""
        most = {kind: self._most_errors(kind, limit, alpha) for kind, limit in promise.items()}
        dropped = most.get("wrongly_dropped", most.get("disagreement", 0))
        kept = most.get("wrongly_kept", most.get("disagreement", 0))
        total = most.get("disagreement", dropped + kept)
        band, _ = self._narrowest(dropped, kept, total)
        return band if total else self._widened(band)

    def _widened(self, band: tuple[float, float]) -> tuple[float, float]:
        """A band without errors here, made wider: among as many other rows there may well be one just outside."""
        above = self.above[: len(self.proxies)]
        finite = np.flatnonzero(np.isfinite(above))
        near = finite[np.argsort(np.abs(above[finite]), kind="stable")[: max(3, int(AROUND * len(finite)))]]
        if len(near) < 3 or np.ptp(above[near]) == 0:
            return band
        slope, middle = np.polyfit(above[near], self.proxies[near], 1)
        noise = DEVIATIONS * float(np.std(self.proxies[near] - slope * above[near] - middle))
        wider = min(band[0], float(middle) - noise), max(band[1], float(middle) + noise)
        return wider if self.rescored(wider) <= MAX_WIDENED else band

    def _most_errors(self, kind: Kind, limit: float, alpha: float) -> int:
        """With how many errors here a band is likely to be certified there; at least 0, which is worth an attempt."""
        rows = self.rows_of(kind)
        allowed = errors_allowed(rows, limit, alpha)
        edges = 2 if kind == "disagreement" else 1
        low, high = 0, max(allowed, 0)
        while low < high:
            middle = (low + high + 1) // 2
            passes = chance_of_passing(middle, rows, allowed, edges) >= CHANCE_OF_PASSING
            low, high = (middle, high) if passes else (low, middle - 1)
        return low

    def _narrowest(self, dropped: int, kept: int, total: int) -> tuple[tuple[float, float], float]:
        """The band that rescores the fewest rows with at most so many errors of each kind, and the share rescored."""
        low, high, inside = self._edges(dropped, kept, total)
        if inside <= 0:  # the proxy decides all of the rows: then with as few errors as it can
            fewest = bisect_left(range(total + 1), True, key=lambda most: self._edges(dropped, kept, most)[2] <= 0)
            high, low, inside = self._edges(dropped, kept, fewest)
            low = high = _between(low, high)
        return (low, high), 1 - (len(self.proxies) - max(0, inside)) / self.size

    def _edges(self, dropped: int, kept: int, total: int) -> tuple[float, float, int]:
        """The edges of that band, and how many rows lie within; fewer than 1 where the low edge is above the high."""
        known = len(self.proxies)
        keepers, droppers = self.proxies[self.keeps[:known]], self.proxies[self.drops[:known]][::-1]
        below = np.arange(min(dropped, total) + 1)
        above = np.minimum(total - below, kept)
        lows = np.append(keepers, np.inf)[np.minimum(below, len(keepers))]
        highs = np.append(droppers, -np.inf)[np.minimum(above, len(droppers))]
        inside = np.searchsorted(self.proxies, highs, side="right") - np.searchsorted(self.proxies, lows, side="left")
        best = int(np.argmin(inside))
        return float(lows[best]), float(highs[best]), int(inside[best])

    def bounds(self, band: tuple[float, float], promise: dict[Kind, float], alpha: float) -> tuple[Bound, ...]:
        """What these rows, by which the band was not chosen, say of each promise."""
        found = ((kind, limit, self.errors(band, kind), self.rows_of(kind)) for kind, limit in promise.items())
        return tuple(
            Bound(kind, limit, min(errors, rows), rows, upper_bound(errors, rows, alpha))
            for kind, limit, errors, rows in found
        )

    def curve(self) -> tuple[tuple[float, float], ...]:
        """The share rescored by the number of errors, from none to as many as without the classifier."""
        most = int(self.keeps.sum()) // 2
        numbers = np.unique(np.r_[0, np.geomspace(1, max(1, most), CURVE_POINTS).astype(int)])
        points = []
        for errors in map(int, numbers):
            band, rescored = self._narrowest(errors, errors, errors)
            points.append((rescored, self.errors(band, "disagreement") / self.size))
            if rescored <= 0:
                break
        return tuple(points)


ROWS_OF: dict[Kind, str] = {
    "disagreement": "rows",
    "wrongly_dropped": "rows that the classifier keeps",
    "wrongly_kept": "rows that the classifier drops",
}


def promised_rows(promise: dict[Kind, float], confidence: float, attempts: int = 1) -> str:
    """How many certifying rows a promise needs, for a person, before anything is scored.

    Args:
        promise: the shares by kind, as those of `calibrate_cascade`.
        confidence: as there.
        attempts: as there.
    """
    alpha = _alpha(confidence, attempts, len(promise))
    parts = (f"{rows_needed(limit, alpha):,} {ROWS_OF[kind]}" for kind, limit in promise.items())
    return f"The promise needs at least {' and '.join(parts)}, without one error, in the half that certifies."


def rows_to_draw(promise: dict[Kind, float], confidence: float, attempts: int) -> int:
    """A size of sample that leaves room for some errors, so that the band can be narrow; arguments as above.

    Of documents that are kept, or dropped, a sample is taken to hold a third or more.
    """
    alpha = _alpha(confidence, attempts, len(promise))
    halves = (
        rows_needed(limit, alpha) * ROOM_FOR_ERRORS * (1 if kind == "disagreement" else 3)
        for kind, limit in promise.items()
    )
    return 2 * max(halves)


def _promise(*limits: float | None) -> dict[Kind, float]:
    promise = {kind: limit for kind, limit in zip(KINDS, limits, strict=True) if limit is not None}
    for kind, limit in promise.items():
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit < 1:
            raise ValueError(f"{kind}={limit!r}: give a share above 0, below 1.")
    if not promise or ("wrongly_dropped" in promise) != ("wrongly_kept" in promise):
        raise ValueError("Promise disagreement=, or wrongly_dropped= and wrongly_kept= together: give shares.")
    return promise


def _alpha(confidence: float, attempts: int, bounds: int) -> float:
    """The chance of being wrong that each bound of this attempt has."""
    if isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence!r}: give a share above 0, below 1.")
    if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
        raise ValueError(f"attempts={attempts!r}: give a whole number from 1.")
    return (1 - confidence) / 2 ** (attempts - 1) / bounds


def _broken(bounds: tuple[Bound, ...], alpha: float) -> str | None:
    for bound in bounds:
        if chance_of_at_most(bound.errors, bound.rows, bound.promised) > alpha:
            return (
                f"The promise of {bound.promised:.3%} {bound.kind.replace('_', ' ')} is not shown: {bound.errors:,} "
                f"of {bound.rows:,} certifying {ROWS_OF[bound.kind]} are decided wrongly, at most {bound.upper:.3%} "
                "of all. More rows, a looser promise or a better proxy may show it."
            )
    return None


def _not_worth_it(rescored: float, speed: float) -> str | None:
    if rescored < 1 and not speed <= 1:
        return None
    if rescored >= 1:
        return "It does not pay: the classifier would score all of the documents."
    return (
        f"It does not pay: the classifier would score {rescored:.1%} of the documents, and with the proxy's pass that "
        f"takes {1 / speed:.2f} times as long as the classifier alone."
    )


def _between(low: float, high: float) -> float:
    """A number between two, of which one may be infinite."""
    if math.isinf(low):
        return high
    return low if math.isinf(high) else (low + high) / 2
