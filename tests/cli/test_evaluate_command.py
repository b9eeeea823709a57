"""`datatrove-quality evaluate`: scores are compared with labels."""

import json

import pytest
from commands import run_command
from labelled_samples import scored_rows
from samples import write_rows

from datatrove_quality import evaluate_scores


def conversations(count=20):
    return [
        {
            "id": str(number),
            "quality": 1 + number % 5,
            "messages": [
                {"role": "user", "content": f"Pergunta {number}?"},
                {"role": "assistant", "content": f"Resposta {number * 7}."},
            ],
        }
        for number in range(count)
    ]


def evaluate(*arguments):
    run_command("evaluate", *arguments)


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_scores_that_are_columns_are_evaluated(tmp_path, name, capsys):
    """The figures are those of evaluate_scores, in JSON, Markdown, on the screen, and drawn."""
    rows = scored_rows()
    source = write_rows(tmp_path / name, rows)
    options = ("--labels", "quality", "--scores", "quality_score", "--tokens", "quality_tokens")
    evaluate(source, *options, "--output", tmp_path / "out")
    expected = evaluate_scores(*([row[key] for row in rows] for key in ("quality", "quality_score")),
                               tokens=[row["quality_tokens"] for row in rows])  # fmt: skip
    written = json.loads((tmp_path / "out/evaluation.json").read_text())
    assert written["evaluation"] == expected.to_dict()
    assert written["left_out"] == {}
    assert (tmp_path / "out/evaluation.md").read_text().startswith(expected.to_markdown())
    assert expected.to_markdown() in capsys.readouterr().out
    for figure in ("confusion.png", "thresholds.png"):
        assert (tmp_path / "out" / figure).read_bytes().startswith(b"\x89PNG")


def test_rows_that_do_not_count_are_counted(tmp_path, capsys):
    """A row without a usable label or score is left out for a reason that is reported; none vanishes."""
    bad = [{"quality": value, "quality_score": 3.0} for value in (None, 4.5, "four", 9, True)]
    bad += [{"quality": 3, "quality_score": value} for value in (None, "3", True)]
    good = [{"quality": " 4 ", "quality_score": 4}, {"metadata": {"quality": 4.0, "quality_score": 4.2}}]
    source = write_rows(tmp_path / "a.jsonl", bad + good)
    with source.open("ab") as file:
        file.write(b"{broken\n")
    evaluate(source, "--labels", "quality", "--scores", "quality_score", "--output", tmp_path / "out")
    written = json.loads((tmp_path / "out/evaluation.json").read_text())
    assert written["evaluation"]["documents"] == 2
    assert written["left_out"] == {
        "missing_label": 2, "invalid_label": 3, "label_out_of_range": 1, "missing_score": 1, "invalid_score": 2
    }  # fmt: skip
    assert "9 rows left out: invalid_label 3" in capsys.readouterr().out


def test_a_model_is_evaluated_as_it_scores(tmp_path, model_folder):
    """What --model gives is what filter_conversations scores and --scores then evaluates, errors included."""
    model = model_folder("qwen3")
    rows = [*conversations(), {"quality": 2, "messages": []}, {"quality": "?", "messages": []}]
    source = write_rows(tmp_path / "in/a.jsonl", rows)
    evaluate(source, "--labels", "quality", "--model", model, "--dtype", "float32", "--output", tmp_path / "one")
    run_command("filter", source, "--output", tmp_path / "scored", "--model", model)
    options = ("--labels", "quality", "--scores", "quality_score", "--tokens", "quality_tokens")
    evaluate(tmp_path / "scored/kept", *options, "--output", tmp_path / "two")
    one, two = (json.loads((tmp_path / name / "evaluation.json").read_text()) for name in ("one", "two"))
    assert one["left_out"] == {"invalid_label": 1, "no_messages": 1}
    assert two["left_out"] == {"invalid_label": 1, "missing_score": 1}
    assert one["evaluation"]["confusion"] == two["evaluation"]["confusion"]
    assert one["evaluation"]["mae"] == pytest.approx(two["evaluation"]["mae"], abs=1e-4)


def test_a_missing_column_is_named(tmp_path, model_folder):
    """A wrong column name is an error that says what there is, not an empty evaluation."""
    source = write_rows(tmp_path / "a.jsonl", scored_rows(5))
    with pytest.raises(ValueError, match=r"label in level and a score in s: missing_label 5; .* columns quality,"):
        evaluate(source, "--labels", "level", "--scores", "s", "--output", tmp_path / "out")
    with pytest.raises(ValueError, match=r"--tokens t: 5 of 5 rows have no count there.* columns quality,"):
        options = ("--labels", "quality", "--scores", "quality_score", "--tokens", "t")
        evaluate(source, *options, "--output", tmp_path / "out")
    with pytest.raises(ValueError, match=r"--labels level: none of .* rows has this column; there are .*quality"):
        evaluate(source, "--labels", "level", "--model", model_folder("qwen3"), "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", [["--compile"], ["--text"], ["--schema", "alpaca"], ["--messages-key", "chat"]])
def test_scores_that_are_there_are_not_computed(tmp_path, option):
    """An option of the model or its rows, where no model runs, is a mistake and not silence."""
    options = ("--labels", "quality", "--scores", "quality_score", "--output", tmp_path / "out")
    with pytest.raises(ValueError, match=f"omit {option[0]}"):
        evaluate(write_rows(tmp_path / "a.jsonl", scored_rows()), *options, *option)
