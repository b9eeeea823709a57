"""How fast conversations are scored: ours and the alternatives, side by side, and against the hardware's limit.

    python benchmarks/throughput.py                                    # shape small on the CPU, some minutes
    python benchmarks/throughput.py --shape qwen3-4b --device cuda     # random weights: nothing is downloaded
    python benchmarks/throughput.py --model DIR --mix long --only card,sorted,ours
    python benchmarks/throughput.py --host                             # reading to writing without a model's work
    python benchmarks/throughput.py --scale                            # 1,000 to 100,000 documents, 15 minutes
    python benchmarks/throughput.py --simulated-gpus 1,2,4,8           # how many one process keeps busy; needs none
    python benchmarks/throughput.py --markdown RESULT.json             # a table for a README
    python benchmarks/throughput.py --chart chart.svg --from RESULT.json

Each contender has a process of its own and takes its turn in each round, so that a machine that gets slower does so
for all. Ctrl-C ends the turns, and the results are of those so far. README.md beside this file says what the columns
mean and what not to conclude.
"""

import argparse
import json
import math
import os
import re
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import contenders
import corpora
import figures
import hardware
import pipeline_runs
import shapes
import simulated_gpus
from contenders import ANNOTATOR, CARD, CONTENDERS, KERNELS, LABELS, OURS, Setup, Turn


RESULTS = Path(__file__).parent / "results"
MEMORY = Path("/dev/shm")
BYTES_OF_MODEL = 20_000_000_000  # the largest shape in float32, and room beside it
DEFAULT_DOCS = {"cpu": 40, "cuda": 1_000}
DEFAULT_DTYPE = {"cpu": "float32", "cuda": "bfloat16"}
MODELS = list(shapes.SHAPES)
WARMUP = {"cpu": 2, "cuda": 64}
# What each kind of measurement can be told; a comparison, all but --sizes.
SETTINGS = ("shape", "model", "mix", "docs", "dtype", "attention", "only", "repeats", "one_process", "sizes", "chart")
ALONE = {"host": ("docs", "repeats"), "scale": ("sizes",), "simulated_gpus": ("repeats",)}
# A contender whose turn takes longer is in every second round only, one that takes twice as long in every third.
PATIENCE_SECONDS = 15.0
SECONDS_TO_END = 5.0
# Of the GPU's memory, for models whose turn it is not.
SHARE_FOR_RESIDENTS = 0.3


class Failed(Exception):
    """A contender ended with an error."""


class Process:
    """Something with turns in a process of its own, whose memory is its own too.

    Args:
        load: makes it there.
        arguments: of `load`.

    Raises:
        Failed: it cannot be made.
    """

    def __init__(self, load: Callable[..., Any], *arguments: Any):
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=contenders.serve, args=(theirs, load, *arguments))
        self.process.start()
        theirs.close()
        self._receive()

    def turn(self) -> Any:
        """What it gives. Raises Failed."""
        self.connection.send(True)
        return self._receive()

    def close(self) -> None:
        """End the process; what waits for others that it has started, such as a compiler's, is killed."""
        self.connection.close()
        self.process.join(SECONDS_TO_END)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    def _receive(self) -> Any:
        try:
            answer = self.connection.recv()
        except EOFError:
            answer = "its process ended without a word"
        if isinstance(answer, str):
            self.close()
            raise Failed(f"{answer} (exit code {self.process.exitcode})")
        return answer


@dataclass
class Measured:
    """A contender's turns, the rate of the bare matrix products around each, and why there are no more."""

    turns: list[Turn] = field(default_factory=list)
    matrix_rates: list[float] = field(default_factory=list)
    error: str | None = None

    @property
    def seconds(self) -> float:
        """The median turn."""
        return statistics.median(turn.seconds for turn in self.turns)

    @property
    def operations(self) -> float:
        """How many the device could have done in a turn: the median."""
        pairs = zip(self.turns, self.matrix_rates, strict=True)
        return statistics.median(turn.seconds * rate for turn, rate in pairs)

    def sits_out(self, number: int) -> bool:
        """Whether a round goes on without this contender, for it is slow or has failed."""
        if self.error or not self.turns:
            return self.error is not None
        return number % (1 + int(self.seconds // PATIENCE_SECONDS)) != 0


def main(arguments: list[str] | None = None) -> None:
    """Measure, print a table and a line of JSON, keep the results.

    Args:
        arguments: the command line without the program's name; None: the process's own.
    """
    options = parse(arguments)
    if options.markdown:
        return print(figures.markdown(load(options.markdown)))
    if options.results:
        return figures.chart(load(options.results), options.chart)
    os.environ["HF_HUB_OFFLINE"] = "1"
    contenders.silence()
    if options.host:
        result = pipeline_runs.host(options.docs or 5_000, options.repeats)
    elif options.scale:
        result = pipeline_runs.scale(options.sizes)
    elif options.simulated_gpus:
        result = simulated_gpus.measure(options.simulated_gpus, options.repeats)
    else:
        result = compare(options)
    result = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": hardware.machine(options.device),
    } | result
    if result["kind"] == "comparison":
        print(figures.table(result))
    print(json.dumps(result))
    if not options.no_save:
        print(f"Written to {save(result)}", file=sys.stderr)
    if options.chart:
        figures.chart(result, options.chart)
    if result["kind"] == "comparison" and "error" in result["contenders"].get(OURS, {}):
        sys.exit(1)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--shape", choices=MODELS, default="small", help="a model with random weights")
    model.add_argument("--model", metavar="DIR", help="a classifier's folder")
    parser.add_argument("--mix", choices=corpora.MIXES, default="sft", help="how long the documents are")
    parser.add_argument("--docs", type=int, metavar="N", help=f"how many; default: {DEFAULT_DOCS}")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is one")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help=f"default: {DEFAULT_DTYPE}")
    parser.add_argument(
        "--attention",
        choices=("eager", "sdpa", *KERNELS),
        help="force it: the first two for those that use transformers' attention, the others for ours",
    )
    parser.add_argument("--only", metavar="A,B", help=f"some of {','.join(CONTENDERS)}")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="rounds; the median counts")
    parser.add_argument("--one-process", action="store_true", help="starts sooner; memory is that of all together")
    alone = parser.add_mutually_exclusive_group()
    alone.add_argument("--host", action="store_true", help="measure what feeds the model, without the model")
    alone.add_argument("--scale", action="store_true", help="measure how cost and memory grow, with the shape tiny")
    parser.add_argument("--sizes", type=sizes, default=(1_000, 10_000, 100_000), metavar="A,B", help="for --scale")
    alone.add_argument("--simulated-gpus", type=sizes, metavar="A,B", help="measure how long so many GPUs would idle")
    parser.add_argument("--no-save", action="store_true", help="write no file in benchmarks/results")
    parser.add_argument("--chart", metavar="FILE", help="draw a comparison's bar chart, as .svg or .png")
    parser.add_argument("--from", dest="results", metavar="RESULT", help="with --chart: of this file; measure nothing")
    parser.add_argument("--markdown", metavar="RESULT", help="print the table of such a file for a README")
    options = parser.parse_args(arguments)
    if options.results and not options.chart:
        parser.error("--from needs --chart FILE")
    if options.repeats < 1:
        parser.error(f"--repeats {options.repeats}: give 1 or more")
    kind = next((name for name in ALONE if getattr(options, name)), None)
    for name in SETTINGS:
        is_taken = name in ALONE[kind] if kind else name != "sizes"
        if not is_taken and getattr(options, name) != parser.get_default(name):
            parser.error(f"{_option(name)} means nothing to {_option(kind) if kind else 'a comparison'}: leave it out")
    if kind:
        if options.device == "cuda":
            parser.error(f"--device cuda: {_option(kind)} measures on the CPU")
        options.device = "cpu"
    if options.docs is not None and options.docs < 1:
        parser.error(f"--docs {options.docs}: give 1 or more")
    if not options.markdown and not options.results:
        options.device = options.device or default_device()
        options.dtype = options.dtype or DEFAULT_DTYPE[options.device]
    default = (name for name in CONTENDERS if contenders.takes_part(name, options.device))
    options.names = options.only.split(",") if options.only else list(default)
    if unknown := [name for name in options.names if name not in CONTENDERS]:
        parser.error(f"--only {unknown[0]}: give some of {', '.join(CONTENDERS)}")
    return options


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def sizes(given: str) -> tuple[int, ...]:
    """Different numbers above 0 with commas between them."""
    words = given.split(",")
    if not all(word.isdecimal() and int(word) for word in words) or len(set(map(int, words))) < len(words):
        raise argparse.ArgumentTypeError(f"{given!r}: give different whole numbers above 0, such as 1,2,4")
    return tuple(map(int, words))


def default_device() -> str:
    """CUDA where torch has it."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Let the contenders score the same documents, and judge them by the matrix products."""
    from transformers import AutoTokenizer

    with model_folder(options) as folder, tempfile.TemporaryDirectory() as data:
        setup = Setup(folder, options.device, options.dtype, options.attention)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        path = Path(data, "documents.jsonl")
        count = options.docs or DEFAULT_DOCS[options.device]
        corpora.write(path, corpora.conversations(count, options.mix, corpora.tokens_per_word(tokenizer)))
        texts = [tokenizer.apply_chat_template(messages, tokenize=False) for messages in corpora.read(path)]
        lengths = [len(ids) for ids in tokenizer(texts, truncation=True)["input_ids"]]
        cost = hardware.model_cost(folder)
        rates, measured = take_turns(options, setup, path, cost)
    return {
        "kind": "comparison",
        "shape": options.model or options.shape,
        "mix": options.mix,
        "dtype": options.dtype,
        "device": options.device,
        "attention": options.attention,
        "documents": count,
        "tokens": sum(lengths),
        "longest": max(lengths),
        "matrix_flops": cost.matrix_flops(lengths),
        "attention_flops": cost.attention_flops(lengths),
        "matrix_rate": statistics.median(rates),
        "contenders": {name: judged(name, measured, cost, lengths) for name in measured},
    }


@contextmanager
def model_folder(options: argparse.Namespace) -> Iterator[str]:
    """The model's folder; that of a shape is made in a process that ends, with all that it held on the device."""
    if options.model:
        yield options.model
        return
    with tempfile.TemporaryDirectory(dir=folder_in_memory() if options.device == "cuda" else None) as folder:
        arguments = (Path(folder), options.shape, options.dtype, options.device)
        if options.one_process:
            shapes.save_random_model(*arguments)
        else:
            pipeline_runs.in_fresh_process(shapes.save_random_model, *arguments)
        yield folder


def folder_in_memory() -> Path | None:
    """Where weights that are read in each round come from faster than from a disk; a container's often holds 64 MB."""
    fits = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > BYTES_OF_MODEL
    return MEMORY if fits else None


def take_turns(
    options: argparse.Namespace, setup: Setup, path: Path, cost: hardware.ModelCost
) -> tuple[list[float], dict[str, Measured]]:
    """The rates of the bare matrix products, measured before and after each turn, and each contender's turns."""
    start: Callable[..., Any] = (lambda load, *arguments: load(*arguments)) if options.one_process else Process
    stay = fit_at_once(len(options.names), setup, cost)
    measured = {name: Measured() for name in options.names}
    workers: dict[str, Any] = {}
    matrices = start(hardware.MatrixProducts, cost, setup.device, setup.dtype)
    rates = [matrices.turn()]
    try:
        for number in range(options.repeats):
            for name, result in measured.items():
                if result.sits_out(number):
                    continue
                try:
                    if name not in workers:
                        workers[name] = start(contenders.Loaded, name, setup, path, WARMUP[setup.device])
                    worker = workers[name]
                    before, turn, after = matrices.turn(), worker.turn(), matrices.turn()
                except Failed as error:
                    workers.pop(name, None)
                    result.error = str(error)
                    print(f"{name} failed: {error}", file=sys.stderr)
                    continue
                result.turns.append(turn)
                result.matrix_rates.append((before + after) / 2)
                rates += [before, after]
                if not stay:
                    workers.pop(name).close()
                say(number, name, turn, result.matrix_rates[-1])
    except KeyboardInterrupt:
        print("Stopped: what follows is of the turns so far.", file=sys.stderr)
    finally:
        for worker in (matrices, *workers.values()):
            with suppress(KeyboardInterrupt):  # all is measured
                worker.close()
    return rates, measured


def fit_at_once(count: int, setup: Setup, cost: hardware.ModelCost) -> bool:
    """Whether all models may stay loaded; else each is loaded for its turn and dropped after it."""
    if setup.device == "cpu":
        return True
    import torch

    weights = (count + 1) * cost.matrix_weights * getattr(torch, setup.dtype).itemsize
    return bool(weights < SHARE_FOR_RESIDENTS * torch.cuda.get_device_properties(0).total_memory)


def say(number: int, name: str, turn: Turn, rate: float) -> None:
    """Progress, beside the results."""
    print(
        f"round {number + 1}: {name}: {turn.seconds:.2f} s, matrices at {rate / 1e9:,.0f} GFLOP/s",
        file=sys.stderr,
        flush=True,
    )


def judged(name: str, measured: dict[str, Measured], cost: hardware.ModelCost, lengths: list[int]) -> dict[str, Any]:
    """A contender's figures, of its median turn; what cannot be said is None."""
    result = measured[name]
    if not result.turns:
        return {"label": LABELS[name], "error": result.error}
    seconds, flops = result.seconds, cost.flops(lengths)
    annotator, card = (measured.get(other, Measured()) for other in (ANNOTATOR, CARD))
    busy = [turn.gpu_busy for turn in result.turns if turn.gpu_busy is not None]
    figures = {
        "label": LABELS[name],
        "seconds": seconds,
        "all_seconds": [turn.seconds for turn in result.turns],
        "matrix_rates": result.matrix_rates,
        "documents_per_second": len(lengths) / seconds,
        "tokens_per_second": sum(lengths) / seconds,
        "flops_per_second": flops / seconds,
        "share_of_matrix_rate": flops / result.operations,
        "times_bare_products": result.operations / cost.matrix_flops(lengths),
        "times_annotator": annotator.seconds / seconds if annotator.turns else None,
        "peak_memory": max(turn.peak_memory for turn in result.turns) or None,
        "largest_difference": difference(result, card) if card.turns else None,
        "gpu_busy": statistics.mean(busy) if busy else None,
    }
    return figures | ({"error": result.error} if result.error else {})


def difference(one: Measured, other: Measured) -> float:
    """Between two scores of the same document, the largest; NaN where one of them is not a number."""
    pairs = zip(one.turns[0].scores, other.turns[0].scores, strict=True)
    differences = [abs(mine - theirs) for mine, theirs in pairs]
    return math.nan if any(map(math.isnan, differences)) else max(differences)


def load(path: str) -> dict[str, Any]:
    """The results in a file."""
    return json.loads(Path(path).read_text())


def save(result: dict[str, Any]) -> Path:
    """Keep results beside the script, under a name that says what they are of."""
    words = [hardware.machine_name(result["machine"])]
    words += [Path(result["shape"]).name, result["mix"]] if result["kind"] == "comparison" else [result["kind"]]
    name = "-".join([result["date"], *(re.sub(r"[^a-z0-9.]+", "-", word.lower()).strip("-") for word in words)])
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    return path


if __name__ == "__main__":
    main()
