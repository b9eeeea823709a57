"""Where a pipeline runs: on this machine, on SLURM or on Ray.

`make_executor` builds DataTrove's executor around a pipeline and finds the mistakes that can be found before anything
is queued, written or deleted; `run_to_end` starts executors. What only one executor needs is in slurm.py and ray.py.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

from datatrove.executor.base import PipelineExecutor
from datatrove.io import DataFolder, get_datafolder
from datatrove.pipeline.base import PipelineStep

from datatrove_quality.extras import require_extra
from datatrove_quality.model.staging import STAGE_VARIABLE
from datatrove_quality.runs.cluster import EXECUTORS, Cluster
from datatrove_quality.runs.completed_tasks import IncompleteRun
from datatrove_quality.runs.local_pool import LocalExecutor
from datatrove_quality.runs.ray import ray_executor
from datatrove_quality.runs.run_record import read_json
from datatrove_quality.runs.slurm import SlurmExecutor, slurm_executor
from datatrove_quality.runs.slurm_queue import require_login_node, require_none_queued
from datatrove_quality.runs.slurm_units import gibibytes, seconds


# What a job needs beside a model's weights: Python, torch, CUDA and the documents in flight.
DEFAULT_MEMORY_GB = {"cpu": 4, "gpu": 32}
DEFAULT_CPUS = {"cpu": 1, "gpu": 4}


def require_executor(executor: str) -> None:
    """Refuse an executor that does not exist, or cannot be reached from this machine.

    Raises:
        ValueError: says which, and what to do.
        ImportError: Ray is not installed.
    """
    if executor not in EXECUTORS:
        raise ValueError(f"executor={executor!r}: give one of {', '.join(map(repr, EXECUTORS))}.")
    if executor == "slurm":
        require_login_node()
    if executor == "ray":
        require_extra("ray", "executor='ray' (--executor ray)")


def make_executor(
    pipeline: list[PipelineStep | Callable],
    *,
    executor: str,
    name: str,
    tasks: int,
    logging_dir: str,
    workers: int | None = None,
    cluster: Cluster | None = None,
    gpu: bool = False,
    depends: PipelineExecutor | None = None,
    memory_gb: int | None = None,
    keeps_progress: bool = False,
    overwrite: bool = False,
) -> PipelineExecutor:
    """Build an executor around a pipeline; nothing is queued before `run_to_end`.

    Args:
        pipeline: the steps.
        executor: "local", "slurm" or "ray".
        name: of the job.
        tasks: into how many parts the pipeline's input is divided.
        logging_dir: DataTrove's folder of logs, statistics and completions, on a file system that all nodes see.
        workers: tasks (on a cluster: jobs) at a time. None: local 1, else no limit.
        cluster: what to request from the cluster.
        gpu: whether the steps compute on GPUs.
        depends: the executor of the stage before, also made here. SLURM starts these tasks when its have succeeded; on
            the other executors stages run in the order in which `run_to_end` gets them.
        memory_gb: what a task needs, where the cluster's `mem` is None.
        keeps_progress: what a task has computed is saved as it comes, so near its time limit it may requeue itself.
        overwrite: the caller deletes what an earlier run left in `logging_dir` before it runs this one.

    Raises:
        ValueError: the tasks cannot run like this: there is no such executor here, the cluster refuses the job, an
            earlier run's jobs are still queued or divided the input differently.
    """
    cluster = cluster or Cluster()
    cluster.require_effect(executor)
    require_executor(executor)
    if cluster.stage_model:
        os.environ[STAGE_VARIABLE] = os.path.abspath(cluster.stage_model)
    logs = get_datafolder(logging_dir)
    require_none_queued(logs)
    if not overwrite:
        _require_same_tasks(logs, tasks)
    common: dict[str, Any] = {
        "tasks": tasks,
        "logging_dir": logging_dir,
        "randomize_start_duration": cluster.randomize_start_duration or 0,
    }
    if executor == "local":
        return LocalExecutor(pipeline, **common, workers=min(workers or 1, tasks))
    common |= {"workers": workers or -1, "tasks_per_job": cluster.tasks_per_job or 1}
    common |= _resources(cluster, gpu, memory_gb)
    if executor == "ray":
        limit = seconds(cluster.time) if cluster.time else None
        return ray_executor(pipeline, common | {"time": limit}, _job_environment())
    common |= {"job_name": name, "depends": depends}
    return slurm_executor(pipeline, common, cluster, _job_environment(), keeps_progress)


def run_to_end(stages: Sequence[PipelineExecutor], wait: bool) -> bool:
    """Run stages one after the other, or queue them.

    Args:
        stages: executors made by `make_executor`, in their order.
        wait: for SLURM's jobs.

    Returns:
        Whether all is done; otherwise jobs are queued.

    Raises:
        IncompleteRun: see `require_complete`.
    """
    queued: list[SlurmExecutor] = []
    for stage in stages:
        stage.run()
        if isinstance(stage, SlurmExecutor) and stage.is_queued:
            queued.append(stage)
        else:
            require_complete(stage)
    if queued:
        print("\n".join(stage.what_is_queued() for stage in queued))
        if not wait:
            print("When they have ended, the same command prints the table, or runs the tasks that are missing.")
            return False
    for stage in queued:
        stage.wait()
    for stage in queued:
        require_complete(stage)
    return True


def require_complete(executor: PipelineExecutor) -> None:
    """Refuse a run that has left a task undone.

    Raises:
        IncompleteRun: names how many tasks, and where the logs are.
    """
    missing = executor.get_incomplete_ranks(skip_completed=True)
    if missing:
        raise IncompleteRun(
            f"{len(missing)} of {executor.world_size} tasks failed, such as {missing[0]}: see "
            f"{executor.logging_dir.resolve_paths(f'logs/task_{missing[0]:05d}.log')}"
            + (f" and {executor.slurm_logs_folder}" if isinstance(executor, SlurmExecutor) else "")
            + ". The same command runs only what is missing."
        )


def _resources(cluster: Cluster, gpu: bool, memory_gb: int | None) -> dict[str, Any]:
    """The resources of a task, in DataTrove's words."""
    kind = "gpu" if gpu else "cpu"
    cpus = cluster.cpus_per_task or DEFAULT_CPUS[kind]
    gigabytes = gibibytes(cluster.mem) if cluster.mem else max(memory_gb or DEFAULT_MEMORY_GB[kind], cpus)
    gpus = (cluster.gpus_per_task or 1) if gpu else 0
    return {"cpus_per_task": cpus, "mem_per_cpu_gb": gigabytes / cpus, "gpus_per_task": gpus}


def _job_environment() -> dict[str, str]:
    """What a job finds in its environment: nothing may touch the network."""
    staging = {STAGE_VARIABLE: os.environ[STAGE_VARIABLE]} if STAGE_VARIABLE in os.environ else {}
    return {"HF_HUB_OFFLINE": "1"} | staging


def _require_same_tasks(logs: DataFolder, tasks: int) -> None:
    """A completed task is skipped by its number: with another count, the number means other files."""
    if not logs.isfile("executor.json") or not logs.isdir("completions") or not logs.list_files("completions"):
        return
    try:
        before = read_json(logs, "executor.json").get("tasks")
    except ValueError:  # a kill while DataTrove rewrote it; run.json guards the number, too
        return
    if before != tasks:
        raise ValueError(
            f"{logs.path} holds a run of {before} tasks, and this one has {tasks}: their outputs would mix. Set "
            f"tasks={before} to continue it, or another folder."
        )
