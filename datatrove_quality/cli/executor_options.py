"""The options that say where a command's tasks run."""

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

from datatrove_quality.cli.fields import Reader, described
from datatrove_quality.cli.option_types import positive
from datatrove_quality.runs.cluster import EXECUTORS, Cluster


# What reads each value, and its placeholder in help; the help is what `Cluster` says of the field.
_READERS: dict[str, Reader] = {
    **dict.fromkeys(("gpus_per_task", "cpus_per_task", "tasks_per_job", "max_array_size"), (positive, "N")),
    **dict.fromkeys(("partition", "account", "qos"), (str, "NAME")),
    **{"mem": (str, "SIZE"), "time": (str, "LIMIT"), "venv": (str, "DIR"), "env_command": (str, "SHELL")},
    **{"sbatch": (str, "KEY=VALUE"), "randomize_start_duration": (positive, "SECONDS")},
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
    texts = described(Cluster)
    for field in fields(Cluster):
        executors, is_list = field.metadata["executors"], field.name == "sbatch"
        text = texts[field.name].rstrip(".") + "; may be given several times" * is_list
        text += "" if executors == EXECUTORS else f" [{', '.join(executors)}]"
        flag = f"--{field.name.replace('_', '-')}"
        if field.name == "wait":
            group.add_argument(flag, action="store_true", help=text)
        elif field.name == "stage_model":
            group.add_argument(flag, metavar="DIR", help=text)
        else:
            convert, metavar = _READERS[field.name]
            action = "append" if is_list else "store"
            group.add_argument(flag, type=_by_stage(convert, stages), metavar=metavar, action=action, help=text)


def cluster_of(options: argparse.Namespace, stage: str | None = None) -> Cluster:
    """The resources of a kind of stages, by the options of the command line.

    Args:
        options: the parsed command line.
        stage: one of the parser's stages.
    """
    given = {name: _value_of(getattr(options, name), name, stage) for name in _READERS}
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
