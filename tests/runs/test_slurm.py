"""Job scripts and submissions, without a SLURM. tests/slurm has a real one."""

import os

import pytest
from executors import make
from slurm_stand_in import program, slurm_executor

from datatrove_quality.runs.cluster import Cluster
from datatrove_quality.runs.slurm import SlurmExecutor
from datatrove_quality.runs.slurm_arguments import sbatch_arguments


def test_the_job_script(tmp_path):
    """Memory by task, no qos, no empty argument, a signal before the limit, and no network."""
    given = Cluster(time="0:04:00", account="lab", sbatch=("--exclusive", "constraint=a100"))
    executor = SlurmExecutor(
        [],
        memory="24G",
        exports={"HF_HUB_OFFLINE": "1"},
        tasks=4,
        time="0:04:00",
        partition=None,
        qos=None,
        gpus_per_task=2,
        sbatch_args=sbatch_arguments(given, keeps_progress=True),
        logging_dir=str(tmp_path),
    )
    script = executor.get_launch_file_contents(executor.get_sbatch_args(4), "true")
    directives = {line for line in script.splitlines() if line.startswith("#SBATCH")}
    assert {"#SBATCH --mem=24G", "#SBATCH --gpus=2", "#SBATCH --nodes=1", "#SBATCH --requeue"} <= directives
    assert {"#SBATCH --signal=USR1@60", "#SBATCH --account=lab", "#SBATCH --exclusive"} <= directives
    assert not any(word in script for word in ("qos", "mem-per-cpu", "partition", "None"))
    assert "unset SLURM_MEM_PER_CPU SLURM_MEM_PER_GPU SLURM_MEM_PER_NODE; export HF_HUB_OFFLINE=1; true" in script


def test_given_arguments_of_sbatch_win(tmp_path):
    """A kind of GPU, or that nothing is requeued, is not undone by what DataTrove sets."""
    given = {"gpus": "a100:1", "no-requeue": "", "mail-type": "END"}
    executor = slurm_executor(tmp_path, gpus_per_task=1, sbatch_args=given)
    arguments = executor.get_sbatch_args()
    assert arguments.items() >= given.items() and "requeue" not in arguments


@pytest.mark.parametrize("character", [" ", "(", ";", "%", "$", "'"])
def test_a_path_that_a_shell_or_slurm_reads_otherwise_is_refused(tmp_path, monkeypatch, character):
    """The paths stand in job scripts without quotes, and SLURM has names of its own for %A."""
    program(tmp_path / "bin", "sbatch", "true")
    program(tmp_path / "bin", "scontrol", "true")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with pytest.raises(ValueError, match=r"take no path with .* in it, only letters"):
        make(tmp_path / f"o{character}A", "slurm")
    assert make(tmp_path / "São+1@x=y,z~", "slurm").job_name == "job"


@pytest.mark.parametrize(
    ("refused", "queued"),
    [('[[ "$*" == *RUN_OFFSET=1* ]]', ["1"]), ('grep -q merge_stats "${@: -1}"', ["1", "2"])],
)
def test_what_sbatch_took_before_it_refused_is_on_record(tmp_path, monkeypatch, refused, queued):
    """An array beside which the next was refused is found by a second start; a refused merge job stops nothing."""
    calls = tmp_path / "calls"
    program(
        tmp_path / "bin",
        "sbatch",
        f"""
if {refused}; then echo 'sbatch: error: no' >&2; exit 1; fi
echo >> {calls}
echo Submitted batch job $(wc -l < {calls})
""",
    )
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    executor = slurm_executor(tmp_path / "logs", tasks=2, max_array_size=1)
    if len(queued) == 1:
        with pytest.raises(ValueError, match="SLURM refused a job of data_processing"):
            executor.run()
    else:
        executor.run()
    assert (tmp_path / "logs" / "slurm_jobs.txt").read_text() == f"{queued[-1]}\n"
