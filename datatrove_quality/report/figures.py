"""The numbers of a report: frozen values, which `report.json` holds under the names of their fields."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kept:
    """What a threshold keeps.

    Args:
        documents: how many are kept.
        documents_share: of all documents, those without a score included; None: no documents.
        tokens: of the documents that are kept.
        tokens_share: of the tokens of all documents that a threshold or a proxy decides; None: these have none.
    """

    documents: int
    documents_share: float | None
    tokens: int
    tokens_share: float | None


@dataclass(frozen=True)
class ThresholdRow(Kept):
    """What one threshold would keep.

    Args:
        threshold: the lowest score that is kept.
    """

    threshold: float


@dataclass(frozen=True)
class Histogram:
    """Documents and tokens by score, in bars of one width.

    Args:
        from_: the lowest score of each bar; "from" in JSON.
        width: of each bar, in points.
        documents: in each bar.
        tokens: in each bar.
        outside: documents beyond the first and the last bar, which are counted in these.
    """

    from_: list[float]
    width: float
    documents: list[int]
    tokens: list[int]
    outside: int

    @property
    def to(self) -> float:
        """Where the last bar ends."""
        return self.from_[-1] + self.width


@dataclass(frozen=True)
class ScoreSummary:
    """How scores are spread.

    Args:
        mean: of all scores.
        min: the lowest.
        max: the highest.
        quantiles: by the share of documents below, as text: "0.5" is the median. Exact to 0.01.
    """

    mean: float
    min: float
    max: float
    quantiles: dict[str, float]


@dataclass(frozen=True)
class GroupTotals:
    """The documents with one value of a column.

    Args:
        value: of the column.
        documents: all of them.
        unscorable: those that could not be scored.
        tokens: of the others.
        mean: of their scores; None: they have none.
    """

    value: str
    documents: int
    unscorable: int
    tokens: int
    mean: float | None


@dataclass(frozen=True)
class Group(GroupTotals):
    """The documents with one value of the column that the report groups by.

    Args:
        kept: what is kept of them; None: it is not known of all documents.
        histogram: of their scores, with the bars of the histogram of all documents.
    """

    kept: Kept | None
    histogram: Histogram


@dataclass(frozen=True)
class Groups:
    """Documents by the values of a column.

    Args:
        distinct: how many values there are.
        more: whether there are more than were counted separately.
        not_shown: how many values are shown together in the last row.
        values: the most common ones, then all others together.
    """

    distinct: int
    more: bool
    not_shown: int
    values: list[Group]


@dataclass(frozen=True)
class Lengths:
    """Documents by length and score.

    Args:
        from_tokens: the lowest length of each row, in tokens.
        from_score: the lowest score of each column.
        width: of a column, in points.
        documents: in each cell, by row and column.
    """

    from_tokens: list[int]
    from_score: list[float]
    width: float
    documents: list[list[int]]


@dataclass(frozen=True, kw_only=True)
class ScoreFigures:
    """The numbers of documents: of the rows that were read, or of those that `QualityStats` counted.

    Args:
        threshold: that is marked; None: none is.
        documents: all of them.
        scored: those with a score.
        decided_by_proxy: those that a cascade's proxy has kept or dropped, which have no score.
        unscorable: those that could not be scored; these three are all documents.
        tokens: of the first two.
        kept: what the threshold keeps, or the cascade with it; None: no threshold, or not that of the cascade. Of
            statistics as exact as their rounded scores.
        histogram: of the scores.
        thresholds: what each edge of the bars would keep as a threshold; empty: a proxy has decided documents.
        reasons: why documents could not be scored, and how many, the most common first.
    """

    threshold: float | None
    documents: int
    scored: int
    decided_by_proxy: int
    unscorable: int
    tokens: int
    kept: Kept | None
    histogram: Histogram
    thresholds: list[ThresholdRow]
    reasons: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Figures(ScoreFigures):
    """The numbers of the rows that were read.

    Args:
        documents_without_tokens: documents with a score whose length is not known.
        documents_beyond_scale: documents whose score is so far from 0 that it counts as the nearest that is shown.
        scores: how they are spread; None: no scores.
        groups: by a column; None: rows are not grouped.
        lengths: by length; None: no length is known.
    """

    documents_without_tokens: int
    documents_beyond_scale: int
    scores: ScoreSummary | None
    groups: Groups | None
    lengths: Lengths | None


@dataclass(frozen=True)
class StatsGroups:
    """Documents by the values of a column, as `QualityStats` counted them.

    Args:
        distinct: how many values it counted separately.
        values: the most common ones, then all others together.
    """

    distinct: int
    values: list[GroupTotals]


@dataclass(frozen=True, kw_only=True)
class StatsFigures(ScoreFigures):
    """What `QualityStats` counted: the numbers of all documents, also where only a sample of the rows is read.

    Args:
        mean: of the scores; None: no scores.
        groups: by each column that was counted.
        same: whether the rows that were read are, as far as the numbers tell, the documents that were counted.
    """

    mean: float | None
    groups: dict[str, StatsGroups]
    same: bool
