"""inspect shows what would be scored, row by row, and loads no weights."""

import json

import pytest
from layout_rows import A1, ONE, U1, C, S

from datatrove_quality.cli import main
from datatrove_quality.engine import scorer


@pytest.fixture
def inspected(tmp_path, model_folder, monkeypatch, capsys):
    """A function that gives what the command prints about rows."""
    monkeypatch.setattr(scorer, "load_weights", None)

    def inspect(rows, *arguments, name="a.jsonl"):
        text = rows if isinstance(rows, str) else "\n".join(map(json.dumps, rows))
        (tmp_path / name).write_text(text)
        main.main(["inspect", str(tmp_path / name), "--model", str(model_folder("qwen3")), *arguments])
        return capsys.readouterr().out

    return inspect


def test_layout_columns_and_text(inspected):
    """The layout, the columns that are used and not, the rendered text and its tokens."""
    out = inspected([{"id": "r1", "instruction": U1, "input": C, "output": A1, "source": "s", "system": S}])
    assert "alpaca: 3 messages (system, user, assistant)" in out
    assert "used       input, instruction, output, system\n" in out
    assert "not used   id, source\n" in out
    assert f"<|im_start|>user\n{U1}\n\n{C}<|im_end|>" in out
    assert " tokens\n" in out and "r1" in out


def test_rows_that_are_not_scored(inspected):
    """A row without a score says why: of reading, of the answer, of the template."""
    rows = [{"x": 1}, {"messages": ONE[:1]}, {"messages": [*ONE, {"role": "narrador", "content": "a"}]}, 5]
    out = inspected(rows)
    for reason in ("missing_column", "no_answer", "template_error", "not_an_object"):
        assert f"NOT SCORED {reason}: " in out
    assert "tokens" in inspected(rows[1:2], "--allow-no-answer")


def test_number_of_rows_and_other_files(inspected):
    """As many rows as asked for, of any format; columns and plain text are named as in the other commands."""
    assert inspected([{"messages": ONE}] * 9).count("layout ") == 5
    assert inspected([{"messages": ONE}] * 9, "--rows", "2").count("layout ") == 2
    out = inspected(f"q,a\n{U1},{A1}\n", "--prompt-key", "q", "--answer-key", "a", name="b.csv")
    assert "used       a, q\n" in out
    assert "tokens" in inspected([{"t": C}], "--text", "t")
