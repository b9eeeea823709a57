"""Curate conversations: clean, remove duplicates, score with a classifier, keep those that score well.

    python pipelines/curate_conversations.py data/ --output curated/ --min-score 4

reads JSONL or Parquet, writes `curated/kept`, and what was dropped, with its `filter_reason`, to a folder per step in
`curated/excluded`, in the same format with the scores as columns; ends with a table of what every step dropped. The
stages on CPUs and the one on GPUs are separate jobs on a cluster, each after the other:

    python pipelines/curate_conversations.py data/ --output curated/ --min-score 4 --tasks 100 \\
        --executor slurm --partition cpu=short,gpu=a100 --time cpu=2:00:00,gpu=8:00:00

Stopped and started again with the same arguments, it goes on where it stopped. See docs/curation.md.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from answer_filters import (
    LANGUAGE_FROM_CHARS,
    SHARES_FROM_CHARS,
    AnswerFilter,
    length_filter,
    repetition_filter,
    require_language_model,
    require_word_tokenizer,
    symbol_filter,
)
from conversation_rules import RULES, ConversationRules
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
from deduplication import (
    EXACT_DUPLICATE,
    NEAR_DUPLICATE,
    DropExactDuplicates,
    DroppedRowAdapter,
    exact_config,
    minhash_config,
    without_system,
)
from documents import LoadDocuments, SaveDocuments
from executors import (
    EXECUTOR_OPTIONS,
    SlurmExecutor,
    add_executor_options,
    make_executor,
    refuse_while_queued,
    require_complete,
    value_of,
)
from filter_conversations import (
    CARD_MODEL,
    MOST_TASKS,
    positive,
    read_text,
    refuse_overlap,
    refuse_wrong_schema,
    scale,
    scorer_config,
)
from inputs import PATHS, Inputs, find_inputs, path_in
from known_scores import output_schema
from loguru import logger
from outputs import WholeOutput
from preparation import Preparation
from run_record import claim_output, require_claimable
from step_counts import WriteTable, counted, table, total_counts

from datatrove_quality import ConversationAdapter, QualityFilter, QualityStats, RowAdapter, ScorerConfig
from datatrove_quality.conversation import SCHEMAS
from datatrove_quality.scorer import find_scorer


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


def main(arguments: list[str] | None = None) -> None:
    """Run the pipeline that the command line asks for.

    Args:
        arguments: the command line without the program's name; None: the process's own.
    """
    options = parse(arguments)
    inputs = find_inputs(options.input)
    output = get_datafolder(options.output)
    refuse_overlap(inputs, output)
    adapter = ConversationAdapter(schema=options.schema, messages_key=options.messages_key, id_key=options.id_key)
    refuse_wrong_schema(inputs, adapter)
    require_word_tokenizer(options.language)
    if options.keep_languages:
        require_language_model()
    tasks = options.tasks = options.tasks or min(len(inputs.sizes), MOST_TASKS)
    scorer = here = scorer_config(options)
    memory_gb = None
    if options.executor != "local":
        prepared = Preparation.of(scorer)
        scorer, here, memory_gb = prepared.scorer, prepared.here, prepared.memory_gb
        prepared.warn_of_loading(inputs, tasks, value_of(options, "tasks_per_job", "gpu") or 1, options.executor)
    found = find_scorer(here)
    found.renderer.require_template()
    stages = curation(options, inputs, output, adapter, scorer, here)
    asked = what_decides_the_output(options, inputs, tasks) | {"scorer": found.describe()}
    require_claimable(output, asked, options.overwrite)
    executors = chained(stages, options, output, memory_gb)

    claim_output(output, asked, options.overwrite)
    inputs.write_paths(output)
    if not options.keep_languages:
        logger.info("No filter by language: --keep-languages asks for one.")
    workers = value_of(options, "workers", "gpu") or 1
    if options.executor == "local" and workers > 1:
        # Each worker's torch would take all cores for itself, and their threads would wait for each other.
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
    executors[-1].run()  # and all before it
    queued = [stage for stage in executors if isinstance(stage, SlurmExecutor) and stage.is_queued]
    if queued:
        print("\n".join(stage.what_is_queued() for stage in queued))
        if not options.wait:
            print("When they have ended, the same command prints the table, or runs the tasks that are missing.")
            return
        for stage in queued:
            stage.wait()
    for executor in executors:
        require_complete(executor)
    show_table(output, stages, tasks)


def curation(
    options: argparse.Namespace,
    inputs: Inputs,
    output: DataFolder,
    adapter: Callable,
    scorer: ScorerConfig,
    here: ScorerConfig,
) -> list[Stage]:
    """The whole way of a document, from the input to one of the output's folders.

    Args:
        options: the command line.
        inputs: the files.
        output: the run's folder.
        adapter: makes a document of a row.
        scorer: for the tasks.
        here: the same to look at on this machine.
    """
    tasks, finders = options.tasks, min(options.tasks, MOST_FINDERS)
    exact, minhash = exact_config(), minhash_config()
    schema = output_schema(inputs, options.prefix, here) if inputs.is_parquet else None
    unfinished = path_in(output, "logs/unfinished/intermediate")

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
            scorer,
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
    stages: list[Stage], options: argparse.Namespace, output: DataFolder, memory_gb: int | None
) -> list[PipelineExecutor]:
    """An executor per stage, each of which starts the one before and waits for it; the last writes the table.

    Args:
        stages: in their order.
        options: the command line.
        output: the run's folder.
        memory_gb: what a task needs that loads the model.
    """
    unfinished = path_in(output, "logs/unfinished/intermediate")
    folders = {stage.name: path_in(output, f"logs/counts/{stage.name}") for stage in stages if stage.documents}
    write_table = WriteTable(list(folders.values()), options.tasks, path_in(output, "logs/counts"), unfinished)
    wants_gpu = value_of(options, "gpus_per_task", "gpu") is not None or options.device not in ("cpu", "mps")
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
                gpu=stage.scores and wants_gpu,
                stage="gpu" if stage.scores else "cpu",
                depends=executors[-1] if executors else None,
                memory_gb=memory_gb if stage.scores else None,
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
    if output.isdir("logs/unfinished"):  # what killed tasks left
        output.rm("logs/unfinished", recursive=True)
    if output.isdir("logs/intermediate"):
        print("No longer needed:", path_in(output, "logs/intermediate"))
    if not counts[-1].came:
        sys.exit("error: no document was left to score; the table says what dropped them.")


def what_decides_the_output(options: argparse.Namespace, inputs: Inputs, tasks: int) -> dict[str, Any]:
    """What a rerun into the same folder must share with the first run."""
    free = EXECUTOR_OPTIONS | {"input", "output", "overwrite", "device", "scale", "checkpoints", "progress"}
    asked = {name: value for name, value in vars(options).items() if name not in free}
    scale = options.scale and [options.scale.offset, options.scale.low, options.scale.high]
    return asked | {
        "pipeline": "curate_conversations",
        "scale": scale,
        "tasks": tasks,
        "input": inputs.folder.path,
        "files": inputs.sizes,
    }


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line's options, checked as far as they can be one by one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("input", metavar="INPUT", help="folder, file or glob of .jsonl[.gz|.zst] or .parquet")
    add("--output", metavar="DIR", required=True, help="where kept/, excluded/ and logs/ are written")
    rows = parser.add_argument_group("rows")
    rows.add_argument("--schema", default="auto", choices=SCHEMAS, help="of the rows (default: auto)")
    rows.add_argument("--messages-key", metavar="COLUMN", help="the column that holds the conversation")
    rows.add_argument("--id-key", default="id", metavar="COLUMN", help="the column that holds the id (default: id)")
    clean = parser.add_argument_group("cleaning (limits: pipelines/answer_filters.py)")
    clean.add_argument(
        "--without-rules",
        nargs="+",
        default=[],
        choices=tuple(RULES),
        metavar="RULE",
        help=f"leave out rules about turns, of {', '.join(RULES)}",
    )
    clean.add_argument("--min-words", type=int, default=1, metavar="N", help="of all answers (default: 1)")
    clean.add_argument("--max-words", type=int, default=100_000, metavar="N", help="of all answers (default: 100000)")
    clean.add_argument(
        "--language",
        default="eng",
        metavar="CODE",
        help="DataTrove's code of the language whose words are told apart (default: eng, for any that has spaces)",
    )
    clean.add_argument("--keep-languages", nargs="+", metavar="CODE", help="such as pt en (default: all)")
    clean.add_argument(
        "--language-threshold", type=float, default=0.65, metavar="P", help="of a kept language (default: 0.65)"
    )
    model = parser.add_argument_group("classifier")
    model.add_argument("--model", default=CARD_MODEL, help=f"hub id or folder (default: {CARD_MODEL})")
    model.add_argument("--revision", help="branch, tag or commit on the hub")
    model.add_argument("--scale", type=scale, metavar="OFFSET,LOW,HIGH", help="default: the model's own, else 1,1,5")
    model.add_argument("--chat-template", type=read_text, metavar="FILE", help="default: the tokenizer's own")
    model.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16 (default: auto)")
    model.add_argument("--max-tokens", type=int, metavar="N", help="cut longer texts (default: what the model takes)")
    model.add_argument("--device", default="auto", help="auto, cuda, cuda:N, mps or cpu (default: auto)")
    what = parser.add_argument_group("what is kept")
    what.add_argument("--min-score", type=float, metavar="X", help="keep scores from X on (default: no bound)")
    what.add_argument("--max-score", type=float, metavar="X", help="keep scores up to X (default: no bound)")
    what.add_argument("--prefix", default="quality", help="of the score columns' names (default: quality)")
    what.add_argument(
        "--special-tokens",
        choices=("allow", "reject"),
        default="allow",
        help="of messages that spell out a control token (default: allow)",
    )
    what.add_argument(
        "--group-by", nargs="+", default=[], metavar="COLUMN", help="count scores by the values of columns too"
    )
    run = parser.add_argument_group("run")
    run.add_argument("--tasks", type=positive, metavar="N", help="parts that resume one by one (default: files)")
    run.add_argument("--limit", type=positive, default=-1, metavar="N", help="at most N documents per task")
    run.add_argument(
        "--checkpoints", metavar="DIR", help="where scores are kept (default: in --output, logs/checkpoints)"
    )
    run.add_argument(
        "--progress", action=argparse.BooleanOptionalAction, help="of scoring: a bar and a log line a minute"
    )
    run.add_argument("--overwrite", action="store_true", help="delete an earlier run's output in DIR")
    add_executor_options(parser, stages=("cpu", "gpu"))
    options = parser.parse_args(arguments)
    if not 0 < options.min_words <= options.max_words:
        parser.error(f"--min-words {options.min_words} --max-words {options.max_words}: give 0 < MIN <= MAX.")
    if not 0 <= options.language_threshold <= 1:
        parser.error(f"--language-threshold {options.language_threshold}: give a probability, from 0 to 1.")
    return options


if __name__ == "__main__":
    # What SLURM and people send to end a run; as an exception it ends the workers too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(f"stopped by signal {number}"))
    try:
        main()
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")
