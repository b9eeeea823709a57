"""The arguments of sbatch, and what the environment would change about them."""

import os
import sys
from pathlib import Path

import pytest
from slurm_stand_in import program, slurm_executor

from datatrove_quality.runs.cluster import Cluster
from datatrove_quality.runs.slurm_arguments import environment_command, sbatch_arguments


@pytest.mark.parametrize("argument", ["nodes=2", "N=2-4", "array=0-3", "mem-per-cpu=1G", "partition=x"])
def test_sbatch_arguments_that_would_do_harm_are_refused(argument):
    """Two nodes would do the same task twice; what the executor sets itself is not set again."""
    with pytest.raises(ValueError, match=f"sbatch='{argument}'"):
        sbatch_arguments(Cluster(sbatch=(argument,)), keeps_progress=True)


@pytest.mark.parametrize(
    ("time", "keeps_progress", "signal"),
    [(None, True, "USR1@120"), ("0:04:00", True, "USR1@60"), ("0", True, None), ("0:04:00", False, None)],
)
def test_only_a_task_that_keeps_its_progress_requeues_itself(time, keeps_progress, signal):
    """One that loses its progress would reach its limit for ever; without a limit there is nothing to warn of."""
    assert sbatch_arguments(Cluster(time=time), keeps_progress).get("signal") == signal


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], ["gpus=1"]),
        (["gres=gpu:a100:2"], ["gres=gpu:a100:2"]),
        (["gres=nvme:100,gpu:2"], ["gres=nvme:100,gpu:2"]),
        (["gpus-per-node=2"], ["gpus-per-node=2"]),
        (["gpus=a100:2"], ["gpus=a100:2"]),
        (["gres=nvme:100"], ["gpus=1", "gres=nvme:100"]),
        (["gpus=2", "gres=gpu:2"], ["gpus=2", "gres=gpu:2"]),
    ],
)
def test_gpus_that_are_asked_for_in_the_words_of_sbatch_are_asked_for_once(tmp_path, given, expected):
    """SLURM refuses `--gpus=1` beside `--gres=gpu:2`: the user's argument takes the place of ours."""
    arguments = sbatch_arguments(Cluster(sbatch=tuple(given)), keeps_progress=False)
    executor = slurm_executor(tmp_path, gpus_per_task=1, sbatch_args=arguments)
    script = executor.get_launch_file_contents(executor.get_sbatch_args(), "true")
    directives = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")]
    assert sorted(line for line in directives if line.startswith(("gpus", "gres"))) == expected


@pytest.mark.parametrize(
    ("variable", "value", "refused"),
    [
        ("SBATCH_PARTITION", "urgent", True),
        ("SBATCH_PARTITION", "lab", False),
        ("SBATCH_ACCOUNT", "mine", False),
        ("SBATCH_TIMELIMIT", "5", True),
        ("SBATCH_MEM_PER_CPU", "2G", True),
    ],
)
def test_the_environment_does_not_beat_the_command_line(tmp_path, monkeypatch, variable, value, refused):
    """SBATCH_PARTITION counts more than a job script's partition; what is not given may come from there."""
    program(tmp_path / "bin", "sbatch", "true")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    executor = slurm_executor(tmp_path / "logs", partition="lab", time="9")
    monkeypatch.setenv(variable, value)
    if refused:
        with pytest.raises(ValueError, match=f"{variable}={value} in the environment would override"):
            executor.require_valid()
    else:
        executor.require_valid()


@pytest.mark.parametrize(
    ("variable", "value", "gpus", "refused"),
    [
        ("SBATCH_GRES", "gpu:2", 1, True),
        ("SBATCH_GPUS_PER_NODE", "2", 1, True),
        ("SBATCH_GRES", "nvme:1", 1, False),
        ("SBATCH_GRES", "gpu:2", 0, False),
    ],
)
def test_gpus_of_the_environment_do_not_stand_beside_ours(tmp_path, monkeypatch, variable, value, gpus, refused):
    """`--gpus=1` in the script and SBATCH_GRES=gpu:2 in the shell ask for GPUs twice, and differently."""
    program(tmp_path / "bin", "sbatch", "true")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv(variable, value)
    executor = slurm_executor(tmp_path / "logs", gpus_per_task=gpus)
    if refused:
        with pytest.raises(
            ValueError, match=f"{variable}={value} in the environment would override the job's --gpus=1"
        ):
            executor.require_valid()
    else:
        executor.require_valid()


def test_the_environment_of_a_job(tmp_path):
    """`module load cuda` is added to this Python's environment, in the place of which a virtual one may be given."""
    own = f"export PATH={Path(sys.executable).parent}:$PATH"
    assert environment_command(None, None) == own
    assert environment_command(None, "module load cuda") == f"{own}; module load cuda"
    venv = tmp_path / "a b"
    with pytest.raises(ValueError, match=r"venv='.*a b': there is no .*activate"):
        environment_command(str(venv), None)
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "activate").touch()
    assert environment_command(str(venv), "module load cuda") == f"source '{venv}/bin/activate'; module load cuda"
