"""Kill a scoring task again and again, start it again each time, and compare its output with an undisturbed run's.

    PYTHONPATH=tests:tests/faults:examples python tests/faults/kill_and_resume.py --kills 200 --signal KILL

A process is forked for each attempt, so that an attempt takes a fraction of a second; it runs `QualityFilter` with
`checkpoints_dir` in a pipeline of DataTrove's own executor, and is sent the signal at a random moment: while it loads,
reads, scores or writes. Each forward pass is logged by the process itself, from which follows what was computed twice.
Prints a table and exits with an error where the output differs or more was lost than is promised.
"""

import argparse
import json
import os
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any


# Before torch is imported: a pool of threads does not survive a fork.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from loguru import logger
from samples import rows_by_id, write_rows
from tiny_models import DECODER, chatml_tokenizer, conversations, save_model
from tqdm import tqdm
from transformers import AutoModelForSequenceClassification  # noqa: F401  # imported once, before the forks

from datatrove_quality import (
    ConversationAdapter,
    ConversationJsonlReader,
    QualityFilter,
    RowAdapter,
    ScorerConfig,
)
from datatrove_quality.engine.lazy_model import LoadedModel
from datatrove_quality.engine.scorer import Scorer
from datatrove_quality.engine.store import ScoreStore
from datatrove_quality.runs.outputs import WholeJsonlWriter


PROMISED_SECONDS = 5.0
SECONDS_BETWEEN_KILLS = 0.7  # on average; of these some are spent on starting
MIN_SCORE = 1.0
TASKS = 2


def pipeline(folder: Path, output: Path) -> list[PipelineStep]:
    """Read, score, keep or exclude."""
    unfinished = str(output / "unfinished")
    return [
        ConversationJsonlReader(str(folder / "in"), adapter=ConversationAdapter()),
        QualityFilter(
            ScorerConfig(model=str(folder / "model"), dtype="float32", device="cpu", tokens_per_batch=1_000),
            min_score=MIN_SCORE,
            exclusion_writer=WholeJsonlWriter(
                str(output / "excluded"), f"{unfinished}/excluded", adapter=RowAdapter(), compression=None
            ),
            checkpoints_dir=output / "checkpoints",
        ),
        WholeJsonlWriter(str(output / "kept"), f"{unfinished}/kept", adapter=RowAdapter(), compression=None),
    ]


def log_forward_passes(path: Path, seconds_per_batch: float) -> None:
    """Append a line per micro-batch: when it was computed, how long it took, and which texts; and slow it down."""
    descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    real = Scorer._load

    def load(self: Scorer) -> LoadedModel:
        loaded = real(self)
        (replica,) = loaded.replicas
        forward = replica.forward

        def logged(model: torch.nn.Module, batch: list[list[int]], **options: Any) -> torch.Tensor:
            started = time.monotonic()
            logits = forward(model, batch, **options)
            time.sleep(seconds_per_batch)
            line = [os.getpid(), started, time.monotonic(), [hash(tuple(ids)) for ids in batch]]
            os.write(descriptor, json.dumps(line).encode() + b"\n")
            return logits

        replica.forward = logged
        return loaded

    Scorer._load = load  # type: ignore[method-assign]


def attempt(folder: Path, output: Path, passes: Path, seconds_per_batch: float) -> int:
    """Fork a process that runs the pipeline to its end; gives its number."""
    child = os.fork()
    if child:
        return child
    os.setpgrp()
    # The lock that came with the fork may be held for ever by a brother who was killed.
    tqdm.set_lock(threading.RLock())
    logger.remove()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    log_forward_passes(passes, seconds_per_batch)
    status = 1
    try:
        LocalPipelineExecutor(pipeline(folder, output), tasks=TASKS, workers=1, logging_dir=str(output / "logs")).run()
        status = 0
    finally:
        os._exit(status)


def difference(expected: dict[str, dict], found: dict[str, dict]) -> str | None:
    """How two runs differ, but for the arithmetic's noise of 5e-5, which only batches of their own may bring."""
    if expected.keys() != found.keys():
        return f"{len(expected.keys() ^ found.keys())} ids are in one run only"
    for name, row in expected.items():
        other = found[name]
        near = abs(row.get("quality_score", 0.0) - other.get("quality_score", 0.0)) <= 5e-5
        same = {key: value for key, value in row.items() if key != "quality_score"}
        if not near or any(other.get(key) != value for key, value in same.items()):
            return f"{row} became {other}"
    return None


def lost(passes: Path, deaths: dict[int, float], repeats: set[int]) -> tuple[float, float, float]:
    """What was computed again although it had been computed before.

    Args:
        passes: the log of forward passes.
        deaths: when each process was killed.
        repeats: texts that a single run computes more than once, since several tasks hold them.

    Returns:
        Seconds of scoring done twice; the age, at its process's death, of the oldest score that was lost; and the
        seconds of the longest batch.
    """
    computed: dict[int, list[tuple[int, float]]] = {}
    again = oldest = longest = 0.0
    for process, started, ended, texts in read_passes(passes):
        longest = max(longest, ended - started)
        for text in set(texts) - repeats:
            before = computed.setdefault(text, [])
            if before:
                again += (ended - started) / len(texts)
                oldest = max(oldest, *(deaths[other] - when for other, when in before))
            before.append((process, ended))
    return again, oldest, longest


def read_passes(path: Path) -> list[tuple[int, float, float, list[int]]]:
    """Process, start, end and texts of each forward pass."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def kill_and_resume(kills: int, number: signal.Signals, rows: int, seed: int, folder: Path) -> None:
    """Kill a run that many times, each at a random moment, and let the last attempt end.

    Raises:
        SystemExit: the output differs from an undisturbed run's, or too much was computed twice.
    """
    rng = random.Random(seed)
    save_model(folder / "model", "qwen3", chatml_tokenizer(), **DECODER)
    made = [{"id": str(index), "messages": turns} for index, turns in enumerate(conversations(rows))]
    for part in range(TASKS):
        write_rows(folder / f"in/{part}.jsonl", made[part::TASKS])
    undisturbed = folder / "undisturbed"
    wait(attempt(folder, undisturbed, folder / "undisturbed.passes", 0.0))
    expected = rows_by_id(undisturbed)
    undisturbed_passes = read_passes(folder / "undisturbed.passes")
    times = Counter(text for *_, texts in undisturbed_passes for text in texts)
    repeats = {text for text, count in times.items() if count > 1}
    # So slow that there is work left for every kill, and that no task ends within a long life.
    seconds = max(kills * (SECONDS_BETWEEN_KILLS + 0.16 * PROMISED_SECONDS), 6.0 * PROMISED_SECONDS)
    seconds_per_batch = seconds / len(undisturbed_passes)
    passes, deaths = folder / "killed.passes", {}
    while len(deaths) < kills:
        # Now and then long enough for the promise to be broken.
        lives = 1.6 * PROMISED_SECONDS if len(deaths) % 10 == 5 else rng.uniform(0.0, 2 * SECONDS_BETWEEN_KILLS)
        child = attempt(folder, folder / "killed", passes, seconds_per_batch)
        time.sleep(lives)
        ended, _ = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        deaths[child] = time.monotonic()
        os.kill(child, number)
        os.waitpid(child, 0)
        # What the executor started for itself, which the signal did not reach.
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
    wait(attempt(folder, folder / "killed", passes, 0.0))
    found = rows_by_id(folder / "killed")
    again, oldest, longest = lost(passes, deaths, repeats)
    if len(deaths) < kills:
        raise SystemExit(f"FAILED: the run ended after {len(deaths)} kills; give more --rows")
    if problem := difference(expected, found):
        raise SystemExit(f"FAILED: {problem}")
    if oldest > PROMISED_SECONDS + longest:
        raise SystemExit(f"FAILED: a score was lost {oldest:.1f} s after it was computed")
    print(
        f"{number.name}: {kills} kills; {len(found):,} of {rows:,} rows, as without kills; scoring done twice: "
        f"{again / kills:.2f} s a kill; the oldest score that was lost was {oldest:.2f} s old (promised: "
        f"{PROMISED_SECONDS} s and a batch, here {longest:.2f} s)"
    )


def wait(child: int) -> None:
    """Wait for an undisturbed attempt."""
    _, status = os.waitpid(child, 0)
    if status:
        raise SystemExit(f"FAILED: an undisturbed attempt ended with {status}")


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and kill."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, metavar="N")
    parser.add_argument("--signal", choices=("KILL", "TERM", "USR1"), default="KILL")
    parser.add_argument("--rows", type=int, default=4_000, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--forgetful", action="store_true", help="keep nothing, to see that this script notices")
    options = parser.parse_args(arguments)
    if options.forgetful:
        ScoreStore.add = lambda *_: None  # type: ignore[method-assign]
    torch.set_num_threads(1)
    tqdm.monitor_interval = 0  # no thread that a fork could catch in the midst of something
    with tempfile.TemporaryDirectory() as folder:
        number = signal.Signals[f"SIG{options.signal}"]
        kill_and_resume(options.kills, number, options.rows, options.seed, Path(folder))


if __name__ == "__main__":
    main()
