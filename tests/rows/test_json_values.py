"""JSON without silent changes."""

import orjson
import pytest
from datatrove.data import Document
from datatrove.pipeline.writers import JsonlWriter

from datatrove_quality import InvalidConversation, RowAdapter
from datatrove_quality.rows.json_values import holds_anything, parse_json


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


@pytest.mark.parametrize(
    "text",
    [
        '{"prompt":"a?","prompt":"b?"}',
        '{ "prompt" : 1 , "prompt"\t:\n2 }',
        '{"messages": [{"role": "user", "content": "a", "content": null}]}',
        r'{"prompt": "\u0022", "\u0070rompt": "b"}',
        r'{"a": "\u0022\u0022", "b": 1, "b": 2}',
        '{"a": 1, "a": true}',
        '{"a": NaN, "b": 1, "b": 2}',
        '{"a": 123456789012345678901234567890, "b": 1, "b": 2}',
        '{"a": "' + "x" * 2**20 + '", "b": 1, "b": 2}',
        '{"b": 1, "b": 2, "a": ' + "[" * 300 + "]" * 300 + "}",
    ],
)
def test_a_key_with_two_values(text):
    """Which one is meant cannot be known, and a parser keeps the last without a word: at any depth, in any form."""
    for given in (text, text.encode()):
        with pytest.raises(InvalidConversation, match="has two values, of which one would be lost") as error:
            parse_json(given)
        assert error.value.reason == "repeated_key"


@pytest.mark.parametrize(
    "text",
    [
        '{"a": ": \\"b\\": \\\\", "c": [{"a": "\\"a\\":1,\\"a\\":2"}, {"a": ""}], "": ":"}',
        r'{"a": "\u0022a\u0022:", "\u0022": "\"", "\\u0022": 2}',
        '{"a": 1, "a": 1, "b": {"c": [1.0, "x"]}, "b": {"c": [1.0, "x"]}}',
        '{"a": "' + '\\"é' * 2**20 + '"}',
    ],
)
def test_no_key_with_two_values(text):
    """Quotes and colons within texts are no keys; the same value twice loses nothing."""
    assert parse_json(text) == parse_json(text.encode()) == orjson.loads(text)


@pytest.mark.parametrize("value", [None, "", " \n", [], {}, 0, False, {"url": None, "frames": [{}, [" "]]}])
def test_nothing_is_held(value):
    """Arrow and APIs fill keys that have no value with such."""
    assert not holds_anything(value)


@pytest.mark.parametrize("value", ["a.png", [0, 0.5], True, {"url": None, "frames": [{"id": 7}]}, [b""]])
def test_something_is_held(value):
    """However deep, in a value that holds itself, too."""
    assert holds_anything(value)
    endless = []
    endless.append(endless)
    assert holds_anything(endless)
