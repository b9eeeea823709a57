"""One format for shares, one for other figures, one for tables."""

from datatrove_quality.evaluation.markdown import decimal, markdown_table, percent


def test_figures_as_text():
    """A share has one decimal, another figure four; what is unknown is a dash."""
    assert (percent(0.12345), percent(1), percent(0.0), percent(None)) == ("12.3%", "100.0%", "0.0%", "–")
    assert (decimal(0.123456), decimal(None)) == ("0.1235", "–")


def test_a_table_has_a_line_for_each_row():
    """The first column is aligned to the left."""
    table = markdown_table(["name", "n"], [["a", 1], ["b", None]])
    assert table == "| name | n |\n| --- | ---: |\n| a | 1 |\n| b | – |"
