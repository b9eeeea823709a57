"""Where a forward pass spends its time: 20 micro-batches under torch's profiler, kernel times summed by kind.

    python benchmarks/profile_batches.py MODEL_FOLDER --device cuda

Prints lines of JSON, of which the last has all: with the fused functions and without them, seconds by kind, of all,
and the gaps between kernels (on a CPU there are none to tell, and operators take the place of kernels).
"""

import argparse
import json
import re
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import contenders
import corpora
import hardware


if TYPE_CHECKING:
    from torch.autograd.profiler_util import FunctionEvent


BATCHES = {"cuda": 20, "cpu": 4}
# By names of kernels or operators, the first that fits: torch's, cuBLAS's, flash kernels' and our own.
KINDS = {
    "attention": r"flash|fmha|attention|sdpa",
    "products": r"gemm|cutlass|cublas|nvjet|xmma|splitk|aten::(mm|addmm|bmm|linear|matmul)$",
    "norms": r"norm|rsqrt|pow|mean",
    "rotary": r"rotary|neg|cat|aten::(cos|sin)|cos_kernel|sin_kernel",
    "gate": r"gate|silu|gelu|sigmoid",
    "copies": r"memcpy|memset|copy|_to_copy",
}


def main(arguments: list[str] | None = None) -> None:
    """Measure and print.

    Args:
        arguments: the command line without the program's name; None: the process's own.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a classifier's folder")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    options = parser.parse_args(arguments)
    contenders.silence()
    result: dict[str, Any] = {"kind": "profile", "machine": hardware.machine(options.device)}
    for name in ("fused", "plain"):
        result[name] = profile(options.model, options.device, fused=name == "fused")
        print(json.dumps(result))


def profile(folder: str, device: str, fused: bool) -> dict[str, Any]:
    """Seconds by kind of several micro-batches of SFT lengths."""
    import torch
    from torch.profiler import ProfilerActivity

    from datatrove_quality import ScorerConfig, load_scorer

    scorer = load_scorer(ScorerConfig(model=folder, device=device, dtype=_dtype(device), fused=fused))
    (replica,) = scorer.replicas
    batches = list(_batches(scorer.renderer, replica, BATCHES[device]))
    for batch in batches[:2]:
        replica.forward(replica.model, batch)
    # Of one kind: operators of the host, noted beside kernels, would slow it down, and lengthen the gaps.
    activity = ProfilerActivity.CUDA if device == "cuda" else ProfilerActivity.CPU
    hardware.synchronize(device)
    with torch.profiler.profile(activities=[activity]) as measured:
        started = time.perf_counter()
        for batch in batches:
            replica.forward(replica.model, batch)
        hardware.synchronize(device)
        seconds = time.perf_counter() - started
    kinds = by_kind(measured.events(), device)
    tokens = sum(len(ids) for batch in batches for ids in batch)
    print(f"fused={fused}: {seconds:.2f} s, {kinds}", file=sys.stderr)
    gaps = {"gaps": seconds - sum(kinds.values())} if device == "cuda" else {}
    return {"batches": len(batches), "tokens": tokens, "seconds": seconds, "by_kind": kinds | gaps}


def by_kind(events: "Iterable[FunctionEvent]", device: str) -> dict[str, float]:
    """Seconds of the device's kernels (of operators on a CPU, without those that they call), by kind."""
    seconds: dict[str, float] = defaultdict(float)
    for event in events:
        is_kernel = str(event.device_type).endswith("CUDA")
        if device == "cuda" and is_kernel:
            seconds[kind_of(event.name)] += event.self_device_time_total / 1e6
        elif device == "cpu" and event.name.startswith("aten::"):
            seconds[kind_of(event.name)] += event.self_cpu_time_total / 1e6
    return dict(sorted(seconds.items(), key=lambda pair: -pair[1]))


def kind_of(name: str) -> str:
    """The kind of a kernel or an operator."""
    return next((kind for kind, words in KINDS.items() if re.search(words, name, re.IGNORECASE)), "other elementwise")


def _batches(renderer: Any, replica: Any, count: int) -> Iterable[Sequence[Sequence[int]]]:
    """So many full micro-batches of token ids."""
    documents = corpora.conversations(1 + count * replica.tokens_per_batch // 300, "sft", 1.4)
    texts = [str(renderer.render(conversation)) for conversation in documents]
    sequences = [one.ids for one in renderer.tokenize(texts)]
    chosen = replica.batches([len(ids) for ids in sequences])[:count]
    return ([sequences[index] for index in indices] for indices in chosen)


def _dtype(device: str) -> str:
    return "bfloat16" if device == "cuda" else "float32"


if __name__ == "__main__":
    main()
