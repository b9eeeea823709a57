"""The resources that a run requests from a cluster."""

from dataclasses import dataclass, field, fields
from typing import Any


EXECUTORS = ("local", "slurm", "ray")


def _known_to(*executors: str, default: Any = None) -> Any:
    return field(default=default, metadata={"executors": executors})


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where and how the tasks of a run, or of one stage of it, are run on SLURM or Ray. None: the default.

    Nothing here affects what a run writes, so all of it may differ when a run is started again.

    Args:
        gpus_per_task: GPUs of a task that scores. Default: 1.
        cpus_per_task: default: 4 for a task that scores, else 1.
        mem: memory of a task, such as "32G". Default: what the step needs.
        time: time limit of a job, such as "8:00:00". Default: the partition's.
        tasks_per_job: tasks of a job, one after another with one loaded model (Ray: at once). Default: 1.
        partition: default: the cluster's.
        account: default: the user's.
        qos: default: none is requested.
        venv: folder of a virtual environment for the jobs. Default: the environment of this Python.
        env_command: shell line that each job runs after that, such as "module load cuda".
        max_array_size: most jobs of an array. Default: what the cluster allows.
        sbatch: other arguments of sbatch, each "key=value".
        wait: return when SLURM's jobs have ended, not when they are queued.
        randomize_start_duration: each task waits up to this many seconds before it starts.
        stage_model: a folder on each node's own disk, to which the model is copied once per node.

    Raises:
        ValueError: a value is not one of those above; names the field, the value and the fix.
    """

    gpus_per_task: int | None = _known_to("slurm", "ray")
    cpus_per_task: int | None = _known_to("slurm", "ray")
    mem: str | None = _known_to("slurm", "ray")
    time: str | None = _known_to("slurm", "ray")
    tasks_per_job: int | None = _known_to("slurm", "ray")
    partition: str | None = _known_to("slurm")
    account: str | None = _known_to("slurm")
    qos: str | None = _known_to("slurm")
    venv: str | None = _known_to("slurm")
    env_command: str | None = _known_to("slurm")
    max_array_size: int | None = _known_to("slurm")
    sbatch: tuple[str, ...] = _known_to("slurm", default=())
    wait: bool = _known_to("slurm", default=False)
    randomize_start_duration: int | None = _known_to(*EXECUTORS)
    stage_model: str | None = _known_to(*EXECUTORS)

    def __post_init__(self) -> None:
        for name in ("gpus_per_task", "cpus_per_task", "tasks_per_job", "max_array_size"):
            require_count(name, getattr(self, name))
        if isinstance(self.sbatch, str):
            raise ValueError(f"sbatch={self.sbatch!r}: give a tuple of texts, such as ('constraint=a100',).")
        object.__setattr__(self, "sbatch", tuple(self.sbatch or ()))
        for name in ("mem", "time", "partition", "account", "qos", "venv", "env_command", "stage_model"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str) and value):
                raise ValueError(f"{name}={value!r}: give a text, or None for the default.")

    def require_effect(self, executor: str) -> None:
        """Refuse a value that the executor would ignore: it is a mistake.

        Raises:
            ValueError: there is one.
        """
        for option in fields(self):
            value, executors = getattr(self, option.name), option.metadata["executors"]
            if value != option.default and executor not in executors:
                others = " or ".join(f"executor={name!r}" for name in executors)
                raise ValueError(
                    f"{option.name}={value!r} has no effect with executor={executor!r}: omit it, or set {others}."
                )


def require_count(name: str, value: object) -> None:
    """Refuse what is neither None nor a whole number from 1.

    Raises:
        ValueError: it is not.
    """
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValueError(f"{name}={value!r}: give a whole number from 1, or None for the default.")
