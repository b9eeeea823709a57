"""Scored rows of any run: their scores in batches, then a few whole rows by number.

What cannot be read is left out, and noted: a report of what is there is worth more than none.
"""

from bisect import bisect_right
from collections.abc import Iterator

from tqdm import tqdm

from datatrove_quality.report.aggregate import ScoreBatch
from datatrove_quality.report.columns import Columns
from datatrove_quality.report.file_rows import FileRows
from datatrove_quality.report.findings import Findings
from datatrove_quality.report.jsonl_rows import JsonlRows
from datatrove_quality.report.parquet_rows import ParquetRows
from datatrove_quality.report.sources import SourceFile
from datatrove_quality.rows.types import Row


class ScoredRows:
    """The rows of files, numbered in the order in which they are read.

    Args:
        files: that are read, in this order.
        columns: that are read.
        share: of each file's rows.

    Attributes:
        found: what is found out while they are read.
    """

    def __init__(self, files: list[SourceFile], columns: Columns, share: float = 1.0):
        self.files = files
        self.columns = columns
        self.share = share
        self.found = Findings()
        self._starts: list[int] = []

    def batches(self, with_ids: bool = False) -> Iterator[ScoreBatch]:
        """All rows, and their ids if these are wanted.

        Raises:
            ValueError: a column is of a type that holds no scores, or nothing to group by.
        """
        start = 0
        with tqdm(unit=" documents", desc="reading scores", disable=None) as bar:
            for file in self.files:
                self._starts.append(start)
                for batch in self._rows_of(file).batches(start, with_ids):
                    start += len(batch.scores)
                    bar.update(len(batch.scores))
                    yield batch

    def whole(self, numbers: list[int]) -> Iterator[tuple[int, str, Row]]:
        """Rows by their numbers, after `batches`; those that cannot be read again are left out and noted.

        Yields:
            A row's number, the name of its file, and the row.
        """
        wanted: dict[int, list[int]] = {}
        for number in sorted(set(numbers)):
            wanted.setdefault(bisect_right(self._starts, number) - 1, []).append(number)
        for at, rows in tqdm(wanted.items(), unit="file", desc="reading texts", disable=None):
            file, start = self.files[at], self._starts[at]
            try:
                for place, row in self._rows_of(file).whole([number - start for number in rows]):
                    yield start + place, file.name, row
            except (OSError, ValueError) as error:
                note = f"{file.name} could not be read a second time, so some examples are missing: {error}"
                self.found.notes.append(note)

    def _rows_of(self, file: SourceFile) -> FileRows:
        kind = ParquetRows if file.inputs.is_parquet else JsonlRows
        return kind(file, self.columns, self.share, self.found)
