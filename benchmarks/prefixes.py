"""What texts that begin alike cost: several answers to a prompt, a system prompt before each, and nothing in common.

    python benchmarks/prefixes.py                           # beside this build without sharing; 6 minutes on two cores
    python benchmarks/prefixes.py --earlier DIR             # beside a checkout of an earlier commit
    python benchmarks/prefixes.py --device cuda --model DIR --rounds 2
    python benchmarks/prefixes.py --vllm PYTHON             # beside vLLM too, in a virtual environment of its own

Each contender has a process of its own, and they take turns, load by load: ours, the earlier one, the loop, vLLM.
Ctrl-C ends the turns, and the results are of those so far.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import contenders
import corpora
import hardware
import shapes
import throughput
from contenders import CARD, OURS
from corpora import Conversation


HERE = Path(__file__).resolve().parent
EARLIER, VLLM = "earlier", "vllm"
# How many times as fast as the earlier build.
TARGETS = {"answers": 4.0, "system": 1.6, "nothing": 0.98}
LABELS = {
    "answers": "8 answers of 100 tokens to a prompt of 1,000",
    "system": "a system prompt of 300 tokens before 350",
    "nothing": "nothing in common (the SFT mix)",
}
# Prompts of the first load; the other loads have 20 and 15 times as many conversations.
PROMPTS = {"cpu": 2, "cuda": 40}


def main() -> None:
    """Measure, print a table and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--earlier", metavar="DIR", help="a checkout of this project; default: no sharing")
    parser.add_argument(
        "--vllm", metavar="PYTHON", help="an interpreter that has vLLM, which computes prefixes once too"
    )
    parser.add_argument("--shape", choices=shapes.SHAPES, default="small", help="a model with random weights")
    parser.add_argument("--model", metavar="DIR", help="a classifier's folder")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--prompts", type=int, metavar="N", help=f"default: {PROMPTS}")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="the median counts")
    parser.add_argument("--no-save", action="store_true", help="keep no result")
    parser.add_argument("--serve", metavar="NAME", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.serve, options.model, options.device)
    with tempfile.TemporaryDirectory() as folder:
        if options.model:
            options.shape = Path(options.model).name
        else:
            options.model = str(Path(folder, "model"))
            dtype = throughput.DEFAULT_DTYPE[options.device]
            shapes.save_random_model(Path(options.model), options.shape, dtype, options.device)
        loads = save_loads(Path(folder), options.model, options.prompts or PROMPTS[options.device])
        result = measure(options, loads)
    if not result["loads"]:
        sys.exit("Stopped before every contender had a turn.")
    report(result)
    print(json.dumps(result))
    if not options.no_save:
        print(f"Written to {throughput.save(result)}", file=sys.stderr)


def save_loads(folder: Path, model: str, prompts: int) -> dict[str, Path]:
    """The conversations of each load, in files."""
    from transformers import AutoTokenizer

    per_word = corpora.tokens_per_word(AutoTokenizer.from_pretrained(model))
    rng = random.Random(corpora.SEED)

    def message(role: str, tokens: int) -> dict[str, str]:
        return {"role": role, "content": corpora.text(rng, round((tokens - corpora.TOKENS_OF_TURN) / per_word))}

    asked = [message("user", 1_000) for _ in range(prompts)]
    system = message("system", 300)
    made: dict[str, list[Conversation]] = {
        "answers": [[one, message("assistant", 100)] for one in asked for _ in range(8)],
        "system": [[system, message("user", 50), message("assistant", 300)] for _ in range(20 * prompts)],
        "nothing": list(corpora.conversations(15 * prompts, "sft", per_word)),
    }
    return {name: corpora.write(folder / f"{name}.jsonl", iter(load)) for name, load in made.items()}


def serve(name: str, model: str, device: str) -> None:
    """A contender's process: for each path of a load on stdin a line with its seconds and scores on stdout."""
    answers = os.fdopen(os.dup(1), "w")
    with redirect_stdout(sys.stderr):
        os.dup2(2, 1)  # what libraries print would be among the answers
        if name != VLLM:
            contenders.silence()
        contender = load_contender(name, contenders.Setup(model, device, throughput.DEFAULT_DTYPE[device]))
        print(json.dumps(hardware.machine(device)["versions"]), file=answers, flush=True)
        for line in sys.stdin:
            documents = contenders.Documents(Path(line.strip()), corpora.read(Path(line.strip())))
            hardware.synchronize(device)
            started = time.perf_counter()
            scores = list(contender(documents))
            hardware.synchronize(device)
            print(json.dumps([time.perf_counter() - started, scores]), file=answers, flush=True)


def load_contender(name: str, setup: contenders.Setup) -> Callable[[contenders.Documents], Any]:
    """A contender with its model; an earlier build has the public names alone in common with this one."""
    if name == CARD:
        return contenders.CardLoop(setup)
    if name == VLLM:
        return contenders.Vllm(setup, caches_prefixes=True)
    from datatrove_quality import load_scorer

    scorer = load_scorer(contenders.scorer_config(setup))
    for replica in scorer.replicas:
        if name == EARLIER:
            replica.prefixes = None
        elif replica.prefixes is None:
            raise RuntimeError("Nothing would be shared: see the log's line about it.")
    return lambda given: [score.score for score in scorer.score(given.conversations)]


class Process:
    """A contender in a process of its own, with the package of a checkout.

    Args:
        name: of the contender.
        checkout: the folder of the project.
        options: of the command line.
    """

    def __init__(self, name: str, checkout: Path, options: argparse.Namespace):
        # vLLM's environment has its own versions of what PYTHONPATH may name.
        found = "" if name == VLLM else os.pathsep.join(filter(None, [str(checkout), os.environ.get("PYTHONPATH")]))
        python = options.vllm if name == VLLM else sys.executable
        command = [python, __file__, "--serve", name, "--model", options.model, "--device", options.device]
        environment = os.environ | {"PYTHONPATH": found, "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.versions: dict[str, str] = {}

    def load(self) -> None:
        """Wait until it has loaded its model, which all do at the same time."""
        self.versions = self.receive()

    def turn(self, load: Path) -> tuple[float, list[float]]:
        """How long it takes for a load, and the scores."""
        assert self.process.stdin
        print(load, file=self.process.stdin, flush=True)
        seconds, scores = self.receive()
        return seconds, scores

    def receive(self) -> Any:
        """What it says next."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"A contender ended with exit code {self.process.wait()}.")
        return json.loads(line)

    def close(self) -> None:
        """End it."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def measure(options: argparse.Namespace, loads: dict[str, Path]) -> dict[str, Any]:
    """Let the contenders take turns."""
    checkouts = {OURS: HERE.parent, EARLIER: Path(options.earlier or HERE.parent).resolve(), CARD: HERE.parent}
    checkouts |= {VLLM: HERE.parent} if options.vllm else {}
    processes = {name: Process(name, checkout, options) for name, checkout in checkouts.items()}
    seconds: dict[str, dict[str, list[float]]] = {load: {name: [] for name in processes} for load in loads}
    differences: dict[str, float] = {}
    try:
        for process in processes.values():
            process.load()
        for process in processes.values():
            process.turn(loads["nothing"])  # to warm up
        for number in range(options.rounds):
            for load, path in loads.items():
                # No contender is always the one after the same other.
                order = list(processes)[:: 1 if number % 2 else -1]
                turns = {name: turn(name, processes[name], load, path) for name in order}
                for name, (taken, _) in turns.items():
                    seconds[load][name].append(taken)
                pairs = zip(turns[OURS][1], turns[CARD][1], strict=True)
                differences[load] = max(abs(one - other) for one, other in pairs)
    except KeyboardInterrupt:
        print("Stopped: what follows is of the turns so far.", file=sys.stderr)
    finally:
        for process in processes.values():
            process.close()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": hardware.machine(options.device),
        "kind": "shared-prefixes",
        "shape": options.shape,
        "device": options.device,
        "commits": {name: commit(checkout) for name, checkout in checkouts.items() if name in (OURS, EARLIER)},
        "versions": {name: process.versions for name, process in processes.items()},
        "earlier": "a checkout" if options.earlier else "this build without sharing",
        "loads": {load: judged(load, seconds[load], difference) for load, difference in differences.items()},
    }


def turn(name: str, process: Process, load: str, path: Path) -> tuple[float, list[float]]:
    """A contender's turn, told on stderr."""
    taken, scores = process.turn(path)
    print(f"{load:<10}{name:<10}{taken:7.2f} s", file=sys.stderr, flush=True)
    return taken, scores


def judged(load: str, seconds: dict[str, list[float]], difference: float) -> dict[str, Any]:
    """A load's figures: how many times as fast ours is as another, by the median of the rounds' ratios."""
    times = {
        name: statistics.median(theirs / ours for theirs, ours in zip(seconds[name], seconds[OURS], strict=True))
        for name in seconds
        if name != OURS
    }
    return {
        "all_seconds": seconds,
        "times_as_fast_as": times,
        "target": TARGETS[load],
        "largest_difference_to_card": difference,
    }


def commit(checkout: Path) -> str:
    """Of a checkout; with a + where files have changed since."""
    found = subprocess.run(
        ["git", "-C", checkout, "describe", "--always", "--dirty=+"], capture_output=True, text=True
    )
    return found.stdout.strip()


def report(result: dict[str, Any]) -> None:
    """Print a table."""
    machine = hardware.machine_name(result["machine"])
    print(f"{result['shape']}, {machine}; earlier: {result['earlier']}; commits {result['commits']}")
    names = list(result["versions"])
    print(f"{'':<48}{''.join(f'{name:>9}' for name in names)}{'times':>8}{'target':>8}{'difference':>12}")
    for load, one in result["loads"].items():
        medians = [statistics.median(one["all_seconds"][name]) for name in names]
        cells = "".join(f"{seconds:>7.2f} s" for seconds in medians)
        times = one["times_as_fast_as"][EARLIER]
        print(f"{LABELS[load]:<48}{cells}{times:>8.2f}{one['target']:>8}{one['largest_difference_to_card']:>12.0e}")


if __name__ == "__main__":
    main()
