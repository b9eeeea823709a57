"""What further classifiers on one trunk cost: three heads on BERT-base against one, and against three whole models.

    python benchmarks/heads.py                      # 2 minutes on two cores
    python benchmarks/heads.py --documents 20 --rounds 1 --no-save

The models have random weights; their trunks are equal, their heads are not. Pipelines of one and of three
`QualityFilter` steps score the same texts in turns, loading left out; each round has texts of its own.
"""

import argparse
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import corpora
import hardware
import throughput
from datatrove.data import Document
from loguru import logger
from shapes import save_random_model

from datatrove_quality import QualityFilter, ScorerConfig, load_scorer


WORDS = (10, 110)  # in a text
TARGET = 1.15


def main() -> None:
    """Measure, print a table and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=60, metavar="N", help="in a turn")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--shape", default="bert-base", help="a name in shapes.py")
    parser.add_argument("--no-save", action="store_true", help="keep no result")
    options = parser.parse_args()
    logger.remove()
    with tempfile.TemporaryDirectory() as folder:
        models = [Path(folder, name) for name in "abcdef"]
        save_random_model(models[0], options.shape, "float32", "cpu")
        for seed, model in enumerate(models[1:], 1):
            save_sister(models[0], model, seed)
        apart = [config_of(model) for model in models[3:]]
        for config in apart:  # what is loaded before shares nothing
            load_scorer(config)
        pipelines = {
            "one": apart[:1],
            "three heads, one trunk": [config_of(model) for model in models[:3]],
            "three, apart": apart,
        }
        for configs in pipelines.values():
            seconds(configs, 4, seed=0)
        require_shared(pipelines["three heads, one trunk"])
        times: dict[str, list[float]] = {name: [] for name in pipelines}
        for number in range(options.rounds):
            for name, configs in pipelines.items():
                times[name].append(seconds(configs, options.documents, seed=1 + number))
    result = report(options, times)
    if not options.no_save:
        print(throughput.save(result))


def config_of(model: Path) -> ScorerConfig:
    """The scorer of a folder."""
    return ScorerConfig(model=str(model), dtype="float32", device="cpu")


def save_sister(model: Path, target: Path, seed: int) -> None:
    """A copy of a classifier with another head."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(model, target)
    tensors = load_file(target / "model.safetensors")
    generator = torch.Generator().manual_seed(seed)
    for name in ("classifier.weight", "score.weight"):
        if name in tensors:
            tensors[name] = torch.randn(tensors[name].shape, generator=generator) * tensors[name].std()
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})


def require_shared(configs: Sequence[ScorerConfig]) -> None:
    """A comparison of what runs apart would say nothing.

    Raises:
        RuntimeError: the scorers have a model each.
    """
    if len({id(load_scorer(config).model) for config in configs}) > 1:
        raise RuntimeError("The trunk is not shared.")


def seconds(configs: Sequence[ScorerConfig], count: int, seed: int) -> float:
    """How long a pipeline of a step for each scorer takes for so many texts."""
    rng = random.Random(seed)
    docs = [Document(text=corpora.text(rng, rng.randint(*WORDS)), id=str(number)) for number in range(count)]
    started = time.perf_counter()
    stream: Any = iter(docs)
    for number, config in enumerate(configs):
        stream = QualityFilter(config, prefix=f"p{number}", messages_key=None, progress=False).run(stream)
    scored = sum(all(f"p{number}_score" in doc.metadata for number in range(len(configs))) for doc in stream)
    taken = time.perf_counter() - started
    if scored != count:
        raise RuntimeError(f"{scored} of {count} documents have all scores.")
    return taken


def report(options: argparse.Namespace, times: dict[str, list[float]]) -> dict[str, Any]:
    """Print the medians of the turns and of each round's ratio to one classifier; gives the result to keep."""
    machine = hardware.machine("cpu")
    print(
        f"{options.shape}, {options.documents} texts a turn, {options.rounds} rounds; {hardware.machine_name(machine)}"
    )
    ratios = {
        name: statistics.median(mine / one for mine, one in zip(of_all, times["one"], strict=True))
        for name, of_all in times.items()
    }
    for name, of_all in times.items():
        print(f"  {name:<24}{statistics.median(of_all):7.2f} s   {ratios[name]:5.2f} times one")
    print(f"target: three heads on one trunk at most {TARGET} times one")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine,
        "kind": "heads",
        "shape": options.shape,
        "documents": options.documents,
        "seconds": times,
        "ratio_to_one": ratios,
        "target": TARGET,
    }


if __name__ == "__main__":
    main()
