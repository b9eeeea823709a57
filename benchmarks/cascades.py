"""How fast decisions are with a cascade, certified, against the classifier alone: cheaper arithmetic, and a student.

    python benchmarks/cascades.py                      # 8 minutes on two cores
    ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI python benchmarks/cascades.py --proxies int8    # as on a CPU without AMX
    python benchmarks/cascades.py --shape tiny --documents 100 --rounds 1 --certify 700 --no-save
    python benchmarks/cascades.py --device cuda --shape wide --proxies float8 --no-save

A classifier is trained here to tell which share of a text's words are of one kind, and a student on its scores. Each
proxy is calibrated on a random sample of a corpus. Then pipelines of one `QualityFilter` decide the same texts in
turns, loading left out: the classifier alone in float32 (on a GPU in bfloat16), and with each cascade. Each round has
texts of its own.
"""

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import corpora
import hardware
import shapes
import throughput
from datatrove.data import Document
from loguru import logger

from datatrove_quality import Cascade, QualityFilter, ScorerConfig, calibrate_cascade, load_scorer
from datatrove_quality.cascade.calibration import Calibration
from datatrove_quality.proxies.scores import labelled_by, score_both, seconds_per_document
from datatrove_quality.training import TrainingConfig, train_classifier


WORDS = (40, 120)  # in a text
WORDS_TO_TRAIN = (8, 24)  # the classifier on; which is most of this script's time
KINDS = 200  # words of each kind
MIN_SCORE = 3.5
STUDENTS_ROWS = 3_000
RECIPE: dict[str, Any] = {
    "batch_size": 32, "per_device_batch_size": 32, "freeze": "none", "warmup_steps": 20, "max_tokens": 512,
    "evaluations": 1,
}  # fmt: skip
# The promise, and how many times as fast decisions should be.
TARGETS = {"bfloat16": (0.001, 2.5), "student": (0.01, 4.0), "int8": (0.01, 1.6), "float8": (0.001, 1.3)}


def main() -> None:
    """Train, calibrate, measure, print a table and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--shape", default="medium", help="of the classifier; a name in shapes.py")
    parser.add_argument("--documents", type=int, default=300, metavar="N", help="in a turn")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--train", type=int, default=1_300, metavar="N", help="texts to train the classifier on")
    parser.add_argument("--certify", type=int, default=6_200, metavar="N", help="texts to calibrate on")
    parser.add_argument("--proxies", nargs="+", choices=TARGETS, default=["bfloat16", "student"], metavar="NAME")
    parser.add_argument("--no-save", action="store_true", help="print the result, and keep none")
    options = parser.parse_args()
    logger.remove()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        classifier = train(folder, options)
        proxies = {
            name: train_student(folder, classifier) if name == "student" else replace(classifier, dtype=name)
            for name in options.proxies
        }
        sample = documents(options.certify, seed=3)
        found = {name: calibrated(name, classifier, proxy, sample, folder) for name, proxy in proxies.items()}
        pipelines: dict[str, Cascade | None] = {"classifier alone": None}
        pipelines |= {name: one.cascade for name, one in found.items() if one.cascade is not None}
        for cascade in pipelines.values():
            seconds(classifier, cascade, documents(20, seed=4))
        turns = measure(classifier, pipelines, options)
    result = report(options, found, turns)
    print(json.dumps(result) if options.no_save else throughput.save(result))


def documents(count: int, seed: int) -> list[Document]:
    """Texts in which some of the words are of two kinds, one of them in any share."""
    return [Document(text=text, id=f"{seed}-{at}") for at, (text, _) in enumerate(labelled(count, seed))]


def labelled(count: int, seed: int, words: tuple[int, int] = WORDS) -> Iterator[tuple[str, float]]:
    """Texts with a label from 1 to 5: the share of the one kind among the words of both."""
    rng = random.Random(seed)
    known, _ = corpora.words()
    good, bad = known[:KINDS], known[KINDS : 2 * KINDS]
    for _ in range(count):
        length = rng.randint(*words)
        share = rng.random()
        kinds = [rng.random() < share for _ in range(length)]
        chosen = [rng.choice(good if is_good else bad) for is_good in kinds]
        yield " ".join(chosen).capitalize() + ".", 1 + 4 * sum(kinds) / length


def train(folder: Path, options: argparse.Namespace) -> ScorerConfig:
    """The classifier."""
    save_untrained(folder / "base", options.shape)
    started = time.perf_counter()
    recipe = RECIPE | {"device": options.device}
    rate = 1e-3 * min(1.0, 384 / shapes.SHAPES[options.shape].values.get("hidden_size", 384))
    config = TrainingConfig(model=str(folder / "base"), learning_rate=rate, epochs=2, dtype="float32", **recipe)
    rows = list(labelled(options.train, 1, WORDS_TO_TRAIN))
    record = train_classifier(config, rows[200:], folder / "classifier", rows[:200])
    print(f"classifier: error {record['evaluation']['mae']:.3f} of a level, {time.perf_counter() - started:.0f} s")
    dtype = "float32" if options.device == "cpu" else "bfloat16"
    return ScorerConfig(model=str(folder / "classifier"), dtype=dtype, device=options.device)


def train_student(folder: Path, classifier: ScorerConfig) -> ScorerConfig:
    """A student, trained on the classifier's scores."""
    save_untrained(folder / "small-base", "tiny")
    started = time.perf_counter()
    scored = labelled_by(classifier, documents(STUDENTS_ROWS, seed=2), folder / "scores", messages_key=None)
    recipe = RECIPE | {"device": classifier.device}
    config = TrainingConfig(model=str(folder / "small-base"), learning_rate=3e-3, epochs=8, **recipe)
    record = train_classifier(config, scored[200:], folder / "student", scored[:200])
    print(f"student: error {record['evaluation']['mae']:.3f} of a level, {time.perf_counter() - started:.0f} s")
    return replace(classifier, model=str(folder / "student"))


def save_untrained(folder: Path, name: str) -> None:
    """A model as training begins with it."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    shape = shapes.SHAPES[name]
    tokenizer = shapes.make_tokenizer(shape)
    config = AutoConfig.for_model(shape.model_type, num_labels=1, pad_token_id=tokenizer.pad_token_id, **shape.values)
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def calibrated(
    name: str, classifier: ScorerConfig, proxy: ScorerConfig, sample: Sequence[Document], folder: Path
) -> Calibration:
    """A proxy's cascade, or the reason why there is none."""
    promise, _ = TARGETS[name]
    made = [Document(text=doc.text, id=doc.id) for doc in sample]
    found = score_both(made, classifier, proxy, MIN_SCORE, folder / "scores", messages_key=None)
    costs = [seconds_per_document(load_scorer(one), found.inputs) for one in (classifier, proxy)]
    result = calibrate_cascade(found.scores, found.proxies, MIN_SCORE, disagreement=promise, costs=costs, proxy=proxy)
    outcome = (
        f"no certificate: {result.reason}" if result.reason else f"certified: at most {result.bounds[0].upper:.3%}"
    )
    print(f"{name}: {outcome}; {result.rescored:.1%} rescored, {result.speed:.2f} times as fast expected")
    return result


def measure(
    classifier: ScorerConfig, pipelines: dict[str, Cascade | None], options: argparse.Namespace
) -> dict[str, list[dict[str, float]]]:
    """Seconds of each pipeline in each round, and the share of its decisions that differ from the classifier's."""
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in pipelines}
    for number in range(options.rounds):
        kept: dict[str, set[str]] = {}
        for name, cascade in pipelines.items():
            made = documents(options.documents, seed=100 + number)
            taken, kept[name] = seconds(classifier, cascade, made)
            changed = len(kept[name] ^ kept["classifier alone"]) / options.documents
            turns[name].append({"seconds": taken, "changed": changed})
    return turns


def seconds(classifier: ScorerConfig, cascade: Cascade | None, made: Sequence[Document]) -> tuple[float, set[str]]:
    """How long a pipeline takes for some documents, and which it keeps."""
    step = QualityFilter(classifier, min_score=MIN_SCORE, messages_key=None, progress=False, cascade=cascade)
    started = time.perf_counter()
    kept = {doc.id for doc in step.run(iter(made))}
    return time.perf_counter() - started, kept


def report(
    options: argparse.Namespace, found: dict[str, Calibration], turns: dict[str, list[dict[str, float]]]
) -> dict[str, Any]:
    """Print the medians of the turns and of each round's ratio; gives the result to keep."""
    machine = hardware.machine(options.device)
    print(
        f"{options.shape}, {options.documents} texts a turn, {options.rounds} rounds; {hardware.machine_name(machine)}"
    )
    alone = [turn["seconds"] for turn in turns["classifier alone"]]
    speeds = {
        name: statistics.median(one / turn["seconds"] for one, turn in zip(alone, made, strict=True))
        for name, made in turns.items()
    }
    for name, made in turns.items():
        changed = statistics.mean(turn["changed"] for turn in made)
        median = statistics.median(turn["seconds"] for turn in made)
        print(f"  {name:<18}{median:7.2f} s   {speeds[name]:5.2f} times as fast   {changed:.2%} of decisions changed")
    for name, (promise, speed) in ((name, TARGETS[name]) for name in found):
        print(f"target: {name} at least {speed} times as fast with at most {promise:.1%} certified")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine,
        "kind": "-".join(["cascades", *filter(None, [os.environ.get("ONEDNN_MAX_CPU_ISA", "").lower()])]),
        "shape": options.shape,
        "documents": options.documents,
        "turns": turns,
        "times_as_fast": speeds,
        "rescored": {name: one.rescored for name, one in found.items()},
        "certified": {name: [bound.upper for bound in one.bounds] for name, one in found.items() if one.cascade},
        "refused": {name: one.reason for name, one in found.items() if one.reason},
        "targets": TARGETS,
    }


if __name__ == "__main__":
    main()
