"""Where a pipeline runs: on this machine, on SLURM or on Ray, as the command line's `--executor` says.

A script adds the options with `add_executor_options` and builds DataTrove's executor around its pipeline with
`make_executor`, which finds the mistakes that can be found before anything is queued, written or deleted.
"""

import argparse
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from copy import copy
from pathlib import Path
from typing import Any

from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor, SlurmPipelineExecutor
from datatrove.executor.base import PipelineExecutor
from datatrove.io import DataFolder, get_datafolder
from datatrove.pipeline.base import PipelineStep
from loguru import logger
from run_record import read_json

from datatrove_quality.staging import STAGE_VARIABLE


EXECUTORS = ("local", "slurm", "ray")

# What a job needs beside a model's weights: Python, torch, CUDA and the documents in flight.
DEFAULT_MEMORY_GB = {"cpu": 4, "gpu": 32}
DEFAULT_CPUS = {"cpu": 1, "gpu": 4}
# Seconds before the time limit at which a job is told to requeue itself. What it computed is kept as it comes.
SIGNAL_SECONDS = 120
# Seconds between two looks at the queue; many clusters ask not to be asked more often.
POLL_SECONDS = 15
JOBS = "slurm_jobs.txt"

# What a job that merges statistics leaves away of `--sbatch`: all that a GPU job asks for.
_LARGE = re.compile(r"exclusive|gres|gpu|tres|mem|cpu|ntasks|nodes|nodelist|constraint|signal|switches|licenses")

# Started within an interactive job, a job inherits that one's, and srun refuses two kinds of limits at once.
_OWN_MEMORY = "unset SLURM_MEM_PER_CPU SLURM_MEM_PER_GPU SLURM_MEM_PER_NODE; "

# All options by the name under which argparse keeps them: what they are for, and which executors know them.
_OPTIONS: dict[str, tuple[Callable[[str], Any], str, str, tuple[str, ...]]] = {
    "workers": (int, "N", "tasks (on a cluster: jobs) at a time (default: local 1, else no limit)", EXECUTORS),
    "gpus_per_task": (int, "N", "GPUs of a task of a GPU stage (default: 1)", ("slurm", "ray")),
    "cpus_per_task": (int, "N", "default: 4 for a GPU stage, else 1", ("slurm", "ray")),
    "mem": (str, "SIZE", "memory of a task, such as 32G (default: what the stage needs)", ("slurm", "ray")),
    "time": (str, "LIMIT", "of a job, such as 8:00:00 (default: the partition's)", ("slurm", "ray")),
    "tasks_per_job": (
        int,
        "N",
        "tasks of a job, one after another (Ray: at once; default: 1)",
        ("slurm", "ray"),
    ),
    "randomize_start_duration": (int, "SECONDS", "each task waits up to that before it starts", EXECUTORS),
    "partition": (str, "NAME", "default: the cluster's", ("slurm",)),
    "account": (str, "NAME", "default: yours", ("slurm",)),
    "qos": (str, "NAME", "default: none is asked for", ("slurm",)),
    "venv": (str, "DIR", "a virtual environment for the job (default: the one that runs this)", ("slurm",)),
    "env_command": (str, "SHELL", "shell line for the job after that, such as 'module load cuda'", ("slurm",)),
    "max_array_size": (int, "N", "most jobs of an array (default: what the cluster allows)", ("slurm",)),
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
    """Build the executor that the command line asks for around a pipeline; nothing is queued before its `run()`.

    Args:
        options: the parsed command line, with the options of `add_executor_options`.
        pipeline: the steps.
        name: of the job.
        tasks: into how many parts the pipeline's input is divided.
        logging_dir: DataTrove's folder of logs, statistics and completions, on a file system that all nodes see.
        gpu: whether the steps compute on GPUs.
        stage: which of the parser's stages this is.
        depends: the executor, made here too, whose tasks must have ended well before these start.
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
    _refuse_bad_numbers(given)
    if options.executor == "slurm":
        _require_login_node()
    refuse_while_queued(get_datafolder(logging_dir))
    if not overwrite:
        _refuse_other_tasks(get_datafolder(logging_dir), tasks)
    common: dict[str, Any] = {
        "tasks": tasks,
        "depends": depends,
        "logging_dir": logging_dir,
        "randomize_start_duration": given["randomize_start_duration"] or 0,
    }
    if options.executor == "local":
        return LocalPipelineExecutor(pipeline, **common, workers=min(given["workers"] or 1, tasks))
    common |= {"workers": given["workers"] or -1, "tasks_per_job": given["tasks_per_job"] or 1}
    common |= _resources(given, gpu, memory_gb)
    if options.executor == "ray":
        return _ray_executor(pipeline, common, given["time"])
    return _slurm_executor(pipeline, common, given, name, keeps_progress)


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
        """DataTrove's arguments, under those that the user gave, such as gpus=a100:1 or no-requeue."""
        arguments = super().get_sbatch_args(max_array) | self._sbatch_args
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

    def _asked(self) -> str:
        partition = self.partition or "the default"
        return (
            f"partition {partition}, {self.gpus_per_task} GPUs, {self.cpus_per_task} CPUs, {self.memory} memory, "
            f"time {self.time or 'by default'}"
        )


class RayExecutor(RayPipelineExecutor):
    """DataTrove's Ray executor, which ends where a stage before it has failed instead of waiting for ever."""

    def run(self) -> None:
        """Run the stages before this one, then its own tasks.

        Raises:
            SystemExit: a stage before has left a task undone.
        """
        if self.depends is not None:
            self.depends.run()
            require_complete(self.depends)
            self.depends = None  # type: ignore[assignment]
        super().run()


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


def _resources(given: dict[str, Any], gpu: bool, memory_gb: int | None) -> dict[str, Any]:
    """What a task asks a cluster for, in DataTrove's words."""
    kind = "gpu" if gpu else "cpu"
    cpus = given["cpus_per_task"] or DEFAULT_CPUS[kind]
    gigabytes = gibibytes(given["mem"]) if given["mem"] else max(memory_gb or DEFAULT_MEMORY_GB[kind], cpus)
    gpus = (given["gpus_per_task"] or 1) if gpu else 0
    return {"cpus_per_task": cpus, "mem_per_cpu_gb": gigabytes / cpus, "gpus_per_task": gpus}


def _slurm_executor(
    pipeline: list[PipelineStep | Callable],
    common: dict[str, Any],
    given: dict[str, Any],
    name: str,
    keeps_progress: bool,
) -> SlurmExecutor:
    logs = get_datafolder(common["logging_dir"])
    most = _max_array_size()
    if given["max_array_size"] and most and given["max_array_size"] > most:
        raise ValueError(f"--max-array-size {given['max_array_size']}: this cluster allows arrays of {most} jobs.")
    if strange := re.sub(r"[\w@+=:,./~-]", "", str(logs.path)):
        raise ValueError(
            f"{logs.path}: DataTrove's job scripts take no path with {strange[0]!r} in it, only letters, digits and "
            "_@+=:,./~-; give another folder."
        )
    sbatch = _sbatch_arguments(given, keeps_progress)
    gigabytes = common["mem_per_cpu_gb"] * common["cpus_per_task"]
    executor = SlurmExecutor(
        pipeline,
        **common,
        memory=given["mem"] or f"{math.ceil(gigabytes)}G",
        exports={name: shlex.quote(value) for name, value in job_environment().items()}
        | {"OMP_NUM_THREADS": str(common["cpus_per_task"])}
        | {"PYTHONPATH": f"{shlex.quote(_pipelines())}${{PYTHONPATH:+:$PYTHONPATH}}"},
        time=given["time"],
        partition=given["partition"],
        qos=given["qos"],
        job_name=name,
        env_command=_environment(given["venv"], given["env_command"]),
        sbatch_args=sbatch,
        # Since 22.05 srun does not take it from the job.
        srun_args={"cpus-per-task": common["cpus_per_task"]},
        max_array_size=given["max_array_size"] or most or 1001,  # SLURM's own default
    )
    executor.require_valid()
    return executor


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


def _refuse_contradictions(arguments: dict[str, Any], memory: str) -> None:
    """To sbatch a variable of the environment counts more than an argument in the script."""
    names = {key: key.upper().replace("-", "_") for key in arguments} | {"time": "TIMELIMIT", "array": "ARRAY_INX"}
    script = [(key, f"SBATCH_{names[key]}", value) for key, value in arguments.items() if key != "mem-per-cpu"]
    script += [("mem", f"SBATCH_MEM_PER_{part}", memory) for part in ("CPU", "GPU", "NODE")]
    for key, variable, value in script:
        if value and os.environ.get(variable, str(value)) != str(value):
            raise ValueError(
                f"{variable}={os.environ[variable]} in the environment would beat the job's --{key}={value}: "
                f"`unset {variable}` first."
            )


def _require_login_node() -> None:
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


def job_environment() -> dict[str, str]:
    """What a job finds in its environment: nothing in it may touch the network."""
    staging = {STAGE_VARIABLE: os.environ[STAGE_VARIABLE]} if STAGE_VARIABLE in os.environ else {}
    return {"HF_HUB_OFFLINE": "1"} | staging


def _environment(venv: str | None, env_command: str | None) -> str:
    """A shell line that gives a job the programs of `--venv`, or of this Python's environment, and does the rest."""
    line = f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"
    if venv:
        activate = Path(venv).absolute() / "bin" / "activate"
        if not activate.is_file():
            raise ValueError(f"--venv {venv}: there is no {activate}; give the folder of a virtual environment.")
        line = f"source {shlex.quote(str(activate))}"
    return f"{line}; {env_command}" if env_command else line


def _pipelines() -> str:
    """The folder whose modules the pickled steps come from."""
    return str(Path(__file__).resolve().parent)


def _ray_executor(pipeline: list[PipelineStep | Callable], common: dict[str, Any], limit: str | None) -> RayExecutor:
    try:
        import ray
    except ImportError as error:
        raise ValueError("--executor ray: Ray is not installed: pip install 'datatrove-quality[ray]'.") from error
    common["mem_per_cpu_gb"] *= common["tasks_per_job"]  # which run at once
    if not ray.is_initialized():
        paths = os.pathsep.join(filter(None, (_pipelines(), os.environ.get("PYTHONPATH"))))
        ray.init(runtime_env={"env_vars": job_environment() | {"PYTHONPATH": paths}})
    wanted = {
        "CPU": common["cpus_per_task"],
        "GPU": common["gpus_per_task"],
        "memory": common["mem_per_cpu_gb"] * common["cpus_per_task"] * 2**30,
    }
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(node.get(kind, 0) >= amount for kind, amount in wanted.items()) for node in nodes):
        have = "; ".join(
            f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs, {node.get('memory', 0) / 2**30:.1f} GiB"
            for node in nodes
        )
        raise ValueError(
            f"--executor ray: a task asks for {wanted['CPU']} CPUs, {wanted['GPU']} GPUs and "
            f"{wanted['memory'] / 2**30:.1f} GiB, which no node of this Ray has ({have}), so it would wait for ever. "
            "Give less of --cpus-per-task, --gpus-per-task or --mem."
        )
    return RayExecutor(pipeline, **common, time=seconds(limit) if limit else None)


def _refuse_without_effect(executor: str, given: dict[str, Any], wait: bool) -> None:
    for option, value in given.items():
        if value is not None and executor not in _OPTIONS[option][3]:
            raise ValueError(
                f"--{option.replace('_', '-')} does nothing with --executor {executor}: leave it away, or give "
                f"--executor {' or '.join(_OPTIONS[option][3])}."
            )
    if wait and executor != "slurm":
        raise ValueError(f"--wait does nothing with --executor {executor}, which always waits: leave it away.")


def _refuse_bad_numbers(given: dict[str, Any]) -> None:
    for option in ("workers", "gpus_per_task", "cpus_per_task", "tasks_per_job", "max_array_size"):
        if given[option] is not None and given[option] < 1:
            raise ValueError(f"--{option.replace('_', '-')} {given[option]}: give a whole number from 1.")


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


def value_of(options: argparse.Namespace, name: str, stage: str | None = None) -> Any:
    """What the command line says of an option for a stage; None: nothing."""
    given = getattr(options, name)
    if given is None:
        return None
    if name == "sbatch":
        # The last value of an argument counts: a stage's own.
        return [item[key] for key in ("", stage) for item in given if key in item] or None
    return given.get(stage, given.get(""))
