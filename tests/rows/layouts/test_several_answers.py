"""Rows with several answers: each is read as it would be in a row of its own."""

import json

import pytest

from datatrove_quality.rows.layouts import Where, parse_conversation
from datatrove_quality.rows.layouts.several_answers import answer_rows
from datatrove_quality.rows.types import InvalidConversation


def said(role, text):
    return {"role": role, "content": text}


U, A, B, C = said("user", "U"), said("assistant", "A"), said("assistant", "B"), said("assistant", "C")
REPLY = {"choices": [{"index": 0, "message": A}, {"index": 1, "message": B}]}

TWO = [
    {"prompt": "U", "chosen": "A", "rejected": "B"},
    {"rejected": "B", "chosen": "A", "prompt": "U"},
    {"prompt": [U], "chosen": [A], "rejected": [B]},
    {"chosen": [U, A], "rejected": [U, B]},
    {"chosen": "\n\nHuman: U\n\nAssistant: A", "rejected": "\n\nHuman: U\n\nAssistant: B"},
    {"prompt": "U", "chosen": [U, A], "rejected": [U, B], "messages": [U, A], "score_chosen": 8.0},
    {"messages": json.dumps([U, A]), "chosen": "A", "rejected": "B"},
    {"conversations": [{"from": "human", "value": "U"}], "chosen": {"from": "gpt", "value": "A"}, "rejected": "B"},
    {"input": {"messages": [U]}, "preferred_output": [A], "non_preferred_output": [B]},
    {"messages": [U], "choices": [{"message": A, "index": 0}, {"message": B, "index": 1}]},
    {"messages": [U], "choices": json.dumps([{"message": A}, {"message": B}])},
    {"prompt": "U", "choices": [{"text": "A"}, {"text": "B"}]},
    {"messages": [U], "response": {"status": 200, "body": REPLY}},
    {"prompt": "U", "response": ["A", "B"]},
    {"prompt": "U", "completions": ["A", "B"]},
    {"prompt": [U], "completions": [[A], [B]]},
    {"messages": [U], "completions": [A, B]},
    {"instruction": "U", "completions": [{"model": "m", "response": "A"}, {"model": "n", "response": "B"}]},
    {"instruction": "U", "generations": ["A", "B"], "generation_models": ["m", "n"]},
    {"question": "U", "responses": [{"text": "A"}, {"text": "B"}]},
]


def read(row, **where):
    before = json.dumps(row)
    found = [parse_conversation(one, **where) for one in answer_rows(row, Where(**where))]
    assert json.dumps(row) == before
    return [[(message["role"], message["content"]) for message in messages] for messages in found]


@pytest.mark.parametrize("row", TWO, ids=lambda row: ",".join(row))
def test_each_answer_is_read_alone(row):
    """In the row's order, but what was chosen first."""
    assert read(row) == [[("user", "U"), ("assistant", text)] for text in "AB"]


@pytest.mark.parametrize(
    ("row", "answers"),
    [
        ({"prompt": "U", "chosen": "A", "rejected": ["B", "C"]}, "ABC"),
        ({"messages": [U, A], "chosen": [U, A], "rejected": [U, B]}, "AB"),
        ({"messages": [U], "completions": [A]}, "A"),
        ({"messages": [U, A]}, "A"),
        ({"prompt": "U", "response": "A"}, "A"),
        ({"prompt": "U", "response": [{"type": "text", "text": "A"}]}, "A"),
        ({"prompt": "U", "chosen": "A", "rejected": None}, "A"),
        ({"prompt": "U", "response": ["A"]}, "A"),
    ],
)
def test_as_many_answers_as_there_are(row, answers):
    assert read(row) == [[("user", "U"), ("assistant", text)] for text in answers]


def test_two_texts_of_one_completion():
    """What the first name has, another may repeat, as a result; two that differ are no answer."""
    assert read({"prompt": "U", "completions": [{"response": "São 4", "answer": "4"}]})[0][1] == ("assistant", "São 4")
    with pytest.raises(InvalidConversation):
        read({"prompt": "U", "completions": [{"response": "A", "output": "B"}, "C"]})


def test_an_answer_column_of_ones_own():
    row = {"prompt": "U", "candidates": ["A", "B"], "response": "?"}
    ignored = {"answer_key": "candidates", "ignored_columns": ("response",)}
    assert read(row, **ignored) == [[("user", "U"), ("assistant", text)] for text in "AB"]
