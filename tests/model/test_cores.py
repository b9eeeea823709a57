"""Processes that score on one machine divide its cores; a number that the user has set is left alone."""

import os
import subprocess
import sys
from fractions import Fraction

import pytest
import torch

from datatrove_quality.model import cores, leases
from datatrove_quality.model.cores import Bounds, Threads, bounds_of, is_chosen, part_of_cores


EIGHT = frozenset(range(8))


def parts(bounds, threads=8):
    return [part_of_cores(process, bounds, threads) for process in bounds]


@pytest.mark.parametrize(
    ("processes", "threads", "expected"),
    [(1, 8, [8]), (2, 8, [4, 4]), (3, 8, [2, 3, 3]), (5, 8, [1, 1, 2, 2, 2]), (9, 8, [1] * 9), (2, 4, [2, 2])],
)
def test_equal_processes_take_all_threads_together(processes, threads, expected):
    """No core is left over, none taken twice while there is one for each; two threads of a core are not two cores."""
    assert parts(dict.fromkeys(range(10, 10 + processes), Bounds(EIGHT)), threads) == expected


def test_only_shared_cores_are_divided():
    """Processes that are pinned to different cores take all of their own; one on all cores leaves them theirs."""
    low, high = frozenset(range(4)), frozenset(range(4, 8))
    assert parts({1: Bounds(low), 2: Bounds(high)}, threads=4) == [4, 4]
    assert part_of_cores(1, {1: Bounds(EIGHT), 2: Bounds(low)}, 8) == 6


def test_a_budget_bounds_its_group_alone():
    """A cgroup's quota is divided among the processes in it; others keep to the cores."""
    quota = {"/pod": Fraction(5, 2)}
    assert parts({1: Bounds(EIGHT, quota)}) == [2]
    assert parts({1: Bounds(EIGHT, quota), 2: Bounds(EIGHT, quota), 3: Bounds(EIGHT)}) == [1, 1, 3]


def test_bounds_are_read_from_the_system(tmp_path):
    """The affinity, the quotas of both versions of cgroups at every level, and SLURM's number for a task."""
    process = tmp_path / "proc" / str(os.getpid())
    process.mkdir(parents=True)
    (process / "cgroup").write_text("4:cpu,cpuacct:/job/step\n3:cpuset:/other\n0::/slice/pod\n")
    (process / "environ").write_bytes(b"SLURM_CPUS_PER_TASK=3\0SLURM_JOB_ID=7\0SLURM_PROCID=1\0HOME=\xff\0\0")
    groups = tmp_path / "sys/fs/cgroup"
    (groups / "slice/pod").mkdir(parents=True)
    (groups / "slice/cpu.max").write_text("150000 100000\n")
    (groups / "slice/pod/cpu.max").write_text("max 100000\n")
    (groups / "cpu,cpuacct/job/step").mkdir(parents=True)
    (groups / "cpu,cpuacct/job/cpu.cfs_quota_us").write_text("400000\n")
    (groups / "cpu,cpuacct/job/cpu.cfs_period_us").write_text("100000\n")
    (groups / "cpu,cpuacct/job/step/cpu.cfs_quota_us").write_text("-1\n")
    (groups / "cpu,cpuacct/job/step/cpu.cfs_period_us").write_text("100000\n")
    found = bounds_of(os.getpid(), tmp_path)
    assert found.cores == os.sched_getaffinity(0)
    assert found.budgets == {
        str(groups / "slice"): Fraction(3, 2),
        str(groups / "cpu,cpuacct/job"): Fraction(4),
        "SLURM task 7..1": Fraction(3),
    }
    assert bounds_of(2**22 + 1, tmp_path) == found  # no such process here: it may be one of another container


@pytest.fixture
def division(monkeypatch, tmp_path):
    """This machine with 4 cores, without variables, with leases in a folder of its own; the number is restored."""
    for name in cores.VARIABLES:
        monkeypatch.setenv(name, "")
    before = torch.get_num_threads()
    monkeypatch.setattr(leases, "lease_folder", lambda: tmp_path)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(cores, "bounds_of", lambda process: Bounds(frozenset(range(4))))
    monkeypatch.setattr(cores, "SECONDS_BETWEEN_LOOKS", 0.0)
    monkeypatch.setattr(cores, "_process", cores._Process())
    torch.set_num_threads(4)
    yield tmp_path
    torch.set_num_threads(before)


OTHER = """
import sys
from pathlib import Path
from datatrove_quality.model import leases
leases.lease_folder = lambda: Path(sys.argv[1])
leases.register(["cores"])
print("registered", flush=True)
sys.stdin.read()
"""


def test_a_process_gives_way_while_another_computes(division, log):
    """Another process halves the threads at the next batch; when it has ended, they come back at the second look."""
    with Threads() as threads:
        assert torch.get_num_threads() == 4
        command = [sys.executable, "-c", OTHER, str(division)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout.readline() == "registered\n"
            threads.adjust()
            assert torch.get_num_threads() == 2
            other.stdin.close()
        seen = []
        for _ in range(2):
            threads.adjust()
            seen.append(torch.get_num_threads())
        assert seen == [2, 4]
        assert leases.holders(cores.LEASE) == [os.getpid()]
    assert leases.holders(cores.LEASE) == []
    assert [line for line in log if "Threads" in line] == [
        "INFO Threads that compute: 4. This user's processes that score here: 1.\n",
        "INFO Threads that compute: 2. This user's processes that score here: 2.\n",
        "INFO Threads that compute: 4. This user's processes that score here: 1.\n",
    ]


def test_a_number_that_was_set_is_left_alone(division, log, monkeypatch):
    """By the environment or in the program, before the first score or between two streams."""
    monkeypatch.setattr(leases, "holders", lambda name: [1, os.getpid()])
    with Threads():
        assert torch.get_num_threads() == 2
    torch.set_num_threads(3)
    with Threads():
        assert torch.get_num_threads() == 3
    assert "Threads that compute: 3, the number that was set." in log[-1]
    assert is_chosen(5, ()) and not is_chosen(4, ()) and not is_chosen(5, (5,))
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert is_chosen(4, (4,))


def test_scoring_goes_on_where_no_lease_can_be_had(division, log, monkeypatch):
    """A folder of another user's costs the division, not the run."""

    def refuse():
        raise ValueError("/tmp/x belongs to another user")

    monkeypatch.setattr(leases, "lease_folder", refuse)
    with Threads():
        assert torch.get_num_threads() == 4
    assert any("cannot divide its cores: /tmp/x belongs to another user" in line for line in log)
