"""The scored rows of a Parquet file: the columns that the numbers need, then the texts of a few rows.

Only those columns are read, and only the row groups that hold a row to show. Where the file cannot be read on, the
rest is left out, and noted.
"""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from datatrove_quality.evaluation.columns import flat
from datatrove_quality.report.aggregate import ScoreBatch
from datatrove_quality.report.columns import Columns, WrongColumn, as_value, deciding_score, error_of, score_names
from datatrove_quality.report.file_rows import FileRows
from datatrove_quality.rows.column_values import NO_VALUE
from datatrove_quality.rows.types import Row


if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


ROWS_AT_ONCE = 65_536
WHOLE_ROWS_AT_ONCE = 16  # rows may be of 100 MB


class ParquetRows(FileRows):
    """The scored rows of a Parquet file; a share of them is its beginning."""

    def batches(self, start: int, with_ids: bool) -> Iterator[ScoreBatch]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        row = 0
        try:
            with self.file.open() as opened:
                parquet = pq.ParquetFile(opened)
                paths = self._note_schema(parquet.schema_arrow, with_ids)
                last = math.ceil(parquet.metadata.num_rows * self.share)
                for batch in parquet.iter_batches(ROWS_AT_ONCE, columns=[path for path in paths if path]):
                    batch = batch.slice(0, last - row)
                    if not batch.num_rows:
                        break
                    found = [path and _column(batch, path) for path in paths]
                    yield _score_batch(found, batch.num_rows, start + row, self.columns)
                    row += batch.num_rows
        except WrongColumn as error:
            raise ValueError(f"{self.file.full_path}: {error}") from error
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            note = f"{self.file.name} could not be read from row {row:,} on, and the rest is left out: {error}"
            self.found.notes.append(note)

    def whole(self, places: list[int]) -> Iterator[tuple[int, Row]]:
        import pyarrow.parquet as pq

        with self.file.open() as opened:
            parquet = pq.ParquetFile(opened)
            found = (_column_path(parquet.schema_arrow, name) for name in self.columns.to_show())
            names = [name for name in found if name]
            row = 0
            for group in range(parquet.num_row_groups):
                end = row + parquet.metadata.row_group(group).num_rows
                here = [place - row for place in places if row <= place < end]
                if here:
                    yield from ((row + at, flat(whole)) for at, whole in _rows_of_group(parquet, group, names, here))
                row = end

    def _note_schema(self, schema: "pa.Schema", with_ids: bool) -> list[str | None]:
        """Note what the schema says; where each column is that is read, None for what is not."""
        columns = self.columns
        wanted = (
            *(columns.score, columns.tokens, columns.error, columns.group),
            *(columns.id if with_ids else None, columns.scored_by, columns.proxy_score),
        )
        paths = [_column_path(schema, name) if name else None for name in wanted]
        self.found.note_columns(_score_columns(schema), columns)
        self.found.groups_seen |= paths[3] is not None
        self.found.note_scorer((schema.metadata or {}).get(columns.scorer.encode()), self.file.full_path, columns)
        return paths


def _nested(schema: "pa.Schema") -> "pa.StructType | None":
    """The column `metadata`, where DataTrove's writers put other columns."""
    import pyarrow as pa

    nested = schema.field("metadata").type if "metadata" in schema.names else None
    return nested if nested is not None and pa.types.is_struct(nested) else None


def _score_columns(schema: "pa.Schema") -> list[str]:
    nested = _nested(schema)
    return score_names([*schema.names, *(field.name for field in nested or ())])


def _column_path(schema: "pa.Schema", name: str) -> str | None:
    """Where a column is: at the top, or in `metadata`."""
    nested = _nested(schema)
    if name in schema.names:
        return name
    return f"metadata.{name}" if nested is not None and nested.get_field_index(name) >= 0 else None


def _column(batch: "pa.RecordBatch", path: str) -> "pa.Array":
    if path in batch.schema.names:
        return batch.column(path)
    nested = cast("pa.StructArray", batch.column("metadata"))
    place = nested.type.get_field_index(path.removeprefix("metadata."))
    return nested.flatten()[place]  # null where `metadata` is


def _score_batch(found: "list[Any]", count: int, first: int, columns: Columns) -> ScoreBatch:
    """Rows of a file; `found` holds score, tokens, error, group, id, scored_by and proxy_score."""
    score, tokens, error, group, ids, scored_by, proxy_score = found
    scores = _numbers(score, count, columns.score)
    places = np.flatnonzero(~np.isfinite(scores))
    made = _values(places, error, score, scored_by, proxy_score)
    decided = {place: by for place, row in made.items() if (by := deciding_score(*row)) is not None}
    groups, values = _dictionary(group, count, columns.group) if columns.group else (None, ())
    return ScoreBatch(
        first=first,
        scores=scores,
        tokens=_numbers(tokens, count, columns.tokens),
        errors={place: error_of(*row[:2]) for place, row in made.items() if place not in decided},
        proxy_scores=decided,
        groups=groups,
        values=values,
        ids=(None,) * count if ids is None else tuple(ids.to_pylist()),
    )


def _values(places: np.ndarray, *columns: "pa.Array | None") -> dict[int, list[Any]]:
    """What columns hold in some rows."""
    if not len(places):
        return {}
    given = [[None] * len(places) if column is None else column.take(places).to_pylist() for column in columns]
    return {int(place): values for place, *values in zip(places, *given, strict=True)}


def _numbers(column: "pa.Array | None", count: int, name: str) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    if column is None:
        return np.full(count, np.nan)
    kind = column.type
    checks = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null)
    if not any(check(kind) for check in checks):
        raise WrongColumn(f"column {name!r} is of type {kind}, not of numbers; give another --prefix.")
    return pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False)


def _dictionary(column: "pa.Array | None", count: int, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """A column to group by, as an index per row into its values."""
    import pyarrow as pa

    if column is None:
        return np.zeros(count, np.int64), (NO_VALUE,)
    if pa.types.is_nested(column.type):
        raise WrongColumn(f"--group-by {name}: the column is of type {column.type}; give one of single values.")
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    values = (*map(as_value, column.dictionary.to_pylist()), NO_VALUE)
    codes = column.indices.fill_null(len(values) - 1).to_numpy(zero_copy_only=False)
    return codes.astype(np.int64), values


def _rows_of_group(
    parquet: "pq.ParquetFile", group: int, names: list[str], places: list[int]
) -> Iterator[tuple[int, Row]]:
    row = 0
    for batch in parquet.iter_batches(WHOLE_ROWS_AT_ONCE, row_groups=[group], columns=names):
        for place in places:
            if row <= place < row + batch.num_rows:
                yield place, batch.slice(place - row, 1).to_pylist()[0]
        row += batch.num_rows
        if row > places[-1]:
            return
