"""Choose a threshold by what it keeps.

    datatrove-quality choose-threshold scored/ --labels quality --level 4 --min-precision 0.98
    datatrove-quality choose-threshold scored/ --keep-share 0.6 --by tokens

reads rows with scores, prints the threshold, what it keeps, and how sure the sample's size lets one be (95 %,
bootstrap, and of shares at least the exact binomial interval). The first takes the lowest threshold at which labels of
at least --level make up that share of what is kept; rows without a label count for the shares kept only. The second
needs no labels.

Give the whole output folder of `datatrove-quality filter`, not its kept/ alone: what that run excluded is what a lower
threshold would keep. Rows without a score count as documents that no threshold keeps.
"""

import argparse
import sys
from typing import TYPE_CHECKING

from datatrove_quality.cli.option_types import scale, share
from datatrove_quality.cli.options import add_weight_options, sample_weights
from datatrove_quality.config import ScoreScale
from datatrove_quality.rows.score_columns import require_prefix


if TYPE_CHECKING:
    from datatrove_quality.evaluation import ThresholdChoice
    from datatrove_quality.evaluation.scored_sample import ScoredSample


def run(options: argparse.Namespace) -> None:
    """Choose by the options of the command line.

    Args:
        options: the command line.
    """
    require_consistent(options)
    from datatrove_quality.evaluation.scored_sample import read_scored_sample, run_of_half
    from datatrove_quality.evaluation.threshold_text import describe_choice
    from datatrove_quality.runs.inputs import find_inputs

    if run := run_of_half(options.scored):
        print(
            f"warning: {options.scored} is what an earlier threshold left, so all figures are biased; give {run}.",
            file=sys.stderr,
        )
    weights = sample_weights(options)
    sample = read_scored_sample(find_inputs(options.scored), options.prefix, options.labels, options.scale, weights)
    print(sample, end="\n\n")
    choice = choose(sample, options)
    print(describe_choice(choice, options.level), end="\n\n")
    value = choice.threshold.value
    more = "" if options.prefix == "quality" else f" --prefix {options.prefix}"
    more += "" if options.scale.low <= value <= options.scale.high else " --allow-outside-scale"
    print(f"Use it: datatrove-quality filter INPUT --output DIR --min-score {value}{more}")


def choose(sample: "ScoredSample", options: argparse.Namespace) -> "ThresholdChoice":
    """The threshold that the options ask for."""
    from datatrove_quality.evaluation import threshold_for_precision, threshold_for_share

    tokens, weights = sample.token_counts(), sample.weights.found()
    if options.keep_share is not None:
        if options.by == "tokens" and tokens is None:
            raise ValueError(f"--by tokens: rows with a score lack {options.prefix}_tokens; use --by documents.")
        return threshold_for_share(sample.scores, options.keep_share, tokens, options.by, options.seed, weights)
    return threshold_for_precision(
        sample.labels,
        sample.scores,
        options.level,
        options.min_precision,
        options.min_recall,
        tokens,
        options.seed,
        weights,
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = parser.add_argument
    add("scored", metavar="SCORED", help="folder, file or glob in quotes, of .jsonl[.gz|.zst] or .parquet with scores")
    add("--prefix", default="quality", help="of the score columns' names (default: quality)")
    add_weight_options(parser)
    add("--seed", type=int, default=0, metavar="N", help="of the bootstrap (default: 0)")
    labelled = parser.add_argument_group("by precision")
    labelled.add_argument("--labels", metavar="COLUMN", help="the column that holds the labels")
    labelled.add_argument("--level", type=int, metavar="K", help="labels from K on are good")
    labelled.add_argument("--min-precision", type=share, metavar="X", help="share of good ones among the kept")
    labelled.add_argument("--min-recall", type=share, default=0.0, metavar="X", help="share of good ones kept")
    labelled.add_argument("--scale", type=scale, default=ScoreScale(), help="OFFSET,LOW,HIGH of the labels: 1,1,5")
    shares = parser.add_argument_group("by share")
    shares.add_argument("--keep-share", type=share, metavar="X", help="the share that is kept")
    shares.add_argument("--by", choices=("documents", "tokens"), default="documents", help="default: documents")


def require_consistent(options: argparse.Namespace) -> None:
    """Refuse options that contradict each other.

    Raises:
        ValueError: two options do not go together; says which to omit.
    """
    by_precision = (options.labels, options.level, options.min_precision)
    if options.keep_share is not None and (any(value is not None for value in by_precision) or options.min_recall):
        raise ValueError("--keep-share needs no labels: omit --labels, --level, --min-precision and --min-recall.")
    if options.keep_share is None and None in by_precision:
        raise ValueError("give --labels, --level and --min-precision together, or --keep-share.")
    low, high = options.scale.low, options.scale.high
    if options.level is not None and not low < options.level <= high:
        raise ValueError(f"--level {options.level}: give a level above {low}, up to {high}, or another --scale.")
    require_prefix(options.prefix)
