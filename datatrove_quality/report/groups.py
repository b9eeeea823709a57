"""Scored rows by the values of a column -> documents, tokens, kept shares and a histogram of each value."""

from collections import Counter

import numpy as np

from datatrove_quality.report.figures import Group, Groups
from datatrove_quality.report.histograms import Bars, histogram, kept_of, score_bins
from datatrove_quality.report.sums import Sums, joined, parted
from datatrove_quality.rows.column_values import OTHER_VALUES


GROUP_BIN = 5  # bins in one bin of a group's histogram; divides every width of a bar
MAX_GROUPS = 1_000_000  # values that are counted separately
SHOWN_GROUPS = 50


class GroupCounts:
    """Counts rows by the values of a column.

    Args:
        threshold: the lowest score that is kept; None: nothing is said about what is kept.
    """

    def __init__(self, threshold: float | None):
        self.threshold = threshold
        self._codes: dict[str, int] = {}  # from 1; 0 is for all values after the first million
        self._sums = Sums()  # by code, whether the threshold keeps it, and bin
        self._unscorable: Counter[int] = Counter()

    def add(
        self, groups: np.ndarray, values: tuple[str, ...], usable: np.ndarray, scores: np.ndarray, tokens: np.ndarray
    ) -> None:
        """Count rows.

        Args:
            groups: (n,) an index into `values` for each row.
            values: of the column.
            usable: (n,) whether the row has a score.
            scores: (m,) of the rows that have one.
            tokens: (m,) of the same rows; NaN: not known.
        """
        found, places = np.unique(groups, return_inverse=True)
        codes = np.array([self._code(values[at]) for at in found.tolist()], np.int64)[places]
        self._unscorable.update(codes[~usable].tolist())
        kept = scores >= (np.inf if self.threshold is None else self.threshold)
        self._sums.add(joined(codes[usable] * 2 + kept, score_bins(scores) // GROUP_BIN), tokens, scores)

    def figures(self, bars: Bars) -> Groups | None:
        """The most common values, then all others together; None: no row was counted.

        Args:
            bars: of the histogram of all documents.
        """
        if not self._codes:
            return None
        keys, sums = self._sums.result()
        codes, bins = parted(keys)
        totals = np.bincount(codes // 2, weights=sums[:, 0], minlength=len(self._codes) + 1)
        for code, unscorable in self._unscorable.items():
            totals[code] += unscorable
        shown = (np.argsort(-totals[1:], kind="stable")[:SHOWN_GROUPS] + 1).tolist()
        rest = sorted(set(np.flatnonzero(totals).tolist()) - set(shown))
        names = list(self._codes)
        wanted = [(names[code - 1], [code]) for code in shown] + ([(OTHER_VALUES, rest)] if rest else [])
        values = []
        for name, its_codes in wanted:
            here = np.isin(codes // 2, its_codes)
            unscorable = sum(self._unscorable[code] for code in its_codes)
            values.append(
                self._group(name, bins[here] * GROUP_BIN, codes[here] % 2 == 1, sums[here], unscorable, bars)
            )
        return Groups(distinct=len(names), more=bool(totals[0]), not_shown=len(rest), values=values)

    def _group(
        self, name: str, bins: np.ndarray, kept: np.ndarray, sums: np.ndarray, unscorable: int, bars: Bars
    ) -> Group:
        scored, tokens, score = sums.sum(axis=0)
        documents = int(scored) + unscorable
        return Group(
            value=name,
            documents=documents,
            unscorable=unscorable,
            tokens=int(tokens),
            mean=float(score / scored) if scored else None,
            kept=kept_of(sums[kept].sum(axis=0), documents, tokens) if self.threshold is not None else None,
            histogram=histogram(bins, sums, bars),
        )

    def _code(self, value: str) -> int:
        if value not in self._codes and len(self._codes) >= MAX_GROUPS:
            return 0
        return self._codes.setdefault(value, len(self._codes) + 1)
