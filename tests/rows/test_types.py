"""The reason of an unscorable row: an object in the code, one form of text in metadata and columns."""

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datatrove_quality.config import REASON, Unscorable
from datatrove_quality.rows.types import REASONS, InvalidConversation, conversation_error


@given(st.from_regex(REASON, fullmatch=True) | st.sampled_from(sorted(REASONS)), st.text())
def test_reason_and_message_come_back(reason: str, message: str) -> None:
    """Through its text, an error keeps reason and message, whatever characters the message has."""
    error = Unscorable(reason, message)
    again = Unscorable.from_text(error.to_text())
    assert again is not None and (again.reason, str(again)) == (reason, message)
    assert pickle.loads(pickle.dumps(again)).to_text() == error.to_text()


@pytest.mark.parametrize(
    "text", [None, 3, "", "a remark", "My remark: x", "null_column", "null_column:", ["x: y"], {}]
)
def test_other_values_are_no_error(text: Any) -> None:
    """An error column may hold what is not ours: that is not taken for a reason."""
    assert Unscorable.from_text(text) is None
    assert conversation_error({"conversation_error": text}) is None


def test_only_a_readers_reasons_count() -> None:
    """A column `conversation_error` of the data's own, of the same form, does not keep a row from being scored."""
    assert conversation_error({}) is None
    assert conversation_error({"conversation_error": "todo: check this"}) is None
    error = conversation_error({"conversation_error": "invalid_json: line 1: no JSON"})
    assert error is not None and (error.reason, str(error)) == ("invalid_json", "line 1: no JSON")


def test_an_error_survives_pickling() -> None:
    """An exception that cannot be unpickled hangs a process pool."""
    error = pickle.loads(pickle.dumps(InvalidConversation("no_messages", "there are none")))
    assert (error.reason, str(error)) == ("no_messages", "there are none")
