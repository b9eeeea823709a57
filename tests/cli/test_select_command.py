"""`datatrove-quality select`: the command's table, and what it refuses."""

import pytest
from samples import read_rows, write_rows

from datatrove_quality.cli import main as command


ROWS = [
    {"messages": [], "id": str(at), "source": "ab"[at % 2], "quality_score": at / 10, "quality_tokens": 10}
    for at in range(40)
]


def select(folder, *options):
    write_rows(folder / "in/a.jsonl", ROWS)
    return command.main(["select", str(folder / "in"), "--output", str(folder / "out"), *options])


def test_what_is_selected_is_printed_and_written(tmp_path, capsys):
    assert select(tmp_path, "--tokens", "1e2", "--by", "source") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1:3] == [["a", "20", "5", "50", "3"], ["b", "20", "5", "50", "3.1"]]
    kept = read_rows(tmp_path / "out/kept")
    assert [row["id"] for row in kept] == [str(at) for at in range(30, 40)] and kept[0] == ROWS[30]
    assert select(tmp_path, "--tokens", "1e2", "--by", "source") == 0  # goes on where all is done
    assert select(tmp_path, "--share", "0.5") == command.MISTAKE
    assert "different settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tokens", "0.5"], "--tokens 0.5: give a number of tokens from 1"),
        (["--share", "2"], "give a number above 0, up to 1"),
        (["--share", "0.1", "--tokens", "5"], "not allowed with"),
        (["--share", "0.1", "--prefix", "x"], "no row has a x_score"),
    ],
)
def test_mistakes(tmp_path, capsys, options, message):
    assert select(tmp_path, *options) == command.MISTAKE
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
