"""`LLMJudge`: the DataTrove step that asks an LLM about every document and writes its answer into the metadata."""

import contextlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeAlias

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.stats import MetricStats, Stats

from datatrove_quality.annotation.answer_store import AnswerStore
from datatrove_quality.annotation.background_judge import BackgroundJudge
from datatrove_quality.annotation.columns import annotated_schema, judged_columns, unjudged_columns
from datatrove_quality.annotation.config import Connection, JudgeConfig
from datatrove_quality.annotation.judge import Judgement
from datatrove_quality.annotation.prompt import Characters, Measure, Prompt, Tokens, make_prompt
from datatrove_quality.config import Unscorable
from datatrove_quality.engine.store import resolve_folder
from datatrove_quality.extras import require_extra
from datatrove_quality.main_guard import require_main_guard_of_pool
from datatrove_quality.progress import Progress
from datatrove_quality.rows.scored_conversation import scored_conversation
from datatrove_quality.rows.types import MESSAGES, conversation_error


if TYPE_CHECKING:
    import pyarrow as pa

# Documents that wait behind the one whose answer is due, for each request in flight.
WAITING_PER_REQUEST = 8
# A share of fewer failures than these says nothing.
FAILURES_BEFORE_GIVING_UP = 10

Pending: TypeAlias = "Future[Judgement] | Judgement | Unscorable"


class TooManyFailures(ValueError):
    """So many answers could not be used that the run must not go on."""


class LLMJudge(PipelineStep):
    """Asks an LLM about each document and writes its answer into the metadata.

    Each document that comes in goes out, in the same order, with either `judge_score` or `judge_error`. Nothing is
    opened at construction, and the API key is read where the step runs.

    Args:
        judge: who judges, and how.
        connection: how the endpoint is reached.
        messages_key: the metadata key that holds the conversation. None: the document's text is judged.
        checkpoints_dir: each answer is stored here when it comes, so that a task that starts again requests only
            those that are missing. A path or an fsspec address. None: keep nothing.
        max_failures: the share of documents without a usable answer above which the task ends with an error.
        progress: see `QualityFilter`.
        documents_per_task: see `QualityFilter`.

    Raises:
        ValueError: an argument is not one of those above; names the field, the value and the fix.
        ImportError: the extra `annotate` is not installed.
    """

    name = "⚖️ LLM judge"
    type = "🏷 - ANNOTATOR"

    def __init__(
        self,
        judge: JudgeConfig,
        connection: Connection,
        messages_key: str | None = MESSAGES,
        checkpoints_dir: str | PathLike[str] | None = None,
        max_failures: float = 0.2,
        progress: bool | None = None,
        documents_per_task: Sequence[int] | None = None,
    ):
        super().__init__()
        require_extra("annotate", "LLMJudge")
        if not isinstance(judge, JudgeConfig):
            raise ValueError(f"judge={judge!r:.80}: give a JudgeConfig(model=..., rubric=load_rubric(...)).")
        if not isinstance(connection, Connection):
            raise ValueError(f"connection={connection!r:.80}: give a Connection(endpoint).")
        if isinstance(max_failures, bool) or not isinstance(max_failures, int | float) or not 0 <= max_failures <= 1:
            raise ValueError(f"max_failures={max_failures!r}: give a share from 0 to 1, such as 0.2.")
        self.judge = judge
        self.connection = connection
        self.messages_key = messages_key
        self.checkpoints_dir = None if checkpoints_dir is None else resolve_folder(checkpoints_dir)
        self.max_failures = max_failures
        self.progress = progress
        self.documents_per_task = documents_per_task

    def __getstate__(self) -> dict[str, Any]:
        """What executors pickle or copy.

        Raises:
            ValueError: DataTrove has started workers from a script without `if __name__ == "__main__":`.
        """
        require_main_guard_of_pool()
        return self.__dict__

    def run(self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:  # type: ignore[override]
        """Annotate a stream of documents.

        Args:
            data: the documents.
            rank: which task this is.
            world_size: how many tasks there are.

        Yields:
            Each document, in its order.

        Raises:
            EndpointUnusable: the endpoint is down, or refuses the key or the model.
            TooManyFailures: more answers than `max_failures` could not be used.
            RuntimeError: at the end, a document was lost or counted twice.
        """
        # The same step runs several ranks in a row under SLURM's tasks_per_job: each counts from zero.
        self.stats = Stats(str(self))
        counts: Counter[str] = Counter()
        expected = dict(enumerate(self.documents_per_task or ())).get(rank)
        with Progress(self.stats, self.progress, f"task {rank}", expected, _outcomes) as progress:
            yield from progress.following(self._annotated(data or (), rank, counts))
        labelled, failed, total = (counts[name] for name in ("labelled", "failed", "total"))
        if not counts["received"] == total == labelled + failed:
            raise RuntimeError(
                f"{counts['received']} documents came in, {total} went out, {labelled} of them with a label and "
                f"{failed} with an error: these should agree, so a document was lost or counted twice. Do not use "
                "this task's output, and report it."
            )

    def _annotated(self, data: Iterable[Document], rank: int, counts: Counter[str]) -> Iterator[Document]:
        with contextlib.ExitStack() as stack:
            store = stack.enter_context(AnswerStore(self.checkpoints_dir, rank)) if self.checkpoints_dir else None
            judging = stack.enter_context(BackgroundJudge(self.judge, self.connection, store))
            for document, prompt, judgement in self._judged(data, judging, counts):
                if isinstance(judgement, Judgement):
                    assert prompt is not None
                    columns = judged_columns(self.judge, judgement, prompt.truncated)
                else:
                    columns = unjudged_columns(self.judge, judgement)
                document.metadata |= columns
                names = Counter(_counted(columns))
                counts += names
                for name, number in (names + judging.take_counts()).items():
                    self.stats[name] += MetricStats(total=number, n=number, mean=1, min=1, max=1)
                self._require_usable(counts, columns)
                yield document

    def _judged(
        self, data: Iterable[Document], judging: BackgroundJudge, counts: Counter[str]
    ) -> Iterator[tuple[Document, Prompt | None, Judgement | Unscorable]]:
        """The documents in their order, each with its judgement; a limited number wait for theirs."""
        waiting: deque[tuple[Document, Prompt | None, Pending]] = deque()
        limit = WAITING_PER_REQUEST * self.connection.concurrency
        measure, length = self._measure()
        for document in data:
            counts["received"] += 1
            prompt = self._prompt(document, measure, length)
            if isinstance(prompt, Unscorable):
                waiting.append((document, None, prompt))
            else:
                waiting.append((document, prompt, judging.ask(prompt.text)))
            while waiting and (len(waiting) > limit or _is_done(waiting[0][2])):
                yield _settled(*waiting.popleft())
        while waiting:
            yield _settled(*waiting.popleft())

    def extend_schema(self, schema: "pa.Schema") -> "pa.Schema":
        """The columns of Parquet rows after this step, for a `Run`.

        Args:
            schema: their columns before it.
        """
        return annotated_schema(schema)

    def prompts(self, documents: Iterable[Document]) -> Iterator[Prompt | Unscorable]:
        """What would be sent about each document, or why nothing would be.

        Args:
            documents: as `run` gets them.
        """
        measure, length = self._measure()
        return (self._prompt(document, measure, length) for document in documents)

    def _measure(self) -> tuple[Measure, int]:
        rubric = self.judge.rubric
        if self.judge.tokenizer is None:
            return Characters(), rubric.max_chars
        return Tokens(self.judge.tokenizer), rubric.max_tokens

    def _prompt(self, document: Document, measure: Measure, length: int) -> Prompt | Unscorable:
        """The prompt about a document, or why it has no prompt."""
        if (invalid := conversation_error(document.metadata)) is not None:
            return invalid
        try:
            if self.messages_key is None:
                return make_prompt(self.judge.rubric, document.text, measure, length)
            conversation = scored_conversation(document, self.messages_key, False, False)
            return make_prompt(self.judge.rubric, conversation, measure, length)
        except Unscorable as error:
            return error

    def _require_usable(self, counts: Counter[str], columns: dict[str, Any]) -> None:
        failed, judged = counts["failed_answers"], counts["judged"]
        if failed >= FAILURES_BEFORE_GIVING_UP and failed > self.max_failures * judged:
            raise TooManyFailures(
                f"{failed} of {judged} rows have no usable answer, more than max_failures={self.max_failures:g} "
                f"(--max-failures), the last one because of {columns['judge_error']!r:.300}. Look at rubric and "
                "model; max_failures=1 takes the rows as they are."
            )


def _is_done(pending: Pending) -> bool:
    return not isinstance(pending, Future) or pending.done()


def _settled(
    document: Document, prompt: Prompt | None, pending: Pending
) -> tuple[Document, Prompt | None, Judgement | Unscorable]:
    """The document with its judgement; waits for it.

    Raises:
        EndpointUnusable: the endpoint answers no request.
    """
    if not isinstance(pending, Future):
        return document, prompt, pending
    try:
        return document, prompt, pending.result()
    except ExceptionGroup as group:  # of several samples
        raise group.exceptions[0] from group


def _counted(columns: dict[str, Any]) -> Iterator[str]:
    """The statistics in which a row counts."""
    yield "total"
    was_judged = columns["judge_model"] is not None
    if was_judged:
        yield "judged"
    error = Unscorable.from_text(columns["judge_error"])
    if error is None:
        yield "labelled"
        yield f"level_{columns['judge_level']}"
    else:
        yield "failed"
        yield f"failed_{error.reason}"
        if was_judged:
            yield "failed_answers"
    for name in ("repaired", "truncated"):
        if columns[f"judge_{name}"]:
            yield name


def _outcomes(counts: dict[str, int]) -> list[str]:
    """What a bar shows beside the speed."""
    failed = {name: count for name, count in counts.items() if name.startswith("failed_requests_")}
    retried = f"{sum(failed.values()):,} requests failed"
    return [f"{counts.get('failed', 0):,} rows without a label", *([retried] if failed else [])]
