"""The scored rows of a JSONL file: in batches for the numbers, then a few whole rows.

A line that cannot be read as a row counts as a document without a score. The report says where rows may be
missing.
"""

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from datatrove_quality.evaluation.columns import flat
from datatrove_quality.report.aggregate import ScoreBatch
from datatrove_quality.report.columns import as_number, as_value, deciding_score, error_of, or_nan, score_names
from datatrove_quality.report.file_rows import FileRows
from datatrove_quality.rows.types import Row, conversation_error


LINES_AT_ONCE = 8_192
NO_ROW = "\0no row"  # marks a line that cannot be read as a row; no column has such a name


class JsonlRows(FileRows):
    """The scored rows of a JSONL file; a share of them is evenly spread."""

    def batches(self, start: int, with_ids: bool) -> Iterator[ScoreBatch]:
        self.found.note_scorer(None, self.file.full_path, self.columns)
        rows = self._fields()
        while some := list(islice(rows, LINES_AT_ONCE)):
            scores, errors, decided, tokens, values, ids = zip(*some, strict=True)
            groups: dict[str, int] = {}
            codes = [groups.setdefault(value, len(groups)) for value in values] if self.columns.group else None
            yield ScoreBatch(
                first=start,
                scores=np.array(scores),
                tokens=np.array(tokens),
                errors={place: error for place, error in enumerate(errors) if error},
                proxy_scores={place: score for place, score in enumerate(decided) if score is not None},
                groups=None if codes is None else np.array(codes),
                values=tuple(groups),
                ids=ids if with_ids else (),
            )
            start += len(some)

    def whole(self, places: list[int]) -> Iterator[tuple[int, Row]]:
        wanted = set(places)
        rows = (row for row in self._sampled() if not isinstance(row, str))
        for place, row in enumerate(islice(rows, places[-1] + 1)):
            if place in wanted:
                yield place, flat(row)

    def _fields(self) -> Iterator[tuple[float, str, float | None, float, str | None, Any]]:
        """Score, error, the score by which a proxy has decided it, tokens, group and id of each row."""
        columns, others_noted = self.columns, False
        for row in self._noted():
            found = flat(row)
            if not others_noted and columns.score not in found and columns.error not in found:
                self.found.note_columns(score_names(found), columns)
                others_noted = True  # once per file is enough
            self.found.scores_seen |= columns.score in found or (columns.error in found and NO_ROW not in found)
            self.found.groups_seen |= columns.group in found
            score = as_number(found.get(columns.score))
            made = [found.get(name) for name in (columns.error, columns.score, columns.scored_by, columns.proxy_score)]
            decided = deciding_score(*made)
            yield (
                or_nan(score),
                "" if score is not None or decided is not None else error_of(*made[:2]),
                decided,
                or_nan(as_number(found.get(columns.tokens))),
                as_value(found.get(columns.group)) if columns.group else None,
                found.get(columns.id),
            )

    def _noted(self) -> Iterator[Row]:
        """The rows; lines that cannot be read as rows are counted in a note at the end."""
        bad = 0
        for row in self._sampled():
            if isinstance(row, str):
                self.found.notes.append(f"{self.file.name} is damaged, and rows may be left out: {row}")
                continue
            bad += NO_ROW in row
            yield row
        if bad:
            self.found.notes.append(
                f"{self.file.name}: {bad:,} invalid JSON lines; they count as documents without a score."
            )

    def _sampled(self) -> Iterator[Row | str]:
        """The share of the rows, always the same ones, and all notes on damage."""
        place = 0
        for row in self._rows_or_damage():
            if isinstance(row, str) or math.ceil(place * self.share) < math.ceil((place + 1) * self.share):
                yield row
            place += not isinstance(row, str)

    def _rows_or_damage(self) -> Iterator[Row | str]:
        """All rows, a row with an error for each invalid line, and a text where lines may be missing."""
        try:
            for document in self.file.inputs.reader(_as_it_is).read_file(self.file.path):
                invalid = conversation_error(document.metadata)
                if invalid is None:
                    yield document.metadata["row"]
                elif invalid.reason in ("damaged_file", "truncated_file"):
                    yield invalid.to_text()
                else:
                    yield {NO_ROW: True, self.columns.error: invalid.to_text(), "text": document.text}
        except OSError as error:
            yield f"{error}"


def _as_it_is(reader: Any, row: Row, path: str, id_in_file: int | str) -> Row:
    """A reader's adapter that leaves the row alone."""
    return {"text": "-", "id": "", "metadata": {"row": row}}
