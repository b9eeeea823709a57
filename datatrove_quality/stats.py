"""`QualityStats`: how scores are distributed, counted by DataTrove's means and merged by its `StatsMerger`."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from datatrove.data import Document
from datatrove.io import DataFolder, DataFolderLike
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.stats.base import BaseStats
from datatrove.pipeline.stats.merger import STATS_MERGED_NAME
from datatrove.utils.stats import MetricStatsDict

from datatrove_quality.readers.files import folder_at
from datatrove_quality.rows.column_values import MAX_VALUE_CHARS, OTHER_VALUES, value_text
from datatrove_quality.rows.score_columns import RecordedScore, recorded_score, require_prefix


# Until the most frequent ones are known at a task's end, at most so many values of a column have a count each.
MAX_VALUES = 100_000

Numbers: TypeAlias = dict[str, int | float]


class QualityStats(BaseStats):
    """Counts documents by score, and passes them on as they are.

    It goes anywhere after a `QualityFilter`. To count what a threshold drops too, score without bounds, count, and
    filter by the scores in the metadata:

        QualityFilter(scorer), QualityStats("stats/"), QualityFilter(None, min_score=4, exclusion_writer=...)

    Each task writes `{group}/{stat}/{rank:05d}.json`, which DataTrove's `StatsMerger` merges: a number per key. The
    groups are "summary" (one key), "histogram" (the keys are rounded scores) and each column of `group_by` (the keys
    are its values). The stats:

        {prefix}_score              the score (total, mean, variance, ...); in "histogram" the number of documents
        {prefix}_score__documents   in columns: the number of documents
        {prefix}_score__chars       in "histogram" and columns: the characters of their text
        {prefix}_score__tokens      in "histogram" and columns: their `{prefix}_tokens`, where the metadata has them
        {prefix}_unscored           as these, but of documents without a score, each with the value 1
        {prefix}_unscored_<reason>  and why they have none

    Args:
        output_folder: where the statistics are saved.
        prefix: the prefix of the `QualityFilter`.
        group_by: metadata columns, such as "source" or ["source", "language"].
        top_k: how many values of a column, the most frequent of a task, have a key each; the rest is "(others)".
        histogram_round_digits: digits behind the point of the histogram's scores.

    Raises:
        ValueError: an argument is wrong; names it, the value and the fix.
    """

    name = "🏅 Quality stats"

    def __new__(cls, *args: Any, **options: Any) -> "QualityStats":
        """Do not require tldextract, as BaseStats does for its groups by URL, which this block has not."""
        return object.__new__(cls)

    def __init__(
        self,
        output_folder: DataFolderLike,
        prefix: str = "quality",
        group_by: str | Sequence[str] = (),
        top_k: int = 1_000,
        histogram_round_digits: int = 2,
    ):
        PipelineStep.__init__(self)  # that of BaseStats makes an extractor of tldextract's
        self.output_folder = folder_at(output_folder)
        self.prefix = prefix
        self.columns = [group_by] if isinstance(group_by, str) else list(group_by)
        self.top_k = top_k
        self.histogram_round_digits = histogram_round_digits
        self._require_arguments()

    def _require_arguments(self) -> None:
        require_prefix(self.prefix)
        for column in self.columns:
            if not isinstance(column, str) or not column.strip(".") or "/" in column:
                raise ValueError(f"group_by={column!r}: give a metadata column whose name can be that of a folder.")
            if column in ("summary", "histogram") or self.columns.count(column) > 1:
                raise ValueError(f"group_by={column!r}: there is a group of that name already; omit it.")
        for name, least in (("top_k", 1), ("histogram_round_digits", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name}={value!r}: give a whole number from {least}.")

    def run(self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:  # type: ignore[override]
        """Count a stream of documents.

        Args:
            data: the documents.
            rank: which task this is, for the files' names.
            world_size: how many tasks there are.

        Yields:
            The documents as they are.
        """
        groups: dict[str, dict[str, MetricStatsDict]] = {
            group: defaultdict(MetricStatsDict) for group in ("summary", "histogram", *self.columns)
        }
        for doc in data or ():
            with self.track_time():
                self._count(doc, groups)
            yield doc
        for column in self.columns:
            groups[column] = self._most_frequent(groups[column])
        for group, stats in groups.items():
            for stat, values in stats.items():
                with self.output_folder.open(f"{group}/{stat}/{rank:05d}.json", "wt") as file:
                    json.dump(values.to_dict(), file)

    def extract_stats(self, doc: Document) -> Numbers:
        """The document's score, or why it has none."""
        recorded = recorded_score(doc.metadata, self.prefix)
        if isinstance(recorded, RecordedScore):
            return {f"{self.prefix}_score": recorded.score}
        reason = "missing_score" if recorded is None else recorded.reason
        return {f"{self.prefix}_unscored": 1, f"{self.prefix}_unscored_{reason}": 1}

    def get_kv(self, doc: Document, value: int | float, group: str) -> tuple[str, Any]:
        """The key in a group that a document counts for, and what: a number, or numbers by the suffixes of stats."""
        if group == "summary":
            return "summary", value
        tokens = doc.metadata.get(f"{self.prefix}_tokens")
        size = {"chars": len(doc.text)} | ({"tokens": tokens} if type(tokens) is int else {})
        if group == "histogram":
            return str(round(value, self.histogram_round_digits) + 0.0), {"": 1} | size  # -0.0 is 0.0
        return value_text(doc.metadata.get(group))[:MAX_VALUE_CHARS], {"": value, "documents": 1} | size

    def _count(self, doc: Document, groups: dict[str, dict[str, MetricStatsDict]]) -> None:
        for stat, value in self.extract_stats(doc).items():
            for group, stats in groups.items():
                key, found = self.get_kv(doc, value, group)
                for suffix, number in (found if isinstance(found, dict) else {"": found}).items():
                    values = stats[f"{stat}__{suffix}" if suffix else stat]
                    is_new_to_many = len(values) >= MAX_VALUES and key not in values
                    values[OTHER_VALUES if is_new_to_many else key].update(number)

    def _most_frequent(self, stats: dict[str, MetricStatsDict]) -> dict[str, MetricStatsDict]:
        """A column's stats with a key for each of the most frequent values, and one for the rest."""
        documents: Counter[str] = Counter()
        for stat in (f"{self.prefix}_score__documents", f"{self.prefix}_unscored__documents"):
            documents.update({key: int(values.total) for key, values in stats.get(stat, {}).items()})
        documents.pop(OTHER_VALUES, None)
        frequent = {key for key, _ in documents.most_common(self.top_k)}
        folded: dict[str, MetricStatsDict] = defaultdict(MetricStatsDict)
        for stat, values in stats.items():
            for key, metric in values.items():
                folded[stat][key if key in frequent else OTHER_VALUES] += metric
        return folded


def read_stats(folder: DataFolderLike, prefix: str = "quality") -> dict[str, dict[str, dict[str, float]]]:
    """The totals that a `QualityStats` has written, added up over all tasks.

    Args:
        folder: where it wrote, or where DataTrove's `StatsMerger` did. Merged files are preferred.
        prefix: of the `QualityStats`.

    Returns:
        A number by group, stat and key; empty where there are no statistics of this prefix.

    Raises:
        ValueError: a file is damaged, or is still being written.
    """
    data = folder_at(folder)
    totals: dict[str, dict[str, dict[str, float]]] = {}
    paths = [path for path in data.list_files() if path.count("/") == 2]
    merged = {path.rpartition("/")[0] for path in paths if path.endswith(f"/{STATS_MERGED_NAME}")}
    for path in paths:
        group, stat, name = path.split("/")
        is_task = re.fullmatch(r"\d{5,}\.json", name) and f"{group}/{stat}" not in merged
        if stat.startswith((f"{prefix}_score", f"{prefix}_unscored")) and (is_task or name == STATS_MERGED_NAME):
            keys = totals.setdefault(group, {}).setdefault(stat, {})
            for key, total in _totals_in(data, path).items():
                keys[key] = keys.get(key, 0) + total
    return totals


def _totals_in(folder: DataFolder, path: str) -> dict[str, float]:
    """A file's totals: DataTrove writes a metric as an object, or as its total alone."""
    try:
        with folder.open(path, "rt") as file:
            values = {
                key: value["total"] if isinstance(value, dict) else value for key, value in json.load(file).items()
            }
            return {key: float(total) for key, total in values.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder.resolve_paths(path)} is no file of statistics, or incomplete: {error}") from error
