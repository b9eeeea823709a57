"""Local workers: a killed one ends the run, an error is the task's own, and no process is left behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from datatrove_quality.runs.completed_tasks import IncompleteRun
from datatrove_quality.runs.executors import make_executor


SCRIPT = '''
import os, signal, sys, time
from pathlib import Path
from datatrove_quality.runs.executors import make_executor

FOLDER = Path(sys.argv[1])


def step(data, rank, world_size):
    """Task 1 does what the script was asked for; the others write their number."""
    (FOLDER / f"pid-{rank}-{os.getpid()}").touch()
    if rank == 1 and not (FOLDER / "healed").exists():
        exec(sys.argv[2] if len(sys.argv) > 2 else os.environ["DOES"])
    (FOLDER / f"done-{rank}").write_text(str(os.getpid()))
    yield from ()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    os.environ["DOES"] = sys.argv[2]
    executor = make_executor(
        [step], executor="local", name="test", tasks=int(sys.argv[3]), workers=int(sys.argv[4]),
        logging_dir=str(FOLDER / "logs"),
    )
    print(executor.run() is not None, flush=True)
'''


def start(folder, does, tasks=5, workers=2):
    (folder / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(folder / "script.py"), str(folder), does, str(tasks), str(workers)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def processes_of(group):
    """The processes of a session that are there and no zombies."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(session) == group and state != "Z":
            found.append(path.parent.name)
    return found


def wait_until(condition, seconds=60):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


def done(folder):
    return sorted(path.name for path in folder.glob("done-*"))


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_all_tasks_run_once(tmp_path, workers):
    """Each task in its turn, with its statistics; started again there is nothing to do."""
    process = start(tmp_path, "pass", tasks=5, workers=workers)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (0, "True\n"), err
    assert done(tmp_path) == [f"done-{rank}" for rank in range(5)]
    assert len(list(tmp_path.glob("pid-*"))) == 5
    assert len({path.name.rpartition("-")[2] for path in tmp_path.glob("pid-*")}) <= workers
    assert json.loads((tmp_path / "logs" / "stats.json").read_text()) == []  # functions have no statistics
    assert "5/5 tasks completed" in err or workers == 1
    assert start(tmp_path, "pass", tasks=5, workers=workers).communicate(timeout=120)[0] == "False\n"


def test_a_killed_worker_ends_the_run_and_the_next_start_goes_on(tmp_path):
    """As the kernel kills what takes too much memory: an error that says so, no process left, and no task lost."""
    process = start(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    error = err[err.index("IncompleteRun") :]
    assert re.search(r"worker process \d+ was killed by SIGKILL while it ran task 1\. .*memory.*fewer workers", error)
    assert "task_00001.log" in error
    assert wait_until(lambda: not processes_of(process.pid))
    before = set(done(tmp_path))
    assert "done-1" not in before
    (tmp_path / "healed").touch()
    process = start(tmp_path, "pass")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert done(tmp_path) == [f"done-{rank}" for rank in range(5)]


def test_a_worker_that_exits_ends_the_run(tmp_path):
    """A library that calls exit() is no result either."""
    process = start(tmp_path, "os._exit(3)")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1 and "ended with code 3 while it ran task 1" in err


def test_the_tasks_error_is_raised(tmp_path):
    """What a task raises ends the run, with the task's own traceback."""
    process = start(tmp_path, "raise ValueError('of the task')")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "ValueError: of the task" in err and "In task 1:" in err
    assert wait_until(lambda: not processes_of(process.pid))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_outlives_the_script(tmp_path, number, workers):
    """Killed, terminated or interrupted while a worker computes: all its processes end."""
    process = start(tmp_path, "while True: pass", workers=workers)
    assert wait_until(lambda: list(tmp_path.glob("pid-1-*")))
    os.kill(process.pid, number)
    try:
        process.communicate(timeout=60)
        assert wait_until(lambda: not processes_of(process.pid)), processes_of(process.pid)
    finally:
        for left in processes_of(process.pid):  # they compute without end
            os.kill(int(left), signal.SIGKILL)


def test_an_error_that_cannot_be_pickled_is_told(tmp_path):
    """Errors of libraries may need more to be made than their message."""
    odd = "class Odd(Exception):\n    def __init__(self, one, two): super().__init__(one)\nraise Odd(1, 2)"
    process = start(tmp_path, f"exec({odd!r})")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1 and "task 1: Odd: 1" in err


def test_a_run_of_this_process_leaves_its_pipeline_alone(tmp_path):
    """Each task has steps of its own; the caller's stay as they are."""

    def step(data, rank, world_size):
        yield from ()

    pipeline = [step]
    executor = make_executor(pipeline, executor="local", name="x", tasks=3, logging_dir=str(tmp_path / "logs"))
    executor.run()
    assert executor.pipeline is pipeline
    assert IncompleteRun.__mro__[1] is RuntimeError
