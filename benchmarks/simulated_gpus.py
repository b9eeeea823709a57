"""How many GPUs one process keeps busy, without one: simulated ones take their time, launching their work is real."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import contenders
import pipeline_runs


if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from datatrove_quality.replicas import Forward


# What an H100 scores with a 4B model at 0.7 of its matrix rate (docs/throughput.md), and its budget.
TOKENS_PER_SECOND = 75_000
TOKENS_PER_BATCH = 32_768
DOCUMENTS_PER_GPU = 2_000
FEW_TOKENS = [[5, 6], [5, 6]]


class SimulatedGpu:
    """A forward pass whose logits, all zero, are there when a GPU would have them.

    Before, as many operations are launched as a decoder of 36 layers has: a forward pass of one that has hardly any
    width, over a few tokens.
    """

    def __init__(self, launch: "Forward"):
        self.launch = launch
        self.busy = self.idle = 0.0
        self.free_at: float | None = None

    def __call__(self, model: "PreTrainedModel", sequences: Sequence[Sequence[int]]) -> "Logits":
        """Take sequences behind those that were launched before."""
        import torch

        self.launch(model, FEW_TOKENS)
        now = time.perf_counter()
        free_at = now if self.free_at is None else self.free_at
        needed = sum(map(len, sequences)) / TOKENS_PER_SECOND
        self.idle += max(0.0, now - free_at)
        self.busy += needed
        self.free_at = max(now, free_at) + needed
        return Logits(torch.zeros(len(sequences)), self.free_at)


class Logits:
    """What a forward pass gives, to be waited for."""

    def __init__(self, values: "torch.Tensor", ready_at: float):
        self.values = values
        self.ready_at = ready_at
        self.device = values.device

    def tolist(self) -> list[float]:
        """Wait for them as for a GPU's."""
        time.sleep(max(0.0, self.ready_at - time.perf_counter()))
        return self.values.tolist()


def measure(counts: Sequence[int], repeats: int) -> dict[str, Any]:
    """Our whole pipeline in one process with several numbers of simulated GPUs: how long each lacks work."""
    with tempfile.TemporaryDirectory() as folder:
        paths = pipeline_runs.prepare(Path(folder), "thin", "sft", [DOCUMENTS_PER_GPU * count for count in counts])
        runs: dict[int, list[dict[str, float]]] = {count: [] for count in counts}
        for _ in range(repeats):
            for count, path in zip(counts, paths.values(), strict=True):
                run = pipeline_runs.in_fresh_process(_run, Path(folder, "model"), path, count)
                runs[count].append(run)
                print(f"{count} GPUs: idle {run['idle']:.1%}, {run['documents_per_second']:,.0f} documents/s")
    return {"kind": "simulated-gpus", "tokens_per_second": TOKENS_PER_SECOND, "runs": runs}


def _run(model: Path, path: Path, count: int) -> dict[str, float]:
    """Documents per second, the share of time for which GPUs that have begun lack work, and the cores in use."""
    import torch

    from datatrove_quality import load_scorer
    from datatrove_quality.replicas import Replica

    torch.set_num_threads(1)
    pipeline = contenders.OurPipeline(contenders.Setup(str(model), "cpu", "float32"))
    scorer = load_scorer(pipeline.config)
    (real,) = scorer.replicas
    gpus = [SimulatedGpu(real.forward) for _ in range(count)]
    forwards = [cast("Forward", gpu) for gpu in gpus]
    scorer.replicas[:] = [Replica(real.model, forward, real.plan, TOKENS_PER_BATCH) for forward in forwards]
    started, used = time.perf_counter(), time.process_time()
    scores = pipeline(contenders.Documents(path, []))
    seconds, used = time.perf_counter() - started, time.process_time() - used
    idle, busy = sum(gpu.idle for gpu in gpus), sum(gpu.busy for gpu in gpus)
    return {
        "documents_per_second": sum(1 for _ in scores) / seconds,
        "idle": idle / (idle + busy),
        "cores": used / seconds,
    }
