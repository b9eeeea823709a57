"""A pipeline as Ray's tasks."""

from collections.abc import Callable
from typing import Any

from datatrove.executor import RayPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.stats import PipelineStats

from datatrove_quality.runs.completion import OwnCompletions
from datatrove_quality.runs.terminal import is_quiet, shorten_logged_errors


class RayExecutor(OwnCompletions, RayPipelineExecutor):
    """DataTrove's executor, whose tasks log as much of an error as the process that starts them shows.

    Args:
        arguments: as those of `RayPipelineExecutor`.
        options: likewise.
    """

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.quiet = is_quiet()

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> PipelineStats:
        if self.quiet:
            shorten_logged_errors(in_job=True)
        return super()._run_for_rank(rank, local_rank, node_rank)


def ray_executor(
    pipeline: list[PipelineStep | Callable], options: dict[str, Any], environment: dict[str, str]
) -> RayPipelineExecutor:
    """DataTrove's executor, when some node can run its tasks.

    Args:
        pipeline: the steps.
        options: DataTrove's own, with the memory of one task.
        environment: variables of the tasks' environment, if Ray is started here.

    Raises:
        ValueError: no node has the resources of a task.
    """
    import ray

    options = options | {"mem_per_cpu_gb": options["mem_per_cpu_gb"] * options["tasks_per_job"]}  # which run at once
    if not ray.is_initialized():
        ray.init(runtime_env={"env_vars": environment})
    wanted = {
        "CPU": options["cpus_per_task"],
        "GPU": options["gpus_per_task"],
        "memory": options["mem_per_cpu_gb"] * options["cpus_per_task"] * 2**30,
    }
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(node.get(kind, 0) >= amount for kind, amount in wanted.items()) for node in nodes):
        have = "; ".join(
            f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs, {node.get('memory', 0) / 2**30:.1f} GiB"
            for node in nodes
        )
        raise ValueError(
            f"executor='ray': a task asks for {wanted['CPU']} CPUs, {wanted['GPU']} GPUs and "
            f"{wanted['memory'] / 2**30:.1f} GiB, which no node of this Ray has ({have}), so it would never start. "
            "Give less of cpus_per_task, gpus_per_task or mem."
        )
    return RayExecutor(pipeline, **options)
