"""The arguments of sbatch, what the environment would change about them, and what the cluster has."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datatrove_quality.runs.cluster import Cluster
from datatrove_quality.runs.slurm_units import seconds


# Seconds before the time limit at which a job is told to requeue itself. What it computed is saved as it comes.
SIGNAL_SECONDS = 120
GPU_WORDS = ("gpus", "gpus-per-node", "gpus-per-task", "gres")


def sbatch_arguments(cluster: Cluster, keeps_progress: bool) -> dict[str, str]:
    """The account and other arguments of sbatch, with a signal before the time limit.

    Args:
        cluster: what to request from SLURM.
        keeps_progress: what a task computed is saved as it comes, so that the job may requeue itself.

    Raises:
        ValueError: an argument would do harm, or has a field of its own.
    """
    # The log of a job that starts again follows that of its first try.
    arguments = {"kill-on-invalid-dep": "yes", "open-mode": "append"}
    limit = seconds(cluster.time) if cluster.time else 4 * SIGNAL_SECONDS  # at least: the partition's
    if keeps_progress and limit is not None:
        # To the steps of the job, so that it reaches the Python process, which requeues the job. A task that would
        # start from its beginning gets none: it would never end.
        arguments["signal"] = f"USR1@{min(SIGNAL_SECONDS, limit // 4)}"
    if cluster.account:
        arguments["account"] = cluster.account
    for item in cluster.sbatch:
        key, _, value = item.lstrip("-").partition("=")
        if key in ("N", "nodes") and value not in ("1", "1-1"):
            raise ValueError(f"sbatch={item!r}: each of the nodes would run the same task. Set tasks to more instead.")
        if key in ("array", "dependency", "output", "error", "job-name", "export"):
            raise ValueError(f"sbatch={item!r}: the executor sets {key} itself; omit it.")
        if key in ("mem-per-cpu", "mem-per-gpu"):
            raise ValueError(f"sbatch={item!r}: give the memory of a task as mem.")
        if key in ("partition", "time", "qos", "mem", "cpus-per-task"):
            raise ValueError(f"sbatch={item!r}: give it as {key.replace('-', '_')}={value}.")
        arguments[key] = value
    return arguments


def asking_for_gpus(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those of sbatch's arguments that ask for GPUs."""
    given = {key: arguments[key] for key in GPU_WORDS if arguments.get(key)}
    return {key: value for key, value in given.items() if key != "gres" or "gpu" in value}


def require_no_contradictions(arguments: dict[str, Any], memory: str) -> None:
    """Refuse variables of the environment that override the script's arguments: sbatch takes them first.

    Raises:
        ValueError: there is one.
    """

    def name(key: str) -> str:
        return "SBATCH_" + {"time": "TIMELIMIT", "array": "ARRAY_INX"}.get(key, key.upper().replace("-", "_"))

    script = [(key, name(key), value) for key, value in arguments.items() if key != "mem-per-cpu"]
    script += [("mem", f"SBATCH_MEM_PER_{part}", memory) for part in ("CPU", "GPU", "NODE")]
    # GPUs that the environment requests by another argument would be added to ours.
    others = asking_for_gpus({word: os.environ.get(name(word)) for word in GPU_WORDS})
    script += [(key, name(word), value) for key, value in asking_for_gpus(arguments).items() for word in others]
    for key, variable, value in script:
        if value and os.environ.get(variable, str(value)) != str(value):
            raise ValueError(
                f"{variable}={os.environ[variable]} in the environment would override the job's --{key}={value}: "
                f"`unset {variable}` first."
            )


def described_partitions() -> str:
    """What the cluster has, to show a user who requested something else."""
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


def largest_array() -> int | None:
    """How many jobs an array may have on this cluster; None where it does not say."""
    answer = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True)
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", answer.stdout, re.MULTILINE)
    return int(found[1]) if found else None


def environment_command(venv: str | None, env_command: str | None) -> str:
    """A shell line that gives a job the programs of `venv`, or of this Python's environment, and does the rest.

    Raises:
        ValueError: `venv` is no virtual environment.
    """
    line = f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"
    if venv:
        activate = Path(venv).absolute() / "bin" / "activate"
        if not activate.is_file():
            raise ValueError(f"venv={venv!r}: there is no {activate}; give the folder of a virtual environment.")
        line = f"source {shlex.quote(str(activate))}"
    return f"{line}; {env_command}" if env_command else line
