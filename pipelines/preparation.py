"""What is done on the login node before jobs are queued: fetch the classifier, and see what its loading will cost."""

import math
from dataclasses import dataclass, replace

from inputs import Inputs
from loguru import logger

from datatrove_quality import ScorerConfig
from datatrove_quality.fingerprint import weights_size
from datatrove_quality.loading import find_model, model_folder, prepare_for_nodes


# Rough, and meant to be: they decide about a warning only. docs/clusters.md tells where they come from.
LOAD_SECONDS, LOAD_BYTES_PER_SECOND = 30, 5e8
FLOPS, MOST_TOKENS_PER_SECOND = 1.2e14, 3e5
BYTES_PER_TOKEN, COMPRESSION = 4, 3
WORK_TO_LOAD = 10


@dataclass(frozen=True)
class Preparation:
    """A classifier that is ready for the nodes of a cluster.

    Args:
        scorer: for the tasks, with nothing left open that a node could resolve otherwise.
        here: the same to look at on this machine, which may have no GPU.
        weights: bytes.
    """

    scorer: ScorerConfig
    here: ScorerConfig
    weights: int

    @classmethod
    def of(cls, scorer: ScorerConfig) -> "Preparation":
        """Fetch a classifier and settle what is open; see `prepare_for_nodes`."""
        settled = prepare_for_nodes(scorer)
        return cls(settled, replace(settled, device="cpu"), weights_size(model_folder(settled, find_model(settled))))

    @property
    def memory_gb(self) -> int:
        """What a task needs: the weights, once more while they are turned into another dtype, and the rest."""
        return 4 + math.ceil(2.5 * self.weights / 2**30)

    def warn_of_loading(self, inputs: Inputs, tasks: int, tasks_per_job: int, executor: str) -> None:
        """Say so where the model would be loaded for little work.

        Args:
            inputs: what is to be scored.
            tasks: into how many parts it is divided.
            tasks_per_job: how many of them a job runs; on SLURM they share a process, on Ray they do not.
            executor: "slurm" or "ray".
        """
        loads = math.ceil(tasks / tasks_per_job) if executor == "slurm" else tasks
        load = LOAD_SECONDS + self.weights / LOAD_BYTES_PER_SECOND
        tokens = sum(inputs.sizes.values()) / BYTES_PER_TOKEN * (1 if inputs.ending == ".jsonl" else COMPRESSION)
        parameters = self.weights / 2
        work = tokens / min(MOST_TOKENS_PER_SECOND, FLOPS / (2 * parameters)) / loads
        if loads == 1 or work >= WORK_TO_LOAD * load:
            return
        fewer = max(1, int(loads * work / (WORK_TO_LOAD * load)))
        advice = f"--tasks-per-job {math.ceil(tasks / fewer)}" if executor == "slurm" else f"--tasks {fewer}"
        logger.warning(
            f"The model is loaded {loads} times, each about {load:.0f} s for about {work:.0f} s of work (an estimate "
            f"from the sizes of model and input): {advice} loads it less often."
        )


def needs_gpu(scorer: ScorerConfig) -> bool:
    """Whether the tasks are to get a GPU from the cluster."""
    return scorer.device not in ("cpu", "mps")
