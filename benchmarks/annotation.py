"""How fast a judge is asked: `LLMJudge` against the openai client in a plain asyncio loop, and how its memory grows.

    pip install openai                              # the other side; `annotate` does not need it
    python benchmarks/annotation.py                 # a minute on two cores
    python benchmarks/annotation.py --rows 500 --rounds 1 --no-save

The endpoint is the toy judge in a process of its own, one for both. Both have as many requests in flight and send the
same requests. Ours reads the conversations, makes prompts, keeps each answer on disk and parses it; the client gets
the prompts made and throws the answers away. They take turns.
"""

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hardware
import throughput
from datatrove.data import Document
from loguru import logger

from datatrove_quality import Connection, JudgeConfig, LLMJudge, load_rubric
from datatrove_quality.annotation.judge import request, response_format


JUDGE = Path(__file__).parent.parent / "examples/toy_judge.py"
CONFIG = JudgeConfig(model="toy-judge", rubric=load_rubric("instruct-quality-pt"))
TARGET = 0.8
READINGS = 10


def main() -> None:
    """Measure, print a table and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000, metavar="N", help="in a turn")
    parser.add_argument("--concurrency", type=int, default=256, metavar="N", help="requests in flight")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--no-save", action="store_true", help="keep no result")
    options = parser.parse_args()
    logger.remove()
    rates: dict[str, list[float]] = {"ours": [], "openai client": []}
    memory: list[list[float]] = []
    with toy_judge() as endpoint:
        for number in range(options.rounds + 1):  # the first turn warms up
            rows = options.rows if number else min(options.rows, 500)
            rate, readings = ours(endpoint, rows, options.concurrency)
            other = asyncio.run(client(endpoint, rows, options.concurrency))
            if number:
                rates["ours"].append(rate)
                rates["openai client"].append(other)
                memory.append(readings)
    result = report(options, rates, memory)
    if not options.no_save:
        print(throughput.save(result))


@contextmanager
def toy_judge() -> Iterator[str]:
    """The endpoint, in a process of its own."""
    with subprocess.Popen([sys.executable, str(JUDGE)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield re.findall(r"http\S+", process.stdout.readline())[0]
        finally:
            process.kill()


def documents(count: int) -> Iterator[Document]:
    """Short conversations, each with a question of its own."""
    for number in range(count):
        question, answer = f"Qual é a capital do país número {number}?", "A capital é Roma. Fica no Lácio. É antiga."
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        yield Document(text="-", id=str(number), metadata={"messages": messages})


def step(endpoint: str, concurrency: int, folder: str | None) -> LLMJudge:
    """Our step."""
    return LLMJudge(CONFIG, Connection(endpoint, concurrency=concurrency), checkpoints_dir=folder, progress=False)


def ours(endpoint: str, count: int, concurrency: int) -> tuple[float, list[float]]:
    """Rows a second, and the process's memory in MB at ten even places.

    Raises:
        RuntimeError: a row has no label.
    """
    readings, labelled = [], 0
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for number, document in enumerate(step(endpoint, concurrency, folder).run(documents(count)), 1):
            labelled += document.metadata["judge_score"] is not None
            if number % (count // READINGS) == 0:
                readings.append(resident())
    if labelled != count:
        raise RuntimeError(f"{labelled} of {count} rows have a label.")
    return count / (time.perf_counter() - started), readings


async def client(endpoint: str, count: int, concurrency: int) -> float:
    """Rows a second of the openai client, with as many coroutines as requests in flight."""
    import openai

    prompts = [prompt.text for prompt in step(endpoint, concurrency, None).prompts(documents(count))]  # type: ignore[union-attr]
    waiting = iter([payload(prompt) for prompt in prompts])
    answered = 0

    async def ask(api: Any) -> None:
        nonlocal answered
        for one in waiting:
            completion = await api.chat.completions.create(**one)
            answered += bool(completion.choices[0].message.content)

    async with openai.AsyncOpenAI(base_url=endpoint, api_key="none", max_retries=0) as api:
        started = time.perf_counter()
        await asyncio.gather(*(ask(api) for _ in range(concurrency)))
        seconds = time.perf_counter() - started
    if answered != count:
        raise RuntimeError(f"{answered} of {count} requests were answered.")
    return count / seconds


def payload(prompt: str) -> dict[str, Any]:
    """What our step sends, as the client takes it: what OpenAI's interface has no name for is extra."""
    sent = request(CONFIG, [{"role": "user", "content": prompt}]) | {"response_format": response_format(CONFIG)}
    known = ("model", "messages", "response_format", "temperature", "top_p", "max_tokens")
    return {name: sent.pop(name) for name in known if name in sent} | {"extra_body": sent}


def resident() -> float:
    """Memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def report(options: argparse.Namespace, rates: dict[str, list[float]], memory: list[list[float]]) -> dict[str, Any]:
    """Print the medians; gives the result to keep."""
    machine = hardware.machine("cpu")
    ratio = statistics.median(mine / its for mine, its in zip(rates["ours"], rates["openai client"], strict=True))
    growth = [readings[-1] - readings[len(readings) // 2] for readings in memory]
    print(f"{options.rows:,} rows, {options.concurrency} requests in flight; {hardware.machine_name(machine)}")
    for name, found in rates.items():
        print(f"  {name:<16}{statistics.median(found):8.0f} rows/s   {json.dumps([round(one) for one in found])}")
    print(f"  ours at {ratio:.2f} of the client's rate (target: at least {TARGET})")
    print(f"  memory in the second half of a turn: {', '.join(f'{one:+.1f} MB' for one in growth)}")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine,
        "kind": "annotation",
        "rows": options.rows,
        "concurrency": options.concurrency,
        "rows_per_second": rates,
        "ratio": ratio,
        "target": TARGET,
        "resident_mb": memory,
    }


if __name__ == "__main__":
    main()
