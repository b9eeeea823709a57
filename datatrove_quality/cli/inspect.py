"""Show, for a few rows, what would be scored: the layout, the columns, and the text that the classifier reads.

    datatrove-quality inspect data/ --model classifier/

prints which layout was recognised, which columns hold parts of the conversation and which do not, the rendered text
and its number of tokens. No weights are loaded and nothing is written. Look at it before you filter a corpus.
"""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from datatrove_quality.cli.checks import require_local_classifier
from datatrove_quality.cli.fields import filled
from datatrove_quality.cli.option_types import positive
from datatrove_quality.cli.options import (
    CARD_MODEL,
    add_classifier_options,
    add_row_options,
    add_template_options,
    row_adapter,
)
from datatrove_quality.config import ScorerConfig, Unscorable


if TYPE_CHECKING:
    from datatrove.data import Document

    from datatrove_quality.model.rendering import Renderer

MAX_CHARACTERS = 2_000
RULE = "─" * 80


def run(options: argparse.Namespace) -> None:
    """Print what the first rows are.

    Args:
        options: the command line.
    """
    if options.model is not None:
        require_local_classifier(options.model, max_tokens=options.max_tokens)
    from datatrove_quality.runs.inputs import find_inputs
    from datatrove_quality.runs.named_columns import require_named_columns

    adapter = row_adapter(options)
    inputs = find_inputs(options.input)
    require_named_columns(inputs, adapter)
    documents = inputs.sample(_Keeping(adapter), options.rows)
    if not documents:
        sys.exit(f"{options.input} holds no row.")
    renderer = find_renderer(options)
    for document in documents:
        print(RULE)
        print(described(document, options, renderer))
    print(RULE)


class _Keeping:
    """An adapter whose documents keep their rows.

    Args:
        adapter: makes a document of a row.
    """

    def __init__(self, adapter: Any):
        self._adapter = adapter

    def __call__(self, reader: Any, row: Any, path: str, id_in_file: int | str) -> dict[str, Any]:
        made = self._adapter(reader, row, path, id_in_file)
        made["metadata"]["_inspected"] = (row, getattr(self._adapter, "where", None), f"{path}, row {id_in_file}")
        return made


def find_renderer(options: argparse.Namespace) -> "Renderer | None":
    """What renders and tokenizes for the classifier; None: none is named, and the default one is not on this machine.

    Raises:
        ValueError: the classifier that is named cannot be found, or its template leaves messages out.
    """
    from datatrove_quality.engine.scorer import find_scorer
    from datatrove_quality.model.found_model import pinned

    given = argparse.Namespace(**{**vars(options), "model": options.model or CARD_MODEL})
    try:
        renderer = find_scorer(pinned(filled(ScorerConfig, given))).renderer
    except (ValueError, OSError) as error:
        if options.model is not None:
            raise
        why = str(error).partition("\n")[0]
        print(f"No rendered text: {why} To see the text, give --model.", file=sys.stderr)
        return None
    if options.text is None:
        renderer.require_template()
    return renderer


def described(document: "Document", options: argparse.Namespace, renderer: "Renderer | None") -> str:
    """One row: where it is, its layout and columns, and the text that is scored or why it cannot be."""
    from datatrove_quality.rows.types import conversation_error

    row, where, place = document.metadata.pop("_inspected", (None, None, document.id))
    lines = [f"row        {place} (id {document.id})"]
    if isinstance(row, dict) and where is not None:
        lines += _layout(row, where)
    if (error := conversation_error(document.metadata)) is not None:
        return "\n".join([*lines, f"NOT SCORED {error.to_text()}"])
    return "\n".join([*lines, *_rendered(document, options, renderer)])


def _layout(row: dict[str, Any], where: Any) -> list[str]:
    from datatrove_quality.rows.layouts import read

    try:
        found = read(row, where)
    except Unscorable:
        return [f"columns    {_names(row)}"]
    others = [name for name in row if name not in found.used]
    roles = ", ".join(message["role"] for message in found.messages)
    return [
        f"layout     {found.layout}: {len(found.messages)} messages ({roles:.200})",
        f"used       {_names(found.used)}",
        f"not used   {_names(others)}",
    ]


def _names(columns: Any) -> str:
    return ", ".join(sorted(map(str, columns))) or "none"


def _rendered(document: "Document", options: argparse.Namespace, renderer: "Renderer | None") -> list[str]:
    """The text that the classifier reads, with its number of tokens."""
    from datatrove_quality.rows.scored_conversation import scored_conversation
    from datatrove_quality.rows.types import MESSAGES

    if renderer is None:
        return ["text       (not rendered)", _cut(document.text)]
    left_out = False
    try:
        item: Any = document.text
        if options.text is None:
            item = scored_conversation(document, MESSAGES, options.render_tools, options.allow_no_answer)
        text, left_out = renderer.render_checked(item)
    except Unscorable as error:
        text = error
    [result] = renderer.encode([text])
    if isinstance(result, Unscorable):
        return [f"NOT SCORED {result.to_text()}"]
    notes = [", cut at max_tokens"] * result.truncated + [", of which the template leaves out a part"] * left_out
    return [f"text       {len(result.ids)} tokens{''.join(notes)}", _cut(str(text))]


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}... ({len(text):,} characters)"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = parser.add_argument
    add("input", metavar="DATA", help="folder, file or glob in quotes, of .jsonl, .json, .csv or .parquet")
    add("--rows", type=positive, default=5, metavar="N", help="how many rows to show (default: 5)")
    model = parser.add_argument_group("classifier")
    model.add_argument("--model", help=f"hub id or folder (default: {CARD_MODEL})")
    add_classifier_options(model)
    rows = parser.add_argument_group("rows")
    add_row_options(rows)
    add_template_options(rows)
