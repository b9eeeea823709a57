"""Our pipeline by itself: what feeds the model, and how cost and memory grow with the number of documents."""

import math
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import contenders
import corpora
import hardware
import shapes
from time_slices import Sliced, clock, in_turns


if TYPE_CHECKING:
    from datatrove.data import Document

    from datatrove_quality import ScorerConfig


T = TypeVar("T")

HOST_CORES = 2
TARGET_PER_SECOND = 2_000
# Of a GPU with memory enough: token_budget.py.
GPU_TOKENS_PER_BATCH = 32_768


def in_fresh_process(function: Callable[..., T], *arguments: Any) -> T:
    """What a function gives in a new process, which ends with all that it held."""
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=contenders.silence) as pool:
        return pool.submit(function, *arguments).result()


def host(count: int, repeats: int) -> dict[str, Any]:
    """Documents per second of 350 tokens from JSONL to JSONL with scoring replaced by a constant, on two cores."""
    with tempfile.TemporaryDirectory() as folder:
        path = prepare(Path(folder), "tiny", "350", [count])[count]
        runs = in_fresh_process(_runs, Path(folder, "model"), path, repeats, HOST_CORES, True)
    rate = count / statistics.median(runs["seconds"])
    print(f"read, parse, render, tokenize, write on {HOST_CORES} cores: {rate:,.0f} documents/s of 350 tokens")
    print(f"(scoring replaced by a constant; at least {TARGET_PER_SECOND:,} are wanted)")
    return {"kind": "host", "documents": count, "documents_per_second": rate} | runs


def scale(counts: Sequence[int]) -> dict[str, Any]:
    """Documents per second and peak memory of tasks of several sizes, each size in a process of its own.

    A worker does as many tasks of a size, one after another, as make up the largest size. The processes take turns.
    """
    # A model as small as this one computes no faster with more threads, and they get in the tokenizer's way.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    growing = sorted(counts)
    with tempfile.TemporaryDirectory() as folder:
        paths = prepare(Path(folder), "tiny", "sft", growing)
        arguments = [(Path(folder, "model"), paths[count], math.ceil(growing[-1] / count)) for count in growing]
        measured = in_turns([Sliced(contenders.silence, run_tasks, *each) for each in reversed(arguments)])
    sizes = []
    for count, of_tasks in zip(growing, reversed(measured), strict=True):
        if of_tasks["documents"] != of_tasks["tasks"] * count:
            raise RuntimeError(f"{of_tasks['tasks']} tasks of {count} documents gave {of_tasks['documents']}")
        rate = of_tasks["documents"] / of_tasks["seconds"]
        first, last = (of_tasks[name] / 1e6 for name in ("peak_memory", "peak_memory_at_end"))
        print(
            f"tasks of {count:>7,} documents: {rate:6,.0f} documents/s, at most {first:6,.0f} MB in the first, "
            f"{last:6,.0f} MB in all {of_tasks['tasks']:,}"
        )
        sizes.append(of_tasks | {"documents": count, "documents_per_second": rate})
    return {"kind": "scale", "shape": "tiny", "mix": "sft", "sizes": sizes}


def prepare(folder: Path, shape: str, mix: str, counts: Sequence[int]) -> dict[int, Path]:
    """Save a model with random weights to `folder/model`, and as many documents to a file for each count."""
    in_fresh_process(shapes.save_random_model, folder / "model", shape, "float32", "cpu")
    return in_fresh_process(_write_documents, folder, mix, counts)


def _write_documents(folder: Path, mix: str, counts: Sequence[int]) -> dict[int, Path]:
    from transformers import AutoTokenizer

    per_word = corpora.tokens_per_word(AutoTokenizer.from_pretrained(folder / "model"))
    return {
        # DataTrove takes a name for the end of one, and none of these is the end of another.
        count: corpora.write(folder / f"{count:09}.jsonl", corpora.conversations(count, mix, per_word))
        for count in counts
    }


def run_tasks(model: Path, path: Path, tasks: int) -> dict[str, Any]:
    """A run in which one worker, this process, does several tasks, each of the same file.

    Returns:
        `tasks`, `documents` that came out of all, `seconds`, and `peak_memory` of the first task and `_at_end`, bytes.
    """
    config = contenders.OurPipeline(contenders.Setup(str(model), "cpu", "float32")).config
    peaks: list[int] = []
    written = 0

    def note(documents: Iterable["Document"], rank: int, world_size: int) -> Iterator["Document"]:
        nonlocal written
        for document in documents:
            written += 1
            yield document
        peaks.append(hardware.peak_memory("cpu"))

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        for number in range(tasks):
            Path(folder, f"{number:05}.jsonl").hardlink_to(path)
        started = clock()
        contenders.run_pipeline(config, Path(folder, "*.jsonl"), Path(folder, "output"), note, tasks=tasks)
        seconds = clock() - started
    return {
        "tasks": tasks,
        "documents": written,
        "seconds": seconds,
        "peak_memory": peaks[0],
        "peak_memory_at_end": peaks[-1],
    }


def _runs(model: Path, path: Path, repeats: int, cores: int | None = None, constant: bool = False) -> dict[str, Any]:
    """Seconds of each of several runs of our pipeline, and the peak memory of the first."""
    if cores is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    setup = contenders.Setup(str(model), "cpu", "float32")
    pipeline = contenders.OurPipeline(setup)
    if constant:
        score_nothing(pipeline.config)
    seconds, peak = [], 0
    for number in range(repeats):
        started = clock()
        scores = pipeline(contenders.Documents(path, []))
        seconds.append(clock() - started)
        peak = peak or hardware.peak_memory("cpu")
        count = sum(1 for _ in scores)
        print(f"run {number + 1}: {count:,} documents in {seconds[-1]:.2f} s", file=sys.stderr, flush=True)
    return {"seconds": seconds, "peak_memory": peak}


def score_nothing(config: "ScorerConfig") -> None:
    """Replace the forward pass of a config's scorer by a constant, of as many tokens as a GPU's: the host is left."""
    import torch

    from datatrove_quality import load_scorer
    from datatrove_quality.engine.replicas import Replica

    replicas = load_scorer(config).replicas
    replicas[:] = [
        Replica(one.model, lambda model, sequences: torch.zeros(len(sequences), 1), one.plan, GPU_TOKENS_PER_BATCH)
        for one in replicas
    ]
