"""Rows with labels, as the adapter reads them."""

import pytest
from samples import write_rows

from datatrove_quality import ConversationAdapter, ScoreScale, TextAdapter
from datatrove_quality.config import Unscorable
from datatrove_quality.evaluation.labelled_rows import labelled_rows, require_labels
from datatrove_quality.evaluation.labelled_scores import read_labelled_scores
from datatrove_quality.runs.inputs import find_inputs


TURNS = [{"role": "user", "content": "Oi?"}, {"role": "assistant", "content": "Olá."}]


def test_each_row_gives_what_is_scored_and_its_label(tmp_path):
    """In the order of the files; a row without a conversation says why, and a missing label is None."""
    write_rows(tmp_path / "a.jsonl", [{"messages": TURNS, "stars": "4"}, {"messages": [], "stars": 2}, b"{broken\n"])
    write_rows(tmp_path / "b.jsonl", [{"messages": TURNS}])
    found = list(labelled_rows(find_inputs(str(tmp_path)), ConversationAdapter(), "stars"))
    assert [item for item, _ in found[::3]] == [TURNS, TURNS]
    assert [item.reason for item, _ in found[1:3] if isinstance(item, Unscorable)] == ["no_messages", "invalid_json"]
    assert [label for _, label in found] == ["4", 2, None, None]


def test_a_row_whose_label_failed_says_so(tmp_path):
    """What a judge could not label is counted by that in training and evaluation, however the rows are read."""
    judged = [{"judge_score": 4.33, "judge_error": None}, {"judge_score": None, "judge_error": "timeout: 300 s"}]
    write_rows(tmp_path / "a.jsonl", [{"messages": TURNS, "quality_score": 4.0} | columns for columns in judged])
    inputs = find_inputs(str(tmp_path))
    [(_, score), (_, error)] = labelled_rows(inputs, ConversationAdapter(), "judge_score")
    assert score == 4.33 and isinstance(error, Unscorable) and error.reason == "judge_error"
    judged[0]["judge_score"] = 4.0
    write_rows(tmp_path / "a.jsonl", [{"messages": TURNS, "quality_score": 4.0} | columns for columns in judged])
    found = read_labelled_scores(inputs, "judge_score", "quality_score", None, ScoreScale())
    assert list(found.labels) == [4] and found.left_out == {"judge_error": 1}


def test_texts_are_read_by_their_adapter(tmp_path):
    """The adapter decides whether a row is text or a conversation."""
    write_rows(tmp_path / "a.parquet", [{"body": "um texto", "stars": 4}, {"body": None, "stars": 2}])
    (one, two) = labelled_rows(find_inputs(str(tmp_path)), TextAdapter("body"), "stars")
    assert one == ("um texto", 4)
    assert isinstance(two[0], Unscorable) and two[1] == 2


def test_a_column_that_no_row_has_is_refused(tmp_path):
    """The error names the column and those of the rows, not DataTrove's; one row with it is enough."""
    write_rows(tmp_path / "a.jsonl", [{"messages": TURNS, "id": "a"}, {"messages": TURNS, "stars": 1}, b"{broken\n"])
    inputs = find_inputs(str(tmp_path))
    require_labels(inputs, ConversationAdapter(), "stars")
    with pytest.raises(ValueError, match=r"--labels grade: none of the first 3 .* there are id, messages, stars\."):
        require_labels(inputs, ConversationAdapter(), "grade")
