"""What `QualityStats` counted -> numbers of a report: of all documents, also where only a sample of rows is read."""

from typing import Any, TypeAlias

import numpy as np

from datatrove_quality.report.aggregate import (
    OTHER_VALUES,
    SHOWN_GROUPS,
    bars,
    histogram,
    kept_figures,
    quantiles,
    score_bins,
    thresholds,
)


Totals: TypeAlias = dict[str, dict[str, dict[str, float]]]  # by group, stat and key
THEIR_OTHER_VALUES = "(others)"  # of `QualityStats`


def stats_figures(totals: Totals, prefix: str, rows: dict[str, Any]) -> dict[str, Any]:
    """The figures, named as in `ScoreReport.figures` and JSON values only; `same`: whether they are of the same rows.

    What a threshold keeps is as exact as the histogram's keys, which are rounded scores.

    Args:
        totals: of `read_stats`.
        prefix: what the names of the stats begin with.
        rows: the figures of the rows that were read, with the `threshold`.
    """
    score, unscored, threshold = f"{prefix}_score", f"{prefix}_unscored", rows["threshold"]
    counted = totals.get("histogram", {})
    keys = sorted(counted.get(score, {}).keys() - {THEIR_OTHER_VALUES}, key=float)
    values = np.array([float(key) for key in keys])
    sizes = [[counted.get(stat, {}).get(key, 0.0) for stat in (score, f"{score}__tokens")] for key in keys]
    sums, bins = np.array(sizes).reshape(-1, 2), score_bins(values)
    # Of a histogram of very many digits some documents have no place, but they are there.
    scored, tokens = (int(sum(counted.get(stat, {}).values())) for stat in (score, f"{score}__tokens"))
    summary = totals.get("summary", {})
    reasons = {
        stat.removeprefix(f"{unscored}_"): int(found["summary"])
        for stat, found in summary.items()
        if stat.startswith(f"{unscored}_")
    }
    documents = scored + sum(reasons.values())
    kept = sums[values >= threshold].sum(axis=0) if threshold is not None else None
    shape = bars(bins, sums[:, 0])
    found = {
        "threshold": threshold,
        "documents": documents,
        "scored": scored,
        "unscorable": sum(reasons.values()),
        "tokens": tokens,
        "mean": summary[score]["summary"] / scored if scored else None,
        "quantiles": quantiles(bins, sums) if scored else None,
        "kept": None if kept is None else kept_figures(kept, documents, tokens),
        "reasons": dict(sorted(reasons.items(), key=lambda item: -item[1])),
        "histogram": histogram(bins, sums, *shape),
        "thresholds": thresholds(bins, sums, documents, *shape),
        "groups": {
            column: _group_figures(stats, score, unscored)
            for column, stats in sorted(totals.items())
            if column not in ("summary", "histogram")
        },
    }
    return found | {"same": _same(rows, found)}


def _same(rows: dict[str, Any], stats: dict[str, Any]) -> bool:
    """Whether the rows that were read are, by all that can be told, the documents that were counted."""
    mean = rows["scores"] and rows["scores"]["mean"]
    counts = all(rows[name] == stats[name] for name in ("documents", "scored"))
    return counts and (mean is None or bool(np.isclose(mean, stats["mean"], rtol=1e-6, atol=1e-6)))


def _group_figures(stats: dict[str, dict[str, float]], score: str, unscored: str) -> dict[str, Any]:
    """A column's commonest values, then all others together."""
    names = (f"{score}__documents", f"{unscored}__documents", f"{score}__tokens", score)
    found = [stats.get(name, {}) for name in names]
    values = {key: np.array([stat.get(key, 0.0) for stat in found]) for key in set().union(*found)}
    others = values.pop(THEIR_OTHER_VALUES, np.zeros(4))
    order = sorted(values, key=lambda key: (-values[key][:2].sum(), key))
    rows = [(key, values[key]) for key in order[:SHOWN_GROUPS]]
    others = others + sum(values[key] for key in order[SHOWN_GROUPS:])
    if others[:2].any():
        rows.append((OTHER_VALUES, others))
    return {"distinct": len(values), "values": [_group(key, *sums) for key, sums in rows]}


def _group(value: str, scored: float, unscored: float, tokens: float, score: float) -> dict[str, Any]:
    return {
        "value": value,
        "documents": int(scored + unscored),
        "unscorable": int(unscored),
        "tokens": int(tokens),
        "mean": float(score / scored) if scored else None,
    }
