"""Scored rows by the values of a column -> documents, tokens, kept shares and a histogram of each value."""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from datatrove_quality.report.figures import Group, Groups
from datatrove_quality.report.histograms import Bars, histogram, kept_of, score_bins
from datatrove_quality.report.sums import Sums, joined, parted
from datatrove_quality.rows.column_values import OTHER_VALUES


if TYPE_CHECKING:
    from datatrove_quality.report.aggregate import ScoreBatch

GROUP_BIN = 5  # bins in one bin of a group's histogram; divides every width of a bar
MAX_GROUPS = 1_000_000  # values that are counted separately
SHOWN_GROUPS = 50


class GroupCounts:
    """Counts rows by the values of a column."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}  # from 1; 0 is for all values after the first million
        self._sums = Sums()  # by code, whether it is kept, and bin
        self._decided = Sums()  # likewise, of documents that a proxy has decided: all in one bin
        self._unscorable: Counter[int] = Counter()

    def add(
        self,
        batch: "ScoreBatch",
        tokens: np.ndarray,
        usable: np.ndarray,
        decided: np.ndarray,
        kept: np.ndarray | None,
    ) -> None:
        """Count rows.

        Args:
            batch: the rows, with a value each.
            tokens: (n,) NaN: not known.
            usable: (n,) whether the row has a score.
            decided: (n,) whether a proxy has decided it.
            kept: (n,) whether it is kept; None: not known.
        """
        assert batch.groups is not None
        found, places = np.unique(batch.groups, return_inverse=True)
        codes = np.array([self._code(batch.values[at]) for at in found.tolist()], np.int64)[places]
        self._unscorable.update(codes[~usable & ~decided].tolist())
        keys, scores = codes * 2 + (np.zeros(len(codes), bool) if kept is None else kept), batch.scores
        self._sums.add(joined(keys[usable], score_bins(scores[usable]) // GROUP_BIN), tokens[usable], scores[usable])
        nothing = np.zeros(int(decided.sum()))
        self._decided.add(joined(keys[decided], nothing.astype(np.int64)), tokens[decided], nothing)

    def figures(self, bars: Bars, kept_known: bool) -> Groups | None:
        """The most common values, then all others together; None: no row was counted.

        Args:
            bars: of the histogram of all documents.
            kept_known: whether it is known of all rows if they are kept.
        """
        if not self._codes:
            return None
        scored, decided = (_Parted.of(sums) for sums in (self._sums, self._decided))
        totals = scored.documents(len(self._codes) + 1) + decided.documents(len(self._codes) + 1)
        for code, unscorable in self._unscorable.items():
            totals[code] += unscorable
        shown = (np.argsort(-totals[1:], kind="stable")[:SHOWN_GROUPS] + 1).tolist()
        rest = sorted(set(np.flatnonzero(totals).tolist()) - set(shown))
        names = list(self._codes)
        wanted = [(names[code - 1], [code]) for code in shown] + ([(OTHER_VALUES, rest)] if rest else [])
        values = [
            _group(
                name,
                scored.at(codes),
                decided.at(codes),
                sum(self._unscorable[code] for code in codes),
                bars,
                kept_known,
            )
            for name, codes in wanted
        ]
        return Groups(distinct=len(names), more=bool(totals[0]), not_shown=len(rest), values=values)

    def _code(self, value: str) -> int:
        if value not in self._codes and len(self._codes) >= MAX_GROUPS:
            return 0
        return self._codes.setdefault(value, len(self._codes) + 1)


@dataclass(frozen=True)
class _Parted:
    """Sums by code, whether they are kept, and bin; each of shape (n,), the sums (n, 3)."""

    codes: np.ndarray
    kept: np.ndarray
    bins: np.ndarray
    sums: np.ndarray

    @classmethod
    def of(cls, sums: Sums) -> "_Parted":
        keys, values = sums.result()
        codes, bins = parted(keys)
        return cls(codes // 2, codes % 2 == 1, bins, values)

    def documents(self, size: int) -> np.ndarray:
        """The documents of each code, (size,)."""
        return np.bincount(self.codes, weights=self.sums[:, 0], minlength=size)

    def at(self, codes: list[int]) -> "_Parted":
        """Those of some codes."""
        here = np.isin(self.codes, codes)
        return _Parted(self.codes[here], self.kept[here], self.bins[here], self.sums[here])


def _group(name: str, scored: _Parted, decided: _Parted, unscorable: int, bars: Bars, kept_known: bool) -> Group:
    count, _, score = scored.sums.sum(axis=0)
    documents = int(count + decided.sums[:, 0].sum()) + unscorable
    tokens = scored.sums[:, 1].sum() + decided.sums[:, 1].sum()
    kept = scored.sums[scored.kept].sum(axis=0) + decided.sums[decided.kept].sum(axis=0)
    return Group(
        value=name,
        documents=documents,
        unscorable=unscorable,
        tokens=int(tokens),
        mean=float(score / count) if count else None,
        kept=kept_of(kept, documents, tokens) if kept_known else None,
        histogram=histogram(scored.bins * GROUP_BIN, scored.sums, bars),
    )
