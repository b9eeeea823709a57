"""What to know before reading a report's numbers: what was left out, what disagrees, what is missing."""

from collections.abc import Iterator, Sequence

from datatrove_quality.report.columns import Columns
from datatrove_quality.report.contents import ScorerFacts
from datatrove_quality.report.figures import Figures, ScoreFigures, StatsFigures
from datatrove_quality.report.findings import Findings
from datatrove_quality.report.histograms import MAX_SCORE


def notes_on(
    figures: Figures, stats: StatsFigures | None, scorers: Sequence[ScorerFacts], share: float
) -> Iterator[str]:
    """Notes on the numbers.

    Args:
        figures: of the rows that were read.
        stats: what `QualityStats` counted.
        scorers: what made the scores.
        share: of each file's rows that was read.
    """
    if share < 1:
        of_all = f" of {stats.documents:,}" if stats else ""
        yield f"A sample: {share:.3g} of each file's rows, {figures.documents:,} documents{of_all}."
    elif stats and not stats.same:
        mean = figures.scores.mean if figures.scores else None
        yield (
            f"QualityStats and the rows disagree: it counted {_counts(stats, stats.mean)}; the rows are "
            f"{_counts(figures, mean)}. They are of different runs, or some are missing."
        )
    if len(scorers) > 1:
        yield f"The scores are of {len(scorers)} scorers or scales: no threshold means the same for all."
    yield from _on_threshold(figures, scorers)
    if figures.documents_beyond_scale:
        yield (
            f"{figures.documents_beyond_scale:,} scores lie beyond ±{MAX_SCORE:,.0f} and count there in the histogram."
        )


def notes_on_columns(figures: Figures, found: Findings, columns: Columns) -> Iterator[str]:
    """Notes on what columns the rows have, and what is in them.

    Args:
        figures: of the rows that were read.
        found: while they were read.
        columns: that were read.
    """
    others = [name for name in found.other_scores if name.endswith("_score") and not name.endswith("_int_score")]
    if others and figures.reasons.get("missing_score"):
        yield f"Some rows have no {columns.score!r}, but {sorted(others)[:5]}: they count as without a score."
    if invalid := figures.reasons.get("invalid_score"):
        yield f"{invalid:,} scores are no finite numbers: NaN is never a score."
    if decided := figures.decided_by_proxy:
        yield (
            f"A cascade's proxy decided {decided:,} documents: they have no score. Histogram, mean and quantiles are "
            "of the others, most of which lie near the threshold, and are not those of the corpus."
        )
        if figures.threshold is not None and figures.kept is None:
            yield (
                f"What is kept at {figures.threshold:g} is not known: the proxy decided for the run's own threshold. "
                "Give the run's folder as SCORED, which tells it, without --threshold."
            )
    if figures.documents_without_tokens:
        yield f"{figures.documents_without_tokens:,} documents have no {columns.tokens!r}: their length is not known."


def _on_threshold(figures: Figures, scorers: Sequence[ScorerFacts]) -> Iterator[str]:
    if figures.threshold is None:
        yield "No threshold is marked: give one by --threshold."
        return
    scales = {(scorer.scale.low, scorer.scale.high) for scorer in scorers if scorer.scale}
    if len(scales) == 1:
        low, high = scales.pop()
        if not low <= figures.threshold <= high:
            yield f"The threshold {figures.threshold:g} is outside the scale, which is from {low:g} to {high:g}."


def _counts(figures: ScoreFigures, mean: float | None) -> str:
    of_mean = "" if mean is None else f" of mean {mean:.4f}"
    return f"{figures.documents:,} documents, {figures.scored:,} with a score{of_mean}"
