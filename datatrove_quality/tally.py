"""What a filter counts of its results, and what it says about them."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from datatrove.data import Document
from datatrove.utils.stats import Stats
from loguru import logger

from datatrove_quality.cascade.stream import ProxyDecision, ScorerResult
from datatrove_quality.config import ScoreScale, Unscorable
from datatrove_quality.engine.scorer import StoredScore
from datatrove_quality.rows.score_columns import RecordedScore
from datatrove_quality.rows.to_document import NAME_COLUMNS


T = TypeVar("T")

# Reasons of readers: no adapter has seen a row.
NOT_READ = (
    *("invalid_json", "repeated_key", "invalid_utf8", "invalid_csv", "not_an_object"),
    *("damaged_file", "truncated_file"),
)

Result = ScorerResult | ProxyDecision


class Measured(Generic[T]):
    """Iterates over items, counts them, and adds up the seconds that it takes to get them."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = items
        self.seconds = 0.0
        self.count = 0

    def __iter__(self) -> Iterator[T]:
        iterator = iter(self._items)
        while True:
            started = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self.seconds += time.perf_counter() - started
            self.count += 1
            yield item


def count_result(result: Result, counts: Counter[str], stats: Stats) -> None:
    """Count a result.

    Args:
        result: of a document.
        counts: what is counted by ones, which takes a fifth of the time of DataTrove's statistics.
        stats: gets the tokens and the score.
    """
    if isinstance(result, Unscorable):
        counts.update(("unscorable", f"unscorable_{result.reason}"))
        return
    if result.truncated:
        counts["truncated"] += 1
    if result.tokens is not None:
        stats["tokens"].update(result.tokens)
    if isinstance(result, ProxyDecision):
        counts["scored_by_proxy"] += 1
        return
    counts["scored"] += 1
    if result.int_score is not None:
        counts[f"int_score_{result.int_score}"] += 1
    if isinstance(result, RecordedScore):
        counts["reused"] += 1
    elif isinstance(result, StoredScore):
        counts["from_store"] += 1
    stats["score"].update(result.score)


def require_all_accounted(received: int, stats: Stats) -> None:
    """Documents in = kept + dropped = scored + decided by a proxy + unscorable, or the run must not look finished.

    Args:
        received: documents that came in.
        stats: of the filter.

    Raises:
        RuntimeError: they do not agree.
    """
    counts = {name: stats[name].total for name in stats.stats}
    total, unscorable = (int(counts.get(name, 0)) for name in ("total", "unscorable"))
    scored = int(counts.get("scored", 0) + counts.get("scored_by_proxy", 0))
    written = sum(int(counts.get(name, 0)) for name in ("forwarded", "dropped"))
    if not received == total == written == scored + unscorable:
        raise RuntimeError(
            f"{received} documents came in, {total} went out, {written} of them kept or dropped, {scored} "
            f"scored and {unscorable} unscorable: these should agree, so a document was lost or counted twice. Do "
            "not use this task's output, and report it."
        )


def none_scored(counts: Counter[str], last: Document | None, which: str = "") -> str | None:
    """What to say where no document has been scored, and none decided by a proxy; None: some have, or none came.

    Args:
        counts: of `count_result`.
        last: the last one of them.
        which: of the documents, such as "first ".
    """
    if not counts["unscorable"] or counts["scored"] or counts["scored_by_proxy"]:
        return None
    path = None if last is None else last.metadata.get("file_path")
    where = f", the last of them in {path}" if path else ""
    return f"None of the task's {which}{counts['unscorable']} documents could be scored{where}: {_advice(counts)}"


def _advice(counts: Counter[str]) -> str:
    """The commonest reason why nothing could be scored, and what to do."""
    unscorable = Counter({name: count for name, count in counts.items() if name.startswith("unscorable_")})
    ((name, count),) = unscorable.most_common(1)
    reason = name.removeprefix("unscorable_")
    if reason in ("template_error", "non_finite_score", "unknown_token"):
        todo = "Look at the error of these documents, and check that model, dtype and chat_template are right."
    elif reason in NOT_READ:
        todo = "Look at the error of these documents: their files are not what they are read as."
    elif reason in ("missing_score", "invalid_score"):
        todo = "Set prefix= to what the names of the score columns begin with, or give a scorer, not scorer=None."
    elif reason == "missing_messages":  # of documents that none of our adapters has made
        todo = (
            "Read the rows with ConversationAdapter, or set messages_key= to where the conversations are in the "
            "metadata; plain text is scored with messages_key=None."
        )
    else:
        todo = f"Look at the error of these documents. {NAME_COLUMNS}"
    return f"{count} times because of {reason}. {todo}"


def warn_of_constant_scores(stats: Stats) -> None:
    """Warn where all scores so far are the same."""
    scores = stats["score"]
    if scores.min == scores.max:
        logger.warning(
            f"All of the task's first {scores.n:,} scores are {scores.min}: look whether model, chat template and "
            "messages_key are right before you use them."
        )


def warn_of_bounds_outside(scale: ScoreScale, min_score: float | None, max_score: float | None) -> None:
    """Warn of bounds that hardly any score reaches.

    Args:
        scale: of the scores.
        min_score: the lower bound. None: there is none.
        max_score: the upper bound; likewise.
    """
    for name, bound in (("min_score", min_score), ("max_score", max_score)):
        if bound is not None and not scale.low <= bound <= scale.high:
            logger.warning(
                f"{name}={bound} lies outside the scale, {scale.low} to {scale.high}. Scores are not clipped and "
                "may lie there too, but hardly any do."
            )
