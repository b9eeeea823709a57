"""DataTrove steps that pass on the rows of a sample, and write held-out rows apart."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.writers.disk_base import DiskWriter

from datatrove_quality.annotation.sample_config import SampleConfig
from datatrove_quality.annotation.sampling import TaskSample
from datatrove_quality.evaluation.sample_weights import WEIGHT
from datatrove_quality.rows.score_columns import is_score


if TYPE_CHECKING:
    import pyarrow as pa

# In a document's metadata, between the two steps.
HELD_OUT = "datatrove_quality_held_out"


class TakeSample(PipelineStep):
    """Passes on the documents that were drawn; each gets a `sample_weight`, how many rows of the input it stands for.

    Comes right behind the reader, since documents are known by their number among those of a task.

    Args:
        config: which rows.
        tasks: of `draw_task_samples`: the rows of each task.
    """

    name = "🎲 Sample"
    type = "🔻 - FILTER"

    def __init__(self, config: SampleConfig, tasks: Sequence[TaskSample]):
        super().__init__()
        self.config = config
        self.tasks = list(tasks)

    def run(self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:  # type: ignore[override]
        """Pass on what was drawn.

        Args:
            data: the documents of the reader.
            rank: which task this is.
            world_size: how many tasks there are.

        Yields:
            Those that were drawn, in their order.

        Raises:
            RuntimeError: the task is not the one for which rows were drawn.
        """
        own = self.tasks[rank] if world_size == len(self.tasks) else None
        drawn = iter(() if own is None else zip(own.chosen.tolist(), own.weights, own.held_out, strict=True))
        number, following = -1, next(drawn, None)
        for number, document in enumerate(data or ()):
            self.stat_update("total")
            if following is None or following[0] != number:
                self.stat_update("dropped")
                continue
            self.stat_update("forwarded")
            if self.config.sample is not None:
                document.metadata[WEIGHT] = _weight(document, float(following[1]))
            if following[2]:
                document.metadata[HELD_OUT] = True
            following = next(drawn, None)
            yield document
        if own is None or number + 1 != own.rows or following is not None:
            raise RuntimeError(
                f"Task {rank} of {world_size} has read {number + 1} documents, and rows were drawn of "
                f"{own.rows if own else 0}: the input has changed, or a step before this one drops documents."
            )

    def extend_schema(self, schema: "pa.Schema") -> "pa.Schema":
        """The columns of Parquet rows after this step, which a `Run` asks for.

        Args:
            schema: their columns before it.
        """
        import pyarrow as pa

        if self.config.sample is None or WEIGHT in schema.names:
            return schema
        return schema.append(pa.field(WEIGHT, pa.float64()))


class WriteHeldOut(BaseFilter):
    """Writes held-out documents apart, and passes on the others.

    Args:
        writer: of the held-out documents.
    """

    name = "🧪 Held out"

    def __init__(self, writer: DiskWriter):
        super().__init__(writer)

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Whether a document is not held out."""
        return not doc.metadata.pop(HELD_OUT, False)


def _weight(document: Document, weight: float) -> float:
    """The weight in a sample of a sample is a product.

    Raises:
        ValueError: the row's weight is not a positive number.
    """
    before = document.metadata.get(WEIGHT)
    if before is None:
        return weight
    if not (is_score(before) and before > 0):
        raise ValueError(f"{WEIGHT}: row {document.id!r} has {before!r:.80} there: rename this column.")
    return float(before) * weight
