"""Scripts that start worker processes, with and without `if __name__ == "__main__":`."""

import subprocess
import sys

import pytest
from samples import read_rows, rows, write_rows


SCRIPT = """\
from datatrove_quality import ConversationAdapter, Run

print("the script runs as", __name__, flush=True)

def main():
    run = Run("in", "out", workers={workers})
    result = run([run.reader(ConversationAdapter()), run.writer("kept")])
    print("done", flush=True)

{start}
"""


def start(folder, workers, how, file="script.py", command=("script.py",)):
    for name in "ab":
        write_rows(folder / f"in/{name}.jsonl", rows(3, name))
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_text(SCRIPT.format(workers=workers, start=how))
    return subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


def test_workers_of_an_unguarded_script_are_refused_before_anything_is_written(tmp_path):
    """DataTrove alone hangs there: its workers run the script again, fail, and are started again for ever."""
    done = start(tmp_path, 2, "main()")
    assert done.returncode == 1 and not (tmp_path / "out").exists()
    assert (
        "script.py again, and would run line 10 again. Put what the script does under `if __name__ ==" in done.stderr
    )


@pytest.mark.parametrize(
    ("workers", "how"),
    [
        (1, "main()"),
        (2, "if __name__ == '__main__':\n    main()"),
        (2, "if 'x' and __name__ == '__main__':\n    if True:\n        main()"),
    ],
)
def test_other_scripts_run(tmp_path, workers, how):
    """One task at a time needs no worker process; and a guard is recognised wherever it is."""
    done = start(tmp_path, workers, how)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("done") == 1
    assert len(read_rows(tmp_path / "out/kept")) == 6


def test_a_package_that_is_run_needs_no_guard(tmp_path):
    """Workers do not import the `__main__` of `python -m package`, which usually has no guard."""
    done = start(tmp_path, 2, "main()", "package/__main__.py", ("-m", "package"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("done") == 1 and len(read_rows(tmp_path / "out/kept")) == 6


def test_an_import_in_a_worker_runs_nothing(tmp_path):
    """Where the check cannot see that a script is unguarded, its workers leave the pipeline to the first process."""
    done = start(
        tmp_path, 2, "import threading\nthread = threading.Thread(target=main)\nthread.start()\nthread.join()"
    )
    assert done.returncode == 0, done.stderr
    assert len(read_rows(tmp_path / "out/kept")) == 6


PLAIN = """\
from datatrove.executor import LocalPipelineExecutor
from datatrove_quality import ConversationAdapter, ConversationJsonlReader, QualityFilter

def main():
    pipeline = [ConversationJsonlReader("in", adapter=ConversationAdapter()), QualityFilter(None, unscorable="keep")]
    LocalPipelineExecutor(pipeline, tasks=2, workers={workers}, logging_dir="logs").run()
    print("done", flush=True)

{start}
"""


@pytest.mark.parametrize(
    ("workers", "how", "is_refused"),
    [
        (2, "main()", True),
        (1, "main()", False),
        (2, "if __name__ == '__main__':\n    main()", False),
        (2, "from concurrent.futures import ThreadPoolExecutor\nThreadPoolExecutor().submit(main).result()", True),
    ],
)
def test_a_pipeline_on_datatroves_own_executor(tmp_path, workers, how, is_refused):
    """There too the hang of an unguarded script becomes an error that says what to do; other scripts run."""
    for name in "ab":
        write_rows(tmp_path / f"in/{name}.jsonl", [row | {"quality_score": None} for row in rows(3, name)])
    (tmp_path / "script.py").write_text(PLAIN.format(workers=workers, start=how))
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.count("done") == (not is_refused)
    assert (done.returncode == 1) == is_refused, done.stderr
    assert ("workers=2: each worker imports " in done.stderr) == is_refused
