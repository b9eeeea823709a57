"""The shapes of rows that are read, and those that are refused, each with its reason."""

import copy
import json
from typing import Any

import pytest
from adapted_rows import ASSISTANT, SYSTEM, TURNS, USER, adapt, nested, reason_of

from datatrove_quality.rows.layouts import Where, parse_conversation, read
from datatrove_quality.rows.types import CONVERSATION_ERROR, REASONS, InvalidConversation


ROWS = [
    ("messages", {"messages": TURNS}, TURNS),
    ("messages as a JSON string", {"messages": json.dumps(TURNS)}, TURNS),
    ("text parts", {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, "b"]}]}, "ab"),
    ("unknown role is kept", {"messages": [{"role": "critic", "content": "a"}]}, [{"role": "critic", "content": "a"}]),
    ("extra keys are kept", {"messages": [USER | {"name": "Ana"}]}, [USER | {"name": "Ana"}]),
    ("nulls go", {"messages": [USER | {"name": None, "a": {"b": None, "c": [{"d": None}]}}]}, None),
    ("empty assistant", {"messages": [USER, {"role": "assistant", "content": ""}]}, None),
    (
        "tool calls without content",
        {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "x": None}]}]},
        [USER, {"role": "assistant", "tool_calls": [{"id": "1"}], "content": ""}],
    ),
    ("from/value in messages", {"messages": [{"from": "human", "value": "a"}]}, [{"role": "user", "content": "a"}]),
    (
        "sharegpt",
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b", "weight": 1}]},
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 1}],
    ),
    ("sharegpt with role/content", {"conversations": TURNS}, TURNS),
    ("sharegpt as a JSON string", {"conversations": json.dumps([{"from": "human", "value": "a"}])}, "a"),
    ("sharegpt with a system column", {"conversations": TURNS, "system": SYSTEM["content"]}, [SYSTEM, *TURNS]),
    ("its own system turn says it", {"conversations": [SYSTEM, USER], "system": "português."}, [SYSTEM, USER]),
    ("the prompt has its input", {"prompt": "Leia: a", "input": "a", "response": "b"}, "Leia: a"),
    ("an empty system column", {"conversations": TURNS, "system": " "}, TURNS),
    ("WildChat, LMSYS", {"conversation": TURNS}, TURNS),
    ("alpaca", {"instruction": USER["content"], "input": "", "output": ASSISTANT["content"]}, TURNS),
    ("alpaca without input", {"instruction": USER["content"], "output": ASSISTANT["content"]}, TURNS),
    ("alpaca, null input", {"instruction": USER["content"], "input": None, "output": ASSISTANT["content"]}, TURNS),
    (
        "alpaca with input",
        {"instruction": "a", "input": "b", "output": "c", "system": "s"},
        [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "a\n\nb"},
            {"role": "assistant", "content": "c"},
        ],
    ),
    ("response", {"prompt": USER["content"], "response": ASSISTANT["content"]}, TURNS),
    ("completion", {"prompt": USER["content"], "completion": ASSISTANT["content"]}, TURNS),
    ("answer", {"prompt": USER["content"], "answer": ASSISTANT["content"]}, TURNS),
    ("chosen", {"prompt": USER["content"], "chosen": ASSISTANT["content"], "rejected": "x"}, TURNS),
    ("first that is not null", {"prompt": USER["content"], "response": None, "answer": ASSISTANT["content"]}, TURNS),
    ("prompt list, chosen list", {"prompt": [SYSTEM, USER], "chosen": [ASSISTANT]}, [SYSTEM, *TURNS]),
    ("chosen is everything", {"prompt": USER["content"], "chosen": TURNS}, TURNS),
    ("chosen is everything, with system", {"prompt": USER["content"], "chosen": [SYSTEM, *TURNS]}, [SYSTEM, *TURNS]),
    ("prompt and completion lists", {"prompt": [USER], "completion": [ASSISTANT]}, TURNS),
    ("a prompt list as JSON string", {"prompt": json.dumps([USER]), "response": ASSISTANT["content"]}, TURNS),
    ("a prompt that is JSON", {"prompt": "[1, 2]", "response": "3"}, "[1, 2]"),
    ("null columns of another schema", {"messages": None, "instruction": "a", "output": "b", "prompt": None}, "a"),
    ("messages come first", {"messages": TURNS, "conversations": [USER], "prompt": USER["content"]}, TURNS),
    ("the same twice", {"instruction": USER["content"], "output": "Lisboa", "conversations": TURNS}, TURNS),
]


@pytest.mark.parametrize(("row", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_auto_reads_every_shape(row: dict[str, Any], expected: Any) -> None:
    """Each known shape of a row gives the conversation it means, with roles and contents that are strings."""
    before = copy.deepcopy(row)
    messages = parse_conversation(row)
    assert row == before
    if isinstance(expected, str):
        assert messages[0] == {"role": "user", "content": expected}
    elif expected is not None:
        assert messages == expected
    assert all(isinstance(message["role"], str) and isinstance(message["content"], str) for message in messages)


def test_nulls_are_removed_at_every_level() -> None:
    """Arrow fills in null keys, in nested objects too; a template must not see them."""
    row = {"messages": [USER | {"name": None, "calls": [{"a": None, "b": {"c": None, "d": 1}}, None]}]}
    assert parse_conversation(row) == [USER | {"calls": [{"b": {"d": 1}}, None]}]


@pytest.mark.parametrize(
    ("alias", "role"),
    [
        *(("human", "user"), ("USER", "user"), ("gpt", "assistant"), ("chatgpt", "assistant"), ("bing", "assistant")),
        *(("bard", "assistant"), ("model", "assistant"), ("system", "system"), ("tool", "tool"), ("function", "tool")),
        *(("observation", "tool"), ("function_call", "assistant")),
    ],
)
def test_sharegpt_aliases(alias: str, role: str) -> None:
    """The known names of ShareGPT corpora mean one of four roles."""
    assert parse_conversation({"conversations": [{"from": alias, "value": "a"}]}) == [{"role": role, "content": "a"}]


def test_explicit_schemas_and_messages_key() -> None:
    """A schema that is named is the one that is read, and messages_key names its column."""
    sharegpt = [{"from": "human", "value": "a"}]
    row = {"messages": TURNS, "chat": TURNS, "dialog": sharegpt, "conversations": sharegpt}
    assert parse_conversation(row, "messages") == TURNS
    assert parse_conversation(row, "messages", "chat") == TURNS
    assert parse_conversation(row, messages_key="chat") == TURNS
    assert parse_conversation(row, messages_key="dialog") == [{"role": "user", "content": "a"}]
    assert parse_conversation(row, "sharegpt", "dialog") == [{"role": "user", "content": "a"}]
    assert parse_conversation(row, "sharegpt") == [{"role": "user", "content": "a"}]
    row |= {"instruction": "a", "output": "b", "prompt": "c", "answer": "d"}
    assert [message["content"] for message in parse_conversation(row, "alpaca")] == ["a", "b"]
    assert [message["content"] for message in parse_conversation(row, "prompt_response")] == ["c", "d"]


def test_large_integers_in_a_json_string_keep_their_digits() -> None:
    """orjson turns integers beyond 64 bits into floats; nothing may change silently."""
    row = {"messages": '[{"role": "user", "content": "a", "n": 123456789012345678901234567890}]'}
    assert parse_conversation(row)[0]["n"] == 123456789012345678901234567890


SURROGATE = "a\ud800b"


BAD_ROWS: list[tuple[str, dict[str, Any]]] = [
    ("missing_column", {}),
    ("missing_column", {"text": "a", "url": "b"}),
    ("missing_column", {"instruction": "a"}),
    ("missing_column", {"prompt": "a"}),
    ("null_column", {"messages": None}),
    ("no_messages", {"messages": []}),
    ("no_messages", {"messages": "[]"}),
    ("not_a_list", {"messages": {"role": "user", "content": "a"}}),
    ("not_a_list", {"messages": 3}),
    ("not_a_list", {"messages": '{"role": "user"}'}),
    ("invalid_json", {"messages": "[{"}),
    ("invalid_json", {"messages": ""}),
    ("invalid_role", {"conversations": '[{"from": NaN}]'}),
    ("lone_surrogate", {"messages": '[{"role": "user", "content": "\\ud800"}]'}),
    ("lone_surrogate", {"messages": SURROGATE}),
    ("nested_too_deep", {"messages": "[" * 5000 + "]" * 5000}),
    ("invalid_message", {"messages": [[USER]]}),
    ("invalid_message", {"messages": [USER, None]}),
    ("invalid_message", {"messages": ["a", "b"]}),
    ("missing_role", {"messages": [{"content": "a"}]}),
    ("missing_role", {"messages": [{"role": None, "content": "a"}]}),
    ("missing_role", {"conversations": [{"value": "a"}]}),
    ("invalid_role", {"messages": [{"role": 1, "content": "a"}]}),
    ("unknown_role", {"conversations": [{"from": "narrator", "value": "a"}]}),
    ("missing_content", {"messages": [{"role": "user"}]}),
    ("missing_content", {"messages": [{"role": "user", "content": None}]}),
    ("missing_content", {"messages": [{"role": "user", "content": None, "tool_calls": [{"id": "1"}]}]}),
    ("missing_content", {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": []}]}),
    ("invalid_content", {"messages": [{"role": "user", "content": 5}]}),
    ("invalid_content", {"messages": [{"role": "user", "content": {"text": "a"}}]}),
    ("invalid_content", {"messages": [{"role": "user", "content": [1]}]}),
    ("invalid_content", {"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}),
    ("invalid_content", {"instruction": "a", "output": 4}),
    ("invalid_content", {"instruction": "a", "input": {}, "output": "b"}),
    ("unsupported_content", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "a"}]}]}),
    ("unsupported_content", {"messages": [{"role": "user", "content": [{"type": ["x"], "text": "a"}]}]}),
    ("lone_surrogate", {"messages": [{"role": "user", "content": SURROGATE}]}),
    ("lone_surrogate", {"messages": [{"role": SURROGATE, "content": "a"}]}),
    ("lone_surrogate", {"messages": [USER | {"name": SURROGATE}]}),
    ("lone_surrogate", {"instruction": SURROGATE, "output": "a"}),
    ("lone_surrogate", {"prompt": SURROGATE, "answer": "a"}),
    ("empty_conversation", {"messages": [{"role": "user", "content": ""}, {"role": "assistant", "content": " \n"}]}),
    ("empty_conversation", {"instruction": "", "input": "", "output": ""}),
    ("nested_too_deep", {"messages": [USER | {"deep": nested(500)}]}),
    ("nested_too_deep", {"messages": [USER | {"deep": nested(20_000)}]}),
    ("not_a_list", {"prompt": 4, "answer": "a"}),
]


@pytest.mark.parametrize(("reason", "row"), BAD_ROWS)
def test_bad_rows(reason: str, row: dict[str, Any]) -> None:
    """Each kind of bad row has its reason, from both entrances, and stays a row."""
    with pytest.raises(InvalidConversation) as caught:
        parse_conversation(row)
    assert caught.value.reason == reason
    assert reason in REASONS
    assert 10 < len(str(caught.value)) <= 500
    str(caught.value).encode()
    document = adapt(row)
    assert document.text
    assert reason_of(document.metadata[CONVERSATION_ERROR]) == reason
    assert "messages" not in document.metadata


def test_errors_say_what_was_found_and_where() -> None:
    """A person can find the bad message from the error alone."""
    with pytest.raises(InvalidConversation, match=r"message 2 of column 'messages' has a content that is of type int"):
        parse_conversation({"messages": [USER, {"role": "assistant", "content": 5}]})
    with pytest.raises(InvalidConversation, match=r"looked for 'messages', .*keys found: 'texto', 'url'"):
        parse_conversation({"texto": "a", "url": "b"})
    with pytest.raises(InvalidConversation, match=r"looked for column 'chat'; keys found: none"):
        parse_conversation({}, messages_key="chat")
    with pytest.raises(InvalidConversation) as caught:
        parse_conversation({"k" * 10_000_000: 1, "conversations": [{"from": "x" * 10_000_000, "value": "a"}]})
    assert len(str(caught.value)) <= 500


def test_the_columns_that_are_used() -> None:
    """They are shown by `inspect`: those of the question and the answer, wherever the row has them."""
    row = {"body": {"messages": [USER]}, "response": {"choices": [{"message": ASSISTANT}]}, "custom_id": "1"}
    assert read(row, Where()).used == {"body", "response"}
    assert read({"prompt": "a", "context": "", "response": "b", "id": 1}, Where()).used == {"prompt", "response"}


def test_a_row_must_be_an_object() -> None:
    """Whatever is given instead of a row is refused as a bad row, not with a TypeError."""
    for row in ([], "a", None, 3):
        with pytest.raises(InvalidConversation):
            parse_conversation(row)  # type: ignore[arg-type]
        assert reason_of(adapt(row).metadata[CONVERSATION_ERROR]) == "not_an_object"
