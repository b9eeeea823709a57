"""Choose a threshold by what it keeps.

    datatrove-quality choose-threshold scored/ --labels quality --level 4 --min-precision 0.98
    datatrove-quality choose-threshold scored/ --keep-share 0.6 --by tokens

reads rows with scores, prints the threshold, what it keeps, and how sure the sample's size lets one be (95 %,
bootstrap). The first takes the lowest threshold at which labels of at least --level make up that share of what is
kept; rows without a label count for the shares kept only. The second needs no labels.

Give the whole output folder of `datatrove-quality filter`, not its kept/ alone: what that run excluded is what a lower
threshold would keep. Rows without a score count as documents that no threshold keeps.
"""

import argparse
import math
import sys
from array import array
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from datatrove_quality import ScoreScale
from datatrove_quality.cli.option_types import scale, share
from datatrove_quality.config import Unscorable
from datatrove_quality.evaluation.columns import columns_found, listed, read_columns, score_of, tokens_of
from datatrove_quality.evaluation.labels import parse_label
from datatrove_quality.evaluation.thresholds import (
    Estimate,
    ThresholdChoice,
    threshold_for_precision,
    threshold_for_share,
)
from datatrove_quality.rows.score_columns import check_prefix
from datatrove_quality.runs.inputs import Inputs, find_inputs


@dataclass
class Scored:
    """The columns of the rows, as `evaluation` takes them, and why rows lack a score or a label."""

    scores: array = field(default_factory=lambda: array("d"))
    tokens: array = field(default_factory=lambda: array("d"))
    labels: array = field(default_factory=lambda: array("d"))
    no_score: Counter[str] = field(default_factory=Counter)
    no_label: Counter[str] = field(default_factory=Counter)

    def token_counts(self) -> array | None:
        """Tokens of each row, if all rows with a score have them."""
        return None if np.isnan(self.tokens).any() else self.tokens


def run(options: argparse.Namespace) -> None:
    """Choose as the command line asks.

    Args:
        options: the command line.
    """
    check(options)
    warn_of_a_half(options.scored)
    scored = read_scored(find_inputs(options.scored), options)
    print(counts(scored, options))
    choice = choose(scored, options)
    print(described(choice, options))


def choose(scored: Scored, options: argparse.Namespace) -> ThresholdChoice:
    """The threshold that the options ask for."""
    tokens = scored.token_counts()
    if options.keep_share is not None:
        if options.by == "tokens" and tokens is None:
            raise ValueError(f"--by tokens: rows with a score lack {options.prefix}_tokens; use --by documents.")
        return threshold_for_share(scored.scores, options.keep_share, tokens, options.by, options.seed)
    return threshold_for_precision(
        scored.labels,
        scored.scores,
        options.level,
        options.min_precision,
        options.min_recall,
        tokens,
        options.seed,
    )


def read_scored(inputs: Inputs, options: argparse.Namespace) -> Scored:
    """Read the score columns and the labels.

    Raises:
        ValueError: no row has a score.
    """
    scored = Scored()
    row = {}
    for row in tqdm(read_columns(inputs), unit=" rows"):
        try:
            scored.scores.append(score_of(row, f"{options.prefix}_score"))
            scored.tokens.append(tokens_of(row, f"{options.prefix}_tokens"))
        except Unscorable as error:
            scored.no_score[error.reason] += 1
            scored.scores.append(-math.inf)
            scored.tokens.append(0)
        if options.labels is not None:
            try:
                scored.labels.append(parse_label(row.get(options.labels), options.scale))
            except Unscorable as error:
                scored.no_label[error.reason] += 1
                scored.labels.append(math.nan)
    _require_some(scored, options, columns_found(row))
    return scored


def _require_some(scored: Scored, options: argparse.Namespace, found: str) -> None:
    total = len(scored.scores)
    if not total:
        raise ValueError(f"SCORED {options.scored}: there is no row.")
    if scored.no_score.total() == total:
        raise ValueError(f"None of {total:,} rows has a {options.prefix}_score: give --prefix; {found}.")
    if scored.labels and scored.no_label.total() == total:
        raise ValueError(
            f"--labels {options.labels}: none of {total:,} rows has a label ({listed(scored.no_label)}); {found}."
        )


def warn_of_a_half(source: str) -> None:
    """Say that half of a filtered corpus is not a sample of it."""
    folder = Path(source)
    if folder.name in ("kept", "excluded") and folder.is_dir() and (folder.parent / "logs").is_dir():
        print(
            f"warning: {source} is what an earlier threshold left, so all figures are biased; give {folder.parent}.",
            file=sys.stderr,
        )


def counts(scored: Scored, options: argparse.Namespace) -> str:
    """How many rows there are, and what they lack."""
    total = len(scored.scores)
    lines = [f"{total:,} rows, {total - scored.no_score.total():,} with a score"]
    if scored.no_score:
        lines.append(f"without a score, counted as documents that are not kept: {listed(scored.no_score)}")
    if options.labels is not None:
        lines.append(f"{total - scored.no_label.total():,} with a label in {options.labels}")
    if scored.no_label:
        lines.append(f"without a label, counted for the shares kept only: {listed(scored.no_label)}")
    return "\n".join(lines)


def described(choice: ThresholdChoice, options: argparse.Namespace) -> str:
    """What was chosen, how sure it is, and how to use it."""
    threshold = choice.threshold
    low, high = ("none" if end is None else f"{end:.3f}" for end in (threshold.low, threshold.high))
    lines = ["", f"{'threshold':<24}{threshold.value!s:>10}   95 % interval {low} to {high}"]
    rows: dict[str, Estimate | None] = {
        "documents kept": choice.kept,
        "tokens kept": choice.tokens_kept,
        f"precision, label >= {options.level}": choice.precision,
        f"recall, label >= {options.level}": choice.recall,
    }
    lines += [
        f"{name:<24}{estimate.value:>10.4f}   95 % interval {estimate.low:.4f} to {estimate.high:.4f}"
        for name, estimate in rows.items()
        if estimate is not None
    ]
    lines += _notes(choice)
    prefix = "" if options.prefix == "quality" else f" --prefix {options.prefix}"
    command = "datatrove-quality filter INPUT --output DIR"
    return "\n".join([*lines, "", f"Use it: {command} --min-score {threshold.value}{prefix}"])


def _notes(choice: ThresholdChoice) -> list[str]:
    notes = []
    if choice.precision is not None and choice.precision.value == 1:
        # Resampling never shows what the sample does not hold; this bound is the rule of three.
        worst = max(0.0, 1 - 3 / choice.labelled_kept)
        notes.append(
            f"None of the {choice.labelled_kept:,} labelled rows kept has a lower label: so many cannot exclude a "
            f"precision of {worst:.4f}."
        )
    if choice.unreached:
        notes.append(f"In {choice.unreached:.1%} of the resamples no threshold does it: label more rows to be sure.")
    return notes


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = parser.add_argument
    add("scored", metavar="SCORED", help="folder, file or glob in quotes, of .jsonl[.gz|.zst] or .parquet with scores")
    add("--prefix", default="quality", help="of the score columns' names (default: quality)")
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


def check(options: argparse.Namespace) -> None:
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
    check_prefix(options.prefix)
