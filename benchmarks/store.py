"""What the score store costs, and what a replay from it takes; no model: the forward pass gives a constant.

    python benchmarks/store.py                    # 20,000 conversations of some 350 tokens
    python benchmarks/store.py --documents 50000 --folder /mnt/shared

Measures the store by itself, called as the scorer calls it, in processor time; the share is of the 500 µs that a
document has at 2,000 a second. Beside it, the filter without a store, with an empty one and with a full one: the first
two differ by less than their noise.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from datatrove.data import Document
from loguru import logger
from pipeline_runs import score_nothing

from datatrove_quality import QualityFilter, ScorerConfig
from datatrove_quality.engine.batching import windows
from datatrove_quality.engine.scorer import Scorer, load_scorer
from datatrove_quality.engine.store import Logit, ScoreStore
from datatrove_quality.engine.streaming import WINDOW_CHARACTERS, WINDOW_ITEMS


MODEL = Path(__file__).parents[1] / "examples" / "demo-classifier"
AIM = 2_000  # documents per second
DOCUMENTS_PER_BATCH = 90  # of 350 tokens, in a GPU's 32,768


def documents(count: int) -> Iterator[Document]:
    """Conversations of some 350 tokens of a common tokenizer, all different."""
    answer = "A resposta explica o assunto com calma, dá um exemplo e diz de onde vem. " * 19
    for index in range(count):
        turns = [
            {"role": "user", "content": f"Pergunta {index}: como se faz?"},
            {"role": "assistant", "content": f"{answer}{index}"},
        ]
        yield Document(text="", id=str(index), metadata={"messages": turns})


def seconds(config: ScorerConfig, count: int, checkpoints: str | None) -> float:
    """The processor time that the filter takes over that many documents, which other processes do not lengthen."""
    step = QualityFilter(config, checkpoints_dir=checkpoints, progress=False)
    started = time.process_time()
    done = sum(1 for _ in step.run(documents(count)))
    elapsed = time.process_time() - started
    if done != count:
        raise RuntimeError(f"{done} of {count} documents came out")
    return elapsed


def main() -> None:
    """Measure and print a table and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=20_000, metavar="N")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where the stores are written")
    options = parser.parse_args()
    logger.remove()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # threads that wait for work cost time that is not ours
    config = ScorerConfig(model=str(MODEL), device="cpu", dtype="float32")
    score_nothing(config)
    times: dict[str, list[float]] = {"store alone": [], "without": [], "empty": [], "full": []}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            for name, checkpoints in (("without", None), ("empty", folder), ("full", folder)):
                times[name].append(seconds(config, options.documents, checkpoints))
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            times["store alone"].append(store_seconds(load_scorer(config), options.documents, folder))
    report(options.documents, times)


def store_seconds(scorer: Scorer, count: int, folder: str) -> float:
    """The processor time of looking up and keeping that many new texts, writer's thread and closing included."""
    rendered = [scorer.renderer.render(doc.metadata["messages"]) for doc in documents(count)]
    texts = [text for text in rendered if isinstance(text, str)]
    started = time.process_time()
    with ScoreStore(folder, scorer.fingerprint, rank=0) as store:
        store.settle([(1, [0.0])], lambda one, other: True)
        for window in windows(texts, len, WINDOW_ITEMS, WINDOW_CHARACTERS):
            store.lookup(window)
            for place, text in enumerate(window):
                store.add(text, Logit((1.2345678806304932,), 350, False))
                if place % DOCUMENTS_PER_BATCH == 0:
                    store.save()
    return time.process_time() - started


def report(count: int, times: dict[str, list[float]]) -> None:
    """Print the medians, and what follows from them."""
    medians = {name: statistics.median(each) for name, each in times.items()}
    cost = medians["store alone"] / count
    print(f"{count:,} conversations, the forward pass left out; {platform.machine()}, {os.cpu_count()} cores")
    for name, value in medians.items():
        print(f"  {name:<16}{value:8.2f} s{value / count * 1e6:8.0f} µs a document")
    print(f"the store costs {cost * 1e6:.1f} µs a document: {cost * AIM:.2%} of the time at {AIM:,} documents/s")
    print(f"replay of 10,000 stored conversations: {medians['full'] / count * 10_000:.2f} s")
    print(json.dumps({"documents": count, "seconds": medians, "cost_us": cost * 1e6, "share": cost * AIM}))


if __name__ == "__main__":
    main()
