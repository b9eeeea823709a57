"""Files with every kind of bad row: no row stops a run that may go on, and none is lost."""

import pytest
from datatrove.executor import LocalPipelineExecutor
from filters import pipeline
from samples import read_rows


BAD_ROWS = {
    "empty list": b'{"id": "empty list", "messages": []}',
    "missing column": b'{"id": "missing column", "text": "a"}',
    "null": b'{"id": "null", "messages": null}',
    "no role": b'{"id": "no role", "messages": [{"content": "a"}]}',
    "no content": b'{"id": "no content", "messages": [{"role": "user"}]}',
    "number": b'{"id": "number", "messages": [{"role": "user", "content": 3}]}',
    "dict": b'{"id": "dict", "messages": [{"role": "user", "content": {"a": 1}}]}',
    "unknown role": b'{"id": "unknown role", "messages": [{"role": "critic", "content": "a"}]}',
    "blank": b'{"id": "blank", "messages": [{"role": "user", "content": " \\n"}]}',
    "surrogate": b'{"id": "surrogate", "messages": [{"role": "user", "content": "a\\ud800"}]}',
    "json string": b'{"id": "json string", "messages": "[{\\"role\\": "}',
    "nested lists": b'{"id": "nested lists", "messages": [[{"role": "user", "content": "a"}]]}',
    "no json": b"{id: nothing",
    "no object": b'["a", "b"]',
    "no utf-8": b'{"id": "no utf-8", "messages": [{"role": "user", "content": "\xff\xfe"}]}',
    "deep": b'{"id": "deep", "messages": [{"role": "user", "content": "a", "x": ' + b"[" * 500 + b"]" * 500 + b"}]}",
}


FINE_ROWS = {
    "rank": b'{"id": "rank", "messages": [{"role": "assistant", "content": "a"}], "rank": "../x", "../x": 1}',
    "good": b'{"id": "good", "messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": ""}]}',
}


THIRTY_DIGITS = (
    b'{"id": "digits", "messages": [{"role": "assistant", "content": "a"}], "n": 123456789012345678901234567890}'
)


@pytest.fixture
def bad_file(tmp_path):
    """A file with every kind of bad row, good ones between them."""
    path = tmp_path / "in" / "rows.jsonl"
    path.parent.mkdir()
    lines = [*BAD_ROWS.values(), *FINE_ROWS.values(), THIRTY_DIGITS]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def test_no_bad_row_stops_a_run_or_is_lost(config, bad_file, tmp_path):
    """Each bad row ends in `excluded` with a reason and a sentence, each good one in `kept`, and none is missing."""
    steps = pipeline(bad_file.parent, tmp_path, config, min_score=-1_000)
    LocalPipelineExecutor(steps, tasks=1, workers=1, logging_dir=str(tmp_path / "logs")).run()
    kept, excluded = read_rows(tmp_path / "kept"), read_rows(tmp_path / "excluded")
    assert len(kept) + len(excluded) == len(BAD_ROWS) + len(FINE_ROWS) + 1
    kept_ids = {row["id"] for row in kept}
    # Whether a number of 30 digits can be written is the format's matter; that its row is not lost is ours.
    assert kept_ids - {"digits"} == set(FINE_ROWS)
    assert len(excluded) >= len(BAD_ROWS)
    for row in excluded:
        assert row["filter_reason"].startswith("unscorable_")
        reason, _, message = row["quality_error"].partition(": ")
        assert row["filter_reason"] == f"unscorable_{reason}"
        assert len(message.split()) > 2
        assert "quality_score" not in row
    (fine,) = [row for row in kept if row["id"] == "rank"]
    assert (fine["rank"], fine["../x"]) == ("../x", 1)
    assert {path.name for path in tmp_path.iterdir()} == {"in", "kept", "excluded", "logs"}


def test_bad_rows_pass_without_a_score(config, bad_file, tmp_path):
    """With `unscorable="keep"` every row goes on, the bad ones with an error in place of a score."""
    steps = pipeline(bad_file.parent, tmp_path, config, unscorable="keep")
    LocalPipelineExecutor(steps, tasks=1, workers=1, logging_dir=str(tmp_path / "logs")).run()
    kept = read_rows(tmp_path / "kept")
    assert len(kept) == len(BAD_ROWS) + len(FINE_ROWS) + 1
    assert all(("quality_score" in row) != ("quality_error" in row) for row in kept)
    assert not read_rows(tmp_path / "excluded")


@pytest.mark.parametrize("name", ["empty list", "no json", "unknown role", "no utf-8"])
def test_a_bad_row_stops_the_run_where_wanted(config, tmp_path, name):
    """With `unscorable="raise"` the error names the document and its file, and the task is not marked complete."""
    path = tmp_path / "in" / "part-3.jsonl"
    path.parent.mkdir()
    path.write_bytes(FINE_ROWS["good"] + b"\n" + BAD_ROWS[name] + b"\n")
    steps = pipeline(path.parent, tmp_path, config, unscorable="raise")
    with pytest.raises(ValueError, match=r"Document '.+' \(.*part-3\.jsonl\) cannot be scored"):
        LocalPipelineExecutor(steps, tasks=1, workers=1, logging_dir=str(tmp_path / "logs")).run()
    assert not (tmp_path / "logs" / "completions" / "00000").exists()
