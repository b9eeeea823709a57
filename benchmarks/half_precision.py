"""What bfloat16 gains on a CPU, beside float32, an earlier build and the rate of the bare matrix products.

    python benchmarks/half_precision.py                                   # shapes small and wide; some minutes
    python benchmarks/half_precision.py --earlier DIR --shapes small      # beside a checkout of an earlier commit

Each build has a process of its own for each dtype, with one thread, and they take turns. What counts is the least
processor time of the rounds, so that other processes on the machine disturb little; that of the products is measured
in the same process, right after.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, cast

import contenders
import corpora
import hardware
import prefixes
import shapes
import throughput


HERE = Path(__file__).resolve().parent
DTYPES = ("bfloat16", "float32")
NOW, EARLIER = "now", "earlier"


def main() -> None:
    """Measure, print a table and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--earlier", metavar="DIR", help="a checkout of this project; more folders behind a colon")
    parser.add_argument("--shapes", default="small,wide", help="models with random weights; default: %(default)s")
    parser.add_argument("--docs", type=int, default=10, metavar="N", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="the least time counts")
    parser.add_argument("--no-save", action="store_true", help="keep no result")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(*options.serve)
    commits = {NOW: prefixes.commit(HERE.parent)}
    if options.earlier:
        commits[EARLIER] = prefixes.commit(Path(options.earlier.split(os.pathsep)[0]))
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": hardware.machine("cpu"),
        "kind": "half-precision",
        "commits": commits,
        "shapes": {shape: compare(shape, options) for shape in options.shapes.split(",")},
    }
    report(result)
    print(json.dumps(result))
    if not options.no_save:
        print(f"Written to {throughput.save(result)}", file=sys.stderr)


def compare(shape: str, options: argparse.Namespace) -> dict[str, Any]:
    """The builds and dtypes, in turns, on one model."""
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "model")
        shapes.save_random_model(model, shape, "bfloat16", "cpu")
        per_word = corpora.tokens_per_word(AutoTokenizer.from_pretrained(model))
        load = corpora.write(Path(folder, "load.jsonl"), corpora.conversations(options.docs, "sft", per_word))
        builds = {NOW: str(HERE.parent)} | ({EARLIER: options.earlier} if options.earlier else {})
        processes = {
            (build, dtype): start(path, str(model), str(load), dtype)
            for build, path in builds.items()
            for dtype in DTYPES
        }
        turns: dict[tuple[str, str], list[Any]] = {key: [] for key in processes}
        try:
            for number in range(options.rounds + 1):
                for key, process in list(processes.items())[:: 1 if number % 2 else -1]:
                    turns[key].append(turn(process))
                    print(shape, *key, turns[key][-1][:2], file=sys.stderr)
        finally:
            for process in processes.values():
                process.communicate()
    return judged(turns)


def start(path: str, *arguments: str) -> subprocess.Popen:
    """A process of this script with the package of a checkout."""
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, __file__, "--serve", *arguments]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def turn(process: subprocess.Popen) -> list[Any]:
    """Processor seconds of the scoring, of as many operations by bare products, and the scores."""
    assert process.stdin and process.stdout
    print(file=process.stdin, flush=True)
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"A contender ended with exit code {process.wait()}.")
    return json.loads(line)


def serve(model: str, load: str, dtype: str) -> None:
    """A contender's process: for each line on stdin one on stdout."""
    answers = os.fdopen(os.dup(1), "w")
    with redirect_stdout(sys.stderr):
        contenders.silence()
        from datatrove_quality import load_scorer

        scorer = load_scorer(contenders.scorer_config(contenders.Setup(model, "cpu", dtype)))
        conversations = corpora.read(Path(load))
        texts = [str(scorer.renderer.render(conversation)) for conversation in conversations]
        lengths = [len(cast(Any, one).ids) for one in scorer.renderer.tokenize(texts)]
        cost = hardware.model_cost(model)
        products = hardware.MatrixProducts(cost, "cpu", dtype)
        for _ in sys.stdin:
            started = time.process_time()  # of all of the process's threads
            scores = [one.score for one in scorer.score(conversations)]
            scored = time.process_time()
            products._pass()
            bare = (time.process_time() - scored) / products.flops * cost.flops(lengths)
            print(json.dumps([scored - started, bare, scores]), file=answers, flush=True)


def judged(turns: dict[tuple[str, str], list[Any]]) -> dict[str, Any]:
    """Figures of each build and dtype; the first turn warmed up."""
    reference = turns[NOW, "float32"][0][2]
    figures = {}
    for (build, dtype), all_turns in turns.items():
        seconds, bare = (min(one[place] for one in all_turns[1:]) for place in (0, 1))
        pairs = zip(all_turns[0][2], reference, strict=True)
        figures[f"{build}, {dtype}"] = {
            "processor_seconds": seconds,
            "all_seconds": [one[0] for one in all_turns],
            "documents_per_second": len(reference) / seconds,
            "share_of_matrix_rate": bare / seconds,
            "difference_to_float32": max(abs(one - other) for one, other in pairs),
        }
    return figures


def report(result: dict[str, Any]) -> None:
    """A table."""
    print("| shape | build, dtype | documents/s | share of matrix rate | largest difference to float32 |")
    print("|---|---|---|---|---|")
    for shape, figures in result["shapes"].items():
        for name, one in figures.items():
            print(
                f"| {shape} | {name} | {one['documents_per_second']:.2f} | {one['share_of_matrix_rate']:.2f} | "
                f"{one['difference_to_float32']:.1e} |"
            )


if __name__ == "__main__":
    main()
