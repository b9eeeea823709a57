"""Rows with labels, read from files: what is scored of each, and its label as the data has it."""

from collections.abc import Iterator
from typing import Any

from datatrove.data import Document

from datatrove_quality.config import Unscorable
from datatrove_quality.evaluation.labels import LabelledRow, label_in
from datatrove_quality.rows.to_document import ConversationAdapter, TextAdapter
from datatrove_quality.rows.types import MESSAGES, SOURCE, Conversation, conversation_error
from datatrove_quality.runs.inputs import Inputs
from datatrove_quality.runs.named_columns import require_named_columns


SAMPLE_ROWS = 1_000


def labelled_rows(inputs: Inputs, adapter: ConversationAdapter | TextAdapter, labels: str) -> Iterator[LabelledRow]:
    """Read all rows, in the order of the files.

    Args:
        inputs: the files.
        adapter: makes documents of rows: conversations or plain text.
        labels: the column that holds the labels.

    Yields:
        For each row its conversation or text, or why it has none; and its label, None if it has none, or why.
    """
    for _, item, label in labelled_documents(inputs, adapter, labels):
        yield item, label


def labelled_documents(
    inputs: Inputs, adapter: ConversationAdapter | TextAdapter, labels: str
) -> Iterator[tuple[Document, Conversation | str | Unscorable, Any]]:
    """As `labelled_rows`, each after its document, whose metadata has the row's other columns."""
    reader = inputs.reader(adapter)
    is_text = isinstance(adapter, TextAdapter)
    for path in inputs.sizes:
        for doc in reader.read_file(path):
            yield doc, _scored_part(doc, is_text), _label(doc, labels)


def _scored_part(doc: Document, is_text: bool) -> Conversation | str | Unscorable:
    error = conversation_error(doc.metadata)
    if error is not None:
        return error
    return doc.text if is_text else doc.metadata[MESSAGES]


def _label(doc: Document, column: str) -> Any:
    try:
        return label_in(doc.metadata, column)
    except Unscorable as error:
        return error


def require_labels(inputs: Inputs, adapter: ConversationAdapter | TextAdapter, labels: str) -> None:
    """Refuse rows of which none of the first thousand has the label column, or another that is named.

    Args:
        inputs: the files.
        adapter: makes documents of rows.
        labels: the column that holds the labels.

    Raises:
        ValueError: there is no such column; names those that there are.
    """
    require_named_columns(inputs, adapter)
    documents = inputs.sample(adapter, SAMPLE_ROWS)
    if documents and not any(labels in doc.metadata for doc in documents):
        sources = [doc.metadata.get(SOURCE) or {} for doc in documents]  # lines that are not rows have none
        columns = sorted({name for source in sources for name in source.get("columns", ())})
        raise ValueError(
            f"--labels {labels}: none of the first {len(documents)} rows has this column; there are "
            f"{', '.join(columns)}."
        )
