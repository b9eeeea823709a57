"""Documents, tokens and scores added up by keys, in memory that does not grow with the number of rows."""

import numpy as np

from datatrove_quality.report.histograms import BINS_PER_POINT, MAX_SCORE


class Sums:
    """Documents, tokens and scores added up by integer keys, of which only those that occur take memory."""

    MAX_PENDING = 4_000_000

    def __init__(self) -> None:
        self._parts: list[tuple[np.ndarray, np.ndarray]] = []
        self._pending = 0

    def add(self, keys: np.ndarray, tokens: np.ndarray, scores: np.ndarray) -> None:
        """Add rows, each with its key.

        Args:
            keys: (n,) integers.
            tokens: (n,) NaN counts as 0.
            scores: (n,) finite.
        """
        self._append(keys, np.column_stack([np.ones(len(keys)), np.nan_to_num(tokens), scores]))
        if self._pending > self.MAX_PENDING:
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


# Two integers in one key: any, and a bin.
_BINS = 2 * int(MAX_SCORE) * BINS_PER_POINT + 3


def joined(outer: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """One key for an integer and a bin, each (n,)."""
    return outer * _BINS + bins + _BINS // 2


def parted(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The integers and the bins of keys: what `joined` was given."""
    return keys // _BINS, keys % _BINS - _BINS // 2
