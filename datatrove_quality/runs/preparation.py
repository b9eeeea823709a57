"""What is done on the login node before jobs are queued: fetch the classifier, and see what its loading will cost."""

import argparse
import math
from dataclasses import dataclass, replace

from datatrove.executor import RayPipelineExecutor, SlurmPipelineExecutor
from datatrove.executor.base import PipelineExecutor
from loguru import logger

from datatrove_quality import ScorerConfig
from datatrove_quality.model.files import find_model, model_folder, prepare_for_nodes, weights_size
from datatrove_quality.runs.executors import value_of
from datatrove_quality.runs.inputs import Inputs


# Rough, and meant to be: they decide about a warning only. docs/clusters.md tells where they come from.
LOAD_SECONDS, LOAD_BYTES_PER_SECOND = 30, 5e8
FLOPS, MOST_TOKENS_PER_SECOND = 1.2e14, 3e5
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
            scorer: as the command line asks for it.
            executor: "local", "slurm" or "ray".
        """
        if executor == "local":
            return cls(scorer, scorer)
        settled = prepare_for_nodes(scorer)
        return cls(settled, replace(settled, device="cpu"), weights_size(model_folder(settled, find_model(settled))))

    @property
    def memory_gb(self) -> int:
        """What a task needs: the weights, once more while they are turned into another dtype, and the rest."""
        return 4 + math.ceil(2.5 * self.weights / 2**30)

    def warn_of_loading(self, inputs: Inputs, executor: PipelineExecutor) -> None:
        """Say so where the model is about to be loaded for little work.

        Args:
            inputs: what is to be scored.
            executor: of the tasks that score. Those of a job share a process on SLURM, and do not on Ray.
        """
        if not isinstance(executor, SlurmPipelineExecutor | RayPipelineExecutor):
            return
        tasks, on_slurm = executor.tasks, isinstance(executor, SlurmPipelineExecutor)
        loads = math.ceil(tasks / executor.tasks_per_job) if on_slurm else tasks
        load = LOAD_SECONDS + self.weights / LOAD_BYTES_PER_SECOND
        tokens = sum(inputs.sizes.values()) / BYTES_PER_TOKEN * (1 if inputs.ending == ".jsonl" else COMPRESSION)
        parameters = self.weights / 2
        work = tokens / min(MOST_TOKENS_PER_SECOND, FLOPS / (2 * parameters)) / loads
        if loads == 1 or work >= WORK_TO_LOAD * load or not executor.get_incomplete_ranks():
            return
        fewer = max(1, int(loads * work / (WORK_TO_LOAD * load)))
        advice = f"--tasks-per-job {math.ceil(tasks / fewer)}" if on_slurm else f"--tasks {fewer}"
        logger.warning(
            f"The model is loaded {loads} times, each about {load:.0f} s for about {work:.0f} s of work (an estimate "
            f"from the sizes of model and input): {advice} loads it less often."
        )


def needs_gpu(options: argparse.Namespace, scorer: ScorerConfig | None) -> bool:
    """Whether tasks that score are to get GPUs from the cluster: a number is given, or the model runs on them."""
    given = value_of(options, "gpus_per_task", "gpu") is not None
    return given or (scorer is not None and scorer.device not in ("cpu", "mps"))
