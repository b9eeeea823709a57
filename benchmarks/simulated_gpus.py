"""How many GPUs one process keeps busy, told without any: simulated ones take their time."""

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import contenders
import pipeline_runs


if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from datatrove_quality.engine.replicas import Forward


# What an H100 scores with a 4B model at 0.7 of its matrix rate (docs/throughput.md).
TOKENS_PER_SECOND = 75_000
DOCUMENTS_PER_GPU = 2_000
FEW_TOKENS = [[5, 6], [5, 6]]


class SimulatedGpu:
    """A forward pass whose logits, all zero, are there when a GPU would have them.

    A call launches as many operations as a decoder of 36 layers has: a forward pass, on the CPU and over a few tokens,
    of one that has hardly any width.

    Args:
        launch: that forward pass.
    """

    def __init__(self, launch: "Forward"):
        self.launch = launch
        self.busy = 0.0
        self.began_at: float | None = None
        self.free_at = 0.0

    @property
    def idle(self) -> float:
        """Seconds from its first batch to the end of its last in which it had nothing to do."""
        return 0.0 if self.began_at is None else max(0.0, self.free_at - self.began_at - self.busy)

    def __call__(self, model: "PreTrainedModel", sequences: Sequence[Sequence[int]]) -> "Logits":
        """Take sequences behind those that were launched before. It begins with the first operation, not the last."""
        import torch

        begun = time.perf_counter()
        self.launch(model, FEW_TOKENS)
        launched = time.perf_counter()
        if self.began_at is None:
            self.began_at = begun
        needed = sum(map(len, sequences)) / TOKENS_PER_SECOND
        self.busy += needed
        self.free_at = max(max(begun, self.free_at) + needed, launched)
        return Logits(torch.zeros(len(sequences), 1), self.free_at)


class Logits:
    """What a forward pass gives, to be waited for."""

    def __init__(self, values: "torch.Tensor", ready_at: float):
        self.values = values
        self.ready_at = ready_at
        self.device = values.device

    def tolist(self) -> list[list[float]]:
        """Wait for them as for a GPU's."""
        time.sleep(max(0.0, self.ready_at - time.perf_counter()))
        return self.values.tolist()


def measure(counts: Sequence[int], repeats: int) -> dict[str, Any]:
    """Our whole pipeline in one process with several numbers of simulated GPUs: for how much of the time they idle."""
    with tempfile.TemporaryDirectory() as folder:
        paths = pipeline_runs.prepare(Path(folder), "thin", "sft", [DOCUMENTS_PER_GPU * count for count in counts])
        runs: dict[int, list[dict[str, float]]] = {count: [] for count in counts}
        for number, (count, path) in product(range(repeats), zip(counts, paths.values(), strict=True)):
            runs[count].append(pipeline_runs.in_fresh_process(run, Path(folder, "model"), path, count))
            print(f"round {number + 1}: {count} GPUs: idle {runs[count][-1]['idle']:.1%}", file=sys.stderr, flush=True)
    for count, of_count in runs.items():
        idle, rate, cores = ([one[name] for one in of_count] for name in ("idle", "documents_per_second", "cores"))
        print(
            f"{count} GPUs: idle {statistics.median(idle):.1%} ({min(idle):.1%} to {max(idle):.1%}), "
            f"{statistics.median(rate):,.0f} documents/s, {statistics.median(cores):.2f} cores in use"
        )
    return {
        "kind": "simulated-gpus",
        "tokens_per_second": TOKENS_PER_SECOND,
        "tokens_per_batch": pipeline_runs.GPU_TOKENS_PER_BATCH,
        "gpus": [{"gpus": count, "runs": of_count} for count, of_count in runs.items()],
    }


def run(model: Path, path: Path, count: int) -> dict[str, float]:
    """A whole pipeline over a file with so many simulated GPUs in this process.

    Returns:
        `documents`, `documents_per_second`, `idle` (the share of the time from each GPU's first batch to the end of
        its last in which it had nothing to do) and `cores` (processor time over time).
    """
    import torch

    from datatrove_quality import load_scorer
    from datatrove_quality.engine.replicas import Replica

    torch.set_num_threads(1)
    pipeline = contenders.OurPipeline(contenders.Setup(str(model), "cpu", "float32"))
    scorer = load_scorer(pipeline.config)
    (real,) = scorer.replicas
    gpus = [SimulatedGpu(real.forward) for _ in range(count)]
    forwards = [cast("Forward", gpu) for gpu in gpus]
    scorer.replicas[:] = [
        Replica(real.model, forward, real.plan, pipeline_runs.GPU_TOKENS_PER_BATCH) for forward in forwards
    ]
    started, used = time.perf_counter(), time.process_time()
    scores = pipeline(contenders.Documents(path, []))
    seconds, used = time.perf_counter() - started, time.process_time() - used
    documents = sum(1 for _ in scores)
    idle, busy = sum(gpu.idle for gpu in gpus), sum(gpu.busy for gpu in gpus)
    return {
        "documents": documents,
        "documents_per_second": documents / seconds,
        "idle": idle / (idle + busy),
        "cores": used / seconds,
    }
