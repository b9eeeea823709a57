"""Labels and scores side by side, and what is written about them."""

import json

import pytest
from samples import write_rows

from datatrove_quality import ConversationAdapter, ScorerConfig, ScoreScale, evaluate_scores, load_scorer
from datatrove_quality.evaluation.labelled_scores import compute_labelled_scores, read_labelled_scores
from datatrove_quality.runs.inputs import find_inputs


def conversation(number):
    return [
        {"role": "user", "content": f"Pergunta {number}?"},
        {"role": "assistant", "content": f"Resposta {number * 7}."},
    ]


def test_every_score_stands_beside_the_label_of_its_own_row(tmp_path, model_folder):
    """Rows without a label and rows that cannot be scored, anywhere between, shift no label to another row's score."""
    rows = [{"messages": conversation(number), "label": 1 + number % 5} for number in range(40)]
    for place in range(0, 40, 3):
        rows[place]["label"] = None if place % 2 else "?"
    for place in range(1, 40, 4):
        rows[place]["messages"] = []
    write_rows(tmp_path / "a.jsonl", rows)
    scorer = load_scorer(ScorerConfig(model=str(model_folder("qwen3")), device="cpu", dtype="float32"))
    found = compute_labelled_scores(find_inputs(str(tmp_path)), ConversationAdapter(), "label", scorer)
    good = [row for row in rows if isinstance(row["label"], int) and row["messages"]]
    expected = scorer.score([row["messages"] for row in good])
    assert found.labels.tolist() == [row["label"] for row in good]
    assert found.scores.tolist() == pytest.approx([score.score for score in expected], abs=5e-5)
    assert found.tokens.tolist() == [score.tokens for score in expected]
    assert len(found.labels) + found.left_out.total() == 40
    assert found.left_out.keys() == {"missing_label", "invalid_label", "no_messages"}


def test_columns_are_read_and_written_about(tmp_path):
    """The files hold the figures of evaluate_scores, the settings, and what was left out."""
    rows = [{"label": 1 + n % 5, "s": n % 5 + 0.7, "t": n} for n in range(20)] + [{"label": 3}]
    write_rows(tmp_path / "a.jsonl", rows)
    found = read_labelled_scores(find_inputs(str(tmp_path)), "label", "s", "t", ScoreScale())
    evaluation = found.evaluation()
    labels, scores, tokens = ([row[name] for row in rows[:20]] for name in ("label", "s", "t"))
    assert evaluation == evaluate_scores(labels, scores, tokens=tokens)
    text = found.write(evaluation, {"input": "a"}, tmp_path / "new" / "out")
    assert (tmp_path / "new/out/evaluation.md").read_text(encoding="utf-8") == text
    assert text == evaluation.to_markdown() + "\n1 rows left out: missing_score 1\n"
    assert json.loads((tmp_path / "new/out/evaluation.json").read_text()) == {
        "settings": {"input": "a"},
        "scale": {"offset": 1.0, "low": 1, "high": 5},
        "left_out": {"missing_score": 1},
        "evaluation": evaluation.to_dict(),
    }


def test_without_a_single_pair_there_are_no_figures(tmp_path):
    """An empty file is an error, not an evaluation of nothing."""
    write_rows(tmp_path / "a.jsonl", [])
    found = read_labelled_scores(find_inputs(str(tmp_path)), "label", "s", None, ScoreScale())
    with pytest.raises(ValueError, match="No row has both a usable label and a score: no rows"):
        found.evaluation()
