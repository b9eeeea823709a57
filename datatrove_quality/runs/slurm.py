"""A pipeline as SLURM's jobs: DataTrove's executor, what is asked of sbatch, and which jobs are in the queue.

Jobs unpickle the executor and the steps, so they import this module by its name.
"""

import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from copy import copy
from pathlib import Path
from typing import Any

from datatrove.executor import SlurmPipelineExecutor
from datatrove.io import DataFolder, get_datafolder
from datatrove.pipeline.base import PipelineStep
from loguru import logger


# Seconds before the time limit at which a job is told to requeue itself. What it computed is kept as it comes.
SIGNAL_SECONDS = 120
# Seconds between two looks at the queue; many clusters ask not to be asked more often.
POLL_SECONDS = 15
JOBS = "slurm_jobs.txt"
GPU_WORDS = ("gpus", "gpus-per-node", "gpus-per-task", "gres")

# What a job that merges statistics leaves away of `--sbatch`: all that a GPU job asks for.
_LARGE = re.compile(r"exclusive|gres|gpu|tres|mem|cpu|ntasks|nodes|nodelist|constraint|signal|switches|licenses")

# Started within an interactive job, a job inherits that one's, and srun refuses two kinds of limits at once.
_OWN_MEMORY = "unset SLURM_MEM_PER_CPU SLURM_MEM_PER_GPU SLURM_MEM_PER_NODE; "


class SlurmExecutor(SlurmPipelineExecutor):
    """DataTrove's SLURM executor with `--mem` for the whole task, no qos, a small merge job, and job ids on record.

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
        """Queue the jobs; in a job, run its tasks, if the stage before has ended well.

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
        asked = {key: value for key, value in sbatch_args.items() if value is not None and key != "mem-per-cpu"}
        exports = "".join(f"export {name}={value}; " for name, value in self.exports.items())
        return super().get_launch_file_contents({"mem": self.memory} | asked, _OWN_MEMORY + exports + run_script)

    def launch_job(self) -> None:
        """Queue the jobs of this stage and of those that it depends on."""
        try:
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
            _refuse_contradictions(arguments, self.memory)
            script.write(trial.get_launch_file_contents(arguments, "true"))
            script.flush()
            answer = subprocess.run(["sbatch", "--test-only", script.name], capture_output=True, text=True)
        if answer.returncode:
            reason = (answer.stderr or answer.stdout).strip()
            raise ValueError(
                f"SLURM refuses the job {self.job_name} ({self._asked()}): {reason}\n{_partitions()}\n"
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
        """Return when the jobs have left the queue; while SLURM cannot be asked, they may be in it."""
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
        """How the user asked for GPUs in sbatch's words, to which a `--gpus` of ours would be a contradiction."""
        return [f"{key}={value}" for key, value in _asking_for_gpus(self._sbatch_args).items()]

    def _asked(self) -> str:
        gpus = " ".join(self._given_gpus()) or f"{self.gpus_per_task} GPUs"
        return (
            f"partition {self.partition or 'the default'}, {gpus}, {self.cpus_per_task} CPUs, {self.memory} memory, "
            f"time {self.time or 'by default'}"
        )


def slurm_executor(
    pipeline: list[PipelineStep | Callable],
    options: dict[str, Any],
    given: dict[str, Any],
    environment: dict[str, str],
    keeps_progress: bool,
) -> SlurmExecutor:
    """An executor whose job SLURM would take.

    Args:
        pipeline: the steps.
        options: DataTrove's own.
        given: the values of the command line's options; None: not given.
        environment: variables of the jobs' environment.
        keeps_progress: near its time limit a job may requeue itself.

    Raises:
        ValueError: an option says what cannot be, or SLURM refuses the job.
    """
    logs = get_datafolder(options["logging_dir"])
    most = _max_array_size()
    if given["max_array_size"] and most and given["max_array_size"] > most:
        raise ValueError(f"--max-array-size {given['max_array_size']}: this cluster allows arrays of {most} jobs.")
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
        memory=given["mem"] or f"{math.ceil(gigabytes)}G",
        exports=exports | {"OMP_NUM_THREADS": str(options["cpus_per_task"])},
        time=given["time"],
        partition=given["partition"],
        qos=given["qos"],
        env_command=_environment(given["venv"], given["env_command"]),
        sbatch_args=_sbatch_arguments(given, keeps_progress),
        # Since 22.05 srun does not take it from the job.
        srun_args={"cpus-per-task": options["cpus_per_task"]},
        max_array_size=given["max_array_size"] or most or 1001,  # SLURM's own default
    )
    executor.require_valid()
    return executor


def require_login_node() -> None:
    """Refuse to queue jobs where there is no SLURM, or from within a task of one.

    Raises:
        ValueError: says which, and what to do.
    """
    if "SLURM_ARRAY_TASK_ID" in os.environ:
        raise ValueError(
            "--executor slurm: this is a task of a SLURM array itself, which DataTrove would take for one of its own. "
            "Start it on the login node, or run it here with --executor local."
        )
    if shutil.which("sbatch") is None:
        raise ValueError(
            "--executor slurm: there is no SLURM on this machine (no sbatch in PATH). Start it on the cluster's login "
            "node, or give --executor local."
        )


def refuse_while_queued(logs: DataFolder) -> None:
    """Whatever runs next, here or on a cluster, must not write beside jobs that an earlier start has queued.

    Args:
        logs: of a run, or of one stage of it.

    Raises:
        ValueError: such jobs are in SLURM's queue, or SLURM cannot be asked.
    """
    records = [JOBS, *logs.glob(f"stages/*/{JOBS}")]
    if jobs := [job for record in records for job in active_jobs(logs, record)]:
        raise ValueError(
            f"{logs.path}: jobs {', '.join(jobs)} of an earlier start are still in the queue. Wait for "
            f"them (squeue -j {','.join(jobs)}), or end them with `scancel {' '.join(jobs)}` first."
        )


def active_jobs(logs: DataFolder, record: str = JOBS) -> list[str]:
    """The ids of a stage's jobs that SLURM has in its queue, waiting or running.

    Raises:
        ValueError: SLURM cannot be asked.
    """
    if not logs.isfile(record):
        return []
    with logs.open(record, "r") as file:
        jobs = file.read().split()
    if jobs and shutil.which("squeue") is None:
        raise ValueError(
            f"{logs.resolve_paths(record)} names SLURM's jobs {', '.join(jobs)}, and without squeue this machine "
            "cannot say whether they are still in the queue. Start it on the login node; or, if they have ended, "
            "delete that file."
        )
    return [job for job in jobs if _is_in_queue(job)]


def _is_in_queue(job: str) -> bool:
    answer = subprocess.run(["squeue", "-h", "-o", "%A", "-j", job], capture_output=True, text=True)
    if answer.returncode and "Invalid job id" not in answer.stderr:  # which is one that SLURM has forgotten
        raise ValueError(
            f"squeue cannot say whether job {job} is still in the queue: {answer.stderr.strip()}. Try again later."
        )
    return answer.returncode == 0 and bool(answer.stdout.strip())


def seconds(limit: str) -> int | None:
    """A time limit as SLURM writes it, such as 90, 8:00:00 or 2-12, in seconds; None for UNLIMITED and 0.

    Raises:
        ValueError: it is no time limit.
    """
    if limit.upper() in ("UNLIMITED", "INFINITE"):
        return None
    days, has_days, rest = limit.rpartition("-")
    parts = rest.split(":")
    if not all(part.isdecimal() for part in parts) or len(parts) > 3 or (has_days and not days.isdecimal()):
        raise ValueError(f"--time {limit}: give minutes, or HOURS:MINUTES:SECONDS, or DAYS-HOURS[:MINUTES[:SECONDS]].")
    units: tuple[int, ...] = (3600, 60, 1) if has_days or len(parts) == 3 else (60, 1)
    total = sum(int(part) * unit for part, unit in zip(parts, units, strict=False))
    return int(days or 0) * 86_400 + total or None


def gibibytes(size: str) -> float:
    """An amount of memory as SLURM writes it, such as 500M or 32G, in GiB.

    Raises:
        ValueError: it is no amount of memory.
    """
    found = re.fullmatch(r"(\d+)([KMGT]?)B?", size.upper())
    if not found:
        raise ValueError(f"--mem {size}: give a number with a unit, such as 32G.")
    return int(found[1]) * {"K": 2**-20, "M": 2**-10, "": 2**-10, "G": 1, "T": 2**10}[found[2]]


def _sbatch_arguments(given: dict[str, Any], keeps_progress: bool) -> dict[str, str]:
    """`--account` and `--sbatch`, with a signal before the time limit and no stage that waits for a failed one."""
    # The log of a job that starts again follows that of its first try.
    arguments = {"kill-on-invalid-dep": "yes", "open-mode": "append"}
    limit = seconds(given["time"]) if given["time"] else 4 * SIGNAL_SECONDS  # at least: the partition's
    if keeps_progress and limit is not None:
        # To the steps of the job, so that it reaches the Python process, which requeues the job. A task that would
        # start from its beginning gets none: it would never end.
        arguments["signal"] = f"USR1@{min(SIGNAL_SECONDS, limit // 4)}"
    if given["account"]:
        arguments["account"] = given["account"]
    for item in given["sbatch"] or ():
        key, _, value = item.lstrip("-").partition("=")
        if key in ("N", "nodes") and value not in ("1", "1-1"):
            raise ValueError(f"--sbatch {item}: each of the nodes would run the same task. Give more --tasks instead.")
        if key in ("array", "dependency", "output", "error", "job-name", "export"):
            raise ValueError(f"--sbatch {item}: the executor sets {key} itself; leave it away.")
        if key in ("mem-per-cpu", "mem-per-gpu"):
            raise ValueError(f"--sbatch {item}: give the memory of a task as --mem.")
        if key in ("partition", "time", "qos", "mem", "cpus-per-task"):
            raise ValueError(f"--sbatch {item}: give it as --{key} {value}.")
        arguments[key] = value
    return arguments


def _asking_for_gpus(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those of sbatch's arguments that ask for GPUs."""
    given = {key: arguments[key] for key in GPU_WORDS if arguments.get(key)}
    return {key: value for key, value in given.items() if key != "gres" or "gpu" in value}


def _refuse_contradictions(arguments: dict[str, Any], memory: str) -> None:
    """To sbatch a variable of the environment counts more than an argument in the script."""

    def name(key: str) -> str:
        return "SBATCH_" + {"time": "TIMELIMIT", "array": "ARRAY_INX"}.get(key, key.upper().replace("-", "_"))

    script = [(key, name(key), value) for key, value in arguments.items() if key != "mem-per-cpu"]
    script += [("mem", f"SBATCH_MEM_PER_{part}", memory) for part in ("CPU", "GPU", "NODE")]
    # GPUs that the environment asks for in another word would be asked for beside ours.
    others = _asking_for_gpus({word: os.environ.get(name(word)) for word in GPU_WORDS})
    script += [(key, name(word), value) for key, value in _asking_for_gpus(arguments).items() for word in others]
    for key, variable, value in script:
        if value and os.environ.get(variable, str(value)) != str(value):
            raise ValueError(
                f"{variable}={os.environ[variable]} in the environment would beat the job's --{key}={value}: "
                f"`unset {variable}` first."
            )


def _partitions() -> str:
    """What the cluster has, for a person who asked for something else."""
    answer = subprocess.run(["sinfo", "-h", "-o", "%R|%D|%c|%m|%G|%l|%T"], capture_output=True, text=True)
    if answer.returncode:
        return f"sinfo says: {answer.stderr.strip()}"
    lines = ["Partitions (nodes, and of each its CPUs, memory and GPUs; longest time; state):"]
    for row in answer.stdout.splitlines():
        name, nodes, cpus, memory, gres, limit, state = row.split("|")
        lines.append(
            f"  {name}: {nodes} nodes, {cpus} CPUs, {memory} MB, {gres.replace('(null)', 'no GPU')}; {limit}; {state}"
        )
    return "\n".join(lines)


def _max_array_size() -> int | None:
    """How many jobs an array may have on this cluster; None where it does not say."""
    answer = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True)
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", answer.stdout, re.MULTILINE)
    return int(found[1]) if found else None


def _environment(venv: str | None, env_command: str | None) -> str:
    """A shell line that gives a job the programs of `--venv`, or of this Python's environment, and does the rest."""
    line = f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"
    if venv:
        activate = Path(venv).absolute() / "bin" / "activate"
        if not activate.is_file():
            raise ValueError(f"--venv {venv}: there is no {activate}; give the folder of a virtual environment.")
        line = f"source {shlex.quote(str(activate))}"
    return f"{line}; {env_command}" if env_command else line
