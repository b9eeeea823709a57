"""Two runs over the same documents -> how many decisions differ, how scores moved, and which rows to read."""

from dataclasses import dataclass, field

import numpy as np

from datatrove_quality.report.aggregate import ScoreBatch
from datatrove_quality.report.contents import Comparison, Decisions, Moves, OfBoth, Picked
from datatrove_quality.report.histograms import QUANTILES, share


@dataclass
class ScoreIndex:
    """Scores by id, as far as a comparison needs them: 20 bytes a row, ids by their 64-bit hashes.

    Args:
        threshold: the lowest score that is kept; None: no threshold.
        proxy_keeps_above: see `ScoreBatch.kept`.
    """

    threshold: float | None
    proxy_keeps_above: float | None = None
    kept_known: bool = True
    missing: int = 0
    _hashes: list[np.ndarray] = field(default_factory=list)
    _scores: list[np.ndarray] = field(default_factory=list)
    _tokens: list[np.ndarray] = field(default_factory=list)
    _kept: list[np.ndarray] = field(default_factory=list)

    def add(self, batch: ScoreBatch) -> None:
        """Add rows, with their ids; None: the row has none."""
        ids, scores, tokens = batch.ids, batch.scores, batch.tokens
        kept = batch.kept(self.threshold, self.proxy_keeps_above)
        self.kept_known = self.kept_known and kept is not None
        self._kept.append(np.zeros(len(scores), bool) if kept is None else kept)
        self.missing += sum(i is None for i in ids)
        self._hashes.append(np.fromiter((0 if i is None else hash(str(i)) or 1 for i in ids), np.int64, len(ids)))
        self._scores.append(scores)
        self._tokens.append(np.nan_to_num(tokens, nan=-1).astype(np.int32))

    def first_of_each(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """Each id's hash, score and row number, of its first row; and how many rows repeat an id."""
        hashes = np.concatenate([np.zeros(0, np.int64), *self._hashes])
        scores = np.concatenate([np.zeros(0), *self._scores])
        found, rows = np.unique(hashes, return_index=True)
        found, rows = found[found != 0], rows[found != 0]
        return found, scores[rows], rows, len(hashes) - self.missing - len(found)

    def kept_of(self, rows: np.ndarray) -> np.ndarray | None:
        """Whether rows are kept; None: it is not known of all."""
        return np.concatenate([np.zeros(0, bool), *self._kept])[rows] if self.kept_known else None

    def tokens_of(self, rows: np.ndarray) -> np.ndarray:
        """How many tokens rows have; -1: not known."""
        return np.concatenate([np.zeros(0, np.int32), *self._tokens])[rows]


@dataclass(frozen=True)
class _Pairs:
    """The documents in both runs, in the order of A's rows."""

    rows: np.ndarray  # of A
    now: np.ndarray  # scores in A; NaN: none
    was: np.ndarray  # scores in B
    has_other_tokens: np.ndarray  # whether both runs know how many tokens it has, and they differ
    kept_now: np.ndarray | None  # whether A keeps it; None: not known of all
    kept_was: np.ndarray | None  # the same of B

    @property
    def moved(self) -> np.ndarray:
        """By how much each score differs; 0 where one is missing."""
        return np.where(self.scored, self.now - self.was, 0.0)

    @property
    def scored(self) -> np.ndarray:
        return np.isfinite(self.was) & np.isfinite(self.now)

    def kept(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Whether A and B keep each document; None: it is not known."""
        return None if self.kept_now is None or self.kept_was is None else (self.kept_now, self.kept_was)


def compare(a: ScoreIndex, b: ScoreIndex, samples: int, seed: int) -> tuple[Comparison, list[Picked]]:
    """How the scores and decisions of run A differ from those of run B over the same ids.

    Args:
        a: the run that is reported.
        b: the run that it is compared with.
        samples: examples per kind of change.
        seed: decides which.

    Returns:
        The numbers, and rows of A to read.
    """
    hashes_a, scores_a, rows_a, repeated_a = a.first_of_each()
    hashes_b, scores_b, rows_b, repeated_b = b.first_of_each()
    _, at_a, at_b = np.intersect1d(hashes_a, hashes_b, assume_unique=True, return_indices=True)
    order = np.argsort(rows_a[at_a])
    at_a, at_b = at_a[order], at_b[order]
    keeps_from = OfBoth(a.threshold, b.threshold)
    tokens_a, tokens_b = a.tokens_of(rows_a[at_a]), b.tokens_of(rows_b[at_b])
    differ = (tokens_a != tokens_b) & (tokens_a >= 0) & (tokens_b >= 0)
    kept = a.kept_of(rows_a[at_a]), b.kept_of(rows_b[at_b])
    pairs = _Pairs(rows_a[at_a], scores_a[at_a], scores_b[at_b], differ, *kept)
    figures = Comparison(
        documents_in_both=len(pairs.rows),
        only_here=len(hashes_a) - len(pairs.rows),
        only_there=len(hashes_b) - len(pairs.rows),
        repeated_ids=OfBoth(repeated_a, repeated_b),
        without_id=OfBoth(a.missing, b.missing),
        thresholds=keeps_from,
        scored_in_one_only=OfBoth(
            int((np.isfinite(pairs.now) & ~np.isfinite(pairs.was)).sum()),
            int((~np.isfinite(pairs.now) & np.isfinite(pairs.was)).sum()),
        ),
        other_tokens=int(differ.sum()),
        moved=_moves(pairs.moved[pairs.scored]),
        decisions=_decisions(pairs),
    )
    return figures, _to_read(pairs, samples, seed)


def _decisions(pairs: _Pairs) -> Decisions | None:
    kept = pairs.kept()
    if kept is None:
        return None
    now, was = kept
    gained, lost = int((now & ~was).sum()), int((was & ~now).sum())
    return Decisions(
        kept_in_both=int((now & was).sum()),
        dropped_in_both=int((~now & ~was).sum()),
        kept_here_only=gained,
        kept_there_only=lost,
        differ_share=share(gained + lost, len(pairs.rows)),
    )


def _to_read(pairs: _Pairs, samples: int, seed: int) -> list[Picked]:
    """Documents that one run keeps and the other drops, that were rendered otherwise, whose scores differ most."""
    found: dict[str, np.ndarray] = {}
    kept = pairs.kept()
    chosen = {}
    if kept is not None:
        now, was = kept
        chosen = {"Kept here, dropped there": now & ~was, "Dropped here, kept there": was & ~now}
    changed = {
        "Without a score here, scored there": ~np.isfinite(pairs.now) & np.isfinite(pairs.was),
        "Rendered otherwise: another number of tokens": pairs.has_other_tokens,
    }
    chosen |= {title: are_meant for title, are_meant in changed.items() if are_meant.any()}
    random = np.random.default_rng(seed)
    for title, are_meant in chosen.items():
        places = np.flatnonzero(are_meant)
        found[title] = np.sort(random.choice(places, min(samples, len(places)), replace=False))
    largest = np.argsort(-np.abs(pairs.moved), kind="stable")[:samples]
    found["The largest changes"] = largest[pairs.moved[largest] != 0]
    return [Picked(title, pairs.rows[places].tolist(), pairs.was[places].tolist()) for title, places in found.items()]


def _moves(moved: np.ndarray) -> Moves | None:
    """By how much scores differ, here minus there."""
    if not len(moved):
        return None
    quantiles = np.quantile(moved, QUANTILES)
    return Moves(
        documents=len(moved),
        changed=int((moved != 0).sum()),
        mean=float(moved.mean()),
        mean_size=float(np.abs(moved).mean()),
        lowest=float(moved.min()),
        highest=float(moved.max()),
        quantiles={str(q): float(value) for q, value in zip(QUANTILES, quantiles, strict=True)},
    )
