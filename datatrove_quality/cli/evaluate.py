"""Compare a classifier's scores with labels, as its model card does, and at every threshold.

    datatrove-quality evaluate labelled/ --labels quality --model classifier/ --output evaluation/
    datatrove-quality evaluate scored/ --labels quality --scores quality_score --output evaluation/

The first scores the rows, the second takes scores that are already there. Both write evaluation.json, evaluation.md,
confusion.png and thresholds.png. Rows without a usable label or score are left out, counted by reason and reported.
"""

import argparse
import sys
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from datatrove_quality import Evaluation, ScoreScale, evaluate_scores, load_scorer
from datatrove_quality.atomic_write import write_atomic, write_json
from datatrove_quality.cli.options import (
    CLASSIFIER_OPTIONS,
    add_classifier_options,
    add_row_options,
    refuse_without_effect,
    scorer_config,
)
from datatrove_quality.config import Unscorable
from datatrove_quality.engine.scorer import Input, Scorer
from datatrove_quality.evaluation.columns import columns_found, listed, read_columns, score_of, tokens_of
from datatrove_quality.evaluation.labelled_rows import labelled_rows, require_labels
from datatrove_quality.evaluation.labels import parse_label
from datatrove_quality.evaluation.plots import draw_confusion, draw_thresholds
from datatrove_quality.runs.inputs import Inputs, find_inputs


@dataclass
class Judged:
    """What is known of the rows: labels, scores and tokens of those that count, and why the others do not."""

    labels: array = field(default_factory=lambda: array("q"))
    scores: array = field(default_factory=lambda: array("d"))
    tokens: array = field(default_factory=lambda: array("d"))
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, label: int, score: float, tokens: float) -> None:
        """Take a row in."""
        self.labels.append(label)
        self.scores.append(score)
        self.tokens.append(tokens)

    def evaluation(self, scale: ScoreScale) -> Evaluation:
        """The figures.

        Raises:
            ValueError: no row counts.
        """
        if not self.labels:
            raise ValueError(f"No row has both a usable label and a score: {listed(self.left_out) or 'no rows'}.")
        has_tokens = not np.isnan(self.tokens).any()
        return evaluate_scores(self.labels, self.scores, scale, self.tokens if has_tokens else None)


def run(options: argparse.Namespace) -> None:
    """Evaluate as the command line asks.

    Args:
        options: the command line.
    """
    check(options)
    inputs = find_inputs(options.input)
    output = Path(options.output)
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output {output} is a file: give a folder.")
    if options.model is None:
        used = options.scale or ScoreScale()
        judged = judge_columns(inputs, options, used)
    else:
        require_labels(inputs, options)
        scorer = load_scorer(scorer_config(options))
        if options.text is None:
            scorer.renderer.require_template()
        used = scorer.scale
        judged = judge_model(inputs, options, scorer)
    evaluation = judged.evaluation(used)
    left_out = f"{judged.left_out.total():,} rows left out" + (f": {listed(judged.left_out)}" * bool(judged.left_out))
    markdown = f"{evaluation.to_markdown()}\n{left_out}\n"
    record = {
        "asked": {name: getattr(options, name) for name in ("input", "labels", "model", "scores", "tokens")},
        "scale": asdict(used),
        "left_out": dict(judged.left_out),
        "evaluation": evaluation.to_dict(),
    }
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / "evaluation.json", record)
    write_atomic(output / "evaluation.md", markdown)
    print(markdown)
    draw(evaluation, output)
    print("Written to", output)


def judge_model(inputs: Inputs, options: argparse.Namespace, scorer: Scorer) -> Judged:
    """Score each row that has a label."""
    judged = Judged()
    labels: list[int] = []  # of what the scorer holds, in order

    def labelled() -> Iterator[Input]:
        for item, value in labelled_rows(inputs, options):
            try:
                label = parse_label(value, scorer.scale)
            except Unscorable as error:
                judged.left_out[error.reason] += 1
                continue
            labels.append(label)
            yield item

    for place, result in enumerate(tqdm(scorer.stream(labelled()), unit=" documents")):
        if isinstance(result, Unscorable):
            judged.left_out[result.reason] += 1
        else:
            judged.add(labels[place], result.score, result.tokens)
    return judged


def judge_columns(inputs: Inputs, options: argparse.Namespace, scale: ScoreScale) -> Judged:
    """Take the scores that the rows have.

    Raises:
        ValueError: a column that is named holds nothing of use.
    """
    judged = Judged()
    row: dict[str, Any] = {}
    for row in tqdm(read_columns(inputs), unit=" rows"):
        try:
            label, score = parse_label(row.get(options.labels), scale), score_of(row, options.scores)
        except Unscorable as error:
            judged.left_out[error.reason] += 1
        else:
            judged.add(label, score, tokens_of(row, options.tokens))
    if row and not judged.labels:
        raise ValueError(
            f"No row has both a label in {options.labels} and a score in {options.scores}: {listed(judged.left_out)}; "
            f"{columns_found(row)}."
        )
    if options.tokens is not None and (missing := np.isnan(judged.tokens).sum()):
        raise ValueError(
            f"--tokens {options.tokens}: {missing:,} of {len(judged.tokens):,} rows have no count there: leave it "
            f"away, or give another column; {columns_found(row)}."
        )
    return judged


def draw(evaluation: Evaluation, output: Path) -> None:
    """The figures, where they can be drawn."""
    try:
        draw_confusion(evaluation, output / "confusion.png")
        draw_thresholds(evaluation, output / "thresholds.png")
    except ImportError as error:
        print(f"No figures: {error}", file=sys.stderr)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = parser.add_argument
    add("input", metavar="INPUT", help="folder, file or glob in quotes, of labelled .jsonl[.gz|.zst] or .parquet")
    add("--labels", required=True, metavar="COLUMN", help="the column that holds the labels")
    add("--output", required=True, metavar="DIR", help="where evaluation.json and the others are written")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", help="hub id or folder of the classifier that scores the rows")
    source.add_argument("--scores", metavar="COLUMN", help="the column of scores that the rows have already")
    add("--tokens", metavar="COLUMN", help="with --scores: the column of token counts (default: none)")
    model = parser.add_argument_group("with --model (--scale: with --scores too)")
    add_classifier_options(model)
    add_row_options(model, ids=False)


def check(options: argparse.Namespace) -> None:
    """Refuse options that contradict each other.

    Raises:
        ValueError: two options do not go together; says which to omit.
    """
    if options.model is not None and options.tokens is not None:
        raise ValueError("--tokens goes with --scores: with --model the tokens are those that are scored.")
    if options.scores is not None:
        names = [name for name in (*CLASSIFIER_OPTIONS, "schema", "messages_key", "text") if name != "scale"]
        refuse_without_effect(options, add_options, names, "--scores takes scores that are there already")
