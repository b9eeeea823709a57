"""JSON without silent changes."""

import orjson
import pytest
from datatrove.data import Document
from datatrove.pipeline.writers import JsonlWriter

from datatrove_quality import InvalidConversation, RowAdapter
from datatrove_quality.rows.json_values import parse_json


def test_a_lone_surrogate_beside_nan_is_refused_as_elsewhere():
    """Python reads it where it reads NaN; no UTF-8 file can hold it, as a value or as a name of a column."""
    for text in (r'{"loss": NaN, "a": "\ud800"}', r'{"\ud800": NaN}'):
        with pytest.raises(InvalidConversation) as error:
            parse_json(text.encode())
        assert error.value.reason == "lone_surrogate"


def test_what_json_cannot_write_beside_nan_is_text_and_nan_stays():
    """A column that no JSON can hold does not change the others."""
    row = {"loss": float("nan"), "raw": b"\xff", "text": "Oi"}
    document = Document(text="Oi", id="1", metadata={"_source": {"columns": list(row), "constants": True}, **row})
    written = RowAdapter()(JsonlWriter("memory://nan"), document)
    assert orjson.dumps(written).startswith(b'{"loss":NaN,"raw":"')
    assert written["text"] == "Oi"
