"""Which process has which GPU: each its own while one is free, and nothing is held by a process that has ended."""

import json
import os
import signal
import subprocess
import sys

import pytest
from lease_holder import HOLDER

from datatrove_quality.model import leases


def test_processes_take_different_gpus_and_share_the_least_loaded(holder, tmp_path, monkeypatch):
    """Three workers on two GPUs: none is shared while one is free, and the fifth does not join the fuller one."""
    gpus = ["GPU-a", "GPU-b"]
    first, taken = holder(gpus)
    assert taken == [0]
    assert [holder(gpus)[1] for _ in range(3)] == [[1], [0], [1]]
    first.kill()
    first.wait()
    sharing, taken = holder(gpus)
    assert taken == [0]
    sharing.kill()
    warning = sharing.communicate()[1]
    assert "None of the 2 GPUs" in warning and "Set workers=2." in warning
    monkeypatch.setattr(leases, "lease_folder", lambda: tmp_path)
    assert len(leases.holders("GPU-a")) == 1 and len(leases.holders("GPU-b")) == 2


def test_a_killed_process_holds_nothing(holder):
    """The kernel gives a GPU back, however its process ends."""
    process, _ = holder(["GPU-a"])
    process.send_signal(signal.SIGKILL)
    process.wait()
    following, taken = holder(["GPU-a"])
    assert taken == [0]
    following.kill()
    assert not following.communicate()[1]


def test_a_forked_child_does_not_keep_its_parents_gpu(holder):
    """A helper process that outlives a worker must not keep the worker's GPU from the next one."""
    process, _ = holder(["GPU-a"], 1, "fork")
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    try:
        following, _ = holder(["GPU-a"])
        following.kill()
        assert not following.communicate()[1]
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("where", ["folder", "nowhere"])
def test_leases_do_not_follow_a_link(tmp_path, monkeypatch, where):
    """In /tmp anybody can plant a link of that name: no file is made or cut where it leads."""
    (tmp_path / "folder").mkdir()
    (tmp_path / f"datatrove-quality-{os.getuid()}").symlink_to(tmp_path / where)
    monkeypatch.setattr(leases.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(leases.os, "access", lambda *_: False)  # as if there were no /tmp
    with pytest.raises(ValueError, match=r"is no folder.*have it removed"):
        leases.lease_folder()


def test_who_takes_all_takes_what_is_free(holder):
    """A single process beside others gets the GPUs that they left, and others that overlap see them taken."""
    assert holder(["GPU-a", "GPU-b", "GPU-c"])[1] == [0]
    assert holder(["GPU-c", "GPU-b", "GPU-a"], None)[1] == [0, 1]
    assert holder(["GPU-c", "GPU-d"])[1] == [1]


def test_many_processes_at_once_agree(holder, tmp_path):
    """Workers of a pool start in the same moment: each of eight has one of eight GPUs, none is shared."""
    gpus = [f"GPU-{number}" for number in range(8)]
    arguments = [sys.executable, "-c", HOLDER, json.dumps([gpus, 1, str(tmp_path)])]
    processes = [subprocess.Popen(arguments, stdout=subprocess.PIPE) for _ in gpus]
    try:
        taken = sorted(json.loads(process.stdout.readline())[0] for process in processes)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert taken == list(range(8))
