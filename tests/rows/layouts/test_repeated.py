"""What another column says is in the conversation, or only seems to be."""

import pytest
from layout_rows import A1, A2, ONE, TWO, U1, S, assistant, system, user

from datatrove_quality.rows.layouts.repeated import LONG, are_in, is_repeated, is_said, one_of
from datatrove_quality.rows.types import InvalidConversation


@pytest.mark.parametrize(
    ("said", "text", "is_in"),
    [
        *(("4", "42", False), ("42", r"\boxed{42}.", True), ("4", "42 e 4", True), ("não", "senão", False)),
        *(("猫", "这是猫吗", True), ("-4", "x-4", True), ("", "a", True), ("a" * LONG, "b" + "a" * LONG, True)),
    ],
)
def test_words(said: str, text: str, is_in: bool) -> None:
    """A short text is no part of a word, in scripts that have blanks between words."""
    assert is_said(said, text) == is_in


@pytest.mark.parametrize(
    ("said", "text", "is_in"),
    [
        *(("a", "Traduza a palavra", False), ("a", "Traduza: a", True), ("a", "Leia:\na\nFim", True)),
        *(
            ("a", "casa", False),
            ("Some os números", "Some os números: 1 e 2", True),
            ("b" * LONG, f"Leia {'b' * LONG} e traduza", True),
        ),
    ],
)
def test_ends_of_lines(said: str, text: str, is_in: bool) -> None:
    """A short text has a place of its own; a long one is nowhere by chance."""
    assert is_repeated(said, text) == is_in


def test_short_texts_are_looked_for_where_they_would_be() -> None:
    """An answer in answers, the last one behind the last question; a system prompt first; a call as it is."""
    assert are_in(TWO, TWO)
    assert are_in([assistant(A2)], TWO)
    assert are_in([assistant(A1)], TWO)
    assert not are_in([assistant("1")], TWO)
    assert not are_in([assistant(A1)], TWO[:3])
    assert are_in([assistant(A1 * LONG)], [user(U1), assistant(A1 * LONG), user(U1)])
    assert not are_in([assistant(U1)], ONE)
    assert are_in([system(S)], [user(f"Leia:\n{S}"), assistant(A1)])
    assert not are_in([system(S)], [user(U1), assistant(S)])
    call = assistant("") | {"tool_calls": [{"id": "1"}]}
    assert are_in([call], [user(U1), call])
    assert not are_in([call], [*ONE, assistant("")])


def test_several_names_of_one_thing() -> None:
    """The filled one is read; two that differ are an error."""
    assert one_of({"a": "", "b": "x", "c": None}, ("a", "b", "c")) == "x"
    assert one_of({"a": "x", "b": "x"}, ("a", "b")) == "x"
    assert one_of({"a": ""}, ("a", "b")) == ""
    assert one_of({"c": "x"}, ("a", "b")) is None
    with pytest.raises(InvalidConversation, match="'a' and 'b', which differ"):
        one_of({"a": "x", "b": "y"}, ("a", "b"))
