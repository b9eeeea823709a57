"""Options that several subcommands share, and the values that they set.

Their types are in option_types.py. The options of where tasks run are in executor_options.py.
"""

import argparse
from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from datatrove_quality.cli.fields import Reader, add_fields, filled
from datatrove_quality.cli.option_types import number, positive, text_file
from datatrove_quality.config import DTYPES, PROBLEM_TYPES, ScorerConfig
from datatrove_quality.rows.layouts import SCHEMAS, Where


if TYPE_CHECKING:
    from datatrove_quality.evaluation.sample_weights import SampleWeights
    from datatrove_quality.rows.to_document import ConversationAdapter, TextAdapter

CARD_MODEL = "Polygl0t/portuguese-qwen3-4b-instruct-quality-classifier"

# Fields of `ScorerConfig` that are options, beside `model`; those that most users need come first, in help too.
CLASSIFIER_OPTIONS = (
    *("device", "dtype", "max_tokens", "tokens_per_batch", "revision", "scale", "score_of", "problem_type"),
    *("chat_template", "template_date", "add_bos_token", "allow_unexpected", "allow_constant_scores", "compile"),
)

# Fields of `ConversationAdapter` that are options, beside `id_key`; likewise.
ROW_OPTIONS = (*(field.name for field in fields(Where) if field.name != "schema"), "schema")


def add_classifier_options(group: argparse._ArgumentGroup) -> None:
    """Options of a `ScorerConfig` beside `--model`."""
    readers: dict[str, Reader] = {
        "chat_template": (text_file, "FILE"),
        "template_date": (str, "DATE"),
        "allow_unexpected": (str, "GLOB"),
        "score_of": (str, "NAME"),
    }
    add_fields(group, ScorerConfig, CLASSIFIER_OPTIONS, {"dtype": DTYPES, "problem_type": PROBLEM_TYPES}, readers)


def add_score_options(group: argparse._ArgumentGroup) -> None:
    """Options that say which scores are kept, and under which names."""
    add = group.add_argument
    add("--min-score", type=number, metavar="X", help="keep scores from X on (default: no bound)")
    add("--max-score", type=number, metavar="X", help="keep scores up to X (default: no bound)")
    add("--prefix", default="quality", help="of the score columns' names (default: quality)")
    sources = "columns that name a row's source; none of a source's first 1,000 rows can be scored: the run stops"
    add("--group-by", nargs="+", default=[], metavar="COLUMN", help=sources)
    add("--allow-outside-scale", action="store_true", help="take a bound that is outside the scale of the scores")


def add_reading_options(group: argparse._ArgumentGroup) -> None:
    """Options that say what of a row is scored."""
    add_rendering_options(group)
    group.add_argument(
        "--all-answers", action="store_true", help="score each answer of rows that have several, as lists"
    )


def add_rendering_options(group: argparse._ArgumentGroup | argparse.ArgumentParser) -> None:
    """Options that say which conversations are scored, and with what of the row."""
    group.add_argument(
        "--special-tokens",
        choices=("allow", "reject"),
        default="allow",
        help="conversations whose messages spell out a control token; rejected ones are unscorable (default: allow)",
    )
    add_template_options(group)


def add_template_options(group: argparse._ArgumentGroup | argparse.ArgumentParser) -> None:
    """Options that say what is rendered."""
    add = group.add_argument
    add("--allow-no-answer", action="store_true", help="score conversations without a message of the assistant")
    add("--render-tools", action="store_true", help="pass the rows' tool definitions to the chat template")


def add_row_options(group: argparse._ArgumentGroup, ids: bool = True, text: bool = True) -> None:
    """Options of `row_adapter`, which say where in a row the conversation is.

    Args:
        group: to which they are added.
        ids: whether it matters which column holds the id.
        text: whether rows may be plain text.
    """
    group.set_defaults(id_key="id", text=None)
    readers: dict[str, Reader] = dict.fromkeys(ROW_OPTIONS, (str, "COLUMN"))
    add_fields(group, Where, ROW_OPTIONS, {"schema": SCHEMAS}, readers)
    add = group.add_argument
    if text:
        add("--text", nargs="?", const="text", metavar="COLUMN", help="rows are plain text (column: text)")
    if ids:
        add("--id-key", metavar="COLUMN", help="the column of the id (default: id)")


def add_run_options(group: argparse._ArgumentGroup) -> None:
    """Options of a run that can be stopped and started again."""
    add = group.add_argument
    add("--overwrite", action="store_true", help="delete an earlier run's output in DIR")
    add("--tasks", type=positive, metavar="N", help="parts that resume one by one (default: files)")
    add("--limit", type=positive, default=-1, metavar="N", help="at most N documents per task")
    add(
        "--progress",
        action=argparse.BooleanOptionalAction,
        help="of scoring: a bar and a log line a minute (default: a bar on a terminal only)",
    )
    add_verbose_option(group)
    add("--checkpoints", metavar="DIR", help="where scores are kept (default: in --output, logs/checkpoints)")


def add_verbose_option(group: argparse._ActionsContainer) -> None:
    """The option that shows the whole log."""
    group.add_argument(
        "--verbose", action="store_true", help="show all of the log, not only warnings (log files have all of it)"
    )


def add_weight_options(group: argparse._ActionsContainer) -> None:
    """Options of how rows of a sample are weighted."""
    add = group.add_argument
    weights = "the column of how many rows each row stands for (default: sample_weight, where rows have it)"
    add("--weights", metavar="COLUMN", help=weights)
    add("--unweighted", action="store_true", help="count each row once, also where rows have sample_weight")


def sample_weights(options: argparse.Namespace) -> "SampleWeights":
    """What reads the weights that the options of `add_weight_options` describe.

    Raises:
        ValueError: they contradict each other.
    """
    from datatrove_quality.evaluation.sample_weights import SampleWeights

    if options.unweighted and options.weights is not None:
        raise ValueError("--unweighted counts each row once: omit --weights.")
    return SampleWeights(options.weights, not options.unweighted)


def row_adapter(options: argparse.Namespace) -> "ConversationAdapter | TextAdapter":
    """The adapter for the rows that the options of `add_row_options` describe.

    Raises:
        ValueError: they are said to be both conversations and plain text.
    """
    from datatrove_quality.rows.to_document import ConversationAdapter, TextAdapter

    if options.text is None:
        return filled(ConversationAdapter, options)
    require_effect(options, add_row_options, ROW_OPTIONS, "--text is for plain text")
    return TextAdapter(options.text, id_key=options.id_key)


def messages_key(options: argparse.Namespace) -> str | None:
    """Where `row_adapter` puts what is scored: the `messages_key` of the steps."""
    return "messages" if options.text is None else None


def require_effect(
    options: argparse.Namespace,
    add_options: Callable[[Any], None],
    names: Iterable[str],
    why: str,
) -> None:
    """Refuse an option that has no effect beside another one: giving it is a mistake.

    Args:
        options: the command line.
        add_options: the function that added them to a parser or a group, for their defaults.
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
