"""Scored rows -> a report, and its files.

find the files ── count the rows ── compare with another run ── read the examples ── Report ── report.html, .json
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from datatrove_quality import __version__
from datatrove_quality.atomic_write import write_atomic
from datatrove_quality.report.aggregate import ScoreCounts
from datatrove_quality.report.columns import Columns, as_number
from datatrove_quality.report.comparison import ScoreIndex, compare
from datatrove_quality.report.contents import Comparison, Picked, Report, Scale, ScorerFacts, as_json
from datatrove_quality.report.examples import examples
from datatrove_quality.report.from_stats import Totals, stats_figures
from datatrove_quality.report.notes import notes_on, notes_on_columns
from datatrove_quality.report.page import build_page
from datatrove_quality.report.scored_rows import ScoredRows
from datatrove_quality.report.sources import Sources
from datatrove_quality.runs.provenance import recorded_scale
from datatrove_quality.stats import read_stats


PAGE, NUMBERS = "report.html", "report.json"


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """What a report is made of.

    Args:
        scored: run folders, folders, files or globs of scored rows.
        threshold: that is marked; None: the run's `min_score`.
        allow_outside_scale: take a threshold that is outside the scale of the scores.
        group_by: a column, such as "source".
        against: another run over the same documents, as `scored`.
        stats: folders of a `QualityStats`; empty: those found beside the rows.
        share: of each file's rows that is read.
        sample: examples per score band.
        seed: decides which examples.
        prefix: of the score columns' names; None: the run's, or "quality".
        id_key: the column of the id; None: the run's, or "id".
        messages_key: the column of the conversation; None: the run's, or found by its name.
    """

    scored: Sequence[str]
    threshold: float | None = None
    allow_outside_scale: bool = False
    group_by: str | None = None
    against: Sequence[str] = ()
    stats: Sequence[str] = ()
    share: float = 1.0
    sample: int = 10
    seed: int = 0
    prefix: str | None = None
    id_key: str | None = None
    messages_key: str | None = None


def build_report(options: ReportOptions) -> Report:
    """Read scored rows and make a report of them.

    Args:
        options: what it is made of.

    Raises:
        ValueError: there is nothing to read, no row has a score, or an option does not fit what is there.
    """
    sources = Sources.find(options.scored)
    columns = columns_of(options, sources)
    _require_threshold_on_scale(options, sources, columns.prefix)
    totals = _stats_totals(options, sources, columns)
    threshold = _threshold(options, sources)
    keeps_above = sources.proxy_keeps_above(columns.prefix, threshold)
    counts = ScoreCounts(threshold, options.sample, options.seed, keeps_above)
    index = ScoreIndex(threshold, keeps_above) if options.against else None
    rows = ScoredRows(sources.files, columns, options.share)
    _count(rows, counts, index)
    comparison, flips = _compare(options, index) if index else (None, [])
    figures = counts.figures()
    picked = [*flips, *counts.samples.of_scores()]
    sections, unscorable = examples(
        rows, picked, {reason: counts.first_of_reason[reason] for reason in figures.reasons}, counts.threshold
    )
    stats = stats_figures(totals, columns.prefix, figures) if totals else None
    scorers = [scorer_facts(scorer) for scorer in rows.found.scorers.values()]
    notes = [
        *(*sources.notes, *rows.found.notes),
        *notes_on(figures, stats, scorers, options.share),
        *notes_on_columns(figures, rows.found, columns),
    ]
    return Report(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
        sources=sources.names,
        prefix=columns.prefix,
        group_by=columns.group,
        scorers=scorers,
        figures=figures,
        stats=stats,
        comparison=comparison,
        notes=[*map(sources.without_folders, notes), *(comparison.notes if comparison else ())],
        sections=sections,
        unscorable=unscorable,
    )


def write_report(report: Report, folder: str | os.PathLike[str]) -> Path:
    """Write `report.html` and `report.json`, each whole.

    Args:
        report: of `build_report`.
        folder: to write to; it is made where it is missing.

    Returns:
        The page.

    Raises:
        OSError: the folder cannot be written to.
    """
    output = Path(folder)
    output.mkdir(parents=True, exist_ok=True)
    # Ids may hold halves of surrogate pairs, which are ASCII in JSON and cannot be encoded otherwise.
    write_atomic(output / NUMBERS, json.dumps(as_json(report), indent=1, allow_nan=False) + "\n")
    write_atomic(output / PAGE, build_page(report))
    return output / PAGE


def columns_of(options: ReportOptions, sources: Sources) -> Columns:
    """The columns to read: as the options say, or else the run's record.

    Raises:
        ValueError: the runs have different prefixes.
    """
    prefixes = {run["prefix"] for run in sources.runs if run.get("prefix")}
    if not options.prefix and len(prefixes) > 1:
        raise ValueError(f"SCORED: the runs have scores under {sorted(prefixes)}: give one by --prefix.")
    run = sources.runs[0] if sources.runs else {}
    return Columns(
        options.prefix or (prefixes.pop() if prefixes else "quality"),
        options.group_by,
        options.id_key or run.get("id_key") or "id",
        options.messages_key or run.get("messages_key") or run.get("text"),
    )


def scorer_facts(scorer: dict[str, Any]) -> ScorerFacts:
    """What made scores, from what `Scorer.describe` wrote beside them; a value of an unexpected type is None."""
    parts, scale = scorer["parts"], scorer.get("scale")
    numbers = scale if isinstance(scale, dict) else {}
    low, high, offset = (as_number(numbers.get(name)) for name in ("low", "high", "offset"))
    model = _text(scorer.get("model"))
    return ScorerFacts(
        fingerprint=str(scorer["fingerprint"]),
        model=os.path.basename(model.rstrip("/")) if model and os.path.isabs(model) else model,
        commit=_text(parts.get("commit")),
        weights=_text(parts.get("weights")),
        dtype=_text(parts.get("dtype")),
        scale=None if low is None or high is None else Scale(low, high, offset),
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _threshold(options: ReportOptions, sources: Sources) -> float | None:
    """The threshold of the options, or else that of the runs, if it is the same for all."""
    if options.threshold is not None:
        return options.threshold
    found = {run.get("min_score") for run in sources.runs}
    if len(found) > 1:
        sources.notes.append(
            f"The runs have different thresholds, so none is marked: give one by --threshold. ({found})"
        )
    return found.pop() if len(found) == 1 else None


def _require_threshold_on_scale(options: ReportOptions, sources: Sources, prefix: str) -> None:
    """Refuse a threshold that is outside the scale, where that is known before the rows are read."""
    if options.threshold is None or options.allow_outside_scale:
        return
    inputs = {id(file.inputs): file.inputs for file in sources.files}
    try:
        scales = {recorded_scale(some, prefix) for some in inputs.values()}
    except (ValueError, OSError):  # a file that cannot be read: the reading of its rows leaves it out, and names it
        return
    scale = scales.pop() if len(scales) == 1 else None
    if scale is not None and (wrong := scale.outside(options.threshold)):
        raise ValueError(f"threshold={wrong} If it is meant, set allow_outside_scale=True.")


def _stats_totals(options: ReportOptions, sources: Sources, columns: Columns) -> Totals:
    """What `QualityStats` counted, in the folders given or else those found beside the rows; nothing: {}."""
    totals: Totals = {}
    for folder in options.stats or sources.stats:
        sources.show(folder)
        try:
            found = read_stats(folder, columns.prefix)
        except ValueError as error:
            sources.notes.append(f"Statistics are left out: {error}")
            return {}
        if options.stats and not found:
            raise ValueError(f"--stats {folder}: there are no statistics of {columns.score!r} here.")
        for group, stats in found.items():
            for stat, keys in stats.items():
                own = totals.setdefault(group, {}).setdefault(stat, {})
                own |= {key: own.get(key, 0) + total for key, total in keys.items()}
    return totals


def _count(rows: ScoredRows, counts: ScoreCounts, index: ScoreIndex | None) -> None:
    """Read all rows once."""
    for batch in rows.batches(with_ids=index is not None):
        counts.add(batch)
        if index:
            index.add(batch)
    group = rows.columns.group
    if group and not rows.found.groups_seen and counts.documents:
        raise ValueError(f"--group-by {group}: no file has a column of this name.")
    _require_scores("SCORED", counts.documents, rows)


def _require_scores(name: str, documents: int, rows: ScoredRows) -> None:
    """Refuse rows none of which has a score or an error, and say what there is instead."""
    if documents and rows.found.scores_seen:
        return
    if not documents:
        raise ValueError(f"{name}: no row could be read. " + " ".join(rows.found.notes[:3]))
    others = rows.found.other_prefixes[:5]
    fix = f"Give --prefix: there are scores under {', '.join(others)}." if others else "Score the files first."
    raise ValueError(f"{name}: none of {documents:,} rows has a column {rows.columns.score!r}. {fix}")


def _compare(options: ReportOptions, index: ScoreIndex) -> tuple[Comparison, list[Picked]]:
    """What differs from the other run."""
    sources = Sources.find(options.against)
    columns = columns_of(replace(options, group_by=None), sources)
    rows = ScoredRows(sources.files, columns)
    # Files alone have no threshold: then that of the first run decides for both.
    threshold = _threshold(options, sources) if sources.runs else index.threshold
    other = ScoreIndex(threshold, sources.proxy_keeps_above(columns.prefix, threshold))
    documents = 0
    for batch in rows.batches(with_ids=True):
        documents += len(batch.scores)
        other.add(batch)
    _require_scores("--against", documents, rows)
    figures, flips = compare(index, other, options.sample, options.seed)
    notes = [*sources.notes, *rows.found.notes]
    if not figures.documents_in_both:
        notes.append(f"No id of column {rows.columns.id!r} is in both runs: nothing could be compared.")
    return replace(figures, against=sources.names, notes=[*map(sources.without_folders, notes)]), flips
