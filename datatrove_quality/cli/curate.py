"""Curate conversations: clean, remove duplicates, score with a classifier, keep those at or above a threshold.

    datatrove-quality curate data/ --output curated/ --min-score 4

reads JSONL or Parquet, writes `curated/kept`, and what was dropped, with its `filter_reason`, to a folder per step in
`curated/excluded`, in the same format with the scores as columns; ends with a table of what every step dropped. The
stages on CPUs and the one on GPUs are separate jobs on a cluster, each after the other:

    datatrove-quality curate data/ --output curated/ --min-score 4 --tasks 100 \\
        --executor slurm --partition cpu=short,gpu=a100 --time cpu=2:00:00,gpu=8:00:00

Stopped and started again with the same arguments, it goes on where it stopped. See docs/curation.md.
"""

import argparse
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from datatrove.executor.base import PipelineExecutor
from datatrove.io import DataFolder, get_datafolder
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup import (
    ExactDedupSignature,
    ExactFindDedups,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.filters import LanguageFilter
from datatrove.pipeline.writers.disk_base import DiskWriter
from loguru import logger

from datatrove_quality import QualityFilter, QualityStats, RowAdapter
from datatrove_quality.cli.option_types import positive, share
from datatrove_quality.cli.options import (
    CARD_MODEL,
    add_classifier_options,
    add_row_options,
    add_run_options,
    add_score_options,
    row_adapter,
    scorer_config,
    what_decides_the_output,
)
from datatrove_quality.curation.answer_filters import (
    LANGUAGE_FROM_CHARS,
    SHARES_FROM_CHARS,
    AnswerFilter,
    length_filter,
    repetition_filter,
    require_language_model,
    require_word_tokenizer,
    symbol_filter,
)
from datatrove_quality.curation.counts import WriteTable, counted, table, total_counts
from datatrove_quality.curation.deduplication import (
    EXACT_DUPLICATE,
    NEAR_DUPLICATE,
    DropExactDuplicates,
    DroppedRowAdapter,
    exact_config,
    minhash_config,
    without_system,
)
from datatrove_quality.curation.handover import LoadDocuments, SaveDocuments
from datatrove_quality.curation.rules import RULES, ConversationRules
from datatrove_quality.engine.scorer import find_scorer
from datatrove_quality.runs.executors import add_executor_options, make_executor, run_to_end
from datatrove_quality.runs.inputs import PATHS, Inputs, find_inputs, path_in, refuse_overlap, refuse_wrong_schema
from datatrove_quality.runs.outputs import WholeOutput
from datatrove_quality.runs.preparation import Preparation, needs_gpu
from datatrove_quality.runs.provenance import output_schema
from datatrove_quality.runs.run_record import UNFINISHED, claim_output, require_claimable
from datatrove_quality.runs.slurm import refuse_while_queued


RESUMES = True

# Parts of the search for exact duplicates, each with an equal share of the keys.
MOST_FINDERS = 16


class Stage(NamedTuple):
    """Steps that an executor of their own runs, after all tasks of the stage before.

    Args:
        name: of the stage.
        tasks: into how many parts its work is divided.
        pipeline: the steps.
        documents: whether the documents themselves go through it, so that its steps are counted.
        scores: whether the model runs in it.
    """

    name: str
    tasks: int
    pipeline: list[Any]
    documents: bool = False
    scores: bool = False


def run(options: argparse.Namespace) -> None:
    """Run the pipeline that the command line asks for.

    Args:
        options: the command line.
    """
    check(options)
    inputs = find_inputs(options.input)
    output = get_datafolder(options.output)
    refuse_overlap(inputs, output)
    adapter = row_adapter(options)
    refuse_wrong_schema(inputs, adapter)
    require_word_tokenizer(options.language)
    if options.keep_languages:
        require_language_model()
    options.tasks = inputs.tasks(options.tasks)
    prepared = Preparation.of(scorer_config(options), options.executor)
    scorer = find_scorer(prepared.here)
    scorer.renderer.require_template()
    stages = curation(options, inputs, output, adapter, prepared)
    asked = what_decides_the_output(options, inputs)
    asked |= {"pipeline": "curate_conversations", "scorer": scorer.describe()}
    require_claimable(output, asked, options.overwrite)
    executors = chained(stages, options, output, prepared)

    claim_output(output, asked, options.overwrite)
    inputs.write_paths(output)
    if not options.keep_languages:
        logger.info("No filter by language: --keep-languages asks for one.")
    *_, scoring, _ = executors  # the last one writes the table
    prepared.warn_of_loading(inputs, scoring)
    if run_to_end(executors, options.wait):
        show_table(output, stages, options.tasks)


def curation(
    options: argparse.Namespace,
    inputs: Inputs,
    output: DataFolder,
    adapter: Callable,
    prepared: Preparation,
) -> list[Stage]:
    """The whole way of a document, from the input to one of the output's folders.

    Args:
        options: the command line.
        inputs: the files.
        output: the run's folder.
        adapter: makes a document of a row.
        prepared: the scorer.
    """
    tasks, finders = options.tasks, min(options.tasks, MOST_FINDERS)
    exact, minhash = exact_config(), minhash_config()
    schema = output_schema(inputs, options.prefix, prepared.here) if inputs.is_parquet else None
    unfinished = path_in(output, f"{UNFINISHED}/intermediate")

    def between(name: str) -> str:
        return path_in(output, f"logs/intermediate/{name}")

    def excluded(step: str, row: Callable | None = None) -> DiskWriter:
        return inputs.writer(output, f"excluded/{step}", row or RowAdapter(), schema)

    clean = [
        inputs.reader(adapter, paths_file=path_in(output, PATHS), limit=options.limit),
        ConversationRules(excluded("rules"), options.without_rules, options.prefix),
        *answer_filters(options, excluded),
        SaveDocuments(between("cleaned"), unfinished),
        WholeOutput(ExactDedupSignature(between("exact_signatures"), exact, finders), unfinished),
    ]
    find_exact = [
        WholeOutput(ExactFindDedups(between("exact_signatures"), between("exact_duplicates"), exact), unfinished)
    ]
    drop_exact = [
        LoadDocuments(between("cleaned")),
        DropExactDuplicates(
            between("exact_duplicates"), exact, excluded(EXACT_DUPLICATE, DroppedRowAdapter(EXACT_DUPLICATE))
        ),
        SaveDocuments(between("distinct"), unfinished),
        without_system,
        WholeOutput(MinhashDedupSignature(between("near_signatures"), minhash, options.language), unfinished),
    ]
    find_near = [
        WholeOutput(MinhashDedupBuckets(between("near_signatures"), between("near_pairs"), config=minhash), unfinished)
    ]
    cluster_near = [
        WholeOutput(MinhashDedupCluster(between("near_pairs"), between("near_duplicates"), minhash), unfinished)
    ]
    score = [
        LoadDocuments(between("distinct")),
        MinhashDedupFilter(between("near_duplicates"), excluded(NEAR_DUPLICATE, DroppedRowAdapter(NEAR_DUPLICATE))),
        QualityFilter(
            prepared.scorer,
            prefix=options.prefix,
            checkpoints_dir=options.checkpoints or path_in(output, "logs/checkpoints"),
            special_tokens=options.special_tokens,
            progress=options.progress,
        ),
        WholeOutput(QualityStats(path_in(output, "logs/statistics"), options.prefix, options.group_by), unfinished),
        QualityFilter(
            None,
            min_score=options.min_score,
            max_score=options.max_score,
            prefix=options.prefix,
            unscorable="drop",
            exclusion_writer=excluded("score"),
            progress=False,
        ),
        inputs.writer(output, "kept", RowAdapter(), schema),
    ]
    return [
        Stage("1-clean", tasks, clean, documents=True),
        Stage("2-find-exact", finders, find_exact),
        Stage("3-drop-exact", tasks, drop_exact, documents=True),
        Stage("4-find-near", minhash.num_buckets, find_near),
        Stage("5-cluster-near", 1, cluster_near),
        Stage("6-score", tasks, score, documents=True, scores=True),
    ]


def answer_filters(options: argparse.Namespace, excluded: Callable[[str], DiskWriter]) -> list[PipelineStep]:
    """DataTrove's filters of what the assistant says, the cheapest first."""
    words = options.language
    filters: list[PipelineStep] = [
        AnswerFilter(length_filter(words, options.min_words, options.max_words), excluded("length")),
        AnswerFilter(symbol_filter(words), excluded("symbols"), SHARES_FROM_CHARS),
        AnswerFilter(repetition_filter(words), excluded("repetition"), SHARES_FROM_CHARS),
    ]
    if options.keep_languages:
        judge = LanguageFilter(options.keep_languages, options.language_threshold)
        filters.append(AnswerFilter(judge, excluded("language"), LANGUAGE_FROM_CHARS, reason="other_language"))
    return filters


def chained(
    stages: list[Stage], options: argparse.Namespace, output: DataFolder, prepared: Preparation
) -> list[PipelineExecutor]:
    """An executor per stage, each after the one before, and a last one, which writes the table.

    Args:
        stages: in their order.
        options: the command line.
        output: the run's folder.
        prepared: the scorer.
    """
    unfinished = path_in(output, f"{UNFINISHED}/intermediate")
    folders = {stage.name: path_in(output, f"logs/counts/{stage.name}") for stage in stages if stage.documents}
    write_table = WriteTable(list(folders.values()), options.tasks, path_in(output, "logs/counts"), unfinished)
    executors: list[PipelineExecutor] = []
    refuse_while_queued(get_datafolder(path_in(output, "logs")))
    for stage in [*stages, Stage(f"{len(stages) + 1}-table", 1, [write_table])]:
        steps = counted(stage.pipeline, folders[stage.name], unfinished) if stage.documents else stage.pipeline
        executors.append(
            make_executor(
                options,
                steps,
                name=f"curate-{stage.name}",
                tasks=stage.tasks,
                logging_dir=path_in(output, f"logs/stages/{stage.name}"),
                gpu=stage.scores and needs_gpu(options, prepared.scorer),
                stage="gpu" if stage.scores else "cpu",
                depends=executors[-1] if executors else None,
                memory_gb=prepared.memory_gb if stage.scores else None,
                keeps_progress=stage.scores,
                overwrite=options.overwrite,
            )
        )
    return executors


def show_table(output: DataFolder, stages: list[Stage], tasks: int) -> None:
    """Print what every step dropped; end with an error if nothing was left to score."""
    folders = [get_datafolder(path_in(output, f"logs/counts/{stage.name}")) for stage in stages if stage.documents]
    counts = total_counts(folders, tasks)
    print(table(counts))
    print("Written to", ", ".join(path_in(output, name) for name in ("kept", "excluded")))
    if output.isdir(UNFINISHED):  # what killed tasks left
        output.rm(UNFINISHED, recursive=True)
    if output.isdir("logs/intermediate"):
        print("No longer needed:", path_in(output, "logs/intermediate"))
    if not counts[-1].came:
        sys.exit("error: no document was left to score; the table says what dropped them.")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = parser.add_argument
    add("input", metavar="INPUT", help="folder, file or glob in quotes, of .jsonl[.gz|.zst] or .parquet")
    add("--output", metavar="DIR", required=True, help="where kept/, excluded/ and logs/ are written")
    add_row_options(parser.add_argument_group("rows"), text=False)
    clean = parser.add_argument_group("cleaning (limits: pipelines/answer_filters.py)")
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
        help="DataTrove's code of the language whose words are told apart (default: eng, for any that has spaces)",
    )
    clean.add_argument("--keep-languages", nargs="+", metavar="CODE", help="such as pt en (default: all)")
    clean.add_argument(
        "--language-threshold", type=share, default=0.65, metavar="P", help="of a kept language (default: 0.65)"
    )
    model = parser.add_argument_group("classifier")
    model.add_argument("--model", default=CARD_MODEL, help=f"hub id or folder (default: {CARD_MODEL})")
    add_classifier_options(model)
    what = parser.add_argument_group("what is kept")
    add_score_options(what)
    what.add_argument(
        "--group-by", nargs="+", default=[], metavar="COLUMN", help="count scores by the values of columns too"
    )
    add_run_options(parser.add_argument_group("run"))
    add_executor_options(parser, stages=("cpu", "gpu"))


def check(options: argparse.Namespace) -> None:
    """Refuse options that contradict each other.

    Raises:
        ValueError: two options do not go together; says which to omit.
    """
    if options.min_words > options.max_words:
        raise ValueError(
            f"--min-words {options.min_words} is above --max-words {options.max_words}: none would be kept."
        )
