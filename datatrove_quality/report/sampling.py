"""Which rows are shown: samples of score bands, and the closest on both sides of the threshold."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from datatrove_quality.report.contents import Picked
from datatrove_quality.report.histograms import MAX_SCORE


MAX_BANDS = 12
BAND_WIDTHS = [width * 10**power for power in range(4) for width in (1, 2, 5)]  # in points

# What a sample is of: an integer score band, or a side of the threshold.
BAND, SIDE = "band", "side"


class Sampler:
    """Keeps a random sample of each of many sets of rows, of the same rows whenever the seed is the same.

    A set is named by what it is a set of and a value: `("band", 3)`. Each row gets a random number, and those with the
    lowest are kept: so the samples of two sets make one of their union. Where rows come with another number, such as a
    distance, those with the lowest of it are kept.

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

    def add(self, name: tuple[str, Any], rows: np.ndarray, drawn: np.ndarray) -> None:
        """Offer rows, by their numbers and what `draw` gave them, both (n,), to the sample of a set."""
        kept_rows, kept_drawn = self._kept.get(name, (rows[:0], drawn[:0]))
        rows, drawn = np.concatenate([kept_rows, rows]), np.concatenate([kept_drawn, drawn])
        lowest = np.argsort(drawn, kind="stable")[: self.size]
        self._kept[name] = rows[lowest], drawn[lowest]

    def rows(self, names: Iterable[tuple[str, Any]]) -> list[int]:
        """The sample of the union of some sets, in the order of the rows."""
        found = [self._kept[name] for name in names if name in self._kept]
        if not found:
            return []
        rows, drawn = (np.concatenate(column) for column in zip(*found, strict=True))
        return sorted(rows[np.argsort(drawn, kind="stable")[: self.size]].tolist())


class ScoreSamples:
    """Samples of the rows with a score.

    Args:
        threshold: on both sides of which the closest rows are taken; None: no threshold.
        size: the most rows per score band, and on either side of the threshold.
        seed: decides the samples.
    """

    def __init__(self, threshold: float | None, size: int, seed: int):
        self.threshold = threshold
        self._sampler = Sampler(size, seed)

    def draw(self, count: int) -> np.ndarray:
        """A random number for each of the next rows."""
        return self._sampler.draw(count)

    def add_scored(self, scores: np.ndarray, rows: np.ndarray, drawn: np.ndarray) -> None:
        """Offer rows with their finite scores and random numbers, each of shape (n,)."""
        bands = np.floor(np.clip(scores, -MAX_SCORE, MAX_SCORE)).astype(int)
        for band in np.unique(bands).tolist():
            here = bands == band
            self._sampler.add((BAND, band), rows[here], drawn[here])
        if self.threshold is not None:
            above = scores >= self.threshold
            # Sorted by the distance; of equal distances, which whole numbers have, by the random number: numpy sorts
            # complex numbers so.
            closeness = np.abs(scores - self.threshold) + 1j * drawn
            for side, here in (("above", above), ("below", ~above)):
                if here.any():
                    self._sampler.add((SIDE, side), rows[here], closeness[here])

    def of_scores(self) -> list[Picked]:
        """The rows to show: below and above the threshold, then by score band, the lowest band first."""
        sections = []
        if self.threshold is not None:
            for side in ("below", "above"):
                sections.append(Picked(f"Just {side} the threshold", self._sampler.rows([(SIDE, side)])))
        bands = [value for kind, value in self._sampler.names if kind == BAND]
        width = next(width for width in BAND_WIDTHS if len({band // width for band in bands}) <= MAX_BANDS)
        for low in sorted({band // width * width for band in bands}):
            rows = self._sampler.rows((BAND, band) for band in bands if band // width * width == low)
            sections.append(Picked(f"Scores from {low} to {low + width}", rows))
        return sections
