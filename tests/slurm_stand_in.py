"""Stand-ins for SLURM's programs, and its executor, without a SLURM."""

from datatrove_quality.runs.slurm import SlurmExecutor


def program(folder, name, script):
    """A stand-in for a program of SLURM, for what a real one cannot be made to do."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/bash\n{script}\n")
    (folder / name).chmod(0o755)


def slurm_executor(folder, **more):
    """The executor of one task, with its logs in a folder."""
    given: dict = {"tasks": 1, "time": None, "partition": None, "qos": None, "logging_dir": str(folder)} | more
    return SlurmExecutor([["document"]], memory="1G", exports={}, **given)
