"""One process at a time runs into a folder; one that has ended is in no one's way."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
from datatrove.io import get_datafolder

from datatrove_quality.runs import active_run as active_run_module
from datatrove_quality.runs.active_run import ACTIVE, ActiveRun, active_run, require_inactive


@pytest.fixture
def output(tmp_path):
    return get_datafolder(str(tmp_path / "out"))


def record(output, run):
    output.makedirs("logs", exist_ok=True)
    with output.open(ACTIVE, "w") as file:
        json.dump(asdict(run), file)


def test_a_second_run_is_refused_until_the_first_has_ended(output):
    """The message names the process, its machine and the time; after the block, also after an error, it is free."""
    with pytest.raises(KeyError), active_run(output):
        with pytest.raises(
            ValueError, match=rf"run is active: process {os.getpid()} on {socket.gethostname()}, since 20"
        ):
            require_inactive(output)
        with pytest.raises(ValueError, match="Wait for it"), active_run(output):
            pass
        assert output.isfile(ACTIVE)
        raise KeyError
    require_inactive(output)
    assert not output.isfile(ACTIVE)


def test_a_killed_process_does_not_block(output):
    """Neither one that is gone, nor a later one that has its number."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    own = ActiveRun.of_this_process()
    for dead in (replace(own, pid=ended.pid), replace(own, started="of another boot/1")):
        record(output, dead)
        require_inactive(output)
        with active_run(output):
            found = ActiveRun(**json.loads(output.open(ACTIVE).read()))
            assert replace(found, since=own.since) == own


def test_a_system_that_does_not_name_its_boot(output, tmp_path, monkeypatch):
    """systemd's ProcSubset=pid shows processes alone: a run that goes on was taken for one that has ended."""
    monkeypatch.setattr(active_run_module, "BOOT_ID", tmp_path / "missing")
    with active_run(output), pytest.raises(ValueError, match="run is active"):
        require_inactive(output)


def test_a_process_that_nobody_has_waited_for_has_ended(output):
    """A killed process stays in the table as a zombie until its parent asks for it."""
    child = os.fork()
    if not child:
        os._exit(0)
    try:
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        record(output, replace(ActiveRun.of_this_process(), pid=child))
        require_inactive(output)
    finally:
        os.waitpid(child, 0)


def test_another_machines_run_blocks_and_the_message_says_how_to_go_on(output):
    """From here it cannot be known whether that process still runs."""
    record(output, replace(ActiveRun.of_this_process(), host="elsewhere", slurm_job=None))
    with pytest.raises(ValueError, match=rf"on elsewhere, since .* cannot tell .* delete .*{ACTIVE}"):
        require_inactive(output)


@pytest.mark.parametrize(("queue", "blocks"), [("echo 12", True), ("true", False), ("echo down >&2; exit 1", True)])
def test_a_slurm_job_that_has_ended_does_not_block(output, tmp_path, monkeypatch, queue, blocks):
    """Of a run within a job on another machine SLURM knows whether it has ended."""
    program = tmp_path / "bin" / "squeue"
    program.parent.mkdir()
    program.write_text(f"#!/bin/bash\n{queue}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    record(output, replace(ActiveRun.of_this_process(), host="node", slurm_job="12"))
    if blocks:
        with pytest.raises(ValueError, match="on node in SLURM job 12"):
            require_inactive(output)
    else:
        require_inactive(output)


@pytest.mark.parametrize("left", ["", '{"pid": 1', "[]", '{"other": 1}'])
def test_a_damaged_record_does_not_block(output, left):
    """A disk that was full when it was written must not block every start after it."""
    output.makedirs("logs", exist_ok=True)
    with output.open(ACTIVE, "w") as file:
        file.write(left)
    with active_run(output):
        pass


def test_processes_that_start_at_once_do_not_both_run(output, tmp_path):
    """Looking and taking are one step: of several only one gets the folder."""
    script = (
        "import sys, time\nfrom datatrove.io import get_datafolder\n"
        "from datatrove_quality.runs.active_run import active_run\n"
        "sys.stdin.readline()\n"
        "try:\n"
        "    with active_run(get_datafolder(sys.argv[1])):\n"
        "        print('runs', flush=True)\n"
        "        sys.stdin.readline()\n"
        "except ValueError:\n"
        "    print('refused', flush=True)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "out")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(3)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.stdout.readline().strip() for process in processes]
    for process in processes:
        process.communicate("\n")
    assert sorted(said) == ["refused", "refused", "runs"]
