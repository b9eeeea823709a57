"""What is parsed already is recognised: it is not parsed again, and nothing else passes for it."""

import json
from typing import Any

import pytest
from adapted_rows import nested
from hypothesis import example, given, settings
from hypothesis import strategies as st

from datatrove_quality.config import Unscorable
from datatrove_quality.rows import normal_form
from datatrove_quality.rows.layouts import parse_conversation
from datatrove_quality.rows.normal_form import conversation_of, in_normal_form, parsed
from datatrove_quality.rows.types import ConversationWithArguments


TURNS = [{"role": "user", "content": "Qual é a capital?"}, {"role": "assistant", "content": "Lisboa."}]
CALL = {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": {"a": [1, None, "b"]}}]}

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", " \n", "a", "user", "gpt", "text"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "from", "value", "name", "text"]), inner, max_size=4)
    ),
    max_leaves=12,
)
CALLS = st.sampled_from([[], "[]", "", [{"name": "f"}], ({"name": "f"},), [{"name": None}], ['{"name": "f"}'], "x"])
MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "gpt", "", None]), "content": st.sampled_from(["", " ", "a"]) | VALUES},
    optional={
        "name": VALUES,
        "from": VALUES,
        "value": VALUES,
        "type": st.sampled_from(["message", "function_call", None, 1]),
        "tool_calls": VALUES | CALLS,
        "function_call": VALUES | CALLS,
        "reasoning_content": VALUES,
    },
)


@settings(max_examples=500)
@example([{"role": "gpt", "content": "a", "from": "user"}])
@given(st.lists(MESSAGES, max_size=4) | VALUES)
def test_a_value_in_normal_form_is_what_parsing_gives(value: Any) -> None:
    """Whatever passes the check is equal to its own parse; and what parsing gives passes, so that it is done once."""
    try:
        expected = parse_conversation({"messages": value})
    except Unscorable as error:
        assert not in_normal_form(value)
        assert parsed(value).reason == error.reason if not isinstance(value, str) else parsed(value) == value
        return
    assert in_normal_form(expected)
    assert conversation_of(value) == expected
    assert (conversation_of(value) is value) == in_normal_form(value)


@pytest.mark.parametrize(
    "value", [TURNS, [*TURNS, CALL], [TURNS[0] | {"weight": 0, "train": False, "images": []}]], ids=len
)
def test_the_same_object_comes_back(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversation in normal form is not parsed, nor copied."""
    monkeypatch.setattr(normal_form, "parse_conversation", None)
    assert conversation_of(value) is value
    assert parsed(value) is value


@pytest.mark.parametrize(
    "value",
    [
        json.dumps(TURNS),
        [{"from": "human", "value": "Qual é a capital?"}, {"from": "gpt", "value": "Lisboa."}],
        [message | {"name": None} for message in TURNS],
        [TURNS[0], {"role": "assistant", "content": [{"type": "text", "text": "Lisboa."}]}],
        [message | {"type": "message"} for message in TURNS],
        [message | {"tool_calls": []} for message in TURNS],
        [message | {"function_call": ""} for message in TURNS],
    ],
    ids=["JSON", "from and value", "nulls", "parts", "items", "no calls", "an empty call"],
)
def test_other_forms_are_parsed(value: Any) -> None:
    """Forms that other readers leave become the normal one; the value itself is not changed."""
    before = json.dumps(value)
    assert conversation_of(value) == TURNS
    assert json.dumps(value) == before


def test_nulls_inside_a_key_are_taken_out() -> None:
    """Arrow fills nested structs with nulls too."""
    filled = [CALL | {"content": "a", "tool_calls": [{"name": "f", "id": None}]}]
    assert conversation_of(filled) == [CALL | {"content": "a", "tool_calls": [{"name": "f"}]}]


def test_arguments_for_the_template_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversation that carries arguments keeps them, whether it is parsed again or not."""
    arguments = {"enable_thinking": False}
    for turns in (TURNS, [message | {"name": None} for message in TURNS]):
        kept = conversation_of(ConversationWithArguments(turns, arguments))
        assert isinstance(kept, ConversationWithArguments) and kept.template_arguments == arguments
        assert kept == TURNS


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "null_column"),
        ([], "no_messages"),
        (7, "not_a_list"),
        (tuple(TURNS), "not_a_list"),
        ([["user", "a"]], "invalid_message"),
        ([{"role": "", "content": "a"}], "missing_role"),
        ([{"role": 1, "content": "a"}], "invalid_role"),
        ([{"role": "user", "content": {"a": 1}}], "invalid_content"),
        ([{"role": "user", "content": " \n"}], "empty_conversation"),
        ([{"role": "user", "content": "a", "x": nested(5_000)}], "nested_too_deep"),
    ],
)
def test_garbage_is_unscorable(value: Any, reason: str) -> None:
    """What is no conversation has its reason in place of one."""
    error = parsed(value)
    assert isinstance(error, Unscorable) and error.reason == reason


def test_a_conversation_that_holds_itself() -> None:
    """A reference cycle ends the check and the parse alike."""
    cycle: list[Any] = []
    cycle += [cycle, cycle]
    assert parsed([{"role": "user", "content": "a", "x": cycle}]).reason == "nested_too_deep"


def test_texts_and_errors_pass() -> None:
    """To a scorer a string is plain text, and a known error stays as it is."""
    error = Unscorable("damaged_file", "said the reader")
    assert parsed("[]") == "[]"
    assert parsed(error) is error
