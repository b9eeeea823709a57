"""Tasks on this machine, in this process or in worker processes."""

from typing import Any

from datatrove.executor import LocalPipelineExecutor
from datatrove.utils.stats import PipelineStats

from datatrove_quality.runs.completion import OwnCompletions
from datatrove_quality.runs.terminal import is_quiet, quiet_stderr, rewording, shorten_logged_errors


class LocalExecutor(OwnCompletions, LocalPipelineExecutor):
    """DataTrove's local executor, whose worker processes show as much of the log as the process that starts them.

    Args:
        arguments: as those of `LocalPipelineExecutor`.
        options: likewise.
    """

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.quiet = is_quiet()
        self.reword = rewording()

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> PipelineStats:
        # DataTrove sets up a task's log in here, and the default one at its end: both write to this stream.
        if self.quiet:
            shorten_logged_errors()
        with quiet_stderr(self.quiet, self.reword):
            return super()._run_for_rank(rank, local_rank, node_rank)
