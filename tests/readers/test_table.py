"""Quotes in tables: those that fit together are quotes, and others swallow nothing."""

import csv
import io
import random

import pytest

from datatrove_quality.readers import table
from datatrove_quality.readers.table import Table


def rows(text: str, separator: str = ",", quotes_may_be_text: bool = False) -> list[list[str] | None]:
    """The fields of each row; None for a bad one."""
    found = Table(io.StringIO(text, newline=""), separator, quotes_may_be_text)
    return [found.columns, *(None if error else fields for fields, error in found)]


@pytest.mark.parametrize("separator", [",", "\t"])
def test_what_programs_write_is_read(separator: str) -> None:
    """Tables of Python's writer, with any texts, are read as they were, in TSV as in CSV."""
    pick = random.Random(7)
    for _ in range(300):
        width = pick.randint(2, 4)
        texts = ["".join(pick.choices('ab", \t\n\r', k=pick.randint(0, 6))) for _ in range(width * 4)]
        if separator == "\t":  # whose lines would be rows by themselves
            texts = [text.replace("\t", "") for text in texts]
        written = [["id", *(["c"] * (width - 1))], *(["1", *texts[n : n + width - 1]] for n in range(4))]
        file = io.StringIO(newline="")
        csv.writer(file, delimiter=separator).writerows(written)
        assert rows(file.getvalue(), separator) == written
        if separator == "\t":
            assert rows(file.getvalue(), separator, quotes_may_be_text=True) == written


@pytest.mark.parametrize(
    ("line", "in_csv", "in_tsv"),
    [
        ('a|"b', None, ["a", '"b']),
        ('a|"b" c', None, ["a", '"b" c']),
        ('"a"|"b', None, ["a", '"b']),
        ('"b|a', None, ['"b', "a"]),
        ('a|b"c"', ["a", 'b"c"'], ["a", 'b"c"']),
        ('a|"b ""c"""', ["a", 'b "c"'], ["a", 'b "c"']),
        ('a|""', ["a", ""], ["a", ""]),
        ('a|"', None, ["a", '"']),
        ('a|"b|c"', ["a", "b|c"], ["a", "b|c"]),
    ],
)
def test_quotes_of_one_line(line: str, in_csv: list[str] | None, in_tsv: list[str]) -> None:
    """A field is closed before a separator or the end of a row; the lines before and after it are rows."""
    text = f"x|y\n1|2\n{line}\n3|4\n"
    assert rows(text, "|") == [["x", "y"], ["1", "2"], in_csv, ["3", "4"]]
    assert rows(text, "|", quotes_may_be_text=True) == [["x", "y"], ["1", "2"], in_tsv, ["3", "4"]]


def test_lines_that_could_be_rows() -> None:
    """Between two stray quotes, each of whose lines is a row: rows in TSV, and a doubtful row in CSV."""
    text = 'x\ty\n1\t"a\n2\tb\n3\tc"\n'
    assert rows(text, "\t", quotes_may_be_text=True) == [["x", "y"], ["1", '"a'], ["2", "b"], ["3", 'c"']]
    doubtful = Table(io.StringIO(text.replace("\t", ","), newline=""), ",")
    assert [fields for fields, _ in doubtful] == [["1", "a\n2,b\n3,c"]]
    assert doubtful.doubtful == (2, 4)
    indented = 'x\ty\n1\t"def f():\n\treturn 1"\n'
    assert rows(indented, "\t", quotes_may_be_text=True)[1:] == [["1", "def f():\n\treturn 1"]]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ('x,y\n1,"a\n2,b"\n3,c\n', (2, 3)),
        ('x,y\n1,"a\n2,b"\n3,c\n4,"a\n5,b"\n', (2, 3)),
        ('x,y\n1,"a\n2,b"\n3,"c, d"\n', None),  # its writer quotes
        ('x,"y"\n1,"a\n2,b"\n', None),
        ('x,y\n3,"c"\n1,"a\n2,b"\n', None),
        ('x,y\n1,"a\nb"\n', None),  # the second line is no row
        ('x,y\n1,"c"\n1,"a\n2,b\n3,c"\n', (3, 5)),
    ],
)
def test_two_lines_that_could_be_rows(text: str, lines: tuple[int, int] | None) -> None:
    """They are one row, as RFC 4180 has it, and doubtful where nothing else in the file is quoted."""
    read = Table(io.StringIO(text, newline=""), ",")
    assert not any(error for _, error in read)
    assert read.doubtful == lines


def test_a_row_is_not_the_rest_of_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A field goes on over so many characters, and no row has a further line for more fields than the header."""
    text = 'x,y\n1,"a\n2,b\n3,c\n4,""\n5,"d"\n'
    after = [["2", "b"], ["3", "c"], ["4", ""], ["5", "d"]]
    assert rows(text)[1:] == [None, *after]
    assert rows('x,y\n1,"a\nb","c\n2,d"\n')[1:] == [None, ['b"', "c\n2,d"]]
    closed = 'x,y\n1,"a\n2,b"\n'
    assert rows(closed)[1:] == [["1", "a\n2,b"]]
    monkeypatch.setattr(table, "MAX_SPAN", 4)
    assert rows(closed)[1:] == [None, ["2", 'b"']]
