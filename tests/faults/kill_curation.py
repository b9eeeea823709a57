"""Kill the curation pipeline again and again, start it again each time, and compare with an undisturbed run.

    PYTHONPATH=tests:tests/faults:examples python tests/faults/kill_curation.py --kills 100 --copies 2

A process is forked for each attempt. It kills itself at a random one of the moments that matter: before a file gets
its place, before and after a task is marked as done, and while documents are written. With `--copies 2` two processes
at once do the same tasks into the same folder, and die apart. Exits with an error where the rows differ.
"""

import argparse
import os
import pickle
import random
import signal
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any


# Before torch is imported: a pool of threads does not survive a fork.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import plant_garbage
import spacy  # noqa: F401  # imported once, before the forks
from datatrove.executor.base import PipelineExecutor
from kill_and_resume import difference
from loguru import logger
from tiny_models import DECODER, chatml_tokenizer, save_model
from tqdm import tqdm

from datatrove_quality.cli.main import run as run_command
from datatrove_quality.curation import stages  # noqa: F401  # imported once, before the forks
from datatrove_quality.runs import outputs, run


MOMENTS = 60  # most that an attempt lives through; an undisturbed run has some 200
DOCUMENTS_PER_MOMENT = 50
TASKS = 2


def attempt(command: list[str], moments: int | None, copies: int = 1) -> int:
    """Fork a process that runs the pipeline until it has come to so many moments, or to its end; gives its number."""
    child = os.fork()
    if child:
        return child
    os.setpgrp()
    tqdm.set_lock(threading.RLock())  # that which came with the fork may be held for ever
    logger.remove()
    if copies > 1:
        let_copies_run()
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    if moments is not None:
        die_at(moments)
    status = 1
    try:
        run_command(["curate", *command])
        status = 0
    finally:
        os._exit(status)


def let_copies_run() -> None:
    """Two copies of a task that a cluster starts do not know of each other; two runs of ours would."""
    run.require_inactive = lambda output: None  # type: ignore[assignment]
    run.active_run = lambda output: nullcontext()  # type: ignore[assignment]


def die_at(moments: int) -> None:
    """Let this process kill itself when it comes to that many moments."""
    seen = 0.0

    def moment(weight: float = 1.0) -> None:
        nonlocal seen
        seen += weight
        if seen >= moments:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(function: Callable, before: float, after: float) -> Callable:
        def called(*arguments: Any) -> Any:
            moment(before)
            result = function(*arguments)
            moment(after)
            return result

        return called

    outputs._move = around(outputs._move, 1, 0)
    PipelineExecutor.mark_rank_as_completed = around(PipelineExecutor.mark_rank_as_completed, 1, 1)  # type: ignore
    pickle.dumps = around(pickle.dumps, 1 / DOCUMENTS_PER_MOMENT, 0)


def ended(process: int) -> str:
    """Wait for an attempt: "well", "killed" or "failed". What DataTrove started beside it ends too."""
    _, status = os.waitpid(process, 0)
    with suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
    return "well" if status == 0 else "killed" if os.WIFSIGNALED(status) else "failed"


def rows_by_line(output: Path) -> dict[str, dict]:
    """The rows that a run wrote, by file and line; the same tasks write the same lines."""
    return {
        f"{path.relative_to(output)}:{number}": {"line": line} if '"quality_score":' not in line else parsed(line)
        for path in sorted([*output.glob("kept/*"), *output.glob("excluded/*/*")])
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines())
    }


def parsed(line: str) -> dict[str, Any]:
    """A scored row."""
    import orjson

    return orjson.loads(line)


def kill_curation(kills: int, copies: int, rows: int, seed: int, folder: Path) -> None:
    """Run the pipeline as often as it takes to be killed that often.

    Raises:
        SystemExit: a run's rows differ from an undisturbed run's.
    """
    choose = random.Random(seed)
    save_model(folder / "model", "qwen3", chatml_tokenizer(), **DECODER)
    plant_garbage.write(folder / "in")
    for path in (folder / "in").iterdir():
        path.write_text("\n".join(path.read_text(encoding="utf-8").splitlines()[-rows // plant_garbage.FILES :]))
    command = [str(folder / "in"), "--model", str(folder / "model"), "--min-score", "1", "--tasks", str(TASKS)]

    def into(name: str) -> list[str]:
        return [*command, "--no-progress", "--output", str(folder / name)]

    if ended(attempt(into("undisturbed"), None)) != "well":
        raise SystemExit("FAILED: the undisturbed run did not end")
    expected = rows_by_line(folder / "undisturbed")
    ends: Counter[str] = Counter()
    runs = 0
    while ends["killed"] < kills:
        name = f"disturbed-{runs}"
        runs += 1
        done = False
        while not done:
            processes = [attempt(into(name), choose.randint(1, MOMENTS), copies) for _ in range(copies)]
            how = list(map(ended, processes))
            ends.update(how)
            done = "well" in how
            # A few are in order: of two that start at once, or whose folder of unfinished files the other takes away.
            if ends["failed"] > 3 * runs:
                raise SystemExit(f"FAILED: {name}: what a killed attempt or a copy left there makes the next one fail")
        if ended(attempt(into(name), None)) != "well":
            raise SystemExit(f"FAILED: run {name} did not end")
        if problem := difference(expected, rows_by_line(folder / name)):
            raise SystemExit(f"FAILED: {name}: {problem}")
        tables = [(folder / run / "logs/counts/table.txt").read_text() for run in ("undisturbed", name)]
        if tables[0] != tables[1]:
            raise SystemExit(f"FAILED: {name}: its table differs")
    print(
        f"{copies} at once: {ends['killed']} kills and {ends['failed']} failures in {runs} runs; "
        f"{len(expected):,} rows each, as without, and the same table"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--copies", type=int, default=1, help="processes that do the same at once (default: 1)")
    parser.add_argument("--rows", type=int, default=700, help="of the demo and what is planted in it (default: 700)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tqdm.monitor_interval = 0  # no thread that a fork could catch in the midst of something
    with tempfile.TemporaryDirectory() as temporary:
        kill_curation(options.kills, options.copies, options.rows, options.seed, Path(temporary))
