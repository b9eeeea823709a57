"""Tasks that are marked as completed, and the error of a run that has left some undone."""

from contextlib import suppress
from typing import Any

from datatrove.executor.base import PipelineExecutor
from datatrove.utils.stats import PipelineStats

from datatrove_quality.runs.terminal import is_quiet, shorten_logged_errors


class IncompleteRun(RuntimeError):
    """Tasks of a run failed or were lost; starting the same run again runs only those."""


class OwnCompletions(PipelineExecutor):
    """A part of each executor: a task is completed only in a folder that is still its run's.

    The pipeline's last step has looked; a process that was stopped since then must not mark a task of the run that has
    taken the folder meanwhile, which would leave it out.
    """

    def mark_rank_as_completed(self, rank: int) -> None:
        """Mark a task as completed; take it back where the folder turns out to be another run's.

        Raises:
            LostOutput: it is.
        """
        super().mark_rank_as_completed(rank)
        claim = getattr(self.pipeline[-1], "claim", None) if self.pipeline else None
        try:
            if claim is not None:
                claim.require()
        except RuntimeError:
            for mark in (f"completions/{rank:05d}", f"stats/{rank:05d}.json"):
                with suppress(FileNotFoundError):
                    self.logging_dir.rm(mark)
            raise


class JobExecutor(OwnCompletions):
    """A part of the executors of clusters: jobs log as much of an error as the process that starts them shows.

    Args:
        arguments: as those of DataTrove's executor.
        options: likewise.
    """

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.quiet = is_quiet()

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> PipelineStats:
        if self.quiet:
            shorten_logged_errors(in_job=True)
        return super()._run_for_rank(rank, local_rank, node_rank)
