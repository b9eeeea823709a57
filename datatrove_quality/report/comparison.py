"""Two runs over the same documents -> how many decisions differ, how scores moved, and which rows to read."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from datatrove_quality.report.aggregate import QUANTILES, share


@dataclass
class ScoreIndex:
    """Scores by id, as far as a comparison needs them: 16 bytes a row, ids by their 64-bit hashes.

    Args:
        threshold: what decides which documents are kept; None: nothing does.
    """

    threshold: float | None
    missing: int = 0
    _hashes: list[np.ndarray] = field(default_factory=list)
    _scores: list[np.ndarray] = field(default_factory=list)

    def add(self, ids: list[Any], scores: np.ndarray) -> None:
        """Take in rows; an id may be of any type, and None is none."""
        self.missing += ids.count(None)
        self._hashes.append(np.fromiter((0 if i is None else hash(str(i)) or 1 for i in ids), np.int64, len(ids)))
        self._scores.append(scores)

    def first_of_each(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """Each id's hash, score and row number, of its first row; and how many rows repeat an id."""
        hashes = np.concatenate([np.zeros(0, np.int64), *self._hashes])
        scores = np.concatenate([np.zeros(0), *self._scores])
        found, rows = np.unique(hashes, return_index=True)
        found, rows = found[found != 0], rows[found != 0]
        return found, scores[rows], rows, len(hashes) - self.missing - len(found)


def compare(a: ScoreIndex, b: ScoreIndex, samples: int, seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """How the scores and decisions of run B differ from those of run A over the same ids.

    Args:
        a: the run that is reported.
        b: the run that it is compared with.
        samples: examples per kind of change.
        seed: decides which.

    Returns:
        The figures, JSON values only; and sections of `title`, `kind`, `rows` of A and `others`, the scores in B.
    """
    (hashes_a, scores_a, rows_a, repeated_a), (hashes_b, scores_b, _, repeated_b) = (
        a.first_of_each(),
        b.first_of_each(),
    )
    _, at_a, at_b = np.intersect1d(hashes_a, hashes_b, assume_unique=True, return_indices=True)
    order = np.argsort(rows_a[at_a])
    rows, was, now = rows_a[at_a][order], scores_b[at_b][order], scores_a[at_a][order]
    scored = np.isfinite(was) & np.isfinite(now)
    moved = np.where(scored, now - was, 0.0)
    figures = {
        "documents_in_both": len(rows),
        "only_here": len(hashes_a) - len(rows),
        "only_there": len(hashes_b) - len(rows),
        "repeated_ids": {"here": repeated_a, "there": repeated_b},
        "without_id": {"here": a.missing, "there": b.missing},
        "thresholds": {"here": a.threshold, "there": b.threshold},
        "scored_in_one_only": {
            "here": int((np.isfinite(now) & ~np.isfinite(was)).sum()),
            "there": int((~np.isfinite(now) & np.isfinite(was)).sum()),
        },
        "moved": _moves(moved[scored]),
    }
    largest = np.argsort(-np.abs(moved), kind="stable")[:samples]
    kinds = {"The largest changes": largest[moved[largest] != 0]}
    if a.threshold is not None and b.threshold is not None:
        kept_now, kept_was = now >= a.threshold, was >= b.threshold
        gained, lost = np.flatnonzero(kept_now & ~kept_was), np.flatnonzero(kept_was & ~kept_now)
        figures["decisions"] = {
            "kept_in_both": int((kept_now & kept_was).sum()),
            "dropped_in_both": int((~kept_now & ~kept_was).sum()),
            "kept_here_only": len(gained),
            "kept_there_only": len(lost),
            "differ_share": share(len(gained) + len(lost), len(rows)),
        }
        random = np.random.default_rng(seed)
        picked = {"Kept here, dropped there": gained, "Dropped here, kept there": lost}
        kinds = {
            title: np.sort(random.choice(places, min(samples, len(places)), replace=False))
            for title, places in picked.items()
        } | kinds
    sections = [
        {"title": title, "kind": "flip", "rows": rows[places].tolist(), "others": was[places].tolist()}
        for title, places in kinds.items()
    ]
    return figures, sections


def _moves(moved: np.ndarray) -> dict[str, Any] | None:
    """By how much scores differ, here minus there."""
    if not len(moved):
        return None
    quantiles = np.quantile(moved, QUANTILES)
    return {
        "documents": len(moved),
        "changed": int((moved != 0).sum()),
        "mean": float(moved.mean()),
        "mean_size": float(np.abs(moved).mean()),
        "largest_size": float(np.abs(moved).max()),
        "lowest": float(moved.min()),
        "highest": float(moved.max()),
        "quantiles": {str(q): float(value) for q, value in zip(QUANTILES, quantiles, strict=True)},
    }
