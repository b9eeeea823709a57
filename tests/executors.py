"""DataTrove's executors as a run makes them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datatrove_quality.runs.cluster import Cluster
from datatrove_quality.runs.executors import make_executor


def make(
    folder: Path,
    executor: str = "local",
    *,
    tasks: int = 2,
    pipeline: Sequence[Any] = (),
    workers: int | None = None,
    overwrite: bool = False,
    depends: Any = None,
    gpu: bool = False,
    keeps_progress: bool = False,
    **cluster: Any,
) -> Any:
    """An executor of some tasks, with its logs in a folder; the rest is what is asked of a cluster."""
    return make_executor(
        list(pipeline),
        executor=executor,
        name="job",
        tasks=tasks,
        logging_dir=str(folder),
        workers=workers,
        cluster=Cluster(**cluster),
        gpu=gpu,
        depends=depends,
        keeps_progress=keeps_progress,
        overwrite=overwrite,
    )
