"""Scored rows -> the numbers of a report: histograms, kept shares, groups, lengths, and rows to read.

    batches of rows ── ScoreReport.add ──> sums by score, group and length; samples ── ScoreReport.figures ──> a dict

Nothing here grows with the number of rows. Scores fall into bins of 0.01, whose edges are exactly the floats k / 100:
what lies above an edge is what a filter with that threshold keeps.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from datatrove_quality.config import REASON


BINS_PER_POINT = 100
MOST_SCORE = 1_000.0  # scores beyond are counted as if they were this
MOST_TOKENS = 1e12  # more is no length
GROUP_BIN = 5  # fine bins in one bin of a group's histogram; divides every width of a bar
MOST_GROUPS = 1_000_000  # values of a group column that are told apart
SHOWN_GROUPS = 50
MOST_BARS = 60
MOST_BANDS = 12
BAR_WIDTHS = [5, *(width * 10**power for power in range(6) for width in (10, 25, 50))]  # in fine bins
BAND_WIDTHS = [width * 10**power for power in range(4) for width in (1, 2, 5)]  # in points
NEAR = 0.25  # from the threshold: "just above" and "just below"
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
NO_VALUE = "(no value)"
OTHER_VALUES = "(all other values)"

# What a sample is of: a whole-number score band, a side of the threshold, or a reason.
BAND, SIDE, REASON_OF = "band", "side", "reason"


@dataclass(frozen=True)
class ScoreBatch:
    """Rows as far as figures need them.

    Args:
        first: the number of the first row among all rows read; the others follow.
        scores: float64, one per row; NaN where there is none that could be used.
        tokens: float64, one per row; NaN where unknown.
        errors: why a row has no score, `"<reason>: <message>"`, by its place in the batch; of each row without one.
        groups: an index into `values` per row; None: rows are not grouped.
        values: the values to group by.
    """

    first: int
    scores: np.ndarray
    tokens: np.ndarray
    errors: dict[int, str]
    groups: np.ndarray | None = None
    values: tuple[str, ...] = ()


class Sums:
    """Documents, tokens and scores added up by whole-number keys, of which only those that occur take memory."""

    MOST_PENDING = 4_000_000

    def __init__(self) -> None:
        self._parts: list[tuple[np.ndarray, np.ndarray]] = []
        self._pending = 0

    def add(self, keys: np.ndarray, tokens: np.ndarray, scores: np.ndarray) -> None:
        """Add rows, each with its key."""
        self._append(keys, np.column_stack([np.ones(len(keys)), np.nan_to_num(tokens), scores]))
        if self._pending > self.MOST_PENDING:
            self.result()

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """The keys that occur, in order, and for each the sums of documents, tokens and scores: (n,) and (n, 3)."""
        parts, self._parts, self._pending = self._parts, [], 0
        if parts:
            self._append(np.concatenate([keys for keys, _ in parts]), np.concatenate([sums for _, sums in parts]))
            self._pending = 0
            return self._parts[0]
        return np.zeros(0, np.int64), np.zeros((0, 3))

    def _append(self, keys: np.ndarray, columns: np.ndarray) -> None:
        found, places = np.unique(keys, return_inverse=True)
        sums = [np.bincount(places, weights=column, minlength=len(found)) for column in columns.T]
        self._parts.append((found, np.column_stack(sums)))
        self._pending += len(found)


class Sampler:
    """Keeps a random sample of each of many sets of rows, of the same rows whenever the seed is the same.

    A set is named by what it is a set of and a value: `("band", 3)`.

    Each row gets a random number and those with the lowest are kept: so two samples make one of the union.

    Args:
        size: the most rows per set.
        seed: decides the sample.
    """

    def __init__(self, size: int, seed: int):
        self.size = size
        self._random = np.random.default_rng(seed)
        self._kept: dict[tuple[str, Any], tuple[np.ndarray, np.ndarray]] = {}

    @property
    def names(self) -> list[tuple[str, Any]]:
        """The sets of which there is a sample."""
        return list(self._kept)

    def draw(self, count: int) -> np.ndarray:
        """A random number for each of the next rows."""
        return self._random.random(count)

    def add(self, name: tuple[str, Any], rows: np.ndarray, drawn: np.ndarray, size: int | None = None) -> None:
        """Offer rows, by their numbers, to the sample of a set."""
        kept_rows, kept_drawn = self._kept.get(name, (rows[:0], drawn[:0]))
        rows, drawn = np.concatenate([kept_rows, rows]), np.concatenate([kept_drawn, drawn])
        lowest = np.argsort(drawn, kind="stable")[: size or self.size]
        self._kept[name] = rows[lowest], drawn[lowest]

    def rows(self, names: Iterable[tuple[str, Any]]) -> list[int]:
        """The sample of the union of some sets, in the order of the rows."""
        found = [self._kept[name] for name in names if name in self._kept]
        if not found:
            return []
        rows, drawn = (np.concatenate(column) for column in zip(*found, strict=True))
        return sorted(rows[np.argsort(drawn, kind="stable")[: self.size]].tolist())


class ScoreReport:
    """Takes in scored rows and gives the figures of the report.

    Args:
        threshold: what a filter would ask as `min_score`. None: nothing is said about what it would keep.
        samples: rows to read per score band and on either side of the threshold.
        seed: decides which.
    """

    def __init__(self, threshold: float | None = None, samples: int = 10, seed: int = 0):
        self.threshold = threshold
        self.documents = 0
        self.reasons: Counter[str] = Counter()
        self.sampler = Sampler(samples, seed)
        self._scores, self._groups, self._lengths = Sums(), Sums(), Sums()
        self._codes: dict[str, int] = {}
        self._unscorable_groups: Counter[int] = Counter()
        self._kept = np.zeros(2)
        self._total = 0.0
        self._range = [np.inf, -np.inf]
        self.without_tokens = 0
        self.beyond_scale = 0

    def add(self, batch: ScoreBatch) -> None:
        """Count a batch of rows."""
        self.documents += len(batch.scores)
        usable = np.isfinite(batch.scores)
        drawn = self.sampler.draw(len(batch.scores))
        self._add_unscorable(batch, np.flatnonzero(~usable), drawn)
        scores, tokens = batch.scores[usable], _lengths(batch.tokens[usable])
        if len(scores):
            self._add_scores(scores, tokens)
            self._sample(scores, batch.first + np.flatnonzero(usable), drawn[usable])
        if batch.groups is not None:
            self._add_groups(batch.groups, batch.values, usable, scores, tokens)

    def figures(self) -> dict[str, Any]:
        """All numbers of the report; JSON values only."""
        bins, sums = self._scores.result()
        documents = int(sums[:, 0].sum())
        first, width, count = bars(bins, sums[:, 0])
        return {
            "threshold": self.threshold,
            "documents": self.documents,
            "scored": documents,
            "unscorable": self.reasons.total(),
            "tokens": int(sums[:, 1].sum()),
            "documents_without_tokens": self.without_tokens,
            "documents_beyond_scale": self.beyond_scale,
            "kept": kept_figures(self._kept, self.documents, sums[:, 1].sum()) if self.threshold is not None else None,
            "scores": self._summary(bins, sums),
            "histogram": histogram(bins, sums, first, width, count),
            "thresholds": thresholds(bins, sums, self.documents, first, width, count),
            "groups": self._group_figures(first, width, count),
            "lengths": self._length_figures(first, width, count),
            "reasons": dict(self.reasons.most_common()),
        }

    def to_read(self) -> list[dict[str, Any]]:
        """Which rows to show, as sections of `title`, `kind` and `rows` (their numbers); lowest band first."""
        sections = []
        if self.threshold is not None:
            for side, words in (("below", "Just below"), ("above", "Just above")):
                rows = self.sampler.rows([(SIDE, side)])
                sections.append({"title": f"{words} the threshold", "kind": side, "rows": rows})
        bands = [value for kind, value in self.sampler.names if kind == BAND]
        width = next(width for width in BAND_WIDTHS if len({band // width for band in bands}) <= MOST_BANDS)
        for low in sorted({band // width * width for band in bands}):
            rows = self.sampler.rows((BAND, band) for band in bands if band // width * width == low)
            sections.append({"title": f"Scores from {low} to {low + width}", "kind": "band", "rows": rows})
        return sections

    def reason_rows(self) -> dict[str, int]:
        """One row for each reason for which a document has no score."""
        return {reason: self.sampler.rows([(REASON_OF, reason)])[0] for reason, _ in self.reasons.most_common()}

    def _add_unscorable(self, batch: ScoreBatch, places: np.ndarray, drawn: np.ndarray) -> None:
        for place in places.tolist():
            reason = batch.errors[place].partition(":")[0]
            reason = reason if re.fullmatch(REASON, reason) else "other"
            if not self.reasons[reason]:
                self.sampler.add((REASON_OF, reason), np.array([batch.first + place]), drawn[[place]], size=1)
            self.reasons[reason] += 1

    def _add_scores(self, scores: np.ndarray, tokens: np.ndarray) -> None:
        bins = score_bins(scores)
        self._scores.add(bins, tokens, scores)
        known = ~np.isnan(tokens)
        lengths = np.floor(np.log2(np.maximum(tokens[known], 1))).astype(np.int64)
        self._lengths.add(_joined(lengths, bins[known]), tokens[known], scores[known])
        self.without_tokens += int(np.isnan(tokens).sum())
        self.beyond_scale += int((np.abs(scores) > MOST_SCORE).sum())
        self._total += float(scores.sum())
        self._range = [min(self._range[0], scores.min()), max(self._range[1], scores.max())]
        if self.threshold is not None:
            kept = scores >= self.threshold
            self._kept += kept.sum(), np.nansum(tokens[kept])

    def _sample(self, scores: np.ndarray, rows: np.ndarray, drawn: np.ndarray) -> None:
        bands = np.floor(np.clip(scores, -MOST_SCORE, MOST_SCORE)).astype(int)
        for band in np.unique(bands).tolist():
            here = bands == band
            self.sampler.add((BAND, band), rows[here], drawn[here])
        if self.threshold is not None:
            above = (scores >= self.threshold) & (scores < self.threshold + NEAR)
            below = (scores < self.threshold) & (scores >= self.threshold - NEAR)
            for side, here in (("above", above), ("below", below)):
                if here.any():
                    self.sampler.add((SIDE, side), rows[here], drawn[here])

    def _add_groups(
        self, groups: np.ndarray, values: tuple[str, ...], usable: np.ndarray, scores: np.ndarray, tokens: np.ndarray
    ) -> None:
        found, places = np.unique(groups, return_inverse=True)
        codes = np.array([self._code(values[at]) for at in found.tolist()], np.int64)[places]
        self._unscorable_groups.update(codes[~usable].tolist())
        kept = scores >= (np.inf if self.threshold is None else self.threshold)
        self._groups.add(_joined(codes[usable] * 2 + kept, score_bins(scores) // GROUP_BIN), tokens, scores)

    def _code(self, value: str) -> int:
        """A number for a value; 0 for all that come after the first million."""
        if value not in self._codes and len(self._codes) >= MOST_GROUPS:
            return 0
        return self._codes.setdefault(value, len(self._codes) + 1)

    def _summary(self, bins: np.ndarray, sums: np.ndarray) -> dict[str, Any] | None:
        """Mean, range, and quantiles to the 0.01 of a bin."""
        count = sums[:, 0].sum()
        if not count:
            return None
        return {
            "mean": float(self._total / count),
            "min": float(self._range[0]),
            "max": float(self._range[1]),
            "quantiles": quantiles(bins, sums),
        }

    def _group_figures(self, first: int, width: int, count: int) -> dict[str, Any] | None:
        """The commonest values, then all others together."""
        if not self._codes:
            return None
        keys, sums = self._groups.result()
        codes, bins = _parted(keys)
        totals = np.bincount(codes // 2, weights=sums[:, 0], minlength=len(self._codes) + 1)
        for code, unscorable in self._unscorable_groups.items():
            totals[code] += unscorable
        shown = (np.argsort(-totals[1:], kind="stable")[:SHOWN_GROUPS] + 1).tolist()
        names = list(self._codes)
        rows = [self._group(names[code - 1], [code], codes, bins, sums, (first, width, count)) for code in shown]
        rest = sorted(set(np.flatnonzero(totals).tolist()) - set(shown))
        if rest:
            rows.append(self._group(OTHER_VALUES, rest, codes, bins, sums, (first, width, count)))
        return {"distinct": len(names), "more": bool(totals[0]), "not_shown": len(rest), "values": rows}

    def _group(
        self,
        name: str,
        wanted: list[int],
        codes: np.ndarray,
        bins: np.ndarray,
        sums: np.ndarray,
        shape: tuple[int, int, int],
    ) -> dict[str, Any]:
        here = np.isin(codes // 2, wanted)
        bins, kept, sums = bins[here] * GROUP_BIN, codes[here] % 2 == 1, sums[here]
        scored, tokens, score = sums.sum(axis=0)
        unscorable = sum(self._unscorable_groups[code] for code in wanted)
        documents = int(scored) + unscorable
        return {
            "value": name,
            "documents": documents,
            "unscorable": unscorable,
            "tokens": int(tokens),
            "mean": float(score / scored) if scored else None,
            "kept": kept_figures(sums[kept].sum(axis=0), documents, tokens) if self.threshold is not None else None,
            "histogram": histogram(bins, sums, *shape),
        }

    def _length_figures(self, first: int, width: int, count: int) -> dict[str, Any] | None:
        """Documents by length in tokens (rows, doubling) and by score (columns)."""
        keys, sums = self._lengths.result()
        if not len(keys):
            return None
        lengths, bins = _parted(keys)
        while count > 24:
            first, width, count = first // (2 * width) * 2 * width, 2 * width, count // 2 + 1
        columns = np.clip((bins - first) // width, 0, count - 1)
        grid = np.zeros((lengths.max() - lengths.min() + 1, count))
        np.add.at(grid, (lengths - lengths.min(), columns), sums[:, 0])
        return {
            "from_tokens": [2**power for power in range(lengths.min(), lengths.max() + 1)],
            "from_score": [(first + width * step) / BINS_PER_POINT for step in range(count)],
            "width": width / BINS_PER_POINT,
            "documents": grid.astype(int).tolist(),
        }


def score_bins(scores: np.ndarray) -> np.ndarray:
    """The bin k of each score, with k / 100 <= score < (k + 1) / 100 as floats compare."""
    scores = np.clip(scores, -MOST_SCORE, MOST_SCORE)
    bins = np.floor(scores * BINS_PER_POINT)
    bins += scores >= (bins + 1) / BINS_PER_POINT
    bins -= scores < bins / BINS_PER_POINT
    return bins.astype(np.int64)


def _lengths(tokens: np.ndarray) -> np.ndarray:
    """Lengths that can be added up; NaN for what is none."""
    return np.where((tokens >= 0) & (tokens <= MOST_TOKENS), tokens, np.nan)


# Two whole numbers in one key: any, and a bin.
_BINS = 2 * int(MOST_SCORE) * BINS_PER_POINT + 3


def _joined(outer: np.ndarray, bins: np.ndarray) -> np.ndarray:
    return outer * _BINS + bins + _BINS // 2


def _parted(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return keys // _BINS, keys % _BINS - _BINS // 2


def bars(bins: np.ndarray, documents: np.ndarray) -> tuple[int, int, int]:
    """Where the bars of a histogram begin, in fine bins, how wide they are, and how many.

    One document in a thousand at either end may lie outside, so that one odd score does not make all others one bar.
    """
    if not len(bins):
        return 0, BINS_PER_POINT, 1
    below = np.cumsum(documents)
    low = bins[np.searchsorted(below, 0.001 * below[-1], side="right")]
    high = bins[np.searchsorted(below, 0.999 * below[-1])]
    width = next(w for w in BAR_WIDTHS if high // w - low // w < MOST_BARS)
    return int(low // width * width), width, int(high // width - low // width + 1)


def histogram(bins: np.ndarray, sums: np.ndarray, first: int, width: int, count: int) -> dict[str, Any]:
    """Documents and tokens by bar; what lies beyond the bars is in the first and the last one."""
    places = (bins - first) // width
    outside = int(sums[(places < 0) | (places >= count), 0].sum())
    places = np.clip(places, 0, count - 1)
    return {
        "from": [(first + width * step) / BINS_PER_POINT for step in range(count)],
        "width": width / BINS_PER_POINT,
        "documents": np.bincount(places, sums[:, 0], count).astype(int).tolist(),
        "tokens": np.bincount(places, sums[:, 1], count).astype(int).tolist(),
        "outside": outside,
    }


def thresholds(
    bins: np.ndarray, sums: np.ndarray, documents: int, first: int, width: int, count: int
) -> list[dict[str, Any]]:
    """What would be kept from each edge of the bars on: of all documents, and of all tokens that were counted."""
    above = np.vstack([np.cumsum(sums[::-1, :2], axis=0)[::-1], np.zeros((1, 2))])
    table = []
    for edge in (first + width * step for step in range(count + 1)):
        kept, tokens = above[np.searchsorted(bins, edge)]
        shares = {"documents_share": share(kept, documents), "tokens_share": share(tokens, above[0, 1])}
        table.append({"threshold": edge / BINS_PER_POINT, "documents": int(kept), "tokens": int(tokens), **shares})
    return table


def quantiles(bins: np.ndarray, sums: np.ndarray) -> dict[str, float]:
    """Scores by the share of documents that lie below them, to the 0.01 of a bin."""
    places = np.searchsorted(np.cumsum(sums[:, 0]), np.array(QUANTILES) * sums[:, 0].sum())
    values = bins[np.minimum(places, len(bins) - 1)] / BINS_PER_POINT
    return {str(q): float(value) for q, value in zip(QUANTILES, values, strict=True)}


def kept_figures(kept: np.ndarray, documents: int, tokens: float) -> dict[str, Any]:
    """Documents and tokens that are kept, the first two of the sums, and their shares of all."""
    return {
        "documents": int(kept[0]),
        "documents_share": share(kept[0], documents),
        "tokens": int(kept[1]),
        "tokens_share": share(kept[1], tokens),
    }


def share(part: float, whole: float) -> float | None:
    """A part of a whole; None where there is no whole."""
    return float(part / whole) if whole else None
