"""Ask an LLM judge about each conversation, and write its level and reason as columns.

    datatrove-quality annotate data/ --output annotated/ --rubric instruct-quality-pt \\
        --endpoint http://localhost:8000/v1 --model Qwen/Qwen2.5-32B-Instruct

reads JSONL, CSV or Parquet and writes `annotated/rows` in the same format. Each row ends with `judge_score` or
`judge_error`. The endpoint is any server with OpenAI's interface, such as vLLM's; an API key is read from the
environment variable OPENAI_API_KEY. Stopped and started again with the same arguments, it requests only the missing
answers. `--show 2` prints the prompts of two rows, and sends nothing. Then

    datatrove-quality train annotated/ --labels judge_score --model Qwen/Qwen3-0.6B --output classifier/

Needs the extra `annotate`.
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from datatrove_quality.annotation.config import Connection, JudgeConfig
from datatrove_quality.annotation.rubric import Rubric, load_rubric, shipped_rubrics
from datatrove_quality.annotation.sample_config import LENGTH, SampleConfig
from datatrove_quality.cli.checks import require_writable
from datatrove_quality.cli.executor_options import add_executor_options
from datatrove_quality.cli.fields import add_fields, filled
from datatrove_quality.cli.option_types import number, positive
from datatrove_quality.cli.options import add_row_options, add_run_options, messages_key, row_adapter
from datatrove_quality.cli.running import execute, make_run
from datatrove_quality.extras import require_extra


if TYPE_CHECKING:
    from collections.abc import Callable

    from datatrove.data import Document
    from datatrove.pipeline.base import PipelineStep

    from datatrove_quality.annotation.select_rows import TakeSample
    from datatrove_quality.annotation.step import LLMJudge
    from datatrove_quality.runs.run import Run, RunResult

RESUMES = True

JUDGE_OPTIONS = ("samples", "logprobs", "retries", "tokenizer")
SAMPLE_OPTIONS = ("sample", "flatten", "scores", "hold_out", "seed")
CONNECTION_OPTIONS = ("api_key_env", "concurrency", "timeout", "patience")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = parser.add_argument
    add("input", metavar="INPUT", help="folder, file or glob in quotes, of .jsonl, .json, .csv or .parquet")
    add("--output", metavar="DIR", required=True, help="where rows/ and logs/ are written")
    judge = parser.add_argument_group("judge")
    judge.add_argument(
        "--rubric", required=True, metavar="NAME", help=f"a .toml file, or one of {', '.join(shipped_rubrics())}"
    )
    judge.add_argument("--model", default="", help="the name under which the endpoint serves the judge")
    add_fields(judge, JudgeConfig, JUDGE_OPTIONS)
    judge.add_argument(
        "--mask-pii", action="store_true", help="mask personal data before anything is sent; rows are written masked"
    )
    judge.add_argument(
        "--canary",
        metavar="FILE",
        help="judge these rows too, and say how far the judge has moved since the last time",
    )
    judge.add_argument("--show", type=positive, metavar="N", help="print the prompts of N rows, and send nothing")
    endpoint = parser.add_argument_group("endpoint")
    endpoint.add_argument("--endpoint", default="", metavar="URL", help="its address up to and including /v1")
    add_fields(endpoint, Connection, CONNECTION_OPTIONS)
    endpoint.add_argument(
        "--max-failures",
        type=number,
        default=0.2,
        metavar="P",
        help="stop when more than this share of answers cannot be used (default: 0.2)",
    )
    endpoint.add_argument(
        "--price-per-million", type=prices, metavar="IN,OUT", help="of prompt and answer tokens, for the estimate"
    )
    sample = parser.add_argument_group("which rows")
    add_fields(sample, SampleConfig, SAMPLE_OPTIONS)
    by = f"columns, or {LENGTH}, whose values each get their share of the sample: source,length"
    sample.add_argument("--by", type=lambda text: tuple(text.split(",")), default=(), metavar="COLUMNS", help=by)
    add_row_options(parser.add_argument_group("rows"))
    add_run_options(parser.add_argument_group("run"))
    add_executor_options(parser)


def prices(text: str) -> tuple[float, float]:
    """`IN,OUT` as two numbers."""
    parts = [number(part) for part in text.split(",")]
    if len(parts) != 2 or min(parts) < 0:
        raise argparse.ArgumentTypeError(f"{text!r}: give IN,OUT, such as 0.15,0.60")
    return parts[0], parts[1]


def run(options: argparse.Namespace) -> None:
    """Annotate as the command line says.

    Args:
        options: the command line.
    """
    judge, connection, sample = settings_of(options)
    require_extra("annotate", "datatrove-quality annotate")
    from datatrove_quality.annotation.background_judge import require_endpoint
    from datatrove_quality.annotation.estimate import SAMPLE
    from datatrove_quality.annotation.select_rows import WriteHeldOut
    from datatrove_quality.annotation.step import LLMJudge
    from datatrove_quality.runs.inputs import require_scorable

    adapter = row_adapter(options)
    started = make_run(options, "annotate")
    require_scorable(started.inputs, adapter)
    step = LLMJudge(
        judge,
        connection,
        messages_key=messages_key(options),
        checkpoints_dir=options.checkpoints or started.checkpoints,
        max_failures=options.max_failures,
        progress=options.progress,
        documents_per_task=started.inputs.documents_per_task(started.tasks, options.limit),
    )
    before = [masking(options.text is None)] if options.mask_pii else []
    documents = masked(before, started.inputs.sample(adapter, options.show or SAMPLE))
    if options.show:
        show(step, documents)
        return
    require_endpoint(step.connection, step.judge.model)
    if options.canary:
        look_at_canary(options.canary, step, adapter, before)
    drawn = [] if sample.takes_all else draw(sample, started, adapter, judge.rubric)
    if drawn:
        step.documents_per_task = [len(task.chosen) for task in drawn[0].tasks]
    say_what_it_takes(options, started, step, documents)
    apart = [WriteHeldOut(started.writer("held-out"))] if sample.hold_out else []
    pipeline = [started.reader(adapter), *drawn, *before, step, *apart, started.writer("rows")]
    annotate(options, started, pipeline)


def settings_of(options: argparse.Namespace) -> tuple[JudgeConfig, Connection, SampleConfig]:
    """What the options describe; refuses what they alone show to be a mistake.

    Raises:
        ValueError: says what to change.
    """
    rubric = load_rubric(options.rubric)
    if options.show:
        options.model, options.endpoint = options.model or "none", options.endpoint or "http://localhost/v1"
    for name in ("model", "endpoint"):
        if not getattr(options, name):
            raise ValueError(f"--{name} is missing: give the {'judge' if name == 'model' else 'address'}.")
    judge = filled(JudgeConfig, argparse.Namespace(**vars(options) | {"rubric": rubric}))
    connection = filled(Connection, options)
    sample = filled(SampleConfig, options)
    if not sample.takes_all and options.limit != -1:
        raise ValueError("--limit takes the first rows of each task: omit it beside --sample and --hold-out.")
    require_writable(options.output)
    return judge, connection, sample


def draw(sample: SampleConfig, started: "Run", adapter: "Callable", rubric: Rubric) -> "list[TakeSample]":
    """The step that passes on the rows of a sample, which are drawn here."""
    from datatrove_quality.annotation.sampling import draw_task_samples
    from datatrove_quality.annotation.select_rows import TakeSample

    scale = (rubric.values[0], rubric.values[-1])
    return [TakeSample(sample, draw_task_samples(started.inputs, adapter, sample, started.tasks, scale))]


def look_at_canary(path: str, step: "LLMJudge", adapter: "Callable", before: "list[PipelineStep]") -> None:
    """Ask about known rows, and print how far the judge has moved since the last time."""
    from datatrove_quality.annotation.canary import history_of, judge_canary, remember
    from datatrove_quality.runs.inputs import find_inputs

    inputs = find_inputs(path)
    reader = inputs.reader(adapter)
    documents = [document for name in inputs.sizes for document in reader.read_file(name)]
    now = judge_canary(step, masked(before, documents))
    last = remember(history_of(Path(path)), now)
    moved = "judged for the first time by this rubric" if last is None else now.moved_since(last)
    print(f"Canary: {moved}", file=sys.stderr)


def masking(conversations: bool) -> "PipelineStep":
    """The step that masks personal data in conversations or in texts."""
    from datatrove_quality.curation.personal_data import MaskPII
    from datatrove_quality.rows.per_message import PerMessage

    return PerMessage(MaskPII()) if conversations else MaskPII()


def masked(before: "list[PipelineStep]", documents: "list[Document]") -> "list[Document]":
    """The documents as they are sent."""
    for masker in before:
        documents = list(masker.run(iter(documents)) or ())  # type: ignore[arg-type]
    return documents


def show(step: "LLMJudge", documents: "list[Document]") -> None:
    """Print the prompts of some documents, as they would be sent."""
    for document, prompt in zip(documents, step.prompts(documents), strict=True):
        print(f"===== {document.id}")
        print(getattr(prompt, "text", f"not sent: {prompt}"))


def say_what_it_takes(
    options: argparse.Namespace, started: "Run", step: "LLMJudge", documents: "list[Document]"
) -> None:
    """Print an estimate of requests, tokens and cost."""
    from datatrove_quality.annotation.estimate import Estimate, rows_in
    from datatrove_quality.annotation.prompt import Prompt
    from datatrove_quality.rows.types import conversation_error

    sampled = options.sample is not None and step.documents_per_task
    if sampled:  # of rows that hold a conversation
        documents = [document for document in documents if conversation_error(document.metadata) is None]
    prompts = [prompt for prompt in step.prompts(documents) if isinstance(prompt, Prompt)]
    rows = sum(sampled) if sampled else rows_in(started.inputs, options.limit, started.tasks)
    expected = Estimate.of(step.judge, prompts, len(prompts) / max(1, len(documents)), rows)
    print(f"Estimated: {expected.text(options.price_per_million)}", file=sys.stderr)


def annotate(options: argparse.Namespace, started: "Run", pipeline: "list[PipelineStep]") -> None:
    """Run the pipeline and print what became of the rows.

    Raises:
        SystemExit: the endpoint no longer answers, or too many answers cannot be used.
    """
    from datatrove_quality.annotation.endpoint import EndpointUnusable
    from datatrove_quality.annotation.step import TooManyFailures

    try:
        result = execute(started, pipeline)
    except (EndpointUnusable, TooManyFailures) as error:  # in the midst of a run: not the command line's fault
        sys.exit(str(error))
    if result is not None:
        print_result(options, started, result)


def print_result(options: argparse.Namespace, started: "Run", result: "RunResult") -> None:
    """Print what became of the rows, where everything is, and what to type next.

    Raises:
        SystemExit: no row has a label.
    """
    from datatrove_quality.annotation.summary import AnnotationSummary

    summary = AnnotationSummary.of_run(started.output)
    print(summary.table(result.seconds, options.price_per_million))
    rows = started.path("rows")
    lines = {
        "judge": f"{options.model}, by {options.rubric}",
        "rows": rows,
        **({"held out": started.path("held-out")} if options.hold_out else {}),
        "logs": started.path("logs"),
        "next": f"datatrove-quality train {shlex.quote(rows)} --labels judge_score --model MODEL --output DIR",
    }
    print("\n".join(f"{name:<12}{text}" for name, text in lines.items()))
    if problem := summary.problem():
        sys.exit(problem)
