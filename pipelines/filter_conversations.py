"""Score conversations with a classifier and keep those that score well.

    python pipelines/filter_conversations.py data/ --output filtered/ --min-score 4

reads JSONL or Parquet, writes `filtered/kept` and `filtered/excluded` in the same format with the scores as columns,
and ends with a table of what it did. Stopped and started again with the same arguments, it goes on where it stopped.
Scores are kept in `filtered/logs/checkpoints` as they come: with `--overwrite` and another `--min-score` nothing is
computed again. Delete that folder when you are done. Rows that have scores get another threshold without the model:

    python pipelines/filter_conversations.py filtered/ --output stricter/ --scores-from-columns --min-score 4.5

`--executor slurm` or `ray` runs the tasks on a cluster: see docs/clusters.md.

Without INPUT it filters the demo conversations with the demo classifier.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datatrove.executor import LocalPipelineExecutor
from datatrove.io import DataFolder, get_datafolder
from datatrove.pipeline.base import PipelineStep
from executors import (
    EXECUTOR_OPTIONS,
    SlurmExecutor,
    add_executor_options,
    make_executor,
    require_complete,
    value_of,
)
from inputs import PATHS, Inputs, find_inputs, path_in
from known_scores import output_schema, refuse_mixed_scores, refuse_other_scores, refuse_without_scores
from preparation import Preparation, needs_gpu
from run_record import WRITTEN, claim_output, require_claimable
from summary import Summary

from datatrove_quality import (
    ConversationAdapter,
    QualityFilter,
    RowAdapter,
    ScorerConfig,
    ScoresAdapter,
    ScoreScale,
    TextAdapter,
    score_schema,
)
from datatrove_quality.conversation import CONVERSATION_ERROR, SCHEMAS, error_reason
from datatrove_quality.scorer import find_scorer


if TYPE_CHECKING:
    import pyarrow as pa


# A task costs some files and a copy of the pipeline; more files than this share tasks.
MOST_TASKS = 1_000

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
CARD_MODEL = "Polygl0t/portuguese-qwen3-4b-instruct-quality-classifier"
DEMO = {"input": EXAMPLES / "conversations.jsonl", "model": EXAMPLES / "demo-classifier", "min_score": 3.5}


def main(arguments: list[str] | None = None) -> None:
    """Run the pipeline that the command line asks for.

    Args:
        arguments: the command line without the program's name; None: the process's own.
    """
    options = parse(arguments)
    inputs = find_inputs(options.input)
    output = get_datafolder(options.output)
    refuse_overlap(inputs, output)

    adapter = row_adapter(options)
    tasks = options.tasks = options.tasks or min(len(inputs.sizes), MOST_TASKS)
    scorer = here = None if options.scores_from_columns else scorer_config(options)
    prepared = None
    if scorer is not None and options.executor != "local":
        prepared = Preparation.of(scorer)
        scorer, here = prepared.scorer, prepared.here
    fingerprint = require_scorer(options, inputs, adapter, here)
    build = scores_pipeline if options.scores_only else filter_pipeline
    pipeline = build(options, inputs, output, adapter, scorer, here)
    asked = what_decides_the_output(options, inputs, tasks) | fingerprint
    require_claimable(output, asked, options.overwrite)
    executor = make_executor(
        options,
        pipeline,
        name="filter_conversations",
        tasks=tasks,
        logging_dir=path_in(output, "logs"),
        gpu=value_of(options, "gpus_per_task") is not None or (scorer is not None and needs_gpu(scorer)),
        memory_gb=prepared.memory_gb if prepared else None,
        keeps_progress=checkpoints(options, output) is not None,
        overwrite=options.overwrite,
    )

    resumed = claim_output(output, asked, options.overwrite)
    inputs.write_paths(output)

    if isinstance(executor, LocalPipelineExecutor) and executor.workers > 1:
        # Each worker's torch would take all cores for itself, and their threads would wait for each other.
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // executor.workers)))
    if prepared is not None and executor.get_incomplete_ranks():
        prepared.warn_of_loading(inputs, tasks, value_of(options, "tasks_per_job") or 1, options.executor)
    started = time.perf_counter()
    executor.run()
    if isinstance(executor, SlurmExecutor) and executor.is_queued:
        print(executor.what_is_queued())
        if not options.wait:
            print("When they have ended, the same command prints the table, or runs the tasks that are missing.")
            return
        executor.wait()
    require_complete(executor)
    seconds = None if resumed or isinstance(executor, SlurmExecutor) else time.perf_counter() - started
    print_results(options, output, seconds)


def print_results(options: argparse.Namespace, output: DataFolder, seconds: float | None) -> None:
    """Say what all tasks of the run did together; end with an error if none of them could score anything."""
    summary = Summary.of_run(output, step=1)
    print(summary.table(seconds))
    if options.input == str(DEMO["input"]) and not options.scores_only:
        print_examples(output, options.prefix)
    folders = ("scores",) if options.scores_only else ("kept", "excluded")
    print("Written to", ", ".join(path_in(output, name) for name in folders))
    if summary.documents and not summary.scored:
        sys.exit(f"No document could be scored. {summary.commonest_reason()}")


def filter_pipeline(
    options: argparse.Namespace,
    inputs: Inputs,
    output: DataFolder,
    adapter: Callable,
    scorer: ScorerConfig | None,
    here: ScorerConfig | None,
) -> list[PipelineStep | Callable]:
    """Read, score, keep or exclude, write; `here` is the scorer to look at on this machine."""
    schema = output_schema(inputs, options.prefix, here) if inputs.is_parquet else None
    return [
        inputs.reader(adapter, paths_file=path_in(output, PATHS), limit=options.limit),
        QualityFilter(
            scorer,
            min_score=options.min_score,
            max_score=options.max_score,
            prefix=options.prefix,
            messages_key="messages" if options.text is None else None,
            unscorable=options.unscorable,
            exclusion_writer=inputs.writer(output, "excluded", RowAdapter(), schema),
            checkpoints_dir=checkpoints(options, output),
            special_tokens=options.special_tokens,
            reuse_scores=options.reuse_scores,
            progress=options.progress,
            documents_per_task=inputs.documents_per_task(options.tasks, options.limit),
        ),
        inputs.writer(output, "kept", RowAdapter(), schema),
    ]


def scores_pipeline(
    options: argparse.Namespace,
    inputs: Inputs,
    output: DataFolder,
    adapter: Callable,
    scorer: ScorerConfig | None,
    here: ScorerConfig | None,
) -> list[PipelineStep | Callable]:
    """Read, score, write one row of scores per input row, in order."""
    schema = score_schema(sidecar_schema(), options.prefix, here) if inputs.is_parquet else None
    return [
        inputs.reader(adapter, paths_file=path_in(output, PATHS), limit=options.limit),
        QualityFilter(
            scorer,
            prefix=options.prefix,
            messages_key="messages" if options.text is None else None,
            unscorable=options.unscorable or "keep",
            checkpoints_dir=checkpoints(options, output),
            special_tokens=options.special_tokens,
            reuse_scores=options.reuse_scores,
            progress=options.progress,
            documents_per_task=inputs.documents_per_task(options.tasks, options.limit),
        ),
        inputs.writer(output, "scores", ScoresAdapter(options.prefix), schema),
    ]


def checkpoints(options: argparse.Namespace, output: DataFolder) -> str | None:
    """Where scores are kept as they come."""
    if options.no_checkpoints or options.scores_from_columns:
        return None
    return options.checkpoints or path_in(output, "logs/checkpoints")


def sidecar_schema() -> "pa.Schema":
    """The columns of a sidecar beside the scores."""
    import pyarrow as pa

    return pa.schema([("id", pa.string()), ("file_path", pa.string())])


def row_adapter(options: argparse.Namespace) -> ConversationAdapter | TextAdapter:
    """The adapter for the rows that the options describe."""
    if options.text is not None:
        return TextAdapter(options.text, id_key=options.id_key)
    return ConversationAdapter(schema=options.schema, messages_key=options.messages_key, id_key=options.id_key)


def scorer_config(options: argparse.Namespace) -> ScorerConfig:
    """The scorer that the options ask for."""
    return ScorerConfig(
        model=options.model,
        revision=options.revision,
        dtype=options.dtype,
        max_tokens=options.max_tokens,
        scale=options.scale,
        chat_template=options.chat_template,
        device=options.device,
    )


def require_scorer(
    options: argparse.Namespace, inputs: Inputs, adapter: Callable, scorer: ScorerConfig | None
) -> dict[str, Any]:
    """What makes the scores; refuses rows that it cannot score, and to mix scores of different making."""
    if scorer is None:
        refuse_without_scores(inputs, adapter, options.prefix)
        return {"scorer": refuse_mixed_scores(inputs, options.prefix)}
    found = find_scorer(scorer)
    if options.text is None:
        found.renderer.require_template()
    refuse_wrong_schema(inputs, adapter)
    if options.reuse_scores:
        refuse_other_scores(inputs, options.prefix, found)
    return {"scorer": found.describe()}


def print_examples(output: DataFolder, prefix: str, count: int = 3) -> None:
    """The first rows on both sides of the threshold, cut to a line each, so that a demo shows what it did."""
    for folder in ("kept", "excluded"):
        for path in output.list_files(folder)[:1]:
            with output.open(path, "r") as file:
                rows = [row for row in map(json.loads, file) if f"{prefix}_score" in row]
            for row in rows[:count]:
                question, answer = (" ".join(message["content"].split()) for message in row["messages"][-2:])
                print(f"{folder:<10}{row[f'{prefix}_score']:5.2f}  {question:.44} → {answer:.56}")


def what_decides_the_output(options: argparse.Namespace, inputs: Inputs, tasks: int) -> dict[str, Any]:
    """What a rerun into the same folder must share with the first run."""
    free = {"input", "output", "overwrite", "device", "scale", "tasks", "checkpoints", "no_checkpoints", "progress"}
    free |= EXECUTOR_OPTIONS
    asked = {name: value for name, value in vars(options).items() if name not in free}
    scale = options.scale and [options.scale.offset, options.scale.low, options.scale.high]
    return asked | {"scale": scale, "tasks": tasks, "input": inputs.folder.path, "files": inputs.sizes}


def refuse_overlap(inputs: Inputs, output: DataFolder) -> None:
    """Refuse an output folder that the next run would read, or an input that this run would overwrite."""
    source, target = (real_path(folder) for folder in (inputs.folder, output))
    if source == target or (inputs.searched and target.startswith(source)):
        raise ValueError(f"--output {target} is or lies in the input folder {source}: give a folder outside of it.")
    written = tuple(f"{target}{name}/" for name in WRITTEN)
    files = (path_in(inputs.folder, path) for path in inputs.sizes)
    if any((os.path.realpath(file) if inputs.folder.is_local() else file).startswith(written) for file in files):
        raise ValueError(f"INPUT {source} is the output of a run into {target}: give another --output.")


def real_path(folder: DataFolder) -> str:
    """A folder's path or address with a slash at its end, and without symbolic links."""
    path = path_in(folder, "")
    return (os.path.realpath(path) if folder.is_local() else path).rstrip("/") + "/"


def refuse_wrong_schema(inputs: Inputs, adapter: Callable) -> None:
    """Refuse a corpus in whose first thousand rows no column holds what is to be scored."""
    errors = [doc.metadata.get(CONVERSATION_ERROR) for doc in inputs.sample(adapter, 1_000)]
    if errors and all(error and error_reason(error) == "missing_column" for error in errors):
        raise ValueError(
            f"None of the first {len(errors)} rows can be scored. {errors[0]}\n"
            "Set --schema or --messages-key to where the conversations are; plain text is scored with --text [COLUMN]."
        )


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line's options, checked as far as they can be one by one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("input", nargs="?", metavar="INPUT", help="folder, file or glob of .jsonl[.gz|.zst] or .parquet")
    add("--output", metavar="DIR", help="where kept/, excluded/ and logs/ are written")
    model = parser.add_argument_group("classifier")
    model.add_argument("--model", help=f"hub id or folder (default: {CARD_MODEL})")
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
        "--unscorable", choices=("drop", "keep", "raise"), help="default: keep without bounds, else drop"
    )
    what.add_argument("--scores-only", action="store_true", help="write DIR/scores, a row per input row")
    what.add_argument("--reuse-scores", action="store_true", help="score only rows without a score in their columns")
    what.add_argument(
        "--scores-from-columns", action="store_true", help="score nothing: filter by the scores in the columns"
    )
    what.add_argument(
        "--special-tokens",
        choices=("allow", "reject"),
        default="allow",
        help="of messages that spell out a control token (default: allow)",
    )
    rows = parser.add_argument_group("rows")
    rows.add_argument("--schema", default="auto", choices=SCHEMAS, help="of the rows (default: auto)")
    rows.add_argument("--messages-key", metavar="COLUMN", help="the column that holds the conversation")
    rows.add_argument("--id-key", default="id", metavar="COLUMN", help="the column that holds the id (default: id)")
    rows.add_argument("--text", nargs="?", const="text", metavar="COLUMN", help="score plain text (column: text)")
    run = parser.add_argument_group("run")
    run.add_argument("--tasks", type=positive, metavar="N", help="parts that resume one by one (default: files)")
    run.add_argument("--limit", type=positive, default=-1, metavar="N", help="at most N documents per task")
    run.add_argument(
        "--checkpoints", metavar="DIR", help="where scores are kept (default: in --output, logs/checkpoints)"
    )
    run.add_argument("--no-checkpoints", action="store_true", help="keep none: a task that stops starts anew")
    run.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        help="a bar and a log line a minute (default: a bar on a terminal only)",
    )
    run.add_argument("--overwrite", action="store_true", help="delete an earlier run's output in DIR")
    add_executor_options(parser)
    options = parser.parse_args(arguments)
    if options.scores_from_columns:
        refuse_what_scores(parser, options)
        return options
    if options.input is None:
        use_demo(options)
    if options.output is None:
        parser.error("--output DIR is needed: where are the results to go?")
    if options.scores_only and not (options.min_score is None and options.max_score is None):
        parser.error("--scores-only drops nothing: leave --min-score and --max-score away.")
    if options.scores_only and options.unscorable == "drop":
        parser.error("--scores-only writes a row for each row: --unscorable drop does not go with it.")
    if options.text is not None and (options.schema != "auto" or options.messages_key):
        parser.error("--text scores plain text: --schema and --messages-key do not go with it.")
    options.model = options.model or CARD_MODEL
    return options


def refuse_what_scores(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Options that have no effect where nothing is scored are a mistake."""
    if options.input is None or options.output is None:
        parser.error("--scores-from-columns needs INPUT, rows with scores, and --output DIR.")
    scoring = ("model", "revision", "scale", "chat_template", "dtype", "max_tokens", "device", "special_tokens")
    for name in (*scoring, "reuse_scores", "scores_only", "checkpoints", "no_checkpoints"):
        if getattr(options, name) != parser.get_default(name):
            parser.error(f"--scores-from-columns scores nothing: --{name.replace('_', '-')} does not go with it.")


def use_demo(options: argparse.Namespace) -> None:
    """Fill in the demo where the command line leaves things open."""
    options.input = str(DEMO["input"])
    options.model = options.model or str(DEMO["model"])
    options.output = options.output or "demo-output"
    if not options.scores_only and options.min_score is None and options.max_score is None:
        options.min_score = DEMO["min_score"]


def scale(text: str) -> ScoreScale:
    """`OFFSET,LOW,HIGH` as a scale."""
    try:
        offset, low, high = text.split(",")
        return ScoreScale(float(offset), int(low), int(high))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: give OFFSET,LOW,HIGH, such as 1,1,5 ({error})") from error


def positive(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number from 1")
    return int(text)


def read_text(path: str) -> str:
    """The text of a file."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(f"{path!r} cannot be read as text: {error}") from error


if __name__ == "__main__":
    # What SLURM and people send to end a run; as an exception it ends the workers too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(f"stopped by signal {number}"))
    try:
        main()
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")
