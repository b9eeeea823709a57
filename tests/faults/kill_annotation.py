"""Kill an annotation again and again while its endpoint fails in every way, and look at what it ends with.

    PYTHONPATH=tests:tests/faults:examples python tests/faults/kill_annotation.py --kills 50

The endpoint runs in a process of its own and counts the usable answers that it gives to each prompt. For each attempt
a process is forked, which runs `datatrove-quality annotate` and is sent SIGKILL at a random moment. Exits with an
error where a row is lost or doubled or has a wrong level, or where more answers were given twice than were in flight.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path


os.environ["HF_HUB_OFFLINE"] = "1"

from commands import run_command
from judges import FaultyJudge, serving
from samples import read_rows, turns, write_rows
from toy_judge import rate
from tqdm import tqdm

# Imported once, before the forks.
import datatrove_quality.annotation.background_judge
import datatrove_quality.annotation.estimate
import datatrove_quality.annotation.summary
import datatrove_quality.runs.run  # noqa: F401
from datatrove_quality.annotation.answer_store import AnswerStore


CONCURRENCY = 16
SECONDS_PER_ANSWER = 0.05
SECONDS_BETWEEN_KILLS = 0.8  # on average
# So many that there is work left for every kill.
ROWS_PER_KILL = 80
TASKS = 2
ANSWERS = ("Não sei, kkk", "A capital é Roma.", "A capital é Roma. Fica no Lácio. É antiga.", "Xis.")


def serve(share: float, pipe: Connection) -> None:
    """Be the endpoint, until told to end; then say how many usable answers each prompt got, and which faults."""
    judge = FaultyJudge(share=share, hang=1.0, seconds=SECONDS_PER_ANSWER)
    with serving(judge) as address:
        pipe.send(address)
        pipe.recv()
    pipe.send((list(judge.answered.values()), dict(judge.faults)))


def write_input(folder: Path, count: int) -> dict[str, int]:
    """Write conversations; gives the level of each by its id."""
    made = [{"id": str(n), "messages": turns(f"Diga a capital {n}", ANSWERS[n % 4])} for n in range(count)]
    for part in range(TASKS):
        write_rows(folder / f"{part}.jsonl", made[part::TASKS])
    return {row["id"]: rate(*(message["content"] for message in row["messages"]))[0] for row in made}


def attempt(folder: Path, address: str) -> int:
    """Fork a process that annotates to the end; gives its number."""
    child = os.fork()
    if child:
        return child
    os.setpgrp()
    for descriptor in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    judge = ("--rubric", "instruct-quality-pt", "--endpoint", address, "--model", "toy-judge", "--timeout", 0.7)
    status = 1
    try:
        run_command(
            *("annotate", folder / "in", "--output", folder / "out", *judge, "--retries", 8),
            *("--concurrency", CONCURRENCY, "--max-failures", 1),
        )
        status = 0
    finally:
        os._exit(status)


def kill(folder: Path, address: str, kills: int, choose: random.Random) -> int:
    """Kill attempts until there were so many kills, or one has ended; then let one end. Gives the number of kills."""
    for done in range(kills):
        child = attempt(folder, address)
        time.sleep(choose.uniform(0.0, 2 * SECONDS_BETWEEN_KILLS))
        ended, _ = os.waitpid(child, os.WNOHANG)
        if ended:
            return done
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    _, status = os.waitpid(attempt(folder, address), 0)
    if status:
        raise SystemExit(f"FAILED: an undisturbed attempt ended with {status}")
    return kills


def problem(folder: Path, levels: dict[str, int]) -> str | None:
    """What is wrong with the rows; None: nothing."""
    rows = read_rows(folder / "out/rows")
    ids = [row["id"] for row in rows]
    if sorted(ids) != sorted(levels):
        return f"{len(levels)} rows in, {len(ids)} out, {len(set(ids))} of them distinct"
    for row in rows:
        if (row["judge_level"] is None) != (row["judge_error"] is not None):
            return f"a row with neither label nor reason, or both: {json.dumps(row)}"
        if row["judge_level"] not in (None, levels[row["id"]]):
            return f"a wrong level: {json.dumps(row)}"
    return None


@contextmanager
def endpoint(share: float) -> Iterator[tuple[str, Connection]]:
    """The endpoint's process: its address, and the pipe to it."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(share, theirs))
    process.start()
    try:
        yield ours.recv(), ours
    finally:
        process.kill()
        process.join()


def main() -> None:
    """Parse the command line and kill."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10, metavar="N")
    parser.add_argument("--faults", type=float, default=0.3, metavar="SHARE", help="of the requests")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--forgetful", action="store_true", help="keep nothing, to see that this script notices")
    options = parser.parse_args()
    if options.forgetful:
        AnswerStore.add = lambda *_: None  # type: ignore[method-assign]
    tqdm.monitor_interval = 0  # no thread that a fork could catch in the midst of something
    count = 200 + options.kills * ROWS_PER_KILL
    with tempfile.TemporaryDirectory() as name, endpoint(options.faults) as (address, pipe):
        folder = Path(name)
        levels = write_input(folder / "in", count)
        kills = kill(folder, address, options.kills, random.Random(options.seed))
        pipe.send("end")
        answered, faults = pipe.recv()
        wrong = problem(folder, levels)
        failed = sum(row["judge_level"] is None for row in read_rows(folder / "out/rows"))
    if kills < options.kills:
        raise SystemExit(f"FAILED: the run ended after {kills} kills; there was too little work")
    if wrong:
        raise SystemExit(f"FAILED: {wrong}")
    twice = sum(answered) - len(answered)
    # Beside the kills, an answer is lost where the server's is on its way when the client has given up.
    if twice > kills * CONCURRENCY:
        raise SystemExit(f"FAILED: {twice} answers were given twice in {kills} kills, {CONCURRENCY} in flight")
    print(
        f"{kills} kills, {sum(faults.values()):,} faults of {len(faults)} kinds: {count:,} rows in, "
        f"{count - failed:,} labels and {failed:,} reasons out; {twice} answers given twice (promised: at most "
        f"{kills * CONCURRENCY})"
    )


if __name__ == "__main__":
    main()
