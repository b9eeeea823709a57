"""Rows that somebody has labelled: what is scored of each, and its label."""

import argparse
from collections.abc import Iterator
from typing import Any

from datatrove.data import Document

from datatrove_quality.cli.options import row_adapter
from datatrove_quality.config import Unscorable
from datatrove_quality.rows.types import CONVERSATION_ERROR, REASONS, SOURCE, error_reason
from datatrove_quality.runs.inputs import Inputs
from datatrove_quality.training.data import Row


def labelled_rows(inputs: Inputs, options: argparse.Namespace) -> Iterator[Row]:
    """What is scored of each document, or why nothing is, and its label."""
    reader = inputs.reader(row_adapter(options))
    for path in inputs.sizes:
        for doc in reader.read_file(path):
            yield _scored_part(doc, options.text is not None), doc.metadata.get(options.labels)


def _scored_part(doc: Document, is_text: bool) -> Any:
    """A document's conversation or text, or why it has none."""
    error = doc.metadata.get(CONVERSATION_ERROR)
    if isinstance(error, str) and error_reason(error) in REASONS:
        return Unscorable(error_reason(error), error.partition(": ")[2])
    return doc.text if is_text else doc.metadata["messages"]


def require_labels(inputs: Inputs, options: argparse.Namespace) -> None:
    """Refuse rows of which none of the first thousand has the label column."""
    documents = inputs.sample(row_adapter(options), 1_000)
    if documents and not any(options.labels in doc.metadata for doc in documents):
        columns = sorted({name for doc in documents for name in doc.metadata} - {CONVERSATION_ERROR, SOURCE})
        raise ValueError(
            f"--labels {options.labels}: none of the first {len(documents)} rows has this column; there are "
            f"{', '.join(columns)}."
        )
