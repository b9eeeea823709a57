"""Scored rows of any run: their scores in batches, then a few whole rows by number.

Only the columns that figures need are read of Parquet, and texts of the sampled rows alone. What cannot be read is
left out, and noted: a report of what is there is worth more than none.
"""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from datatrove.io import DataFolder, get_datafolder
from tqdm import tqdm

from datatrove_quality.evaluation.columns import flat
from datatrove_quality.report.aggregate import NO_VALUE, ScoreBatch
from datatrove_quality.rows.score_columns import is_score
from datatrove_quality.rows.types import CONVERSATION_ERROR, Row, error_reason
from datatrove_quality.runs.inputs import Inputs, find_inputs, path_in
from datatrove_quality.runs.provenance import described_scorer
from datatrove_quality.runs.run_record import RECORD, ROW_FOLDERS, TABLE, recorded_run


if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


ROWS_AT_ONCE = 65_536
LINES_AT_ONCE = 8_192
STATS_FOLDERS = ("stats-merged", "stats")
WHOLE_ROWS_AT_ONCE = 16  # rows may be of 100 MB
MOST_VALUE_CHARS = 200

# Where conversations and texts are found; other columns, such as embeddings, are not read.
TEXT_COLUMNS = (
    *("messages", "conversations", "conversation", "text", "system", "instruction", "input", "output"),
    *("prompt", "response", "completion", "answer", "chosen"),
)


NO_ROW = "\0no row"  # marks what stands for a line that is no row; no column has such a name


@dataclass(frozen=True)
class Columns:
    """The names of the columns to read.

    Args:
        prefix: of the score columns.
        group: to group by; None: rows are not grouped.
        id: of the document.
        messages: of the conversation or text, where it is none of the usual ones.
    """

    prefix: str
    group: str | None = None
    id: str = "id"
    messages: str | None = None

    @property
    def score(self) -> str:
        return f"{self.prefix}_score"

    @property
    def scorer(self) -> str:
        return f"{self.prefix}_scorer"

    @property
    def tokens(self) -> str:
        return f"{self.prefix}_tokens"

    @property
    def truncated(self) -> str:
        return f"{self.prefix}_truncated"

    @property
    def error(self) -> str:
        return f"{self.prefix}_error"

    def to_show(self) -> list[str]:
        """The columns of a row that is shown."""
        scores = (self.score, self.tokens, self.truncated, self.error)
        names = (self.id, *scores, self.group, self.messages, *TEXT_COLUMNS)
        return list(dict.fromkeys(name for name in names if name))


@dataclass
class ScoredRows:
    """Files of scored rows, and what came to light while they were read.

    Args:
        files: each with the inputs that it is of, in the order in which they are read.
        runs: what the `logs/run.json` of each run folder among the sources says.
        stats: the folders of a `QualityStats` that lie in the sources.
        share: of each file's rows that is read.
        notes: what the reader of a report should know: what was left out.
        groups_seen: whether any file has the column to group by.
        scorers: what made the scores, as far as it is known, by fingerprint and scale.
        other_scores: columns of scores under another prefix, with the number of files or batches that have them.
    """

    files: list[tuple[Inputs, str]]
    runs: list[dict[str, Any]]
    stats: list[str] = field(default_factory=list)
    share: float = 1.0
    scorers: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    groups_seen: bool = False
    scores_seen: bool = False
    other_scores: Counter[str] = field(default_factory=Counter)
    _starts: list[int] = field(default_factory=list)

    @classmethod
    def find(cls, sources: list[str]) -> "ScoredRows":
        """The files of run folders (`kept`, `excluded` or `scores` in them), folders, files or globs.

        Raises:
            ValueError: there is no file to read; or a folder holds JSONL and Parquet files.
        """
        rows = cls([], [])
        for source in sources:
            for inputs in rows._of_source(source):
                rows.files += [(inputs, path) for path in inputs.sizes]
        paths = [path_in(inputs.folder, path) for inputs, path in rows.files]
        twice = [path for path, count in Counter(paths).items() if count > 1]
        if twice:
            raise ValueError(f"SCORED names {twice[0]} twice: its documents would be counted twice. Leave one away.")
        return rows

    def batches(self, columns: Columns, with_ids: bool = False) -> Iterator[tuple[ScoreBatch, list[Any]]]:
        """All rows, and their ids where these are asked for.

        Raises:
            ValueError: a column is of a type that holds no scores, or nothing to group by.
        """
        start = 0
        with tqdm(unit=" documents", desc="reading scores", disable=None) as bar:
            for inputs, path in self.files:
                self._starts.append(start)
                read = self._parquet if inputs.is_parquet else self._jsonl
                for batch, ids in read(inputs, path, columns, start, with_ids):
                    start += len(batch.scores)
                    bar.update(len(batch.scores))
                    yield batch, ids

    def whole(self, numbers: list[int], columns: Columns) -> Iterator[tuple[int, str, Row]]:
        """Rows by their numbers, one at a time: number, path and row; without those that cannot be read again."""
        wanted: dict[int, list[int]] = {}
        for number in sorted(set(numbers)):
            wanted.setdefault(bisect_right(self._starts, number) - 1, []).append(number)
        for at, rows in tqdm(wanted.items(), unit="file", desc="reading texts", disable=None):
            inputs, path = self.files[at]
            name, start = path_in(inputs.folder, path), self._starts[at]
            places = [number - start for number in rows]
            try:
                if inputs.is_parquet:
                    found = _parquet_rows(inputs, path, places, columns)
                else:
                    found = _jsonl_rows(inputs, path, places, columns, self.share)
                for place, row in found:
                    yield start + place, name, row
            except (OSError, ValueError) as error:
                self.notes.append(f"{name} could not be read a second time, so some examples are missing: {error}")

    def _of_source(self, source: str) -> list[Inputs]:
        folder = get_datafolder(source.rstrip("/") or "/") if not source.endswith((".jsonl", ".parquet")) else None
        parts = [name for name in ROW_FOLDERS if folder and _has_files(folder, name)]
        if folder is not None:
            self._note_stats(folder, source)
        if folder is None or not (parts or folder.isfile(RECORD)):
            return [find_inputs(source)]
        self._note_run(folder, source)
        if not parts:
            raise ValueError(f"SCORED {source}: its folders {', '.join(ROW_FOLDERS)} hold no file yet.")
        return [find_inputs(path_in(folder, name)) for name in parts]

    def _note_stats(self, folder: DataFolder, source: str) -> None:
        """The statistics in a folder: merged ones, or else those of the tasks."""
        if folder.isdir("histogram") and folder.isdir("summary"):
            raise ValueError(f"SCORED {source} holds statistics, not rows: give it by --stats, and rows as SCORED.")
        found = [name for name in STATS_FOLDERS if folder.isdir(f"{name}/histogram")]
        self.stats += [path_in(folder, name) for name in found[:1]]

    def _note_run(self, folder: DataFolder, source: str) -> None:
        """What the run's record says, and whether the run is complete."""
        try:
            run = recorded_run(folder)
        except ValueError:
            self.notes.append(f"{source}: its {RECORD} is damaged; threshold and prefix are not known from it.")
            return
        if run is None:
            return
        self.runs.append(run)
        done = len(folder.list_files("logs/completions")) if folder.isdir("logs/completions") else 0
        if folder.isdir("logs/stages"):  # of curate_conversations.py, which writes its table when all is done
            if not folder.isfile(TABLE):
                self.notes.append(f"{source}: the run is not complete; only what it has written is counted.")
        elif done < (run.get("tasks") or 0):
            self.notes.append(
                f"{source}: {done} of the run's {run['tasks']} tasks are complete; only what they wrote is counted."
            )
        if run.get("max_score") is not None:
            self.notes.append(f"{source}: the run had max_score={run['max_score']}; only min_score is looked at here.")

    # --- Parquet -----------------------------------------------------------------------------------------------------

    def _parquet(
        self, inputs: Inputs, path: str, columns: Columns, start: int, with_ids: bool
    ) -> Iterator[tuple[ScoreBatch, list[Any]]]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        wanted = [columns.score, columns.tokens, columns.error, columns.group, columns.id if with_ids else None]
        file_path, row = path_in(inputs.folder, path), 0
        with inputs.folder.open(path, "rb") as file:
            try:
                parquet = pq.ParquetFile(file)
                paths = [name and _column_path(parquet.schema_arrow, name) for name in wanted]
                self._note_columns(_score_columns(parquet.schema_arrow), columns)
                self.groups_seen |= paths[3] is not None
                wanted_rows = math.ceil(parquet.metadata.num_rows * self.share)
                self._note_scorer(
                    (parquet.schema_arrow.metadata or {}).get(columns.scorer.encode()), file_path, columns
                )
                for batch in parquet.iter_batches(ROWS_AT_ONCE, columns=[name for name in paths if name]):
                    batch = batch.slice(0, wanted_rows - row)
                    if not batch.num_rows:
                        break
                    found = [name and _column(batch, name) for name in paths]
                    yield _arrow_batch(found, batch.num_rows, start + row, columns), _ids(found[4], batch.num_rows)
                    row += batch.num_rows
            except _WrongColumn as error:
                raise ValueError(f"{file_path}: {error}") from error
            except (OSError, ValueError, KeyError, pa.ArrowException) as error:
                self._note_damage(file_path, row, error)

    # --- JSONL -------------------------------------------------------------------------------------------------------

    def _jsonl(
        self, inputs: Inputs, path: str, columns: Columns, start: int, with_ids: bool
    ) -> Iterator[tuple[ScoreBatch, list[Any]]]:
        def fields() -> Iterator[tuple[Any, ...]]:
            others_noted = False
            for row in self._json_rows(inputs, path, columns):
                found = flat(row)
                if not others_noted and columns.score not in found and columns.error not in found:
                    self._note_columns(_score_names(found), columns)
                    others_noted = True  # once a file is enough
                self.scores_seen |= columns.score in found or (columns.error in found and NO_ROW not in found)
                self.groups_seen |= columns.group in found
                yield (
                    *_score_or_error(found, columns),
                    _or_nan(as_number(found.get(columns.tokens))),
                    as_value(found.get(columns.group)) if columns.group else None,
                    found.get(columns.id),
                )

        self._note_scorer(None, path_in(inputs.folder, path), columns)
        lines = fields()
        while some := list(islice(lines, LINES_AT_ONCE)):
            scores, errors, tokens, values, ids = zip(*some, strict=True)
            groups: dict[str, int] = {}
            codes = [groups.setdefault(value, len(groups)) for value in values] if columns.group else None
            batch = ScoreBatch(
                start,
                np.array(scores),
                np.array(tokens),
                {place: error for place, error in enumerate(errors) if error},
                None if codes is None else np.array(codes),
                tuple(groups),
            )
            yield batch, list(ids) if with_ids else []
            start += len(some)

    def _json_rows(self, inputs: Inputs, path: str, columns: Columns) -> Iterator[Row]:
        """The rows of a file; what is no row, or could not be read, is noted at its end."""
        name = path_in(inputs.folder, path)
        bad = 0
        for row in _sampled(_rows_or_damage(inputs, path, columns), self.share):
            if isinstance(row, str):
                self.notes.append(f"{name} is damaged, and rows may be left out: {row}")
                continue
            bad += NO_ROW in row
            yield row
        if bad:
            self.notes.append(f"{name}: {bad:,} lines are no rows; they count as documents without a score.")

    # --- what is noted -----------------------------------------------------------------------------------------------

    def _note_columns(self, found: list[str], columns: Columns) -> None:
        self.scores_seen |= columns.score in found or columns.error in found
        self.other_scores.update(set(found) - {columns.score, columns.error})

    def _note_scorer(self, text: bytes | None, path: str, columns: Columns) -> None:
        scorer = described_scorer(text, path, columns.prefix)
        if scorer:
            self.scorers[scorer["fingerprint"], str(scorer.get("scale"))] = scorer

    def _note_damage(self, path: str, row: int, error: Exception) -> None:
        self.notes.append(f"{path} could not be read from row {row:,} on, and what is there is left out: {error}")


class _WrongColumn(ValueError):
    """A column that is not what its name says."""


def _has_files(folder: DataFolder, name: str) -> bool:
    return bool(folder.isdir(name) and folder.list_files(name))


def _score_names(names: Any) -> list[str]:
    return [name for name in names if isinstance(name, str) and name.endswith(("_score", "_error"))]


def _score_columns(schema: "pa.Schema") -> list[str]:
    """The names of columns of scores and errors, of any prefix."""
    import pyarrow as pa

    nested = schema.field("metadata").type if "metadata" in schema.names else None
    names = [field.name for field in nested] if nested is not None and pa.types.is_struct(nested) else []
    return _score_names([*schema.names, *names])


def _column_path(schema: "pa.Schema", name: str) -> str | None:
    """Where a column stands: by itself, or in the column `metadata`, where DataTrove's writers put it."""
    import pyarrow as pa

    if name in schema.names:
        return name
    nested = schema.field("metadata").type if "metadata" in schema.names else None
    if nested is not None and pa.types.is_struct(nested) and nested.get_field_index(name) >= 0:
        return f"metadata.{name}"
    return None


def _column(batch: "pa.RecordBatch", path: str) -> "pa.Array":
    if path in batch.schema.names:
        return batch.column(path)
    nested = cast("pa.StructArray", batch.column("metadata"))
    place = nested.type.get_field_index(path.removeprefix("metadata."))
    return nested.flatten()[place]  # null where `metadata` is


def _arrow_batch(found: "list[pa.Array | None]", count: int, first: int, columns: Columns) -> ScoreBatch:
    score, tokens, error, group, _ = found
    scores = _numbers(score, count, columns.score)
    errors = {}
    places = np.flatnonzero(~np.isfinite(scores))
    if len(places):
        texts = [None] * len(places) if error is None else error.take(places).to_pylist()
        given = [None] * len(places) if score is None else score.take(places).to_pylist()
        errors = {int(p): _error(t, s) for p, t, s in zip(places, texts, given, strict=True)}
    groups, values = _dictionary(group, count, columns.group) if columns.group else (None, ())
    return ScoreBatch(first, scores, _numbers(tokens, count, columns.tokens), errors, groups, values)


def _numbers(column: "pa.Array | None", count: int, name: str) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    if column is None:
        return np.full(count, np.nan)
    kind = column.type
    if not (
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind)
    ):
        raise _WrongColumn(f"column {name!r} is of type {kind}, not of numbers; give another --prefix.")
    return pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False)


def _dictionary(column: "pa.Array | None", count: int, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """A column to group by, as an index per row into its values."""
    import pyarrow as pa

    if column is None:
        return np.zeros(count, np.int64), (NO_VALUE,)
    if pa.types.is_nested(column.type):
        raise _WrongColumn(f"--group-by {name}: the column is of type {column.type}; give one of single values.")
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    values = (*map(as_value, column.dictionary.to_pylist()), NO_VALUE)
    codes = column.indices.fill_null(len(values) - 1).to_numpy(zero_copy_only=False)
    return codes.astype(np.int64), values


def _ids(column: "pa.Array | None", count: int) -> list[Any]:
    return [None] * count if column is None else column.to_pylist()


def _parquet_rows(inputs: Inputs, path: str, places: list[int], columns: Columns) -> Iterator[tuple[int, Row]]:
    """Rows of a file by their places, which are in order; only row groups that hold one are read."""
    import pyarrow.parquet as pq

    with inputs.folder.open(path, "rb") as file:
        parquet = pq.ParquetFile(file)
        names = [name for name in (_column_path(parquet.schema_arrow, wanted) for wanted in columns.to_show()) if name]
        row = 0
        for group in range(parquet.num_row_groups):
            end = row + parquet.metadata.row_group(group).num_rows
            here = [place - row for place in places if row <= place < end]
            if here:
                yield from ((row + at, flat(found)) for at, found in _rows_of_group(parquet, group, names, here))
            row = end


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


def _sampled(rows: Iterator[Row | str], share: float) -> Iterator[Row | str]:
    """A share of the rows, evenly spread, and always the same; what is no row but a word on damage passes."""
    place = 0
    for row in rows:
        if isinstance(row, str) or math.ceil(place * share) < math.ceil((place + 1) * share):
            yield row
        place += not isinstance(row, str)


def _jsonl_rows(
    inputs: Inputs, path: str, places: list[int], columns: Columns, share: float
) -> Iterator[tuple[int, Row]]:
    wanted = set(places)
    rows = (row for row in _sampled(_rows_or_damage(inputs, path, columns), share) if not isinstance(row, str))
    for place, row in enumerate(islice(rows, places[-1] + 1)):
        if place in wanted:
            yield place, flat(row)


def _rows_or_damage(inputs: Inputs, path: str, columns: Columns) -> Iterator[Row | str]:
    """The rows of a JSONL file, an error for each line that is none, and a word where lines may be missing."""
    for document in inputs.reader(_as_it_is).read_file(path):
        error = document.metadata.get(CONVERSATION_ERROR)
        if not error:
            yield document.metadata["row"]
        elif error_reason(error) in ("damaged_file", "truncated_file"):
            yield error
        else:
            yield {NO_ROW: True, columns.error: error, "text": document.text}


def _as_it_is(reader: Any, row: Row, path: str, id_in_file: int | str) -> Row:
    """A reader's adapter that leaves the row alone."""
    return {"text": "-", "id": "", "metadata": {"row": row}}


def _score_or_error(row: Row, columns: Columns) -> tuple[float, str]:
    score = as_number(row.get(columns.score))
    return (score, "") if score is not None else (math.nan, _error(row.get(columns.error), row.get(columns.score)))


def _or_nan(number: float | None) -> float:
    return math.nan if number is None else number


def _error(error: Any, score: Any) -> str:
    """Why a row has no score: what the filter says, or what is in the score's place."""
    if isinstance(error, str) and error:
        return error
    return "missing_score: no score and no error" if score is None else f"invalid_score: {score!r:.100}"


def as_number(value: Any) -> float | None:
    """A value of a row as a finite number; None where it is none."""
    return float(value) if is_score(value) else None


def as_value(value: Any) -> str:
    """A value to group by, as text of no more than it takes to tell it from others."""
    text = value if isinstance(value, str) else NO_VALUE if value is None else str(value)
    return text if len(text) <= MOST_VALUE_CHARS else text[: MOST_VALUE_CHARS - 1] + "…"
