"""Where a pipeline runs: on this machine, on SLURM or on Ray, as the command line's `--executor` says.

A script adds the options with `add_executor_options`, builds DataTrove's executor around each of its pipelines with
`make_executor`, which finds the mistakes that can be found before anything is queued, written or deleted, and starts
them with `run_to_end`. What only one executor needs is in slurm_jobs.py and ray_tasks.py.
"""

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from datatrove.executor import LocalPipelineExecutor
from datatrove.executor.base import PipelineExecutor
from datatrove.io import DataFolder, get_datafolder
from datatrove.pipeline.base import PipelineStep

from datatrove_quality.cli.option_types import positive
from datatrove_quality.model.staging import STAGE_VARIABLE
from datatrove_quality.runs.ray import ray_executor
from datatrove_quality.runs.run_record import read_json
from datatrove_quality.runs.slurm import (
    SlurmExecutor,
    gibibytes,
    refuse_while_queued,
    require_login_node,
    seconds,
    slurm_executor,
)


EXECUTORS = ("local", "slurm", "ray")

# What a job needs beside a model's weights: Python, torch, CUDA and the documents in flight.
DEFAULT_MEMORY_GB = {"cpu": 4, "gpu": 32}
DEFAULT_CPUS = {"cpu": 1, "gpu": 4}

# All options by the name under which argparse keeps them: what they are for, and which executors know them.
_OPTIONS: dict[str, tuple[Callable[[str], Any], str, str, tuple[str, ...]]] = {
    "workers": (positive, "N", "tasks (on a cluster: jobs) at a time (default: local 1, else no limit)", EXECUTORS),
    "gpus_per_task": (positive, "N", "GPUs of a task of a GPU stage (default: 1)", ("slurm", "ray")),
    "cpus_per_task": (positive, "N", "default: 4 for a GPU stage, else 1", ("slurm", "ray")),
    "mem": (str, "SIZE", "memory of a task, such as 32G (default: what the stage needs)", ("slurm", "ray")),
    "time": (str, "LIMIT", "of a job, such as 8:00:00 (default: the partition's)", ("slurm", "ray")),
    "tasks_per_job": (positive, "N", "tasks of a job, one after another (Ray: at once; default: 1)", ("slurm", "ray")),
    "randomize_start_duration": (int, "SECONDS", "each task waits up to that before it starts", EXECUTORS),
    "partition": (str, "NAME", "default: the cluster's", ("slurm",)),
    "account": (str, "NAME", "default: yours", ("slurm",)),
    "qos": (str, "NAME", "default: none is asked for", ("slurm",)),
    "venv": (str, "DIR", "a virtual environment for the job (default: the one that runs this)", ("slurm",)),
    "env_command": (str, "SHELL", "shell line for the job after that, such as 'module load cuda'", ("slurm",)),
    "max_array_size": (positive, "N", "most jobs of an array (default: what the cluster allows)", ("slurm",)),
    "sbatch": (str, "KEY=VALUE", "any other argument of sbatch; may be given again", ("slurm",)),
}

# Names of the options in the parsed command line. None of them decides what a pipeline writes.
EXECUTOR_OPTIONS = frozenset({"executor", "wait", "stage_model", *_OPTIONS})


def add_executor_options(parser: argparse.ArgumentParser, stages: Sequence[str] = ()) -> None:
    """Add the options that say where a pipeline runs.

    Args:
        parser: of the script.
        stages: names of the pipeline's stages, if several. Each option then takes a value for all of them, values by
            stage, or both: `--partition short`, `--partition cpu=short,gpu=a100`, `--time 2:00:00,gpu=1-0`.
    """
    text = "where and how the tasks run"
    if stages:
        text += f"; each VALUE may be given by stage, as {','.join(f'{stage}=VALUE' for stage in stages)}"
    group = parser.add_argument_group("executor", text)
    group.add_argument("--executor", choices=EXECUTORS, default="local", help="default: local")
    for name, (convert, metavar, description, executors) in _OPTIONS.items():
        known = "" if executors == EXECUTORS else f" [{', '.join(executors)}]"
        group.add_argument(
            f"--{name.replace('_', '-')}",
            type=_by_stage(convert, stages),
            metavar=metavar,
            action="append" if name == "sbatch" else "store",
            help=f"{description}{known}",
        )
    group.add_argument("--stage-model", metavar="DIR", help="copy the model to DIR, once per node, and read it there")
    group.add_argument("--wait", action="store_true", help="return when the jobs have ended [slurm]")


def value_of(options: argparse.Namespace, name: str, stage: str | None = None) -> Any:
    """What the command line says of an option for a stage; None: nothing."""
    given = getattr(options, name)
    if given is None:
        return None
    if name == "sbatch":
        # The last value of an argument counts: a stage's own.
        return [item[key] for key in ("", stage) for item in given if key in item] or None
    return given.get(stage, given.get(""))


def _by_stage(convert: Callable[[str], Any], stages: Sequence[str]) -> Callable[[str], dict[str, Any]]:
    """A type for argparse: the value by stage; "" stands for the stages that are not named."""
    names = "|".join(map(re.escape, stages))

    def values(text: str) -> dict[str, Any]:
        parts = re.split(rf"(?:^|,)({names})=", text) if stages else [text]
        found = {"": parts[0]} if parts[0] else {}
        found |= dict(zip(parts[1::2], parts[2::2], strict=True))
        return {stage: convert(value) for stage, value in found.items()}

    values.__name__ = convert.__name__  # argparse names it in its errors
    return values


def make_executor(
    options: argparse.Namespace,
    pipeline: list[PipelineStep | Callable],
    *,
    name: str,
    tasks: int,
    logging_dir: str,
    gpu: bool,
    stage: str | None = None,
    depends: PipelineExecutor | None = None,
    memory_gb: int | None = None,
    keeps_progress: bool = False,
    overwrite: bool = False,
) -> PipelineExecutor:
    """Build the executor that the command line asks for around a pipeline; nothing is queued before `run_to_end`.

    Args:
        options: the parsed command line, with the options of `add_executor_options`.
        pipeline: the steps.
        name: of the job.
        tasks: into how many parts the pipeline's input is divided.
        logging_dir: DataTrove's folder of logs, statistics and completions, on a file system that all nodes see.
        gpu: whether the steps compute on GPUs.
        stage: which of the parser's stages this is.
        depends: the executor of the stage before, made here too. SLURM starts these tasks when its have ended well; on
            the others stages run in the order in which `run_to_end` gets them.
        memory_gb: what a task needs, where `--mem` says nothing.
        keeps_progress: what a task computed is kept as it comes, so that near its time limit it may requeue itself.
        overwrite: the caller deletes what an earlier run left in `logging_dir` before it runs this one.

    Raises:
        ValueError: the tasks cannot run as asked: there is no such executor here, the cluster refuses the job, an
            earlier run's jobs are still there or divided the input otherwise.
    """
    if options.stage_model:
        os.environ[STAGE_VARIABLE] = os.path.abspath(options.stage_model)
    given = {option: value_of(options, option, stage) for option in _OPTIONS}
    _refuse_without_effect(options.executor, given, options.wait)
    if options.executor == "slurm":
        require_login_node()
    refuse_while_queued(get_datafolder(logging_dir))
    if not overwrite:
        _refuse_other_tasks(get_datafolder(logging_dir), tasks)
    common: dict[str, Any] = {
        "tasks": tasks,
        "logging_dir": logging_dir,
        "randomize_start_duration": given["randomize_start_duration"] or 0,
    }
    if options.executor == "local":
        return LocalPipelineExecutor(pipeline, **common, workers=min(given["workers"] or 1, tasks))
    common |= {"workers": given["workers"] or -1, "tasks_per_job": given["tasks_per_job"] or 1}
    common |= _resources(given, gpu, memory_gb)
    if options.executor == "ray":
        limit = seconds(given["time"]) if given["time"] else None
        return ray_executor(pipeline, common | {"time": limit}, _job_environment())
    common |= {"job_name": name, "depends": depends}
    return slurm_executor(pipeline, common, given, _job_environment(), keeps_progress)


def run_to_end(stages: Sequence[PipelineExecutor], wait: bool) -> bool:
    """Run stages one after the other, or queue them, and end the program with an error if a task is left undone.

    Args:
        stages: executors made by `make_executor`, in their order.
        wait: for SLURM's jobs.

    Returns:
        Whether all is done: else jobs are queued.

    Raises:
        SystemExit: see `require_complete`.
    """
    if pools := [stage.workers for stage in stages if isinstance(stage, LocalPipelineExecutor) and stage.workers > 1]:
        # Each worker's torch would take all cores for itself, and their threads would wait for each other. The workers
        # of all stages get the environment that those of the first one start with.
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // min(pools))))
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
    """End the program with an error if a run has left a task undone.

    Raises:
        SystemExit: names how many, and where the logs are.
    """
    missing = executor.get_incomplete_ranks(skip_completed=True)
    if missing:
        sys.exit(
            f"{len(missing)} of {executor.world_size} tasks have not ended well, such as {missing[0]}: see "
            f"{executor.logging_dir.resolve_paths(f'logs/task_{missing[0]:05d}.log')}"
            + (f" and {executor.slurm_logs_folder}" if isinstance(executor, SlurmExecutor) else "")
            + ". The same command runs only what is missing."
        )


def _resources(given: dict[str, Any], gpu: bool, memory_gb: int | None) -> dict[str, Any]:
    """What a task asks a cluster for, in DataTrove's words."""
    kind = "gpu" if gpu else "cpu"
    cpus = given["cpus_per_task"] or DEFAULT_CPUS[kind]
    gigabytes = gibibytes(given["mem"]) if given["mem"] else max(memory_gb or DEFAULT_MEMORY_GB[kind], cpus)
    gpus = (given["gpus_per_task"] or 1) if gpu else 0
    return {"cpus_per_task": cpus, "mem_per_cpu_gb": gigabytes / cpus, "gpus_per_task": gpus}


def _job_environment() -> dict[str, str]:
    """What a job finds in its environment: nothing may touch the network."""
    staging = {STAGE_VARIABLE: os.environ[STAGE_VARIABLE]} if STAGE_VARIABLE in os.environ else {}
    return {"HF_HUB_OFFLINE": "1"} | staging


def _refuse_without_effect(executor: str, given: dict[str, Any], wait: bool) -> None:
    for option, value in given.items():
        if value is not None and executor not in _OPTIONS[option][3]:
            raise ValueError(
                f"--{option.replace('_', '-')} does nothing with --executor {executor}: leave it away, or give "
                f"--executor {' or '.join(_OPTIONS[option][3])}."
            )
    if wait and executor != "slurm":
        raise ValueError(f"--wait does nothing with --executor {executor}, which always waits: leave it away.")


def _refuse_other_tasks(logs: DataFolder, tasks: int) -> None:
    """A task that is done is skipped by its number: with another count, the number means other files."""
    if not logs.isfile("executor.json") or not logs.isdir("completions") or not logs.list_files("completions"):
        return
    try:
        before = read_json(logs, "executor.json").get("tasks")
    except ValueError:  # a kill while DataTrove rewrote it; run.json guards the number, too
        return
    if before != tasks:
        raise ValueError(
            f"{logs.path} holds a run of {before} tasks, and this one has {tasks}: their outputs would mix. Give "
            f"--tasks {before} to go on with it, or another folder."
        )
