"""What is found out about scored rows while they are read."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from datatrove_quality.report.columns import Columns
from datatrove_quality.runs.provenance import described_scorer


@dataclass
class Findings:
    """What is found out about scored rows while they are read.

    Args:
        notes: what the reader of a report should know: what was left out.
        groups_seen: whether any file has the column to group by.
        scores_seen: whether any file has the columns of scores or errors.
        scorers: what made the scores, as far as it is known, by fingerprint and scale.
        other_scores: columns of scores under another prefix, with the number of files or batches that have them.
    """

    notes: list[str] = field(default_factory=list)
    groups_seen: bool = False
    scores_seen: bool = False
    scorers: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    other_scores: Counter[str] = field(default_factory=Counter)

    def note_columns(self, names: Iterable[str], columns: Columns) -> None:
        """Note which columns of scores and errors a file has."""
        found = set(names)
        self.scores_seen |= columns.score in found or columns.error in found
        self.other_scores.update(found - {columns.score, columns.error})

    def note_scorer(self, text: bytes | None, path: str, columns: Columns) -> None:
        """Note what made the scores in a file.

        Args:
            text: what a Parquet file's schema metadata say; None: nothing.
            path: the file's whole path or address.
            columns: that are read.
        """
        scorer = described_scorer(text, path, columns.prefix)
        if scorer:
            self.scorers[str(scorer["fingerprint"]), str(scorer.get("scale"))] = scorer

    @property
    def other_prefixes(self) -> list[str]:
        """The prefixes of other columns of scores."""
        return sorted({name.removesuffix("_score") for name in self.other_scores if name.endswith("_score")})
