"""What each step of each stage did to how many documents, exactly, and the table of it.

DataTrove's own statistics are not exact where a job runs several tasks with the same steps (`tasks_per_job`), as each
task goes on counting where the one before stopped; and they are written in place. Here a task counts from zero, checks
that no document was lost between its steps, and leaves a file that appears when it is complete:

    [CountFromZero(steps), *steps, SaveCounts(steps, ...)]
"""

import json
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from datatrove.data import Document
from datatrove.io import DataFolder, get_datafolder
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.stats import Stats
from loguru import logger

from datatrove_quality.runs.claim import Claim
from datatrove_quality.runs.outputs import whole_files


@dataclass
class StepCount:
    """How many documents went in and out of a step.

    Args:
        name: of the folder that gets what the step drops; "" where it drops nothing.
        came: documents that went in.
        left: documents that went on.
        dropped: how many did not, by reason.
    """

    name: str
    came: int
    left: int
    dropped: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, step: Any) -> "StepCount | None":
        """What the statistics of a step say, if it counts documents."""
        counts = {name: int(stat.total) for name, stat in step.stats.stats.items()}
        writer = getattr(step, "exclusion_writer", None)
        if writer is None and not counts.get("dropped"):
            total = counts.get("total", counts.get("documents"))  # the latter is what readers count
            return None if total is None else cls("", total, counts.get("forwarded", total))
        name = type(step).__name__ if writer is None else str(writer.output_folder.path).rpartition("/")[2]
        reasons = {key.removeprefix("dropped_"): n for key, n in counts.items() if key.startswith("dropped_")}
        if unnamed := counts.get("dropped", 0) - sum(reasons.values()):
            reasons[name] = unnamed
        return cls(name, counts.get("total", 0), counts.get("forwarded", 0), reasons)


class CountFromZero(PipelineStep):
    """Comes before the steps whose counts are saved, and resets them for each task.

    Args:
        steps: of the pipeline.
    """

    type = "🧮 - COUNTS"
    name = "from zero"

    def __init__(self, steps: Sequence[Any]):
        super().__init__()
        self.steps = [step for step in steps if isinstance(step, PipelineStep)]

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Any:
        """Reset the statistics, and those of writers of dropped documents."""
        for step in self.steps:
            for counting in (step, getattr(step, "exclusion_writer", None)):
                if counting is not None:
                    counting.stats = Stats(str(counting))
        return data


class SaveCounts(PipelineStep):
    """Comes after the steps, and leaves their counts in `{rank:05d}.json` when all have done their work.

    Args:
        steps: of the pipeline.
        folder: where the files appear.
        unfinished: a folder on the same file system for files that are being written.
    """

    type = "🧮 - COUNTS"
    name = "saved"

    def __init__(self, steps: Sequence[Any], folder: str, unfinished: str):
        super().__init__()
        self.steps = [step for step in steps if isinstance(step, PipelineStep)]
        self.folder = get_datafolder(folder)
        self.unfinished = get_datafolder(unfinished)
        self.claim: Claim | None = None

    def run(self, data: Iterable[Document] | None = None, rank: int = 0, world_size: int = 1) -> None:  # type: ignore[override]
        """Save the counts of a task.

        Raises:
            RuntimeError: a document was lost or doubled.
        """
        deque(data or (), maxlen=0)
        counts = [count for count in map(StepCount.of, self.steps) if count is not None]
        _require_sums(counts, f"task {rank}")
        with (
            whole_files(self.folder, self.unfinished, self.claim) as private,
            private.open(f"{rank:05d}.json", "w") as file,
        ):
            json.dump([vars(count) for count in counts], file)


def counted(steps: Sequence[Any], folder: str, unfinished: str) -> list[Any]:
    """A pipeline whose counts are exact and saved; arguments as those of `SaveCounts`."""
    return [CountFromZero(steps), *steps, SaveCounts(steps, folder, unfinished)]


class WriteTable(PipelineStep):
    """Lays out the counts of all tasks of all stages as a table, for one task.

    Args:
        folders: of `SaveCounts`, in the order of the stages.
        tasks: of each stage.
        folder: where `table.txt` appears.
        unfinished: a folder on the same file system for files that are being written.
    """

    type = "🧮 - COUNTS"
    name = "table"

    def __init__(self, folders: Sequence[str], tasks: int, folder: str, unfinished: str):
        super().__init__()
        self.folders = [get_datafolder(counts) for counts in folders]
        self.tasks = tasks
        self.folder = get_datafolder(folder)
        self.unfinished = get_datafolder(unfinished)
        self.claim: Claim | None = None

    def run(self, data: None = None, rank: int = 0, world_size: int = 1) -> None:  # type: ignore[override]
        """Write the table, and show it in the log.

        Raises:
            RuntimeError: a document was lost or doubled between two stages.
        """
        counts = total_counts(self.folders, self.tasks)
        text = table(counts)
        with whole_files(self.folder, self.unfinished, self.claim) as private, private.open("table.txt", "w") as file:
            file.write(text)
        logger.info(text)


def total_counts(folders: Sequence[DataFolder], tasks: int) -> list[StepCount]:
    """The counts of the first step and of those that can drop documents, over all tasks."""
    totals: dict[str, StepCount] = {}
    for rank in range(tasks):
        counts: list[StepCount] = []
        for folder in folders:
            with folder.open(f"{rank:05d}.json", "r") as file:
                counts += [StepCount(**count) for count in json.load(file)]
        _require_sums(counts, f"task {rank} of all stages")
        for count in (count for place, count in enumerate(counts) if count.name or place == 0):
            total = totals.setdefault(count.name, StepCount(count.name, 0, 0))
            total.came += count.came
            total.left += count.left
            total.dropped = dict(Counter(total.dropped) + Counter(count.dropped))
    return list(totals.values())


def table(counts: Sequence[StepCount]) -> str:
    """The counts as a table of text.

    Args:
        counts: of `total_counts`.
    """
    documents = counts[0].came
    lines = ["", _line("documents in", documents, documents)]
    for count in filter(lambda count: count.name, counts):
        lines.append(_line(f"dropped: {count.name.replace('_', ' ')}", count.came - count.left, documents))
        lines += [_line(f"  {reason}", number, documents) for reason, number in sorted(count.dropped.items())]
    lines += [_line("kept", counts[-1].left, documents), ""]
    return "\n".join(lines)


def _line(name: str, count: int, documents: int) -> str:
    share = f"{count / documents:.1%}" if documents else ""
    return f"{name:<44}{count:>12,}{share:>9}"


def _require_sums(counts: Sequence[StepCount], where: str) -> None:
    for count, following in zip(counts, [*counts[1:], None], strict=True):
        if count.came != count.left + sum(count.dropped.values()):
            raise RuntimeError(f"{where}: a step took in and gave out different numbers of documents: {count}")
        if following is not None and count.left != following.came:
            raise RuntimeError(
                f"{where}: documents were lost or doubled between {count} and {following}, or dropped by a function: "
                "in stages, let a DataTrove filter drop them, which counts them."
            )
