"""Which run owns an output folder: a random id in `logs/run.json`, which every task looks at before it publishes.

A run that was suspended, or is slow to end, may still be there when another one takes its folder with overwrite=True.
Without the id it would publish its rows among those of the new run, or mark the new run's tasks as completed.
"""

import contextlib
import os
import socket
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from datatrove.data import Document
from datatrove.io import DataFolder
from datatrove.pipeline.base import PipelineStep

from datatrove_quality.runs.completed_tasks import IncompleteRun
from datatrove_quality.runs.run_record import CLAIM, RECORD, recorded_run


class LostOutput(IncompleteRun):
    """Another run has taken the output folder."""


def new_claim() -> dict[str, Any]:
    """An id that no other run has, and who has it."""
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return {"id": uuid.uuid4().hex, "pid": os.getpid(), "host": socket.gethostname(), "since": since}


class Claim:
    """A run's claim to its output folder; shared by its steps, and pickled with them.

    Args:
        output: the run's folder.
    """

    def __init__(self, output: DataFolder):
        self.output = output
        self.id: str | None = None

    def hold(self, id: str | None) -> None:
        """Be the run of this id; None: of the run that is continued.

        Raises:
            LostOutput: the folder is another run's.
        """
        self.id = id or self._recorded().get("id")
        self.require()

    def require(self) -> None:
        """Check that the folder is still this run's.

        Raises:
            LostOutput: it is not; names the run that has it.
        """
        if self.id is None:
            return
        found = self._recorded()
        if found.get("id") == self.id:
            return
        who = (
            f"process {found.get('pid')} on {found.get('host')}, since {found.get('since')}"
            if found
            else f"its {RECORD} is gone"
        )
        raise LostOutput(
            f"{self.output.path} belongs to another run now ({who}): what this one has written is left out. End this "
            "run, or give it a folder of its own."
        )

    @contextlib.contextmanager
    def telling_of_loss(self) -> Iterator[None]:
        """A block whose errors are told as what they are: the run that takes a folder deletes what is in it.

        Raises:
            LostOutput: there was an error, and the folder is another run's.
            Exception: the error, where the folder is still this run's.
        """
        try:
            yield
        except Exception:
            self.require()
            raise

    def _recorded(self) -> dict[str, Any]:
        self.output.fs.invalidate_cache()
        try:
            return dict((recorded_run(self.output) or {}).get(CLAIM) or {})
        except (ValueError, FileNotFoundError):  # being written, or deleted, by another run
            return {}


class HoldsClaim(PipelineStep):
    """The last step of each task: DataTrove marks a task as completed only if the folder is still its run's.

    Args:
        claim: of the run.
    """

    type = "🔒 - CLAIM"
    name = "Output folder"

    def __init__(self, claim: Claim):
        super().__init__()
        self.claim = claim

    def run(self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:  # type: ignore[override]
        """Pass documents on, and look at the end."""
        with self.claim.telling_of_loss():
            yield from data or ()
        self.claim.require()


def give_claim(claim: Claim, steps: Iterable[Any]) -> None:
    """Give the claim to all steps that publish files, also within others."""
    for step in steps:
        parts: tuple[Any, ...] = (step, getattr(step, "exclusion_writer", None), getattr(step, "step", None))
        for part in parts:
            if hasattr(part, "claim"):
                part.claim = claim
