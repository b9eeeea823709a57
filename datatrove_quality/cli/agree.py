"""Say how far raters agree: people and a judge, two judges, a judge and a classifier.

    datatrove-quality agree annotated/ --labels human --with judge_level --output agreement/

reads rows with the levels of two raters or more and prints the confusion matrix, Cohen's kappa with quadratic weights,
Krippendorff's alpha over all raters, and how much higher or lower one rates than the other, each with its 95% interval
(bootstrap over rows). Rows that a rater has not rated count for the others; they are reported. A rating that is a
fraction, such as judge_score, counts as its nearest level.

With --output it writes report.html, which shows conversations about which the raters differ, agreement.json and
agreement.md. Where rows carry `sample_weight`, as those of a sample do, each counts by it.
"""

import argparse
from pathlib import Path

from datatrove_quality.cli.checks import check_output
from datatrove_quality.cli.option_types import positive, scale
from datatrove_quality.cli.options import add_verbose_option, add_weight_options, sample_weights
from datatrove_quality.config import ScoreScale


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = parser.add_argument
    add("input", metavar="INPUT", help="folder, file or glob in quotes, of rated .jsonl[.gz|.zst] or .parquet")
    add("--labels", required=True, metavar="COLUMN", help="the ratings with which the others are compared")
    add(
        "--with",
        required=True,
        action="append",
        dest="others",
        metavar="COLUMN",
        help="another rater's; may be given several times",
    )
    add("--output", metavar="DIR", help="where report.html, agreement.json and agreement.md are written")
    add("--scale", type=scale, default=ScoreScale(), help="OFFSET,LOW,HIGH of the levels: 1,1,5")
    add("--sample", type=positive, default=10, metavar="N", help="conversations to read per difference (default: 10)")
    add("--seed", type=int, default=0, metavar="N", help="of the bootstrap, and of those to read (default: 0)")
    add("--id-key", default="id", metavar="COLUMN", help="the column of the id (default: id)")
    add("--messages-key", metavar="COLUMN", help="the column that holds the conversation (default: found by its name)")
    add_weight_options(parser)
    add_verbose_option(parser)


def run(options: argparse.Namespace) -> None:
    """Compare as the command line asks.

    Args:
        options: the command line.

    Raises:
        ValueError: a column is named twice or has no levels, or two raters have no row in common.
    """
    raters = [options.labels, *options.others]
    if len(set(raters)) < len(raters):
        raise ValueError(f"--with: {', '.join(raters)}: give each column once.")
    if options.output is not None:
        check_output(options.output)
    from datatrove_quality.evaluation.agreement_text import describe_agreement
    from datatrove_quality.evaluation.rated_rows import read_rated_rows
    from datatrove_quality.report.agreement import report_agreement, write_agreement
    from datatrove_quality.report.columns import Columns
    from datatrove_quality.runs.inputs import find_inputs

    inputs = find_inputs(options.input)
    rows = read_rated_rows(inputs, raters, options.scale, sample_weights(options))
    agreement = rows.agreement(options.seed)
    print(describe_agreement(agreement))
    if missing := rows.text_of_missing():
        print(missing, end="\n\n")
    if options.output is None:
        return
    columns = Columns("", id=options.id_key, messages=options.messages_key)
    report = report_agreement(options.input, inputs, rows, agreement, columns, options.sample, options.seed)
    settings = {name: getattr(options, name) for name in ("input", "labels", "others", "weights", "seed")}
    print("Written to", write_agreement(report, settings, Path(options.output)))
