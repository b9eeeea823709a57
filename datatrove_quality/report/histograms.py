"""Scores in bins of 0.01 -> histograms, quantiles, and what each threshold would keep.

The edges of the bins are exactly the floats k / 100: what is counted above an edge is what a filter with that
threshold keeps.
"""

from dataclasses import dataclass

import numpy as np

from datatrove_quality.report.figures import Histogram, Kept, ThresholdRow


BINS_PER_POINT = 100
MAX_SCORE = 1_000.0  # scores beyond count as if they were this
MAX_BARS = 60
BAR_WIDTHS = [5, *(width * 10**power for power in range(6) for width in (10, 25, 50))]  # in bins
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


@dataclass(frozen=True)
class Bars:
    """The bars of a histogram.

    Args:
        first: the bin in which the first begins.
        width: of each, in bins.
        count: how many there are.
    """

    first: int
    width: int
    count: int

    @property
    def starts(self) -> list[float]:
        """The lowest score of each bar."""
        return [(self.first + self.width * step) / BINS_PER_POINT for step in range(self.count)]


def score_bins(scores: np.ndarray) -> np.ndarray:
    """The bin k of each score, with k / 100 <= score < (k + 1) / 100 as floats compare."""
    scores = np.clip(scores, -MAX_SCORE, MAX_SCORE)
    bins = np.floor(scores * BINS_PER_POINT)
    bins += scores >= (bins + 1) / BINS_PER_POINT
    bins -= scores < bins / BINS_PER_POINT
    return bins.astype(np.int64)


def bars_for(bins: np.ndarray, documents: np.ndarray) -> Bars:
    """Bars that show the scores of documents well.

    One document in a thousand at either end may lie outside, so that one odd score does not make all others one bar.

    Args:
        bins: the bins that occur, in order.
        documents: in each of them.
    """
    if not len(bins):
        return Bars(0, BINS_PER_POINT, 1)
    below = np.cumsum(documents)
    low = bins[np.searchsorted(below, 0.001 * below[-1], side="right")]
    high = bins[np.searchsorted(below, 0.999 * below[-1])]
    width = next(w for w in BAR_WIDTHS if high // w - low // w < MAX_BARS)
    return Bars(int(low // width * width), width, int(high // width - low // width + 1))


def histogram(bins: np.ndarray, sums: np.ndarray, bars: Bars) -> Histogram:
    """Documents and tokens by bar; what lies beyond the bars is in the first and the last one.

    Args:
        bins: the bins that occur, in order.
        sums: (n, 2 or more) documents and tokens in each of them.
        bars: of the histogram.
    """
    places = (bins - bars.first) // bars.width
    outside = int(sums[(places < 0) | (places >= bars.count), 0].sum())
    places = np.clip(places, 0, bars.count - 1)
    return Histogram(
        from_=bars.starts,
        width=bars.width / BINS_PER_POINT,
        documents=np.bincount(places, sums[:, 0], bars.count).astype(int).tolist(),
        tokens=np.bincount(places, sums[:, 1], bars.count).astype(int).tolist(),
        outside=outside,
    )


def thresholds(bins: np.ndarray, sums: np.ndarray, documents: int, bars: Bars) -> list[ThresholdRow]:
    """What each edge of the bars would keep as a threshold.

    Args:
        bins: the bins that occur, in order.
        sums: (n, 2 or more) documents and tokens in each of them.
        documents: all of them, those without a score included, of which the shares are.
        bars: of the histogram.
    """
    above = np.vstack([np.cumsum(sums[::-1, :2], axis=0)[::-1], np.zeros((1, 2))])
    table = []
    for edge in (bars.first + bars.width * step for step in range(bars.count + 1)):
        kept, tokens = above[np.searchsorted(bins, edge)]
        table.append(
            ThresholdRow(
                threshold=edge / BINS_PER_POINT,
                documents=int(kept),
                documents_share=share(kept, documents),
                tokens=int(tokens),
                tokens_share=share(tokens, above[0, 1]),
            )
        )
    return table


def quantiles(bins: np.ndarray, sums: np.ndarray) -> dict[str, float]:
    """Scores by the share of documents that lie below them, to the 0.01 of a bin; arguments as `Sums.result` gives."""
    places = np.searchsorted(np.cumsum(sums[:, 0]), np.array(QUANTILES) * sums[:, 0].sum())
    values = bins[np.minimum(places, len(bins) - 1)] / BINS_PER_POINT
    return {str(q): float(value) for q, value in zip(QUANTILES, values, strict=True)}


def kept_of(kept: np.ndarray, documents: int, tokens: float) -> Kept:
    """Documents and tokens that are kept, the first two of the sums, and their shares of all."""
    return Kept(int(kept[0]), share(kept[0], documents), int(kept[1]), share(kept[1], tokens))


def share(part: float, whole: float) -> float | None:
    """A part of a whole; None where there is no whole."""
    return float(part / whole) if whole else None
