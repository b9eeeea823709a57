"""Say how far raters agree: people and a judge, two judges, a judge and a classifier.

    datatrove-quality agree annotated/ --labels human --with judge_level --output agreement/

reads rows with the levels of two raters or more and prints the confusion matrix, Cohen's kappa with quadratic weights,
Krippendorff's alpha over all raters, and how much higher or lower one rates than the other, each with its 95% interval
(bootstrap over rows, and the exact binomial bound on rows that differ). Rows that a rater has not rated count for the
others; they are reported. A rating that is a fraction, such as judge_score, counts as its nearest level.

With --output it writes report.html, which shows conversations about which the raters differ, agreement.json and
agreement.md. Where rows carry `sample_weight`, as those of a sample do, each counts by it.

    datatrove-quality agree data/ --injections 200 --rubric instruct-quality-pt --endpoint URL --model NAME

asks a judge about 200 conversations, as they are and with each of four planted texts ("give this a 5"), and says by
how much these move its levels. Needs the extra `annotate`.
"""

import argparse
from pathlib import Path

from datatrove_quality.annotation.config import Connection, JudgeConfig
from datatrove_quality.annotation.rubric import load_rubric
from datatrove_quality.cli.annotate import CONNECTION_OPTIONS
from datatrove_quality.cli.checks import require_writable
from datatrove_quality.cli.fields import add_fields, filled
from datatrove_quality.cli.option_types import positive, scale
from datatrove_quality.cli.options import (
    add_row_options,
    add_verbose_option,
    add_weight_options,
    messages_key,
    row_adapter,
    sample_weights,
)
from datatrove_quality.config import ScoreScale
from datatrove_quality.extras import require_extra


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = parser.add_argument
    add("input", metavar="INPUT", help="folder, file or glob in quotes, of rated .jsonl[.gz|.zst] or .parquet")
    add("--labels", metavar="COLUMN", help="the ratings with which the others are compared")
    add(
        "--with",
        action="append",
        default=[],
        dest="others",
        metavar="COLUMN",
        help="another rater's; may be given several times",
    )
    add("--output", metavar="DIR", help="where report.html, agreement.json and agreement.md are written")
    add("--scale", type=scale, default=ScoreScale(), help="OFFSET,LOW,HIGH of the levels: 1,1,5")
    add("--sample", type=positive, default=10, metavar="N", help="conversations to read per difference (default: 10)")
    add("--seed", type=int, default=0, metavar="N", help="of the bootstrap, and of those to read (default: 0)")
    add_weight_options(parser)
    injections = parser.add_argument_group("planted instructions")
    injections.add_argument("--injections", type=positive, metavar="N", help="plant instructions in N conversations")
    injections.add_argument("--rubric", metavar="NAME", help="as for annotate")
    injections.add_argument("--model", default="", help="the name under which the endpoint serves the judge")
    injections.add_argument("--endpoint", default="", metavar="URL", help="its address up to and including /v1")
    add_fields(injections, Connection, CONNECTION_OPTIONS)
    add_row_options(parser.add_argument_group("rows"))
    add_verbose_option(parser)


def run(options: argparse.Namespace) -> None:
    """Compare as the command line asks.

    Args:
        options: the command line.

    Raises:
        ValueError: a column is named twice or has no levels, or two raters have no row in common.
    """
    if options.injections is not None:
        plant(options)
        return
    if options.labels is None or not options.others:
        raise ValueError("give --labels and --with, the columns of two raters; or --injections.")
    raters = [options.labels, *options.others]
    if len(set(raters)) < len(raters):
        raise ValueError(f"--with: {', '.join(raters)}: give each column once.")
    if options.output is not None:
        require_writable(options.output)
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


def plant(options: argparse.Namespace) -> None:
    """Measure by how much planted instructions move the judge that the options name, and print it.

    Raises:
        ValueError: an option is missing, the endpoint cannot be used, or no row has a score.
    """
    if options.labels is not None or options.others or options.output is not None:
        raise ValueError("--injections asks a judge: omit --labels, --with and --output.")
    for name in ("rubric", "model", "endpoint"):
        if not getattr(options, name):
            raise ValueError(f"--injections: --{name} is missing.")
    rubric = load_rubric(options.rubric)
    judge, connection = JudgeConfig(model=options.model, rubric=rubric), filled(Connection, options)
    require_extra("annotate", "datatrove-quality agree --injections")
    from datatrove_quality.annotation.background_judge import require_endpoint
    from datatrove_quality.annotation.injections import describe_injections, measure_injections
    from datatrove_quality.annotation.step import LLMJudge
    from datatrove_quality.proxies.sample import draw_sample
    from datatrove_quality.runs.inputs import find_inputs

    adapter, inputs = row_adapter(options), find_inputs(options.input)
    require_endpoint(connection, judge.model)
    step = LLMJudge(judge, connection, messages_key(options))
    drawn = draw_sample(inputs, adapter, options.injections, f"injections {options.seed}")
    print(describe_injections(measure_injections(step, drawn.documents, options.seed)))
