"""Score conversations with a classifier and keep those at or above a threshold.

    datatrove-quality filter data/ --output filtered/ --min-score 4

reads JSONL or Parquet, writes `filtered/kept` and `filtered/excluded` in the same format with the scores as columns,
and ends with a table of the counts. Stopped and started again with the same arguments, it goes on where it stopped.
Scores are saved in `filtered/logs/checkpoints` as they are computed: with `--overwrite` and another `--min-score`
nothing is computed again. Delete that folder when you are done. Rows that have scores are filtered without the model:

    datatrove-quality filter filtered/ --output stricter/ --scores-from-columns --min-score 4.5

`--executor slurm` or `ray` runs the tasks on a cluster: see docs/clusters.md.
"""

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

from datatrove.io import DataFolder, get_datafolder
from datatrove.pipeline.base import PipelineStep

from datatrove_quality import QualityFilter, RowAdapter, ScorerConfig, ScoresAdapter
from datatrove_quality.cli.options import (
    CARD_MODEL,
    CLASSIFIER_OPTIONS,
    add_classifier_options,
    add_row_options,
    add_run_options,
    add_score_options,
    refuse_without_effect,
    row_adapter,
    scorer_config,
    what_decides_the_output,
)
from datatrove_quality.engine.scorer import find_scorer
from datatrove_quality.runs.executors import add_executor_options, make_executor, run_to_end
from datatrove_quality.runs.inputs import PATHS, Inputs, find_inputs, path_in, refuse_overlap, refuse_wrong_schema
from datatrove_quality.runs.preparation import Preparation, needs_gpu
from datatrove_quality.runs.provenance import (
    output_schema,
    refuse_mixed_scores,
    refuse_other_scores,
    refuse_without_scores,
    sidecar_schema,
)
from datatrove_quality.runs.run_record import claim_output, require_claimable
from datatrove_quality.runs.summary import Summary


RESUMES = True


def run(options: argparse.Namespace) -> None:
    """Run the pipeline that the command line asks for.

    Args:
        options: the command line.
    """
    check(options)
    adapter = row_adapter(options)
    inputs = find_inputs(options.input)
    output = get_datafolder(options.output)
    refuse_overlap(inputs, output)

    options.tasks = inputs.tasks(options.tasks)
    prepared = None if options.scores_from_columns else Preparation.of(scorer_config(options), options.executor)
    scorer, here = (prepared.scorer, prepared.here) if prepared else (None, None)
    made_by = require_scorer(options, inputs, adapter, here)
    pipeline = scoring_pipeline(options, inputs, output, adapter, scorer, here)
    asked = what_decides_the_output(options, inputs) | {"scorer": made_by}
    require_claimable(output, asked, options.overwrite)
    executor = make_executor(
        options,
        pipeline,
        name="filter_conversations",
        tasks=options.tasks,
        logging_dir=path_in(output, "logs"),
        gpu=needs_gpu(options, scorer),
        memory_gb=prepared.memory_gb if prepared else None,
        keeps_progress=checkpoints(options, output) is not None,
        overwrite=options.overwrite,
    )

    resumed = claim_output(output, asked, options.overwrite)
    inputs.write_paths(output)
    if prepared:
        prepared.warn_of_loading(inputs, executor)
    started = time.perf_counter()
    if run_to_end([executor], options.wait):
        seconds = None if resumed or options.executor == "slurm" else time.perf_counter() - started
        print_results(options, output, seconds)


def print_results(options: argparse.Namespace, output: DataFolder, seconds: float | None) -> None:
    """Say what all tasks of the run did together; end with an error if none of them could score anything."""
    summary = Summary.of_run(output, step=1)
    print(summary.table(seconds))
    folders = ("scores",) if options.scores_only else ("kept", "excluded")
    print("Written to", ", ".join(path_in(output, name) for name in folders))
    if not summary.documents:
        print("warning: the input holds no row.", file=sys.stderr)
    elif not summary.scored:
        sys.exit(f"No document could be scored. {summary.commonest_reason()}")


def scoring_pipeline(
    options: argparse.Namespace,
    inputs: Inputs,
    output: DataFolder,
    adapter: Callable,
    scorer: ScorerConfig | None,
    here: ScorerConfig | None,
) -> list[PipelineStep | Callable]:
    """Read, score, keep or exclude, write; `here` is the scorer to look at on this machine."""
    if options.scores_only:
        schema = sidecar_schema(options.prefix, here) if inputs.is_parquet else None
        excluded, written = None, inputs.writer(output, "scores", ScoresAdapter(options.prefix), schema)
    else:
        schema = output_schema(inputs, options.prefix, here) if inputs.is_parquet else None
        excluded, written = (inputs.writer(output, name, RowAdapter(), schema) for name in ("excluded", "kept"))
    return [
        inputs.reader(adapter, paths_file=path_in(output, PATHS), limit=options.limit),
        QualityFilter(
            scorer,
            min_score=options.min_score,
            max_score=options.max_score,
            prefix=options.prefix,
            messages_key="messages" if options.text is None else None,
            unscorable=options.unscorable,
            exclusion_writer=excluded,
            checkpoints_dir=checkpoints(options, output),
            special_tokens=options.special_tokens,
            reuse_scores=options.reuse_scores,
            progress=options.progress,
            documents_per_task=inputs.documents_per_task(options.tasks, options.limit),
        ),
        written,
    ]


def checkpoints(options: argparse.Namespace, output: DataFolder) -> str | None:
    """Where scores are kept as they come."""
    if options.no_checkpoints or options.scores_from_columns:
        return None
    return options.checkpoints or path_in(output, "logs/checkpoints")


def require_scorer(
    options: argparse.Namespace, inputs: Inputs, adapter: Callable, scorer: ScorerConfig | None
) -> dict[str, Any] | None:
    """What makes the scores, if known; refuses rows that it cannot score, and to mix scores of different making."""
    if scorer is None:
        refuse_without_scores(inputs, adapter, options.prefix)
        return refuse_mixed_scores(inputs, options.prefix)
    found = find_scorer(scorer)
    if options.text is None:
        found.renderer.require_template()
    refuse_wrong_schema(inputs, adapter)
    if options.reuse_scores:
        refuse_other_scores(inputs, options.prefix, found)
    return found.describe()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = parser.add_argument
    add("input", metavar="INPUT", help="folder, file or glob in quotes, of .jsonl[.gz|.zst] or .parquet")
    add("--output", metavar="DIR", required=True, help="where kept/, excluded/ and logs/ are written")
    model = parser.add_argument_group("classifier")
    model.add_argument("--model", help=f"hub id or folder (default: {CARD_MODEL})")
    add_classifier_options(model)
    what = parser.add_argument_group("what is kept")
    add_score_options(what)
    what.add_argument(
        "--unscorable", choices=("drop", "keep", "raise"), help="default: keep without bounds, else drop"
    )
    what.add_argument("--scores-only", action="store_true", help="write DIR/scores, a row per input row")
    what.add_argument("--reuse-scores", action="store_true", help="score only rows without a score in their columns")
    what.add_argument(
        "--scores-from-columns", action="store_true", help="score nothing: filter by the scores in the columns"
    )
    add_row_options(parser.add_argument_group("rows"))
    run = parser.add_argument_group("run")
    add_run_options(run)
    run.add_argument("--no-checkpoints", action="store_true", help="keep none: a task that stops starts anew")
    add_executor_options(parser)


def check(options: argparse.Namespace) -> None:
    """Refuse options that contradict each other.

    Raises:
        ValueError: two options do not go together; says which to omit.
    """
    if options.scores_from_columns:
        others = ("special_tokens", "reuse_scores", "scores_only", "checkpoints", "no_checkpoints")
        names = ("model", *CLASSIFIER_OPTIONS, *others)
        refuse_without_effect(options, add_options, names, "--scores-from-columns scores nothing")
        return
    if options.scores_only and not (options.min_score is None and options.max_score is None):
        raise ValueError("--scores-only drops nothing: omit --min-score and --max-score.")
    if options.scores_only and options.unscorable == "drop":
        raise ValueError("--scores-only writes a row for each row: omit --unscorable drop.")
    options.model = options.model or CARD_MODEL
