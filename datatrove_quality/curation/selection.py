"""Selection by a budget: the best documents by the scores in their columns, over all, or within each source."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from datatrove.data import Document
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.writers.disk_base import DiskWriter
from tqdm import tqdm

from datatrove_quality.config import Unscorable
from datatrove_quality.curation.ranking import BudgetEnd, Ranked, add_all, key_of
from datatrove_quality.rows.column_values import NO_VALUE, value_text
from datatrove_quality.rows.score_columns import OWN_REASONS, RecordedScore, recorded_score
from datatrove_quality.rows.to_document import ColumnsAdapter
from datatrove_quality.runs.inputs import Inputs


if TYPE_CHECKING:
    import pyarrow as pa

ALL = "(all)"
OUTSIDE = "outside_budget"


@dataclass(frozen=True)
class Budget:
    """How much is selected.

    Args:
        tokens: of the selected documents together. None: `share` says it.
        share: of the documents that have a score, from 0 to 1.
        by: a column: the budget is divided among its values, in proportion to what they have. None: it is not.
        prefix: of the score columns.

    Raises:
        ValueError: not one of tokens and share is given, or it is not such a number.
    """

    tokens: float | None = None
    share: float | None = None
    by: str | None = None
    prefix: str = "quality"

    def __post_init__(self) -> None:
        if (self.tokens is None) == (self.share is None):
            raise ValueError(f"tokens={self.tokens}, share={self.share}: give one of them.")
        if self.share is not None and not 0 < self.share <= 1:
            raise ValueError(f"share={self.share}: give a share above 0, up to 1.")
        if self.tokens is not None and not 1 <= self.tokens < math.inf:
            raise ValueError(f"tokens={self.tokens}: give a number of tokens from 1.")

    def of_group(self, weight: int, total: int) -> int:
        """What a group may take, rounded down, so that all groups together are within the budget.

        Args:
            weight: documents or tokens of the group.
            total: of all groups.
        """
        if self.share is not None:
            return math.floor(Fraction(str(self.share)) * weight)  # 29% of 100 are 29, not 28.999...
        return int(self.tokens or 0) * weight // max(1, total)

    def group_of(self, doc: Document) -> str:
        """The part of the budget that a document is in."""
        if self.by is None:
            return ALL
        return value_text(doc.metadata.get(self.by))

    def ranked(self, doc: Document) -> Ranked | Unscorable:
        """A document's place in the order, or why it has none.

        Raises:
            ValueError: it has a score and no number of tokens, which the budget needs; or a proxy decided it.
        """
        recorded = recorded_score(doc.metadata, self.prefix)
        if recorded is None:
            return Unscorable("missing_score", f"there is no {self.prefix}_score")
        if not isinstance(recorded, RecordedScore):
            if recorded.reason == "scored_by_proxy":
                raise ValueError(
                    f"Document {doc.id!r} was decided by a cascade's proxy and has no {self.prefix}_score: the best "
                    "documents cannot be told. Score without a cascade."
                )
            return recorded
        key = key_of(recorded.score, doc.id)
        if self.tokens is None:
            return Ranked(key, 1)
        tokens = doc.metadata.get(f"{self.prefix}_tokens")
        if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 0:
            raise ValueError(
                f"tokens: document {doc.id!r} has {self.prefix}_tokens={tokens!r}, not a number of tokens: select by "
                "share (--share) instead."
            )
        return Ranked(key, tokens)


def find_ends(inputs: Inputs, budget: Budget, id_key: str = "id") -> dict[str, BudgetEnd]:
    """Where the budget ends, for each group; reads all rows three times or more, and shows progress on stderr.

    Args:
        inputs: scored rows.
        budget: how much is selected.
        id_key: the column of the ids.

    Raises:
        ValueError: no row has a score, or as `Budget.ranked`.
    """
    ends: dict[str, BudgetEnd] = {}
    add_all(ends, _ranked_rows(inputs, budget, id_key, 1))
    for end in ends.values():
        end.end_first_pass()
    if not ends:
        raise ValueError(f"prefix={budget.prefix!r}: no row has a {budget.prefix}_score.")
    if budget.by is not None and set(ends) == {NO_VALUE}:
        raise ValueError(f"by={budget.by!r}: no row has such a column: name one, or omit it.")
    total = sum(end.weight for end in ends.values())
    for end in ends.values():
        end.budget = budget.of_group(end.weight, total)
        end.end_pass()
    number = 1
    while not all(end.is_found for end in ends.values()):
        number += 1
        add_all(ends, _ranked_rows(inputs, budget, id_key, number))
        for end in ends.values():
            end.end_pass()
    return ends


def _ranked_rows(inputs: Inputs, budget: Budget, id_key: str, number: int) -> Iterator[tuple[str, Ranked]]:
    reader = inputs.reader(ColumnsAdapter(id_key))
    for path in tqdm(inputs.sizes, unit=" files", desc=f"pass {number}", disable=None):
        for doc in reader.read_file(path):
            ranked = budget.ranked(doc)
            if isinstance(ranked, Ranked):
                yield budget.group_of(doc), ranked


class SelectByBudget(BaseFilter):
    """Keeps the documents within a budget whose end is known.

    A dropped document gets a `filter_reason`: "outside_budget", or "unscorable_<reason>" where it has no score.

    Args:
        budget: how much is selected.
        cutoffs: of each group, the lowest key that is selected, in hexadecimal digits; see `find_ends`.
        exclusion_writer: gets the dropped documents.
    """

    name = "🏅 Best within a budget"

    def __init__(self, budget: Budget, cutoffs: Mapping[str, str], exclusion_writer: DiskWriter | None = None):
        super().__init__(exclusion_writer)  # type: ignore[arg-type]  # None is its default
        self.budget = budget
        self.cutoffs = dict(cutoffs)

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Keep a document at or above the end of its group's budget.

        Raises:
            ValueError: its group was not there when the ends were found.
        """
        if str(doc.metadata.get("filter_reason")).startswith((*OWN_REASONS, OUTSIDE)):
            del doc.metadata["filter_reason"]
        ranked = self.budget.ranked(doc)
        if isinstance(ranked, Unscorable):
            return False, f"unscorable_{ranked.reason}"
        group = self.budget.group_of(doc)
        if group not in self.cutoffs:
            raise ValueError(f"The input has changed since the selection began: {self.budget.by}={group!r} is new.")
        return ranked.key >= int(self.cutoffs[group], 16) or (False, OUTSIDE)

    def extend_schema(self, schema: "pa.Schema") -> "pa.Schema":
        """The columns of the rows, with that of the reason."""
        import pyarrow as pa

        if "filter_reason" in schema.names:
            return schema
        return schema.append(pa.field("filter_reason", pa.string()))
