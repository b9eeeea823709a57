"""Options that several subcommands share, and the values that they stand for.

Their types are in option_types.py. The options of where tasks run are in executor_options.py.
"""

import argparse
from collections.abc import Callable, Iterable

from datatrove_quality.cli.option_types import number, positive, scale, text_file
from datatrove_quality.config import ScorerConfig
from datatrove_quality.rows.layouts import SCHEMAS
from datatrove_quality.rows.to_document import ConversationAdapter, TextAdapter


CARD_MODEL = "Polygl0t/portuguese-qwen3-4b-instruct-quality-classifier"

# Those of `add_classifier_options`, by the names under which argparse keeps them.
_HOW_IT_COMPUTES = ("tokens_per_batch", "compile", "allow_unexpected", "allow_constant_scores")
CLASSIFIER_OPTIONS = ("revision", "scale", "chat_template", "dtype", "max_tokens", "device", *_HOW_IT_COMPUTES)


def add_classifier_options(group: argparse._ArgumentGroup) -> None:
    """Options of `scorer_config` beside `--model`."""
    add = group.add_argument
    add("--revision", help="branch, tag or commit on the hub")
    add("--scale", type=scale, metavar="OFFSET,LOW,HIGH", help="default: the model's own, else 1,1,5")
    add("--chat-template", type=text_file, metavar="FILE", help="default: the tokenizer's own")
    add("--dtype", default="auto", help="auto, float32, bfloat16 or float16 (default: auto)")
    add("--max-tokens", type=positive, metavar="N", help="cut longer texts (default: what the model takes)")
    add("--device", default="auto", help="auto, cuda, cuda:N, mps or cpu (default: auto)")
    add("--tokens-per-batch", type=positive, metavar="N", help="at once (default: by the device's memory)")
    add("--compile", action="store_true", help="torch.compile the model: docs/throughput.md")
    add(
        "--allow-unexpected",
        action="append",
        metavar="GLOB",
        help="stored tensors that the model may leave unused although they belong to it; may be given again",
    )
    add("--allow-constant-scores", action="store_true", help="take a model that gives all texts the same score")


def add_score_options(group: argparse._ArgumentGroup) -> None:
    """Options that say which scores are kept, and under which names."""
    add = group.add_argument
    add("--min-score", type=number, metavar="X", help="keep scores from X on (default: no bound)")
    add("--max-score", type=number, metavar="X", help="keep scores up to X (default: no bound)")
    add("--prefix", default="quality", help="of the score columns' names (default: quality)")
    add(
        "--special-tokens",
        choices=("allow", "reject"),
        default="allow",
        help="of messages that spell out a control token (default: allow)",
    )


def add_row_options(group: argparse._ArgumentGroup, ids: bool = True, text: bool = True) -> None:
    """Options of `row_adapter`, which say where in a row the conversation is.

    Args:
        group: to which they are added.
        ids: whether it matters which column holds the id.
        text: whether rows may be plain text.
    """
    group.set_defaults(id_key="id", text=None)
    add = group.add_argument
    add("--schema", default="auto", choices=SCHEMAS, help="of the rows (default: auto)")
    add("--messages-key", default=None, metavar="COLUMN", help="the column that holds the conversation")
    if ids:
        add("--id-key", metavar="COLUMN", help="the column that holds the id (default: id)")
    if text:
        add("--text", nargs="?", const="text", metavar="COLUMN", help="rows are plain text (column: text)")


def add_run_options(group: argparse._ArgumentGroup) -> None:
    """Options of a run that can be stopped and started again."""
    add = group.add_argument
    add("--tasks", type=positive, metavar="N", help="parts that resume one by one (default: files)")
    add("--limit", type=positive, default=-1, metavar="N", help="at most N documents per task")
    add("--checkpoints", metavar="DIR", help="where scores are kept (default: in --output, logs/checkpoints)")
    add(
        "--progress",
        action=argparse.BooleanOptionalAction,
        help="of scoring: a bar and a log line a minute (default: a bar on a terminal only)",
    )
    add("--overwrite", action="store_true", help="delete an earlier run's output in DIR")


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
        tokens_per_batch=options.tokens_per_batch,
        compile=options.compile,
        allow_unexpected=tuple(options.allow_unexpected or ()),
        allow_constant_scores=options.allow_constant_scores,
    )


def row_adapter(options: argparse.Namespace) -> ConversationAdapter | TextAdapter:
    """The adapter for the rows that the options of `add_row_options` describe.

    Raises:
        ValueError: they are said to be both conversations and plain text.
    """
    if options.text is not None:
        if options.schema != "auto" or options.messages_key:
            raise ValueError("--text is for plain text: --schema and --messages-key do not go with it.")
        return TextAdapter(options.text, id_key=options.id_key)
    return ConversationAdapter(schema=options.schema, messages_key=options.messages_key, id_key=options.id_key)


def refuse_without_effect(
    options: argparse.Namespace,
    add_options: Callable[[argparse.ArgumentParser], None],
    names: Iterable[str],
    why: str,
) -> None:
    """Refuse an option that has no effect beside another one: giving it is a mistake.

    Args:
        options: the command line.
        add_options: the function that added its options to the parser, for their defaults.
        names: of the options that have no effect.
        why: the beginning of the message, which names the other option.

    Raises:
        ValueError: one of them was given.
    """
    parser = argparse.ArgumentParser()
    add_options(parser)
    for name in names:
        if getattr(options, name) != parser.get_default(name):
            raise ValueError(f"{why}: omit --{name.replace('_', '-')}.")
