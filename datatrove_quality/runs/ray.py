"""A pipeline as Ray's tasks."""

from collections.abc import Callable
from typing import Any

from datatrove.executor import RayPipelineExecutor
from datatrove.pipeline.base import PipelineStep

from datatrove_quality.runs.completed_tasks import JobExecutor


class RayExecutor(JobExecutor, RayPipelineExecutor):
    """DataTrove's executor, whose tasks are completed in a folder of their own run, and log as little as it shows."""


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
