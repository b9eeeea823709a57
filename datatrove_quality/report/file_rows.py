"""The scored rows of one file, of any format: in batches for the numbers, then a few whole rows."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from datatrove_quality.report.aggregate import ScoreBatch
from datatrove_quality.report.columns import Columns
from datatrove_quality.report.findings import Findings
from datatrove_quality.report.sources import SourceFile
from datatrove_quality.rows.types import Row


@dataclass(frozen=True)
class FileRows(ABC):
    """The scored rows of a file.

    Args:
        file: that is read.
        columns: that are read.
        share: of its rows.
        found: collects what the reader of the report has to know about the file.
    """

    file: SourceFile
    columns: Columns
    share: float
    found: Findings

    @abstractmethod
    def batches(self, start: int, with_ids: bool) -> Iterator[ScoreBatch]:
        """The rows in batches.

        Args:
            start: the number of the first row.
            with_ids: give ids too.

        Raises:
            ValueError: a column is of a type that holds no scores, or nothing to group by.
        """

    @abstractmethod
    def whole(self, places: list[int]) -> Iterator[tuple[int, Row]]:
        """Whole rows.

        Args:
            places: among the rows that `batches` gives, in order.

        Yields:
            Each place and its row.
        """
