"""Curate conversations: clean, remove duplicates, score with a classifier, keep those at or above a threshold.

    datatrove-quality curate data/ --output curated/ --min-score 4

reads JSONL or Parquet, writes `curated/kept`, and what was dropped, with its `filter_reason`, to a folder per step in
`curated/excluded`, in the same format with the scores as columns; ends with a table of what every step dropped. The
stages on CPUs and the one on GPUs are separate jobs on a cluster, each after the other:

    datatrove-quality curate data/ --output curated/ --min-score 4 --tasks 100 \\
        --executor slurm --partition cpu=short,gpu=a100 --time cpu=2:00:00,gpu=8:00:00

Stopped and started again with the same arguments, it continues where it stopped. See docs/curation.md.
"""

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from datatrove_quality.cli.executor_options import add_executor_options, cluster_of
from datatrove_quality.cli.fields import filled
from datatrove_quality.cli.option_types import positive, share
from datatrove_quality.cli.options import (
    CARD_MODEL,
    add_classifier_options,
    add_reading_options,
    add_row_options,
    add_run_options,
    add_score_options,
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
from datatrove_quality.curation.rules import RULES
from datatrove_quality.extras import require_extra


if TYPE_CHECKING:
    from datatrove_quality.curation.stages import Curation

RESUMES = True


def run(options: argparse.Namespace) -> None:
    """Run the stages that the command line describes.

    Args:
        options: the command line.
    """
    require_consistent(options)
    require_local_files(options)
    require_extra("curate", "datatrove-quality curate")
    from datatrove_quality.curation.answer_filters import require_language_model, require_word_tokenizer
    from datatrove_quality.curation.stages import curation_stages
    from datatrove_quality.model.found_model import pinned
    from datatrove_quality.runs.inputs import require_scorable
    from datatrove_quality.runs.run_record import INTERMEDIATE

    adapter = row_adapter(options)
    started = make_run(options, "curate", "gpu")
    require_scorable(started.inputs, adapter)
    if options.keep_languages:
        require_language_model()
    pinned(filled(ScorerConfig, options))  # a model that is not here is refused before spaCy imports torch
    require_word_tokenizer(options.language)
    require_thresholds_of_run(options, started, adapter)
    cpu = replace(cluster_of(options, "cpu"), gpus_per_task=None)
    stages = curation_stages(started, adapter, curation(options), cpu, cluster_of(options, "gpu"))
    result = execute(started, *stages)
    if result is None:
        return
    if started.output.isdir(INTERMEDIATE):
        print("No longer needed:", started.path(INTERMEDIATE))
    print_result(result)


def curation(options: argparse.Namespace) -> "Curation":
    """What the command line says is kept."""
    from datatrove_quality.curation.stages import Curation

    return filled(Curation, argparse.Namespace(**vars(options) | {"scorer": filled(ScorerConfig, options)}))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = parser.add_argument
    add("input", metavar="INPUT", help="folder, file or glob in quotes, of .jsonl, .json, .csv or .parquet")
    add("--output", metavar="DIR", required=True, help="where kept/, excluded/ and logs/ are written")
    add("--model", default=CARD_MODEL, help=f"hub id or folder of the classifier (default: {CARD_MODEL})")
    add_score_options(parser.add_argument_group("what is kept"))
    rows = parser.add_argument_group("rows")
    add_row_options(rows, text=False)
    add_reading_options(rows)
    clean = parser.add_argument_group("cleaning (limits: docs/curation.md)")
    clean.add_argument(
        "--mask-pii",
        action="store_true",
        help="replace e-mail and IP addresses, CPF, CNPJ and phone numbers in messages",
    )
    clean.add_argument(
        "--without-rules",
        nargs="+",
        default=[],
        choices=tuple(RULES),
        metavar="RULE",
        help=f"leave out rules about turns, of {', '.join(RULES)}",
    )
    clean.add_argument("--min-words", type=positive, default=1, metavar="N", help="of all answers (default: 1)")
    clean.add_argument("--max-words", type=positive, default=100_000, metavar="N", help="(default: 100000)")
    clean.add_argument(
        "--language",
        default="eng",
        metavar="CODE",
        help="DataTrove's code of the language whose word tokenizer is used (default: eng, for any that has spaces)",
    )
    clean.add_argument("--keep-languages", nargs="+", metavar="CODE", help="such as pt en (default: all)")
    clean.add_argument(
        "--language-threshold", type=share, default=0.65, metavar="P", help="of a kept language (default: 0.65)"
    )
    add_run_options(parser.add_argument_group("run"))
    add_classifier_options(parser.add_argument_group("classifier"))
    add_executor_options(parser, ("cpu", "gpu"))


def require_consistent(options: argparse.Namespace) -> None:
    """Refuse options that contradict each other.

    Raises:
        ValueError: two options do not go together; says which to omit.
    """
    if options.all_answers and options.mask_pii:
        raise ValueError("--mask-pii masks the conversation that is scored, not other answers: omit --all-answers.")
    if options.min_words > options.max_words:
        raise ValueError(
            f"--min-words {options.min_words} is above --max-words {options.max_words}: none would be kept."
        )
