"""What the commands that run a pipeline do alike: their checks, the run, and what is printed at its end."""

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from datatrove_quality.cli.checks import known_scale, require_local_classifier, require_thresholds, require_writable
from datatrove_quality.cli.executor_options import cluster_of
from datatrove_quality.cli.fields import filled
from datatrove_quality.config import ScorerConfig


if TYPE_CHECKING:
    from datatrove_quality.runs.run import Run, RunResult


def require_local_files(options: argparse.Namespace) -> None:
    """Refuse what the options and local files show to be a mistake; imports nothing heavy.

    Args:
        options: those of thresholds, the classifier and `--output`; without a model where `options.model` is None.

    Raises:
        ValueError: says what to change.
    """
    require_writable(options.output)
    if options.model is None:
        require_thresholds(options, None)
        return
    require_local_classifier(options.model, max_tokens=options.max_tokens)
    require_thresholds(options, known_scale(options))
    filled(ScorerConfig, options)


def make_run(options: argparse.Namespace, name: str, stage: str | None = None) -> "Run":
    """The run that the options describe.

    Args:
        options: the command line.
        name: of the jobs.
        stage: whose cluster options hold for the run, where they are given by stage.
    """
    from datatrove_quality.runs.run import Run

    return Run(
        options.input,
        options.output,
        executor=options.executor,
        tasks=options.tasks,
        workers=options.workers,
        limit=options.limit,
        overwrite=options.overwrite,
        cluster=cluster_of(options, stage),
        name=name,
    )


def require_thresholds_of_run(options: argparse.Namespace, run: "Run", adapter: Callable) -> None:
    """Refuse thresholds outside the scale where only the model or the rows tell it, before anything is scored.

    Args:
        options: the command line.
        run: it has found the input.
        adapter: makes a document of a row.

    Raises:
        ValueError: a threshold is outside the scale, no row can be scored, or the model cannot be found.
    """
    if options.allow_outside_scale or (options.min_score is None and options.max_score is None):
        return
    if options.model is None:
        from datatrove_quality.runs.provenance import recorded_scale

        require_thresholds(options, recorded_scale(run.inputs, options.prefix, options.score_of))
    elif known_scale(options) is None:
        from datatrove_quality.engine.scorer import find_scorer
        from datatrove_quality.model.found_model import pinned
        from datatrove_quality.runs.inputs import require_scorable

        require_scorable(run.inputs, adapter)
        config = pinned(filled(ScorerConfig, options))  # a name that is not found costs no import of transformers
        require_thresholds(options, find_scorer(config).scale)


def execute(run: "Run", *stages: Any) -> "RunResult | None":
    """Run a pipeline or stages; end the command with an error if tasks failed.

    Args:
        run: the run.
        stages: see `Run.execute`.

    Raises:
        SystemExit: tasks failed; says how many, and where their logs are.
    """
    from datatrove_quality.cascade.audit import BrokenPromise
    from datatrove_quality.runs.completed_tasks import IncompleteRun

    try:
        return run.execute(*stages)
    except (IncompleteRun, BrokenPromise) as error:
        sys.exit(str(error))


def print_result(result: "RunResult") -> None:
    """Print what became of the documents, what the run was, where everything is, and what to type next.

    Raises:
        SystemExit: no document could be scored.
    """
    print(result.table())
    print(result.ending())
    if problem := result.problem():
        sys.exit(problem)
