import pytest

from datatrove_quality.report.text import cut_middle, split_columns, split_hidden, visible


@pytest.mark.parametrize(
    "sign", ["\x00", "\x1b", "\x7f", "\x85", "\u202e", "\u2067", "\u200e", "\u200b", "\ufeff", "\ud800", "\U000e0041"]
)
def test_what_hides_is_shown_by_its_code(sign):
    """Characters that reorder, hide or control a terminal are named, and the text around them is as it was."""
    code = f"U+{ord(sign):04X}"
    assert visible(f"a{sign}b") == f"a[{code}]b"
    assert split_hidden(f"a{sign}b") == [(False, "a"), (True, code), (False, "b")]
    visible(f"a{sign}b").encode()


def test_letters_of_all_scripts_stay_what_they_are():
    """Tabs, line feeds, joined emoji and non-joiners are text."""
    kept = "tab\tline\nquebra ação 日本語 עברית العربية 👩\u200d👧 می\u200cخواهم"
    assert visible(kept) == kept and split_hidden(kept) == [(False, kept)]
    assert visible("a\r\nb") == "a\nb" and split_hidden("a\r\nb") == [(False, "a\nb")]
    assert split_hidden("") == split_columns("") == []


@pytest.mark.parametrize(
    ("text", "block"),
    [
        ("Aqui:\n```python\nif a < b:\n    pass\n```\nFim.", "```python\nif a < b:\n    pass\n```\n"),
        ("```\nnever closed\n| a |", "```\nnever closed\n| a |"),
        ("Antes\n| a | b |\n|---|---|\n| 1 | 2 |\ndepois | d", "| a | b |\n|---|---|\n| 1 | 2 |\n"),
        ('{\n "a": 1\n}\n', '{\n "a": 1\n}\n'),
        ("only `words` | and ``` here\n| one line |\n[em {colchetes}]", None),
    ],
)
def test_code_and_tables_are_told_apart(text, block):
    """What is code or a table is told apart; nothing is lost or added."""
    parts = split_columns(text)
    assert [part for is_block, part in parts if is_block] == ([] if block is None else [block])
    assert "".join(part for _, part in parts) == text


def test_cut_texts_keep_both_ends_and_say_what_is_missing():
    """What is left out is counted exactly."""
    text = "".join(map(str, range(10_000)))
    cut = cut_middle(text, 300)
    assert cut.startswith(text[:200]) and cut.endswith(text[-100:])
    assert f"{len(text) - 300:,} characters left out" in cut
    assert cut_middle(text, len(text)) == text
