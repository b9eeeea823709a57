"""The options that say where a command's tasks run."""

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

from datatrove_quality.cli.option_types import positive
from datatrove_quality.runs.cluster import EXECUTORS, Cluster


_DESCRIPTIONS: dict[str, tuple[Callable[[str], Any], str, str]] = {
    "gpus_per_task": (positive, "N", "GPUs of a task that scores (default: 1)"),
    "cpus_per_task": (positive, "N", "default: 4 for a task that scores, else 1"),
    "mem": (str, "SIZE", "memory of a task, such as 32G (default: what the stage needs)"),
    "time": (str, "LIMIT", "of a job, such as 8:00:00 (default: the partition's)"),
    "tasks_per_job": (positive, "N", "tasks of a job, one after another (Ray: at once; default: 1)"),
    "partition": (str, "NAME", "default: the cluster's"),
    "account": (str, "NAME", "default: yours"),
    "qos": (str, "NAME", "default: none is requested"),
    "venv": (str, "DIR", "a virtual environment for the job (default: the one that runs this)"),
    "env_command": (str, "SHELL", "shell line for the job after that, such as 'module load cuda'"),
    "max_array_size": (positive, "N", "most jobs of an array (default: what the cluster allows)"),
    "sbatch": (str, "KEY=VALUE", "any other argument of sbatch; may be given several times"),
    "randomize_start_duration": (positive, "SECONDS", "each task waits up to that before it starts"),
}


def add_executor_options(parser: argparse.ArgumentParser, stages: Sequence[str] = ()) -> None:
    """Add the options of `cluster_of`, `--executor` and `--workers`.

    Args:
        parser: of the command.
        stages: kinds of the command's stages, if several. Each option then takes a value for all of them, values by
            kind, or both: `--partition short`, `--partition cpu=short,gpu=a100`, `--time 2:00:00,gpu=1-0`.
    """
    text = "where and how the tasks run"
    if stages:
        text += f"; each VALUE may be given by stage, as {','.join(f'{stage}=VALUE' for stage in stages)}"
    group = parser.add_argument_group("executor", text)
    group.add_argument("--executor", choices=EXECUTORS, default="local", help="default: local")
    group.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="tasks (on a cluster: jobs) at a time (default: 1, else all)",
    )
    executors = {option.name: option.metadata["executors"] for option in fields(Cluster)}
    for name, (convert, metavar, description) in _DESCRIPTIONS.items():
        known = "" if executors[name] == EXECUTORS else f" [{', '.join(executors[name])}]"
        group.add_argument(
            f"--{name.replace('_', '-')}",
            type=_by_stage(convert, stages),
            metavar=metavar,
            action="append" if name == "sbatch" else "store",
            help=f"{description}{known}",
        )
    group.add_argument("--stage-model", metavar="DIR", help="copy the model to DIR, once per node, and read it there")
    group.add_argument("--wait", action="store_true", help="return when the jobs have ended [slurm]")


def cluster_of(options: argparse.Namespace, stage: str | None = None) -> Cluster:
    """The resources of a kind of stages, by the options of the command line.

    Args:
        options: the parsed command line.
        stage: one of the parser's stages.
    """
    given = {name: _value_of(getattr(options, name), name, stage) for name in _DESCRIPTIONS}
    return Cluster(**given, wait=options.wait, stage_model=options.stage_model)


def _value_of(given: Any, name: str, stage: str | None) -> Any:
    if name == "sbatch":
        # The last value of an argument overrides the others: a stage's own.
        return tuple(item[key] for key in ("", stage) for item in given or () if key in item)
    return None if given is None else given.get(stage, given.get(""))


def _by_stage(convert: Callable[[str], Any], stages: Sequence[str]) -> Callable[[str], dict[str, Any]]:
    """A type for argparse: the value by stage; "" is for the stages that are not named."""
    names = "|".join(map(re.escape, stages))

    def values(text: str) -> dict[str, Any]:
        parts = re.split(rf"(?:^|,)({names})=", text) if stages else [text]
        found = {"": parts[0]} if parts[0] else {}
        found |= dict(zip(parts[1::2], parts[2::2], strict=True))
        return {stage: convert(value) for stage, value in found.items()}

    values.__name__ = convert.__name__  # argparse names it in its errors
    return values
