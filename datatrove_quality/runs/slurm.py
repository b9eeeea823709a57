"""A pipeline as SLURM's jobs: DataTrove's executor with what it lacks.

Jobs unpickle the executor and the steps, so they import this module by its name.
"""

import math
import os
import re
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

import dill
from datatrove.executor import SlurmPipelineExecutor
from datatrove.io import get_datafolder
from datatrove.pipeline.base import PipelineStep
from loguru import logger

from datatrove_quality.runs.cluster import Cluster
from datatrove_quality.runs.completed_tasks import JobExecutor
from datatrove_quality.runs.slurm_arguments import (
    asking_for_gpus,
    described_partitions,
    environment_command,
    largest_array,
    require_no_contradictions,
    sbatch_arguments,
)
from datatrove_quality.runs.slurm_queue import JOBS, active_jobs


# Seconds between two looks at the queue; many clusters want no more frequent queries.
POLL_SECONDS = 15

# What a job that merges statistics omits of `sbatch`: all that only a GPU job needs.
_LARGE = re.compile(r"exclusive|gres|gpu|tres|mem|cpu|ntasks|nodes|nodelist|constraint|signal|switches|licenses")

# Started within an interactive job, a job inherits that one's, and srun refuses two kinds of limits at once.
_OWN_MEMORY = "unset SLURM_MEM_PER_CPU SLURM_MEM_PER_GPU SLURM_MEM_PER_NODE; "


class SlurmExecutor(JobExecutor, SlurmPipelineExecutor):
    """DataTrove's SLURM executor with memory for the whole task, no qos, a small merge job, and job ids on record.

    Args:
        memory: of a task, as sbatch takes it.
        exports: environment variables of the jobs.
        options: DataTrove's own.
    """

    def __init__(self, pipeline: list[PipelineStep | Callable], memory: str, exports: dict[str, str], **options: Any):
        super().__init__(pipeline, **options)
        self.memory = memory
        self.exports = exports
        # DataTrove forgets `depends` before it pickles the executor.
        self.before = None if self.depends is None else (self.depends.logging_dir, self.depends.tasks)

    def run(self) -> None:
        """Queue the jobs; in a job, run its tasks, if the stage before has succeeded.

        Raises:
            RuntimeError: it has not: SLURM looks at the last of its arrays only.
        """
        if self.before is not None and "SLURM_ARRAY_TASK_ID" in os.environ:
            logs, tasks = self.before
            done = len(logs.list_files("completions"))
            if done < tasks:
                raise RuntimeError(f"{logs.path}: {tasks - done} of {tasks} tasks before this stage are not done.")
        super().run()

    def get_sbatch_args(self, max_array: int = 1) -> dict:
        """DataTrove's arguments, under those that the user gave, such as gres=gpu:a100:1 or no-requeue."""
        arguments = super().get_sbatch_args(max_array)
        if self._given_gpus():
            arguments.pop("gpus", None)
        arguments |= self._sbatch_args
        if "no-requeue" in arguments:
            arguments.pop("requeue", None)
        return arguments

    def get_launch_file_contents(self, sbatch_args: dict, run_script: str) -> str:
        """DataTrove's script, with memory by task, without what has no value, and with the job's environment."""
        given = {key: value for key, value in sbatch_args.items() if value is not None and key != "mem-per-cpu"}
        exports = "".join(f"export {name}={value}; " for name, value in self.exports.items())
        return super().get_launch_file_contents({"mem": self.memory} | given, _OWN_MEMORY + exports + run_script)

    def launch_job(self) -> None:
        """Queue the jobs of this stage and of those that it depends on.

        Raises:
            ValueError: SLURM refuses one.
        """
        try:
            with _values_of_the_script():
                super().launch_job()
        except subprocess.CalledProcessError as error:  # sbatch has said why
            raise ValueError(f"SLURM refused a job of {self.job_name}; `squeue --me` shows what is queued.") from error
        finally:
            # Of several arrays the last waits for those before it. It is on record too where the next was refused.
            if self.is_queued:
                with self.logging_dir.open(JOBS, "w") as file:
                    file.write(f"{self.job_id}\n")

    def launch_merge_stats(self) -> None:
        """Queue DataTrove's merge job, for which one CPU is enough, and which nothing of ours needs."""
        merge = copy(self)
        merge._sbatch_args = {key: value for key, value in self._sbatch_args.items() if not _LARGE.match(key)}
        merge.gpus_per_task = 0
        merge.memory = "2G"
        try:
            super(SlurmExecutor, merge).launch_merge_stats()
        except subprocess.CalledProcessError:  # sbatch has said why
            stats = self.logging_dir.resolve_paths("stats")
            logger.warning(
                f"SLURM refused the job that merges DataTrove's statistics; the table does not need them. By hand: "
                f"merge_stats {stats} -o {stats}.json"
            )

    def require_valid(self) -> None:
        """Ask SLURM whether it would take the job.

        Raises:
            ValueError: it would not, or it would take another one; the message holds the reason, and what the
                partitions have.
        """
        trial = copy(self)
        trial.slurm_logs_folder = tempfile.gettempdir()  # `get_sbatch_args` makes it
        jobs = min(math.ceil(self.tasks / self.tasks_per_job), self.max_array_size)
        with tempfile.NamedTemporaryFile("w", suffix=".slurm") as script:
            arguments = trial.get_sbatch_args(jobs)
            require_no_contradictions(arguments, self.memory)
            script.write(trial.get_launch_file_contents(arguments, "true"))
            script.flush()
            answer = subprocess.run(["sbatch", "--test-only", script.name], capture_output=True, text=True)
        if answer.returncode:
            reason = (answer.stderr or answer.stdout).strip()
            raise ValueError(
                f"SLURM refuses the job {self.job_name} ({self._requested()}): {reason}\n{described_partitions()}\n"
                "Nothing was queued."
            )

    @property
    def is_queued(self) -> bool:
        """Whether there was something left to run."""
        return self.job_id not in (None, -1)

    def what_is_queued(self) -> str:
        """Which job was queued, and where to look, for a person."""
        logs = self.logging_dir
        return (
            f"Queued {self.job_name} as SLURM job {self.job_id}: {len(self.get_incomplete_ranks())} of {self.tasks} "
            f"tasks, {self.tasks_per_job} per job.\n"
            f"  state           squeue -j {self.job_id}\n"
            f"  logs of tasks   {logs.resolve_paths('logs')}\n"
            f"  logs of jobs    {self.slurm_logs_folder}"
        )

    def wait(self) -> None:
        """Return when the jobs have left the queue; while SLURM cannot be reached, they may be in it."""
        warned = False
        while self.is_queued:
            try:
                if not active_jobs(self.logging_dir):
                    return
            except ValueError as error:
                if not warned:
                    logger.warning(f"{error} Still waiting.")
                warned = True
            time.sleep(POLL_SECONDS)

    def _given_gpus(self) -> list[str]:
        """The user's own arguments of sbatch that request GPUs, which a `--gpus` of ours would contradict."""
        return [f"{key}={value}" for key, value in asking_for_gpus(self._sbatch_args).items()]

    def _requested(self) -> str:
        gpus = " ".join(self._given_gpus()) or f"{self.gpus_per_task} GPUs"
        return (
            f"partition {self.partition or 'the default'}, {gpus}, {self.cpus_per_task} CPUs, {self.memory} memory, "
            f"time {self.time or 'by default'}"
        )


@contextmanager
def _values_of_the_script() -> Iterator[None]:
    """Pickle functions of the user's script with the values they use: a job does not import the script."""
    before = dill.settings["recurse"]
    dill.settings["recurse"] = True
    try:
        yield
    finally:
        dill.settings["recurse"] = before


def slurm_executor(
    pipeline: list[PipelineStep | Callable],
    options: dict[str, Any],
    cluster: Cluster,
    environment: dict[str, str],
    keeps_progress: bool,
) -> SlurmExecutor:
    """An executor whose job SLURM accepts.

    Args:
        pipeline: the steps.
        options: DataTrove's own.
        cluster: what to request from SLURM.
        environment: variables of the jobs' environment.
        keeps_progress: near its time limit a job may requeue itself.

    Raises:
        ValueError: the cluster cannot do what is requested, or SLURM refuses the job.
    """
    logs = get_datafolder(options["logging_dir"])
    most = largest_array()
    if cluster.max_array_size and most and cluster.max_array_size > most:
        raise ValueError(f"max_array_size={cluster.max_array_size}: this cluster allows arrays of {most} jobs.")
    if strange := re.sub(r"[\w@+=:,./~-]", "", str(logs.path)):
        raise ValueError(
            f"{logs.path}: DataTrove's job scripts take no path with {strange[0]!r} in it, only letters, digits and "
            "_@+=:,./~-; give another folder."
        )
    gigabytes = options["mem_per_cpu_gb"] * options["cpus_per_task"]
    exports = {name: shlex.quote(value) for name, value in environment.items()}
    executor = SlurmExecutor(
        pipeline,
        **options,
        memory=cluster.mem or f"{math.ceil(gigabytes)}G",
        exports=exports | {"OMP_NUM_THREADS": str(options["cpus_per_task"])},
        time=cluster.time,
        partition=cluster.partition,
        qos=cluster.qos,
        env_command=environment_command(cluster.venv, cluster.env_command),
        sbatch_args=sbatch_arguments(cluster, keeps_progress),
        # Since 22.05 srun does not take it from the job.
        srun_args={"cpus-per-task": options["cpus_per_task"]},
        max_array_size=cluster.max_array_size or most or 1001,  # SLURM's own default
    )
    executor.require_valid()
    return executor
