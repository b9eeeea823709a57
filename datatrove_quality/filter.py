"""`QualityFilter`: the DataTrove step that scores documents, writes the score into their metadata and drops by it."""

import contextlib
import os
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from os import PathLike
from typing import Any, Literal, cast

from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.writers.disk_base import DiskWriter
from datatrove.utils.stats import MetricStats, Stats
from loguru import logger

from datatrove_quality.cascade.stream import CascadeTask, Decided, ProxyDecision
from datatrove_quality.cascade.values import Cascade, require_usable
from datatrove_quality.config import Score, ScorerConfig, Unscorable
from datatrove_quality.engine.garbage_collection import rare_full_collections
from datatrove_quality.engine.scorer import Scorer, find_scorer
from datatrove_quality.engine.shared_trunk import needed
from datatrove_quality.engine.store import ScoreStore, resolve_folder
from datatrove_quality.main_guard import require_main_guard_of_pool
from datatrove_quality.model.found_model import dated, pinned
from datatrove_quality.progress import Progress
from datatrove_quality.reading import Entry, Pair, Reading
from datatrove_quality.rows.answers import answer_lists, drop_answer_lists
from datatrove_quality.rows.score_columns import (
    OWN_REASONS,
    PROXY,
    RecordedScore,
    require_bounds,
    require_prefix,
    score_column,
    score_columns,
    step_columns,
)
from datatrove_quality.rows.source_guard import SourceGuard, checked_columns
from datatrove_quality.rows.types import MESSAGES
from datatrove_quality.schema import require_output_columns, require_writer
from datatrove_quality.tally import (
    Measured,
    Result,
    count_result,
    none_scored,
    require_all_accounted,
    warn_of_bounds_outside,
    warn_of_constant_scores,
)


# A corpus whose first documents are all unscorable is a corpus read wrongly.
DOCUMENTS_BEFORE_GIVING_UP = 1_000
# Of fewer scores it is not said that they are all the same.
FEW_SCORES = 50


def _with_further(results: Iterator[tuple[Entry, Result]]) -> Iterator[tuple[Entry, Result, list[Result]]]:
    """Each document once, with the results of its other answers."""
    for entry, result in results:
        yield entry, result, [next(results)[1] for _ in range(entry.further)] if entry.further else []


class QualityFilter(BaseFilter):
    """Scores documents with a classifier and keeps those within bounds.

    A scored document gets `{prefix}_score` (float), `{prefix}_int_score` (int), `{prefix}_tokens` (int) and
    `{prefix}_truncated` (bool) in its metadata; one that cannot be scored gets `{prefix}_error` (str). A dropped one
    gets a `filter_reason`: "below_min_score", "above_max_score" or "unscorable_<reason>". A classifier with several
    outputs adds `{prefix}_score_{name}` or `{prefix}_probability_{name}` for each, and `{prefix}_label`. A cascade
    adds `{prefix}_proxy_score` and `{prefix}_scored_by`; documents that the proxy decides have no `{prefix}_score`.

    Nothing is loaded at construction: the first document that needs the model loads it, once per process.

    Args:
        scorer: a ScorerConfig, or a model's hub id or folder. None: score nothing, filter by the scores that the
            metadata holds. A document without one is unscorable: for the reason that its `{prefix}_error` holds, as
            "invalid_score" (NaN, text), or as "missing_score".
        min_score: keep documents that score at least this. None: no lower bound.
        max_score: keep documents that score at most this. None: no upper bound. Both None: annotate, drop nothing.
        prefix: what the metadata keys begin with.
        score_of: the name of the output that is the score, where the classifier has several; as the `score_of` of
            `ScorerConfig`. With scorer=None, filter by this one's column.
        messages_key: the metadata key that holds the conversation. None: score the document's text.
        unscorable: "drop", "keep" or "raise". None: "keep" when annotating, "drop" when filtering.
        exclusion_writer: gets the dropped documents. A Parquet one needs `schema=score_schema(...)`.
        checkpoints_dir: keep every score here as soon as it is computed, so that a task that starts again computes
            only what is missing, and no text twice. A path or an fsspec address. None: keep nothing.
        special_tokens: "allow" or "reject" documents in whose messages a control token such as "<|im_end|>" is spelled
            out, with which a message can fake turns. Documents with reused scores are not searched.
        reuse_scores: score only documents whose metadata holds no score, and take those that are there as they are.
            The step cannot see what made them: model, dtype and scale must be the same. Parquet files tell the model
            in their schema's metadata, see `score_schema`.
        allow_no_answer: score conversations without a message of the assistant, for those who rate prompts.
        accept_changed_text: where a step has changed `doc.text` and not the conversation, score the conversation as it
            is. Else such a document is an error.
        render_tools: pass the row's tool definitions (`tools`, `functions`) to the chat template.
        all_answers: score each answer that `ConversationAdapter(all_answers=True)` read. The document's score, by
            which it is kept or dropped, is still that of the chosen or first one. `{prefix}_scores`, `_int_scores`,
            `_token_counts`, `_truncations` and `_errors` are lists of all in the row's order, chosen before rejected.
        group_by: metadata columns that name the source of a document, such as "source". If none of a source's first
            1,000 documents in a task can be scored, the step raises and names it.
        progress: None: a bar where DataTrove's first local worker logs to a terminal, and a line a minute in each
            task's log; True: the bar also where there is no terminal; False: neither.
        documents_per_task: how many documents each task reads, by rank, so that progress tells the time left.
        cascade: a proxy that decides the clear documents, as a `Cascade` or the path of its file.
        drop: False: keep all documents; those that would be dropped have a `filter_reason`.

    Raises:
        ValueError: an argument is not one of those above; names the field, the value and the fix.
    """

    name = "🏅 Quality score"

    def __init__(
        self,
        scorer: ScorerConfig | str | PathLike[str] | None,
        min_score: float | None = None,
        max_score: float | None = None,
        prefix: str = "quality",
        messages_key: str | None = "messages",
        unscorable: Literal["drop", "keep", "raise"] | None = None,
        exclusion_writer: DiskWriter | None = None,
        checkpoints_dir: str | PathLike[str] | None = None,
        special_tokens: Literal["allow", "reject"] = "allow",
        reuse_scores: bool = False,
        allow_no_answer: bool = False,
        accept_changed_text: bool = False,
        render_tools: bool = False,
        all_answers: bool = False,
        group_by: str | Sequence[str] = (),
        progress: bool | None = None,
        documents_per_task: Sequence[int] | None = None,
        score_of: str | None = None,
        cascade: Cascade | str | PathLike[str] | None = None,
        drop: bool = True,
    ):
        super().__init__(exclusion_writer)  # type: ignore[arg-type]  # None is its default
        self.scorer = ScorerConfig(model=str(scorer)) if isinstance(scorer, str | PathLike) else scorer
        self.score_of = score_of
        self.min_score = min_score
        self.max_score = max_score
        self.prefix = prefix
        self.messages_key = messages_key
        default: Any = "keep" if min_score is None and max_score is None else "drop"
        self.unscorable = default if unscorable is None else unscorable
        self.checkpoints_dir = None if checkpoints_dir is None else resolve_folder(checkpoints_dir)
        self.special_tokens = special_tokens
        self.reuse_scores = reuse_scores
        self.allow_no_answer = allow_no_answer
        self.accept_changed_text = accept_changed_text
        self.render_tools = render_tools
        self.all_answers = all_answers
        self.group_by = checked_columns(group_by)
        self.progress = progress
        self.documents_per_task = documents_per_task
        self.cascade = Cascade.load(cascade) if isinstance(cascade, str | PathLike) else cascade
        self.drop = drop
        # The `Scorer.describe()` of the run that the step belongs to; set by what starts the run.
        self.expected_scorer: dict[str, Any] | None = None
        self.expected_proxy: dict[str, Any] | None = None
        # Where the tasks of a run tell each other what the audit of a cascade has counted.
        self.audit_folder: str | None = None
        self._running = False
        self._require_arguments()

    def __getstate__(self) -> dict[str, Any]:
        """What executors pickle or copy: all tasks load the commit that the model's name refers to now, and have today
        as the date of its chat template.

        Raises:
            ValueError: the hub does not know the model, or cannot be reached; or DataTrove has started workers from a
                script that runs its pipeline without `if __name__ == "__main__":`, which would hang.
        """
        require_main_guard_of_pool()
        if self.scorer is not None:
            self.scorer = dated(pinned(self.scorer))
        if self.cascade is not None and self.cascade.proxy is not None:
            self.cascade = replace(self.cascade, proxy=dated(pinned(self.cascade.proxy)))
        return self.__dict__ | {"_running": False}

    def _require_arguments(self) -> None:
        if self.scorer is None:
            self._require_no_use_of_a_scorer()
        elif not isinstance(self.scorer, ScorerConfig):
            raise ValueError(
                f"scorer={self.scorer!r}: give a ScorerConfig(model=...), or a model's hub id or folder; None filters "
                "by the scores in the metadata."
            )
        elif self.score_of not in (None, self.scorer.score_of):
            if self.scorer.score_of is not None:
                raise ValueError(
                    f"score_of={self.score_of!r}: the scorer has {self.scorer.score_of!r}; omit one of them."
                )
            self.scorer = replace(self.scorer, score_of=self.score_of)
        flags = ("reuse_scores", "allow_no_answer", "accept_changed_text", "render_tools", "all_answers", "drop")
        for name, values in (*((flag, (True, False)) for flag in flags), ("progress", (True, False, None))):
            if not any(getattr(self, name) is value for value in values):
                raise ValueError(f"{name}={getattr(self, name)!r}: give {' or '.join(map(str, values))}.")
        require_bounds(self.min_score, self.max_score)
        per_task = self.documents_per_task
        if per_task is not None and (isinstance(per_task, str) or not isinstance(per_task, Sequence)):
            raise ValueError(f"documents_per_task={per_task!r:.80}: give a list with each task's number, or None.")
        require_prefix(self.prefix)
        if self.cascade is not None:
            require_usable(self.cascade, self.scorer, vars(self))
        if self.all_answers and (self.reuse_scores or self.cascade or self.messages_key != MESSAGES):
            raise ValueError("all_answers=True goes with neither reuse_scores nor cascade, nor another messages_key.")
        if self.messages_key is not None and (not isinstance(self.messages_key, str) or not self.messages_key):
            raise ValueError(f"messages_key={self.messages_key!r}: give a metadata key, or None to score the text.")
        if self.unscorable not in ("drop", "keep", "raise"):
            raise ValueError(f"unscorable={self.unscorable!r}: give 'drop', 'keep', 'raise' or None.")
        if self.special_tokens not in ("allow", "reject"):
            raise ValueError(f"special_tokens={self.special_tokens!r}: give 'allow' or 'reject'.")
        require_writer(self.exclusion_writer)
        if self.scorer is not None and self.scorer.scale is not None:
            warn_of_bounds_outside(self.scorer.scale, self.min_score, self.max_score)

    def _require_no_use_of_a_scorer(self) -> None:
        unset = {"reuse_scores": False, "checkpoints_dir": None, "special_tokens": "allow", "all_answers": False}
        for name, value in (unset | {"cascade": None}).items():
            if getattr(self, name) != value:
                raise ValueError(f"{name}={getattr(self, name)!r} does nothing with scorer=None: omit it.")

    def run(self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:  # type: ignore[override]
        """Score, annotate and filter a stream of documents.

        Args:
            data: the documents.
            rank: which task this is, for the exclusion writer's file names.
            world_size: how many tasks there are.

        Yields:
            The documents that are kept, in their order.

        Raises:
            ValueError: the model cannot be loaded; none of the first 1,000 documents, or of a source's, can be scored;
                or, with `unscorable="raise"`, a document cannot.
            RuntimeError: at the end, a document was lost or counted twice.
        """
        if os.environ.get("DATATROVE_NODE_RANK", "-1") != "-1":
            raise ValueError(
                "nodes_per_task is above 1: each node would score the same documents and write the same files. Set it "
                "to 1, and tasks= to more."
            )
        if self._running:
            raise ValueError(
                "One and the same QualityFilter is in the pipeline twice, and would count each document twice: make a "
                "second one."
            )
        self._running = True
        try:
            yield from self._run(data, rank, world_size)
        finally:
            self._running = False

    def _run(self, data: Iterable[Document] | None, rank: int, world_size: int) -> Iterator[Document]:
        # The same step runs several ranks in a row under SLURM's tasks_per_job: each counts from zero.
        self.stats = Stats(str(self))
        documents = Measured(data or ())
        expected = dict(enumerate(self.documents_per_task or ())).get(rank)
        with needed(self.scorer), Progress(self.stats, self.progress, f"task {rank}", expected) as progress:
            scored = progress.following(self._scored(documents, rank))
            yield from super().run(cast(DocumentsPipeline, scored), rank, world_size)
        require_all_accounted(documents.count, self.stats)

    def track_time(self, unit: str | None = None) -> contextlib.AbstractContextManager:
        """No timing around the decision, which takes a microsecond: `_scored` times what comes before it."""
        return contextlib.nullcontext()

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Keep or drop a document by the score or the error that its metadata holds."""
        verdict = self._verdict(doc)
        if self.drop or isinstance(verdict, bool):  # True
            return verdict
        doc.metadata["filter_reason"] = verdict[1]
        return True

    def _verdict(self, doc: Document) -> bool | tuple[bool, str]:
        score = doc.metadata.get(self._score_column(doc))
        if score is None and self.cascade is not None and doc.metadata.get(f"{self.prefix}_scored_by") == PROXY:
            return self.cascade.decides(doc.metadata[f"{self.prefix}_proxy_score"]) or (False, "below_min_score")
        if score is None:
            error = cast(Unscorable, Unscorable.from_text(doc.metadata[f"{self.prefix}_error"]))
            return self.unscorable == "keep" or (False, f"unscorable_{error.reason}")
        if self.min_score is not None and score < self.min_score:
            return False, "below_min_score"
        if self.max_score is not None and score > self.max_score:
            return False, "above_max_score"
        return True

    def _scored(self, documents: Measured[Document], rank: int) -> Iterator[Document]:
        """The documents in their order, each with its score or error in its metadata; holds what the scorer holds."""
        counts: Counter[str] = Counter()
        guard = SourceGuard(self.group_by)
        reading = self._reading()
        pairs: Iterator[Pair] = map(reading.read, documents)
        if self.all_answers:
            pairs = chain.from_iterable(map(reading.read_answers, documents))
        results = self._results(pairs, rank, counts)
        scored = Measured(_with_further(results))
        booked, last = 0.0, None
        try:
            for entry, result, further in scored:
                last = entry.document
                self._annotate(entry.document, result, further)
                counts.update(entry.notes)
                count_result(result, counts, self.stats)
                guard.note(entry.document.metadata, result.reason if isinstance(result, Unscorable) else None)
                # A damaged part of a file says nothing about the settings.
                unread = counts["unscorable"] - counts["unscorable_damaged_file"]
                if unread == DOCUMENTS_BEFORE_GIVING_UP and (problem := none_scored(counts, last, "first ")):
                    raise ValueError(problem)
                if isinstance(result, Score | RecordedScore) and counts["scored"] == DOCUMENTS_BEFORE_GIVING_UP:
                    warn_of_constant_scores(self.stats)
                # What upstream took is upstream's in DataTrove's table, also where it went on meanwhile.
                spent = max(booked, scored.seconds - documents.seconds)
                self.stats.time_stats.update(spent - booked)
                booked = spent
                yield entry.document
        finally:
            results.close()
            for name, number in counts.items():
                self.stats[name] += MetricStats(total=number, n=number, mean=1, min=1, max=1)
        guard.close()
        if FEW_SCORES <= counts["scored"] < DOCUMENTS_BEFORE_GIVING_UP:
            warn_of_constant_scores(self.stats)
        if problem := none_scored(counts, last):
            logger.error(f"{problem} They are few, and the run goes on.")

    def _results(self, pairs: Iterator[Pair], rank: int, counts: Counter[str]) -> Generator[tuple[Entry, Result]]:
        """Each document with its score or error; the model is found when there is a first document that needs it."""
        for entry, item in pairs:
            if isinstance(item, RecordedScore | Unscorable) or self.scorer is None:
                known = cast(RecordedScore | Unscorable, item)
                yield self._in_cascade(entry, Decided(known)), known
                continue
            scorer = find_scorer(self.scorer)
            self._require_the_runs(scorer, self.expected_scorer)
            require_output_columns(self.exclusion_writer, self.prefix, scorer, self.all_answers, bool(self.cascade))
            if self.messages_key is not None:
                scorer.renderer.require_template()
            if self.scorer.scale is None:
                warn_of_bounds_outside(scorer.scale, self.min_score, self.max_score)
            rendered = self._rendered(chain([(entry, item)], pairs), scorer)
            with rare_full_collections(), self._store(scorer, rank) as store:
                if self.cascade is None:
                    yield from scorer.stream_pairs(rendered, store, counts)
                else:
                    yield from self._cascaded(self.cascade, scorer, rendered, store, rank)

    def _cascaded(
        self, cascade: Cascade, scorer: Scorer, pairs: Iterator[Pair], store: ScoreStore | None, rank: int
    ) -> Iterator[tuple[Entry, Result]]:
        """As the scorer's stream, but the proxy decides what lies outside its band."""
        proxy = find_scorer(cast(ScorerConfig, cascade.proxy))
        self._require_the_runs(proxy, self.expected_proxy)
        if self.messages_key is not None:
            proxy.renderer.require_template()
        task = CascadeTask(cascade, cast(float, self.min_score), scorer, proxy, rank, self.audit_folder)
        with self._store(proxy, rank) as known, contextlib.closing(task.decided(pairs, store, known)) as results:
            for entry, decided in results:
                yield self._in_cascade(entry, decided), decided.result

    def _in_cascade(self, entry: Entry, decided: Decided) -> Entry:
        """Write what a cascade has found into the metadata; gives the entry with what is counted."""
        if self.cascade is not None:
            entry.document.metadata |= decided.columns(self.prefix)
        return entry._replace(notes=(*entry.notes, *decided.notes))

    def _require_the_runs(self, scorer: Scorer, expected: dict[str, Any] | None) -> None:
        """A task scores with what the run's record names, or not at all."""
        if expected and expected["fingerprint"] != scorer.fingerprint.digest:
            raise ValueError(
                f"model={scorer.config.model!r} is no longer the one that this run started with: "
                f"{'; '.join(scorer.fingerprint.differences(expected['parts']))}. Start the run again: with the "
                "earlier model to go on with it, or into another folder."
            )

    def _store(self, scorer: Scorer, rank: int) -> contextlib.AbstractContextManager[ScoreStore | None]:
        if self.checkpoints_dir is None:
            return contextlib.nullcontext()
        return ScoreStore(self.checkpoints_dir, scorer.fingerprint, rank)

    def _rendered(self, pairs: Iterator[Pair], scorer: Scorer) -> Iterator[Pair]:
        """Each document with its text; those that spell out a control token are noted, and rejected if set."""
        renderer, columns = scorer.renderer, [f"{self.prefix}_{name}" for name in scorer.outputs.columns]
        for entry, item in pairs:
            if isinstance(item, RecordedScore):
                yield entry, item
                continue
            for name in columns:  # of an earlier run
                entry.document.metadata.pop(name, None)
            if isinstance(item, Unscorable):
                yield entry, item
                continue
            token = renderer.control_token_in(item)
            if token is not None:
                entry = entry._replace(notes=(*entry.notes, "special_tokens"))
                if self.special_tokens == "reject":
                    yield entry, Unscorable("special_tokens", f"the text spells out the control token {token!r}")
                    continue
            text, left_out = renderer.render_checked(item)
            yield entry._replace(notes=(*entry.notes, "template_left_out")) if left_out else entry, text

    def _reading(self) -> Reading:
        return Reading(
            is_scored=self.scorer is not None,
            score_of=self.score_of if self.scorer is None else None,
            prefix=self.prefix,
            messages_key=self.messages_key,
            reuse_scores=self.reuse_scores,
            allow_no_answer=self.allow_no_answer,
            accept_changed_text=self.accept_changed_text,
            render_tools=self.render_tools,
        )

    def _score_column(self, doc: Document) -> str:
        return score_column(doc.metadata, self.prefix, self.score_of if self.scorer is None else None)

    def _annotate(self, doc: Document, result: Result, further: list[Any]) -> None:
        """Write a result into the metadata, in the place of whatever an earlier run left there."""
        if str(doc.metadata.get("filter_reason")).startswith(OWN_REASONS):
            del doc.metadata["filter_reason"]
        if self.scorer is not None:
            drop_answer_lists(doc.metadata, self.prefix)
        if self.all_answers:
            doc.metadata |= answer_lists([cast(Any, result), *further], self.prefix)
        if isinstance(result, RecordedScore):
            doc.metadata.pop(f"{self.prefix}_error", None)
            doc.metadata[self._score_column(doc)] = result.score
            return
        for name in step_columns(self.prefix, with_cascade=self.scorer is not None and self.cascade is None):
            doc.metadata.pop(name, None)
        if isinstance(result, ProxyDecision):
            doc.metadata |= {f"{self.prefix}_tokens": result.tokens, f"{self.prefix}_truncated": result.truncated}
            return
        if isinstance(result, Score):
            values = (result.score, result.int_score, result.tokens, result.truncated)
            doc.metadata |= zip(score_columns(self.prefix), values, strict=True)
            doc.metadata |= {f"{self.prefix}_{name}": value for name, value in result.outputs.items()}
            return
        doc.metadata[f"{self.prefix}_error"] = result.to_text()
        if self.unscorable == "raise":
            file = doc.metadata.get("file_path", "its file is not known")
            raise ValueError(
                f"Document {doc.id!r} ({file}) cannot be scored: {result.to_text()}. "
                "unscorable='drop' or 'keep' goes on without it."
            ) from result
