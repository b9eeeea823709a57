"""Rows that DataTrove's own readers read: what they add or leave strange does not reach the output."""

import json
from pathlib import Path
from typing import Any

import pytest
from datatrove.pipeline.readers import CSVReader, HuggingFaceDatasetReader
from datatrove.pipeline.writers import JsonlWriter
from samples import read_rows

from datatrove_quality.rows.to_document import ConversationAdapter, TextAdapter
from datatrove_quality.rows.to_row import RowAdapter
from datatrove_quality.rows.types import CONVERSATION_ERROR


@pytest.mark.parametrize("adapter", [ConversationAdapter(), TextAdapter("prompt")])
def test_the_column_that_a_reader_of_the_hub_adds_is_not_written(adapter: Any) -> None:
    """`dataset` comes back where the row has it, or a step has set it."""
    reader = HuggingFaceDatasetReader("org/data", adapter=adapter)
    rows: list[dict[str, Any]] = [
        {"prompt": "a", "response": "b"},
        {"prompt": "a", "response": "b", "dataset": "org/data"},
        {"prompt": "a", "response": "b", "metadata": {"dataset": "org/data"}},
        {"prompt": None},
    ]
    for row in rows:
        document = reader.get_document_from_dict(dict(row), "org/data", "0/0")
        assert RowAdapter()(None, document) == row
    document = reader.get_document_from_dict(dict(rows[0]), "org/data", "0/0")
    document.metadata["dataset"] = "set by a step"
    assert RowAdapter()(None, document) == rows[0] | {"dataset": "set by a step"}


def test_a_row_with_more_fields_than_the_header_is_kept_as_text(tmp_path: Path) -> None:
    """DataTrove's CsvReader puts what is too much under the key None, which no writer can write."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.csv").write_text("prompt,response\na,b,c,d\ne,f\n", encoding="utf-8")
    reader = CSVReader(str(tmp_path / "in"), adapter=ConversationAdapter())
    long, good = JsonlWriter(str(tmp_path / "out"), adapter=RowAdapter(), compression=None).run(reader.run())
    assert long.metadata[CONVERSATION_ERROR].startswith("invalid_csv: ")
    written = read_rows(tmp_path / "out")
    assert json.loads(written[0]["text"]) == {"prompt": "a", "response": "b", "null": ["c", "d"]}
    assert written[1] == {"prompt": "e", "response": "f"}
    assert good.metadata["messages"][1]["content"] == "f"
    odd = ConversationAdapter()(None, {"prompt": "a", 1: "b"}, "f", 0)
    assert odd["metadata"][CONVERSATION_ERROR].startswith("not_an_object: ")
