"""Scored rows -> the numbers of a report: histograms, kept shares, groups, lengths, and rows to read.

    batches of rows ── ScoreCounts.add ──> sums by score, group and length; samples ── ScoreCounts.figures ──> Figures

Nothing here grows with the number of rows.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from datatrove_quality.config import Unscorable
from datatrove_quality.report.figures import Figures, Lengths, ScoreSummary
from datatrove_quality.report.groups import GroupCounts
from datatrove_quality.report.histograms import (
    BINS_PER_POINT,
    MAX_SCORE,
    Bars,
    bars_for,
    histogram,
    kept_of,
    quantiles,
    score_bins,
    thresholds,
)
from datatrove_quality.report.sampling import ScoreSamples
from datatrove_quality.report.sums import Sums, joined, parted


MAX_TOKENS = 1e12  # a larger number is no length
MAX_COLUMNS = 24  # of the table of lengths


@dataclass(frozen=True)
class ScoreBatch:
    """The parts of some rows that the numbers need.

    Args:
        first: the number of the first row among all rows read; the others follow.
        scores: (n,) float64; NaN: the row has no usable score.
        tokens: (n,) float64; NaN: not known.
        errors: why a row has no score, `"<reason>: <message>"`, by its place in the batch; of each row without one
            that no proxy has decided.
        proxy_scores: by which a cascade's proxy has decided a row, likewise; NaN: not known.
        groups: (n,) an index into `values` for each row; None: rows are not grouped.
        values: to group by.
        ids: of the rows, of any type; empty: they were not read.
    """

    first: int
    scores: np.ndarray
    tokens: np.ndarray
    errors: dict[int, str]
    groups: np.ndarray | None = None
    values: tuple[str, ...] = ()
    ids: tuple[Any, ...] = ()
    proxy_scores: dict[int, float] = field(default_factory=dict)

    def kept(self, threshold: float | None, proxy_keeps_above: float | None) -> np.ndarray | None:
        """Whether each row is kept, (n,); None: it is not known of all.

        Args:
            threshold: the lowest score that is kept; None: there is none.
            proxy_keeps_above: the score above which the proxy kept what it decided; None: not known.
        """
        if threshold is None:
            return None
        kept = np.isfinite(self.scores) & (self.scores >= threshold)
        for place, score in self.proxy_scores.items():
            if proxy_keeps_above is None or np.isnan(score):
                return None
            kept[place] = score > proxy_keeps_above
        return kept


class ScoreCounts:
    """Counts scored rows and samples them.

    Args:
        threshold: the `min_score` of a filter; None: nothing is said about what it would keep.
        samples: rows to read per score band and on either side of the threshold.
        seed: decides which.
        proxy_keeps_above: the score above which a cascade's proxy kept what it decided, with that threshold; None: not
            known. If it has decided any, nothing is said about what is kept.
    """

    def __init__(self, threshold: float | None, samples: int, seed: int, proxy_keeps_above: float | None = None):
        self.threshold = threshold
        self.proxy_keeps_above = proxy_keeps_above
        self.documents = 0
        self.reasons: Counter[str] = Counter()
        self.samples = ScoreSamples(threshold, samples, seed)
        self.first_of_reason: dict[str, int] = {}  # the number of a row
        self._groups = GroupCounts()
        self._scores, self._lengths = Sums(), Sums()
        self._kept: np.ndarray | None = None if threshold is None else np.zeros(2)
        self._decided = np.zeros(2)  # by a proxy: documents and tokens
        self._total = 0.0
        self._range = [np.inf, -np.inf]
        self._without_tokens = 0
        self._beyond_scale = 0

    def add(self, batch: ScoreBatch) -> None:
        """Count a batch of rows."""
        self.documents += len(batch.scores)
        usable = np.isfinite(batch.scores)
        decided = np.isin(np.arange(len(usable)), list(batch.proxy_scores))
        drawn = self.samples.draw(len(batch.scores))
        self._add_unscorable(batch, np.flatnonzero(~usable & ~decided))
        lengths = _lengths(batch.tokens)
        self._decided += decided.sum(), np.nansum(lengths[decided])
        kept = batch.kept(self.threshold, self.proxy_keeps_above)
        if kept is None:
            self._kept = None
        elif self._kept is not None:
            self._kept += kept.sum(), np.nansum(lengths[kept])
        scores, tokens = batch.scores[usable], lengths[usable]
        if len(scores):
            self._add_scores(scores, tokens)
            self.samples.add_scored(scores, batch.first + np.flatnonzero(usable), drawn[usable])
        if batch.groups is not None:
            self._groups.add(batch, lengths, usable, decided, kept)

    def figures(self) -> Figures:
        """All numbers of the rows that were counted."""
        bins, sums = self._scores.result()
        bars = bars_for(bins, sums[:, 0])
        tokens = sums[:, 1].sum() + self._decided[1]
        decided = int(self._decided[0])
        return Figures(
            threshold=self.threshold,
            documents=self.documents,
            scored=int(sums[:, 0].sum()),
            decided_by_proxy=decided,
            unscorable=self.reasons.total(),
            tokens=int(tokens),
            documents_without_tokens=self._without_tokens,
            documents_beyond_scale=self._beyond_scale,
            kept=None if self._kept is None else kept_of(self._kept, self.documents, tokens),
            scores=self._summary(bins, sums),
            histogram=histogram(bins, sums, bars),
            thresholds=[] if decided else thresholds(bins, sums, self.documents, bars),
            groups=self._groups.figures(bars, self._kept is not None),
            lengths=self._length_figures(bars),
            reasons=dict(self.reasons.most_common()),
        )

    def _add_unscorable(self, batch: ScoreBatch, places: np.ndarray) -> None:
        for place in places.tolist():
            error = Unscorable.from_text(batch.errors[place])
            reason = "other" if error is None else error.reason
            self.first_of_reason.setdefault(reason, batch.first + place)
            self.reasons[reason] += 1

    def _add_scores(self, scores: np.ndarray, tokens: np.ndarray) -> None:
        bins = score_bins(scores)
        self._scores.add(bins, tokens, scores)
        known = ~np.isnan(tokens)
        lengths = np.floor(np.log2(np.maximum(tokens[known], 1))).astype(np.int64)
        self._lengths.add(joined(lengths, bins[known]), tokens[known], scores[known])
        self._without_tokens += int(np.isnan(tokens).sum())
        self._beyond_scale += int((np.abs(scores) > MAX_SCORE).sum())
        self._total += float(scores.sum())
        self._range = [min(self._range[0], scores.min()), max(self._range[1], scores.max())]

    def _summary(self, bins: np.ndarray, sums: np.ndarray) -> ScoreSummary | None:
        count = sums[:, 0].sum()
        if not count:
            return None
        low, high = map(float, self._range)
        return ScoreSummary(mean=float(self._total / count), min=low, max=high, quantiles=quantiles(bins, sums))

    def _length_figures(self, bars: Bars) -> Lengths | None:
        """Documents by length in tokens (rows, doubling) and by score (columns)."""
        keys, sums = self._lengths.result()
        if not len(keys):
            return None
        lengths, bins = parted(keys)
        while bars.count > MAX_COLUMNS:
            width = 2 * bars.width
            bars = Bars(bars.first // width * width, width, bars.count // 2 + 1)
        columns = np.clip((bins - bars.first) // bars.width, 0, bars.count - 1)
        low, high = int(lengths.min()), int(lengths.max())
        grid = np.zeros((high - low + 1, bars.count))
        np.add.at(grid, (lengths - low, columns), sums[:, 0])
        return Lengths(
            from_tokens=[2**power for power in range(low, high + 1)],
            from_score=bars.starts,
            width=bars.width / BINS_PER_POINT,
            documents=grid.astype(int).tolist(),
        )


def _lengths(tokens: np.ndarray) -> np.ndarray:
    """Lengths that can be added up; NaN for an invalid one."""
    return np.where((tokens >= 0) & (tokens <= MAX_TOKENS), tokens, np.nan)
