"""A run: a pipeline that reads files, writes a folder, can be stopped and started again, and never mixes two settings.

run = Run("data/", "filtered/", tasks=8)
pipeline = [
    run.reader(ConversationAdapter()),
    QualityFilter(MODEL, min_score=4, exclusion_writer=run.writer("excluded"), checkpoints_dir=run.checkpoints),
    run.writer("kept"),
]
run(pipeline)
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import TYPE_CHECKING, Any

from datatrove.executor.base import PipelineExecutor
from datatrove.io import get_datafolder
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.readers.base import BaseDiskReader
from datatrove.pipeline.writers.disk_base import DiskWriter
from loguru import logger

from datatrove_quality.filter import QualityFilter
from datatrove_quality.main_guard import is_import_in_worker, require_main_guard
from datatrove_quality.readers.files import folder_at
from datatrove_quality.rows.to_row import RowAdapter, ScoresAdapter
from datatrove_quality.runs.active_run import active_run, require_inactive
from datatrove_quality.runs.claim import Claim, HoldsClaim, give_claim, new_claim
from datatrove_quality.runs.cluster import Cluster, require_count
from datatrove_quality.runs.completed_tasks import IncompleteRun
from datatrove_quality.runs.counts import StepCount, WriteTable, counted, table, total_counts
from datatrove_quality.runs.executors import make_executor, require_executor, run_to_end
from datatrove_quality.runs.handover import LoadDocuments, SaveDocuments
from datatrove_quality.runs.input_contents import input_contents, require_unchanged
from datatrove_quality.runs.inputs import PATHS, find_inputs, path_in, require_no_overlap
from datatrove_quality.runs.outputs import ReasonAdapter, WholeOutput, WholeParquetWriter
from datatrove_quality.runs.preparation import memory_gb, warn_of_loading
from datatrove_quality.runs.provenance import output_schema, sidecar_schema
from datatrove_quality.runs.run_record import (
    AUDIT,
    CLAIM,
    INTERMEDIATE,
    UNFINISHED,
    claim_output,
    continued_run,
    readable_run,
    require_claimable,
    require_same_settings,
)
from datatrove_quality.runs.scoring import Scoring, readable_record, tell_documents_per_task
from datatrove_quality.runs.sealed_folder import SealedFolder
from datatrove_quality.runs.slurm_queue import require_none_queued
from datatrove_quality.runs.stages import Stage, as_stages
from datatrove_quality.runs.step_settings import step_settings
from datatrove_quality.runs.summary import FilterSummary, about_run
from datatrove_quality.runs.terminal import quiet_stderr


if TYPE_CHECKING:
    import pyarrow as pa


_FOLDER = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)*")


@dataclass(frozen=True)
class RunResult:
    """What a run did.

    Args:
        filters: of a run of one pipeline, what each quality filter counted.
        steps: of a run of several stages, what each step that can drop documents counted.
        seconds: how long it took. None: not known, since an earlier run had done a part, or jobs did it.
        folders: paths of the folders of rows that it wrote.
        about: what the run was, where its files are and what to type next, by name; see `about_run`.
    """

    filters: list[FilterSummary] = field(default_factory=list)
    steps: list[StepCount] = field(default_factory=list)
    seconds: float | None = None
    folders: list[str] = field(default_factory=list)
    about: dict[str, str] = field(default_factory=dict)

    def table(self) -> str:
        """What became of the documents, as a table of text."""
        if self.steps:
            return table(self.steps)
        several = len(self.filters) > 1
        return "\n".join(f"\n{each.prefix}:" * several + each.table(self.seconds) for each in self.filters)

    def ending(self) -> str:
        """What the run was, where its files are, and the next command to type: a line each."""
        width = max(map(len, self.about), default=0) + 2
        return "\n".join(f"{name:<{max(12, width)}}{text}" for name, text in self.about.items())

    def problem(self) -> str | None:
        """Why the output must not be taken for a finished corpus; None: it may."""
        if self.steps:
            return None if self.steps[-1].came else "no document was left to score; the table says what dropped them."
        for each in self.filters:
            if each.documents and not each.scored:
                return f"No document could be scored. {each.commonest_reason()}"
        return None


class Run:
    """Files to read, a folder to write, and where the tasks run; called with a pipeline, it runs it to the end.

    Started again with the same settings it continues where it stopped. With other settings of any step, another
    classifier or other files it refuses, since DataTrove would skip what is done and leave the rest to the new
    settings. What does not affect the rows may differ: executor, workers, device, batch size, progress.

    `run(pipeline)` or `run(Stage(...), Stage(...))` prints a table of what became of the documents, and returns a
    `RunResult`; None if jobs were queued, or if a worker process is only importing the script.

    Args:
        input: a folder (searched to any depth), a file or a glob of .jsonl[.gz|.zst] or .parquet files; local, or any
            address that DataTrove takes.
        output: the folder to write, outside of the input.
        executor: "local", "slurm" or "ray".
        tasks: parts that run and resume one by one; each reads whole files. None: a task per file.
        workers: tasks (on a cluster: jobs) at a time. None: 1 locally, else no limit. More than 1 locally needs
            `if __name__ == "__main__":` in the script, since each worker process imports it.
        limit: at most this many documents per task; -1: all.
        overwrite: delete what an earlier run wrote into the folder. Scores in `checkpoints` stay.
        cluster: what to request from SLURM or Ray.
        name: of the jobs.
        verbose: `run(...)` shows all of DataTrove's log, not only warnings and errors; the log files have all of it.

    Raises:
        ValueError: an argument is not one of those above, there are no such files, the output overlaps the input, a
            run is active there, or the executor cannot be reached; names the field, the value and the fix.
    """

    def __init__(
        self,
        input: str | PathLike[str],
        output: str | PathLike[str],
        *,
        executor: str = "local",
        tasks: int | None = None,
        workers: int | None = None,
        limit: int = -1,
        overwrite: bool = False,
        cluster: Cluster | None = None,
        name: str = "quality",
        verbose: bool = False,
    ):
        require_count("tasks", tasks)
        require_count("workers", workers)
        if limit != -1:
            require_count("limit", limit)
        if cluster is not None and not isinstance(cluster, Cluster):
            raise ValueError(f"cluster={cluster!r:.80}: give a Cluster(...), or None.")
        self.cluster = cluster or Cluster()
        self.cluster.require_effect(executor)
        require_executor(executor)
        self.executor = executor
        self.workers = workers
        self.limit = limit
        self.overwrite = overwrite
        self.name = name
        self.verbose = verbose
        for name, value in (("overwrite", overwrite), ("verbose", verbose)):
            if not isinstance(value, bool):
                raise ValueError(f"{name}={value!r:.80}: give True or False.")
        self._output = str(output)
        if not self._output.strip():
            raise ValueError("output='': give a folder; '.' is the present folder.")
        self.inputs = find_inputs(str(input))
        self.output = folder_at(self._output)
        require_no_overlap(self.inputs, self.output)
        if not is_import_in_worker():
            require_inactive(self.output)
        self.tasks = self.inputs.tasks(tasks)
        self._claim = Claim(self.output)
        self._adapter: Any = None
        # What the input files held when this process began.
        self._contents: dict[str, dict[str, Any]] = {}
        # The writers that `writer` made, each with whether its columns follow from the pipeline.
        self._writers: dict[str, tuple[DiskWriter, Any, bool]] = {}

    # --- what a pipeline is made of ----------------------------------------------------------------------------------

    @property
    def checkpoints(self) -> str:
        """Where scores are saved as they are computed: for `QualityFilter(checkpoints_dir=...)`."""
        return self.path("logs/checkpoints")

    def path(self, name: str) -> str:
        """The whole path or address of something in the output folder."""
        return path_in(self.output, name)

    def reader(self, adapter: Callable) -> BaseDiskReader:
        """A DataTrove reader of the input that loses no row.

        Args:
            adapter: makes a document of a row: `ConversationAdapter()` or `TextAdapter()`.
        """
        self._adapter = adapter
        return self.inputs.reader(adapter, paths_file=self.path(PATHS), limit=self.limit)

    def writer(
        self,
        name: str,
        adapter: Callable | None = None,
        reason: str | None = None,
        schema: "pa.Schema | None" = None,
    ) -> DiskWriter:
        """A DataTrove writer in the input's format and compression, whose files appear when they are complete.

        Args:
            name: of the folder in the output folder to write to, such as "kept" or "excluded/duplicates".
            adapter: makes a row of a document. None: `RowAdapter()`, which rebuilds the row of the input.
            reason: the `filter_reason` of rows that a step drops without giving one.
            schema: the columns, for Parquet. None: those of the input, and those of the pipeline's scores.

        Raises:
            ValueError: the name is not usable, or has been given before.
        """
        if not isinstance(name, str) or not _FOLDER.fullmatch(name) or _root(name) == "logs":
            raise ValueError(f"writer({name!r}): give a folder's name of letters and digits, not within logs.")
        if name in self._writers:
            raise ValueError(f"writer({name!r}): the name has been given to a writer of this run; give another.")
        rows = adapter or RowAdapter()
        if schema is None and self.inputs.is_parquet and not isinstance(rows, RowAdapter | ScoresAdapter):
            raise ValueError(f"writer({name!r}): for Parquet, an adapter of your own needs schema=.")
        known = schema or (self.inputs.parquet_schema() if self.inputs.is_parquet else None)
        writer = self.inputs.writer(self.output, name, ReasonAdapter(rows, reason) if reason else rows, known)
        give_claim(self._claim, [writer])
        self._writers[name] = (writer, rows, schema is None)
        return writer

    def save(self, name: str) -> SaveDocuments:
        """A step that saves documents as they are for a later stage, and passes them on."""
        return SaveDocuments(self._intermediate(name), self._unfinished)

    def load(self, name: str) -> LoadDocuments:
        """The first step of a later stage, which reads what the same task saved."""
        return LoadDocuments(self._intermediate(name))

    def between(self, name: str) -> SealedFolder:
        """A folder for what DataTrove's steps of one stage hand to another; it may be deleted when the run has ended.

        What a step within `whole` has written there is read only if it is as it was written.
        """
        return SealedFolder(self._intermediate(name))

    def whole(self, step: PipelineStep) -> WholeOutput:
        """A DataTrove step with an `output_folder`, whose files appear when a task has written all of them."""
        return WholeOutput(step, self._unfinished)

    def _intermediate(self, name: str) -> str:
        return self.path(f"{INTERMEDIATE}/{name}")

    @property
    def _unfinished(self) -> str:
        return self.path(f"{UNFINISHED}/intermediate")

    # --- running it --------------------------------------------------------------------------------------------------

    def __call__(self, *stages: Any) -> RunResult | None:
        """Run a pipeline, or stages one after the other, and print what became of the documents.

        Of the log, warnings and errors are shown, unless the run is `verbose`.

        Args:
            stages: a list of steps; or one `Stage` after the other.

        Raises:
            ValueError: as `execute`; or no document could be scored.
            IncompleteRun: as `execute`.
        """
        with quiet_stderr(not self.verbose):
            result = self.execute(*stages)
        if result is None:
            return None
        print(result.table())
        print(result.ending())
        if problem := result.problem():
            raise ValueError(problem)
        return result

    def execute(self, *stages: Any) -> RunResult | None:
        """Run as `run(...)` does, show all of the log, and print nothing about the documents.

        Args:
            stages: a list of steps; or one `Stage` after the other.

        Raises:
            ValueError: the settings are not those of the run that the folder holds, a model cannot be found, the rows
                are not what the filters need, or the cluster refuses the jobs; nothing has been changed then.
            IncompleteRun: tasks failed; the same run again runs only those.
        """
        if is_import_in_worker():
            logger.warning("A worker process imports this script: the pipeline is not run again in it.")
            return None
        given = as_stages(stages, self.tasks)
        self._require_main_guard(given)
        require_no_overlap(self.inputs, self.output, self.folders)
        if not self.overwrite:
            require_same_settings(self.output, self._record(given))
        filters = [step for stage in given for step in stage.filters]
        scoring = Scoring(filters, self.inputs, self._adapter, self.executor, readable_run(self.output))
        self._complete(given, scoring)
        record = self._record(given, scoring)
        require_claimable(self.output, record, self.overwrite)
        executors = self._executors(given, scoring)
        with active_run(self.output):
            resumed = self._take_output(record)
            started = time.perf_counter()
            with self._claim.telling_of_loss():
                self.inputs.write_paths(self.output)
                self._warn_of_loading(given, executors, scoring)
                if not run_to_end(executors, self.cluster.wait):
                    return None
                self._claim.require()
                self._require_inputs_as_they_were()
                seconds = None if resumed or self.executor == "slurm" else time.perf_counter() - started
                return self._result(given, seconds)

    def _take_output(self, record: dict[str, Any]) -> bool:
        """Make the output folder this run's, and tell all steps that publish files; gives whether it is continued."""
        sizes, folder = self.inputs.sizes, self.inputs.folder
        continued = None if self.overwrite else continued_run(self.output, record)
        recorded = (continued or {}).get("contents") or {}
        self._contents = require_unchanged(folder, sizes, recorded)
        contents = recorded or input_contents(folder, sizes)
        self._contents = self._contents or contents
        claim = new_claim()
        resumed = claim_output(self.output, record | {"contents": contents, CLAIM: claim}, self.overwrite)
        self._claim.hold(None if resumed else claim["id"])
        return resumed

    def _require_inputs_as_they_were(self) -> None:
        """Rows of a file that has changed between two tasks, or since it was listed, are of both."""
        try:
            require_unchanged(self.inputs.folder, self.inputs.sizes, self._contents)
        except ValueError as error:
            raise IncompleteRun(str(error)) from None

    @property
    def folders(self) -> list[str]:
        """The folders of rows that the writers of this run write, in the output folder."""
        return sorted({_root(name) for name in self._writers}, reverse=True)

    def _require_main_guard(self, stages: list[Stage]) -> None:
        workers = min(self.workers or 1, max(stage.tasks or self.tasks for stage in stages))
        if self.executor == "local" and workers > 1:
            require_main_guard(workers)

    def _complete(self, stages: list[Stage], scoring: Scoring) -> None:
        """Tell the steps what is known only when the pipeline is: columns of Parquet, documents of each task."""
        for writer, rows, follows in self._writers.values():
            if follows and isinstance(writer, WholeParquetWriter):
                scorers, answers, cascades = scoring.scorers, scoring.all_answers, scoring.cascades
                if not isinstance(rows, ScoresAdapter):
                    columns = output_schema(self.inputs, scorers, answers, cascades)
                    writer.schema = with_columns_of_steps(stages, columns)
                else:
                    own = {rows.prefix: scorers.get(rows.prefix)} if rows.prefix else scorers
                    id_key = getattr(self._adapter, "id_key", "id")
                    writer.schema = sidecar_schema(self.inputs, id_key, own, answers, cascades)
        for step in scoring.filters:
            step.audit_folder = self.path(f"{AUDIT}/{step.prefix}")
        tell_documents_per_task(stages[0].pipeline, self.inputs, self.tasks)

    def _record(self, stages: list[Stage], scoring: Scoring | None = None) -> dict[str, Any]:
        """What `run_record` keeps of this run; without `scoring`, what is known before its models are found."""

        def settings(step: Any) -> dict[str, Any]:
            found = step_settings(step, self.path(""))
            return found | scoring.settings(step) if scoring and isinstance(step, QualityFilter) else found

        filters = scoring.described() if scoring else []
        return {
            "name": self.name,
            "input": self.inputs.folder.path,
            "files": self.inputs.sizes,
            "tasks": self.tasks,
            "folders": self.folders,
            **readable_record(filters, self._adapter),
            "filters": filters,
            "stages": [
                {"name": stage.name, "tasks": stage.tasks or self.tasks, "steps": list(map(settings, stage.pipeline))}
                for stage in stages
            ],
        }

    # --- executors ---------------------------------------------------------------------------------------------------

    def _executors(self, stages: list[Stage], scoring: Scoring) -> list[PipelineExecutor]:
        """An executor per stage, each after the one before; of several stages, a last one that writes the table."""
        if len(stages) == 1:
            return [self._executor(stages[0], stages[0].pipeline, self.name, "logs", scoring, None)]
        require_none_queued(get_datafolder(self.path("logs")))
        folders = {stage.name: self.path(f"logs/counts/{stage.name}") for stage in stages if stage.has_documents}
        write_table = WriteTable(list(folders.values()), self.tasks, self.path("logs/counts"), self._unfinished)
        executors: list[PipelineExecutor] = []
        for stage in [*stages, _table_stage(stages, write_table)]:
            steps = stage.pipeline
            if stage.name in folders:
                steps = counted(steps, folders[stage.name], self._unfinished)
            before = executors[-1] if executors else None
            logs = f"logs/stages/{stage.name}"
            executors.append(self._executor(stage, steps, f"{self.name}-{stage.name}", logs, scoring, before))
        return executors

    def _executor(
        self,
        stage: Stage,
        steps: list[Any],
        name: str,
        logs: str,
        scoring: Scoring,
        before: PipelineExecutor | None,
    ) -> PipelineExecutor:
        give_claim(self._claim, steps)
        scoring_filters = [step for step in stage.filters if step.scorer is not None]
        cluster = stage.cluster or self.cluster
        has_own = stage.cluster is not None or logs == "logs"
        on_gpu = any(step.scorer.device not in ("cpu", "mps") for step in scoring_filters if step.scorer)
        return make_executor(
            [*steps, HoldsClaim(self._claim)],
            executor=self.executor,
            name=name,
            tasks=stage.tasks or self.tasks,
            logging_dir=self.path(logs),
            workers=self.workers,
            cluster=cluster,
            gpu=on_gpu or (cluster.gpus_per_task is not None and (has_own or bool(scoring_filters))),
            depends=before,
            memory_gb=memory_gb(scoring.weights_of(scoring_filters)) if scoring_filters else None,
            keeps_progress=bool(scoring_filters) and all(step.checkpoints_dir for step in scoring_filters),
            overwrite=self.overwrite,
        )

    def _warn_of_loading(self, stages: list[Stage], executors: list[PipelineExecutor], scoring: Scoring) -> None:
        for stage, executor in zip(stages, executors, strict=False):  # the table's is the last
            if weights := scoring.weights_of(stage.filters):
                warn_of_loading(weights, self.inputs, executor)

    def _result(self, stages: list[Stage], seconds: float | None) -> RunResult:
        folders = [self.path(name) for name in self.folders]
        filters = [step for stage in stages for step in stage.filters]
        about = about_run(filters, folders, self.path("logs"), self._output)
        if len(stages) == 1:
            return RunResult(FilterSummary.of_run(self.output), [], seconds, folders, about)
        if self.output.isdir(UNFINISHED):  # what killed tasks left
            self.output.rm(UNFINISHED, recursive=True)
        counts = [get_datafolder(self.path(f"logs/counts/{stage.name}")) for stage in stages if stage.has_documents]
        return RunResult([], total_counts(counts, self.tasks), seconds, folders, about)


def with_columns_of_steps(stages: list[Stage], schema: "pa.Schema") -> "pa.Schema":
    """The columns of rows, with those that steps with a method `extend_schema` add to them."""
    for step in (step for stage in stages for step in stage.pipeline):
        if extend := getattr(step, "extend_schema", None):
            schema = extend(schema)
    return schema


def _root(name: str) -> str:
    return name.partition("/")[0]


def _table_stage(stages: list[Stage], step: WriteTable) -> Stage:
    """The stage that writes the table: one task, where the first stage runs, without a GPU."""
    cluster = stages[0].cluster and replace(stages[0].cluster, gpus_per_task=None)
    return Stage(f"{len(stages) + 1}-table", [step], tasks=1, cluster=cluster)
