"""Show what a run did: how scores are spread, what a threshold keeps, and conversations to read.

    datatrove-quality report filtered/ --output report/
    datatrove-quality report 'scored/*.parquet' --threshold 4 --group-by source --output report/
    datatrove-quality report new/ --against old/ --output report/

It reads the output of `filter` and `curate`, or any JSONL or Parquet files with the score columns of a
`QualityFilter`, and what a `QualityStats` counted of them. It writes `report.html`, one file without network, and
`report.json` with all its numbers. It needs no GPU.
"""

import argparse

from datatrove_quality.cli.checks import require_writable
from datatrove_quality.cli.fields import filled
from datatrove_quality.cli.option_types import number, positive, share


def run(options: argparse.Namespace) -> None:
    """Write the report, and print where it is.

    Args:
        options: the command line.
    """
    require_writable(options.output)
    from datatrove_quality.report.build import ReportOptions, build_report, write_report
    from datatrove_quality.report.text import visible

    report = build_report(filled(ReportOptions, options))
    page = write_report(report, options.output)
    figures = report.figures
    decided = f", {figures.decided_by_proxy:,} decided by a proxy" if figures.decided_by_proxy else ""
    kept = f", {figures.kept.documents:,} kept at {figures.threshold:g}" if figures.kept else ""
    print(f"{figures.documents:,} documents: {figures.scored:,} with a score{decided}{kept}.")
    for note in report.notes:
        print(f"note: {visible(note)}")
    print(f"Written to {page}, the numbers to report.json beside it.")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command, by the names of `ReportOptions`, and `output`."""
    add = parser.add_argument
    scored_help = "run folders, folders, files or globs of .jsonl[.gz|.zst] or .parquet"
    add("scored", nargs="+", metavar="SCORED", help=scored_help)
    add("--output", required=True, metavar="DIR", help="where report.html and report.json are written")
    add("--threshold", type=number, metavar="X", help="mark this threshold (default: the run's min_score)")
    add("--allow-outside-scale", action="store_true", help="take a threshold that is outside the scale of the scores")
    add("--group-by", metavar="COLUMN", help="show scores by the values of a column, such as source")
    against_help = "compare with another run over the same documents, by id"
    add("--against", nargs="+", default=[], metavar="OTHER", help=against_help)
    stats_help = "what a QualityStats counted of these documents (default: SCORED/stats-merged or SCORED/stats)"
    add("--stats", nargs="+", default=[], metavar="DIR", help=stats_help)
    share_help = "read this share of each file's rows, such as 0.01: of Parquet its beginning, else every 100th"
    add("--share", type=share, default=1.0, metavar="X", help=share_help)
    add("--sample", type=positive, default=10, metavar="N", help="conversations per score band (default: 10)")
    add("--seed", type=int, default=0, metavar="N", help="decides which conversations (default: 0)")
    add("--prefix", help="of the score columns' names (default: the run's, or quality)")
    add("--id-key", metavar="COLUMN", help="the column that holds the id (default: the run's, or id)")
    messages_help = "the column that holds the conversation (default: found by its name)"
    add("--messages-key", metavar="COLUMN", help=messages_help)
