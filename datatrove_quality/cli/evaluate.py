"""Compare a classifier's scores with labels, as its model card does, and at every threshold.

    datatrove-quality evaluate labelled/ --labels quality --model classifier/ --output evaluation/
    datatrove-quality evaluate scored/ --labels quality --scores quality_score --output evaluation/

The first scores the rows, the second takes scores that are already there. Both write evaluation.json, evaluation.md,
confusion.png and thresholds.png. Rows without a usable label or score are left out, counted by reason and reported.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from datatrove_quality.cli.checks import require_local_classifier, require_writable
from datatrove_quality.cli.fields import filled
from datatrove_quality.cli.options import (
    CLASSIFIER_OPTIONS,
    ROW_OPTIONS,
    add_classifier_options,
    add_row_options,
    add_verbose_option,
    add_weight_options,
    require_effect,
    row_adapter,
    sample_weights,
)
from datatrove_quality.config import ScorerConfig, ScoreScale


if TYPE_CHECKING:
    from datatrove_quality.evaluation.labelled_scores import LabelledScores


def run(options: argparse.Namespace) -> None:
    """Evaluate by the options of the command line.

    Args:
        options: the command line.
    """
    require_consistent(options)
    require_writable(options.output)
    if options.model is not None:
        require_local_classifier(options.model, max_tokens=options.max_tokens)
    from datatrove_quality.evaluation.plots import draw_confusion, draw_thresholds

    output = Path(options.output)
    rows = labelled_scores(options)
    evaluation = rows.evaluation()
    settings = {name: getattr(options, name) for name in ("input", "labels", "model", "scores", "tokens", "weights")}
    print(rows.write(evaluation, settings, output))
    try:
        draw_confusion(evaluation, output / "confusion.png")
        draw_thresholds(evaluation, output / "thresholds.png")
    except ImportError as error:
        print(f"No figures: {error}", file=sys.stderr)
    print("Written to", output)


def labelled_scores(options: argparse.Namespace) -> "LabelledScores":
    """The labels and scores that the options name."""
    from datatrove_quality import load_scorer
    from datatrove_quality.evaluation.labelled_rows import require_labels
    from datatrove_quality.evaluation.labelled_scores import compute_labelled_scores, read_labelled_scores
    from datatrove_quality.model.found_model import pinned
    from datatrove_quality.runs.inputs import find_inputs

    inputs = find_inputs(options.input)
    if options.model is None:
        scale = options.scale or ScoreScale()
        weights = sample_weights(options)
        return read_labelled_scores(inputs, options.labels, options.scores, options.tokens, scale, weights)
    adapter = row_adapter(options)
    require_labels(inputs, adapter, options.labels)
    scorer = load_scorer(pinned(filled(ScorerConfig, options)))  # a name that is not found costs no import
    return compute_labelled_scores(inputs, adapter, options.labels, scorer, sample_weights(options))


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
    add_weight_options(parser)
    model = parser.add_argument_group("with --model (--scale: with --scores too)")
    add_classifier_options(model)
    add_row_options(model, ids=False)
    add_verbose_option(parser)


def require_consistent(options: argparse.Namespace) -> None:
    """Refuse options that contradict each other.

    Raises:
        ValueError: two options do not go together; says which to omit.
    """
    if options.model is not None and options.tokens is not None:
        raise ValueError("--tokens goes with --scores: with --model the tokens are those that are scored.")
    if options.scores is not None:
        names = [name for name in (*CLASSIFIER_OPTIONS, *ROW_OPTIONS, "text") if name != "scale"]
        require_effect(options, add_options, names, "--scores takes scores that are there already")
