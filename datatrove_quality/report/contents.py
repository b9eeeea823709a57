"""The data of a report beside its figures: frozen values, which `report.json` holds and the page shows.

`as_json` gives the one as a dictionary whose keys are the fields' names; docs/report.md lists them.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

from datatrove_quality.report.figures import Figures, StatsFigures


T = TypeVar("T")

# --- comparison ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OfBoth(Generic[T]):
    """A value for each of two runs.

    Args:
        here: of the run that is reported.
        there: of the run it is compared with.
    """

    here: T
    there: T


@dataclass(frozen=True)
class Moves:
    """By how much scores differ, this run minus the other.

    Args:
        documents: with a score in both runs.
        changed: of which the score is not the same.
        mean: of the differences.
        mean_size: of the differences without their sign.
        lowest: of the differences.
        highest: of the differences.
        quantiles: of the differences, by the share of documents below, as text.
    """

    documents: int
    changed: int
    mean: float
    mean_size: float
    lowest: float
    highest: float
    quantiles: dict[str, float]


@dataclass(frozen=True)
class Decisions:
    """What the two runs' thresholds keep of the documents in both.

    Args:
        kept_in_both: documents.
        dropped_in_both: documents.
        kept_here_only: documents.
        kept_there_only: documents.
        differ_share: the last two, of all in both; None: no document is in both.
    """

    kept_in_both: int
    dropped_in_both: int
    kept_here_only: int
    kept_there_only: int
    differ_share: float | None


@dataclass(frozen=True)
class Comparison:
    """How this run differs from another over the same documents.

    Args:
        documents_in_both: by their ids.
        only_here: documents.
        only_there: documents.
        repeated_ids: rows with the id of an earlier row.
        without_id: rows without an id.
        thresholds: of the runs; None: a run has none.
        scored_in_one_only: documents.
        other_tokens: documents with another number of tokens: they were rendered otherwise.
        moved: how scores differ; None: no document has a score in both.
        decisions: None: a run has no threshold.
        against: the sources of the other run; filled in by the caller, as `notes` are.
        notes: what was left out of the other run.
    """

    documents_in_both: int
    only_here: int
    only_there: int
    repeated_ids: OfBoth[int]
    without_id: OfBoth[int]
    thresholds: OfBoth[float | None]
    scored_in_one_only: OfBoth[int]
    other_tokens: int
    moved: Moves | None
    decisions: Decisions | None
    against: Sequence[str] = ()
    notes: Sequence[str] = ()


# --- conversations to read -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Picked:
    """Rows to read, by their numbers among all rows that were read.

    Args:
        title: of the section in which they are shown.
        rows: their numbers.
        others: the score of each in the run that this one is compared with; None: it is not of a comparison.
    """

    title: str
    rows: list[int]
    others: list[float] | None = None


@dataclass(frozen=True)
class Turn:
    """A turn of a conversation.

    Args:
        role: who speaks.
        text: what is said; it may be long, but no longer than a browser bears.
    """

    role: str
    text: str


@dataclass(frozen=True)
class Example:
    """A document to read.

    Args:
        id: of the document.
        file: the file that it is in, without the way to it on this machine.
        turns: the conversation.
        score: None: it has none.
        tokens: None: not known.
        truncated: whether its end was cut off before scoring.
        group: its value of the column that the report groups by.
        error: why it has no score.
        other_score: in the run that this one is compared with.
        facts: what else is said of it, such as the level of each rater.
    """

    id: str
    file: str
    turns: Sequence[Turn]
    score: float | None = None
    tokens: int | None = None
    truncated: bool = False
    group: str | None = None
    error: str | None = None
    other_score: float | None = None
    facts: Sequence[str] = ()


@dataclass(frozen=True)
class Section:
    """Documents to read under one title.

    Args:
        title: of the section.
        examples: in the order in which they are shown.
    """

    title: str
    examples: Sequence[Example]


# --- the report ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scale:
    """The ends of the classifier's scale.

    Args:
        low: the level of the worst documents.
        high: the level of the best.
        offset: what is added to a logit; None: not known.
    """

    low: float
    high: float
    offset: float | None


@dataclass(frozen=True)
class ScorerFacts:
    """What made scores, as far as the files or the run's record say it.

    Args:
        fingerprint: of everything that affects a logit.
        model: a hub id or the name of a local folder.
        commit: of the hub's repository; None: the model is a local folder.
        weights: the digest of a local folder's weights.
        dtype: in which the model computed.
        scale: of the scores.
    """

    fingerprint: str
    model: str | None
    commit: str | None
    weights: str | None
    dtype: str | None
    scale: Scale | None


@dataclass(frozen=True)
class Report:
    """A report: what the page shows and `report.json` holds.

    Args:
        date: when it was made, in UTC, to the minute.
        version: of datatrove-quality.
        sources: what was read, without the way to it on this machine.
        prefix: of the score columns' names.
        group_by: the column that rows are grouped by; None: they are not.
        scorers: what made the scores; more than one: no threshold means the same for all.
        figures: of the rows that were read.
        stats: what `QualityStats` counted; None: there are no statistics.
        comparison: with another run; None: no comparison.
        notes: what to know before reading the numbers.
        sections: documents to read.
        unscorable: one document for each reason why documents have no score.
    """

    date: str
    version: str
    sources: Sequence[str]
    prefix: str
    group_by: str | None
    scorers: Sequence[ScorerFacts]
    figures: Figures
    stats: StatsFigures | None
    comparison: Comparison | None
    notes: Sequence[str]
    sections: Sequence[Section]
    unscorable: dict[str, Example]


def as_json(report: Report) -> dict[str, Any]:
    """The numbers of a report as JSON values, and which examples it shows, but not their texts."""
    head = {name: getattr(report, name) for name in ("date", "version", "sources", "prefix", "group_by", "notes")}
    return {
        **head,
        "scorers": [_values(scorer) for scorer in report.scorers],
        **_values(report.figures),
        "stats": report.stats and _values(report.stats),
        "comparison": report.comparison and _values(report.comparison),
        "examples": [
            {"section": section.title, "id": example.id, "file": example.file, "score": example.score}
            for section in report.sections
            for example in section.examples
        ],
    }


def _values(value: Any) -> dict[str, Any]:
    """A dataclass as a dictionary; a field that cannot be named as its key, such as `from`, ends with "_"."""
    return asdict(value, dict_factory=lambda fields: {name.removesuffix("_"): found for name, found in fields})
