"""What `QualityStats` counted -> numbers of a report: of all documents, also where only a sample of rows is read."""

from typing import TypeAlias

import numpy as np

from datatrove_quality.report.figures import Figures, GroupTotals, StatsFigures, StatsGroups
from datatrove_quality.report.groups import SHOWN_GROUPS
from datatrove_quality.report.histograms import bars_for, histogram, kept_of, score_bins, thresholds
from datatrove_quality.rows.column_values import OTHER_VALUES


Totals: TypeAlias = dict[str, dict[str, dict[str, float]]]  # by group, stat and key


def stats_figures(totals: Totals, prefix: str, rows: Figures) -> StatsFigures:
    """The numbers of all documents that `QualityStats` counted.

    What a threshold keeps is as exact as the histogram's keys, which are rounded scores.

    Args:
        totals: of `read_stats`.
        prefix: of the score columns' names.
        rows: the numbers of the rows that were read, and the threshold.
    """
    score = f"{prefix}_score"
    bins, values, sums = _histogram_keys(totals, score)
    # A histogram of very many scores has no key for some documents, but their number is known.
    scored, tokens = (
        int(sum(totals.get("histogram", {}).get(stat, {}).values())) for stat in (score, f"{score}__tokens")
    )
    reasons = _reasons(totals, f"{prefix}_unscored")
    decided = reasons.pop("scored_by_proxy", 0)  # how, it does not count
    documents = scored + decided + sum(reasons.values())
    kept = None if rows.threshold is None or decided else sums[values >= rows.threshold].sum(axis=0)
    mean = totals["summary"][score]["summary"] / scored if scored else None
    bars = bars_for(bins, sums[:, 0])
    return StatsFigures(
        threshold=rows.threshold,
        documents=documents,
        scored=scored,
        decided_by_proxy=decided,
        unscorable=sum(reasons.values()),
        tokens=tokens,
        mean=mean,
        kept=None if kept is None else kept_of(kept, documents, tokens),
        reasons=reasons,
        histogram=histogram(bins, sums, bars),
        thresholds=[] if decided else thresholds(bins, sums, documents, bars),
        groups={
            column: _groups(stats, score, f"{prefix}_unscored")
            for column, stats in sorted(totals.items())
            if column not in ("summary", "histogram")
        },
        same=_same(rows, documents, scored, mean),
    )


def _histogram_keys(totals: Totals, score: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The histogram's keys as bins (n,) and as scores (n,), and documents and tokens of each (n, 2)."""
    counted = totals.get("histogram", {})
    keys = sorted(counted.get(score, {}).keys() - {OTHER_VALUES}, key=float)
    values = np.array([float(key) for key in keys])
    sizes = [[counted.get(stat, {}).get(key, 0.0) for stat in (score, f"{score}__tokens")] for key in keys]
    return score_bins(values), values, np.array(sizes).reshape(-1, 2)


def _reasons(totals: Totals, unscored: str) -> dict[str, int]:
    """Why documents have no score, and how many, the most common first."""
    reasons = {
        stat.removeprefix(f"{unscored}_"): int(found["summary"])
        for stat, found in totals.get("summary", {}).items()
        if stat.startswith(f"{unscored}_")
    }
    return dict(sorted(reasons.items(), key=lambda item: -item[1]))


def _same(rows: Figures, documents: int, scored: int, mean: float | None) -> bool:
    """Whether the rows that were read are, as far as the numbers tell, the documents that were counted."""
    if (rows.documents, rows.scored) != (documents, scored):
        return False
    return rows.scores is None or mean is None or bool(np.isclose(rows.scores.mean, mean, rtol=1e-6, atol=1e-6))


def _groups(stats: dict[str, dict[str, float]], score: str, unscored: str) -> StatsGroups:
    """A column's most common values, then all others together."""
    names = (f"{score}__documents", f"{unscored}__documents", f"{score}__tokens", score)
    found = [stats.get(name, {}) for name in names]
    values = {key: np.array([stat.get(key, 0.0) for stat in found]) for key in set().union(*found)}
    others = values.pop(OTHER_VALUES, np.zeros(4))
    order = sorted(values, key=lambda key: (-values[key][:2].sum(), key))
    rows = [_group(key, *values[key]) for key in order[:SHOWN_GROUPS]]
    others = others + sum(values[key] for key in order[SHOWN_GROUPS:])
    if others[:2].any():
        rows.append(_group(OTHER_VALUES, *others))
    return StatsGroups(distinct=len(values), values=rows)


def _group(value: str, scored: float, unscored: float, tokens: float, score: float) -> GroupTotals:
    return GroupTotals(
        value=value,
        documents=int(scored + unscored),
        unscorable=int(unscored),
        tokens=int(tokens),
        mean=float(score / scored) if scored else None,
    )
