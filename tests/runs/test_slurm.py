"""What is asked of SLURM, without one: job scripts, arguments, queue. tests/slurm has a real SLURM."""

import os
import sys
from pathlib import Path

import pytest
from datatrove.io import get_datafolder
from executors import make

from datatrove_quality.runs import slurm as slurm_jobs
from datatrove_quality.runs.cluster import Cluster
from datatrove_quality.runs.inputs import Inputs
from datatrove_quality.runs.preparation import warn_of_loading
from datatrove_quality.runs.slurm import SlurmExecutor
from datatrove_quality.runs.slurm_arguments import environment_command, sbatch_arguments
from datatrove_quality.runs.slurm_units import gibibytes, seconds


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("90", 5400),
        ("1:30", 90),
        ("8:00:00", 28800),
        ("2-12", 216000),
        ("1-0:30", 88200),
        ("UNLIMITED", None),
        ("0", None),
    ],
)
def test_time_limits_as_slurm_writes_them(limit, expected):
    """Ray counts seconds and SLURM does not; the signal before the limit follows from it."""
    assert seconds(limit) == expected


def test_amounts_that_are_none_are_refused():
    """A mistake in an amount is named, and not handed on."""
    assert [gibibytes(size) for size in ("512M", "2048", "32G", "1TB")] == [0.5, 2, 32, 1024]
    for mistake, function in (("tomorrow", seconds), ("1:2:3:4", seconds), ("much", gibibytes)):
        with pytest.raises(ValueError, match=mistake):
            function(mistake)


def test_no_slurm_on_the_machine(tmp_path, monkeypatch):
    """Without SLURM the message says that no controller is reachable, and that there are other ways."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"no SLURM controller is reachable .*no sbatch in PATH.*executor='local'"):
        make(tmp_path / "logs", "slurm")
    assert not (tmp_path / "logs").exists() or not any((tmp_path / "logs").iterdir())


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
    """One that starts anew would reach its limit again, for ever; without a limit there is nothing to warn of."""
    assert sbatch_arguments(Cluster(time=time), keeps_progress).get("signal") == signal


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


def program(folder, name, script):
    """A stand-in for a program of SLURM, for what a real one does not do when it is asked to."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/bash\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize("record", ["slurm_jobs.txt", "stages/1-clean/slurm_jobs.txt"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_local_run_beside_queued_jobs_is_refused(tmp_path, monkeypatch, record, overwrite):
    """Queued jobs that start after a local run with another threshold would mix their rows with its."""
    logs = tmp_path / "logs"
    (logs / record).parent.mkdir(parents=True)
    (logs / record).write_text("12\n13\n")
    program(
        tmp_path / "bin",
        "squeue",
        """
[ "${@: -1}" = 12 ] && { echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1; }
echo "${@: -1}"
""",
    )
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with pytest.raises(ValueError, match="jobs 13 of an earlier start are still in the queue"):
        make(logs, overwrite=overwrite)
    program(tmp_path / "bin", "squeue", "echo 'Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(ValueError, match="job 12 is still in the queue: Unable to contact"):
        make(logs, overwrite=overwrite)
    program(tmp_path / "bin", "squeue", "true")
    make(logs, overwrite=overwrite)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ValueError, match=r"jobs.txt names SLURM's jobs 12, 13.*delete that file"):
        make(logs, overwrite=overwrite)


def slurm_executor(folder, **more):
    given: dict = {"tasks": 1, "time": None, "partition": None, "qos": None, "logging_dir": str(folder)} | more
    return SlurmExecutor([["document"]], memory="1G", exports={}, **given)


def test_given_arguments_of_sbatch_win(tmp_path):
    """A kind of GPU, or that nothing is requeued, is not undone by what DataTrove sets."""
    given = {"gpus": "a100:1", "no-requeue": "", "mail-type": "END"}
    executor = slurm_executor(tmp_path, gpus_per_task=1, sbatch_args=given)
    arguments = executor.get_sbatch_args()
    assert arguments.items() >= given.items() and "requeue" not in arguments


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


@pytest.mark.parametrize("character", [" ", "(", ";", "%", "$", "'"])
def test_a_path_that_a_shell_or_slurm_reads_otherwise_is_refused(tmp_path, monkeypatch, character):
    """The paths stand in job scripts without quotes, and SLURM has names of its own for %A."""
    program(tmp_path / "bin", "sbatch", "true")
    program(tmp_path / "bin", "scontrol", "true")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with pytest.raises(ValueError, match=r"take no path with .* in it, only letters"):
        make(tmp_path / f"o{character}A", "slurm")
    assert make(tmp_path / "São+1@x=y,z~", "slurm").job_name == "job"


def test_waiting_survives_a_squeue_that_fails(tmp_path, monkeypatch):
    """A controller that restarts does not end --wait while the jobs run."""
    executor = slurm_executor(tmp_path / "logs")
    executor.job_id = "12"
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "slurm_jobs.txt").write_text("12\n")
    calls = tmp_path / "calls"
    program(
        tmp_path / "bin",
        "squeue",
        f"""
echo >> {calls}
case $(wc -l < {calls}) in
    1|2) echo 'Unable to contact slurm controller' >&2; exit 1;;
    3) echo 12;;
esac
""",
    )
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm_jobs, "POLL_SECONDS", 0)
    warnings: list[str] = []
    sink = slurm_jobs.logger.add(warnings.append, level="WARNING")
    executor.wait()
    slurm_jobs.logger.remove(sink)
    assert len(calls.read_text().splitlines()) == 4
    assert len(warnings) == 1 and "Unable to contact" in warnings[0]


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


def test_loading_for_little_work_is_named_while_there_is_something_to_run(tmp_path, monkeypatch):
    """64 loads for a few rows are a mistake worth a line; a command that only prints the table does not repeat it."""
    warnings: list[str] = []
    monkeypatch.setattr("datatrove_quality.runs.preparation.logger.warning", warnings.append)
    weights = 8 * 10**9
    rows = Inputs(get_datafolder(str(tmp_path)), {"a.jsonl": 1_000}, "json", None, searched=True)
    executor = slurm_executor(tmp_path / "logs", tasks=64)
    warn_of_loading(weights, rows, executor)
    assert len(warnings) == 1 and "loaded 64 times" in warnings[0] and "tasks_per_job=64" in warnings[0]
    (tmp_path / "logs" / "completions").mkdir(parents=True)
    for rank in range(64):
        (tmp_path / "logs" / "completions" / f"{rank:05d}").touch()
    warn_of_loading(weights, rows, executor)
    warn_of_loading(weights, rows, make(tmp_path / "local", workers=2))
    assert len(warnings) == 1
