from scored_rows_samples import make, scored, write


def test_long_conversations_are_cut_in_the_middle(tmp_path):
    """Of a conversation of megabytes, beginning and end are shown, and what was left out is said."""
    huge = scored(1)[0] | {"messages": [{"role": "user", "content": "A" * 3_000_000 + " the end"}]}
    many = scored(1)[0] | {"messages": [{"role": "user", "content": f"turn {i}"} for i in range(50_000)]}
    _, page = make(tmp_path, write(tmp_path / "a.jsonl", [huge, many]))
    assert len(page) < 200_000
    assert "the end" in page and "characters left out" in page
    assert "turn 0<" in page and "turn 49999<" in page and "49,800 turns left out" in page


def test_scores_alone_and_rows_without_messages_are_shown_as_they_are(tmp_path):
    """A sidecar of scores makes a report too; where there is no text the page says so."""
    rows = [{"id": f"{i}", "file_path": "x", "quality_score": 1.0 + i % 4} for i in range(20)]
    figures, page = make(tmp_path, write(tmp_path / "run/scores/0.parquet", rows).parent.parent)
    assert figures["documents"] == 20 and figures["lengths"] is None
    assert any("quality_tokens" in note for note in figures["notes"])
    assert "This row has no text." in page


def test_calls_of_tools_and_unseen_ends_are_shown(tmp_path):
    """A turn that only calls a tool is not empty, and a text that was cut says that its end had no say."""
    calls = [{"id": "c1", "function": {"name": "get_weather", "arguments": '{"city": "Évora"}'}}]
    turn = {"role": "assistant", "content": None, "tool_calls": calls}
    row = scored(1)[0] | {"messages": [{"role": "user", "content": "Tempo?"}, turn], "quality_truncated": True}
    for name in ("a.jsonl", "a.parquet"):
        _, page = make(tmp_path, write(tmp_path / name, [row]))
        assert "get_weather" in page and "Évora" in page and "tokens, the end cut off before scoring" in page
