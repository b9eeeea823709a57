"""The stages of a run: pipelines of which each starts when all tasks of the one before are done."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.readers.base import BaseReader

from datatrove_quality.filter import QualityFilter
from datatrove_quality.runs.cluster import Cluster, require_count
from datatrove_quality.runs.handover import LoadDocuments


Step: TypeAlias = PipelineStep | Callable | Sequence[Any]


@dataclass(frozen=True)
class Stage:
    """A pipeline that starts when all tasks of the stage before are done.

    Args:
        name: of the stage, for its logs and jobs.
        pipeline: the steps.
        tasks: into how many parts its work is divided. None: as the run.
        cluster: the resources that it requests. None: as the run.

    Raises:
        ValueError: a value is not one of those above.
    """

    name: str
    pipeline: list[Any] = field(repr=False)
    tasks: int | None = None
    cluster: Cluster | None = None

    def __post_init__(self) -> None:
        require_count("tasks", self.tasks)
        if not isinstance(self.name, str) or not re.fullmatch(r"[\w-]+", self.name):
            raise ValueError(f"name={self.name!r}: give a stage's name of letters, digits, - and _.")
        if not self.pipeline or isinstance(self.pipeline, str) or not isinstance(self.pipeline, Sequence):
            raise ValueError(f"pipeline={self.pipeline!r:.80}: give a list of DataTrove steps.")
        for number, step in enumerate(self.pipeline, start=1):
            if not callable(step) and not isinstance(step, list | tuple):
                raise ValueError(f"pipeline: step {number} is {step!r:.80}: give a DataTrove step or a function.")

    @property
    def filters(self) -> list[QualityFilter]:
        """Its quality filters."""
        return [step for step in self.pipeline if isinstance(step, QualityFilter)]

    @property
    def has_documents(self) -> bool:
        """Whether the documents themselves go through it, so that its steps are counted."""
        return isinstance(self.pipeline[0], BaseReader | LoadDocuments)


def as_stages(given: Sequence[Any], tasks: int) -> list[Stage]:
    """The stages of what a run is called with: a pipeline, or stages; of several, each name begins with its number.

    Args:
        given: the arguments.
        tasks: of the run.

    Raises:
        ValueError: they are neither; or documents would be handed from one number of tasks to another.
    """
    if len(given) == 1 and isinstance(given[0], list | tuple):
        stages = list(given[0])
        if not stages or not isinstance(stages[0], Stage):
            return [Stage("pipeline", stages)]
    else:
        stages = list(given)
    if not stages or not all(isinstance(stage, Stage) for stage in stages):
        raise ValueError("run(...): give a list of steps, or one Stage(name, [steps]) after the other.")
    for stage in stages:
        if stage.has_documents and stage.tasks not in (None, tasks):
            raise ValueError(
                f"tasks={stage.tasks} of stage {stage.name!r}: each task reads what the same task of the stage before "
                f"saved, so leave it at the run's {tasks}."
            )
    return [replace(stage, name=f"{number}-{stage.name}") for number, stage in enumerate(stages, start=1)]
