"""The options of where tasks run, for all stages or by stage."""

import argparse

import pytest

from datatrove_quality.cli.executor_options import add_executor_options, cluster_of
from datatrove_quality.runs.cluster import Cluster


def options(*arguments, stages=()):
    parser = argparse.ArgumentParser()
    add_executor_options(parser, stages)
    return parser.parse_args(list(arguments))


def test_an_option_is_given_for_all_stages_or_by_stage():
    """CPU and GPU stages need different partitions, modules and environments on many clusters."""
    given = options(
        *("--partition", "cpu=short,gpu=a100", "--time", "2:00:00,gpu=1-0", "--cpus-per-task", "cpu=2"),
        *("--env-command", "gpu=module load cuda,python; export A=b", "--mem", "8G", "--wait"),
        *("--sbatch", "constraint=intel,gpu=constraint=nvlink", "--sbatch", "comment=a,b", "--stage-model", "/disk"),
        stages=("cpu", "gpu"),
    )
    for_both = {"mem": "8G", "wait": True, "stage_model": "/disk"}
    assert cluster_of(given, "cpu") == Cluster(
        partition="short", time="2:00:00", cpus_per_task=2, sbatch=("constraint=intel", "comment=a,b"), **for_both
    )
    assert cluster_of(given, "gpu") == Cluster(
        partition="a100",
        time="1-0",
        env_command="module load cuda,python; export A=b",
        sbatch=("constraint=intel", "comment=a,b", "constraint=nvlink"),
        **for_both,
    )


def test_without_an_option_nothing_is_asked():
    """The defaults are those of `Cluster`."""
    assert cluster_of(options()) == Cluster()
    assert options().executor == "local" and options().workers is None


@pytest.mark.parametrize("option", ["--gpus-per-task", "--cpus-per-task", "--tasks-per-job"])
@pytest.mark.parametrize("value", ["0", "-1", "two"])
def test_numbers_of_no_meaning_are_refused_as_the_command_line_is_read(option, value, capsys):
    """A number of GPUs counts from 1, for every stage."""
    with pytest.raises(SystemExit, match="2"):
        options(f"{option}=gpu={value}", stages=("cpu", "gpu"))
    assert f"argument {option}: '{value}': give a whole number from 1" in capsys.readouterr().err
