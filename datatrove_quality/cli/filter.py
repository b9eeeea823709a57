"""Score conversations with a classifier and keep those at or above a threshold.

    datatrove-quality filter data/ --output filtered/ --min-score 4

reads JSONL or Parquet, writes `filtered/kept` and `filtered/excluded` in the same format with the scores as columns,
and ends with a table of the counts. Stopped and started again with the same arguments, it continues where it stopped.
Scores are saved in `filtered/logs/checkpoints` as they are computed: with `--overwrite` and another `--min-score`
nothing is computed again. Delete that folder when you are done. Rows that have scores are filtered without the model:

    datatrove-quality filter filtered/ --output stricter/ --scores-from-columns --min-score 4.5

A cheaper proxy decides the clear rows with `--cascade FILE`: see docs/cascade.md.

`--executor slurm` or `ray` runs the tasks on a cluster: see docs/clusters.md.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from datatrove_quality.cascade.values import Cascade, require_usable
from datatrove_quality.cli.executor_options import add_executor_options
from datatrove_quality.cli.fields import filled
from datatrove_quality.cli.option_types import audit
from datatrove_quality.cli.options import (
    CARD_MODEL,
    CLASSIFIER_OPTIONS,
    add_classifier_options,
    add_reading_options,
    add_row_options,
    add_run_options,
    add_score_options,
    messages_key,
    require_effect,
    row_adapter,
)
from datatrove_quality.cli.running import (
    execute,
    make_run,
    print_result,
    require_local_files,
    require_thresholds_of_run,
)
from datatrove_quality.config import ScorerConfig


if TYPE_CHECKING:
    from datatrove.pipeline.base import PipelineStep

    from datatrove_quality.runs.run import Run

RESUMES = True
CASCADE_OPTIONS = ("cascade", "audit", "audit_by", "strict_audit")


def run(options: argparse.Namespace) -> None:
    """Run the pipeline that the command line describes.

    Args:
        options: the command line.
    """
    require_consistent(options)
    require_local_files(options)
    adapter = row_adapter(options)
    started = make_run(options, "filter")
    require_thresholds_of_run(options, started, adapter)
    result = execute(started, pipeline(options, started, adapter))
    if result is None:
        return
    if not result.filters[0].documents:
        print("warning: the input has no row.", file=sys.stderr)
    print_result(result)


def pipeline(options: argparse.Namespace, started: "Run", adapter: Callable) -> "list[PipelineStep]":
    """The steps: read, score and filter, write."""
    from datatrove_quality.filter import QualityFilter
    from datatrove_quality.rows.to_row import ScoresAdapter

    has_checkpoints = options.model is not None and not options.no_checkpoints
    return [
        started.reader(adapter),
        QualityFilter(
            None if options.model is None else filled(ScorerConfig, options),
            min_score=options.min_score,
            max_score=options.max_score,
            prefix=options.prefix,
            score_of=options.score_of,
            messages_key=messages_key(options),
            unscorable=options.unscorable,
            exclusion_writer=None if options.scores_only else started.writer("excluded"),
            checkpoints_dir=(options.checkpoints or started.checkpoints) if has_checkpoints else None,
            special_tokens=options.special_tokens,
            reuse_scores=options.reuse_scores,
            allow_no_answer=options.allow_no_answer,
            render_tools=options.render_tools,
            all_answers=options.all_answers,
            group_by=options.group_by,
            progress=options.progress,
            cascade=cascade(options),
            drop=not options.scores_only,
        ),
        started.writer("scores", ScoresAdapter(options.prefix)) if options.scores_only else started.writer("kept"),
    ]


def cascade(options: argparse.Namespace) -> Cascade | None:
    """The cascade of the file that the options name, audited as they say."""
    if options.cascade is None:
        return None
    found = Cascade.load(options.cascade)
    audit = found.audit if options.audit is None else options.audit
    return replace(found, audit=audit, audit_by=options.audit_by or found.audit_by, strict_audit=options.strict_audit)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = parser.add_argument
    add("input", metavar="INPUT", help="folder, file or glob in quotes, of .jsonl, .json, .csv or .parquet")
    add("--output", metavar="DIR", required=True, help="where kept/, excluded/ and logs/ are written")
    add("--model", help=f"hub id or folder of the classifier (default: {CARD_MODEL})")
    what = parser.add_argument_group("what is kept")
    add_score_options(what)
    unscorable = "what becomes of rows that cannot be scored (default: keep without bounds, else drop)"
    what.add_argument("--unscorable", choices=("drop", "keep", "raise"), help=unscorable)
    what.add_argument("--scores-only", action="store_true", help="write DIR/scores, a row per input row")
    there = parser.add_argument_group("scores that rows have already")
    there.add_argument(
        "--scores-from-columns", action="store_true", help="score nothing: filter by the scores in the columns"
    )
    there.add_argument("--reuse-scores", action="store_true", help="score only rows without a score in their columns")
    rows = parser.add_argument_group("rows")
    add_row_options(rows)
    add_reading_options(rows)
    run = parser.add_argument_group("run")
    add_run_options(run)
    run.add_argument("--no-checkpoints", action="store_true", help="save none: a task that stops starts again")
    add_classifier_options(parser.add_argument_group("classifier"))
    add_executor_options(parser)
    cheaper = parser.add_argument_group("a proxy decides the clear rows")
    cheaper.add_argument("--cascade", metavar="FILE", help="of datatrove-quality calibrate, for this --min-score")
    cheaper.add_argument(
        "--audit", type=audit, metavar="SHARE", help="of what the proxy decides, scored as well (default: FILE's)"
    )
    cheaper.add_argument("--audit-by", metavar="COLUMN", help="sources that are audited one by one (default: FILE's)")
    cheaper.add_argument("--strict-audit", action="store_true", help="stop where the audit shows a broken promise")


def require_consistent(options: argparse.Namespace) -> None:
    """Refuse options that contradict each other.

    Raises:
        ValueError: two options do not go together; says which to omit.
    """
    if options.scores_from_columns:
        scoring = ("special_tokens", "allow_no_answer", "render_tools", "all_answers", "reuse_scores")
        others = (*scoring, "scores_only", "checkpoints", "no_checkpoints", *CASCADE_OPTIONS)
        names = ("model", *(name for name in CLASSIFIER_OPTIONS if name != "score_of"), *others)
        require_effect(options, add_options, names, "--scores-from-columns scores nothing")
        return
    if options.all_answers and (options.text is not None or options.reuse_scores):
        raise ValueError("--all-answers scores conversations, all of them: omit --text and --reuse-scores.")
    has_bounds = options.min_score is not None or options.max_score is not None
    if options.scores_only and options.cascade is None and has_bounds:
        raise ValueError("--scores-only drops nothing: omit --min-score and --max-score.")
    if options.scores_only and options.unscorable == "drop":
        raise ValueError("--scores-only writes a row for each row: omit --unscorable drop.")
    if options.cascade is None:
        require_effect(options, add_options, CASCADE_OPTIONS, "without --cascade there is no audit")
    else:
        require_usable(cascade(options), None, vars(options) | {"messages_key": messages_key(options)})
    options.model = options.model or CARD_MODEL
