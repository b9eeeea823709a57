"""What is done on the login node before jobs are queued: fetch the classifier, estimate what its loading will cost."""

import math
from dataclasses import dataclass, replace

from datatrove.executor import RayPipelineExecutor, SlurmPipelineExecutor
from datatrove.executor.base import PipelineExecutor
from loguru import logger

from datatrove_quality.config import ScorerConfig
from datatrove_quality.model.found_model import find_model, pinned, prepare_for_nodes
from datatrove_quality.model.weights import weights_size
from datatrove_quality.runs.inputs import Inputs


# Rough, and meant to be: they decide about a warning only. docs/clusters.md tells where they come from.
LOAD_SECONDS, LOAD_BYTES_PER_SECOND = 30, 5e8
FLOPS, MAX_TOKENS_PER_SECOND = 1.2e14, 3e5
BYTES_PER_TOKEN, COMPRESSION = 4, 3
WORK_TO_LOAD = 10


@dataclass(frozen=True)
class Preparation:
    """A classifier that is ready for the tasks, wherever they run.

    Args:
        scorer: for the tasks, with nothing left open that a node could resolve otherwise.
        here: the same to look at on this machine, which may have no GPU.
        weights: bytes; 0 where the tasks run on this machine.
    """

    scorer: ScorerConfig
    here: ScorerConfig
    weights: int = 0

    @classmethod
    def of(cls, scorer: ScorerConfig, executor: str) -> "Preparation":
        """For a cluster, fetch a classifier and settle what is open; see `prepare_for_nodes`.

        Args:
            scorer: as the user configured it.
            executor: "local", "slurm" or "ray".
        """
        if executor == "local":
            # One commit for all tasks and for the run's record, wherever the branch moves meanwhile.
            scorer = pinned(scorer)
            return cls(scorer, scorer)
        settled = prepare_for_nodes(scorer)
        return cls(settled, replace(settled, device="cpu"), weights_size(find_model(settled).folder))


def memory_gb(weights: int) -> int:
    """What a task needs: the weights, once more while they are converted to another dtype, and the rest."""
    return 4 + math.ceil(2.5 * weights / 2**30)


def warn_of_loading(weights: int, inputs: Inputs, executor: PipelineExecutor) -> None:
    """Warn where the model is about to be loaded for little work.

    Args:
        weights: bytes.
        inputs: what is to be scored.
        executor: of the tasks that score. Those of a job share a process on SLURM, and do not on Ray.
    """
    if not isinstance(executor, SlurmPipelineExecutor | RayPipelineExecutor):
        return
    tasks, on_slurm = executor.tasks, isinstance(executor, SlurmPipelineExecutor)
    loads = math.ceil(tasks / executor.tasks_per_job) if on_slurm else tasks
    load = LOAD_SECONDS + weights / LOAD_BYTES_PER_SECOND
    tokens = (
        sum(inputs.sizes.values())
        / BYTES_PER_TOKEN
        * (1 if inputs.compression is None and not inputs.is_parquet else COMPRESSION)
    )
    parameters = max(1, weights / 2)
    work = tokens / min(MAX_TOKENS_PER_SECOND, FLOPS / (2 * parameters)) / loads
    if loads == 1 or work >= WORK_TO_LOAD * load or not executor.get_incomplete_ranks():
        return
    fewer = max(1, int(loads * work / (WORK_TO_LOAD * load)))
    advice = f"tasks_per_job={math.ceil(tasks / fewer)}" if on_slurm else f"tasks={fewer}"
    logger.warning(
        f"The model is loaded {loads} times, each about {load:.0f} s for about {work:.0f} s of work (an estimate "
        f"from the sizes of model and input): {advice} loads it less often."
    )
